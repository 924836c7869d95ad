/* Who waits for whom, how many at one time, and what becomes of failures. */
#include "tests/unit/test_engine.h"

TestSuite(order, .init = make_world, .fini = end_world);

/* roles a and b on n nodes, b as told. */
static void two_roles(int n, const char *a, const char *b, const char *fake)
{
	_cleanup_free_ char *doc = xasprintf("[deployment]\nprovider = sim\n[nodes n]\ncount = %d\nroles = a, b\n", n);
	put_provider("sim", "", fake);
	put_role("a", a);
	put_role("b", b);
	put(D_INI, doc);
}

/* failure-rate with a seed that makes the first run of the first node fail is a matter of luck: everything fails until the provider is told
 * otherwise. */
#define FAILING "create-delay = 5ms\nrole-delay = 2ms\nfailure-rate = 1\n"

Test(order, requires_is_per_node)
{
	two_roles(5, "", "requires = a\n", "create-delay = 5ms\nrole-delay = 20ms\n");
	open_engine();
	rest("d", true);
	for (int i = 1; i <= 5; i++) {
		char name[16];
		snprintf(name, sizeof name, "d-n-%d", i);
		cr_expect_lt(event_at(name, "a", "active", true), event_at(name, "b", "running", false), "%s", name);
	}
}

Test(order, after_is_for_all_nodes)
{
	two_roles(5, "", "after = a\n", "create-delay = 5ms\nrole-delay = 20ms\n");
	open_engine();
	rest("d", true);
	cr_expect_lt(event_at(NULL, "a", "active", true), event_at(NULL, "b", "running", false));
	/* Order only: what comes first may change without making the second due. */
	cr_assert_eq(ctl("d", "pause"), 0);
	put("roles/a/apply", "#!/bin/sh\necho other\n");
	settle();
	expect_due("d", "a on d-n-1, a on d-n-2, a on d-n-3, a on d-n-4, a on d-n-5");
}

Test(order, an_output_is_used_only_when_complete)
{
	two_roles(4, "serial = 1\n[output token]\n", "wants = a.token\n", "create-delay = 5ms\nrole-delay = 20ms\n");
	open_engine();
	rest("d", true);
	cr_expect_lt(event_at(NULL, "a", "active", true), event_at(NULL, "b", "running", false));
	cr_expect_eq(n_runs("d-n-1", "b"), 1, "not once for each output that came");
	json_t *in = locked(node_role_inputs(model, nr_of("d-n-1", "b"), false));
	json_t *table = json_object_get(json_object_get(json_object_get(in, "outputs"), "a"), "token");
	cr_expect_eq(json_object_size(table), 4);
	json_decref(in);
	/* The same outputs again make nothing due. */
	cr_assert_eq(ctl_role("d-n-2", "a", "run"), 0);
	eventually(nr_of("d-n-2", "a")->n_runs == 2 && !nr_of("d-n-2", "a")->running);
	rest("d", true);
	cr_expect_eq(n_runs("d-n-1", "b"), 1);
}

Test(order, a_wanter_says_whom_it_waits_for)
{
	two_roles(2, "retries = 0\n[output token]\n", "wants = a.token\n", FAILING);
	open_engine();
	rest("d", false);
	cr_expect(state_is("d-n-1", "a", NR_ERROR));
	cr_expect(state_is("d-n-1", "b", NR_BLOCKED));
	expect_has(why_of("d-n-2", "b"), "blocked: a on d-n-1 failed: simulated failure");
	expect_in_plan("d", "~ run  b on d-n-2  known after a on d-n-1\n");
	put_provider("sim", "", QUICK);
	settle();
	cr_assert_eq(ctl("d", "retry"), 0);
	rest("d", true);
}

Test(order, serial_is_never_exceeded)
{
	two_roles(8, "serial = 1\n", "serial = 3\n", "create-delay = 5ms\nrole-delay = 10ms\n");
	open_engine();
	rest("d", true);
	cr_expect_eq(most_at_once("a"), 1);
	cr_expect_leq(most_at_once("b"), 3);
	cr_expect_eq(runs_of("d"), 16);
}

Test(order, max_parallel_is_never_exceeded)
{
	two_roles(12, "", "", "create-delay = 10ms\nrole-delay = 10ms\n");
	put_provider("sim", "max-parallel = 3\n", "create-delay = 10ms\nrole-delay = 10ms\n");
	open_engine();
	rest("d", true);
	cr_expect_leq(most_at_once(NULL), 3);
	cr_expect_eq(runs_of("d"), 24);
	cr_expect_eq(machines("sim", NULL), 12);
}

Test(order, one_run_at_a_time_per_node)
{
	two_roles(1, "", "", "create-delay = 5ms\nrole-delay = 20ms\n");
	open_engine();
	rest("d", true);
	cr_expect_eq(most_at_once(NULL), 1);
}

Test(order, max_down_lets_changes_through_one_by_one)
{
	put_provider("sim", "", "create-delay = 5ms\nrole-delay = 20ms\n");
	put_role("a", "");
	put(D_INI, "[deployment]\nprovider = sim\n[nodes n]\ncount = 5\nmax-down = 1\nroles = a\n");
	open_engine();
	rest("d", true);
	cr_expect_gt(most_at_once("a"), 1, "first runs are free");
	int64_t before = locked(model->next_seq);
	put("roles/a/apply", "#!/bin/sh\necho other\n");
	rest("d", true);
	size_t now = 0, most = 0;
	model_rdlock(model);
	for (int64_t s = before; s < model->next_seq; s++) {
		const char *text = model_event(model, s)->text;
		if (model_event(model, s)->role && !strcmp(text, "running") && ++now > most)
			most = now;
		else if (model_event(model, s)->role && is_run_end(text))
			now--;
	}
	model_unlock(model);
	cr_expect_eq(most, 1);
	cr_expect_eq(runs_of("d"), 10);
}

Test(order, max_down_stops_at_a_broken_node)
{
	put_provider("sim", "", QUICK);
	put_role("a", "retries = 0\n");
	put(D_INI, "[deployment]\nprovider = sim\n[nodes n]\ncount = 3\nmax-down = 1\nroles = a\n");
	open_engine();
	rest("d", true);
	put_provider("sim", "", FAILING);
	settle();
	put("roles/a/apply", "#!/bin/sh\necho other\n");
	rest("d", false);
	cr_expect_eq(n_events(NULL, "a", "failed"), 1, "the others stay as they are");
	cr_expect_eq(runs_of("d"), 4);
	put_provider("sim", "", QUICK);
	settle();
	cr_assert_eq(ctl("d", "retry a"), 0);
	rest("d", true);
}

Test(order, max_down_counts_who_is_held)
{
	put_provider("sim", "", QUICK);
	put_role("a", "");
	put(D_INI, "[deployment]\nprovider = sim\n[nodes n]\ncount = 3\nmax-down = 1\nroles = a\n");
	open_engine();
	rest("d", true);
	cr_assert_eq(ctl_node("d-n-1", "hold for its disk"), 0);
	put("roles/a/apply", "#!/bin/sh\necho other\n");
	rest("d", false);
	cr_expect_eq(runs_of("d"), 3, "nobody else goes down");
	expect_has(why_of("d-n-2", "a"), "todo: max-down: ");
	expect_has(why_of("d-n-3", "a"), "todo: max-down: ");
	cr_assert_eq(ctl_node("d-n-1", "unhold"), 0);
	rest("d", true);
	cr_expect_eq(runs_of("d"), 6);
}

/* A machine put in the place of another is down until it has run what the old one had. */
Test(order, max_down_rebuilds_one_by_one)
{
	put_provider("sim", "", "create-delay = 5ms\nrole-delay = 20ms\n");
	put_role("a", "");
	put(D_INI, "[deployment]\nprovider = sim\n[nodes n]\ncount = 4\nmax-down = 2\nroles = a\n");
	open_engine();
	rest("d", true);
	int64_t before = locked(model->next_seq);
	put(D_INI, "[deployment]\nprovider = sim\n[nodes n]\ncount = 4\nmax-down = 2\nroles = a\nmemory = 64M\nimage = other\n");
	rest("d", false);
	cr_assert_eq(apply_id("d"), 0, "%s", refused_why);
	rest("d", true);
	size_t now = 0, most = 0;
	model_rdlock(model);
	for (int64_t s = before; s < model->next_seq; s++) {
		const char *text = model_event(model, s)->text;
		if (!strcmp(text, "rebuilding") && ++now > most)
			most = now;
		else if (model_event(model, s)->role && is_run_end(text))
			now--;
	}
	model_unlock(model);
	cr_expect_eq(most, 2);
	cr_expect_eq(n_events(NULL, NULL, "rebuilding"), 4);
}

/* The first cause is told, however far away it is. */
Test(order, a_long_chain)
{
	put_provider("sim", "", FAILING);
	put_role("r0", "retries = 0\n");
	for (int i = 1; i < 100; i++) {
		_cleanup_free_ char *name = xasprintf("r%d", i), *on = xasprintf("requires = r%d\n", i - 1);
		put_role(name, on);
	}
	put(D_INI, "[deployment]\nprovider = sim\n[nodes n]\ncount = 1\nroles = r99\n");
	open_engine();
	rest("d", false);
	expect_has(why_of("d-n-1", "r99"), "blocked: r0 on d-n-1 failed: simulated failure");
}

Test(order, a_failure_is_tried_again_and_then_said)
{
	two_roles(1, "retries = 2\nbackoff = 20ms\n", "requires = a\n", FAILING);
	open_engine();
	rest("d", false);
	cr_expect_eq(n_runs("d-n-1", "a"), 3);
	cr_expect_eq(n_events("d-n-1", "a", "failed: simulated failure"), 3);
	expect_has(why_of("d-n-1", "a"), "error: simulated failure (after 3 attempts)");
	expect_has(why_of("d-n-1", "b"), "blocked: a on d-n-1 failed: simulated failure");
	expect_has(dep_why("d"), "error: a on d-n-1 failed: simulated failure");
	cr_expect_eq(locked(deployment_state(dep("d"))), DS_ERROR);
	cr_expect_eq(n_events("d-n-1", "b", "running"), 0);

	put_provider("sim", "", QUICK);
	settle();
	cr_expect_eq(n_runs("d-n-1", "a"), 3, "nothing is tried again by itself");
	cr_expect_eq(ctl("d", "retry nosuch"), -EINVAL);
	cr_assert_eq(ctl_role("d-n-1", "a", "retry"), 0);
	rest("d", true);
	cr_expect_eq(n_runs("d-n-1", "a"), 4);
}

Test(order, a_waiting_retry_says_so)
{
	two_roles(1, "retries = 2\nbackoff = 1h\n", "requires = a\n", FAILING);
	open_engine();
	eventually(node_role_find(node("d-n-1"), "a") && nr_of("d-n-1", "a")->retry_at);
	expect_has(why_of("d-n-1", "a"), "todo: attempt 1 failed, next in ");
	expect_has(why_of("d-n-1", "b"), "blocked: waiting for a on d-n-1, which failed and will be tried again: simulated failure");
	expect_has(dep_why("d"), "0 running; a on d-n-1 is tried again after: simulated failure");
	bool settled, reached;
	model_rdlock(model);
	deployment_rest(model, dep("d"), &settled, &reached, NULL);
	model_unlock(model);
	cr_expect_not(settled, "a retry's timer counts as will");
	put_provider("sim", "", QUICK);
	settle();
	cr_assert_eq(ctl_node("d-n-1", "retry"), 0);
	rest("d", true);
}

Test(order, other_content_is_a_try_of_its_own)
{
	two_roles(1, "retries = 0\n", "requires = a\n", FAILING);
	open_engine();
	rest("d", false);
	put_provider("sim", "", QUICK);
	settle();
	put("roles/a/apply", "#!/bin/sh\necho mended\n");
	rest("d", true);
	cr_expect_eq(n_runs("d-n-1", "a"), 2);
}

Test(order, content_put_back_after_a_failure_is_run_again)
{
	two_roles(1, "retries = 0\n", "", QUICK);
	open_engine();
	rest("d", true);
	put_provider("sim", "", FAILING);
	settle();
	put("roles/a/apply", "#!/bin/sh\nexit 1\n");
	rest("d", false);
	put_provider("sim", "", QUICK);
	settle();
	put("roles/a/apply", "#!/bin/sh\ntrue\n");
	rest("d", true);
	cr_expect_eq(n_runs("d-n-1", "a"), 3);
}

Test(order, once_is_never_tried_again)
{
	two_roles(2, "once = yes\nretries = 5\nbackoff = 10ms\n", "requires = a\n", FAILING);
	open_engine();
	rest("d", false);
	cr_expect_eq(n_runs("d-n-1", "a"), 1);
	cr_expect_eq(n_runs("d-n-2", "a"), 1);
	cr_expect(state_is("d-n-1", "a", NR_ERROR));
	put_provider("sim", "", QUICK);
	settle();
	cr_assert_eq(ctl_role("d-n-1", "a", "accept"), 0);
	cr_assert_eq(ctl_role("d-n-2", "a", "run"), 0);
	rest("d", true);
	cr_expect_eq(n_runs("d-n-1", "a"), 1);
	cr_expect_eq(n_runs("d-n-2", "a"), 2);
}

Test(order, once_is_confirmed_when_it_is_due_again)
{
	two_roles(1, "once = yes\n", "requires = a\n", QUICK);
	open_engine();
	rest("d", true);
	put("roles/a/apply", "#!/bin/sh\necho other\n");
	rest("d", false);
	expect_in_plan("d", ": 1 run, 1 confirm\n~ run  a on d-n-1  confirm: content roles/a\n");
	expect_has(why_of("d-n-1", "a"), "proposed: ");
	cr_assert_eq(ctl("d", "apply"), 0);
	rest("d", false);
	cr_expect_eq(n_runs("d-n-1", "a"), 1, "never a second time by itself");
	cr_assert_eq(apply_id("d"), 0, "%s", refused_why);
	rest("d", true);
	cr_expect_eq(n_runs("d-n-1", "a"), 2);
}

Test(order, a_hanging_run_ends_at_its_timeout)
{
	two_roles(1, "timeout = 1s\nretries = 0\n", "requires = a\n", "create-delay = 5ms\nrole-delay = 1m\n");
	open_engine();
	rest("d", false);
	cr_expect(state_is("d-n-1", "a", NR_ERROR));
	expect_has(why_of("d-n-1", "a"), "error: timed out");
	cr_expect_eq(locked(nr_of("d-n-1", "a")->runs[0].result), RUN_TIMED_OUT);
}

/* Everything ends: active, or in a sentence. */
static void all_ends(int count, const char *fake)
{
	_cleanup_free_ char *doc = xasprintf("[deployment]\nprovider = sim\n[nodes n]\ncount = %d\nroles = a, b\n", count);
	put_provider("sim", "", fake);
	put_role("a", "retries = 3\nbackoff = 10ms\n[output token]\n");
	put_role("b", "requires = a\nretries = 3\nbackoff = 10ms\n");
	put(D_INI, doc);
	open_engine();
	bool settled = holds_within(PATIENCE_MS, at_rest("d", true) || at_rest("d", false));
	cr_assert(settled, "%s", dep_why("d"));
	model_rdlock(model);
	for (size_t i = 0; i < dep("d")->n_nodes; i++) {
		struct node *n = dep("d")->nodes[i];
		_cleanup_buf_ struct buf why = {0};
		node_why(model, n, &why);
		cr_expect_gt(strlen(strchr(buf_str(&why), ':')), 3, "node %s: %s", n->row.name, buf_str(&why));
		cr_expect(node_state(n) == NS_READY || node_state(n) == NS_ERROR, "node %s: %s", n->row.name, buf_str(&why));
		for (size_t k = 0; k < n->n_roles; k++) {
			_cleanup_buf_ struct buf b = {0};
			node_role_why(model, n->roles[k], &b);
			enum node_role_state s = node_role_state(n->roles[k]);
			cr_expect(
			        s == NR_ACTIVE || s == NR_ERROR || s == NR_BLOCKED, "%s on %s: %s", n->roles[k]->row.role, n->row.name, buf_str(&b));
			cr_expect_gt(strlen(strchr(buf_str(&b), ':')), 3, "%s", buf_str(&b));
		}
	}
	model_unlock(model);
}

Test(order, failures_end)
{
	all_ends(60, "create-delay = 5ms\nrole-delay = 5ms\nfailure-rate = 0.3\n");
	cr_expect_gt(n_events(NULL, NULL, "failed"), 10);
}

Test(order, hangs_end)
{
	put_role("a", "retries = 3\nbackoff = 10ms\ntimeout = 1s\n");
	put("providers/sim/provider.ini", "[provider]\ntype = fake\ntimeout = 1s\n[fake]\ncreate-delay = 5ms\nrole-delay = 5ms\nhang-rate = 0.2\n");
	put(D_INI, "[deployment]\nprovider = sim\n[nodes n]\ncount = 20\nroles = a\n");
	open_engine();
	cr_assert(holds_within(2 * PATIENCE_MS, at_rest("d", true) || at_rest("d", false)), "%s", dep_why("d"));
	cr_expect_gt(n_events(NULL, NULL, "timed-out"), 0);
	cr_expect_eq(machines("sim", NULL), 20, "who asks twice gets one machine");
}

/* ---- outputs that expire ---- */

static void put_tokens(const char *ttl, int workers)
{
	_cleanup_free_ char *role = xasprintf("[output token]\nsecret = yes\n%s\n", ttl);
	put_provider("sim", "", QUICK);
	put_role("manager", role);
	put_role("worker", "wants = manager.token\n");
	_cleanup_free_ char *text =
	        xasprintf("[deployment]\nprovider = sim\n[nodes m]\ncount = 1\nroles = manager\n[nodes w]\ncount = %d\nroles = worker\n", workers);
	put(D_INI, text);
}

/* Under the lock, as all that eventually() is asked. */
static int64_t has_run(const char *node, const char *role)
{
	const struct node *n = model_node(model, node);
	const struct node_role *nr = n ? node_role_find(n, role) : NULL;
	return nr ? (int64_t)nr->n_runs : -1;
}

static int64_t runs_on(const char *node, const char *role)
{
	return locked(has_run(node, role));
}

Test(order, an_output_that_expired_is_made_anew_for_who_needs_it)
{
	put_tokens("ttl = 1h", 1); /* however slow the machine is */
	open_engine();
	rest("d", true);
	put_tokens("ttl = 2s", 1);
	for (int64_t end = monotonic_ms() + 2100; monotonic_ms() < end;)
		nap();
	rest("d", true);
	cr_expect_eq(runs_on("d-m-1", "manager"), 1, "by itself it is not");
	put_tokens("ttl = 2s", 3);
	eventually(has_run("d-w-3", "worker") == 1);
	rest("d", true);
	cr_expect_eq(runs_on("d-m-1", "manager"), 2, "for both at once");
	cr_expect_eq(runs_on("d-w-1", "worker"), 1, "another value is no reason to run again");
	cr_expect_eq(runs_on("d-w-2", "worker"), 1);
	cr_expect_eq(n_events(NULL, NULL, "due: output 'token', which worker on d-w-"), 1);
}

Test(order, an_output_that_is_good_is_handed_out_as_it_is)
{
	put_tokens("ttl = 1h", 1);
	open_engine();
	rest("d", true);
	put_tokens("ttl = 1h", 2);
	eventually(has_run("d-w-2", "worker") == 1);
	rest("d", true);
	cr_expect_eq(runs_on("d-m-1", "manager"), 1);
}
