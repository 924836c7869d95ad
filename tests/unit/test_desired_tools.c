/* The roles that put tools on nodes: who gets one, and who does not. */
#include "tests/unit/test_desired.h"

static const struct key_row tool_keys[] = {
        {"role", "program", VALUE_STRING, NULL, 0, 0, NULL, ""},
        {"role", "source", VALUE_STRING, NULL, 0, 0, NULL, ""},
        {NULL},
};
static const struct schema_runner tool_runners[] = {
        {"none", NULL, NULL},
        {"install", tool_keys, NULL},
        {"salt", tool_keys, NULL, "runner-salt", "[role]\nrunner = install\n", "program", "source"},
};
static const struct desired_schema tool_schema = {test_providers, 3, tool_runners, 3};

static struct desired *parse_tools(struct tree **ret)
{
	struct desired *d = NULL;
	*ret = read_tree_opt(NULL);
	cr_assert_eq(desired_parse(*ret, &tool_schema, &d, NULL), 0);
	return d;
}

static void put_app(const char *keys)
{
	_cleanup_free_ char *text = xasprintf("[role]\nrunner = salt\n%s", keys);
	put("providers/laptop/provider.ini", "[provider]\ntype = container\n");
	put("roles/app/role.ini", text);
	put("deployments/d/deployment.ini", "[deployment]\nprovider = laptop\nroles = app\n[nodes n]\ncount = 1\n");
}

/* Names of the roles on the nodes of 'd', in their order; caller frees. */
static char *roles_now(void)
{
	struct buf b = {0};
	struct tree *t;
	struct desired *d = parse_tools(&t);
	const struct def_deployment *dep = valid_deployment(d, "d");
	for (size_t i = 0; i < dep->groups[0].n_roles; i++)
		buf_addf(&b, "%s%s", i ? " " : "", dep->groups[0].roles[i]->name);
	desired_unref(d);
	tree_free(t);
	return buf_detach(&b, NULL);
}

#define expect_roles(want)                                                                                                                           \
	do {                                                                                                                                         \
		_cleanup_free_ char *got_ = roles_now();                                                                                             \
		cr_expect_str_eq(got_, want);                                                                                                        \
	} while (0)

TestSuite(tools, .init = make_repo, .fini = remove_repo);

Test(tools, who_needs_one_gets_it)
{
	put_app("source = /srv/thin\n");
	expect_roles("runner-salt app");
	struct tree *t;
	struct desired *d = parse_tools(&t);
	cr_expect_str_eq(settings_get(&desired_role(d, "runner-salt")->settings, "role", "source"), "/srv/thin");
	desired_unref(d);
	tree_free(t);
}

Test(tools, who_brings_it_does_not)
{
	put_app("program = /opt/salt-call\n");
	expect_roles("app");
	put_app("requires = mine\n");
	put("roles/mine/role.ini", "[role]\nrunner = none\nprovides = runner-salt\n");
	expect_roles("mine app");
}

Test(tools, one_of_the_repo_is_taken)
{
	put_app("");
	put("roles/runner-salt/role.ini", "[role]\nrunner = none\nrequires = base\n");
	put("roles/base/role.ini", "[role]\nrunner = none\n");
	expect_roles("base runner-salt app");
}

Test(tools, two_sources_are_a_mistake)
{
	struct tree *t;
	put_app("source = /srv/a\n");
	put("roles/other/role.ini", "[role]\nrunner = salt\nsource = /srv/b\n");
	struct desired *d = parse_tools(&t);
	_cleanup_free_ char *told = problems(d);
	cr_expect_str_eq(told, "roles/other/role.ini:3: 'source' is '/srv/b' here, but role 'runner-salt' has '/srv/a': a node gets the tool once\n");
	desired_unref(d);
	tree_free(t);
}

Test(tools, what_is_kept_has_it_too)
{
	struct content_store *store = NULL;
	struct tree *t, *kept = NULL;
	char *manifest = NULL;
	put_app("");
	cr_assert_eq(content_open(store_dir, &store, NULL), 0);
	struct desired *d = parse_tools(&t), *again = NULL;
	cr_assert_eq(desired_keep(t, repo, d, valid_deployment(d, "d"), store, &manifest, NULL), 0);
	cr_assert_eq(tree_read_kept(store, manifest, &kept, NULL), 0);
	cr_assert_eq(desired_parse(kept, &tool_schema, &again, NULL), 0);
	cr_expect_eq(valid_deployment(again, "d")->groups[0].n_roles, 2);
	cr_expect(hash_eq(&valid_deployment(again, "d")->closure, &valid_deployment(d, "d")->closure));
	desired_unref(again);
	desired_unref(d);
	tree_free(kept);
	tree_free(t);
	free(manifest);
	content_close(store);
}
