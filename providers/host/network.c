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
#define MTU_USUAL 1500

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
                                  "[ \"$(" ALIAS_OF_BRIDGE ")\" = \"$ALIAS\" ] || exit 0\n"
                                  "rule nat POSTROUTING -s $NETWORK ! -o rb+ -j MASQUERADE\n"
                                  "rule filter FORWARD -o $BRIDGE -j ACCEPT\n"
                                  "rule filter FORWARD -i $BRIDGE -j ACCEPT\n"
                                  "exec ip link del dev $BRIDGE\n";

static void network_up(struct provider *p);

/* ---- what is recorded */

static void read_leases(struct provider *p, const char *text)
{
	_cleanup_free_ char *copy = xstrdup(text);
	char *save = NULL;

	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned long long id;
		char word[16];
		struct lease *l;
		uint32_t address;
		if (sscanf(line, "%llu %15s", &id, word) != 2 || address_parse(word, &address) < 0)
			continue;
		uint64_t key = id;
		HASH_FIND(hh, p->leases, &key, sizeof key, l);
		if (!l) {
			l = xcalloc(1, sizeof *l);
			l->node_id = key;
			HASH_ADD(hh, p->leases, node_id, sizeof l->node_id, l);
		}
		l->address = address;
	}
}

void network_open(struct provider *p)
{
	_cleanup_free_ char *subnet_path = path_join(p->state_dir, "subnet"), *lease_path = path_join(p->state_dir, "addresses");
	_cleanup_buf_ struct buf subnet = {0}, leases = {0};

	if (!p->declared && file_read(AT_FDCWD, subnet_path, FILE_MAX, &subnet, NULL) == 0) {
		subnet.data[strcspn(subnet.data, "\n")] = '\0';
		subnet_parse(subnet.data, &p->subnet, NULL);
	}
	if (file_read(AT_FDCWD, lease_path, FILE_MAX, &leases, NULL) == 0)
		read_leases(p, buf_str(&leases));
}

static int lease_append(struct provider *p, uint64_t node_id, uint32_t address, struct err **err)
{
	_cleanup_free_ char *path = path_join(p->state_dir, "addresses");
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	char text[16];

	address_format(address, text);
	_cleanup_free_ char *line = xasprintf("%llu %s\n", (unsigned long long)node_id, text);
	int rc = fd < 0 ? -errno : fd_write_all(fd, line, strlen(line));
	if (rc < 0)
		return err_errno(err, -rc, "cannot write '%s'", path);
	read_leases(p, line);
	return 0;
}

static bool in_subnet(const struct provider *p, uint32_t address)
{
	return address >= subnet_address(&p->subnet, 0) && address < subnet_address(&p->subnet, subnet_room(&p->subnet));
}

int network_address(struct provider *p, uint64_t node_id, uint32_t *ret, struct err **err)
{
	uint32_t room = subnet_room(&p->subnet);
	/* 0: free; 1: kept for a node that is not there; 2: a node's */
	_cleanup_free_ char *use = xcalloc(room, 1);
	struct lease *l, *next;
	struct node *n;

	HASH_FIND(hh, p->leases, &node_id, sizeof node_id, l);
	struct lease *mine = l && in_subnet(p, l->address) ? l : NULL;
	HASH_ITER (hh, p->leases, l, next) {
		if (!in_subnet(p, l->address) || l == mine)
			continue;
		HASH_FIND(hh, p->nodes, &l->node_id, sizeof l->node_id, n);
		char *at = &use[l->address - subnet_address(&p->subnet, 0)];
		/* an address that was given away again stays taken by whoever has it now */
		*at = n || *at == 2 ? 2 : 1;
	}
	if (mine && use[mine->address - subnet_address(&p->subnet, 0)] < 2) {
		*ret = mine->address;
		return 0;
	}
	for (char allowed = 0; allowed < 2; allowed++)
		for (uint32_t i = 0; i < room; i++)
			if (use[i] <= allowed) {
				*ret = subnet_address(&p->subnet, i);
				return lease_append(p, node_id, *ret, err);
			}
	return err_set(err, ENOSPC, "all %u addresses of the subnet are used: set a wider 'subnet' in [%s]", room, p->kind->section);
}

/* ---- choosing the subnet: on a worker */

/* Adds the subnets that other instances of this machine have recorded; forgets those whose state directory is gone. */
static void read_reservations(const struct provider *p, const char *dir, struct subnets *taken)
{
	DIR *d = opendir(dir);

	for (struct dirent *e; d && (e = readdir(d));) {
		_cleanup_free_ char *path = path_join(dir, e->d_name), *text = xstrdup(e->d_name);
		_cleanup_buf_ struct buf who = {0};
		char *dash = strchr(text, '-');
		struct subnet s;
		if (!dash || file_read(AT_FDCWD, path, FILE_MAX, &who, NULL) < 0)
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
		GROW(taken->items, taken->n, taken->cap);
		taken->items[taken->n++] = s;
	}
	if (d)
		closedir(d);
}

static int choose(struct op *op, const struct subnets *taken)
{
	struct provider *p = op->p;
	const struct subnet *other = op->subnet.prefix ? subnets_find(taken, &op->subnet) : NULL;
	_cleanup_free_ char *seed_text = xasprintf("%s %s", p->owner, p->name);
	struct hash h;
	uint64_t seed;
	char a[20], b[20];

	if (op->subnet.prefix && !other)
		return 0;
	if (other && (op->declared || op->has_nodes)) {
		subnet_format(&op->subnet, a);
		subnet_format(other, b);
		return err_set(&op->err, EADDRINUSE, "the subnet %s overlaps %s, which this host or another instance uses: %s", a, b,
		        op->declared ? "set 'subnet' to another, or to 'auto'" : "destroy the nodes of this provider, or free that network");
	}
	hash_bytes(seed_text, strlen(seed_text), &h);
	memcpy(&seed, h.b, sizeof seed);
	return subnet_pick(taken, seed, &op->subnet, &op->err);
}

static int record(struct op *op, const char *dir)
{
	struct provider *p = op->p;
	_cleanup_free_ char *own = path_join(p->state_dir, "subnet");
	char text[20], line[24];

	subnet_format(&op->subnet, text);
	snprintf(line, sizeof line, "%s\n", text);
	int rc = file_write_atomic(AT_FDCWD, own, line, strlen(line), 0600, &op->err);
	*strchr(text, '/') = '-';
	_cleanup_free_ char *shared = path_join(dir, text), *who = xasprintf("%s\n%s\n", p->state_dir, p->owner);
	return rc < 0 ? rc : file_write_atomic(AT_FDCWD, shared, who, strlen(who), 0644, &op->err);
}

static void choose_and_record(struct op *op)
{
	struct provider *p = op->p;
	_cleanup_free_ char *dir = path_join(p->cache_dir, "subnets"), *lock_path = path_join(dir, "lock");
	struct subnets taken = {0};

	op->rc = dir_make_all(dir, 0755, &op->err);
	if (op->rc < 0)
		return;
	_cleanup_close_ int lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (lock < 0 || flock(lock, LOCK_EX) < 0) {
		op->rc = err_errno(&op->err, errno, "cannot lock '%s'", lock_path);
		return;
	}
	subnets_from_routes(buf_str(&op->out), p->prefix, &taken);
	read_reservations(p, dir, &taken);
	op->rc = choose(op, &taken);
	if (op->rc == 0)
		op->rc = record(op, dir);
	free(taken.items);
}

/* ---- up and down */

static void run_script(struct op *op, const char *script, void (*next)(struct op *op))
{
	struct provider *p = op->p;
	const char *argv[] = {"sh", "-c", script, NULL};
	struct subnet gateway = {subnet_gateway(&p->subnet), p->subnet.prefix};
	struct hash h;
	char network_text[20], gateway_text[20];

	subnet_format(&p->subnet, network_text);
	subnet_format(&gateway, gateway_text);
	hash_bytes(p->prefix, strlen(p->prefix), &h);
	_cleanup_strlist_ struct strlist env = {0};
	strlist_add_take(&env, xasprintf("PATH=%s:/usr/sbin:/sbin", getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin"));
	strlist_add_take(&env, xasprintf("STATE=%s", p->state_dir));
	strlist_add_take(&env, xasprintf("BRIDGE=%s", p->prefix));
	strlist_add_take(&env, xasprintf("ALIAS=rebarfs %s %s", p->owner, p->name));
	strlist_add_take(&env, xasprintf("MAC=02:%02x:%02x:%02x:%02x:%02x", h.b[0], h.b[1], h.b[2], h.b[3], h.b[4]));
	strlist_add_take(&env, xasprintf("NETWORK=%s", network_text));
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
	settle(op, op->rc < 0 ? NETWORK_DOWN : NETWORK_UP);
}

static void subnet_chosen(struct op *op)
{
	if (op->rc < 0 || op->p->closed) {
		up_ended(op);
		return;
	}
	op->p->subnet = op->subnet;
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
	op->declared = p->declared;
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

void network_release(struct provider *p, struct op *op, void (*next)(struct op *op))
{
	if (p->nodes || p->network == NETWORK_CHANGING || !p->subnet.prefix || !bridge_exists(p)) {
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
