/* The network of an instance: one bridge with the gateway's address, forwarding and address translation. It is made when the first node
 * needs it and taken down after the last one. The subnet is recorded in the instance's state directory, so that it stays the same, and in
 * the machine's cache directory, so that two daemons do not pick the same. */
#include "providers/host/instance.h"

#include "fs/base/hash.h"
#include "fs/base/io.h"
#include "fs/base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define FILE_MAX (4 << 20)
#define SCRIPT_MS 60000

/* Three parts, parted by a line "===": routes, apt's configuration, the MTU of the way out. Before that, whether overlays work at all where nodes
 * need them. */
static const char probe_script[] =
        "if [ $OVERLAY = yes ]; then\n"
        "d=$STATE/.probe; mkdir -p \"$d/lower\" \"$d/upper\" \"$d/work\" \"$d/root\"\n"
        "said=$(unshare --mount mount -t overlay overlay -o \"lowerdir=$d/lower,upperdir=$d/upper,workdir=$d/work\" \"$d/root\" 2>&1) || {\n"
        "	said=$(printf %s \"$said\" | head -n 1)\n"
        "	echo \"cannot mount an overlay on '$STATE' ($said): nodes need a disk file system such as ext4, xfs or btrfs there\" >&2; exit 3; }\n"
        "rm -rf \"$d\"\n"
        "mkdir -p /run/netns\n"
        "mount --make-rshared /run/netns 2>/dev/null || { mount --rbind /run/netns /run/netns && mount --make-rshared /run/netns; } || exit\n"
        "fi\n"
        "ip -4 -o route show table all || exit\n"
        "echo ===\n"
        "apt-config dump 2>/dev/null\n"
        "echo ===\n"
        "dev=$(ip -4 -o route show default | sed -n '1s/.* dev \\([^ ]*\\).*/\\1/p')\n"
        "[ -z \"$dev\" ] || ip -o link show dev \"$dev\" | sed 's/.* mtu \\([0-9]*\\).*/\\1/'\n"
        ":\n";

/* /sys/class/net would show the namespace that sysfs was mounted in, which need not be ours. */
#define ALIAS_OF_BRIDGE "ip link show dev $BRIDGE 2>/dev/null | sed -n 's/^ *alias //p'"

/* What leaves by another instance's bridge keeps its address: nodes of two providers in one deployment see each other as they are. */
static const char up_script[] =
        "set -e\n"
        "say() { echo \"$*\" >&2; exit 3; }\n"
        "rule() { t=$1; shift; iptables -w 10 -t $t -C \"$@\" 2>/dev/null || said=$(iptables -w 10 -t $t -I \"$@\" 2>&1) ||\n"
        "	say \"cannot set up address translation: iptables: $(printf %s \"$said\" | tail -n 1)\"; }\n"
        "if ip link show dev $BRIDGE >/dev/null 2>&1; then\n"
        "	is=$(" ALIAS_OF_BRIDGE ")\n"
        "	[ -z \"$is\" ] || [ \"$is\" = \"$ALIAS\" ] || say \"the bridge '$BRIDGE' belongs to somebody else ($is)\"\n"
        "else\n"
        "	ip link add name $BRIDGE address $MAC type bridge\n"
        "fi\n"
        "ip link set dev $BRIDGE alias \"$ALIAS\"\n"
        "ip -4 -o addr show dev $BRIDGE | grep -q \" $GATEWAY \" || { ip -4 addr flush dev $BRIDGE; ip addr add $GATEWAY brd + dev $BRIDGE; }\n"
        "ip link set dev $BRIDGE up\n"
        "[ \"$(cat /proc/sys/net/ipv4/ip_forward)\" = 1 ] || echo 1 >/proc/sys/net/ipv4/ip_forward\n"
        "rule filter FORWARD -i $BRIDGE -j ACCEPT\n"
        "rule filter FORWARD -o $BRIDGE -j ACCEPT\n"
        "if [ $NAT = yes ]; then\n"
        "	rule nat POSTROUTING -s $NETWORK ! -o rb+ -j MASQUERADE\n"
        "else\n"
        "	while iptables -w 10 -t nat -D POSTROUTING -s $NETWORK ! -o rb+ -j MASQUERADE 2>/dev/null; do :; done\n"
        "fi\n";

static const char down_script[] = "rule() { t=$1; shift; while iptables -w 10 -t $t -D \"$@\" 2>/dev/null; do :; done; }\n"
                                  "[ \"$(head -n 1 \"$RESERVED\" 2>/dev/null)\" != \"$STATE\" ] || trap 'rm -f \"$RESERVED\"' EXIT\n"
                                  "[ \"$(" ALIAS_OF_BRIDGE ")\" = \"$ALIAS\" ] || exit 0\n"
                                  "rule nat POSTROUTING -s $NETWORK ! -o rb+ -j MASQUERADE\n"
                                  "rule filter FORWARD -o $BRIDGE -j ACCEPT\n"
                                  "rule filter FORWARD -i $BRIDGE -j ACCEPT\n"
                                  "ip link del dev $BRIDGE\n";

static void network_up(struct provider *p);

/* ---- what is recorded */

/* The file "subnet": the network on its first line, and on a second one, if there is one, the gateway that nodes were given. */
void network_open(struct provider *p)
{
	_cleanup_free_ char *path = path_join(p->state_dir, "subnet");
	_cleanup_buf_ struct buf text = {0};
	char network[20], gateway[16];
	int n;

	if (file_read(AT_FDCWD, path, FILE_MAX, &text, NULL) < 0)
		return;
	n = sscanf(buf_str(&text), "%19s %15s", network, gateway);
	if (n < 1 || subnet_parse(network, &p->subnet, NULL) < 0)
		return;
	if (n < 2 || address_parse(gateway, &p->gateway) < 0)
		p->gateway = p->subnet.base + 1;
}

/* ---- what is described */

static bool same_subnet(const struct subnet *a, const struct subnet *b)
{
	return a->base == b->base && a->prefix == b->prefix;
}

/* Nodes were made with what they were made with. */
static int may_become(const struct provider *p, const struct network_section *n, struct err **err)
{
	struct pool pool;
	char was[20], now[20];

	if (!p->nodes || !p->subnet.prefix)
		return 0;
	if (n->subnet.prefix && !same_subnet(&n->subnet, &p->subnet)) {
		subnet_format(&p->subnet, was);
		subnet_format(&n->subnet, now);
		return err_set(err, EBUSY, "'subnet' cannot change from %s to %s while nodes of this provider exist", was, now);
	}
	pool_of(n, &p->subnet, &pool);
	if (p->gateway && pool.gateway != p->gateway) {
		address_format(p->gateway, was);
		address_format(pool.gateway, now);
		return err_set(err, EBUSY, "'gateway' cannot change from %s to %s while nodes of this provider exist", was, now);
	}
	return 0;
}

int network_settings(struct provider *p, const struct settings *settings, struct err **err)
{
	struct network_section n = {0};
	bool nat = settings_bool(settings, p->kind->keys, p->kind->section, "nat");
	int line, rc = network_section_read(settings, p->kind->keys, p->kind->section, &n, &line, err);

	if (rc == 0)
		rc = may_become(p, &n, err);
	if (rc < 0) {
		network_section_release(&n);
		return rc;
	}
	bool other = (n.subnet.prefix && !same_subnet(&n.subnet, &p->subnet)) || n.gateway != p->section.gateway || nat != p->nat;
	if (n.subnet.prefix)
		p->subnet = n.subnet;
	network_section_release(&p->section);
	p->section = n;
	p->nat = nat;
	if (other && p->network == NETWORK_UP)
		p->network = NETWORK_DOWN; /* the next node brings it up as it is now */
	p->network_outdated |= other;
	dhcp_look(p);
	return 0;
}

void network_pool(const struct provider *p, struct pool *ret)
{
	pool_of(&p->section, &p->subnet, ret);
}

char *network_resolv(const struct provider *p)
{
	struct buf out = {0};

	if (!p->section.dns.n)
		return NULL;
	for (size_t i = 0; i < p->section.dns.n; i++)
		buf_addf(&out, "nameserver %s\n", p->section.dns.items[i]);
	return out.data;
}

char *network_where(const struct provider *p)
{
	const char *key = p->section.first ? "range" : "subnet";

	return p->section.name ? xasprintf("'%s' in [network %s]", key, p->section.name) : xasprintf("'%s' in [%s]", key, p->kind->section);
}

/* ---- choosing the subnet: on a worker */

/* What is not free: by the host's routes, and by other instances of this machine. */
struct taken {
	struct subnets routes, others;
	struct strlist names; /* of others, for people */
};

static void taken_release(struct taken *t)
{
	free(t->routes.items);
	free(t->others.items);
	strlist_release(&t->names);
}

/* who: the instance's state directory and, on the next line, the owner. */
static char *name_of(const struct provider *p, char *who)
{
	char *owner = strchr(who, '\n'), *name;

	if (owner)
		*owner++ = '\0';
	name = strrchr(who, '/');
	if (!name || !owner || strncmp(owner, p->owner, strlen(p->owner)))
		return xasprintf("the provider of '%s'", who);
	return xasprintf("provider '%s'", name + 1);
}

/* Adds the subnets that other instances of this machine have recorded; forgets those whose state directory is gone. */
static void read_reservations(const struct provider *p, const char *dir, struct taken *t)
{
	DIR *d = opendir(dir);

	for (struct dirent *e; d && (e = readdir(d));) {
		_cleanup_free_ char *path = path_join(dir, e->d_name), *text = xstrdup(e->d_name);
		_cleanup_buf_ struct buf who = {0};
		char *dash = strchr(text, '-');
		struct subnet s;
		if (!dash || file_read(AT_FDCWD, path, FILE_MAX, &who, NULL) < 0 || !who.len)
			continue;
		*dash = '/';
		_cleanup_free_ char *record = xasprintf("%.*s/subnet", (int)strcspn(buf_str(&who), "\n"), buf_str(&who));
		_cleanup_free_ char *mine = path_join(p->state_dir, "subnet");
		if (subnet_parse(text, &s, NULL) < 0)
			continue;
		if (!strcmp(record, mine) || access(record, F_OK) < 0) {
			unlink(path);
			continue;
		}
		GROW(t->others.items, t->others.n, t->others.cap);
		t->others.items[t->others.n++] = s;
		strlist_add_take(&t->names, name_of(p, who.data));
	}
	if (d)
		closedir(d);
}

static int refuse(struct op *op, const struct subnet *other, const char *whose)
{
	char a[20], b[20];

	subnet_format(&op->subnet, a);
	subnet_format(other, b);
	return err_set(&op->err, EADDRINUSE, "the subnet %s overlaps %s, %s: %s", a, b, whose,
	        op->declared ? "set 'subnet' to another, or to 'auto'" : "destroy the nodes of this provider, or free that network");
}

static int choose(struct op *op, struct taken *t)
{
	struct provider *p = op->p;
	const struct subnet *other = op->subnet.prefix ? subnets_find(&t->others, &op->subnet) : NULL;
	_cleanup_free_ char *seed_text = xasprintf("%s %s", p->owner, p->name),
	                    *whose = other ? xasprintf("which is of %s", t->names.items[other - t->others.items]) : NULL;
	struct hash h;
	uint64_t seed;

	if (!other && op->subnet.prefix)
		other = subnets_find(&t->routes, &op->subnet);
	if (op->subnet.prefix && !other)
		return 0;
	if (other && (op->declared || op->has_nodes))
		return refuse(op, other, whose ? whose : "to which this host has a route");
	hash_bytes(seed_text, strlen(seed_text), &h);
	memcpy(&seed, h.b, sizeof seed);
	for (size_t i = 0; i < t->routes.n; i++) {
		GROW(t->others.items, t->others.n, t->others.cap);
		t->others.items[t->others.n++] = t->routes.items[i];
	}
	return subnet_pick(&t->others, seed, &op->subnet, &op->err);
}

static char *reservation(const char *dir, const struct subnet *s)
{
	char text[20];

	subnet_format(s, text);
	*strchr(text, '/') = '-';
	return path_join(dir, text);
}

static int record(struct op *op, const char *dir)
{
	struct provider *p = op->p;
	_cleanup_free_ char *own = path_join(p->state_dir, "subnet"), *shared = reservation(dir, &op->subnet),
	                    *who = xasprintf("%s\n%s\n", p->state_dir, p->owner);
	char network[20], gateway[16], text[40];

	subnet_format(&op->subnet, network);
	address_format(op->gateway ? op->gateway : op->subnet.base + 1, gateway);
	snprintf(text, sizeof text, "%s\n%s\n", network, gateway);
	int rc = file_write_atomic(AT_FDCWD, own, text, strlen(text), 0600, &op->err);
	return rc < 0 ? rc : file_write_atomic(AT_FDCWD, shared, who, strlen(who), 0644, &op->err);
}

static void choose_and_record(struct op *op)
{
	struct provider *p = op->p;
	_cleanup_free_ char *dir = path_join(p->cache_dir, "subnets"), *lock_path = path_join(dir, "lock");
	struct taken taken = {0};

	op->rc = dir_make_all(dir, 0755, &op->err);
	if (op->rc < 0)
		return;
	_cleanup_close_ int lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (lock < 0 || flock(lock, LOCK_EX) < 0) {
		op->rc = err_errno(&op->err, errno, "cannot lock '%s'", lock_path);
		return;
	}
	subnets_from_routes(buf_str(&op->out), p->prefix, &taken.routes);
	read_reservations(p, dir, &taken);
	op->rc = choose(op, &taken);
	if (op->rc == 0)
		op->rc = record(op, dir);
	taken_release(&taken);
}

/* ---- up and down */

static void run_script(struct op *op, const char *script, void (*next)(struct op *op))
{
	struct provider *p = op->p;
	const char *argv[] = {"sh", "-c", script, NULL};
	struct subnet gateway = {0, p->subnet.prefix};
	struct pool pool;
	struct hash h;
	char network_text[20], gateway_text[20];

	network_pool(p, &pool);
	gateway.base = pool.gateway;
	subnet_format(&p->subnet, network_text);
	subnet_format(&gateway, gateway_text);
	hash_bytes(p->prefix, strlen(p->prefix), &h);
	_cleanup_free_ char *dir = path_join(p->cache_dir, "subnets"), *reserved = reservation(dir, &p->subnet);
	_cleanup_strlist_ struct strlist env = {0};
	strlist_add_take(&env, xasprintf("PATH=%s:/usr/sbin:/sbin", getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin"));
	strlist_add_take(&env, xasprintf("STATE=%s", p->state_dir));
	strlist_add_take(&env, xasprintf("BRIDGE=%s", p->prefix));
	strlist_add_take(&env, xasprintf("ALIAS=rebarfs %s %s", p->owner, p->name));
	strlist_add_take(&env, xasprintf("MAC=02:%02x:%02x:%02x:%02x:%02x", h.b[0], h.b[1], h.b[2], h.b[3], h.b[4]));
	strlist_add_take(&env, xasprintf("NETWORK=%s", network_text));
	strlist_add_take(&env, xasprintf("RESERVED=%s", reserved));
	strlist_add_take(&env, xasprintf("GATEWAY=%s", gateway_text));
	strlist_add_take(&env, xasprintf("OVERLAY=%s", p->kind->overlay ? "yes" : "no"));
	strlist_add_take(&env, xasprintf("NAT=%s", p->nat ? "yes" : "no"));
	struct child_spec spec = {.argv = argv, .env = (const char *const *)env.items, .timeout_ms = SCRIPT_MS};
	op_child(op, &spec, next);
}

static bool bridge_exists(const struct provider *p)
{
	return if_nametoindex(p->prefix) != 0;
}

/* The state is settled: whoever waits goes on, or waits again if it went down meanwhile. */
static void settle(struct op *net, enum network_state state)
{
	struct provider *p = net->p;
	struct op *op, *next;

	p->network = state;
	DL_FOREACH_SAFE2(p->ops, op, next, next_op)
	if (op->waits_for_release) {
		op->waits_for_release = false;
		op->rc = 0;
		op->next(op);
	}
	DL_FOREACH_SAFE2(p->ops, op, next, next_op)
	{
		if (!op->waits_for_network)
			continue;
		if (state == NETWORK_DOWN && net->rc == 0) {
			network_up(p);
			break;
		}
		op->waits_for_network = false;
		op->rc = net->rc < 0 ? err_set(&op->err, net->err->code, "%s", err_msg(net->err)) : 0;
		op->next(op);
	}
	/* told to each who waited: not to the log as well */
	net->cancelled = true;
	op_end(net, NULL, 0);
}

static void up_ended(struct op *op)
{
	if (op->p->closed)
		op->rc = err_set(&op->err, ECANCELED, "cancelled");
	settle(op, op->rc < 0 || op->p->network_outdated ? NETWORK_DOWN : NETWORK_UP);
}

static void subnet_chosen(struct op *op)
{
	struct provider *p = op->p;

	if (op->rc < 0 || p->closed || p->network_outdated) {
		up_ended(op);
		return;
	}
	p->subnet = op->subnet;
	p->gateway = op->gateway ? op->gateway : op->subnet.base + 1;
	run_script(op, up_script, up_ended);
}

static void probed(struct op *op)
{
	struct provider *p = op->p;
	char *apt, *mtu;

	if (op->rc < 0 || p->closed) {
		up_ended(op);
		return;
	}
	apt = strstr(op->out.data ? op->out.data : "", "===\n");
	mtu = apt ? strstr(apt + 4, "===\n") : NULL;
	if (!mtu) {
		op->rc = err_set(&op->err, EIO, "cannot read the host's routes");
		up_ended(op);
		return;
	}
	*apt = *mtu = '\0';
	str_replace(&p->apt_dump, apt + 4);
	p->mtu = atoi(mtu + 4);
	if (p->mtu >= MTU_USUAL || p->mtu < 0)
		p->mtu = 0;
	op_work(op, choose_and_record, subnet_chosen);
}

static void network_up(struct provider *p)
{
	struct op *op = op_new(p, NULL);

	p->network = NETWORK_CHANGING;
	op->subnet = p->subnet;
	op->declared = p->section.subnet.prefix;
	op->gateway = p->section.gateway;
	p->network_outdated = false;
	op->has_nodes = false;
	for (struct node *n = p->nodes; n; n = n->hh.next)
		op->has_nodes |= n->recorded;
	run_script(op, probe_script, probed);
}

void network_need(struct op *op, void (*next)(struct op *op))
{
	struct provider *p = op->p;

	if (p->network == NETWORK_UP && bridge_exists(p)) {
		op->rc = 0;
		next(op);
		return;
	}
	op->next = next;
	op->waits_for_network = true;
	if (p->network != NETWORK_CHANGING)
		network_up(p);
}

static void down_ended(struct op *op)
{
	op->rc = 0; /* what is left is found again by the next one up or down */
	settle(op, NETWORK_DOWN);
}

/* A bridge may be gone by itself, with a boot of this host. */
static bool is_reserved(const struct provider *p)
{
	_cleanup_free_ char *dir = path_join(p->cache_dir, "subnets"), *path = reservation(dir, &p->subnet);

	return access(path, F_OK) == 0;
}

void network_release(struct provider *p, struct op *op, void (*next)(struct op *op))
{
	if (p->nodes || p->network == NETWORK_CHANGING || !p->subnet.prefix || (!bridge_exists(p) && !is_reserved(p))) {
		if (op)
			next(op);
		return;
	}
	if (op) {
		op->next = next;
		op->waits_for_release = true;
	}
	p->network = NETWORK_CHANGING;
	run_script(op_new(p, NULL), down_script, down_ended);
}
