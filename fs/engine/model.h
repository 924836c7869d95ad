/* The engine's objects: a desired object, its observed row, its machine. Guarded by the model's one lock: written only by the engine's thread under
 * the write lock, read by anybody under the read lock. Pointers are good only while the lock is held (the engine's own thread may keep them until it
 * removes the object). The lock is never held while calling libfuse, SQLite, a plug-in or the file system. */
#ifndef REBARFS_MODEL_H
#define REBARFS_MODEL_H

#include "fs/base/buf.h"
#include "fs/base/hash.h"
#include "fs/desired/desired.h"
#include "fs/observed/store.h"
#include "providers/provider.h"
#include "runners/runner.h"
#include <jansson.h>
#include <pthread.h>
#include <uthash.h>

enum node_phase { NODE_PLANNED, NODE_CREATING, NODE_BOOTING, NODE_READY, NODE_RELEASING };

/* Computed, never stored; of each kind the first that holds, in this order. */
enum node_role_state { NR_RUNNING, NR_HELD, NR_ERROR, NR_BLOCKED, NR_PROPOSED, NR_TODO, NR_ACTIVE };
enum node_state { NS_HELD, NS_ERROR, NS_RELEASING, NS_UNREACHABLE, NS_OFF, NS_PLANNED, NS_CREATING, NS_BOOTING, NS_READY };
enum deployment_state { DS_INVALID, DS_ORPHANED, DS_ELSEWHERE, DS_PAUSED, DS_ERROR, DS_WORKING, DS_PROPOSED, DS_ACTIVE };

struct run_summary {
	int64_t number, started, took_ms; /* took_ms of a finished one */
	int result, exit_status;          /* enum run_result; -1: under way */
	char *why, *digest;
	char *commit; /* of what was in force when it began; NULL: none */
	bool dirty;
};
struct output {
	char *key, *value;
};

/* What a digest is made of. Shared by all node roles with the same inputs; counted. */
struct part {
	const char *name; /* "content", "runner", "quorum", "nodes", "facts.memory", "base.version"; interned */
	struct hash hash;
};
struct digest {
	int refs;
	struct hash hash;
	struct part *parts;
	size_t n_parts;
	bool complete;        /* every part known */
	char *missing;        /* not complete: "base on n1", the first input that is not known yet */
	const char **secrets; /* names of those it has hashes of; interned */
	size_t n_secrets;
};

struct node_role {
	struct row_node_role row;
	struct node *node;
	const struct def_role *def; /* in force; NULL: no longer wanted */
	size_t role_index;          /* in the deployment's roles */
	struct digest *digest;      /* what it should have; NULL: not yet computed */
	struct output *outputs;     /* of the last successful run */
	size_t n_outputs;
	struct run_summary *runs; /* the last ones kept, oldest first */
	size_t n_runs;
	bool running;       /* a run is under way (intent committed or further) */
	bool unapproved;    /* due, and nobody approved it (manual) */
	bool due;           /* should run: digest or incarnation differ from the last success */
	int64_t retry_at;   /* monotonic ms; 0: no retry is waiting */
	bool unattended;    /* its last run's end is not known (node unreachable, daemon restarted): to be found again under its number */
	int64_t run_before; /* the number it had before its last run */
	bool changing;      /* the run under way is not the first on this machine: max-down counts it */
	bool again;         /* the run before was cut short: everything is to be done again */
	bool cancelling;    /* somebody said cancel while it runs */
	bool dropped;       /* no longer wanted, and what it made is to be taken away first (drop.c) */
	char *cancelled_by; /* sentence: who */
	char *renewing;     /* sentence: why it is to run again though nothing changed: an output of its that somebody needs is too old; NULL */
	char *lacks;        /* sentence: the secret that it needs and why that cannot be had; NULL */
	bool fetching;      /* a secret that it needs is being fetched */
	/* The engine's own. */
	unsigned counted;      /* what of it stands in the slot's counters: bits COUNT_* */
	bool stale;            /* digest to be computed anew */
	bool queued, dirty;    /* stands in the anneal queue; its row is to be stored */
	bool waits_for_slot;   /* stands in its provider's queue: max-parallel */
	const char *waits_for; /* static words for why it does not start though it could: "serial", "max-down"; NULL */
	struct run *run;       /* while a run is at a runner */
	struct run *check;     /* while a check is */
	bool removing;         /* what runs is its remove script */
	bool removed;          /* to be forgotten */
	bool wish_check;       /* to be checked as soon as there is room */
	bool check_told;       /* ... because somebody said so: who waits for the deployment waits for it */
	int64_t check_since;   /* monotonic ms, when that was wished */
	bool check_yields;     /* the check under way is being ended for a run */
	bool check_excused;    /* ... or another of its role is, which may end it, too */
	char *check_error;     /* why the last check found nothing out; NULL: it did */
	UT_hash_handle hh_id;
};

struct node {
	struct row_node row;
	struct deployment *deployment;    /* NULL: none */
	struct provider_object *provider; /* NULL: unknown */
	const struct def_group *group;    /* in force; NULL: surplus or removed */
	const struct def_node *def;       /* declared nodes */
	int64_t document_since;           /* when its document was first seen to say what it says, ms */
	bool wanted;                      /* some deployment in force has it */
	bool declared;                    /* has a node.ini in force */
	bool unapproved;                  /* its next step (create, rebuild, release) waits for approval */
	bool unreachable;                 /* it was ready; the last run or contact could not reach it */
	bool off;                         /* the provider says it does not run */
	bool gone;                        /* the provider no longer lists it */
	char *console;                    /* path of the file it prints to; NULL: none is known */
	char *progress;                   /* of the provider's call under way: "building image debian-12: ..." */
	int64_t retry_at;                 /* monotonic ms */
	struct node_role **roles;         /* in dependency order */
	size_t n_roles, cap_roles;
	struct node_role *running; /* one run at a time per node */
	bool checking;             /* or one check */
	int64_t no_check_until;    /* monotonic ms: a check was ended for a run, which is to begin first */
	char *spec_now;            /* hex: what it would be created from today */
	char *recipe_now;          /* how that image would be made today, as row.recipe; NULL: not known */
	char *target_now;          /* hex of both: what an approval is good for */
	bool recipe_changed;       /* its image was made in another way */
	/* The engine's own. */
	struct node_op *op; /* the provider call or contact under way */
	bool queued, dirty;
	bool cancel_op;        /* the operation under way is to be stopped */
	bool facts_old;        /* something ran or was checked since they were read */
	bool contacted;        /* ownership was checked since this daemon started: nothing runs before that */
	bool rebuilding;       /* its machine is being destroyed to be made anew */
	bool waits_for_slot;   /* stands in its provider's queue: max-parallel */
	const char *waits_for; /* static words for why its step does not start: "a free slot of provider"; NULL */
	int64_t number;        /* of a counted node in its group */
	UT_hash_handle hh_id, hh_name;
};

struct deployment {
	struct row_deployment row;
	const struct def_deployment *def; /* in force; NULL: never was valid */
	struct desired *def_owner;        /* the reading def belongs to (a reference) */
	bool invalid;                     /* what lies in the repo now has a mistake */
	char *problem;                    /* that mistake: "FILE:LINE: message" */
	bool orphaned;                    /* its document is gone */
	bool elsewhere;                   /* not in -o only */
	struct def_source src;            /* path and owner of the document, for owner and mode in the mount (hash unused) */
	struct node **nodes;              /* by group, then number/name */
	size_t n_nodes, cap_nodes;
	uint64_t generation; /* grows with every change of it or of its nodes: what is rendered from it is good for one */
	struct gated {       /* what lies in the repo and is not in force here because it has not passed elsewhere; by NULL: all of it is */
		char *by;    /* the deployment that gates */
		char *role;  /* whose content has not passed; NULL: what is inherited, or nothing has passed yet */
		struct hash content;
		char *problem; /* what passed does not go with what lies here */
	} gated;
	char *uncommitted;                                   /* why what lies in the repo is not taken over with commit = required; NULL: it is */
	char *uncommitted_file;                              /* the file this is about, relative to the repo */
	size_t n_active, n_due, n_running, n_error, n_total; /* node roles on wanted nodes, kept up to date by the engine */
	size_t n_dropped;                                    /* node roles that wait to be taken away */
	/* The engine's own. */
	struct role_slot *slots; /* one for each of def->roles */
	struct part *nodes_part; /* the `nodes` input; NULL: not known or stale */
	char *nodes_missing;     /* why it is not known */
	bool nodes_fresh;
	bool dirty;
	struct hash version; /* what decided on what is in force: documents, contents, what has passed elsewhere */
	bool passed;         /* row.passed is what is in force */
	UT_hash_handle hh_name, hh_id;
};

/* A provider instance and its document. */
struct provider_object {
	int64_t id;
	char *name;
	const struct provider_ops *ops; /* NULL: unknown type */
	struct provider *instance;      /* NULL: could not be opened */
	const struct def_provider *def; /* in force */
	struct desired *def_owner;
	struct def_source src;
	char *error;      /* sentence; NULL: fine */
	char *problem;    /* mistake in the document on disk */
	char *list_error; /* why it could not say what exists when it was last asked; NULL: it could */
	char *capacity;   /* its sentence about room, asked for now and then */
	char *networks;   /* its table of them, asked for with capacity */
	size_t calls;     /* machine calls under way, against max-parallel */
	size_t runs;      /* node roles running on its nodes, against max-parallel */
	/* The engine's own. */
	struct image *images; /* which are ready, being made, failed */
	int64_t *waiting;     /* ids of nodes and node roles that wait for a free slot, in order */
	size_t n_waiting, cap_waiting;
	struct unknown *unknown; /* machines of its that belong to no node (unknown.c) */
	size_t checks;           /* of runs: checks */
	int64_t waiting_check;   /* id of the one node role among them that waits with a check; 0: none does */
	bool opening, listed, listing;
	bool awaits_type;                          /* another type is described, and machines of this one are still there */
	struct settings opened_with, opened_files; /* as def->settings, def->files */
	struct held_secrets *held;                 /* the values that it was opened with; NULL: none */
	UT_hash_handle hh_name, hh_id;
};
struct role_object {
	int64_t id;
	char *name;
	const struct def_role *def; /* as it lies in the repo (valid or not), or as in force somewhere */
	struct desired *def_owner;
	struct def_source src;
	UT_hash_handle hh_name, hh_id;
};

struct event {
	int64_t seq, at;
	char *deployment, *node, *role, *who, *text;
};
#define EVENTS_KEPT 10000

struct refusal {           /* of the last refused write in a directory */
	int64_t object[2]; /* kind, id */
	int64_t at;
	char *who, *file, *why;
	UT_hash_handle hh;
};

struct model {
	pthread_rwlock_t lock;
	uint64_t generation; /* grows with every publication */
	/* By name and by id. Ids are unique over all kinds. */
	struct deployment *deployments_by_name, *deployments_by_id;
	struct node *nodes_by_name, *nodes_by_id;
	struct node_role *node_roles_by_id;
	struct provider_object *providers_by_name, *providers_by_id;
	struct role_object *roles_by_name, *roles_by_id;
	struct desired *desired;           /* the last reading of the repo: for problems */
	struct event *events;              /* ring: seq s stands at s % EVENTS_KEPT */
	int64_t first_seq, next_seq;       /* [first, next) are there */
	struct hash_component *components; /* hash -> text, for "3 -> 5" */
	struct kept_digest *digests;       /* what the digests of past runs are made of */
	struct refusal *refusals;
	struct interned *names; /* of components: few, kept for ever, so that digests may point at them */
	bool paused;
	const char *git_doing;                                           /* "a merge": nothing is taken over until that has ended; NULL: nothing */
	char *trouble;                                                   /* why nothing can be stored now; NULL */
	const char *state_dir, *repo, *mountpoint, *owner, *private_dir; /* do not change */
	int64_t started;                                                 /* when this daemon started */
};
struct interned {
	char *name;
	UT_hash_handle hh;
};
struct kept_digest {
	struct hash hash;
	struct digest *digest;
	bool live;
	UT_hash_handle hh;
};
struct hash_component {
	struct hash hash;
	char *text; /* NULL: too long to show */
	bool live;  /* while it is found out what can be forgotten */
	UT_hash_handle hh;
};

void model_rdlock(struct model *m);
void model_unlock(struct model *m);

struct deployment *model_deployment(const struct model *m, const char *name);
struct deployment *model_deployment_id(const struct model *m, int64_t id);
struct node *model_node(const struct model *m, const char *name);
struct node *model_node_id(const struct model *m, int64_t id);
struct node_role *model_node_role_id(const struct model *m, int64_t id);
struct node_role *node_role_find(const struct node *n, const char *role);
const struct def_node *node_definition(const struct node *n); /* its document as in force where it belongs; NULL: it has none */
struct provider_object *model_provider(const struct model *m, const char *name);
struct provider_object *model_provider_id(const struct model *m, int64_t id);
struct role_object *model_role(const struct model *m, const char *name);
struct role_object *model_role_id(const struct model *m, int64_t id);
const struct event *model_event(const struct model *m, int64_t seq); /* NULL: not there (any more) */
const char *model_component_text(const struct model *m, const struct hash *h);

/* States and their sentences (fs/engine/state.c). Cheap: no I/O, no allocation but the sentence. why is always one sentence that begins with the
 * state's name: "blocked: waiting for etcd on n2 (running 12 s)". */
enum node_role_state node_role_state(const struct node_role *nr);
enum node_state node_state(const struct node *n);
enum deployment_state deployment_state(const struct deployment *d);
const char *node_role_state_name(enum node_role_state s);
const char *node_state_name(enum node_state s);
const char *deployment_state_name(enum deployment_state s);
/* How many runs it took, or has taken so far, with what it should run now. */
int64_t node_role_attempts(const struct node_role *nr);
bool node_role_drifted(const struct node_role *nr); /* its last check found that a run would change something (check.c) */
void node_role_why(const struct model *m, const struct node_role *nr, struct buf *out);
void node_why(const struct model *m, const struct node *n, struct buf *out);
void node_failure(const struct node *n, struct buf *out); /* what is wrong with it, nothing if nothing is */
void deployment_why(const struct model *m, const struct deployment *d, struct buf *out);
/* What failed, one "PATH: sentence" a line (PATH in the mount: "nodes/n1/roles/etcd"); nothing when nothing did. */
void deployment_error(const struct model *m, const struct deployment *d, struct buf *out);
/* What checks found, one "PATH: first line" a line; how many node roles. out NULL: only that (check.c). */
size_t deployment_drift(const struct deployment *d, struct buf *out);
/* "gated: roles/etcd content 3f2a91c4 is not yet active in etcd-qa (there: active on 2 of 3 nodes)"; nothing when all is in force (gate.c). */
void deployment_gated(const struct model *m, const struct deployment *d, struct buf *out);
/* Where commit = required holds something back, and as what commit that in force is known (commit.c). A label is "3f2a91c4 (dirty)". */
void deployment_uncommitted(const struct deployment *d, struct buf *out);
void commit_label(const char *commit, bool dirty, struct buf *out);
void git_waits(const struct model *m, struct buf *out); /* "git is in the middle of a merge: ..."; nothing when it is not */
/* ready, degraded... of a provider or role: one word and a sentence. */
const char *provider_state_name(const struct provider_object *p); /* "ready", "error", "invalid" */
void provider_why(const struct provider_object *p, struct buf *out);
size_t provider_unknown(const struct provider_object *p, struct buf *out); /* how many; out (may be NULL): a table of them */
const char *role_state_name(const struct role_object *r);                  /* "ready", "invalid" */
void role_why(const struct role_object *r, struct buf *out);

/* Has the deployment come to rest? settled: nothing runs or will start by itself (a retry's timer counts as will). reached: desired is reached, held
 * nodes aside. last (may be NULL): once settled, the last line of `wait`, a sentence about what is missing or waits for a person. */
void deployment_rest(const struct model *m, const struct deployment *d, bool *ret_settled, bool *ret_reached, struct buf *last);

const char *output_shown(const struct output *o); /* its value, or "secret" (fs/engine/secret_output.c) */
/* Path of the private key that lets us into the node; caller frees (fs/engine/secret_key.c). */
char *node_key_path(const struct model *m, const struct node *n);

/* Inputs of a node role as documented (fs/engine/inputs.c). with_origin: each parameter as {"value", "origin"}, for inputs.json in the mount;
 * without: what a run gets. NULL while something it wants is not known. New reference. */
json_t *node_role_inputs(const struct model *m, const struct node_role *nr, bool with_origin);

#endif
