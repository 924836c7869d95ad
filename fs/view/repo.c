#include "fs/base/acl.h"
#include "fs/view/repo.h"
#include "fs/base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static char *path_under(const char *repo, const char *path)
{
	size_t n = strlen(repo);
	if (strncmp(path, repo, n) || (path[n] != '/' && path[n]))
		return NULL;
	return xstrdup(path[n] ? path + n + 1 : "");
}

static char *repo_path(struct view *v, struct repo_inode *i)
{
	char link[FD_PATH], path[PATH_MAX];
	_cleanup_close_ int own = -1;
	int fd = repo_fd(v, i, &own);
	fd_path(fd, link);
	ssize_t n = fd < 0 ? -1 : readlink(link, path, sizeof path - 1);
	if (n < 0)
		return NULL;
	path[n] = 0;
	static const char deleted[] = " (deleted)";
	size_t tail = sizeof deleted - 1;
	struct stat st;
	if ((size_t)n > tail && !strcmp(path + n - tail, deleted) && (fstat(fd, &st) < 0 || !st.st_nlink))
		return NULL;
	return path_under(v->repo, path);
}

static bool is_gits(const char *path)
{
	return !strncmp(path, ".git", 4) && (!path[4] || path[4] == '/');
}

char *document_path(struct view *v, struct repo_inode *i)
{
	char *path = repo_path(v, i);
	if (path && is_gits(path)) {
		free(path);
		return NULL;
	}
	return path;
}

char *document_path_of(struct view *v, struct repo_inode *dir, const char *name)
{
	_cleanup_free_ char *parent = document_path(v, dir);
	if (!parent || (!*parent && is_gits(name)))
		return NULL;
	return *parent ? xasprintf("%s/%s", parent, name) : xstrdup(name);
}

void repo_changed(struct view *v, struct repo_inode *dir, const char *name)
{
	_cleanup_free_ char *path = document_path_of(v, dir, name);
	if (path)
		engine_document_changed(v->engine, path);
}

void repo_root_entry(struct view *v, struct fuse_entry_param *ret)
{
	struct repo *r = v->desired;
	struct stat st = {0};
	fstat(r->root->fd, &st);
	st.st_mode = acl_mode(r->root->fd, NULL, st.st_mode);
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

void repo_getattr(struct view *v, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct repo_inode *i = repo_inode(v, ino);
	_cleanup_close_ int own = -1;
	int fd = fi ? repo_file_fd(fi) : repo_fd(v, i, &own);
	unsigned mark = repo_watch_mark(v->desired);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0) {
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
	st.st_mode = acl_mode(fd, NULL, st.st_mode);
	fuse_reply_attr(req, &st, S_ISDIR(st.st_mode) ? repo_watch_linger(v->desired, i, mark) : LINGER_S);
}

void repo_readlink(struct view *v, fuse_req_t req, fuse_ino_t ino)
{
	char target[PATH_MAX + 1];
	_cleanup_close_ int own = -1;
	int fd = repo_fd(v, repo_inode(v, ino), &own);
	ssize_t n = fd < 0 ? -1 : readlinkat(fd, "", target, sizeof target);
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
	repo_keep(v, dir, name);
	int rc = unlinkat(dir->fd, name, flags) < 0 ? errno : 0;
	if (!rc)
		repo_changed(v, dir, name);
	fuse_reply_err(req, rc);
}

void repo_rename(struct view *v, fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname, unsigned flags)
{
	struct repo_inode *from = repo_inode(v, parent), *to = repo_inode(v, newparent);
	repo_keep(v, to, newname);
	int rc = renameat2(from->fd, name, to->fd, newname, flags) < 0 ? errno : 0;
	if (!rc) {
		repo_moved(v, to, newname);
		if (flags & RENAME_EXCHANGE)
			repo_moved(v, from, name);
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
	_cleanup_close_ int own = -1;
	int fd = repo_fd(v, i, &own);
	fd_path(fd, path);
	int rc = fd < 0 ? -errno : linkat(AT_FDCWD, path, dir->fd, newname, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
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
	_cleanup_close_ int own = -1;
	int fd = repo_fd(v, i, &own);
	struct statvfs st;
	if (fd < 0 || fstatvfs(fd, &st) < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_statfs(req, &st);
}
