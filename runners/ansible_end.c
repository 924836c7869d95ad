/* The end of a batch: what became of each host, by what the callback said and not by the exit status, and what the role wrote there as outputs. */
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "fs/base/str.h"
#include "runners/ansible_batch.h"
#include "runners/onnode.h"
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#define COLLECT_FOR_MS 60000
#define LOST_FOR_MS 10000
#define OUTPUT_FILE_MAX (4 * 1024 * 1024)

void host_finish(struct host *h, enum run_result result, const char *why, json_t *outputs)
{
	struct run_item *item = h->item;
	if (!item)
		return;
	node_call_cancel(&h->call);
	h->item = NULL;
	item->priv = NULL;
	const json_t *resources = h->batch->events.hosts ? h->batch->events.hosts[h->i].resources : NULL;
	json_t *report = resources ? run_report("ansible", item, resources) : NULL;
	struct run_done done = {.result = result,
	        .exit_status = result == RUN_OK ? 0 : -1,
	        .why = result == RUN_OK && !item->check ? NULL : why,
	        .outputs = outputs,
	        .report = report,
	        .took_ms = h->batch->took_ms,
	        .marked = h->marked,
	        .drifted = item->check && h->batch->events.hosts && h->batch->events.hosts[h->i].changes > 0};
	item->done(item, &done);
	json_decref(report);
}

void host_finish_why(struct host *h, enum run_result result, const char *fmt, ...)
{
	_cleanup_buf_ struct buf why = {0};
	va_list ap;
	va_start(ap, fmt);
	buf_vaddf(&why, fmt, ap);
	va_end(ap);
	host_finish(h, result, buf_str(&why), NULL);
}

/* ---- outputs ---- */

static bool is_secret_output(const struct run_item *item, const char *key)
{
	for (const char *const *k = item->secret_outputs; k && *k; k++)
		if (!strcmp(*k, key))
			return true;
	return false;
}

static void collected(struct host *h)
{
	_cleanup_free_ char *complaint = NULL;
	json_t *outputs = collect_outputs(&h->collect, &complaint);
	if (!outputs) {
		host_finish(h, RUN_FAILED, complaint, NULL);
		return;
	}
	const char *key;
	json_t *value;
	json_object_foreach(h->batch->events.hosts[h->i].custom, key, value)
	{
		if (json_object_get(outputs, key)) /* the file was written on the node itself */
			continue;
		if (is_secret_output(h->item, key)) {
			host_finish_why(h, RUN_FAILED,
			        "output '%s' is secret: write it into a file of that name in {{ rebar_outputs }} on the node, set_stats would take "
			        "it away",
			        key);
			break;
		}
		if (key[strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")] || *key == '.' || !*key) {
			host_finish_why(h, RUN_FAILED, "set_stats '%s' has a name that is not made of letters, digits, '_', '-' and '.'", key);
			break;
		}
		_cleanup_free_ char *text = json_is_string(value) ? xstrdup(json_string_value(value))
		                                                  : json_dumps(value, JSON_ENCODE_ANY | JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
		if (text && strlen(text) > OUTPUT_MAX) {
			host_finish_why(h, RUN_FAILED, "set_stats '%s' has %zu bytes: %d at most", key, strlen(text), OUTPUT_MAX);
			break;
		}
		json_object_set_new(outputs, key, json_string(text ? text : ""));
	}
	host_finish(h, RUN_OK, NULL, outputs);
	json_decref(outputs);
}

bool host_retry_later(struct host *h, int rc)
{
	int64_t now = monotonic_ms();
	if (!node_worth_retry(rc) || now >= h->give_up)
		return false;
	h->backoff_ms = h->backoff_ms ? (h->backoff_ms < 2500 ? h->backoff_ms * 2 : 5000) : 200;
	h->backoff_until = now + h->backoff_ms;
	return true;
}

static void collect_data(void *arg, const char *data, size_t len)
{
	struct host *h = arg;
	collect_add(&h->collect, data, len);
}

static void collect_done(void *arg, const struct ssh_result *res, bool begun)
{
	struct host *h = arg;
	_cleanup_free_ char *refusal = node_refusal(h->item->target->name, h->collect.refusal ? h->collect.refusal : "");
	if (refusal) {
		h->settled = true;
		host_finish_why(h, RUN_REFUSED, "%s", refusal);
	} else if (!res->rc && begun && h->collect.complete) {
		h->settled = true;
		if (h->lost)
			host_finish(h, RUN_FAILED, h->lost, NULL);
		else
			collected(h);
	} else if (res->rc && host_retry_later(h, res->rc)) {
		return;
	} else {
		h->settled = true;
		_cleanup_buf_ struct buf line = {0};
		last_line(res->tail, strlen(res->tail), &line);
		const char *cause = res->err ? err_msg(res->err) : line.len ? buf_str(&line) : "no answer";
		if (h->lost)
			host_finish(h, RUN_UNREACHABLE, h->lost, NULL);
		else
			host_finish_why(h, RUN_UNREACHABLE, "it succeeded, but its outputs cannot be read: %s", cause);
	}
	batch_tick_soon(h->batch);
}

void host_script(struct host *h, const char *script, const char *const *more, void (*on_data)(void *, const char *, size_t),
        void (*done)(void *, const struct ssh_result *, bool))
{
	const struct runner_host *host = h->batch->r->host;
	_cleanup_free_ char *mounts = xasprintf("%" PRIu64, host->mounts), *number = xasprintf("%" PRId64, h->item->number);
	const char *args[] = {host->owner, mounts, number, more[0], more[1], NULL};
	const char **all = script == node_collect ? node_collect_args(args, h->item) : NULL;
	h->call.on_data = on_data;
	h->call.done = done;
	struct node_call_options opt = {.connect_ms = 15000, .timeout_ms = 60000};
	node_call_start(&h->call, host->pool, h->item->target, script, all ? all : args, &opt);
	free(all);
}

void batch_collect(struct batch *b)
{
	int64_t now = monotonic_ms();
	for (size_t i = 0; i < b->n; i++) {
		struct host *h = &b->hosts[i];
		if (!h->item || h->settled || h->call.exec || now < h->backoff_until)
			continue;
		collect_reset(&h->collect);
		host_script(h, node_collect, (const char *const[]){"-1", NULL}, collect_data, collect_done);
	}
}

/* ---- the verdict ---- */

/* A playbook of somebody's own may leave a host out; a role that has nothing to do for it has done that. */
static bool may_run_nothing(const struct host *h)
{
	_cleanup_free_ char *path = path_join(h->item->content_dir, "playbook.yml");
	return access(path, F_OK) < 0;
}

/* What the events say of a host, after the process has ended. Hosts that succeeded stay, to be asked for their outputs; so do those that Ansible
 * could not reach, to be asked whether they are there: a task may have gone elsewhere, by a port or a delegation of its own. */
static void judge(struct batch *b, struct host *h, bool has_status, const char *output)
{
	const struct host_events *e = &b->events.hosts[h->i];
	const char *reason = h->cancelled ? "cancelled" : b->stopping;
	_cleanup_buf_ struct buf line = {0};
	if (e->failed_text)
		last_line(e->failed_text, strlen(e->failed_text), &line);
	if (b->events.ended && b->events.reached_end && !e->failures && !e->unreachable && (e->ran ? e->has_stats : may_run_nothing(h))) {
		if (h->item->check) { /* it changed nothing: there are no outputs to ask for */
			if (e->changes > 1)
				buf_addf(&line, "%lld tasks would change something, first '%s'", e->changes, e->changed_task);
			else if (e->changes)
				buf_addf(&line, "task '%s' would change something", e->changed_task);
			host_finish(h, RUN_OK, buf_str(&line), NULL);
		}
		return;
	}
	if (e->has_stats && e->unreachable) {
		_cleanup_free_ char *why = xasprintf("unreachable at '%s': %s", e->failed_task ? e->failed_task : "connecting", buf_str(&line));
		if (h->item->check)
			host_finish(h, RUN_UNREACHABLE, why, NULL);
		else
			str_replace(&h->lost, why);
	} else if (e->failed_task && (b->events.ended ? e->failures > 0 : !reason))
		host_finish_why(h, RUN_FAILED, "failed at '%s': %s", e->failed_task, line.len ? buf_str(&line) : "no message");
	else if (reason && !strcmp(reason, "timeout"))
		host_finish_why(h, RUN_TIMED_OUT, "stopped: not done in time");
	else if (h->cancelled)
		host_finish_why(h, RUN_CANCELLED, "cancelled");
	else if (reason)
		host_finish_why(h, RUN_INTERRUPTED, "interrupted: the ansible-playbook it shared with a cancelled node was stopped");
	else if (!has_status)
		host_finish_why(h, RUN_INTERRUPTED, "interrupted: neither its ansible-playbook nor its result is left");
	else if (b->events.ended && !e->ran)
		host_finish_why(h, RUN_FAILED, "'playbook.yml' runs nothing on '%s': its plays need 'hosts: all' or a group that the node is in",
		        h->item->target->name);
	else if (b->events.ended)
		host_finish_why(h, RUN_FAILED, "ansible-playbook stopped before the end because another node of its batch failed");
	else if (!strncmp(output, "env: ", 5)) /* env speaks only when it cannot start the program */
		host_finish_why(
		        h, RUN_FAILED, "the program 'ansible-playbook' is missing on this machine: run 'apt-get install ansible-core' (%s)", output);
	else
		host_finish_why(h, RUN_FAILED, "ansible-playbook: %s", *output ? output : "it ended without a result");
}

static int64_t file_ms(const struct batch *b, const char *name)
{
	_cleanup_free_ char *path = path_join(b->dir, name);
	struct stat st;
	return stat(path, &st) == 0 ? (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000 : 0;
}

/* "ERROR! ... (in 'FILE': line 7, column 31)", or the last line. */
static void first_error(const char *output, size_t len, struct buf *line)
{
	const char *error = strstr(output, "ERROR!"), *cause = strstr(output, "Syntax Error while loading YAML.\n"),
	           *place = strstr(output, "appears to be in ");
	if (!error) {
		last_line(output, len, line);
		return;
	}
	if (cause)
		error = cause + strlen("Syntax Error while loading YAML.\n");
	last_line(error, strcspn(error, "\n"), line);
	if (!place)
		return;
	place += strlen("appears to be in ");
	const char *end = strstr(place, ", but may");
	if (end && end - place < 1000)
		buf_addf(line, " (in %.*s)", (int)(end - place), place);
}

/* Files are named as the role has them. */
static void in_role(struct buf *line, const char *content_dir)
{
	size_t len = strlen(content_dir);
	if (!len || !line->len)
		return;
	for (char *at = strstr(line->data, content_dir); at && at[len] == '/'; at = strstr(at, content_dir)) {
		memmove(at, at + len + 1, strlen(at + len + 1) + 1);
		line->len -= len + 1;
	}
}

void batch_ended(struct batch *b, bool has_status)
{
	_cleanup_free_ char *path = path_join(b->dir, "output");
	_cleanup_buf_ struct buf output = {0}, line = {0};
	file_read(AT_FDCWD, path, OUTPUT_FILE_MAX, &output, NULL);
	first_error(buf_str(&output), output.len, &line);
	in_role(&line, b->events.content_dir);
	if (!b->events.ended && output.len)
		for (size_t i = 0; i < b->n; i++)
			batch_log(b, i, output.data, output.len);
	b->took_ms = has_status ? file_ms(b, "status") - file_ms(b, "pid") : 0;
	if (!has_status && b->hosts[0].item) { /* the script that removes it at the end was killed */
		_cleanup_free_ char *base = ansible_short_base(b->r->host), *dir = xasprintf("%s/%" PRId64, base, b->hosts[0].item->number);
		tree_remove(dir, NULL);
	}
	int64_t now = monotonic_ms();
	b->phase = PHASE_COLLECT;
	for (size_t i = 0; i < b->n; i++) {
		struct host *h = &b->hosts[i];
		h->settled = false;
		h->backoff_until = h->backoff_ms = 0;
		if (h->item)
			judge(b, h, has_status, buf_str(&line));
		h->give_up = now + (h->lost ? LOST_FOR_MS : COLLECT_FOR_MS);
	}
	batch_collect(b);
}
