/* The first three lines are section, key and value ("-": unset), the rest is the document. What is set reads back, the rest reads as before, comments
 * stay, and setting it again changes nothing. */
#include "fs/base/mem.h"
#include "fs/desired/desired.h"
#include "fs/desired/ini.h"
#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_mistake(void *arg, int line, int column, const char *text)
{
	assert(!"an edited document has no mistakes");
}

/* Every comment is still there, in order. */
static void check_comments(const char *before, size_t before_len, const char *after, size_t after_len)
{
	size_t a = 0, b = 0, n, m;
	const char *line, *other;
	while (ini_next_line(before, before_len, &a, &line, &n)) {
		size_t skip = 0;
		while (skip < n && (line[skip] == ' ' || line[skip] == '\t'))
			skip++;
		if (skip >= n || (line[skip] != ';' && line[skip] != '#'))
			continue;
		bool found = false;
		while (!found && ini_next_line(after, after_len, &b, &other, &m))
			found = m >= n && !memcmp(line, other, n);
		assert(found);
	}
}

static void check(const char *doc, size_t len, const char *section, const char *key, const char *value, const struct buf *out)
{
	struct ini_doc after = {0};
	struct buf again = {0};
	_cleanup_free_ char *name = ini_section_name(section, strlen(section));
	ini_read(buf_str(out), out->len, &after, on_mistake, NULL);
	const char *now = settings_get(&after.settings, name, key);
	assert(value ? now && !strcmp(now, value) : !now);
	check_comments(doc, len, buf_str(out), out->len);
	assert(document_set(buf_str(out), out->len, section, key, value, &again, NULL) == 0);
	assert(again.len == out->len && !memcmp(buf_str(&again), buf_str(out), out->len));
	buf_release(&again);
	ini_doc_release(&after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = xstrndup((const char *)data, size);
	char *part[3], *at = text;
	size_t rest = 0;
	for (int i = 0; i < 3; i++) {
		part[i] = at;
		char *nl = strchr(at, '\n');
		if (!nl)
			return 0;
		*nl = 0;
		at = nl + 1;
		rest = (size_t)(at - text);
	}
	struct buf out = {0};
	struct err *err = NULL;
	const char *value = strcmp(part[2], "-") ? part[2] : NULL, *doc = (const char *)data + rest;
	int rc = document_set(doc, size - rest, part[0], part[1], value, &out, &err);
	if (rc == 0)
		check(doc, size - rest, part[0], part[1], value, &out);
	else
		assert(out.len == 0 && *err_msg(err));
	err_free(err);
	buf_release(&out);
	return 0;
}
