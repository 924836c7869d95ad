#include "fs/base/keys.h"
#include "fs/base/mem.h"
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

static const char *const type_names[] = {"string", "int", "bool", "enum", "list", "size", "duration", "float", "json"};

const char *value_type_name(enum value_type t)
{
	return type_names[t];
}

int value_type_parse(const char *name, enum value_type *ret)
{
	for (size_t i = 0; i < sizeof type_names / sizeof *type_names; i++)
		if (!strcmp(type_names[i], name)) {
			*ret = (enum value_type)i;
			return 0;
		}
	return -EINVAL;
}

static int number_of(enum value_type type, const char *text, double *ret, struct err **err)
{
	int64_t v = 0;
	int rc = 0;
	if (type == VALUE_FLOAT) {
		char *end;
		*ret = strtod(text, &end);
		/* strtod takes blanks, 0x10, nan and inf, too: a rate that is not a number passes any bounds */
		if (end == text || *end || strspn(text, "+-.0123456789eE") != strlen(text))
			return err_set(err, EINVAL, "must be a number, not '%s'", text);
		return isfinite(*ret) ? 0 : err_set(err, ERANGE, "'%s' is too large", text);
	}
	if (type == VALUE_INT)
		rc = parse_int(text, &v, err);
	else if (type == VALUE_SIZE)
		rc = parse_size(text, &v, err);
	else
		rc = parse_duration(text, &v, err);
	*ret = (double)v;
	return rc;
}

static bool set(const char *s)
{
	return s && *s;
}

static int check_bounds(enum value_type type, const char *text, double v, const char *min, const char *max, struct err **err)
{
	double low = 0, high = 0;
	bool has_low = set(min) && number_of(type, min, &low, NULL) == 0, has_high = set(max) && number_of(type, max, &high, NULL) == 0;
	if ((!has_low || v >= low) && (!has_high || v <= high))
		return 0;
	if (has_low && has_high)
		return err_set(err, ERANGE, "must be from %s to %s, not %s", min, max, text);
	return has_low ? err_set(err, ERANGE, "must be at least %s, not %s", min, text)
	               : err_set(err, ERANGE, "must be at most %s, not %s", max, text);
}

int value_check(enum value_type type, const char *text, const char *min, const char *max, const char *values, struct err **err)
{
	switch (type) {
	case VALUE_STRING:
	case VALUE_LIST:
		return 0;
	case VALUE_BOOL: {
		bool b;
		return parse_bool(text, &b, err);
	}
	case VALUE_ENUM: {
		_cleanup_strlist_ struct strlist l = {0};
		strlist_split(&l, values ? values : "");
		if (strlist_has(&l, text))
			return 0;
		_cleanup_buf_ struct buf all = {0};
		strlist_join(&l, ", ", &all);
		const char *near = str_suggest(text, (const char *const *)l.items, l.n);
		return err_set(err, EINVAL, "must be one of %s, not '%s'%s%s%s", buf_str(&all), text, near ? " (did you mean '" : "",
		        near ? near : "", near ? "'?)" : "");
	}
	case VALUE_JSON: {
		json_error_t je;
		json_t *v = json_loads(text, JSON_DECODE_ANY, &je);
		json_decref(v);
		return v ? 0 : err_set(err, EINVAL, "must be JSON: %s", je.text);
	}
	case VALUE_INT:
	case VALUE_SIZE:
	case VALUE_DURATION:
	case VALUE_FLOAT: {
		double v;
		int rc = number_of(type, text, &v, err);
		return rc < 0 ? rc : check_bounds(type, text, v, min, max, err);
	}
	}
	return 0;
}

static void bound_text(struct buf *out, enum value_type type, int64_t v)
{
	if (type == VALUE_SIZE)
		format_size(out, v);
	else if (type == VALUE_DURATION && v % 1000)
		buf_addf(out, "%lldms", (long long)v);
	else if (type == VALUE_DURATION)
		buf_addf(out, "%llds", (long long)v / 1000);
	else
		buf_addf(out, "%lld", (long long)v);
}

int key_check(const struct key_row *row, const char *text, struct err **err)
{
	_cleanup_buf_ struct buf min = {0}, max = {0};
	if (row->min || row->max) {
		bound_text(&min, row->type, row->min);
		bound_text(&max, row->type, row->max);
	}
	return value_check(row->type, text, buf_str(&min), buf_str(&max), row->values, err);
}

static bool section_fits(const char *pattern, const char *section)
{
	size_t len = strlen(pattern);
	if (len < 2 || strcmp(pattern + len - 2, " *"))
		return !strcmp(pattern, section);
	return !strncmp(pattern, section, len - 1) && section[len - 1];
}

const struct key_row *key_find(const struct key_row *table, const char *section, const char *key, bool *ret_section_known)
{
	if (ret_section_known)
		*ret_section_known = false;
	for (const struct key_row *r = table; r && r->section; r++) {
		if (!section_fits(r->section, section))
			continue;
		if (ret_section_known)
			*ret_section_known = true;
		if (!strcmp(r->key, "*") || !strcmp(r->key, key))
			return r;
	}
	return NULL;
}

/* ---- settings ---- */

void settings_add(struct settings *s, const char *section, const char *key, const char *value, int line)
{
	GROW(s->items, s->n, s->cap);
	s->items[s->n++] = (struct setting){xstrdup(section), xstrdup(key), xstrdup(value), line};
}

void settings_release(struct settings *s)
{
	for (size_t i = 0; i < s->n; i++) {
		free(s->items[i].section);
		free(s->items[i].key);
		free(s->items[i].value);
	}
	free(s->items);
	*s = (struct settings){0};
}

void settings_wipe(struct settings *s)
{
	for (size_t i = 0; i < s->n; i++)
		explicit_bzero(s->items[i].value, strlen(s->items[i].value));
	settings_release(s);
}

void settings_copy(struct settings *to, const struct settings *from)
{
	for (size_t i = 0; i < from->n; i++)
		settings_add(to, from->items[i].section, from->items[i].key, from->items[i].value, from->items[i].line);
}

const char *settings_get(const struct settings *s, const char *section, const char *key)
{
	for (size_t i = s ? s->n : 0; i-- > 0;)
		if (!strcmp(s->items[i].section, section) && !strcmp(s->items[i].key, key))
			return s->items[i].value;
	return NULL;
}

const char *settings_str(const struct settings *s, const struct key_row *table, const char *section, const char *key)
{
	const char *v = settings_get(s, section, key);
	const struct key_row *r = v ? NULL : key_find(table, section, key, NULL);
	return v ? v : r ? r->dflt : NULL;
}

int64_t settings_int(const struct settings *s, const struct key_row *table, const char *section, const char *key)
{
	const char *v = settings_str(s, table, section, key);
	const struct key_row *r = key_find(table, section, key, NULL);
	int64_t n = 0;
	if (!v)
		return 0;
	if (r && r->type == VALUE_SIZE)
		parse_size(v, &n, NULL);
	else if (r && r->type == VALUE_DURATION)
		parse_duration(v, &n, NULL);
	else
		parse_int(v, &n, NULL);
	return n;
}

bool settings_bool(const struct settings *s, const struct key_row *table, const char *section, const char *key)
{
	const char *v = settings_str(s, table, section, key);
	bool b = false;
	if (v)
		parse_bool(v, &b, NULL);
	return b;
}

double settings_float(const struct settings *s, const struct key_row *table, const char *section, const char *key)
{
	const char *v = settings_str(s, table, section, key);
	return v ? strtod(v, NULL) : 0;
}
