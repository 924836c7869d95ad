/* Who opens 'plan', 'wait', 'problems' or 'status' sees his own change. The engine settles what it was told of; but a document counts as written when
 * its writer's RELEASE arrives, which the kernel sends after close(2) has returned and which another thread may still be carrying. So who was seen
 * flushing after a write is waited for, for a moment only: a shell with the file open on another descriptor flushes too, and keeps it open as long as
 * it likes. */
#include "fs/base/mem.h"
#include "fs/view/internal.h"
#include <pthread.h>

#define RELEASE_WAIT_MS 50

struct settle {
	void (*then)(void *arg);
	void *arg;
	struct view *v;
	int64_t until;
	struct settle *next;
};
struct settles {
	_Atomic int closing;
	_Atomic bool waiting;
	struct settle *list; /* engine's thread */
};

struct settles *settles_new(void)
{
	return xcalloc(1, sizeof(struct settles));
}

void settles_free(struct settles *s)
{
	if (!s)
		return;
	while (s->list) {
		struct settle *it = s->list;
		s->list = it->next;
		free(it->arg);
		free(it);
	}
	free(s);
}

static void settled(void *arg)
{
	struct settle *it = arg;
	it->then(it->arg);
	free(it);
}

void settles_changed(struct view *v)
{
	struct settles *s = v->settles;
	bool quiet = s->closing <= 0;
	int64_t now = monotonic_ms();
	struct settle **at = &s->list;
	while (*at) {
		struct settle *it = *at;
		if (!quiet && now < it->until) {
			at = &it->next;
			continue;
		}
		*at = it->next;
		engine_settle(v->engine, settled, it);
	}
	s->waiting = s->list != NULL;
	if (s->list)
		engine_poke_in(v->engine, s->list->until - now);
}

static void begin(struct engine *e, void *arg)
{
	struct settle *it = arg;
	it->next = it->v->settles->list;
	it->v->settles->list = it;
	settles_changed(it->v);
}

void settle_then(struct view *v, void (*then)(void *arg), void *arg)
{
	struct settle *it = xcalloc(1, sizeof *it);
	*it = (struct settle){.then = then, .arg = arg, .v = v, .until = monotonic_ms() + RELEASE_WAIT_MS};
	engine_post(v->engine, begin, it);
}

static void kick(struct engine *e, void *arg)
{
	settles_changed(arg);
}

void settle_closing(struct view *v, int delta)
{
	if (atomic_fetch_add(&v->settles->closing, delta) + delta <= 0 && v->settles->waiting)
		engine_post(v->engine, kick, v);
}
