/* desired/SECTION/KEY: each key of the document behind an object as a file of one value. SECTION is the section's words joined by dots. */
#include "fs/base/mem.h"
#include "fs/view/entries.h"
#include <string.h>

static const struct settings *settings_of(const struct object *o)
{
	if (o->deployment)
		return o->deployment->def ? &o->deployment->def->effective : NULL;
	if (o->node)
		return o->node->def ? &o->node->def->settings : NULL;
	if (o->provider)
		return o->provider->def ? &o->provider->def->settings : NULL;
	if (o->role)
		return o->role->def ? &o->role->def->settings : NULL;
	return NULL;
}

static const struct key_row *document_keys(const struct object *o)
{
	return o->deployment ? deployment_keys : o->node ? node_keys : o->provider ? provider_keys : role_keys;
}

static void section_name(const char *section, struct buf *out)
{
	for (const char *s = section; *s; s++)
		buf_addc(out, *s == ' ' ? '.' : *s);
}

static bool is_named(const char *section, const char *name)
{
	for (; *section && *name; section++, name++)
		if (*section != *name && !(*section == ' ' && *name == '.'))
			return false;
	return !*section && !*name;
}

/* Only the first setting of a section, and only the last of a key, since the last one wins. */
static bool seen_before(const struct settings *s, size_t at, const char *section, const char *key)
{
	for (size_t i = 0; i < at; i++)
		if (!strcmp(s->items[i].section, section) && (!key || !strcmp(s->items[i].key, key)))
			return true;
	return false;
}

static bool place_named(const struct object *o, const struct place *dir, const char *section, const char *key, struct place *ret)
{
	*ret = *dir;
	ret->name = names_intern(o->names, section, key);
	return ret->name;
}

void settings_list(const struct object *o, const struct place *dir, struct lister *l)
{
	const struct settings *s = settings_of(o);
	for (size_t i = 0; s && i < s->n; i++) {
		const struct setting *item = &s->items[i];
		struct place p;
		if (o->first ? strcmp(item->section, o->first) || seen_before(s, i, item->section, item->key)
		             : seen_before(s, i, item->section, NULL))
			continue;
		if (!place_named(o, dir, item->section, o->first ? item->key : NULL, &p))
			continue;
		_cleanup_buf_ struct buf name = {0};
		if (o->first)
			buf_adds(&name, item->key);
		else
			section_name(item->section, &name);
		l->add(l, buf_str(&name), &p);
	}
}

/* What is not set but could be is not listed, but found: so 'echo 1 > desired/nodes.db/max-down' can set it. Only names that the documents' tables,
 * the deployment's groups and its roles' parameters know: names are kept for as long as the mount lives. */

static const struct def_role *used_role(const struct def_deployment *d, const char *name, size_t len)
{
	for (size_t i = 0; i < d->n_roles; i++)
		if (strlen(d->roles[i]->name) == len && !strncmp(d->roles[i]->name, name, len))
			return d->roles[i];
	return NULL;
}

/* The role of "params ROLE" or "params ROLE @GROUP". */
static const struct def_role *params_role(const struct def_deployment *d, const char *section)
{
	if (strncmp(section, "params ", 7))
		return NULL;
	const char *role = section + 7, *group = strstr(role, " @");
	if (group && !def_group_find(d, group + 2))
		return NULL;
	return used_role(d, role, group ? (size_t)(group - role) : strlen(role));
}

static bool could_be_section(const struct object *o, const char *section)
{
	const struct def_deployment *d = o->deployment ? o->deployment->def : NULL;
	if (!d)
		return false;
	if (!strncmp(section, "nodes ", 6))
		return def_group_find(d, section + 6);
	return !strcmp(section, "deployment") || params_role(d, section);
}

static bool could_be_key(const struct object *o, const char *section, const char *key)
{
	const struct def_deployment *d = o->deployment ? o->deployment->def : NULL;
	const struct def_role *role = d ? params_role(d, section) : NULL;
	if (role)
		return def_param_find(role, key);
	bool known;
	const struct key_row *row = key_find(document_keys(o), section, key, &known);
	return row && strcmp(row->key, "*") != 0;
}

bool settings_find(const struct object *o, const struct place *dir, const char *name, struct place *ret)
{
	const struct settings *s = settings_of(o);
	for (size_t i = 0; s && i < s->n; i++) {
		const struct setting *item = &s->items[i];
		if (o->first ? !strcmp(item->section, o->first) && !strcmp(item->key, name) : is_named(item->section, name))
			return place_named(o, dir, item->section, o->first ? item->key : NULL, ret);
	}
	if (!s)
		return false;
	if (o->first)
		return could_be_key(o, o->first, name) && place_named(o, dir, o->first, name, ret);
	_cleanup_free_ char *section = xstrdup(name);
	for (char *c = section; *c; c++)
		*c = *c == '.' ? ' ' : *c;
	return could_be_section(o, section) && place_named(o, dir, section, NULL, ret);
}

static void render_setting(const struct object *o, struct buf *out)
{
	const struct settings *s = settings_of(o);
	add_line(out, s && o->second ? settings_get(s, o->first, o->second) : NULL);
}

static void store_setting(const struct object *o, struct write_request *w)
{
	store_target(o, w);
	w->section = xstrdup(o->first);
	w->key = xstrdup(o->second);
}

const struct entry setting_file = {
        .name = "KEY",
        .mode = S_IFREG | 0664,
        .render = render_setting,
        .store = store_setting,
        .help = "the value in force; writing one line changes the document, an empty line takes the key out of it",
};
