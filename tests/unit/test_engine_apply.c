/* What a person approves: with apply = manual everything, otherwise what destroys. */
#include "tests/unit/test_engine.h"

TestSuite(apply, .init = make_world, .fini = end_world);

#define MANUAL "apply = manual\n"

static void manual(void)
{
	put_web();
	put_provider("sim", MANUAL, QUICK);
	open_engine();
	rest("d", false);
}

static void approved(void)
{
	manual();
	cr_assert_eq(ctl("d", "apply"), 0, "%s", refused_why);
	rest("d", true);
}

Test(apply, nothing_happens_before)
{
	manual();
	cr_expect_eq(machines("sim", NULL), 0);
	cr_expect_eq(locked(deployment_state(dep("d"))), DS_PROPOSED);
	expect_has(dep_why("d"), "the plan waits for 'apply'");
	expect_has(why_of("d-n-1", NULL), "planned: waits for 'apply'");
	expect_has(why_of("d-n-1", "base"), "proposed: waits for 'apply'");
	expect_in_plan("d", ": 2 create, 4 run\n+ node d-n-1");
	expect_in_plan("d", "~ run  base on d-n-1  known after creation of d-n-1\n");
}

Test(apply, one_apply_carries_known_after_to_its_end)
{
	manual();
	cr_assert_eq(ctl("d", "apply"), 0, "%s", refused_why);
	rest("d", true);
	cr_expect_eq(runs_of("d"), 4);
	expect_plan("d", "plan -: nothing to do\n");
	cr_expect_eq(n_events(NULL, NULL, "apply "), 1);
}

Test(apply, by_its_id)
{
	manual();
	cr_expect_eq(ctl("d", "apply 00000000"), -ESTALE);
	cr_expect(strstr(refused_why, "read it again"), "%s", refused_why);
	cr_assert_eq(apply_id("d"), 0, "%s", refused_why);
	rest("d", true);
}

Test(apply, progress_does_not_change_the_id)
{
	char before[9], after[9];
	approved();
	put_provider("sim", MANUAL, "create-delay = 5ms\nrole-delay = 400ms\n");
	put("roles/base/apply", "#!/bin/sh\necho other\n");
	put("roles/web/apply", "#!/bin/sh\necho other\n");
	rest("d", false);
	cr_assert_eq(ctl("d", "apply"), 0);
	eventually(dep("d")->n_running > 0);
	plan_id_of("d", before);
	cr_expect_str_eq(before, "-");
	put("roles/extra/role.ini", "[role]\nrunner = none\n");
	edit(D_INI, "roles = web", "roles = web, extra");
	settle();
	plan_id_of("d", before);
	cr_expect_str_neq(before, "-");
	eventually(state_is("d-n-1", "base", NR_ACTIVE) && state_is("d-n-2", "base", NR_ACTIVE));
	plan_id_of("d", after);
	cr_expect_str_eq(before, after);
	cr_assert_eq(apply_id("d"), 0, "%s", refused_why);
	rest("d", true);
}

Test(apply, an_edit_after_it_is_not_approved)
{
	approved();
	put("roles/web/apply", "#!/bin/sh\necho other\n");
	rest("d", false);
	expect_in_plan("d", ": 2 run\n~ run  web on d-n-1  content roles/web");
	expect_has(why_of("d-n-1", "web"), "proposed: waits for 'apply'");
	cr_expect_eq(runs_of("d"), 4);
	put("roles/web/apply", "#!/bin/sh\ntrue\n");
	rest("d", true);
	cr_expect_eq(runs_of("d"), 4, "it is as it was");
}

Test(apply, an_edit_between_apply_and_run_is_not_approved)
{
	manual();
	cr_assert_eq(ctl("d", "pause"), 0);
	cr_assert_eq(ctl("d", "apply"), 0);
	put("roles/web/apply", "#!/bin/sh\necho other\n");
	settle();
	cr_assert_eq(ctl("d", "resume"), 0);
	rest("d", false);
	cr_expect(state_is("d-n-1", "base", NR_ACTIVE));
	cr_expect(state_is("d-n-1", "web", NR_PROPOSED));
	cr_expect_eq(runs_of("d"), 2);
	cr_assert_eq(ctl("d", "apply"), 0);
	rest("d", true);
}

Test(apply, outputs_that_were_unknown_are_approved_with_it)
{
	manual();
	put_role("join", "wants = base.token\n");
	edit(D_INI, "roles = web", "roles = web, join");
	rest("d", false);
	expect_in_plan("d", "join on d-n-1  known after");
	cr_assert_eq(ctl("d", "apply"), 0);
	rest("d", true);
	cr_expect_eq(n_runs("d-n-1", "join"), 1);
}

Test(apply, growth_waits_and_its_peers_wait_with_it)
{
	approved();
	edit(D_INI, "count = 2", "count = 3");
	rest("d", false);
	cr_expect_eq(machines("sim", NULL), 2);
	expect_in_plan("d", ": 1 create, 4 run\n+ node d-n-3");
	expect_in_plan("d", "~ run  web on d-n-1   known after creation of d-n-3\n");
	cr_expect(state_is("d-n-1", "web", NR_ACTIVE));
	cr_expect_eq(n_runs("d-n-1", "web"), 1, "the new one is no peer before its creation is approved");
	cr_assert_eq(ctl("d", "apply"), 0);
	rest("d", true);
	cr_expect_eq(machines("sim", NULL), 3);
	cr_expect_eq(n_runs("d-n-1", "web"), 2, "its table of nodes is longer, and that was in the plan");
}

Test(apply, it_outlives_a_restart)
{
	manual();
	cr_assert_eq(ctl("d", "pause"), 0);
	cr_assert_eq(ctl("d", "apply"), 0);
	close_engine();
	open_engine();
	cr_expect_eq(machines("sim", NULL), 0);
	cr_assert_eq(ctl("d", "resume"), 0);
	rest("d", true);
	cr_expect_eq(n_events(NULL, NULL, "apply "), 1);
}

Test(apply, a_released_node_takes_only_its_id)
{
	approved();
	edit(D_INI, "count = 2", "count = 1");
	rest("d", false);
	cr_assert_eq(ctl("d", "apply"), 0);
	rest("d", false);
	cr_expect_eq(machines("sim", NULL), 2);
	cr_assert_eq(apply_id("d"), 0);
	eventually(!model_node(model, "d-n-2"));
	cr_expect_eq(machines("sim", NULL), 1);
}

Test(apply, what_a_released_node_gave_out_counts_until_then)
{
	put_web();
	put_provider("sim", "", QUICK);
	put_role("join", "wants = base.token\n");
	edit(D_INI, "roles = web", "roles = web, join");
	open_engine();
	rest("d", true);
	edit(D_INI, "count = 2", "count = 1");
	rest("d", false);
	cr_expect_eq(n_runs("d-n-1", "join"), 1, "nobody has let the other one go");
	cr_assert_eq(apply_id("d"), 0, "%s", refused_why);
	eventually(!model_node(model, "d-n-2"));
	rest("d", true);
	cr_expect_eq(n_runs("d-n-1", "join"), 2);
}

Test(apply, a_node_by_itself_is_rebuilt_when_told_and_approved)
{
	approved();
	cr_assert_eq(ctl_node("d-n-1", "rebuild"), 0);
	rest("d", false);
	expect_in_plan("d", "! node d-n-1  confirm: rebuild was told: its disk is lost\n");
	cr_expect_eq(locked(node("d-n-1")->row.incarnation), 1);
	cr_assert_eq(apply_id("d"), 0, "%s", refused_why);
	eventually(node("d-n-1")->row.incarnation == 2 && node("d-n-1")->row.phase == NODE_READY);
	rest("d", false);
	expect_in_plan("d", "~ run  base on d-n-1  first on the new machine\n");
	cr_assert_eq(ctl("d", "apply"), 0);
	rest("d", true);
	cr_expect_eq(n_runs("d-n-2", "base"), 1);
	cr_expect_eq(machines("sim", NULL), 2);
}

Test(apply, destroy_stands_until_apply)
{
	approved();
	cr_assert_eq(ctl("d", "destroy"), 0);
	eventually(dep("d")->n_nodes == 0);
	rest("d", true);
	cr_expect_eq(machines("sim", NULL), 0);
	close_engine();
	open_engine();
	rest("d", true);
	cr_expect_eq(machines("sim", NULL), 0);
	cr_expect_eq(ctl("d", "apply 12345678"), -EINVAL);
	cr_assert_eq(ctl("d", "apply"), 0, "%s", refused_why);
	rest("d", true);
	cr_expect_eq(machines("sim", NULL), 2);
}
