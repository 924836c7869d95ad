#include "fs/view/repo.h"
#include "fs/base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

struct repo_inode *repo_inode(struct view *v, fuse_ino_t ino)
{
	return (struct repo_inode *)(uintptr_t)ino;
}

int repo_open(struct view *v, struct repo **ret, struct err **err)
{
	int fd = open(v->repo, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0) {
		int code = errno;
		if (fd >= 0)
			close(fd);
		return err_errno(err, code, "cannot open the repo '%s'", v->repo);
	}
	struct repo *r = xcalloc(1, sizeof *r);
	pthread_mutex_init(&r->lock, NULL);
	r->root = xcalloc(1, sizeof *r->root);
	r->root->fd = fd;
	r->root->wd = -1;
	repo_key_of(&st, &r->root->key);
	r->root->nlookup = 1; /* ours */
	HASH_ADD(hh, r->inodes, key, sizeof r->root->key, r->root);
	v->repo_owner = (struct owner){st.st_uid, st.st_gid, 0644};
	*ret = r;
	return 0;
}

void repo_close(struct repo *r)
{
	if (!r)
		return;
	struct repo_inode *i, *next;
	HASH_ITER (hh, r->inodes, i, next) {
		HASH_DEL(r->inodes, i);
		close(i->fd);
		free(i);
	}
	pthread_mutex_destroy(&r->lock);
	free(r);
}

void repo_fd_path(const struct repo_inode *i, char path[FD_PATH])
{
	snprintf(path, FD_PATH, "/proc/self/fd/%d", i->fd);
}

static char *path_under(const char *repo, const char *path)
{
	size_t n = strlen(repo);
	if (strncmp(path, repo, n) || (path[n] != '/' && path[n]))
		return NULL;
	return xstrdup(path[n] ? path + n + 1 : "");
}

static char *repo_path(struct view *v, const struct repo_inode *i)
{
	char link[FD_PATH], path[PATH_MAX];
	repo_fd_path(i, link);
	ssize_t n = readlink(link, path, sizeof path - 1);
	if (n < 0)
		return NULL;
	path[n] = 0;
	static const char deleted[] = " (deleted)";
	size_t tail = sizeof deleted - 1;
	struct stat st;
	if ((size_t)n > tail && !strcmp(path + n - tail, deleted) && (fstat(i->fd, &st) < 0 || !st.st_nlink))
		return NULL;
	return path_under(v->repo, path);
}

static bool is_gits(const char *path)
{
	return !strncmp(path, ".git", 4) && (!path[4] || path[4] == '/');
}

char *document_path(struct view *v, const struct repo_inode *i)
{
	char *path = repo_path(v, i);
	if (path && is_gits(path)) {
		free(path);
		return NULL;
	}
	return path;
}

char *document_path_of(struct view *v, const struct repo_inode *dir, const char *name)
{
	_cleanup_free_ char *parent = document_path(v, dir);
	if (!parent || (!*parent && is_gits(name)))
		return NULL;
	return *parent ? xasprintf("%s/%s", parent, name) : xstrdup(name);
}

void repo_changed(struct view *v, const struct repo_inode *dir, const char *name)
{
	_cleanup_free_ char *path = document_path_of(v, dir, name);
	if (path)
		engine_document_changed(v->engine, path);
}

void repo_told(struct repo_inode *i, const struct stat *st)
{
	i->told_size = st->st_size;
	i->told_mtime_ns = st->st_mtim.tv_sec * 1000000000ll + st->st_mtim.tv_nsec;
}

bool repo_is_news(const struct repo_inode *i, const struct stat *st)
{
	return i->told_size != st->st_size || i->told_mtime_ns != st->st_mtim.tv_sec * 1000000000ll + st->st_mtim.tv_nsec;
}

void repo_key_of(const struct stat *st, struct repo_key *ret)
{
	memset(ret, 0, sizeof *ret); /* it is hashed byte by byte */
	ret->ino = st->st_ino;
	ret->dev = st->st_dev;
}

static struct repo_inode *inode_get(struct repo *r, const struct stat *st)
{
	struct repo_key key;
	struct repo_inode *i;
	repo_key_of(st, &key);
	HASH_FIND(hh, r->inodes, &key, sizeof key, i);
	if (i)
		i->nlookup++;
	return i;
}

static struct repo_inode *inode_find(struct repo *r, const struct stat *st)
{
	pthread_mutex_lock(&r->lock);
	struct repo_inode *i = inode_get(r, st);
	pthread_mutex_unlock(&r->lock);
	return i;
}

/* Takes fd. Somebody else may have been quicker. */
static struct repo_inode *inode_add(struct repo *r, int fd, const struct stat *st, bool watch)
{
	pthread_mutex_lock(&r->lock);
	struct repo_inode *i = inode_get(r, st);
	if (!i) {
		i = xcalloc(1, sizeof *i);
		i->fd = fd;
		i->wd = -1;
		repo_key_of(st, &i->key);
		i->nlookup = 1;
		HASH_ADD(hh, r->inodes, key, sizeof i->key, i);
		fd = -1;
	}
	if (watch)
		repo_watch_add(r, i);
	pthread_mutex_unlock(&r->lock);
	if (fd >= 0)
		close(fd);
	return i;
}

int repo_entry(struct view *v, struct repo_inode *parent, const char *name, struct fuse_entry_param *ret)
{
	struct stat st;
	if (fstatat(parent->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	/* An inode we hold open cannot have given its number away: finding the number is finding the file. */
	struct repo_inode *i = inode_find(v->desired, &st);
	if (!i) {
		int fd = openat(parent->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0) {
			int code = errno;
			if (fd >= 0)
				close(fd);
			return -code;
		}
		_cleanup_free_ char *path = S_ISDIR(st.st_mode) ? document_path_of(v, parent, name) : NULL;
		i = inode_add(v->desired, fd, &st, path != NULL);
	}
	repo_told(i, &st);
	*ret = (struct fuse_entry_param){.ino = (uintptr_t)i, .attr = st, .attr_timeout = LINGER_S, .entry_timeout = LINGER_S};
	return 0;
}

void repo_root_entry(struct view *v, struct fuse_entry_param *ret)
{
	struct repo *r = v->desired;
	struct stat st = {0};
	fstat(r->root->fd, &st);
	pthread_mutex_lock(&r->lock);
	r->root->nlookup++;
	pthread_mutex_unlock(&r->lock);
	*ret = (struct fuse_entry_param){.ino = (uintptr_t)r->root, .attr = st, .attr_timeout = LINGER_S, .entry_timeout = LINGER_S};
}

void repo_lookup(struct view *v, fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e;
	int rc = repo_entry(v, repo_inode(v, parent), name, &e);
	if (rc < 0)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_entry(req, &e);
}

void repo_forget(struct view *v, fuse_ino_t ino, uint64_t nlookup)
{
	struct repo *r = v->desired;
	struct repo_inode *i = repo_inode(v, ino);
	pthread_mutex_lock(&r->lock);
	bool last = i->nlookup <= nlookup;
	i->nlookup -= last ? i->nlookup : nlookup;
	if (last) {
		repo_watch_remove(r, i);
		HASH_DEL(r->inodes, i);
	}
	pthread_mutex_unlock(&r->lock);
	if (last) {
		close(i->fd);
		free(i);
	}
}

void repo_getattr(struct view *v, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct repo_inode *i = repo_inode(v, ino);
	struct stat st;
	if (fstat(i->fd, &st) < 0) {
		fuse_reply_err(req, errno);
		return;
	}
	/* Somebody behind the mount put another file under this name: ESTALE makes the kernel look the name up again. Who has the old one open may go
	 * on. */
	if (!st.st_nlink && !i->opens) {
		fuse_reply_err(req, ESTALE);
		return;
	}
	repo_told(i, &st);
	fuse_reply_attr(req, &st, LINGER_S);
}

void repo_readlink(struct view *v, fuse_req_t req, fuse_ino_t ino)
{
	char target[PATH_MAX + 1];
	ssize_t n = readlinkat(repo_inode(v, ino)->fd, "", target, sizeof target);
	if (n < 0) {
		fuse_reply_err(req, errno);
	} else if ((size_t)n == sizeof target) {
		fuse_reply_err(req, ENAMETOOLONG);
	} else {
		target[n] = 0;
		fuse_reply_readlink(req, target);
	}
}

static int make_node(int dirfd, const char *name, mode_t mode, dev_t rdev, const char *link)
{
	int rc;
	if (link)
		rc = symlinkat(link, dirfd, name);
	else if (S_ISDIR(mode))
		rc = mkdirat(dirfd, name, mode);
	else
		rc = mknodat(dirfd, name, mode, rdev);
	return rc < 0 ? -errno : 0;
}

void repo_mknod(struct view *v, fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev, const char *link)
{
	struct repo_inode *dir = repo_inode(v, parent);
	struct fuse_entry_param e;
	bool became = creator_become(req);
	int rc = make_node(dir->fd, name, mode, rdev, link);
	creator_end(became);
	if (!rc) {
		rc = repo_entry(v, dir, name, &e);
		if (rc)
			unlinkat(dir->fd, name, S_ISDIR(mode) && !link ? AT_REMOVEDIR : 0);
	}
	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	repo_changed(v, dir, name);
	fuse_reply_entry(req, &e);
}

void repo_remove(struct view *v, fuse_req_t req, fuse_ino_t parent, const char *name, int flags)
{
	struct repo_inode *dir = repo_inode(v, parent);
	int rc = unlinkat(dir->fd, name, flags) < 0 ? errno : 0;
	if (!rc)
		repo_changed(v, dir, name);
	fuse_reply_err(req, rc);
}

void repo_rename(struct view *v, fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname, unsigned flags)
{
	struct repo_inode *from = repo_inode(v, parent), *to = repo_inode(v, newparent);
	int rc = renameat2(from->fd, name, to->fd, newname, flags) < 0 ? errno : 0;
	if (!rc) {
		repo_changed(v, from, name);
		repo_changed(v, to, newname);
	}
	fuse_reply_err(req, rc);
}

void repo_link(struct view *v, fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct repo_inode *i = repo_inode(v, ino), *dir = repo_inode(v, newparent);
	struct fuse_entry_param e;
	char path[FD_PATH];
	repo_fd_path(i, path);
	int rc = linkat(AT_FDCWD, path, dir->fd, newname, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
	if (!rc)
		rc = repo_entry(v, dir, newname, &e);
	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	repo_changed(v, dir, newname);
	fuse_reply_entry(req, &e);
}

void repo_statfs(struct view *v, fuse_req_t req, fuse_ino_t ino)
{
	struct repo_inode *i = ino_is_live(ino) ? v->desired->root : repo_inode(v, ino);
	struct statvfs st;
	if (fstatvfs(i->fd, &st) < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_statfs(req, &st);
}
