/* A provider is a source of machines. This is the table a plug-in fills; providers/fake.c is the one to copy from.
 *
 * Rules. Every call is made from the engine's libuv thread, without any lock held. Every asynchronous call returns at once and ends in exactly
 * one call->done(), from the loop, never from inside the submitting call; after cancel() too (then usually with -ECANCELED). A provider may use
 * libuv's thread pool (uv_queue_work) and child processes (fs/base/child.h). It knows nothing of files in the mount, deployments or roles.
 *
 * Ownership. Every machine carries the triple (owner, node_id, incarnation) where list() finds it again, whatever became of the daemon.
 * A machine of another owner is never touched and never listed. Names in the host's kernel derive from the owner and node_id, not from names.
 * create() of a triple that exists already is not an error: it carries on and returns that machine (the daemon may have been killed in between).
 * destroy() of what does not exist is success. */
#ifndef REBARFS_PROVIDER_H
#define REBARFS_PROVIDER_H

#include "fs/base/err.h"
#include "fs/base/keys.h"
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define PROVIDER_API 1

struct provider; /* an instance (one providers/NAME); the plug-in defines its own */

/* What an instance is given at open; outlives it. */
struct provider_host {
	uv_loop_t *loop;
	const char *name;       /* of the instance: "laptop" */
	const char *owner;      /* id of the state directory, 16 hex digits */
	const char *state_dir;  /* the instance's own directory, exists, mode 0700, absolute */
	const char *cache_dir;  /* shared by all daemons of this machine: built images; exists; lock what you build there */
	const char *access_key; /* path of the private ssh key that nodes must let in; access_key.pub beside it */
	const char *repo;       /* absolute path of the repo: relative paths in documents (image scripts) start at providers/NAME/ in it */
};

/* A machine as the provider sees it. Strings are the caller's only during the call that hands them over: copy. */
struct machine {
	uint64_t node_id;
	uint32_t incarnation;
	const char *ref;      /* the provider's name for it, shown to people: "rb1f3a-7" */
	const char *address;  /* of its sshd; NULL while unknown */
	int port;             /* 0: 22 */
	const char *user;     /* NULL: root */
	const char *key;      /* path of the private key to log in with, or "secret:NAME"; NULL: host->access_key */
	const char *host_key; /* "ssh-ed25519 AAAA...", known from creation; NULL: learnt at first contact */
	const char *image;    /* what it was made from: "debian-12"; NULL: nothing was made */
	const char *facts;    /* JSON object when the provider knows them (fake); NULL: ask the machine */
	const char *console;  /* path of a file, bounded, to which it prints while it boots and runs; NULL: there is none */
	bool running;
};

struct machine_spec {
	uint64_t node_id;
	uint32_t incarnation;
	int64_t intent;              /* the number of the committed intent: a client token for clouds */
	const char *name;            /* host name: "etcd-db-1" */
	const char *image;           /* "debian-12"; NULL: the provider's default */
	double cpus;                 /* 0: no limit */
	int64_t memory_bytes;        /* 0: no limit */
	const struct settings *node; /* the [node] section of node.ini of a declared node (address, mac, ...), or empty */
};

/* One asynchronous call. The caller fills done and data, and keeps it until done. */
struct provider_call {
	/* rc: 0 or negative errno; err: the sentence (NULL on success), the provider's. n machines: 1 for create, any number for list, else 0.
	 * -EAGAIN: worth a retry; -ENOENT: gone; -EPERM: not ours; -EINVAL: will never work as described. */
	void (*done)(struct provider_call *call, int rc, const struct err *err, const struct machine *machines, size_t n);
	/* progress for 'why', may come any number of times before done: "building image debian-12: installing packages". NULL: not wanted */
	void (*progress)(struct provider_call *call, const char *sentence);
	void *data; /* the caller's */
	void *priv; /* the provider's, for cancel */
};

enum power { POWER_ON, POWER_OFF, POWER_CYCLE, POWER_RESET };

/* For providers whose nodes are simulated: how one node role "runs". */
struct simulated_run {
	uint64_t node_id;
	uint32_t incarnation;
	int64_t number;
	const char *role;
	const char *const *outputs; /* keys the role declares, NULL-terminated: each is given a value */
	int64_t timeout_ms;
	/* exit_status 0: success; -ETIMEDOUT, -ECANCELED: how it was ended. why: a sentence on failure. values: one for each of outputs, on success.
	 */
	void (*done)(struct simulated_run *run, int exit_status, const char *why, const char *const *values);
	void *data, *priv;
};

struct provider_ops {
	int api;            /* PROVIDER_API */
	const char *type;   /* "container" */
	const char *help;   /* one line for the reference */
	bool declared_only; /* its machines exist already and are declared in nodes/NAME/node.ini (ssh): no count, never destroyed, only forgotten */
	bool reboot_by_power; /* a reboot that a role asks for is a POWER_CYCLE, which shuts the system down properly; else it is told by ssh */
	bool apply_manual;  /* default of 'apply' is manual */
	const char *default_image;       /* what a node is made from where nobody says; NULL: nothing is made, or it cannot be told */
	const struct key_row *keys;      /* sections of provider.ini it takes beyond [provider]: {"container", "boot", ...}, {"image *", ...} */
	const struct key_row *node_keys; /* keys of [node] in node.ini it takes beyond the common ones */

	/* Mistakes that the tables cannot see; pure, on any thread. ret_line: that of the setting. NULL: there are none. */
	int (*check)(const struct settings *settings, int *ret_line, struct err **err);
	/* Synchronous, quick, no I/O beyond reading its own state; settings were checked against keys. */
	int (*open)(const struct provider_host *host, const struct settings *settings, struct provider **ret, struct err **err);
	/* New settings came into force; what exists stays. */
	int (*reload)(struct provider *p, const struct settings *settings, struct err **err);
	void (*close)(struct provider *p); /* stops calls under way without done(); machines stay */

	/* Checks all that creation needs (with the cure in the sentence) and makes the image ready. Called before the first create and after
	 * failures. */
	void (*prepare)(struct provider *p, const char *image, int64_t wanted_nodes, struct provider_call *call);
	/* Makes the machine and starts it; done when it was started, not when it answers. Address and host key are known then. */
	void (*create)(struct provider *p, const struct machine_spec *spec, struct provider_call *call);
	void (*destroy)(struct provider *p, uint64_t node_id, uint32_t incarnation, struct provider_call *call);
	/* POWER_ON of a machine that exists but does not run (host rebooted) starts it again with its disk. Where there is no other button
	 * POWER_RESET is POWER_CYCLE. ENOTSUP: its machines cannot be switched. */
	void (*power)(struct provider *p, uint64_t node_id, uint32_t incarnation, enum power power, struct provider_call *call);
	/* What exists and is ours, by tag. */
	void (*list)(struct provider *p, struct provider_call *call);
	void (*cancel)(struct provider *p, struct provider_call *call);
	/* One sentence about room: "12 of 254 addresses used". May be NULL. */
	void (*capacity)(struct provider *p, struct buf *out);
	/* The networks that it makes for its machines, a table with a heading. NULL: it makes none. */
	void (*networks)(struct provider *p, struct buf *out);

	/* Only where nodes are simulated; else NULL: roles run through runners. */
	void (*simulate)(struct provider *p, struct simulated_run *run);
	void (*simulate_cancel)(struct provider *p, struct simulated_run *run);
};

/* All that are built in, NULL-terminated (providers/table.c). */
extern const struct provider_ops *const provider_table[];
const struct provider_ops *provider_find(const char *type);

#endif
