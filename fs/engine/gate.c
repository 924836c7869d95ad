/* Gates: what one deployment may have is what was last active in another.
 *
 * A deployment that is active with what is in force remembers that version as passed (row.passed, a manifest of the content store), whatever becomes
 * of it later. Who is gated on it is read anew then, and gets roles and inherited documents from there (desired_gate). */
#include "fs/engine/internal.h"
#include <string.h>

void gated_release(struct gated *g)
{
	free(g->by);
	free(g->role);
	free(g->problem);
	*g = (struct gated){0};
}

static const struct def_role *role_named(const struct def_deployment *d, const char *name)
{
	for (size_t i = 0; i < d->n_roles; i++)
		if (!strcmp(d->roles[i]->name, name))
			return d->roles[i];
	return NULL;
}

void gate_find(const struct def_deployment *lies, const struct def_deployment *passed, struct gated *ret)
{
	if (passed && passed->valid && hash_eq(&lies->closure, &passed->closure))
		return;
	ret->by = xstrdup(lies->gate);
	if (!passed)
		return;
	if (!passed->valid)
		ret->problem = xstrdup(passed->problem ? passed->problem : "it has mistakes together");
	for (size_t i = 0; i < lies->n_roles && !ret->role; i++) {
		const struct def_role *old = role_named(passed, lies->roles[i]->name);
		if (old && hash_eq(&old->content, &lies->roles[i]->content))
			continue;
		ret->role = xstrdup(lies->roles[i]->name);
		ret->content = lies->roles[i]->content;
	}
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

void gate_take(struct engine *e, struct deployment *d, struct gated *g)
{
	bool same = same_text(d->gated.by, g->by) && same_text(d->gated.role, g->role) && same_text(d->gated.problem, g->problem) &&
	            hash_eq(&d->gated.content, &g->content);
	gated_release(&d->gated);
	d->gated = *g;
	*g = (struct gated){0};
	if (same)
		return;
	_cleanup_buf_ struct buf text = {0};
	deployment_gated(&e->m, d, &text);
	event_add(e, d, NULL, NULL, NULL, "%s", text.len ? buf_str(&text) : "no longer gated: all of it may come into force");
	touch_deployment(e, d);
}

/* On how many nodes of d the role was last run, with success, with this content. */
static void content_active(
        const struct model *m, const struct deployment *d, const char *role, const struct hash *content, size_t *ret_active, size_t *ret_all)
{
	for (size_t i = 0; i < d->n_nodes; i++) {
		const struct node *n = d->nodes[i];
		const struct node_role *nr = n->wanted && !n->row.held ? node_role_find(n, role) : NULL;
		if (!nr || !nr->def)
			continue;
		++*ret_all;
		const struct digest *dg = node_role_succeeded(nr) ? digest_kept(m, nr->row.last_digest) : NULL;
		for (size_t k = 0; dg && k < dg->n_parts; k++)
			if (!strcmp(dg->parts[k].name, "content") && hash_eq(&dg->parts[k].hash, content))
				++*ret_active;
	}
}

void deployment_gated(const struct model *m, const struct deployment *d, struct buf *out)
{
	const struct gated *g = &d->gated;
	if (!g->by)
		return;
	const struct deployment *by = m ? model_deployment(m, g->by) : NULL;
	if (g->problem) {
		buf_addf(out, "gated: what lies here does not go with what passed in %s: %s", g->by, g->problem);
	} else if (!g->role && (!by || !by->row.passed)) {
		buf_addf(out, "gated: nothing was ever active as a whole in %s", g->by);
	} else if (!g->role) {
		buf_addf(out, "gated: what it inherits, or its roles' parameters, are not yet active as they lie here in %s", g->by);
	} else {
		char hex[HASH_HEX];
		size_t active = 0, all = 0;
		hash_hex(&g->content, hex);
		buf_addf(out, "gated: roles/%s content %.8s is not yet active in %s", g->role, hex, g->by);
		if (by)
			content_active(m, by, g->role, &g->content, &active, &all);
		if (all)
			buf_addf(out, " (there: active on %zu of %zu nodes)", active, all);
	}
}

static bool all_active(const struct deployment *d)
{
	/* the counters first: this is asked in every turn, and a state looks at all nodes */
	return d->n_active > 0 && d->n_active == d->n_total && d->def && d->row.in_force && !d->row.destroying && deployment_state(d) == DS_ACTIVE;
}

bool gates_pass(struct engine *e)
{
	bool any = false;
	for (struct deployment *d = e->m.deployments_by_name; d; d = d->hh_name.next) {
		if (d->passed || !all_active(d))
			continue;
		d->passed = true;
		if (d->row.passed && !strcmp(d->row.passed, d->row.in_force))
			continue;
		str_replace(&d->row.passed, d->row.in_force);
		mark_deployment(e, d);
		for (struct deployment *o = e->m.deployments_by_name; o; o = o->hh_name.next)
			any |= (o->gated.by && !strcmp(o->gated.by, d->row.name)) || (o->def && o->def->gate && !strcmp(o->def->gate, d->row.name));
	}
	return any;
}
