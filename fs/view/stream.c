/* Reads that block: 'wait' and 'events.follow'. A blocked reader is a request kept in a list and costs no thread. All of it belongs to the engine's
 * thread, which alone replies: FUSE threads post what arrives, an interrupt posts the number of its request and nothing else (its callback runs with
 * the request's lock held, sometimes after the reply). */
#include "fs/base/mem.h"
#include "fs/view/internal.h"
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#define STORED_MS 5 /* until it is asked again whether the end of a deployment is durable: who is told of it may look into the database */

struct stream {
	struct view *v;
	int64_t deployment_id; /* 0: all events */
	char *deployment;      /* its name */
	bool begun, ended, reached;
	int64_t cursor;  /* the next event to show */
	struct buf text; /* not yet read */
	struct fuse_pollhandle *ph;
	struct stream *next;
};
struct parked { /* a read that waits */
	uint64_t number;
	fuse_req_t req;
	struct stream *stream;
	size_t size;
	struct parked *next;
};
struct streams {
	struct stream *open; /* those that were read or polled */
	struct parked *parked;
	uint64_t last_number;
	bool closed;
};

struct streams *streams_new(struct view *v)
{
	return xcalloc(1, sizeof(struct streams));
}

static void stream_free(struct stream *s)
{
	if (s->ph)
		fuse_pollhandle_destroy(s->ph);
	buf_release(&s->text);
	free(s->deployment);
	free(s);
}

void streams_free(struct streams *s)
{
	if (!s)
		return;
	while (s->open) {
		struct stream *it = s->open;
		s->open = it->next;
		stream_free(it);
	}
	while (s->parked) {
		struct parked *p = s->parked;
		s->parked = p->next;
		free(p);
	}
	free(s);
}

struct stream *stream_open(struct view *v, int64_t deployment_id)
{
	struct stream *s = xcalloc(1, sizeof *s);
	s->v = v;
	s->deployment_id = deployment_id;
	model_rdlock(v->model);
	s->cursor = v->model->next_seq;
	const struct deployment *d = model_deployment_id(v->model, deployment_id);
	s->deployment = xstrdup(d ? d->row.name : deployment_id ? "deployment" : NULL);
	model_unlock(v->model);
	return s;
}

/* ---- what there is to read ---- */

static void add_stamp(struct buf *out)
{
	time_t now = (time_t)(now_ms() / 1000);
	struct tm tm;
	char text[16];
	strftime(text, sizeof text, "%H:%M:%S", gmtime_r(&now, &tm));
	buf_addf(out, "%s ", text);
}

static void add_events(struct stream *s)
{
	const struct model *m = s->v->model;
	if (s->cursor < m->first_seq) {
		buf_addf(&s->text, "(%" PRId64 " events were not read in time)\n", m->first_seq - s->cursor);
		s->cursor = m->first_seq;
	}
	for (; s->cursor < m->next_seq; s->cursor++) {
		const struct event *e = model_event(m, s->cursor);
		if (!e)
			continue;
		if (!s->deployment)
			report_event(e, &s->text);
		else if (e->deployment && !strcmp(e->deployment, s->deployment))
			report_progress(e, &s->text);
	}
}

static void add_end(struct stream *s, const struct deployment *d)
{
	_cleanup_buf_ struct buf last = {0};
	bool settled = true, reached = true;
	if (d)
		deployment_rest(s->v->model, d, &settled, &reached, &last);
	if (!settled)
		return;
	if (!engine_is_stored(s->v->engine)) {
		engine_poke_in(s->v->engine, STORED_MS);
		return;
	}
	s->ended = true;
	s->reached = reached;
	add_stamp(&s->text);
	buf_addf(&s->text, "%s: %s", s->deployment, d ? buf_str(&last) : "is gone");
	end_line(&s->text);
}

static void fill(struct stream *s)
{
	if (s->ended)
		return;
	model_rdlock(s->v->model);
	const struct deployment *d = s->deployment ? model_deployment_id(s->v->model, s->deployment_id) : NULL;
	bool settled = false, reached;
	if (!s->begun && d)
		deployment_rest(s->v->model, d, &settled, &reached, NULL);
	if (!s->begun && d && !settled) { /* else the last line is the only one */
		add_stamp(&s->text);
		buf_addf(&s->text, "%s: ", s->deployment);
		deployment_why(s->v->model, d, &s->text);
		end_line(&s->text);
	}
	s->begun = true;
	add_events(s);
	if (s->deployment)
		add_end(s, d);
	model_unlock(s->v->model);
}

static bool ready(const struct stream *s)
{
	return s->text.len || s->ended;
}

static void serve(struct stream *s, fuse_req_t req, size_t size)
{
	if (!s->text.len) {
		/* Not an end of file: 'cat wait && next' must not go on */
		if (s->reached)
			fuse_reply_buf(req, NULL, 0);
		else
			fuse_reply_err(req, EIO);
		return;
	}
	size_t n = s->text.len < size ? s->text.len : size;
	fuse_reply_buf(req, s->text.data, n);
	memmove(s->text.data, s->text.data + n, s->text.len - n);
	s->text.len -= n;
	s->text.data[s->text.len] = 0;
}

/* ---- requests arriving ---- */

struct stream_call {
	struct stream *stream;
	fuse_req_t req;
	size_t size;
	struct fuse_pollhandle *ph;
	uint64_t number;
	struct view *v;
};

static void post(struct view *v, void (*fn)(struct engine *e, void *arg), struct stream_call call)
{
	struct stream_call *c = xmemdup(&call, sizeof call);
	c->v = v;
	engine_post(v->engine, fn, c);
}

static void remember(struct stream *s)
{
	struct streams *all = s->v->streams;
	for (struct stream *it = all->open; it; it = it->next)
		if (it == s)
			return;
	s->next = all->open;
	all->open = s;
}

static void on_interrupt(struct engine *e, void *arg)
{
	struct stream_call *c = arg;
	for (struct parked **at = &c->v->streams->parked; *at; at = &(*at)->next) {
		struct parked *p = *at;
		if (p->number != c->number)
			continue;
		*at = p->next;
		fuse_reply_err(p->req, EINTR);
		free(p);
		break;
	}
	free(c);
}

static void interrupted(fuse_req_t req, void *data)
{
	struct view *v = fuse_req_userdata(req);
	post(v, on_interrupt, (struct stream_call){.number = (uint64_t)(uintptr_t)data});
}

static void park(struct stream *s, fuse_req_t req, size_t size)
{
	struct streams *all = s->v->streams;
	struct parked *p = xcalloc(1, sizeof *p), **at = &all->parked;
	*p = (struct parked){.number = ++all->last_number, .req = req, .stream = s, .size = size};
	while (*at) /* readers of one stream are served in order */
		at = &(*at)->next;
	*at = p;
	fuse_req_interrupt_func(req, interrupted, (void *)(uintptr_t)p->number);
}

static void on_read(struct engine *e, void *arg)
{
	struct stream_call *c = arg;
	struct stream *s = c->stream;
	remember(s);
	fill(s);
	if (s->v->streams->closed)
		fuse_reply_err(c->req, EIO);
	else if (ready(s))
		serve(s, c->req, c->size);
	else
		park(s, c->req, c->size);
	free(c);
}

void stream_read(struct view *v, fuse_req_t req, struct stream *s, size_t size)
{
	post(v, on_read, (struct stream_call){.stream = s, .req = req, .size = size});
}

static void on_poll(struct engine *e, void *arg)
{
	struct stream_call *c = arg;
	struct stream *s = c->stream;
	remember(s);
	fill(s);
	if (c->ph) {
		if (s->ph)
			fuse_pollhandle_destroy(s->ph);
		s->ph = c->ph;
	}
	fuse_reply_poll(c->req, ready(s) ? POLLIN | POLLRDNORM : 0);
	free(c);
}

void stream_poll(struct view *v, fuse_req_t req, struct stream *s, struct fuse_pollhandle *ph)
{
	post(v, on_poll, (struct stream_call){.stream = s, .req = req, .ph = ph});
}

static void on_release(struct engine *e, void *arg)
{
	struct stream_call *c = arg;
	for (struct stream **at = &c->v->streams->open; *at; at = &(*at)->next) {
		if (*at == c->stream) {
			*at = c->stream->next;
			break;
		}
	}
	stream_free(c->stream);
	free(c);
}

void stream_release(struct view *v, struct stream *s)
{
	post(v, on_release, (struct stream_call){.stream = s});
}

/* ---- the model changed ---- */

void streams_changed(struct view *v)
{
	struct streams *all = v->streams;
	for (struct stream *s = all->open; s; s = s->next) {
		fill(s);
		if (s->ph && ready(s)) {
			fuse_lowlevel_notify_poll(s->ph);
			fuse_pollhandle_destroy(s->ph);
			s->ph = NULL;
		}
	}
	struct parked **at = &all->parked;
	while (*at) {
		struct parked *p = *at;
		if (!ready(p->stream)) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		serve(p->stream, p->req, p->size);
		free(p);
	}
}

struct fail_call {
	struct view *v;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
};

static void on_fail(struct engine *e, void *arg)
{
	struct fail_call *c = arg;
	struct streams *all = c->v->streams;
	all->closed = true;
	while (all->parked) {
		struct parked *p = all->parked;
		all->parked = p->next;
		fuse_reply_err(p->req, EIO);
		free(p);
	}
	pthread_mutex_lock(&c->lock);
	c->done = true;
	pthread_cond_signal(&c->cond);
	pthread_mutex_unlock(&c->lock);
}

void streams_fail(struct view *v)
{
	struct fail_call c = {.v = v, .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
	engine_post(v->engine, on_fail, &c);
	pthread_mutex_lock(&c.lock);
	while (!c.done)
		pthread_cond_wait(&c.cond, &c.lock);
	pthread_mutex_unlock(&c.lock);
}
