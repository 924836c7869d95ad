/* A runner carries out a role's content on nodes. This is the table a plug-in fills; runners/none.c is the smallest, runners/script.c the one
 * to copy from.
 *
 * Rules. As for providers: every call comes from the engine's libuv thread with no lock held, returns at once, and each item ends in exactly one
 * item->done(), from the loop, never from inside the submitting call; after cancel too.
 *
 * A run outlives the daemon. On the node its start is `mkdir /var/lib/rebar/runs/OWNER/NUMBER` (atomic: a number is started once and never again),
 * it is detached, and its log, outputs and exit status are files there. On the control host (ansible) the same under run_dir, in a process of its own
 * session. So run() of a number that was started already attaches to it and reads its result instead of starting it; with attach_only it never
 * starts anything and reports RUN_NOT_STARTED where there is nothing to attach to. */
#ifndef REBARFS_RUNNER_H
#define REBARFS_RUNNER_H

#include "fs/base/err.h"
#include "fs/base/keys.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define RUNNER_API 1

/* How a node is reached. The engine keeps it alive as long as something uses it (items, contacts). */
struct target {
	uint64_t node_id;
	uint32_t incarnation;
	const char *name; /* "etcd-db-1" */
	const char *address;
	int port; /* never 0 */
	const char *user;
	const char *key;      /* path of the private key (ed25519 or ecdsa) */
	const char *host_key; /* "ssh-ed25519 AAAA..."; NULL: learn */
};

enum run_result {
	RUN_OK,
	RUN_FAILED,      /* the content failed: why says what and where */
	RUN_UNREACHABLE, /* the node could not be reached until the deadline; nothing is known of the run's end */
	RUN_TIMED_OUT,   /* deadline of the run; it was stopped */
	RUN_CANCELLED,
	RUN_INTERRUPTED, /* started, and neither status nor process is left */
	RUN_NOT_STARTED, /* attach_only, and it never began; of a check: the content has none */
	RUN_REFUSED,     /* the node is another's by now: it was not touched, and nothing is known of the run */
	RUN_REBOOT,      /* never from a runner: it succeeded, and its output 'reboot' says that it is to be run again after one */
};
const char *run_result_name(enum run_result r); /* "ok", "failed", ... */

struct run_item;
struct run_done {
	enum run_result result;
	int exit_status; /* -1 where there is none */
	const char *why; /* a sentence unless RUN_OK: "exit 1 at 'apt-get install etcd-server'"; of what drifted, what first (may be NULL) */
	json_t *outputs; /* object KEY -> string; borrowed; NULL: none */
	json_t *report;  /* what became of each resource, as README tells of report.json; borrowed; NULL: not known */
	int64_t took_ms; /* the content's own time */
	bool marked;     /* a once role that did not run: the node bears the mark of a run that is not among item->once */
	bool drifted;    /* of a check that succeeded: a run would change something, and the log tells what */
};
/* One node role to run. Owned by the caller until done. Strings stay valid until then. */
struct run_item {
	int64_t number; /* unique in the state directory, committed before */
	const struct target *target;
	const char *role;                /* "etcd" */
	const char *node_role;           /* "etcd on etcd-db-1", for sentences */
	const char *content_dir;         /* the role's content in the content store, read-only */
	const char *content_hash;        /* 64 hex digits: shipped once per node and hash */
	const json_t *params;            /* object NAME -> typed value */
	const json_t *inputs;            /* the whole of $REBAR_INPUTS, params included */
	const json_t *secret_params;     /* array of the names of those params that are secrets; NULL: none */
	const struct settings *settings; /* of role.ini, checked against the runner's keys */
	const char *run_dir;             /* exists, mode 0700; the runner writes 'log' there while it runs */
	int64_t timeout_ms;
	const char *once; /* a role that runs once only leaves a mark on the node before; this tells which of them are no surprise: numbers "3,5,",
	                     "any"; NULL: not such a role */
	bool attach_only;
	bool check;  /* a dry run: find out what a run would change, and change nothing */
	bool remove; /* take away what a run made: the content's 'remove'; only of content that has one */
	/* Secrets are among the inputs: they must not reach a disk nor argv, on the node and here. What a run prints passes host->redactor before it
	 * is kept, always; hide: nobody can redact it any more (a daemon before this one began the run), store asterisks. */
	bool secret, hide;
	const char *const
	        *secret_outputs; /* names of outputs that stay on the node: /var/lib/rebar/secrets/OWNER/ROLE/KEY; NULL-terminated, NULL: none */
	bool again;              /* the run before it was interrupted: run everything (ansible --force-handlers) */
	void (*started)(struct run_item *item); /* it really began, or was found; may be NULL */
	void (*done)(struct run_item *item, const struct run_done *done);
	void *data, *priv; /* the caller's, the runner's */
};

struct ssh_pool; /* runners/ssh/pool.h */
struct runner_host {
	uv_loop_t *loop;
	const char *owner; /* id of the state directory: 16 hex digits */
	uint64_t mounts;   /* the mount counter: a node that has seen a higher one of this owner is not ours to touch */
	const char *state_dir;
	struct ssh_pool *pool;
	struct redactor *redactor; /* fs/base/redact.h; NULL: nothing is secret */
};
struct runner; /* an instance; the plug-in defines its own */

/* The role that puts a runner's tool on a node. Roles of this runner require it without saying so. */
struct runner_tool {
	const char *role;     /* "runner-puppet" */
	const char *document; /* its role.ini, where the repo has none of that name */
	/* Keys of role.ini of those that require it; either may be NULL. Who says where the program is, needs nobody to put it there; where it is to
	 * be had is for this role to know. */
	const char *program_key, *source_key;
};

struct runner_ops {
	int api;          /* RUNNER_API */
	const char *name; /* "script" */
	const char *help;
	const struct key_row *keys;     /* keys of role.ini it takes: {"role", "become", ...}; NULL: none */
	bool keeps_secrets;             /* minds run_item.secret; roles with secrets are refused to the others */
	const struct runner_tool *tool; /* NULL: it needs nothing there */
	int batch_max;                  /* how many items of one role one run() may get; 1: no batches */
	/* Is this directory content it can run? Synchronous, only reads. The sentence names the file: 'apply' is not executable: chmod +x ... Any
	 * thread. */
	int (*check)(const char *content_dir, const struct settings *settings, struct err **err);
	int (*open)(const struct runner_host *host, struct runner **ret, struct err **err);
	void (*close)(struct runner *r); /* runs go on; no done() any more */
	void (*run)(struct runner *r, struct run_item *const *items, size_t n);
	void (*cancel)(struct runner *r, struct run_item *item); /* stops it on the node and on the control host */
};
extern const struct runner_ops *const runner_table[]; /* NULL-terminated (runners/table.c) */
const struct runner_ops *runner_find(const char *name);

/* First contact with a node, and any later "is it there": connects (again and again until timeout_ms), checks or learns the host key, takes
 * ownership, gathers facts. (runners/contact.c)
 * Ownership is /var/lib/rebar/owner on the node: {"owner", "node_id", "incarnation", "mounts"}. -EPERM when it names another owner or a higher mount
 * counter, unless adopt. */
struct contact {
	const struct target *target;
	int64_t timeout_ms;
	bool adopt;
	/* rc 0: facts is an object {os, os-version, kernel, arch, hostname, cpus, memory, disks, nics, packages...}, borrowed; host_key is what the
	 * node showed. -EKEYREJECTED: the host key changed; -EACCES: it refuses our key; -EPERM: not ours; -ETIMEDOUT: no answer (the sentence tells
	 * the last cause). */
	void (*done)(struct contact *c, int rc, const struct err *err, const json_t *facts, const char *host_key);
	void *data, *priv;
};
void contact_start(const struct runner_host *host, struct contact *c);
void contact_cancel(struct contact *c); /* done comes with -ECANCELED */

/* Tells a node to reboot, which a contact that comes behind it waits for: it takes no answer from before. (runners/reboot.c)
 * rc of done: 0: it will; -EPERM: not ours; -ENOTSUP: there is nothing on it that could; others as from a contact. */
struct reboot {
	const struct target *target;
	void (*done)(struct reboot *r, int rc, const struct err *err);
	void *data;
};
void reboot_start(const struct runner_host *host, struct reboot *r);

/* Reads a secret output of a role on the node that made it. why: it cannot be had; data is borrowed. (runners/secret.c) */
struct secret_read {
	const struct target *target;
	const char *role, *key;
	void (*done)(struct secret_read *r, const char *why, const char *data, size_t len);
	void *data;
};
void secret_read_start(const struct runner_host *host, struct secret_read *r);

/* The pool of connections, as the engine sees it. */
int ssh_pool_open(uv_loop_t *loop, struct ssh_pool **ret, struct err **err);
void ssh_pool_close(struct ssh_pool *pool);
void ssh_pool_drop(struct ssh_pool *pool, uint64_t node_id); /* the node is gone or rebuilt: close its connection; users of it get an error */

#endif
