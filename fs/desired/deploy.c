/* deployment.ini: groups, the roles on them, and the verdict over all it refers to. */
#include "fs/desired/deploy.h"
#include "fs/base/mem.h"
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

/* Of the nodes of one group: a set of thousands that was mistyped should not bury all other mistakes. */
#define TOLD_MAX 5

void define_deployment(struct parse *p, struct doc *doc)
{
	struct def_deployment *def = doc->def;
	const struct key_row *tables[] = {deployment_keys, NULL};
	def->name = xstrdup(doc->td->name);
	def->store_uid = (uid_t)-1;
	def->store_gid = (gid_t)-1;
	settings_copy(&def->own, &doc->ini.settings);
	if (!doc->td->text)
		return;
	check_form(p, doc, tables);
	for (size_t i = 0; i < doc->ini.n_headings; i++) {
		struct err *err = NULL;
		const struct ini_heading *h = &doc->ini.headings[i];
		if (!strncmp(h->name, "nodes ", 6) && !strchr(h->name + 6, ' ') && check_name(h->name + 6, &err) < 0)
			mistake(p, doc, doc, h->line, EINVAL, "group '%s' has no good name: %s", h->name + 6, err_msg(err));
		err_free(err);
	}
	for (size_t i = 0; i < doc->ini.settings.n; i++) {
		const struct setting *s = &doc->ini.settings.items[i];
		double cpus;
		if (!strncmp(s->section, "nodes ", 6) && !strcmp(s->key, "cpus") && sscanf(s->value, "%lf", &cpus) == 1 && cpus <= 0)
			mistake(p, doc, doc, s->line, ERANGE, "'cpus' must be more than 0, not '%s'", s->value);
	}
}

/* ---- groups ---- */

static const char *value_of(const struct effective_item *item)
{
	return item && *item->value ? item->value : NULL;
}

static const struct def_provider *link_provider(struct deploy *all, struct work *w, const struct effective_item *item)
{
	char hint[160];
	struct doc *doc = parse_doc(all->p, DOC_PROVIDER, item->value);
	if (!doc) {
		mistake(all->p, w->doc, item->doc, item->line, ENOENT, "there is no provider '%s'%s", item->value,
		        suggest_doc(all->p, DOC_PROVIDER, item->value, hint));
		return NULL;
	}
	return doc->def;
}

static void group_provider(struct deploy *all, struct work *w, struct def_group *g, const struct effective_heading *h)
{
	const struct effective_item *item = effective_get(&w->effective, h->name, "provider");
	if (!value_of(item))
		item = effective_get(&w->effective, "deployment", "provider");
	if (value_of(item))
		g->provider = link_provider(all, w, item);
	else
		mistake(all->p, w->doc, h->doc, h->line, EINVAL, "group '%s' has no provider: say 'provider = NAME' in [deployment] or in [%s]",
		        g->name, h->name);
}

static const struct schema_provider *type_of(const struct deploy *all, const struct def_provider *provider)
{
	return provider ? schema_provider_find(all->p->schema, provider->type) : NULL;
}

static void group_count(struct deploy *all, struct work *w, struct def_group *g, const struct effective_item *count)
{
	const struct schema_provider *type = type_of(all, g->provider);
	if (parse_int(count->value, &g->count, NULL) < 0 || g->count < 0 || g->count > 100000)
		g->count = 0; /* said at its line */
	if (type && type->declared_only)
		mistake(all->p, w->doc, count->doc, count->line, EINVAL,
		        "provider '%s' makes no machines (type %s): name declared ones, 'nodes = NAME, ...' instead of 'count'", g->provider->name,
		        type->type);
	_cleanup_free_ char *last = xasprintf("%s-%s-%lld", w->def->name, g->name, (long long)g->count);
	if (strlen(last) > 63)
		mistake(all->p, w->doc, count->doc, count->line, ERANGE,
		        "the node name '%s' is longer than 63 bytes: shorten the deployment's or the group's name", last);
}

/* false: something is wrong with it. */
static bool group_node(struct deploy *all, struct work *w, struct def_group *g, const struct effective_item *item, const char *name)
{
	char hint[160];
	struct err *err = NULL;
	struct doc *doc = parse_doc(all->p, DOC_NODE, name);
	const struct def_node *node = doc ? doc->def : NULL;
	bool good = false;
	if (check_name(name, &err) < 0)
		mistake(all->p, w->doc, item->doc, item->line, EINVAL, "'%s' cannot be a node: %s", name, err_msg(err));
	else if (!node)
		mistake(all->p, w->doc, item->doc, item->line, ENOENT, "node '%s' is not declared: nodes/%s/node.ini is not there%s", name, name,
		        suggest_doc(all->p, DOC_NODE, name, hint));
	else if (node->provider && g->provider && strcmp(node->provider, g->provider->name))
		mistake(all->p, w->doc, item->doc, item->line, EINVAL, "node '%s' is of provider '%s' (%s:%d), group '%s' takes its nodes from '%s'",
		        name, node->provider, doc->td->path, doc_line(doc, "node", "provider"), g->name, g->provider->name);
	else
		good = true;
	err_free(err);
	return good;
}

static void group_nodes(struct deploy *all, struct work *w, struct def_group *g, const struct effective_item *item)
{
	struct err *err = NULL;
	struct strlist sorted = {0};
	int bad = 0;
	g->count = -1;
	if (node_set_expand(item->value, &g->nodes, &err) < 0) {
		mistake(all->p, w->doc, item->doc, item->line, err->code, "%s", err_msg(err));
		err_free(err);
		return;
	}
	for (size_t i = 0; i < g->nodes.n && bad < TOLD_MAX; i++)
		bad += !group_node(all, w, g, item, g->nodes.items[i]);
	if (bad == TOLD_MAX)
		mistake(all->p, w->doc, item->doc, item->line, EINVAL,
		        "there may be more wrong with the %zu nodes of group '%s': these are the first %d", g->nodes.n, g->name, TOLD_MAX);
	for (size_t i = 0; i < g->nodes.n; i++)
		strlist_add(&sorted, g->nodes.items[i]);
	strlist_sort(&sorted);
	for (size_t i = 1; i < sorted.n; i++)
		if (!strcmp(sorted.items[i - 1], sorted.items[i])) {
			mistake(all->p, w->doc, item->doc, item->line, EINVAL, "node '%s' is named twice in group '%s'", sorted.items[i], g->name);
			break;
		}
	strlist_release(&sorted);
}

static void group_limits(struct def_group *g, const struct effective *e, const char *section)
{
	const char *cpus = value_of(effective_get(e, section, "cpus"));
	const char *memory = value_of(effective_get(e, section, "memory"));
	const char *max_down = value_of(effective_get(e, section, "max-down"));
	g->image = xstrdup(value_of(effective_get(e, section, "image")));
	if (cpus)
		g->cpus = strtod(cpus, NULL);
	if (memory)
		parse_size(memory, &g->memory_bytes, NULL);
	if (max_down)
		parse_int(max_down, &g->max_down, NULL);
}

static void make_group(struct deploy *all, struct work *w, const struct effective_heading *h)
{
	struct def_group *g = &w->def->groups[w->def->n_groups];
	const struct effective_item *count = effective_get(&w->effective, h->name, "count");
	const struct effective_item *nodes = effective_get(&w->effective, h->name, "nodes");
	const struct effective_item *way = nodes ? nodes : count;
	*g = (struct def_group){.name = xstrdup(h->name + 6)};
	index_put(&w->def->by_group, g->name, w->def->n_groups);
	w->places[w->def->n_groups++] = (struct place){way ? way->doc : h->doc, way ? way->line : h->line};
	group_provider(all, w, g, h);
	group_limits(g, &w->effective, h->name);
	if (count && nodes)
		mistake(all->p, w->doc, nodes->doc, nodes->line, EINVAL, "group '%s' has both 'count' (line %d) and 'nodes': say one", g->name,
		        count->line);
	if (nodes)
		group_nodes(all, w, g, nodes);
	else if (count)
		group_count(all, w, g, count);
	else if (!h->doc->malformed) /* what is misspelt there may well be this */
		mistake(all->p, w->doc, h->doc, h->line, EINVAL, "group '%s' has no nodes: say 'count = N' or 'nodes = NAME, ...'", g->name);
}

static void make_groups(struct deploy *all, struct work *w)
{
	const struct effective *e = &w->effective;
	w->def->groups = xcalloc(e->n_headings + 1, sizeof *w->def->groups);
	w->places = xcalloc(e->n_headings + 1, sizeof *w->places);
	for (size_t i = 0; i < e->n_headings; i++)
		if (!strncmp(e->headings[i].name, "nodes ", 6) && !strchr(e->headings[i].name + 6, ' '))
			make_group(all, w, &e->headings[i]);
}

/* ---- roles ---- */

struct rolelist {
	const struct def_role **items;
	size_t n, cap;
};

static void add_roles(struct deploy *all, struct work *w, const char *section, struct rolelist *ret)
{
	const struct effective_item *item = effective_get(&w->effective, section, "roles");
	_cleanup_strlist_ struct strlist names = {0};
	char hint[160];
	if (!item)
		return;
	list_names(item->value, &names);
	for (size_t i = 0; i < names.n; i++) {
		struct doc *doc = parse_doc(all->p, DOC_ROLE, names.items[i]);
		if (!doc) {
			mistake(all->p, w->doc, item->doc, item->line, ENOENT, "there is no role '%s'%s", names.items[i],
			        suggest_doc(all->p, DOC_ROLE, names.items[i], hint));
			continue;
		}
		GROW(ret->items, ret->n, ret->cap);
		ret->items[ret->n++] = doc->def;
	}
}

static bool has_role(const struct def_role *const *roles, size_t n, const struct def_role *r)
{
	for (size_t i = 0; i < n; i++)
		if (roles[i] == r)
			return true;
	return false;
}

/* Where 'roles' is said that brings something to this group. */
static void roles_line(const struct work *w, const char *section, const struct doc **ret_doc, int *ret_line)
{
	const struct effective_item *item = section ? effective_get(&w->effective, section, "roles") : NULL;
	if (!item)
		item = effective_get(&w->effective, "deployment", "roles");
	*ret_doc = item ? item->doc : w->doc;
	*ret_line = item ? item->line : heading_line(w->doc, "deployment");
}

static bool conflicts_with(const struct def_role *a, const struct def_role *b, const char **ret_name)
{
	for (size_t i = 0; i < a->conflicts.n; i++) {
		const char *name = a->conflicts.items[i];
		if (!strcmp(name, b->name) || strlist_has(&b->provides, name)) {
			*ret_name = name;
			return true;
		}
	}
	return false;
}

static void check_conflicts(struct deploy *all, struct work *w, const struct def_group *g, const char *section)
{
	const struct doc *doc;
	const char *name;
	int line;
	roles_line(w, section, &doc, &line);
	for (size_t i = 0; i < g->n_roles; i++)
		for (size_t j = 0; j < g->n_roles; j++) {
			const struct def_role *a = g->roles[i], *b = g->roles[j];
			if (i == j || !conflicts_with(a, b, &name))
				continue;
			if (!strcmp(name, b->name))
				mistake(all->p, w->doc, doc, line, EINVAL, "roles '%s' and '%s' conflict, and both are on group '%s'", a->name,
				        b->name, g->name);
			else
				mistake(all->p, w->doc, doc, line, EINVAL, "role '%s' conflicts with '%s', which role '%s' on group '%s' provides",
				        a->name, name, b->name, g->name);
		}
}

/* The roles of the deployment in order; a group's are those of them that it has. */
static void make_roles(struct deploy *all, struct work *w)
{
	struct def_deployment *def = w->def;
	struct rolelist common = {0}, every = {0};
	add_roles(all, w, "deployment", &common);
	for (size_t i = 0; i < common.n; i++) {
		GROW(every.items, every.n, every.cap);
		every.items[every.n++] = common.items[i];
	}
	struct rolelist *own = xcalloc(def->n_groups + 1, sizeof *own);
	for (size_t i = 0; i < def->n_groups; i++) {
		_cleanup_free_ char *section = xasprintf("nodes %s", def->groups[i].name);
		for (size_t j = 0; j < common.n; j++) {
			GROW(own[i].items, own[i].n, own[i].cap);
			own[i].items[own[i].n++] = common.items[j];
		}
		size_t from = own[i].n;
		add_roles(all, w, section, &own[i]);
		for (; from < own[i].n; from++) {
			GROW(every.items, every.n, every.cap);
			every.items[every.n++] = own[i].items[from];
		}
	}
	def->n_roles = roles_order(all->p, every.items, every.n, &def->roles);
	for (size_t i = 0; i < def->n_groups; i++) {
		struct def_group *g = &def->groups[i];
		const struct def_role **mine;
		size_t n = roles_order(all->p, own[i].items, own[i].n, &mine);
		_cleanup_free_ char *section = xasprintf("nodes %s", g->name);
		g->roles = xcalloc(n + 1, sizeof *g->roles);
		for (size_t j = 0; j < def->n_roles; j++)
			if (has_role(mine, n, def->roles[j]))
				g->roles[g->n_roles++] = def->roles[j];
		free(mine);
		free(own[i].items);
		check_conflicts(all, w, g, section);
	}
	free(own);
	free(common.items);
	free(every.items);
}

static void check_wants(struct deploy *all, struct work *w)
{
	const struct def_deployment *def = w->def;
	for (size_t i = 0; i < def->n_roles; i++)
		for (size_t j = 0; j < def->roles[i]->n_wants; j++) {
			const struct def_want *want = &def->roles[i]->wants[j];
			struct doc *maker = want->kind == WANT_OUTPUT ? parse_doc(all->p, DOC_ROLE, want->role) : NULL;
			const struct doc *doc;
			int line;
			if (!maker || has_role(def->roles, def->n_roles, maker->def))
				continue;
			roles_line(w, NULL, &doc, &line);
			mistake(all->p, w->doc, doc, line, EINVAL, "role '%s' wants '%s', but role '%s' is not used here: add it to 'roles'",
			        def->roles[i]->name, want->text, want->role);
		}
}

/* ---- the deployment's own keys ---- */

static void link_owner(struct deploy *all, struct work *w)
{
	const struct effective_item *owner = effective_get(&w->effective, "deployment", "owner");
	const struct effective_item *group = effective_get(&w->effective, "deployment", "group");
	char buf[16384];
	int64_t id;
	if (value_of(owner)) {
		struct passwd pw, *found = NULL;
		if (parse_int(owner->value, &id, NULL) == 0 && id >= 0 && id < UINT32_MAX)
			w->def->store_uid = (uid_t)id;
		else if (!getpwnam_r(owner->value, &pw, buf, sizeof buf, &found) && found)
			w->def->store_uid = found->pw_uid;
		else if (!all->p->t->kept) /* what was right once is not made wrong by a user who left */
			mistake(all->p, w->doc, owner->doc, owner->line, ENOENT, "'owner' names user '%s', who is not known here", owner->value);
	}
	if (value_of(group)) {
		struct group gr, *found = NULL;
		if (parse_int(group->value, &id, NULL) == 0 && id >= 0 && id < UINT32_MAX)
			w->def->store_gid = (gid_t)id;
		else if (!getgrnam_r(group->value, &gr, buf, sizeof buf, &found) && found)
			w->def->store_gid = found->gr_gid;
		else if (!all->p->t->kept)
			mistake(all->p, w->doc, group->doc, group->line, ENOENT, "'group' names group '%s', which is not known here", group->value);
	}
}

static const char *gate_of(const struct work *w)
{
	return value_of(effective_get(&w->effective, "deployment", "gate"));
}

static const struct work *work_named(const struct deploy *all, const char *name)
{
	const struct doc *doc = parse_doc(all->p, DOC_DEPLOYMENT, name);
	return doc ? &all->works[(size_t)(doc - all->p->docs) - all->p->first[DOC_DEPLOYMENT]] : NULL;
}

static void link_gate(struct deploy *all, struct work *w)
{
	const struct effective_item *gate = effective_get(&w->effective, "deployment", "gate");
	char hint[160];
	if (!value_of(gate) || all->p->t->kept) /* a kept tree holds the deployment alone */
		return;
	const struct work *at = work_named(all, gate->value);
	if (!at) {
		mistake(all->p, w->doc, gate->doc, gate->line, ENOENT, "'gate' names deployment '%s', which is not there%s", gate->value,
		        suggest_doc(all->p, DOC_DEPLOYMENT, gate->value, hint));
		return;
	}
	_cleanup_buf_ struct buf path = {0};
	buf_addf(&path, "%s -> %s", w->def->name, at->def->name);
	for (size_t i = 0; at != w && i < all->n; i++) {
		if (!gate_of(at) || !(at = work_named(all, gate_of(at))))
			return;
		buf_addf(&path, " -> %s", at->def->name);
	}
	if (at == w)
		mistake(all->p, w->doc, gate->doc, gate->line, ELOOP, "'gate' makes a cycle: %s", buf_str(&path));
}

static bool is_manual(const struct work *w)
{
	const char *apply = value_of(effective_get(&w->effective, "deployment", "apply"));
	if (apply)
		return !strcmp(apply, "manual");
	if (gate_of(w))
		return true;
	for (size_t i = 0; i < w->def->n_groups; i++)
		if (w->def->groups[i].provider && w->def->groups[i].provider->apply_manual)
			return true;
	return false;
}

/* What somebody is writing cannot be inherited yet: whoever lacks it has made no mistake. */
static bool parent_is_busy(const struct work *w)
{
	for (w = w->parent; w; w = w->parent)
		if (w->doc->td->busy)
			return true;
	return false;
}

static void link_deployment(struct deploy *all, struct work *w)
{
	struct def_deployment *def = w->def;
	const struct effective_item *provider = effective_get(&w->effective, "deployment", "provider");
	if (value_of(provider) && !parse_doc(all->p, DOC_PROVIDER, provider->value))
		link_provider(all, w, provider);
	for (size_t i = 0; i < w->effective.n; i++) {
		const struct effective_item *item = &w->effective.items[i];
		settings_add(&def->effective, item->section, item->key, item->value, item->line);
	}
	make_groups(all, w);
	make_roles(all, w);
	check_wants(all, w);
	values_link(all, w);
	link_owner(all, w);
	link_gate(all, w);
	def->gate = settings_get(&def->effective, "deployment", "gate");
	if (def->gate && !*def->gate)
		def->gate = NULL;
	const char *commit = value_of(effective_get(&w->effective, "deployment", "commit"));
	def->commit_required = commit && !strcmp(commit, "required");
	def->apply_manual = is_manual(w);
	const char *max_destroy = value_of(effective_get(&w->effective, "deployment", "max-destroy"));
	def->max_destroy = def->apply_manual ? 1 : 0;
	if (max_destroy)
		parse_int(max_destroy, &def->max_destroy, NULL);
}

/* ---- verdict ---- */

/* What it refers to is wrong: so is it. A parent counts by its form only: what it refers to and the child does not is not the child's. */
static void judge_by(struct work *w, const struct doc *other, bool form_only)
{
	if (!other)
		return;
	w->def->busy |= other->td->busy;
	if (form_only ? !other->malformed : !other->wrong)
		return;
	w->doc->wrong = true;
	if (!w->doc->first && other->first)
		w->doc->first = xstrdup(other->first);
}

static void judge(struct deploy *all, struct work *w)
{
	const struct def_deployment *def = w->def;
	const struct effective_item *provider = effective_get(&w->effective, "deployment", "provider");
	w->def->busy |= w->doc->td->busy;
	for (const struct work *up = w->parent; up; up = up->parent)
		judge_by(w, up->doc, true);
	for (size_t i = 0; i < def->n_roles; i++)
		judge_by(w, parse_doc(all->p, DOC_ROLE, def->roles[i]->name), false);
	if (value_of(provider))
		judge_by(w, parse_doc(all->p, DOC_PROVIDER, provider->value), false);
	for (size_t i = 0; i < def->n_groups; i++) {
		const struct def_group *g = &def->groups[i];
		if (g->provider)
			judge_by(w, parse_doc(all->p, DOC_PROVIDER, g->provider->name), false);
		for (size_t j = 0; j < g->nodes.n; j++)
			judge_by(w, parse_doc(all->p, DOC_NODE, g->nodes.items[j]), false);
	}
}

static void remember_uncommitted(struct parse *p, struct def_deployment *def)
{
	const char *path = closure_uncommitted(p->t, def);
	if (path) {
		strlist_add(&p->all->texts, path);
		def->uncommitted = p->all->texts.items[p->all->texts.n - 1];
	}
}

void deployments_link(struct parse *p)
{
	struct deploy all = {.p = p, .n = p->n[DOC_DEPLOYMENT]};
	all.works = xcalloc(all.n + 1, sizeof *all.works);
	for (size_t i = 0; i < all.n; i++) {
		all.works[i].doc = &p->docs[p->first[DOC_DEPLOYMENT] + i];
		all.works[i].def = all.works[i].doc->def;
	}
	like_resolve(&all);
	for (size_t i = 0; i < all.n; i++)
		if (!parent_is_busy(&all.works[i]))
			link_deployment(&all, &all.works[i]);
	places_check(&all);
	for (size_t i = 0; i < all.n; i++)
		judge(&all, &all.works[i]);
	for (size_t i = 0; i < all.n; i++) {
		closure_hash(p->t, all.works[i].def, &all.works[i].def->closure);
		remember_uncommitted(p, all.works[i].def);
		effective_release(&all.works[i].effective);
		free(all.works[i].places);
	}
	free(all.works);
}
