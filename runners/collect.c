/* What node_collect prints: a head of lines "WORD VALUE...", an empty line, then the bytes that the head announced: the failed command, the
 * report, the log, the outputs. */
#include "fs/base/mem.h"
#include "runners/node.h"
#include <string.h>

#define HEAD_MAX (256 * 1024)

void collect_reset(struct collect *c)
{
	for (size_t i = 0; i < c->n_outputs; i++) {
		free(c->outputs[i].name);
		buf_release(&c->outputs[i].value);
	}
	free(c->outputs);
	free(c->complaint);
	free(c->refusal);
	buf_release(&c->head);
	buf_release(&c->failed);
	buf_release(&c->report);
	*c = (struct collect){.on_log = c->on_log, .arg = c->arg, .exit_status = -1};
}

static void complain(struct collect *c, char *text)
{
	if (c->complaint)
		free(text);
	else
		c->complaint = text;
}

static bool output_name_ok(const char *name)
{
	return *name && *name != '.' && name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")] == 0;
}

static void head_output(struct collect *c, char *value)
{
	char *size = strchr(value, ' ');
	if (!size)
		return;
	*size++ = 0;
	long long len = strtoll(size, NULL, 10);
	if (!output_name_ok(value) || len < 0 || len > OUTPUT_MAX) {
		complain(c, xstrdup("an output is not as it was announced"));
		return;
	}
	GROW(c->outputs, c->n_outputs, c->cap_outputs);
	c->outputs[c->n_outputs++] = (struct collect_output){.name = xstrdup(value), .len = len};
}

static void head_line(struct collect *c, char *line)
{
	char *value = strchr(line, ' ');
	value = value ? value + 1 : line + strlen(line);
	size_t word = strcspn(line, " ");
#define IS(w) (word == sizeof(w) - 1 && !memcmp(line, w, word))
	if (IS("state"))
		snprintf(c->state, sizeof c->state, "%s", value);
	else if (IS("reason"))
		snprintf(c->reason, sizeof c->reason, "%s", value);
	else if (IS("private"))
		c->is_private = true;
	else if (IS("exit"))
		c->exit_status = atoi(value);
	else if (IS("took"))
		c->took_ms = strtoll(value, NULL, 10) * 10;
	else if (IS("age"))
		c->age_ms = strtoll(value, NULL, 10) * 10;
	else if (IS("failed"))
		c->failed_len = strtoul(value, NULL, 10);
	else if (IS("report"))
		c->report_len = strtoul(value, NULL, 10);
	else if (IS("log"))
		c->log_len = strtoull(value, NULL, 10);
	else if (IS("output"))
		head_output(c, value);
	else if (IS("bad-name"))
		complain(c, xasprintf("output '%s' has a name that is not made of letters, digits, '_', '-' and '.'", value));
	else if (IS("bad-kind"))
		complain(c, xasprintf("output '%s' is not a plain file", value));
	else if (IS("bad-size"))
		complain(c, xasprintf("output '%.*s' has %s bytes: 65536 at most", (int)strcspn(value, " "), value, value + strcspn(value, " ") + 1));
	else if (IS("bad-number"))
		complain(c, xstrdup("more than 1000 outputs"));
	else if (IS("foreign") || IS("newer"))
		str_replace(&c->refusal, line);
#undef IS
}

static bool take_head(struct collect *c, const char **data, size_t *len)
{
	while (*len) {
		const char *nl = memchr(*data, '\n', *len);
		size_t n = nl ? (size_t)(nl - *data) + 1 : *len;
		buf_add(&c->head, *data, n);
		*data += n;
		*len -= n;
		if (c->head.len > HEAD_MAX) { /* not what our script prints */
			c->state[0] = 0;
			return false;
		}
		if (!nl)
			return false;
		c->head.data[--c->head.len] = 0;
		if (!c->head.len)
			return true;
		head_line(c, c->head.data);
		buf_reset(&c->head);
	}
	return false;
}

static size_t take(struct buf *to, size_t want, const char **data, size_t *len)
{
	size_t n = want - to->len < *len ? want - to->len : *len;
	buf_add(to, *data, n);
	*data += n;
	*len -= n;
	return n;
}

void collect_add(struct collect *c, const char *data, size_t len)
{
	if (!c->head_ended)
		c->head_ended = take_head(c, &data, &len);
	if (!c->head_ended)
		return;
	take(&c->failed, c->failed_len, &data, &len);
	if (c->failed.len < c->failed_len)
		return;
	take(&c->report, c->report_len, &data, &len);
	if (c->report.len < c->report_len)
		return;
	if (c->log_len && len) {
		size_t n = c->log_len < len ? c->log_len : len;
		if (c->on_log)
			c->on_log(c->arg, data, n);
		c->log_len -= n;
		data += n;
		len -= n;
	}
	if (c->log_len)
		return;
	for (; c->at < c->n_outputs; c->at++) {
		struct collect_output *o = &c->outputs[c->at];
		take(&o->value, o->len, &data, &len);
		if (o->value.len < o->len)
			return;
	}
	c->complete = true;
}

json_t *collect_outputs(const struct collect *c, char **ret_complaint)
{
	if (c->complaint) {
		*ret_complaint = xstrdup(c->complaint);
		return NULL;
	}
	json_t *object = json_object();
	for (size_t i = 0; i < c->n_outputs; i++) {
		const struct collect_output *o = &c->outputs[i];
		size_t len = o->value.len;
		if (len && o->value.data[len - 1] == '\n')
			len--;
		json_t *value = memchr(buf_str(&o->value), 0, len) ? NULL : json_stringn(buf_str(&o->value), len);
		if (!value) {
			*ret_complaint = xasprintf("output '%s' is not UTF-8 text", o->name);
			json_decref(object);
			return NULL;
		}
		json_object_set_new(object, o->name, value);
	}
	return object;
}
