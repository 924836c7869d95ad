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

bool settings_find(const struct object *o, const struct place *dir, const char *name, struct place *ret)
{
	const struct settings *s = settings_of(o);
	for (size_t i = 0; s && i < s->n; i++) {
		const struct setting *item = &s->items[i];
		if (o->first ? !strcmp(item->section, o->first) && !strcmp(item->key, name) : is_named(item->section, name))
			return place_named(o, dir, item->section, o->first ? item->key : NULL, ret);
	}
	/* A key that is not set but could be: it is not listed, but 'echo 1 > desired/nodes.db/max-down' can set it. */
	bool section_known;
	if (s && o->first && key_find(document_keys(o), o->first, name, &section_known))
		return place_named(o, dir, o->first, name, ret);
	return false;
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
