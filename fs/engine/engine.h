/* The engine: one thread on a libuv loop, the only writer of the model. Functions here may be called from any thread unless said otherwise. */
#ifndef REBARFS_ENGINE_H
#define REBARFS_ENGINE_H

#include "fs/engine/model.h"

struct engine;
struct engine_options {
	const char *repo;        /* absolute, real path */
	const char *mountpoint;  /* absolute; for sentences and generated files */
	const char *state_dir;   /* absolute, exists, locked by us */
	const char *cache_dir;   /* absolute: images */
	const char *const *only; /* -o only: NULL-terminated; NULL: all */
	const char *secrets;     /* a command with %s, or a directory; NULL: STATE/secrets */
};
/* Opens the store, loads everything, reads the repo once. The thread does not run yet. */
int engine_open(const struct engine_options *opt, struct engine **ret, struct err **err);
/* What the tree in repo would be to a state directory, were it checked out where the daemon of that directory reads: the model as it would stand
 * then, before anything is done about it. Changes nothing, asks no machine and needs no daemon, nor minds one. Never started; engine_free() ends it.
 */
int engine_preview(const char *repo, const char *state_dir, struct engine **ret, struct err **err);
int engine_start(struct engine *e, struct err **err);
/* Asks the thread to end and waits: plug-ins closed, machines and runs go on, the store is flushed. Pending requests get -ENODEV... */
void engine_stop(struct engine *e);
void engine_free(struct engine *e);
struct model *engine_model(struct engine *e);

/* Runs fn on the engine's thread, without the lock, in order of posting. */
void engine_post(struct engine *e, void (*fn)(struct engine *e, void *arg), void *arg);
/* After every turn that published a change; on the engine's thread, without the lock. Set once, before engine_start. */
void engine_on_change(struct engine *e, void (*fn)(void *arg), void *arg);
/* A timer for the listener: on_change will be called again in about ms (for streams that show time passing). Engine's thread only. */
void engine_poke_in(struct engine *e, int64_t ms);

/* All that the model shows is committed, or cannot be (the disk is full). Engine's thread only. */
bool engine_is_stored(const struct engine *e);

/* Everything that was written to desired/ before this call is in force (or in problems) when done runs, on the engine's thread, without the lock. */
void engine_settle(struct engine *e, void (*done)(void *arg), void *arg);

/* The mount's own writers of documents. path relative to the repo. Opened for writing/closed counts nest; changed: rename, unlink, truncate,
 * create... */
void engine_document_opened(struct engine *e, const char *path);
void engine_document_closed(struct engine *e, const char *path);
void engine_document_changed(struct engine *e, const char *path);

/* Work that takes long (costly renderings): fn on a worker thread, then done on the engine's thread. */
void engine_work(struct engine *e, void (*fn)(void *arg), void (*done)(void *arg), void *arg);

/* A store into a live file: a verb for a ctl, a value for desired/SECTION/KEY. done comes once, on the engine's thread, without the lock:
 * rc 0 when the wish is durable, or -EINVAL, -ERANGE, -EBUSY, -ESTALE, -EPERM, -ENOSPC... with the sentence for `refused` (which the engine has
 * recorded by then). */
enum object_kind { OBJECT_ROOT, OBJECT_PROVIDER, OBJECT_ROLE, OBJECT_DEPLOYMENT, OBJECT_NODE, OBJECT_NODE_ROLE };
struct write_request {
	enum object_kind kind;
	int64_t id;          /* of the object; 0 for the root */
	char *section, *key; /* NULL: it is a verb for ctl */
	char *text;          /* one line without its newline; value: "" with unset true */
	bool unset;
	const char *file; /* the name of the file, if it is neither a value nor ctl; static */
	uid_t uid;
	gid_t gid;
	pid_t pid;
	void (*done)(struct write_request *w, int rc, const struct err *err);
	void *data;
	struct engine *engine; /* from here on the engine's own */
	char *who;             /* "root (bash 4711)" */
	bool who_known;        /* engine's thread */
	struct write_request *next;
};
void engine_write(struct engine *e, struct write_request *w);

/* Verbs of a kind of object: what `cat ctl` prints. Rows end with name NULL. */
struct verb_row {
	const char *name; /* "apply" */
	const char *args; /* "[ID]"; "" */
	const char *help;
};
const struct verb_row *engine_verbs(enum object_kind kind);

/* The last refused write in a directory; model lock held. NULL: none. */
const struct refusal *model_refused(const struct model *m, enum object_kind kind, int64_t id);

/* What providers and runners declare, as desired state's schema. Static, made once. */
const struct desired_schema *engine_schema(void);

#endif
