/* An instance: its settings, what exists of it, and the calls of the table. lifecycle.c is what happens to nodes. */
#include "providers/host/instance.h"

#include "fs/base/hash.h"
#include "fs/base/io.h"
#include "fs/base/log.h"
#include "fs/base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

/* ---- settings */

static int settings_use(struct provider *p, const struct settings *settings, struct err **err)
{
	int rc = p->kind->settings(p, settings, err);

	if (rc == 0)
		rc = network_settings(p, settings, err);
	if (rc < 0)
		return rc;
	settings_release(&p->settings);
	settings_copy(&p->settings, settings);
	images_forget(p); /* their recipes may have changed */
	return 0;
}

int host_check(const struct host_kind *kind, const struct settings *settings, int *ret_line, struct err **err)
{
	struct network_section n = {0};
	int rc = network_section_read(settings, kind->keys, kind->section, &n, ret_line, err);

	network_section_release(&n);
	return rc;
}

/* ---- open: what exists is read back from its records */

static void read_node(struct provider *p, const char *dir)
{
	struct node_job job = {0};
	struct err *err = NULL;
	struct node *n;
	int rc = node_read(dir, p->owner, &job, &err);

	if (rc == 0) {
		n = xcalloc(1, sizeof *n);
		n->node_id = job.node_id;
		n->job = job;
		n->recorded = true;
		n->running = p->kind->runs(dir);
		HASH_ADD(hh, p->nodes, node_id, sizeof n->node_id, n);
	} else if (rc != -ENOENT) {
		log_msg(LOG_WARN, "provider '%s': %s", p->name, err_msg(err));
	}
	err_free(err);
}

static void read_nodes(struct provider *p)
{
	_cleanup_free_ char *path = path_join(p->state_dir, "nodes");
	DIR *d = opendir(path);

	for (struct dirent *e; d && (e = readdir(d));) {
		_cleanup_free_ char *dir = path_join(path, e->d_name);
		if (e->d_name[0] != '.')
			read_node(p, dir);
	}
	if (d)
		closedir(d);
}

static void name_prefix(struct provider *p)
{
	_cleanup_free_ char *text = xasprintf("%s %s", p->owner, p->name);
	char hex[HASH_HEX];
	struct hash h;

	hash_bytes(text, strlen(text), &h);
	hash_hex(&h, hex);
	snprintf(p->prefix, sizeof p->prefix, "rb%.5s", hex);
}

int host_open(
        const struct host_kind *kind, const struct provider_host *host, const struct settings *settings, struct provider **ret, struct err **err)
{
	struct provider *p = xcalloc(1, sizeof *p);

	p->kind = kind;
	p->host = host;
	p->owner = xstrdup(host->owner);
	p->name = xstrdup(host->name);
	p->state_dir = xstrdup(host->state_dir);
	p->cache_dir = xstrdup(host->cache_dir);
	p->access_key = xstrdup(host->access_key);
	p->base_dir = xasprintf("%s/providers/%s", host->repo, host->name);
	name_prefix(p);
	read_nodes(p);
	network_open(p);
	addresses_open(p);
	int rc = settings_use(p, settings, err);
	if (rc < 0) {
		p->closed = true;
		op_idle(p);
		return rc;
	}
	*ret = p;
	return 0;
}

int host_reload(struct provider *p, const struct settings *settings, struct err **err)
{
	return settings_use(p, settings, err);
}

void host_close(struct provider *p)
{
	struct op *op, *next;

	p->closed = true;
	DL_FOREACH_SAFE2(p->ops, op, next, next_op)
	{
		op->call = NULL;
		op_cancel(op);
	}
	dhcp_end(p);
	network_release(p, NULL, NULL);
	op_idle(p);
}

/* ---- calls */

void host_prepare(struct provider *p, const char *image, int64_t wanted_nodes, struct provider_call *call)
{
	const char *dflt = settings_get(&p->settings, "provider", "image");
	struct op *op = op_new(p, call);

	op->image = xstrdup(image ? image : dflt ? dflt : HOST_DEFAULT_IMAGE);
	op->wanted = wanted_nodes;
	for (const struct node *n = p->nodes; n; n = n->hh.next)
		op->running += n->running;
	lifecycle_prepare(op);
}

void host_create(struct provider *p, const struct machine_spec *spec, struct provider_call *call)
{
	const char *dflt = settings_get(&p->settings, "provider", "image");
	struct op *op = op_new(p, call);

	op->image = xstrdup(spec->image ? spec->image : dflt ? dflt : HOST_DEFAULT_IMAGE);
	lifecycle_create(op, spec);
}

void host_destroy(struct provider *p, uint64_t node_id, uint32_t incarnation, struct provider_call *call)
{
	lifecycle_destroy(op_new(p, call), node_id, incarnation);
}

void host_power(struct provider *p, uint64_t node_id, uint32_t incarnation, enum power power, struct provider_call *call)
{
	lifecycle_power(op_new(p, call), node_id, incarnation, power);
}

void host_cancel(struct provider *p, struct provider_call *call)
{
	op_cancel(call->priv);
}

/* ---- list */

struct listed {
	uint64_t node_id;
	char *dir;
	bool exists, running;
};

/* A machine that prints without end fills no disk: of what is too much the end is kept. Whoever prints appends, so what comes meanwhile may be lost,
 * and nothing else is. */
static void console_bound(const char *dir)
{
	_cleanup_free_ char *path = path_join(dir, CONSOLE);
	_cleanup_close_ int fd = open(path, O_RDWR | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= CONSOLE_MAX)
		return;
	_cleanup_free_ char *end = xmalloc(CONSOLE_KEPT);
	ssize_t n = pread(fd, end, CONSOLE_KEPT, st.st_size - CONSOLE_KEPT);
	if (n > 0 && ftruncate(fd, 0) == 0 && fd_write_all(fd, end, (size_t)n) < 0)
		log_msg(LOG_WARN, "the end of '%s' is lost: %s", path, strerror(errno));
}

static void list_worker(struct op *op)
{
	for (size_t i = 0; i < op->listed_n; i++) {
		struct listed *l = &op->listed[i];
		_cleanup_free_ char *record = path_join(l->dir, "machine");
		l->exists = access(record, F_OK) == 0;
		l->running = op->p->kind->runs(l->dir);
		console_bound(l->dir);
	}
}

/* A record that somebody removed behind us is a machine that is gone. What runs is taken from what was just seen, except where something
 * is under way. */
static struct node *list_row(struct provider *p, const struct listed *l)
{
	struct node *n;

	HASH_FIND(hh, p->nodes, &l->node_id, sizeof l->node_id, n);
	if (!n || !n->recorded)
		return NULL;
	if (!n->op)
		n->running = l->running;
	if (!l->exists && !n->op) {
		node_forget(p, n);
		return NULL;
	}
	return n;
}

static void listed(struct op *op)
{
	_cleanup_free_ struct machine *machines = xcalloc(op->listed_n + 1, sizeof *machines);
	size_t n = 0;

	for (size_t i = 0; i < op->listed_n; i++) {
		struct node *node = list_row(op->p, &op->listed[i]);
		if (node)
			machine_of(node, &machines[n++]);
		free(op->listed[i].dir);
	}
	op->listed_n = 0;
	if (!op_stopped(op))
		op_end(op, machines, n);
}

void host_list(struct provider *p, struct provider_call *call)
{
	struct op *op = op_new(p, call);

	dhcp_look(p);
	op->listed = xcalloc(HASH_COUNT(p->nodes) + 1, sizeof *op->listed);
	for (struct node *n = p->nodes; n; n = n->hh.next)
		if (n->recorded)
			op->listed[op->listed_n++] = (struct listed){.node_id = n->node_id, .dir = xstrdup(n->job.dir)};
	op_work(op, list_worker, listed);
}

void host_capacity(struct provider *p, struct buf *out)
{
	struct pool pool;
	char text[20];

	if (!p->subnet.prefix) {
		buf_adds(out, "no node yet: the subnet is chosen with the first one");
		return;
	}
	network_pool(p, &pool);
	subnet_format(&p->subnet, text);
	buf_addf(out, "%u of %u addresses used (%s)", HASH_COUNT(p->nodes), pool_room(&pool), text);
}

void host_networks(struct provider *p, struct buf *out)
{
	const struct network_section *n = &p->section;
	int mtu = n->mtu ? n->mtu : p->mtu ? p->mtu : MTU_USUAL;
	char subnet[20] = "auto", gateway[16] = "-", first[16] = "", last[16] = "";
	_cleanup_buf_ struct buf dns = {0}, used = {0};
	struct pool pool;

	if (p->subnet.prefix) {
		network_pool(p, &pool);
		subnet_format(&p->subnet, subnet);
		address_format(pool.gateway, gateway);
		address_format(pool.first, first);
		address_format(pool.last, last);
		buf_addf(&used, "%u of %u", HASH_COUNT(p->nodes), pool_room(&pool));
	}
	_cleanup_free_ char *range = p->subnet.prefix ? xasprintf("%s-%s", first, last) : xstrdup("-");
	strlist_join(&n->dns, ",", &dns);
	buf_addf(out, "%-12s %-18s %-15s %-31s %5s %-9s %-6s %s\n", "NETWORK", "SUBNET", "GATEWAY", "RANGE", "MTU", "USED", "DHCP", "DNS");
	buf_addf(out, "%-12s %-18s %-15s %-31s %5d %-9s %-6s %s\n", n->name ? n->name : "-", subnet, gateway, range, mtu,
	        used.len ? buf_str(&used) : "-",
	        !n->dhcp         ? "no"
	        : p->dhcp_failed ? "failed"
	                         : "yes",
	        dns.len ? buf_str(&dns) : "host's");
	if (p->dhcp_failed)
		buf_addf(out, "no DHCP: %s\n", p->dhcp_failed);
}
