/* Roles that a node is to lose. What a run made may have to be taken away by the content that made it: its executable 'remove'. After each success it
 * is noted whether there is one, and what it takes to run it, because by the time it is wanted the role's document may be gone. A role of which the
 * node is to be rid stands in the plan until 'apply ID' if there is one, and is forgotten at once if not. A machine that is to be destroyed runs them
 * all first, in reverse order, each once and for a limited time: nothing that happens there keeps it. Where several go at once, the order is that of
 * all of them together, and none goes before the last script has run: it may be what that script has to talk to. */
#include "fs/engine/internal.h"
#include <errno.h>
#include <string.h>

#define LOOK_AGAIN_MS 300
#define RELEASE_TIMEOUT_MS (2 * 60 * 1000) /* of one script, when its machine is about to go */

struct remover {
	char content[HASH_HEX];
	int64_t timeout_ms;
	int64_t run;         /* that made what it takes away */
	int64_t incarnation; /* of the machine */
	int64_t order;       /* who has a higher one goes first */
	int64_t removing;    /* the run that takes it away; 0: not begun */
	bool told;           /* that it is to go */
	json_t *requires;    /* names of roles that it needs to the end */
};

static void remover_release(struct remover *r)
{
	json_decref(r->requires);
}
#define _cleanup_remover_ __attribute__((cleanup(remover_release)))

static bool remover_of(const struct node_role *nr, struct remover *ret)
{
	remover_release(ret);
	*ret = (struct remover){0};
	json_t *j = nr->row.remover ? json_loads(nr->row.remover, 0, NULL) : NULL;
	const char *content = json_string_value(json_object_get(j, "content"));
	bool there = content && strlen(content) == HASH_HEX - 1;
	if (there) {
		memcpy(ret->content, content, HASH_HEX);
		ret->timeout_ms = json_integer_value(json_object_get(j, "timeout"));
		ret->run = json_integer_value(json_object_get(j, "run"));
		ret->incarnation = json_integer_value(json_object_get(j, "incarnation"));
		ret->order = json_integer_value(json_object_get(j, "order"));
		ret->removing = json_integer_value(json_object_get(j, "removing"));
		ret->told = json_is_true(json_object_get(j, "told"));
		ret->requires = json_incref(json_object_get(j, "requires"));
	}
	json_decref(j);
	/* What was made on another machine went with it. */
	return there && ret->incarnation == nr->node->row.incarnation;
}

static void remover_keep(struct node_role *nr, const struct remover *r)
{
	json_t *j = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:b, s:O?}", "content", r->content, "timeout", (json_int_t)r->timeout_ms, "run",
	        (json_int_t)r->run, "incarnation", (json_int_t)r->incarnation, "order", (json_int_t)r->order, "removing", (json_int_t)r->removing,
	        "told", r->told, "requires", r->requires);
	char *text = json_dumps(j, JSON_COMPACT);
	str_replace(&nr->row.remover, text);
	free(text);
	json_decref(j);
}

void drop_remember(struct node_role *nr, const struct run *r)
{
	_cleanup_remover_ struct remover it = {.timeout_ms = r->item.timeout_ms,
	        .run = r->item.number,
	        .incarnation = (int64_t)r->target.incarnation,
	        .order = (int64_t)nr->role_index};
	if (!r->has_remove) {
		str_replace(&nr->row.remover, NULL);
		return;
	}
	it.requires = json_array();
	for (size_t i = 0; i < r->def->requires.n; i++)
		json_array_append_new(it.requires, json_string(r->def->requires.items[i]));
	snprintf(it.content, sizeof it.content, "%s", r->item.content_hash);
	remover_keep(nr, &it);
}

bool drop_is_removal(const struct node_role *nr)
{
	_cleanup_remover_ struct remover it = {0};
	return remover_of(nr, &it) && it.removing && it.removing == nr->row.last_run;
}

const char *drop_target(const struct node_role *nr)
{
	return nr->row.remover;
}

/* ---- who goes ---- */

static bool is_approved(const struct node_role *nr)
{
	return nr->row.approved && !strncmp(nr->row.approved, "drop:", 5) && nr->row.remover && !strcmp(nr->row.approved + 5, nr->row.remover);
}

static void forget(struct engine *e, struct node_role *nr)
{
	nr->removed = true;
	queue_node_role(e, nr);
}

static void fit_one(struct engine *e, struct deployment *d, struct node_role *nr)
{
	_cleanup_remover_ struct remover it = {0};
	nr->dropped = remover_of(nr, &it);
	d->n_dropped += nr->dropped;
	if (nr->dropped && !it.told) {
		it.told = true;
		remover_keep(nr, &it);
		mark_node_role(e, nr);
		event_add(e, NULL, NULL, nr, NULL, "no longer a role of this node: its remove script waits in the plan");
	}
	nr->unapproved = nr->dropped && !is_approved(nr) && !nr->running;
	if (!nr->dropped && !nr->running) {
		event_add(e, NULL, NULL, nr, NULL, "no longer a role of this node");
		node_role_remove(e, nr);
	}
}

/* A role that is back is none of ours. What was said of its going is void. */
static void back(struct engine *e, struct node_role *nr)
{
	_cleanup_remover_ struct remover it = {0};
	if (remover_of(nr, &it) && it.told && !drop_is_removal(nr)) {
		it.told = false;
		remover_keep(nr, &it);
		mark_node_role(e, nr);
	}
	if (!nr->row.approved || strncmp(nr->row.approved, "drop:", 5) != 0)
		return;
	str_replace(&nr->row.approved, NULL);
	str_replace(&nr->row.error, NULL);
	mark_node_role(e, nr);
}

void drop_fit(struct engine *e, struct deployment *d, struct node *n)
{
	for (size_t i = n->n_roles; i-- > 0;) {
		struct node_role *nr = n->roles[i];
		if (!d->def || !n->group)
			nr->dropped = false; /* all of the node goes, or nothing is known of what it should have */
		else if (nr->def) {
			nr->dropped = false;
			back(e, nr);
		} else
			fit_one(e, d, nr);
	}
}

void drop_approve(struct engine *e, struct node_role *nr)
{
	_cleanup_free_ char *what = xasprintf("drop:%s", nr->row.remover);
	str_replace(&nr->row.approved, what);
	mark_node_role(e, nr);
	queue_node_role(e, nr);
}

void drop_accept(struct engine *e, struct node_role *nr)
{
	str_replace(&nr->row.remover, NULL);
	forget(e, nr);
}

/* ---- running it ---- */

static void begin(struct engine *e, struct node_role *nr, const struct remover *it, int64_t timeout_ms, bool attach)
{
	if (nr->node->provider->ops->simulate) { /* nothing was made there */
		event_add(e, NULL, NULL, nr, NULL, "removed (simulated)");
		str_replace(&nr->row.remover, NULL);
		forget(e, nr);
		return;
	}
	nr->running = nr->removing = true;
	nr->unapproved = false;
	nr->node->running = nr;
	nr->node->provider->runs++;
	run_remove(e, nr, it->content, timeout_ms, it->run, attach);
	_cleanup_remover_ struct remover begun = {0};
	if (remover_of(nr, &begun)) {
		begun.removing = nr->row.last_run;
		remover_keep(nr, &begun);
	}
	if (nr->dropped)
		drop_approve(e, nr); /* it is the same that was approved */
	mark_node_role(e, nr);
	touch_deployment(e, nr->node->deployment);
}

static bool is_free(const struct node *n)
{
	return node_is_up(n) && !n->running && !n->checking && !n->op;
}

static bool needs(const struct remover *r, const char *role)
{
	size_t i;
	json_t *name;
	json_array_foreach(r->requires, i, name) if (!strcmp(json_string_value(name), role)) return true;
	return false;
}

/* Another role of the node that is to go before it: one that needs it, or merely was made later and does not fail. */
static const struct node_role *goes_first(const struct node_role *nr, const struct remover *it)
{
	const struct node *n = nr->node;
	_cleanup_remover_ struct remover other = {0};
	for (size_t i = 0; i < n->n_roles; i++) {
		const struct node_role *o = n->roles[i];
		if (o != nr && o->dropped && remover_of(o, &other) && (needs(&other, nr->row.role) || (other.order > it->order && !o->row.error)))
			return o;
	}
	return NULL;
}

const struct node_role *drop_blocker(const struct node_role *nr)
{
	_cleanup_remover_ struct remover it = {0};
	const struct node_role *first = remover_of(nr, &it) ? goes_first(nr, &it) : NULL;
	return first && first->row.error ? first : NULL;
}

bool drop_look(struct engine *e, struct node_role *nr)
{
	struct node *n = nr->node;
	_cleanup_remover_ struct remover it = {0};
	if (nr->removed && !nr->def && !nr->running) {
		queue_node(e, n);
		touch_deployment(e, n->deployment);
		if (n->deployment)
			mark_deployment(e, n->deployment);
		node_role_remove(e, nr);
		return true;
	}
	nr->removed = false;
	if (nr->unattended && drop_is_removal(nr) && remover_of(nr, &it)) {
		if (!nr->running && is_free(n))
			begin(e, nr, &it, it.timeout_ms, true);
		return true;
	}
	if (!nr->dropped && !nr->def && !nr->running && n->group && n->deployment && n->deployment->def) {
		/* It ran when it ceased to be a role of the node. */
		fit_one(e, n->deployment, nr);
		touch_deployment(e, n->deployment);
		return true;
	}
	if (!nr->dropped)
		return false;
	bool was = nr->unapproved;
	nr->unapproved = !nr->running && !is_approved(nr);
	if (was != nr->unapproved)
		touch_deployment(e, n->deployment);
	if (nr->running || nr->unapproved || nr->row.error || n->row.held || !is_free(n) || deployment_frozen(&e->m, n->deployment) ||
	        !remover_of(nr, &it) || goes_first(nr, &it))
		return true;
	begin(e, nr, &it, it.timeout_ms, false);
	return true;
}

/* Its machine is about to go: whatever happened, this was its one try. */
static bool is_leaving(const struct node *n)
{
	return !n->wanted && (node_step_approved(n) || (n->deployment && n->deployment->row.destroying));
}

/* Another machine that is about to go has a script to run before this one may: of a role with a higher order than that. Machines that do not answer
 * keep nobody waiting. */
static bool others_go_first(const struct node *n, int64_t order)
{
	const struct deployment *d = n->deployment;
	_cleanup_remover_ struct remover it = {0};
	for (size_t i = 0; d && i < d->n_nodes; i++) {
		const struct node *o = d->nodes[i];
		if (o == n || !node_is_up(o) || !is_leaving(o))
			continue;
		for (size_t k = 0; k < o->n_roles; k++)
			if (o->roles[k]->row.remover && remover_of(o->roles[k], &it) && it.order > order)
				return true;
	}
	return false;
}

bool drop_release(struct engine *e, struct node *n)
{
	struct node_role *last = NULL;
	_cleanup_remover_ struct remover it = {0};
	struct remover found = {0}; /* without what it requires */
	if (n->running && n->running->removing)
		return true;
	for (size_t i = 0; i < n->n_roles; i++)
		if (remover_of(n->roles[i], &it) && (!last || it.order > found.order)) {
			last = n->roles[i];
			found = it;
			found.requires = NULL;
		}
	if (!n->running && others_go_first(n, last ? found.order : -1)) {
		n->waits_for = "its machine goes when the others have run the remove scripts that come first";
		node_look_again(e, n, LOOK_AGAIN_MS);
		return true;
	}
	n->waits_for = NULL;
	if (!last || n->off || n->gone || n->unreachable || !n->provider->instance)
		return false;
	if (n->running) {
		run_cancel(e, n->running, "rebarfs (the node is released)");
		return true;
	}
	if (n->checking)
		return true;
	if (!node_is_up(n))
		return false;
	begin(e, last, &found, found.timeout_ms < RELEASE_TIMEOUT_MS ? found.timeout_ms : RELEASE_TIMEOUT_MS,
	        last->unattended && drop_is_removal(last));
	return true;
}

void drop_ended(struct engine *e, struct node_role *nr, const struct run_done *done)
{
	const char *why = nr->cancelled_by ? nr->cancelled_by : done->why ? done->why : run_result_name(done->result);
	_cleanup_remover_ struct remover it = {0};
	nr->removing = false;
	str_replace(&nr->row.last_digest, NULL); /* if it is wanted again it runs again */
	if (done->result == RUN_OK) {
		nr->row.last_result = RUN_INTERRUPTED;
		event_add(e, NULL, NULL, nr, NULL, "removed after %.1f s", (double)done->took_ms / 1000);
		str_replace(&nr->row.error, NULL);
		str_replace(&nr->row.remover, NULL);
		forget(e, nr);
		return;
	}
	nr->row.last_result = (int)done->result;
	event_add(e, NULL, NULL, nr, NULL, "its remove script failed: %s%s", why, is_leaving(nr->node) ? "; the machine goes all the same" : "");
	if (is_leaving(nr->node)) {
		str_replace(&nr->row.remover, NULL);
		return;
	}
	_cleanup_free_ char *error = xasprintf("its remove script failed: %s; 'retry' runs it again, 'accept' forgets the role", why);
	str_replace(&nr->row.error, error);
	if (remover_of(nr, &it)) {
		it.removing = 0;
		remover_keep(nr, &it);
		if (nr->dropped)
			drop_approve(e, nr);
	}
}
