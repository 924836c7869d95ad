/* Reading a database without touching it, whether or not a daemon writes it.
 *
 * While one does, rebarfs.db-wal is there: a reader shares its index and sees the last commit. Nobody has it open when the WAL is gone, and then an
 * ordinary reader would make one anew; SQLite's 'immutable' reads the file alone, which is right for as long as nobody opens it. */
#include "fs/base/mem.h"
#include "fs/base/str.h"
#include "fs/observed/batch.h"
#include <errno.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define TRIES 5
#define AGAIN_MS 50

struct seen { /* what tells that somebody opened, closed or wrote the database meanwhile */
	bool wal;
	off_t size;
	ino_t ino;
	struct timespec mtime;
};

static int see(const char *path, struct seen *ret, struct err **err)
{
	struct stat st, wal;
	_cleanup_free_ char *beside = xasprintf("%s-wal", path);
	if (stat(path, &st) < 0)
		return errno == ENOENT
		               ? err_set(err, ENOENT, "there is no state in '%.*s': it has no rebarfs.db", (int)(strrchr(path, '/') - path), path)
		               : err_errno(err, errno, "cannot read database '%s'", path);
	*ret = (struct seen){.wal = stat(beside, &wal) == 0, .ino = st.st_ino};
	if (!ret->wal) { /* with it, the writer moves pages from there to here whenever it likes */
		ret->size = st.st_size;
		ret->mtime = st.st_mtim;
	}
	return 0;
}

static bool same(const struct seen *a, const struct seen *b)
{
	return a->wal == b->wal && a->ino == b->ino && a->size == b->size && a->mtime.tv_sec == b->mtime.tv_sec &&
	       a->mtime.tv_nsec == b->mtime.tv_nsec;
}

static char *uri(const char *path, bool wal)
{
	struct buf b = {0};
	buf_adds(&b, "file:");
	for (; *path; path++)
		if (strchr("%?#", *path))
			buf_addf(&b, "%%%02x", (unsigned char)*path);
		else
			buf_addc(&b, *path);
	buf_adds(&b, wal ? "?mode=ro&readonly_shm=1" : "?immutable=1");
	return buf_detach(&b, NULL);
}

static int trouble(sqlite3 *db, const char *path, struct err **err)
{
	int code = sqlite3_errcode(db), os = sqlite3_system_errno(db);
	if (code == SQLITE_CANTOPEN && os)
		return err_errno(err, os, "cannot read database '%s'", path);
	return err_set(err, EIO, "cannot read database '%s': %s", path, sqlite3_errmsg(db));
}

static int check_version(sqlite3 *db, const char *path, struct err **err)
{
	sqlite3_stmt *st = NULL;
	int rc = 0;
	if (sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &st, NULL) != SQLITE_OK || sqlite3_step(st) != SQLITE_ROW)
		rc = trouble(db, path, err);
	else if (sqlite3_column_int(st, 0) != store_schema_version)
		rc = err_set(err, EBUSY, "database '%s' has schema %d and this rebarfs reads %d: it was written by another version", path,
		        sqlite3_column_int(st, 0), store_schema_version);
	sqlite3_finalize(st);
	return rc;
}

/* Who cannot write the shared index cannot mend it: a header that the writer was just writing looks as if it had to be recovered. */
static bool in_the_way(sqlite3 *db)
{
	int code = sqlite3_errcode(db), extended = sqlite3_extended_errcode(db);
	return code == SQLITE_BUSY || code == SQLITE_PROTOCOL || extended == SQLITE_READONLY_RECOVERY || extended == SQLITE_READONLY_CANTLOCK ||
	       extended == SQLITE_READONLY_CANTINIT;
}

static int read_all(const char *path, bool wal, struct store_contents *ret, bool *ret_again, struct err **err)
{
	sqlite3 *db = NULL;
	_cleanup_free_ char *name = uri(path, wal);
	int rc = 0;
	if (sqlite3_open_v2(name, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
		rc = trouble(db, path, err);
	sqlite3_busy_timeout(db, 5000);
	/* one transaction: the rows of all tables are of one moment */
	if (!rc && sqlite3_exec(db, "BEGIN", NULL, NULL, NULL) != SQLITE_OK)
		rc = trouble(db, path, err);
	if (!rc)
		rc = check_version(db, path, err);
	if (!rc)
		rc = contents_load(db, ret, err);
	*ret_again = rc < 0 && in_the_way(db);
	sqlite3_close(db);
	return rc;
}

int store_peek(const char *path, struct store_contents *ret, struct err **err)
{
	for (int i = 1;; i++) {
		struct seen before = {0}, after = {0};
		struct store_contents c = {0};
		int rc = see(path, &before, err);
		if (rc < 0)
			return rc;
		bool again;
		rc = read_all(path, before.wal, &c, &again, err);
		bool calm = see(path, &after, NULL) == 0 && same(&before, &after);
		if ((!calm || again) && i < TRIES) {
			if (again)
				nanosleep(&(struct timespec){.tv_nsec = AGAIN_MS * 1000000L}, NULL);
			if (!rc)
				store_contents_release(&c);
			else
				err_freep(err);
			continue;
		}
		if (!rc && !calm) {
			store_contents_release(&c);
			return err_set(err, EAGAIN, "cannot read database '%s': it is being opened and closed all the time", path);
		}
		if (!rc)
			*ret = c;
		return rc;
	}
}
