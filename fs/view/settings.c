/* desired/SECTION/KEY: each key that the document behind an object has, inherits or could have, as a file of one value. SECTION is the section's
 * words joined by dots. */
#include "fs/base/mem.h"
#include "fs/view/entries.h"
#include <string.h>

/* false: no document was ever in force. */
static bool settable_of(const struct object *o, struct settable *ret)
{
	*ret = (struct settable){.schema = engine_schema()};
	if (o->deployment) {
		ret->deployment = o->deployment->def;
		ret->owner = o->deployment->def_owner;
	} else if (o->node) {
		const struct deployment *d = o->node->deployment;
		ret->node = node_definition(o->node);
		ret->owner = o->m->desired;
		if (d && d->def && d->def_owner && o->node->group) {
			ret->in = d->def;
			ret->owner = d->def_owner;
			ret->group = o->node->group;
		}
	} else if (o->provider) {
		ret->provider = o->provider->def;
	} else if (o->role) {
		ret->role = o->role->def;
	}
	return ret->deployment || ret->node || ret->provider || ret->role;
}

static void file_name(const char *section, struct buf *out)
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

struct walk {
	const struct object *o;
	const struct place *dir;
	struct lister *lister;
	const char *name;  /* looked for */
	struct place *ret; /* where it was found; its name is 0 until then */
};

/* Names are kept for as long as the mount lives: only what a document has or could have is taken. */
static bool place_named(const struct walk *w, const char *name, struct place *ret)
{
	const char *section = w->o->first;
	*ret = *w->dir;
	ret->name = section ? names_intern(w->o->names, section, name) : names_intern(w->o->names, name, NULL);
	return ret->name;
}

static void walk_all(struct walk *w, settable_fn *each)
{
	struct settable s;
	if (!settable_of(w->o, &s))
		return;
	if (w->o->first)
		settable_keys(&s, w->o->first, each, w);
	else
		settable_sections(&s, each, w);
}

static void list_one(void *arg, const char *name)
{
	const struct walk *w = arg;
	_cleanup_buf_ struct buf shown = {0};
	struct place p;
	if (!place_named(w, name, &p))
		return;
	if (w->o->first)
		buf_adds(&shown, name);
	else
		file_name(name, &shown);
	w->lister->add(w->lister, buf_str(&shown), &p);
}

void settings_list(const struct object *o, const struct place *dir, struct lister *l)
{
	walk_all(&(struct walk){.o = o, .dir = dir, .lister = l}, list_one);
}

static void find_one(void *arg, const char *name)
{
	const struct walk *w = arg;
	if (!w->ret->name && (w->o->first ? !strcmp(name, w->name) : is_named(name, w->name)))
		place_named(w, name, w->ret);
}

bool settings_find(const struct object *o, const struct place *dir, const char *name, struct place *ret)
{
	ret->name = 0;
	walk_all(&(struct walk){.o = o, .dir = dir, .name = name, .ret = ret}, find_one);
	return ret->name;
}

static void render_setting(const struct object *o, struct buf *out)
{
	struct settable s;
	if (o->second && settable_of(o, &s))
		settable_value(&s, o->first, o->second, out);
	end_line(out);
}

/* When the document came to say what it says; what it does not say itself is of 1970. */
static int64_t setting_time(const struct object *o)
{
	struct settable s;
	if (!o->second || !settable_of(o, &s) || !settable_is_set(&s, o->first, o->second))
		return 0;
	return o->deployment ? o->deployment->src.since
	       : o->node     ? o->node->document_since
	       : o->provider ? o->provider->src.since
	                     : o->role->src.since;
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
        .time = setting_time,
        .store = store_setting,
        .help = "the value in force; writing one line changes the document, an empty line takes the key out of it",
};
