/* Checks: dry runs that find out whether what is active still is as it was left.
 *
 * A check is no run: it has a number, because its start on the node is a mkdir like a run's, but it leaves no history, makes nobody wait, and what is
 * checked stays active. It yields to runs: it starts only on a node where nothing runs, and only while at most half of the provider's places are
 * taken; where they always are, one at a time gets a place in turn when it is late. One that the beat began is ended for a run on its node, and begun
 * anew behind it. What it finds stays with the node role until a run succeeds or another check finds otherwise; with 'repair' it makes the node role
 * due. */
#include "fs/engine/internal.h"
#include <fcntl.h>
#include <string.h>

#define YIELD_MS (5 * 1000) /* a run may gather company, and wait for a slot */
#define PATIENCE_MAX_MS (60 * 1000)
#define DRIFT_MAX 8192 /* of the tool's words, kept and shown */

bool node_role_drifted(const struct node_role *nr)
{
	return nr->row.drift && node_role_succeeded(nr);
}

size_t deployment_drift(const struct deployment *d, struct buf *out)
{
	size_t n = 0;
	for (size_t i = 0; i < d->n_nodes; i++)
		for (size_t k = 0; k < d->nodes[i]->n_roles; k++) {
			const struct node_role *nr = d->nodes[i]->roles[k];
			if (!node_role_drifted(nr))
				continue;
			n++;
			if (out)
				buf_addf(out, "nodes/%s/roles/%s: %.*s\n", nr->node->row.name, nr->row.role, (int)strcspn(nr->row.drift, "\n"),
				        nr->row.drift);
		}
	return n;
}

/* Could be checked as soon as there is room. */
static bool checkable(const struct model *m, const struct node_role *nr)
{
	const struct node *n = nr->node;
	const struct deployment *d = n->deployment;
	return nr->def && d && !deployment_frozen(m, d) && !d->row.destroying && n->wanted && !n->row.held && node_is_up(n) && !nr->running &&
	       node_role_is_as_run(nr);
}

bool check_is_under_way(const struct model *m, const struct node_role *nr)
{
	return nr->check_told && (nr->check || (nr->wish_check && checkable(m, nr)));
}

/* A tenth of the period is as much as the beat itself varies. */
static bool is_late(const struct node_role *nr)
{
	int64_t patience = nr->def->check_every_ms > 0 ? nr->def->check_every_ms / 10 : PATIENCE_MAX_MS;
	return monotonic_ms() - nr->check_since >= (patience < PATIENCE_MAX_MS ? patience : PATIENCE_MAX_MS);
}

bool check_can_start(const struct engine *e, struct node_role *nr)
{
	const struct node *n = nr->node;
	struct provider_object *p = n->provider;
	if (!nr->wish_check || nr->check || n->running || n->checking || n->op || nr->due || !checkable(&e->m, nr))
		return false;
	if (monotonic_ms() < n->no_check_until)
		return false;
	if (p->runs <= provider_limit(p) / 2)
		return true;
	if (p->checks > 0 || !is_late(nr))
		return false;
	if (p->runs < provider_limit(p))
		return true;
	if (!p->waiting_check) {
		p->waiting_check = nr->row.id;
		provider_wait(p, nr->row.id, &nr->waits_for_slot);
	}
	return false;
}

/* Where a runner checks many nodes together, the end of one may be that of all: none of them has failed. */
static void excuse_all(const struct node_role *nr)
{
	const struct deployment *d = nr->node->deployment;
	for (size_t i = 0; i < d->n_nodes; i++)
		for (size_t k = 0; k < d->nodes[i]->n_roles; k++) {
			struct node_role *o = d->nodes[i]->roles[k];
			o->check_excused |= o->check && o->def == nr->def;
		}
}

void check_yield(struct engine *e, struct node *n)
{
	for (size_t k = 0; k < n->n_roles; k++) {
		struct node_role *nr = n->roles[k];
		if (!nr->check || nr->check_told || nr->check_yields)
			continue;
		nr->check_yields = true;
		n->no_check_until = monotonic_ms() + YIELD_MS;
		excuse_all(nr);
		event_add(e, NULL, NULL, nr, NULL, "check ended: a run comes first");
		check_cancel(e, nr);
	}
}

static void wish(struct node_role *nr)
{
	if (!nr->wish_check)
		nr->check_since = monotonic_ms();
	nr->wish_check = true;
}

size_t check_want(struct engine *e, struct node *n, const char *role)
{
	size_t wanted = 0;
	for (size_t k = 0; k < n->n_roles; k++) {
		struct node_role *nr = n->roles[k];
		if ((role && strcmp(nr->row.role, role) != 0) || !checkable(&e->m, nr))
			continue;
		wish(nr);
		nr->check_told = true;
		e->checks_wanted = true;
		queue_node_role(e, nr);
		wanted++;
	}
	return wanted;
}

/* ---- the beat ---- */

/* When the next periodic check is due, ms since the epoch. Spread over a tenth of the period; a runner with batches checks a role's nodes together.
 */
static int64_t next_check(const struct engine *e, const struct node_role *nr)
{
	int64_t every = nr->def->check_every_ms, last = nr->row.checked > nr->row.last_started ? nr->row.checked : nr->row.last_started;
	bool together = runner_batches(e, nr->def->runner);
	uint64_t spread = (uint64_t)(together ? nr->node->deployment->row.id * 31 + (int64_t)nr->role_index : nr->row.id) * 0x9e3779b97f4a7c15ull;
	return last + every + (int64_t)((spread >> 32) % 1000) * every / 10000;
}

static bool wants_check(struct engine *e, struct node_role *nr, int64_t now)
{
	if (!nr->def || nr->check)
		return false;
	if (!nr->wish_check && nr->def->check_every_ms > 0 && next_check(e, nr) <= now && checkable(&e->m, nr))
		wish(nr);
	return nr->wish_check;
}

static bool has_beat(const struct deployment *d)
{
	for (size_t i = 0; d->def && i < d->def->n_roles; i++)
		if (d->def->roles[i]->check_every_ms > 0)
			return true;
	return false;
}

void checks_tick(struct engine *e)
{
	int64_t now = now_ms();
	bool any = false, told = e->checks_wanted;
	engine_wrlock(e);
	for (struct deployment *d = e->m.deployments_by_name; d; d = d->hh_name.next) {
		if (!told && !has_beat(d))
			continue;
		for (size_t i = 0; i < d->n_nodes; i++)
			for (size_t k = 0; k < d->nodes[i]->n_roles; k++)
				if (wants_check(e, d->nodes[i]->roles[k], now)) {
					queue_node_role(e, d->nodes[i]->roles[k]);
					any = true;
				}
	}
	e->checks_wanted = any;
	engine_wrunlock(e);
}

/* ---- one check ---- */

static void found(struct engine *e, struct node_role *nr, const char *drift)
{
	bool had = nr->row.drift;
	nr->row.checked = now_ms();
	str_replace(&nr->check_error, NULL);
	if (drift && (!had || strcmp(drift, nr->row.drift)))
		event_add(e, NULL, NULL, nr, NULL, "drifted: %.*s", (int)strcspn(drift, "\n"), drift);
	else if (!drift && had)
		event_add(e, NULL, NULL, nr, NULL, "no longer drifted");
	str_replace(&nr->row.drift, drift);
	mark_node_role(e, nr);
}

static void not_found_out(struct engine *e, struct node_role *nr, const struct run_done *done)
{
	struct node *n = nr->node;
	if (done->result == RUN_REFUSED) {
		node_refused(e, n, done->why);
	} else if (done->result == RUN_UNREACHABLE && n->row.phase == NODE_READY && !n->unreachable) {
		n->unreachable = true;
		str_replace(&n->row.error, done->why);
		mark_node(e, n);
	}
	if (!nr->check_error || !done->why || strcmp(nr->check_error, done->why))
		event_add(e, NULL, NULL, nr, NULL, "could not be checked: %s", done->why ? done->why : run_result_name(done->result));
	str_replace(&nr->check_error, done->why ? done->why : run_result_name(done->result));
	nr->row.checked = now_ms(); /* or it would be tried again at once */
	mark_node_role(e, nr);
}

void check_failed(struct engine *e, struct node_role *nr, const char *why)
{
	nr->wish_check = nr->check_told = false;
	not_found_out(e, nr, &(struct run_done){.result = RUN_FAILED, .why = why});
}

static void check_ended(struct run *r, const struct run_done *done, const char *drift)
{
	struct engine *e = r->e;
	engine_wrlock(e);
	r->provider->runs--;
	r->provider->checks--;
	provider_slot_freed(e, r->provider);
	struct node_role *nr = model_node_role_id(&e->m, r->node_role_id);
	if (nr && nr->check == r) {
		bool anew = nr->check_excused && done->result != RUN_OK;
		nr->check = NULL;
		nr->check_told &= anew;
		nr->check_yields = nr->check_excused = false;
		nr->node->checking = false;
		store_del_run(engine_batch(e), r->item.number);
		nr->node->facts_old = true;
		if (nr->row.last_incarnation == (int64_t)r->target.incarnation && done->result == RUN_OK)
			found(e, nr, drift);
		else if (nr->row.last_incarnation == (int64_t)r->target.incarnation && done->result != RUN_CANCELLED && !anew)
			not_found_out(e, nr, done);
		if (anew)
			wish(nr);
		touch_deployment(e, nr->node->deployment);
		queue_node(e, nr->node);
	}
	digest_unref(r->digest);
	engine_wrunlock(e);
	run_free(r);
}

struct reading {
	struct run *r;
	struct run_done done;
	char *why;
	struct buf text;
};

static void reading_work(void *arg)
{
	struct reading *rd = arg;
	_cleanup_free_ char *log = path_join(rd->r->item.run_dir, "log");
	_cleanup_close_ int fd = rd->done.drifted ? open(log, O_RDONLY | O_CLOEXEC) : -1;
	char text[DRIFT_MAX];
	if (rd->done.drifted && rd->why && *rd->why)
		buf_addf(&rd->text, "%s\n", rd->why);
	ssize_t n = fd < 0 ? 0 : pread(fd, text, sizeof text, 0);
	if (n > 0)
		buf_add(&rd->text, text, (size_t)n);
	if (n == (ssize_t)sizeof text)
		buf_adds(&rd->text, "\n... (cut)\n");
	else if (!rd->text.len)
		buf_adds(&rd->text, "a run would change something, the check does not say what\n");
	tree_remove(rd->r->item.run_dir, NULL);
}

static void reading_done(void *arg)
{
	struct reading *rd = arg;
	if (!rd->r->e->stopping)
		check_ended(rd->r, &rd->done, rd->done.drifted ? buf_str(&rd->text) : NULL);
	buf_release(&rd->text);
	free(rd->why);
	free(rd);
}

void check_done(struct run *r, const struct run_done *done)
{
	struct reading *rd = xcalloc(1, sizeof *rd);
	rd->r = r;
	rd->done = *done;
	rd->done.why = rd->why = xstrdup(done->why);
	rd->done.outputs = NULL;
	engine_work(r->e, reading_work, reading_done, rd);
}

/* Simulated nodes are as they were left, always. */
void check_simulated(struct engine *e, struct node_role *nr)
{
	nr->wish_check = nr->check_told = false;
	found(e, nr, NULL);
}

void check_begins(struct engine *e, struct node_role *nr, struct run *r)
{
	nr->check = r;
	nr->wish_check = false;
	store_put_run(engine_batch(e), &(struct row_run){.number = r->item.number,
	                                       .node_role_id = nr->row.id,
	                                       .node_id = nr->row.node_id,
	                                       .incarnation = nr->node->row.incarnation,
	                                       .role = nr->row.role,
	                                       .result = -1,
	                                       .exit_status = -1,
	                                       .started = now_ms()});
	touch_deployment(e, nr->node->deployment);
}

static void cancel_effect(struct engine *e, void *arg)
{
	int64_t id = *(int64_t *)arg;
	free(arg);
	engine_wrlock(e);
	struct node_role *nr = model_node_role_id(&e->m, id);
	struct run *r = nr ? nr->check : NULL;
	engine_wrunlock(e);
	if (r && !r->over)
		run_unwanted(r);
}

void check_cancel(struct engine *e, struct node_role *nr)
{
	if (nr->check)
		effect_add(e, cancel_effect, xmemdup(&nr->row.id, sizeof nr->row.id));
}
