/* Power, as people wish it, and reboots, as roles ask for them.
 *
 * A role that wants its node rebooted leaves an output 'reboot'. The wish is committed with the end of its run, and stands (row.reboot: the role)
 * until the node answers again. Until it was carried out the node is still NODE_READY, behind it NODE_BOOTING: who is killed in between reboots once
 * more, which does no harm. Meanwhile nothing runs on the node, and nobody takes that role for active. */
#include "fs/engine/internal.h"
#include <errno.h>
#include <string.h>

#define REBOOTS_MAX 5 /* in a row, because of runs that ask to be run again */

static const char *const power_words[] = {[POWER_ON] = "on", [POWER_OFF] = "off", [POWER_CYCLE] = "cycle", [POWER_RESET] = "reset"};

/* What is to be done about its power now; false: nothing. */
static bool power_step_of(const struct node *n, enum power *ret)
{
	bool off = n->row.power && !strcmp(n->row.power, "off");
	*ret = off ? POWER_OFF : POWER_ON;
	if (n->row.power && !off) {
		*ret = !strcmp(n->row.power, "reset") ? POWER_RESET : POWER_CYCLE;
		return true;
	}
	return n->off != off;
}

/* A machine that was switched off and on has been rebooted, too. */
static void note_boot(struct engine *e, struct node *n)
{
	if (n->row.reboot)
		node_phase(e, n, NODE_BOOTING);
}

static void power_done(struct provider_call *call, int rc, const struct err *err, const struct machine *machines, size_t count)
{
	struct node_op *op = call->data;
	struct engine *e = op->e;
	engine_wrlock(e);
	struct node *n = node_op_over(op);
	if (n && n->row.incarnation == op->incarnation) {
		if (rc == -ENOTSUP && n->row.power) {
			/* It was taken, because nobody knew, and cannot be: it is not asked again. */
			event_add(e, NULL, n, NULL, NULL, "power %s: %s", n->row.power, err_msg(err));
			str_replace(&n->row.power, NULL);
			mark_node(e, n);
		} else if (rc < 0) {
			_cleanup_free_ char *what = op->reboot ? xstrdup("reboot") : xasprintf("power %s", power_words[op->power]);
			node_step_failed(e, n, what, node_op_why(op, err), false);
		} else {
			if (count)
				machine_take(n, machines);
			if (op->power != POWER_OFF && op->power != POWER_ON && !op->reboot)
				str_replace(&n->row.power, NULL);
			n->off = op->power == POWER_OFF;
			n->contacted = !n->off && n->provider->ops->simulate != NULL;
			n->unreachable = false;
			n->row.attempts = 0;
			str_replace(&n->row.error, NULL);
			if (op->power != POWER_OFF)
				note_boot(e, n);
			if (op->reboot)
				event_add(e, NULL, n, NULL, NULL, "rebooted, as %s asked", n->row.reboot ? n->row.reboot : "a role");
			else if (op->power == POWER_ON)
				event_add(e, NULL, n, NULL, NULL, "powered on again");
			else
				event_add(e, NULL, n, NULL, NULL, "power %s: done", power_words[op->power]);
			mark_node(e, n);
		}
	}
	engine_wrunlock(e);
	node_op_end(op);
}

static void power_submit(struct engine *e, void *arg)
{
	struct node_op *op = arg;
	node_op_deadline(op);
	ssh_pool_drop(e->pool, (uint64_t)op->node_id);
	op->provider->ops->power(op->provider->instance, (uint64_t)op->node_id, (uint32_t)op->incarnation, op->power, &op->call);
}

static struct node_op *power_begin(struct engine *e, struct node *n, enum power power)
{
	struct node_op *op = node_op_new(e, n, OP_POWER);
	op->power = power;
	op->call.done = power_done;
	op->call.progress = node_op_progress;
	if (power != POWER_ON)
		n->contacted = false;
	effect_add(e, power_submit, op);
	return op;
}

bool power_step(struct engine *e, struct node *n)
{
	enum power power;
	if (!power_step_of(n, &power))
		return false;
	if (node_op_slot(n->provider, n))
		power_begin(e, n, power);
	return true;
}

/* ---- reboots ---- */

bool node_role_reboots(const struct node_role *nr)
{
	return nr->node->row.reboot && !strcmp(nr->node->row.reboot, nr->row.role);
}

void reboot_asked(struct run *r, struct run_done *done)
{
	json_t *asked = json_object_get(done->outputs, "reboot");
	if (!asked || done->result != RUN_OK)
		return;
	const char *text = json_string_value(asked);
	size_t len = text ? strcspn(text, "\n") : 0;
	bool again = text && len == strlen("again") && !strncmp(text, "again", len);
	if (again && r->def && r->def->once) {
		done->result = RUN_FAILED;
		done->why = "it asked to be run again after a reboot, and is a role that runs once only";
	} else if (again) {
		r->reboot = true;
		done->result = RUN_REBOOT;
		done->why = "asked for a reboot, and to be run again after it";
	} else if (!text || (len && (len != strlen("done") || strncmp(text, "done", len)))) {
		done->result = RUN_FAILED;
		done->why = "its output 'reboot' says neither 'done' (the role is active when the node is back) nor 'again' (it is run again then)";
	} else {
		r->reboot = true;
	}
	json_object_del(done->outputs, "reboot");
}

bool reboots_without_end(const struct node_role *nr)
{
	size_t before = 0;
	for (size_t i = nr->n_runs; i-- > 0 && before < REBOOTS_MAX; before += nr->runs[i].number != nr->row.last_run)
		if (nr->runs[i].number != nr->row.last_run && nr->runs[i].result != RUN_REBOOT)
			break;
	return before >= REBOOTS_MAX;
}

void reboot_want(struct engine *e, struct node_role *nr)
{
	struct node *n = nr->node;
	str_replace(&n->row.reboot, nr->row.role);
	n->row.attempts = 0;
	event_add(e, NULL, NULL, nr, NULL, "asks for a reboot of its node");
	mark_node(e, n);
	queue_node(e, n);
}

void reboot_over(struct engine *e, struct node *n)
{
	if (!n->row.reboot)
		return;
	str_replace(&n->row.reboot, NULL);
	for (size_t i = 0; i < n->n_roles; i++)
		count_node_role(e, n->roles[i]);
}

static void told_done(struct reboot *b, int rc, const struct err *err)
{
	struct node_op *op = b->data;
	struct engine *e = op->e;
	engine_wrlock(e);
	struct node *n = node_op_over(op);
	if (n && n->row.incarnation == op->incarnation) {
		if (rc == -EPERM) {
			node_refused(e, n, err_msg(err));
		} else if (rc < 0) {
			node_step_failed(e, n, "reboot", err_msg(err), rc == -ENOTSUP);
		} else {
			n->contacted = false;
			note_boot(e, n);
			event_add(e, NULL, n, NULL, NULL, "reboots, as %s asked", n->row.reboot ? n->row.reboot : "a role");
			ssh_pool_drop_later(e, n->row.id);
		}
	}
	engine_wrunlock(e);
	node_op_end(op);
}

static void told_submit(struct engine *e, void *arg)
{
	struct node_op *op = arg;
	reboot_start(&e->runner_host, &op->told);
}

static bool tell(struct engine *e, struct node *n)
{
	const char *why;
	if (!secrets_key_ready(e, n, &why)) {
		if (why)
			node_step_failed(e, n, "reboot", why, true);
		return true;
	}
	struct node_op *op = node_op_new(e, n, OP_REBOOT);
	node_op_target(op, n);
	op->told.target = &op->target;
	op->told.done = told_done;
	op->told.data = op;
	effect_add(e, told_submit, op);
	return true;
}

bool reboot_step(struct engine *e, struct node *n)
{
	if (!n->row.reboot || n->row.phase != NODE_READY || !n->contacted || n->unreachable || n->running || n->checking)
		return false;
	if (!n->provider->ops->reboot_by_power)
		return tell(e, n);
	if (node_op_slot(n->provider, n))
		power_begin(e, n, POWER_CYCLE)->reboot = true;
	return true;
}
