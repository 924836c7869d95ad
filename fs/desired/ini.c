#include "fs/desired/ini.h"
#include "fs/base/mem.h"
#include <ctype.h>
#include <ini.h>
#include <stdio.h>
#include <string.h>

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* First offset of one of stops, or of a ';' behind a blank, as inih's find_chars_or_comment() looks for it. */
static size_t find_stop(const char *s, size_t from, size_t to, const char *stops)
{
	bool was_blank = false;
	for (size_t i = from; i < to; i++) {
		if (stops && strchr(stops, s[i]))
			return i;
		if (was_blank && s[i] == ';')
			return i;
		was_blank = blank(s[i]);
	}
	return to;
}

static void trim(const char *s, size_t *from, size_t *to)
{
	while (*from < *to && blank(s[*from]))
		(*from)++;
	while (*to > *from && blank(s[*to - 1]))
		(*to)--;
}

static bool check_bytes(const char *s, size_t len, struct ini_line *ret)
{
	for (size_t i = 0; i < len;) {
		unsigned char c = (unsigned char)s[i];
		ret->why_at = i;
		size_t n = utf8_length(s + i, len - i);
		if (!n)
			snprintf(ret->why, sizeof ret->why, "byte 0x%02x at column %zu is not UTF-8 text", c, i + 1);
		else if (!c)
			snprintf(ret->why, sizeof ret->why, "a NUL byte at column %zu: this is not a text file", i + 1);
		else if ((c < 0x20 && c != '\t' && !(c == '\r' && i + 1 == len)) || c == 0x7f)
			snprintf(ret->why, sizeof ret->why, "a control character (0x%02x) at column %zu", c, i + 1);
		else {
			i += n;
			continue;
		}
		return false;
	}
	return true;
}

static void bad(struct ini_line *ret, size_t at, const char *why)
{
	ret->kind = INI_BAD;
	ret->why_at = at;
	snprintf(ret->why, sizeof ret->why, "%s", why);
}

static void parse_section(const char *s, size_t from, size_t to, struct ini_line *ret)
{
	size_t end = find_stop(s, from + 1, to, "]");
	if (end == to || s[end] != ']') {
		bad(ret, from, "a section's heading has no ']'");
		return;
	}
	ret->kind = INI_SECTION;
	ret->name_from = from + 1;
	ret->name_to = end;
	size_t rest = end + 1, stop = to;
	trim(s, &rest, &stop);
	if (rest < stop && s[rest] != ';' && s[rest] != '#')
		bad(ret, rest, "there is something behind the ']' of a section's heading: it would be ignored");
	else if (end - from - 1 > INI_NAME_MAX)
		bad(ret, from + 1 + INI_NAME_MAX, "a section's heading is longer than 49 bytes: the rest would be cut off");
	else {
		trim(s, &ret->name_from, &ret->name_to);
		size_t quotes = ret->name_from;
		while (quotes < ret->name_to && (s[quotes] == '"' || blank(s[quotes]))) /* they do not count in a name */
			quotes++;
		if (quotes == ret->name_to)
			bad(ret, from, "a section's heading is empty");
	}
}

static void parse_key(const char *s, size_t from, size_t to, struct ini_line *ret)
{
	size_t eq = find_stop(s, from, to, "=:");
	if (eq == to || s[eq] == ';') {
		int shown = to - from > 40 ? 40 : (int)(to - from);
		ret->kind = INI_BAD;
		ret->why_at = from;
		snprintf(ret->why, sizeof ret->why, "'%.*s' is neither [section] nor 'key = value' (a line that continues a value is indented)",
		        shown, s + from);
		return;
	}
	ret->kind = INI_KEY;
	ret->name_from = from;
	ret->name_to = eq;
	ret->value_from = eq + 1;
	ret->value_to = find_stop(s, eq + 1, to, NULL);
	trim(s, &ret->name_from, &ret->name_to);
	trim(s, &ret->value_from, &ret->value_to);
	if (ret->name_from == ret->name_to)
		bad(ret, eq, "there is no key before the '='");
	else if (ret->name_to - ret->name_from > INI_NAME_MAX)
		bad(ret, from + INI_NAME_MAX, "a key is longer than 49 bytes: the rest would be cut off");
}

/* A tab, a name, " = ": this is how 'git config' writes every key, be the others indented or not. */
static bool is_gits_key(const char *s, size_t len)
{
	size_t i = 1;
	if (len < 2 || s[0] != '\t' || !isalpha((unsigned char)s[1]))
		return false;
	while (i < len && (isalnum((unsigned char)s[i]) || s[i] == '-'))
		i++;
	return i + 2 < len && !strncmp(s + i, " = ", 3);
}

void ini_line_parse(const char *text, size_t len, bool in_key, struct ini_line *ret)
{
	*ret = (struct ini_line){0};
	size_t from = 0, to = len;
	if (!check_bytes(text, len, ret)) {
		ret->kind = INI_BAD;
		return;
	}
	trim(text, &from, &to);
	if (from == to)
		ret->kind = INI_BLANK;
	else if (text[from] == ';' || text[from] == '#')
		ret->kind = INI_COMMENT;
	else if (to > INI_LINE_MAX) {
		ret->kind = INI_BAD;
		ret->why_at = INI_LINE_MAX;
		snprintf(ret->why, sizeof ret->why, "the line has %zu bytes, at most %d are read: continue a long value on indented lines", to,
		        INI_LINE_MAX);
	} else if (in_key && from > 0 && !is_gits_key(text, to)) {
		ret->kind = INI_MORE;
		ret->value_from = from;
		ret->value_to = to;
		/* inih r55 takes it into the value, r56 cuts it off: neither is what somebody meant without knowing */
		size_t comment = find_stop(text, from, to, NULL);
		if (comment != to)
			bad(ret, comment, "a ';' behind a blank in a continued line: put the comment on a line of its own");
	} else if (text[from] == '[')
		parse_section(text, from, to, ret);
	else
		parse_key(text, from, to, ret);
}

char *ini_section_name(const char *text, size_t len)
{
	struct buf b = {0};
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '"') /* [nodes "db"] is how 'git config' writes [nodes db] */
			continue;
		if (!blank(text[i]))
			buf_addc(&b, text[i]);
		else if (b.len && b.data[b.len - 1] != ' ')
			buf_addc(&b, ' ');
	}
	if (b.len && b.data[b.len - 1] == ' ')
		b.data[--b.len] = 0;
	return buf_detach(&b, NULL);
}

bool ini_next_line(const char *text, size_t len, size_t *pos, const char **ret_line, size_t *ret_len)
{
	if (*pos >= len)
		return false;
	const char *line = text + *pos, *nl = memchr(line, '\n', len - *pos);
	*ret_line = line;
	*ret_len = nl ? (size_t)(nl - line) : len - *pos;
	*pos += *ret_len + (nl ? 1 : 0);
	return true;
}

struct reading {
	const char *text;
	size_t len, pos;
	int line;     /* of the line handed out last */
	int key_line; /* of the key the reader is in; 0: none */
	size_t key_indent;
	bool in_key, in_section;
	bool skip_more;   /* the key above had a mistake: its continued lines are no keys and no mistakes of their own */
	struct buf value; /* of the last setting, while lines continue it */
	struct ini_doc *doc;
	ini_mistake_fn *mistake;
	void *arg;
};

static void add_heading(struct reading *r, const char *s, const struct ini_line *l)
{
	struct ini_doc *d = r->doc;
	char *name = ini_section_name(s + l->name_from, l->name_to - l->name_from);
	GROW(d->headings, d->n_headings, d->cap_headings);
	index_put(&d->by_heading, name, d->n_headings);
	d->headings[d->n_headings++] = (struct ini_heading){name, r->line};
}

/* Follows inih's state and says whether it may see the line, and from where on: to inih every indented line continues a value. */
static bool admit(struct reading *r, const char *s, size_t len, size_t *ret_indent)
{
	struct ini_line l;
	ini_line_parse(s, len, r->in_key || r->skip_more, &l);
	if (l.kind == INI_KEY && !r->in_section)
		bad(&l, l.name_from, "a key before the first [section]");
	else if (l.kind == INI_MORE && !r->skip_more && l.value_from <= r->key_indent)
		bad(&l, l.value_from,
		        "an indented line continues the value above; the key there is indented as much, so this looks like a key: indent no keys");
	switch (l.kind) {
	case INI_BAD:
		r->mistake(r->arg, r->line, (int)l.why_at + 1, l.why);
		r->skip_more = true;
		return false;
	case INI_SECTION:
		r->in_key = r->skip_more = false;
		r->in_section = true;
		add_heading(r, s, &l);
		return true;
	case INI_KEY:
		r->in_key = true;
		r->skip_more = false;
		r->key_line = r->line;
		r->key_indent = *ret_indent = l.name_from;
		return true;
	case INI_MORE:
		return !r->skip_more;
	default:
		return false;
	}
}

/* fgets() for inih: whole lines, and an empty one in the place of what it must not see. */
static char *next_line(char *str, int num, void *stream)
{
	struct reading *r = stream;
	const char *s;
	size_t len;
	if (!ini_next_line(r->text, r->len, &r->pos, &s, &len))
		return NULL;
	r->line++;
	if (r->line == 1 && len >= 3 && !memcmp(s, "\xef\xbb\xbf", 3)) {
		s += 3;
		len -= 3;
	}
	size_t indent = 0;
	bool ok = admit(r, s, len, &indent);
	s += indent;
	len -= indent;
	if (len && s[len - 1] == '\r')
		len--;
	while (len > (size_t)num - 1 && blank(s[len - 1])) /* blanks at the end do not count */
		len--;
	if (!ok || len > (size_t)num - 1)
		len = 0;
	memcpy(str, s, len);
	str[len] = 0;
	return str;
}

static struct setting *setting_at(struct settings *s, int line)
{
	return s->n && s->items[s->n - 1].line == line ? &s->items[s->n - 1] : NULL;
}

static void end_value(struct reading *r)
{
	struct settings *all = &r->doc->settings;
	if (!r->value.len)
		return;
	free(all->items[all->n - 1].value);
	all->items[all->n - 1].value = buf_detach(&r->value, NULL);
}

static int on_value(void *user, const char *section, const char *key, const char *value)
{
	struct reading *r = user;
	struct settings *all = &r->doc->settings;
	struct setting *last = setting_at(all, r->key_line);
	if (r->line != r->key_line) {
		/* "like = a,\n   b" reads as "a, b": what was folded for its length is one line again */
		if (last && *value) {
			if (!r->value.len)
				buf_adds(&r->value, last->value);
			buf_addf(&r->value, "%s%s", r->value.len ? " " : "", value);
		}
		return 1;
	}
	end_value(r);
	_cleanup_free_ char *name = ini_section_name(section, strlen(section));
	size_t at;
	if (index_find_pair(r->doc->by_key, name, key, &at)) {
		_cleanup_free_ char *text = xasprintf("'%s' is set in [%s] already, at line %d", key, name, all->items[at].line);
		r->mistake(r->arg, r->line, (int)r->key_indent + 1, text);
		r->skip_more = true;
		return 1;
	}
	index_put_pair(&r->doc->by_key, name, key, all->n);
	settings_add(all, name, key, value, r->line);
	return 1;
}

void ini_read(const char *text, size_t len, struct ini_doc *doc, ini_mistake_fn *mistake, void *arg)
{
	struct reading r = {.text = text, .len = len, .doc = doc, .mistake = mistake, .arg = arg};
	/* its result only repeats what the reader has seen: lines it would refuse never reach it */
	ini_parse_stream(next_line, &r, on_value, &r);
	end_value(&r);
}

void ini_doc_release(struct ini_doc *doc)
{
	settings_release(&doc->settings);
	for (size_t i = 0; i < doc->n_headings; i++)
		free(doc->headings[i].name);
	free(doc->headings);
	index_release(&doc->by_key);
	index_release(&doc->by_heading);
	*doc = (struct ini_doc){0};
}
