/* What happens to nodes: prepare, create, destroy, power. Each is a chain of small functions, the next one named in the call that waits. */
#include "providers/host/instance.h"

#include "fs/base/io.h"
#include "fs/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NODE_ID_MAX 9999999 /* "rb1f3a9-9999999" are the 15 bytes of a network device's name */
#define POLL_MS 20
#define ASK_AGAIN_MS 1000
#define KILL_GRACE_MS 2000 /* destroy: for systemd-nspawn to clean up */
#define GIVE_UP_MS 20000   /* after force */

void machine_of(struct node *n, struct machine *ret)
{
	if (!n->console)
		n->console = path_join(n->job.dir, CONSOLE);
	*ret = (struct machine){.node_id = n->node_id,
	        .incarnation = n->job.incarnation,
	        .ref = n->job.ref,
	        .address = n->job.address,
	        .host_key = n->job.host_key,
	        .image = n->job.image,
	        .console = n->console,
	        .running = n->running};
}

void node_forget(struct provider *p, struct node *n)
{
	HASH_DEL(p->nodes, n);
	node_job_release(&n->job);
	free(n->console);
	free(n);
}

static void end_started(struct op *op)
{
	struct machine m;

	machine_of(op->node, &m);
	op_end(op, &m, op->creates ? 1 : 0);
}

/* What a start needs beyond the record: the instance's network as it is now. */
static void fill_network(struct provider *p, struct node_job *j)
{
	struct pool pool;
	char gateway[16];

	network_pool(p, &pool);
	address_format(pool.gateway, gateway);
	str_replace(&j->bridge, p->prefix);
	str_replace(&j->gateway, gateway);
	str_replace(&j->access_key, p->access_key);
	j->prefix = p->subnet.prefix;
	j->mtu = p->section.mtu ? p->section.mtu : p->mtu;
}

/* ---- prepare: this host, the network, the image */

static void warm_up(struct op *op, void (*next)(struct op *op))
{
	op->rc = 0;
	if (op->p->kind->warm_up)
		op->p->kind->warm_up(op, next);
	else
		next(op);
}

static void prepared(struct op *op)
{
	if (!op_stopped(op))
		op_end(op, NULL, 0);
}

static void prepare_image_there(struct op *op)
{
	if (!op_stopped(op))
		warm_up(op, prepared);
}

static void prepare_network_up(struct op *op)
{
	if (op_stopped(op))
		return;
	struct pool pool;
	network_pool(op->p, &pool);
	if (op->wanted > (int64_t)pool_room(&pool)) {
		_cleanup_free_ char *where = network_where(op->p);
		op->rc = err_set(&op->err, EAGAIN, "%lld nodes are wanted and the %s has addresses for %u: set a wider %s", (long long)op->wanted,
		        op->p->section.first ? "range" : "subnet", pool_room(&pool), where);
		op_end(op, NULL, 0);
	} else {
		image_need(op, prepare_image_there);
	}
}

static void prepare_checked(struct op *op)
{
	if (!op_stopped(op))
		network_need(op, prepare_network_up);
}

static void run_preflight(struct op *op)
{
	const struct host_kind *kind = op->p->kind;
	bool tree = !op->resolved.source && !image_ready(&op->resolved), base = kind->base && !kind->base_ready(op->base);
	struct preflight f = {.state_dir = op->p->state_dir,
	        .cache_dir = op->p->cache_dir,
	        .boot = op->job.boot,
	        .nodes = op->wanted,
	        .running = op->running,
	        .memory_bytes = op->job.limits.memory_bytes,
	        .build = tree && (base || !kind->base),
	        .convert = base,
	        .dhcp = op->dhcp};

	op->rc = kind->preflight(&f, &op->err);
}

void lifecycle_prepare(struct op *op)
{
	op->rc = image_look_up(op);
	if (op->rc < 0) {
		op_fail(op, op->err->code, "%s", err_msg(op->err));
		return;
	}
	op->p->kind->describe(op->p, &op->job);
	op->dhcp = op->p->section.dhcp;
	op_work(op, run_preflight, prepare_checked);
}

/* ---- create and power on */

static void start_worker(struct op *op)
{
	const struct host_kind *kind = op->p->kind;
	uint32_t address;

	if (!op->node->recorded) {
		op->rc = kind->write(&op->job, &op->err);
		if (op->rc < 0) {
			err_wrap(&op->err, "cannot make node '%s'", op->job.name);
			return;
		}
		op->recorded = true; /* the record is written, whatever comes now */
	}
	if (!kind->runs(op->job.dir)) {
		if (address_parse(op->job.address, &address) == 0)
			link_forget(op->job.bridge, address);
		op->rc = kind->launch(&op->job, &op->note, &op->err);
	} else if (kind->resume) {
		op->rc = kind->resume(&op->job, &op->err);
	}
}

static void started(struct op *op)
{
	struct node *n = op->node;

	if (op->recorded) {
		n->recorded = true;
		str_replace(&n->job.host_key, op->job.host_key);
	}
	n->running = op->rc == 0;
	if (op->note.len)
		op_progress(op, buf_str(&op->note));
	if (op->rc < 0 && !n->recorded) {
		op->node = NULL;
		node_forget(op->p, n);
	}
	if (!op_stopped(op))
		end_started(op);
}

static void start(struct op *op)
{
	struct node *n = op->node;

	fill_network(op->p, &n->job);
	node_job_release(&op->job);
	node_job_copy(&op->job, &n->job);
	op->recorded = false;
	op_work(op, start_worker, started);
}

/* Before anything of it is on disk, a creation that stops leaves nothing. */
static bool create_stopped(struct op *op)
{
	struct node *n = op->node;

	if (op->rc >= 0 && !op->cancelled && !op->p->closed)
		return false;
	if (n && !n->recorded) {
		op->node = NULL;
		node_forget(op->p, n);
	}
	return op_stopped(op);
}

static void create_warm(struct op *op)
{
	struct provider *p = op->p;
	struct node_job *j = &op->node->job;
	_cleanup_buf_ struct buf apt = {0};
	char text[16];
	struct pool pool;
	uint32_t address;

	if (create_stopped(op))
		return;
	op->rc = address_give(p, op->node->node_id, &address, &op->err);
	if (create_stopped(op))
		return;
	address_format(address, text);
	str_replace(&j->address, text);
	network_pool(p, &pool);
	address_format(pool.gateway, text);
	apt_config_lines(p->apt_dump ? p->apt_dump : "", text, &apt);
	str_replace(&j->apt_config, buf_str(&apt));
	free(j->resolv);
	j->resolv = network_resolv(p);
	dhcp_look(p);
	start(op);
}

static void create_image_there(struct op *op)
{
	if (create_stopped(op))
		return;
	str_replace(&op->node->job.base, image_base(op->p, op->image));
	warm_up(op, create_warm);
}

static void create_network_up(struct op *op)
{
	if (create_stopped(op))
		return;
	if (op->node->recorded) {
		start(op);
	} else if (image_base(op->p, op->image)) {
		create_image_there(op);
	} else {
		/* nobody prepared it, or it was removed meanwhile */
		op->rc = image_look_up(op);
		if (!create_stopped(op))
			image_need(op, create_image_there);
	}
}

static struct node *node_new(struct op *op, const struct machine_spec *spec)
{
	struct provider *p = op->p;
	struct node *n = xcalloc(1, sizeof *n);

	n->node_id = spec->node_id;
	n->job = (struct node_job){.owner = xstrdup(p->owner),
	        .node_id = spec->node_id,
	        .incarnation = spec->incarnation,
	        .name = xstrdup(spec->name),
	        .image = xstrdup(op->image),
	        .limits = {spec->cpus, spec->memory_bytes}};
	n->job.ref = xasprintf("%s-%llu", p->prefix, (unsigned long long)spec->node_id);
	n->job.dir = xasprintf("%s/nodes/%llu", p->state_dir, (unsigned long long)spec->node_id);
	p->kind->describe(p, &n->job);
	HASH_ADD(hh, p->nodes, node_id, sizeof n->node_id, n);
	return n;
}

static struct node *find(struct provider *p, uint64_t node_id)
{
	struct node *n;

	HASH_FIND(hh, p->nodes, &node_id, sizeof node_id, n);
	return n;
}

void lifecycle_create(struct op *op, const struct machine_spec *spec)
{
	struct node *n = find(op->p, spec->node_id);

	if (spec->node_id > NODE_ID_MAX) {
		op_fail(op, EOVERFLOW, "node number %llu is too large for the name of a network device", (unsigned long long)spec->node_id);
		return;
	}
	if (n && n->op) {
		op_fail(op, EAGAIN, "node '%s' is busy: something else is under way on it", n->job.ref);
		return;
	}
	if (n && n->job.incarnation != spec->incarnation) {
		op_fail(op, EAGAIN, "incarnation %u of node '%s' still exists", n->job.incarnation, n->job.ref);
		return;
	}
	op->creates = true;
	op->node = n ? n : node_new(op, spec);
	op->node->op = op;
	network_need(op, create_network_up);
}

/* ---- the end: power off, cycle, destroy */

static void poll_gone(struct op *op);

static void ended_well(struct op *op)
{
	if (!op_stopped(op))
		op_end(op, NULL, 0);
}

static void removed(struct op *op)
{
	struct provider *p = op->p;
	struct node *n = op->node;

	if (op_stopped(op))
		return;
	op->node = NULL;
	node_forget(p, n);
	dhcp_look(p);
	network_release(p, op, ended_well);
}

static void remove_worker(struct op *op)
{
	op->p->kind->clean(&op->job);
	op->rc = node_remove(&op->job, &op->err);
}

static void destroy_gone(struct op *op)
{
	op_work(op, remove_worker, removed);
}

static void power_ended(struct op *op)
{
	if (op_stopped(op))
		return;
	op->node->running = false;
	if (op->power_on_after)
		network_need(op, create_network_up);
	else
		op_end(op, NULL, 0);
}

static void clean_worker(struct op *op)
{
	op->p->kind->clean(&op->job);
}

static void power_gone(struct op *op)
{
	op_work(op, clean_worker, power_ended);
}

static void force_worker(struct op *op)
{
	op->p->kind->kill(&op->job, true);
}

static void checked(struct op *op)
{
	int64_t took = monotonic_ms() - op->began_ms, grace = op->polite ? op->p->kind->off_grace_ms : KILL_GRACE_MS;

	if (op_stopped(op))
		return;
	if (op->rc == 0) {
		op->gone(op);
	} else if (took > grace + GIVE_UP_MS) {
		op->rc = err_set(&op->err, EAGAIN, "the processes of node '%s' do not end, although they were killed", op->job.ref);
		op_end(op, NULL, 0);
	} else if (took > grace) {
		op_work(op, force_worker, poll_gone);
	} else {
		poll_gone(op);
	}
}

/* Asks again and again: what was not there yet, or not yet listening, when it was asked first (a node that was started a moment ago) would
 * otherwise be waited for in vain. */
static void ask_worker(struct op *op)
{
	int64_t now = monotonic_ms();

	if (!op->polite) {
		op->p->kind->kill(&op->job, false);
	} else if (now >= op->ask_ms) {
		op->p->kind->ask_off(&op->job);
		op->ask_ms = now + ASK_AGAIN_MS;
	}
	op->rc = op->p->kind->gone(&op->job) ? 0 : 1;
}

static void check_now(struct op *op)
{
	if (!op_stopped(op))
		op_work(op, ask_worker, checked);
}

static void poll_gone(struct op *op)
{
	op->rc = 0;
	op_wait(op, POLL_MS, check_now);
}

static void end_processes(struct op *op, bool politely, void (*gone)(struct op *op))
{
	op->polite = politely;
	op->gone = gone;
	op->began_ms = monotonic_ms();
	op->node->op = op;
	node_job_copy(&op->job, &op->node->job);
	op_work(op, ask_worker, checked);
}

static void remove_remains(struct op *op)
{
	struct err *ignored = NULL;
	struct node_job other = {0};
	int rc = node_read(op->job.dir, op->job.owner, &other, &ignored);

	/* a directory without a record is what a removal or a creation cut short has left */
	if (rc == -ENOENT)
		op->rc = node_remove(&op->job, &op->err);
	node_job_release(&other);
	err_free(ignored);
}

void lifecycle_destroy(struct op *op, uint64_t node_id, uint32_t incarnation)
{
	struct provider *p = op->p;
	struct node *n = find(p, node_id);

	if (n && n->op) {
		op_fail(op, EAGAIN, "node '%s' is busy: something else is under way on it", n->job.ref);
	} else if (n && n->job.incarnation == incarnation) {
		op->node = n;
		end_processes(op, false, destroy_gone);
	} else if (n) {
		op->rc = 0;
		op_wait(op, 0, ended_well);
	} else {
		op->job.owner = xstrdup(p->owner);
		op->job.dir = xasprintf("%s/nodes/%llu", p->state_dir, (unsigned long long)node_id);
		op_work(op, remove_remains, ended_well);
	}
}

void lifecycle_power(struct op *op, uint64_t node_id, uint32_t incarnation, enum power power)
{
	struct node *n = find(op->p, node_id);

	if (!n || n->job.incarnation != incarnation || !n->recorded) {
		op_fail(op, ENOENT, "there is no such machine");
	} else if (n->op) {
		op_fail(op, EAGAIN, "node '%s' is busy: something else is under way on it", n->job.ref);
	} else if (power == POWER_ON) {
		op->node = n;
		n->op = op;
		network_need(op, create_network_up);
	} else {
		op->node = n;
		op->power_on_after = power != POWER_OFF;
		end_processes(op, true, power_gone);
	}
}
