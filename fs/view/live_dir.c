/* Live directories. All names are taken when a listing begins, under one lock, so that a long one is of one moment. An offset is the listing's number
 * and the place in it. */
#include "fs/base/mem.h"
#include "fs/view/internal.h"
#include <errno.h>
#include <string.h>

#define PLACE_BITS 32
#define NUMBER_BITS 31

struct live_name {
	size_t name;    /* offset in names */
	fuse_ino_t ino; /* 0: of the repo, to be looked up */
	struct stat st;
};
struct live_dir {
	struct lister lister;
	struct view *v;
	uint64_t number;
	struct buf names;
	struct live_name *items;
	size_t n, cap;
};

static void dir_free(void *listing)
{
	struct live_dir *d = listing;
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

/* NULL: the directory is gone. */
static struct live_dir *dir_list(struct view *v, fuse_ino_t ino, uint64_t number)
{
	struct place p = ino_place(ino);
	struct live_dir *d = xcalloc(1, sizeof *d);
	d->lister.add = add_child;
	d->v = v;
	d->number = number;
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
	if (there)
		return d;
	dir_free(d);
	return NULL;
}

static off_t offset_of(const struct live_dir *d, size_t at)
{
	return (off_t)(d->number << PLACE_BITS | at);
}

static size_t add_dirent(fuse_req_t req, const struct live_dir *d, size_t at, char *buf, size_t left, bool plus)
{
	const struct live_name *it = &d->items[at];
	const char *name = d->names.data + it->name;
	if (!plus)
		return fuse_add_direntry(req, buf, left, name, &it->st, offset_of(d, at + 1));
	/* Files go without their size, and so with a timeout of 0. */
	struct fuse_entry_param e = {.ino = it->ino, .attr = it->st, .entry_timeout = LINGER_S};
	e.attr_timeout = S_ISREG(it->st.st_mode) ? 0 : LINGER_S;
	return fuse_add_direntry_plus(req, buf, left, name, &e, offset_of(d, at + 1));
}

void live_readdir(struct view *v, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	struct live_dir *d = off ? listing_take(v->listings, ino, 0, off) : NULL;
	size_t at = (size_t)off & (((size_t)1 << PLACE_BITS) - 1), used = 0;
	if (!d)
		d = dir_list(v, ino, off ? (uint64_t)off >> PLACE_BITS : ++v->listing & (((uint64_t)1 << NUMBER_BITS) - 1));
	if (!d) {
		fuse_reply_err(req, ESTALE);
		return;
	}
	_cleanup_free_ char *buf = xmalloc(size);
	for (; at < d->n; at++) {
		size_t n = add_dirent(req, d, at, buf + used, size - used, plus);
		if (n > size - used)
			break;
		used += n;
	}
	if (used) {
		listing_keep(v->listings, ino, 0, offset_of(d, at), d, dir_free);
	} else {
		/* Nobody is to be shown this listing again. When this end of it arrives, the kernel takes what it has of it for whole: by then it
		 * has nothing. */
		fuse_lowlevel_notify_inval_inode(v->session, ino, 0, 0);
		dir_free(d);
	}
	fuse_reply_buf(req, buf, used);
}
