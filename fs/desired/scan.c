/* What counts as a role's content, and its hash. */
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "fs/desired/internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <uthash.h>

/* A file that changed within this time before it was read may change again without a new time stamp (git calls such an entry racy): it is not
 * remembered. */
#define RACY_NS 1000000000LL

struct cache_key {
	uint64_t dev, ino;
};
struct cache_entry {
	struct cache_key key;
	int64_t size, mtime_ns, ctime_ns;
	struct hash hash;
	bool used;
	UT_hash_handle hh;
};
struct hash_cache {
	struct cache_entry *entries;
};

struct hash_cache *hash_cache_new(void)
{
	return xcalloc(1, sizeof(struct hash_cache));
}

static void cache_remove(struct hash_cache *c, struct cache_entry *e)
{
	HASH_DEL(c->entries, e);
	free(e);
}

void hash_cache_sweep(struct hash_cache *c)
{
	struct cache_entry *e, *tmp;
	if (!c)
		return;
	HASH_ITER (hh, c->entries, e, tmp) {
		if (!e->used)
			cache_remove(c, e);
		else
			e->used = false;
	}
}

void hash_cache_free(struct hash_cache *c)
{
	struct cache_entry *e, *tmp;
	if (!c)
		return;
	HASH_ITER (hh, c->entries, e, tmp)
		cache_remove(c, e);
	free(c);
}

static int64_t ns(struct timespec t)
{
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static struct cache_entry *cache_find(struct hash_cache *c, const struct stat *st)
{
	struct cache_key key;
	struct cache_entry *e = NULL;
	memset(&key, 0, sizeof key); /* it is hashed byte by byte */
	key.dev = st->st_dev;
	key.ino = st->st_ino;
	if (c)
		HASH_FIND(hh, c->entries, &key, sizeof key, e);
	return e;
}

static void cache_put(struct hash_cache *c, const struct stat *st, const struct hash *h)
{
	struct timespec now;
	if (!c)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	struct cache_entry *e = cache_find(c, st);
	if (ns(now) - ns(st->st_ctim) < RACY_NS) {
		if (e)
			cache_remove(c, e);
		return;
	}
	if (!e) {
		e = xcalloc(1, sizeof *e);
		e->key = (struct cache_key){st->st_dev, st->st_ino};
		HASH_ADD(hh, c->entries, key, sizeof e->key, e);
	}
	e->size = st->st_size;
	e->mtime_ns = ns(st->st_mtim);
	e->ctime_ns = ns(st->st_ctim);
	e->hash = *h;
	e->used = true;
}

const char *file_kind(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "link";
	case S_IFIFO:
		return "pipe";
	case S_IFSOCK:
		return "socket";
	}
	return "device";
}

static int hash_fd(int fd, struct hash *ret)
{
	char chunk[65536];
	struct hasher *h = hasher_new();
	ssize_t n;
	while ((n = read(fd, chunk, sizeof chunk)) > 0 || (n < 0 && errno == EINTR))
		if (n > 0)
			hasher_add(h, chunk, (size_t)n);
	int code = n < 0 ? errno : 0;
	hasher_end(h, ret);
	hasher_free(h);
	return -code;
}

static int hash_file(int dirfd, const char *name, struct hash_cache *cache, struct hash *ret, bool *ret_x)
{
	struct stat st;
	_cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	*ret_x = st.st_mode & S_IXUSR;
	struct cache_entry *e = cache_find(cache, &st);
	if (e && e->size == st.st_size && e->mtime_ns == ns(st.st_mtim) && e->ctime_ns == ns(st.st_ctim)) {
		e->used = true;
		*ret = e->hash;
		return 0;
	}
	int rc = hash_fd(fd, ret);
	if (!rc && cache && fd_has_writer(fd))
		return -EBUSY;
	if (!rc && cache)
		cache_put(cache, &st, ret);
	return rc;
}

struct scan {
	struct hash_cache *cache;
	struct content_list *list;
	char *bad; /* the path an error is about */
	struct err **err;
};

static struct content_entry *add_entry(struct scan *s, char *path, char kind)
{
	struct content_list *l = s->list;
	GROW(l->entries, l->n, l->cap);
	l->entries[l->n] = (struct content_entry){.path = path, .kind = kind};
	return &l->entries[l->n++];
}

static int scan_failed(struct scan *s, char *path, int code)
{
	s->bad = path;
	return err_errno(s->err, code, "cannot read content '%s'", path);
}

static int scan_link(struct scan *s, int dirfd, const char *name, char *path)
{
	char target[4096];
	ssize_t n = readlinkat(dirfd, name, target, sizeof target - 1);
	if (n < 0)
		return scan_failed(s, path, errno);
	target[n] = 0;
	struct content_entry *e = add_entry(s, path, 'l');
	e->target = xstrdup(target);
	hash_bytes(target, (size_t)n, &e->hash);
	return 0;
}

static int scan_file(struct scan *s, int dirfd, const char *name, char *path)
{
	struct hash h;
	bool x = false;
	int rc = hash_file(dirfd, name, s->cache, &h, &x);
	if (rc < 0)
		return scan_failed(s, path, -rc);
	add_entry(s, path, x ? 'x' : 'f')->hash = h;
	return 0;
}

static int scan_dir(struct scan *s, int fd, const char *prefix, int depth);

static int scan_entry(struct scan *s, int dirfd, const char *prefix, const char *name, int depth)
{
	struct stat st;
	char *path = *prefix ? xasprintf("%s/%s", prefix, name) : xstrdup(name);
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT)
			return scan_failed(s, path, errno);
		free(path); /* gone since it was listed: whoever watches the tree will read again */
		return 0;
	}
	if (S_ISLNK(st.st_mode))
		return scan_link(s, dirfd, name, path);
	if (S_ISREG(st.st_mode))
		return scan_file(s, dirfd, name, path);
	if (!S_ISDIR(st.st_mode)) {
		s->bad = path;
		return err_set(s->err, EINVAL, "'%s' is a %s: only files, directories and links can be content", path, file_kind(st.st_mode));
	}
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return scan_failed(s, path, errno);
	int rc = scan_dir(s, fd, path, depth + 1);
	if (s->bad != path)
		free(path);
	return rc;
}

/* Takes fd. */
static int scan_dir(struct scan *s, int fd, const char *prefix, int depth)
{
	int rc = 0;
	if (depth > 64) {
		close(fd);
		s->bad = xstrdup(prefix);
		return err_set(s->err, ELOOP, "'%s' lies more than 64 directories deep", prefix);
	}
	DIR *d = fdopendir(fd);
	if (!d) {
		int code = errno;
		close(fd);
		return scan_failed(s, xstrdup(prefix), code);
	}
	struct dirent *e;
	while (!rc && (e = readdir(d)))
		if (!name_ignored(e->d_name) && (depth > 0 || strcmp(e->d_name, "role.ini")))
			rc = scan_entry(s, fd, prefix, e->d_name, depth);
	closedir(d);
	return rc;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct content_entry *)a)->path, ((const struct content_entry *)b)->path);
}

int content_scan(const char *dir, struct hash_cache *cache, struct content_list *ret, char **ret_path, struct err **err)
{
	struct scan s = {.cache = cache, .list = ret, .err = err};
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 ? scan_failed(&s, xstrdup(""), errno) : scan_dir(&s, fd, "", 0);
	if (rc < 0) {
		if (ret_path)
			*ret_path = s.bad;
		else
			free(s.bad);
		content_list_release(ret);
		return rc;
	}
	if (ret->n)
		qsort(ret->entries, ret->n, sizeof *ret->entries, by_path);
	return 0;
}

void content_list_hash(const struct content_list *l, struct hash *ret)
{
	struct hasher *h = hasher_new();
	hasher_add_str(h, "role content 1");
	for (size_t i = 0; i < l->n; i++) {
		hasher_add_str(h, l->entries[i].path);
		hasher_add(h, &l->entries[i].kind, 1);
		hasher_add(h, l->entries[i].hash.b, sizeof l->entries[i].hash.b);
	}
	hasher_end(h, ret);
	hasher_free(h);
}

void content_list_release(struct content_list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->entries[i].path);
		free(l->entries[i].target);
	}
	free(l->entries);
	*l = (struct content_list){0};
}
