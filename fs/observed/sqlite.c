/* The embedded store: one SQLite database, one thread that writes it. WAL, synchronous = FULL, and all batches that wait are one transaction: a
 * commit costs an fsync (2,000 a second here), so what came in during the last one is committed together. */
#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "fs/base/str.h"
#include "fs/observed/batch.h"
#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <string.h>
#include <time.h>

#define GIVE_UP_MS 10000 /* at close, when the disk is in trouble */

static const char *const migrations[] = {
        "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;"
        "CREATE TABLE deployments(id INTEGER PRIMARY KEY, name TEXT NOT NULL, paused INTEGER NOT NULL, destroying INTEGER NOT NULL, in_force TEXT, "
        "git_commit TEXT) STRICT;"
        "CREATE TABLE nodes(id INTEGER PRIMARY KEY, name TEXT NOT NULL, deployment TEXT, grp TEXT, provider TEXT, incarnation INTEGER NOT NULL,"
        " phase INTEGER NOT NULL, machine TEXT, address TEXT, port INTEGER, login TEXT, key TEXT, host_key TEXT, image TEXT, spec TEXT, facts TEXT, "
        "error TEXT,"
        " attempts INTEGER, since INTEGER, held TEXT, held_by TEXT, held_since INTEGER, protected INTEGER, wish_rebuild INTEGER, wish_release "
        "INTEGER,"
        " wish_forget INTEGER, approved TEXT, created INTEGER) STRICT;"
        "CREATE TABLE node_roles(id INTEGER PRIMARY KEY, node_id INTEGER NOT NULL, role TEXT NOT NULL, last_run INTEGER, last_result INTEGER,"
        " last_incarnation INTEGER, last_digest TEXT, last_started INTEGER, last_took_ms INTEGER, attempts INTEGER, error TEXT, wish_run INTEGER,"
        " outcome_unknown INTEGER, approved TEXT, approved_unknown TEXT) STRICT;"
        "CREATE INDEX node_roles_by_node ON node_roles(node_id);"
        "CREATE TABLE runs(number INTEGER PRIMARY KEY, node_role_id INTEGER NOT NULL, node_id INTEGER NOT NULL, incarnation INTEGER, role TEXT, "
        "digest TEXT,"
        " result INTEGER, exit_status INTEGER, why TEXT, started INTEGER, took_ms INTEGER, attempt INTEGER, git_commit TEXT) STRICT;"
        "CREATE INDEX runs_by_node_role ON runs(node_role_id, number);"
        "CREATE TABLE outputs(node_role_id INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY(node_role_id, key)) STRICT, WITHOUT "
        "ROWID;"
        "CREATE TABLE events(seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, deployment TEXT, node TEXT, role TEXT, who TEXT, text TEXT NOT NULL) "
        "STRICT;"
        "CREATE TABLE intents(id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, node_id INTEGER NOT NULL, incarnation INTEGER NOT NULL, at INTEGER NOT "
        "NULL) STRICT;"
        "CREATE TABLE components(hash BLOB PRIMARY KEY, text TEXT) STRICT, WITHOUT ROWID;"
        "CREATE TABLE digests(digest BLOB PRIMARY KEY, parts TEXT NOT NULL) STRICT, WITHOUT ROWID;",
        /* The highest numbers of what is gone: a machine's tag names its node's id, and a directory on the node its run's number, for longer than the
         * rows last. REPLACE fires no delete trigger. */
        "CREATE TABLE used(name TEXT PRIMARY KEY, last INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
        "INSERT INTO used VALUES('id', 0), ('run', 0);"
        "CREATE TRIGGER deployment_gone AFTER DELETE ON deployments BEGIN UPDATE used SET last=OLD.id WHERE name='id' AND last<OLD.id; END;"
        "CREATE TRIGGER node_gone AFTER DELETE ON nodes BEGIN UPDATE used SET last=OLD.id WHERE name='id' AND last<OLD.id; END;"
        "CREATE TRIGGER node_role_gone AFTER DELETE ON node_roles BEGIN UPDATE used SET last=OLD.id WHERE name='id' AND last<OLD.id; END;"
        "CREATE TRIGGER intent_gone AFTER DELETE ON intents BEGIN UPDATE used SET last=OLD.id WHERE name='id' AND last<OLD.id; END;"
        "CREATE TRIGGER run_gone AFTER DELETE ON runs BEGIN UPDATE used SET last=OLD.number WHERE name='run' AND last<OLD.number; END;",
        "ALTER TABLE deployments ADD COLUMN passed TEXT;",
        "ALTER TABLE node_roles ADD COLUMN checked INTEGER; ALTER TABLE node_roles ADD COLUMN drift TEXT;",
        "ALTER TABLE nodes ADD COLUMN recipe TEXT;",
        "ALTER TABLE nodes ADD COLUMN wish_adopt INTEGER;",
        "ALTER TABLE deployments ADD COLUMN dirty INTEGER; ALTER TABLE runs ADD COLUMN dirty INTEGER;",
        "ALTER TABLE node_roles ADD COLUMN remover TEXT;",
        "ALTER TABLE nodes ADD COLUMN power TEXT; ALTER TABLE nodes ADD COLUMN power_by TEXT;",
        "ALTER TABLE nodes ADD COLUMN reboot TEXT;",
};
#define SCHEMA_VERSION ((int)(sizeof migrations / sizeof *migrations))
const int store_schema_version = SCHEMA_VERSION;

static const char *const statements[N_STATEMENTS] = {
        [PUT_DEPLOYMENT] = "INSERT OR REPLACE INTO deployments VALUES(?,?,?,?,?,?,?,?)",
        [DEL_DEPLOYMENT] = "DELETE FROM deployments WHERE id=?",
        [PUT_NODE] = "INSERT OR REPLACE INTO nodes VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        [DEL_NODE] = "DELETE FROM nodes WHERE id=?",
        [DEL_NODE_RUNS] = "DELETE FROM runs WHERE node_role_id IN (SELECT id FROM node_roles WHERE node_id=?)",
        [DEL_NODE_OUTPUTS] = "DELETE FROM outputs WHERE node_role_id IN (SELECT id FROM node_roles WHERE node_id=?)",
        [DEL_NODE_ROLES_OF_NODE] = "DELETE FROM node_roles WHERE node_id=?",
        [DEL_NODE_INTENTS] = "DELETE FROM intents WHERE node_id=?",
        [PUT_NODE_ROLE] = "INSERT OR REPLACE INTO node_roles VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        [DEL_NODE_ROLE] = "DELETE FROM node_roles WHERE id=?",
        [DEL_ROLE_RUNS] = "DELETE FROM runs WHERE node_role_id=?",
        [PUT_RUN] = "INSERT OR REPLACE INTO runs VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        [DEL_RUN] = "DELETE FROM runs WHERE number=?",
        [DEL_RUNS_BEFORE] = "DELETE FROM runs WHERE node_role_id=? AND number<?",
        [DEL_OUTPUTS] = "DELETE FROM outputs WHERE node_role_id=?",
        [PUT_OUTPUT] = "INSERT OR REPLACE INTO outputs VALUES(?,?,?)",
        [PUT_EVENT] = "INSERT OR REPLACE INTO events VALUES(?,?,?,?,?,?,?)",
        [PUT_INTENT] = "INSERT OR REPLACE INTO intents VALUES(?,?,?,?,?)",
        [DEL_INTENT] = "DELETE FROM intents WHERE id=?",
        [PUT_COMPONENT] = "INSERT OR IGNORE INTO components VALUES(?,?)",
        [PUT_DIGEST] = "INSERT OR IGNORE INTO digests VALUES(?,?)",
        [TRIM_EVENTS] = "DELETE FROM events WHERE seq<=?-10000",
        [PUT_META] = "INSERT OR REPLACE INTO meta VALUES(?,?)",
};

struct store {
	sqlite3 *db;
	sqlite3_stmt *prepared[N_STATEMENTS];
	char *path;
	pthread_t thread;
	bool has_thread;
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct store_batch *queue, **tail;     /* submitted */
	struct store_batch *done, **done_tail; /* committed, not yet reported */
	bool closing;
	char *trouble;
	int trouble_code; /* its errno */
	uv_async_t *async;
};

/* ---- errors ---- */

static int errno_of(int code)
{
	switch (code & 0xff) {
	case SQLITE_FULL:
		return ENOSPC;
	case SQLITE_READONLY:
	case SQLITE_PERM:
		return EROFS;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return EBUSY;
	case SQLITE_CANTOPEN:
		return EACCES;
	case SQLITE_NOTADB:
	case SQLITE_CORRUPT:
		return EUCLEAN;
	}
	return EIO;
}

static int db_error(struct store *s, const char *what, struct err **err)
{
	int code = sqlite3_errcode(s->db), os = sqlite3_system_errno(s->db);
	/* "unable to open database file" does not say why; the errno does */
	if (code == SQLITE_CANTOPEN && os)
		return err_errno(err, os, "cannot %s database '%s'", what, s->path);
	return err_set(err, errno_of(code), "cannot %s database '%s': %s", what, s->path, sqlite3_errmsg(s->db));
}

/* ---- opening ---- */

static int run_sql(struct store *s, const char *sql, const char *what, struct err **err)
{
	return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : db_error(s, what, err);
}

static int read_number(struct store *s, const char *sql, int64_t *ret, struct err **err)
{
	sqlite3_stmt *st = NULL;
	int rc = 0;
	if (sqlite3_prepare_v2(s->db, sql, -1, &st, NULL) != SQLITE_OK || sqlite3_step(st) != SQLITE_ROW)
		rc = db_error(s, "read", err);
	else
		*ret = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return rc;
}

static int migrate(struct store *s, struct err **err)
{
	int64_t version = 0;
	int rc = read_number(s, "PRAGMA user_version", &version, err);
	if (rc < 0)
		return rc;
	if (version > SCHEMA_VERSION)
		return err_set(err, EBUSY, "database '%s' has schema %lld and this rebarfs knows %d: it was written by a newer one", s->path,
		        (long long)version, SCHEMA_VERSION);
	for (; version < SCHEMA_VERSION; version++) {
		_cleanup_free_ char *sql = xasprintf("BEGIN IMMEDIATE;%sPRAGMA user_version=%d;COMMIT", migrations[version], (int)version + 1);
		if ((rc = run_sql(s, sql, "make", err)) < 0) {
			sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
			return rc;
		}
	}
	return 0;
}

/* ---- the writer ---- */

static int apply(struct store *s, const struct store_batch *b)
{
	const struct value *v = b->values;
	for (size_t i = 0; i < b->n_steps; i++) {
		sqlite3_stmt *st = s->prepared[b->steps[i].statement];
		for (unsigned k = 0; k < b->steps[i].n_values; k++, v++) {
			int col = (int)k + 1;
			switch (v->kind) {
			case BIND_INTEGER:
				sqlite3_bind_int64(st, col, v->number);
				break;
			case BIND_TEXT:
				sqlite3_bind_text64(st, col, b->arena + v->number, v->len, SQLITE_STATIC, SQLITE_UTF8);
				break;
			case BIND_BLOB:
				sqlite3_bind_blob64(st, col, b->arena + v->number, v->len, SQLITE_STATIC);
				break;
			case BIND_NULL:
				sqlite3_bind_null(st, col);
				break;
			}
		}
		int rc = sqlite3_step(st);
		sqlite3_reset(st);
		sqlite3_clear_bindings(st);
		if (rc != SQLITE_DONE)
			return rc;
	}
	return SQLITE_OK;
}

/* All or nothing of a list of batches. */
static bool commit_all(struct store *s, struct store_batch *list)
{
	int rc = sqlite3_exec(s->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
	for (struct store_batch *b = list; b && rc == SQLITE_OK; b = b->next)
		rc = apply(s, b);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(s->db, "COMMIT", NULL, NULL, NULL);
	char *trouble = NULL;
	int code = 0;
	if (rc != SQLITE_OK) {
		int os = sqlite3_system_errno(s->db);
		code = (rc & 0xff) == SQLITE_IOERR && os ? os : errno_of(rc);
		trouble = xasprintf("cannot write database '%s': %s; trying again every second", s->path, sqlite3_errmsg(s->db));
		if (!sqlite3_get_autocommit(s->db))
			sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
	}
	pthread_mutex_lock(&s->lock);
	free(s->trouble);
	s->trouble = trouble;
	s->trouble_code = code;
	pthread_mutex_unlock(&s->lock);
	return rc == SQLITE_OK;
}

/* All of it, unless the store is being closed: a full disk is not asked again at every batch that comes. */
static void wait_a_second(struct store *s)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec++;
	pthread_mutex_lock(&s->lock);
	bool closing = s->closing;
	while (!s->closing && pthread_cond_timedwait(&s->work, &s->lock, &until) != ETIMEDOUT)
		;
	pthread_mutex_unlock(&s->lock);
	if (closing) {
		struct timespec tenth = {0, 100000000};
		nanosleep(&tenth, NULL);
	}
}

static void *writer(void *arg)
{
	struct store *s = arg;
	int64_t closing_since = 0;
	bool gave_up = false;
	for (;;) {
		pthread_mutex_lock(&s->lock);
		while (!s->queue && !s->closing)
			pthread_cond_wait(&s->work, &s->lock);
		struct store_batch *list = s->queue;
		s->queue = NULL;
		s->tail = &s->queue;
		pthread_mutex_unlock(&s->lock);
		if (!list) {
			if (gave_up)
				log_msg(LOG_ERROR, "gave up after %d s, what was last observed is lost: %s", GIVE_UP_MS / 1000, s->trouble);
			return NULL;
		}

		/* After what was given up nothing is written: rows without those before them would be a lie. */
		while (!gave_up && !commit_all(s, list)) {
			pthread_mutex_lock(&s->lock);
			if (s->closing && !closing_since)
				closing_since = monotonic_ms();
			pthread_mutex_unlock(&s->lock);
			gave_up = closing_since && monotonic_ms() - closing_since > GIVE_UP_MS;
			if (gave_up)
				break;
			wait_a_second(s);
		}
		struct store_batch *last = list;
		while (last->next)
			last = last->next;
		pthread_mutex_lock(&s->lock);
		*s->done_tail = list;
		s->done_tail = &last->next;
		if (s->async)
			uv_async_send(s->async);
		pthread_mutex_unlock(&s->lock);
	}
}

static void report(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	struct store_batch *b = s->done;
	s->done = NULL;
	s->done_tail = &s->done;
	pthread_mutex_unlock(&s->lock);
	while (b) {
		struct store_batch *next = b->next;
		if (b->done)
			b->done(b->arg);
		store_batch_free(b);
		b = next;
	}
}

static void on_async(uv_async_t *a)
{
	report(a->data);
}

void store_commit(struct store_batch *b, void (*done)(void *arg), void *arg)
{
	struct store *s = b->store;
	b->done = done;
	b->arg = arg;
	pthread_mutex_lock(&s->lock);
	*s->tail = b;
	s->tail = &b->next;
	pthread_cond_signal(&s->work);
	pthread_mutex_unlock(&s->lock);
}

char *store_trouble(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	char *t = xstrdup(s->trouble);
	pthread_mutex_unlock(&s->lock);
	return t;
}

int store_trouble_code(struct store *s, char **ret_why)
{
	pthread_mutex_lock(&s->lock);
	int code = s->trouble_code;
	if (code)
		*ret_why = xstrdup(s->trouble);
	pthread_mutex_unlock(&s->lock);
	return code;
}

/* ---- life ---- */

static void async_closed(uv_handle_t *h)
{
	free(h);
}

void store_close(struct store *s)
{
	if (!s)
		return;
	if (s->has_thread) {
		pthread_mutex_lock(&s->lock);
		s->closing = true;
		pthread_cond_signal(&s->work);
		pthread_mutex_unlock(&s->lock);
		pthread_join(s->thread, NULL);
	}
	for (struct store_batch *next, *b = s->done; b; b = next) {
		next = b->next;
		store_batch_free(b);
	}
	for (int i = 0; i < N_STATEMENTS; i++)
		sqlite3_finalize(s->prepared[i]);
	sqlite3_close(s->db);
	if (s->async)
		uv_close((uv_handle_t *)s->async, async_closed);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->work);
	free(s->trouble);
	free(s->path);
	free(s);
}

int store_open(const char *path, uv_loop_t *loop, struct store **ret, struct err **err)
{
	struct store *s = xcalloc(1, sizeof *s);
	int rc;

	s->path = xstrdup(path);
	s->tail = &s->queue;
	s->done_tail = &s->done;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&s->work, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK) {
		rc = db_error(s, "open", err);
		goto fail;
	}
	/* SQLite opens read-only what it may not write, and says later that some other file is not there */
	if (sqlite3_db_readonly(s->db, "main") == 1) {
		rc = err_set(err, EROFS, "cannot write database '%s': the file or its file system is read-only", path);
		goto fail;
	}
	sqlite3_busy_timeout(s->db, 5000);
	if ((rc = run_sql(s, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL", "open", err)) < 0 || (rc = migrate(s, err)) < 0)
		goto fail;
	for (int i = 0; i < N_STATEMENTS; i++)
		if (sqlite3_prepare_v3(s->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT, &s->prepared[i], NULL) != SQLITE_OK) {
			rc = db_error(s, "prepare", err);
			goto fail;
		}
	/* Dug out of a crash or not: what cannot be written must be known now, not with the first node. */
	if ((rc = run_sql(s, "BEGIN IMMEDIATE; INSERT OR REPLACE INTO meta VALUES('opened', datetime('now')); COMMIT", "write", err)) < 0)
		goto fail;
	s->async = xcalloc(1, sizeof *s->async);
	s->async->data = s;
	uv_async_init(loop, s->async, on_async);
	if ((rc = pthread_create(&s->thread, NULL, writer, s)) != 0) {
		rc = err_errno(err, rc, "cannot start the store's thread");
		goto fail;
	}
	s->has_thread = true;
	*ret = s;
	return 0;
fail:
	store_close(s);
	return rc;
}

/* ---- meta ---- */

int store_meta_get(struct store *s, const char *key, char **ret, struct err **err)
{
	sqlite3_stmt *st = NULL;
	int rc = 0;
	if (sqlite3_prepare_v2(s->db, "SELECT value FROM meta WHERE key=?", -1, &st, NULL) != SQLITE_OK)
		return db_error(s, "read", err);
	sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
	int step = sqlite3_step(st);
	if (step == SQLITE_ROW)
		*ret = xstrdup((const char *)sqlite3_column_text(st, 0));
	else if (step == SQLITE_DONE)
		*ret = NULL;
	else
		rc = db_error(s, "read", err);
	sqlite3_finalize(st);
	return rc;
}

int store_meta_put(struct store *s, const char *key, const char *value, struct err **err)
{
	sqlite3_stmt *st = NULL;
	int rc = 0;
	if (sqlite3_prepare_v2(s->db, "INSERT OR REPLACE INTO meta VALUES(?,?)", -1, &st, NULL) != SQLITE_OK)
		return db_error(s, "write", err);
	sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
	sqlite3_bind_text(st, 2, value, -1, SQLITE_STATIC);
	if (sqlite3_step(st) != SQLITE_DONE)
		rc = db_error(s, "write", err);
	sqlite3_finalize(st);
	return rc;
}

sqlite3 *store_db(struct store *s)
{
	return s->db;
}
