/* Arithmetic on IPv4 networks. Pure. */
#include "providers/net/net.h"

#include "fs/base/mem.h"
#include "fs/base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define AUTO_PREFIX 22 /* 1021 nodes: a bridge takes 1023 ports */

static uint32_t mask_of(int prefix)
{
	return prefix ? ~0U << (32 - prefix) : 0;
}

int address_parse(const char *text, uint32_t *ret)
{
	struct in_addr a;

	if (inet_pton(AF_INET, text, &a) != 1)
		return -EINVAL;
	*ret = ntohl(a.s_addr);
	return 0;
}

void address_format(uint32_t address, char out[16])
{
	struct in_addr a = {.s_addr = htonl(address)};

	inet_ntop(AF_INET, &a, out, 16);
}

/* "10.1.2.3" or "10.1.2.0/24" into s; host bits are left as they are. */
static bool parse_loose(const char *text, struct subnet *s)
{
	_cleanup_free_ char *copy = xstrdup(text);
	char *slash = strchr(copy, '/');
	int64_t prefix = 32;

	if (slash) {
		*slash = '\0';
		if (parse_int(slash + 1, &prefix, NULL) < 0 || prefix < 0 || prefix > 32)
			return false;
	}
	s->prefix = (int)prefix;
	return address_parse(copy, &s->base) == 0;
}

int subnet_parse(const char *text, struct subnet *ret, struct err **err)
{
	struct subnet s;
	char right[20];

	if (!strchr(text, '/') || !parse_loose(text, &s))
		return err_set(err, EINVAL, "'%s' is not a subnet: write 'auto' or a network such as 10.20.0.0/22", text);
	if (s.prefix < 16 || s.prefix > 29)
		return err_set(err, ERANGE, "subnet '%s' must have a prefix between /16 and /29", text);
	if (s.base & ~mask_of(s.prefix)) {
		s.base &= mask_of(s.prefix);
		subnet_format(&s, right);
		return err_set(err, EINVAL, "subnet '%s' has host bits set: the network is %s", text, right);
	}
	*ret = s;
	return 0;
}

void subnet_format(const struct subnet *s, char out[20])
{
	char address[16];

	address_format(s->base, address);
	snprintf(out, 20, "%s/%d", address, s->prefix);
}

bool subnet_overlap(const struct subnet *a, const struct subnet *b)
{
	uint32_t mask = mask_of(a->prefix < b->prefix ? a->prefix : b->prefix);

	return (a->base & mask) == (b->base & mask);
}

static bool is_route_type(const char *word)
{
	static const char *const types[] = {"unicast", "local", "broadcast", "multicast", "blackhole", "unreachable", "prohibit", "throw", "nat"};

	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (!strcmp(word, types[i]))
			return true;
	return false;
}

/* One line: "local 10.0.0.1 dev eth0 table local ...", "10.0.0.0/24 dev eth0 ...", "default via ...". */
static void add_route(char *line, const char *except, struct subnets *ret)
{
	char *save = NULL, *word = strtok_r(line, " ", &save);
	struct subnet s;

	if (word && is_route_type(word))
		word = strtok_r(NULL, " ", &save);
	/* below 8 are halves of the world (0.0.0.0/1), by which VPNs displace a default route */
	if (!word || !strcmp(word, "default") || !parse_loose(word, &s) || s.prefix < 8)
		return;
	while ((word = strtok_r(NULL, " ", &save)))
		if (!strcmp(word, "dev")) {
			word = strtok_r(NULL, " ", &save);
			if (word && except && !strcmp(word, except))
				return;
			break;
		}
	GROW(ret->items, ret->n, ret->cap);
	ret->items[ret->n++] = s;
}

void subnets_from_routes(const char *text, const char *except, struct subnets *ret)
{
	_cleanup_free_ char *copy = xstrdup(text);
	char *save = NULL;

	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		add_route(line, except, ret);
}

const struct subnet *subnets_find(const struct subnets *taken, const struct subnet *s)
{
	for (size_t i = 0; i < taken->n; i++)
		if (subnet_overlap(&taken->items[i], s))
			return &taken->items[i];
	return NULL;
}

int subnet_pick(const struct subnets *taken, uint64_t seed, struct subnet *ret, struct err **err)
{
	/* 10.64.0.0/10 first: home routers and docker live at the low end of 10/8 and in 172.16/12 and 192.168/16. */
	static const struct subnet pools[] = {{0x0a400000, 10}, {0x0a000000, 8}, {0xac100000, 12}, {0xc0a80000, 16}};

	for (size_t p = 0; p < sizeof pools / sizeof *pools; p++) {
		uint32_t count = 1U << (AUTO_PREFIX - pools[p].prefix);
		for (uint32_t i = 0; i < count; i++) {
			uint32_t slot = (uint32_t)((seed + i) % count);
			struct subnet s = {pools[p].base + (slot << (32 - AUTO_PREFIX)), AUTO_PREFIX};
			if (!subnets_find(taken, &s)) {
				*ret = s;
				return 0;
			}
		}
	}
	return err_set(err, ENOSPC, "no private /%d network is free on this host: set 'subnet' in provider.ini to one that may be used", AUTO_PREFIX);
}
