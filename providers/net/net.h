/* Networks of machines that are made on this host: arithmetic, links, resolvers. Nothing here keeps state. */
#ifndef REBARFS_PROVIDERS_NET_H
#define REBARFS_PROVIDERS_NET_H

#include "fs/base/buf.h"
#include "fs/base/err.h"
#include "fs/base/keys.h"
#include "fs/base/str.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- subnet.c: pure arithmetic on IPv4 networks, in host byte order */

struct subnet {
	uint32_t base;
	int prefix; /* 0..32 */
};
struct subnets {
	struct subnet *items;
	size_t n, cap;
};
int subnet_parse(const char *text, struct subnet *ret, struct err **err); /* "10.1.2.0/24"; host bits must be zero */
void subnet_format(const struct subnet *s, char out[20]);
bool subnet_overlap(const struct subnet *a, const struct subnet *b);
/* Networks of the lines of `ip -4 -o route show table all`, without default routes and without those of device except. */
void subnets_from_routes(const char *text, const char *except, struct subnets *ret);
/* The first of taken that s overlaps, or NULL. */
const struct subnet *subnets_find(const struct subnets *taken, const struct subnet *s);
/* A private /22 that overlaps none of taken; where the search begins depends on seed, so that two instances rarely meet. -ENOSPC. */
int subnet_pick(const struct subnets *taken, uint64_t seed, struct subnet *ret, struct err **err);
void address_format(uint32_t address, char out[16]);
int address_parse(const char *text, uint32_t *ret); /* -EINVAL */

/* ---- section.c: what [network NAME] of a provider's document says. Pure. */

#define NETWORK_KEYS                                                                                                                                 \
	{"network *", "subnet", VALUE_STRING, .dflt = "auto",                                                                                        \
	        .help = "network of the nodes, as 10.20.0.0/22; auto: a private /22 that is free on this host", .fixed = true},                      \
	        {"network *", "range", VALUE_STRING,                                                                                                 \
	                .help = "addresses that nodes are given, as 10.20.0.10-10.20.0.99; not set: all of the subnet"},                             \
	        {"network *", "gateway", VALUE_STRING, .help = "this host's address there, by which nodes reach others; not set: the first",         \
	                .fixed = true},                                                                                                              \
	        {"network *", "dns", VALUE_LIST, .help = "name servers of nodes made from now on; not set: this host's"},                            \
	        {"network *", "dhcp", VALUE_BOOL, .dflt = "no", .help = "answer nodes whose image asks for its address, and no others"},             \
	{                                                                                                                                            \
		"network *", "mtu", VALUE_INT, .min = 576, .max = 65521, .help = "largest packet; not set: that of this host's way out"              \
	}

struct network_section {
	char *name;           /* NULL: there is none, and all is as if it were empty */
	struct subnet subnet; /* prefix 0: auto */
	uint32_t gateway;     /* 0: not set */
	uint32_t first, last; /* the range; 0: not set */
	struct strlist dns;
	int mtu; /* 0: not set */
	bool dhcp;
};
/* kind: the section that had 'subnet' before there were networks, and may have it still. EINVAL, ERANGE; then
 * ret_line is that of the mistake. */
int network_section_read(
        const struct settings *settings, const struct key_row *keys, const char *kind, struct network_section *ret, int *ret_line, struct err **err);
void network_section_release(struct network_section *n);

/* The addresses of a network once its subnet is known. */
struct pool {
	uint32_t gateway, first, last;
};
void pool_of(const struct network_section *n, const struct subnet *s, struct pool *ret);
bool pool_has(const struct pool *p, uint32_t address); /* may be given to a node */
uint32_t pool_room(const struct pool *p);

/* ---- resolv.c */

/* A resolv.conf for nodes from the host's: nameservers that are not on loopback, and the search list. False if none is left. */
bool resolv_for_nodes(const char *text, struct buf *out);

/* ---- link.c: netlink and ioctl, async-signal-safe: called between fork and exec too; each returns -errno */

int link_socket(void); /* a netlink socket, for the namespace it was made in */
/* A veth: host_end in the socket's namespace, up and in the bridge (its index); the other end is eth0 in the namespace of process peer. */
int link_veth(int nl, const char *host_end, uint32_t bridge, const uint8_t mac[6], int mtu, pid_t peer);
/* A tap device, up and in the bridge, that stays when whoever uses it ends. */
int link_tap(int nl, const char *name, uint32_t bridge, int mtu);
int link_delete(int nl, const char *name); /* 0 if there is none */
/* Forgets which card the address had on that device: whoever gets it next has another, and the old one would be asked for up to a minute. */
void link_forget(const char *device, uint32_t address);
/* From now on devices of the caller's namespace tell the others on their wire when they come up: as above, for all who are there. */
void link_announce(void);
/* In the caller's namespace: up with this address, and a default route if gateway is not 0. prefix 0: only up. */
int link_configure(const char *name, uint32_t address, int prefix, uint32_t gateway);

#endif
