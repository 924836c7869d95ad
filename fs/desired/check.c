/* The form of a document: its sections, keys and values against tables. */
#include "fs/base/mem.h"
#include "fs/base/secret.h"
#include "fs/desired/internal.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LIST_MAX 4096 /* names are looked for in lists one by one */

void section_words(const char *section, struct strlist *ret)
{
	while (*section) {
		size_t n = strcspn(section, " ");
		strlist_add_take(ret, xstrndup(section, n));
		section += n + (section[n] ? 1 : 0);
	}
}

bool section_matches(const char *pattern, const char *section)
{
	while (*pattern && *section) {
		size_t a = strcspn(pattern, " "), b = strcspn(section, " ");
		if (!(a == 1 && *pattern == '*') && (a != b || strncmp(pattern, section, a)))
			return false;
		pattern += a;
		section += b;
		if (*pattern != *section)
			return false;
		if (*pattern) {
			pattern++;
			section++;
		}
	}
	return !*pattern && !*section;
}

static const struct key_row *find_row(const struct key_row *const *tables, const char *section, const char *key)
{
	const struct key_row *any = NULL;
	for (; *tables; tables++)
		for (const struct key_row *r = *tables; r->section; r++) {
			if (!section_matches(r->section, section))
				continue;
			if (!key || !strcmp(r->key, key))
				return r;
			if (!strcmp(r->key, "*"))
				any = r;
		}
	return any;
}

bool is_params(const char *section)
{
	return !strncmp(section, "params", 6) && (!section[6] || section[6] == ' ');
}

/* [params ...] of a document that may have it is checked where the roles are known. */
static bool is_for_later(const struct key_row *const *tables, const char *section)
{
	return is_params(section) && find_row(tables, "params x", NULL);
}

/* What somebody may have meant by a section: its first word corrected, or the words it lacks. */
static void suggest_section(const struct key_row *const *tables, const char *section, char ret[200])
{
	_cleanup_strlist_ struct strlist first = {0}, words = {0};
	section_words(section, &words);
	ret[0] = 0;
	if (!words.n)
		return;
	for (; *tables; tables++)
		for (const struct key_row *r = *tables; r->section; r++) {
			size_t n = strcspn(r->section, " ");
			_cleanup_free_ char *word = xstrndup(r->section, n);
			if (!strlist_has(&first, word))
				strlist_add(&first, word);
			if (strcmp(word, words.items[0]))
				continue;
			if (!r->section[n])
				snprintf(ret, 200, ": it is written [%s]", word);
			else
				snprintf(ret, 200, ": it is written [%s NAME]", word);
			return;
		}
	const char *near = str_suggest(words.items[0], (const char *const *)first.items, first.n);
	if (near)
		snprintf(ret, 200, " (did you mean [%s%s]?)", near, section + strcspn(section, " "));
}

static void check_heading(struct parse *p, struct doc *doc, const struct key_row *const *tables, const struct ini_heading *h)
{
	char hint[200];
	if (is_for_later(tables, h->name) || find_row(tables, h->name, NULL))
		return;
	suggest_section(tables, h->name, hint);
	mistake(p, doc, doc, h->line, EINVAL, "unknown section [%s]%s", h->name, hint);
}

static void unknown_key(struct parse *p, struct doc *doc, const struct key_row *const *tables, const struct setting *s)
{
	char hint[160];
	size_t n = 0, cap = 0;
	_cleanup_free_ const char **keys = NULL;
	for (; *tables; tables++)
		for (const struct key_row *r = *tables; r->section; r++)
			if (section_matches(r->section, s->section)) {
				GROW(keys, n, cap);
				keys[n++] = r->key;
			}
	mistake(p, doc, doc, s->line, EINVAL, "unknown key '%s' in [%s]%s", s->key, s->section, did_you_mean(p, hint, s->key, keys, n));
}

const char *predicate(const struct err *err)
{
	static _Thread_local char buf[512];
	const char *msg = err_msg(err);
	snprintf(buf, sizeof buf, "%s%s", strncmp(msg, "must ", 5) ? ": " : " ", msg);
	return buf;
}

/* Of the rows that take text as it is, these few may be empty. */
static bool may_be_empty(const struct key_row *r)
{
	return r->type == VALUE_LIST || !strcmp(r->key, "help") || !strcmp(r->key, "default");
}

void list_names(const char *text, struct strlist *ret)
{
	strlist_split(ret, text ? text : "");
	while (ret->n > LIST_MAX) {
		free(ret->items[--ret->n]);
		ret->items[ret->n] = NULL;
	}
}

/* Node sets have a limit of their own. */
static bool is_too_long(const struct key_row *row, const char *value)
{
	size_t n = 0;
	if (row->type == VALUE_LIST && strcmp(row->key, "nodes"))
		while ((value = strchr(value, ',')) && n < LIST_MAX) {
			value++;
			n++;
		}
	return n == LIST_MAX;
}

static void check_setting(struct parse *p, struct doc *doc, const struct key_row *const *tables, const struct setting *s)
{
	struct err *err = NULL;
	if (is_for_later(tables, s->section) || !find_row(tables, s->section, NULL))
		return;
	const struct key_row *row = find_row(tables, s->section, s->key);
	if (!row) {
		unknown_key(p, doc, tables, s);
		return;
	}
	if (!*s->value && !may_be_empty(row)) {
		mistake(p, doc, doc, s->line, EINVAL, "'%s' has no value", s->key);
		return;
	}
	if (is_too_long(row, s->value)) {
		mistake(p, doc, doc, s->line, ERANGE, "'%s' has more than %d names", s->key, LIST_MAX);
		return;
	}
	if (key_check(row, s->value, &err) >= 0)
		return;
	if (row->type == VALUE_INT && (row->min || row->max))
		mistake(p, doc, doc, s->line, err->code, "'%s' must be a whole number from %lld to %lld, not '%s'", s->key, (long long)row->min,
		        (long long)row->max, s->value);
	else
		mistake(p, doc, doc, s->line, err->code, "'%s'%s", s->key, predicate(err));
	err_free(err);
}

void check_form(struct parse *p, struct doc *doc, const struct key_row *const *tables)
{
	for (size_t i = 0; i < doc->ini.n_headings; i++)
		check_heading(p, doc, tables, &doc->ini.headings[i]);
	for (size_t i = 0; i < doc->ini.settings.n; i++)
		check_setting(p, doc, tables, &doc->ini.settings.items[i]);
}

const struct schema_provider *schema_provider_find(const struct desired_schema *s, const char *type)
{
	for (size_t i = 0; i < s->n_providers; i++)
		if (!strcmp(s->providers[i].type, type))
			return &s->providers[i];
	return NULL;
}

const struct schema_runner *schema_runner_find(const struct desired_schema *s, const char *name)
{
	for (size_t i = 0; i < s->n_runners; i++)
		if (!strcmp(s->runners[i].name, name))
			return &s->runners[i];
	return NULL;
}

int param_check(const struct def_param *param, const char *text, struct err **err)
{
	if (secret_ref(text)) /* fetched for a run; not known now */
		return secret_name_check(secret_ref(text), err);
	if (param->secret && *text)
		return err_set(err, EINVAL, "must be secret:NAME: a value would stand in git for everybody to read");
	return value_check(param->type, text, param->min, param->max, param->values, err);
}

const char *suggest_param(struct parse *p, const struct def_role *r, const char *word, char buf[160])
{
	_cleanup_free_ const char **names = xcalloc(r->n_params + 1, sizeof *names);
	for (size_t i = 0; i < r->n_params; i++)
		names[i] = r->params[i].name;
	return did_you_mean(p, buf, word, names, r->n_params);
}
