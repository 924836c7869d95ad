/* DHCP for nodes whose image asks for its address: dnsmasq on the bridge answers the network cards of this instance's nodes, with the addresses that
 * they have, and nobody else. It keeps no leases: what a node has stands in its record. It runs as long as we do and is begun anew when what it is to
 * say changes; who asks meanwhile asks again. */
#include "providers/host/instance.h"

#include "fs/base/log.h"
#include "fs/base/mem.h"

#include <net/if.h>
#include <stdio.h>
#include <string.h>

struct dhcp_server {
	struct provider *p; /* NULL: it was ended, nobody waits for it */
	struct child *child;
	char *conf; /* what it says */
};

static void add_options(const struct provider *p, struct buf *out)
{
	struct pool pool;
	char base[16], mask[16], gateway[16];
	int mtu = p->section.mtu ? p->section.mtu : p->mtu;

	network_pool(p, &pool);
	address_format(p->subnet.base, base);
	address_format(~0U << (32 - p->subnet.prefix), mask);
	address_format(pool.gateway, gateway);
	buf_addf(out, "dhcp-range=%s,static,%s,1h\ndhcp-option=option:router,%s\n", base, mask, gateway);
	if (mtu)
		buf_addf(out, "dhcp-option=option:mtu,%d\n", mtu);
}

/* Of IPv4 only, for that is all that the option has room for; none: the option is empty, else dnsmasq would name itself. */
static void add_dns(const struct node_job *j, struct buf *out)
{
	_cleanup_buf_ struct buf resolv = {0};
	uint32_t address;

	node_resolv(j, &resolv);
	buf_adds(out, "dhcp-option=option:dns-server");
	for (const char *at = buf_str(&resolv); (at = strstr(at, "nameserver "));) {
		at += strlen("nameserver ");
		_cleanup_free_ char *server = xstrndup(at, strcspn(at, "\n"));
		if (address_parse(server, &address) == 0)
			buf_addf(out, ",%s", server);
	}
	buf_addc(out, '\n');
}

static int compare_ids(const struct node *a, const struct node *b)
{
	return a->node_id < b->node_id ? -1 : a->node_id > b->node_id;
}

static char *configuration(struct provider *p)
{
	struct node_job any = {.resolv = network_resolv(p)};
	struct buf out = {0};

	buf_addf(&out,
	        "keep-in-foreground\nuser=root\nport=0\ninterface=%s\nexcept-interface=lo\nbind-interfaces\ndhcp-authoritative\nno-ping\n"
	        "log-facility=-\nquiet-dhcp\nleasefile-ro\ndhcp-ignore=tag:!known\n",
	        p->prefix);
	add_options(p, &out);
	add_dns(&any, &out);
	free(any.resolv);
	HASH_SORT(p->nodes, compare_ids);
	for (const struct node *n = p->nodes; n; n = n->hh.next) {
		uint8_t mac[6];
		if (!n->job.address)
			continue;
		node_mac(&n->job, mac);
		buf_addf(&out, "dhcp-host=%02x:%02x:%02x:%02x:%02x:%02x,%s,%s\n", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], n->job.address,
		        n->job.name);
	}
	return buf_detach(&out, NULL);
}

static void server_free(struct dhcp_server *s)
{
	free(s->conf);
	free(s);
}

/* It is tried again at the next look; the log is told once. */
static void failed(struct provider *p, const char *why)
{
	if (!p->dhcp_failed || strcmp(p->dhcp_failed, why))
		log_msg(LOG_WARN, "provider '%s': no DHCP: %s", p->name, why);
	str_replace(&p->dhcp_failed, why);
}

static void ended(void *arg, const struct child_result *res)
{
	struct dhcp_server *s = arg;
	struct provider *p = s->p;
	_cleanup_buf_ struct buf why = {0};

	server_free(s);
	if (!p)
		return;
	p->dhcp = NULL;
	if (res->cancelled) {
		dhcp_look(p);
		return;
	}
	child_explain(&why, "dnsmasq", res);
	failed(p, buf_str(&why));
}

static void begin(struct provider *p, char *conf)
{
	/* it would be in the way of the next daemon's if this one were killed */
	static const char *const argv[] = {"setpriv", "--pdeathsig", "KILL", "dnsmasq", "--conf-file=-", NULL};
	struct dhcp_server *s = xcalloc(1, sizeof *s);
	_cleanup_err_ struct err *err = NULL;

	*s = (struct dhcp_server){.p = p, .conf = conf};
	struct child_spec spec = {.argv = argv, .input = conf, .input_len = strlen(conf), .done = ended, .arg = s};
	if (child_start(p->host->loop, &spec, &s->child, &err) < 0) {
		failed(p, err_msg(err));
		server_free(s);
	} else {
		p->dhcp = s;
	}
}

void dhcp_end(struct provider *p)
{
	if (!p->dhcp)
		return;
	p->dhcp->p = NULL;
	child_cancel(p->dhcp->child, 0);
	p->dhcp = NULL;
}

void dhcp_look(struct provider *p)
{
	if (p->closed || !p->section.dhcp || !p->nodes || !p->subnet.prefix || !if_nametoindex(p->prefix)) {
		dhcp_end(p);
		str_replace(&p->dhcp_failed, NULL);
		return;
	}
	char *conf = configuration(p);
	if (!p->dhcp) {
		begin(p, conf);
		return;
	}
	str_replace(&p->dhcp_failed, NULL); /* it has run since the last look */
	if (strcmp(conf, p->dhcp->conf))
		child_cancel(p->dhcp->child, 0); /* the next one begins when it has ended */
	free(conf);
}
