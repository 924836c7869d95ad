/* Machines that carry our mark and belong to no node: a node was forgotten, or the database is an older one than they are. They are shown, and
 * nothing is done to them but what a person says.
 *
 * A machine is unknown when two listings in a row say so: while the first was under way its node may have been released. */
#include "fs/engine/internal.h"
#include <errno.h>
#include <string.h>

struct unknown { /* the strings of m are its own */
	struct machine m;
	bool seen, shown, destroying;
	struct unknown *next;
};

static char *copy(const char *s)
{
	return s ? xstrdup(s) : NULL;
}

static void release_strings(struct machine *m)
{
	const char *all[] = {m->ref, m->address, m->user, m->key, m->host_key, m->image, m->facts, m->console};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		free((char *)all[i]);
}

static void take_strings(struct unknown *u, const struct machine *m)
{
	release_strings(&u->m);
	u->m = *m;
	u->m.ref = copy(m->ref);
	u->m.address = copy(m->address);
	u->m.user = copy(m->user);
	u->m.key = copy(m->key);
	u->m.host_key = copy(m->host_key);
	u->m.image = copy(m->image);
	u->m.facts = copy(m->facts);
	u->m.console = copy(m->console);
}

static struct unknown **place_of(struct provider_object *p, uint64_t node_id, uint32_t incarnation)
{
	struct unknown **at = &p->unknown;
	while (*at && ((*at)->m.node_id != node_id || (*at)->m.incarnation != incarnation))
		at = &(*at)->next;
	return at;
}

static void drop(struct unknown **at)
{
	struct unknown *u = *at;
	*at = u->next;
	release_strings(&u->m);
	free(u);
}

/* A node whose machine is being made or taken away may have two for a moment. */
static bool is_known(struct engine *e, const struct provider_object *p, const struct machine *m)
{
	const struct node *n = model_node_id(&e->m, (int64_t)m->node_id);
	return n && n->provider == p && (n->row.incarnation == m->incarnation || n->op || n->rebuilding || n->row.phase != NODE_READY);
}

void unknown_listed(struct engine *e, struct provider_object *p, const struct machine *machines, size_t n)
{
	if (p->ops->declared_only)
		return;
	for (struct unknown *u = p->unknown; u; u = u->next)
		u->seen = u->destroying;
	for (size_t i = 0; i < n; i++) {
		const struct machine *m = &machines[i];
		if (!m->ref || is_known(e, p, m))
			continue;
		struct unknown **at = place_of(p, m->node_id, m->incarnation);
		if (!*at) {
			*at = xcalloc(1, sizeof **at);
		} else if (!(*at)->shown) {
			(*at)->shown = true;
			event_add(e, NULL, NULL, NULL, NULL, "provider %s has a machine that belongs to no node: %s, see providers/%s/unknown",
			        p->name, m->ref, p->name);
			e->changed = true;
		}
		take_strings(*at, m);
		(*at)->seen = true;
	}
	for (struct unknown **at = &p->unknown; *at;) {
		if ((*at)->seen) {
			at = &(*at)->next;
			continue;
		}
		e->changed |= (*at)->shown;
		drop(at);
	}
}

size_t provider_unknown(const struct provider_object *p, struct buf *out)
{
	size_t n = 0;
	for (const struct unknown *u = p->unknown; u; u = u->next) {
		if (!u->shown)
			continue;
		if (out && !n)
			buf_addf(out, "%-20s %-8s %-11s %-15s %s\n", "machine", "node-id", "incarnation", "address", "state");
		if (out)
			buf_addf(out, "%-20s %-8llu %-11u %-15s %s\n", u->m.ref, (unsigned long long)u->m.node_id, (unsigned)u->m.incarnation,
			        u->m.address ? u->m.address : "-",
			        u->destroying  ? "is being destroyed"
			        : u->m.running ? "runs"
			                       : "does not run");
		n++;
	}
	return n;
}

void unknown_free(struct provider_object *p)
{
	while (p->unknown)
		drop(&p->unknown);
}

/* NULL: there is none that something could be done to, and *ret_rc says why. */
static struct unknown **find(struct provider_object *p, const char *ref, int *ret_rc, struct err **err)
{
	struct unknown **at = &p->unknown;
	while (*at && (!(*at)->shown || strcmp((*at)->m.ref, ref) != 0))
		at = &(*at)->next;
	if (*at && !(*at)->destroying)
		return at;
	*ret_rc = *at ? err_set(err, EBUSY, "machine '%s' is being destroyed", ref)
	              : err_set(err, EINVAL, "'%s' is no machine in providers/%s/unknown", ref, p->name);
	return NULL;
}

/* ---- destroyed by word ---- */

void unknown_kept(struct engine *e, struct provider_object *p, uint64_t node_id, uint32_t incarnation, const char *why)
{
	struct unknown *u = *place_of(p, node_id, incarnation);
	if (!u)
		return;
	u->destroying = false;
	event_add(e, NULL, NULL, NULL, NULL, "provider %s cannot destroy %s: %s", p->name, u->m.ref, why);
	e->changed = true;
}

static void destroyed(struct provider_call *call, int rc, const struct err *err, const struct machine *machines, size_t count)
{
	struct node_op *op = call->data;
	struct engine *e = op->e;
	struct provider_object *p = op->provider;
	engine_wrlock(e);
	node_op_over(op);
	struct unknown **at = place_of(p, (uint64_t)op->node_id, (uint32_t)op->incarnation);
	if (rc < 0 && rc != -ENOENT) {
		unknown_kept(e, p, (uint64_t)op->node_id, (uint32_t)op->incarnation, node_op_why(op, err));
	} else if (*at) {
		event_add(e, NULL, NULL, NULL, NULL, "provider %s destroyed %s, which belonged to no node", p->name, (*at)->m.ref);
		e->changed = true;
		drop(at);
	}
	engine_wrunlock(e);
	node_op_end(op);
}

static void destroy_submit(struct engine *e, void *arg)
{
	struct node_op *op = arg;
	node_op_deadline(op);
	op->provider->ops->destroy(op->provider->instance, (uint64_t)op->node_id, (uint32_t)op->incarnation, &op->call);
}

int unknown_destroy(struct engine *e, struct provider_object *p, const char *ref, const char *who, struct err **err)
{
	int rc = 0;
	struct unknown **at = find(p, ref, &rc, err);
	if (!at)
		return rc;
	if (!p->instance)
		return err_set(err, EBUSY, "provider %s cannot be used: %s", p->name, p->error ? p->error : "it is being opened");
	struct node_op *op = node_op_alone(e, p, OP_DESTROY, (int64_t)(*at)->m.node_id, (*at)->m.incarnation);
	op->call.done = destroyed;
	(*at)->destroying = true;
	event_add(e, NULL, NULL, NULL, who, "provider %s: destroy %s, which belongs to no node", p->name, ref);
	e->changed = true;
	effect_add(e, destroy_submit, op);
	return 0;
}

/* ---- adopted by word ---- */

/* The provider knows its machine by the node's id: the node gets that of the machine. */
static void take_id(struct engine *e, struct node *n, int64_t id)
{
	store_del_node(engine_batch(e), n->row.id);
	HASH_DELETE(hh_id, e->m.nodes_by_id, n);
	n->row.id = id;
	HASH_ADD(hh_id, e->m.nodes_by_id, row.id, sizeof n->row.id, n);
	if (e->next_id <= id)
		e->next_id = id + 1;
	for (size_t i = 0; i < n->n_roles; i++) {
		n->roles[i]->row.node_id = id;
		n->roles[i]->stale = true;
		mark_node_role(e, n->roles[i]);
	}
}

int unknown_adopt(struct engine *e, struct provider_object *p, const char *ref, struct node *n, const char *who, struct err **err)
{
	int rc = 0;
	struct unknown **at = find(p, ref, &rc, err);
	if (!at)
		return rc;
	if (!n->wanted || n->provider != p)
		return err_set(err, EINVAL, "node %s is not described as one of provider %s", n->row.name, p->name);
	if (n->row.phase != NODE_PLANNED || n->op || n->row.incarnation)
		return err_set(err, EBUSY, "node %s has a machine of its own, or had one", n->row.name);
	if ((*at)->m.node_id == 0 || (*at)->m.node_id > UINT32_MAX) /* as many objects as the mount has inode numbers for */
		return err_set(err, EINVAL, "no node can have the number %llu of machine '%s'", (unsigned long long)(*at)->m.node_id, ref);
	if (model_node_id(&e->m, (int64_t)(*at)->m.node_id))
		return err_set(err, EBUSY, "another node has the number %llu of machine '%s'", (unsigned long long)(*at)->m.node_id, ref);
	take_id(e, n, (int64_t)(*at)->m.node_id);
	n->row.incarnation = (*at)->m.incarnation;
	n->row.created = now_ms();
	n->row.wish_adopt = true; /* on the machine too, should it have seen a newer mount */
	n->row.attempts = 0;
	machine_take(n, &(*at)->m);
	str_replace(&n->row.spec, n->spec_now);
	str_replace(&n->row.recipe, n->recipe_now);
	str_replace(&n->row.error, NULL);
	str_replace(&n->row.approved, NULL);
	node_phase(e, n, NODE_BOOTING);
	event_add(e, NULL, n, NULL, who, "adopts machine %s, which belonged to no node", ref);
	drop(at);
	stale_nodes_input(e, n->deployment);
	queue_node(e, n);
	touch_deployment(e, n->deployment);
	return 0;
}
