/* What people write: verbs into ctl, values into desired/SECTION/KEY. */
#include "tests/unit/test_engine.h"

TestSuite(verbs, .init = make_world, .fini = end_world);

#define SLOW "create-delay = 5ms\nrole-delay = 1m\n"
#define FAILING "create-delay = 5ms\nrole-delay = 2ms\nfailure-rate = 1\n"

static void converged(void)
{
	put_web();
	open_engine();
	rest("d", true);
}

Test(verbs, hold_goes_on_without_it)
{
	converged();
	cr_assert_eq(ctl_node("d-n-2", "hold disk swap"), 0);
	expect_has(why_of("d-n-2", NULL), "held: by ");
	expect_has(why_of("d-n-2", NULL), ": disk swap");
	expect_has(why_of("d-n-2", "web"), "held: node d-n-2 is held by ");
	put("roles/web/apply", "#!/bin/sh\necho other\n");
	put("roles/base/apply", "#!/bin/sh\necho other\n");
	rest("d", true);
	cr_expect_eq(n_runs("d-n-1", "web"), 2);
	cr_expect_eq(n_runs("d-n-2", "web"), 1);
	expect_plan("d", "plan -: nothing to do\n");
	cr_assert_eq(ctl_node("d-n-2", "unhold"), 0);
	rest("d", true);
	cr_expect_eq(n_runs("d-n-2", "web"), 2);
	cr_expect_eq(ctl_node("d-n-2", "unhold"), -EINVAL);
}

Test(verbs, nobody_waits_for_a_held_node)
{
	put_web();
	put_provider("sim", "", FAILING);
	put_role("base", "retries = 0\n[output token]\n");
	put_role("web", "after = base\nwants = base.token\n");
	open_engine();
	rest("d", false);
	put_provider("sim", "", QUICK);
	settle();
	cr_assert_eq(ctl_node("d-n-2", "hold"), 0);
	cr_assert_eq(ctl_node("d-n-1", "retry"), 0);
	rest("d", true);
	cr_expect(state_is("d-n-1", "web", NR_ACTIVE));
	cr_expect_eq(n_runs("d-n-2", "web"), 0);
	cr_assert_eq(ctl_node("d-n-2", "unhold"), 0);
	cr_assert_eq(ctl_node("d-n-2", "retry"), 0);
	rest("d", true);
}

Test(verbs, a_held_node_outlives_a_restart)
{
	converged();
	cr_assert_eq(ctl_node("d-n-2", "hold disk swap"), 0);
	close_engine();
	open_engine();
	rest("d", true);
	expect_has(why_of("d-n-2", NULL), ": disk swap");
	cr_expect_eq(locked(node_state(node("d-n-2"))), NS_HELD);
}

Test(verbs, pause_starts_nothing_new)
{
	put_web();
	put_provider("sim", "", "create-delay = 5ms\nrole-delay = 300ms\n");
	open_engine();
	eventually(dep("d")->n_running > 0);
	cr_assert_eq(ctl("d", "pause"), 0);
	/* what runs goes on, and nothing follows it */
	rest("d", false);
	cr_expect_eq(locked(deployment_state(dep("d"))), DS_PAUSED);
	cr_expect_eq(n_events(NULL, "web", "running"), 0);
	expect_has(dep_why("d"), "paused: nothing new starts until 'resume'");
	close_engine();
	open_engine();
	rest("d", false);
	cr_expect_eq(locked(deployment_state(dep("d"))), DS_PAUSED, "it outlives a restart");
	cr_assert_eq(ctl("d", "resume"), 0);
	rest("d", true);
}

Test(verbs, pause_of_everything)
{
	put_web();
	put("deployments/e/deployment.ini", "[deployment]\nlike = d\n");
	open_engine();
	rest("d", true);
	rest("e", true);
	cr_assert_eq(ctl_root("pause"), 0);
	put("roles/web/apply", "#!/bin/sh\necho other\n");
	rest("d", false);
	rest("e", false);
	cr_expect_eq(runs_of("d"), 4);
	cr_assert_eq(ctl_root("resume"), 0);
	rest("d", true);
	rest("e", true);
	cr_expect_eq(runs_of("e"), 6);
}

Test(verbs, cancel_stops_what_runs)
{
	put_web();
	put_provider("sim", "", SLOW);
	open_engine();
	eventually(dep("d")->n_running == 2);
	expect_has(why_of("d-n-1", "base"), "running: run ");
	cr_assert_eq(ctl_role("d-n-1", "base", "cancel"), 0);
	eventually(state_is("d-n-1", "base", NR_ERROR));
	expect_has(why_of("d-n-1", "base"), "error: cancelled by ");
	cr_expect_eq(locked(nr_of("d-n-1", "base")->runs[0].result), RUN_CANCELLED);
	cr_assert_eq(ctl("d", "cancel"), 0);
	rest("d", false);
	cr_expect_eq(n_runs("d-n-1", "base"), 1, "what was cancelled is not tried again by itself");
	cr_expect_eq(n_runs("d-n-2", "base"), 1);
	cr_expect_eq(ctl("d", "cancel"), -EINVAL);
	cr_expect_eq(ctl_role("d-n-1", "base", "cancel"), -EINVAL);
	put_provider("sim", "", QUICK);
	settle();
	cr_assert_eq(ctl("d", "retry"), 0);
	rest("d", true);
}

Test(verbs, run_and_accept)
{
	converged();
	cr_assert_eq(ctl_role("d-n-1", "web", "run"), 0);
	eventually(nr_of("d-n-1", "web")->n_runs == 2 && state_is("d-n-1", "web", NR_ACTIVE));
	rest("d", true);
	cr_expect_eq(runs_of("d"), 5);

	cr_assert_eq(ctl("d", "pause"), 0);
	put("roles/web/apply", "#!/bin/sh\necho done by hand\n");
	settle();
	expect_due("d", "web on d-n-1, web on d-n-2");
	cr_assert_eq(ctl_role("d-n-1", "web", "accept"), 0);
	expect_due("d", "web on d-n-2");
	cr_assert_eq(ctl("d", "resume"), 0);
	rest("d", true);
	cr_expect_eq(n_runs("d-n-1", "web"), 2);
	cr_expect_eq(n_runs("d-n-2", "web"), 2);
	cr_expect_eq(n_events("d-n-1", "web", "accepted as done"), 1);
}

Test(verbs, destroy_and_apply)
{
	converged();
	cr_assert_eq(ctl("d", "destroy"), 0);
	rest("d", true);
	cr_expect_eq(machines("sim", NULL), 0);
	cr_assert_eq(ctl("d", "apply"), 0);
	rest("d", true);
	cr_expect_eq(machines("sim", NULL), 2);
	cr_expect_eq(runs_of("d"), 4);
}

Test(verbs, a_wanted_node_is_neither_destroyed_nor_forgotten)
{
	converged();
	cr_expect_eq(ctl_node("d-n-1", "destroy"), -EBUSY);
	cr_expect(strstr(refused_why, "still described by deployment d"), "%s", refused_why);
	cr_expect_eq(ctl_node("d-n-1", "forget"), -EBUSY);
	edit(D_INI, "count = 2", "count = 1");
	rest("d", false);
	cr_assert_eq(ctl_node("d-n-2", "forget"), 0);
	eventually(!model_node(model, "d-n-2"));
	cr_expect_eq(machines("sim", NULL), 2, "its machine was left as it is");
	rest("d", true);
}

Test(verbs, a_forgotten_machine_is_nobodys)
{
	converged();
	edit(D_INI, "count = 2", "count = 1");
	rest("d", false);
	cr_assert_eq(ctl_node("d-n-2", "forget"), 0);
	eventually(!model_node(model, "d-n-2"));
	close_engine();
	open_engine();
	rest("d", true);
	edit(D_INI, "count = 1", "count = 2");
	rest("d", true);
	cr_expect_eq(machines("sim", NULL), 3, "the new node is not the machine that was forgotten");
}

Test(verbs, unknown_ones_are_refused)
{
	converged();
	cr_expect_eq(ctl("d", "aply"), -EINVAL);
	cr_expect_str_eq(refused_why, "unknown verb 'aply' (did you mean 'apply'?)");
	cr_expect_eq(ctl("d", "pause now"), -EINVAL);
	cr_expect_eq(locked(deployment_state(dep("d"))), DS_ACTIVE, "a refused verb changes nothing");
	cr_expect_eq(ctl_root("resume please"), -EINVAL);
	cr_expect_eq(ctl_role("d-n-1", "web", "zzz"), -EINVAL);
	cr_expect(strstr(refused_why, "retry, run, accept"), "%s", refused_why);
	int64_t id = dep_id("d");
	const struct refusal *r = locked(model_refused(model, OBJECT_DEPLOYMENT, id));
	cr_assert_not_null(r);
	cr_expect_str_eq(r->file, "ctl");
	cr_expect_eq(write_request((struct write_request){.kind = OBJECT_NODE, .id = 123456, .text = "retry"}), -ESTALE);
}

Test(verbs, a_node_role_gone_meanwhile_is_stale)
{
	converged();
	int64_t id = locked(nr_of("d-n-1", "web")->row.id);
	edit(D_INI, "roles = web", "roles = base");
	rest("d", true);
	cr_expect_eq(write_request((struct write_request){.kind = OBJECT_NODE_ROLE, .id = id, .text = "run"}), -ESTALE);
}

/* ---- values ---- */

#define DOCUMENT                                                                                                                                     \
	"; two of them\n[deployment]\nprovider = sim\nroles = base   ; everywhere\n\n# the group\n[nodes n]\n  count   =  2\nroles = web\n\n"        \
	"[params web]\nquorum = 3 ; a majority\n; the end\n"

Test(verbs, a_value_is_stored_and_the_document_kept)
{
	put_web();
	put(D_INI, DOCUMENT);
	open_engine();
	rest("d", true);
	cr_assert_eq(set_value("d", "params web", "quorum", "5"), 0, "%s", refused_why);
	_cleanup_free_ char *text = get(D_INI);
	cr_expect_str_eq(text, "; two of them\n[deployment]\nprovider = sim\nroles = base   ; everywhere\n\n# the group\n[nodes n]\n  count   =  2\n"
	                       "roles = web\n\n[params web]\nquorum = 5 ; a majority\n; the end\n");
	rest("d", true);
	cr_expect_eq(runs_of("d"), 6);
	cr_assert_eq(set_value("d", "nodes n", "count", "3"), 0, "%s", refused_why);
	cr_expect_eq(locked(dep("d")->n_nodes), 3, "it is in force when the store returns");
	rest("d", true);
	cr_expect_eq(machines("sim", NULL), 3);
	cr_expect_eq(n_events(NULL, NULL, D_INI " [params web] quorum = 5"), 1);
}

Test(verbs, a_wrong_value_changes_nothing)
{
	put_web();
	put(D_INI, DOCUMENT);
	open_engine();
	rest("d", true);
	cr_expect_eq(set_value("d", "params web", "quorum", "many"), -EINVAL);
	cr_expect(strstr(refused_why, "whole number"), "%s", refused_why);
	cr_expect_eq(set_value("d", "params web", "quorum", "10"), -ERANGE);
	cr_expect(strstr(refused_why, "from 1 to 9"), "%s", refused_why);
	cr_expect_eq(set_value("d", "nodes n", "count", "-1"), -ERANGE);
	cr_expect_eq(set_value("d", "nodes n", "count", "2 of them"), -EINVAL);
	cr_expect_eq(set_value("d", "params web", "quorums", "3"), -EINVAL);
	cr_expect_eq(set_value("d", "deployment", "provider", "nosuch"), -EINVAL);
	cr_expect_eq(set_value("d", "nodes n", "roles", "web, nosuch"), -EINVAL);
	_cleanup_free_ char *text = get(D_INI);
	cr_expect_str_eq(text, DOCUMENT);
	rest("d", true);
	cr_expect_eq(runs_of("d"), 4);
	const struct refusal *r = locked(model_refused(model, OBJECT_DEPLOYMENT, dep("d")->row.id));
	cr_assert_not_null(r);
	cr_expect(strstr(r->why, "nosuch"), "%s", r->why);
}

Test(verbs, a_value_that_is_not_there_is_added_and_removed)
{
	put_web();
	open_engine();
	rest("d", true);
	cr_assert_eq(set_value("d", "params web @n", "quorum", "7"), 0, "%s", refused_why);
	_cleanup_free_ char *with = get(D_INI);
	cr_expect(strstr(with, "[params web @n]\nquorum = 7\n"), "%s", with);
	cr_expect(!strncmp(with, "; two of them\n", 14), "%s", with);
	cr_assert_eq(set_value("d", "params web @n", "quorum", ""), 0, "%s", refused_why);
	_cleanup_free_ char *without = get(D_INI);
	cr_expect_not(strstr(without, "quorum"), "%s", without);
	rest("d", true);
	expect_due("d", "");
}

Test(verbs, a_document_with_a_mistake_takes_no_value)
{
	put_web();
	open_engine();
	rest("d", true);
	edit(D_INI, "count = 2", "count = two");
	cr_expect_eq(set_value("d", "params web", "quorum", "5"), -EBUSY);
	cr_expect(strstr(refused_why, "not the one in force"), "%s", refused_why);
	_cleanup_free_ char *text = get(D_INI);
	cr_expect_not(strstr(text, "quorum"));
}

Test(verbs, a_value_breaks_nobody_else)
{
	put_web();
	put("deployments/e/deployment.ini", "[deployment]\nlike = d\n[params web]\nquorum = 9\n");
	open_engine();
	rest("d", true);
	rest("e", true);
	/* e inherits the group: without its role, the parameters set there are for a role that is not used */
	cr_expect_eq(set_value("d", "nodes n", "roles", ""), -EINVAL, "%s", refused_why);
	cr_expect(strstr(refused_why, "deployments/e/"), "%s", refused_why);
	cr_expect(locked(!dep("e")->invalid));
}

static int set_of(enum object_kind kind, int64_t id, const char *section, const char *key, const char *text)
{
	return write_request((struct write_request){
	        .kind = kind, .id = id, .section = (char *)section, .key = (char *)key, .text = (char *)text, .unset = !*text});
}

Test(verbs, what_machines_were_made_with_does_not_change_under_them)
{
	put_web();
	open_engine();
	rest("d", true);
	int64_t id = locked(model_provider(model, "sim")->id);
	cr_expect_eq(set_of(OBJECT_PROVIDER, id, "provider", "type", "nosuch"), -EINVAL, "%s", refused_why);
	cr_expect_eq(set_of(OBJECT_PROVIDER, id, "provider", "type", "fake"), 0, "%s", refused_why);
	put("providers/sim/provider.ini", "[provider]\ntype = fake\n");
	settle();
	cr_expect_eq(set_of(OBJECT_PROVIDER, id, "provider", "type", "container"), -EBUSY, "%s", refused_why);
	cr_expect_str_eq(refused_why, "'type' cannot change from fake to container while machines of provider sim exist: there are 2");
	_cleanup_free_ char *text = get("providers/sim/provider.ini");
	cr_expect_str_eq(text, "[provider]\ntype = fake\n");
	cr_expect_eq(set_of(OBJECT_PROVIDER, id, "fake", "role-delay", "3ms"), 0, "%s", refused_why);
	cr_expect_eq(set_of(OBJECT_PROVIDER, id, "fake", "failure-rate", "2"), -ERANGE, "%s", refused_why);
}

Test(verbs, a_document_that_is_open_for_writing_takes_no_value)
{
	put_web();
	open_engine();
	rest("d", true);
	engine_document_opened(engine, D_INI);
	cr_expect_eq(set_value("d", "params web", "quorum", "5"), -EBUSY);
	cr_expect(strstr(refused_why, D_INI), "%s", refused_why);
	engine_document_closed(engine, D_INI);
	cr_expect_eq(set_value("d", "params web", "quorum", "5"), 0, "%s", refused_why);
	engine_document_opened(engine, "roles/web/role.ini");
	cr_expect_eq(set_value("d", "params web", "quorum", "7"), -EBUSY);
	engine_document_closed(engine, "roles/web/role.ini");
	settle();
	cr_expect_eq(set_value("d", "params web", "quorum", "7"), 0, "%s", refused_why);
}

Test(verbs, a_value_behind_a_link_is_written_through_it)
{
	put_web();
	open_engine();
	rest("d", true);
	_cleanup_free_ char *link = path_join(repo, D_INI), *real = path_join(repo, "real.ini");
	cr_assert_eq(rename(link, real), 0);
	cr_assert_eq(chmod(real, 0640), 0);
	cr_assert_eq(symlink("../../real.ini", link), 0);
	settle();
	engine_document_opened(engine, "real.ini");
	cr_expect_eq(set_value("d", "params web", "quorum", "5"), -EBUSY, "%s", refused_why);
	engine_document_closed(engine, "real.ini");
	cr_expect_eq(set_value("d", "params web", "quorum", "5"), 0, "%s", refused_why);
	struct stat st;
	cr_assert_eq(lstat(link, &st), 0);
	cr_expect(S_ISLNK(st.st_mode));
	cr_assert_eq(stat(real, &st), 0);
	cr_expect_eq(st.st_mode & 0777, 0640);
	_cleanup_free_ char *text = get("real.ini");
	cr_expect(strstr(text, "quorum = 5"), "%s", text);
}

/* Documents that no deployment of today refers to count as well. */
Test(verbs, a_value_makes_no_mistake_anywhere)
{
	put_web();
	put("providers/metal/provider.ini", "[provider]\ntype = ssh\n");
	put("nodes/n1/node.ini", "[node]\nprovider = metal\naddress = 127.0.0.1\n[params web]\nquorum = 9\n");
	open_engine();
	rest("d", true);
	int64_t id = locked(model_role(model, "web")->id);
	cr_expect_eq(set_of(OBJECT_ROLE, id, "param quorum", "max", "5"), -ERANGE, "%s", refused_why);
	cr_expect(strstr(refused_why, "nodes/n1/node.ini:5: "), "%s", refused_why);
	cr_expect_eq(set_of(OBJECT_ROLE, id, "param quorum", "max", "2"), -ERANGE, "%s", refused_why);
	cr_expect(strstr(refused_why, "default"), "%s", refused_why);
	cr_expect_eq(set_of(OBJECT_NODE, locked(node("n1")->row.id), "params web", "quorum", "4"), 0, "%s", refused_why);
	cr_expect_eq(set_of(OBJECT_ROLE, id, "param quorum", "max", "5"), 0, "%s", refused_why);
	edit("nodes/n1/node.ini", "quorum = 4", "quorum = 40");
	cr_expect_eq(set_of(OBJECT_NODE, locked(node("n1")->row.id), "node", "address", "127.0.0.2"), -EBUSY, "%s", refused_why);
	cr_expect(strstr(refused_why, "not the one in force: nodes/n1/node.ini:5: "), "%s", refused_why);
}

struct order {
	int next, at[8], rc[8];
	sem_t sem;
	struct write_request w[8];
};

static void on_ordered(struct write_request *w, int rc, const struct err *err)
{
	struct order *o = w->data;
	int i = (int)(w - o->w);
	o->at[i] = o->next++;
	o->rc[i] = rc;
	sem_post(&o->sem);
}

Test(verbs, stores_come_one_at_a_time_and_in_order)
{
	static const char *const values[] = {"4", "5", "6", "many", "7", "8", "99", "9"};
	struct order *o = xcalloc(1, sizeof *o);
	put_web();
	open_engine();
	rest("d", true);
	int64_t id = dep_id("d");
	sem_init(&o->sem, 0, 0);
	for (int i = 0; i < 8; i++) {
		o->w[i] = (struct write_request){.kind = OBJECT_DEPLOYMENT,
		        .id = id,
		        .section = "params web",
		        .key = "quorum",
		        .text = (char *)values[i],
		        .done = on_ordered,
		        .data = o};
		engine_write(engine, &o->w[i]);
	}
	for (int i = 0; i < 8; i++)
		while (sem_wait(&o->sem))
			;
	for (int i = 0; i < 8; i++)
		cr_expect_eq(o->rc[i], i == 3 ? -EINVAL : i == 6 ? -ERANGE : 0, "store of %s: %d", values[i], o->rc[i]);
	_cleanup_free_ char *text = get(D_INI);
	cr_expect(strstr(text, "quorum = 9\n"), "%s", text);
	cr_expect_eq(o->at[7], 7);
	rest("d", true);
	free(o);
}
