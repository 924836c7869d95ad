/* From a description to machines and roles, and from a change of the description to precisely what depends on it. */
#include "tests/unit/test_engine.h"

TestSuite(converge, .init = make_world, .fini = end_world);

static void converged(void)
{
	put_web();
	open_engine();
	rest("d", true);
}

/* Nothing starts while we look at what would. */
static void paused(void)
{
	converged();
	cr_assert_eq(ctl("d", "pause"), 0);
}

Test(converge, first_convergence)
{
	converged();
	cr_expect_eq(machines("sim", NULL), 2);
	cr_expect_eq(runs_of("d"), 4);
	expect_due("d", "");
	expect_plan("d", "plan -: nothing to do\n");
	expect_has(dep_why("d"), "active: ");
	expect_has(why_of("d-n-1", NULL), "ready: at 198.18.");
	expect_has(why_of("d-n-2", "web"), "active: run ");
	cr_expect_eq(locked(deployment_state(dep("d"))), DS_ACTIVE);
	cr_expect_str_eq(locked(nr_of("d-n-1", "base")->outputs[0].key), "token");
	/* every web came after its base */
	cr_expect_lt(event_at("d-n-1", "base", "active", false), event_at("d-n-1", "web", "running", false));
	cr_expect_lt(event_at("d-n-2", "base", "active", false), event_at("d-n-2", "web", "running", false));
}

Test(converge, nothing_moves_when_nothing_changed)
{
	converged();
	edit(D_INI, "two of them", "a pair");
	put("roles/web/notes.txt~", "an editor's leftover");
	settle();
	rest("d", true);
	expect_due("d", "");
	cr_expect_eq(runs_of("d"), 4);
}

Test(converge, a_script_makes_its_own_role_due)
{
	paused();
	put("roles/web/apply", "#!/bin/sh\nfalse\n");
	settle();
	expect_due("d", "web on d-n-1, web on d-n-2");
	expect_in_plan("d", "~ run  web on d-n-1  content roles/web");
	expect_has(why_of("d-n-1", "web"), "todo: paused: ");
	cr_assert_eq(ctl("d", "resume"), 0);
	rest("d", true);
	cr_expect_eq(runs_of("d"), 6);
}

Test(converge, a_parameter_makes_its_own_role_due)
{
	paused();
	put(D_INI, "[deployment]\nprovider = sim\nroles = base\n[nodes n]\ncount = 2\nroles = web\n[params web]\nquorum = 5\n");
	settle();
	expect_plan("d", "plan -: 2 run\n~ run  web on d-n-1  quorum 3 -> 5\n~ run  web on d-n-2  quorum 3 -> 5\n");
	cr_assert_eq(ctl("d", "resume"), 0);
	rest("d", true);
	cr_expect_eq(runs_of("d"), 6);
	/* And back: what ran with 3 long ago did not run with it last. */
	cr_assert_eq(ctl("d", "pause"), 0);
	edit(D_INI, "quorum = 5", "quorum = 3");
	settle();
	expect_in_plan("d", "quorum 5 -> 3");
}

Test(converge, a_default_makes_its_own_role_due)
{
	paused();
	edit("roles/web/role.ini", "default = 3", "default = 4");
	settle();
	expect_plan("d", "plan -: 2 run\n~ run  web on d-n-1  quorum 3 -> 4\n~ run  web on d-n-2  quorum 3 -> 4\n");
	edit("roles/web/role.ini", "default = 4", "default = 3\nhelp = how many must agree");
	settle();
	expect_plan("d", "plan -: nothing to do\n");
}

Test(converge, a_parameter_of_one_group_makes_its_nodes_due)
{
	put_web();
	put(D_INI, "[deployment]\nprovider = sim\n[nodes a]\ncount = 1\nroles = web\n[nodes b]\ncount = 1\nroles = web\n");
	open_engine();
	rest("d", true);
	cr_assert_eq(ctl("d", "pause"), 0);
	put(D_INI,
	        "[deployment]\nprovider = sim\n[nodes a]\ncount = 1\nroles = web\n[nodes b]\ncount = 1\nroles = web\n[params web @b]\nquorum = 9\n");
	settle();
	expect_plan("d", "plan -: 1 run\n~ run  web on d-b-1  quorum 3 -> 9\n");
}

Test(converge, an_inherited_parameter_reaches_who_inherits_it)
{
	put_web();
	put("deployments/qa/deployment.ini", "[deployment]\nlike = d\n[nodes n]\ncount = 1\n");
	put("deployments/prod/deployment.ini", "[deployment]\nlike = d\n[nodes n]\ncount = 1\n[params web]\nquorum = 7\n");
	open_engine();
	rest("d", true);
	rest("qa", true);
	rest("prod", true);
	cr_assert_eq(ctl_root("pause"), 0);
	put(D_INI, "[deployment]\nprovider = sim\nroles = base\n[nodes n]\ncount = 2\nroles = web\n[params web]\nquorum = 5\n");
	settle();
	expect_in_plan("d", "~ run  web on d-n-1  quorum 3 -> 5");
	expect_plan("qa", "plan -: 1 run\n~ run  web on qa-n-1  quorum 3 -> 5\n");
	expect_plan("prod", "plan -: nothing to do\n");
	cr_assert_eq(ctl_root("resume"), 0);
	rest("d", true);
	rest("qa", true);
}

Test(converge, growth_reaches_whoever_wants_nodes)
{
	paused();
	edit(D_INI, "count = 2", "count = 3");
	settle();
	expect_in_plan("d", "plan -: 1 create, 4 run\n+ node d-n-3");
	expect_in_plan("d", "~ run  web on d-n-1   nodes + d-n-3, known after the address of d-n-3\n");
	expect_in_plan("d", "~ run  base on d-n-3  known after creation of d-n-3\n");
	expect_due("d", "web on d-n-1, web on d-n-2, base on d-n-3, web on d-n-3");
	expect_has(why_of("d-n-1", "web"), "blocked: waiting for the address of d-n-3");
	cr_assert_eq(ctl("d", "resume"), 0);
	rest("d", true);
	cr_expect_eq(n_runs("d-n-1", "base"), 1, "base does not want nodes");
	cr_expect_eq(n_runs("d-n-1", "web"), 2);
	cr_expect_eq(n_runs("d-n-3", "web"), 1);
	cr_expect_eq(machines("sim", NULL), 3);
}

Test(converge, shrinking_waits_for_the_plans_id)
{
	char old[9], id[9], verb[32];
	converged();
	put(D_INI, "[deployment]\nprovider = sim\nroles = base\n[nodes n]\ncount = 1\nroles = web\n");
	rest("d", false);
	expect_in_plan("d", "1 release, 1 confirm\n- node d-n-2  confirm: surplus of group n\n");
	expect_has(why_of("d-n-2", NULL), "ready: no longer wanted: its release is in the plan and waits for 'apply ID'");
	expect_has(dep_why("d"), "1 line of the plan destroys something and waits for 'apply ");
	cr_expect_eq(n_runs("d-n-1", "web"), 1, "a peer is a peer until its release is approved");
	plan_id_of("d", old);

	/* a bare apply destroys nothing */
	cr_assert_eq(ctl("d", "apply"), 0);
	rest("d", false);
	cr_expect_eq(machines("sim", NULL), 2);

	/* another edit is another plan */
	edit(D_INI, "count = 1", "count = 0");
	rest("d", false);
	snprintf(verb, sizeof verb, "apply %s", old);
	cr_expect_eq(ctl("d", verb), -ESTALE);
	cr_expect(strstr(refused_why, old) && strstr(refused_why, "read it again"), "%s", refused_why);
	cr_expect_eq(machines("sim", NULL), 2);
	edit(D_INI, "count = 0", "count = 1");
	rest("d", false);
	plan_id_of("d", id);
	cr_expect_str_eq(id, old, "the same plan has the same id");

	cr_assert_eq(ctl("d", verb), 0, "%s", refused_why);
	rest("d", true);
	eventually(!model_node(model, "d-n-2"));
	cr_expect_eq(machines("sim", NULL), 1);
	cr_expect_eq(n_runs("d-n-1", "web"), 2, "its table of nodes is shorter");
	cr_expect_eq(ctl("d", verb), -ESTALE);
}

Test(converge, max_destroy_bounds_one_apply)
{
	put_web();
	put(D_INI, "[deployment]\nprovider = sim\nmax-destroy = 1\n[nodes n]\ncount = 3\nroles = base\n");
	open_engine();
	rest("d", true);
	edit(D_INI, "count = 3", "count = 1");
	rest("d", false);
	cr_expect_eq(apply_id("d"), -EPERM);
	cr_expect(strstr(refused_why, "max-destroy"), "%s", refused_why);
	cr_expect_eq(machines("sim", NULL), 3);
	edit(D_INI, "count = 1", "count = 2");
	rest("d", false);
	cr_expect_eq(apply_id("d"), 0, "%s", refused_why);
	rest("d", true);
	cr_expect_eq(machines("sim", NULL), 2);
}

Test(converge, a_protected_node_is_not_given_up)
{
	converged();
	cr_assert_eq(ctl_node("d-n-2", "protect"), 0);
	edit(D_INI, "count = 2", "count = 0");
	rest("d", false);
	expect_in_plan("d", "protected: 'unprotect' it first");
	cr_expect_eq(apply_id("d"), -EPERM);
	cr_expect(strstr(refused_why, "node d-n-2 is protected"), "%s", refused_why);
	cr_expect_eq(ctl("d", "destroy"), -EPERM);
	cr_expect_eq(ctl_node("d-n-2", "rebuild"), -EINVAL, "it has no place to be rebuilt in");
	cr_expect_eq(ctl_node("d-n-2", "destroy"), -EPERM);
	cr_expect_eq(machines("sim", NULL), 2);
	cr_assert_eq(ctl_node("d-n-2", "unprotect"), 0);
	cr_expect_eq(apply_id("d"), 0, "%s", refused_why);
	rest("d", true);
	cr_expect_eq(machines("sim", NULL), 0);
}

Test(converge, a_protected_node_is_kept_before_others)
{
	converged();
	cr_assert_eq(ctl_node("d-n-2", "protect"), 0);
	edit(D_INI, "count = 2", "count = 1");
	rest("d", false);
	expect_in_plan("d", "- node d-n-1  confirm: surplus");
}

Test(converge, a_grown_back_group_takes_its_node_back)
{
	converged();
	edit(D_INI, "count = 2", "count = 1");
	rest("d", false);
	edit(D_INI, "count = 1", "count = 2");
	rest("d", true);
	cr_expect_eq(runs_of("d"), 4);
	cr_expect_eq(machines("sim", NULL), 2);
}

Test(converge, another_image_is_a_rebuild_that_asks)
{
	converged();
	put(D_INI, "[deployment]\nprovider = sim\nroles = base\n[nodes n]\ncount = 2\nroles = web\nimage = other\n");
	rest("d", false);
	expect_in_plan("d", "2 rebuild, 2 confirm\n! node d-n-1  confirm: image fake -> other: its disk is lost\n");
	expect_has(why_of("d-n-1", NULL), "differs from its description");
	cr_assert_eq(ctl("d", "apply"), 0);
	rest("d", false);
	cr_expect_eq(locked(node("d-n-1")->row.incarnation), 1);
	cr_assert_eq(apply_id("d"), 0, "%s", refused_why);
	rest("d", true);
	cr_expect_eq(locked(node("d-n-1")->row.incarnation), 2);
	cr_expect_str_eq(locked(node("d-n-2")->row.image), "other");
	cr_expect_eq(n_runs("d-n-1", "base"), 2, "a new machine has not run anything");
	cr_expect_eq(machines("sim", NULL), 2);
}

Test(converge, a_dropped_role_is_forgotten_and_a_new_one_runs)
{
	converged();
	put_role("extra", "");
	edit(D_INI, "roles = web", "roles = extra");
	rest("d", true);
	cr_expect(locked(!node_role_find(node("d-n-1"), "web")));
	cr_expect(state_is("d-n-1", "extra", NR_ACTIVE));
	cr_expect_eq(n_runs("d-n-1", "base"), 1);
}

Test(converge, two_deployments_share_a_provider)
{
	put_web();
	put("deployments/e/deployment.ini", "[deployment]\nprovider = sim\n[nodes n]\ncount = 3\nroles = base\n");
	open_engine();
	rest("d", true);
	rest("e", true);
	cr_expect_eq(machines("sim", NULL), 5);
	cr_assert_eq(ctl("e", "destroy"), 0);
	eventually(dep("e")->n_nodes == 0);
	cr_expect_eq(machines("sim", NULL), 2);
	cr_expect_eq(runs_of("d"), 4);
}

Test(converge, a_node_belongs_to_one_deployment)
{
	put_web();
	put("nodes/m1/node.ini", "[node]\nprovider = sim\n");
	put("deployments/e/deployment.ini", "[deployment]\nprovider = sim\n[nodes n]\nnodes = m1\nroles = base\n");
	put("deployments/f/deployment.ini", "[deployment]\nprovider = sim\n[nodes n]\nnodes = m1\nroles = base\n");
	open_engine();
	rest("d", true);
	_cleanup_buf_ struct buf all = {0};
	model_rdlock(model);
	for (size_t i = 0; i < model->desired->n_problems; i++)
		buf_addf(&all, "%s: %s\n", model->desired->problems[i].file, model->desired->problems[i].text);
	model_unlock(model);
	cr_expect(strstr(buf_str(&all), "m1"), "problems: %s", buf_str(&all));
	/* one of the two has it, or none; never both */
	cr_expect(locked(dep("e")->n_nodes + dep("f")->n_nodes) <= 1);
	cr_expect(locked(dep("e")->invalid || dep("f")->invalid));
	drop("deployments/f");
	rest("e", true);
	cr_expect_eq(locked(node("m1")->deployment), locked(dep("e")));
}

Test(converge, a_facts_input_is_known_after_creation)
{
	put_web();
	put_role("base", "wants = facts.memory, node\n");
	put(D_INI, "[deployment]\nprovider = sim\n[nodes n]\ncount = 1\nmemory = 512M\nroles = base\n");
	open_engine();
	rest("d", true);
	json_t *in = locked(node_role_inputs(model, nr_of("d-n-1", "base"), false));
	cr_assert_not_null(in);
	cr_expect_eq(json_integer_value(json_object_get(json_object_get(in, "facts"), "memory")), 512 << 20);
	cr_expect_str_eq(json_string_value(json_object_get(json_object_get(in, "node"), "name")), "d-n-1");
	cr_expect_null(json_object_get(in, "nodes"), "it did not ask for them");
	json_decref(in);
}

Test(converge, inputs_tell_their_origin)
{
	converged();
	json_t *in = locked(node_role_inputs(model, nr_of("d-n-1", "web"), true));
	cr_assert_not_null(in);
	json_t *quorum = json_object_get(json_object_get(in, "params"), "quorum");
	cr_expect_eq(json_integer_value(json_object_get(quorum, "value")), 3);
	cr_expect(strstr(json_string_value(json_object_get(quorum, "origin")), "web"), "%s", json_string_value(json_object_get(quorum, "origin")));
	cr_expect_eq(json_array_size(json_object_get(in, "nodes")), 2);
	json_decref(in);
}
