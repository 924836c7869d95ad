/* Any bytes as a document: no crash, and where nothing is refused, the reader's own library must have read the same. */
#include "fs/base/mem.h"
#include "fs/desired/ini.h"
#include <assert.h>
#include <ini.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_mistake(void *arg, int line, int column, const char *text)
{
	assert(line > 0 && column > 0 && *text);
	++*(int *)arg;
}

/* What the library says by itself: a value is continued by further calls with its name. */
static int on_value(void *arg, const char *section, const char *key, const char *value)
{
	struct settings *s = arg;
	_cleanup_free_ char *name = ini_section_name(section, strlen(section));
	struct setting *last = s->n ? &s->items[s->n - 1] : NULL;
	if (!last || strcmp(last->section, name) || strcmp(last->key, key)) {
		settings_add(s, name, key, value, 0);
		return 1;
	}
	char *joined = *last->value ? xasprintf("%s%s%s", last->value, *value ? " " : "", value) : xstrdup(value);
	free(last->value);
	last->value = joined;
	return 1;
}

static bool fits_the_library(const char *text, size_t len)
{
	size_t pos = 0, n;
	const char *line;
	while (ini_next_line(text, len, &pos, &line, &n))
		if (n >= INI_LINE_MAX)
			return false;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ini_doc doc = {0};
	int mistakes = 0;
	ini_read((const char *)data, size, &doc, on_mistake, &mistakes);
	for (size_t i = 0; i < doc.settings.n; i++)
		assert(doc.settings.items[i].line > 0 && *doc.settings.items[i].key && *doc.settings.items[i].section);
	if (!mistakes && fits_the_library((const char *)data, size)) {
		struct settings other = {0};
		_cleanup_free_ char *text = xstrndup((const char *)data, size);
		assert(ini_parse_string(text, on_value, &other) == 0);
		assert(other.n == doc.settings.n);
		for (size_t i = 0; i < other.n; i++) {
			assert(!strcmp(other.items[i].section, doc.settings.items[i].section));
			assert(!strcmp(other.items[i].key, doc.settings.items[i].key));
			assert(!strcmp(other.items[i].value, doc.settings.items[i].value));
		}
		settings_release(&other);
	}
	ini_doc_release(&doc);
	return 0;
}
