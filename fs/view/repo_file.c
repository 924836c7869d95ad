#include "fs/base/acl.h"
#include "fs/base/mem.h"
#include "fs/view/repo.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

struct repo_file {
	struct repo_inode *inode;
	int fd;
	char *path; /* opened for writing under this name; NULL: only for reading */
	bool document;
	_Atomic bool written;
	_Atomic bool flushed; /* and nothing was written since: its RELEASE is on its way */
};

static struct repo_file *file_of(const struct fuse_file_info *fi)
{
	return (struct repo_file *)(uintptr_t)fi->fh;
}

int repo_file_fd(const struct fuse_file_info *fi)
{
	return file_of(fi)->fd;
}

static bool writes(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

static struct repo_file *file_new(struct repo_inode *i, int fd, char *take_path, int flags)
{
	struct repo_file *f = xcalloc(1, sizeof *f);
	f->inode = i;
	f->fd = fd;
	f->path = take_path;
	f->document = take_path && is_document(take_path);
	f->written = flags & (O_TRUNC | O_CREAT);
	i->opens++;
	return f;
}

static void file_free(struct view *v, struct repo_file *f)
{
	close(f->fd);
	f->inode->opens--;
	if (f->path)
		engine_document_closed(v->engine, f->path);
	if (f->flushed)
		settle_closing(v, -1);
	free(f->path);
	free(f);
}

/* Data is read again at every open (no keep_cache), but how much of it the kernel takes from its cached size: a file that grew behind the mount
 * within the attributes' lifetime would be cut off. */
static void notice_change(struct view *v, struct repo_inode *i, const struct stat *st)
{
	if (repo_is_news(i, st))
		fuse_lowlevel_notify_inval_inode(v->session, (uintptr_t)i, -1, 0);
}

void repo_open_file(struct view *v, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct repo_inode *i = repo_inode(v, ino);
	_cleanup_close_ int own = -1;
	int at = repo_fd(v, i, &own);
	struct stat st;
	if (at < 0 || fstat(at, &st) < 0 || !st.st_nlink) {
		fuse_reply_err(req, at < 0 ? errno : ESTALE);
		return;
	}
	char link[FD_PATH];
	fd_path(at, link);
	/* Before the open: it may truncate, and nobody is to read the document half written. */
	char *path = writes(fi->flags) ? document_path(v, i) : NULL;
	if (path)
		engine_document_opened(v->engine, path);
	int fd = open(link, (fi->flags & ~(O_NOFOLLOW | O_DIRECT | O_CREAT | O_EXCL)) | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		int code = errno;
		if (path)
			engine_document_closed(v->engine, path);
		free(path);
		fuse_reply_err(req, code);
		return;
	}
	notice_change(v, i, &st);
	struct repo_file *f = file_new(i, fd, path, fi->flags);
	fi->fh = (uintptr_t)f;
	if (fuse_reply_open(req, fi) < 0)
		file_free(v, f);
}

static int create_new(struct view *v, fuse_req_t req, struct repo_inode *dir, const char *name, mode_t mode, int flags, struct fuse_entry_param *e)
{
	bool became = creator_become(req);
	int fd = openat(dir->fd, name, (flags & ~O_DIRECT) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode), code = errno;
	creator_end(became);
	errno = code;
	if (fd < 0)
		/* It came into being behind the kernel's back: ESTALE makes it look again, and check permissions. */
		return errno == EEXIST && !(flags & O_EXCL) ? -ESTALE : -errno;
	int rc = repo_entry(v, dir, name, e);
	if (rc) {
		unlinkat(dir->fd, name, 0);
		close(fd);
		return rc;
	}
	return fd;
}

void repo_create(struct view *v, fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct repo_inode *dir = repo_inode(v, parent);
	char *path = document_path_of(v, dir, name);
	if (path)
		engine_document_opened(v->engine, path);
	struct fuse_entry_param e = {0};
	int fd = create_new(v, req, dir, name, mode, fi->flags, &e);
	if (fd < 0) {
		if (path)
			engine_document_closed(v->engine, path);
		free(path);
		fuse_reply_err(req, -fd);
		return;
	}
	struct repo_file *f = file_new(repo_inode(v, e.ino), fd, path, fi->flags | O_CREAT);
	fi->fh = (uintptr_t)f;
	if (fuse_reply_create(req, &e, fi) < 0) {
		file_free(v, f);
		repo_forget(v, e.ino, 1);
	}
}

void repo_read(struct view *v, fuse_req_t req, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fuse_bufvec buf = FUSE_BUFVEC_INIT(size);
	buf.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	buf.buf[0].fd = file_of(fi)->fd;
	buf.buf[0].pos = off;
	fuse_reply_data(req, &buf, 0);
}

void repo_write(struct view *v, fuse_req_t req, struct fuse_bufvec *in, off_t off, struct fuse_file_info *fi)
{
	struct repo_file *f = file_of(fi);
	/* Who writes is told; found behind the mount, such a document is a problem. */
	if (f->document && off + (off_t)fuse_buf_size(in) > DOCUMENT_MAX) {
		fuse_reply_err(req, EFBIG);
		return;
	}
	f->written = true;
	if (atomic_exchange(&f->flushed, false))
		settle_closing(v, -1);
	struct fuse_bufvec out = FUSE_BUFVEC_INIT(fuse_buf_size(in));
	out.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	out.buf[0].fd = f->fd;
	out.buf[0].pos = off;
	ssize_t n = fuse_buf_copy(&out, in, 0);
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_write(req, (size_t)n);
}

void repo_flush(struct view *v, fuse_req_t req, struct fuse_file_info *fi)
{
	struct repo_file *f = file_of(fi);
	/* bash sends a FLUSH before its first WRITE, so a flush with nothing written means nothing; and a flush is not the end: the count only makes
	 * who looks at 'problems' next wait a moment for the RELEASE. */
	if (f->path && f->written && !atomic_exchange(&f->flushed, true))
		settle_closing(v, 1);
	int fd = dup(f->fd);
	fuse_reply_err(req, fd < 0 || close(fd) < 0 ? errno : 0);
}

void repo_release(struct view *v, fuse_req_t req, struct fuse_file_info *fi)
{
	file_free(v, file_of(fi));
	fuse_reply_err(req, 0);
}

void repo_fsync(struct view *v, fuse_req_t req, int datasync, struct fuse_file_info *fi)
{
	int fd = file_of(fi)->fd;
	fuse_reply_err(req, (datasync ? fdatasync(fd) : fsync(fd)) < 0 ? errno : 0);
}

void repo_fallocate(struct view *v, fuse_req_t req, int mode, off_t offset, off_t length, struct fuse_file_info *fi)
{
	const struct repo_file *f = file_of(fi);
	if (f->document && offset + length > DOCUMENT_MAX)
		fuse_reply_err(req, EFBIG);
	else
		fuse_reply_err(req, fallocate(f->fd, mode, offset, length) < 0 ? errno : 0);
}

void repo_lseek(struct view *v, fuse_req_t req, off_t off, int whence, struct fuse_file_info *fi)
{
	off_t at = lseek(file_of(fi)->fd, off, whence);
	if (at < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_lseek(req, at);
}

/* ---- attributes ---- */

static int set_times(int fd, struct fuse_file_info *fi, const struct stat *attr, int which)
{
	struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};
	if (which & FUSE_SET_ATTR_ATIME_NOW)
		t[0].tv_nsec = UTIME_NOW;
	else if (which & FUSE_SET_ATTR_ATIME)
		t[0] = attr->st_atim;
	if (which & FUSE_SET_ATTR_MTIME_NOW)
		t[1].tv_nsec = UTIME_NOW;
	else if (which & FUSE_SET_ATTR_MTIME)
		t[1] = attr->st_mtim;
	int rc = fi ? futimens(file_of(fi)->fd, t) : utimensat(fd, "", t, AT_EMPTY_PATH);
	return rc < 0 ? -errno : 0;
}

static int set_owner(int fd, const struct stat *attr, int which)
{
	uid_t uid = which & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1;
	gid_t gid = which & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1;
	return fchownat(fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int set_size(struct view *v, struct repo_inode *i, const char *link, struct fuse_file_info *fi, off_t size)
{
	_cleanup_free_ char *path = size > DOCUMENT_MAX ? document_path(v, i) : NULL;
	if (path && is_document(path))
		return -EFBIG;
	if (!fi)
		return truncate(link, size) < 0 ? -errno : 0;
	file_of(fi)->written = true;
	return ftruncate(file_of(fi)->fd, size) < 0 ? -errno : 0;
}

static int set_attr(struct view *v, struct repo_inode *i, int fd, struct fuse_file_info *fi, const struct stat *attr, int which)
{
	char link[FD_PATH];
	fd_path(fd, link);
	int rc = 0;
	if (which & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		rc = set_owner(fd, attr, which);
	if (!rc && (which & FUSE_SET_ATTR_MODE))
		rc = chmod(link, attr->st_mode & 07777) < 0 ? -errno : 0;
	if (!rc && (which & FUSE_SET_ATTR_SIZE))
		rc = set_size(v, i, link, fi, attr->st_size);
	if (!rc && (which & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW)))
		rc = set_times(fd, fi, attr, which);
	return rc;
}

void repo_setattr(struct view *v, fuse_req_t req, fuse_ino_t ino, struct stat *attr, int which, struct fuse_file_info *fi)
{
	struct repo_inode *i = repo_inode(v, ino);
	_cleanup_close_ int own = -1;
	int fd = fi ? file_of(fi)->fd : repo_fd(v, i, &own);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0 || (!st.st_nlink && !i->opens)) {
		fuse_reply_err(req, fd < 0 ? errno : ESTALE);
		return;
	}
	int rc = set_attr(v, i, fd, fi, attr, which);
	if (!rc && fstat(fd, &st) < 0)
		rc = -errno;
	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	if (which & (FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) {
		_cleanup_free_ char *path = document_path(v, i);
		if (path)
			engine_document_changed(v->engine, path);
	}
	repo_told(i, &st);
	st.st_mode = acl_mode(fd, NULL, st.st_mode);
	fuse_reply_attr(req, &st, LINGER_S);
}

/* ---- directories ---- */

struct repo_dir {
	DIR *dir;
	struct dirent *entry; /* read, and did not fit any more */
};

static void dir_free(void *listing)
{
	struct repo_dir *d = listing;
	closedir(d->dir);
	free(d);
}

/* 0, or negative errno. */
static int dir_open(struct repo_inode *i, off_t off, struct repo_dir **ret)
{
	int fd = openat(i->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		int code = errno == ENOENT ? ESTALE : errno;
		if (fd >= 0)
			close(fd);
		return -code;
	}
	if (off)
		seekdir(dir, off);
	*ret = xcalloc(1, sizeof **ret);
	(*ret)->dir = dir;
	return 0;
}

static bool is_dots(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

/* Adds one entry to buf; 0: it does not fit; negative errno. */
static ssize_t add_dirent(struct view *v, fuse_req_t req, struct repo_inode *dir, const struct dirent *entry, char *buf, size_t left, bool plus)
{
	struct fuse_entry_param e = {.attr = {.st_ino = entry->d_ino, .st_mode = (mode_t)DTTOIF(entry->d_type)}};
	size_t size;
	if (!plus) {
		size = fuse_add_direntry(req, buf, left, entry->d_name, &e.attr, entry->d_off);
		return size > left ? 0 : (ssize_t)size;
	}
	if (!is_dots(entry->d_name)) {
		int rc = repo_entry(v, dir, entry->d_name, &e);
		if (rc == -ENOENT || rc == -ENFILE || rc == -EMFILE) /* gone since, or one too many: its name alone */
			e.ino = 0;
		else if (rc)
			return rc;
	}
	size = fuse_add_direntry_plus(req, buf, left, entry->d_name, &e, entry->d_off);
	if (size <= left)
		return (ssize_t)size;
	if (e.ino)
		repo_forget(v, e.ino, 1);
	return 0;
}

void repo_readdir(struct view *v, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	struct repo_inode *i = repo_inode(v, ino);
	struct repo_dir *d = off ? listing_take(v->listings, i->key.ino, i->key.dev, off) : NULL;
	size_t used = 0;
	ssize_t rc = d ? 0 : dir_open(i, off, &d);
	if (!d) {
		fuse_reply_err(req, (int)-rc);
		return;
	}
	_cleanup_free_ char *buf = xmalloc(size);
	for (;;) {
		errno = 0;
		if (!d->entry)
			d->entry = readdir(d->dir);
		if (!d->entry) {
			rc = -errno;
			break;
		}
		rc = add_dirent(v, req, i, d->entry, buf + used, size - used, plus);
		if (rc <= 0)
			break;
		used += (size_t)rc;
		off = d->entry->d_off;
		d->entry = NULL;
	}
	/* What was looked up must reach the kernel, or its count is wrong: an error waits for the next call. */
	if (used)
		listing_keep(v->listings, i->key.ino, i->key.dev, off, d, dir_free);
	else
		dir_free(d);
	if (rc < 0 && !used)
		fuse_reply_err(req, (int)-rc);
	else
		fuse_reply_buf(req, buf, used);
}

void repo_fsyncdir(struct view *v, fuse_req_t req, fuse_ino_t ino, int datasync)
{
	int fd = openat(repo_inode(v, ino)->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fuse_reply_err(req, fd < 0 || (datasync ? fdatasync(fd) : fsync(fd)) < 0 ? errno : 0);
	if (fd >= 0)
		close(fd);
}
