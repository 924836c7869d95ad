/* The provider of system containers, and the default: a node is a systemd-nspawn container with an init, an sshd and a package database of
 * its own, on an overlay over a cached root tree; with boot = sshd it is plain namespaces around one sshd.
 * This file is the table; lifecycle.c is what happens to nodes. */
#include "providers/container/instance.h"

#include "fs/base/hash.h"
#include "fs/base/io.h"
#include "fs/base/log.h"
#include "fs/base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_IMAGE "debian-12"

static const struct key_row keys[] = {
        {"container", "boot", VALUE_ENUM, "systemd", 0, 0, "systemd,sshd",
                "what runs in a node: its own systemd, or only sshd (2 MB, hundreds on a laptop)"},
        {"container", "subnet", VALUE_STRING, "auto", 0, 0, NULL,
                "network of the nodes, as 10.20.0.0/22; auto: a private /22 that is free on this host", .fixed = true},
        {"container", "nat", VALUE_BOOL, "yes", 0, 0, NULL, "let nodes reach the outside through this host's address"},
        {"container", "privileged", VALUE_BOOL, "no", 0, 0, NULL, "give nodes all capabilities, for container engines and kubelets inside them"},
        {"image *", "suite", VALUE_STRING, "bookworm", 0, 0, NULL, "Debian's suite to build the image from; the mirror is this host's own"},
        {"image *", "packages", VALUE_LIST, NULL, 0, 0, NULL, "packages to install beyond what a node needs itself"},
        {"image *", "script", VALUE_STRING, NULL, 0, 0, NULL,
                "program to run in the new tree at the end of its making; relative to the provider's directory", .file = true},
        {"image *", "source", VALUE_STRING, NULL, 0, 0, NULL, "directory or tar to use as root tree instead of building one", .file = true},
        {0},
};

/* ---- settings */

static int settings_use(struct provider *p, const struct settings *settings, struct err **err)
{
	const char *boot = settings_str(settings, keys, "container", "boot"), *subnet = settings_str(settings, keys, "container", "subnet");
	struct ready_image *image, *next;
	struct subnet declared = {0};
	char was[20];
	bool nat;
	int rc = strcmp(subnet, "auto") ? subnet_parse(subnet, &declared, err) : 0;

	if (rc < 0)
		return rc;
	if (declared.prefix && p->subnet.prefix && p->nodes && (declared.base != p->subnet.base || declared.prefix != p->subnet.prefix)) {
		subnet_format(&p->subnet, was);
		return err_set(err, EBUSY, "'subnet' cannot change from %s to %s while nodes of this provider exist", was, subnet);
	}
	if (declared.prefix && (declared.base != p->subnet.base || declared.prefix != p->subnet.prefix)) {
		p->subnet = declared;
		if (p->network == NETWORK_UP)
			p->network = NETWORK_DOWN; /* the next node brings it up with the new address */
	}
	p->declared = declared.prefix;
	p->boot = strcmp(boot, "sshd") ? BOOT_SYSTEMD : BOOT_SSHD;
	nat = settings_bool(settings, keys, "container", "nat");
	if (nat != p->nat && p->network == NETWORK_UP)
		p->network = NETWORK_DOWN;
	p->nat = nat;
	p->privileged = settings_bool(settings, keys, "container", "privileged");
	settings_release(&p->settings);
	settings_copy(&p->settings, settings);
	/* their recipes may have changed */
	HASH_ITER (hh, p->images, image, next) {
		HASH_DEL(p->images, image);
		free(image->name);
		free(image->tree);
		free(image);
	}
	return 0;
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
		n->running = node_pid(dir) > 0;
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

static int container_open(const struct provider_host *host, const struct settings *settings, struct provider **ret, struct err **err)
{
	struct provider *p = xcalloc(1, sizeof *p);

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
	int rc = settings_use(p, settings, err);
	if (rc < 0) {
		p->closed = true;
		op_idle(p);
		return rc;
	}
	*ret = p;
	return 0;
}

static int container_reload(struct provider *p, const struct settings *settings, struct err **err)
{
	return settings_use(p, settings, err);
}

static void container_close(struct provider *p)
{
	struct op *op, *next;

	p->closed = true;
	DL_FOREACH_SAFE2(p->ops, op, next, next_op)
	{
		op->call = NULL;
		op_cancel(op);
	}
	network_release(p, NULL, NULL);
	op_idle(p);
}

/* ---- calls */

static void container_prepare(struct provider *p, const char *image, int64_t wanted_nodes, struct provider_call *call)
{
	const char *dflt = settings_get(&p->settings, "provider", "image");
	struct op *op = op_new(p, call);

	op->image = xstrdup(image ? image : dflt ? dflt : DEFAULT_IMAGE);
	op->wanted = wanted_nodes;
	for (const struct node *n = p->nodes; n; n = n->hh.next)
		op->running += n->running;
	lifecycle_prepare(op);
}

static void container_create(struct provider *p, const struct machine_spec *spec, struct provider_call *call)
{
	const char *dflt = settings_get(&p->settings, "provider", "image");
	struct op *op = op_new(p, call);

	op->image = xstrdup(spec->image ? spec->image : dflt ? dflt : DEFAULT_IMAGE);
	lifecycle_create(op, spec);
}

static void container_destroy(struct provider *p, uint64_t node_id, uint32_t incarnation, struct provider_call *call)
{
	lifecycle_destroy(op_new(p, call), node_id, incarnation);
}

static void container_power(struct provider *p, uint64_t node_id, uint32_t incarnation, enum power power, struct provider_call *call)
{
	lifecycle_power(op_new(p, call), node_id, incarnation, power);
}

static void container_cancel(struct provider *p, struct provider_call *call)
{
	op_cancel(call->priv);
}

/* ---- list */

struct listed {
	uint64_t node_id;
	char *dir;
	bool exists, running;
};

static void list_worker(struct op *op)
{
	for (size_t i = 0; i < op->listed_n; i++) {
		struct listed *l = &op->listed[i];
		_cleanup_free_ char *record = path_join(l->dir, "machine");
		l->exists = access(record, F_OK) == 0;
		l->running = node_pid(l->dir) > 0;
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

static void container_list(struct provider *p, struct provider_call *call)
{
	struct op *op = op_new(p, call);

	op->listed = xcalloc(HASH_COUNT(p->nodes) + 1, sizeof *op->listed);
	for (struct node *n = p->nodes; n; n = n->hh.next)
		if (n->recorded)
			op->listed[op->listed_n++] = (struct listed){.node_id = n->node_id, .dir = xstrdup(n->job.dir)};
	op_work(op, list_worker, listed);
}

static void container_capacity(struct provider *p, struct buf *out)
{
	char text[20];

	if (!p->subnet.prefix) {
		buf_adds(out, "no node yet: the subnet is chosen with the first one");
		return;
	}
	subnet_format(&p->subnet, text);
	buf_addf(out, "%u of %u addresses used (%s)", HASH_COUNT(p->nodes), subnet_room(&p->subnet), text);
}

const struct provider_ops provider_container = {
        .api = PROVIDER_API,
        .type = "container",
        .help = "system containers on this machine, made from a cached root tree; the default",
        .default_image = DEFAULT_IMAGE,
        .keys = keys,
        .open = container_open,
        .reload = container_reload,
        .close = container_close,
        .prepare = container_prepare,
        .create = container_create,
        .destroy = container_destroy,
        .power = container_power,
        .list = container_list,
        .cancel = container_cancel,
        .capacity = container_capacity,
};
