/* Renderings that look at many objects: made by a worker (or, where a plug-in is asked, by the engine's thread), once per generation of the model,
 * and shared by all who ask meanwhile. */
#include "fs/base/mem.h"
#include "fs/view/internal.h"
#include <uthash.h>

/* Texts tell how long things take, so even in a quiet model none is shown longer than this. */
#define KEEP_MS 1000
#define KEPT_MAX 64

struct waiter {
	void (*then)(struct view *v, void *arg, struct text *text);
	void *arg;
	uint64_t generation; /* asked for */
	struct waiter *next;
};
struct rendering {
	fuse_ino_t ino;
	struct view *v;
	bool busy;         /* a worker is at it; nobody else touches 'made' and 'made_generation' then */
	struct text *text; /* the last one; NULL: none, or the object is gone */
	uint64_t generation;
	int64_t made_at;
	struct text *made;
	uint64_t made_generation;
	struct waiter *waiters;
	UT_hash_handle hh;
};
struct costly {
	pthread_mutex_t lock;
	struct rendering *by_ino;
};

struct costly *costly_new(void)
{
	struct costly *c = xcalloc(1, sizeof *c);
	pthread_mutex_init(&c->lock, NULL);
	return c;
}

static void rendering_free(struct costly *c, struct rendering *r)
{
	HASH_DEL(c->by_ino, r);
	text_unref(r->text);
	text_unref(r->made);
	while (r->waiters) {
		struct waiter *w = r->waiters;
		r->waiters = w->next;
		free(w->arg);
		free(w);
	}
	free(r);
}

void costly_free(struct costly *c)
{
	if (!c)
		return;
	struct rendering *r, *next;
	HASH_ITER (hh, c->by_ino, r, next)
		rendering_free(c, r);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static void forget_old(struct costly *c)
{
	struct rendering *r, *next;
	HASH_ITER (hh, c->by_ino, r, next) {
		if (HASH_COUNT(c->by_ino) <= KEPT_MAX)
			break;
		if (!r->busy)
			rendering_free(c, r);
	}
}

static void make(void *arg)
{
	struct rendering *r = arg;
	struct place p = ino_place(r->ino);
	struct object o;
	_cleanup_buf_ struct buf out = {0};
	model_rdlock(r->v->model);
	r->made_generation = r->v->model->generation;
	int64_t at = r->v->changed_at;
	bool there = view_find(r->v, &p, &o);
	if (there)
		place_entry(r->v->names, &p)->render(&o, &out);
	model_unlock(r->v->model);
	r->made = there ? text_new(&out, at) : NULL;
}

static void made(void *arg);

static void begin(struct rendering *r)
{
	engine_work(r->v->engine, make, made, r);
}

/* Takes out who is content with what was made: nobody may get something older than his question. */
static struct waiter *take_served(struct rendering *r)
{
	struct waiter *served = NULL, **at = &r->waiters;
	while (*at) {
		struct waiter *w = *at;
		if (w->generation <= r->made_generation || !r->made) {
			*at = w->next;
			w->next = served;
			served = w;
		} else {
			at = &w->next;
		}
	}
	return served;
}

/* On the engine's thread. */
static void made(void *arg)
{
	struct rendering *r = arg;
	struct view *v = r->v;
	struct text *text = r->made;
	pthread_mutex_lock(&v->costly->lock);
	struct waiter *served = take_served(r);
	text_unref(r->text);
	r->text = text ? text_ref(text) : NULL;
	r->generation = r->made_generation;
	r->made_at = monotonic_ms();
	r->made = NULL;
	r->busy = r->waiters != NULL;
	bool again = r->busy;
	pthread_mutex_unlock(&v->costly->lock);
	if (again)
		begin(r);
	while (served) {
		struct waiter *w = served;
		served = w->next;
		w->then(v, w->arg, text ? text_ref(text) : NULL);
		free(w);
	}
	text_unref(text);
}

static struct rendering *rendering_of(struct view *v, fuse_ino_t ino)
{
	struct costly *c = v->costly;
	struct rendering *r;
	HASH_FIND(hh, c->by_ino, &ino, sizeof ino, r);
	if (r)
		return r;
	forget_old(c);
	r = xcalloc(1, sizeof *r);
	r->ino = ino;
	r->v = v;
	HASH_ADD(hh, c->by_ino, ino, sizeof r->ino, r);
	return r;
}

void costly_get(struct view *v, fuse_ino_t ino, void (*then)(struct view *v, void *arg, struct text *text), void *arg)
{
	model_rdlock(v->model);
	uint64_t generation = v->model->generation;
	model_unlock(v->model);

	pthread_mutex_lock(&v->costly->lock);
	struct rendering *r = rendering_of(v, ino);
	struct text *text = NULL;
	bool start = false;
	if (r->text && r->generation >= generation && monotonic_ms() - r->made_at < KEEP_MS) {
		text = text_ref(r->text);
	} else {
		struct waiter *w = xcalloc(1, sizeof *w);
		*w = (struct waiter){.then = then, .arg = arg, .generation = generation, .next = r->waiters};
		r->waiters = w;
		start = !r->busy;
		r->busy = true;
	}
	pthread_mutex_unlock(&v->costly->lock);
	if (text)
		then(v, arg, text);
	else if (start)
		begin(r);
}
