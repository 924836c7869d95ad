/* desired/: the repo's inodes, as libfuse's passthrough_ll keeps them. An inode stays open (O_PATH) as long as the kernel knows it, so that its
 * number cannot be given to another file meanwhile. */
#ifndef REBARFS_VIEW_REPO_H
#define REBARFS_VIEW_REPO_H

#include "fs/view/internal.h"
#include <pthread.h>
#include <stdio.h>
#include <uthash.h>

struct repo_key {
	uint64_t ino, dev;
};
struct repo_inode {
	struct repo_key key;
	_Atomic int fd;            /* -1: not held open, because too many are. Only directories always are. Once it is, it stays */
	struct repo_inode *parent; /* if not: where it was seen last; both guarded by the repo's lock, the parent counts this as a lookup */
	char *name;
	uint64_t nlookup;          /* guarded by the repo's lock */
	int wd;                    /* of its watch, guarded by the repo's lock; -1: none */
	_Atomic int opens;         /* open files of it in the mount */
	_Atomic int64_t told_size; /* what the kernel was last told, to notice changes behind the mount */
	_Atomic int64_t told_ctime_ns;
	UT_hash_handle hh;
};
struct repo {
	pthread_mutex_t lock;
	struct repo_inode *inodes; /* by key */
	struct repo_inode *root;
	size_t n_held, max_held; /* inodes that are open files here */
	bool told_full;
	struct repo_watch *watch;
	bool remote; /* somebody else may change it, of which inotify knows nothing */
};

struct repo_inode *repo_inode(struct view *v, fuse_ino_t ino);
void repo_key_of(const struct stat *st, struct repo_key *ret);
/* Looks name up and counts it; negative errno. */
int repo_entry(struct view *v, struct repo_inode *parent, const char *name, struct fuse_entry_param *ret);
void repo_told(struct repo_inode *i, const struct stat *st);
bool repo_is_news(const struct repo_inode *i, const struct stat *st); /* other than what the kernel was told */
/* A descriptor (O_PATH) of the inode, to be used and not kept; *ret_own is to be closed if it is one. -1 and errno, ESTALE when it is no longer where
 * it was. */
int repo_fd(struct view *v, struct repo_inode *i, int *ret_own);
int repo_file_fd(const struct fuse_file_info *fi); /* of an open file */
/* Before a name is taken away: who has the file open goes on with it. */
void repo_keep(struct view *v, struct repo_inode *parent, const char *name);
/* What is now called so in a directory was elsewhere before. */
void repo_moved(struct view *v, struct repo_inode *parent, const char *name);
#define FD_PATH 32
static inline void fd_path(int fd, char path[FD_PATH])
{
	snprintf(path, FD_PATH, "/proc/self/fd/%d", fd);
}
/* Path relative to the repo of an inode, or of a name in a directory; caller frees. NULL: outside, or it has none any more, or it is git's own: those
 * files are no documents, and the engine has its own eye on the few that matter. */
char *document_path(struct view *v, struct repo_inode *i);
char *document_path_of(struct view *v, struct repo_inode *dir, const char *name);
void repo_changed(struct view *v, struct repo_inode *dir, const char *name);
/* What is made between these two belongs to the caller from its first moment on; in a setgid directory the group is the directory's (creator.c). */
bool creator_become(fuse_req_t req);
void creator_end(bool became);

/* Changes behind the mount (repo_watch.c). add and remove with the repo's lock held. */
void repo_watch_add(struct repo *r, struct repo_inode *dir);
void repo_watch_remove(struct repo *r, struct repo_inode *dir);
/* What is told of a watched directory is taken back when it changes, so it may be kept for long: if nothing came since the mark, which is to be taken
 * before looking. Seconds; lock not held. */
#define LINGER_WATCHED_S 10.0 /* all the same: a change through mmap(2), or through a hard link elsewhere, is told to nobody */
unsigned repo_watch_mark(struct repo *r);
double repo_watch_linger(struct repo *r, struct repo_inode *dir, unsigned mark);

#endif
