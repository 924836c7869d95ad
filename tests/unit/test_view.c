/* The live tree by its tables: a small model with one object of every kind, and every row of every kind looked at. */
#include "fs/base/mem.h"
#include "fs/view/entries.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

static struct model model;
static struct names *names;
static struct def_role role_def = {.name = "etcd", .valid = true};
static const struct def_role *roles_in_order[] = {&role_def};
static struct def_group group = {.name = "db", .count = 1, .roles = roles_in_order, .n_roles = 1};
static struct def_param param = {.name = "quorum", .type = VALUE_INT};
static struct def_deployment def = {.name = "prod",
        .valid = true,
        .roles = roles_in_order,
        .n_roles = 1,
        .groups = &group,
        .n_groups = 1,
        .store_uid = (uid_t)-1,
        .store_gid = (gid_t)-1};
static struct provider_object provider = {.id = 1, .name = "laptop"};
static struct role_object role = {.id = 2, .name = "etcd", .def = &role_def};
static struct deployment deployment = {.row = {.id = 3, .name = "prod"}, .def = &def};
static struct run_summary run = {.number = 1 << PLACE_NAME_BITS, .started = 1000, .took_ms = 500, .result = RUN_FAILED, .exit_status = 3};
static struct output output = {"version", "3.5"};
static struct node node = {.row = {.id = 4, .name = "prod-db-1", .provider = "laptop", .group = "db", .address = "198.51.100.7", .port = 2222}};
static struct node_role node_role = {.row = {.id = 5, .node_id = 4, .role = "etcd", .last_run = 1 << PLACE_NAME_BITS, .error = "exit 3"}};
static struct node *nodes[] = {&node};
static struct node_role *node_roles[] = {&node_role};
static struct event events[EVENTS_KEPT];
static struct desired desired;
static struct problem problem = {.file = "roles/etcd/role.ini", .line = 7, .text = "unknown key 'requries'"};

static void fill_model(void)
{
	pthread_rwlock_init(&model.lock, NULL);
	names = names_new();
	HASH_ADD_KEYPTR(hh_name, model.providers_by_name, provider.name, strlen(provider.name), &provider);
	HASH_ADD_KEYPTR(hh_name, model.roles_by_name, role.name, strlen(role.name), &role);
	HASH_ADD_KEYPTR(hh_name, model.deployments_by_name, deployment.row.name, strlen(deployment.row.name), &deployment);
	HASH_ADD(hh_id, model.deployments_by_id, row.id, sizeof deployment.row.id, &deployment);
	HASH_ADD_KEYPTR(hh_name, model.nodes_by_name, node.row.name, strlen(node.row.name), &node);
	HASH_ADD(hh_id, model.nodes_by_id, row.id, sizeof node.row.id, &node);
	HASH_ADD(hh_id, model.node_roles_by_id, row.id, sizeof node_role.row.id, &node_role);
	role_def.params = &param;
	role_def.n_params = 1;
	index_put(&role_def.by_param, param.name, 0);
	index_put(&def.by_group, group.name, 0);
	settings_add(&def.effective, "deployment", "provider", "laptop", 2);
	settings_add(&def.effective, "nodes db", "count", "1", 4);
	settings_add(&def.effective, "nodes db", "count", "3", 5);
	deployment.nodes = nodes;
	deployment.n_nodes = 1;
	deployment.n_total = 1;
	deployment.src = (struct def_source){.path = "deployments/prod/deployment.ini", .uid = 1000, .gid = 1001, .mode = 0640};
	node.deployment = &deployment;
	node.provider = &provider;
	node.row.phase = NODE_READY;
	node.wanted = true;
	node.roles = node_roles;
	node.n_roles = 1;
	node_role.node = &node;
	node_role.def = &role_def;
	node_role.runs = &run;
	node_role.n_runs = 1;
	node_role.outputs = &output;
	node_role.n_outputs = 1;
	events[1] =
	        (struct event){.seq = 1, .at = 1000, .deployment = "prod", .node = "prod-db-1", .role = "etcd", .who = "rebarfs", .text = "running"};
	model.events = events;
	model.first_seq = 1;
	model.next_seq = 2;
	desired.problems = &problem;
	desired.n_problems = 1;
	model.desired = &desired;
	model.state_dir = "/state";
	model.repo = "/repo";
	model.mountpoint = "/mnt";
}

TestSuite(view, .init = fill_model);

static bool find(const struct place *p, struct object *o)
{
	return object_find(&model, names, "/state", p, o);
}

static struct place walk(const char *path)
{
	_cleanup_free_ char *copy = xstrdup(path);
	char *rest = copy;
	struct place at = {.kind = PLACE_ROOT};
	for (char *name; (name = strsep(&rest, "/"));) {
		struct object o;
		struct place next;
		cr_assert(find(&at, &o), "'%s' of %s", name, path);
		cr_assert(place_child(&o, &at, name, &next), "'%s' is not in %s", name, path);
		at = next;
	}
	return at;
}

static bool exists(const char *dir, const char *name)
{
	struct place at = walk(dir), child;
	struct object o;
	cr_assert(find(&at, &o));
	return place_child(&o, &at, name, &child);
}

static char *read_file(const char *path)
{
	struct place at = walk(path);
	struct object o;
	struct buf out = {0};
	cr_assert(find(&at, &o));
	const struct entry *e = place_entry(names, &at);
	cr_assert(e && e->render, "%s", path);
	e->render(&o, &out);
	return buf_detach(&out, NULL);
}

static struct place place_of(enum place_kind kind)
{
	static const char *const paths[PLACE_KINDS] = {
	        [PLACE_PROVIDER] = "providers/laptop",
	        [PLACE_ROLE] = "roles/etcd",
	        [PLACE_DEPLOYMENT] = "deployments/prod",
	        [PLACE_NODE] = "nodes/prod-db-1",
	        [PLACE_NODE_ROLE] = "nodes/prod-db-1/roles/etcd",
	        [PLACE_RUN] = "nodes/prod-db-1/roles/etcd/runs/1048576",
	};
	return paths[kind] ? walk(paths[kind]) : (struct place){.kind = kind};
}

Test(view, every_row_is_whole)
{
	for (int kind = 0; kind < PLACE_KINDS; kind++) {
		for (const struct entry *e = entries_of((enum place_kind)kind); e->name; e++) {
			const char *where = place_kind_name((enum place_kind)kind);
			cr_expect(e->help && strlen(e->help) > 8, "%s/%s has no help", where, e->name);
			cr_expect(S_ISREG(e->mode) || S_ISDIR(e->mode), "%s/%s has no type", where, e->name);
			if (S_ISDIR(e->mode)) {
				cr_expect((e->flags & ENTRY_REPO) || (e->list && e->find), "%s/%s cannot be listed", where, e->name);
				continue;
			}
			cr_expect((e->flags & ENTRY_LOG) || (e->render != NULL) != ((e->flags & (ENTRY_STREAM | ENTRY_KEPT)) != 0),
			        "%s/%s: nothing, or two things, to read", where, e->name);
			cr_expect(!(e->mode & 0222) == !e->store, "%s/%s: mode %o and store disagree", where, e->name, e->mode);
			cr_expect(!(e->mode & 0111), "%s/%s is executable", where, e->name);
			for (const struct entry *other = e + 1; other->name; other++)
				cr_expect(strcmp(e->name, other->name), "%s/%s twice", where, e->name);
		}
	}
}

Test(view, every_row_renders_whole_lines)
{
	for (int kind = 0; kind < PLACE_KINDS; kind++) {
		struct place dir = place_of((enum place_kind)kind);
		for (const struct entry *e = entries_of((enum place_kind)kind); e->name; e++) {
			struct object o, dir_object;
			struct place p;
			cr_assert(find(&dir, &dir_object));
			cr_assert(place_child(&dir_object, &dir, e->name, &p));
			cr_assert_eq(place_entry(names, &p), e);
			cr_assert_eq(place_mode(names, &p), e->mode);
			if (!e->render)
				continue;
			cr_assert(find(&p, &o));
			_cleanup_buf_ struct buf once = {0}, again = {0};
			e->render(&o, &once);
			e->render(&o, &again);
			cr_expect_eq(once.len, again.len, "%s/%s changes its size by being read", place_kind_name((enum place_kind)kind), e->name);
			cr_expect(!once.len || once.data[once.len - 1] == '\n', "%s/%s does not end its line", place_kind_name((enum place_kind)kind),
			        e->name);
			cr_expect_eq(strlen(buf_str(&once)), once.len, "%s/%s has a byte 0", place_kind_name((enum place_kind)kind), e->name);
			if (strstr(e->name, ".json") && once.len) {
				json_t *json = json_loads(once.data, 0, NULL);
				cr_expect(json, "%s/%s is not JSON", place_kind_name((enum place_kind)kind), e->name);
				json_decref(json);
			}
		}
	}
}

struct listed {
	struct lister lister;
	struct object o;
	struct place dir;
	size_t n;
};

static void check_listed(struct lister *l, const char *name, const struct place *p)
{
	struct listed *all = (struct listed *)l;
	struct place found, same = ino_place(place_ino(p));
	struct object o;
	all->n++;
	cr_expect(place_child(&all->o, &all->dir, name, &found), "'%s' is listed and not found", name);
	cr_expect_eq(place_ino(&found), place_ino(p), "'%s' is found elsewhere than listed", name);
	cr_expect_eq(place_ino(&same), place_ino(p), "'%s' does not survive its number", name);
	cr_expect(ino_is_live(place_ino(p)));
	cr_expect(place_stat_ino(names, p) >> 63, "'%s' has no top bit", name);
	cr_expect(find(p, &o), "'%s' is listed and not there", name);
	if (S_ISDIR(place_mode(names, p)) && !(place_entry(names, p) && (place_entry(names, p)->flags & ENTRY_REPO))) {
		struct listed below = {.lister = l[0], .o = o, .dir = *p};
		place_list(&o, p, &below.lister);
	}
}

Test(view, whole_tree_lists_what_it_finds)
{
	struct listed all = {.lister = {check_listed}, .dir = {.kind = PLACE_ROOT}};
	cr_assert(find(&all.dir, &all.o));
	place_list(&all.o, &all.dir, &all.lister);
	cr_expect_gt(all.n, 10);
}

static void expect_text(const char *path, const char *text)
{
	_cleanup_free_ char *got = read_file(path);
	cr_expect_str_eq(got, text, "%s", path);
}

Test(view, values)
{
	expect_text("problems", "roles/etcd/role.ini:7: unknown key 'requries'\n");
	expect_text("events", "1970-01-01T00:00:01Z prod/prod-db-1/etcd: running\n");
	expect_text("nodes/prod-db-1/address", "198.51.100.7\n");
	expect_text("nodes/prod-db-1/state", "ready\n");
	expect_text("nodes/prod-db-1/facts.json", "{}\n");
	expect_text("nodes/prod-db-1/roles/etcd/outputs/version", "3.5\n");
	expect_text("nodes/prod-db-1/roles/etcd/runs/1048576/result", "failed\n");
	expect_text("nodes/prod-db-1/roles/etcd/runs/1048576/exit_status", "3\n");
	expect_text("nodes/prod-db-1/refused", "");
	expect_text("roles/etcd/used-by", "prod\n");
	expect_text("deployments/prod/hosts", "198.51.100.7  prod-db-1\n");
	expect_text("deployments/prod/desired/deployment/provider", "laptop\n");
	expect_text("deployments/prod/desired/nodes.db/count", "3\n"); /* the last one wins */
}

struct names_listed {
	struct lister lister;
	struct strlist names;
};

static void add_name(struct lister *l, const char *name, const struct place *p)
{
	strlist_add(&((struct names_listed *)l)->names, name);
}

/* Are exactly these names there? */
static bool lists(const char *dir, const char *want)
{
	struct names_listed all = {.lister = {add_name}};
	struct place at = walk(dir);
	struct object o;
	_cleanup_buf_ struct buf got = {0};
	cr_assert(find(&at, &o));
	place_list(&o, &at, &all.lister);
	strlist_sort(&all.names);
	strlist_join(&all.names, " ", &got);
	strlist_release(&all.names);
	return !strcmp(buf_str(&got), want);
}

static int64_t time_of(const char *path)
{
	struct place at = walk(path);
	struct object o;
	cr_assert(find(&at, &o));
	return place_entry(names, &at)->time(&o);
}

Test(view, what_is_not_set_is_told_from_what_is)
{
	settings_add(&def.own, "nodes db", "count", "3", 5);
	deployment.src.since = 12345;
	cr_expect_eq(time_of("deployments/prod/desired/nodes.db/count"), 12345);
	cr_expect_eq(time_of("deployments/prod/desired/deployment/provider"), 0, "it is inherited");
	cr_expect_eq(time_of("deployments/prod/desired/params.etcd/quorum"), 0);
}

Test(view, settings_that_could_be_set_are_found)
{
	expect_text("deployments/prod/desired/nodes.db/max-down", "");
	expect_text("deployments/prod/desired/params.etcd/quorum", "");
	expect_text("deployments/prod/desired/params.etcd.@db/quorum", "");
	expect_text("deployments/prod/desired/deployment/apply", "auto\n");
	cr_expect(lists("deployments/prod/desired", "deployment nodes.db params.etcd params.etcd.@db"));
	cr_expect(lists("deployments/prod/desired/params.etcd", "quorum"));
	cr_expect_not(exists("deployments/prod/desired", "nodes.web"));
	cr_expect_not(exists("deployments/prod/desired", "params.etcd.@web"));
	cr_expect_not(exists("deployments/prod/desired", "params.nginx"));
	cr_expect_not(exists("deployments/prod/desired/params.etcd", "quorums"));
	cr_expect_not(exists("deployments/prod/desired/nodes.db", "counts"));
}

Test(view, a_store_names_section_and_key)
{
	struct place at = walk("deployments/prod/desired/nodes.db/count");
	struct object o;
	struct write_request w = {0};
	cr_assert(find(&at, &o));
	place_entry(names, &at)->store(&o, &w);
	cr_expect_eq(w.kind, OBJECT_DEPLOYMENT);
	cr_expect_eq(w.id, 3);
	cr_expect_str_eq(w.section, "nodes db");
	cr_expect_str_eq(w.key, "count");
	free(w.section);
	free(w.key);
}

Test(view, links_point_to_objects)
{
	struct place at = walk("deployments/prod/nodes/prod-db-1");
	struct object o;
	_cleanup_buf_ struct buf link = {0};
	cr_expect(S_ISLNK(place_mode(names, &at)));
	cr_assert(find(&at, &o));
	place_link(&o, &link);
	cr_expect_str_eq(buf_str(&link), "../../../nodes/prod-db-1");
}

Test(view, owner_and_mode_come_from_the_document)
{
	struct owner repo = {0, 0, 0644}, got;
	struct object o;
	struct place at = walk("deployments/prod/state");
	cr_assert(find(&at, &o));
	place_owner(&o, place_entry(names, &at), place_mode(names, &at), &repo, &got);
	cr_expect_eq(got.uid, 1000);
	cr_expect_eq(got.mode, S_IFREG | 0440);

	at = walk("deployments/prod/ctl");
	cr_assert(find(&at, &o));
	place_owner(&o, place_entry(names, &at), place_mode(names, &at), &repo, &got);
	cr_expect_eq(got.mode, S_IFREG | 0640);
	def.store_gid = 2000; /* who may store there may write to what can be written */
	place_owner(&o, place_entry(names, &at), place_mode(names, &at), &repo, &got);
	cr_expect_eq(got.gid, 2000);
	cr_expect_eq(got.mode, S_IFREG | 0660);
	def.store_gid = (gid_t)-1;

	at = walk("ctl");
	cr_assert(find(&at, &o));
	place_owner(&o, place_entry(names, &at), place_mode(names, &at), &repo, &got);
	cr_expect_eq(got.uid, 0);
}

Test(view, what_is_gone_is_not_found)
{
	struct place at = walk("nodes/prod-db-1/state");
	struct object o;
	HASH_DELETE(hh_id, model.nodes_by_id, &node);
	cr_expect_not(find(&at, &o));
	struct place nonsense = {.kind = PLACE_NODE, .row = 99, .id = 4};
	cr_expect_not(find(&nonsense, &o));
	nonsense = (struct place){.kind = 15, .row = 3, .id = 4};
	cr_expect_not(find(&nonsense, &o));
}

Test(view, ssh_config_holds_the_host_key)
{
	node.row.host_key = "ssh-ed25519 AAAA";
	_cleanup_free_ char *text = read_file("deployments/prod/ssh_config");
	cr_expect(strstr(text, "Host prod-db-1 198.51.100.7\n"));
	cr_expect(strstr(text, "Port 2222\n"));
	cr_expect(strstr(text, "IdentityFile \"/state/id_ed25519\"\n"));
	cr_expect(strstr(text, "KnownHostsCommand /bin/echo prod-db-1 ssh-ed25519 AAAA\n"));
}

Test(view, manual_names_every_row)
{
	_cleanup_free_ char *text = read_file("README");
	for (int kind = 0; kind < PLACE_KINDS; kind++)
		for (const struct entry *e = entries_of((enum place_kind)kind); e->name; e++)
			cr_expect(strstr(text, e->help), "%s/%s", place_kind_name((enum place_kind)kind), e->name);
}
