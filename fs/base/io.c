#include "fs/base/io.h"
#include "fs/base/mem.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int file_read(int dirfd, const char *path, size_t max, struct buf *out, struct err **err)
{
	_cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "cannot read '%s'", path);
	char chunk[16384];
	size_t got = 0;
	for (;;) {
		ssize_t n = read(fd, chunk, sizeof chunk);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, errno, "cannot read '%s'", path);
		if (n == 0)
			return 0;
		got += (size_t)n;
		if (got > max)
			return err_set(err, EFBIG, "'%s' is larger than %zu bytes", path, max);
		buf_add(out, chunk, (size_t)n);
	}
}

int fd_write_all(int fd, const void *data, size_t len)
{
	const char *p = data;
	while (len) {
		ssize_t n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int dir_sync(int dirfd, const char *path, struct err **err)
{
	_cleanup_free_ char *dir = xstrdup(path);
	char *slash = strrchr(dir, '/');
	if (slash)
		slash[slash == dir] = '\0';
	_cleanup_close_ int fd = openat(dirfd, slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		return err_errno(err, errno, "cannot sync the directory of '%s'", path);
	return 0;
}

static int write_temp(int dirfd, const char *temp, const char *path, const void *data, size_t len, const struct stat *like, mode_t mode, struct err **err)
{
	_cleanup_close_ int fd = openat(dirfd, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, errno, "cannot write beside '%s'", path);
	if (like && (like->st_uid != geteuid() || like->st_gid != getegid()) && fchown(fd, like->st_uid, like->st_gid) < 0)
		return err_errno(err, errno, "cannot keep the owner of '%s'", path);
	if (fchmod(fd, mode) < 0)
		return err_errno(err, errno, "cannot set the mode of '%s'", path);
	int rc = fd_write_all(fd, data, len);
	if (rc < 0)
		return err_errno(err, -rc, "cannot write '%s'", path);
	if (fsync(fd) < 0)
		return err_errno(err, errno, "cannot sync '%s'", path);
	return 0;
}

static int replace(int dirfd, const char *path, const void *data, size_t len, const struct stat *like, mode_t mode, struct err **err)
{
	/* Begins with a dot: ignored by whoever lists the directory for documents. */
	static unsigned counter;
	const char *slash = strrchr(path, '/');
	int head = slash ? (int)(slash - path + 1) : 0;
	_cleanup_free_ char *temp = xasprintf("%.*s.%s.%d.%u~", head, path, path + head, (int)getpid(), __atomic_fetch_add(&counter, 1, __ATOMIC_RELAXED));
	int rc = write_temp(dirfd, temp, path, data, len, like, mode, err);
	if (rc == 0 && renameat(dirfd, temp, dirfd, path) < 0)
		rc = err_errno(err, errno, "cannot replace '%s'", path);
	if (rc < 0) {
		unlinkat(dirfd, temp, 0);
		return rc;
	}
	return dir_sync(dirfd, path, err);
}

int file_write_atomic(int dirfd, const char *path, const void *data, size_t len, mode_t mode, struct err **err)
{
	return replace(dirfd, path, data, len, NULL, mode, err);
}

int file_replace(const char *path, const void *data, size_t len, struct err **err)
{
	_cleanup_free_ char *target = realpath(path, NULL);
	struct stat st;
	if (!target && errno != ENOENT)
		return err_errno(err, errno, "cannot follow '%s'", path);
	if (target && stat(target, &st) == 0)
		return replace(AT_FDCWD, target, data, len, &st, st.st_mode & 07777, err);
	return replace(AT_FDCWD, path, data, len, NULL, 0644, err);
}

int dir_make_all(const char *path, mode_t mode, struct err **err)
{
	_cleanup_free_ char *p = xstrdup(path);
	for (char *s = p + 1;; s++) {
		if (*s && *s != '/')
			continue;
		char c = *s;
		*s = '\0';
		if (mkdir(p, mode) < 0 && errno != EEXIST)
			return err_errno(err, errno, "cannot make directory '%s'", p);
		*s = c;
		if (!c)
			break;
	}
	struct stat st;
	if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
		return err_set(err, ENOTDIR, "'%s' is not a directory", path);
	return 0;
}

static int remove_below(int dirfd, const char *name, dev_t dev)
{
	struct stat st;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISDIR(st.st_mode))
		return unlinkat(dirfd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
	if (st.st_dev != dev)
		return -EXDEV;
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if ((st.st_mode & 0700) != 0700)
		fchmod(fd, 0700); /* the content store's directories are read-only */
	DIR *d = fdopendir(fd);
	int rc = 0;
	for (struct dirent *e; rc == 0 && (e = readdir(d));)
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			rc = remove_below(fd, e->d_name, dev);
	closedir(d);
	if (rc == 0 && unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		rc = -errno;
	return rc;
}

int tree_remove(const char *path, struct err **err)
{
	struct stat st;
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_errno(err, errno, "cannot remove '%s'", path);
	int rc = remove_below(AT_FDCWD, path, st.st_dev);
	return rc < 0 ? err_errno(err, -rc, "cannot remove '%s'", path) : 0;
}

char *path_join(const char *a, const char *b)
{
	size_t len = strlen(a);
	while (*b == '/' && len)
		b++;
	return xasprintf("%s%s%s", a, len && a[len - 1] != '/' ? "/" : "", b);
}
