/* Stores: one write() at offset 0 is one store. It fails in write(), the only place where a shell notices. */
#include "fs/base/mem.h"
#include "fs/view/internal.h"
#include <errno.h>
#include <string.h>

#define STORE_MAX 65536

/* Stores under way belong to the engine's thread. The reply waits until the wish is durable, and a disk that is full can make that long: then, and
 * only then, a signal ends the waiting. Else it would not be told from a write that failed, by programs that take signals all the time. */
struct store_call {
	struct view *v;
	struct write_request *w;
	fuse_req_t req;
	size_t size;
	uint64_t number;
	bool interrupted, answered;
	struct store_call *next;
};
struct stores {
	struct store_call *list;
	uint64_t last_number;
};

struct stores *stores_new(void)
{
	return xcalloc(1, sizeof(struct stores));
}

static void write_free(struct write_request *w)
{
	free(w->section);
	free(w->key);
	free(w->text);
	free(w->data);
	free(w);
}

static void stored(struct write_request *w, int rc, const struct err *err)
{
	struct store_call *c = w->data, **at = &c->v->stores->list;
	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	if (c->answered)
		;
	else if (rc < 0)
		fuse_reply_err(c->req, -rc);
	else
		fuse_reply_write(c->req, c->size);
	write_free(w);
}

void stores_free(struct stores *s)
{
	if (!s)
		return;
	while (s->list) {
		struct store_call *c = s->list;
		s->list = c->next;
		write_free(c->w);
	}
	free(s);
}

void stores_changed(struct view *v)
{
	bool any = false, trouble;
	for (struct store_call *c = v->stores->list; c; c = c->next)
		any |= c->interrupted && !c->answered;
	if (!any)
		return;
	model_rdlock(v->model);
	trouble = v->model->trouble;
	model_unlock(v->model);
	for (struct store_call *c = v->stores->list; trouble && c; c = c->next)
		if (c->interrupted && !c->answered) {
			c->answered = true;
			fuse_reply_err(c->req, EINTR);
		}
}

struct interrupt {
	struct view *v;
	uint64_t number;
};

static void on_interrupt(struct engine *e, void *arg)
{
	struct interrupt *i = arg;
	for (struct store_call *c = i->v->stores->list; c; c = c->next)
		if (c->number == i->number)
			c->interrupted = true;
	stores_changed(i->v);
	free(i);
}

static void interrupted(fuse_req_t req, void *data)
{
	struct view *v = fuse_req_userdata(req);
	engine_post(v->engine, on_interrupt, xmemdup(&(struct interrupt){v, (uint64_t)(uintptr_t)data}, sizeof(struct interrupt)));
}

static void begin(struct engine *e, void *arg)
{
	struct store_call *c = arg;
	struct stores *all = c->v->stores;
	c->number = ++all->last_number;
	c->next = all->list;
	all->list = c;
	fuse_req_interrupt_func(c->req, interrupted, (void *)(uintptr_t)c->number);
	engine_write(e, c->w);
}

static const char *objection(const struct live_file *f, const struct entry *e, const char *data, size_t size, off_t off)
{
	size_t line = size && data[size - 1] == '\n' ? size - 1 : size;
	if (size > STORE_MAX)
		return "more than 64 KiB: a value is one line";
	if (memchr(data, '\n', line))
		return "more than one line: one write is one store of one line";
	if (memchr(data, 0, line))
		return "a byte 0 in it: a value is one line of text";
	/* What a shell appends to a ctl is a verb like any other; its offset is the size of the list of verbs */
	if (f->append && e->store != store_verb)
		return "appending (>>): a value is replaced, not added to; use >";
	if (f->append ? f->stored : off > 0)
		return "a second write: one open file takes one store of one line; open it again for the next";
	if (!line && e->store == store_verb)
		return "an empty line: read ctl for the verbs there are";
	return NULL;
}

void store_write(struct view *v, fuse_req_t req, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct live_file *f = (struct live_file *)(uintptr_t)fi->fh;
	struct place p = ino_place(f->ino);
	const struct entry *e = place_entry(v->names, &p);
	if (!e || !e->store) {
		fuse_reply_err(req, EACCES);
		return;
	}
	if (!size) {
		fuse_reply_write(req, 0);
		return;
	}
	const char *why = objection(f, e, data, size, off);
	if (why) {
		refuse_store(v, req, &p, why);
		return;
	}
	f->stored = true;
	const struct fuse_ctx *caller = fuse_req_ctx(req);
	struct write_request *w = xcalloc(1, sizeof *w);
	*w = (struct write_request){.uid = caller->uid, .gid = caller->gid, .pid = caller->pid, .done = stored};
	size_t line = data[size - 1] == '\n' ? size - 1 : size;
	w->text = xstrndup(data, line);
	struct store_call *call = w->data = xcalloc(1, sizeof *call);
	*call = (struct store_call){.v = v, .w = w, .req = req, .size = size};
	struct object o;
	model_rdlock(v->model);
	bool there = view_find(v, &p, &o);
	if (there)
		e->store(&o, w);
	model_unlock(v->model);
	w->unset = w->key && !line;
	if (there) {
		engine_post(v->engine, begin, call);
	} else {
		write_free(w);
		fuse_reply_err(req, ESTALE);
	}
}
