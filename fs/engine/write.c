/* What people write: verbs into ctl, values into desired/SECTION/KEY. A refused one changes nothing and says why in `refused`. */
#include "fs/engine/internal.h"
#include <ctype.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

struct verb_call {
	struct engine *e;
	struct write_request *w;
	const char *arg; /* rest of the line, "" */
	const char *who;
	struct provider_object *p;
	struct deployment *d; /* what the verb is for; those above it are set too */
	struct node *n;
	struct node_role *nr;
	struct err **err;
};

struct verb {
	const char *name, *args, *help;
	int (*run)(struct verb_call *c);
};

/* ---- the root ---- */

static void queue_all(struct engine *e)
{
	for (struct deployment *d = e->m.deployments_by_name; d; d = d->hh_name.next)
		queue_deployment(e, d);
	e->changed = true;
}

static int root_pause(struct verb_call *c)
{
	c->e->m.paused = true;
	event_add(c->e, NULL, NULL, NULL, c->who, "everything paused");
	queue_all(c->e);
	return 0;
}

static int root_resume(struct verb_call *c)
{
	c->e->m.paused = false;
	event_add(c->e, NULL, NULL, NULL, c->who, "everything resumed");
	queue_all(c->e);
	return 0;
}

static void adopt_node(struct engine *e, struct node *n)
{
	n->row.wish_adopt = true;
	n->row.attempts = 0;
	n->retry_at = 0;
	str_replace(&n->row.error, NULL);
	mark_node(e, n);
	queue_node(e, n);
}

static int root_adopt(struct verb_call *c)
{
	size_t n_adopted = 0;
	for (struct node *n = c->e->m.nodes_by_name; n; n = n->hh_name.next)
		if (n->wanted && n->row.error && (n->row.phase == NODE_BOOTING || n->row.phase == NODE_READY)) {
			adopt_node(c->e, n);
			n_adopted++;
		}
	event_add(c->e, NULL, NULL, NULL, c->who, "adopt: %zu nodes are taken over from whoever owned them", n_adopted);
	return 0;
}

/* ---- deployments ---- */

static int not_elsewhere(struct verb_call *c)
{
	return c->d->elsewhere ? err_set(c->err, EPERM, "deployment %s is not among those that this mount answers for (-o only)", c->d->row.name) : 0;
}

static int approve_release(struct verb_call *c, struct node *n)
{
	if (n->row.is_protected)
		return err_set(c->err, EPERM, "node %s is protected: write 'unprotect' to nodes/%s/ctl first", n->row.name, n->row.name);
	return 0;
}

static int apply_check(struct verb_call *c, const struct plan *p, bool with_id)
{
	size_t destroys = 0;
	for (size_t i = 0; i < p->n_lines; i++) {
		const struct plan_line *l = &p->lines[i];
		struct node *n = model_node_id(&c->e->m, l->node_id);
		if (!l->confirm || l->approved || !n)
			continue;
		if (with_id && l->op == PLAN_RELEASE) {
			int rc = approve_release(c, n);
			if (rc < 0)
				return rc;
		}
		destroys += with_id && l->op != PLAN_CHANGE && l->op != PLAN_DROP;
	}
	int64_t max = c->d->def ? c->d->def->max_destroy : 0;
	if (max > 0 && destroys > (size_t)max)
		return err_set(c->err, EPERM, "the plan destroys %zu machines, and max-destroy of deployment %s is %lld", destroys, c->d->row.name,
		        (long long)max);
	return 0;
}

static void approve_as_it_is(struct engine *e, struct node_role *nr)
{
	if (!nr->digest || nr->stale) {
		nr->stale = true;
		digest_refresh(e, nr);
	}
	digest_approve(nr);
}

static void approve_line(struct verb_call *c, const struct plan_line *l)
{
	struct node *n = model_node_id(&c->e->m, l->node_id);
	struct node_role *nr = l->node_role_id ? model_node_role_id(&c->e->m, l->node_role_id) : NULL;
	if (nr && l->op == PLAN_DROP) {
		drop_approve(c->e, nr);
	} else if (nr) {
		approve_as_it_is(c->e, nr);
		mark_node_role(c->e, nr);
	} else if (n) {
		_cleanup_free_ char *what =
		        l->op == PLAN_RELEASE ? xstrdup("release")
		                              : xasprintf("%s:%s", l->op == PLAN_REBUILD ? "rebuild" : "create", n->target_now ? n->target_now : "");
		str_replace(&n->row.approved, what);
		if (l->op == PLAN_RELEASE)
			n->row.wish_release = true;
		mark_node(c->e, n);
		if (n->row.wish_release)
			stale_leaving(c->e, n);
		else
			stale_nodes_input(c->e, n->deployment);
	}
	if (n)
		queue_node(c->e, n);
}

static int deployment_apply(struct verb_call *c)
{
	struct plan p;
	int rc = not_elsewhere(c);
	if (rc < 0)
		return rc;
	if (c->d->row.destroying) {
		if (*c->arg)
			return err_set(c->err, EINVAL, "deployment %s is destroyed as told: a plain 'apply' builds it again", c->d->row.name);
		c->d->row.destroying = false;
		event_add(c->e, c->d, NULL, NULL, c->who, "apply: to be built again");
		deployment_refit(c->e, c->d);
		anneal(c->e); /* nodes just made learn what they are made from, and whether that asks for approval */
	}
	plan_make(&c->e->m, c->d, &p);
	if (*c->arg && strcmp(c->arg, p.id)) {
		rc = !strcmp(p.id, "-") ? err_set(c->err, ESTALE, "plan '%s' is not the plan of %s any more: nothing waits for approval now", c->arg,
		                                  c->d->row.name)
		                        : err_set(c->err, ESTALE, "plan '%s' is not the plan of %s any more: it is %s now, read it again", c->arg,
		                                  c->d->row.name, p.id);
		goto out;
	}
	if ((rc = apply_check(c, &p, *c->arg)) < 0)
		goto out;
	size_t approved = 0;
	for (size_t i = 0; i < p.n_lines; i++)
		if (!p.lines[i].approved && (!p.lines[i].confirm || *c->arg)) {
			approve_line(c, &p.lines[i]);
			approved++;
		}
	event_add(c->e, c->d, NULL, NULL, c->who, "apply %s: %zu lines approved", p.id, approved);
out:
	plan_release(&p);
	return rc;
}

static void retry_node_role(struct verb_call *c, struct node_role *nr)
{
	if (nr->running || nr->row.outcome_unknown)
		return;
	nr->row.attempts = 0;
	nr->retry_at = 0;
	secrets_retry(c->e, nr);
	if (node_role_failed_for_good(nr) || nr->row.error)
		str_replace(&nr->row.error, NULL);
	if (nr->row.last_result == RUN_CANCELLED)
		nr->row.last_result = RUN_INTERRUPTED;
	mark_node_role(c->e, nr);
	queue_node_role(c->e, nr);
}

static void retry_node(struct verb_call *c, struct node *n)
{
	if (!n->row.error && !n->retry_at)
		return;
	n->row.attempts = 0;
	n->retry_at = 0;
	secrets_key_retry(c->e, n);
	str_replace(&n->row.error, NULL);
	for (struct image *i = n->provider ? n->provider->images : NULL; i; i = i->next)
		if (i->phase == IMAGE_FAILED) {
			i->phase = IMAGE_UNKNOWN;
			i->attempts = 0;
		}
	mark_node(c->e, n);
	queue_node(c->e, n);
}

static int deployment_retry(struct verb_call *c)
{
	bool known = !*c->arg;
	for (size_t i = 0; i < c->d->n_nodes; i++) {
		struct node *n = c->d->nodes[i];
		if (!*c->arg)
			retry_node(c, n);
		for (size_t k = 0; k < n->n_roles; k++)
			if (!*c->arg || !strcmp(n->roles[k]->row.role, c->arg)) {
				known = true;
				retry_node_role(c, n->roles[k]);
			}
	}
	if (!known)
		return err_set(c->err, EINVAL, "deployment %s has no role '%s'", c->d->row.name, c->arg);
	event_add(c->e, c->d, NULL, NULL, c->who, "retry%s%s", *c->arg ? " " : "", c->arg);
	return 0;
}

static int deployment_cancel(struct verb_call *c)
{
	size_t n_cancelled = 0;
	for (size_t i = 0; i < c->d->n_nodes; i++) {
		struct node *n = c->d->nodes[i];
		for (size_t k = 0; n->checking && k < n->n_roles; k++) {
			n_cancelled += n->roles[k]->check != NULL;
			check_cancel(c->e, n->roles[k]);
		}
		if (n->running) {
			run_cancel(c->e, n->running, c->who);
			n_cancelled++;
		}
	}
	return n_cancelled ? 0 : err_set(c->err, EINVAL, "nothing of deployment %s runs", c->d->row.name);
}

static int deployment_pause(struct verb_call *c)
{
	c->d->row.paused = true;
	event_add(c->e, c->d, NULL, NULL, c->who, "paused");
	mark_deployment(c->e, c->d);
	queue_deployment(c->e, c->d);
	return 0;
}

static int deployment_resume(struct verb_call *c)
{
	c->d->row.paused = false;
	event_add(c->e, c->d, NULL, NULL, c->who, "resumed");
	mark_deployment(c->e, c->d);
	queue_deployment(c->e, c->d);
	return 0;
}

static int deployment_destroy(struct verb_call *c)
{
	int rc = not_elsewhere(c);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < c->d->n_nodes; i++)
		if ((rc = approve_release(c, c->d->nodes[i])) < 0)
			return rc;
	c->d->row.destroying = true;
	event_add(c->e, c->d, NULL, NULL, c->who, "destroy: %zu nodes", c->d->n_nodes);
	deployment_refit(c->e, c->d);
	if (!c->d->n_nodes && c->d->orphaned)
		deployment_remove(c->e, c->d);
	return 0;
}

/* ---- nodes ---- */

static int node_retry(struct verb_call *c)
{
	retry_node(c, c->n);
	for (size_t k = 0; k < c->n->n_roles; k++)
		retry_node_role(c, c->n->roles[k]);
	event_add(c->e, NULL, c->n, NULL, c->who, "retry");
	return 0;
}

static void recount_node(struct engine *e, struct node *n)
{
	for (size_t k = 0; k < n->n_roles; k++) {
		count_node_role(e, n->roles[k]);
		/* Who waited for it goes on without it, or waits again. */
		if (n->deployment && n->deployment->slots && n->roles[k]->def)
			stale_outputs(e, n->deployment, n->roles[k]->role_index);
	}
	mark_node(e, n);
	if (n->deployment)
		queue_deployment(e, n->deployment);
	else
		queue_node(e, n);
}

static int node_hold(struct verb_call *c)
{
	str_replace(&c->n->row.held, c->arg);
	str_replace(&c->n->row.held_by, c->who);
	c->n->row.held_since = now_ms();
	event_add(c->e, NULL, c->n, NULL, c->who, "held%s%s", *c->arg ? ": " : "", c->arg);
	recount_node(c->e, c->n);
	return 0;
}

static int node_unhold(struct verb_call *c)
{
	if (!c->n->row.held)
		return err_set(c->err, EINVAL, "node %s is not held", c->n->row.name);
	str_replace(&c->n->row.held, NULL);
	str_replace(&c->n->row.held_by, NULL);
	event_add(c->e, NULL, c->n, NULL, c->who, "no longer held");
	recount_node(c->e, c->n);
	return 0;
}

static int node_protect(struct verb_call *c)
{
	c->n->row.is_protected = true;
	event_add(c->e, NULL, c->n, NULL, c->who, "protected");
	mark_node(c->e, c->n);
	return 0;
}

static int node_unprotect(struct verb_call *c)
{
	c->n->row.is_protected = false;
	event_add(c->e, NULL, c->n, NULL, c->who, "no longer protected");
	mark_node(c->e, c->n);
	queue_node(c->e, c->n);
	return 0;
}

static int node_rebuild(struct verb_call *c)
{
	if (!c->n->wanted || c->n->row.phase == NODE_PLANNED)
		return err_set(c->err, EINVAL, "node %s has no machine to rebuild", c->n->row.name);
	if (c->n->provider && c->n->provider->ops && c->n->provider->ops->declared_only)
		return err_set(c->err, EINVAL, "node %s runs already and was not made by rebarfs: it cannot be rebuilt, only adopted or forgotten",
		        c->n->row.name);
	int rc = approve_release(c, c->n);
	if (rc < 0)
		return rc;
	c->n->row.wish_rebuild = true;
	event_add(c->e, NULL, c->n, NULL, c->who, "rebuild: waits in the plan for 'apply ID'");
	mark_node(c->e, c->n);
	queue_node(c->e, c->n);
	return 0;
}

static int node_trust(struct verb_call *c)
{
	if (!*c->arg) { /* whatever it shows next */
		str_replace(&c->n->row.host_key, NULL);
	} else if (strncmp(c->arg, "ssh-ed25519 ", 12) && strncmp(c->arg, "ecdsa-sha2-", 11)) {
		return err_set(
		        c->err, EINVAL, "'trust' takes a host key such as 'ssh-ed25519 AAAA...', or nothing: then the next one shown is learnt");
	} else {
		str_replace(&c->n->row.host_key, c->arg);
	}
	ssh_pool_drop_later(c->e, c->n->row.id);
	event_add(c->e, NULL, c->n, NULL, c->who, "trust%s%s", *c->arg ? " " : "", c->arg);
	c->n->contacted = false;
	mark_node(c->e, c->n);
	retry_node(c, c->n);
	queue_node(c->e, c->n);
	return 0;
}

static int node_adopt(struct verb_call *c)
{
	int rc = c->d ? not_elsewhere(c) : 0;
	if (rc < 0)
		return rc;
	event_add(c->e, NULL, c->n, NULL, c->who, "adopt");
	adopt_node(c->e, c->n);
	return 0;
}

static int still_wanted(struct verb_call *c, const char *verb)
{
	if (!c->n->wanted)
		return approve_release(c, c->n);
	return err_set(c->err, EBUSY, "node %s is still described by deployment %s: take it out there first, then '%s'", c->n->row.name,
	        c->d ? c->d->row.name : "?", verb);
}

static int node_forget(struct verb_call *c)
{
	int rc = still_wanted(c, "forget");
	if (rc < 0)
		return rc;
	c->n->row.wish_forget = true;
	event_add(c->e, NULL, c->n, NULL, c->who, "forget");
	mark_node(c->e, c->n);
	queue_node(c->e, c->n);
	return 0;
}

static int node_destroy(struct verb_call *c)
{
	int rc = still_wanted(c, "destroy");
	if (rc < 0)
		return rc;
	c->n->row.wish_release = true;
	event_add(c->e, NULL, c->n, NULL, c->who, "destroy");
	mark_node(c->e, c->n);
	queue_node(c->e, c->n);
	stale_leaving(c->e, c->n);
	return 0;
}

static int node_power(struct verb_call *c)
{
	static const char *const words[] = {"on", "off", "cycle", "reset", NULL};
	struct node *n = c->n;
	bool known = false, off = !strcmp(c->arg, "off");
	for (size_t i = 0; words[i]; i++)
		known |= !strcmp(words[i], c->arg);
	if (!known)
		return err_set(c->err, EINVAL, "power takes one of on, off, cycle, reset, not '%s'", c->arg);
	if (n->provider && n->provider->ops && n->provider->ops->declared_only)
		return err_set(
		        c->err, EOPNOTSUPP, "the power of machines of provider %s cannot be switched: they were not made here", n->provider->name);
	if (n->row.phase != NODE_READY && n->row.phase != NODE_BOOTING)
		return err_set(c->err, EBUSY, "there is no machine of %s that could be switched", n->row.name);
	if (off && n->running)
		return err_set(c->err, EBUSY, "%s runs on %s: cancel it first, or wait", n->running->row.role, n->row.name);
	event_add(c->e, NULL, n, NULL, c->who, "power %s", c->arg);
	str_replace(&n->row.power, strcmp(c->arg, "on") ? c->arg : NULL);
	str_replace(&n->row.power_by, n->row.power ? c->who : NULL);
	str_replace(&n->row.error, NULL);
	n->row.attempts = 0;
	n->retry_at = 0;
	mark_node(c->e, n);
	queue_node(c->e, n);
	touch_deployment(c->e, c->d);
	return 0;
}

/* ---- node roles ---- */

static int node_role_retry(struct verb_call *c)
{
	if (c->nr->row.outcome_unknown)
		return err_set(c->err, EBUSY, "the role runs once only and what it did is not known: look at the node, then 'accept' or 'run'");
	retry_node_role(c, c->nr);
	event_add(c->e, NULL, NULL, c->nr, c->who, "retry");
	return 0;
}

static int node_role_run(struct verb_call *c)
{
	if (!c->nr->def)
		return err_set(c->err, EINVAL, "%s is no longer a role of %s", c->nr->row.role, c->n->row.name);
	c->nr->row.wish_run = true;
	secrets_retry(c->e, c->nr);
	approve_as_it_is(c->e, c->nr); /* for the tries after a failure too */
	c->nr->row.attempts = 0;
	c->nr->row.outcome_unknown = false;
	c->nr->retry_at = 0;
	event_add(c->e, NULL, NULL, c->nr, c->who, "run");
	mark_node_role(c->e, c->nr);
	queue_node_role(c->e, c->nr);
	return 0;
}

static int node_role_accept(struct verb_call *c)
{
	struct node_role *nr = c->nr;
	char hex[HASH_HEX];
	if (nr->dropped && !nr->running) {
		event_add(c->e, NULL, NULL, nr, c->who, "accepted as removed");
		drop_accept(c->e, nr);
		return 0;
	}
	if (nr->running || !nr->digest || !nr->digest->complete)
		return err_set(c->err, EBUSY, "%s on %s cannot be accepted while it runs or its inputs are not known", nr->row.role, c->n->row.name);
	hash_hex(&nr->digest->hash, hex);
	digest_keep(c->e, nr->digest);
	nr->row.last_result = RUN_OK;
	nr->row.last_incarnation = c->n->row.incarnation;
	nr->row.attempts = 0;
	nr->row.outcome_unknown = nr->row.wish_run = false;
	str_replace(&nr->row.last_digest, hex);
	str_replace(&nr->row.error, NULL);
	event_add(c->e, NULL, NULL, nr, c->who, "accepted as done");
	mark_node_role(c->e, nr);
	queue_node_role(c->e, nr);
	return 0;
}

static int node_role_cancel(struct verb_call *c)
{
	check_cancel(c->e, c->nr);
	if (c->nr->check)
		return 0;
	if (!c->nr->running)
		return err_set(c->err, EINVAL, "%s does not run on %s", c->nr->row.role, c->n->row.name);
	run_cancel(c->e, c->nr, c->who);
	return 0;
}

/* ---- check, of everything above ---- */

static int checks_begin(struct verb_call *c, size_t wanted)
{
	if (!wanted)
		return err_set(c->err, EINVAL, "nothing of it is active on a node that answers: there is nothing to check");
	event_add(c->e, c->nr ? NULL : c->d, c->nr ? NULL : c->n, c->nr, c->who, "check: %zu node role%s", wanted, wanted == 1 ? "" : "s");
	return 0;
}

static size_t check_deployment(struct verb_call *c, struct deployment *d)
{
	size_t wanted = 0;
	for (size_t i = 0; i < d->n_nodes; i++)
		wanted += check_want(c->e, d->nodes[i], NULL);
	return wanted;
}

static int root_check(struct verb_call *c)
{
	size_t wanted = 0;
	for (struct deployment *d = c->e->m.deployments_by_name; d; d = d->hh_name.next)
		wanted += check_deployment(c, d);
	return checks_begin(c, wanted);
}

static int deployment_check(struct verb_call *c)
{
	return checks_begin(c, check_deployment(c, c->d));
}

static int node_check(struct verb_call *c)
{
	return checks_begin(c, check_want(c->e, c->n, NULL));
}

static int node_role_check(struct verb_call *c)
{
	return checks_begin(c, check_want(c->e, c->n, c->nr->row.role));
}

/* ---- providers ---- */

static int provider_adopt(struct verb_call *c)
{
	_cleanup_free_ char *ref = xstrndup(c->arg, strcspn(c->arg, " \t"));
	const char *name = c->arg + strlen(ref);
	name += strspn(name, " \t");
	struct node *n = *name ? model_node(&c->e->m, name) : NULL;
	if (!*name)
		return err_set(c->err, EINVAL, "say which machine and for which node: adopt MACHINE NODE");
	if (!n)
		return err_set(c->err, EINVAL, "there is no node '%s': describe it first, while its deployment is paused or waits for 'apply'", name);
	return unknown_adopt(c->e, c->p, ref, n, c->who, c->err);
}

static int provider_destroy(struct verb_call *c)
{
	return *c->arg ? unknown_destroy(c->e, c->p, c->arg, c->who, c->err) : err_set(c->err, EINVAL, "say which machine: destroy MACHINE");
}

/* ---- the tables ---- */

static const struct verb root_verbs[] = {
        {"pause", "", "start nothing new in any deployment; what runs goes on", root_pause},
        {"resume", "", "go on after pause", root_resume},
        {"check", "", "find out, without changing anything, whether all that is active still is as it was left", root_check},
        {"adopt", "", "take over nodes that carry another owner's mark, where contact was refused for that", root_adopt},
        {0},
};
static const struct verb provider_verbs[] = {
        {"adopt", "MACHINE NODE", "give a machine of 'unknown' to a node that is described and has none yet", provider_adopt},
        {"destroy", "MACHINE", "destroy a machine of 'unknown'", provider_destroy},
        {0},
};
static const struct verb deployment_verbs[] = {
        {"apply", "[ID]", "approve the plan; with its ID also the lines marked confirm, which destroy something", deployment_apply},
        {"retry", "[ROLE]", "try again what is in error: everything, or one role", deployment_retry},
        {"check", "", "find out, without changing anything, whether it still is as it was left", deployment_check},
        {"cancel", "", "stop what runs", deployment_cancel},
        {"pause", "", "start nothing new; what runs goes on", deployment_pause},
        {"resume", "", "go on after pause", deployment_resume},
        {"destroy", "", "destroy its machines; stands until 'apply'", deployment_destroy},
        {0},
};
static const struct verb node_verbs[] = {
        {"retry", "", "try again what is in error on this node", node_retry},
        {"check", "", "find out, without changing anything, whether it still is as it was left", node_check},
        {"hold", "[WHY]", "leave the node alone and go on without it", node_hold},
        {"unhold", "", "take it up again", node_unhold},
        {"protect", "", "refuse to destroy it, even when it is no longer described", node_protect},
        {"unprotect", "", "allow that again", node_unprotect},
        {"power", "on|off|cycle|reset", "switch its power, as the file power does", node_power},
        {"rebuild", "", "put a new machine in its place; waits in the plan for 'apply ID'", node_rebuild},
        {"trust", "[KEY]", "accept this host key, or the next one it shows", node_trust},
        {"adopt", "", "take it over from the rebarfs that owns it, whose nodes it will be no longer", node_adopt},
        {"forget", "", "drop a node that is no longer described without touching its machine", node_forget},
        {"destroy", "", "destroy the machine of a node that is no longer described", node_destroy},
        {0},
};
static const struct verb node_role_verbs[] = {
        {"retry", "", "try again after an error", node_role_retry},
        {"run", "", "run it even if it is active", node_role_run},
        {"accept", "", "count it as done as it is; of one whose remove script failed: forget it", node_role_accept},
        {"check", "", "find out, without changing anything, whether it still is as it was left", node_role_check},
        {"cancel", "", "stop its run or check", node_role_cancel},
        {0},
};
static const struct verb no_verbs[] = {{0}};

static const struct verb *verbs_of(enum object_kind kind)
{
	switch (kind) {
	case OBJECT_ROOT:
		return root_verbs;
	case OBJECT_DEPLOYMENT:
		return deployment_verbs;
	case OBJECT_NODE:
		return node_verbs;
	case OBJECT_NODE_ROLE:
		return node_role_verbs;
	case OBJECT_PROVIDER:
		return provider_verbs;
	case OBJECT_ROLE:
		break;
	}
	return no_verbs;
}

#define VERBS_MAX 16

const struct verb_row *engine_verbs(enum object_kind kind)
{
	static __thread struct verb_row rows[OBJECT_NODE_ROLE + 1][VERBS_MAX];
	const struct verb *v = verbs_of(kind);
	size_t n = 0;
	for (; v[n].name && n < VERBS_MAX - 1; n++)
		rows[kind][n] = (struct verb_row){v[n].name, v[n].args, v[n].help};
	rows[kind][n] = (struct verb_row){0};
	return rows[kind];
}

/* ---- requests ---- */

static int verb_run(struct engine *e, struct write_request *w, struct err **err)
{
	_cleanup_free_ char *text = xstrdup(w->text ? w->text : "");
	struct verb_call c = {.e = e, .w = w, .who = w->who, .err = err};
	char *end = text + strlen(text);
	char *verb = text + strspn(text, " \t");

	while (end > verb && isspace((unsigned char)end[-1]))
		*--end = '\0';
	char *arg = verb + strcspn(verb, " \t");
	if (*arg)
		*arg++ = '\0';
	c.arg = arg + strspn(arg, " \t");
	if (w->kind == OBJECT_NODE_ROLE && (c.nr = model_node_role_id(&e->m, w->id)))
		c.n = c.nr->node;
	if (w->kind == OBJECT_PROVIDER)
		c.p = model_provider_id(&e->m, w->id);
	if (w->kind == OBJECT_NODE)
		c.n = model_node_id(&e->m, w->id);
	c.d = w->kind == OBJECT_DEPLOYMENT ? model_deployment_id(&e->m, w->id) : c.n ? c.n->deployment : NULL;
	if ((w->kind == OBJECT_NODE_ROLE && !c.nr) || (w->kind == OBJECT_NODE && !c.n) || (w->kind == OBJECT_DEPLOYMENT && !c.d) ||
	        (w->kind == OBJECT_PROVIDER && !c.p))
		return err_set(err, ESTALE, "it is not there any more");

	const struct verb *table = verbs_of(w->kind);
	const char *names[VERBS_MAX];
	size_t n = 0;
	for (const struct verb *v = table; v->name; v++) {
		if (!strcmp(v->name, verb)) {
			if (!*v->args && *c.arg)
				return err_set(err, EINVAL, "'%s' takes nothing behind it, not '%s'", v->name, c.arg);
			return v->run(&c);
		}
		names[n++] = v->name;
	}
	const char *near = str_suggest(verb, names, n);
	_cleanup_buf_ struct buf all = {0};
	for (size_t i = 0; i < n; i++)
		buf_addf(&all, "%s%s", i ? ", " : "", names[i]);
	if (near)
		return err_set(err, EINVAL, "unknown verb '%s' (did you mean '%s'?)", verb, near);
	return err_set(err, EINVAL, "unknown verb '%s': use one of %s", verb, buf_str(&all));
}

/* What an object's document is called, and what keeps the one on disk from being in force; false: it is gone. */
static bool document_of(struct engine *e, const struct write_request *w, const struct def_source **ret_src, const char **ret_problem)
{
	const struct deployment *d = w->kind == OBJECT_DEPLOYMENT ? model_deployment_id(&e->m, w->id) : NULL;
	const struct node *n = w->kind == OBJECT_NODE ? model_node_id(&e->m, w->id) : NULL;
	const struct provider_object *p = w->kind == OBJECT_PROVIDER ? model_provider_id(&e->m, w->id) : NULL;
	const struct role_object *r = w->kind == OBJECT_ROLE ? model_role_id(&e->m, w->id) : NULL;
	*ret_src = d ? &d->src : n && n->def ? &n->def->src : p ? &p->src : r ? &r->src : NULL;
	if (d)
		*ret_problem = d->orphaned ? "it is gone" : d->invalid ? d->problem : NULL;
	else if (n)
		*ret_problem = n->def ? n->def->problem : NULL;
	else if (p)
		*ret_problem = p->problem;
	else if (r)
		*ret_problem = r->def ? r->def->problem : NULL;
	return d || n || p || r;
}

static int value_path(struct engine *e, const struct write_request *w, char **ret_path, struct err **err)
{
	const struct def_source *src;
	const char *problem;
	if (!document_of(e, w, &src, &problem))
		return err_set(err, ESTALE, "it is not there any more");
	if (!src || !src->path)
		return err_set(err, ESTALE, "it has no document");
	if (problem)
		return err_set(err, EBUSY, "the document on disk is not the one in force: %s", problem);
	*ret_path = xstrdup(src->path);
	return 0;
}

static void write_post(struct engine *e, void *arg)
{
	struct write_request *w = arg;
	struct err *err = NULL;
	_cleanup_free_ char *trouble = NULL;
	int code = store_trouble_code(e->store, &trouble);
	engine_wrlock(e);
	if (code) {
		/* A wish that cannot be made durable is not taken: who wrote it would wait as long as the disk is full. */
		int rc = err_set(&err, code, "nothing can be stored: %s", trouble);
		write_reply(e, w, rc, err);
	} else if (w->section) {
		_cleanup_free_ char *path = NULL;
		int rc = value_path(e, w, &path, &err);
		if (rc == 0)
			job_store(e, w, path);
		else
			write_reply(e, w, rc, err);
	} else {
		int rc = verb_run(e, w, &err);
		write_reply(e, w, rc, err);
	}
	engine_wrunlock(e);
}

static void write_settled(void *arg)
{
	struct write_request *w = arg;
	write_post(w->engine, w);
}

static void who_work(void *arg)
{
	struct write_request *w = arg;
	struct passwd pw, *found = NULL;
	char names[1024], comm[32] = "";
	_cleanup_free_ char *path = xasprintf("/proc/%d/comm", (int)w->pid);
	_cleanup_buf_ struct buf b = {0};
	if (w->pid > 0 && file_read(AT_FDCWD, path, 64, &b, NULL) == 0)
		snprintf(comm, sizeof comm, "%.*s", (int)strcspn(buf_str(&b), "\n"), buf_str(&b));
	getpwuid_r(w->uid, &pw, names, sizeof names, &found);
	_cleanup_free_ char *user = found ? xstrdup(pw.pw_name) : xasprintf("uid %u", (unsigned)w->uid);
	w->who = *comm ? xasprintf("%s (%s %d)", user, comm, (int)w->pid) : xstrdup(user);
}

static void who_known(void *arg)
{
	struct write_request *asked = arg;
	struct engine *e = asked->engine;
	asked->who_known = true; /* of the others a worker may be writing 'who' */
	for (struct write_request *w; (w = e->asked) && w->who_known;) {
		if (!(e->asked = w->next))
			e->asked_tail = &e->asked;
		/* One store at a time, and each sees what was written before it: what lies in the repo is read first. */
		engine_settle(e, write_settled, w);
	}
}

static void write_ask(struct engine *e, void *arg)
{
	struct write_request *w = arg;
	w->next = NULL;
	*e->asked_tail = w;
	e->asked_tail = &w->next;
	/* A name may come from a directory server that takes its time, or hangs */
	engine_work(e, who_work, who_known, w);
}

void engine_write(struct engine *e, struct write_request *w)
{
	w->engine = e;
	w->who = NULL;
	w->who_known = false;
	engine_post(e, write_ask, w);
}
