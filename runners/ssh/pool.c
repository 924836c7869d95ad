/* The table of connections, the limit on handshakes, deadlines, and the delivery of results. */
#include "fs/base/mem.h"
#include "fs/base/str.h"
#include "runners/ssh/conn.h"
#include <errno.h>
#include <string.h>
#include <utlist.h>

#define HANDSHAKES_MAX 64 /* at once: more only make each other miss their deadlines */
#define CONNECT_MS 30000
#define TICK_MS 100

static void on_kick(uv_timer_t *timer);
static void on_tick(uv_timer_t *timer);

void pool_kick(struct ssh_pool *p)
{
	if (!uv_is_active((uv_handle_t *)p->kick))
		uv_timer_start(p->kick, on_kick, 0, 0);
}

static struct ssh_exec *take_ended(struct ssh_pool *p)
{
	struct ssh_exec *e = p->ended;
	if (e)
		DL_DELETE2(p->ended, e, prev_ended, next_ended);
	return e;
}

static void report(struct ssh_exec *e)
{
	if (e->tail.len > 4096) {
		memmove(e->tail.data, e->tail.data + e->tail.len - 4096, 4097);
		e->tail.len = 4096;
	}
	struct ssh_result res = {
	        .rc = e->rc, .err = e->err, .sent = e->sent, .exit_status = e->exit_status, .tail = buf_str(&e->tail), .host_key = e->host_key};
	e->reported = true;
	e->pool->waiting--;
	e->done(e->arg, &res);
	if (!e->conn)
		exec_free(e);
}

static void on_kick(uv_timer_t *timer)
{
	struct ssh_pool *p = timer->data;
	/* what done() ends or starts waits for the next turn: nobody starves the loop */
	struct ssh_exec *last = p->ended ? p->ended->prev_ended : NULL, *e;
	while (last && (e = take_ended(p))) {
		bool more = e != last;
		report(e);
		if (!more)
			break;
		if (!p->ended)
			break;
	}
	struct conn *c, *next;
	HASH_ITER (hh, p->conns, c, next) {
		if (c->wants_pump)
			conn_pump(c);
		else if (c->state == CONN_WAITS && p->handshakes < HANDSHAKES_MAX) /* the table keeps the order of insertion */
			conn_start(c);
	}
	if (p->ended)
		pool_kick(p);
}

/* ---- connections ---- */

static struct conn *conn_new(struct ssh_pool *p, const struct target *t)
{
	struct conn *c = xcalloc(1, sizeof *c);
	c->pool = p;
	c->fd = -1;
	c->node_id = t->node_id;
	c->incarnation = t->incarnation;
	c->name = xstrdup(t->name);
	c->address = xstrdup(t->address);
	c->port = t->port;
	c->user = xstrdup(t->user);
	c->key = xstrdup(t->key);
	c->want_key = xstrdup(t->host_key);
	HASH_ADD(hh, p->conns, node_id, sizeof c->node_id, c);
	return c;
}

static bool conn_serves(const struct conn *c, const struct target *t)
{
	if (c->incarnation != t->incarnation || c->port != t->port || strcmp(c->address, t->address) || strcmp(c->user, t->user) ||
	        strcmp(c->key, t->key))
		return false;
	const char *known = c->host_key ? c->host_key : c->want_key;
	return !t->host_key || (known && ssh_same_key(known, t->host_key));
}

struct ssh_exec *ssh_exec_start(struct ssh_pool *p, const struct ssh_exec_spec *spec)
{
	const struct target *t = spec->target;
	struct ssh_exec *e = xcalloc(1, sizeof *e);
	e->pool = p;
	e->command = xstrdup(spec->command);
	if (spec->input) {
		e->input = xmemdup(spec->input, spec->input_len + !spec->input_len);
		e->input_len = spec->input_len;
	}
	e->read_input = spec->read_input;
	e->on_stdout = spec->on_stdout;
	e->done = spec->done;
	e->arg = spec->arg;
	e->exit_status = -1;
	int64_t now = monotonic_ms();
	e->connect_by = now + (spec->connect_ms ? spec->connect_ms : CONNECT_MS);
	e->timeout_ms = spec->timeout_ms;
	p->commands++;
	if (!p->waiting++)
		uv_timer_start(p->tick, on_tick, TICK_MS, TICK_MS);

	struct conn *c;
	HASH_FIND(hh, p->conns, &t->node_id, sizeof t->node_id, c);
	if (c && !conn_serves(c, t)) {
		conn_fail(c, ECONNRESET, "the connection to '%s' was given up: its address, user or key changed", t->name);
		c = NULL;
	}
	bool is_new = !c;
	if (is_new)
		c = conn_new(p, t);
	e->conn = c;
	DL_APPEND(c->execs, e);
	if (c->state == CONN_READY) {
		e->step = EXEC_OPEN;
		e->end_by = e->timeout_ms ? now + e->timeout_ms : 0;
		c->wants_pump = true;
		pool_kick(p);
	} else if (is_new && p->handshakes < HANDSHAKES_MAX) {
		conn_start(c);
	}
	return e;
}

void ssh_exec_cancel(struct ssh_exec *e)
{
	if (!e)
		return;
	struct ssh_pool *p = e->pool;
	if (e->reported)
		return;
	e->reported = true;
	p->waiting--;
	if (e->ended)
		DL_DELETE2(p->ended, e, prev_ended, next_ended);
	e->ended = true;
	e->on_stdout = NULL;
	e->read_input = NULL;
	struct conn *c = e->conn;
	if (!c) {
		exec_free(e);
		return;
	}
	if (e->step == EXEC_WAITS && c->state != CONN_DEAD) {
		DL_DELETE(c->execs, e);
		exec_forget(e);
		return;
	}
	c->wants_pump = true; /* its channel is closed from there */
	pool_kick(p);
}

/* ---- deadlines ---- */

static const char *missing(const struct conn *c)
{
	if (c->state == CONN_WAITS)
		return "too many connections are being made";
	if (c->state == CONN_RESOLVE)
		return "its name is not found";
	return c->state == CONN_TCP ? "connection timed out" : "it accepts connections, but its sshd does not answer";
}

static void check_deadlines(struct conn *c, int64_t now)
{
	struct ssh_exec *e, *next;
	bool given_up = false;
	for (e = c->execs; e; e = next) {
		next = e->next;
		_cleanup_free_ char *msg = NULL;
		if (e->ended)
			continue;
		if (e->step == EXEC_WAITS && now >= e->connect_by) {
			msg = xasprintf("no answer from '%s' (%s port %d): %s", c->name, c->address, c->port, missing(c));
			exec_end(e, ETIMEDOUT, msg);
			DL_DELETE(c->execs, e);
			exec_forget(e);
			given_up = true;
		} else if (e->step > EXEC_WAITS && e->end_by && now >= e->end_by) {
			msg = xasprintf("a command on '%s' did not end in time", c->name);
			exec_end(e, ETIMEDOUT, msg);
			c->wants_pump = true;
			pool_kick(c->pool);
		}
	}
	/* nobody waits for it any more: a half-made connection would only hold a place */
	if (c->state_by && now >= c->state_by)
		conn_fail(c, ETIMEDOUT, "no answer from '%s' (%s port %d): %s", c->name, c->address, c->port, missing(c));
	else if (given_up && !c->execs && c->state != CONN_READY)
		conn_fail(c, ETIMEDOUT, "no answer from '%s'", c->name);
}

static void on_tick(uv_timer_t *timer)
{
	struct ssh_pool *p = timer->data;
	int64_t now = monotonic_ms();
	struct conn *c, *next;
	HASH_ITER (hh, p->conns, c, next) {
		check_deadlines(c, now);
	}
	if (!p->waiting)
		uv_timer_stop(p->tick);
}

/* ---- the pool ---- */

int ssh_pool_open(uv_loop_t *loop, struct ssh_pool **ret, struct err **err)
{
	int rc = libssh2_init(0);
	if (rc)
		return err_set(err, EIO, "cannot start libssh2: error %d", rc);
	struct ssh_pool *p = xcalloc(1, sizeof *p);
	p->loop = loop;
	p->kick = xcalloc(1, sizeof *p->kick);
	p->tick = xcalloc(1, sizeof *p->tick);
	uv_timer_init(loop, p->kick);
	uv_timer_init(loop, p->tick);
	p->kick->data = p->tick->data = p;
	*ret = p;
	return 0;
}

static void free_handle(uv_handle_t *handle)
{
	free(handle);
}

void ssh_pool_close(struct ssh_pool *p)
{
	if (!p)
		return;
	struct conn *c, *next;
	HASH_ITER (hh, p->conns, c, next) {
		for (struct ssh_exec *e = c->execs; e; e = e->next)
			if (!e->ended)
				e->ended = e->reported = true;
		HASH_DEL(p->conns, c);
		conn_free(c);
	}
	struct ssh_exec *e;
	while ((e = take_ended(p))) {
		e->reported = true;
		exec_free(e);
	}
	uv_close((uv_handle_t *)p->kick, free_handle);
	uv_close((uv_handle_t *)p->tick, free_handle);
	free(p);
	libssh2_exit();
}

void ssh_pool_drop(struct ssh_pool *p, uint64_t node_id)
{
	struct conn *c;
	HASH_FIND(hh, p->conns, &node_id, sizeof node_id, c);
	if (c)
		conn_fail(c, ECONNRESET, "the connection to '%s' was given up", c->name);
}
