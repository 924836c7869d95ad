/* A reading of a tree as its users hold it: look-ups, parameters, lifetime. */
#include "fs/base/mem.h"
#include "fs/desired/internal.h"
#include <string.h>

/* All definitions begin with their name. */
static int by_name(const void *key, const void *item)
{
	return strcmp(key, **(char ***)item);
}

const struct def_provider *desired_provider(const struct desired *d, const char *name)
{
	struct def_provider **p = d->n_providers ? bsearch(name, d->providers, d->n_providers, sizeof *d->providers, by_name) : NULL;
	return p ? *p : NULL;
}

const struct def_role *desired_role(const struct desired *d, const char *name)
{
	struct def_role **r = d->n_roles ? bsearch(name, d->roles, d->n_roles, sizeof *d->roles, by_name) : NULL;
	return r ? *r : NULL;
}

static struct def_node **find_node(const struct desired *d, const char *name)
{
	return d->n_nodes ? bsearch(name, d->nodes, d->n_nodes, sizeof *d->nodes, by_name) : NULL;
}

const struct def_node *desired_node(const struct desired *d, const char *name)
{
	struct def_node **n = find_node(d, name);
	return n ? *n : NULL;
}

const struct def_deployment *desired_deployment(const struct desired *d, const char *name)
{
	struct def_deployment **p = d->n_deployments ? bsearch(name, d->deployments, d->n_deployments, sizeof *d->deployments, by_name) : NULL;
	return p ? *p : NULL;
}

const struct def_source *desired_source(const struct desired *d, const char *path)
{
	enum doc_kind kind;
	_cleanup_free_ char *name = NULL;
	if (!doc_path_parse(path, &kind, &name))
		return NULL;
	const struct def_provider *p = kind == DOC_PROVIDER ? desired_provider(d, name) : NULL;
	const struct def_role *r = kind == DOC_ROLE ? desired_role(d, name) : NULL;
	const struct def_node *n = kind == DOC_NODE ? desired_node(d, name) : NULL;
	const struct def_deployment *dep = kind == DOC_DEPLOYMENT ? desired_deployment(d, name) : NULL;
	return p ? &p->src : r ? &r->src : n ? &n->src : dep ? &dep->src : NULL;
}

const struct def_group *def_group_find(const struct def_deployment *d, const char *name)
{
	size_t at;
	return index_find(d->by_group, name, &at) ? &d->groups[at] : NULL;
}

const struct def_param *def_param_find(const struct def_role *r, const char *name)
{
	size_t at;
	return index_find(r->by_param, name, &at) ? &r->params[at] : NULL;
}

static char *value_name(const char *role, const char *group)
{
	return group ? xasprintf("%s @%s", role, group) : xstrdup(role);
}

void value_put(struct index **ix, const struct def_value *v, size_t at)
{
	_cleanup_free_ char *where = value_name(v->role, v->group);
	index_put_pair(ix, where, v->param, at);
}

static const struct def_value *find_value(
        const struct def_value *values, const struct index *ix, const char *role, const char *param, const char *group)
{
	_cleanup_free_ char *where = value_name(role, group);
	size_t at;
	return index_find_pair(ix, where, param, &at) ? &values[at] : NULL;
}

static const char *default_origin(const struct all *a, const struct def_role *role, const struct def_param *param)
{
	const struct desired *d = &a->d;
	struct def_role **r = bsearch(role->name, d->roles, d->n_roles, sizeof *d->roles, by_name);
	return r && *r == role ? a->roles[r - d->roles].origins[param - role->params] : role->src.path;
}

const char *desired_param(const struct desired *d, const struct def_deployment *dep, const struct def_role *role, const char *group, const char *node,
        const struct def_param *param, const char **ret_origin)
{
	const struct all *a = (const struct all *)d;
	const struct def_value *v = NULL;
	struct def_node **n = node ? find_node(d, node) : NULL;
	if (n) {
		const struct all_node *priv = &a->nodes[n - d->nodes];
		v = find_value(priv->values, priv->by_value, role->name, param->name, NULL);
	}
	if (!v && group)
		v = find_value(dep->values, dep->by_value, role->name, param->name, group);
	if (!v)
		v = find_value(dep->values, dep->by_value, role->name, param->name, NULL);
	if (ret_origin && (v || param->dflt))
		*ret_origin = v ? v->origin : default_origin(a, role, param);
	return v ? v->value : param->dflt;
}

/* ---- lifetime ---- */

struct desired *desired_ref(struct desired *d)
{
	if (d)
		atomic_fetch_add_explicit(&((struct all *)d)->refs, 1, memory_order_relaxed);
	return d;
}

static void free_values(struct def_value *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(v[i].role);
		free(v[i].param);
		free(v[i].value);
		free(v[i].group);
		free(v[i].origin);
	}
	free(v);
}

static void free_provider(struct def_provider *p)
{
	free(p->name);
	free(p->src.path);
	free(p->type);
	free(p->image);
	settings_release(&p->settings);
	settings_release(&p->files);
	free(p);
}

static void free_role(struct def_role *r, struct all_role *priv)
{
	for (size_t i = 0; i < r->n_params; i++) {
		struct def_param *q = &r->params[i];
		free(q->name);
		free(q->dflt);
		free(q->min);
		free(q->max);
		free(q->values);
		free(q->help);
		free(priv->origins[i]);
	}
	for (size_t i = 0; i < r->n_outputs; i++) {
		free(r->outputs[i].name);
		free(r->outputs[i].help);
	}
	for (size_t i = 0; i < r->n_wants; i++) {
		free(r->wants[i].text);
		free(r->wants[i].role);
		free(r->wants[i].key);
	}
	index_release(&r->by_param);
	free(priv->origins);
	free(r->params);
	free(r->outputs);
	free(r->wants);
	strlist_release(&r->requires);
	strlist_release(&r->after);
	strlist_release(&r->provides);
	strlist_release(&r->conflicts);
	settings_release(&r->settings);
	free(r->name);
	free(r->src.path);
	free(r->runner);
	free(r);
}

static void free_node(struct def_node *n, struct all_node *priv)
{
	free_values(priv->values, priv->n_values);
	index_release(&priv->by_value);
	strlist_release(&n->labels);
	settings_release(&n->settings);
	free(n->name);
	free(n->src.path);
	free(n->provider);
	free(n);
}

static void free_deployment(struct def_deployment *d)
{
	for (size_t i = 0; i < d->n_groups; i++) {
		free(d->groups[i].name);
		free(d->groups[i].image);
		strlist_release(&d->groups[i].nodes);
		free(d->groups[i].roles);
	}
	free_values(d->values, d->n_values);
	index_release(&d->by_group);
	index_release(&d->by_value);
	settings_release(&d->own);
	settings_release(&d->effective);
	free(d->groups);
	free(d->roles);
	free(d->name);
	free(d->src.path);
	free(d);
}

void desired_unref(struct desired *d)
{
	struct all *a = (struct all *)d;
	if (!d || atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) > 1)
		return;
	for (size_t i = 0; i < d->n_providers; i++)
		free_provider(d->providers[i]);
	for (size_t i = 0; i < d->n_roles; i++)
		free_role(d->roles[i], &a->roles[i]);
	for (size_t i = 0; i < d->n_nodes; i++)
		free_node(d->nodes[i], &a->nodes[i]);
	for (size_t i = 0; i < d->n_deployments; i++)
		free_deployment(d->deployments[i]);
	for (size_t i = 0; i < d->n_problems; i++) {
		free(d->problems[i].file);
		free(d->problems[i].text);
	}
	free(d->providers);
	free(d->roles);
	free(d->nodes);
	free(d->deployments);
	free(d->problems);
	free(d->commit);
	free(d->incomparable);
	strlist_release(&d->removed);
	free(a->nodes);
	free(a->roles);
	strlist_release(&a->texts);
	free(a);
}
