/* What outlives the daemon: what is in force, what was wanted, what was under way. A killed daemon is for the tests on a real mount. */
#include "tests/unit/test_engine.h"

TestSuite(restart, .init = make_world, .fini = end_world);

static void converged(void)
{
	put_web();
	open_engine();
	rest("d", true);
}

static void reopen(void)
{
	close_engine();
	open_engine();
}

Test(restart, nothing_happens_again)
{
	converged();
	int64_t run = last_run("d-n-2", "web");
	reopen();
	rest("d", true);
	cr_expect_eq(last_run("d-n-2", "web"), run);
	cr_expect_eq(runs_of("d"), 4);
	cr_expect_eq(machines("sim", NULL), 2);
	expect_plan("d", "plan -: nothing to do\n");
	cr_expect_str_eq(locked(nr_of("d-n-1", "base")->outputs[0].key), "token");
	/* what past runs were made of is known still */
	cr_assert_eq(ctl("d", "pause"), 0);
	edit("roles/web/role.ini", "default = 3", "default = 4");
	settle();
	expect_in_plan("d", "~ run  web on d-n-1  quorum 3 -> 4\n");
}

Test(restart, a_change_made_meanwhile_is_seen)
{
	converged();
	close_engine();
	edit(D_INI, "count = 2", "count = 3");
	open_engine();
	rest("d", true);
	cr_expect_eq(machines("sim", NULL), 3);
	cr_expect_eq(n_runs("d-n-1", "web"), 2);
}

Test(restart, in_the_middle_of_creations)
{
	size_t made;
	put_web();
	put_provider("sim", "max-parallel = 5\n", "create-delay = 100ms\nrole-delay = 50ms\n");
	edit(D_INI, "count = 2", "count = 20");
	open_engine();
	eventually(dep("d")->n_running > 0);
	for (int i = 0; i < 4; i++) {
		close_engine();
		open_engine();
		nap();
	}
	rest("d", true);
	cr_expect_eq(machines("sim", &made), 20);
	cr_expect_leq(made, 20, "no machine was made twice");
	cr_expect_eq(locked(node("d-n-7")->row.incarnation), 1);
}

Test(restart, in_the_middle_of_runs)
{
	put_web();
	put_provider("sim", "", "create-delay = 5ms\nrole-delay = 300ms\n");
	open_engine();
	eventually(dep("d")->n_running == 2);
	reopen();
	rest("d", true);
	cr_expect(state_is("d-n-1", "base", NR_ACTIVE));
	cr_expect_eq(machines("sim", NULL), 2);
}

Test(restart, a_once_role_that_was_cut_short_asks)
{
	put_web();
	put_provider("sim", "", "create-delay = 5ms\nrole-delay = 300ms\n");
	put_role("base", "once = yes\n");
	open_engine();
	eventually(dep("d")->n_running == 2);
	reopen();
	rest("d", false);
	cr_expect_eq(n_runs("d-n-1", "base"), 1, "never a second time by itself");
	expect_has(why_of("d-n-1", "base"), "error: outcome unknown");
	cr_expect_eq(ctl_role("d-n-1", "base", "retry"), -EBUSY);
	cr_assert_eq(ctl_role("d-n-1", "base", "accept"), 0);
	cr_assert_eq(ctl_role("d-n-2", "base", "run"), 0);
	rest("d", true);
	cr_expect_eq(n_runs("d-n-1", "base"), 1);
	cr_expect_eq(n_runs("d-n-2", "base"), 2);
}

Test(restart, what_ran_on_the_old_machine_is_not_active_while_it_is_rebuilt)
{
	converged();
	put_provider("sim", "", "create-delay = 1s\nrole-delay = 2ms\n");
	settle();
	cr_assert_eq(ctl_node("d-n-1", "rebuild"), 0);
	settle();
	cr_assert_eq(apply_id("d"), 0, "%s", refused_why);
	eventually(node("d-n-1")->rebuilding);
	cr_expect(locked(!node("d-n-1")->rebuilding || !(state_is("d-n-1", "base", NR_ACTIVE) || state_is("d-n-1", "web", NR_ACTIVE))));
	cr_expect(locked(!node("d-n-1")->rebuilding || dep("d")->n_active < 3));
	rest("d", true);
}

Test(restart, in_the_middle_of_a_release)
{
	converged();
	put_provider("sim", "", "create-delay = 300ms\nrole-delay = 2ms\n");
	settle();
	edit(D_INI, "count = 2", "count = 1");
	rest("d", false);
	cr_assert_eq(apply_id("d"), 0, "%s", refused_why);
	eventually(model_node(model, "d-n-2") && node("d-n-2")->row.phase == NODE_RELEASING);
	reopen();
	rest("d", true);
	eventually(!model_node(model, "d-n-2"));
	cr_expect_eq(machines("sim", NULL), 1);
}

Test(restart, in_the_middle_of_a_rebuild)
{
	converged();
	put_provider("sim", "", "create-delay = 300ms\nrole-delay = 2ms\n");
	settle();
	cr_assert_eq(ctl_node("d-n-2", "rebuild"), 0);
	rest("d", false);
	cr_assert_eq(apply_id("d"), 0, "%s", refused_why);
	eventually(node("d-n-2")->row.phase == NODE_RELEASING);
	reopen();
	rest("d", true);
	cr_expect_eq(locked(node("d-n-2")->row.incarnation), 2);
	cr_expect_eq(machines("sim", NULL), 2);
	cr_expect_eq(n_runs("d-n-2", "base"), 2);
}

/* ---- documents ---- */

Test(restart, a_document_with_a_mistake_keeps_the_last_good_version)
{
	converged();
	edit(D_INI, "count = 2", "count = two");
	rest("d", false);
	expect_has(dep_why("d"), "invalid: ");
	expect_has(dep_why("d"), "deployment.ini:");
	cr_expect_eq(locked(dep("d")->n_nodes), 2);
	reopen();
	rest("d", false);
	expect_has(dep_why("d"), "(the last good version stays in force)");
	cr_expect_eq(locked(dep("d")->n_nodes), 2);
	cr_expect(state_is("d-n-1", "web", NR_ACTIVE));
	cr_expect_eq(runs_of("d"), 4);
	edit(D_INI, "count = two", "count = 3");
	rest("d", true);
	cr_expect_eq(machines("sim", NULL), 3);
}

Test(restart, a_broken_role_keeps_the_content_in_force)
{
	converged();
	cr_assert_eq(ctl("d", "pause"), 0);
	drop("roles/web/apply");
	settle();
	cr_expect(locked(dep("d")->invalid));
	reopen();
	cr_expect(locked(dep("d")->invalid));
	expect_due("d", "");
	cr_assert_eq(ctl("d", "resume"), 0);
	/* a retry or a new run uses what is in force, not what lies in the tree */
	cr_assert_eq(ctl_role("d-n-1", "web", "run"), 0);
	eventually(nr_of("d-n-1", "web")->n_runs == 2 && state_is("d-n-1", "web", NR_ACTIVE));
}

Test(restart, a_document_that_disappears_destroys_nothing)
{
	converged();
	_cleanup_free_ char *text = get(D_INI);
	drop("deployments/d");
	settle();
	cr_expect_eq(locked(deployment_state(dep("d"))), DS_ORPHANED);
	expect_has(dep_why("d"), "orphaned: its document is gone; its 2 nodes stay");
	cr_expect_eq(machines("sim", NULL), 2);
	expect_plan("d", "plan -: nothing to do\n");
	reopen();
	eventually(dep("d")->orphaned);
	cr_expect_eq(locked(dep("d")->n_nodes), 2);
	cr_expect_eq(set_value("d", "nodes n", "count", "3"), -EBUSY);
	put(D_INI, text);
	rest("d", true);
	cr_expect_eq(runs_of("d"), 4, "it goes on where it was");
	edit(D_INI, "count = 2", "count = 3");
	rest("d", true);
}

/* What nobody describes any more lacks nothing. */
Test(restart, the_plan_of_an_orphan_makes_nothing)
{
	put_web();
	put_provider("sim", "", "create-delay = 1m\n");
	open_engine();
	eventually(node("d-n-1")->row.phase == NODE_CREATING);
	drop("deployments/d");
	settle();
	cr_expect_eq(locked(deployment_state(dep("d"))), DS_ORPHANED);
	expect_plan("d", "plan -: nothing to do\n");
}

Test(restart, an_orphan_is_destroyed_when_told)
{
	converged();
	drop("deployments/d");
	settle();
	cr_assert_eq(ctl("d", "destroy"), 0, "%s", refused_why);
	eventually(!model_deployment(model, "d"));
	cr_expect_eq(machines("sim", NULL), 0);
	reopen();
	settle();
	cr_expect(locked(!model_deployment(model, "d")));
}

Test(restart, the_whole_repo_unreadable_changes_nothing)
{
	converged();
	drop("deployments");
	drop("roles");
	drop("providers");
	reopen();
	eventually(dep("d")->orphaned);
	cr_expect_eq(locked(dep("d")->n_nodes), 2);
	cr_expect(state_is("d-n-1", "web", NR_ACTIVE));
	cr_expect_eq(machines("sim", NULL), 2);
	put_web();
	rest("d", true);
	cr_expect_eq(runs_of("d"), 4);
}

Test(restart, a_mount_answers_only_for_what_it_was_told)
{
	static const char *const only[] = {"e", NULL};
	put_web();
	put("deployments/e/deployment.ini", "[deployment]\nlike = d\n");
	open_only(only);
	rest("e", true);
	rest("d", false);
	cr_expect_eq(locked(deployment_state(dep("d"))), DS_ELSEWHERE);
	cr_expect_eq(machines("sim", NULL), 2);
	cr_expect_eq(ctl("d", "apply"), -EPERM);
	cr_expect_eq(ctl("d", "destroy"), -EPERM);
}

/* ---- the state directory ---- */

Test(restart, a_state_directory_belongs_to_one_repo)
{
	_cleanup_err_ struct err *err = NULL;
	converged();
	close_engine();
	snprintf(repo, sizeof repo, "%s/other", world);
	cr_assert_eq(mkdir(repo, 0755), 0);
	cr_expect_eq(try_open(NULL, &err), -EBUSY);
	cr_expect(strstr(err_msg(err), "belongs to repo"), "%s", err_msg(err));
}

Test(restart, a_database_that_is_none_is_said)
{
	_cleanup_err_ struct err *err = NULL;
	_cleanup_free_ char *db = path_join(state_dir, "rebarfs.db");
	put_web();
	char text[200];
	memset(text, 'x', sizeof text);
	cr_assert_eq(file_write_atomic(AT_FDCWD, db, text, sizeof text, 0600, NULL), 0);
	cr_expect_lt(try_open(NULL, &err), 0);
	cr_expect(strstr(err_msg(err), "rebarfs.db"), "%s", err_msg(err));
}

/* ---- another plug-in under the same name ---- */

static char *why_of_provider(const char *name)
{
	struct buf b = {0};
	model_rdlock(model);
	provider_why(model_provider(model, name), &b);
	model_unlock(model);
	return buf_detach(&b, NULL);
}

Test(restart, a_provider_without_machines_may_become_another)
{
	put_web();
	put("providers/sim/provider.ini", "[provider]\ntype = ssh\n");
	open_engine();
	settle();
	eventually(model_provider(model, "sim")->listed);
	put_provider("sim", "", QUICK);
	rest("d", true);
	cr_expect_eq(machines("sim", NULL), 2);
}

struct look {
	sem_t sem;
	bool rests;
};

/* On the engine's thread, when `wait` would look for the first time. */
static void look_at_rest(void *arg)
{
	struct look *l = arg;
	l->rests = locked(at_rest("d", false));
	sem_post(&l->sem);
}

Test(restart, a_provider_with_machines_stays_what_it_is)
{
	converged();
	put("providers/sim/provider.ini", "[provider]\ntype = exec\n[exec]\nprogram = sh\n");
	settle();
	expect_has(why_of_provider("sim"), "its type was 'fake' and is 'exec' now, which waits until its 2 machines are given up");
	eventually(node_state(node("d-n-1")) == NS_READY);
	for (int i = 0; i < 2; i++) { /* the restart finds no more than the word of the state directory */
		reopen();
		eventually(model_provider(model, "sim")->problem || model_provider(model, "sim")->error);
		expect_has(why_of_provider("sim"), "'fake'");
		cr_expect_not(locked(node("d-n-1")->gone));
		cr_expect_eq(machines("sim", NULL), 2);
	}
	put_provider("sim", "", QUICK);
	struct look look = {0};
	sem_init(&look.sem, 0, 0);
	engine_settle(engine, look_at_rest, &look);
	wait_sem(&look.sem, "settle");
	cr_expect_not(look.rests, "who has mended the provider and waits is told what was wrong before");
	rest("d", true);
	cr_expect_eq(n_runs("d-n-1", "web"), 1);
	cr_assert_eq(ctl("d", "destroy"), 0);
	put("providers/sim/provider.ini", "[provider]\ntype = exec\n[exec]\nprogram = sh\n");
	settle();
	eventually(!model_provider(model, "sim")->problem && !strcmp(model_provider(model, "sim")->ops->type, "exec"));
	cr_expect_eq(machines("sim", NULL), 0);
}

/* ---- lies ---- */

Test(restart, a_machine_that_vanished_is_said_and_replaced_only_when_told)
{
	put_web();
	put_provider("sim", "", "create-delay = 5ms\nrole-delay = 2ms\nlie-rate = 1\n");
	edit(D_INI, "count = 2", "count = 1");
	open_engine();
	/* it was reported and is not there: either its roles fail, or the list says so */
	eventually(node_state(node("d-n-1")) == NS_ERROR || state_is("d-n-1", "base", NR_ERROR) || nr_of("d-n-1", "base")->retry_at);
	reopen(); /* lists what exists first */
	eventually(node("d-n-1")->gone);
	expect_has(why_of("d-n-1", NULL), "error: gone: its provider no longer lists it; only 'rebuild' replaces it");
	put_provider("sim", "", QUICK);
	rest("d", false);
	cr_expect_eq(machines("sim", NULL), 0);
	cr_assert_eq(ctl_node("d-n-1", "rebuild"), 0, "%s", refused_why);
	rest("d", false);
	cr_assert_eq(apply_id("d"), 0, "%s", refused_why);
	rest("d", true);
	cr_expect_eq(machines("sim", NULL), 1);
}
