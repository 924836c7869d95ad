/* One key of a document set or unset, everything else byte for byte as it was. */
#include "fs/base/mem.h"
#include "fs/desired/desired.h"
#include "fs/desired/ini.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct line {
	size_t from, to, next; /* text[from, to) without the newline, text[to, next) is it */
	struct ini_line parts;
};
struct edit {
	const char *text;
	size_t len;
	struct line *lines;
	size_t n, cap;
	const char *eol;
	/* Where things stand; SIZE_MAX: nowhere. */
	size_t key_line, section_end; /* the key; the last line of the section that is its heading, a key or continues one */
};

struct first_mistake {
	int line;
	char *text;
};

static void on_mistake(void *arg, int line, int column, const char *text)
{
	struct first_mistake *m = arg;
	if (m->text)
		return;
	m->line = line;
	m->text = xstrdup(text);
}

static int check_document(const char *text, size_t len, struct ini_doc *doc, struct err **err)
{
	struct first_mistake m = {0};
	ini_read(text, len, doc, on_mistake, &m);
	int rc = m.text ? err_set(err, EINVAL, "the document has a mistake in line %d: %s", m.line, m.text) : 0;
	free(m.text);
	return rc;
}

static void split_lines(struct edit *e)
{
	size_t pos = 0, len;
	const char *s;
	bool in_key = false;
	while (ini_next_line(e->text, e->len, &pos, &s, &len)) {
		size_t from = (size_t)(s - e->text);
		size_t bom = !from && len >= 3 && !memcmp(s, "\xef\xbb\xbf", 3) ? 3 : 0;
		GROW(e->lines, e->n, e->cap);
		struct line *l = &e->lines[e->n++];
		*l = (struct line){.from = from + bom, .to = from + len, .next = pos};
		ini_line_parse(e->text + l->from, l->to - l->from, in_key, &l->parts);
		if (l->parts.kind == INI_SECTION || l->parts.kind == INI_KEY)
			in_key = l->parts.kind == INI_KEY;
	}
	e->eol =
	        e->n && e->lines[0].next > e->lines[0].to && e->lines[0].to > e->lines[0].from && e->text[e->lines[0].to - 1] == '\r' ? "\r\n" : "\n";
}

static void find_places(struct edit *e, const char *section, const char *key)
{
	bool inside = false;
	size_t key_len = strlen(key);
	e->key_line = e->section_end = SIZE_MAX;
	for (size_t i = 0; i < e->n; i++) {
		const struct line *l = &e->lines[i];
		const char *name = e->text + l->from + l->parts.name_from;
		size_t len = l->parts.name_to - l->parts.name_from;
		if (l->parts.kind == INI_SECTION) {
			_cleanup_free_ char *now = ini_section_name(name, len);
			inside = !strcmp(now, section);
		}
		if (!inside || l->parts.kind == INI_BLANK || l->parts.kind == INI_COMMENT)
			continue;
		e->section_end = i;
		if (l->parts.kind == INI_KEY && len == key_len && !memcmp(name, key, len))
			e->key_line = i;
	}
}

/* ---- writing ---- */

static void copy(struct edit *e, size_t from, size_t to, struct buf *out)
{
	buf_add(out, e->text + from, to - from);
}

/* Deeper than a key, even one that git config wrote. */
#define GO_ON "\t\t"

/* The value behind what `column` bytes of the line are taken by; where it is too long for the reader, on indented lines, which it joins with one
 * blank. */
static int write_value(const char *value, size_t column, size_t behind, const char *eol, struct buf *out, struct err **err)
{
	size_t room = column + behind < INI_LINE_MAX ? INI_LINE_MAX - column - behind : 0;
	while (strlen(value) > room) {
		/* the last single blank that leaves the line short enough; what follows must not look like a comment */
		size_t cut = 0;
		for (size_t i = 1; !behind && value[i] && i <= room; i++)
			if (value[i] == ' ' && !strchr(" \t", value[i - 1]) && !strchr(" \t;#", value[i + 1]))
				cut = i;
		if (!cut)
			return err_set(err, EINVAL, "the value is too long: the line has room for %zu bytes of it, and %s", room,
			        behind ? "the comment behind it keeps it from going on in the next one"
			               : "it can go on in the next one only after a single blank");
		buf_add(out, value, cut);
		buf_adds(out, eol);
		buf_adds(out, GO_ON);
		value += cut + 1;
		room = INI_LINE_MAX - strlen(GO_ON);
	}
	buf_adds(out, value);
	return 0;
}

static int write_key(const char *key, const char *value, const char *eol, struct buf *out, struct err **err)
{
	buf_addf(out, *value ? "%s = " : "%s =", key);
	return write_value(value, strlen(key) + 3, 0, eol, out, err);
}

/* The line keeps its indentation, the way its '=' is written, and what stands behind the value. */
static int replace_value(struct edit *e, const char *value, struct buf *out, struct err **err)
{
	const struct line *l = &e->lines[e->key_line];
	const char *text = e->text;
	size_t value_from = l->from + l->parts.value_from, value_to = l->from + l->parts.value_to, end = l->to;
	while (end > value_to && strchr(" \t\r", text[end - 1]))
		end--; /* the comment's end, if there is one */
	if (value_from < value_to) {
		copy(e, 0, value_from, out);
		int rc = write_value(value, value_from - l->from, end - value_to, e->eol, out, err);
		copy(e, value_to, l->next, out);
		return rc;
	}
	if (!*value) { /* and it is empty already */
		copy(e, 0, l->next, out);
		return 0;
	}
	size_t behind = l->from + l->parts.name_to;
	behind += strspn(text + behind, " \t") + 1; /* the '=' or ':' */
	copy(e, 0, behind, out);
	buf_addc(out, ' ');
	int rc = write_value(value, behind + 1 - l->from, end - value_to + 1, e->eol, out, err);
	if (end > value_to)
		buf_addc(out, ' ');
	else
		value_to = l->to > l->from && text[l->to - 1] == '\r' ? l->to - 1 : l->to;
	copy(e, value_to, l->next, out);
	return rc;
}

/* What continues the old value goes; comments and blank lines between stay. */
static void skip_continued(struct edit *e, struct buf *out)
{
	bool more = true;
	for (size_t i = e->key_line + 1; i < e->n; i++) {
		const struct line *l = &e->lines[i];
		if (l->parts.kind == INI_KEY || l->parts.kind == INI_SECTION)
			more = false;
		if (!more || l->parts.kind != INI_MORE)
			copy(e, l->from, l->next, out);
	}
}

static int change(struct edit *e, const char *value, struct buf *out, struct err **err)
{
	const struct line *l = &e->lines[e->key_line];
	int rc = 0;
	if (value)
		rc = replace_value(e, value, out, err);
	else
		copy(e, 0, l->from, out);
	skip_continued(e, out);
	return rc;
}

static int insert(struct edit *e, const char *key, const char *value, struct buf *out, struct err **err)
{
	const struct line *l = &e->lines[e->section_end];
	copy(e, 0, l->next, out);
	if (l->next == l->to)
		buf_adds(out, e->eol);
	int rc = write_key(key, value, e->eol, out, err);
	buf_adds(out, e->eol);
	copy(e, l->next, e->len, out);
	return rc;
}

static int append(struct edit *e, const char *section, const char *key, const char *value, struct buf *out, struct err **err)
{
	const struct line *last = e->n ? &e->lines[e->n - 1] : NULL;
	copy(e, 0, e->len, out);
	if (last && last->next == last->to)
		buf_adds(out, e->eol);
	if (last && last->parts.kind != INI_BLANK)
		buf_adds(out, e->eol);
	buf_addf(out, "[%s]%s", section, e->eol);
	int rc = write_key(key, value, e->eol, out, err);
	buf_adds(out, e->eol);
	return rc;
}

static int check_value(const char *value, struct err **err)
{
	size_t len = strlen(value);
	if (strpbrk(value, "\r\n"))
		return err_set(err, EINVAL, "a value is one line");
	if (len && (strchr(" \t", value[0]) || strchr(" \t", value[len - 1])))
		return err_set(err, EINVAL, "a value cannot begin or end with a blank: the reader drops it");
	if (value[0] == ';' || strstr(value, " ;") || strstr(value, "\t;"))
		return err_set(err, EINVAL, "a value cannot have a ';' at its beginning or behind a blank: the reader takes it for a comment");
	return 0;
}

/* Only the one setting may differ: what this file believes about the reader is put to the reader. */
static bool differs_only_in(const struct ini_doc *a, const struct ini_doc *b, const char *section, const char *key, const char *value)
{
	const char *now = settings_get(&b->settings, section, key);
	if (value ? !now || strcmp(now, value) : now != NULL)
		return false;
	size_t i = 0, j = 0;
	for (;;) {
		const struct setting *x, *y;
		while (i < a->settings.n && !strcmp(a->settings.items[i].section, section) && !strcmp(a->settings.items[i].key, key))
			i++;
		while (j < b->settings.n && !strcmp(b->settings.items[j].section, section) && !strcmp(b->settings.items[j].key, key))
			j++;
		if (i == a->settings.n || j == b->settings.n)
			return i == a->settings.n && j == b->settings.n;
		x = &a->settings.items[i++];
		y = &b->settings.items[j++];
		if (strcmp(x->section, y->section) || strcmp(x->key, y->key) || strcmp(x->value, y->value))
			return false;
	}
}

static int write_edit(struct edit *e, const char *section, const char *key, const char *value, struct buf *out, struct err **err)
{
	split_lines(e);
	find_places(e, section, key);
	if (e->key_line != SIZE_MAX)
		return change(e, value, out, err);
	if (!value) {
		copy(e, 0, e->len, out);
		return 0;
	}
	return e->section_end != SIZE_MAX ? insert(e, key, value, out, err) : append(e, section, key, value, out, err);
}

int document_set(const char *text, size_t len, const char *section, const char *key, const char *value, struct buf *out, struct err **err)
{
	struct ini_doc before = {0}, after = {0};
	struct edit e = {.text = text, .len = len};
	_cleanup_buf_ struct buf result = {0};
	_cleanup_free_ char *name = ini_section_name(section, strlen(section));
	int rc = value ? check_value(value, err) : 0;
	if (!rc)
		rc = check_document(text, len, &before, err);
	if (!rc)
		rc = write_edit(&e, name, key, value, &result, err);
	if (!rc && result.len > DOCUMENT_MAX)
		rc = err_set(err, EFBIG, "the document would be larger than 1 MiB");
	if (!rc)
		rc = check_document(buf_str(&result), result.len, &after, err);
	if (!rc && !differs_only_in(&before, &after, name, key, value))
		rc = err_set(err, EINVAL, "'%s = %s' cannot be written into [%s]: it would read as something else", key, value ? value : "", name);
	if (!rc)
		buf_add(out, result.data, result.len);
	free(e.lines);
	ini_doc_release(&before);
	ini_doc_release(&after);
	return rc;
}
