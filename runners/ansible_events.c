/* Reads the lines of our callback plug-in: who did what, for each host's log and result. */
#include "fs/base/mem.h"
#include "runners/ansible.h"
#include "runners/onnode.h"
#include <string.h>

#define LINE_MAX_BYTES (16 * 1024 * 1024)

static struct host_events *find(struct batch_events *e, const json_t *event, size_t *ret_i)
{
	const char *name = json_string_value(json_object_get(event, "host"));
	for (size_t i = 0; name && i < e->n; i++) {
		if (!strcmp(e->hosts[i].name, name)) {
			*ret_i = i;
			return &e->hosts[i];
		}
	}
	return NULL;
}

static const char *text_of(const json_t *event, const char *key)
{
	const char *s = json_string_value(json_object_get(event, key));
	return s ? s : "";
}

static void write_text(struct batch_events *e, size_t i, struct buf *b)
{
	if (b->len)
		e->on_text(e->arg, i, b->data, b->len);
	buf_release(b);
}

static const char *resource_status(const char *status)
{
	if (!strcmp(status, "ok"))
		return "unchanged";
	if (!strcmp(status, "ignored") || !strcmp(status, "skipped")) /* a failure that its author allows is none */
		return "skipped";
	return !strcmp(status, "changed") ? "changed" : !strcmp(status, "retry") ? NULL : "failed";
}

/* where: the path of a file and the number of a line; of the path what is below the content. */
static void add_resource(
        const struct batch_events *e, struct host_events *h, const char *task, const char *status, const char *where, const char *text)
{
	const char *colon = strrchr(where, ':'), *kind = resource_status(status);
	size_t root = e->content_dir ? strlen(e->content_dir) : 0;
	if (!kind)
		return;
	if (root && !strncmp(where, e->content_dir, root) && where[root] == '/')
		where += root + 1;
	_cleanup_free_ char *file = colon && colon > where ? xasprintf("%.*s", (int)(colon - where), where) : NULL;
	if (!h->resources)
		h->resources = json_array();
	report_add(h->resources, task, kind, file, file ? strtoll(colon + 1, NULL, 10) : 0, text);
}

static void on_result(struct batch_events *e, struct host_events *h, size_t i, const json_t *event)
{
	const char *task = text_of(event, "task"), *status = text_of(event, "status"), *text = text_of(event, "text");
	struct buf b = {0};
	h->ran = true;
	if (!h->task || strcmp(h->task, task)) {
		str_replace(&h->task, task);
		buf_addf(&b, "TASK [%s]\n", task);
	}
	buf_addf(&b, "%s%s%s\n", status, *text ? ": " : "", text);
	write_text(e, i, &b);
	add_resource(e, h, task, status, text_of(event, "where"), text);
	if (!strcmp(status, "changed") && !h->changes++)
		str_replace(&h->changed_task, task);
	if (!strcmp(status, "failed") || !strcmp(status, "unreachable")) {
		str_replace(&h->failed_task, task);
		str_replace(&h->failed_text, text);
	}
}

static void on_stats(struct host_events *h, const json_t *event)
{
	h->has_stats = true;
	h->failures = json_integer_value(json_object_get(event, "failures"));
	h->unreachable = json_integer_value(json_object_get(event, "unreachable"));
	json_decref(h->custom);
	h->custom = json_incref(json_object_get(event, "custom"));
}

static void on_line(struct batch_events *e, const char *line, size_t len)
{
	json_t *event = json_loadb(line, len, 0, NULL);
	const char *kind = text_of(event, "e");
	size_t i = 0;
	struct host_events *h = find(e, event, &i);
	if (!strcmp(kind, "end")) {
		e->ended = true;
		e->reached_end = json_is_true(json_object_get(event, "reached"));
	} else if (!strcmp(kind, "shared")) {
		e->shared_stats = true;
		for (i = 0; i < e->n; i++) {
			struct buf b = {0};
			buf_adds(&b, "note: set_stats without 'per_host: yes' belongs to no node and is not an output\n");
			write_text(e, i, &b);
		}
	} else if (!strcmp(kind, "play")) {
		for (i = 0; i < e->n; i++) {
			struct buf b = {0};
			buf_addf(&b, "PLAY [%s]\n", text_of(event, "name"));
			write_text(e, i, &b);
		}
	} else if (h && !strcmp(kind, "result")) {
		on_result(e, h, i, event);
	} else if (h && !strcmp(kind, "diff")) {
		struct buf b = {0};
		buf_adds(&b, text_of(event, "text"));
		write_text(e, i, &b);
	} else if (h && !strcmp(kind, "stats")) {
		on_stats(h, event);
	}
	json_decref(event);
}

void batch_events_add(struct batch_events *e, const char *data, size_t len)
{
	while (len) {
		const char *nl = memchr(data, '\n', len);
		size_t n = nl ? (size_t)(nl - data) : len;
		if (e->line.len + n <= LINE_MAX_BYTES)
			buf_add(&e->line, data, n);
		if (!nl)
			return;
		on_line(e, buf_str(&e->line), e->line.len);
		buf_reset(&e->line);
		data += n + 1;
		len -= n + 1;
	}
}

void batch_events_release(struct batch_events *e)
{
	for (size_t i = 0; i < e->n; i++) {
		free(e->hosts[i].task);
		free(e->hosts[i].changed_task);
		free(e->hosts[i].failed_task);
		free(e->hosts[i].failed_text);
		json_decref(e->hosts[i].custom);
		json_decref(e->hosts[i].resources);
	}
	free(e->hosts);
	free(e->content_dir);
	buf_release(&e->line);
	e->hosts = NULL;
	e->n = 0;
}
