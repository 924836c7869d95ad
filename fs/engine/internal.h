/* What the engine's own files share. Nobody else includes this. */
#ifndef REBARFS_ENGINE_INTERNAL_H
#define REBARFS_ENGINE_INTERNAL_H

#include "fs/base/child.h"
#include "fs/base/err.h"
#include "fs/base/fault.h"
#include "fs/base/io.h"
#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "fs/base/str.h"
#include "fs/engine/engine.h"
#include "fs/engine/model.h"
#include "fs/engine/plan.h"

#define PRUNE_FIRST 4096    /* components and digests in memory before the first look for what can be forgotten */
#define RUNS_KEPT 20        /* of each node role; older ones are pruned with their logs */
#define BATCH_GATHER_MS 150 /* how long the first of a batch waits for others: ansible costs 0.3 s CPU a process, so company pays */

/* One for each role of a deployment: how many of its node roles, on wanted nodes that are not held, are in which condition. */
enum { COUNT_TOTAL = 1, COUNT_PENDING = 2, COUNT_RUNNING = 4, COUNT_ERROR = 8, COUNT_DUE = 16, COUNT_ACTIVE = 32 };
struct role_slot {
	size_t total, pending, running, error, due;
	struct digest **shared; /* by group: the digest of node roles without inputs of their own; NULL: to be computed */
	size_t n_shared;
	struct output_part { /* ROLE.KEY inputs made of this role's outputs */
		char *key;
		struct part part;
		bool fresh;
	} * outputs;
	size_t n_outputs;
	bool gathering;     /* a batch waits a moment for company */
	uint64_t open_turn; /* the turn in which what was gathered starts */
	bool *dependants;   /* by role index: whose node roles wait for this role on all nodes (after, wants) */
};

/* An image of a provider, made ready once before the first create. */
enum image_phase { IMAGE_UNKNOWN, IMAGE_PREPARING, IMAGE_READY, IMAGE_FAILED };
struct image {
	char *name; /* "" for the provider's default */
	enum image_phase phase;
	char *progress, *error;
	int64_t retry_at;
	int64_t attempts;
	int64_t prepared_for; /* how many nodes the provider was asked to have room for */
	bool outdated;        /* described anew while it is being prepared */
	struct image *next;
};

/* A provider call or a contact under way for a node. */
enum op_kind { OP_CREATE, OP_DESTROY, OP_POWER, OP_REBOOT, OP_CONTACT };
struct node_op {
	struct engine *e;
	enum op_kind kind;
	int64_t node_id, incarnation, intent;
	struct provider_call call;
	struct contact contact;
	struct reboot told; /* to reboot by itself */
	struct target target;
	char *strings[8]; /* what target and spec point to */
	size_t n_strings;
	struct machine_spec spec;
	struct settings settings;
	struct provider_object *provider; /* never freed while the engine lives */
	uv_timer_t deadline;
	bool has_deadline, timed_out, cancelled, abandoned;
	enum power power;                  /* of OP_POWER */
	bool reboot;                       /* it is because a role asked for it */
	char made_from[HASH_HEX], *recipe; /* of a creation: as described when it began */
};

/* Values that a run uses, while it does. */
struct held_secrets {
	struct secret **items;
	size_t n, cap;
};

/* A run at a runner (or in the fake provider). Keeps everything that it needs alive. */
struct run {
	struct engine *e;
	int64_t node_role_id, node_id;
	struct run_item item;
	struct simulated_run simulated;
	struct target target;
	const struct runner_ops *runner;
	struct runner *instance;
	struct provider_object *provider;
	struct desired *owner;
	const struct def_role *def;
	struct digest *digest;
	json_t *params, *inputs;
	json_t *shown;         /* inputs with the origin of each parameter, kept for who looks at the run later */
	json_t *secret_params; /* names of those parameters that are secrets */
	bool begun;            /* the runner has it */
	bool reboot;           /* it asks for one of its node */
	bool unwanted;         /* cancelled before that */
	bool over;             /* the runner is done with it */
	bool has_remove;       /* its content has a script that takes away what it makes */
	int64_t after;         /* of a remove: the run that made what it takes away, whose inputs it gets */
	char *strings[16];
	size_t n_strings;
	const char **output_keys, **secret_outputs;
	struct held_secrets held;
	char *approved; /* as it began */
	int64_t began;
};

struct effect {
	void (*fn)(struct engine *e, void *arg);
	void *arg;
};
struct effects {
	struct effect *items;
	size_t n, cap;
};

/* A reading of the repo, a store into it, or both: one at a time, on a worker. */
struct job;

/* What a provider's instance was given at open: outlives it. */
struct instance_host {
	struct provider_host host;
	char *dir;
	struct instance_host *next;
};

struct engine {
	struct model m;
	uv_loop_t loop;
	uv_thread_t thread;
	bool started, stopping;
	bool looks_only; /* never started: opens no provider */
	uv_async_t wake;
	uv_prepare_t turn;
	uv_timer_t settle_timer, list_timer, poke_timer;

	pthread_mutex_t inbox_lock;
	struct post *inbox, **inbox_tail;
	struct writer *writers; /* documents open for writing through the mount; under writers_lock */
	/* A store holds it while it puts the document in place: who opens one for writing comes before that, and is seen, or after. */
	pthread_mutex_t writers_lock;

	struct store *store;
	struct store_batch *batch; /* of this turn */
	struct effects effects;    /* of this turn: carried out when the batch is durable */
	struct effects answers;    /* of this turn: carried out at its end, whatever the disk says */
	uint64_t turn_number, ticks;
	size_t prune_at;
	size_t commits; /* batches on their way */
	bool changed;   /* something to publish */
	struct node **dirty_nodes;
	size_t n_dirty_nodes, cap_dirty_nodes;
	struct node_role **dirty_nrs;
	size_t n_dirty_nrs, cap_dirty_nrs;
	struct deployment **dirty_deps;
	size_t n_dirty_deps, cap_dirty_deps;

	struct node_role **queue; /* to be looked at by the annealer */
	size_t n_queue, cap_queue;
	struct node **node_queue;
	size_t n_node_queue, cap_node_queue;

	void (*on_change)(void *arg);
	void *on_change_arg;

	struct content_store *content;
	struct hash_cache *cache;
	struct committed *committed;
	struct watch *watch;
	struct job *jobs, **jobs_tail;             /* waiting */
	bool jobs_put_off;                         /* until names have come to rest */
	struct job *job;                           /* at a worker */
	struct write_request *asked, **asked_tail; /* in order, until it is known who each is */
	bool checks_wanted;                        /* some node role waits to be checked */
	bool rescan;                               /* something changed since the last reading began */
	char *unread;                              /* why the last reading failed; NULL: it did not */
	int64_t changed_first, changed_last;

	struct instance_host *instance_hosts;
	struct secrets *secrets;
	struct redactor *redactor;
	struct ssh_pool *pool;
	struct runner_host runner_host;
	struct runner_instance {
		const struct runner_ops *ops;
		struct runner *instance;
		char *error;
	} * runners;
	size_t n_runners;

	int64_t next_id, next_run;
	uint64_t mounts;
	char *owner, *repo, *mountpoint, *state_dir, *cache_dir, *access_key, *runs_dir, *private_dir;
	struct strlist only;
	bool has_only;
	unsigned seed;
};

/* engine.c */
struct engine *engine_new(const struct engine_options *opt); /* nothing opened yet */
void engine_wrlock(struct engine *e);
void engine_wrunlock(struct engine *e);
void effect_add(
        struct engine *e, void (*fn)(struct engine *e, void *arg), void *arg); /* after the commit of this turn, without the lock; lock held or not */
void answer_add(struct engine *e, void (*fn)(struct engine *e, void *arg),
        void *arg); /* at the end of this turn, without the lock; promises nothing durable */
struct store_batch *engine_batch(struct engine *e);
void mark_node(struct engine *e, struct node *n); /* its row changed */
void mark_node_role(struct engine *e, struct node_role *nr);
void mark_deployment(struct engine *e, struct deployment *d);
void touch_deployment(struct engine *e, struct deployment *d); /* what is shown of it changed, not its row; NULL is fine */
/* Calls fn(e, id) on the engine's thread in ms (monotonic), once, without the lock. */
void engine_after(struct engine *e, int64_t ms, void (*fn)(struct engine *e, int64_t id), int64_t id);
int64_t engine_new_id(struct engine *e);

/* model.c: objects in and out of the tables */
void model_init(struct model *m);
void model_release(struct model *m);
struct deployment *deployment_new(struct engine *e, const char *name, int64_t id);
void deployment_remove(struct engine *e, struct deployment *d);
struct node *node_new(struct engine *e, const char *name, int64_t id);
void node_delete(struct engine *e, struct node *n);     /* with its node roles, rows too */
void node_attach(struct node *n, struct deployment *d); /* into d's list; NULL: out of its list */
void deployment_sort_nodes(struct deployment *d);
struct node_role *node_role_new(struct engine *e, struct node *n, const char *role, int64_t id);
void node_role_remove(struct engine *e, struct node_role *nr);
struct provider_object *provider_object_new(struct engine *e, const char *name);
struct role_object *role_object_new(struct engine *e, const char *name);
/* components.c */
void components_prune(struct engine *e); /* forgets what nothing refers to, once it is worth it. Lock held */
void component_keep(struct engine *e, const struct hash *h, const char *text, bool store);
const char *intern(struct engine *e, const char *name);
void refuse(struct engine *e, enum object_kind kind, int64_t id, const char *who, const char *file, const char *why);

/* events.c: sentence events; any of d, n, nr may be NULL (what is given implies what is above it). Write lock held. */
void event_add(struct engine *e, const struct deployment *d, const struct node *n, const struct node_role *nr, const char *who, const char *fmt, ...)
        __attribute__((format(printf, 6, 7)));

/* load.c */
int engine_load(struct engine *e, struct err **err);
void engine_take(struct engine *e, struct store_contents *c); /* releases c */

/* inforce.c */
/* What a reading found for one deployment: with manifest NULL nothing new. */
struct taking {
	char *manifest;
	char *changes;         /* what differs from the manifest before, for the event */
	struct desired *owner; /* of def, a reference; NULL: the reading itself */
	const struct def_deployment *def;
	struct hash version; /* of all that decided: the same again is nothing new */
	struct gated gated;
};
void taking_release(struct taking *t);
/* A reading of the repo; takings by index of d->deployments, what is in them is taken. Lock held. */
void take_over(struct engine *e, struct desired *d, struct taking *takings);
void take_over_kept(struct engine *e, struct deployment *d);   /* at start: row.in_force -> def. Lock held */
void deployment_refit(struct engine *e, struct deployment *d); /* nodes and node roles as d->def wants them. Lock held */

/* commit.c */
/* Does commit = required forbid to take over what a reading found of it? def NULL: nothing. Tells of it. Lock held. */
bool commit_holds(struct engine *e, struct deployment *dep, const struct desired *d, const struct def_deployment *def);
char *commit_holds_provider(const struct engine *e, const struct desired *d, const struct def_provider *def); /* why; NULL: no. Caller frees */
void commit_rename(struct engine *e, struct deployment *dep, const struct desired *d, const struct def_deployment *def);

/* gate.c */
void gated_release(struct gated *g);
void gate_find(const struct def_deployment *lies, const struct def_deployment *passed, struct gated *ret); /* passed NULL: nothing has */
void gate_take(struct engine *e, struct deployment *d, struct gated *g); /* what is gated now; takes *g. Lock held */
bool gates_pass(struct engine *e); /* remembers what is active, for who is gated on it; true: somebody may go on. Lock held */

/* jobs.c: reading the repo and storing into it */
int jobs_open(struct engine *e, struct err **err);
void jobs_close(struct engine *e);
void job_read(struct engine *e, void (*done)(void *arg), void *arg); /* a reading soon, then done (may be NULL) */
void job_read_soon(struct engine *e);                                /* once all is quiet, as after a change on disk */
void job_store(struct engine *e, struct write_request *w, const char *path);
void write_reply(struct engine *e, struct write_request *w, int rc, struct err *err); /* after the commit; takes err. Lock held */
int read_now(struct engine *e, struct err **err);                                     /* at start, on the calling thread */

/* digest.c */
struct digest *digest_ref(struct digest *d);
void digest_unref(struct digest *d);
void digest_refresh(struct engine *e, struct node_role *nr);    /* computes nr->digest */
void stale_deployment(struct engine *e, struct deployment *d);  /* everything of it */
void stale_nodes_input(struct engine *e, struct deployment *d); /* membership or an address changed */
void stale_facts(struct engine *e, struct node *n);
void stale_outputs(struct engine *e, struct deployment *d, size_t role_index);
void stale_leaving(struct engine *e, struct node *n);       /* it is let go: no longer one of the nodes, nor are its outputs among theirs */
void digest_keep(struct engine *e, const struct digest *d); /* into the store, for later plans */
const struct digest *digest_kept(const struct model *m, const char *hex);
bool digest_approved(const struct node_role *nr);
void digest_approve(struct node_role *nr);
void digest_known_hash(const struct digest *d, const char *unknown, struct hash *ret); /* over the parts whose names are not in the list */
bool output_input_missing(const struct deployment *d, size_t role_index, const struct node_role **ret_first);
void slots_free(struct deployment *d);
void slots_make(struct deployment *d);
/* inputs.c */
/* One line a node: name, group, address ("?" while it has none; *ret_missing, NULL before, is the first such). */
void nodes_input_text(const struct deployment *d, struct buf *out, const struct node **ret_missing);
bool node_is_input(const struct node *n);           /* from its creation's apply to its release's apply */
bool outputs_are_input(const struct node_role *nr); /* its outputs count, for who wants them; false for NULL */
json_t *param_json(const struct def_param *p, const char *value);
json_t *node_role_params(const struct node_role *nr, bool with_origin);                                      /* of a node role in force */
const char *node_role_param(const struct node_role *nr, const struct def_param *p, const char **ret_origin); /* as documents say it */
/* What a run gets: as node_role_inputs, with the values that secrets stand for. They must be in hand. */
json_t *run_inputs(struct engine *e, const struct node_role *nr);
json_t *node_role_secret_params(const struct node_role *nr); /* names of its parameters that are secrets; new reference */
/* renew.c: outputs with a ttl. Lock held */
bool outputs_good(struct engine *e, struct node_role *user); /* all that it wants are fresh; else their roles are due, and it waits for them */
bool outputs_renewed_since(const struct node_role *user);    /* some ran again since its last run began */
/* secrets.c: what secret:NAME stands for. Lock held, but for open and close */
int secrets_open(struct engine *e, const char *source, struct err **err); /* source: -o secrets; NULL: the directory in the state directory */
void secrets_stop(struct engine *e);                                      /* while the loop is there */
void secrets_close(struct engine *e);
bool secrets_hash(struct engine *e, const char *name, struct hash *ret); /* false: not known yet */
void secrets_look(struct engine *e, struct node_role *nr);               /* asks for what its digest misses, notes what cannot be had */
bool secrets_in_hand(struct engine *e, struct node_role *nr); /* all it needs to start; if not they are asked for, and it is queued when they come */
bool secrets_settling(struct engine *e);                      /* files changed and are being read. Lock not held */
/* The same for a check of what is active; why: they cannot be had. */
bool secrets_for_check(struct engine *e, struct node_role *nr, const char **ret_why);
void secrets_retry(struct engine *e, struct node_role *nr);
/* secret_output.c */
bool output_is_secret(const struct output *o);
const struct def_output *def_output_find(const struct def_role *r, const char *key);
char *secret_output_name(const char *role, const char *key, const char *node); /* as an entry of its own among the secrets */
bool secret_is_output(const char *name);
void secret_output_forget(struct engine *e, const char *role, const char *key, const char *node); /* it has another value now. Lock held */
/* Secret values become marks, and are held; other values are redacted. True if there was one. No lock needed */
bool outputs_hide(struct engine *e, const struct def_role *def, json_t *outputs, struct held_secrets *held);
json_t *outputs_to_show(const json_t *outputs); /* new reference */
/* secret_key.c: is the key there that lets us in? If not it is asked for, and the node queued when it comes; why: it cannot be had. Lock held */
bool secrets_key_ready(struct engine *e, const struct node *n, const char **ret_why);
void secrets_key_retry(struct engine *e, const struct node *n);
/* secret_node.c: what its provider needs to be told of a declared node, like the password of a BMC. If it is not in hand it is asked for, and the
 * node queued when it comes; why: it cannot be had now. The caller's. Lock held */
bool secrets_node_ready(struct engine *e, const struct node *n, char **ret_why);
void secrets_node_fill(struct engine *e, const struct node *n, struct settings *settings);
/* secret_provider.c: what a provider needs to be opened, like the credentials of a cloud. If it is not in hand it is asked for, and the provider
 * looked at again when it comes; why: it cannot be had now. Lock held */
bool secrets_provider_ready(struct engine *e, const struct provider_object *p, const char **ret_why);
/* Puts values in the place of names. They are held until released: the caller's. */
struct held_secrets *secrets_provider_fill(struct engine *e, const struct provider_object *p, struct settings *settings);
bool secrets_provider_same(struct engine *e, const struct provider_object *p); /* no other values are known than it was opened with */
void secrets_provider_release(struct engine *e, struct held_secrets **held);
const struct secret *secret_value(const struct engine *e, const char *name); /* NULL: not in hand */
/* Ready to attach to its last run? If not it is queued later. hide: nobody knows any more what is to be redacted in what that prints. */
bool secrets_for_attach(struct engine *e, struct node_role *nr, bool *ret_hide);
/* While they are held the redactor knows them. */
void held_of(struct engine *e, struct held_secrets *h, const struct digest *d);
void held_add(struct engine *e, struct held_secrets *h, struct secret *s);
void held_release(struct engine *e, struct held_secrets *h);

/* anneal.c */
void queue_node_role(struct engine *e, struct node_role *nr);
void queue_node(struct engine *e, struct node *n); /* its next step, and all its node roles */
void queue_deployment(struct engine *e, struct deployment *d);
void queue_provider_nodes(struct engine *e, const struct provider_object *p);
void count_node_role(struct engine *e, struct node_role *nr); /* brings the counters up to date */
void uncount_node_role(struct node_role *nr);
void anneal(struct engine *e);                         /* what is queued. Lock held */
bool node_role_succeeded(const struct node_role *nr);  /* its last run on this incarnation, whatever it ran with */
bool node_role_destroys(const struct node_role *nr);   /* a once role that ran on this machine: another run is confirmed by a person */
bool node_role_reboots(const struct node_role *nr);    /* its node is being rebooted because it asked */
bool node_role_is_as_run(const struct node_role *nr);  /* succeeded with today's digest */
bool node_role_ran_digest(const struct node_role *nr); /* its last run, however that ended, was with today's digest */
bool node_role_is_active(const struct node_role *nr);
bool node_role_failed_for_good(const struct node_role *nr);                /* no retry will come by itself */
const struct node_role *node_role_blocker(const struct node_role *nr);     /* the first it waits for; NULL: none */
bool deployment_frozen(const struct model *m, const struct deployment *d); /* paused, elsewhere, orphaned: nothing new starts */
bool node_is_up(const struct node *n);                                     /* ready for runs */
bool group_is_down(const struct node *n);                                  /* max-down forbids to touch one more */
bool rebuild_must_wait(const struct node *n);
void queue_limited(struct engine *e, struct node *n); /* a limit of this node's deployment may have eased: whom it kept waiting looks again */

/* run.c */
void run_start(struct engine *e, struct node_role **nrs, size_t n); /* one role, one runner. Lock held */
void run_attach(struct engine *e, struct node_role *nr, bool hide); /* to its last run. Lock held */
void run_cancel(struct engine *e, struct node_role *nr, const char *who);
void run_check(struct engine *e, struct node_role **nrs, size_t n); /* one role, one runner. Lock held */
bool runner_batches(const struct engine *e, const char *runner);
/* Runs the 'remove' of that content, or finds that run again. Its node role is a role of the node no longer. Lock held. */
void run_remove(struct engine *e, struct node_role *nr, const char *content, int64_t timeout_ms, int64_t after, bool attach);
void run_lost(struct engine *e, struct node_role *nr); /* a simulated run of a daemon before this one: it ended with it. Lock held */
char *run_dir(const struct engine *e, int64_t number);

void run_free(struct run *r);
void run_unwanted(struct run *r); /* cancels it at its runner. Engine's thread, lock not held */

/* check.c */
size_t check_want(struct engine *e, struct node *n, const char *role); /* somebody wants n's roles (NULL: all) checked: how many can be. Lock held */
bool check_can_start(const struct engine *e, struct node_role *nr);    /* if only slots lack, one check queues for one */
void check_yield(struct engine *e, struct node *n);                    /* ends what the beat began there: a run waits */
bool check_is_under_way(const struct model *m, const struct node_role *nr); /* told, and it will come to an end by itself */
void check_begins(struct engine *e, struct node_role *nr, struct run *r);
/* It cannot even begin. */
void check_failed(struct engine *e, struct node_role *nr, const char *why);
void check_done(struct run *r, const struct run_done *done); /* from the runner */
void check_simulated(struct engine *e, struct node_role *nr);
void check_cancel(struct engine *e, struct node_role *nr);
void checks_tick(struct engine *e);

/* drop.c: roles that a node is to lose, and what their scripts called 'remove' do about it. Lock held */
void drop_remember(struct node_role *nr, const struct run *r); /* r succeeded: what would take away what it made */
void drop_fit(
        struct engine *e, struct deployment *d, struct node *n); /* after its roles were fitted: who is no longer a role of it goes, or waits to */
bool drop_look(struct engine *e, struct node_role *nr);          /* true: it is one to go, or was, and may be freed */
bool drop_release(struct engine *e, struct node *n);             /* before its machine is destroyed; true: something is to end first */
bool drop_is_removal(const struct node_role *nr);                /* its last run was its remove script */
void drop_ended(struct engine *e, struct node_role *nr, const struct run_done *done);
void drop_approve(struct engine *e, struct node_role *nr);
const struct node_role *drop_blocker(const struct node_role *nr); /* of one to go: one that failed to go before it; NULL: none */
const char *drop_target(const struct node_role *nr);              /* what an approval is good for */
void drop_accept(struct engine *e, struct node_role *nr);

/* images.c */
struct image *provider_image(struct provider_object *p, const char *name); /* NULL: the provider's default. Made where there is none yet */
/* Ready, and with room for all that are wanted by now? Otherwise the node waits, or has its error. Lock held. */
bool node_image_ready(struct engine *e, struct node *n);
void images_free(struct provider_object *p);

/* recipe.c */
const char *node_image_name(const struct node *n); /* with the provider's default; NULL: nothing is made */
char *node_recipe(const struct node *n);           /* of its image as described now; NULL: the provider makes none, or is not known. Caller frees */
/* What differs ("packages + jq, suite bookworm -> trixie"), appended to out (may be NULL); false: nothing that is known. NULL: not known. */
bool recipe_diff(const char *was, const char *now, struct buf *out);
char *recipe_complete(const char *was, const char *now); /* with what of it was not known as it is now. Caller frees */

/* spec.c */
void node_spec(const struct node *n, char hex[HASH_HEX]);
void node_spec_refresh(struct engine *e, struct node *n); /* what it should be made from today, and whether it was. Lock held */
const char *node_image(const struct node *n);
bool node_needs_rebuild(const struct node *n);
bool node_step_approved(const struct node *n);

/* machine.c */
void node_step(struct engine *e, struct node *n); /* lock held */
struct node_op *node_op_new(struct engine *e, struct node *n, enum op_kind kind);
/* For a machine that is no node's. */
struct node_op *node_op_alone(struct engine *e, struct provider_object *p, enum op_kind kind, int64_t node_id, int64_t incarnation);
void node_op_target(struct node_op *op, const struct node *n);
bool node_op_slot(struct provider_object *p, struct node *n);
void node_op_deadline(struct node_op *op);
void node_op_progress(struct provider_call *call, const char *sentence);
struct node *node_op_over(struct node_op *op); /* the operation is over for its node; the lock is held. NULL when the node is gone meanwhile */
void node_op_end(struct node_op *op);
const char *node_op_why(const struct node_op *op, const struct err *err);
void machine_take(struct node *n, const struct machine *m);
void node_phase(struct engine *e, struct node *n, enum node_phase phase);
/* A step failed: said, counted, and tried again unless it can never work. */
void node_step_failed(struct engine *e, struct node *n, const char *what, const char *why, bool for_good);
/* Its owner is another rebarfs, as why says: nothing is asked of it until somebody adopts it. Lock held. */
void node_refused(struct engine *e, struct node *n, const char *why);
void node_op_cancel(struct engine *e, struct node *n);
void node_look_again(struct engine *e, struct node *n, int64_t ms);  /* what it waits for is told by nobody */
void providers_list(struct engine *e, struct provider_object *only); /* lock not held */
void instance_hosts_free(struct engine *e);
void provider_look_at_room(struct engine *e, struct provider_object *p); /* what it says of capacity and networks. Lock held */
void provider_refresh(struct engine *e, struct provider_object *p);      /* opens or reloads by effect. Lock held */
/* Machines of its exist, or it is doing something. */
bool provider_in_use(const struct engine *e, const struct provider_object *p);
size_t provider_machines(const struct engine *e, const struct provider_object *p); /* that exist, are being made or destroyed */
/* May a definition of this type come into force? A plug-in in use keeps its place, and problem says so; one at rest is closed. Lock held. */
bool provider_may_become(struct engine *e, struct provider_object *p, const char *type);
size_t provider_limit(const struct provider_object *p);
void provider_slot_freed(struct engine *e, struct provider_object *p);
void provider_wait(struct provider_object *p, int64_t id, bool *waits); /* a node or node role, in the queue for a slot; once while *waits */

/* unknown.c: machines of a provider that belong to no node. Lock held */
void unknown_listed(struct engine *e, struct provider_object *p, const struct machine *machines, size_t n);
void unknown_free(struct provider_object *p);
void unknown_kept(struct engine *e, struct provider_object *p, uint64_t node_id, uint32_t incarnation, const char *why); /* it was to be destroyed */
/* ref: as shown. EINVAL: it is none of them, or the node none of the provider's; EBUSY. */
int unknown_destroy(struct engine *e, struct provider_object *p, const char *ref, const char *who, struct err **err);
int unknown_adopt(struct engine *e, struct provider_object *p, const char *ref, struct node *n, const char *who, struct err **err);

/* power.c: lock held */
bool power_step(struct engine *e, struct node *n);        /* true: its power is being seen to */
void reboot_asked(struct run *r, struct run_done *done);  /* takes the wish out of its outputs; on any thread */
bool reboots_without_end(const struct node_role *nr);     /* its last run included, which ended so */
void reboot_want(struct engine *e, struct node_role *nr); /* it ended so */
bool reboot_step(struct engine *e, struct node *n);       /* true: it is being rebooted */
void reboot_over(struct engine *e, struct node *n);       /* it answers again */
void node_target(const struct model *m, const struct node *n, struct target *t, char *(*keep)(void *arg, const char *s), void *arg);
void ssh_pool_drop_later(struct engine *e, int64_t node_id); /* by effect: lock held */

#endif
