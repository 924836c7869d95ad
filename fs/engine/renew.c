/* Outputs that expire ([output KEY] ttl): a join token, a one-time password. Their values are no part of a digest, so that nobody runs again because
 * there is another; who is about to run gets one that is good, made anew by its role if need be. */
#include "fs/engine/internal.h"
#include <string.h>

/* What is wanted, as its role declares it; NULL if it does not expire. Of the deployment, not of each node: whatever starts asks this. */
static const struct def_output *expiring(const struct deployment *d, const struct def_want *w)
{
	for (size_t i = 0; w->kind == WANT_OUTPUT && i < d->def->n_roles; i++)
		if (!strcmp(d->def->roles[i]->name, w->role)) {
			const struct def_output *o = def_output_find(d->def->roles[i], w->key);
			return o && o->ttl_ms > 0 ? o : NULL;
		}
	return NULL;
}

static bool gives(const struct node_role *maker, const char *key)
{
	for (size_t i = 0; i < maker->n_outputs; i++)
		if (!strcmp(maker->outputs[i].key, key))
			return true;
	return false;
}

/* A clock that was set back tells nothing about its age. */
static bool is_old(const struct node_role *maker, int64_t ttl_ms)
{
	int64_t age = now_ms() - maker->row.last_started - maker->row.last_took_ms;
	return age < 0 || age >= ttl_ms;
}

static void make_anew(struct engine *e, struct node_role *maker, const struct node_role *user, const struct def_output *o)
{
	_cleanup_buf_ struct buf ttl = {0};
	format_duration(&ttl, o->ttl_ms);
	maker->renewing =
	        xasprintf("output '%s', which %s on %s needs, is older than %s", o->name, user->row.role, user->node->row.name, buf_str(&ttl));
	event_add(e, NULL, NULL, maker, NULL, "due: %s", maker->renewing);
	queue_node_role(e, maker);
	count_node_role(e, maker); /* who wants its outputs waits for it from now on */
}

bool outputs_good(struct engine *e, struct node_role *user)
{
	const struct deployment *d = user->node->deployment;
	bool good = true;
	for (size_t w = 0; w < user->def->n_wants; w++) {
		const struct def_want *want = &user->def->wants[w];
		const struct def_output *o = expiring(d, want);
		for (size_t i = 0; o && i < d->n_nodes; i++) {
			struct node_role *maker = node_role_find(d->nodes[i], want->role);
			/* One that is not active runs anyway, or is an error; of a held node what it once gave is taken. */
			if (!maker || maker == user || !is_old(maker, o->ttl_ms) || !gives(maker, want->key) || maker->node->row.held ||
			        !node_role_is_active(maker))
				continue;
			make_anew(e, maker, user, o);
			good = false;
		}
	}
	return good;
}

bool outputs_renewed_since(const struct node_role *user)
{
	const struct deployment *d = user->node->deployment;
	for (size_t w = 0; user->def && d && d->def && w < user->def->n_wants; w++) {
		const struct def_want *want = &user->def->wants[w];
		for (size_t i = 0; expiring(d, want) && i < d->n_nodes; i++) {
			const struct node_role *maker = node_role_find(d->nodes[i], want->role);
			if (maker && maker->row.last_started >= user->row.last_started)
				return true;
		}
	}
	return false;
}
