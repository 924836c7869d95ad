/* The content store: DIR/HH/HASH, a file for a document, a directory for a role's content. An entry appears by rename, complete and synced, and is
 * never changed again: whoever holds its hash may use it without asking. */
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "fs/desired/internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define UNFINISHED ".new-"

struct content_store {
	char *dir;
	char *base;       /* looked into first; NULL: none */
	atomic_uint next; /* for names of what is not finished */
};

char *content_path(const struct content_store *c, const struct hash *h)
{
	char hex[HASH_HEX];
	struct stat st;
	hash_hex(h, hex);
	if (c->base) {
		char *path = xasprintf("%s/%.2s/%s", c->base, hex, hex);
		if (lstat(path, &st) == 0)
			return path;
		free(path);
	}
	return xasprintf("%s/%.2s/%s", c->dir, hex, hex);
}

/* What a killed daemon left half copied. */
static void sweep(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	while (d && (e = readdir(d)))
		if (!strncmp(e->d_name, UNFINISHED, strlen(UNFINISHED))) {
			_cleanup_free_ char *path = path_join(dir, e->d_name);
			tree_remove(path, NULL);
		}
	if (d)
		closedir(d);
}

static struct content_store *store_new(const char *base, const char *dir)
{
	struct content_store *c = xcalloc(1, sizeof *c);
	c->dir = xstrdup(dir);
	c->base = xstrdup(base);
	return c;
}

int content_open(const char *dir, struct content_store **ret, struct err **err)
{
	int rc = dir_make_all(dir, 0700, err);
	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < 256; i++) {
		_cleanup_free_ char *sub = xasprintf("%s/%02x", dir, i);
		sweep(sub);
	}
	*ret = store_new(NULL, dir);
	return 0;
}

void content_open_over(const char *base, const char *scratch, struct content_store **ret)
{
	*ret = store_new(base, scratch);
}

void content_close(struct content_store *c)
{
	if (!c)
		return;
	free(c->dir);
	free(c->base);
	free(c);
}

/* Makes DIR/HH. Returns the path of an entry that is not there yet, NULL when it is, or the error in *rc. */
static char *entry_begin(struct content_store *c, const struct hash *h, char **ret_parent, int *rc, struct err **err)
{
	struct stat st;
	char *path = content_path(c, h);
	*rc = 0;
	if (lstat(path, &st) == 0) {
		free(path);
		return NULL;
	}
	char *parent = xstrndup(path, (size_t)(strrchr(path, '/') - path));
	*rc = dir_make_all(parent, 0700, err);
	if (*rc < 0) {
		free(parent);
		free(path);
		return NULL;
	}
	*ret_parent = parent;
	return path;
}

int content_add_document(struct content_store *c, const struct hash *h, const void *data, size_t len, struct err **err)
{
	int rc;
	_cleanup_free_ char *parent = NULL;
	_cleanup_free_ char *path = entry_begin(c, h, &parent, &rc, err);
	return path ? file_write_atomic(AT_FDCWD, path, data, len, 0400, err) : rc;
}

static int sync_dir(const char *path, struct err **err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		return err_errno(err, errno, "cannot write '%s' to disk", path);
	return 0;
}

/* Copies bytes and hashes them on the way. */
static int copy_bytes(int from, int to, struct hash *ret)
{
	char chunk[65536];
	struct hasher *h = hasher_new();
	ssize_t n;
	int rc = 0;
	while (!rc && ((n = read(from, chunk, sizeof chunk)) > 0 || (n < 0 && errno == EINTR))) {
		if (n <= 0)
			continue;
		hasher_add(h, chunk, (size_t)n);
		rc = fd_write_all(to, chunk, (size_t)n);
	}
	if (!rc && n < 0)
		rc = -errno;
	hasher_end(h, ret);
	hasher_free(h);
	return rc;
}

static int copy_file(const char *from, const char *to, const struct content_entry *e, struct err **err)
{
	struct hash h;
	struct stat st;
	mode_t mode = e->kind == 'x' ? 0555 : 0444;
	_cleanup_close_ int in = open(from, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (in < 0)
		return errno == ENOENT || errno == ELOOP ? -EAGAIN : err_errno(err, errno, "cannot read '%s'", from);
	_cleanup_close_ int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (out < 0)
		return err_errno(err, errno, "cannot create '%s'", to);
	int rc = copy_bytes(in, out, &h);
	if (rc < 0)
		return err_errno(err, -rc, "cannot copy '%s'", from);
	if (!hash_eq(&h, &e->hash) || fstat(in, &st) < 0 || !(st.st_mode & S_IXUSR) != (e->kind != 'x'))
		return -EAGAIN;
	if (fchmod(out, mode) < 0 || fsync(out) < 0)
		return err_errno(err, errno, "cannot write '%s' to disk", to);
	return 0;
}

static int copy_entry(const char *from_dir, const char *to_dir, const struct content_entry *e, struct err **err)
{
	_cleanup_free_ char *from = path_join(from_dir, e->path);
	_cleanup_free_ char *to = path_join(to_dir, e->path);
	char *slash = strrchr(to, '/');
	*slash = 0;
	int rc = dir_make_all(to, 0700, err);
	*slash = '/';
	if (rc < 0)
		return rc;
	if (e->kind != 'l')
		return copy_file(from, to, e, err);
	return symlink(e->target, to) < 0 ? err_errno(err, errno, "cannot create '%s'", to) : 0;
}

/* Directories last, from the deepest up: readable by everybody, writable by nobody, and on disk. */
static int seal(const char *dir, struct err **err)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	struct stat st;
	int rc = d ? 0 : err_errno(err, errno, "cannot read '%s'", dir);
	while (!rc && d && (e = readdir(d))) {
		_cleanup_free_ char *path = path_join(dir, e->d_name);
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
			rc = seal(path, err);
	}
	if (d)
		closedir(d);
	if (!rc && chmod(dir, 0555) < 0)
		rc = err_errno(err, errno, "cannot change the mode of '%s'", dir);
	return rc ? rc : sync_dir(dir, err);
}

static int copy_all(const char *from, const char *to, const struct hash *h, struct err **err)
{
	struct content_list list = {0};
	struct hash now;
	int rc = content_scan(from, NULL, &list, NULL, err);
	if (rc < 0)
		return rc;
	content_list_hash(&list, &now);
	if (!hash_eq(h, &now))
		rc = -EAGAIN;
	for (size_t i = 0; !rc && i < list.n; i++)
		rc = copy_entry(from, to, &list.entries[i], err);
	content_list_release(&list);
	return rc ? rc : seal(to, err);
}

/* A directory that was sealed cannot be emptied by who is not root. */
static void discard(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	struct stat st;
	chmod(dir, 0700);
	while (d && (e = readdir(d))) {
		_cleanup_free_ char *path = path_join(dir, e->d_name);
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
			discard(path);
	}
	if (d)
		closedir(d);
	tree_remove(dir, NULL);
}

int content_add_directory(struct content_store *c, const struct hash *h, const char *dir, struct err **err)
{
	int rc;
	_cleanup_free_ char *parent = NULL;
	_cleanup_free_ char *path = entry_begin(c, h, &parent, &rc, err);
	if (!path)
		return rc;
	/* beside its place: a directory without the w bit may be renamed where it is, but not into another one */
	_cleanup_free_ char *tmp = xasprintf("%s/" UNFINISHED "%d-%u", parent, (int)getpid(), atomic_fetch_add(&c->next, 1));
	if (mkdir(tmp, 0700) < 0)
		return err_errno(err, errno, "cannot create '%s'", tmp);
	rc = copy_all(dir, tmp, h, err);
	if (!rc && rename(tmp, path) < 0 && errno != EEXIST && errno != ENOTEMPTY)
		rc = err_errno(err, errno, "cannot create '%s'", path);
	if (!rc)
		rc = sync_dir(parent, err);
	struct stat st;
	if (lstat(tmp, &st) == 0)
		discard(tmp);
	if (rc == -EAGAIN)
		return err_set(err, EAGAIN, "'%s' changed while it was copied", dir);
	return rc;
}
