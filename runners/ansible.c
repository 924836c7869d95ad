#include "fs/base/child.h"
#include "fs/base/io.h"
#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "fs/base/private.h"
#include "fs/base/redact.h"
#include "fs/base/str.h"
#include "runners/ansible_batch.h"
#include "runners/onnode.h"
#include "runners/runlog.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <utlist.h>

#define FOLLOW_MS 100
#define ALIVE_EVERY 10       /* looks at the process: every tenth time */
#define PREPARE_FOR_MS 30000 /* to reach a node before ansible-playbook starts: the others do not wait longer */
#define KILL_AFTER_MS 5000
#define STARTING_MS 10000

const struct key_row ansible_keys[] = {
        {"role", "gather-facts", VALUE_BOOL, "yes", 0, 0, NULL, "for content that is a plain role: gather Ansible's facts before it"},
        {"role", "roles-path", VALUE_LIST, NULL, 0, 0, NULL,
                "for ansible: where the roles are that it needs: directories in the role, or on this machine"},
        {"role", "collections-path", VALUE_LIST, NULL, 0, 0, NULL,
                "for ansible: where the collections are that it needs: directories in the role, or on this machine"},
        {NULL},
};

static void on_tick(uv_timer_t *timer);

void batch_tick_soon(struct batch *b)
{
	uv_timer_start(&b->timer, on_tick, 0, FOLLOW_MS);
}

/* ---- the batch ---- */

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void batch_release(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++) {
		struct host *h = &b->hosts[i];
		node_call_cancel(&h->call);
		if (h->item)
			h->item->priv = NULL;
		run_log_close(&h->log);
		buf_release(&h->answer);
		collect_reset(&h->collect);
		free(h->host_key);
		free(h->lost);
	}
	free(b->hosts);
	batch_events_release(&b->events);
	if (b->events_fd >= 0)
		close(b->events_fd);
	free(b->dir);
	if (b->starter)
		b->starter->batch = NULL;
	DL_DELETE(b->r->batches, b);
	uv_close((uv_handle_t *)&b->timer, on_closed);
}

static struct batch *batch_new(struct runner *r)
{
	struct batch *b = xcalloc(1, sizeof *b);
	b->r = r;
	b->events_fd = -1;
	uv_timer_init(r->host->loop, &b->timer);
	b->timer.data = b;
	DL_APPEND(r->batches, b);
	return b;
}

static void set_hosts(struct batch *b, struct run_item *const *items, size_t n)
{
	b->hosts = xcalloc(n, sizeof *b->hosts);
	b->n = n;
	for (size_t i = 0; i < n; i++) {
		struct host *h = &b->hosts[i];
		h->batch = b;
		h->item = items[i];
		h->item->priv = h;
		h->i = i;
		h->log.fd = -1;
		h->call.arg = h;
		h->collect.exit_status = -1;
		b->hide |= items[i]->hide;
	}
}

/* ---- the logs ---- */

void batch_log(void *arg, size_t i, const char *text, size_t len)
{
	struct batch *b = arg;
	struct host *h = &b->hosts[i];
	int64_t skip = h->log_have - h->log_pos;
	h->log_pos += len;
	if (h->log.fd < 0 || skip >= (int64_t)len)
		return;
	if (skip < 0)
		skip = 0;
	char *copy = xmemdup(text, len);
	redact(b->r->host->redactor, copy, len);
	for (size_t k = 0; b->hide && k < len; k++)
		copy[k] = copy[k] == '\n' ? '\n' : '*';
	int rc = run_log_add(&h->log, copy + skip, len - skip);
	free(copy);
	if (rc < 0) {
		log_msg(LOG_WARN, "the log of run %" PRId64 " is not complete: cannot write '%s/log': %s", h->item ? h->item->number : 0,
		        h->item ? h->item->run_dir : "", strerror(-rc));
		run_log_close(&h->log);
	}
}

static void open_logs(struct batch *b)
{
	b->events.hosts = xcalloc(b->n, sizeof *b->events.hosts);
	b->events.content_dir = xstrdup(b->hosts[0].item->content_dir);
	b->events.n = b->n;
	b->events.on_text = batch_log;
	b->events.arg = b;
	for (size_t i = 0; i < b->n; i++) {
		struct host *h = &b->hosts[i];
		b->events.hosts[i].name = h->item->target->name;
		run_log_open(&h->log, h->item->run_dir);
		h->log_have = h->log.size;
	}
}

static bool all_settled(const struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->hosts[i].item && !b->hosts[i].settled)
			return false;
	return true;
}

/* ---- follow ---- */

static bool has_file(const struct batch *b, const char *name)
{
	_cleanup_free_ char *path = path_join(b->dir, name);
	return access(path, F_OK) == 0;
}

/* The process that 'pid' names, 0 if that is gone. Its start time tells it from a later one with the same number. */
static pid_t living_pid(const struct batch *b)
{
	_cleanup_free_ char *path = path_join(b->dir, "pid");
	_cleanup_buf_ struct buf text = {0}, stat = {0};
	long long pid = 0, started = 0;
	if (file_read(AT_FDCWD, path, 100, &text, NULL) || sscanf(buf_str(&text), "%lld %lld", &pid, &started) != 2 || pid <= 1)
		return 0;
	_cleanup_free_ char *proc = xasprintf("/proc/%lld/stat", pid);
	_cleanup_close_ int fd = open(proc, O_RDONLY | O_CLOEXEC);
	char line[1024];
	ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
	if (n <= 0)
		return 0;
	line[n] = 0;
	char *p = strrchr(line, ')');
	for (int field = 2; p && field < 22; field++) { /* proc(5): starttime is field 22, the name in brackets field 2 */
		p = strchr(p, ' ');
		p = p ? p + 1 : NULL;
	}
	return p && strtoll(p, NULL, 10) == started ? (pid_t)pid : 0;
}

static void read_events(struct batch *b)
{
	char data[65536];
	ssize_t n;
	if (b->events_fd < 0) {
		_cleanup_free_ char *path = path_join(b->dir, "events");
		b->events_fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	while (b->events_fd >= 0 && (n = read(b->events_fd, data, sizeof data)) > 0)
		batch_events_add(&b->events, data, n);
}

static void stop(struct batch *b, const char *reason)
{
	if (b->stopping)
		return;
	b->stopping = reason;
	b->kill_by = monotonic_ms() + KILL_AFTER_MS;
	pid_t pid = living_pid(b);
	/* not SIGTERM: that leaves the task running on the node */
	if (pid)
		kill(-pid, SIGINT);
}

static void follow_tick(struct batch *b)
{
	int64_t now = monotonic_ms();
	if (b->starter)
		return;
	bool ended = has_file(b, "status"); /* before the events are read: then they are complete */
	read_events(b);
	if (ended) {
		batch_ended(b, true);
		return;
	}
	if (now >= b->end_by)
		stop(b, "timeout");
	pid_t pid = 0;
	bool look = b->ticks++ % ALIVE_EVERY == 0 || (b->stopping && now >= b->kill_by);
	if (look && !(pid = living_pid(b)) && !has_file(b, "status") && (b->start_failed || now >= b->starting_until || has_file(b, "pid"))) {
		read_events(b);
		batch_ended(b, false);
	} else if (pid && b->stopping && now >= b->kill_by) {
		kill(-pid, SIGKILL);
		b->kill_by = now + KILL_AFTER_MS;
	}
}

static void on_started(void *arg, const struct child_result *res)
{
	struct starter *s = arg;
	if (s->batch) {
		s->batch->starter = NULL;
		s->batch->start_failed = res->status != 0;
	}
	free(s);
}

static void tell_started(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->hosts[i].item && b->hosts[i].item->started)
			b->hosts[i].item->started(b->hosts[i].item);
}

static int64_t longest_timeout(const struct batch *b)
{
	int64_t ms = 0;
	for (size_t i = 0; i < b->n; i++)
		if (b->hosts[i].item && b->hosts[i].item->timeout_ms > ms)
			ms = b->hosts[i].item->timeout_ms;
	return ms;
}

static void follow(struct batch *b, int64_t age_ms)
{
	int64_t now = monotonic_ms();
	b->phase = PHASE_FOLLOW;
	b->end_by = now + longest_timeout(b) - age_ms;
	b->starting_until = now + STARTING_MS;
	tell_started(b);
}

/* ---- launch ---- */

/* A directory with a path short enough for ssh's control sockets, nobody else's. */
char *ansible_short_base(const struct runner_host *host)
{
	return geteuid() == 0 ? xasprintf("/run/rebarfs-%s", host->owner) : xasprintf("/tmp/rebarfs-%s-%u", host->owner, geteuid());
}

static char *make_short_dir(const struct runner_host *host, int64_t number, struct err **err)
{
	_cleanup_free_ char *base = ansible_short_base(host);
	if (private_dir_make(base, err))
		return NULL;
	char *dir = xasprintf("%s/%" PRId64, base, number);
	if (!dir_make_all(dir, 0700, err))
		return dir;
	free(dir);
	return NULL;
}

/* Where the files that hold secrets go; "" if there are none. */
static char *make_private_dir(const struct batch *b, struct err **err)
{
	bool secret = false;
	for (size_t i = 0; i < b->n; i++)
		secret |= b->hosts[i].item->secret;
	if (!secret)
		return xstrdup("");
	const struct runner_host *host = b->r->host;
	_cleanup_free_ char *base = private_dir(host->owner, host->state_dir);
	char *dir = xasprintf("%s/%" PRId64 ".secret", base, b->hosts[0].item->number);
	if (!private_dir_make(base, err) && !private_dir_make(dir, err))
		return dir;
	free(dir);
	return NULL;
}

/* The batch is over: its results are with who asked for them. */
static void remove_private_dir(const struct batch *b)
{
	_cleanup_free_ char *link = b->dir ? path_join(b->dir, "private") : NULL, *dir = link ? realpath(link, NULL) : NULL;
	if (dir)
		tree_remove(dir, NULL);
}

/* Each item's 'started' is made but once: whoever finds it there attaches. */
static int claim(struct batch *b, struct err **err)
{
	for (size_t i = 0; i < b->n; i++) {
		const char *run_dir = b->hosts[i].item->run_dir;
		_cleanup_free_ char *link = path_join(run_dir, "batch"), *started = path_join(run_dir, "started");
		if (i && symlink(b->dir, link) < 0 && errno != EEXIST)
			return err_errno(err, errno, "cannot make '%s'", link);
		if (mkdir(started, 0700) < 0)
			return err_errno(err, errno, "cannot make '%s'", started);
	}
	return 0;
}

static int start_playbook(struct batch *b, struct err **err)
{
	struct ansible_host *hosts = xcalloc(b->n, sizeof *hosts);
	for (size_t i = 0; i < b->n; i++)
		hosts[i] = (struct ansible_host){.item = b->hosts[i].item, .host_key = b->hosts[i].host_key};
	const struct runner_host *host = b->r->host;
	_cleanup_free_ char *short_dir = make_short_dir(host, hosts[0].item->number, err);
	int rc = short_dir ? dir_make_all(b->dir, 0700, err) : -EIO;
	_cleanup_free_ char *private = rc ? NULL : make_private_dir(b, err);
	rc = rc ? rc : private ? 0 : -EIO;
	rc = rc ? rc : ansible_write_batch(b->dir, *private ? private : b->dir, short_dir, host->state_dir, host->owner, hosts, b->n, err);
	free(hosts);
	if (rc)
		return rc;
	rc = claim(b, err);
	if (rc)
		return rc;
	_cleanup_free_ char *run = path_join(b->dir, "run");
	/* it must not hold our pipes: the child counts as ended when those are closed */
	const char *argv[] = {"/bin/sh", "-c", "exec setsid --fork /bin/sh \"$1\" > /dev/null 2>&1", "sh", run, NULL};
	b->starter = xcalloc(1, sizeof *b->starter);
	b->starter->batch = b;
	struct child *child;
	struct child_spec spec = {.argv = argv, .timeout_ms = 30000, .done = on_started, .arg = b->starter};
	rc = child_start(host->loop, &spec, &child, err);
	if (rc) {
		free(b->starter);
		b->starter = NULL;
	}
	return rc;
}

static void keep_prepared(struct batch *b)
{
	size_t n = 0;
	for (size_t i = 0; i < b->n; i++) {
		if (!b->hosts[i].item) {
			buf_release(&b->hosts[i].answer);
			free(b->hosts[i].host_key);
			continue;
		}
		if (n != i)
			b->hosts[n] = b->hosts[i];
		struct host *h = &b->hosts[n];
		h->i = n++;
		h->call.arg = h;
		h->item->priv = h;
	}
	b->n = n;
}

static void launch(struct batch *b)
{
	keep_prepared(b);
	if (!b->n)
		return;
	_cleanup_err_ struct err *err = NULL;
	b->dir = path_join(b->hosts[0].item->run_dir, "batch");
	open_logs(b);
	if (!start_playbook(b, &err)) {
		follow(b, 0);
		return;
	}
	for (size_t i = 0; i < b->n; i++)
		host_finish_why(&b->hosts[i], RUN_FAILED, "cannot start ansible-playbook: %s", err_msg(err));
}

/* ---- prepare: the run's directory on each node; who cannot be reached is left out ---- */

static void prepare_data(void *arg, const char *data, size_t len)
{
	struct host *h = arg;
	if (h->answer.len + len < 4096)
		buf_add(&h->answer, data, len);
}

static void prepare_done(void *arg, const struct ssh_result *res, bool begun)
{
	struct host *h = arg;
	_cleanup_free_ char *refusal = node_refusal(h->item->target->name, buf_str(&h->answer));
	_cleanup_free_ char *mark = node_marked(h->item->target->name, h->batch->r->host->owner, buf_str(&h->answer));
	h->asked |= res->sent;
	if (refusal) {
		host_finish_why(h, RUN_REFUSED, "%s", refusal);
	} else if (mark) {
		h->marked = true;
		host_finish_why(h, RUN_FAILED, "%s", mark);
	} else if (res->rc && host_retry_later(h, res->rc)) {
		return;
	} else if (res->rc) {
		host_finish_why(h, RUN_UNREACHABLE, "%s", err_msg(res->err));
	} else if (!strncmp(buf_str(&h->answer), "ready", 5) && res->host_key) {
		h->host_key = xstrdup(res->host_key);
	} else {
		_cleanup_buf_ struct buf line = {0};
		last_line(res->tail, strlen(res->tail), &line);
		host_finish_why(h, RUN_FAILED, "cannot start on '%s': %s", h->item->target->name,
		        line.len ? buf_str(&line) : "the login shell runs no commands");
	}
	h->settled = true;
	batch_tick_soon(h->batch);
}

static void prepare_tick(struct batch *b)
{
	int64_t now = monotonic_ms();
	for (size_t i = 0; i < b->n; i++) {
		struct host *h = &b->hosts[i];
		if (!h->item || h->settled || h->call.exec || now < h->backoff_until)
			continue;
		if (h->cancelled) {
			host_finish_why(h, RUN_CANCELLED, "cancelled before it began");
			continue;
		}
		buf_reset(&h->answer);
		_cleanup_free_ char *known = node_known(h->item, h->asked);
		const char *const more[] = {h->item->role, known};
		host_script(h, node_prepare, more, prepare_data, prepare_done);
	}
	if (!all_settled(b))
		return;
	for (size_t i = 0; i < b->n; i++)
		if (b->hosts[i].item && b->hosts[i].cancelled)
			host_finish_why(&b->hosts[i], RUN_CANCELLED, "cancelled before it began");
	launch(b);
}

static void prepare(struct batch *b)
{
	int64_t now = monotonic_ms(), longest = longest_timeout(b);
	b->phase = PHASE_PREPARE;
	for (size_t i = 0; i < b->n; i++)
		b->hosts[i].give_up = now + (longest < PREPARE_FOR_MS ? longest : PREPARE_FOR_MS);
	prepare_tick(b);
}

/* ---- sort: which items begin, which belong to a batch that was started before ---- */

static bool was_started(const struct run_item *item)
{
	_cleanup_free_ char *path = path_join(item->run_dir, "started");
	return access(path, F_OK) == 0;
}

static void attach(struct runner *r, const char *dir, struct run_item *const *items, size_t n)
{
	struct batch *b = batch_new(r);
	b->dir = xstrdup(dir);
	set_hosts(b, items, n);
	open_logs(b);
	_cleanup_free_ char *pid = path_join(dir, "pid");
	struct stat st;
	int64_t age = stat(pid, &st) == 0 ? now_ms() - (int64_t)st.st_mtime * 1000 : 0;
	follow(b, age > 0 ? age : 0);
	uv_timer_start(&b->timer, on_tick, 0, FOLLOW_MS);
}

/* Takes the items with the batch directory of the first out of found (dirs beside it), and attaches to it. */
static void attach_first(struct runner *r, struct run_item **found, char **dirs, size_t *n)
{
	struct run_item **same = xcalloc(*n, sizeof *same);
	_cleanup_free_ char *dir = dirs[0];
	size_t kept = 0, taken = 0;
	for (size_t i = 0; i < *n; i++) {
		if (!strcmp(dirs[i], dir)) {
			same[taken++] = found[i];
			if (i)
				free(dirs[i]);
			continue;
		}
		found[kept] = found[i];
		dirs[kept++] = dirs[i];
	}
	*n = kept;
	attach(r, dir, same, taken);
	free(same);
}

static void sort(struct batch *b)
{
	struct run_item **fresh = xcalloc(b->n, sizeof *fresh), **found = xcalloc(b->n, sizeof *found);
	char **dirs = xcalloc(b->n, sizeof *dirs);
	size_t n_fresh = 0, n_found = 0;
	for (size_t i = 0; i < b->n; i++) {
		struct host *h = &b->hosts[i];
		_cleanup_free_ char *link = path_join(h->item->run_dir, "batch");
		if (h->cancelled && !was_started(h->item)) {
			host_finish_why(h, RUN_CANCELLED, "cancelled before it began");
		} else if (!was_started(h->item) && h->item->attach_only) {
			host_finish_why(h, RUN_NOT_STARTED, "it was never started");
		} else if (!was_started(h->item)) {
			fresh[n_fresh++] = h->item;
			h->item = NULL;
		} else if ((dirs[n_found] = realpath(link, NULL))) {
			found[n_found++] = h->item;
			h->item = NULL;
		} else {
			host_finish_why(h, RUN_INTERRUPTED, "interrupted: neither its ansible-playbook nor its result is left");
		}
	}
	if (n_fresh) {
		struct batch *next = batch_new(b->r);
		set_hosts(next, fresh, n_fresh);
		prepare(next);
		uv_timer_start(&next->timer, on_tick, 20, FOLLOW_MS);
	}
	while (n_found)
		attach_first(b->r, found, dirs, &n_found);
	free(fresh);
	free(found);
	free(dirs);
}

static void on_tick(uv_timer_t *timer)
{
	struct batch *b = timer->data;
	switch (b->phase) {
	case PHASE_SORT:
		sort(b);
		break;
	case PHASE_PREPARE:
		prepare_tick(b);
		break;
	case PHASE_FOLLOW:
		follow_tick(b);
		break;
	case PHASE_COLLECT:
		batch_collect(b);
		break;
	}
	for (size_t i = 0; i < b->n; i++)
		if (b->hosts[i].item)
			return;
	remove_private_dir(b);
	batch_release(b);
}

/* ---- the plug-in ---- */

static void ansible_run(struct runner *r, struct run_item *const *items, size_t n)
{
	struct batch *b = batch_new(r);
	set_hosts(b, items, n);
	uv_timer_start(&b->timer, on_tick, 0, 0);
}

/* One process serves the whole batch: stopping one node stops all. The others end as interrupted and are run again. */
static void ansible_cancel(struct runner *r, struct run_item *item)
{
	struct host *h = item->priv;
	if (!h)
		return;
	h->cancelled = true;
	if (h->batch->phase == PHASE_FOLLOW)
		stop(h->batch, "cancelled");
	if (h->batch->phase == PHASE_PREPARE)
		node_call_cancel(&h->call);
}

static bool readable(const char *content_dir, const char *name)
{
	_cleanup_free_ char *path = path_join(content_dir, name);
	return access(path, R_OK) == 0;
}

static int ansible_check(const char *content_dir, const struct settings *settings, struct err **err)
{
	if (readable(content_dir, "playbook.yml") || readable(content_dir, "tasks/main.yml") || readable(content_dir, "tasks/main.yaml"))
		return 0;
	return err_set(err, ENOENT, "neither 'playbook.yml' nor 'tasks/main.yml' can be read: an ansible role needs one of them");
}

static int ansible_open(const struct runner_host *host, struct runner **ret, struct err **err)
{
	int rc = ansible_write_callback(host->state_dir, err);
	if (rc)
		return rc;
	struct runner *r = xcalloc(1, sizeof *r);
	r->host = host;
	*ret = r;
	return 0;
}

static void ansible_close(struct runner *r)
{
	struct batch *b, *next;
	DL_FOREACH_SAFE(r->batches, b, next)
	{
		batch_release(b);
	}
	free(r);
}

const struct runner_ops ansible_runner = {
        .api = RUNNER_API,
        .name = "ansible",
        .help = "runs a playbook or a plain Ansible role from the control host, one ansible-playbook for a batch of nodes",
        .keys = ansible_keys,
        .keeps_secrets = true,
        .batch_max = 50,
        .check = ansible_check,
        .open = ansible_open,
        .close = ansible_close,
        .run = ansible_run,
        .cancel = ansible_cancel,
};
