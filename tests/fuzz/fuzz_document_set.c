/* The first three lines are section, key and value ("-": unset), the rest is the document. What is set reads back, every other byte of the document
 * is as it was, and setting it again changes nothing. */
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

/* Which lines of a document say the key: its own and those that continue it. Read apart from what edits it. */
struct said {
	const char *text;
	size_t len, pos;
	const char *section, *key; /* as documents name them */
	bool inside, in_key, mine;
	enum ini_line_kind kind; /* of the line looked at last */
};

static bool is_mine(struct said *s, const char *line, size_t len)
{
	struct ini_line parts;
	size_t bom = line == s->text && len >= 3 && !memcmp(line, "\xef\xbb\xbf", 3) ? 3 : 0;
	ini_line_parse(line + bom, len - bom, s->in_key, &parts);
	s->kind = parts.kind;
	const char *name = line + bom + parts.name_from;
	size_t name_len = parts.name_to - parts.name_from;
	if (parts.kind == INI_SECTION) {
		_cleanup_free_ char *now = ini_section_name(name, name_len);
		s->inside = !strcmp(now, s->section);
	}
	if (parts.kind == INI_SECTION || parts.kind == INI_KEY) {
		s->in_key = parts.kind == INI_KEY;
		s->mine = s->inside && s->in_key && name_len == strlen(s->key) && !memcmp(name, s->key, name_len);
	}
	return s->mine && (parts.kind == INI_KEY || parts.kind == INI_MORE);
}

/* The document without these lines, and the last of the lines that name the key. */
static void strip(struct said s, struct buf *rest, struct buf *last)
{
	const char *line;
	size_t len, from = 0;
	while (ini_next_line(s.text, s.len, &s.pos, &line, &len)) {
		if (!is_mine(&s, line, len)) {
			buf_add(rest, s.text + from, s.pos - from);
		} else if (s.kind == INI_KEY) {
			last->len = 0;
			buf_add(last, line, len);
		}
		from = s.pos;
	}
}

/* What may be added behind the rest of a document: its last line's end, and a heading for a section that was not there. */
static void check_added(const char *added, size_t len, const char *section)
{
	_cleanup_free_ char *heading = xasprintf("[%s]", section);
	_cleanup_buf_ struct buf plain = {0};
	for (size_t i = 0; i < len; i++)
		if (added[i] != '\r' && added[i] != '\n')
			buf_addc(&plain, added[i]);
	assert(!plain.len || !strcmp(buf_str(&plain), heading));
	assert(len <= strlen(heading) + 6);
}

/* Every other byte is as it was. */
static void check_rest(const char *before, size_t before_len, const struct buf *after, const char *section, const char *key)
{
	_cleanup_buf_ struct buf a = {0}, b = {0}, key_a = {0}, key_b = {0};
	strip((struct said){.text = before, .len = before_len, .section = section, .key = key}, &a, &key_a);
	strip((struct said){.text = buf_str(after), .len = after->len, .section = section, .key = key}, &b, &key_b);
	assert(b.len >= a.len && (!a.len || !memcmp(a.data, b.data, a.len)));
	check_added(buf_str(&b) + a.len, b.len - a.len, section);
	if (!key_a.len || !key_b.len)
		return;
	/* its line keeps what stands before the value, and the comment behind it */
	struct ini_line was;
	ini_line_parse(key_a.data, key_a.len, false, &was);
	size_t behind = key_a.len - was.value_to;
	assert(key_b.len >= was.name_to && !memcmp(key_a.data, key_b.data, was.name_to));
	if (was.value_to > was.value_from)
		assert(key_b.len >= was.value_from + behind && !memcmp(key_a.data, key_b.data, was.value_from));
	for (size_t i = 0; was.value_to > was.value_from && i < behind; i++)
		assert(key_a.data[key_a.len - 1 - i] == key_b.data[key_b.len - 1 - i]);
}

static void check(const char *doc, size_t len, const char *section, const char *key, const char *value, const struct buf *out)
{
	struct ini_doc after = {0};
	struct buf again = {0};
	_cleanup_free_ char *name = ini_section_name(section, strlen(section));
	ini_read(buf_str(out), out->len, &after, on_mistake, NULL);
	const char *now = settings_get(&after.settings, name, key);
	assert(value ? now && !strcmp(now, value) : !now);
	check_rest(doc, len, out, name, key);
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
