/* What a document could say: every section and key that it has or may have, and what holds where it says nothing. */
#include "fs/base/mem.h"
#include "fs/desired/internal.h"
#include <inttypes.h>
#include <string.h>
#include <uthash.h>

/* What is in force, and what the document itself says: they differ where it inherits. */
static const struct settings *effective_of(const struct settable *s)
{
	return s->deployment ? &s->deployment->effective : s->provider ? &s->provider->settings : s->role ? &s->role->settings : &s->node->settings;
}

static const struct settings *own_of(const struct settable *s)
{
	return s->deployment ? &s->deployment->own : effective_of(s);
}

/* ---- tables ---- */

#define TABLES_MAX 34

static const struct schema_provider *node_type(const struct settable *s)
{
	const char *name = s->node->provider;
	const struct def_provider *p = name && s->owner ? desired_provider(s->owner, name) : s->group ? s->group->provider : NULL;
	return p ? schema_provider_find(s->schema, p->type) : NULL;
}

/* NULL-terminated. A node whose provider is not known may have the keys of any. */
static void tables_of(const struct settable *s, const struct key_row *ret[TABLES_MAX])
{
	const struct schema_runner *runner = s->role && s->role->runner ? schema_runner_find(s->schema, s->role->runner) : NULL;
	const struct schema_provider *type = s->provider ? schema_provider_find(s->schema, s->provider->type) : s->node ? node_type(s) : NULL;
	size_t n = 0;
	ret[n++] = s->deployment ? deployment_keys : s->provider ? provider_keys : s->role ? role_keys : node_keys;
	if (runner && runner->keys)
		ret[n++] = runner->keys;
	if (s->provider && type && type->keys)
		ret[n++] = type->keys;
	for (size_t i = 0; s->node && i < s->schema->n_providers && n < TABLES_MAX - 1; i++) {
		const struct schema_provider *sp = &s->schema->providers[i];
		if (sp->node_keys && (!type || type == sp))
			ret[n++] = sp->node_keys;
	}
	ret[n] = NULL;
}

const struct key_row *settable_row(const struct settable *s, const char *section, const char *key)
{
	const struct key_row *tables[TABLES_MAX];
	tables_of(s, tables);
	for (const struct key_row *const *t = tables; *t; t++)
		for (const struct key_row *r = *t; r->section; r++)
			if (!strcmp(r->key, key) && section_matches(r->section, section))
				return r;
	return NULL;
}

/* ---- parameters ---- */

static bool is_on_node(const struct settable *s, const struct def_role *r)
{
	for (size_t i = 0; s->group && i < s->group->n_roles; i++)
		if (s->group->roles[i] == r)
			return true;
	return false;
}

/* The role of [params ROLE] or [params ROLE @GROUP], and the group; NULL: none, or not one that is used here. */
static const struct def_role *params_of(const struct settable *s, const char *section, const struct def_group **ret_group)
{
	const struct def_deployment *dep = s->node ? s->in : s->deployment;
	*ret_group = NULL;
	if (!dep || strncmp(section, "params ", 7))
		return NULL;
	const char *name = section + 7, *group = strstr(name, " @");
	size_t len = group ? (size_t)(group - name) : strlen(name);
	if (group && (s->node || !(*ret_group = def_group_find(dep, group + 2))))
		return NULL;
	for (size_t i = 0; i < dep->n_roles; i++) {
		const struct def_role *r = dep->roles[i];
		if (strlen(r->name) == len && !strncmp(r->name, name, len))
			return s->node && !is_on_node(s, r) ? NULL : r;
	}
	return NULL;
}

/* ---- sections and keys ---- */

struct said_section {
	const char *name;
	UT_hash_handle hh;
};
struct visit {
	struct said_section *said; /* by name; items holds them */
	struct said_section *items;
	settable_fn *each;
	void *arg;
};

static void unless_said(const struct visit *v, const char *section)
{
	struct said_section *found;
	HASH_FIND_STR(v->said, section, found);
	if (!found)
		v->each(v->arg, section);
}

static void said_sections(const struct settings *s, struct visit *v)
{
	v->items = xcalloc(s->n + 1, sizeof *v->items);
	for (size_t i = 0; i < s->n; i++) {
		struct said_section *it = &v->items[i], *found;
		it->name = s->items[i].section;
		HASH_FIND_STR(v->said, it->name, found);
		if (found)
			continue;
		HASH_ADD_KEYPTR(hh, v->said, it->name, strlen(it->name), it);
		v->each(v->arg, it->name);
	}
}

static void named_section(const struct visit *v, const char *word, const char *name, const char *group)
{
	_cleanup_free_ char *section = xasprintf("%s %s%s%s", word, name, group ? " @" : "", group ? group : "");
	unless_said(v, section);
}

static void deployment_sections(const struct def_deployment *d, const struct visit *v)
{
	for (size_t i = 0; i < d->n_roles; i++)
		if (d->roles[i]->n_params)
			named_section(v, "params", d->roles[i]->name, NULL);
	for (size_t i = 0; i < d->n_groups; i++) {
		const struct def_group *g = &d->groups[i];
		named_section(v, "nodes", g->name, NULL);
		for (size_t j = 0; j < g->n_roles; j++)
			if (g->roles[j]->n_params)
				named_section(v, "params", g->roles[j]->name, g->name);
	}
}

static void role_sections(const struct def_role *r, const struct visit *v)
{
	for (size_t i = 0; i < r->n_params; i++)
		named_section(v, "param", r->params[i].name, NULL);
	for (size_t i = 0; i < r->n_outputs; i++)
		named_section(v, "output", r->outputs[i].name, NULL);
}

/* Sections of tables without a name of their own: [provider], [fake]. */
static void table_sections(const struct settable *s, const struct visit *v)
{
	const struct key_row *tables[TABLES_MAX];
	_cleanup_strlist_ struct strlist seen = {0};
	tables_of(s, tables);
	for (const struct key_row *const *t = tables; *t; t++)
		for (const struct key_row *r = *t; r->section; r++) {
			if (strchr(r->section, '*') || strlist_has(&seen, r->section))
				continue;
			strlist_add(&seen, r->section);
			unless_said(v, r->section);
		}
}

void settable_sections(const struct settable *s, settable_fn *each, void *arg)
{
	struct visit v = {.each = each, .arg = arg};
	said_sections(effective_of(s), &v);
	table_sections(s, &v);
	if (s->deployment)
		deployment_sections(s->deployment, &v);
	if (s->role)
		role_sections(s->role, &v);
	for (size_t i = 0; s->group && i < s->group->n_roles; i++)
		if (s->group->roles[i]->n_params)
			named_section(&v, "params", s->group->roles[i]->name, NULL);
	HASH_CLEAR(hh, v.said);
	free(v.items);
}

void settable_keys(const struct settable *s, const char *section, settable_fn *each, void *arg)
{
	const struct settings *said = effective_of(s);
	const struct key_row *tables[TABLES_MAX];
	const struct def_group *group;
	const struct def_role *role = params_of(s, section, &group);
	for (size_t i = 0; i < said->n; i++) {
		const struct setting *item = &said->items[i];
		bool again = strcmp(item->section, section) != 0;
		for (size_t j = 0; j < i && !again; j++)
			again = !strcmp(said->items[j].section, section) && !strcmp(said->items[j].key, item->key);
		if (!again)
			each(arg, item->key);
	}
	for (size_t i = 0; role && i < role->n_params; i++)
		if (!settings_get(said, section, role->params[i].name))
			each(arg, role->params[i].name);
	tables_of(s, tables);
	for (const struct key_row *const *t = tables; *t; t++)
		for (const struct key_row *r = *t; r->section; r++)
			if (strcmp(r->key, "*") && section_matches(r->section, section) && !settings_get(said, section, r->key))
				each(arg, r->key);
}

/* ---- values ---- */

bool settable_is_set(const struct settable *s, const char *section, const char *key)
{
	return settings_get(own_of(s), section, key);
}

/* What holds in a deployment, as far as another document or the deployment as a whole decides it. */
static const char *deployment_default(const struct def_deployment *d, const char *section, const char *key)
{
	const struct def_group *g = strncmp(section, "nodes ", 6) ? NULL : def_group_find(d, section + 6);
	if (g && !strcmp(key, "provider"))
		return g->provider ? g->provider->name : NULL;
	if (g && !strcmp(key, "image"))
		return g->provider ? g->provider->image : NULL;
	if (!strcmp(section, "deployment") && !strcmp(key, "apply"))
		return d->apply_manual ? "manual" : "auto";
	return NULL;
}

static const char *node_default(const struct settable *s, const char *key)
{
	const struct def_provider *p = s->group ? s->group->provider : NULL;
	if (!strcmp(key, "provider"))
		return p ? p->name : NULL;
	if (!strcmp(key, "image"))
		return s->group && s->group->image ? s->group->image : p ? p->image : NULL;
	return NULL;
}

static const char *default_of(const struct settable *s, const char *section, const char *key)
{
	const struct def_group *group;
	const struct def_role *role = params_of(s, section, &group);
	const struct def_param *param = role ? def_param_find(role, key) : NULL;
	const char *text = NULL;
	if (param && s->node)
		return desired_param(s->owner, s->in, role, s->group->name, NULL, param, NULL);
	if (param) /* one step down: of a group the deployment's value, of the deployment the role's default */
		return group ? desired_param(s->owner, s->deployment, role, NULL, NULL, param, NULL) : param->dflt;
	if (s->deployment)
		text = deployment_default(s->deployment, section, key);
	else if (s->node)
		text = node_default(s, key);
	else if (s->provider && !strcmp(section, "provider") && !strcmp(key, "apply"))
		text = s->provider->apply_manual ? "manual" : "auto";
	const struct key_row *row = text ? NULL : settable_row(s, section, key);
	return row ? row->dflt : text;
}

void settable_value(const struct settable *s, const char *section, const char *key, struct buf *out)
{
	const char *text = settings_get(effective_of(s), section, key);
	if (!text)
		text = default_of(s, section, key);
	if (text)
		buf_adds(out, text);
	else if (s->deployment && !strcmp(section, "deployment") && !strcmp(key, "max-destroy"))
		buf_addf(out, "%" PRId64, s->deployment->max_destroy);
}
