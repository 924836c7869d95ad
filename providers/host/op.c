/* The machinery of operations. */
#include "providers/host/instance.h"

#include "fs/base/log.h"
#include "fs/base/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

struct op *op_new(struct provider *p, struct provider_call *call)
{
	struct op *op = xcalloc(1, sizeof *op);

	op->p = p;
	op->call = call;
	op->work.data = op;
	op->timer.data = op;
	op->began_ms = monotonic_ms();
	if (call)
		call->priv = op;
	uv_timer_init(p->host->loop, &op->timer);
	DL_APPEND2(p->ops, op, prev_op, next_op);
	return op;
}

static void provider_free(struct provider *p)
{
	struct node *n, *next_node;

	HASH_ITER (hh, p->nodes, n, next_node)
		node_forget(p, n);
	addresses_release(p);
	free(p->dhcp_failed);
	network_section_release(&p->section);
	images_forget(p);
	if (p->kind->forget)
		p->kind->forget(p);
	settings_release(&p->settings);
	free(p->owner);
	free(p->name);
	free(p->state_dir);
	free(p->cache_dir);
	free(p->access_key);
	free(p->base_dir);
	free(p->apt_dump);
	free(p);
}

void op_idle(struct provider *p)
{
	if (p->closed && !p->ops)
		provider_free(p);
}

static void op_closed(uv_handle_t *handle)
{
	struct op *op = handle->data;
	struct provider *p = op->p;

	DL_DELETE2(p->ops, op, prev_op, next_op);
	node_job_release(&op->job);
	image_release(&op->resolved);
	err_free(op->err);
	buf_release(&op->note);
	buf_release(&op->out);
	buf_release(&op->last);
	free(op->image);
	free(op->base);
	free(op->listed);
	free(op);
	op_idle(p);
}

void op_end(struct op *op, const struct machine *machines, size_t n)
{
	struct provider_call *call = op->call;

	if (op->warm_up)
		op->p->kind->warm_up_end(op);
	if (op->node && op->node->op == op)
		op->node->op = NULL;
	op->call = NULL;
	uv_close((uv_handle_t *)&op->timer, op_closed);
	if (call)
		call->done(call, op->rc, op->rc < 0 ? op->err : NULL, op->rc < 0 ? NULL : machines, op->rc < 0 ? 0 : n);
	else if (op->rc < 0 && !op->cancelled && !op->p->closed)
		log_msg(LOG_WARN, "provider '%s': %s", op->p->name, err_msg(op->err));
}

bool op_stopped(struct op *op)
{
	if (op->p->closed || (op->cancelled && op->rc >= 0))
		op->rc = err_set(&op->err, ECANCELED, "cancelled");
	if (op->rc >= 0)
		return false;
	op_end(op, NULL, 0);
	return true;
}

/* ---- a stage on a worker */

static void work_run(uv_work_t *work)
{
	struct op *op = work->data;

	op->worker(op);
}

static void work_ended(uv_work_t *work, int status)
{
	struct op *op = work->data;

	op->working = false;
	if (status < 0)
		op->rc = err_set(&op->err, ECANCELED, "cancelled");
	op->next(op);
}

void op_work(struct op *op, void (*worker)(struct op *op), void (*next)(struct op *op))
{
	op->worker = worker;
	op->next = next;
	op->rc = 0;
	op->working = true;
	int rc = uv_queue_work(op->p->host->loop, &op->work, work_run, work_ended);
	if (rc < 0) {
		op->working = false;
		op_fail(op, EAGAIN, "cannot queue work: %s", uv_strerror(rc));
	}
}

/* ---- a child process */

/* The status by which our own scripts say that their last line on stderr is the sentence. */
#define SCRIPT_SAID 3

static const char *last_line(const char *text)
{
	const char *line = text ? text : "", *at;

	while ((at = strchr(line, '\n')) && at[1])
		line = at + 1;
	return line;
}

static void child_ended(void *arg, const struct child_result *res)
{
	struct op *op = arg;

	op->child = NULL;
	op->rc = 0;
	if (res->cancelled) {
		op->rc = err_set(&op->err, ECANCELED, "cancelled");
	} else if (res->status != 0) {
		const char *sentence = last_line(res->tail);
		struct child_result told = *res;
		/* where stdout was the stream of complaints too, its last one is the cause */
		if (op->last.len)
			told.tail = buf_str(&op->last);
		_cleanup_buf_ struct buf b = {0};
		if (res->status == SCRIPT_SAID)
			buf_adds(&b, sentence);
		else
			child_explain(&b, op->child_name ? op->child_name : "sh", &told);
		op->rc = err_set(&op->err, EAGAIN, "%.*s", (int)strcspn(buf_str(&b), "\n"), buf_str(&b));
	}
	buf_reset(&op->out);
	if (res->out)
		buf_add(&op->out, res->out, res->out_len);
	op->next(op);
}

void op_child(struct op *op, const struct child_spec *spec, void (*next)(struct op *op))
{
	struct child_spec copy = *spec;

	copy.done = child_ended;
	copy.arg = op;
	op->next = next;
	buf_reset(&op->last);
	op->rc = child_start(op->p->host->loop, &copy, &op->child, &op->err);
	if (op->rc < 0)
		op_wait(op, 0, next);
}

/* ---- a moment */

static void timer_fired(uv_timer_t *timer)
{
	struct op *op = timer->data;

	op->next(op);
}

void op_wait(struct op *op, int64_t ms, void (*next)(struct op *op))
{
	op->next = next;
	uv_timer_start(&op->timer, timer_fired, (uint64_t)ms, 0);
}

static void end_failed(struct op *op)
{
	op_end(op, NULL, 0);
}

void op_fail(struct op *op, int code, const char *fmt, ...)
{
	_cleanup_buf_ struct buf b = {0};
	va_list ap;

	va_start(ap, fmt);
	buf_vaddf(&b, fmt, ap);
	va_end(ap);
	op->rc = err_set(&op->err, code, "%s", buf_str(&b));
	op_wait(op, 0, end_failed);
}

void op_progress(struct op *op, const char *sentence)
{
	if (op->call && op->call->progress)
		op->call->progress(op->call, sentence);
}

static void end_cancelled(struct op *op)
{
	op->rc = op->rc < 0 ? op->rc : err_set(&op->err, ECANCELED, "cancelled");
	op_end(op, NULL, 0);
}

/* A stage on a worker is milliseconds of work and runs to its end; whatever comes after it looks at cancelled. */
void op_cancel(struct op *op)
{
	if (op->cancelled)
		return;
	op->cancelled = true;
	if (op->child) {
		child_cancel(op->child, 0);
	} else if (op->waits_for_network || op->waits_for_release || uv_is_active((uv_handle_t *)&op->timer)) {
		op->waits_for_network = op->waits_for_release = false;
		op_wait(op, 0, end_cancelled);
	}
}
