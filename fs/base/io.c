#include "fs/base/io.h"
#include "fs/base/acl.h"
#include "fs/base/mem.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

int file_read(int dirfd, const char *path, size_t max, struct buf *out, struct err **err)
{
	/* Without O_NONBLOCK a FIFO where a document should be would stop the thread for ever. */
	_cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, errno, "cannot read '%s'", path);
	if (S_ISFIFO(st.st_mode))
		return err_set(err, EINVAL, "cannot read '%s': it is a pipe, not a file", path);
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

bool fd_has_writer(int fd)
{
	/* A lease is refused while somebody has the file open for writing. Who opens it while we hold it waits until we let go, a microsecond later,
	 * and we are sent a signal: one that nobody minds, SIGIO would end the process. */
	if (fcntl(fd, F_SETSIG, SIGURG) < 0 || fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
		return errno == EAGAIN;
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return false;
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
	/* EINVAL: this file system does not sync directories */
	if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL))
		return err_errno(err, errno, "cannot sync the directory of '%s'", path);
	return 0;
}

static int write_temp(
        int dirfd, const char *temp, const char *path, const void *data, size_t len, const struct stat *like, mode_t mode, struct err **err)
{
	_cleanup_close_ int fd = openat(dirfd, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return errno == EEXIST ? -EEXIST : err_errno(err, errno, "cannot write beside '%s'", path);
	if (like && (like->st_uid != geteuid() || like->st_gid != getegid()) && fchown(fd, like->st_uid, like->st_gid) < 0)
		return err_errno(err, errno, "cannot keep the owner of '%s'", path);
	if (like && acl_copy(dirfd, path, fd) < 0)
		return err_errno(err, errno, "cannot keep the access control list of '%s'", path);
	if (fchmod(fd, mode) < 0)
		return err_errno(err, errno, "cannot set the mode of '%s'", path);
	int rc = fd_write_all(fd, data, len);
	if (rc < 0)
		return err_errno(err, -rc, "cannot write '%s'", path);
	if (fsync(fd) < 0)
		return err_errno(err, errno, "cannot sync '%s'", path);
	return 0;
}

static int rename_gated(int dirfd, const char *temp, const char *path, const struct replace_gate *gate, struct err **err)
{
	int rc = gate ? gate->enter(gate->arg, err) : 0;
	if (rc < 0)
		return rc;
	if (renameat(dirfd, temp, dirfd, path) < 0)
		rc = err_errno(err, errno, "cannot replace '%s'", path);
	if (gate)
		gate->leave(gate->arg);
	return rc;
}

static int replace(int dirfd, const char *path, const void *data, size_t len, const struct stat *like, mode_t mode, const struct replace_gate *gate,
        struct err **err)
{
	/* Begins with a dot: ignored by whoever lists the directory for documents. The name is cut so that it fits whatever the file is called. */
	static unsigned counter;
	const char *slash = strrchr(path, '/');
	int head = slash ? (int)(slash - path + 1) : 0, rc = -EEXIST;
	_cleanup_free_ char *temp = NULL;
	/* A crash leaves its temporary file, and in a container the next daemon has the same pid: go on to the next number. */
	for (int i = 0; i < 1000 && rc == -EEXIST; i++) {
		free(temp);
		temp = xasprintf("%.*s.%.200s.%d.%u~", head, path, path + head, (int)getpid(), __atomic_fetch_add(&counter, 1, __ATOMIC_RELAXED));
		rc = write_temp(dirfd, temp, path, data, len, like, mode, err);
	}
	if (rc == -EEXIST)
		return err_errno(err, EEXIST, "cannot write beside '%s': remove '%s' and its like", path, temp);
	if (rc == 0)
		rc = rename_gated(dirfd, temp, path, gate, err);
	if (rc < 0) {
		unlinkat(dirfd, temp, 0);
		return rc;
	}
	return dir_sync(dirfd, path, err);
}

int file_write_atomic(int dirfd, const char *path, const void *data, size_t len, mode_t mode, struct err **err)
{
	return replace(dirfd, path, data, len, NULL, mode, NULL, err);
}

int file_replace(const char *path, const void *data, size_t len, struct err **err)
{
	return file_replace_gated(path, data, len, NULL, err);
}

int file_replace_gated(const char *path, const void *data, size_t len, const struct replace_gate *gate, struct err **err)
{
	_cleanup_free_ char *target = realpath(path, NULL);
	struct stat st;
	if (!target && errno != ENOENT)
		return err_errno(err, errno, "cannot follow '%s'", path);
	if (target && stat(target, &st) == 0) {
		if (!S_ISREG(st.st_mode)) /* a rename over /dev/null succeeds */
			return err_set(err, EINVAL, "cannot replace '%s': it is not a file", path);
		return replace(AT_FDCWD, target, data, len, &st, st.st_mode & 07777, gate, err);
	}
	if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
		return err_set(err, ENOENT, "cannot replace '%s': it is a link to what is not there", path);
	return replace(AT_FDCWD, path, data, len, NULL, 0644, gate, err);
}

int dir_make_all(const char *path, mode_t mode, struct err **err)
{
	_cleanup_free_ char *p = xstrdup(path);
	for (char *s = p + (*p != '\0');; s++) {
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

/* The mount's number, since a bind mount has the device of what it shows; the device where the kernel does not tell (before 5.8). */
static uint64_t mount_of(const struct statx *stx)
{
	return stx->stx_mask & STATX_MNT_ID ? stx->stx_mnt_id : makedev(stx->stx_dev_major, stx->stx_dev_minor);
}

static int look(int dirfd, const char *name, struct statx *stx)
{
	return statx(dirfd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_MODE | STATX_MNT_ID, stx) < 0 ? -errno : 0;
}

static int remove_below(int dirfd, const char *name, uint64_t mount)
{
	struct statx stx;
	int rc = look(dirfd, name, &stx);
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	if (!S_ISDIR(stx.stx_mode))
		return unlinkat(dirfd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
	if (mount_of(&stx) != mount)
		return -EXDEV;
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if ((stx.stx_mode & 0700) != 0700)
		fchmod(fd, 0700); /* the content store's directories are read-only */
	DIR *d = fdopendir(fd);
	if (!d) {
		rc = -errno;
		close(fd);
		return rc;
	}
	for (struct dirent *e; rc == 0 && (e = readdir(d));)
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			rc = remove_below(fd, e->d_name, mount);
	closedir(d);
	if (rc == 0 && unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		rc = -errno;
	return rc;
}

int tree_remove(const char *path, struct err **err)
{
	struct statx stx;
	int rc = look(AT_FDCWD, path, &stx);
	if (rc == -ENOENT)
		return 0;
	if (rc == 0)
		rc = remove_below(AT_FDCWD, path, mount_of(&stx));
	if (rc == -EXDEV)
		return err_set(err, EXDEV, "cannot remove '%s': something is mounted in it", path);
	return rc < 0 ? err_errno(err, -rc, "cannot remove '%s'", path) : 0;
}

char *path_join(const char *a, const char *b)
{
	size_t len = strlen(a);
	while (*b == '/' && len)
		b++;
	return xasprintf("%s%s%s", a, len && a[len - 1] != '/' ? "/" : "", b);
}
