/* Parameters set in a deployment: [params ROLE] and [params ROLE @GROUP]. */
#include "fs/base/mem.h"
#include "fs/desired/deploy.h"
#include <errno.h>
#include <string.h>

static bool in_list(const struct def_role *const *roles, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(roles[i]->name, name))
			return true;
	return false;
}

static const char *suggest_used(struct parse *p, const struct def_role *const *roles, size_t n, const char *word, char hint[160])
{
	_cleanup_free_ const char **names = xcalloc(n + 1, sizeof *names);
	for (size_t i = 0; i < n; i++)
		names[i] = roles[i]->name;
	return did_you_mean(p, hint, word, names, n);
}

static const char *suggest_group(struct parse *p, const struct def_deployment *def, const char *word, char hint[160])
{
	_cleanup_free_ const char **names = xcalloc(def->n_groups + 1, sizeof *names);
	for (size_t i = 0; i < def->n_groups; i++)
		names[i] = def->groups[i].name;
	return did_you_mean(p, hint, word, names, def->n_groups);
}

/* Is any role it uses still unread? Then it may bring what is missed here. */
static bool has_busy_role(const struct def_deployment *def)
{
	for (size_t i = 0; i < def->n_roles; i++)
		if (def->roles[i]->src.busy)
			return true;
	return false;
}

/* A section that is inherited may be about a role that is not used here: it is of no effect, and nobody's mistake. */
static void check_heading(struct deploy *all, struct work *w, const struct effective_heading *h)
{
	_cleanup_strlist_ struct strlist words = {0};
	char hint[160];
	section_words(h->name, &words);
	const struct def_deployment *def = w->def;
	const struct def_group *g = NULL;
	if (words.n < 2 || words.n > 3 || (words.n == 3 && (words.items[2][0] != '@' || !words.items[2][1]))) {
		mistake(all->p, w->doc, h->doc, h->line, EINVAL, "[%s] is written [params ROLE] or [params ROLE @GROUP]", h->name);
		return;
	}
	const char *role = words.items[1];
	if (h->doc != w->doc || has_busy_role(def))
		return;
	if (words.n == 3 && !(g = def_group_find(def, words.items[2] + 1)))
		mistake(all->p, w->doc, h->doc, h->line, ENOENT, "there is no group '%s' in this deployment%s", words.items[2] + 1,
		        suggest_group(all->p, def, words.items[2] + 1, hint));
	else if (!in_list(def->roles, def->n_roles, role))
		mistake(all->p, w->doc, h->doc, h->line, EINVAL, "role '%s' is not used in this deployment%s", role,
		        suggest_used(all->p, def->roles, def->n_roles, role, hint));
	else if (g && !in_list(g->roles, g->n_roles, role))
		mistake(all->p, w->doc, h->doc, h->line, EINVAL, "role '%s' is not on the nodes of group '%s'%s", role, g->name,
		        suggest_used(all->p, g->roles, g->n_roles, role, hint));
}

static void add_value(struct deploy *all, struct work *w, const struct effective_item *item)
{
	struct def_deployment *def = w->def;
	_cleanup_strlist_ struct strlist words = {0};
	struct err *err = NULL;
	char hint[160];
	section_words(item->section, &words);
	if (words.n < 2 || words.n > 3 || !in_list(def->roles, def->n_roles, words.items[1]))
		return;
	struct doc *doc = parse_doc(all->p, DOC_ROLE, words.items[1]);
	const struct def_role *role = doc->def;
	const struct def_param *param = def_param_find(role, item->key);
	if (doc->td->busy || doc->malformed)
		return;
	if (!param) {
		mistake(all->p, w->doc, item->doc, item->line, EINVAL, "role '%s' has no parameter '%s'%s", role->name, item->key,
		        suggest_param(all->p, role, item->key, hint));
		return;
	}
	if (param_check(param, item->value, &err) < 0)
		mistake(all->p, w->doc, item->doc, item->line, err->code, "parameter '%s' of role '%s'%s", item->key, role->name, predicate(err));
	err_free(err);
	def->values[def->n_values] = (struct def_value){xstrdup(role->name), xstrdup(item->key), xstrdup(item->value),
	        words.n == 3 ? xstrdup(words.items[2] + 1) : NULL, xasprintf("%s:%d", item->doc->td->path, item->line)};
	value_put(&def->by_value, &def->values[def->n_values], def->n_values);
	def->n_values++;
}

/* Has every node of the group a value of its own? */
static bool nodes_have_value(
        const struct parse *p, const struct def_deployment *def, const struct def_group *g, const struct def_role *r, const struct def_param *q)
{
	for (size_t i = 0; i < g->nodes.n; i++)
		if (!desired_param(&p->all->d, def, r, g->name, g->nodes.items[i], q, NULL))
			return false;
	return g->nodes.n > 0;
}

static void require_value(struct deploy *all, struct work *w, const struct def_group *g, const struct def_role *r, const struct def_param *q)
{
	if (q->dflt || desired_param(&all->p->all->d, w->def, r, g->name, NULL, q, NULL) || nodes_have_value(all->p, w->def, g, r, q))
		return;
	_cleanup_free_ char *section = xasprintf("params %s", r->name);
	_cleanup_free_ char *nodes = xasprintf("nodes %s", g->name);
	const struct effective_item *roles = effective_get(&w->effective, nodes, "roles");
	if (!roles)
		roles = effective_get(&w->effective, "deployment", "roles");
	int line = heading_line(w->doc, section);
	if (!line && roles && roles->doc == w->doc)
		line = roles->line;
	if (!line)
		line = heading_line(w->doc, "deployment");
	mistake(all->p, w->doc, w->doc, line, EINVAL, "parameter '%s' of role '%s' has no default and is not set for group '%s': set it under [%s]",
	        q->name, r->name, g->name, section);
}

void values_link(struct deploy *all, struct work *w)
{
	struct def_deployment *def = w->def;
	const struct effective *e = &w->effective;
	def->values = xcalloc(e->n + 1, sizeof *def->values);
	for (size_t i = 0; i < e->n_headings; i++)
		if (is_params(e->headings[i].name))
			check_heading(all, w, &e->headings[i]);
	for (size_t i = 0; i < e->n; i++)
		if (!strncmp(e->items[i].section, "params ", 7))
			add_value(all, w, &e->items[i]);
	for (size_t i = 0; i < def->n_groups; i++)
		for (size_t j = 0; j < def->groups[i].n_roles; j++) {
			const struct def_role *r = def->groups[i].roles[j];
			struct doc *doc = parse_doc(all->p, DOC_ROLE, r->name);
			for (size_t k = 0; !doc->malformed && k < r->n_params; k++)
				require_value(all, w, &def->groups[i], r, &r->params[k]);
		}
}
