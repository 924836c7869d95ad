/* The annealer: looks at what is queued and starts what is runnable, in order of the graph, in parallel, within the limits.
 *
 * Nothing here scans a deployment for a single change. Each role of a deployment has a slot of counters; a node role whose condition changed moves
 * the counters by its own difference, and only who may depend on that is queued. */
#include "fs/engine/internal.h"
#include <string.h>

/* ---- queues ---- */

void queue_node_role(struct engine *e, struct node_role *nr)
{
	if (nr->queued)
		return;
	nr->queued = true;
	GROW(e->queue, e->n_queue, e->cap_queue);
	e->queue[e->n_queue++] = nr;
}

void queue_node(struct engine *e, struct node *n)
{
	if (!n->queued) {
		n->queued = true;
		GROW(e->node_queue, e->n_node_queue, e->cap_node_queue);
		e->node_queue[e->n_node_queue++] = n;
	}
	for (size_t i = 0; i < n->n_roles; i++)
		queue_node_role(e, n->roles[i]);
}

void queue_provider_nodes(struct engine *e, const struct provider_object *p)
{
	for (struct node *n = e->m.nodes_by_name; n; n = n->hh_name.next)
		if (n->provider == p)
			queue_node(e, n);
}

void queue_deployment(struct engine *e, struct deployment *d)
{
	for (size_t i = 0; i < d->n_nodes; i++)
		queue_node(e, d->nodes[i]);
}

/* ---- conditions ---- */

bool node_role_succeeded(const struct node_role *nr)
{
	const struct node *n = nr->node;
	/* A machine that is being destroyed, or was and has no successor yet, has nothing on it that would count. */
	bool is_there = n->row.incarnation > 0 && n->row.phase != NODE_PLANNED && n->row.phase != NODE_RELEASING && !n->rebuilding;
	return is_there && nr->row.last_result == RUN_OK && nr->row.last_incarnation == n->row.incarnation;
}

bool node_role_ran_digest(const struct node_role *nr)
{
	char hex[HASH_HEX];
	if (!nr->digest || !nr->digest->complete || !nr->row.last_digest)
		return false;
	hash_hex(&nr->digest->hash, hex);
	return !strcmp(hex, nr->row.last_digest);
}

bool node_role_destroys(const struct node_role *nr)
{
	return nr->def && nr->def->once && nr->row.last_digest && nr->row.last_incarnation == nr->node->row.incarnation &&
	       !node_role_failed_for_good(nr);
}

bool node_role_is_as_run(const struct node_role *nr)
{
	return nr->def && !nr->row.wish_run && !nr->renewing && !nr->unattended && node_role_succeeded(nr) && node_role_ran_digest(nr);
}

bool node_role_is_active(const struct node_role *nr)
{
	return !nr->running && node_role_is_as_run(nr) && !(nr->row.drift && nr->def->repair);
}

bool node_role_failed_for_good(const struct node_role *nr)
{
	if (nr->dropped && !nr->running)
		return nr->row.error;
	if (!nr->def || nr->running)
		return false;
	if (nr->lacks)
		return true;
	if (nr->row.wish_run)
		return false;
	if (nr->row.outcome_unknown)
		return true;
	if (nr->row.last_result <= RUN_OK || !nr->row.error)
		return false;
	/* What failed was something else: other content, other inputs or another machine deserve a try of their own. */
	if (nr->row.last_incarnation != nr->node->row.incarnation || (nr->digest && nr->digest->complete && !node_role_ran_digest(nr)))
		return false;
	return nr->row.last_result == RUN_CANCELLED || nr->def->once || nr->row.attempts > nr->def->retries;
}

bool deployment_frozen(const struct model *m, const struct deployment *d)
{
	return !d || m->paused || d->row.paused || d->elsewhere || d->orphaned;
}

bool node_is_up(const struct node *n)
{
	return n->row.phase == NODE_READY && !n->row.reboot && n->contacted && !n->unreachable && !n->off && !n->gone && !n->rebuilding &&
	       n->provider && n->provider->instance;
}

const struct node_role *node_role_blocker(const struct node_role *nr)
{
	const struct node *n = nr->node;
	const struct deployment *d = n->deployment;
	for (size_t i = 0; i < nr->def->requires.n; i++) {
		const struct node_role *on = node_role_find(n, nr->def->requires.items[i]);
		if (on && on->def && !node_role_is_active(on))
			return on;
	}
	for (size_t i = 0; i < nr->def->after.n; i++)
		for (size_t k = 0; k < d->def->n_roles; k++)
			if (!strcmp(d->def->roles[k]->name, nr->def->after.items[i])) {
				const struct node_role *first = NULL;
				if (output_input_missing(d, k, &first) && first != nr)
					return first;
			}
	for (size_t i = 0; nr->digest && !nr->digest->complete && i < nr->def->n_wants; i++)
		if (nr->def->wants[i].kind == WANT_OUTPUT)
			for (size_t k = 0; k < d->def->n_roles; k++)
				if (!strcmp(d->def->roles[k]->name, nr->def->wants[i].role)) {
					const struct node_role *first = NULL;
					if (output_input_missing(d, k, &first) && first != nr)
						return first;
				}
	return NULL;
}

/* Its last run on this machine did not succeed: until one does, the node does not work as it should, whatever is going to be tried next. */
static bool role_failed_here(const struct node_role *nr)
{
	return nr->row.outcome_unknown || (nr->row.last_result > RUN_OK && nr->row.last_incarnation == nr->node->row.incarnation);
}

static bool node_is_broken(const struct node *n)
{
	bool broken = n->row.held || n->row.error || n->unreachable || n->off || n->gone;
	for (size_t i = 0; !broken && i < n->n_roles; i++)
		broken = n->roles[i]->def && role_failed_here(n->roles[i]);
	return broken;
}

static bool node_is_changing(const struct node *n)
{
	if (n->rebuilding || n->row.reboot || (n->running && n->running->changing))
		return true;
	/* A machine put in the place of another is back when it has run what the old one had. */
	bool back = n->row.incarnation < 2 || n->row.phase == NODE_READY;
	for (size_t i = 0; back && n->row.incarnation > 1 && i < n->n_roles; i++)
		back = !n->roles[i]->def || (n->roles[i]->row.last_incarnation == n->row.incarnation && !n->roles[i]->running);
	return !back;
}

static bool others_are_down(const struct node *n, int64_t most, bool broken_too)
{
	int64_t down = 0;
	for (size_t i = 0; i < n->deployment->n_nodes && down < most; i++) {
		const struct node *o = n->deployment->nodes[i];
		if (o != n && o->group == n->group && o->wanted)
			down += node_is_changing(o) || (broken_too && node_is_broken(o));
	}
	return down >= most;
}

/* A node that is broken itself cannot get any more so: it waits for changes under way, not for the others that are broken, or two of them would wait
 * for each other for ever. */
bool group_is_down(const struct node *n)
{
	return n->group && n->group->max_down > 0 && others_are_down(n, n->group->max_down, !node_is_broken(n));
}

bool rebuild_must_wait(const struct node *n)
{
	if (n->group && n->group->max_down > 0)
		return group_is_down(n);
	return others_are_down(n, 1, false); /* one by one, unless told otherwise */
}

void queue_limited(struct engine *e, struct node *n)
{
	struct deployment *d = n->deployment;
	for (size_t i = 0; d && i < d->n_nodes; i++) {
		struct node *o = d->nodes[i];
		if (o->waits_for)
			queue_node(e, o);
		for (size_t k = 0; k < o->n_roles; k++)
			if (o->roles[k]->waits_for)
				queue_node_role(e, o->roles[k]);
	}
}

/* ---- counters ---- */

static void slot_move(struct role_slot *s, struct deployment *d, unsigned bits, int by)
{
	if (bits & COUNT_TOTAL) {
		s->total += (size_t)by;
		d->n_total += (size_t)by;
	}
	if (bits & COUNT_PENDING)
		s->pending += (size_t)by;
	if (bits & COUNT_RUNNING) {
		s->running += (size_t)by;
		d->n_running += (size_t)by;
	}
	if (bits & COUNT_ERROR) {
		s->error += (size_t)by;
		d->n_error += (size_t)by;
	}
	if (bits & COUNT_DUE) {
		s->due += (size_t)by;
		d->n_due += (size_t)by;
	}
	if (bits & COUNT_ACTIVE)
		d->n_active += (size_t)by;
}

void uncount_node_role(struct node_role *nr)
{
	struct deployment *d = nr->node->deployment;
	if (nr->counted && d && d->slots)
		slot_move(&d->slots[nr->role_index], d, nr->counted, -1);
	nr->counted = 0;
}

static bool role_depends_on(const struct def_role *r, const char *role)
{
	if (strlist_has(&r->requires, role) || strlist_has(&r->after, role))
		return true;
	for (size_t i = 0; i < r->n_wants; i++)
		if (r->wants[i].kind == WANT_OUTPUT && !strcmp(r->wants[i].role, role))
			return true;
	return false;
}

void count_node_role(struct engine *e, struct node_role *nr)
{
	struct node *n = nr->node;
	struct deployment *d = n->deployment;
	if (!d || !d->slots || !nr->def)
		return;
	unsigned now = 0;
	bool active = node_role_is_active(nr);

	nr->due = n->wanted && !nr->running && !active;
	active = active && !node_role_reboots(nr);
	if (n->wanted && !n->row.held) {
		now = COUNT_TOTAL;
		now |= active ? COUNT_ACTIVE : COUNT_PENDING;
		if (nr->running)
			now |= COUNT_RUNNING;
		if (nr->due)
			now |= COUNT_DUE;
		if (node_role_failed_for_good(nr))
			now |= COUNT_ERROR;
	}
	nr->unapproved = nr->due && !digest_approved(nr);
	if (now == nr->counted)
		return;

	struct role_slot *s = &d->slots[nr->role_index];
	bool was_pending = s->pending > 0;
	bool flipped = (now ^ nr->counted) & COUNT_PENDING;
	slot_move(s, d, nr->counted, -1);
	nr->counted = now;
	slot_move(s, d, now, 1);
	touch_deployment(e, d);
	if (flipped)
		for (size_t i = 0; i < n->n_roles; i++)
			if (n->roles[i]->def && role_depends_on(n->roles[i]->def, nr->row.role))
				queue_node_role(e, n->roles[i]);
	if (was_pending != (s->pending > 0)) {
		stale_outputs(e, d, nr->role_index);
		for (size_t j = 0; j < d->def->n_roles; j++) {
			if (!s->dependants[j])
				continue;
			for (size_t i = 0; i < d->n_nodes; i++)
				for (size_t k = 0; k < d->nodes[i]->n_roles; k++)
					if (d->nodes[i]->roles[k]->def && d->nodes[i]->roles[k]->role_index == j)
						queue_node_role(e, d->nodes[i]->roles[k]);
		}
	}
}

/* ---- starting ---- */

static const struct runner_instance *runner_of(const struct engine *e, const struct node_role *nr)
{
	for (size_t i = 0; i < e->n_runners; i++)
		if (!strcmp(e->runners[i].ops->name, nr->def->runner))
			return &e->runners[i];
	return NULL;
}

static void gather_over(struct engine *e, int64_t id)
{
	engine_wrlock(e);
	/* id: deployment id in the upper part, role index in the lower 16 bits */
	struct deployment *d = model_deployment_id(&e->m, id >> 16);
	size_t role = (size_t)(id & 0xffff);
	if (d && d->slots && role < d->def->n_roles) {
		d->slots[role].gathering = false;
		d->slots[role].open_turn = e->turn_number;
		for (size_t i = 0; i < d->n_nodes; i++)
			for (size_t k = 0; k < d->nodes[i]->n_roles; k++)
				if (d->nodes[i]->roles[k]->def && d->nodes[i]->roles[k]->role_index == role)
					queue_node_role(e, d->nodes[i]->roles[k]);
	}
	engine_wrunlock(e);
}

/* A runner with batches waits a moment for company. */
static bool still_gathering(struct engine *e, struct node_role *nr, const struct runner_ops *ops)
{
	struct deployment *d = nr->node->deployment;
	struct role_slot *s = &d->slots[nr->role_index];
	if (ops->batch_max <= 1 || s->open_turn == e->turn_number)
		return false;
	if (!s->gathering) {
		s->gathering = true;
		engine_after(e, BATCH_GATHER_MS, gather_over, d->row.id << 16 | (int64_t)nr->role_index);
	}
	return true;
}

/* Everything but its own batch allows it to start now. */
static bool runnable(struct engine *e, struct node_role *nr)
{
	struct node *n = nr->node;
	struct deployment *d = n->deployment;
	const char *waited_for = nr->waits_for;
	nr->waits_for = NULL;
	if (!nr->due || nr->running || nr->unapproved || n->running || n->op || n->row.held || !n->wanted || !node_is_up(n))
		return false;
	if (deployment_frozen(&e->m, d) || d->row.destroying || !nr->digest || !nr->digest->complete)
		return false;
	if (node_role_failed_for_good(nr) || nr->retry_at > monotonic_ms() || node_role_blocker(nr))
		return false;
	if (n->row.wish_rebuild && node_step_approved(n))
		return false;
	bool first = !nr->row.last_run || nr->row.last_incarnation != n->row.incarnation;
	if (!first && group_is_down(n)) {
		nr->waits_for = "max-down: other nodes of the group are being changed or broken";
		if (!waited_for) /* whoever watches the deployment may have nothing more to wait for */
			touch_deployment(e, d);
		return false;
	}
	if (nr->def->serial > 0 && d->slots[nr->role_index].running >= (size_t)nr->def->serial) {
		nr->waits_for = "serial: others go first";
		return false;
	}
	if (n->checking) {
		check_yield(e, n);
		return false;
	}
	if (n->provider->runs >= provider_limit(n->provider)) {
		nr->waits_for = "max-parallel: others go first";
		provider_wait(n->provider, nr->row.id, &nr->waits_for_slot);
		return false;
	}
	return true;
}

/* Its node and its share of the limits are taken at once, so that what this turn looks at next counts them. */
static void take(struct engine *e, struct node_role *nr)
{
	nr->changing = nr->row.last_run && nr->row.last_incarnation == nr->node->row.incarnation;
	nr->running = true;
	nr->node->running = nr;
	nr->node->provider->runs++;
	count_node_role(e, nr);
}

struct batch {
	struct node_role **items;
	size_t n, cap;
	int max;
	bool check;
};

static void batch_start(struct engine *e, const struct batch *b)
{
	if (b->check)
		run_check(e, b->items, b->n);
	else
		run_start(e, b->items, b->n);
}

static void batch_add(struct engine *e, struct node_role *nr, const struct runner_ops *ops, bool check, struct batch **batches, size_t *n_batches)
{
	struct batch *b = NULL;
	for (size_t i = 0; i < *n_batches && !b; i++) {
		struct batch *o = &(*batches)[i];
		if (o->check == check && o->items[0]->def == nr->def && o->items[0]->node->deployment == nr->node->deployment)
			b = o;
	}
	if (!b) {
		*batches = xreallocarray(*batches, *n_batches + 1, sizeof **batches);
		b = &(*batches)[(*n_batches)++];
		*b = (struct batch){.max = ops->batch_max, .check = check};
	}
	GROW(b->items, b->n, b->cap);
	b->items[b->n++] = nr;
	if (b->n == (size_t)b->max) {
		batch_start(e, b);
		b->n = 0;
	}
}

static bool has_secrets(const struct node_role *nr)
{
	bool any = nr->digest->n_secrets > 0;
	for (size_t i = 0; i < nr->def->n_outputs; i++)
		any |= nr->def->outputs[i].secret;
	return any;
}

static void look_at_check(struct engine *e, struct node_role *nr, struct batch **batches, size_t *n_batches)
{
	const char *why = NULL;
	if (!check_can_start(e, nr))
		return;
	if (!secrets_for_check(e, nr, &why)) {
		if (why)
			check_failed(e, nr, why);
		return;
	}
	const struct runner_instance *ri = runner_of(e, nr);
	if (nr->node->provider->ops->simulate) {
		check_simulated(e, nr);
	} else if (ri && ri->instance && (ri->ops->keeps_secrets || !has_secrets(nr))) {
		nr->node->checking = true;
		nr->node->provider->runs++;
		nr->node->provider->checks++;
		batch_add(e, nr, ri->ops, true, batches, n_batches);
	}
}

/* One that is runnable goes alone, or into the batch of its deployment and role that this turn collects. */
static void look_at(struct engine *e, struct node_role *nr, struct batch **batches, size_t *n_batches)
{
	if (drop_look(e, nr))
		return;
	digest_refresh(e, nr);
	secrets_look(e, nr);
	count_node_role(e, nr);
	if (!nr->def || !nr->node->deployment || !nr->node->deployment->slots)
		return;
	if (nr->unattended && !nr->running && node_is_up(nr->node) && !nr->node->running) {
		if (nr->node->provider->ops->simulate && nr->def->once) {
			run_lost(e, nr);
			return;
		}
		/* Its last run may still be under way: find it under its number before anything new. */
		bool hide;
		if (!secrets_for_attach(e, nr, &hide))
			return;
		take(e, nr);
		run_attach(e, nr, hide);
		return;
	}
	if (nr->unattended)
		return;
	if (!runnable(e, nr)) {
		look_at_check(e, nr, batches, n_batches);
		return;
	}
	const struct runner_instance *ri = runner_of(e, nr);
	bool simulated = nr->node->provider->ops->simulate != NULL;
	if (!simulated && (!ri || !ri->instance)) {
		_cleanup_free_ char *why =
		        xasprintf("runner %s cannot be used: %s", nr->def->runner, ri && ri->error ? ri->error : "it is not built in");
		if (!nr->row.error || strcmp(nr->row.error, why)) {
			str_replace(&nr->row.error, why);
			mark_node_role(e, nr);
		}
		return;
	}
	if (has_secrets(nr) && !simulated && !ri->ops->keeps_secrets) {
		nr->lacks = xasprintf("runner %s cannot be given secrets", nr->def->runner);
		count_node_role(e, nr);
		return;
	}
	if (!outputs_good(e, nr) || !secrets_in_hand(e, nr))
		return;
	if (simulated || ri->ops->batch_max <= 1) {
		take(e, nr);
		run_start(e, &nr, 1);
		return;
	}
	if (still_gathering(e, nr, ri->ops))
		return;
	take(e, nr);
	batch_add(e, nr, ri->ops, false, batches, n_batches);
}

void anneal(struct engine *e)
{
	struct batch *batches = NULL;
	size_t n_batches = 0;

	do {
		for (size_t i = 0; i < e->n_node_queue; i++) {
			struct node *n = e->node_queue[i];
			if (n) {
				n->queued = false;
				node_step(e, n); /* may remove n */
			}
		}
		e->n_node_queue = 0;
		for (size_t i = 0; i < e->n_queue; i++) {
			struct node_role *nr = e->queue[i];
			if (!nr)
				continue;
			nr->queued = false;
			look_at(e, nr, &batches, &n_batches);
		}
		e->n_queue = 0;
	} while (e->n_node_queue);

	for (size_t i = 0; i < n_batches; i++) {
		if (batches[i].n)
			batch_start(e, &batches[i]);
		free(batches[i].items);
	}
	free(batches);
}
