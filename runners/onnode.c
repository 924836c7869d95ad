/* Runs on the node: ships a role's content, starts a tool there under a supervisor of its own, follows its log and reads the end.
 *
 * Every step may be repeated: a dropped connection means doing the step again until the run's time is over, and the mkdir on the node sees to it that
 * the run is started once. The order of steps:
 *
 *   start ──"content"──> pack ──> ship ──> start ──"started", "found"──> (log until the end) ──> collect ──> done
 *   cancel, deadline ──> stop ──> collect ──> done */
#include "runners/onnode.h"
#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "fs/base/redact.h"
#include "fs/base/str.h"
#include "runners/node.h"
#include "runners/pack.h"
#include "runners/runlog.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <utlist.h>

#define BACKOFF_FIRST_MS 200
#define BACKOFF_MAX_MS 5000
#define STOP_MS 60000     /* to reach a node in order to stop a run there, or to read a result after its time */
#define STARTING_MS 10000 /* from the mkdir on the node to the first word of the supervisor */

enum step { STEP_NO_CHECK, STEP_START, STEP_PACK, STEP_SHIP, STEP_STOP, STEP_COLLECT, STEP_CLEAN };

struct onnode_run {
	struct runner *r;
	struct onnode_run *prev, *next;
	struct run_item *item;
	enum step step;
	struct node_call call;
	struct pack_wait *pack;
	uv_timer_t again, limit; /* the next try; the end of the run's time */
	int open_handles;
	bool asked; /* start went to the node once: it may have begun */
	bool seen;  /* it began for certain */
	bool finished;
	bool drifted, marked;
	const char *no_check; /* after "role NAME " */
	const char *stopping; /* reason: "cancelled", "timeout" */
	int64_t give_up, starting_until, backoff_ms;
	struct run_log log;
	int archive_fd, log_errno;
	struct buf supervisor;
	char *content_dir, content_hash[HASH_HEX]; /* with tool->content; the item points here */
	char *parts;                               /* of which it is made, for node_start; "": nothing is secret */
	struct redact_stream redact;
	struct { /* the result, while what it left on the node is removed */
		enum run_result result;
		int exit_status;
		char *why;
		json_t *outputs, *report;
	} end;
	struct buf answer;
	bool answered;
	struct collect collect;
};

struct runner {
	const struct runner_host *host;
	const struct onnode_tool *tool;
	struct packer *packer;
	struct onnode_run *runs;
};

static void next_step(struct onnode_run *s);

/* ---- the end ---- */

static void on_handle_closed(uv_handle_t *handle)
{
	struct onnode_run *s = handle->data;
	if (--s->open_handles == 0)
		free(s);
}

static void release(struct onnode_run *s)
{
	node_call_cancel(&s->call);
	packer_cancel(s->pack);
	DL_DELETE(s->r->runs, s);
	run_log_close(&s->log);
	if (s->archive_fd >= 0)
		close(s->archive_fd);
	buf_release(&s->supervisor);
	free(s->parts);
	free(s->content_dir);
	redact_release(&s->redact);
	free(s->end.why);
	json_decref(s->end.outputs);
	json_decref(s->end.report);
	buf_release(&s->answer);
	collect_reset(&s->collect);
	uv_close((uv_handle_t *)&s->again, on_handle_closed);
	uv_close((uv_handle_t *)&s->limit, on_handle_closed);
}

static void finish(struct onnode_run *s, enum run_result result, int exit_status, const char *why, json_t *outputs)
{
	struct run_item *item = s->item;
	struct run_done done = {.result = result,
	        .exit_status = exit_status,
	        .why = result == RUN_OK ? NULL : why,
	        .outputs = outputs,
	        .report = s->end.report,
	        .took_ms = s->collect.took_ms,
	        .marked = s->marked,
	        .drifted = s->drifted};
	json_t *report = s->end.report;
	s->end.report = NULL;
	s->finished = true;
	item->priv = NULL;
	if (s->content_dir)
		item->content_dir = item->content_hash = "";
	release(s);
	item->done(item, &done);
	json_decref(report);
}

static __attribute__((format(printf, 3, 4))) void finish_why(struct onnode_run *s, enum run_result result, const char *fmt, ...)
{
	_cleanup_buf_ struct buf why = {0};
	va_list ap;
	va_start(ap, fmt);
	buf_vaddf(&why, fmt, ap);
	va_end(ap);
	finish(s, result, -1, buf_str(&why), NULL);
}

/* ---- the log: what is in the file is what the node need not send again ---- */

/* What the node is asked to begin with; of one that is cut nothing more is wanted. */
static int64_t log_offset(const struct onnode_run *s)
{
	return s->log.is_cut ? NODE_NO_LOG : s->log.size;
}

static void on_cut(uv_timer_t *timer)
{
	struct onnode_run *s = timer->data;
	node_call_cancel(&s->call);
	next_step(s);
}

static void log_put(struct onnode_run *s, const char *data, size_t len)
{
	bool was_cut = s->log.is_cut;
	/* After a failure nothing more in this call, so that no hole appears; the next one asks from where the file ends. */
	if (!s->log_errno)
		s->log_errno = -run_log_add(&s->log, data, len);
	if (!was_cut && s->log.is_cut && s->step == STEP_START && s->seen) /* its end is all that is waited for, without what it goes on to print */
		uv_timer_start(&s->again, on_cut, 0, 0);
}

static void log_write(void *arg, const char *data, size_t len)
{
	struct onnode_run *s = arg;
	_cleanup_buf_ struct buf out = {.secret = true};
	redact_add(s->r->host->redactor, &s->redact, data, len, &out);
	for (size_t i = 0; s->item->hide && i < out.len; i++)
		out.data[i] = out.data[i] == '\n' ? '\n' : '*';
	log_put(s, buf_str(&out), out.len);
}

static void log_end(struct onnode_run *s)
{
	_cleanup_buf_ struct buf out = {.secret = true};
	redact_end(s->r->host->redactor, &s->redact, &out);
	if (!s->item->hide)
		log_put(s, buf_str(&out), out.len);
}

/* The node is asked for what is not in the file; what waited for its continuation comes again. */
static void log_begin(struct onnode_run *s)
{
	redact_release(&s->redact);
	s->log_errno = 0;
}

static void log_tail(const struct onnode_run *s, struct buf *out)
{
	char text[2048];
	_cleanup_free_ char *path = xasprintf("%s/log", s->item->run_dir);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	int64_t size = s->log.size, from = size > (int64_t)sizeof text ? size - (int64_t)sizeof text : 0;
	ssize_t n = fd < 0 || s->log.is_cut ? -1 : pread(fd, text, sizeof text, from); /* of one that is cut the end is not known */
	if (n > 0)
		last_line(text, n, out);
}

/* ---- again, later ---- */

static void on_again(uv_timer_t *timer)
{
	next_step(timer->data);
}

static void step_in(struct onnode_run *s, enum step step, int64_t ms)
{
	s->step = step;
	uv_timer_start(&s->again, on_again, ms, 0);
}

/* A call that did not reach its end for a reason of the connection. */
static void try_again(struct onnode_run *s, const struct ssh_result *res)
{
	int64_t now = monotonic_ms();
	if (!node_worth_retry(res->rc) || now >= s->give_up) {
		if (s->stopping)
			finish_why(s, RUN_UNREACHABLE, "%s, but it may still run there: %s",
			        strcmp(s->stopping, "timeout") ? s->stopping : "its time is over", err_msg(res->err));
		else
			finish_why(s, RUN_UNREACHABLE, "%s", err_msg(res->err));
		return;
	}
	step_in(s, s->step, s->backoff_ms);
	s->backoff_ms = s->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : s->backoff_ms * 2;
}

static void stop(struct onnode_run *s, const char *reason)
{
	s->stopping = reason;
	s->give_up = monotonic_ms() + STOP_MS;
	s->backoff_ms = BACKOFF_FIRST_MS;
	uv_timer_stop(&s->limit);
	s->asked |= s->call.exec && s->step == STEP_START && ssh_exec_sent(s->call.exec);
	node_call_cancel(&s->call);
	packer_cancel(s->pack);
	s->pack = NULL;
	step_in(s, STEP_STOP, 0);
}

static void on_limit(uv_timer_t *timer)
{
	struct onnode_run *s = timer->data;
	if (s->step != STEP_COLLECT)
		stop(s, "timeout");
}

/* ---- the end of a run with secrets: nothing of them stays on the node ---- */

static void answer_data(void *arg, const char *data, size_t len)
{
	struct onnode_run *s = arg;
	if (s->answer.len + len < 4096)
		buf_add(&s->answer, data, len);
}

static void clean_done(void *arg, const struct ssh_result *res, bool begun)
{
	struct onnode_run *s = arg;
	bool clean = !res->rc && !strncmp(buf_str(&s->answer), "clean", 5);
	if (!clean && node_worth_retry(res->rc) && monotonic_ms() < s->give_up) {
		step_in(s, STEP_CLEAN, s->backoff_ms);
		s->backoff_ms = s->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : s->backoff_ms * 2;
		return;
	}
	if (!clean)
		log_msg(LOG_WARN, "%s: its inputs may still lie on the node, until another run there ends: %s", s->item->node_role,
		        res->err ? err_msg(res->err) : "no answer");
	_cleanup_free_ char *why = s->end.why;
	json_t *outputs = s->end.outputs;
	s->end.why = NULL;
	s->end.outputs = NULL;
	finish(s, s->end.result, s->end.exit_status, why, outputs);
	json_decref(outputs);
}

static void step_clean(struct onnode_run *s)
{
	_cleanup_free_ char *mounts = xasprintf("%" PRIu64, s->r->host->mounts), *number = xasprintf("%" PRId64, s->item->number);
	const char *args[] = {s->r->host->owner, mounts, number, NULL};
	buf_reset(&s->answer);
	s->call.on_data = answer_data;
	s->call.done = clean_done;
	node_call_start(&s->call, s->r->host->pool, s->item->target, node_clean, args, &(struct node_call_options){.timeout_ms = 30000});
}

/* ---- collect ---- */

/* All of it is read. */
static void end(struct onnode_run *s, enum run_result result, int exit_status, const char *why, json_t *outputs)
{
	if (!s->collect.is_private) {
		finish(s, result, exit_status, why, outputs);
		return;
	}
	s->end.result = result;
	s->end.exit_status = exit_status;
	s->end.why = xstrdup(why);
	s->end.outputs = json_incref(outputs);
	uv_timer_stop(&s->limit);
	s->give_up = monotonic_ms() + STOP_MS;
	s->backoff_ms = BACKOFF_FIRST_MS;
	step_in(s, STEP_CLEAN, 0);
}

static void finish_collected(struct onnode_run *s)
{
	struct collect *c = &s->collect;
	_cleanup_buf_ struct buf why = {0}, line = {0};
	_cleanup_free_ char *complaint = NULL;
	log_end(s);
	if (s->log_errno)
		log_msg(LOG_WARN, "the log of run %" PRId64 " is not complete: cannot write '%s/log': %s", s->item->number, s->item->run_dir,
		        strerror(s->log_errno));
	if (c->reason[0] && strcmp(c->reason, "interrupted")) {
		bool timeout = !strcmp(c->reason, "timeout");
		if (timeout) {
			buf_adds(&why, "stopped: not done after ");
			format_duration(&why, s->item->timeout_ms);
		} else {
			buf_adds(&why, "cancelled");
		}
		end(s, timeout ? RUN_TIMED_OUT : RUN_CANCELLED, -1, buf_str(&why), NULL);
		return;
	}
	json_t *outputs = s->item->check ? json_object() : collect_outputs(c, &complaint);
	struct onnode_verdict v = {.result = c->exit_status == 0 ? RUN_OK : RUN_FAILED, .resources = json_array()};
	log_tail(s, &line);
	struct onnode_end told = {.item = s->item,
	        .exit_status = c->exit_status,
	        .failed = buf_str(&c->failed),
	        .tail = buf_str(&line),
	        .report = json_loadb(buf_str(&c->report), c->report.len, 0, NULL)};
	s->r->tool->judge(&told, &v);
	s->drifted = v.result == RUN_OK && s->item->check && v.drifted;
	s->end.report = run_report(s->r->tool->name, s->item, v.resources);
	if (v.result == RUN_OK && !outputs)
		end(s, RUN_FAILED, c->exit_status, complaint, NULL);
	else
		end(s, v.result, c->exit_status, v.result == RUN_OK && !s->drifted ? NULL : buf_str(&v.why), outputs);
	json_decref(told.report);
	json_decref(v.resources);
	buf_release(&v.why);
	json_decref(outputs);
}

static void collect_data(void *arg, const char *data, size_t len)
{
	struct onnode_run *s = arg;
	collect_add(&s->collect, data, len);
}

static void collect_done(void *arg, const struct ssh_result *res, bool begun)
{
	struct onnode_run *s = arg;
	struct collect *c = &s->collect;
	const char *state = c->state;
	_cleanup_free_ char *refusal = node_refusal(s->item->target->name, c->refusal ? c->refusal : "");
	if (refusal) {
		finish_why(s, RUN_REFUSED, "%s", refusal);
	} else if (res->rc) {
		try_again(s, res);
	} else if (!begun || !c->head_ended) {
		_cleanup_buf_ struct buf line = {0};
		last_line(res->tail, strlen(res->tail), &line);
		finish_why(s, RUN_FAILED, "cannot read the result on '%s': %s", s->item->target->name, line.len ? buf_str(&line) : "no answer");
	} else if (!strcmp(state, "running")) {
		step_in(s, s->stopping ? STEP_STOP : STEP_START, 500); /* who waited for its end was ended itself */
	} else if (!strcmp(state, "starting") && !s->stopping && (!s->starting_until || monotonic_ms() < s->starting_until)) {
		if (!s->starting_until)
			s->starting_until = monotonic_ms() + STARTING_MS;
		step_in(s, STEP_COLLECT, 300);
	} else if (!strcmp(state, "done") && !c->complete) {
		_cleanup_buf_ struct buf line = {0};
		last_line(res->tail, strlen(res->tail), &line);
		finish_why(s, RUN_FAILED, "cannot read the result on '%s': %s", s->item->target->name, line.len ? buf_str(&line) : "it is cut short");
	} else if (!strcmp(state, "done") || (c->reason[0] && strcmp(c->reason, "interrupted"))) {
		finish_collected(s);
	} else if (!strcmp(state, "gone") && !s->stopping) {
		stop(s, "interrupted"); /* what its supervisor left behind must not meet the next run */
	} else {
		_cleanup_free_ char *why =
		        xasprintf("interrupted: it was started on '%s', and neither its process nor its result is left", s->item->target->name);
		end(s, RUN_INTERRUPTED, -1, why, NULL);
	}
}

static void step_collect(struct onnode_run *s)
{
	_cleanup_free_ char *mounts = xasprintf("%" PRIu64, s->r->host->mounts), *number = xasprintf("%" PRId64, s->item->number),
	                    *offset = xasprintf("%" PRId64, log_offset(s));
	const char *args[] = {s->r->host->owner, mounts, number, offset, NULL};
	const char **all = node_collect_args(args, s->item);
	log_begin(s);
	collect_reset(&s->collect);
	s->collect.on_log = log_write;
	s->collect.arg = s;
	s->call.on_data = collect_data;
	s->call.done = collect_done;
	node_call_start(&s->call, s->r->host->pool, s->item->target, node_collect, all, &(struct node_call_options){.timeout_ms = 120000});
	free(all);
}

/* ---- start, and follow ---- */

static void began(struct onnode_run *s, int64_t age_ms)
{
	int64_t left = s->item->timeout_ms - age_ms;
	if (!s->stopping)
		uv_timer_start(&s->limit, on_limit, left > 0 ? left : 0, 0);
	s->give_up = monotonic_ms() + (left > STOP_MS ? left : STOP_MS);
	s->backoff_ms = BACKOFF_FIRST_MS;
	if (s->seen)
		return;
	s->seen = true;
	if (s->item->started)
		s->item->started(s->item);
}

/* The first line is the answer, the rest is the log. */
static void start_data(void *arg, const char *data, size_t len)
{
	struct onnode_run *s = arg;
	if (!s->answered) {
		const char *nl = memchr(data, '\n', len);
		size_t n = nl ? (size_t)(nl - data) : len;
		buf_add(&s->answer, data, n);
		if (!nl)
			return;
		s->answered = true;
		data += n + 1;
		len -= n + 1;
		if (!strncmp(buf_str(&s->answer), "started ", 8) || !strncmp(buf_str(&s->answer), "found ", 6))
			began(s, strtoll(strchr(buf_str(&s->answer), ' '), NULL, 10) * 10);
	}
	log_write(s, data, len);
}

static void start_done(void *arg, const struct ssh_result *res, bool begun)
{
	struct onnode_run *s = arg;
	const char *answer = buf_str(&s->answer);
	_cleanup_free_ char *refusal = node_refusal(s->item->target->name, answer);
	_cleanup_free_ char *mark = node_marked(s->item->target->name, s->r->host->owner, answer);
	s->asked |= res->sent;
	if (refusal) {
		finish_why(s, RUN_REFUSED, "%s", refusal);
	} else if (mark) {
		s->marked = true;
		finish_why(s, RUN_FAILED, "%s", mark);
	} else if (!strcmp(answer, "content")) {
		s->backoff_ms = BACKOFF_FIRST_MS;
		step_in(s, STEP_PACK, 0);
	} else if (!strcmp(answer, "absent") && s->seen) {
		finish_why(s, RUN_INTERRUPTED, "interrupted: its directory on '%s' is gone", s->item->target->name);
	} else if (!strcmp(answer, "absent")) {
		finish_why(s, RUN_NOT_STARTED, "it was never started on '%s'", s->item->target->name);
	} else if (res->rc) {
		try_again(s, res);
	} else if (s->answered && (!strncmp(answer, "started", 7) || !strncmp(answer, "found", 5))) {
		s->step = STEP_COLLECT;
		next_step(s);
	} else {
		_cleanup_buf_ struct buf line = {0};
		last_line(res->tail, strlen(res->tail), &line);
		finish_why(s, RUN_FAILED, "cannot start %s: %s", s->item->node_role, line.len ? buf_str(&line) : "the login shell runs no commands");
	}
}

static void make_supervisor(struct onnode_run *s)
{
	struct buf *b = &s->supervisor;
	if (s->parts)
		return;
	b->secret = s->item->secret;
	s->r->tool->supervisor(b, s->item);
	if (!s->item->secret) {
		s->parts = xstrdup("");
		return;
	}
	size_t run = b->len;
	s->r->tool->private(b, s->item);
	s->parts = xasprintf("%zu %zu", run, b->len - run);
	supervisor_inputs(b, s->item);
}

static void step_start(struct onnode_run *s)
{
	struct run_item *item = s->item;
	make_supervisor(s);
	_cleanup_free_ char *mounts = xasprintf("%" PRIu64, s->r->host->mounts), *number = xasprintf("%" PRId64, item->number),
	                    *size = xasprintf("%zu", s->supervisor.len), *offset = xasprintf("%" PRId64, log_offset(s));
	_cleanup_free_ char *known = node_known(item, s->asked);
	bool attach = item->attach_only || s->seen; /* what was seen once is never begun anew */
	const char *args[] = {
	        s->r->host->owner, mounts, number, item->content_hash, size, attach ? "1" : "0", offset, s->parts, item->role, known, NULL};
	s->answered = false;
	log_begin(s);
	buf_reset(&s->answer);
	s->call.on_data = start_data;
	s->call.done = start_done;
	struct node_call_options opt = {.input = buf_str(&s->supervisor), .input_len = attach ? 0 : s->supervisor.len};
	node_call_start(&s->call, s->r->host->pool, item->target, node_start, args, &opt);
}

/* ---- ship ---- */

static ssize_t archive_read(void *arg, char *data, size_t len)
{
	struct onnode_run *s = arg;
	ssize_t n = read(s->archive_fd, data, len);
	return n < 0 ? -errno : n;
}

static void ship_done(void *arg, const struct ssh_result *res, bool begun)
{
	struct onnode_run *s = arg;
	close(s->archive_fd);
	s->archive_fd = -1;
	_cleanup_free_ char *refusal = node_refusal(s->item->target->name, buf_str(&s->answer));
	if (refusal) {
		finish_why(s, RUN_REFUSED, "%s", refusal);
	} else if (res->rc) {
		try_again(s, res);
	} else if (!strncmp(buf_str(&s->answer), "shipped", 7)) {
		s->step = STEP_START;
		next_step(s);
	} else {
		_cleanup_buf_ struct buf line = {0};
		last_line(res->tail, strlen(res->tail), &line);
		finish_why(s, RUN_FAILED, "cannot put the content of '%s' on '%s': %s", s->item->role, s->item->target->name,
		        line.len ? buf_str(&line) : "no answer");
	}
}

static void packed(void *arg, const char *path, const struct err *err)
{
	struct onnode_run *s = arg;
	s->pack = NULL;
	if (!err) {
		s->archive_fd = open(path, O_RDONLY | O_CLOEXEC);
		if (s->archive_fd < 0) {
			finish_why(s, RUN_FAILED, "cannot read '%s': %s", path, strerror(errno));
			return;
		}
	} else {
		finish_why(s, RUN_FAILED, "%s", err_msg(err));
		return;
	}
	s->step = STEP_SHIP;
	next_step(s);
}

static void step_ship(struct onnode_run *s)
{
	if (s->archive_fd < 0) { /* the try before failed */
		s->step = STEP_PACK;
		next_step(s);
		return;
	}
	_cleanup_free_ char *mounts = xasprintf("%" PRIu64, s->r->host->mounts), *number = xasprintf("%" PRId64, s->item->number);
	const char *args[] = {s->r->host->owner, mounts, number, s->item->content_hash, NULL};
	buf_reset(&s->answer);
	s->call.on_data = answer_data;
	s->call.done = ship_done;
	node_call_start(&s->call, s->r->host->pool, s->item->target, node_ship, args, &(struct node_call_options){.read_input = archive_read});
}

/* ---- stop ---- */

static void stop_done(void *arg, const struct ssh_result *res, bool begun)
{
	struct onnode_run *s = arg;
	_cleanup_free_ char *refusal = node_refusal(s->item->target->name, buf_str(&s->answer));
	if (refusal) {
		finish_why(s, RUN_REFUSED, "%s", refusal);
	} else if (res->rc) {
		try_again(s, res);
	} else if (!strncmp(buf_str(&s->answer), "stopped", 7)) {
		s->step = STEP_COLLECT;
		next_step(s);
	} else {
		_cleanup_buf_ struct buf line = {0};
		last_line(res->tail, strlen(res->tail), &line);
		finish_why(s, RUN_UNREACHABLE, "cannot stop %s: %s", s->item->node_role, line.len ? buf_str(&line) : "no answer");
	}
}

static void step_stop(struct onnode_run *s)
{
	if (!s->asked) {
		finish_why(s, RUN_CANCELLED, "cancelled before it began");
		return;
	}
	_cleanup_free_ char *mounts = xasprintf("%" PRIu64, s->r->host->mounts), *number = xasprintf("%" PRId64, s->item->number);
	const char *args[] = {s->r->host->owner, mounts, number, s->stopping, NULL};
	buf_reset(&s->answer);
	s->call.on_data = answer_data;
	s->call.done = stop_done;
	node_call_start(&s->call, s->r->host->pool, s->item->target, node_stop, args, &(struct node_call_options){.timeout_ms = 30000});
}

static void next_step(struct onnode_run *s)
{
	switch (s->step) {
	case STEP_NO_CHECK:
		finish_why(s, RUN_NOT_STARTED, "role %s %s", s->item->role, s->no_check);
		return;
	case STEP_START:
		step_start(s);
		return;
	case STEP_PACK:
		s->pack = packer_want(s->r->packer, s->item->content_hash, s->item->content_dir, packed, s);
		return;
	case STEP_SHIP:
		step_ship(s);
		return;
	case STEP_STOP:
		step_stop(s);
		return;
	case STEP_COLLECT:
		step_collect(s);
		return;
	case STEP_CLEAN:
		step_clean(s);
		return;
	}
}

/* ---- as a runner ---- */

static void run_one(struct runner *r, struct run_item *item)
{
	struct onnode_run *s = xcalloc(1, sizeof *s);
	s->r = r;
	s->item = item;
	item->priv = s;
	if (r->tool->content) {
		struct hash hash;
		s->content_dir = r->tool->content(item, &hash);
		hash_hex(&hash, s->content_hash);
		item->content_dir = s->content_dir;
		item->content_hash = s->content_hash;
	}
	s->call.arg = s;
	s->archive_fd = -1;
	s->collect.exit_status = -1;
	s->backoff_ms = BACKOFF_FIRST_MS;
	s->give_up = monotonic_ms() + item->timeout_ms;
	uv_timer_init(r->host->loop, &s->again);
	uv_timer_init(r->host->loop, &s->limit);
	s->again.data = s->limit.data = s;
	s->open_handles = 2;
	DL_APPEND(r->runs, s);
	int rc = run_log_open(&s->log, item->run_dir);
	if (rc < 0)
		log_msg(LOG_WARN, "no log is kept: cannot open '%s/log': %s", item->run_dir, strerror(-rc));
	s->no_check = item->check && r->tool->no_check ? r->tool->no_check(item) : NULL;
	step_in(s, s->no_check ? STEP_NO_CHECK : STEP_START, 0);
}

void onnode_run(struct runner *r, struct run_item *const *items, size_t n)
{
	for (size_t i = 0; i < n; i++)
		run_one(r, items[i]);
}

void onnode_cancel(struct runner *r, struct run_item *item)
{
	struct onnode_run *s = item->priv;
	if (s && !s->stopping && s->step != STEP_CLEAN)
		stop(s, "cancelled");
}

int onnode_open(const struct runner_host *host, const struct onnode_tool *tool, struct runner **ret, struct err **err)
{
	struct packer *packer = packer_open(host, tool->name, err);
	if (!packer)
		return err && *err ? -(*err)->code : -EIO;
	struct runner *r = xcalloc(1, sizeof *r);
	r->host = host;
	r->tool = tool;
	r->packer = packer;
	*ret = r;
	return 0;
}

void onnode_close(struct runner *r)
{
	struct onnode_run *s, *next;
	DL_FOREACH_SAFE(r->runs, s, next)
	{
		s->item->priv = NULL;
		release(s);
	}
	packer_close(r->packer);
	free(r);
}
