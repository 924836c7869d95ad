/* Machines made on this host, of whatever kind: what the providers container and vm share, and the kind, which is what they do not.
 *
 * A node is a directory STATE/nodes/ID with
 *   machine     the tag and all that is needed to start it again (JSON, written last: without it the rest is a creation cut short)
 * and what its kind keeps there. In the kernel its things are called after the node's ref.
 *
 * Threads: struct provider, struct node and operations (instance.h) belong to the loop's thread. What runs on a worker gets a struct
 * node_job, which is a copy. */
#ifndef REBARFS_PROVIDERS_HOST_H
#define REBARFS_PROVIDERS_HOST_H

#include "fs/base/buf.h"
#include "fs/base/err.h"
#include "fs/base/keys.h"
#include "fs/base/str.h"
#include "providers/image/image.h"
#include "providers/net/net.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct op;
struct provider;

struct limits {
	double cpus;          /* 0: none */
	int64_t memory_bytes; /* 0: none */
};

enum boot { BOOT_SYSTEMD, BOOT_SSHD };

struct node_job {
	/* who */
	char *owner;
	uint64_t node_id;
	uint32_t incarnation;
	char *name, *ref, *dir;
	/* what */
	char *image, *base; /* base: where the image lies: a root tree, or a directory that holds a disk */
	struct limits limits;
	/* containers only */
	enum boot boot;
	bool privileged;
	/* virtual machines only */
	int64_t disk_bytes;
	char *disks;    /* sizes of further ones, a list */
	char *snapshot; /* directory of the booted image to go on from at the first start; NULL: boot */
	bool kvm;
	/* where in the network */
	char *bridge, *address, *gateway;
	int prefix;
	int mtu; /* 0: the kernel's default */
	/* how to get in */
	char *access_key;
	char *resolv;     /* resolv.conf; NULL: made of this host's */
	char *apt_config; /* lines for apt.conf.d, or NULL */
	char *host_key;   /* made by node_identity() */
};

/* ---- node.c: directories, identities and records; blocking, on a worker */

void node_job_release(struct node_job *j);
void node_job_copy(struct node_job *to, const struct node_job *from);
/* An empty directory for it, whatever a creation cut short has left there. */
int node_begin(const struct node_job *j, struct err **err);
/* Below root, all that makes a machine this one: names, ids, how to get in. Sets host_key. */
int node_identity(struct node_job *j, const char *root, struct err **err);
/* A resolv.conf for it; empty where no name server is known. */
void node_resolv(const struct node_job *j, struct buf *out);
int node_record(const struct node_job *j, struct err **err);
/* Reads a record back. -ENOENT: none. -EPERM: another owner's. */
int node_read(const char *dir, const char *owner, struct node_job *ret, struct err **err);
int node_remove(const struct node_job *j, struct err **err); /* its directory */
/* A directory, a file below root with just this mode. */
int node_make_dir(const char *root, const char *path, mode_t mode, struct err **err);
int node_make_file(const char *root, const char *path, const char *text, mode_t mode, struct err **err);
/* Locally administered, the same for a node as long as it lives. */
void node_mac(const struct node_job *j, uint8_t mac[6]);
/* 32 hex digits and a newline, the same for an incarnation. */
void node_machine_id(const struct node_job *j, char out[34]);

/* ---- preflight.c: is this host fit? Sentences are added to out, each with its cure. */

struct preflight {
	const char *state_dir, *cache_dir;
	enum boot boot;
	bool build;           /* an image's tree has to be built */
	bool convert;         /* and a disk made of it */
	bool dhcp;            /* its network has one */
	int64_t nodes;        /* how many are to be */
	int64_t running;      /* of these, already */
	int64_t memory_bytes; /* of one that does not say; 0: nothing is set aside for it */
};
char *preflight_find(const char *program); /* its path, the caller's, or NULL */
void preflight_add(struct buf *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void preflight_program(const char *program, const char *package, struct buf *out);
void preflight_disk(const char *dir, int64_t bytes, struct buf *out);
/* What all kinds need: root, programs of the network, and to build a tree if there is none. */
void preflight_common(const struct preflight *f, const char *what, struct buf *out);

/* ---- a kind */

struct host_kind {
	const char *section; /* of provider.ini, with the keys 'subnet' and 'nat'; NETWORK_KEYS are beside it */
	const struct key_row *keys;
	bool overlay;         /* its nodes stand on overlay mounts in the state directory */
	int64_t off_grace_ms; /* power off: for the services to stop */
	/* Reads its own keys; what it keeps of them is in the instance. */
	int (*settings)(struct provider *p, const struct settings *settings, struct err **err);
	void (*forget)(struct provider *p); /* frees it; NULL: nothing to free */
	/* Sets what it keeps of a node beyond the common. */
	void (*describe)(const struct provider *p, struct node_job *j);

	/* What a node stands on if that is not the image's tree itself: where it is or will be, whether it is there, and how it is made of
	 * the tree (as image_command). NULL: the tree. */
	char *(*base)(const struct provider *p, const struct image *i);
	bool (*base_ready)(const char *base);
	void (*base_command)(const struct image *i, const char *base, const char *apt_config, struct strlist *argv, struct strlist *env);
	/* Whether there is no tree behind the base. NULL: there is. */
	bool (*no_tree)(const struct image *i);
	/* More to be done before a node is made, once its base is there; goes on with next, or has op->rc < 0 then. op->node is NULL in
	 * prepare. NULL: nothing. */
	void (*warm_up)(struct op *op, void (*next)(struct op *op));
	void (*warm_up_end)(struct op *op); /* frees op->warm_up, wherever that stands; called if it is set when the operation ends */

	/* Blocking, on a worker. */
	int (*preflight)(const struct preflight *f, struct err **err);                    /* -EAGAIN: everything that is missing, in one sentence */
	int (*write)(struct node_job *j, struct err **err);                               /* the node's directory anew and, last, its record */
	int (*launch)(const struct node_job *j, struct buf *complaint, struct err **err); /* it must not run */
	int (*resume)(const struct node_job *j, struct err **err); /* it runs, but its start may have been cut short; NULL: it was not */
	bool (*runs)(const char *dir);
	void (*ask_off)(const struct node_job *j);          /* asks it to power off */
	void (*kill)(const struct node_job *j, bool force); /* ends it; without force so that all else follows tidily */
	bool (*gone)(const struct node_job *j);             /* no process left */
	void (*clean)(const struct node_job *j);            /* of what is left in the kernel: after gone() */
};

#endif
