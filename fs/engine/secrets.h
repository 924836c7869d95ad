/* Secrets, as the engine keeps them: a keyed hash for as long as there is a use for it, the value for a moment.
 *
 *   asked for ──> fetched by a worker, a child or from a node ──> value in hand, hash compared ──> (IN_HAND_MS) ──> hash only
 *
 * Whoever uses one has its name in its digest. A hash that changed makes their digests new; a fetch that failed is why they do not start. Engine's
 * thread only; what looks at the model wants the lock, which every function here finds held unless it says otherwise. */
#ifndef REBARFS_ENGINE_SECRETS_H
#define REBARFS_ENGINE_SECRETS_H

#include "fs/base/secret.h"
#include "fs/engine/internal.h"

struct secret_entry {
	char *name;
	bool known; /* hash is what it was when it was fetched last, by this daemon or one before it */
	bool fresh; /* by this one */
	struct hash hash;
	struct secret *value; /* in hand; NULL */
	int64_t let_go_at;
	char *why; /* the last fetch failed; NULL */
	int64_t failed_at;
	bool is_key;     /* some node is logged in to with it: written to a private file when it comes */
	bool is_written; /* by this daemon */
	enum { SECRET_IDLE, SECRET_ASKED, SECRET_COMING } state;
	UT_hash_handle hh;
};

struct secrets {
	struct secret_entry *entries;
	struct hash key;
	char *dir, *command; /* one of them */
	struct watch *watch;
	size_t coming;
	bool guarded;    /* memory is */
	bool rescan;     /* the directory changed a moment ago */
	bool asks_again; /* a timer is set for what failed */
};

/* secrets.c */
struct secret_entry *secret_entry(struct engine *e, const char *name);
void secret_ask(struct engine *e, struct secret_entry *s);
void secret_forget(struct engine *e, struct secret_entry *s); /* its value in hand is not the one any more, nor is why there was none */
/* From a source, without the lock: a value (taken), or why there is none (taken). */
void secret_came(struct engine *e, struct secret_entry *s, struct secret *value, char *why);

/* secret_key.c */
struct secret *secret_key_came(struct engine *e, struct secret_entry *s, struct secret *value, char **ret_why); /* without the lock; value, or NULL */
void secret_key_users(struct engine *e, const struct secret_entry *s);                                          /* look again */

/* secret_node.c */
void secret_node_users(struct engine *e, const struct secret_entry *s); /* look again */

/* secret_provider.c */
void secret_provider_users(struct engine *e, const struct secret_entry *s); /* look again */
void secret_provider_ask_again(struct engine *e);                           /* for what could not be fetched */

/* secret_output.c: entries with a name like "etcd.token on n1" */
void secret_output_fetch(struct engine *e, struct secret_entry *s);

/* secret_source.c */
int secret_source_open(struct engine *e, const char *source, struct err **err); /* at start, without the lock */
void secret_source_fetch(struct engine *e, struct secret_entry *s);             /* without the lock; secret_came follows */

#endif
