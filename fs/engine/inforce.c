/* What is in force: how a reading of the repo becomes nodes and node roles.
 *
 * The unit is the deployment with all it refers to. A reading in which it is right replaces what was in force; one with a mistake leaves it and says
 * so. */
#include "fs/engine/internal.h"
#include <string.h>

const struct def_node *node_definition(const struct node *n)
{
	return n->deployment && n->deployment->def_owner ? desired_node(n->deployment->def_owner, n->row.name) : n->def;
}

static void source_copy(struct def_source *to, const struct def_source *from)
{
	char *path = xstrdup(from->path);
	int64_t since = to->since && hash_eq(&to->hash, &from->hash) ? to->since : now_ms();
	free(to->path);
	*to = *from;
	to->path = path;
	to->since = since;
}

/* ---- fitting nodes to a description ---- */

/* The lower, the sooner given up: what is not active goes first, then the highest number. */
static int keep_cmp(const void *a, const void *b)
{
	const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;
	bool fine_x = x->row.phase == NODE_READY && !x->row.error && !x->gone, fine_y = y->row.phase == NODE_READY && !y->row.error && !y->gone;
	if (x->row.is_protected != y->row.is_protected)
		return x->row.is_protected ? -1 : 1;
	if (fine_x != fine_y)
		return fine_x ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

static struct node *counted_node_new(struct engine *e, struct deployment *d, const struct def_group *g, int64_t number)
{
	_cleanup_free_ char *name = xasprintf("%s-%s-%lld", d->row.name, g->name, (long long)number);
	if (model_node(&e->m, name))
		return NULL;
	struct node *n = node_new(e, name, 0);
	n->number = number;
	str_replace(&n->row.group, g->name);
	node_attach(n, d);
	return n;
}

static void want_node(struct engine *e, struct node *n, const struct def_group *g)
{
	n->wanted = true;
	n->group = g;
	if (!n->row.group || strcmp(n->row.group, g->name))
		str_replace(&n->row.group, g->name);
	/* The provider of a machine that exists does not change under it: another one is a rebuild, and the old one must destroy it. */
	struct provider_object *p = model_provider(&e->m, g->provider->name);
	if (p && (!n->provider || n->row.phase == NODE_PLANNED)) {
		n->provider = p;
		str_replace(&n->row.provider, p->name);
	}
}

static void fit_count(struct engine *e, struct deployment *d, const struct def_group *g)
{
	struct node **have = xcalloc(d->n_nodes + 1, sizeof *have);
	size_t n_have = 0;
	for (size_t i = 0; i < d->n_nodes; i++) {
		struct node *n = d->nodes[i];
		/* A node that is being rebuilt keeps its place. */
		bool leaving = n->row.wish_release || n->row.wish_forget || (n->row.phase == NODE_RELEASING && !n->rebuilding);
		if (n->number > 0 && n->row.group && !strcmp(n->row.group, g->name) && !leaving)
			have[n_have++] = n;
	}
	qsort(have, n_have, sizeof *have, keep_cmp);
	size_t keep = n_have < (size_t)g->count ? n_have : (size_t)g->count;
	for (size_t i = 0; i < keep; i++)
		want_node(e, have[i], g);
	free(have);
	for (int64_t number = 1, left = g->count - (int64_t)keep; left > 0; number++) {
		struct node *n = counted_node_new(e, d, g, number);
		if (n) {
			want_node(e, n, g);
			left--;
		}
	}
}

static void fit_names(struct engine *e, struct deployment *d, const struct def_group *g)
{
	for (size_t i = 0; i < g->nodes.n; i++) {
		struct node *n = model_node(&e->m, g->nodes.items[i]);
		if (!n)
			n = node_new(e, g->nodes.items[i], 0);
		/* Into another deployment it is released first: this is looked at again when it is free. */
		if (n->deployment && n->deployment != d)
			continue;
		n->declared = true;
		node_attach(n, d);
		want_node(e, n, g);
	}
}

static int role_order(const void *a, const void *b)
{
	const struct node_role *x = *(struct node_role *const *)a, *y = *(struct node_role *const *)b;
	if (!x->def != !y->def)
		return x->def ? -1 : 1;
	return x->role_index < y->role_index ? -1 : x->role_index > y->role_index;
}

static size_t index_of(const struct def_deployment *def, const struct def_role *r)
{
	for (size_t i = 0; i < def->n_roles; i++)
		if (def->roles[i] == r || !strcmp(def->roles[i]->name, r->name))
			return i;
	return 0;
}

static void fit_roles(struct engine *e, struct deployment *d, struct node *n)
{
	for (size_t i = 0; i < n->n_roles; i++)
		n->roles[i]->def = NULL;
	if (d->def && n->group) {
		for (size_t i = 0; i < n->group->n_roles; i++) {
			const struct def_role *r = n->group->roles[i];
			struct node_role *nr = node_role_find(n, r->name);
			if (!nr) {
				nr = node_role_new(e, n, r->name, 0);
				mark_node_role(e, nr);
			}
			nr->def = r;
			nr->role_index = index_of(d->def, r);
			nr->stale = true;
		}
	}
	drop_fit(e, d, n);
	if (n->n_roles)
		qsort(n->roles, n->n_roles, sizeof *n->roles, role_order);
}

void deployment_refit(struct engine *e, struct deployment *d)
{
	/* Counters start anew: slots of the new description have other indexes. */
	for (size_t i = 0; i < d->n_nodes; i++) {
		struct node *n = d->nodes[i];
		n->wanted = false;
		n->group = NULL;
		for (size_t k = 0; k < n->n_roles; k++)
			n->roles[k]->counted = 0;
	}
	d->n_active = d->n_due = d->n_running = d->n_error = d->n_total = d->n_dropped = 0;
	if (d->def && !d->slots)
		slots_make(d);
	for (size_t i = 0; d->slots && i < d->def->n_roles; i++)
		d->slots[i].total = d->slots[i].pending = d->slots[i].running = d->slots[i].error = d->slots[i].due = 0;

	if (d->def && !d->row.destroying)
		for (size_t i = 0; i < d->def->n_groups; i++) {
			const struct def_group *g = &d->def->groups[i];
			if (g->count >= 0)
				fit_count(e, d, g);
			else
				fit_names(e, d, g);
		}
	for (size_t i = 0; i < d->n_nodes; i++) {
		fit_roles(e, d, d->nodes[i]);
		mark_node(e, d->nodes[i]);
	}
	deployment_sort_nodes(d);
	if (d->def)
		stale_deployment(e, d);
	for (size_t i = 0; i < d->n_nodes; i++)
		for (size_t k = 0; k < d->nodes[i]->n_roles; k++) {
			digest_refresh(e, d->nodes[i]->roles[k]);
			count_node_role(e, d->nodes[i]->roles[k]);
		}
	queue_deployment(e, d);
	mark_deployment(e, d);
}

static void put_in_force(struct engine *e, struct deployment *d, struct desired *owner, const struct def_deployment *def)
{
	slots_free(d);
	/* Runs under way keep the reading they began with; what points into the old one here is replaced by refit. */
	for (size_t i = 0; i < d->n_nodes; i++) {
		d->nodes[i]->group = NULL;
		for (size_t k = 0; k < d->nodes[i]->n_roles; k++)
			d->nodes[i]->roles[k]->def = NULL;
	}
	desired_ref(owner);
	desired_unref(d->def_owner);
	d->def_owner = owner;
	d->def = def;
	deployment_refit(e, d);
}

/* ---- taking over a reading ---- */

static void take_provider(struct engine *e, struct provider_object *p, struct desired *owner, const struct def_provider *def)
{
	source_copy(&p->src, &def->src);
	if (def->src.busy)
		return;
	_cleanup_free_ char *uncommitted = p->def ? commit_holds_provider(e, owner, def) : NULL;
	str_replace(&p->problem, def->valid ? uncommitted : def->problem);
	if (p->problem || !provider_may_become(e, p, def->type))
		return;
	desired_ref(owner);
	desired_unref(p->def_owner);
	p->def_owner = owner;
	p->def = def;
	provider_refresh(e, p);
}

static void close_provider(struct engine *e, void *arg)
{
	struct provider_object *p = arg;
	if (p->instance)
		p->ops->close(p->instance);
	p->instance = NULL;
	engine_wrlock(e);
	secrets_provider_release(e, &p->held);
	engine_wrunlock(e);
}

static void take_providers(struct engine *e, struct desired *d)
{
	for (size_t i = 0; i < d->n_providers; i++) {
		struct provider_object *p = model_provider(&e->m, d->providers[i]->name);
		take_provider(e, p ? p : provider_object_new(e, d->providers[i]->name), d, d->providers[i]);
	}
	struct provider_object *p, *tmp;
	HASH_ITER (hh_name, e->m.providers_by_name, p, tmp) {
		if (desired_provider(d, p->name))
			continue;
		str_replace(&p->problem, "its document is gone");
		if (provider_in_use(e, p))
			continue;
		for (struct node *n = e->m.nodes_by_name; n; n = n->hh_name.next)
			if (n->provider == p)
				n->provider = NULL;
		/* The object itself stays in memory: calls that end late may still point at it. */
		HASH_DELETE(hh_name, e->m.providers_by_name, p);
		HASH_DELETE(hh_id, e->m.providers_by_id, p);
		effect_add(e, close_provider, p);
	}
}

static bool role_in_use(const struct model *m, const char *name)
{
	for (const struct deployment *d = m->deployments_by_name; d; d = d->hh_name.next)
		for (size_t i = 0; d->def && i < d->def->n_roles; i++)
			if (!strcmp(d->def->roles[i]->name, name))
				return true;
	return false;
}

static void take_roles(struct engine *e, struct desired *d)
{
	for (size_t i = 0; i < d->n_roles; i++) {
		struct role_object *r = model_role(&e->m, d->roles[i]->name);
		if (!r)
			r = role_object_new(e, d->roles[i]->name);
		source_copy(&r->src, &d->roles[i]->src);
		desired_ref(d);
		desired_unref(r->def_owner);
		r->def_owner = d;
		r->def = d->roles[i];
	}
}

/* Once no deployment in force uses them any more. */
static void drop_roles(struct engine *e, struct desired *d)
{
	struct role_object *r, *tmp;
	HASH_ITER (hh_name, e->m.roles_by_name, r, tmp) {
		if (desired_role(d, r->name) || role_in_use(&e->m, r->name))
			continue;
		HASH_DELETE(hh_name, e->m.roles_by_name, r);
		HASH_DELETE(hh_id, e->m.roles_by_id, r);
		desired_unref(r->def_owner);
		free(r->src.path);
		free(r->name);
		free(r);
	}
}

/* Declared nodes are there as soon as they are described, whether or not a deployment names them. */
static void take_nodes(struct engine *e, struct desired *d)
{
	for (size_t i = 0; i < d->n_nodes; i++) {
		const struct def_node *def = d->nodes[i];
		struct node *n = model_node(&e->m, def->name);
		if (!n) {
			n = node_new(e, def->name, 0);
			mark_node(e, n);
		}
		if (!n->def || !hash_eq(&n->def->src.hash, &def->src.hash))
			n->document_since = now_ms();
		n->declared = true;
		n->def = def;
		if (!n->deployment && def->provider && n->row.phase == NODE_PLANNED) {
			n->provider = model_provider(&e->m, def->provider);
			str_replace(&n->row.provider, def->provider);
		}
	}
	struct node *n, *tmp;
	HASH_ITER (hh_name, e->m.nodes_by_name, n, tmp) {
		if (!n->declared || desired_node(d, n->row.name))
			continue;
		n->def = NULL;
		if (!n->deployment && n->row.phase == NODE_PLANNED && !n->op)
			node_delete(e, n);
	}
}

void taking_release(struct taking *t)
{
	free(t->manifest);
	free(t->changes);
	desired_unref(t->owner);
	gated_release(&t->gated);
	*t = (struct taking){0};
}

static void take_deployment(struct engine *e, struct desired *d, const struct def_deployment *def, struct taking *t)
{
	struct deployment *dep = model_deployment(&e->m, def->name);
	if (!dep) {
		dep = deployment_new(e, def->name, 0);
		event_add(e, dep, NULL, NULL, NULL, "found in %s", def->src.path);
	}
	source_copy(&dep->src, &def->src);
	if (dep->orphaned) {
		dep->orphaned = false;
		event_add(e, dep, NULL, NULL, NULL, "its document is back");
		queue_deployment(e, dep);
	}
	if (def->busy)
		return;
	if (commit_holds(e, dep, d, def)) {
		dep->invalid = false;
		return;
	}
	if (!def->valid) {
		const char *problem = def->problem ? def->problem : "has mistakes";
		if (!dep->invalid || !dep->problem || strcmp(dep->problem, problem)) {
			event_add(e, dep, NULL, NULL, NULL, "invalid: %s%s", problem, dep->def ? " (the last good version stays in force)" : "");
			dep->invalid = true;
			str_replace(&dep->problem, problem);
			mark_deployment(e, dep);
		}
		return;
	}
	if (dep->invalid) {
		dep->invalid = false;
		str_replace(&dep->problem, NULL);
		event_add(e, dep, NULL, NULL, NULL, "valid again");
		mark_deployment(e, dep);
	}
	if (!t->manifest)
		commit_rename(e, dep, d, def);
	if (!t->manifest && !t->gated.by) /* the same as in force */
		return;
	gate_take(e, dep, &t->gated);
	dep->version = t->version;
	if (!t->manifest)
		return;
	const struct def_deployment *lies = def;
	def = t->def;
	if (dep->def && t->owner && hash_eq(&dep->def->closure, &def->closure)) /* something else lies in the repo, but this is what is let through */
		return;
	str_replace(&dep->row.in_force, t->manifest);
	str_replace(&dep->row.commit, d->commit);
	dep->row.dirty = t->owner ? lies->src.uncommitted : lies->uncommitted != NULL; /* roles that passed elsewhere were committed there, or not */
	dep->passed = dep->row.passed && !strcmp(dep->row.passed, t->manifest);
	_cleanup_buf_ struct buf label = {0};
	if (d->commit)
		commit_label(d->commit, dep->row.dirty, &label);
	event_add(e, dep, NULL, NULL, NULL, "in force: %s%s%s", t->changes, d->commit ? "; commit " : "", buf_str(&label));
	put_in_force(e, dep, t->owner ? t->owner : d, def);
}

/* A name without a machine is nothing that could be destroyed: it goes with the words that wanted it. */
static void drop_never_made(struct engine *e, struct deployment *d)
{
	for (size_t i = 0; i < d->n_nodes; i++) {
		struct node *n = d->nodes[i];
		if (n->row.phase != NODE_PLANNED || n->row.incarnation > 0)
			continue;
		n->wanted = false;
		queue_node(e, n);
	}
}

static void take_deployments(struct engine *e, struct desired *d, struct taking *takings)
{
	for (size_t i = 0; i < d->n_deployments; i++)
		take_deployment(e, d, d->deployments[i], &takings[i]);
	struct deployment *dep, *tmp;
	HASH_ITER (hh_name, e->m.deployments_by_name, dep, tmp) {
		if (desired_deployment(d, dep->row.name))
			continue;
		if (commit_holds(e, dep, d, NULL)) {
			dep->invalid = dep->orphaned = false;
		} else if (!dep->n_nodes) {
			deployment_remove(e, dep);
		} else if (!dep->orphaned) {
			dep->orphaned = true;
			dep->invalid = false;
			str_replace(&dep->problem, NULL);
			event_add(e, dep, NULL, NULL, NULL, "orphaned: its document is gone, its %zu nodes stay", dep->n_nodes);
			mark_deployment(e, dep);
			drop_never_made(e, dep);
		}
	}
}

void take_over(struct engine *e, struct desired *d, struct taking *takings)
{
	/* m->desired goes last: def pointers of declared nodes point into it. */
	struct desired *old = e->m.desired;
	e->m.desired = desired_ref(d);
	take_providers(e, d);
	take_roles(e, d);
	take_nodes(e, d);
	take_deployments(e, d, takings);
	drop_roles(e, d);
	desired_unref(old);
	e->changed = true;
}

void take_over_kept(struct engine *e, struct deployment *dep)
{
	_cleanup_err_ struct err *err = NULL;
	struct tree *tree = NULL;
	struct desired *d = NULL;

	if (!dep->row.in_force)
		return;
	if (tree_read_kept(e->content, dep->row.in_force, &tree, &err) < 0 || desired_parse(tree, engine_schema(), &d, &err) < 0) {
		log_msg(LOG_ERROR, "deployment %s: cannot read what was in force: %s", dep->row.name, err_msg(err));
		tree_free(tree);
		return;
	}
	tree_free(tree);
	const struct def_deployment *def = desired_deployment(d, dep->row.name);
	if (def && def->valid) {
		for (size_t i = 0; i < d->n_providers; i++) {
			struct provider_object *p = model_provider(&e->m, d->providers[i]->name);
			if (!p)
				p = provider_object_new(e, d->providers[i]->name);
			if (!p->def)
				take_provider(e, p, d, d->providers[i]);
		}
		for (size_t i = 0; i < d->n_nodes; i++) {
			struct node *n = model_node(&e->m, d->nodes[i]->name);
			if (n)
				n->declared = true;
		}
		source_copy(&dep->src, &def->src);
		dep->passed = dep->row.passed && !strcmp(dep->row.passed, dep->row.in_force);
		if (!def->gate) /* of a gated one more decided than lies in it: the first reading finds out */
			dep->version = def->closure;
		put_in_force(e, dep, d, def);
	} else {
		log_msg(LOG_ERROR, "deployment %s: what was in force is no longer valid: %s", dep->row.name,
		        def && def->problem ? def->problem : "not there");
	}
	desired_unref(d);
}
