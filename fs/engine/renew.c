/* Outputs that expire ([output KEY] ttl): a join token, a one-time password. Their values are no part of a digest, so that nobody runs again because
 * there is another; who is about to run gets one that is good, made anew by its role if need be. */
#include "fs/engine/internal.h"
#include <string.h>

static const struct def_output *expiring(const struct node_role *maker, const char *key)
{
	const struct def_output *o = maker->def ? def_output_find(maker->def, key) : NULL;
	return o && o->ttl_ms > 0 ? o : NULL;
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
		for (size_t i = 0; want->kind == WANT_OUTPUT && i < d->n_nodes; i++) {
			struct node_role *maker = node_role_find(d->nodes[i], want->role);
			const struct def_output *o = maker ? expiring(maker, want->key) : NULL;
			/* One that is not active runs anyway, or is an error; of a held node what it once gave is taken. */
			if (!o || maker == user || !gives(maker, want->key) || maker->node->row.held || !node_role_is_active(maker) ||
			        !is_old(maker, o->ttl_ms))
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
	for (size_t w = 0; user->def && d && w < user->def->n_wants; w++) {
		const struct def_want *want = &user->def->wants[w];
		for (size_t i = 0; want->kind == WANT_OUTPUT && i < d->n_nodes; i++) {
			const struct node_role *maker = node_role_find(d->nodes[i], want->role);
			if (maker && expiring(maker, want->key) && maker->row.last_started >= user->row.last_started)
				return true;
		}
	}
	return false;
}
