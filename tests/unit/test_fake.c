/* The fake provider against its contract: what it makes is found again after a restart and after a killed one, every call ends exactly once, faults
 * come as set and come again with the same seed. */
#include "fs/base/buf.h"
#include "fs/base/io.h"
#include "fs/base/keys.h"
#include "fs/base/mem.h"
#include "providers/provider.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

extern const struct provider_ops provider_fake;

struct fixture {
	uv_loop_t loop;
	char dir[32];
	struct provider_host host;
	struct settings set;
	struct provider *p;
};

/* What the last call said. */
struct answer {
	int n_done, rc;
	char *sentence;
	size_t n;
	struct machine first;
	char *ref, *address, *facts;
	bool has[64]; /* nodes seen in a list */
};

static void setup(struct fixture *f)
{
	*f = (struct fixture){0};
	cr_assert_eq(uv_loop_init(&f->loop), 0);
	strcpy(f->dir, "/tmp/rebarfs-fake.XXXXXX");
	cr_assert(mkdtemp(f->dir));
	f->host = (struct provider_host){.loop = &f->loop, .name = "sim", .owner = "1f3a000000000000", .state_dir = f->dir};
}

static void set(struct fixture *f, const char *key, const char *value)
{
	settings_add(&f->set, "fake", key, value, 1);
}

static void open_it(struct fixture *f)
{
	struct err *err = NULL;
	int rc = provider_fake.open(&f->host, &f->set, &f->p, &err);

	cr_assert_eq(rc, 0, "%s", err_msg(err));
}

static void close_it(struct fixture *f)
{
	provider_fake.close(f->p);
	uv_run(&f->loop, UV_RUN_DEFAULT);
}

static void teardown(struct fixture *f)
{
	close_it(f);
	cr_assert_eq(uv_loop_close(&f->loop), 0, "something of the provider is left on the loop");
	tree_remove(f->dir, NULL);
	settings_release(&f->set);
}

static void on_done(struct provider_call *call, int rc, const struct err *err, const struct machine *machines, size_t n)
{
	struct answer *a = call->data;

	a->n_done++;
	a->rc = rc;
	str_replace(&a->sentence, err ? err_msg(err) : NULL);
	a->n = n;
	memset(a->has, 0, sizeof a->has);
	for (size_t i = 0; i < n; i++) {
		if (machines[i].node_id < 64)
			a->has[machines[i].node_id] = true;
	}
	if (n) {
		a->first = machines[0];
		str_replace(&a->ref, machines[0].ref);
		str_replace(&a->address, machines[0].address);
		str_replace(&a->facts, machines[0].facts);
	}
}

static void answer_release(struct answer *a)
{
	free(a->sentence);
	free(a->ref);
	free(a->address);
	free(a->facts);
}
#define _cleanup_answer_ __attribute__((cleanup(answer_release)))

static void until_done(struct fixture *f, const struct answer *a)
{
	while (!a->n_done && uv_run(&f->loop, UV_RUN_ONCE))
		;
	cr_assert_eq(a->n_done, 1, "done came %d times", a->n_done);
}

static void create(struct fixture *f, uint64_t node_id, uint32_t incarnation, struct answer *a)
{
	struct machine_spec spec = {
	        .node_id = node_id, .incarnation = incarnation, .name = "db-1", .image = "debian-12", .cpus = 2, .memory_bytes = 512 << 20};
	struct provider_call call = {.done = on_done, .data = a};

	a->n_done = 0;
	provider_fake.create(f->p, &spec, &call);
	cr_assert_eq(a->n_done, 0, "done came from inside the call");
	until_done(f, a);
}

static void list(struct fixture *f, struct answer *a)
{
	struct provider_call call = {.done = on_done, .data = a};

	a->n_done = 0;
	provider_fake.list(f->p, &call);
	until_done(f, a);
	cr_assert_eq(a->rc, 0);
}

static void destroy(struct fixture *f, uint64_t node_id, uint32_t incarnation, struct answer *a)
{
	struct provider_call call = {.done = on_done, .data = a};

	a->n_done = 0;
	provider_fake.destroy(f->p, node_id, incarnation, &call);
	until_done(f, a);
}

struct run_answer {
	int n_done, status;
	char *why, *value;
};

static void on_run(struct simulated_run *run, int status, const char *why, const char *const *values)
{
	struct run_answer *a = run->data;

	a->n_done++;
	a->status = status;
	str_replace(&a->why, why);
	str_replace(&a->value, values ? values[0] : NULL);
}

static void run_release(struct run_answer *a)
{
	free(a->why);
	free(a->value);
}
#define _cleanup_run_ __attribute__((cleanup(run_release)))

static void simulate(struct fixture *f, uint64_t node_id, int64_t number, int64_t timeout_ms, struct run_answer *a)
{
	static const char *const outputs[] = {"version", NULL};
	struct simulated_run run = {.node_id = node_id,
	        .incarnation = 1,
	        .number = number,
	        .role = "etcd",
	        .outputs = outputs,
	        .timeout_ms = timeout_ms,
	        .done = on_run,
	        .data = a};

	a->n_done = 0;
	provider_fake.simulate(f->p, &run);
	cr_assert_eq(a->n_done, 0, "done came from inside the call");
	while (!a->n_done && uv_run(&f->loop, UV_RUN_ONCE))
		;
	cr_assert_eq(a->n_done, 1);
}

Test(fake, makes_what_was_asked_for)
{
	struct fixture f;
	_cleanup_answer_ struct answer a = {0};

	setup(&f);
	set(&f, "create-delay", "20ms");
	open_it(&f);
	uint64_t start = uv_hrtime();
	create(&f, 7, 1, &a);
	cr_assert_eq(a.rc, 0);
	cr_assert_geq(uv_hrtime() - start, UINT64_C(18000000));
	cr_assert_eq(a.n, 1);
	cr_assert_eq(a.first.node_id, 7);
	cr_assert_eq(a.first.incarnation, 1);
	cr_assert(a.first.running);
	cr_assert_null(a.first.host_key);
	cr_assert_str_eq(a.ref, "rb1f3a-7");
	cr_assert_str_eq(a.address, "198.18.0.8");
	json_t *facts = json_loads(a.facts, 0, NULL);
	cr_assert(facts);
	cr_assert_str_eq(json_string_value(json_object_get(facts, "os")), "fake");
	cr_assert_eq(json_number_value(json_object_get(facts, "cpus")), 2);
	cr_assert_eq(json_integer_value(json_object_get(facts, "memory")), 512 << 20);
	json_decref(facts);
	/* The same triple again is the same machine, not an error and not a second one. */
	create(&f, 7, 1, &a);
	cr_assert_eq(a.rc, 0);
	list(&f, &a);
	cr_assert_eq(a.n, 1);
	/* An older incarnation than what is there must not replace it. */
	create(&f, 7, 2, &a);
	create(&f, 7, 1, &a);
	cr_assert_eq(a.rc, -EINVAL);
	list(&f, &a);
	cr_assert_eq(a.n, 1);
	cr_assert_eq(a.first.incarnation, 2);
	teardown(&f);
}

Test(fake, machines_survive_restart_and_kill)
{
	struct fixture f;
	_cleanup_answer_ struct answer a = {0};
	_cleanup_buf_ struct buf whole = {0}, compact = {0};
	struct provider_call off = {.done = on_done, .data = &a};

	setup(&f);
	set(&f, "create-delay", "1ms");
	open_it(&f);
	for (uint64_t id = 1; id <= 20; id++)
		create(&f, id, 1, &a);
	destroy(&f, 3, 1, &a);
	destroy(&f, 4, 2, &a); /* another incarnation than what is there */
	cr_assert_eq(a.rc, 0);
	destroy(&f, 63, 1, &a);
	cr_assert_eq(a.rc, 0, "destroying what is not there is success");
	create(&f, 5, 2, &a);
	a.n_done = 0;
	provider_fake.power(f.p, 6, 1, POWER_OFF, &off);
	until_done(&f, &a);

	/* Another daemon on the file while the first still has it open is what a killed one looks like; and the power cut the last line. */
	char *path = path_join(f.dir, "machines");
	FILE *torn = fopen(path, "a");
	fputs("+ 21 1 1 17", torn);
	fclose(torn);
	file_read(AT_FDCWD, path, SIZE_MAX, &whole, NULL);
	struct provider *killed = f.p;
	open_it(&f);
	list(&f, &a);
	cr_assert_eq(a.n, 19);
	cr_assert(!a.has[3] && a.has[4] && a.has[5] && a.has[6] && !a.has[21]);
	file_read(AT_FDCWD, path, SIZE_MAX, &compact, NULL);
	cr_assert_lt(compact.len, whole.len, "the file is written anew, without what is gone");
	int lines = 0;
	for (size_t i = 0; i < compact.len; i++)
		lines += compact.data[i] == '\n';
	cr_assert_eq(lines, 19);
	/* What is off stays off, and the rebuilt one is the new one. */
	_cleanup_run_ struct run_answer r = {0};
	simulate(&f, 6, 1, 0, &r);
	cr_assert_str_eq(r.why, "no answer: the simulated machine is off");
	simulate(&f, 5, 1, 0, &r);
	cr_assert_str_eq(r.why, "no answer: the simulated machine is gone", "incarnation 1 was replaced");
	create(&f, 22, 1, &a);
	provider_fake.close(killed);
	free(path);
	close_it(&f);
	open_it(&f);
	list(&f, &a);
	cr_assert_eq(a.n, 20);
	cr_assert(a.has[22]);
	teardown(&f);
}

Test(fake, refuses_a_file_that_is_not_its_own)
{
	struct fixture f;
	struct err *err = NULL;
	struct provider *p = NULL;

	setup(&f);
	char *path = path_join(f.dir, "machines");
	cr_assert_eq(file_write_atomic(AT_FDCWD, path, "+ 1 1 1 0 0 1 1 x\nhello\n", 24, 0600, NULL), 0);
	cr_assert_eq(provider_fake.open(&f.host, &f.set, &p, &err), -EINVAL);
	cr_assert(strstr(err_msg(err), "line 2 is not a machine: 'hello'"), "%s", err_msg(err));
	err_free(err);
	unlink(path);
	free(path);
	open_it(&f);
	teardown(&f);
}

Test(fake, rates_are_shares)
{
	struct fixture f;
	struct err *err = NULL;
	struct provider *p = NULL;
	struct settings worse = {0};

	setup(&f);
	settings_add(&worse, "fake", "failure-rate", "1.5", 3);
	cr_assert_eq(provider_fake.open(&f.host, &worse, &p, &err), -ERANGE);
	cr_assert(strstr(err_msg(err), "'failure-rate' is 1.5"), "%s", err_msg(err));
	err_freep(&err);
	open_it(&f);
	cr_assert_eq(provider_fake.reload(f.p, &worse, &err), -ERANGE);
	err_freep(&err);
	settings_release(&worse);
	teardown(&f);
}

Test(fake, runs_give_outputs_that_do_not_change)
{
	struct fixture f;
	_cleanup_answer_ struct answer a = {0};
	_cleanup_run_ struct run_answer r = {0};

	setup(&f);
	set(&f, "create-delay", "1ms");
	set(&f, "role-delay", "15ms");
	open_it(&f);
	create(&f, 9, 1, &a);
	uint64_t start = uv_hrtime();
	simulate(&f, 9, 100, 0, &r);
	cr_assert_geq(uv_hrtime() - start, UINT64_C(13000000));
	cr_assert_eq(r.status, 0);
	cr_assert_str_eq(r.value, "version-9");
	simulate(&f, 9, 101, 0, &r);
	cr_assert_str_eq(r.value, "version-9");
	/* A run that is longer than it may be ends at its deadline. */
	simulate(&f, 9, 102, 5, &r);
	cr_assert_eq(r.status, -ETIMEDOUT);
	cr_assert(strstr(r.why, "timed out"));
	teardown(&f);
}

static unsigned failures(struct fixture *f, bool failed[1000])
{
	_cleanup_answer_ struct answer a = {0};
	_cleanup_run_ struct run_answer r = {0};
	unsigned n = 0;

	open_it(f);
	create(f, 1, 1, &a);
	for (int i = 0; i < 1000; i++) {
		simulate(f, 1, i, 0, &r);
		failed[i] = r.status != 0;
		n += failed[i];
		if (failed[i])
			cr_assert_str_eq(r.why, "simulated failure");
	}
	close_it(f);
	return n;
}

Test(fake, failures_follow_rate_and_seed)
{
	struct fixture f;
	static bool first[1000], same[1000], other[1000];

	setup(&f);
	set(&f, "create-delay", "0");
	set(&f, "role-delay", "0");
	set(&f, "failure-rate", "0.1");
	unsigned n = failures(&f, first);
	cr_assert(n > 60 && n < 140, "%u of 1000 at a rate of 0.1", n);
	failures(&f, same);
	cr_assert_eq(memcmp(first, same, sizeof first), 0);
	set(&f, "seed", "8");
	failures(&f, other);
	cr_assert_neq(memcmp(first, other, sizeof first), 0);
	set(&f, "failure-rate", "1");
	cr_assert_eq(failures(&f, other), 1000);
	set(&f, "failure-rate", "0");
	cr_assert_eq(failures(&f, other), 0);
	open_it(&f);
	teardown(&f);
}

Test(fake, hangs_until_cancelled)
{
	struct fixture f;
	_cleanup_answer_ struct answer a = {0}, b = {0};
	_cleanup_run_ struct run_answer r = {0};
	struct machine_spec spec = {.node_id = 2, .incarnation = 1};
	struct provider_call call = {.done = on_done, .data = &a};

	setup(&f);
	set(&f, "create-delay", "1ms");
	set(&f, "hang-rate", "1");
	open_it(&f);
	provider_fake.create(f.p, &spec, &call);
	for (int i = 0; i < 5; i++)
		list(&f, &b); /* the loop turns, others are served */
	cr_assert_eq(a.n_done, 0);
	cr_assert(b.has[2], "a creation without an answer still made a machine");
	provider_fake.cancel(f.p, &call);
	cr_assert_eq(a.n_done, 0, "done came from inside cancel");
	until_done(&f, &a);
	cr_assert_eq(a.rc, -ECANCELED);
	provider_fake.cancel(f.p, &call); /* over: nothing comes any more */
	list(&f, &b);
	cr_assert_eq(a.n_done, 1);

	simulate(&f, 2, 1, 20, &r); /* only its deadline ends it */
	cr_assert_eq(r.status, -ETIMEDOUT);
	struct simulated_run run = {.node_id = 2, .incarnation = 1, .number = 2, .role = "x", .done = on_run, .data = &r};
	r.n_done = 0;
	provider_fake.simulate(f.p, &run);
	list(&f, &b);
	cr_assert_eq(r.n_done, 0);
	provider_fake.simulate_cancel(f.p, &run);
	list(&f, &b);
	list(&f, &b);
	cr_assert_eq(r.n_done, 1);
	cr_assert_str_eq(r.why, "cancelled");
	/* Close with calls under way says nothing. */
	a.n_done = r.n_done = 0;
	spec.node_id = 3;
	provider_fake.create(f.p, &spec, &call);
	provider_fake.simulate(f.p, &run);
	teardown(&f);
	cr_assert_eq(a.n_done + r.n_done, 0);
}

Test(fake, lies_and_vanishes)
{
	struct fixture f;
	_cleanup_answer_ struct answer a = {0};
	_cleanup_run_ struct run_answer r = {0};

	setup(&f);
	set(&f, "create-delay", "2ms");
	set(&f, "lie-rate", "1");
	open_it(&f);
	create(&f, 4, 1, &a);
	cr_assert_eq(a.rc, 0);
	cr_assert_eq(a.n, 1);
	list(&f, &a);
	cr_assert_eq(a.n, 0);
	close_it(&f);

	set(&f, "lie-rate", "0");
	set(&f, "vanish-rate", "1");
	open_it(&f);
	create(&f, 5, 1, &a);
	list(&f, &a);
	cr_assert(a.has[5]);
	uv_sleep(50);
	list(&f, &a);
	cr_assert_eq(a.n, 0);
	simulate(&f, 5, 1, 0, &r);
	cr_assert_str_eq(r.why, "no answer: the simulated machine is gone");
	destroy(&f, 5, 1, &a);
	cr_assert_eq(a.rc, 0);
	create(&f, 5, 2, &a);
	list(&f, &a);
	cr_assert(a.has[5], "a rebuilt machine is there again");
	teardown(&f);
}

struct chain {
	struct simulated_run run;
	struct provider *p;
	int left, *n_over;
};

static void on_link(struct simulated_run *run, int status, const char *why, const char *const *values)
{
	struct chain *c = run->data;

	cr_assert_eq(status, 0, "%s", why ? why : "");
	if (!--c->left) {
		++*c->n_over;
		return;
	}
	c->run.number++;
	provider_fake.simulate(c->p, &c->run);
}

static void ignore(struct provider_call *call, int rc, const struct err *err, const struct machine *machines, size_t n)
{
	++*(int *)call->data;
}

static double cpu_us(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1e6 + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

/* Ten thousand machines, ten runs one after the other on each, all at once. */
Test(fake, ten_thousand_are_cheap)
{
	enum { NODES = 10000, RUNS = 10 };
	static const char *const outputs[] = {"version", NULL};
	struct fixture f;
	_cleanup_answer_ struct answer a = {0};
	struct chain *chains = xcalloc(NODES, sizeof *chains);
	struct provider_call *calls = xcalloc(NODES, sizeof *calls);
	int n_created = 0, n_over = 0;

	setup(&f);
	open_it(&f);
	double start = cpu_us();
	for (int i = 0; i < NODES; i++) {
		struct machine_spec spec = {.node_id = (uint64_t)i, .incarnation = 1, .image = "debian-12"};
		calls[i] = (struct provider_call){.done = ignore, .data = &n_created};
		provider_fake.create(f.p, &spec, &calls[i]);
	}
	while (n_created < NODES)
		uv_run(&f.loop, UV_RUN_ONCE);
	double created = cpu_us();
	for (int i = 0; i < NODES; i++) {
		struct simulated_run run = {.node_id = (uint64_t)i, .incarnation = 1, .role = "etcd", .outputs = outputs, .done = on_link};
		chains[i] = (struct chain){.run = run, .p = f.p, .left = RUNS, .n_over = &n_over};
		chains[i].run.data = &chains[i];
		provider_fake.simulate(f.p, &chains[i].run);
	}
	while (n_over < NODES)
		uv_run(&f.loop, UV_RUN_ONCE);
	double over = cpu_us();
	cr_log_info("%.1f us a creation, %.2f us a run", (created - start) / NODES, (over - created) / NODES / RUNS);
	/* Measured 5 and 1 us; ten times that, for sanitizers and busy machines. */
	cr_assert_lt((over - created) / NODES / RUNS, 20);
	list(&f, &a);
	cr_assert_eq(a.n, NODES);
	teardown(&f);
	free(chains);
	free(calls);
}
