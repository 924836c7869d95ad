/* The repo's inodes that the kernel knows. Each is held open as long as that, while there are not too many. */
#include "fs/base/acl.h"
#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "fs/view/repo.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/vfs.h>

struct repo_inode *repo_inode(struct view *v, fuse_ino_t ino)
{
	return (struct repo_inode *)(uintptr_t)ino;
}

static bool is_remote(int fd)
{
	static const long types[] = {NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, SMB2_SUPER_MAGIC, CIFS_SUPER_MAGIC, V9FS_MAGIC, CEPH_SUPER_MAGIC,
	        CODA_SUPER_MAGIC, AFS_FS_MAGIC, OCFS2_SUPER_MAGIC, FUSE_SUPER_MAGIC};
	struct statfs fs;
	bool remote = fstatfs(fd, &fs) < 0;
	for (size_t i = 0; !remote && i < sizeof types / sizeof *types; i++)
		remote = (uint32_t)fs.f_type == (uint32_t)types[i];
	return remote;
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
	struct rlimit files = {.rlim_cur = 1024};
	getrlimit(RLIMIT_NOFILE, &files);
	r->max_held = files.rlim_cur / 4 * 3;
	pthread_mutex_init(&r->lock, NULL);
	r->root = xcalloc(1, sizeof *r->root);
	r->root->fd = fd;
	r->root->wd = -1;
	r->remote = is_remote(fd);
	repo_key_of(&st, &r->root->key);
	r->root->nlookup = 1; /* ours */
	HASH_ADD(hh, r->inodes, key, sizeof r->root->key, r->root);
	v->repo_owner = (struct owner){st.st_uid, st.st_gid, 0644};
	*ret = r;
	return 0;
}

static void inode_free(struct repo_inode *i)
{
	if (i->fd >= 0)
		close(i->fd);
	free(i->name);
	free(i);
}

void repo_close(struct repo *r)
{
	if (!r)
		return;
	struct repo_inode *i, *next;
	HASH_ITER (hh, r->inodes, i, next) {
		HASH_DEL(r->inodes, i);
		inode_free(i);
	}
	pthread_mutex_destroy(&r->lock);
	free(r);
}

int repo_fd(struct view *v, struct repo_inode *i, int *ret_own)
{
	struct repo *r = v->desired;
	struct stat st;
	if (i->fd >= 0)
		return i->fd;
	pthread_mutex_lock(&r->lock);
	_cleanup_free_ char *name = xstrdup(i->name);
	struct repo_inode *parent = i->parent;
	parent->nlookup++;
	pthread_mutex_unlock(&r->lock);
	int fd = openat(parent->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	repo_forget(v, (uintptr_t)parent, 1);
	struct repo_key key = {0};
	if (fd >= 0 && fstat(fd, &st) == 0)
		repo_key_of(&st, &key);
	if (fd >= 0 && memcmp(&key, &i->key, sizeof key)) {
		close(fd);
		fd = -1;
		errno = ENOENT;
	}
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		errno = ESTALE; /* the kernel looks again */
	*ret_own = fd;
	return fd;
}

void repo_told(struct repo_inode *i, const struct stat *st)
{
	i->told_size = st->st_size;
	i->told_ctime_ns = st->st_ctim.tv_sec * 1000000000ll + st->st_ctim.tv_nsec;
}

bool repo_is_news(const struct repo_inode *i, const struct stat *st)
{
	return i->told_size != st->st_size || i->told_ctime_ns != st->st_ctim.tv_sec * 1000000000ll + st->st_ctim.tv_nsec;
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

/* Lock held. A part of the files that may be open is left to those who read, to the engine and to its connections; a part of the rest to directories,
 * through which all others are found. */
static bool may_hold(struct repo *r, bool dir)
{
	return r->n_held < (dir ? r->max_held : r->max_held / 2);
}

/* Lock held. */
static void set_place(struct repo_inode *i, struct repo_inode *parent, const char *name)
{
	if (i->parent != parent) {
		parent->nlookup++; /* what i->parent was lost is for the caller to forget */
		i->parent = parent;
	}
	str_replace(&i->name, name);
}

/* Where an inode that is not held was seen: the last place counts. */
static void inode_seen(struct view *v, struct repo_inode *i, struct repo_inode *parent, const char *name)
{
	struct repo *r = v->desired;
	if (i->fd >= 0)
		return;
	pthread_mutex_lock(&r->lock);
	struct repo_inode *before = i->parent;
	set_place(i, parent, name);
	bool moved = before && before != parent;
	pthread_mutex_unlock(&r->lock);
	if (moved)
		repo_forget(v, (uintptr_t)before, 1);
}

void repo_keep(struct view *v, struct repo_inode *parent, const char *name)
{
	struct repo *r = v->desired;
	struct stat st;
	if (fstatat(parent->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	struct repo_inode *i = inode_find(r, &st);
	if (!i)
		return;
	int own = -1;
	if (i->opens && i->fd < 0 && repo_fd(v, i, &own) >= 0) {
		pthread_mutex_lock(&r->lock);
		if (i->fd < 0) {
			i->fd = own;
			r->n_held++;
			own = -1;
		}
		pthread_mutex_unlock(&r->lock);
		if (own >= 0)
			close(own);
	}
	repo_forget(v, (uintptr_t)i, 1);
}

void repo_moved(struct view *v, struct repo_inode *parent, const char *name)
{
	struct stat st;
	if (fstatat(parent->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	struct repo_inode *i = inode_find(v->desired, &st);
	if (!i)
		return;
	inode_seen(v, i, parent, name);
	repo_forget(v, (uintptr_t)i, 1);
}

/* Takes fd; -1: not to be held. Somebody else may have been quicker. */
static struct repo_inode *inode_add(struct view *v, int fd, const struct stat *st, struct repo_inode *parent, const char *name, bool watch)
{
	struct repo *r = v->desired;
	pthread_mutex_lock(&r->lock);
	struct repo_inode *i = inode_get(r, st);
	if (!i) {
		i = xcalloc(1, sizeof *i);
		i->fd = fd;
		i->wd = -1;
		repo_key_of(st, &i->key);
		i->nlookup = 1;
		r->n_held += fd >= 0;
		if (fd < 0)
			set_place(i, parent, name);
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

static int no_room(struct repo *r)
{
	pthread_mutex_lock(&r->lock);
	bool tell = !r->told_full;
	r->told_full = true;
	pthread_mutex_unlock(&r->lock);
	if (tell)
		log_msg(LOG_WARN,
		        "%zu directories and files of the repo are open, and no more can be: raise the limit (ulimit -Hn), then mount again",
		        r->max_held);
	return -ENFILE;
}

static int inode_new(struct view *v, struct repo_inode *parent, const char *name, struct stat *st, struct repo_inode **ret)
{
	struct repo *r = v->desired;
	bool dir = S_ISDIR(st->st_mode);
	pthread_mutex_lock(&r->lock);
	bool hold = may_hold(r, dir);
	pthread_mutex_unlock(&r->lock);
	if (!hold && dir)
		return no_room(r);
	int fd = hold ? openat(parent->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;
	if (hold && (fd < 0 || fstat(fd, st) < 0)) {
		int code = errno ? errno : EIO;
		if (fd >= 0)
			close(fd);
		return -code;
	}
	_cleanup_free_ char *path = dir ? document_path_of(v, parent, name) : NULL;
	*ret = inode_add(v, fd, st, parent, name, path != NULL);
	return 0;
}

int repo_entry(struct view *v, struct repo_inode *parent, const char *name, struct fuse_entry_param *ret)
{
	struct stat st;
	unsigned mark = repo_watch_mark(v->desired);
	if (fstatat(parent->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	/* An inode we hold open cannot have given its number away: finding the number is finding the file. */
	struct repo_inode *i = inode_find(v->desired, &st);
	int rc = i ? 0 : inode_new(v, parent, name, &st, &i);
	if (!i)
		return rc;
	inode_seen(v, i, parent, name);
	double linger = repo_watch_linger(v->desired, parent, mark);
	*ret = (struct fuse_entry_param){.ino = (uintptr_t)i, .attr = st, .entry_timeout = linger};
	if (S_ISDIR(st.st_mode)) {
		/* What happens in it its own watch tells, which may be younger than what was seen above. */
		fstat(i->fd, &ret->attr);
		ret->attr_timeout = repo_watch_linger(v->desired, i, mark);
	} else {
		ret->attr_timeout = st.st_nlink > 1 ? LINGER_S : linger; /* no watch tells what is done to it under another name */
	}
	repo_told(i, &ret->attr);
	ret->attr.st_mode = acl_mode(parent->fd, name, ret->attr.st_mode);
	return 0;
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
		r->n_held -= i->fd >= 0;
	}
	pthread_mutex_unlock(&r->lock);
	struct repo_inode *parent = last ? i->parent : NULL;
	if (last)
		inode_free(i);
	if (parent) /* a directory is held, and has none itself */
		repo_forget(v, (uintptr_t)parent, 1);
}
