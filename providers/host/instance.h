/* An instance of a provider of this host and its operations: all of it belongs to the loop's thread.
 *
 * An operation goes from one asynchronous thing to the next: a stage on a worker (op_work), a child process (op_child), a moment
 * (op_wait). Each of these ends by calling op->next, which begins the next one or ends the operation. */
#ifndef REBARFS_PROVIDERS_HOST_INSTANCE_H
#define REBARFS_PROVIDERS_HOST_INSTANCE_H

#include "fs/base/child.h"
#include "providers/host/host.h"
#include "providers/provider.h"

#include <uthash.h>
#include <utlist.h>

#define HOST_DEFAULT_IMAGE "debian-12"
#define MTU_USUAL 1500

#define CONSOLE "console.log" /* in the directory of a node */
#define CONSOLE_MAX (4 << 20)
#define CONSOLE_KEPT (1 << 20)

struct node {
	uint64_t node_id; /* key: one incarnation of a node exists at a time */
	struct node_job job;
	char *console; /* path of what it prints */
	bool recorded; /* its record is on disk: it exists */
	bool running;  /* when last looked */
	struct op *op; /* what is under way on it */
	UT_hash_handle hh;
};

/* An address once given to a node id stays its own over rebuilds, as long as there are others to give. */
struct lease {
	uint64_t node_id;
	uint32_t address;
	UT_hash_handle hh;
};

/* A base that was found or built since the settings came into force. */
struct ready_image {
	char *name, *base;
	UT_hash_handle hh;
};

enum network_state { NETWORK_DOWN, NETWORK_CHANGING, NETWORK_UP };

struct op {
	struct provider *p;
	struct provider_call *call; /* NULL: our own, or the instance was closed */
	void (*next)(struct op *op);
	struct node *node;
	struct node_job job; /* what workers see of it */
	/* of the stage that ended last */
	int rc;
	struct err *err;
	struct buf note, out, last; /* a complaint; a child's stdout; its last line that explains a failure */
	int64_t wanted, running;    /* prepare: how many nodes are to be, and are already */
	char *image;
	struct image resolved;
	char *base;
	void (*after_image)(struct op *op);
	int built; /* parts of the image that this operation has built */
	bool dhcp; /* prepare: the network has one */
	bool cancelled, creates, recorded, polite, power_on_after;
	void (*gone)(struct op *op); /* what comes after a node's processes */
	int64_t began_ms, ask_ms;
	struct subnet subnet;     /* network: wanted, then chosen */
	bool declared, has_nodes; /* network: how firm the wish is */
	uint32_t gateway;         /* network: as wanted */
	struct listed *listed;    /* list */
	size_t listed_n;
	struct warm_up *warm_up; /* the kind's */
	/* machinery */
	bool working, waits_for_network, waits_for_release;
	void (*worker)(struct op *op);
	uv_work_t work;
	uv_timer_t timer;
	struct child *child;
	const char *child_name; /* for the sentence; NULL: sh */
	struct op *prev_op, *next_op;
};

struct provider {
	const struct host_kind *kind;
	const struct provider_host *host;
	char *owner, *name, *state_dir, *cache_dir, *access_key, *base_dir; /* copies: workers may outlive the host's */
	struct settings settings;
	bool nat;
	struct network_section section; /* as described */
	/* containers only */
	enum boot boot;
	bool privileged;
	/* virtual machines only */
	struct vm_settings *vm;
	struct subnet subnet; /* prefix 0: not known yet */
	uint32_t gateway;     /* what nodes that exist were made with; 0: not known */
	char prefix[8];       /* "rb1f3a9": of every name in the kernel; also the bridge's */
	struct node *nodes;
	struct lease *leases;
	struct ready_image *images;
	struct op *ops;
	enum network_state network;
	struct dhcp_server *dhcp; /* NULL: none runs */
	char *dhcp_failed;        /* why it ended; NULL: it did not */
	bool network_outdated;    /* it was described anew since it was last begun to bring up */
	int mtu;                  /* of the way out; 0: the kernel's default */
	char *apt_dump;
	bool closed;
};

/* ---- instance.c: the table's functions but for open, which names the kind */
int host_check(const struct host_kind *kind, const struct settings *settings, int *ret_line, struct err **err);
int host_open(
        const struct host_kind *kind, const struct provider_host *host, const struct settings *settings, struct provider **ret, struct err **err);
int host_reload(struct provider *p, const struct settings *settings, struct err **err);
void host_close(struct provider *p);
void host_prepare(struct provider *p, const char *image, int64_t wanted_nodes, struct provider_call *call);
void host_create(struct provider *p, const struct machine_spec *spec, struct provider_call *call);
void host_destroy(struct provider *p, uint64_t node_id, uint32_t incarnation, struct provider_call *call);
void host_power(struct provider *p, uint64_t node_id, uint32_t incarnation, enum power power, struct provider_call *call);
void host_list(struct provider *p, struct provider_call *call);
void host_cancel(struct provider *p, struct provider_call *call);
void host_capacity(struct provider *p, struct buf *out);
void host_networks(struct provider *p, struct buf *out);

/* ---- op.c */
struct op *op_new(struct provider *p, struct provider_call *call);
void op_work(struct op *op, void (*worker)(struct op *op), void (*next)(struct op *op));
/* rc is 0 if it was started and ended with status 0; out has its stdout unless lines were wanted. name is for the sentence. */
void op_child(struct op *op, const struct child_spec *spec, void (*next)(struct op *op));
void op_wait(struct op *op, int64_t ms, void (*next)(struct op *op));
void op_progress(struct op *op, const char *sentence);
/* Ends it: done() with op->rc and op->err, or with machines. Not from inside a submitting call. */
void op_end(struct op *op, const struct machine *machines, size_t n);
/* Ends it soon with an error; for submitting calls. Returns nothing to go on with. */
void op_fail(struct op *op, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void op_idle(struct provider *p); /* frees a closed instance when its last operation is gone */
bool op_stopped(struct op *op);   /* true: it failed or was cancelled and has been ended */
void op_cancel(struct op *op);

/* ---- network.c */
/* Goes on with next when the bridge stands, or has op->rc < 0 then. */
void network_need(struct op *op, void (*next)(struct op *op));
/* Takes the bridge down if no node is left; op, if there is one, goes on with next then. */
void network_release(struct provider *p, struct op *op, void (*next)(struct op *op));
void network_open(struct provider *p); /* reads what is recorded */
/* What is described came into force. -EBUSY: not while nodes exist. */
int network_settings(struct provider *p, const struct settings *settings, struct err **err);
void network_pool(const struct provider *p, struct pool *ret); /* once the subnet is known */
char *network_where(const struct provider *p);                 /* for sentences: "'subnet' in [container]"; the caller's */

char *network_resolv(const struct provider *p); /* resolv.conf of its nodes, the caller's; NULL: as this host's */

/* ---- dhcp.c */
void dhcp_look(struct provider *p); /* it runs if it should, and says what is so now */
void dhcp_end(struct provider *p);

/* ---- address.c: which node has which address. Recorded, so that it outlives the daemon. */
void addresses_open(struct provider *p);
/* An address for node_id: its own of before, or one that nobody has. -ENOSPC. */
int address_give(struct provider *p, uint64_t node_id, uint32_t *ret, struct err **err);
void addresses_release(struct provider *p);

/* ---- image.c */
int image_look_up(struct op *op); /* fills in op->resolved and op->base */
/* Goes on with next when op->image is there, or has op->rc < 0 then. */
void image_need(struct op *op, void (*next)(struct op *op));
const char *image_base(struct provider *p, const char *name); /* NULL: not known to be there */
void images_forget(struct provider *p);

/* ---- lifecycle.c: create, destroy, power */
void lifecycle_create(struct op *op, const struct machine_spec *spec);
void lifecycle_destroy(struct op *op, uint64_t node_id, uint32_t incarnation);
void lifecycle_power(struct op *op, uint64_t node_id, uint32_t incarnation, enum power power);
void lifecycle_prepare(struct op *op);
void machine_of(struct node *n, struct machine *ret);
void node_forget(struct provider *p, struct node *n);

#endif
