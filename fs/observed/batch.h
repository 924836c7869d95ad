/* A batch on its way to the writer: statements by number, with their values copied into one arena. */
#ifndef REBARFS_OBSERVED_BATCH_H
#define REBARFS_OBSERVED_BATCH_H

#include "fs/observed/store.h"
#include <stddef.h>

enum statement {
	PUT_DEPLOYMENT,
	DEL_DEPLOYMENT,
	PUT_NODE,
	DEL_NODE,
	DEL_NODE_RUNS,
	DEL_NODE_OUTPUTS,
	DEL_NODE_ROLES_OF_NODE,
	DEL_NODE_INTENTS,
	PUT_NODE_ROLE,
	DEL_NODE_ROLE,
	DEL_ROLE_RUNS,
	PUT_RUN,
	DEL_RUN,
	DEL_RUNS_BEFORE,
	DEL_OUTPUTS,
	PUT_OUTPUT,
	PUT_EVENT,
	PUT_INTENT,
	DEL_INTENT,
	PUT_COMPONENT,
	PUT_DIGEST,
	TRIM_EVENTS,
	PUT_META,
	N_STATEMENTS,
};

enum bind_kind { BIND_INTEGER, BIND_TEXT, BIND_BLOB, BIND_NULL };
struct value {
	enum bind_kind kind;
	int64_t number; /* BIND_INTEGER; else the offset in the arena */
	size_t len;
};
struct step {
	enum statement statement;
	unsigned n_values; /* they follow one another in values */
};
struct store_batch {
	struct store *store;
	struct step *steps;
	size_t n_steps, cap_steps;
	struct value *values;
	size_t n_values, cap_values;
	char *arena;
	size_t arena_len, arena_cap;
	void (*done)(void *arg);
	void *arg;
	struct store_batch *next;
};
struct sqlite3;
struct sqlite3 *store_db(struct store *s);
int contents_load(struct sqlite3 *db, struct store_contents *ret, struct err **err);
extern const int store_schema_version;

#endif
