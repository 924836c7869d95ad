/* Live files: attributes, open, read. A live file is a snapshot taken at open, and stat() tells its real size. */
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "fs/view/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>

#define KEPT_MAX (64 << 20)

/* ---- bytes rendered once ---- */

struct text *text_new(struct buf *take, int64_t at)
{
	struct text *t = xcalloc(1, sizeof *t);
	t->refs = 1;
	t->at = at;
	t->data = buf_detach(take, &t->len);
	return t;
}

struct text *text_ref(struct text *t)
{
	t->refs++;
	return t;
}

void text_unref(struct text *t)
{
	if (t && !--t->refs) {
		free(t->data);
		free(t);
	}
}

/* ---- what is open: while a file is, its size is that of its newest snapshot, because fstat carries no handle and a reader that was told 54 bytes
 * and then gets 60 (tar) or 50 (rsync) loses data ---- */

struct open_file {
	fuse_ino_t ino;
	unsigned count;
	size_t size;
	int64_t at;
	int64_t log_run;
	UT_hash_handle hh;
};
struct open_files {
	pthread_mutex_t lock;
	struct open_file *by_ino;
};

struct open_files *open_files_new(void)
{
	struct open_files *o = xcalloc(1, sizeof *o);
	pthread_mutex_init(&o->lock, NULL);
	return o;
}

void open_files_free(struct open_files *o)
{
	if (!o)
		return;
	struct open_file *f, *next;
	HASH_ITER (hh, o->by_ino, f, next) {
		HASH_DEL(o->by_ino, f);
		free(f);
	}
	pthread_mutex_destroy(&o->lock);
	free(o);
}

static void opened(struct view *v, const struct live_file *lf)
{
	struct open_files *o = v->open_files;
	pthread_mutex_lock(&o->lock);
	struct open_file *f;
	HASH_FIND(hh, o->by_ino, &lf->ino, sizeof lf->ino, f);
	if (!f) {
		f = xcalloc(1, sizeof *f);
		f->ino = lf->ino;
		HASH_ADD(hh, o->by_ino, ino, sizeof f->ino, f);
	}
	f->count++;
	if (lf->text) {
		f->size = lf->text->len;
		f->at = lf->text->at;
	}
	f->log_run = lf->log_run;
	pthread_mutex_unlock(&o->lock);
}

static void closed(struct view *v, const struct live_file *lf)
{
	struct open_files *o = v->open_files;
	pthread_mutex_lock(&o->lock);
	struct open_file *f;
	HASH_FIND(hh, o->by_ino, &lf->ino, sizeof lf->ino, f);
	if (f && !--f->count) {
		HASH_DEL(o->by_ino, f);
		free(f);
	}
	pthread_mutex_unlock(&o->lock);
}

static bool open_file_of(struct view *v, fuse_ino_t ino, struct open_file *ret)
{
	struct open_files *o = v->open_files;
	pthread_mutex_lock(&o->lock);
	struct open_file *f;
	HASH_FIND(hh, o->by_ino, &ino, sizeof ino, f);
	if (f)
		*ret = *f;
	pthread_mutex_unlock(&o->lock);
	return f;
}

/* ---- attributes ---- */

bool view_find(struct view *v, const struct place *p, struct object *ret)
{
	return object_find(v->model, v->names, v->state_dir, p, ret);
}

static void set_time(struct stat *st, int64_t ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	st->st_mtim = st->st_ctim = st->st_atim = t;
}

void live_stat(struct view *v, const struct object *o, const struct place *p, struct stat *st)
{
	mode_t mode = place_mode(v->names, p);
	const struct entry *e = place_entry(v->names, p);
	struct owner owner;
	place_owner(o, e, mode, &v->repo_owner, &owner);
	*st = (struct stat){
	        .st_ino = place_stat_ino(v->names, p), .st_mode = owner.mode, .st_uid = owner.uid, .st_gid = owner.gid, .st_blksize = 4096};
	st->st_nlink = S_ISDIR(mode) ? 2 : 1;
	/* A directory's time stands still: tar calls a directory whose time moved while it read it an error. */
	set_time(st, e && e->time ? e->time(o) : S_ISREG(mode) ? v->changed_at : v->model->started);
}

static double attr_timeout(const struct stat *st)
{
	/* tar and rsync believe the size of fstat: of what changes by itself the kernel must not keep it for an instant */
	return S_ISREG(st->st_mode) ? 0 : LINGER_S;
}

void live_lookup(struct view *v, fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct place dir = ino_place(parent), p;
	struct object o, child;
	struct fuse_entry_param e = {.entry_timeout = LINGER_S};
	bool repo = false, found = false;
	model_rdlock(v->model);
	bool there = view_find(v, &dir, &o);
	if (there && place_child(&o, &dir, name, &p)) {
		const struct entry *row = place_entry(v->names, &p);
		repo = row && (row->flags & ENTRY_REPO);
		found = view_find(v, &p, &child);
		if (found)
			live_stat(v, &child, &p, &e.attr);
		if (found && S_ISLNK(e.attr.st_mode)) {
			_cleanup_buf_ struct buf link = {0};
			place_link(&child, &link);
			e.attr.st_size = (off_t)link.len;
		}
	}
	model_unlock(v->model);
	if (!found) {
		fuse_reply_err(req, there ? ENOENT : ESTALE);
		return;
	}
	if (repo) {
		repo_root_entry(v, &e);
	} else {
		e.ino = place_ino(&p);
		/* The size is not rendered here: with a timeout of 0 the kernel asks for attributes before it uses them. */
		e.attr_timeout = attr_timeout(&e.attr);
	}
	fuse_reply_entry(req, &e);
}

static void run_path(struct view *v, int64_t run, const char *name, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/runs/%" PRId64 "/%s", v->state_dir, run, name);
}

/* What was not kept is null, which no document that was kept can be. */
static void read_kept(struct view *v, int64_t run, const char *name, struct buf *out)
{
	char path[PATH_MAX];
	run_path(v, run, name, path);
	if (file_read(AT_FDCWD, path, KEPT_MAX, out, NULL) < 0) {
		out->len = 0;
		buf_adds(out, "null\n");
	}
}

static void log_stat(const char *path, struct stat *st)
{
	struct stat file;
	if (!*path || stat(path, &file) < 0)
		return;
	st->st_size = file.st_size;
	st->st_mtim = st->st_ctim = st->st_atim = file.st_mtim;
}

static void reply_attr(fuse_req_t req, struct stat *st, double timeout)
{
	st->st_blocks = (st->st_size + 511) / 512;
	fuse_reply_attr(req, st, timeout);
}

struct getattr_call {
	fuse_req_t req;
	struct stat st;
};

static void getattr_rendered(struct view *v, void *arg, struct text *text)
{
	struct getattr_call *c = arg;
	if (text) {
		c->st.st_size = (off_t)text->len;
		set_time(&c->st, text->at);
		reply_attr(c->req, &c->st, 0);
	} else {
		fuse_reply_err(c->req, ESTALE);
	}
	text_unref(text);
	free(c);
}

static void getattr_costly(struct view *v, fuse_req_t req, fuse_ino_t ino, const struct stat *st)
{
	struct getattr_call *c = xcalloc(1, sizeof *c);
	c->req = req;
	c->st = *st;
	costly_get(v, ino, getattr_rendered, c);
}

/* The view keeps refusals of its own; o borrows them for the time of a rendering. */
static void with_refusal(struct view *v, const struct place *p, struct object *o, struct refusal *keep)
{
	if (refusal_of(v, p, keep))
		o->refused = keep;
}

static void render(struct view *v, const struct entry *e, const struct place *p, struct object *o, struct buf *out)
{
	struct refusal refused = {0};
	if (e->render == render_refused)
		with_refusal(v, p, o, &refused);
	if (e->render)
		e->render(o, out);
	o->refused = NULL;
	refusal_release(&refused);
}

/* Everything about a place in one visit to the model. out: rendered into unless the row is rendered elsewhere or out is NULL. */
struct visit {
	bool there;
	const struct entry *entry; /* NULL: no file */
	struct stat st;
	int64_t log_run, deployment_id;
	char log[PATH_MAX]; /* of an ENTRY_LOG: the file; "" while there is none */
	bool kept;          /* the kernel may keep these attributes */
	int64_t at;         /* and the time to tell with them */
};

/* keep: the attributes are for the kernel. */
static void visit(struct view *v, const struct place *p, struct buf *out, bool keep, struct visit *ret)
{
	*ret = (struct visit){.at = v->changed_at};
	_cleanup_buf_ struct buf path = {0};
	struct object o;
	model_rdlock(v->model);
	ret->there = view_find(v, p, &o);
	if (ret->there) {
		live_stat(v, &o, p, &ret->st);
		ret->entry = place_entry(v->names, p);
		if (ret->entry && (ret->entry->flags & (ENTRY_LOG | ENTRY_KEPT)) && !ret->entry->render)
			ret->log_run = object_run(&o);
		if (ret->entry && (ret->entry->flags & ENTRY_LOG) && ret->entry->render)
			ret->entry->render(&o, &path);
		if (o.deployment)
			ret->deployment_id = o.deployment->row.id;
		if (S_ISLNK(ret->st.st_mode) && out)
			place_link(&o, out);
		else if (out && ret->entry && !(ret->entry->flags & (ENTRY_STREAM | ENTRY_LOG | ENTRY_KEPT | ENTRY_COSTLY)))
			render(v, ret->entry, p, &o, out);
		if (keep && out && ret->entry && (ret->entry->flags & ENTRY_TOLD))
			ret->kept = told_keep(v->told, place_ino(p), &ret->st, out, &ret->at);
	}
	model_unlock(v->model);
	if (path.len)
		snprintf(ret->log, sizeof ret->log, "%s", buf_str(&path));
	else if (ret->log_run)
		run_path(v, ret->log_run, "log", ret->log);
	if (out && ret->entry && (ret->entry->flags & ENTRY_KEPT))
		read_kept(v, ret->log_run, ret->entry->name, out);
}

void live_getattr(struct view *v, fuse_req_t req, fuse_ino_t ino)
{
	struct place p = ino_place(ino);
	struct open_file open_now;
	bool is_open = open_file_of(v, ino, &open_now);
	_cleanup_buf_ struct buf out = {0};
	struct visit at;
	visit(v, &p, is_open ? NULL : &out, true, &at);
	/* Opened meanwhile: from now on it is the size of the snapshot that counts, which may be older. */
	if (at.kept && open_file_of(v, ino, &open_now))
		is_open = true;
	if (!at.there) {
		fuse_reply_err(req, ESTALE);
		return;
	}
	unsigned flags = at.entry ? at.entry->flags : 0;
	if (flags & ENTRY_LOG) {
		if (is_open && open_now.log_run)
			run_path(v, open_now.log_run, "log", at.log);
		log_stat(at.log, &at.st);
	} else if (is_open && S_ISREG(at.st.st_mode) && open_now.at) {
		at.st.st_size = (off_t)open_now.size;
		if (!at.entry || !at.entry->time)
			set_time(&at.st, open_now.at);
	} else if (flags & ENTRY_COSTLY) {
		getattr_costly(v, req, ino, &at.st);
		return;
	} else {
		if (is_open && !out.len) /* for writing only: nothing was rendered for who has it open */
			visit(v, &p, &out, false, &at);
		at.st.st_size = (off_t)out.len;
		if (at.kept)
			set_time(&at.st, at.at);
	}
	reply_attr(req, &at.st, at.kept && !is_open ? LINGER_S : attr_timeout(&at.st));
}

/* Sizes and times are set by shells and editors around a store (O_TRUNC, truncate, touch): accepted, and without effect. */
void live_setattr(struct view *v, fuse_req_t req, fuse_ino_t ino, int which)
{
	if (which & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		fuse_reply_err(req, EPERM);
	else
		live_getattr(v, req, ino);
}

void live_readlink(struct view *v, fuse_req_t req, fuse_ino_t ino)
{
	struct place p = ino_place(ino);
	_cleanup_buf_ struct buf out = {0};
	struct visit at;
	visit(v, &p, &out, false, &at);
	if (!at.there || !out.len)
		fuse_reply_err(req, ESTALE);
	else
		fuse_reply_readlink(req, buf_str(&out));
}

/* ---- open ---- */

struct open_call {
	struct view *v;
	fuse_req_t req;
	fuse_ino_t ino;
	struct fuse_file_info fi;
	unsigned flags; /* of the row */
};

static void live_file_free(struct view *v, struct live_file *f)
{
	text_unref(f->text);
	if (f->stream)
		stream_release(v, f->stream);
	if (f->log_fd >= 0)
		close(f->log_fd);
	free(f);
}

static struct live_file *live_file_new(fuse_ino_t ino)
{
	struct live_file *f = xcalloc(1, sizeof *f);
	f->ino = ino;
	f->log_fd = -1;
	return f;
}

/* told: attributes of a file that the kernel may keep some of, else NULL. */
static void open_done(struct view *v, fuse_req_t req, struct fuse_file_info *fi, struct live_file *f, const struct stat *told)
{
	fi->fh = (uintptr_t)f;
	fi->direct_io = 1;
	fi->noflush = 1;
	fi->nonseekable = f->stream != NULL;
	f->append = fi->flags & O_APPEND;
	opened(v, f);
	if (told) {
		/* After opened(), so that whoever asks from here on is told of this snapshot. */
		const struct buf text = {.data = f->text->data, .len = f->text->len};
		if (told_differs(v->told, f->ino, told, &text))
			fuse_lowlevel_notify_inval_inode(v->session, f->ino, -1, 0);
	}
	if (fuse_reply_open(req, fi) == 0)
		return;
	/* The caller was interrupted: there will be no release */
	closed(v, f);
	live_file_free(v, f);
}

static void open_rendered(struct view *v, void *arg, struct text *text)
{
	struct open_call *c = arg;
	if (text) {
		struct live_file *f = live_file_new(c->ino);
		f->text = text;
		open_done(v, c->req, &c->fi, f, NULL);
	} else {
		fuse_reply_err(c->req, ESTALE);
	}
	free(c);
}

/* A log that was opened before its first run, or before that run wrote anything, is looked for again at every read. */
static void open_log(struct view *v, struct live_file *f)
{
	if (f->log_fd >= 0)
		return;
	char path[PATH_MAX] = "";
	if (f->log_run) {
		run_path(v, f->log_run, "log", path);
	} else {
		struct place p = ino_place(f->ino);
		struct visit at;
		visit(v, &p, NULL, false, &at);
		f->log_run = at.log_run;
		memcpy(path, at.log, sizeof path);
	}
	int fd = *path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1, none = -1;
	if (fd >= 0 && !atomic_compare_exchange_strong(&f->log_fd, &none, fd))
		close(fd); /* another reader of the same file was quicker */
}

/* On a FUSE thread, or after settling on the engine's. */
static void open_now(struct view *v, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct place p = ino_place(ino);
	bool reads = (fi->flags & O_ACCMODE) != O_WRONLY;
	_cleanup_buf_ struct buf out = {0};
	struct visit at;
	visit(v, &p, reads ? &out : NULL, false, &at);
	if (!at.there || !at.entry) {
		fuse_reply_err(req, ESTALE);
		return;
	}
	if (reads && (at.entry->flags & ENTRY_COSTLY)) {
		struct open_call *c = xcalloc(1, sizeof *c);
		*c = (struct open_call){.v = v, .req = req, .ino = ino, .fi = *fi};
		costly_get(v, ino, open_rendered, c);
		return;
	}
	struct live_file *f = live_file_new(ino);
	if (at.entry->flags & ENTRY_STREAM) {
		f->stream = stream_open(v, at.deployment_id);
	} else if (at.entry->flags & ENTRY_LOG) {
		f->is_log = true;
		f->log_run = at.log_run;
		open_log(v, f);
	} else if (reads) {
		f->text = text_new(&out, v->changed_at);
	}
	open_done(v, req, fi, f, f->text && (at.entry->flags & ENTRY_TOLD) ? &at.st : NULL);
}

static void open_settled(void *arg)
{
	struct open_call *c = arg;
	open_now(c->v, c->req, c->ino, &c->fi);
	free(c);
}

void live_open(struct view *v, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct place p = ino_place(ino);
	const struct entry *e = place_entry(v->names, &p);
	if (!e || !S_ISREG(e->mode)) {
		fuse_reply_err(req, e ? EISDIR : ESTALE);
		return;
	}
	if (((fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & O_TRUNC)) && !e->store) {
		refuse_read_only(v, req, &p);
		return;
	}
	if (!(e->flags & ENTRY_SETTLE)) {
		open_now(v, req, ino, fi);
		return;
	}
	struct open_call *c = xcalloc(1, sizeof *c);
	*c = (struct open_call){.v = v, .req = req, .ino = ino, .fi = *fi};
	settle_then(v, open_settled, c);
}

void live_changed(struct view *v)
{
	fuse_ino_t inos[TOLD_MAX];
	size_t n = told_list(v->told, inos);
	for (size_t i = 0; i < n; i++) {
		struct place p = ino_place(inos[i]);
		_cleanup_buf_ struct buf text = {0};
		struct visit at;
		visit(v, &p, &text, false, &at);
		if (told_differs(v->told, inos[i], at.there ? &at.st : NULL, &text))
			fuse_lowlevel_notify_inval_inode(v->session, inos[i], -1, 0);
	}
}

/* ---- read ---- */

static void read_log(struct view *v, fuse_req_t req, struct live_file *f, size_t size, off_t off)
{
	open_log(v, f); /* the run may have begun since */
	if (f->log_fd < 0) {
		fuse_reply_buf(req, NULL, 0);
		return;
	}
	struct fuse_bufvec buf = FUSE_BUFVEC_INIT(size);
	buf.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	buf.buf[0].fd = f->log_fd;
	buf.buf[0].pos = off;
	fuse_reply_data(req, &buf, 0);
}

void live_read(struct view *v, fuse_req_t req, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct live_file *f = (struct live_file *)(uintptr_t)fi->fh;
	if (f->stream) {
		stream_read(v, req, f->stream, size);
	} else if (f->is_log) {
		read_log(v, req, f, size, off);
	} else if (!f->text || (size_t)off >= f->text->len) {
		fuse_reply_buf(req, NULL, 0);
	} else {
		/* Ours, not the file's: its RELEASE may come before writev has returned here. */
		struct text *t = text_ref(f->text);
		size_t left = t->len - (size_t)off;
		fuse_reply_buf(req, t->data + off, size < left ? size : left);
		text_unref(t);
	}
}

void live_release(struct view *v, fuse_req_t req, struct fuse_file_info *fi)
{
	struct live_file *f = (struct live_file *)(uintptr_t)fi->fh;
	closed(v, f);
	live_file_free(v, f);
	fuse_reply_err(req, 0);
}
