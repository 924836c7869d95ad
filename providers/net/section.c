/* What [network NAME] says. Pure. */
#include "providers/net/net.h"

#include "fs/base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SECTION "network "

static uint32_t broadcast(const struct subnet *s)
{
	return s->base | (uint32_t)(UINT64_C(0xffffffff) >> s->prefix);
}

/* Of a host: neither the network's own address nor the one that means all. */
static bool is_host(const struct subnet *s, uint32_t address)
{
	return address > s->base && address < broadcast(s);
}

static int read_gateway(const char *text, struct network_section *n, struct err **err)
{
	char subnet[20];

	if (!n->subnet.prefix)
		return err_set(err, EINVAL, "'gateway' needs a 'subnet' that is a network, not 'auto'");
	if (address_parse(text, &n->gateway) < 0)
		return err_set(err, EINVAL, "'gateway' must be an address such as 10.20.0.1, not '%s'", text);
	subnet_format(&n->subnet, subnet);
	return is_host(&n->subnet, n->gateway) ? 0 : err_set(err, ERANGE, "'gateway' %s is not an address for a host in the subnet %s", text, subnet);
}

static int read_range(const char *text, struct network_section *n, struct err **err)
{
	char first[16], last[16], subnet[20];
	int end = 0;

	if (!n->subnet.prefix)
		return err_set(err, EINVAL, "'range' needs a 'subnet' that is a network, not 'auto'");
	if (sscanf(text, "%15[0-9.] - %15[0-9.]%n", first, last, &end) != 2 || text[end] || address_parse(first, &n->first) < 0 ||
	        address_parse(last, &n->last) < 0)
		return err_set(err, EINVAL, "'range' must be two addresses, as 10.20.0.10-10.20.0.99, not '%s'", text);
	if (n->first > n->last)
		return err_set(err, ERANGE, "'range' %s ends before it begins", text);
	subnet_format(&n->subnet, subnet);
	if (!is_host(&n->subnet, n->first) || !is_host(&n->subnet, n->last))
		return err_set(err, ERANGE, "'range' %s is not within the addresses for hosts of the subnet %s", text, subnet);
	return 0;
}

static int read_dns(const char *text, struct network_section *n, struct err **err)
{
	unsigned char address[16];

	strlist_split(&n->dns, text);
	for (size_t i = 0; i < n->dns.n; i++)
		if (inet_pton(AF_INET, n->dns.items[i], address) != 1 && inet_pton(AF_INET6, n->dns.items[i], address) != 1)
			return err_set(err, EINVAL, "'dns' must be addresses of name servers, and '%s' is none", n->dns.items[i]);
	return 0;
}

/* key: the one that was read last. */
static int read_keys(const struct settings *settings, const struct key_row *keys, const char *section, struct network_section *n, const char **key,
        struct err **err)
{
	const char *subnet = settings_str(settings, keys, section, "subnet"), *gateway = settings_get(settings, section, "gateway"),
	           *range = settings_get(settings, section, "range"), *dns = settings_get(settings, section, "dns");
	struct pool pool;
	int rc = strcmp(subnet, "auto") ? subnet_parse(subnet, &n->subnet, err) : 0;

	*key = "subnet";
	n->dhcp = settings_bool(settings, keys, section, "dhcp");
	n->mtu = settings_get(settings, section, "mtu") ? (int)settings_int(settings, keys, section, "mtu") : 0;
	if (rc == 0 && gateway) {
		*key = "gateway";
		rc = read_gateway(gateway, n, err);
	}
	if (rc == 0 && dns) {
		*key = "dns";
		rc = read_dns(dns, n, err);
	}
	if (rc < 0 || !range)
		return rc;
	*key = "range";
	rc = read_range(range, n, err);
	if (rc < 0)
		return rc;
	pool_of(n, &n->subnet, &pool);
	return pool_room(&pool) ? 0 : err_set(err, ERANGE, "'range' %s has no address beside the gateway's", range);
}

/* The section of the network, NULL if there is none. -EINVAL: there are more. */
static int find_section(const struct settings *settings, const char **ret, int *line, struct err **err)
{
	const char *found = NULL;

	for (size_t i = 0; i < settings->n; i++) {
		const char *section = settings->items[i].section;
		if (strncmp(section, SECTION, strlen(SECTION)))
			continue;
		*line = settings->items[i].line;
		if (found && strcmp(found, section))
			return err_set(err, EINVAL, "[%s] and [%s]: a provider has one network", found, section);
		found = section;
	}
	*ret = found;
	return 0;
}

static int line_of(const struct settings *settings, const char *section, const char *key)
{
	int line = 0;

	for (size_t i = 0; i < settings->n; i++)
		if (!strcmp(settings->items[i].section, section) && !strcmp(settings->items[i].key, key))
			line = settings->items[i].line;
	return line;
}

int network_section_read(
        const struct settings *settings, const struct key_row *keys, const char *kind, struct network_section *ret, int *ret_line, struct err **err)
{
	struct network_section n = {0};
	const char *section = NULL, *key = NULL, *old = settings_get(settings, kind, "subnet");
	int rc = find_section(settings, &section, ret_line, err);

	if (rc < 0)
		return rc;
	if (section && old)
		return err_set(err, EINVAL, "'subnet' of [%s] and [%s] both say what the network is: take the one in [%s] away", kind, section, kind);
	if (section)
		n.name = xstrdup(section + strlen(SECTION));
	rc = read_keys(settings, keys, section ? section : kind, &n, &key, err);
	if (rc < 0) {
		*ret_line = line_of(settings, section ? section : kind, key);
		network_section_release(&n);
		return section ? err_wrap(err, "[%s]", section) : rc;
	}
	*ret = n;
	return 0;
}

void network_section_release(struct network_section *n)
{
	free(n->name);
	strlist_release(&n->dns);
	*n = (struct network_section){0};
}

/* ---- addresses */

void pool_of(const struct network_section *n, const struct subnet *s, struct pool *ret)
{
	ret->gateway = n->gateway ? n->gateway : s->base + 1;
	ret->first = n->first ? n->first : s->base + 1;
	ret->last = n->last ? n->last : broadcast(s) - 1;
}

bool pool_has(const struct pool *p, uint32_t address)
{
	return address >= p->first && address <= p->last && address != p->gateway;
}

uint32_t pool_room(const struct pool *p)
{
	return p->last - p->first + 1 - (p->gateway >= p->first && p->gateway <= p->last);
}
