/* Child processes, each one real: how they end, what they print, what they inherit, who goes with them. */
#include "fs/base/child.h"
#include "fs/base/mem.h"
#include "tests/unit/test_files.h"
#include <errno.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/stat.h>

#define has(text, part) cr_assert(strstr(text, part), "'%s' is not in '%s'", part, text)

struct seen {
	int n_done, n_lines;
	struct child_result res;
	char *out, *tail;
	struct strlist lines;
	int64_t took_ms;
};

static void on_done(void *arg, const struct child_result *res)
{
	struct seen *s = arg;
	s->n_done++;
	s->res = *res;
	free(s->out);
	free(s->tail);
	s->out = xmemdup(res->out, res->out_len + 1);
	s->tail = xstrdup(res->tail);
}

static void on_line(void *arg, const char *line, size_t len)
{
	struct seen *s = arg;
	cr_assert_eq(s->n_done, 0, "a line after the end");
	s->n_lines++;
	if (s->n_lines <= 10)
		strlist_add_take(&s->lines, xstrndup(line, len));
}

/* Runs a shell's script to its end; spec may say more. */
static struct seen run_argv(struct child_spec spec, void (*meanwhile)(uv_timer_t *), int after_ms)
{
	_cleanup_err_ struct err *err = NULL;
	struct seen s = {0};
	struct child *c = NULL;
	uv_loop_t loop;
	uv_timer_t timer;
	int64_t start = monotonic_ms();
	signal(SIGPIPE, SIG_IGN); /* as the daemon does */
	alarm(60);
	spec.done = on_done;
	spec.arg = &s;
	cr_assert_eq(uv_loop_init(&loop), 0);
	int rc = child_start(&loop, &spec, &c, &err);
	cr_assert_eq(rc, 0, "%s", err_msg(err));
	cr_assert_eq(s.n_done, 0, "done came from inside the call");
	cr_assert_gt(child_pid(c), 1);
	if (meanwhile) {
		uv_timer_init(&loop, &timer);
		timer.data = c;
		uv_timer_start(&timer, meanwhile, (uint64_t)after_ms, 0);
	}
	uv_run(&loop, UV_RUN_DEFAULT);
	cr_assert_eq(s.n_done, 1);
	s.took_ms = monotonic_ms() - start;
	if (meanwhile) {
		uv_close((uv_handle_t *)&timer, NULL);
		uv_run(&loop, UV_RUN_DEFAULT);
	}
	cr_assert_eq(uv_loop_close(&loop), 0, "a handle is left");
	return s;
}

static struct seen run(const char *script, struct child_spec spec)
{
	spec.argv = (const char *[]){"sh", "-c", script, NULL};
	return run_argv(spec, NULL, 0);
}

static void forget(struct seen *s)
{
	free(s->out);
	free(s->tail);
	strlist_release(&s->lines);
}

static void explains(struct seen *s, const char *want)
{
	_cleanup_buf_ struct buf b = {0};
	s->res.out = s->out;
	s->res.tail = s->tail;
	child_explain(&b, "tool", &s->res);
	eq_str(buf_str(&b), want);
	forget(s);
}

Test(child, exit_codes_and_output)
{
	struct seen s = run("echo out; echo err >&2; exit 0", (struct child_spec){0});
	cr_assert(s.res.status == 0 && s.res.signal == 0 && !s.res.timed_out && !s.res.cancelled);
	eq_str(s.out, "out\n");
	eq_str(s.tail, "err\n");
	forget(&s);
	s = run("echo out; printf 'E: first\\nE: Unable to locate package foo\\r\\n \\n' >&2; exit 25", (struct child_spec){0});
	cr_assert_eq(s.res.status, 25);
	explains(&s, "'tool' failed: exit 25: E: Unable to locate package foo");
	s = run("echo only stdout; exit 3", (struct child_spec){0});
	explains(&s, "'tool' failed: exit 3: only stdout");
	s = run("exit 4", (struct child_spec){0});
	explains(&s, "'tool' failed: exit 4");
}

Test(child, signals)
{
	struct seen s = run("kill -KILL $$", (struct child_spec){0});
	cr_assert(s.res.status == -1 && s.res.signal == SIGKILL && !s.res.cancelled);
	explains(&s, "'tool' was ended by signal 9 (Killed)");
}

Test(child, surroundings)
{
	setenv("REBARFS_TEST", "ours", 1);
	setenv("LC_ALL", "de_DE", 1);
	/* criterion's own descriptors are not close-on-exec */
	cr_assert_eq(close_range(3, ~0U, CLOSE_RANGE_CLOEXEC), 0);
	struct seen s = run("echo $REBARFS_TEST $LC_ALL $PWD; cat; ls /proc/self/fd | tr '\\n' ' '; [ $(ps -o pgid= $$) = $$ ] && echo leads",
	        (struct child_spec){0});
	eq_str(s.out, "ours C.UTF-8 /\n0 1 2 3 leads\n"); /* 3: ls reading the directory */
	forget(&s);
	s = run("echo $REBARFS_TEST $LC_ALL $PWD; echo $EXTRA",
	        (struct child_spec){.env = (const char *const[]){"REBARFS_TEST=yours", "LC_ALL=C", "EXTRA=a b", NULL}, .cwd = "/tmp"});
	eq_str(s.out, "yours C /tmp\na b\n");
	forget(&s);
}

Test(child, input)
{
	size_t len = 300000;
	char *text = xmalloc(len);
	memset(text, 'i', len);
	struct seen s = run("wc -c", (struct child_spec){.input = text, .input_len = len});
	cr_assert_eq(atol(s.out), 300000, "%s", s.out);
	forget(&s);
	s = run("wc -c", (struct child_spec){.input = "", .input_len = 0});
	cr_assert_eq(atol(s.out), 0);
	forget(&s);
	/* who does not want it all is no trouble */
	s = run("exec <&-; exit 7", (struct child_spec){.input = text, .input_len = len});
	cr_assert_eq(s.res.status, 7);
	forget(&s);
	free(text);
}

Test(child, big_output)
{
	struct seen s =
	        run("head -c 3000000 /dev/zero | tr '\\0' o; head -c 100000 /dev/zero | tr '\\0' e >&2; echo end >&2", (struct child_spec){0});
	cr_assert_eq(s.res.out_len, 1 << 20);
	cr_assert_eq(strlen(s.out), 1 << 20);
	cr_assert_eq(strlen(s.tail), 4096);
	eq_str(s.tail + 4096 - 5, "eend\n");
	forget(&s);
}

Test(child, lines)
{
	struct seen s = run("echo one; printf tw; sleep 0.2; echo o; echo; printf last", (struct child_spec){.on_line = on_line});
	cr_assert_eq(s.n_lines, 4);
	eq_str(s.lines.items[0], "one");
	eq_str(s.lines.items[1], "two");
	eq_str(s.lines.items[2], "");
	eq_str(s.lines.items[3], "last");
	eq_str(s.out, "");
	forget(&s);
	s = run("seq 100000", (struct child_spec){.on_line = on_line});
	cr_assert_eq(s.n_lines, 100000);
	forget(&s);
	/* one without an end comes in pieces, so that memory has one */
	s = run("head -c 40000000 /dev/zero", (struct child_spec){.on_line = on_line});
	cr_assert_eq(s.n_lines, 3);
	forget(&s);
}

Test(child, output_to_a_file, .init = make_dir, .fini = remove_dir)
{
	put("log", "before\n", 0600);
	struct seen s = run("echo out; echo err >&2; exit 1", (struct child_spec){.output_path = at("log")});
	holds("log", "before\nout\nerr\n");
	eq_str(s.out, "");
	explains(&s, "'tool' failed: exit 1");
}

Test(child, timeout)
{
	struct seen s = run("echo begun; sleep 60", (struct child_spec){.timeout_ms = 200});
	cr_assert(s.res.timed_out && !s.res.cancelled);
	cr_assert(s.took_ms >= 200 && s.took_ms < 4000, "%lld ms", (long long)s.took_ms);
	eq_str(s.out, "begun\n");
	explains(&s, "'tool' did not end in time and was stopped: begun");
}

Test(child, timeout_of_who_does_not_listen)
{
	struct seen s = run("trap '' TERM; sleep 60; sleep 60", (struct child_spec){.timeout_ms = 100});
	cr_assert(s.res.timed_out && s.res.signal == SIGKILL);
	cr_assert(s.took_ms >= 5000 && s.took_ms < 9000, "%lld ms", (long long)s.took_ms);
	forget(&s);
}

/* A shell ends at once, what it started takes its time: done says that both are gone. */
Test(child, the_end_is_that_of_the_group, .init = make_dir, .fini = remove_dir)
{
	_cleanup_free_ char *script =
	        xasprintf("(trap 'sleep 0.7; echo tidy >%s/mark; exit' TERM; echo ready >%s/ready; while :; do sleep 0.05; done) & "
	                  "while ! [ -e %s/ready ]; do sleep 0.01; done; trap 'exit 9' TERM; while :; do sleep 0.05; done",
	                dir, dir, dir);
	struct seen s = run(script, (struct child_spec){.output_path = at("log"), .timeout_ms = 1500});
	cr_assert(s.res.timed_out);
	holds("mark", "tidy\n");
	forget(&s);
}

static void cancel(uv_timer_t *t)
{
	child_cancel(t->data, 0);
}

static void interrupt(uv_timer_t *t)
{
	child_cancel(t->data, SIGINT);
	child_cancel(t->data, SIGINT);
}

Test(child, cancel)
{
	struct seen s = run_argv((struct child_spec){.argv = (const char *[]){"sleep", "60", NULL}}, cancel, 100);
	cr_assert(s.res.cancelled && !s.res.timed_out && s.res.signal == SIGTERM);
	cr_assert_lt(s.took_ms, 4000);
	explains(&s, "'tool' was cancelled");
	s = run_argv((struct child_spec){.argv = (const char *[]){"sleep", "60", NULL}}, interrupt, 100);
	cr_assert(s.res.cancelled && s.res.signal == SIGINT);
	forget(&s);
}

Test(child, a_grandchild_keeps_the_pipe)
{
	struct seen s = run("(sleep 4; echo late) & echo gone; exit 5", (struct child_spec){0});
	cr_assert_eq(s.res.status, 5);
	cr_assert_lt(s.took_ms, 3000, "%lld ms", (long long)s.took_ms);
	eq_str(s.out, "gone\n");
	forget(&s);
}

static int failing(struct child_spec spec, const char *sentence)
{
	_cleanup_err_ struct err *err = NULL;
	struct seen s = {0};
	struct child *c = NULL;
	uv_loop_t loop;
	spec.done = on_done;
	spec.arg = &s;
	uv_loop_init(&loop);
	int rc = child_start(&loop, &spec, &c, &err);
	has(err_msg(err), sentence);
	uv_run(&loop, UV_RUN_DEFAULT);
	cr_assert_eq(s.n_done, 0, "done although it never began");
	cr_assert_eq(child_start(&loop, &spec, &c, NULL), rc);
	uv_run(&loop, UV_RUN_DEFAULT);
	cr_assert_eq(uv_loop_close(&loop), 0);
	return rc;
}

Test(child, cannot_start, .init = make_dir, .fini = remove_dir)
{
	cr_assert_eq(failing((struct child_spec){.argv = (const char *[]){"rebarfs-no-such-tool", NULL}},
	                     "'rebarfs-no-such-tool' is not installed (or not in PATH)"),
	        -ENOENT);
	cr_assert_eq(
	        failing((struct child_spec){.argv = (const char *[]){"sh", NULL}, .cwd = at("none")}, "none': No such file or directory"), -ENOENT);
	cr_assert_eq(failing((struct child_spec){.argv = (const char *[]){"sh", NULL}, .output_path = at("none/log")}, "cannot write '"), -ENOENT);
	put("script", "#!/no/such/shell\n", 0755);
	cr_assert_eq(failing((struct child_spec){.argv = (const char *[]){at("script"), NULL}}, "the interpreter its first line names is not there"),
	        -ENOENT);
	cr_assert_eq(chmod(at("script"), 0644), 0);
	cr_assert_eq(failing((struct child_spec){.argv = (const char *[]){at("script"), NULL}}, "script': Permission denied"), -EACCES);
}
