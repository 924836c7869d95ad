/* What documents could say: sections, keys, what holds where nothing is said. */
#include "test_desired.h"

static struct desired *d;

static void make_all(void)
{
	make_repo();
	put_etcd();
	put("providers/dc/provider.ini", "[provider]\ntype = ssh\nimage = bare\n[ssh]\nport = 2222\n");
	put("roles/tool/role.ini",
	        "[role]\nrunner = ansible\n[param level]\ntype = enum\nvalues = low,high\ndefault = low\n[param name]\n[output key]\n");
	put("roles/tool/tasks/main.yml", "[]\n");
	put("nodes/n1/node.ini", "[node]\naddress = 192.0.2.1\n[params tool]\nname = first\n");
	put("nodes/n2/node.ini", "[node]\nprovider = laptop\n");
	put("deployments/prod/deployment.ini",
	        "[deployment]\nlike = etcd\n[nodes web]\nprovider = dc\nnodes = n1\nroles = tool\n[params tool]\nname = "
	        "all\nlevel = high\n[params tool @web]\nlevel = low\n");
	d = parse();
	char *all = problems(d);
	cr_assert_str_eq(all, "", "%s", all);
	free(all);
}

static void drop_all(void)
{
	desired_unref(d);
	remove_repo();
}

TestSuite(settable, .init = make_all, .fini = drop_all);

static struct settable of(const char *kind, const char *name)
{
	struct settable s = {.schema = &schema, .owner = d};
	if (!strcmp(kind, "deployment"))
		s.deployment = desired_deployment(d, name);
	else if (!strcmp(kind, "provider"))
		s.provider = desired_provider(d, name);
	else if (!strcmp(kind, "role"))
		s.role = desired_role(d, name);
	else
		s.node = desired_node(d, name);
	if (!strcmp(kind, "node of prod")) {
		s.in = desired_deployment(d, "prod");
		s.group = def_group_find(s.in, "web");
	}
	return s;
}

static void add(void *arg, const char *name)
{
	strlist_add(arg, name);
}

static void expect_names(struct strlist *names, const char *where, const char *want)
{
	_cleanup_buf_ struct buf got = {0};
	size_t len = strlen(want);
	bool open = len > 3 && !strcmp(want + len - 3, "...");
	strlist_join(names, ", ", &got);
	cr_expect(open ? !strncmp(buf_str(&got), want, len - 3) : !strcmp(buf_str(&got), want), "%s: %s", where, buf_str(&got));
	strlist_sort(names);
	for (size_t i = 1; i < names->n; i++)
		cr_expect_str_neq(names->items[i - 1], names->items[i], "%s: '%s' twice", where, names->items[i]);
	strlist_release(names);
}

static const struct {
	const char *kind, *name, *sections;
} sections[] = {
        {"deployment", "etcd", "deployment, nodes db, params etcd, params etcd @db"},
        {"deployment", "prod", "deployment, nodes db, params etcd, nodes web, params tool, params tool @web, params etcd @db"},
        {"provider", "laptop", "provider, container"},
        {"provider", "dc", "provider, ssh"},
        {"role", "base", "role"},
        {"role", "etcd", "role, param quorum"},
        {"role", "tool", "role, param level, param name, output key"},
        {"node", "n1", "node, params tool"},
        {"node of prod", "n1", "node, params tool"},
        {"node", "n2", "node"},
};

Test(settable, every_section_once)
{
	for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
		struct settable s = of(sections[i].kind, sections[i].name);
		struct strlist names = {0};
		settable_sections(&s, add, &names);
		expect_names(&names, sections[i].name, sections[i].sections);
	}
}

/* "..." at the end: and others of the documents' own table. */
static const struct {
	const char *kind, *name, *section, *keys;
} keys[] = {
        {"deployment", "etcd", "deployment", "provider, roles, like, apply, ..."},
        {"deployment", "etcd", "nodes db", "count, memory, cpus, max-down, roles, nodes, ..."},
        {"deployment", "prod", "nodes web", "provider, nodes, roles, count, ..."},
        {"deployment", "etcd", "params etcd", "quorum"},
        {"deployment", "etcd", "params etcd @db", "quorum"},
        {"deployment", "etcd", "params etcd @web", ""},
        {"deployment", "etcd", "params tool", ""},
        {"deployment", "prod", "params tool @web", "level, name"},
        {"deployment", "etcd", "nonsense", ""},
        {"provider", "laptop", "container", "boot"},
        {"provider", "laptop", "ssh", ""},
        {"provider", "laptop", "image debian-12", "suite, packages"},
        {"provider", "dc", "ssh", "port, user"},
        {"role", "base", "role", "runner, requires, after, ..."},
        {"role", "tool", "role", "runner, requires, after, ..."},
        {"role", "tool", "param name", "type, default, min, max, values, secret, help"},
        {"node of prod", "n1", "params tool", "name, level"},
        {"node of prod", "n1", "params etcd", ""},
        {"node of prod", "n1", "node", "address, provider, ..."},
        {"node", "n2", "node", "provider, address, ..."},
};

Test(settable, every_key_once)
{
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		struct settable s = of(keys[i].kind, keys[i].name);
		struct strlist names = {0};
		settable_keys(&s, keys[i].section, add, &names);
		expect_names(&names, keys[i].section, keys[i].keys);
	}
}

static const struct {
	const char *kind, *name, *section, *key, *value;
	bool set;
} values[] = {
        {"deployment", "etcd", "nodes db", "count", "3", true},
        {"deployment", "etcd", "nodes db", "provider", "laptop", false},
        {"deployment", "etcd", "nodes db", "image", "debian-12", false},
        {"deployment", "etcd", "nodes db", "nodes", "", false},
        {"deployment", "etcd", "deployment", "apply", "auto", false},
        {"deployment", "etcd", "deployment", "max-destroy", "0", false},
        {"deployment", "etcd", "params etcd", "quorum", "5", true},
        {"deployment", "etcd", "params etcd @db", "quorum", "5", false},
        {"deployment", "prod", "nodes db", "count", "3", false}, /* inherited */
        {"deployment", "prod", "deployment", "like", "etcd", true},
        {"deployment", "prod", "deployment", "apply", "manual", false}, /* its machines run already */
        {"deployment", "prod", "deployment", "max-destroy", "1", false},
        {"deployment", "prod", "nodes web", "image", "bare", false},
        {"deployment", "prod", "params etcd", "quorum", "5", false},
        {"deployment", "prod", "params tool", "level", "high", true},
        {"deployment", "prod", "params tool @web", "level", "low", true},
        {"deployment", "prod", "params tool @web", "name", "all", false}, /* the deployment's */
        {"provider", "laptop", "provider", "max-parallel", "4", true},
        {"provider", "laptop", "provider", "timeout", "15m", false},
        {"provider", "laptop", "provider", "apply", "auto", false},
        {"provider", "laptop", "container", "boot", "systemd", false},
        {"provider", "dc", "provider", "apply", "manual", false},
        {"provider", "dc", "ssh", "user", "root", false},
        {"role", "etcd", "role", "retries", "3", true},
        {"role", "etcd", "role", "serial", "0", false},
        {"role", "tool", "role", "become", "yes", false},
        {"role", "tool", "param name", "type", "string", false},
        {"node", "n1", "params tool", "name", "first", true},
        {"node of prod", "n1", "params tool", "level", "low", false}, /* the group's */
        {"node of prod", "n1", "node", "provider", "dc", false},
        {"node of prod", "n1", "node", "image", "bare", false},
        {"node of prod", "n1", "node", "user", "", false},
};

Test(settable, what_holds_and_who_says_it)
{
	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		struct settable s = of(values[i].kind, values[i].name);
		_cleanup_buf_ struct buf got = {0};
		settable_value(&s, values[i].section, values[i].key, &got);
		cr_expect_str_eq(buf_str(&got), values[i].value, "%s [%s] %s: %s", values[i].name, values[i].section, values[i].key, buf_str(&got));
		cr_expect_eq(settable_is_set(&s, values[i].section, values[i].key), values[i].set, "%s [%s] %s", values[i].name, values[i].section,
		        values[i].key);
	}
}

/* Whatever is offered, the document may say: none of it is an unknown section or key. */
Test(settable, nothing_is_offered_that_is_unknown)
{
	static const char *const kinds[] = {"deployment", "provider", "role", "node"};
	static const char *const names[] = {"prod", "laptop", "tool", "n2"};
	for (size_t i = 0; i < 4; i++) {
		struct settable s = of(kinds[i], names[i]);
		struct strlist all = {0};
		settable_sections(&s, add, &all);
		for (size_t j = 0; j < all.n; j++) {
			struct strlist offered = {0};
			settable_keys(&s, all.items[j], add, &offered);
			for (size_t k = 0; k < offered.n; k++)
				cr_expect(settable_row(&s, all.items[j], offered.items[k]) || !strncmp(all.items[j], "params ", 7), "[%s] %s",
				        all.items[j], offered.items[k]);
			strlist_release(&offered);
		}
		strlist_release(&all);
	}
}
