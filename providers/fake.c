/* The provider `fake`: machines that are rows. It simulates ten thousand nodes in one process, is the source of faults for tests, and is the file to
 * copy a new provider from: each function says what the contract (providers/provider.h) wants of it and how this one keeps it.
 *
 * What every provider needs, in the order of this file:
 *   1. its keys: rows that validate [fake] in provider.ini and print the reference;
 *   2. its own memory of what exists, one that survives kill -9 of the daemon and can be listed. Where the machines live outside (a cloud, a
 *      hypervisor) that memory is theirs, by tags; here it is a file;
 *   3. calls that return at once and end later, from the loop, exactly once, after a cancel too;
 *   4. the table of functions, last, because all above is static.
 *
 * Chance is a hash of (seed, what, node, number): the same repo meets the same faults again, in whatever order things happen. */
#include "providers/provider.h"

#include "fs/base/buf.h"
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "fs/base/str.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <uthash.h>

#define DEFAULT_IMAGE "fake"

/* ---- 1. keys ---- */

/* Every default stands here and nowhere else: settings_*() finds it when the document does not say. */
static const struct key_row fake_keys[] = {
        {"fake", "create-delay", VALUE_DURATION, "50ms", 0, 0, NULL, "how long creating, destroying or switching a machine takes"},
        {"fake", "role-delay", VALUE_DURATION, "10ms", 0, 0, NULL, "how long a node role runs"},
        {"fake", "failure-rate", VALUE_FLOAT, "0", 0, 1, NULL, "share of runs that fail, 0 to 1"},
        {"fake", "hang-rate", VALUE_FLOAT, "0", 0, 1, NULL, "share of creations and runs that never end by themselves, 0 to 1"},
        {"fake", "vanish-rate", VALUE_FLOAT, "0", 0, 1, NULL, "share of machines that are gone some time after their creation, 0 to 1"},
        {"fake", "lie-rate", VALUE_FLOAT, "0", 0, 1, NULL, "share of creations that report success and make nothing, 0 to 1"},
        {"fake", "seed", VALUE_INT, "7", 0, 0, NULL, "another seed meets other faults"},
        {"image *", "packages", VALUE_LIST, NULL, 0, 0, NULL, "what an image has: nothing is installed, but other packages are another image"},
        {"image *", "script", VALUE_STRING, NULL, 0, 0, NULL, "a file of the provider's directory: nothing is run, but another one is another image",
                .file = true},
        {NULL, NULL, 0, NULL, 0, 0, NULL, NULL},
};

/* Read once: looking up settings in every run would cost more than the run. */
struct fake_settings {
	int64_t create_delay_ms, role_delay_ms;
	double failure_rate, hang_rate, vanish_rate, lie_rate;
	int64_t seed;
};

/* A machine that is to vanish does so this many create-delays after its creation: late enough to have become ready. */
#define VANISH_AFTER 20

struct fake_machine {
	uint64_t node_id;
	uint32_t incarnation;
	bool running;
	int64_t created, gone_at; /* wall clock, for both must mean the same after a restart; gone_at 0: it stays */
	unsigned n_asked, n_runs; /* how often it was to be created, and ran something, since we were opened: chance goes by these */
	char *image;
	double cpus;
	int64_t memory_bytes;
	/* Made once: list() of ten thousand then only fills in pointers. */
	char ref[32], address[16], facts[112];
	UT_hash_handle hh; /* by node_id */
};

/* One call or run under way. It stands in the heap by due time, or hangs (at HANGING) and is only in the list of all. */
enum delay_kind { DELAY_CALL, DELAY_CREATED, DELAY_LIST, DELAY_RUN };
#define HANGING ((size_t)-1)

struct delay {
	struct delay *next, *prev; /* all that are under way, for close() */
	uint64_t due, order;       /* ms of the loop's clock; order breaks ties: first come, first done */
	size_t at;                 /* its place in the heap */
	enum delay_kind kind;
	union {
		struct provider_call *call;
		struct simulated_run *run;
	};
	uint64_t node_id;
	uint32_t incarnation;
	int rc; /* of the call: 0 or negative errno */
	struct err *err;
	const char *fault; /* of the run: the sentence of its failure; NULL: it succeeds */
};

struct provider {
	const struct provider_host *host; /* outlives us */
	struct fake_settings set;
	struct fake_machine *machines;
	char *path; /* the memory: one line a change, see "2." */
	int fd;
	uv_timer_t timer; /* the only one: it rings for the earliest delay. 10,000 uv_timer_t would each want a handle, a close and a callback */
	struct delay **heap;
	size_t n, cap;
	struct delay *all;
	uint64_t next_order;
};

static int check_rate(const struct settings *settings, const char *key, double *ret, struct err **err)
{
	double rate = settings_float(settings, fake_keys, "fake", key);

	if (!(rate >= 0 && rate <= 1))
		return err_set(err, ERANGE, "'%s' is %g: it is a share, from 0 to 1", key, rate);
	*ret = rate;
	return 0;
}

/* Reads into *ret only when all is right, so that a bad reload leaves what is in force. */
static int read_settings(const struct settings *settings, struct fake_settings *ret, struct err **err)
{
	struct fake_settings s = {
	        .create_delay_ms = settings_int(settings, fake_keys, "fake", "create-delay"),
	        .role_delay_ms = settings_int(settings, fake_keys, "fake", "role-delay"),
	        .seed = settings_int(settings, fake_keys, "fake", "seed"),
	};
	int rc;

	if ((rc = check_rate(settings, "failure-rate", &s.failure_rate, err)) < 0 ||
	        (rc = check_rate(settings, "hang-rate", &s.hang_rate, err)) < 0 ||
	        (rc = check_rate(settings, "vanish-rate", &s.vanish_rate, err)) < 0 || (rc = check_rate(settings, "lie-rate", &s.lie_rate, err)) < 0)
		return rc;
	*ret = s;
	return 0;
}

/* ---- chance ---- */

/* splitmix64's mixer: every bit of the input reaches every bit of the result, in three multiplications. */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

enum what { WHAT_FAILURE = 1, WHAT_RUN_HANGS, WHAT_CREATE_HANGS, WHAT_VANISHES, WHAT_LIE };

/* The n-th of an incarnation: the engine's own numbers go by who comes first of all nodes, and that by how busy the host is. */
static int64_t nth(uint32_t incarnation, unsigned n)
{
	return (int64_t)incarnation << 32 | n;
}

static bool happens(const struct provider *p, double rate, enum what what, uint64_t node_id, int64_t number)
{
	if (rate <= 0)
		return false;
	uint64_t h = mix(mix(mix(mix((uint64_t)p->set.seed) + what) + node_id) + (uint64_t)number);
	return (double)(h >> 11) * 0x1p-53 < rate;
}

/* ---- 2. memory ----
 *
 * STATE/providers/NAME/machines, a line for each change, the last one for a node holds:
 *     + NODE INCARNATION RUNNING CREATED GONE-AT CPUS MEMORY IMAGE
 *     - NODE INCARNATION
 * One write(2) a line: what was written is there after kill -9 of the daemon. It is not synced, which a power failure could notice; a machine made
 * of nothing may be lost with the power. A line that the power cut has no newline and is dropped. */

static struct fake_machine *find(const struct provider *p, uint64_t node_id)
{
	struct fake_machine *m;

	HASH_FIND(hh, p->machines, &node_id, sizeof node_id, m);
	return m;
}

/* A machine that vanished is still a row, so that what remains of it can be destroyed; to every question it is not there. */
static bool exists(const struct fake_machine *m, uint32_t incarnation)
{
	return m && m->incarnation == incarnation && !(m->gone_at && now_ms() >= m->gone_at);
}

static struct fake_machine *machine_new(
        struct provider *p, uint64_t node_id, uint32_t incarnation, double cpus, int64_t memory_bytes, const char *image)
{
	struct fake_machine *m = xcalloc(1, sizeof *m);
	/* 198.18.0.0/15 is set aside for benchmarks (RFC 2544), nobody is met there; .0 is left out. */
	unsigned host = (unsigned)(node_id % 0x1ffff) + 1;

	m->node_id = node_id;
	m->incarnation = incarnation;
	m->cpus = cpus;
	m->memory_bytes = memory_bytes;
	m->image = xstrdup(image);
	snprintf(m->ref, sizeof m->ref, "rb%.4s-%" PRIu64, p->host->owner, node_id);
	snprintf(m->address, sizeof m->address, "198.%u.%u.%u", 18 + (host >> 16), (host >> 8) & 255, host & 255);
	snprintf(m->facts, sizeof m->facts, "{\"os\": \"fake\", \"kernel\": \"fake\", \"cpus\": %g, \"memory\": %" PRId64 "}", cpus > 0 ? cpus : 1,
	        memory_bytes > 0 ? memory_bytes : INT64_C(1) << 30);
	HASH_ADD(hh, p->machines, node_id, sizeof m->node_id, m);
	return m;
}

static void machine_remove(struct provider *p, struct fake_machine *m)
{
	HASH_DEL(p->machines, m);
	free(m->image);
	free(m);
}

static void add_line(struct buf *out, const struct fake_machine *m)
{
	buf_addf(out, "+ %" PRIu64 " %" PRIu32 " %d %" PRId64 " %" PRId64 " %.17g %" PRId64 " %s\n", m->node_id, m->incarnation, m->running,
	        m->created, m->gone_at, m->cpus, m->memory_bytes, m->image);
}

static int append(struct provider *p, const struct buf *line, struct err **err)
{
	off_t end = lseek(p->fd, 0, SEEK_END);
	int rc = fd_write_all(p->fd, line->data, line->len);

	if (rc < 0) {
		/* Half a line would spoil the next one. If even cutting it off fails, the next open says so. */
		if (ftruncate(p->fd, end) < 0)
			return err_errno(err, errno, "cannot cut '%s' back to its last whole line", p->path);
		return err_errno(err, -rc, "cannot record a machine in '%s'", p->path);
	}
	return 0;
}

static int record(struct provider *p, const struct fake_machine *m, struct err **err)
{
	_cleanup_buf_ struct buf line = {0};

	add_line(&line, m);
	return append(p, &line, err);
}

/* One line, NUL instead of its newline. False: not one of ours. */
static bool replay(struct provider *p, char *line)
{
	uint64_t node_id;
	uint32_t incarnation;
	int64_t created, gone_at, memory_bytes;
	int running, image_at = -1;
	double cpus;
	struct fake_machine *m;

	if (sscanf(line, "- %" SCNu64 " %" SCNu32, &node_id, &incarnation) == 2) {
		m = find(p, node_id);
		if (m && m->incarnation == incarnation)
			machine_remove(p, m);
		return true;
	}
	if (sscanf(line, "+ %" SCNu64 " %" SCNu32 " %d %" SCNd64 " %" SCNd64 " %lf %" SCNd64 " %n", &node_id, &incarnation, &running, &created,
	            &gone_at, &cpus, &memory_bytes, &image_at) != 7 ||
	        image_at < 0)
		return false;
	if ((m = find(p, node_id)))
		machine_remove(p, m);
	m = machine_new(p, node_id, incarnation, cpus, memory_bytes, line + image_at);
	m->running = running;
	m->created = created;
	m->gone_at = gone_at;
	return true;
}

/* Reads the memory and, unless it is exactly one line a machine, writes it anew. */
static int load(struct provider *p, struct err **err)
{
	_cleanup_buf_ struct buf old = {0}, compact = {0};
	struct fake_machine *m, *tmp;
	int rc = file_read(AT_FDCWD, p->path, SIZE_MAX, &old, err);
	int n = 0;

	if (rc == -ENOENT) {
		err_freep(err);
	} else if (rc < 0) {
		return rc;
	}
	for (char *line = old.data, *end; line && (end = memchr(line, '\n', (size_t)(old.data + old.len - line))); line = end + 1) {
		*end = '\0';
		n++;
		if (!replay(p, line))
			return err_set(err, EINVAL, "cannot read '%s': line %d is not a machine: '%.60s'", p->path, n, line);
		*end = '\n';
	}
	HASH_ITER (hh, p->machines, m, tmp)
		add_line(&compact, m);
	bool same = compact.len == old.len && !memcmp(buf_str(&compact), buf_str(&old), old.len);
	if (!same && (rc = file_write_atomic(AT_FDCWD, p->path, buf_str(&compact), compact.len, 0600, err)) < 0)
		return rc;
	p->fd = open(p->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	return p->fd < 0 ? err_errno(err, errno, "cannot open '%s'", p->path) : 0;
}

/* ---- 3. calls: a heap of delays, one timer ---- */

static bool before(const struct delay *a, const struct delay *b)
{
	return a->due < b->due || (a->due == b->due && a->order < b->order);
}

static void put(struct provider *p, size_t at, struct delay *d)
{
	p->heap[at] = d;
	d->at = at;
}

static void sift(struct provider *p, struct delay *d)
{
	size_t at = d->at, child;

	for (; at && before(d, p->heap[(at - 1) / 2]); at = (at - 1) / 2)
		put(p, at, p->heap[(at - 1) / 2]);
	for (; (child = 2 * at + 1) < p->n; at = child) {
		if (child + 1 < p->n && before(p->heap[child + 1], p->heap[child]))
			child++;
		if (!before(p->heap[child], d))
			break;
		put(p, at, p->heap[child]);
	}
	put(p, at, d);
}

static void heap_remove(struct provider *p, struct delay *d)
{
	struct delay *last = p->heap[--p->n];

	if (last != d) {
		last->at = d->at;
		sift(p, last);
	}
	d->at = HANGING;
}

static void on_timer(uv_timer_t *timer);

/* Never 0 ms: libuv 1.44 runs a timer that is set to 0 from within its own callback again in the same turn, and descriptors would starve. */
static void rearm(struct provider *p)
{
	uint64_t now = uv_now(p->host->loop);

	if (!p->n)
		uv_timer_stop(&p->timer);
	else
		uv_timer_start(&p->timer, on_timer, p->heap[0]->due > now ? p->heap[0]->due - now : 1, 0);
}

/* in_ms < 0: it hangs until somebody cancels it. */
static void schedule(struct provider *p, struct delay *d, int64_t in_ms)
{
	if (d->at != HANGING)
		heap_remove(p, d);
	if (in_ms >= 0) {
		uv_update_time(p->host->loop); /* after a long turn the loop's clock is old, and delays would be short */
		d->due = uv_now(p->host->loop) + (uint64_t)(in_ms > 0 ? in_ms : 1);
		d->order = p->next_order++;
		GROW(p->heap, p->n, p->cap);
		d->at = p->n++;
		sift(p, d);
	}
	rearm(p);
}

static struct delay *delay_new(struct provider *p, enum delay_kind kind)
{
	struct delay *d = xcalloc(1, sizeof *d);

	d->kind = kind;
	d->at = HANGING;
	d->next = p->all;
	if (p->all)
		p->all->prev = d;
	p->all = d;
	return d;
}

static void delay_free(struct provider *p, struct delay *d)
{
	if (d->at != HANGING)
		heap_remove(p, d);
	if (d->next)
		d->next->prev = d->prev;
	if (d->prev)
		d->prev->next = d->next;
	else
		p->all = d->next;
	err_free(d->err);
	free(d);
}

static struct delay *delay_call(struct provider *p, struct provider_call *call, enum delay_kind kind)
{
	struct delay *d = delay_new(p, kind);

	d->call = call;
	call->priv = d;
	return d;
}

static void fill(struct machine *out, const struct fake_machine *m)
{
	*out = (struct machine){
	        .node_id = m->node_id,
	        .incarnation = m->incarnation,
	        .ref = m->ref,
	        .address = m->address,
	        .image = m->image,
	        .facts = m->facts, /* a machine that cannot be asked: its facts are known */
	        .running = m->running,
	};
}

static void finish_list(struct provider *p, struct provider_call *call)
{
	_cleanup_free_ struct machine *list = xcalloc(HASH_COUNT(p->machines) + 1, sizeof *list);
	struct fake_machine *m, *tmp;
	size_t n = 0;

	HASH_ITER (hh, p->machines, m, tmp) {
		if (exists(m, m->incarnation))
			fill(&list[n++], m);
	}
	call->done(call, 0, NULL, list, n);
}

static void finish_created(struct provider *p, struct provider_call *call, const struct delay *d)
{
	struct fake_machine *m = find(p, d->node_id), lie = {.node_id = d->node_id, .incarnation = d->incarnation, .running = true};
	struct machine out;

	if (m && m->incarnation == d->incarnation) {
		m->running = true;
		fill(&out, m);
	} else {
		/* Nothing was made, and the answer looks like any other. */
		fill(&out, &lie);
		out.ref = "rb-lie";
		out.address = "198.18.0.0";
		out.facts = "{\"os\": \"fake\", \"kernel\": \"fake\", \"cpus\": 1, \"memory\": 1073741824}";
	}
	call->done(call, 0, NULL, &out, 1);
}

/* Values are the same in every run of the role on this node: what depends on them becomes due only when the node changes. */
static void finish_run(struct simulated_run *run, const char *fault, int rc)
{
	size_t n = 0;

	if (fault || rc) {
		run->done(run, rc ? rc : 1, fault ? fault : "cancelled", NULL);
		return;
	}
	while (run->outputs && run->outputs[n])
		n++;
	_cleanup_free_ const char **values = xcalloc(n + 1, sizeof *values);
	for (size_t i = 0; i < n; i++)
		values[i] = xasprintf("%s-%" PRIu64, run->outputs[i], run->node_id);
	run->done(run, 0, NULL, values);
	for (size_t i = 0; i < n; i++)
		free((void *)values[i]);
}

/* Takes d. done() may submit anew, cancel others, or change settings: d is out of every list before it is called. */
static void finish(struct provider *p, struct delay *d)
{
	struct delay over = *d;

	d->err = NULL;
	delay_free(p, d);
	if (over.kind == DELAY_RUN) {
		over.run->priv = NULL;
		finish_run(over.run, over.fault, over.rc);
	} else {
		over.call->priv = NULL;
		if (over.rc)
			over.call->done(over.call, over.rc, over.err, NULL, 0);
		else if (over.kind == DELAY_LIST)
			finish_list(p, over.call);
		else if (over.kind == DELAY_CREATED)
			finish_created(p, over.call, &over);
		else
			over.call->done(over.call, 0, NULL, NULL, 0);
	}
	err_free(over.err);
}

/* Only what was due when it rang: whoever submits from done() waits for another turn of the loop. */
static void on_timer(uv_timer_t *timer)
{
	struct provider *p = timer->data;
	uint64_t now = uv_now(p->host->loop), order = p->next_order;

	while (p->n && p->heap[0]->due <= now && p->heap[0]->order < order)
		finish(p, p->heap[0]);
	rearm(p);
}

/* ---- the functions of the table ---- */

static void on_closed(uv_handle_t *handle)
{
	struct provider *p = handle->data;
	struct fake_machine *m, *tmp;

	HASH_ITER (hh, p->machines, m, tmp)
		machine_remove(p, m);
	if (p->fd >= 0)
		close(p->fd);
	free(p->path);
	free(p->heap);
	free(p);
}

/* Stops what is under way without done(): who closes has forgotten his calls. Memory goes with the timer's handle, in the loop's next turn. */
static void fake_close(struct provider *p)
{
	while (p->all)
		delay_free(p, p->all);
	uv_close((uv_handle_t *)&p->timer, on_closed);
}

static int fake_open(const struct provider_host *host, const struct settings *settings, struct provider **ret, struct err **err)
{
	struct provider *p = xcalloc(1, sizeof *p);
	_cleanup_err_ struct err *why = NULL;
	int rc;

	p->host = host;
	p->fd = -1;
	p->path = path_join(host->state_dir, "machines");
	uv_timer_init(host->loop, &p->timer);
	p->timer.data = p;
	if ((rc = read_settings(settings, &p->set, &why)) < 0 || (rc = load(p, &why)) < 0) {
		fake_close(p);
		return err_set(err, -rc, "%s", err_msg(why));
	}
	*ret = p;
	return 0;
}

static int fake_reload(struct provider *p, const struct settings *settings, struct err **err)
{
	return read_settings(settings, &p->set, err);
}

/* A real provider checks here all that creation needs and builds the image, and says the cure for what is missing. Rows need nothing. */
static void fake_prepare(struct provider *p, const char *image, int64_t wanted_nodes, struct provider_call *call)
{
	schedule(p, delay_call(p, call, DELAY_CALL), 0);
}

static int make(struct provider *p, const struct machine_spec *spec, struct err **err)
{
	struct fake_machine *m = find(p, spec->node_id);
	int rc;

	if (m && m->incarnation > spec->incarnation)
		return err_set(err, EINVAL, "machine '%s' was made anew since: it is incarnation %" PRIu32 ", not %" PRIu32, m->ref, m->incarnation,
		        spec->incarnation);
	/* The daemon was killed between our answer and its note of it: that machine is the one. */
	if (m && m->incarnation == spec->incarnation)
		return 0;
	if (happens(p, p->set.lie_rate, WHAT_LIE, spec->node_id, spec->incarnation))
		return 0;
	if (m)
		machine_remove(p, m);
	m = machine_new(p, spec->node_id, spec->incarnation, spec->cpus, spec->memory_bytes, spec->image ? spec->image : DEFAULT_IMAGE);
	m->running = true;
	m->created = now_ms();
	if (happens(p, p->set.vanish_rate, WHAT_VANISHES, spec->node_id, spec->incarnation))
		m->gone_at = m->created + VANISH_AFTER * p->set.create_delay_ms;
	if ((rc = record(p, m, err)) < 0)
		machine_remove(p, m);
	return rc;
}

/* The machine is there, and remembered, from the moment of the call, and the answer comes after the delay: whoever is killed or cancels in between
 * finds a machine that nobody told him of, which is the hard case of every cloud. */
static void fake_create(struct provider *p, const struct machine_spec *spec, struct provider_call *call)
{
	struct delay *d = delay_call(p, call, DELAY_CREATED);

	d->node_id = spec->node_id;
	d->incarnation = spec->incarnation;
	d->rc = make(p, spec, &d->err);
	struct fake_machine *m = find(p, spec->node_id);
	int64_t time = nth(spec->incarnation, m ? m->n_asked++ : 0);
	bool hangs = !d->rc && happens(p, p->set.hang_rate, WHAT_CREATE_HANGS, spec->node_id, time);
	schedule(p, d, hangs ? -1 : p->set.create_delay_ms);
}

/* What is not there, or is there as another incarnation, is destroyed already. */
static void fake_destroy(struct provider *p, uint64_t node_id, uint32_t incarnation, struct provider_call *call)
{
	struct delay *d = delay_call(p, call, DELAY_CALL);
	struct fake_machine *m = find(p, node_id);
	_cleanup_buf_ struct buf line = {0};

	if (m && m->incarnation == incarnation) {
		buf_addf(&line, "- %" PRIu64 " %" PRIu32 "\n", node_id, incarnation);
		d->rc = append(p, &line, &d->err);
		if (!d->rc)
			machine_remove(p, m);
	}
	schedule(p, d, p->set.create_delay_ms);
}

static void fake_power(struct provider *p, uint64_t node_id, uint32_t incarnation, enum power power, struct provider_call *call)
{
	struct delay *d = delay_call(p, call, DELAY_CALL);
	struct fake_machine *m = find(p, node_id);

	if (!exists(m, incarnation)) {
		d->rc = err_set(&d->err, ENOENT, "there is no machine of node %" PRIu64 " (incarnation %" PRIu32 ")", node_id, incarnation);
	} else if (m->running != (power != POWER_OFF)) {
		m->running = power != POWER_OFF;
		if ((d->rc = record(p, m, &d->err)) < 0)
			m->running = !m->running;
	}
	schedule(p, d, p->set.create_delay_ms);
}

/* The list is taken when it is handed over, not when it was asked for: it is never older than its answer. */
static void fake_list(struct provider *p, struct provider_call *call)
{
	schedule(p, delay_call(p, call, DELAY_LIST), 0);
}

/* The answer still comes, later and from the loop: the caller keeps its call until then. */
static void cancel_delay(struct provider *p, struct delay *d)
{
	if (!d)
		return; /* it is ending this very moment */
	d->fault = NULL;
	d->rc = err_set(&d->err, ECANCELED, "cancelled");
	schedule(p, d, 0);
}

static void fake_cancel(struct provider *p, struct provider_call *call)
{
	cancel_delay(p, call->priv);
}

static void fake_capacity(struct provider *p, struct buf *out)
{
	unsigned n = HASH_COUNT(p->machines);

	buf_addf(out, "%u simulated machine%s, no limit", n, n == 1 ? "" : "s");
}

/* Why this run will fail; NULL: it will not. */
static const char *run_fault(const struct provider *p, const struct simulated_run *run, int64_t time)
{
	const struct fake_machine *m = find(p, run->node_id);

	if (!exists(m, run->incarnation))
		return "no answer: the simulated machine is gone";
	if (!m->running)
		return "no answer: the simulated machine is off";
	if (happens(p, p->set.failure_rate, WHAT_FAILURE, run->node_id, time))
		return "simulated failure";
	return NULL;
}

/* A run keeps its own deadline, as every runner does, so that a hanging one is told from one that was cancelled. */
static void fake_simulate(struct provider *p, struct simulated_run *run)
{
	struct delay *d = delay_new(p, DELAY_RUN);
	struct fake_machine *m = find(p, run->node_id);
	int64_t time = nth(run->incarnation, m ? m->n_runs++ : 0);
	bool hangs = happens(p, p->set.hang_rate, WHAT_RUN_HANGS, run->node_id, time);

	d->run = run;
	run->priv = d;
	d->fault = run_fault(p, run, time);
	if (run->timeout_ms > 0 && (hangs || p->set.role_delay_ms > run->timeout_ms)) {
		d->fault = "timed out: the simulated run hangs";
		d->rc = -ETIMEDOUT;
		schedule(p, d, run->timeout_ms);
	} else {
		schedule(p, d, hangs ? -1 : p->set.role_delay_ms);
	}
}

static void fake_simulate_cancel(struct provider *p, struct simulated_run *run)
{
	cancel_delay(p, run->priv);
}

/* ---- 4. the table ---- */

const struct provider_ops provider_fake = {
        .api = PROVIDER_API,
        .type = "fake",
        .reboot_by_power = true,
        .help = "simulated machines with settable delays, failures and lies",
        .default_image = DEFAULT_IMAGE,
        .keys = fake_keys,
        .open = fake_open,
        .reload = fake_reload,
        .close = fake_close,
        .prepare = fake_prepare,
        .create = fake_create,
        .destroy = fake_destroy,
        .power = fake_power,
        .list = fake_list,
        .cancel = fake_cancel,
        .capacity = fake_capacity,
        .simulate = fake_simulate,
        .simulate_cancel = fake_simulate_cancel,
};
