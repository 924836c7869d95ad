/* What was observed and what people said, as rows. This interface is all that the engine knows of the database; fs/observed/sqlite.c is the
 * embedded default. One writer thread; the engine's thread submits what one loop turn produced as one batch = one transaction, and goes on;
 * the callback comes on the engine's loop after the commit is durable. No other file contains SQL. */
#ifndef REBARFS_OBSERVED_STORE_H
#define REBARFS_OBSERVED_STORE_H

#include "fs/base/err.h"
#include "fs/base/hash.h"
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

/* Rows. Strings may be NULL (SQL NULL). Times are ms since the epoch, 0: never. Stored by primary key: put replaces the whole row. */
struct row_deployment {
	int64_t id;
	char *name;
	bool paused;
	bool destroying; /* 'destroy' was written and not yet applied */
	char *in_force;  /* JSON: the manifest of documents in force, see fs/desired/desired.h */
	char *commit;    /* HEAD when the version in force was read, all digits; NULL: no git */
	bool dirty;      /* some of it was not what that commit has */
	char *passed;    /* as in_force: the last version with which all of it was active; what is gated on it may have that */
};
struct row_node {
	int64_t id;
	char *name;
	char *deployment; /* NULL: none */
	char *group;
	char *provider;
	int64_t incarnation; /* 0: never created */
	int phase;           /* enum node_phase of the engine */
	char *machine;       /* the provider's ref */
	char *address;
	int64_t port;
	char *user, *key, *host_key;
	char *image; /* made from */
	char *spec;  /* hex hash of what it was created from: image, mac, provider; a different one is a rebuild */
	char *facts; /* JSON object */
	char *error; /* sentence; NULL: fine */
	int64_t attempts;
	int64_t since; /* when the phase began */
	char *held;    /* why; NULL: not held */
	char *held_by;
	int64_t held_since;
	bool is_protected;
	bool wish_rebuild, wish_release, wish_forget; /* said by a person, confirmed when approved */
	bool wish_adopt;                              /* the next contact takes it over from whoever owned it */
	char *approved;                               /* what was approved: "create:SPEC", "rebuild:SPEC", "release"; NULL */
	int64_t created;                              /* when this incarnation was created */
	char *power;                                  /* what a person wants of it: "off", or once "cycle" or "reset"; NULL: that it runs */
	char *power_by;
	char *reboot; /* the role that asked for one which is not over; NULL: none did */
	char *recipe; /* JSON: how its image was made, as fs/engine/recipe.c has it; NULL: not known. A different one is a rebuild */
};
struct row_node_role {
	int64_t id, node_id;
	char *role;
	int64_t last_run; /* number; 0: never ran */
	int last_result;  /* enum run_result; -1: under way or never */
	int64_t last_incarnation;
	char *last_digest; /* hex; NULL: never */
	int64_t last_started, last_took_ms;
	int64_t attempts;       /* failed in a row */
	char *error;            /* sentence of the last failure; NULL */
	bool wish_run;          /* 'run' was written */
	bool outcome_unknown;   /* a once role was interrupted */
	char *approved;         /* hex partial digest approved; NULL */
	char *approved_unknown; /* names of components that were not known then, comma-separated; NULL */
	int64_t checked;        /* when its last check ended; 0: never */
	char *drift;            /* what that check would change, the tool's own words; NULL: nothing */
	char *remover;          /* JSON: what takes away what its last success made, as fs/engine/drop.c has it; NULL: nothing does */
};
struct row_run {
	int64_t number, node_role_id, node_id, incarnation;
	char *role;
	char *digest; /* began with */
	int result;   /* -1: under way */
	int exit_status;
	char *why;
	int64_t started, took_ms;
	int64_t attempt;
	char *commit; /* of what was in force when it began, as in row_deployment */
	bool dirty;
};
struct row_output {
	int64_t node_role_id;
	char *key, *value;
};
struct row_event {
	int64_t seq, at;
	char *deployment, *node, *role; /* NULL: not about one */
	char *who;                      /* "uid 0 (bash 4711)" or "rebarfs" */
	char *text;
};
enum intent_kind { INTENT_CREATE = 1, INTENT_DESTROY, INTENT_POWER };
struct row_intent {
	int64_t id;
	int kind;
	int64_t node_id, incarnation, at;
};
struct row_component { /* a shared part of digests: value small enough to show, else NULL */
	struct hash hash;
	char *text;
};
struct row_digest { /* a digest and what it is made of, for "quorum 3 -> 5" */
	struct hash digest;
	char *parts; /* JSON object: component name -> hex hash */
};

struct store;
struct store_batch;

/* Opens (creating, migrating) STATE/rebarfs.db and starts the store thread. -EBUSY: schema of a newer version; -EROFS, -ENOSPC, -EIO as they are. */
int store_open(const char *path, uv_loop_t *loop, struct store **ret, struct err **err);
/* Waits for what was submitted; callbacks not yet delivered are dropped. */
void store_close(struct store *s);

/* Everything, once, before the loop runs; owned by the caller. */
struct store_contents {
	struct row_deployment *deployments;
	size_t n_deployments;
	struct row_node *nodes;
	size_t n_nodes;
	struct row_node_role *node_roles;
	size_t n_node_roles;
	struct row_run *runs;
	size_t n_runs; /* by number */
	struct row_output *outputs;
	size_t n_outputs;
	struct row_event *events;
	size_t n_events; /* the last 10,000, oldest first */
	struct row_intent *intents;
	size_t n_intents; /* open ones */
	struct row_component *components;
	size_t n_components;
	struct row_digest *digests;
	size_t n_digests;
	/* The highest ever used, also by rows that are gone: numbers outlive their rows, as tags of machines and directories on nodes. */
	int64_t max_id; /* of deployments, nodes, node roles, intents together: one sequence */
	int64_t max_run, max_seq;
};
int store_load(struct store *s, struct store_contents *ret, struct err **err);
/* The same of a database that a daemon may be writing at the moment: changes nothing, takes no lock that it would wait for. -ENOENT: none there;
 * -EBUSY: another version's. */
int store_peek(const char *path, struct store_contents *ret, struct err **err);
void store_contents_release(struct store_contents *c);
/* Small facts about the state directory itself: "owner", "repo", "mounts". Synchronous, at start only. *ret NULL when not there. */
int store_meta_get(struct store *s, const char *key, char **ret, struct err **err);
int store_meta_put(struct store *s, const char *key, const char *value, struct err **err);

/* Batches copy what they are given. */
struct store_batch *store_batch_new(struct store *s);
void store_put_meta(struct store_batch *b, const char *key, const char *value);
void store_put_deployment(struct store_batch *b, const struct row_deployment *r);
void store_del_deployment(struct store_batch *b, int64_t id);
void store_put_node(struct store_batch *b, const struct row_node *r);
void store_del_node(struct store_batch *b, int64_t id); /* with its node roles, runs, outputs, intents */
void store_put_node_role(struct store_batch *b, const struct row_node_role *r);
void store_del_node_role(struct store_batch *b, int64_t id); /* with its runs, outputs */
void store_put_run(struct store_batch *b, const struct row_run *r);
void store_del_run(struct store_batch *b, int64_t number);
void store_del_runs_before(struct store_batch *b, int64_t node_role_id, int64_t number);                      /* prune history */
void store_set_outputs(struct store_batch *b, int64_t node_role_id, const struct row_output *rows, size_t n); /* replaces all of this node role */
void store_put_event(struct store_batch *b, const struct row_event *r);
void store_put_intent(struct store_batch *b, const struct row_intent *r);
void store_del_intent(struct store_batch *b, int64_t id);
void store_put_component(struct store_batch *b, const struct row_component *r); /* kept once */
void store_put_digest(struct store_batch *b, const struct row_digest *r);       /* kept once */
void store_batch_free(struct store_batch *b);                                   /* one that was not committed */
bool store_batch_empty(const struct store_batch *b);
/* Takes the batch. done(arg) on the engine's loop once it is durable. Batches commit in order. A batch that cannot be written (disk full, I/O error)
 * is not lost: the store tries again every second until it is in, and store_trouble() tells why it takes so long. */
void store_commit(struct store_batch *b, void (*done)(void *arg), void *arg);
/* The sentence of the trouble, copied (caller frees); NULL: none. Any thread. */
char *store_trouble(struct store *s);
/* Its errno, and the sentence with it, copied; 0 and nothing: none. Any thread. */
int store_trouble_code(struct store *s, char **ret_why);

void row_deployment_release(struct row_deployment *r);
void row_node_release(struct row_node *r);
void row_node_role_release(struct row_node_role *r);
void row_run_release(struct row_run *r);

#endif
