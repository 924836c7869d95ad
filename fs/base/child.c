#include "fs/base/child.h"
#include "fs/base/mem.h"
#include "fs/base/str.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

#define OUT_MAX (1 << 20)
#define TAIL_MAX 4096
#define LINE_MAX_BYTES (16 << 20) /* a longer line comes in pieces: memory has an end */
#define KILL_AFTER_MS 5000
#define GROUP_POLL_MS 50
#define PIPE_GRACE_MS 1000 /* a grandchild may keep our pipe open: that long after the exit we still listen */

extern char **environ;

struct child {
	uv_process_t process;
	uv_pipe_t in, out, errs;
	uv_timer_t timer;
	uv_write_t write;
	char *input;
	struct buf collected, tail, line;
	void (*on_line)(void *arg, const char *line, size_t len);
	void (*done)(void *arg, const struct child_result *res);
	void *arg;
	pid_t pid;
	int64_t exit_status, kill_at_ms;
	int signal;
	int handles;    /* not yet closed */
	int open_pipes; /* not at their end */
	bool exited, timed_out, cancelled, awaits_group, finishing;
	char line_end;
	char chunk[8192];
};

static void finish(struct child *c);

static void closed(uv_handle_t *h)
{
	struct child *c = h->data;
	if (--c->handles)
		return;
	if (c->line.len && c->on_line)
		c->on_line(c->arg, c->line.data, c->line.len);
	struct child_result res = {
	        .status = c->signal ? -1 : (int)c->exit_status,
	        .signal = c->signal,
	        .timed_out = c->timed_out,
	        .cancelled = c->cancelled,
	        .out = buf_str(&c->collected),
	        .out_len = c->collected.len,
	        .tail = buf_str(&c->tail),
	};
	if (c->done)
		c->done(c->arg, &res);
	buf_release(&c->collected);
	buf_release(&c->tail);
	buf_release(&c->line);
	if (c->collected.secret)
		explicit_bzero(c->chunk, sizeof c->chunk);
	free(c->input);
	free(c);
}

static void close_once(uv_handle_t *h)
{
	if (!uv_is_closing(h))
		uv_close(h, closed);
}

static void finish(struct child *c)
{
	if (c->finishing)
		return;
	c->finishing = true;
	close_once((uv_handle_t *)&c->process);
	close_once((uv_handle_t *)&c->in);
	close_once((uv_handle_t *)&c->out);
	close_once((uv_handle_t *)&c->errs);
	close_once((uv_handle_t *)&c->timer);
}

static void on_grace(uv_timer_t *t)
{
	finish(t->data);
}

static void on_kill(uv_timer_t *t)
{
	struct child *c = t->data;
	kill(-c->pid, SIGKILL);
}

static void stop(struct child *c, int sig)
{
	kill(-c->pid, sig);
	c->kill_at_ms = monotonic_ms() + KILL_AFTER_MS;
	uv_timer_start(&c->timer, on_kill, KILL_AFTER_MS, 0);
}

static void on_timeout(uv_timer_t *t)
{
	struct child *c = t->data;
	c->timed_out = true;
	stop(c, SIGTERM);
}

/* A shell ends at once at SIGTERM, the apt-get under it finishes dpkg first: who asked for the end may go on when the whole group is gone. */
static void on_group(uv_timer_t *t)
{
	struct child *c = t->data;
	if (kill(-c->pid, 0) == 0 && monotonic_ms() < c->kill_at_ms)
		return;
	kill(-c->pid, SIGKILL);
	uv_timer_stop(t);
	c->awaits_group = false;
	if (c->open_pipes)
		uv_timer_start(t, on_grace, PIPE_GRACE_MS, 0);
	else
		finish(c);
}

void child_cancel(struct child *c, int sig)
{
	if (c->exited)
		return;
	c->cancelled = true;
	stop(c, sig ? sig : SIGTERM);
}

int child_pid(const struct child *c)
{
	return c->pid;
}

static void on_exited(uv_process_t *p, int64_t status, int sig)
{
	struct child *c = p->data;
	c->exited = true;
	c->exit_status = status;
	c->signal = sig;
	uv_timer_stop(&c->timer);
	c->awaits_group = (c->timed_out || c->cancelled) && kill(-c->pid, 0) == 0;
	if (c->awaits_group)
		uv_timer_start(&c->timer, on_group, GROUP_POLL_MS, GROUP_POLL_MS);
	else if (c->open_pipes)
		uv_timer_start(&c->timer, on_grace, PIPE_GRACE_MS, 0);
	else
		finish(c);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
	struct child *c = h->data;
	*buf = uv_buf_init(c->chunk, sizeof c->chunk);
}

static void take_lines(struct child *c, const char *data, size_t len)
{
	while (len) {
		const char *nl = memchr(data, c->line_end, len);
		size_t n = nl ? (size_t)(nl - data) : len;
		buf_add(&c->line, data, n);
		if (!nl && c->line.len < LINE_MAX_BYTES)
			return;
		c->on_line(c->arg, buf_str(&c->line), c->line.len);
		buf_reset(&c->line);
		n += nl != NULL;
		data += n;
		len -= n;
	}
}

static void pipe_ended(struct child *c, uv_stream_t *s)
{
	uv_read_stop(s);
	if (--c->open_pipes == 0 && c->exited && !c->awaits_group)
		finish(c);
}

static void on_out(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct child *c = s->data;
	if (n < 0) {
		pipe_ended(c, s);
		return;
	}
	if (c->on_line)
		take_lines(c, buf->base, (size_t)n);
	else if (c->collected.len < OUT_MAX)
		buf_add(&c->collected, buf->base, (size_t)n < OUT_MAX - c->collected.len ? (size_t)n : OUT_MAX - c->collected.len);
}

static void on_err(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct child *c = s->data;
	if (n < 0) {
		pipe_ended(c, s);
		return;
	}
	buf_add(&c->tail, buf->base, (size_t)n);
	if (c->tail.len > TAIL_MAX) {
		memmove(c->tail.data, c->tail.data + c->tail.len - TAIL_MAX, TAIL_MAX + 1);
		c->tail.len = TAIL_MAX;
	}
}

static void on_written(uv_write_t *req, int status)
{
	struct child *c = req->data;
	/* EPIPE: the child did not want it all; its exit status tells. */
	if (!uv_is_closing((uv_handle_t *)&c->in))
		uv_close((uv_handle_t *)&c->in, closed);
}

static char **make_env(const char *const *extra, bool bare)
{
	char *only_path[] = {NULL, NULL}, **ours = bare ? only_path : environ;
	size_t n = 0, m = 0;
	for (char **e = environ; bare && *e; e++)
		if (!strncmp(*e, "PATH=", 5))
			only_path[0] = *e;
	while (ours[n])
		n++;
	while (extra && extra[m])
		m++;
	char **env = xcalloc(n + m + 2, sizeof *env);
	size_t k = 0;
	env[k++] = (char *)"LC_ALL=C.UTF-8";
	for (size_t j = 0; j < m; j++) {
		if (!strncmp(extra[j], "LC_ALL=", 7))
			k = 0;
	}
	for (size_t i = 0; i < n; i++) {
		size_t name = strcspn(ours[i], "=") + 1;
		bool over = !strncmp(ours[i], "LC_ALL=", 7);
		for (size_t j = 0; j < m && !over; j++)
			over = !strncmp(ours[i], extra[j], name);
		if (!over)
			env[k++] = ours[i];
	}
	for (size_t j = 0; j < m; j++)
		env[k++] = (char *)extra[j];
	return env;
}

/* ENOENT comes from the program, its interpreter and the directory alike. */
static int cannot_start(const struct child_spec *spec, int rc, struct err **err)
{
	if (spec->cwd && access(spec->cwd, X_OK) < 0)
		return err_errno(err, errno, "cannot start '%s' in '%s'", spec->argv[0], spec->cwd);
	if (rc == UV_ENOENT && strchr(spec->argv[0], '/') && access(spec->argv[0], F_OK) == 0)
		return err_set(err, ENOENT, "cannot start '%s': the interpreter its first line names is not there", spec->argv[0]);
	if (rc == UV_ENOENT)
		return err_set(err, ENOENT, "'%s' is not installed (or not in PATH)", spec->argv[0]);
	return err_errno(err, -rc, "cannot start '%s'", spec->argv[0]);
}

static void init_handle(struct child *c, uv_handle_t *h)
{
	h->data = c;
	c->handles++;
}

int child_start(uv_loop_t *loop, const struct child_spec *spec, struct child **ret, struct err **err)
{
	struct child *c = xcalloc(1, sizeof *c);
	uv_stdio_container_t io[3];
	int out_fd = -1, rc;

	c->on_line = spec->on_line;
	c->collected.secret = spec->secret;
	c->line_end = spec->nul_lines ? 0 : '\n';
	c->done = spec->done;
	c->arg = spec->arg;
	uv_pipe_init(loop, &c->in, 0);
	uv_pipe_init(loop, &c->out, 0);
	uv_pipe_init(loop, &c->errs, 0);
	uv_timer_init(loop, &c->timer);
	init_handle(c, (uv_handle_t *)&c->in);
	init_handle(c, (uv_handle_t *)&c->out);
	init_handle(c, (uv_handle_t *)&c->errs);
	init_handle(c, (uv_handle_t *)&c->timer);
	c->process.data = c;

	io[0].flags = UV_IGNORE; /* libuv opens /dev/null for an ignored stdin */
	if (spec->input) {
		io[0].flags = UV_CREATE_PIPE | UV_READABLE_PIPE;
		io[0].data.stream = (uv_stream_t *)&c->in;
	}
	if (spec->output_path) {
		out_fd = open(spec->output_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		if (out_fd < 0) {
			rc = err_errno(err, errno, "cannot write '%s'", spec->output_path);
			goto fail;
		}
		io[1].flags = io[2].flags = UV_INHERIT_FD;
		io[1].data.fd = io[2].data.fd = out_fd;
	} else {
		io[1].flags = io[2].flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE;
		io[1].data.stream = (uv_stream_t *)&c->out;
		io[2].data.stream = (uv_stream_t *)&c->errs;
	}
	char **env = make_env(spec->env, spec->bare);
	uv_process_options_t opt = {
	        .exit_cb = on_exited,
	        .file = spec->argv[0],
	        .args = (char **)spec->argv,
	        .env = env,
	        .cwd = spec->cwd ? spec->cwd : "/",
	        .flags = UV_PROCESS_DETACHED | (spec->as_user ? UV_PROCESS_SETUID | UV_PROCESS_SETGID : 0),
	        .uid = spec->uid,
	        .gid = spec->gid,
	        .stdio_count = 3,
	        .stdio = io,
	};
	rc = uv_spawn(loop, &c->process, &opt);
	free(env);
	if (out_fd >= 0)
		close(out_fd);
	/* uv_spawn initialises the handle even when it fails */
	c->handles++;
	if (rc < 0) {
		rc = cannot_start(spec, rc, err);
		goto fail;
	}
	c->pid = c->process.pid;
	if (!spec->output_path) {
		c->open_pipes = 2;
		uv_read_start((uv_stream_t *)&c->out, on_alloc, on_out);
		uv_read_start((uv_stream_t *)&c->errs, on_alloc, on_err);
	}
	if (spec->input) {
		c->input = xmemdup(spec->input, spec->input_len);
		uv_buf_t b = uv_buf_init(c->input, (unsigned)spec->input_len);
		c->write.data = c;
		if (uv_write(&c->write, (uv_stream_t *)&c->in, &b, 1, on_written) < 0)
			uv_close((uv_handle_t *)&c->in, closed);
	}
	if (spec->timeout_ms > 0)
		uv_timer_start(&c->timer, on_timeout, (uint64_t)spec->timeout_ms, 0);
	*ret = c;
	return 0;

fail:
	c->done = NULL;
	c->on_line = NULL;
	c->finishing = true;
	if (c->handles == 5)
		close_once((uv_handle_t *)&c->process);
	close_once((uv_handle_t *)&c->in);
	close_once((uv_handle_t *)&c->out);
	close_once((uv_handle_t *)&c->errs);
	close_once((uv_handle_t *)&c->timer);
	return rc;
}

int child_run(const struct child_spec *spec, struct err **err)
{
	uv_loop_t loop;
	struct child *c;
	int rc = uv_loop_init(&loop);
	if (rc < 0)
		return err_errno(err, -rc, "cannot start '%s'", spec->argv[0]);
	rc = child_start(&loop, spec, &c, err);
	uv_run(&loop, UV_RUN_DEFAULT); /* what could not be started has handles to close */
	uv_loop_close(&loop);
	return rc;
}

void child_explain(struct buf *out, const char *name, const struct child_result *res)
{
	if (res->timed_out)
		buf_addf(out, "'%s' did not end in time and was stopped", name);
	else if (res->cancelled)
		buf_addf(out, "'%s' was cancelled", name);
	else if (res->signal)
		buf_addf(out, "'%s' was ended by signal %d (%s)", name, res->signal, strsignal(res->signal));
	else
		buf_addf(out, "'%s' failed: exit %d", name, res->status);
	const char *text = *res->tail ? res->tail : res->out;
	const char *end = text + strlen(text);
	while (end > text && strchr(" \t\r\n", end[-1]))
		end--;
	const char *start = end;
	while (start > text && start[-1] != '\n')
		start--;
	if (end > start)
		buf_addf(out, ": %.*s", (int)(end - start), start);
}
