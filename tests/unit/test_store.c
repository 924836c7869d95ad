/* The store through its interface alone: rows come back as they were put, callbacks in order, trouble is told and survived. What only a damaged or
 * older database shows is done to the file with SQL, as an accident would. */
#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "fs/base/str.h"
#include "fs/observed/store.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define eq_str(a, b) cr_assert_str_eq(a, b, "'%s' is not '%s'", a, b)
#define has(text, part) cr_assert(strstr(text, part), "'%s' is not in '%s'", part, text)

static char dir[64], path[128];
static uv_loop_t loop;
static struct store *store;

static void setup(void)
{
	strcpy(dir, "/tmp/rebarfs-store.XXXXXX");
	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/rebarfs.db", dir);
	cr_assert_eq(uv_loop_init(&loop), 0);
	alarm(100);
}

static void open_store(void)
{
	struct err *err = NULL;
	cr_assert_eq(store_open(path, &loop, &store, &err), 0, "%s", err_msg(err));
}

static void close_store(void)
{
	store_close(store);
	store = NULL;
	uv_run(&loop, UV_RUN_DEFAULT);
}

static void reopen(void)
{
	close_store();
	open_store();
}

static void teardown(void)
{
	if (store)
		close_store();
	cr_assert_eq(uv_loop_close(&loop), 0, "a handle is left");
	_cleanup_free_ char *command = xasprintf("rm -rf %s", dir);
	cr_assert_eq(system(command), 0);
}

TestSuite(store, .init = setup, .fini = teardown);

static void count(void *arg)
{
	++*(int *)arg;
}

/* Commits and lets the loop run until it is reported. */
static void commit(struct store_batch *b)
{
	int done = 0;
	store_commit(b, count, &done);
	cr_assert_eq(done, 0, "reported from inside the call");
	while (!done)
		uv_run(&loop, UV_RUN_ONCE);
}

static struct store_contents load(void)
{
	struct store_contents c;
	struct err *err = NULL;
	cr_assert_eq(store_load(store, &c, &err), 0, "%s", err_msg(err));
	return c;
}

static void sql(const char *text)
{
	sqlite3 *db;
	char *message = NULL;
	cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
	sqlite3_exec(db, text, NULL, NULL, &message);
	cr_assert_null(message, "%s", message);
	sqlite3_close(db);
}

static int schema_version(void)
{
	sqlite3 *db;
	sqlite3_stmt *st;
	cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
	cr_assert_eq(sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &st, NULL), SQLITE_OK);
	cr_assert_eq(sqlite3_step(st), SQLITE_ROW);
	int version = sqlite3_column_int(st, 0);
	sqlite3_finalize(st);
	sqlite3_close(db);
	return version;
}

#define S(s) ((char *)(s))

/* ---- rows ---- */

static void same(const char *got, const char *want)
{
	cr_assert(!got == !want && (!got || !strcmp(got, want)), "'%s' is not '%s'", got ? got : "NULL", want ? want : "NULL");
}

static const struct row_deployment some_deployment = {
        .id = 1, .name = S("etcd"), .paused = true, .destroying = true, .in_force = S("{\"a\": 1}"), .commit = S("abc"), .dirty = true};
static const struct row_node some_node = {.id = 2,
        .name = S("etcd-db-1"),
        .deployment = S("etcd"),
        .group = S("db"),
        .provider = S("laptop"),
        .incarnation = 3,
        .phase = 4,
        .machine = S("m-1"),
        .address = S("198.51.100.7"),
        .port = 2222,
        .user = S("root"),
        .key = S("key"),
        .host_key = S("ssh-ed25519 AAAA"),
        .image = S("debian-12"),
        .spec = S("spec"),
        .facts = S("{\"os\": \"debi\u00e4n\"}"),
        .error = S("it's \"gone\"; -- \n"),
        .attempts = 5,
        .since = 1795428153999,
        .held = S("disk swap"),
        .held_by = S("root"),
        .held_since = 1795428153000,
        .is_protected = true,
        .wish_rebuild = true,
        .wish_release = false,
        .wish_forget = true,
        .approved = S("create:spec"),
        .created = INT64_MAX};
static const struct row_node_role some_node_role = {.id = 3,
        .node_id = 2,
        .role = S("etcd"),
        .last_run = 7,
        .last_result = -1,
        .last_incarnation = 3,
        .last_digest = S("0100000000000000000000000000000000000000000000000000000000000000"),
        .last_started = 11,
        .last_took_ms = 12,
        .attempts = 13,
        .error = S("exit 1"),
        .wish_run = true,
        .outcome_unknown = true,
        .approved = S("hex"),
        .approved_unknown = S("a,b")};
static const struct row_run some_run = {.number = 7,
        .node_role_id = 3,
        .node_id = 2,
        .incarnation = 3,
        .role = S("etcd"),
        .digest = S("0100000000000000000000000000000000000000000000000000000000000000"),
        .result = 2,
        .exit_status = 255,
        .why = S("quorum 3 -> 5"),
        .started = 14,
        .took_ms = 15,
        .attempt = 16,
        .commit = S("abc"),
        .dirty = true};
static const struct row_event some_event = {
        .seq = 9, .at = 10, .deployment = S("etcd"), .node = S("n"), .role = S("r"), .who = S("uid 0 (bash 4711)"), .text = S("began")};
static const struct row_intent some_intent = {.id = 4, .kind = INTENT_CREATE, .node_id = 2, .incarnation = 3, .at = 17};
static const struct row_component some_component = {.hash = {{2}}, .text = S("5")};
static const struct row_digest some_digest = {
        .digest = {{1}}, .parts = S("{\"quorum\": \"0200000000000000000000000000000000000000000000000000000000000000\"}")};

static void put_some(struct store_batch *b)
{
	store_put_deployment(b, &some_deployment);
	store_put_node(b, &some_node);
	store_put_node_role(b, &some_node_role);
	store_put_run(b, &some_run);
	store_set_outputs(b, 3, (struct row_output[]){{3, S("url"), S("http://x\n")}, {3, S("empty"), S("")}}, 2);
	store_put_event(b, &some_event);
	store_put_intent(b, &some_intent);
	store_put_component(b, &some_component);
	store_put_digest(b, &some_digest);
}

static void same_node(const struct row_node *a, const struct row_node *b)
{
	char *const as[] = {a->name, a->deployment, a->group, a->provider, a->machine, a->address, a->user, a->key, a->host_key, a->image, a->spec,
	        a->facts, a->error, a->held, a->held_by, a->approved, a->recipe};
	char *const bs[] = {b->name, b->deployment, b->group, b->provider, b->machine, b->address, b->user, b->key, b->host_key, b->image, b->spec,
	        b->facts, b->error, b->held, b->held_by, b->approved, b->recipe};
	const int64_t an[] = {a->id, a->incarnation, a->phase, a->port, a->attempts, a->since, a->held_since, a->is_protected, a->wish_rebuild,
	        a->wish_release, a->wish_forget, a->wish_adopt, a->created};
	const int64_t bn[] = {b->id, b->incarnation, b->phase, b->port, b->attempts, b->since, b->held_since, b->is_protected, b->wish_rebuild,
	        b->wish_release, b->wish_forget, b->wish_adopt, b->created};
	for (size_t i = 0; i < sizeof as / sizeof *as; i++)
		same(as[i], bs[i]);
	cr_assert_arr_eq(an, bn, sizeof an);
}

static void same_node_role(const struct row_node_role *a, const struct row_node_role *b)
{
	const int64_t an[] = {a->id, a->node_id, a->last_run, a->last_result, a->last_incarnation, a->last_started, a->last_took_ms, a->attempts,
	        a->wish_run, a->outcome_unknown};
	const int64_t bn[] = {b->id, b->node_id, b->last_run, b->last_result, b->last_incarnation, b->last_started, b->last_took_ms, b->attempts,
	        b->wish_run, b->outcome_unknown};
	cr_assert_arr_eq(an, bn, sizeof an);
	same(a->role, b->role);
	same(a->last_digest, b->last_digest);
	same(a->error, b->error);
	same(a->approved, b->approved);
	same(a->approved_unknown, b->approved_unknown);
}

static void same_run(const struct row_run *a, const struct row_run *b)
{
	const int64_t an[] = {a->number, a->node_role_id, a->node_id, a->incarnation, a->result, a->exit_status, a->started, a->took_ms, a->attempt};
	const int64_t bn[] = {b->number, b->node_role_id, b->node_id, b->incarnation, b->result, b->exit_status, b->started, b->took_ms, b->attempt};
	cr_assert_arr_eq(an, bn, sizeof an);
	same(a->role, b->role);
	same(a->digest, b->digest);
	same(a->why, b->why);
	same(a->commit, b->commit);
}

static void is_some_but_dirty(const struct store_contents *c)
{
	cr_assert(c->n_deployments == 1 && c->n_nodes == 1 && c->n_node_roles == 1 && c->n_runs == 1 && c->n_outputs == 2 && c->n_events == 1 &&
	          c->n_intents == 1);
	cr_assert(c->n_components == 1 && c->n_digests == 1);
	const struct row_deployment *d = c->deployments;
	cr_assert(d->id == 1 && d->paused && d->destroying);
	same(d->name, "etcd");
	same(d->in_force, some_deployment.in_force);
	same(d->commit, "abc");
	same_node(c->nodes, &some_node);
	same_node_role(c->node_roles, &some_node_role);
	same_run(c->runs, &some_run);
	cr_assert(c->outputs[0].node_role_id == 3 && c->outputs[1].node_role_id == 3);
	same(c->outputs[0].key, "empty");
	same(c->outputs[0].value, "");
	same(c->outputs[1].key, "url");
	same(c->outputs[1].value, "http://x\n");
	const struct row_event *e = c->events;
	cr_assert(e->seq == 9 && e->at == 10);
	same(e->deployment, "etcd");
	same(e->node, "n");
	same(e->role, "r");
	same(e->who, "uid 0 (bash 4711)");
	same(e->text, "began");
	const struct row_intent *i = c->intents;
	cr_assert(i->id == 4 && i->kind == INTENT_CREATE && i->node_id == 2 && i->incarnation == 3 && i->at == 17);
	cr_assert(hash_eq(&c->components[0].hash, &some_component.hash) && hash_eq(&c->digests[0].digest, &some_digest.digest));
	same(c->components[0].text, "5");
	same(c->digests[0].parts, some_digest.parts);
	cr_assert(c->max_id == 4 && c->max_run == 7 && c->max_seq == 9);
}

static void is_some(const struct store_contents *c)
{
	is_some_but_dirty(c);
	cr_assert(c->deployments->dirty && c->runs->dirty);
}

Test(store, every_row_comes_back)
{
	open_store();
	struct store_contents c = load();
	cr_assert(!c.nodes && !c.n_nodes && !c.n_events && c.max_id == 0 && c.max_run == 0 && c.max_seq == 0);
	store_contents_release(&c);
	struct store_batch *b = store_batch_new(store);
	cr_assert(store_batch_empty(b));
	put_some(b);
	cr_assert(!store_batch_empty(b));
	commit(b);
	reopen();
	c = load();
	is_some(&c);
	store_contents_release(&c);
	cr_assert_null(c.nodes);
}

Test(store, put_replaces_and_null_stays_null)
{
	open_store();
	struct store_batch *b = store_batch_new(store);
	struct row_node bare = {.id = 2, .name = S("etcd-db-1"), .recipe = S("{\"packages\":[\"jq\"]}"), .wish_adopt = true};
	struct row_node_role bare_role = {.id = 3, .node_id = 2, .role = S("etcd")};
	put_some(b);
	commit(b);
	b = store_batch_new(store);
	store_put_node(b, &bare);
	store_put_node_role(b, &bare_role);
	store_put_run(b, &(struct row_run){.number = 7, .node_role_id = 3});
	store_put_deployment(b, &(struct row_deployment){.id = 1, .name = S("etcd")});
	store_put_event(b, &(struct row_event){.seq = 10, .text = S("x")});
	store_set_outputs(b, 3, (struct row_output[]){{3, S("only"), S("one")}}, 1);
	store_put_component(b, &(struct row_component){.hash = some_component.hash, .text = S("another")});
	commit(b);
	reopen();
	struct store_contents c = load();
	cr_assert(c.n_nodes == 1 && c.n_node_roles == 1 && c.n_runs == 1 && c.n_deployments == 1 && c.n_events == 2 && c.n_outputs == 1);
	same_node(c.nodes, &bare);
	same_node_role(c.node_roles, &bare_role);
	same_run(c.runs, &(struct row_run){.number = 7, .node_role_id = 3});
	cr_assert(!c.deployments[0].in_force && !c.deployments[0].paused);
	cr_assert(!c.events[1].who && !c.events[1].node);
	same(c.outputs[0].key, "only");
	cr_assert_eq(c.n_components, 0, "what no kept digest is made of is dropped");
	store_contents_release(&c);
	b = store_batch_new(store);
	store_set_outputs(b, 3, NULL, 0);
	commit(b);
	c = load();
	cr_assert_eq(c.n_outputs, 0);
	store_contents_release(&c);
}

/* What the schema wants and was not given must not stop all that comes behind it. */
Test(store, nothing_blocks_the_queue)
{
	open_store();
	struct store_batch *b = store_batch_new(store);
	store_put_deployment(b, &(struct row_deployment){.id = 1});
	store_put_node(b, &(struct row_node){.id = 2});
	store_put_node_role(b, &(struct row_node_role){.id = 3});
	store_put_run(b, &(struct row_run){.number = 1});
	store_put_event(b, &(struct row_event){.seq = 1});
	store_set_outputs(b, 3, (struct row_output[]){{3, NULL, NULL}}, 1);
	store_put_digest(b, &(struct row_digest){.digest = {{9}}});
	commit(b);
	b = store_batch_new(store);
	store_put_event(b, &(struct row_event){.seq = 2, .text = S("")}); /* nothing but an empty string */
	commit(b);
	struct store_contents c = load();
	cr_assert(c.n_deployments == 1 && c.n_nodes == 1 && c.n_node_roles == 1 && c.n_runs == 1 && c.n_events == 2 && c.n_outputs == 1);
	same(c.events[1].text, "");
	same(c.nodes[0].name, "");
	store_contents_release(&c);
	commit(store_batch_new(store)); /* nor does an empty one */
}

Test(store, delete_takes_what_belongs_to_it)
{
	open_store();
	struct store_batch *b = store_batch_new(store);
	for (int64_t n = 1; n <= 2; n++) {
		store_put_node(b, &(struct row_node){.id = n, .name = S("n")});
		for (int64_t r = n * 10; r < n * 10 + 2; r++) {
			store_put_node_role(b, &(struct row_node_role){.id = r, .node_id = n, .role = S("r")});
			store_set_outputs(b, r, (struct row_output[]){{r, S("k"), S("v")}}, 1);
			for (int64_t i = 0; i < 3; i++)
				store_put_run(b, &(struct row_run){.number = r * 10 + i, .node_role_id = r, .node_id = n});
		}
		store_put_intent(b, &(struct row_intent){.id = 100 + n, .kind = INTENT_CREATE, .node_id = n});
	}
	store_put_deployment(b, &(struct row_deployment){.id = 200, .name = S("d")});
	commit(b);
	b = store_batch_new(store);
	store_del_node(b, 1);
	store_del_node_role(b, 21);
	store_del_runs_before(b, 20, 202);
	store_del_deployment(b, 200);
	commit(b);
	struct store_contents c = load();
	cr_assert(c.n_nodes == 1 && c.nodes[0].id == 2);
	cr_assert(c.n_node_roles == 1 && c.node_roles[0].id == 20);
	cr_assert(c.n_outputs == 1 && c.outputs[0].node_role_id == 20);
	cr_assert(c.n_runs == 1 && c.runs[0].number == 202);
	cr_assert(c.n_intents == 1 && c.intents[0].id == 102);
	cr_assert_eq(c.n_deployments, 0);
	store_contents_release(&c);
	b = store_batch_new(store);
	store_del_intent(b, 102);
	store_del_node(b, 2);
	store_del_node(b, 4711); /* not there */
	commit(b);
	c = load();
	cr_assert(!c.n_nodes && !c.n_node_roles && !c.n_outputs && !c.n_runs && !c.n_intents);
	store_contents_release(&c);
}

/* A machine's tag names its node's id, a directory on the node its run's number: neither may be given to another after a restart. */
Test(store, numbers_are_never_used_twice)
{
	open_store();
	struct store_batch *b = store_batch_new(store);
	store_put_node(b, &(struct row_node){.id = 1, .name = S("kept")});
	store_put_node(b, &(struct row_node){.id = 50, .name = S("gone")});
	store_put_node_role(b, &(struct row_node_role){.id = 60, .node_id = 50, .role = S("r")});
	store_put_run(b, &(struct row_run){.number = 900, .node_role_id = 60, .node_id = 50});
	store_put_intent(b, &(struct row_intent){.id = 70, .kind = INTENT_DESTROY, .node_id = 1});
	commit(b);
	b = store_batch_new(store);
	store_del_node(b, 50);
	store_del_intent(b, 70);
	commit(b);
	reopen();
	struct store_contents c = load();
	cr_assert_eq(c.max_id, 70, "%lld", (long long)c.max_id);
	cr_assert_eq(c.max_run, 900, "%lld", (long long)c.max_run);
	store_contents_release(&c);
}

/* ---- the writer ---- */

static struct {
	int n;
	int order[5000];
} reported;

static void note(void *arg)
{
	reported.order[reported.n++] = (int)(intptr_t)arg;
}

Test(store, callbacks_in_order)
{
	open_store();
	int64_t start = monotonic_ms();
	for (int i = 0; i < 5000; i++) {
		struct store_batch *b = store_batch_new(store);
		/* the same row each time: the last one must win */
		store_put_node(b, &(struct row_node){.id = 1, .name = S("n"), .attempts = i});
		store_commit(b, note, (void *)(intptr_t)i);
		if (i % 100 == 0)
			uv_run(&loop, UV_RUN_NOWAIT);
	}
	while (reported.n < 5000)
		uv_run(&loop, UV_RUN_ONCE);
	for (int i = 0; i < 5000; i++)
		cr_assert_eq(reported.order[i], i);
	/* 5,000 commits of one batch each would take 2.5 s and more: those that wait go together */
	cr_log_info("5000 batches in %lld ms", (long long)(monotonic_ms() - start));
	struct store_contents c = load();
	cr_assert_eq(c.nodes[0].attempts, 4999);
	store_contents_release(&c);
}

static double cpu_ms(void)
{
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e3 + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e3;
}

/* What 1,000 nodes with 10 roles write from nothing to active. */
Test(store, ten_thousand_node_roles)
{
	static const char digest[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	open_store();
	double before = cpu_ms(), submitted = 0;
	int64_t seq = 0;
	int done = 0;
	for (int round = 0; round < 2; round++)
		for (int turn = 0; turn < 100; turn++) {
			double begin = cpu_ms();
			struct store_batch *b = store_batch_new(store);
			for (int i = turn * 100 + 1; i <= turn * 100 + 100; i++) {
				store_put_node_role(b, &(struct row_node_role){.id = i,
				                               .node_id = i / 10,
				                               .role = S("etcd"),
				                               .last_run = i,
				                               .last_result = round - 1,
				                               .last_digest = S(digest),
				                               .last_started = 1795428153999,
				                               .approved = S(digest)});
				store_put_run(b, &(struct row_run){.number = i,
				                         .node_role_id = i,
				                         .node_id = i / 10,
				                         .role = S("etcd"),
				                         .digest = S(digest),
				                         .result = round - 1,
				                         .why = S("new"),
				                         .started = 1795428153999});
				store_put_event(b, &(struct row_event){.seq = ++seq,
				                           .at = 1795428153999,
				                           .deployment = S("big"),
				                           .node = S("big-n-0001"),
				                           .role = S("etcd"),
				                           .who = S("rebarfs"),
				                           .text = S("etcd on big-n-0001 began: new")});
			}
			submitted += cpu_ms() - begin;
			store_commit(b, count, &done);
		}
	while (done < 200)
		uv_run(&loop, UV_RUN_ONCE);
	double spent = cpu_ms() - before;
	cr_log_info("10,000 node roles: %.0f ms CPU, of these at most %.0f in the engine's thread", spent, submitted);
	if (!getenv("ASAN_OPTIONS") && !getenv("TSAN_OPTIONS") && !getenv("VALGRIND"))
		cr_assert_lt(spent, 1500, "%.0f ms CPU", spent);
	close_store();
	open_store();
	struct store_contents c = load();
	cr_assert(c.n_node_roles == 10000 && c.n_runs == 10000);
	for (size_t i = 0; i < 10000; i++) {
		cr_assert(c.node_roles[i].id == (int64_t)i + 1 && c.node_roles[i].last_result == 0);
		cr_assert(c.runs[i].number == (int64_t)i + 1 && c.runs[i].result == 0);
	}
	store_contents_release(&c);
}

Test(store, events_are_trimmed)
{
	open_store();
	struct store_batch *b = store_batch_new(store);
	for (int64_t i = 1; i <= 25500; i++)
		store_put_event(b, &(struct row_event){.seq = i, .at = i, .text = S("something happened")});
	commit(b);
	struct store_contents c = load();
	cr_assert_eq(c.n_events, 10000);
	cr_assert(c.events[0].seq == 15501 && c.events[9999].seq == 25500 && c.max_seq == 25500);
	store_contents_release(&c);
	close_store();
	sqlite3 *db;
	sqlite3_stmt *st;
	cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
	cr_assert_eq(sqlite3_prepare_v2(db, "SELECT count(*) FROM events", -1, &st, NULL), SQLITE_OK);
	cr_assert_eq(sqlite3_step(st), SQLITE_ROW);
	cr_assert_leq(sqlite3_column_int(st, 0), 11000, "%d events are kept", sqlite3_column_int(st, 0));
	sqlite3_finalize(st);
	sqlite3_close(db);
}

Test(store, close_finishes_what_was_submitted)
{
	open_store();
	int done = 0;
	for (int i = 1; i <= 1000; i++) {
		struct store_batch *b = store_batch_new(store);
		store_put_node(b, &(struct row_node){.id = i, .name = S("n")});
		store_commit(b, count, &done);
	}
	reopen();
	cr_assert_eq(done, 0, "called back after the close");
	struct store_contents c = load();
	cr_assert_eq(c.n_nodes, 1000);
	store_contents_release(&c);
	store_close(NULL);
}

/* A batch that was reported is there, whatever happens to the process right behind it. */
Test(store, reported_means_durable)
{
	int pipefd[2];
	cr_assert_eq(pipe2(pipefd, O_CLOEXEC), 0);
	pid_t child = fork();
	if (child == 0) {
		open_store();
		struct store_batch *b = store_batch_new(store);
		put_some(b);
		commit(b);
		(void)!write(pipefd[1], "x", 1);
		pause();
		_exit(0);
	}
	char c1;
	close(pipefd[1]);
	cr_assert_eq(read(pipefd[0], &c1, 1), 1);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	open_store();
	struct store_contents c = load();
	is_some(&c);
	store_contents_release(&c);
	close(pipefd[0]);
}

Test(store, descriptors_are_close_on_exec)
{
	open_store();
	int n = 0;
	for (int fd = 3; fd < 200; fd++) {
		_cleanup_free_ char *link = xasprintf("/proc/self/fd/%d", fd);
		char target[300];
		ssize_t len = readlink(link, target, sizeof target - 1);
		if (len < 0)
			continue;
		target[len] = '\0';
		if (strncmp(target, path, strlen(path)))
			continue;
		n++;
		cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC, "%s", target);
	}
	cr_assert_geq(n, 2, "the database and its log");
}

Test(store, meta)
{
	char *v = S("untouched");
	open_store();
	cr_assert_eq(store_meta_get(store, "owner", &v, NULL), 0);
	cr_assert_null(v);
	cr_assert_eq(store_meta_put(store, "owner", "1f3a", NULL), 0);
	cr_assert_eq(store_meta_put(store, "owner", "2b", NULL), 0);
	reopen();
	cr_assert_eq(store_meta_get(store, "owner", &v, NULL), 0);
	same(v, "2b");
	free(v);
}

/* ---- trouble ---- */

static void refuses(int rc, const char *sentence)
{
	_cleanup_err_ struct err *err = NULL;
	struct store *s = NULL;
	int got = store_open(path, &loop, &s, &err);
	uv_run(&loop, UV_RUN_DEFAULT);
	cr_assert_eq(got, rc, "%d: %s", got, err_msg(err));
	cr_assert_null(s);
	has(err_msg(err), path);
	has(err_msg(err), sentence);
}

Test(store, a_missing_directory)
{
	snprintf(path, sizeof path, "%s/none/rebarfs.db", dir);
	refuses(-ENOENT, "cannot open database '");
	refuses(-ENOENT, "No such file or directory");
}

Test(store, something_else_in_its_place)
{
	cr_assert_eq(mkdir(path, 0700), 0);
	refuses(-EISDIR, "Is a directory");
	cr_assert_eq(rmdir(path), 0);
	FILE *f = fopen(path, "we");
	for (int i = 0; i < 1000; i++)
		fputs("this is not a database\n", f);
	fclose(f);
	refuses(-EUCLEAN, "file is not a database");
}

Test(store, a_newer_schema)
{
	open_store();
	close_store();
	int newest = schema_version();
	sql("PRAGMA user_version = 99");
	refuses(-EBUSY, "has schema 99");
	refuses(-EBUSY, "it was written by a newer one");
	_cleanup_free_ char *back = xasprintf("PRAGMA user_version = %d", newest);
	sql(back);
	open_store();
}

/* What each version of the schema added, taken away again, the last one first. */
static const char *const before[] = {
        "DROP TRIGGER deployment_gone; DROP TRIGGER node_gone; DROP TRIGGER node_role_gone; DROP TRIGGER intent_gone; DROP TRIGGER run_gone;"
        "DROP TABLE used",
        "ALTER TABLE deployments DROP COLUMN passed",
        "ALTER TABLE node_roles DROP COLUMN checked; ALTER TABLE node_roles DROP COLUMN drift",
        "ALTER TABLE nodes DROP COLUMN recipe",
        "ALTER TABLE nodes DROP COLUMN wish_adopt",
        "ALTER TABLE deployments DROP COLUMN dirty; ALTER TABLE runs DROP COLUMN dirty",
        "ALTER TABLE node_roles DROP COLUMN remover",
        "ALTER TABLE nodes DROP COLUMN power; ALTER TABLE nodes DROP COLUMN power_by",
        "ALTER TABLE nodes DROP COLUMN reboot",
};

/* Nothing is lost but what the version did not have: with number 1 the memory of numbers that are gone. */
Test(store, an_older_schema)
{
	const int newest = (int)(sizeof before / sizeof *before) + 1;
	open_store();
	struct store_batch *b = store_batch_new(store);
	put_some(b);
	commit(b);
	cr_assert_eq(schema_version(), newest, "say above what the new one added");
	for (int version = newest - 1; version >= 1; version--) {
		close_store();
		for (int i = newest - 1; i >= version; i--)
			sql(before[i - 1]);
		_cleanup_free_ char *now = xasprintf("PRAGMA user_version = %d", version);
		sql(now);
		open_store();
		struct store_contents c = load();
		is_some_but_dirty(&c);
		cr_assert(version > 6 || (!c.deployments->dirty && !c.runs->dirty), "nobody knew in version %d", version);
		store_contents_release(&c);
	}
	b = store_batch_new(store);
	store_del_intent(b, 4);
	commit(b);
	struct store_contents c = load();
	cr_assert(c.n_intents == 0 && c.max_id == 4);
	store_contents_release(&c);
}

Test(store, a_migration_that_fails_leaves_it_as_it_was)
{
	open_store();
	close_store();
	sql("DROP TABLE used; PRAGMA user_version = 1"); /* with triggers of these names the next one cannot be made */
	refuses(-EIO, "trigger deployment_gone already exists");
	sql("CREATE TABLE used(name TEXT PRIMARY KEY, last INTEGER NOT NULL) STRICT, WITHOUT ROWID"); /* was rolled back: not there */
}

static void private_mount(const char *size)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		cr_skip_test("needs a mount namespace of its own: run as root");
	cr_assert_eq(mount("tmpfs", dir, "tmpfs", 0, size), 0);
}

Test(store, a_read_only_file_system)
{
	private_mount("size=8m");
	open_store();
	close_store();
	cr_assert_eq(mount(NULL, dir, NULL, MS_REMOUNT | MS_RDONLY, "size=8m"), 0);
	refuses(-EROFS, "the file or its file system is read-only");
	cr_assert_eq(mount(NULL, dir, NULL, MS_REMOUNT, "size=8m"), 0);
	open_store();
	close_store();
	cr_assert_eq(umount(dir), 0);
}

static void wait_ms(int64_t ms)
{
	int64_t end = monotonic_ms() + ms;
	while (monotonic_ms() < end) {
		uv_run(&loop, UV_RUN_NOWAIT);
		usleep(10000);
	}
}

/* Takes all the space that is left. */
static void fill(const char *name)
{
	static char chunk[4096];
	int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	while (write(fd, chunk, sizeof chunk) > 0)
		;
	close(fd);
}

Test(store, a_full_disk_is_told_and_survived)
{
	private_mount("size=2m");
	_cleanup_free_ char *ballast = xasprintf("%s/ballast", dir), *facts = xcalloc(1, 200001);
	int done = 0, later = 0;
	memset(facts, 'f', 200000);
	open_store();
	cr_assert_null(store_trouble(store));
	fill(ballast);
	struct store_batch *b = store_batch_new(store);
	store_put_node(b, &(struct row_node){.id = 1, .name = S("n"), .facts = facts});
	store_commit(b, count, &done);
	b = store_batch_new(store);
	store_put_node(b, &(struct row_node){.id = 2, .name = S("behind it")});
	store_commit(b, count, &later);
	wait_ms(1500);
	_cleanup_free_ char *trouble = store_trouble(store);
	cr_assert_not_null(trouble);
	has(trouble, "rebarfs.db': database or disk is full; trying again every second");
	cr_assert(!done && !later, "reported although it is not written");
	cr_assert_eq(unlink(ballast), 0);
	int64_t start = monotonic_ms();
	while (!done || !later)
		uv_run(&loop, UV_RUN_ONCE);
	cr_assert_lt(monotonic_ms() - start, 2500);
	cr_assert_null(store_trouble(store));
	reopen();
	struct store_contents c = load();
	cr_assert_eq(c.n_nodes, 2);
	cr_assert_eq(strlen(c.nodes[0].facts), 200000);
	store_contents_release(&c);
	close_store();
	cr_assert_eq(umount(dir), 0);
}

/* A close does not wait for ever for a disk that stays full, and what is behind the lost batch is lost with it. */
Test(store, close_gives_up)
{
	private_mount("size=2m");
	_cleanup_free_ char *ballast = xasprintf("%s/ballast", dir), *facts = xcalloc(1, 200001);
	memset(facts, 'f', 200000);
	log_max = LOG_ERROR;
	open_store();
	fill(ballast);
	struct store_batch *b = store_batch_new(store);
	store_put_node(b, &(struct row_node){.id = 1, .name = S("n"), .facts = facts});
	store_commit(b, NULL, NULL);
	wait_ms(300);
	b = store_batch_new(store);
	store_put_node(b, &(struct row_node){.id = 2, .name = S("behind it")});
	store_commit(b, NULL, NULL);
	int64_t start = monotonic_ms();
	close_store();
	cr_assert(monotonic_ms() - start < 13000);
	cr_assert_eq(unlink(ballast), 0);
	open_store();
	struct store_contents c = load();
	cr_assert_eq(c.n_nodes, 0);
	store_contents_release(&c);
	close_store();
	cr_assert_eq(umount(dir), 0);
}
