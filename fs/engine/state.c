/* States are computed, never stored, and every one of them can say why in one sentence. */
#include "fs/engine/internal.h"
#include <string.h>

static const char *const node_role_names[] = {"running", "held", "error", "blocked", "proposed", "todo", "active"};
static const char *const node_names[] = {"held", "error", "releasing", "unreachable", "off", "planned", "creating", "booting", "ready"};
static const char *const deployment_names[] = {"invalid", "orphaned", "elsewhere", "paused", "error", "working", "proposed", "active"};

const char *node_role_state_name(enum node_role_state s)
{
	return node_role_names[s];
}
const char *node_state_name(enum node_state s)
{
	return node_names[s];
}
const char *deployment_state_name(enum deployment_state s)
{
	return deployment_names[s];
}

static void ago(struct buf *out, int64_t since)
{
	int64_t ms = now_ms() - since;
	format_duration(out, ms < 0 ? 0 : ms);
}

static void clock_text(struct buf *out, int64_t at)
{
	time_t t = (time_t)(at / 1000);
	struct tm tm;
	char text[16];
	gmtime_r(&t, &tm);
	strftime(text, sizeof text, "%H:%M", &tm);
	buf_adds(out, text);
}

/* ---- node roles ---- */

static bool digest_unknown(const struct node_role *nr)
{
	return !nr->digest || !nr->digest->complete;
}

enum node_role_state node_role_state(const struct node_role *nr)
{
	if (nr->running)
		return NR_RUNNING;
	if (nr->node->row.held)
		return NR_HELD;
	if (node_role_failed_for_good(nr))
		return NR_ERROR;
	if (nr->dropped)
		return nr->unapproved ? NR_PROPOSED : drop_blocker(nr) ? NR_BLOCKED : NR_TODO;
	if (!nr->def || !nr->node->deployment || !nr->node->deployment->def)
		return node_role_succeeded(nr) ? NR_ACTIVE : NR_TODO;
	if (!nr->due && node_role_is_active(nr))
		return node_role_reboots(nr) ? NR_BLOCKED : NR_ACTIVE;
	if (nr->node->row.phase != NODE_PLANNED || !nr->unapproved) {
		if (!node_is_up(nr->node) && !(nr->node->row.phase == NODE_PLANNED && nr->node->unapproved))
			return NR_BLOCKED;
		if (node_is_up(nr->node) && (digest_unknown(nr) || node_role_blocker(nr)))
			return nr->unapproved && !digest_unknown(nr) ? NR_PROPOSED : NR_BLOCKED;
	}
	return nr->unapproved ? NR_PROPOSED : NR_TODO;
}

int64_t node_role_attempts(const struct node_role *nr)
{
	bool ended_well = nr->row.last_result == RUN_OK && nr->row.last_run > 0;
	return nr->row.attempts + (nr->running || ended_well ? 1 : 0);
}

static void run_failure(const struct node_role *nr, struct buf *out)
{
	if (nr->lacks)
		buf_adds(out, nr->lacks);
	else if (nr->row.outcome_unknown && nr->row.last_result != RUN_INTERRUPTED && nr->row.error)
		buf_addf(out, "outcome unknown: %s; the role runs once only: look at the node, then write 'accept' or 'run' to ctl", nr->row.error);
	else if (nr->row.outcome_unknown)
		buf_addf(out,
		        "outcome unknown: run %lld was interrupted and the role runs once only; look at the node, then write 'accept' or 'run' to "
		        "ctl",
		        (long long)nr->row.last_run);
	else
		buf_adds(out, nr->row.error ? nr->row.error : run_result_name((enum run_result)nr->row.last_result));
}

static void node_trouble(const struct node *n, struct buf *out);

/* The first cause behind a node role that does not move: through any number of links. */
static void first_cause(const struct model *m, const struct node_role *nr, struct buf *out)
{
	/* Each link leads to a role further up in the graph, which has no cycles. */
	size_t links = nr->node->deployment && nr->node->deployment->def ? nr->node->deployment->def->n_roles : 0;
	for (size_t i = 0; i <= links; i++) {
		const struct node *n = nr->node;
		if (nr->running) {
			buf_addf(out, "waiting for %s on %s (running ", nr->row.role, n->row.name);
			ago(out, nr->row.last_started);
			buf_adds(out, ")");
			return;
		}
		if (node_role_failed_for_good(nr)) {
			buf_addf(out, "%s on %s failed: ", nr->row.role, n->row.name);
			run_failure(nr, out);
			return;
		}
		if (!node_is_up(n)) {
			node_trouble(n, out);
			return;
		}
		const struct node_role *on = nr->def ? node_role_blocker(nr) : NULL;
		if (!on || on == nr) {
			if (nr->digest && !nr->digest->complete)
				buf_addf(out, "waiting for %s", nr->digest->missing);
			else if (nr->retry_at)
				buf_addf(out, "waiting for %s on %s, which failed and will be tried again: %s", nr->row.role, n->row.name,
				        nr->row.error ? nr->row.error : "");
			else if (nr->unapproved)
				buf_addf(out, "waiting for %s on %s, which waits for 'apply'", nr->row.role, n->row.name);
			else if (n->running && n->running != nr)
				buf_addf(out, "waiting for %s on %s (running)", n->running->row.role, n->row.name);
			else
				buf_addf(out, "waiting for %s on %s", nr->row.role, n->row.name);
			return;
		}
		nr = on;
	}
	buf_adds(out, "a chain of roles too long to follow");
}

static void check_text(const struct node_role *nr, struct buf *out)
{
	if (nr->check) {
		buf_adds(out, "; being checked");
	} else if (nr->check_error) {
		buf_addf(out, "; could not be checked: %s", nr->check_error);
	} else if (nr->row.checked && nr->row.checked > nr->row.last_started) {
		buf_adds(out, "; checked ");
		ago(out, nr->row.checked);
		buf_adds(out, nr->row.drift ? " ago: drifted, see drift" : " ago: as it was left");
	}
}

void node_role_why(const struct model *m, const struct node_role *nr, struct buf *out)
{
	enum node_role_state s = node_role_state(nr);
	const struct node *n = nr->node;
	buf_adds(out, node_role_state_name(s));
	buf_adds(out, ": ");
	switch (s) {
	case NR_RUNNING:
		buf_addf(out, nr->cancelling ? "run %lld is being cancelled, since " : "run %lld since ", (long long)nr->row.last_run);
		ago(out, nr->row.last_started);
		if (nr->row.attempts > 0)
			buf_addf(out, ", attempt %lld of %lld", (long long)nr->row.attempts + 1, (long long)(nr->def ? nr->def->retries + 1 : 1));
		break;
	case NR_HELD:
		buf_addf(out, "node %s is held by %s since ", n->row.name, n->row.held_by ? n->row.held_by : "somebody");
		clock_text(out, n->row.held_since);
		buf_addf(out, "%s%s", *n->row.held ? ": " : "", n->row.held);
		break;
	case NR_ERROR:
		run_failure(nr, out);
		if (nr->row.attempts > 1 && !nr->lacks)
			buf_addf(out, " (after %lld attempts)", (long long)nr->row.attempts);
		break;
	case NR_BLOCKED:
		first_cause(m, nr->dropped ? drop_blocker(nr) : nr, out);
		break;
	case NR_PROPOSED:
		buf_adds(out, nr->dropped ? "no longer wanted: its remove script is in the plan and waits for 'apply ID'"
		                          : "waits for 'apply' in the deployment's ctl");
		break;
	case NR_TODO:
		if (nr->dropped)
			buf_adds(out, "no longer wanted: its remove script is to run");
		else if (!nr->def || !n->deployment || !n->deployment->def)
			buf_adds(out, "no longer wanted");
		else if (!n->wanted)
			buf_adds(out, "its node is to be released");
		else if (deployment_frozen(m, n->deployment))
			deployment_why(m, n->deployment, out);
		else if (nr->retry_at) {
			int64_t in = nr->retry_at - monotonic_ms();
			buf_addf(out, "attempt %lld failed, next in ", (long long)nr->row.attempts);
			format_duration(out, in < 0 ? 0 : in);
			buf_addf(out, ": %s", nr->row.error ? nr->row.error : "");
		} else if (nr->row.error && nr->row.last_result <= RUN_OK)
			buf_adds(out, nr->row.error);
		else if (nr->waits_for)
			buf_adds(out, nr->waits_for);
		else if (n->running)
			buf_addf(out, "%s runs on this node, one at a time", n->running->row.role);
		else if (nr->renewing)
			buf_adds(out, nr->renewing);
		else
			buf_adds(out, "starts in a moment");
		break;
	case NR_ACTIVE:
		buf_addf(out, "run %lld took ", (long long)nr->row.last_run);
		format_duration(out, nr->row.last_took_ms);
		check_text(nr, out);
		break;
	}
}

/* ---- nodes ---- */

static bool any_role_failed(const struct node *n)
{
	for (size_t i = 0; i < n->n_roles; i++)
		if (node_role_failed_for_good(n->roles[i]))
			return true;
	return false;
}

/* A provider that cannot be opened makes nothing and knows of nothing: its nodes stand still until it can. */
static bool provider_is_shut(const struct node *n)
{
	return n->provider && !n->provider->instance && n->provider->error && (n->wanted || n->row.phase != NODE_PLANNED);
}

void node_failure(const struct node *n, struct buf *out)
{
	if (provider_is_shut(n))
		buf_addf(out, "provider %s cannot be used: %s", n->provider->name, n->provider->error);
	else if (n->off && n->row.power)
		buf_addf(out, "switched off by %s; write 'on' to nodes/%s/power", n->row.power_by ? n->row.power_by : "somebody", n->row.name);
	else if (n->gone)
		buf_adds(out, "gone: its provider no longer lists it; only 'rebuild' replaces it");
	else if (n->row.error)
		buf_adds(out, n->row.error);
}

enum node_state node_state(const struct node *n)
{
	if (n->row.held)
		return NS_HELD;
	if (provider_is_shut(n))
		return NS_ERROR;
	if ((n->row.error && !n->op && !n->retry_at) || n->gone)
		return NS_ERROR;
	if (n->row.phase == NODE_RELEASING)
		return NS_RELEASING;
	if (n->unreachable)
		return NS_UNREACHABLE;
	if (n->off)
		return NS_OFF;
	switch (n->row.phase) {
	case NODE_PLANNED:
		return NS_PLANNED;
	case NODE_CREATING:
		return NS_CREATING;
	case NODE_BOOTING:
		return NS_BOOTING;
	default:
		return n->row.reboot ? NS_BOOTING : NS_READY;
	}
}

static void node_waiting(const struct node *n, struct buf *out)
{
	if (n->row.reboot)
		buf_addf(out, "rebooting, as %s asked, ", n->row.reboot);
	else if (n->progress)
		buf_addf(out, "%s, ", n->progress);
	ago(out, n->row.since);
	if (n->row.error)
		buf_addf(out, ", trying again after: %s", n->row.error);
}

/* "node n1 is booting (3 s)", "node n1: create failed: ..." */
static void node_trouble(const struct node *n, struct buf *out)
{
	enum node_state s = node_state(n);
	if (s == NS_ERROR) {
		buf_addf(out, "node %s: ", n->row.name);
		node_failure(n, out);
	} else if (s == NS_READY) {
		buf_addf(out, "waiting for node %s: first contact since rebarfs started", n->row.name);
	} else if (s == NS_HELD) {
		buf_addf(out, "node %s is held", n->row.name);
	} else if (s == NS_PLANNED && n->unapproved) {
		buf_addf(out, "node %s waits for 'apply'", n->row.name);
	} else {
		buf_addf(out, "waiting for node %s (%s, ", n->row.name, node_state_name(s));
		node_waiting(n, out);
		buf_adds(out, ")");
	}
}

void node_why(const struct model *m, const struct node *n, struct buf *out)
{
	enum node_state s = node_state(n);
	buf_addf(out, "%s: ", node_state_name(s));
	switch (s) {
	case NS_HELD:
		buf_addf(out, "by %s since ", n->row.held_by ? n->row.held_by : "somebody");
		clock_text(out, n->row.held_since);
		buf_addf(out, "%s%s", *n->row.held ? ": " : "", n->row.held);
		return;
	case NS_ERROR:
		node_failure(n, out);
		return;
	case NS_PLANNED:
		if (!n->deployment)
			buf_adds(out, "no deployment names it");
		else if (!n->wanted)
			buf_adds(out, "no longer wanted, never made");
		else if (deployment_frozen(m, n->deployment))
			deployment_why(m, n->deployment, out);
		else if (n->unapproved)
			buf_adds(out, "waits for 'apply' in the deployment's ctl");
		else if (n->waits_for)
			buf_adds(out, n->waits_for);
		else
			node_waiting(n, out);
		return;
	case NS_READY:
		if (!n->wanted && n->deployment && n->unapproved)
			buf_adds(out, "no longer wanted: its release is in the plan and waits for 'apply ID'");
		else if (!n->wanted && n->deployment)
			buf_addf(out, "no longer wanted%s%s", n->waits_for ? ": " : "", n->waits_for ? n->waits_for : "");
		else if (node_needs_rebuild(n) && !n->unapproved)
			buf_adds(out, n->waits_for ? n->waits_for : "its rebuild starts in a moment");
		else if (node_needs_rebuild(n))
			buf_adds(out, "differs from its description: a rebuild is in the plan and waits for 'apply ID'");
		else if (n->running)
			buf_addf(out, "%s runs", n->running->row.role);
		else if (any_role_failed(n))
			buf_adds(out, "but a role failed, see roles/*/why");
		else
			buf_addf(out, "at %s", n->row.address ? n->row.address : "no address");
		return;
	case NS_UNREACHABLE:
		buf_addf(out, "%s", n->row.error ? n->row.error : "does not answer");
		return;
	case NS_OFF:
		if (n->row.power)
			node_failure(n, out);
		else
			buf_adds(out, "its provider says it does not run");
		return;
	case NS_RELEASING:
	case NS_CREATING:
	case NS_BOOTING:
		node_waiting(n, out);
		return;
	}
}

/* ---- deployments ---- */

static bool node_waits_for_person(const struct node *n)
{
	return n->unapproved;
}

static bool any_node(const struct deployment *d, bool (*test)(const struct node *))
{
	for (size_t i = 0; i < d->n_nodes; i++)
		if (test(d->nodes[i]))
			return true;
	return false;
}

/* Unreachable for good, as far as one can tell: it is asked again now and then, but nobody should wait for that. */
#define UNREACHABLE_ATTEMPTS 3

static bool node_failed(const struct node *n)
{
	enum node_state s = node_state(n);
	return s == NS_ERROR || (s == NS_OFF && n->row.power && !n->op) || (s == NS_UNREACHABLE && n->row.attempts >= UNREACHABLE_ATTEMPTS);
}

static bool any_proposed(const struct deployment *d)
{
	for (size_t i = 0; i < d->n_nodes; i++)
		for (size_t k = 0; k < d->nodes[i]->n_roles; k++)
			if (d->nodes[i]->roles[k]->unapproved)
				return true;
	return any_node(d, node_waits_for_person);
}

/* Will something of this node happen by itself? */
static bool node_moves(const struct model *m, const struct node *n)
{
	const struct deployment *d = n->deployment;
	if (n->queued)
		return true; /* what comes of what just happened is not yet known */
	if (n->unreachable && node_failed(n))
		return false;
	if (n->op || n->running)
		return true;
	bool frozen = deployment_frozen(m, d);
	if (n->row.held || (frozen && !d->row.destroying))
		return false;
	if (node_failed(n))
		return false;
	if (!n->wanted)
		return !n->unapproved;
	if (n->retry_at)
		return true;
	if (n->row.phase != NODE_READY)
		return !n->unapproved;
	if (!node_is_up(n))
		return true;
	if (node_needs_rebuild(n) && !n->unapproved)
		return !n->waits_for; /* who is being changed moves; who is broken may stay so for ever */
	for (size_t k = 0; k < n->n_roles; k++) {
		const struct node_role *nr = n->roles[k];
		if (nr->unattended || nr->queued || nr->stale || nr->fetching || check_is_under_way(m, nr))
			return true;
		if (nr->dropped && !nr->unapproved && !node_role_failed_for_good(nr) && !drop_blocker(nr))
			return true;
		if (!nr->due || node_role_failed_for_good(nr))
			continue;
		if (nr->retry_at)
			return true;
		enum node_role_state s = node_role_state(nr);
		if (s == NR_TODO && !(nr->row.error && nr->row.last_result <= RUN_OK)) {
			/* max-down may wait for ever, when what is down is broken */
			if (nr->waits_for && !strncmp(nr->waits_for, "max-down", 8))
				continue;
			return true;
		}
	}
	return false;
}

static bool deployment_moves(const struct model *m, const struct deployment *d)
{
	if (d->n_running)
		return true;
	for (size_t i = 0; i < d->n_nodes; i++)
		if (node_moves(m, d->nodes[i]) || (d->nodes[i]->provider && d->nodes[i]->provider->opening))
			return true;
	return false;
}

static bool drop_failed(const struct node *n)
{
	for (size_t i = 0; i < n->n_roles; i++)
		if (n->roles[i]->dropped && node_role_failed_for_good(n->roles[i]))
			return true;
	return false;
}

static bool deployment_has_errors(const struct deployment *d)
{
	return d->n_error > 0 || any_node(d, node_failed) || (d->n_dropped && any_node(d, drop_failed));
}

static bool deployment_reached(const struct deployment *d)
{
	if (d->row.destroying)
		return d->n_nodes == 0;
	if (!d->def || d->invalid || d->orphaned || d->n_active < d->n_total || d->n_dropped)
		return false;
	for (size_t i = 0; i < d->n_nodes; i++) {
		const struct node *n = d->nodes[i];
		if (n->row.held)
			continue;
		if (!n->wanted || n->row.phase != NODE_READY || n->unapproved || n->unreachable || n->off || n->row.reboot || node_failed(n) ||
		        node_needs_rebuild(n))
			return false;
	}
	return true;
}

enum deployment_state deployment_state(const struct deployment *d)
{
	if (d->invalid)
		return DS_INVALID;
	if (d->orphaned)
		return DS_ORPHANED;
	if (d->elsewhere)
		return DS_ELSEWHERE;
	if (d->row.paused)
		return DS_PAUSED;
	if (deployment_has_errors(d))
		return DS_ERROR;
	if (d->row.destroying)
		return d->n_nodes ? DS_WORKING : DS_PROPOSED;
	if (!d->def && (d->gated.by || d->uncommitted))
		return DS_PROPOSED;
	if (deployment_reached(d))
		return DS_ACTIVE;
	if (any_proposed(d)) {
		for (size_t i = 0; i < d->n_nodes; i++)
			if (d->nodes[i]->op || d->nodes[i]->running)
				return DS_WORKING;
		return DS_PROPOSED;
	}
	return DS_WORKING;
}

static void first_failure(const struct deployment *d, struct buf *out)
{
	for (size_t i = 0; i < d->n_nodes; i++) {
		const struct node *n = d->nodes[i];
		if (node_failed(n)) {
			buf_addf(out, "node %s: ", n->row.name);
			node_failure(n, out);
			return;
		}
		for (size_t k = 0; k < n->n_roles; k++)
			if (!n->row.held && n->wanted && node_role_failed_for_good(n->roles[k])) {
				buf_addf(out, "%s on %s failed: ", n->roles[k]->row.role, n->row.name);
				run_failure(n->roles[k], out);
				return;
			}
	}
}

static void what_waits(const struct deployment *d, struct buf *out)
{
	struct plan p;
	plan_make(NULL, d, &p);
	if (p.n_confirm && strcmp(p.id, "-"))
		buf_addf(out,
		        p.n_confirm == 1 ? "%zu line of the plan destroys something and waits for 'apply %s'"
		                         : "%zu lines of the plan destroy something and wait for 'apply %s'",
		        p.n_confirm, p.id);
	else if (strcmp(p.id, "-"))
		buf_addf(out, "the plan waits for 'apply'");
	else
		buf_adds(out, "something waits for 'apply', see plan");
	plan_release(&p);
}

/* What was tried and will be again: a deployment that waits for nothing else would look idle. */
static void first_retry(const struct deployment *d, struct buf *out)
{
	for (size_t i = 0; i < d->n_nodes; i++) {
		const struct node *n = d->nodes[i];
		if (!n->wanted || n->row.held)
			continue;
		if (n->row.error && n->row.phase != NODE_READY) {
			buf_addf(out, "; %s is tried again after: %s", n->row.name, n->row.error);
			return;
		}
		for (size_t k = 0; k < n->n_roles; k++)
			if (n->roles[k]->retry_at && n->roles[k]->row.error) {
				buf_addf(out, "; %s on %s is tried again after: %s", n->roles[k]->row.role, n->row.name, n->roles[k]->row.error);
				return;
			}
	}
}

static void progress_text(const struct deployment *d, struct buf *out)
{
	size_t ready = 0, wanted = 0;
	for (size_t i = 0; i < d->n_nodes; i++)
		if (d->nodes[i]->wanted) {
			wanted++;
			ready += node_is_up(d->nodes[i]);
		}
	buf_addf(out, "%zu of %zu nodes ready, %zu of %zu roles active, %zu running", ready, wanted, d->n_active, d->n_total, d->n_running);
	first_retry(d, out);
}

static void state_why(const struct model *m, const struct deployment *d, struct buf *out)
{
	enum deployment_state s = deployment_state(d);
	buf_addf(out, "%s: ", deployment_state_name(s));
	switch (s) {
	case DS_INVALID:
		buf_adds(out, d->problem ? d->problem : "its document has mistakes");
		buf_adds(out, d->def ? " (the last good version stays in force)" : " (nothing is in force yet)");
		return;
	case DS_ORPHANED:
		if (d->row.destroying) {
			buf_addf(out, "its document is gone and it is being destroyed, %zu node%s left", d->n_nodes, d->n_nodes == 1 ? "" : "s");
			return;
		}
		buf_addf(out, "its document is gone; its %zu node%s stay%s until 'destroy', or until the document is back", d->n_nodes,
		        d->n_nodes == 1 ? "" : "s", d->n_nodes == 1 ? "s" : "");
		return;
	case DS_ELSEWHERE:
		buf_adds(out, "this mount was told to answer for others only (-o only)");
		return;
	case DS_PAUSED:
		buf_adds(out, "nothing new starts until 'resume'");
		return;
	case DS_ERROR:
		first_failure(d, out);
		return;
	case DS_WORKING:
		if (m && m->paused)
			buf_adds(out, "paused for all deployments (ctl at the root): ");
		if (d->row.destroying)
			buf_addf(out, "destroying, %zu node%s left", d->n_nodes, d->n_nodes == 1 ? "" : "s");
		else
			progress_text(d, out);
		return;
	case DS_PROPOSED:
		if (d->row.destroying)
			buf_adds(out, "destroyed as told; 'apply' builds it again");
		else if (d->def)
			what_waits(d, out);
		break;
	case DS_ACTIVE:
		buf_addf(out, "%zu node%s, %zu role%s as described", d->n_nodes, d->n_nodes == 1 ? "" : "s", d->n_total, d->n_total == 1 ? "" : "s");
		break;
	}
	if (d->gated.by && d->def)
		buf_adds(out, "; ");
	deployment_gated(m, d, out);
}

void deployment_why(const struct model *m, const struct deployment *d, struct buf *out)
{
	_cleanup_buf_ struct buf uncommitted = {0}, git = {0};
	const struct buf *also[] = {&uncommitted, &git};
	state_why(m, d, out);
	deployment_uncommitted(d, &uncommitted);
	git_waits(m, &git);
	for (size_t i = 0; i < 2; i++)
		if (also[i]->len)
			buf_addf(out, "%s%s", out->data[out->len - 1] == ' ' ? "" : "; ", also[i]->data);
}

void deployment_error(const struct model *m, const struct deployment *d, struct buf *out)
{
	if (d->invalid && d->problem)
		buf_addf(out, "deployments/%s: %s\n", d->row.name, d->problem);
	for (size_t i = 0; i < d->n_nodes; i++) {
		const struct node *n = d->nodes[i];
		if (node_failed(n)) {
			buf_addf(out, "nodes/%s: ", n->row.name);
			node_failure(n, out);
			buf_addc(out, '\n');
		}
		for (size_t k = 0; k < n->n_roles; k++)
			if (node_role_failed_for_good(n->roles[k])) {
				buf_addf(out, "nodes/%s/roles/%s: ", n->row.name, n->roles[k]->row.role);
				run_failure(n->roles[k], out);
				buf_addc(out, '\n');
			}
	}
}

void deployment_rest(const struct model *m, const struct deployment *d, bool *ret_settled, bool *ret_reached, struct buf *last)
{
	*ret_settled = !deployment_moves(m, d);
	*ret_reached = *ret_settled && deployment_reached(d);
	if (!last || !*ret_settled)
		return;
	if (!*ret_reached && m && m->paused && *ret_settled)
		buf_adds(last, "paused: everything is (echo resume > ctl at the root)");
	else if (*ret_reached && d->row.destroying)
		buf_adds(last, "destroyed: no node is left; 'apply' builds it again");
	else
		deployment_why(m, d, last);
}

/* ---- providers, roles ---- */

const char *provider_state_name(const struct provider_object *p)
{
	if (p->problem)
		return "invalid";
	return p->error || !p->instance ? "error" : "ready";
}

void provider_why(const struct provider_object *p, struct buf *out)
{
	buf_addf(out, "%s: ", provider_state_name(p));
	if (p->problem) {
		buf_addf(out, "%s%s", p->problem, p->instance ? " (the last good version stays in force)" : "");
	} else if (p->error) {
		buf_adds(out, p->error);
	} else if (!p->instance) {
		buf_adds(out, "not opened yet");
	} else {
		for (const struct image *i = p->images; i; i = i->next)
			if (i->phase == IMAGE_PREPARING) {
				buf_adds(out, i->progress ? i->progress : "preparing");
				return;
			}
		for (const struct image *i = p->images; i; i = i->next)
			if (i->phase == IMAGE_FAILED) {
				buf_addf(out, "but no node can be made: %s", i->error);
				return;
			}
		buf_adds(out, p->capacity ? p->capacity : p->ops->help);
		if (p->list_error)
			buf_addf(out, "; it cannot tell what exists: %s", p->list_error);
		size_t unknown = provider_unknown(p, NULL);
		if (unknown)
			buf_addf(out, "; %zu machine%s to no node, see unknown", unknown, unknown == 1 ? " belongs" : "s belong");
	}
}

const char *role_state_name(const struct role_object *r)
{
	return r->def && r->def->valid ? "ready" : "invalid";
}

void role_why(const struct role_object *r, struct buf *out)
{
	buf_addf(out, "%s: ", role_state_name(r));
	if (r->def && r->def->valid)
		buf_addf(out, "runs with %s", r->def->runner);
	else
		buf_adds(out, r->def && r->def->problem ? r->def->problem : "its document is gone");
}
