/* What the files of the view share. Locks here are leaves: nothing is called under them, and none is held while calling libfuse or the engine. */
#ifndef REBARFS_VIEW_INTERNAL_H
#define REBARFS_VIEW_INTERNAL_H

#include "fs/view/entries.h"
#include "fs/view/view.h"
#include <fuse_lowlevel.h>
#include <stdatomic.h>

struct view {
	struct engine *engine;
	struct model *model;
	struct fuse_session *session;
	const char *repo, *mountpoint, *state_dir;
	bool mounted;
	uint64_t mount_id; /* as in /proc/self/mountinfo; 0: not known */
	struct names *names;
	struct owner repo_owner;       /* who owns what no document stands behind */
	struct repo *desired;          /* repo.c */
	struct open_files *open_files; /* live.c */
	struct told *told;             /* told.c */
	struct listings *listings;     /* listing.c */
	_Atomic uint64_t listing;      /* the number of the last one of a live directory */
	bool opens_dirs;               /* the kernel can open directories without asking */
	struct costly *costly;         /* costly.c */
	struct streams *streams;       /* stream.c */
	struct refusals *refusals;     /* refuse.c */
	struct stores *stores;         /* store.c */
	struct settles *settles;       /* settle.c */
	_Atomic int64_t changed_at;    /* when the engine last published: what live files show as their time */
};

#define LINGER_S 1.0 /* how long the kernel may keep entries, and attributes of what changes only by documents */

/* ---- the repo (repo.c, repo_file.c) ---- */

struct repo;
int repo_open(struct view *v, struct repo **ret, struct err **err);
void repo_close(struct repo *r);
void repo_watch_start(struct view *v);                              /* once mounted */
void repo_watch_stop(struct view *v);                               /* once unmounted: only that frees a notification which waits for a request */
void repo_root_entry(struct view *v, struct fuse_entry_param *ret); /* one more lookup of desired/ */
void repo_lookup(struct view *v, fuse_req_t req, fuse_ino_t parent, const char *name);
void repo_forget(struct view *v, fuse_ino_t ino, uint64_t nlookup);
void repo_getattr(struct view *v, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void repo_setattr(struct view *v, fuse_req_t req, fuse_ino_t ino, struct stat *attr, int which, struct fuse_file_info *fi);
void repo_readlink(struct view *v, fuse_req_t req, fuse_ino_t ino);
void repo_mknod(struct view *v, fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev, const char *link);
void repo_remove(struct view *v, fuse_req_t req, fuse_ino_t parent, const char *name, int flags);
void repo_rename(struct view *v, fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname, unsigned flags);
void repo_link(struct view *v, fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname);
void repo_create(struct view *v, fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void repo_open_file(struct view *v, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void repo_read(struct view *v, fuse_req_t req, size_t size, off_t off, struct fuse_file_info *fi);
void repo_write(struct view *v, fuse_req_t req, struct fuse_bufvec *in, off_t off, struct fuse_file_info *fi);
void repo_flush(struct view *v, fuse_req_t req, struct fuse_file_info *fi);
void repo_release(struct view *v, fuse_req_t req, struct fuse_file_info *fi);
void repo_fsync(struct view *v, fuse_req_t req, int datasync, struct fuse_file_info *fi);
void repo_fallocate(struct view *v, fuse_req_t req, int mode, off_t offset, off_t length, struct fuse_file_info *fi);
void repo_lseek(struct view *v, fuse_req_t req, off_t off, int whence, struct fuse_file_info *fi);
void repo_readdir(struct view *v, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus);
void repo_fsyncdir(struct view *v, fuse_req_t req, fuse_ino_t ino, int datasync);
void repo_statfs(struct view *v, fuse_req_t req, fuse_ino_t ino);

/* ---- live files (live.c, live_dir.c) ---- */

/* Bytes rendered once and shared by all who opened them. */
struct text {
	_Atomic int refs;
	int64_t at; /* ms since the epoch, when what it shows was published */
	size_t len;
	char *data;
};
struct text *text_new(struct buf *take, int64_t at);
struct text *text_ref(struct text *t);
void text_unref(struct text *t); /* takes NULL */

struct stream;
struct live_file { /* an open live file: fi->fh */
	fuse_ino_t ino;
	struct text *text;     /* a snapshot */
	struct stream *stream; /* or a stream */
	_Atomic int log_fd;    /* or a log: -1 while there is none yet */
	_Atomic int64_t log_run;
	bool is_log;
	bool append;
	_Atomic bool stored; /* a write came already */
};

struct open_files *open_files_new(void);
void open_files_free(struct open_files *o);

void live_lookup(struct view *v, fuse_req_t req, fuse_ino_t parent, const char *name);
void live_getattr(struct view *v, fuse_req_t req, fuse_ino_t ino);
void live_setattr(struct view *v, fuse_req_t req, fuse_ino_t ino, int which);
void live_readlink(struct view *v, fuse_req_t req, fuse_ino_t ino);
void live_open(struct view *v, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void live_read(struct view *v, fuse_req_t req, size_t size, off_t off, struct fuse_file_info *fi);
void live_release(struct view *v, fuse_req_t req, struct fuse_file_info *fi);
void live_readdir(struct view *v, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus);
void live_changed(struct view *v); /* on the engine's thread, before it answers anybody */
/* What stat() shows of a place, but for a file's size; model lock held. */
void live_stat(struct view *v, const struct object *o, const struct place *p, struct stat *st);
bool view_find(struct view *v, const struct place *p, struct object *ret); /* object_find with all that the view knows; model lock held */

/* ---- listings under way (listing.c) ---- */

struct listings *listings_new(void);
void listings_free(struct listings *l);
/* The listing of a directory that was kept for this offset, for the caller to keep again or to end; NULL: none. */
void *listing_take(struct listings *l, uint64_t ino, uint64_t dev, off_t at);
void listing_keep(struct listings *l, uint64_t ino, uint64_t dev, off_t at, void *listing, void (*end)(void *listing));

/* ---- what the kernel may keep of short files (told.c) ---- */

enum { TOLD_MAX = 256, TOLD_TEXT_MAX = 24 };
#define TOLD_MS 2000 /* longer than LINGER_S by what a reply may take to arrive */
struct told *told_new(void);
void told_free(struct told *t);
/* Model lock held. false: no room, or too long: the kernel must not keep it. *at: the time to tell; becomes the one told before, if nothing changed.
 */
bool told_keep(struct told *t, fuse_ino_t ino, const struct stat *st, const struct buf *text, int64_t *at);
/* true: the kernel keeps something else, which is forgotten here and has to be there. st NULL: the file is gone. */
bool told_differs(struct told *t, fuse_ino_t ino, const struct stat *st, const struct buf *text);
size_t told_list(struct told *t, fuse_ino_t ret[TOLD_MAX]);

/* ---- blocking reads (stream.c): everything but stream_open happens on the engine's thread ---- */

struct streams *streams_new(struct view *v);
void streams_free(struct streams *s);
/* 'wait' of a deployment, or events.follow with deployment id 0. Model lock not held. */
struct stream *stream_open(struct view *v, int64_t deployment_id);
void stream_read(struct view *v, fuse_req_t req, struct stream *s, size_t size);
void stream_poll(struct view *v, fuse_req_t req, struct stream *s, struct fuse_pollhandle *ph);
void stream_release(struct view *v, struct stream *s);
void streams_changed(struct view *v);
void streams_fail(struct view *v); /* any thread but the engine's; returns when all blocked readers have their error */

/* ---- costly renderings (costly.c) ---- */

struct costly *costly_new(void);
void costly_free(struct costly *c);
/* then() gets a reference to the text, or NULL when the object is gone. At once, on this thread, or later on the engine's; no lock is held. */
void costly_get(struct view *v, fuse_ino_t ino, void (*then)(struct view *v, void *arg, struct text *text), void *arg);

/* ---- who opens sees his own change (settle.c) ---- */

struct settles *settles_new(void);
void settles_free(struct settles *s);
void settle_then(struct view *v, void (*then)(void *arg), void *arg); /* on the engine's thread */
void settles_changed(struct view *v);
/* Counts documents that were written and closed, but whose RELEASE has not come yet. */
void settle_closing(struct view *v, int delta);

/* ---- refusals (refuse.c) ---- */

struct refusals *refusals_new(void);
void refusals_free(struct refusals *r);
/* The view's own last refusal for an object; copied under a lock into ret, caller releases. false: none. */
bool refusal_of(struct view *v, const struct place *p, struct refusal *ret);
void refusal_release(struct refusal *r);
/* Each replies: EINVAL; EACCES for a file that takes no writes; EPERM for a name that somebody would make or remove in a live directory. Locks. */
void refuse_store(struct view *v, fuse_req_t req, const struct place *p, const char *why);
void refuse_read_only(struct view *v, fuse_req_t req, const struct place *p);
void refuse_name(struct view *v, fuse_req_t req, fuse_ino_t dir, const char *name);

/* ---- stores (store.c) ---- */

struct stores *stores_new(void);
void stores_free(struct stores *s);  /* those under way were answered or never will be */
void stores_changed(struct view *v); /* engine's thread */
void store_write(struct view *v, fuse_req_t req, const char *data, size_t size, off_t off, struct fuse_file_info *fi);

#endif
