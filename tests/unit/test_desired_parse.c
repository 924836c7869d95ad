/* Definitions out of documents: everything that is right. */
#include "test_desired.h"

TestSuite(desired_parse, .init = make_repo, .fini = remove_repo);

Test(desired_parse, example)
{
	put_etcd();
	struct desired *d = parse();
	char *all = problems(d);
	cr_assert_str_eq(all, "", "%s", all);
	free(all);
	const struct def_deployment *dep = valid_deployment(d, "etcd");
	cr_expect_eq(dep->n_groups, 1);
	const struct def_group *g = def_group_find(dep, "db");
	cr_assert_not_null(g);
	cr_expect_eq(g->count, 3);
	cr_expect_eq(g->nodes.n, 0);
	cr_expect_eq(g->cpus, 1.5);
	cr_expect_eq(g->memory_bytes, 512 << 20);
	cr_expect_eq(g->max_down, 1);
	cr_expect_null(g->image);
	cr_expect_str_eq(g->provider->name, "laptop");
	cr_expect_eq(g->provider->max_parallel, 4);
	cr_expect_str_eq(g->provider->image, "debian-12");
	cr_expect_eq(g->provider->timeout_ms, 15 * 60000);
	cr_assert_eq(g->n_roles, 2);
	cr_expect_str_eq(g->roles[0]->name, "base");
	cr_expect_str_eq(g->roles[1]->name, "etcd");
	cr_expect_eq(dep->apply_manual, false);
	cr_expect_eq(dep->max_destroy, 0);
	cr_expect_eq(dep->store_uid, (uid_t)-1);
	desired_unref(d);
}

Test(desired_parse, role_keys)
{
	put_etcd();
	put("roles/etcd/role.ini", "[role]\nrunner = script\nrequires = base\nafter = base\nwants = nodes, node, facts.memory, "
	                           "base.version\nprovides = kv\nconflicts = base2\n"
	                           "once = yes\nserial = 2\ntimeout = 90s\nretries = 7\nbackoff = 250ms\n[param quorum]\ntype = int\nmin = "
	                           "1\n[output leader]\nsecret = yes\nhelp = who leads\n");
	put("roles/base/role.ini", "[role]\nrunner = none\n[output version]\nttl = 1h\n");
	put("roles/base2/role.ini", "[role]\nrunner = none\n");
	struct desired *d = parse();
	const struct def_role *r = desired_role(d, "etcd");
	cr_assert(r->valid, "%s", r->problem);
	cr_expect(r->once);
	cr_expect_eq(r->serial, 2);
	cr_expect_eq(r->timeout_ms, 90000);
	cr_expect_eq(r->retries, 7);
	cr_expect_eq(r->backoff_ms, 250);
	cr_assert_eq(r->n_wants, 4);
	cr_expect_eq(r->wants[0].kind, WANT_NODES);
	cr_expect_eq(r->wants[1].kind, WANT_NODE);
	cr_expect_eq(r->wants[2].kind, WANT_FACT);
	cr_expect_str_eq(r->wants[2].key, "memory");
	cr_expect_eq(r->wants[3].kind, WANT_OUTPUT);
	cr_expect_str_eq(r->wants[3].role, "base");
	cr_expect_str_eq(r->wants[3].key, "version");
	cr_expect_str_eq(r->wants[3].text, "base.version");
	cr_assert_eq(r->n_outputs, 1);
	cr_expect_eq(r->outputs[0].ttl_ms, 0);
	cr_expect_eq(desired_role(d, "base")->outputs[0].ttl_ms, 3600000);
	cr_expect(r->outputs[0].secret);
	const struct def_param *q = def_param_find(r, "quorum");
	cr_assert_not_null(q);
	cr_expect_eq(q->type, VALUE_INT);
	cr_expect_eq(q->line, 13);
	cr_expect_null(q->dflt);
	cr_expect(!hash_is_zero(&r->content));
	cr_expect(hash_is_zero(&desired_role(d, "base")->content));
	desired_unref(d);
}

Test(desired_parse, defaults_of_a_role)
{
	put("roles/base/role.ini", "[role]\nrunner = none\n");
	struct desired *d = parse();
	const struct def_role *r = desired_role(d, "base");
	cr_expect(r->valid && !r->once);
	cr_expect_eq(r->serial, 0);
	cr_expect_eq(r->timeout_ms, 30 * 60000);
	cr_expect_eq(r->retries, 2);
	cr_expect_eq(r->backoff_ms, 5000);
	desired_unref(d);
}

Test(desired_parse, layout_of_a_document)
{
	put_etcd();
	put("deployments/etcd/deployment.ini", "\xef\xbb\xbf; a comment\r\n[deployment]\r\n\tprovider: laptop ; behind\r\n# another\r\nroles = "
	                                       "base,\r\n\r\n; between\r\n    etcd\r\n[ nodes   db ]\r\ncount=3\r\n\r\n[params etcd]\r\nquorum = 4");
	struct desired *d = parse();
	const struct def_deployment *dep = valid_deployment(d, "etcd");
	cr_expect_str_eq(settings_get(&dep->own, "deployment", "roles"), "base, etcd");
	cr_expect_str_eq(settings_get(&dep->own, "nodes db", "count"), "3");
	cr_expect_str_eq(dep->values[0].origin, "deployments/etcd/deployment.ini:13");
	desired_unref(d);
}

Test(desired_parse, as_git_config_writes_it)
{
	put_etcd();
	put("deployments/etcd/deployment.ini", "[deployment]\n\tprovider = laptop\n\troles = base,\n\t\tetcd\n[nodes \"db\"]\ncount = 3\n\tmemory = "
	                                       "1G\n[params \"etcd @db\"]\n\tquorum = 4\n");
	struct desired *d = parse();
	const struct def_deployment *dep = valid_deployment(d, "etcd");
	cr_expect_str_eq(settings_get(&dep->own, "deployment", "roles"), "base, etcd");
	cr_expect_str_eq(settings_get(&dep->own, "nodes db", "memory"), "1G");
	cr_expect_str_eq(settings_get(&dep->own, "nodes db", "count"), "3");
	cr_expect_str_eq(dep->values[0].group, "db");
	cr_expect_str_eq(dep->values[0].origin, "deployments/etcd/deployment.ini:9");
	desired_unref(d);
}

Test(desired_parse, ignored_names)
{
	put_etcd();
	put("deployments/.etcd.swp/deployment.ini", "x");
	put("deployments/#etcd/deployment.ini", "x");
	put("deployments/etcd~/deployment.ini", "x");
	put("deployments/etcd/deployment.ini~", "x");
	put("deployments/README", "x");
	put("notes/deployment.ini", "x");
	put("roles/helpers/lib.sh", "x");
	expect_problems("");
}

Test(desired_parse, nodes_by_name)
{
	put_etcd();
	put("providers/dc1/provider.ini", "[provider]\ntype = ssh\n");
	for (int i = 1; i <= 3; i++) {
		char path[64];
		snprintf(path, sizeof path, "nodes/r1-0%d/node.ini", i);
		put(path,
		        i == 2 ? "[node]\naddress = 10.0.0.2\nport = 2222\nlabels = rack=1, ssd\n" : "[node]\nprovider = dc1\naddress = 10.0.0.1\n");
	}
	put("deployments/etcd-prod/deployment.ini", "[deployment]\nlike = etcd\nprovider = dc1\n[nodes db]\nnodes = r1-[01-03]\n");
	struct desired *d = parse();
	const struct def_deployment *dep = valid_deployment(d, "etcd-prod");
	const struct def_group *g = &dep->groups[0];
	cr_expect_eq(g->count, -1);
	cr_assert_eq(g->nodes.n, 3);
	cr_expect_str_eq(g->nodes.items[2], "r1-03");
	cr_expect_str_eq(g->provider->name, "dc1");
	cr_expect_eq(g->memory_bytes, 512 << 20);
	cr_expect(dep->apply_manual);
	cr_expect_eq(dep->max_destroy, 1);
	cr_expect_str_eq(dep->like->name, "etcd");
	cr_expect(valid_deployment(d, "etcd")->groups[0].count == 3);
	cr_expect_null(settings_get(&dep->effective, "nodes db", "count"));
	cr_expect_str_eq(settings_get(&dep->effective, "deployment", "like"), "etcd");
	cr_expect_null(settings_get(&dep->own, "nodes db", "memory"));
	const struct def_node *n = desired_node(d, "r1-02");
	cr_expect(n->valid);
	cr_expect_null(n->provider);
	cr_expect_eq(n->labels.n, 2);
	desired_unref(d);
}

Test(desired_parse, count_displaces_inherited_nodes)
{
	put_etcd();
	put("providers/dc1/provider.ini", "[provider]\ntype = ssh\n");
	put("nodes/r1/node.ini", "[node]\nprovider = dc1\naddress = 10.0.0.1\n");
	put("deployments/a/deployment.ini", "[deployment]\nprovider = dc1\n[nodes db]\nnodes = r1\n");
	put("deployments/b/deployment.ini", "[deployment]\nlike = a\nprovider = laptop\n[nodes db]\ncount = 1\n");
	struct desired *d = parse();
	cr_expect_eq(valid_deployment(d, "b")->groups[0].count, 1);
	cr_expect_null(settings_get(&valid_deployment(d, "b")->effective, "nodes db", "nodes"));
	desired_unref(d);
}

Test(desired_parse, like_goes_key_by_key_over_many)
{
	put_etcd();
	put("deployments/etcd/deployment.ini",
	        "[deployment]\nprovider = laptop\nroles = base\n[nodes db]\ncount = 3\nmemory = 512M\nroles = etcd\n[params etcd]\nquorum = 5\n");
	put("deployments/qa/deployment.ini", "[deployment]\nlike = etcd\n[nodes db]\nmemory = 1G\n[nodes web]\ncount = 2\n");
	put("deployments/prod/deployment.ini", "[deployment]\nlike = qa\nmax-destroy = 4\n[nodes db]\ncount = 7\n[params etcd @db]\nquorum = 7\n");
	struct desired *d = parse();
	const struct def_deployment *dep = valid_deployment(d, "prod");
	cr_assert_eq(dep->n_groups, 2);
	const struct def_group *db = def_group_find(dep, "db"), *web = def_group_find(dep, "web");
	cr_expect_eq(db->count, 7);
	cr_expect_eq(db->memory_bytes, 1 << 30);
	cr_expect_eq(db->n_roles, 2);
	cr_expect_eq(web->count, 2);
	cr_expect_eq(web->n_roles, 1);
	cr_expect_eq(dep->n_roles, 2);
	cr_expect_eq(dep->max_destroy, 4);
	cr_expect_str_eq(dep->like->name, "qa");
	desired_unref(d);
}

Test(desired_parse, inherited_parameters_of_roles_not_used_are_of_no_effect)
{
	put_etcd();
	put("deployments/qa/deployment.ini", "[deployment]\nlike = etcd\n[nodes db]\nroles = base\n");
	struct desired *d = parse();
	cr_expect_eq(valid_deployment(d, "qa")->n_values, 0);
	desired_unref(d);
}

Test(desired_parse, parameters_and_origins)
{
	put_etcd();
	put("providers/dc1/provider.ini", "[provider]\ntype = ssh\n");
	put("nodes/n1/node.ini", "[node]\nprovider = dc1\naddress = 10.0.0.1\n[params etcd]\nquorum = 9\n");
	put("nodes/n2/node.ini", "[node]\nprovider = dc1\naddress = 10.0.0.2\n");
	put("deployments/e/deployment.ini",
	        "[deployment]\nprovider = dc1\nroles = etcd\n[nodes a]\nnodes = n1\n[nodes b]\nnodes = n2\n[params etcd @a]\nquorum = 7\n");
	put("deployments/qa/deployment.ini", "[deployment]\nlike = etcd\n");
	struct desired *d = parse();
	const struct def_role *r = desired_role(d, "etcd");
	const struct def_param *q = def_param_find(r, "quorum");
	const struct def_deployment *e = valid_deployment(d, "e"), *qa = valid_deployment(d, "qa");
	const char *origin;
	cr_expect_str_eq(desired_param(d, e, r, "a", "n1", q, &origin), "9");
	cr_expect_str_eq(origin, "nodes/n1/node.ini:5");
	cr_expect_str_eq(desired_param(d, e, r, "a", NULL, q, &origin), "7");
	cr_expect_str_eq(origin, "deployments/e/deployment.ini:9");
	cr_expect_str_eq(desired_param(d, e, r, "b", "n2", q, &origin), "3");
	cr_expect_str_eq(origin, "roles/etcd/role.ini:10 (default)");
	cr_expect_str_eq(desired_param(d, qa, r, "db", "qa-db-1", q, &origin), "5");
	cr_expect_str_eq(origin, "deployments/etcd/deployment.ini:13");
	cr_expect_str_eq(desired_param(d, qa, r, "db", "qa-db-1", q, NULL), "5");
	desired_unref(d);
}

Test(desired_parse, secrets_stand_for_any_type)
{
	put_etcd();
	put("deployments/etcd/deployment.ini",
	        "[deployment]\nprovider = laptop\nroles = etcd\n[nodes db]\ncount = 1\n[params etcd]\nquorum = secret:q\n");
	expect_problems("");
}

static void expect_order(const struct def_deployment *dep, const char *want)
{
	struct buf b = {0};
	for (size_t i = 0; i < dep->n_roles; i++)
		buf_addf(&b, "%s%s", i ? " " : "", dep->roles[i]->name);
	cr_expect_str_eq(buf_str(&b), want, "%s", buf_str(&b));
	buf_release(&b);
}

Test(desired_parse, order_of_roles)
{
	put("providers/f/provider.ini", "[provider]\ntype = fake\n");
	put("roles/a/role.ini", "[role]\nrunner = none\nafter = c\n");
	put("roles/b/role.ini", "[role]\nrunner = none\n");
	put("roles/c/role.ini", "[role]\nrunner = none\nrequires = d\n");
	put("roles/d/role.ini", "[role]\nrunner = none\nwants = b.x\n");
	put("roles/e/role.ini", "[role]\nrunner = none\nafter = z\n");
	put("roles/z/role.ini", "[role]\nrunner = none\n");
	put("deployments/x/deployment.ini", "[deployment]\nprovider = f\nroles = e, a, b, c\n[nodes n]\ncount = 1\n");
	struct desired *d = parse();
	const struct def_deployment *dep = valid_deployment(d, "x");
	expect_order(dep, "e b d c a"); /* d comes with c; z is not used, so 'after = z' is of no effect */
	cr_expect_eq(dep->groups[0].n_roles, 5);
	desired_unref(d);
}

Test(desired_parse, a_deployment_without_groups_is_a_template)
{
	put_etcd();
	put("deployments/empty/deployment.ini", "[deployment]\nroles = base\n");
	struct desired *d = parse();
	cr_expect_eq(valid_deployment(d, "empty")->n_groups, 0);
	desired_unref(d);
}

Test(desired_parse, owner_and_group_who_may_store)
{
	put_etcd();
	put("deployments/etcd/deployment.ini", "[deployment]\nprovider = laptop\nroles = base\nowner = root\ngroup = 1234\n");
	struct desired *d = parse();
	cr_expect_eq(valid_deployment(d, "etcd")->store_uid, 0);
	cr_expect_eq(valid_deployment(d, "etcd")->store_gid, 1234);
	desired_unref(d);
	/* or who may write one document could let himself into others */
	put("deployments/prod/deployment.ini", "[deployment]\nlike = etcd\n");
	d = parse();
	cr_expect_eq(valid_deployment(d, "prod")->store_uid, (uid_t)-1);
	cr_expect_eq(valid_deployment(d, "prod")->store_gid, (gid_t)-1);
	desired_unref(d);
}

Test(desired_parse, a_plug_in_brings_its_keys)
{
	put("providers/l/provider.ini", "[provider]\n[container]\nboot = sshd\n[image mine]\nsuite = bookworm\npackages = curl, python3\n");
	put("roles/w/role.ini", "[role]\nrunner = ansible\nbecome = no\n");
	put("roles/w/tasks/main.yml", "[]\n");
	struct desired *d = parse();
	cr_expect(desired_provider(d, "l")->valid, "%s", desired_provider(d, "l")->problem);
	cr_expect_str_eq(desired_provider(d, "l")->type, "container");
	cr_expect_str_eq(settings_get(&desired_provider(d, "l")->settings, "image mine", "suite"), "bookworm");
	cr_expect(desired_role(d, "w")->valid, "%s", desired_role(d, "w")->problem);
	struct hash before = desired_role(d, "w")->runner_keys;
	desired_unref(d);
	put("roles/w/role.ini", "; moved about\n[role]\nbecome = no\ntimeout = 5m\nrunner = ansible\n");
	d = parse();
	cr_expect(hash_eq(&before, &desired_role(d, "w")->runner_keys));
	desired_unref(d);
	put("roles/w/role.ini", "[role]\nrunner = ansible\nbecome = yes\n");
	d = parse();
	cr_expect(!hash_eq(&before, &desired_role(d, "w")->runner_keys));
	desired_unref(d);
}

Test(desired_parse, references_are_counted)
{
	put_etcd();
	struct desired *d = parse();
	cr_expect_eq(desired_ref(d), d);
	desired_unref(d);
	cr_expect_not_null(desired_deployment(d, "etcd"));
	cr_expect_null(desired_deployment(d, "etc"));
	cr_expect_null(desired_role(d, ""));
	desired_unref(d);
	desired_unref(NULL);
}

Test(desired_parse, node_identity_changes_with_the_machine_only)
{
	put("providers/dc1/provider.ini", "[provider]\ntype = ssh\n");
	put("nodes/n/node.ini", "[node]\nprovider = dc1\naddress = 10.0.0.1\nlabels = a\n");
	struct desired *d = parse();
	struct hash before = desired_node(d, "n")->identity;
	desired_unref(d);
	put("nodes/n/node.ini", "[node]\naddress = 10.0.0.1 ; same\nprovider = dc1\nlabels = b\n");
	d = parse();
	cr_expect(hash_eq(&before, &desired_node(d, "n")->identity));
	desired_unref(d);
	put("nodes/n/node.ini", "[node]\nprovider = dc1\naddress = 10.0.0.2\n");
	d = parse();
	cr_expect(!hash_eq(&before, &desired_node(d, "n")->identity));
	desired_unref(d);
}

Test(desired_parse, a_repo_that_is_not_there)
{
	struct tree *t;
	struct err *err = NULL;
	cr_expect_eq(tree_read_repo("/nonexistent/repo", NULL, NULL, &t, &err), -ENOENT);
	cr_expect_str_eq(err_msg(err), "cannot read the repo '/nonexistent/repo': No such file or directory");
	err_free(err);
	expect_problems("");
}

Test(desired_parse, overlay_and_busy)
{
	put_etcd();
	const char *text = "[deployment]\nprovider = laptop\nroles = base\n[nodes db]\ncount = 4\nroles = etcd\n";
	struct tree_options opt = {.overlay_path = "deployments/etcd/deployment.ini", .overlay_text = text, .overlay_len = strlen(text)};
	struct desired *d = parse_opt(&opt);
	cr_expect_eq(valid_deployment(d, "etcd")->groups[0].count, 4);
	desired_unref(d);
	opt.overlay_path = "deployments/new/deployment.ini";
	d = parse_opt(&opt);
	cr_expect_eq(valid_deployment(d, "new")->groups[0].count, 4);
	cr_expect_eq(valid_deployment(d, "etcd")->groups[0].count, 3);
	desired_unref(d);
	static const char *const cases[] = {
	        "deployments/etcd/deployment.ini", "roles/base/role.ini", "roles/etcd/apply", "providers/laptop/provider.ini"};
	for (size_t i = 0; i < 4; i++) {
		const char *busy[] = {cases[i], NULL};
		opt = (struct tree_options){.busy = busy};
		put("deployments/other/deployment.ini", "[deployment]\nlike = etcd\n[nodes db]\ncount = 1\n");
		d = parse_opt(&opt);
		char *all = problems(d);
		cr_expect_str_eq(all, "", "%s: %s", cases[i], all);
		free(all);
		cr_expect(desired_deployment(d, "etcd")->busy, "%s", cases[i]);
		cr_expect(!desired_deployment(d, "etcd")->valid, "%s", cases[i]);
		cr_expect(desired_deployment(d, "other")->busy, "%s", cases[i]);
		desired_unref(d);
	}
}
