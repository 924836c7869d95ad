/* What machines boot from: dnsmasq answers the network cards that are declared and being installed, and nobody else; iPXE gets kernel and initrd from
 * busybox's HTTP server. Both end with the daemon, and run only while something is being installed. */
#include "providers/metal/metal.h"

#include "fs/base/hash.h"
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "providers/host/host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define SIZE_MAX_BYTES 32

/* ---- the interface */

static int look_at_interface(struct provider *p, struct err **err)
{
	const char *name = metal_get(p, "interface");
	struct ifaddrs *all = NULL;
	bool found = false;

	if (!name || !*name)
		return err_set(err, EINVAL, "no interface is named: 'interface = NAME' under [metal], the one that the machines are on");
	if (getifaddrs(&all) < 0)
		return err_errno(err, errno, "cannot list network interfaces");
	for (const struct ifaddrs *a = all; a && !found; a = a->ifa_next) {
		if (strcmp(a->ifa_name, name) || !a->ifa_addr || a->ifa_addr->sa_family != AF_INET || !a->ifa_netmask)
			continue;
		struct in_addr ip = ((const struct sockaddr_in *)(const void *)a->ifa_addr)->sin_addr,
		               mask = ((const struct sockaddr_in *)(const void *)a->ifa_netmask)->sin_addr, base = {ip.s_addr & mask.s_addr};
		inet_ntop(AF_INET, &ip, p->boot.address, sizeof p->boot.address);
		inet_ntop(AF_INET, &mask, p->boot.netmask, sizeof p->boot.netmask);
		inet_ntop(AF_INET, &base, p->boot.base, sizeof p->boot.base);
		p->boot.prefix = __builtin_popcount(mask.s_addr);
		found = true;
	}
	freeifaddrs(all);
	return found ? 0 : err_set(err, EAGAIN, "the interface '%s' is not there or has no IPv4 address", name);
}

/* One that was free a moment ago. */
static int free_port(const char *address, int *ret, struct err **err)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	socklen_t len = sizeof at;
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, address, &at.sin_addr);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || getsockname(fd, (struct sockaddr *)&at, &len) < 0)
		return err_errno(err, errno, "cannot find a free port on %s", address);
	*ret = ntohs(at.sin_port);
	return 0;
}

/* ---- the servers */

static int start_dhcp(struct provider *p, struct err **err);

static void server_ended(void *arg, const struct child_result *res)
{
	struct server *s = arg;
	struct netboot *b = s->p ? &s->p->boot : NULL;
	_cleanup_buf_ struct buf why = {0};

	if (b && b->dhcp == s)
		b->dhcp = NULL;
	if (b && b->http == s)
		b->http = NULL;
	if (b && s->again && !b->dhcp) {
		err_freep(&b->failed);
		start_dhcp(s->p, &b->failed);
	} else if (b && !res->cancelled) {
		child_explain(&why, s->name, res);
		err_freep(&b->failed);
		err_set(&b->failed, EAGAIN, "%s", buf_str(&why));
	}
	free(s);
}

static int serve(struct provider *p, struct server **ret, const char *name, const struct strlist *argv, struct err **err)
{
	struct server *s = xcalloc(1, sizeof *s);
	struct child_spec spec = {.argv = (const char *const *)argv->items, .done = server_ended, .arg = s};
	int rc;

	s->p = p;
	s->name = name;
	rc = child_start(p->host->loop, &spec, &s->child, err);
	if (rc < 0)
		free(s);
	else
		*ret = s;
	return rc;
}

static void server_end(struct server **s)
{
	if (!*s)
		return;
	(*s)->p = NULL;
	child_cancel((*s)->child, 0);
	*s = NULL;
}

/* They would be in the way of the next daemon's if this one were killed. */
static void with_us(struct strlist *argv)
{
	strlist_add(argv, "setpriv");
	strlist_add(argv, "--pdeathsig");
	strlist_add(argv, "KILL");
}

static int start_dhcp(struct provider *p, struct err **err)
{
	static const char *const words[] = {"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0",
	        "--except-interface=lo", "--bind-interfaces", "--dhcp-ignore=tag:!known", "--dhcp-match=set:ipxe,175", "--no-ping",
	        "--log-facility=-", "--quiet-dhcp"};
	const struct netboot *b = &p->boot;
	_cleanup_strlist_ struct strlist argv = {0};

	with_us(&argv);
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		strlist_add(&argv, words[i]);
	strlist_add_take(&argv, xasprintf("--interface=%s", metal_get(p, "interface")));
	strlist_add_take(&argv, xasprintf("--dhcp-range=%s,static,%s", b->base, b->netmask));
	strlist_add_take(&argv, xasprintf("--dhcp-hostsfile=%s/dhcp.hosts", p->host->state_dir));
	strlist_add_take(&argv, xasprintf("--dhcp-optsfile=%s/dhcp.options", p->host->state_dir));
	strlist_add_take(&argv, xasprintf("--dhcp-leasefile=%s/dhcp.leases", p->host->state_dir));
	/* cards that know no iPXE load it first */
	if (access("/usr/lib/ipxe/undionly.kpxe", R_OK) == 0) {
		strlist_add(&argv, "--enable-tftp");
		strlist_add(&argv, "--tftp-root=/usr/lib/ipxe");
		strlist_add(&argv, "--dhcp-boot=tag:known,tag:!ipxe,undionly.kpxe");
	}
	return serve(p, &p->boot.dhcp, "dnsmasq", &argv, err);
}

static int start_http(struct provider *p, struct err **err)
{
	static const char *const words[] = {"busybox", "httpd", "-f", "-p"};
	_cleanup_strlist_ struct strlist argv = {0};

	with_us(&argv);
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		strlist_add(&argv, words[i]);
	strlist_add_take(&argv, xasprintf("%s:%d", p->boot.address, p->boot.port));
	strlist_add(&argv, "-h");
	strlist_add_take(&argv, path_join(p->host->state_dir, "http"));
	return serve(p, &p->boot.http, "busybox httpd", &argv, err);
}

static int make_directories(struct provider *p, struct err **err)
{
	static const char *const dirs[] = {"http/cgi-bin", "http/image", "said", "locks"};
	_cleanup_free_ char *say = path_join(p->host->state_dir, "http/cgi-bin/say");
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof dirs / sizeof *dirs; i++) {
		_cleanup_free_ char *path = path_join(p->host->state_dir, dirs[i]);
		rc = dir_make_all(path, 0700, err);
	}
	return rc == 0 ? file_write_atomic(AT_FDCWD, say, metal_say, strlen(metal_say), 0700, err) : rc;
}

int boot_up(struct provider *p, struct err **err)
{
	int rc = 0;

	if (p->boot.failed) {
		rc = err_set(err, EAGAIN, "%s", err_msg(p->boot.failed));
		err_freep(&p->boot.failed);
		return rc;
	}
	if (!p->boot.http) {
		rc = look_at_interface(p, err);
		rc = rc < 0 ? rc : make_directories(p, err);
		rc = rc < 0 ? rc : free_port(p->boot.address, &p->boot.port, err);
		rc = rc < 0 ? rc : start_http(p, err);
	}
	return rc;
}

static void boot_down(struct provider *p)
{
	server_end(&p->boot.dhcp);
	server_end(&p->boot.http);
}

void boot_close(struct provider *p)
{
	boot_down(p);
	err_freep(&p->boot.failed);
}

int boot_serve(struct provider *p, struct err **err)
{
	_cleanup_free_ char *hosts_path = path_join(p->host->state_dir, "dhcp.hosts"), *options_path = path_join(p->host->state_dir, "dhcp.options");
	_cleanup_buf_ struct buf hosts = {0}, options = {0};
	int rc;

	for (const struct metal_node *n = p->nodes; n; n = n->hh.next) {
		if (!*n->token)
			continue;
		buf_addf(&hosts, "%s,set:n%" PRIu64 ",%s\n", n->mac, n->node_id, n->address);
		buf_addf(&options, "tag:n%" PRIu64 ",tag:ipxe,option:bootfile-name,http://%s:%d/%s/boot.ipxe\n", n->node_id, p->boot.address,
		        p->boot.port, n->token);
	}
	rc = file_write_atomic(AT_FDCWD, hosts_path, buf_str(&hosts), hosts.len, 0600, err);
	rc = rc < 0 ? rc : file_write_atomic(AT_FDCWD, options_path, buf_str(&options), options.len, 0600, err);
	if (rc < 0)
		return rc;
	if (!hosts.len)
		boot_down(p);
	else if (!p->boot.dhcp)
		rc = start_dhcp(p, err);
	else if (!p->boot.dhcp->again) {
		/* dnsmasq 2.90 aborts when it reads its options a second time, so it is not asked to by SIGHUP */
		p->boot.dhcp->again = true;
		child_cancel(p->boot.dhcp->child, 0);
	}
	return rc;
}

/* ---- a node's files */

static void new_token(char out[33])
{
	uint8_t bytes[16];

	/* cannot fail for so few bytes */
	if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
		abort();
	for (int i = 0; i < 16; i++)
		snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static int write_network(const struct provider *p, const struct metal_node *n, const char *root, struct err **err)
{
	const char *gateway = metal_get(p, "gateway");
	_cleanup_buf_ struct buf b = {0};
	int rc = node_make_dir(root, "etc/systemd", 0755, err);

	buf_addf(&b, "[Match]\nMACAddress=%s\n[Network]\nAddress=%s/%d\n", n->mac, n->address, p->boot.prefix);
	if (gateway && *gateway)
		buf_addf(&b, "Gateway=%s\n", gateway);
	rc = rc < 0 ? rc : node_make_dir(root, "etc/systemd/network", 0755, err);
	return rc < 0 ? rc : node_make_file(root, "etc/systemd/network/10-rebarfs.network", buf_str(&b), 0644, err);
}

static int write_identity(const struct provider *p, struct metal_node *n, const char *root, struct err **err)
{
	struct node_job j = {.owner = xstrdup(p->host->owner),
	        .node_id = n->node_id,
	        .incarnation = n->incarnation,
	        .name = xstrdup(n->name),
	        .access_key = xstrdup(p->host->access_key)};
	int rc = tree_remove(root, err);

	rc = rc < 0 ? rc : node_identity(&j, root, err);
	rc = rc < 0 ? rc : write_network(p, n, root, err);
	if (rc == 0)
		str_replace(&n->host_key, j.host_key);
	node_job_release(&j);
	return rc;
}

static int write_script(const struct provider *p, const struct metal_node *n, const char *image, const char *disk, const char *path, struct err **err)
{
	_cleanup_free_ char *size_path = path_join(disk, "size");
	_cleanup_buf_ struct buf size = {0}, b = {0}, url = {0};
	int rc = file_read(AT_FDCWD, size_path, SIZE_MAX_BYTES, &size, err);

	buf_addf(&url, "http://%s:%d", p->boot.address, p->boot.port);
	buf_addf(&b,
	        "#!ipxe\nkernel %s/image/%s/kernel initrd=initrd rdinit=/rebarfs-install console=tty0 console=ttyS0,115200 net.ifnames=0 rb.url=%s "
	        "rb.token=%s rb.mac=%s rb.address=%s/%d rb.image=%s rb.size=%.*s rb.owner=%s rb.id=%" PRIu64
	        " rb.incarnation=%u rb.disk=%s\ninitrd %s/image/%s/initrd\nboot\n",
	        buf_str(&url), image, buf_str(&url), n->token, n->mac, n->address, p->boot.prefix, image, (int)strcspn(buf_str(&size), "\n"),
	        buf_str(&size), p->host->owner, n->node_id, n->incarnation, n->disk, buf_str(&url), image);
	return rc < 0 ? rc : file_write_atomic(AT_FDCWD, path, b.data, b.len, 0600, err);
}

int boot_prepare(struct provider *p, struct metal_node *n, const char *disk_dir, struct err **err)
{
	const char *image = strrchr(disk_dir, '/') + 1;
	_cleanup_free_ char *root = path_join(n->dir, "root"), *link = xasprintf("%s/http/image/%s", p->host->state_dir, image);

	new_token(n->token);
	_cleanup_free_ char *dir = xasprintf("%s/http/%s", p->host->state_dir, n->token), *script = path_join(dir, "boot.ipxe");
	int rc = write_identity(p, n, root, err);
	rc = rc < 0 ? rc : dir_make_all(dir, 0700, err);
	rc = rc < 0 ? rc : write_script(p, n, image, disk_dir, script, err);
	if (rc == 0 && symlink(disk_dir, link) < 0 && errno != EEXIST)
		rc = err_errno(err, errno, "cannot make '%s'", link);
	return rc;
}
