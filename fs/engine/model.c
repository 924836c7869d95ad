/* The tables of the model: objects come, are found, and go. */
#include "fs/engine/internal.h"
#include <string.h>

void model_init(struct model *m)
{
	pthread_rwlockattr_t attr;
	pthread_rwlockattr_init(&attr);
	/* glibc's default prefers readers: four of them kept a writer out for 15 s. */
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&m->lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	m->events = xcalloc(EVENTS_KEPT, sizeof *m->events);
	m->generation = 1;
}

/* ---- lookups ---- */

#define FINDERS(type, fn, table)                                                                                                                     \
	struct type *fn(const struct model *m, const char *name)                                                                                     \
	{                                                                                                                                            \
		struct type *found = NULL;                                                                                                           \
		if (name)                                                                                                                            \
			HASH_FIND(hh_name, m->table##_by_name, name, strlen(name), found);                                                           \
		return found;                                                                                                                        \
	}                                                                                                                                            \
	struct type *fn##_id(const struct model *m, int64_t id)                                                                                      \
	{                                                                                                                                            \
		struct type *found = NULL;                                                                                                           \
		HASH_FIND(hh_id, m->table##_by_id, &id, sizeof id, found);                                                                           \
		return found;                                                                                                                        \
	}
FINDERS(deployment, model_deployment, deployments)
FINDERS(node, model_node, nodes)
FINDERS(provider_object, model_provider, providers)
FINDERS(role_object, model_role, roles)

struct node_role *model_node_role_id(const struct model *m, int64_t id)
{
	struct node_role *found = NULL;
	HASH_FIND(hh_id, m->node_roles_by_id, &id, sizeof id, found);
	return found;
}

struct node_role *node_role_find(const struct node *n, const char *role)
{
	for (size_t i = 0; i < n->n_roles; i++)
		if (!strcmp(n->roles[i]->row.role, role))
			return n->roles[i];
	return NULL;
}

/* ---- deployments ---- */

struct deployment *deployment_new(struct engine *e, const char *name, int64_t id)
{
	struct deployment *d = xcalloc(1, sizeof *d);
	d->row.id = id ? id : engine_new_id(e);
	d->row.name = xstrdup(name);
	HASH_ADD_KEYPTR(hh_name, e->m.deployments_by_name, d->row.name, strlen(name), d);
	HASH_ADD(hh_id, e->m.deployments_by_id, row.id, sizeof d->row.id, d);
	d->elsewhere = e->has_only && !strlist_has(&e->only, name);
	e->changed = true;
	return d;
}

static void def_source_release(struct def_source *s)
{
	free(s->path);
	s->path = NULL;
}

static void deployment_free(struct deployment *d)
{
	slots_free(d);
	desired_unref(d->def_owner);
	row_deployment_release(&d->row);
	free(d->problem);
	gated_release(&d->gated);
	free(d->uncommitted);
	free(d->uncommitted_file);
	def_source_release(&d->src);
	free(d->nodes);
	free(d);
}

void deployment_remove(struct engine *e, struct deployment *d)
{
	while (d->n_nodes)
		node_attach(d->nodes[d->n_nodes - 1], NULL);
	for (size_t i = 0; i < e->n_dirty_deps; i++)
		if (e->dirty_deps[i] == d)
			e->dirty_deps[i--] = e->dirty_deps[--e->n_dirty_deps];
	store_del_deployment(engine_batch(e), d->row.id);
	HASH_DELETE(hh_name, e->m.deployments_by_name, d);
	HASH_DELETE(hh_id, e->m.deployments_by_id, d);
	deployment_free(d);
	e->changed = true;
}

static int node_cmp(const void *a, const void *b)
{
	const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;
	int c = strcmp(x->row.group ? x->row.group : "", y->row.group ? y->row.group : "");
	if (!c && x->number != y->number)
		c = x->number < y->number ? -1 : 1;
	return c ? c : strcmp(x->row.name, y->row.name);
}

void deployment_sort_nodes(struct deployment *d)
{
	if (d->n_nodes)
		qsort(d->nodes, d->n_nodes, sizeof *d->nodes, node_cmp);
}

/* ---- nodes ---- */

struct node *node_new(struct engine *e, const char *name, int64_t id)
{
	struct node *n = xcalloc(1, sizeof *n);
	n->row.id = id ? id : engine_new_id(e);
	n->row.name = xstrdup(name);
	n->row.since = now_ms();
	HASH_ADD_KEYPTR(hh_name, e->m.nodes_by_name, n->row.name, strlen(name), n);
	HASH_ADD(hh_id, e->m.nodes_by_id, row.id, sizeof n->row.id, n);
	e->changed = true;
	return n;
}

void node_attach(struct node *n, struct deployment *d)
{
	struct deployment *old = n->deployment;
	if (old == d)
		return;
	for (size_t i = 0; i < n->n_roles; i++)
		uncount_node_role(n->roles[i]);
	if (old) {
		for (size_t i = 0; i < old->n_nodes; i++)
			if (old->nodes[i] == n) {
				memmove(&old->nodes[i], &old->nodes[i + 1], (old->n_nodes - i - 1) * sizeof *old->nodes);
				old->n_nodes--;
				break;
			}
		old->generation++;
	}
	n->deployment = d;
	str_replace(&n->row.deployment, d ? d->row.name : NULL);
	if (d) {
		GROW(d->nodes, d->n_nodes, d->cap_nodes);
		d->nodes[d->n_nodes++] = n;
		d->generation++;
	}
}

static void node_role_free(struct node_role *nr)
{
	for (size_t i = 0; i < nr->n_outputs; i++) {
		free(nr->outputs[i].key);
		free(nr->outputs[i].value);
	}
	for (size_t i = 0; i < nr->n_runs; i++) {
		free(nr->runs[i].why);
		free(nr->runs[i].digest);
		free(nr->runs[i].commit);
	}
	free(nr->cancelled_by);
	free(nr->check_error);
	free(nr->renewing);
	free(nr->lacks);
	free(nr->outputs);
	free(nr->runs);
	digest_unref(nr->digest);
	row_node_role_release(&nr->row);
	free(nr);
}

static void node_free(struct node *n)
{
	row_node_release(&n->row);
	free(n->progress);
	free(n->console);
	free(n->spec_now);
	free(n->recipe_now);
	free(n->target_now);
	free(n->roles);
	free(n);
}

void node_delete(struct engine *e, struct node *n)
{
	node_attach(n, NULL);
	while (n->n_roles)
		node_role_remove(e, n->roles[n->n_roles - 1]);
	for (size_t i = 0; i < e->n_dirty_nodes; i++)
		if (e->dirty_nodes[i] == n)
			e->dirty_nodes[i--] = e->dirty_nodes[--e->n_dirty_nodes];
	for (size_t i = 0; i < e->n_node_queue; i++)
		if (e->node_queue[i] == n)
			e->node_queue[i] = NULL;
	store_del_node(engine_batch(e), n->row.id);
	HASH_DELETE(hh_name, e->m.nodes_by_name, n);
	HASH_DELETE(hh_id, e->m.nodes_by_id, n);
	node_free(n);
	e->changed = true;
}

/* ---- node roles ---- */

struct node_role *node_role_new(struct engine *e, struct node *n, const char *role, int64_t id)
{
	struct node_role *nr = xcalloc(1, sizeof *nr);
	nr->row.id = id ? id : engine_new_id(e);
	nr->row.node_id = n->row.id;
	nr->row.role = xstrdup(role);
	nr->row.last_result = -1;
	nr->node = n;
	nr->stale = true;
	GROW(n->roles, n->n_roles, n->cap_roles);
	n->roles[n->n_roles++] = nr;
	HASH_ADD(hh_id, e->m.node_roles_by_id, row.id, sizeof nr->row.id, nr);
	e->changed = true;
	return nr;
}

void node_role_remove(struct engine *e, struct node_role *nr)
{
	struct node *n = nr->node;
	uncount_node_role(nr);
	if (nr->dropped && n->deployment)
		n->deployment->n_dropped--;
	for (size_t i = 0; i < n->n_roles; i++)
		if (n->roles[i] == nr) {
			memmove(&n->roles[i], &n->roles[i + 1], (n->n_roles - i - 1) * sizeof *n->roles);
			n->n_roles--;
			break;
		}
	if (n->running == nr)
		n->running = NULL;
	if (nr->check)
		n->checking = false;
	for (size_t i = 0; i < e->n_dirty_nrs; i++)
		if (e->dirty_nrs[i] == nr)
			e->dirty_nrs[i--] = e->dirty_nrs[--e->n_dirty_nrs];
	for (size_t i = 0; i < e->n_queue; i++)
		if (e->queue[i] == nr)
			e->queue[i] = NULL;
	store_del_node_role(engine_batch(e), nr->row.id);
	HASH_DELETE(hh_id, e->m.node_roles_by_id, nr);
	node_role_free(nr);
	e->changed = true;
}

/* ---- providers, roles, components, refusals ---- */

struct provider_object *provider_object_new(struct engine *e, const char *name)
{
	struct provider_object *p = xcalloc(1, sizeof *p);
	p->id = engine_new_id(e);
	p->name = xstrdup(name);
	HASH_ADD_KEYPTR(hh_name, e->m.providers_by_name, p->name, strlen(name), p);
	HASH_ADD(hh_id, e->m.providers_by_id, id, sizeof p->id, p);
	return p;
}

struct role_object *role_object_new(struct engine *e, const char *name)
{
	struct role_object *r = xcalloc(1, sizeof *r);
	r->id = engine_new_id(e);
	r->name = xstrdup(name);
	HASH_ADD_KEYPTR(hh_name, e->m.roles_by_name, r->name, strlen(name), r);
	HASH_ADD(hh_id, e->m.roles_by_id, id, sizeof r->id, r);
	return r;
}

const char *intern(struct engine *e, const char *name)
{
	struct interned *i = NULL;
	HASH_FIND_STR(e->m.names, name, i);
	if (!i) {
		i = xcalloc(1, sizeof *i);
		i->name = xstrdup(name);
		HASH_ADD_KEYPTR(hh, e->m.names, i->name, strlen(i->name), i);
	}
	return i->name;
}

static struct refusal *refusal_find(const struct model *m, enum object_kind kind, int64_t id)
{
	int64_t object[2];
	struct refusal *r = NULL;
	memset(object, 0, sizeof object); /* it is hashed byte by byte */
	object[0] = kind;
	object[1] = id;
	HASH_FIND(hh, m->refusals, object, sizeof object, r);
	return r;
}

const struct refusal *model_refused(const struct model *m, enum object_kind kind, int64_t id)
{
	return refusal_find(m, kind, id);
}

void refuse(struct engine *e, enum object_kind kind, int64_t id, const char *who, const char *file, const char *why)
{
	struct refusal *r = refusal_find(&e->m, kind, id);
	if (!r) {
		r = xcalloc(1, sizeof *r);
		r->object[0] = kind;
		r->object[1] = id;
		HASH_ADD(hh, e->m.refusals, object, sizeof r->object, r);
	}
	r->at = now_ms();
	str_replace(&r->who, who);
	str_replace(&r->file, file);
	str_replace(&r->why, why);
	e->changed = true;
}

void model_release(struct model *m)
{
	struct node_role *nr, *nr_tmp;
	HASH_ITER (hh_id, m->node_roles_by_id, nr, nr_tmp) {
		HASH_DELETE(hh_id, m->node_roles_by_id, nr);
		node_role_free(nr);
	}
	struct node *n, *n_tmp;
	HASH_CLEAR(hh_id, m->nodes_by_id);
	HASH_ITER (hh_name, m->nodes_by_name, n, n_tmp) {
		HASH_DELETE(hh_name, m->nodes_by_name, n);
		node_free(n);
	}
	struct deployment *d, *d_tmp;
	HASH_CLEAR(hh_id, m->deployments_by_id);
	HASH_ITER (hh_name, m->deployments_by_name, d, d_tmp) {
		HASH_DELETE(hh_name, m->deployments_by_name, d);
		deployment_free(d);
	}
	struct provider_object *p, *p_tmp;
	HASH_CLEAR(hh_id, m->providers_by_id);
	HASH_ITER (hh_name, m->providers_by_name, p, p_tmp) {
		HASH_DELETE(hh_name, m->providers_by_name, p);
		images_free(p);
		desired_unref(p->def_owner);
		def_source_release(&p->src);
		settings_release(&p->opened_with);
		settings_release(&p->opened_files);
		free(p->name);
		free(p->error);
		free(p->problem);
		free(p->list_error);
		free(p->capacity);
		free(p->networks);
		unknown_free(p);
		free(p->waiting);
		free(p);
	}
	struct role_object *r, *r_tmp;
	HASH_CLEAR(hh_id, m->roles_by_id);
	HASH_ITER (hh_name, m->roles_by_name, r, r_tmp) {
		HASH_DELETE(hh_name, m->roles_by_name, r);
		desired_unref(r->def_owner);
		def_source_release(&r->src);
		free(r->name);
		free(r);
	}
	struct hash_component *c, *c_tmp;
	HASH_ITER (hh, m->components, c, c_tmp) {
		HASH_DELETE(hh, m->components, c);
		free(c->text);
		free(c);
	}
	struct kept_digest *k, *k_tmp;
	HASH_ITER (hh, m->digests, k, k_tmp) {
		HASH_DELETE(hh, m->digests, k);
		digest_unref(k->digest);
		free(k);
	}
	struct refusal *f, *f_tmp;
	HASH_ITER (hh, m->refusals, f, f_tmp) {
		HASH_DELETE(hh, m->refusals, f);
		free(f->who);
		free(f->file);
		free(f->why);
		free(f);
	}
	struct interned *w, *w_tmp;
	HASH_ITER (hh, m->names, w, w_tmp) {
		HASH_DELETE(hh, m->names, w);
		free(w->name);
		free(w);
	}
	for (int64_t s = m->first_seq; s < m->next_seq; s++) {
		struct event *ev = &m->events[s % EVENTS_KEPT];
		free(ev->deployment);
		free(ev->node);
		free(ev->role);
		free(ev->who);
		free(ev->text);
	}
	free(m->events);
	desired_unref(m->desired);
	free(m->trouble);
	pthread_rwlock_destroy(&m->lock);
}
