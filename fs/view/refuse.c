/* Refusals of the view's own, which never reach the engine: each fails with a number, and the directory's 'refused' says what to do instead. */
#include "fs/base/mem.h"
#include "fs/view/internal.h"
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>

struct refused {
	fuse_ino_t object; /* place of the object's directory */
	struct refusal r;
	UT_hash_handle hh;
};
struct refusals {
	pthread_mutex_t lock;
	struct refused *by_object;
};

struct refusals *refusals_new(void)
{
	struct refusals *r = xcalloc(1, sizeof *r);
	pthread_mutex_init(&r->lock, NULL);
	return r;
}

void refusal_release(struct refusal *r)
{
	free(r->who);
	free(r->file);
	free(r->why);
}

void refusals_free(struct refusals *r)
{
	if (!r)
		return;
	struct refused *it, *next;
	HASH_ITER (hh, r->by_object, it, next) {
		HASH_DEL(r->by_object, it);
		refusal_release(&it->r);
		free(it);
	}
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* The directory of a run has no 'refused': its node role's tells. */
static fuse_ino_t object_ino(const struct place *p)
{
	struct place object = {.kind = p->kind == PLACE_RUN ? PLACE_NODE_ROLE : p->kind, .id = p->id};
	return place_ino(&object);
}

bool refusal_of(struct view *v, const struct place *p, struct refusal *ret)
{
	fuse_ino_t ino = object_ino(p);
	struct refused *it;
	pthread_mutex_lock(&v->refusals->lock);
	HASH_FIND(hh, v->refusals->by_object, &ino, sizeof ino, it);
	if (it)
		*ret = (struct refusal){.at = it->r.at, .who = xstrdup(it->r.who), .file = xstrdup(it->r.file), .why = xstrdup(it->r.why)};
	pthread_mutex_unlock(&v->refusals->lock);
	return it;
}

/* As the engine names who stored something. */
static char *caller_name(const struct fuse_ctx *caller)
{
	char names[1024], comm[32] = "", path[64];
	struct passwd pw, *found = NULL;
	getpwuid_r(caller->uid, &pw, names, sizeof names, &found);
	_cleanup_free_ char *user = found ? xstrdup(pw.pw_name) : xasprintf("uid %u", caller->uid);
	snprintf(path, sizeof path, "/proc/%d/comm", caller->pid);
	FILE *f = fopen(path, "re");
	if (f && fgets(comm, sizeof comm, f))
		comm[strcspn(comm, "\n")] = 0;
	if (f)
		fclose(f);
	return *comm ? xasprintf("%s (%s %d)", user, comm, caller->pid) : xstrdup(user);
}

/* The row whose directory a place is in, or is. */
static const struct entry *row_of(struct view *v, const struct place *p)
{
	struct place row = {.kind = p->kind, .row = p->row, .id = p->id};
	return place_entry(v->names, &row);
}

/* Path from the object's directory; name: what would be made or removed there, or NULL. */
static char *path_below(struct view *v, const struct place *p, const char *name)
{
	const struct entry *row = row_of(v, p);
	bool named = p->name && p->kind != PLACE_RUN;
	const char *parts[] = {
	        row ? row->name : NULL, named ? names_first(v->names, p->name) : NULL, named ? names_second(v->names, p->name) : NULL, name};
	struct buf b = {0};
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		if (parts[i])
			buf_addf(&b, "%s%s", b.len ? "/" : "", parts[i]);
	/* sections are written with dots in the mount */
	for (size_t i = 0; named && i < b.len - (name ? strlen(name) : 0); i++)
		if (b.data[i] == ' ')
			b.data[i] = '.';
	return buf_detach(&b, NULL);
}

static void keep(struct view *v, fuse_req_t req, const struct place *p, const char *name, const char *why)
{
	fuse_ino_t ino = object_ino(p);
	struct refusal r = {.at = now_ms(), .who = caller_name(fuse_req_ctx(req)), .file = path_below(v, p, name), .why = xstrdup(why)};
	struct refused *it;
	pthread_mutex_lock(&v->refusals->lock);
	HASH_FIND(hh, v->refusals->by_object, &ino, sizeof ino, it);
	if (!it) {
		it = xcalloc(1, sizeof *it);
		it->object = ino;
		HASH_ADD(hh, v->refusals->by_object, object, sizeof it->object, it);
	}
	refusal_release(&it->r);
	it->r = r;
	pthread_mutex_unlock(&v->refusals->lock);
}

void refuse_store(struct view *v, fuse_req_t req, const struct place *p, const char *why)
{
	keep(v, req, p, NULL, why);
	fuse_reply_err(req, EINVAL);
}

void refuse_read_only(struct view *v, fuse_req_t req, const struct place *p)
{
	keep(v, req, p, NULL, "this file only shows: verbs are written to 'ctl', values to files under 'desired'");
	fuse_reply_err(req, EACCES);
}

/* What an editor tries beside a file before it writes in place is nobody's wish. */
static bool is_leftover(const char *name)
{
	size_t len = strlen(name);
	return *name == '.' || *name == '#' || (len && name[len - 1] == '~') || !strcmp(name, "4913");
}

/* Where that is said which a directory shows. */
static char *name_advice(struct view *v, const struct place *dir, const char *name)
{
	const struct entry *e = row_of(v, dir);
	if (dir->kind == PLACE_ROOT && e && !strcmp(e->name, "nodes"))
		return xasprintf("nodes are described by the groups of deployments, or in 'desired/nodes/%s/node.ini'", name);
	if (dir->kind == PLACE_ROOT && e && e->find)
		return xasprintf("what stands here is described elsewhere: write or remove 'desired/%s/%s/%.*s.ini'", e->name, name,
		        (int)strlen(e->name) - 1, e->name);
	if (!e || e->file != &setting_file)
		return xstrdup("names are fixed here: 'ctl' acts on what exists, documents under 'desired' at the root say what should");
	struct object o;
	model_rdlock(v->model);
	const char *document = view_find(v, dir, &o) ? object_document(&o) : NULL;
	char *advice = xasprintf("keys come and go with their lines in '%s%s'", document ? "desired/" : "the document", document ? document : "");
	model_unlock(v->model);
	return advice;
}

void refuse_name(struct view *v, fuse_req_t req, fuse_ino_t dir, const char *name)
{
	struct place p = ino_place(dir);
	if (!is_leftover(name)) {
		_cleanup_free_ char *why = name_advice(v, &p, name);
		keep(v, req, &p, name, why);
	}
	fuse_reply_err(req, EPERM);
}
