/* The result of each resource of a run, in one form for all tools: what runs/N/report.json shows. */
#include "fs/base/mem.h"
#include "runners/onnode.h"
#include <string.h>

#define MESSAGE_MAX 1000
#define NAME_MAX_BYTES 500

static const char *const statuses[] = {"changed", "unchanged", "failed", "skipped", NULL};

/* Cut where a character ends, so that it stays UTF-8. */
static json_t *cut_text(const char *text, size_t max)
{
	size_t len = strlen(text);
	if (len > max)
		for (len = max; len && ((unsigned char)text[len] & 0xc0) == 0x80;)
			len--;
	json_t *s = json_stringn(text, len);
	return s ? s : json_string("?");
}

void report_add(json_t *resources, const char *name, const char *status, const char *file, int64_t line, const char *message)
{
	json_t *one = json_object();
	json_object_set_new(one, "name", cut_text(name, NAME_MAX_BYTES));
	json_object_set_new(one, "status", json_string(status));
	json_object_set_new(one, "file", file && *file ? cut_text(file, NAME_MAX_BYTES) : json_null());
	json_object_set_new(one, "line", line > 0 ? json_integer(line) : json_null());
	json_object_set_new(one, "message", cut_text(message ? message : "", MESSAGE_MAX));
	json_array_append_new(resources, one);
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));
	return s ? s : "";
}

static const char *known_status(const char *status)
{
	for (size_t i = 0; statuses[i]; i++)
		if (!strcmp(statuses[i], status))
			return statuses[i];
	return "failed"; /* what is not understood is no success */
}

void report_take(json_t *resources, const json_t *report, const char *strip)
{
	size_t i;
	json_t *one;
	json_array_foreach(json_object_get(report, "resources"), i, one)
	{
		const char *file = text_of(one, "file");
		if (strip && *strip && !strncmp(file, strip, strlen(strip)))
			file += strlen(strip);
		report_add(resources, text_of(one, "name"), known_status(text_of(one, "status")), file,
		        json_integer_value(json_object_get(one, "line")), text_of(one, "message"));
	}
}

bool report_tell(const json_t *resources, const char *status, struct buf *out)
{
	size_t i;
	json_t *one;
	json_array_foreach((json_t *)resources, i, one)
	{
		if (strcmp(text_of(one, "status"), status) != 0)
			continue;
		const char *file = text_of(one, "file"), *message = text_of(one, "message");
		long long line = json_integer_value(json_object_get(one, "line"));
		buf_adds(out, text_of(one, "name"));
		if (*file && line)
			buf_addf(out, " (%s:%lld)", file, line);
		else if (*file)
			buf_addf(out, " (%s)", file);
		if (*message)
			buf_addf(out, ": %.*s", (int)strcspn(message, "\n"), message);
		return true;
	}
	return false;
}

json_t *run_report(const char *tool, const struct run_item *item, const json_t *resources)
{
	json_t *report = json_object(), *kept = json_array(), *one;
	size_t i;
	json_object_set_new(report, "runner", json_string(tool));
	for (size_t k = 0; statuses[k]; k++) {
		json_int_t n = 0;
		json_array_foreach((json_t *)resources, i, one) n += !strcmp(text_of(one, "status"), statuses[k]);
		json_object_set_new(report, statuses[k], json_integer(n));
	}
	/* Of too many, those that did nothing are not missed. */
	size_t all = json_array_size(resources);
	json_array_foreach((json_t *)resources, i, one)
	{
		if (json_array_size(kept) < REPORT_RESOURCES_MAX && (all <= REPORT_RESOURCES_MAX || strcmp(text_of(one, "status"), "unchanged") != 0))
			json_array_append(kept, one);
	}
	/* Nobody can redact it any more: only the numbers are told. */
	if (item->hide)
		json_array_clear(kept);
	json_object_set_new(report, "left_out", json_integer((json_int_t)(all - json_array_size(kept))));
	json_object_set_new(report, "resources", kept);
	return report;
}

void report_judge(const char *tool, const struct onnode_end *end, struct onnode_verdict *v)
{
	const char *status = json_string_value(json_object_get(end->report, "status"));
	if (!status) {
		v->result = RUN_FAILED;
		if (end->exit_status == 0)
			buf_addf(&v->why, "%s ended well, but wrote no report", tool);
		else
			buf_addf(&v->why, "exit %d", end->exit_status);
		if (*end->tail)
			buf_addf(&v->why, ": %s", end->tail);
		return;
	}
	report_take(v->resources, end->report, NULL);
	if (report_tell(v->resources, "failed", &v->why)) {
		v->result = RUN_FAILED;
	} else if (!strcmp(status, "failed")) {
		const char *first = json_string_value(json_array_get(json_object_get(end->report, "errors"), 0));
		v->result = RUN_FAILED;
		buf_addf(&v->why, "%s failed: %s", tool, first ? first : end->tail);
	} else if (end->exit_status != 0) {
		v->result = RUN_FAILED;
		buf_addf(&v->why, "exit %d: %s", end->exit_status, end->tail);
	} else {
		v->drifted = report_tell(v->resources, "changed", &v->why);
	}
	if (end->item->hide)
		buf_reset(&v->why);
	if (end->item->hide && v->result != RUN_OK)
		buf_addf(&v->why, "exit %d", end->exit_status);
}
