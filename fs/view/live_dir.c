/* Live directories. All names are taken at opendir, under one lock, so that a long listing is of one moment. */
#include "fs/base/mem.h"
#include "fs/view/internal.h"
#include <errno.h>
#include <string.h>

struct live_name {
	size_t name;    /* offset in names */
	fuse_ino_t ino; /* 0: of the repo, to be looked up */
	struct stat st;
};
struct live_dir {
	struct lister lister;
	struct view *v;
	struct buf names;
	struct live_name *items;
	size_t n, cap;
};

static struct live_dir *dir_of(const struct fuse_file_info *fi)
{
	return (struct live_dir *)(uintptr_t)fi->fh;
}

static void dir_free(struct live_dir *d)
{
	buf_release(&d->names);
	free(d->items);
	free(d);
}

static void dir_add(struct live_dir *d, const char *name, fuse_ino_t ino, const struct stat *st)
{
	GROW(d->items, d->n, d->cap);
	d->items[d->n++] = (struct live_name){.name = d->names.len, .ino = ino, .st = *st};
	buf_add(&d->names, name, strlen(name) + 1);
}

static void add_child(struct lister *l, const char *name, const struct place *p)
{
	struct live_dir *d = (struct live_dir *)l;
	const struct entry *e = place_entry(d->v->names, p);
	struct object o;
	struct stat st;
	if (!view_find(d->v, p, &o))
		return;
	live_stat(d->v, &o, p, &st);
	if (S_ISLNK(st.st_mode)) {
		_cleanup_buf_ struct buf link = {0};
		place_link(&o, &link);
		st.st_size = (off_t)link.len;
	}
	dir_add(d, name, e && (e->flags & ENTRY_REPO) ? 0 : place_ino(p), &st);
}

void live_opendir(struct view *v, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct place p = ino_place(ino);
	struct live_dir *d = xcalloc(1, sizeof *d);
	d->lister.add = add_child;
	d->v = v;
	struct object o;
	struct stat st;
	model_rdlock(v->model);
	bool there = view_find(v, &p, &o);
	if (there) {
		live_stat(v, &o, &p, &st);
		dir_add(d, ".", 0, &st);
		dir_add(d, "..", 0, &st);
		place_list(&o, &p, &d->lister);
	}
	model_unlock(v->model);
	fi->fh = (uintptr_t)d;
	if (!there)
		fuse_reply_err(req, ESTALE);
	if (!there || fuse_reply_open(req, fi) < 0)
		dir_free(d);
}

static size_t add_dirent(fuse_req_t req, const struct live_dir *d, size_t at, char *buf, size_t left, bool plus)
{
	const struct live_name *it = &d->items[at];
	const char *name = d->names.data + it->name;
	if (!plus)
		return fuse_add_direntry(req, buf, left, name, &it->st, (off_t)at + 1);
	/* Files go without their size, and so with a timeout of 0. */
	struct fuse_entry_param e = {.ino = it->ino, .attr = it->st, .entry_timeout = LINGER_S};
	e.attr_timeout = S_ISREG(it->st.st_mode) ? 0 : LINGER_S;
	return fuse_add_direntry_plus(req, buf, left, name, &e, (off_t)at + 1);
}

void live_readdir(struct view *v, fuse_req_t req, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
	const struct live_dir *d = dir_of(fi);
	_cleanup_free_ char *buf = xmalloc(size);
	size_t used = 0;
	for (size_t i = (size_t)off; i < d->n; i++) {
		size_t n = add_dirent(req, d, i, buf + used, size - used, plus);
		if (n > size - used)
			break;
		used += n;
	}
	fuse_reply_buf(req, buf, used);
}

void live_releasedir(fuse_req_t req, struct fuse_file_info *fi)
{
	dir_free(dir_of(fi));
	fuse_reply_err(req, 0);
}
