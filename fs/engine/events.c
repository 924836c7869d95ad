/* Events: one line for everything that happened, and who wanted it. The last EVENTS_KEPT are in memory, the store keeps the same. */
#include "fs/base/redact.h"
#include "fs/engine/internal.h"
#include <stdarg.h>

static void event_release(struct event *ev)
{
	free(ev->deployment);
	free(ev->node);
	free(ev->role);
	free(ev->who);
	free(ev->text);
}

const struct event *model_event(const struct model *m, int64_t seq)
{
	if (seq < m->first_seq || seq >= m->next_seq)
		return NULL;
	return &m->events[seq % EVENTS_KEPT];
}

void event_add(struct engine *e, const struct deployment *d, const struct node *n, const struct node_role *nr, const char *who, const char *fmt, ...)
{
	struct model *m = &e->m;
	if (nr && !n)
		n = nr->node;
	if (n && !d)
		d = n->deployment;

	struct event *ev = &m->events[m->next_seq % EVENTS_KEPT];
	if (m->next_seq - m->first_seq >= EVENTS_KEPT) {
		event_release(ev);
		m->first_seq++;
	}
	struct buf text = {0};
	va_list ap;
	va_start(ap, fmt);
	buf_vaddf(&text, fmt, ap);
	va_end(ap);
	redact(e->redactor, text.data, text.len);
	*ev = (struct event){
	        .seq = m->next_seq++,
	        .at = now_ms(),
	        .deployment = d ? xstrdup(d->row.name) : NULL,
	        .node = n ? xstrdup(n->row.name) : NULL,
	        .role = nr ? xstrdup(nr->row.role) : NULL,
	        .who = xstrdup(who ? who : "rebarfs"),
	        .text = buf_detach(&text, NULL),
	};
	struct row_event row = {ev->seq, ev->at, ev->deployment, ev->node, ev->role, ev->who, ev->text};
	store_put_event(engine_batch(e), &row);
	e->changed = true;
}
