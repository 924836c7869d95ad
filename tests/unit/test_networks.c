/* Networks of the providers of this host: what their sections may say, and which node gets which address. */
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "providers/host/instance.h"
#include "tests/unit/test_files.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* "SECTION: KEY = VALUE; ..." */
static void settings_of(const char *text, struct settings *ret)
{
	_cleanup_free_ char *copy = xstrdup(text);
	char *save = NULL, section[40], key[20], value[80];

	for (char *line = strtok_r(copy, ";", &save); line; line = strtok_r(NULL, ";", &save)) {
		cr_assert_eq(sscanf(line, " %39[^:]: %19[a-z] = %79[^\n]", section, key, value), 3, "%s", line);
		settings_add(ret, section, key, value, 1);
	}
}

static const struct key_row *keys(void)
{
	return provider_find("container")->keys;
}

static int section(const char *text, struct network_section *ret, struct err **err)
{
	struct settings s = {0};
	int line;

	settings_of(text, &s);
	int rc = network_section_read(&s, keys(), "container", ret, &line, err);
	settings_release(&s);
	return rc;
}

Test(networks, a_section_is_read)
{
	struct network_section n;
	struct pool pool;
	char text[20];

	cr_assert_eq(section("network lab: subnet = 10.20.0.0/24; network lab: range = 10.20.0.10 - 10.20.0.19; network lab: gateway = 10.20.0.15;"
	                     "network lab: dns = 10.0.0.53, fd00::1; network lab: mtu = 1400",
	                     &n, NULL),
	        0);
	cr_assert_str_eq(n.name, "lab");
	subnet_format(&n.subnet, text);
	cr_assert_str_eq(text, "10.20.0.0/24");
	cr_assert_eq(n.mtu, 1400);
	cr_assert_eq(n.dns.n, 2);
	pool_of(&n, &n.subnet, &pool);
	cr_assert_eq(pool_room(&pool), 9, "the gateway is not given away");
	cr_assert(pool_has(&pool, n.first));
	cr_assert(pool_has(&pool, n.last));
	cr_assert_not(pool_has(&pool, n.gateway));
	cr_assert_not(pool_has(&pool, n.last + 1));
	network_section_release(&n);
}

Test(networks, without_a_section_nodes_get_all_addresses_but_three)
{
	struct network_section n;
	struct pool pool;

	cr_assert_eq(section("container: subnet = 10.20.4.0/29", &n, NULL), 0);
	cr_assert_null(n.name);
	pool_of(&n, &n.subnet, &pool);
	cr_assert_eq(pool.gateway, 0x0a140401);
	cr_assert_eq(pool_room(&pool), 5);
	cr_assert(pool_has(&pool, 0x0a140402));
	cr_assert(pool_has(&pool, 0x0a140406));
	cr_assert_not(pool_has(&pool, 0x0a140400));
	cr_assert_not(pool_has(&pool, 0x0a140401));
	cr_assert_not(pool_has(&pool, 0x0a140407));
	network_section_release(&n);
	cr_assert_eq(section("container: boot = sshd", &n, NULL), 0);
	cr_assert_eq(n.subnet.prefix, 0);
	network_section_release(&n);
}

Test(networks, what_cannot_be_is_refused_with_the_reason)
{
	static const struct {
		const char *text, *words;
		int code;
	} rows[] = {{"network a: subnet = 10.0.0.0/30", "[network a]: subnet '10.0.0.0/30' must have a prefix", ERANGE},
	        {"network a: gateway = 10.0.0.1", "needs a 'subnet'", EINVAL}, {"network a: range = 10.0.0.1-10.0.0.9", "needs a 'subnet'", EINVAL},
	        {"network a: subnet = 10.0.0.0/24; network a: gateway = 10.0.1.1", "'gateway' 10.0.1.1 is not an address for a host", ERANGE},
	        {"network a: subnet = 10.0.0.0/24; network a: gateway = 10.0.0.255", "not an address for a host", ERANGE},
	        {"network a: subnet = 10.0.0.0/24; network a: gateway = me", "must be an address such as", EINVAL},
	        {"network a: subnet = 10.0.0.0/24; network a: range = 10.0.0.4", "must be two addresses", EINVAL},
	        {"network a: subnet = 10.0.0.0/24; network a: range = 10.0.0.4-10.0.0.9x", "must be two addresses", EINVAL},
	        {"network a: subnet = 10.0.0.0/24; network a: range = 10.0.0.9-10.0.0.4", "ends before it begins", ERANGE},
	        {"network a: subnet = 10.0.0.0/24; network a: range = 10.0.0.9-10.0.1.4", "not within", ERANGE},
	        {"network a: subnet = 10.0.0.0/24; network a: range = 10.0.0.0-10.0.0.4", "not within", ERANGE},
	        {"network a: subnet = 10.0.0.0/24; network a: range = 10.0.0.1-10.0.0.1", "no address beside the gateway's", ERANGE},
	        {"network a: dns = 10.0.0.53, ns.example", "'ns.example' is none", EINVAL},
	        {"network a: mtu = 1400; network b: mtu = 1400", "a provider has one network", EINVAL},
	        {"network a: mtu = 1400; container: subnet = 10.0.0.0/24", "both say what the network is", EINVAL}};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct network_section n = {.mtu = 7};
		struct err *err = NULL;
		cr_assert_eq(section(rows[i].text, &n, &err), -rows[i].code, "%s", rows[i].text);
		cr_assert(strstr(err_msg(err), rows[i].words), "%s", err_msg(err));
		cr_assert_eq(n.mtu, 7, "written though it failed");
		err_free(err);
	}
}

/* ---- an instance */

TestSuite(networks_instance, .init = make_dir, .fini = remove_dir);

static struct provider_host host;

static int try_open(const char *text, struct provider **ret, struct err **err)
{
	struct settings s = {0};

	settings_of(text, &s);
	host = (struct provider_host){
	        .name = "c", .owner = "0123456789abcdef", .state_dir = dir, .cache_dir = dir, .access_key = "/nowhere", .repo = dir};
	int rc = provider_find("container")->open(&host, &s, ret, err);
	settings_release(&s);
	return rc;
}

static struct provider *opened(const char *text)
{
	_cleanup_err_ struct err *err = NULL;
	struct provider *p = NULL;

	cr_assert_eq(try_open(text, &p, &err), 0, "%s", err_msg(err));
	return p;
}

static struct node *add_node(struct provider *p, uint64_t node_id, const char *address)
{
	struct node *n = xcalloc(1, sizeof *n);

	n->node_id = node_id;
	str_replace(&n->job.address, address);
	HASH_ADD(hh, p->nodes, node_id, sizeof n->node_id, n);
	return n;
}

static const char *give(struct provider *p, uint64_t node_id)
{
	static char text[16];
	_cleanup_err_ struct err *err = NULL;
	uint32_t address;

	cr_assert_eq(address_give(p, node_id, &address, &err), 0, "%s", err_msg(err));
	address_format(address, text);
	return text;
}

#define LAB "network lab: subnet = 10.20.0.0/24; network lab: range = 10.20.0.10-10.20.0.12; network lab: gateway = 10.20.0.11"

Test(networks_instance, addresses_come_from_the_range_and_are_kept)
{
	_cleanup_err_ struct err *err = NULL;
	struct provider *p = opened(LAB);
	uint32_t address;

	eq_str(give(p, 7), "10.20.0.10");
	add_node(p, 7, "10.20.0.10");
	eq_str(give(p, 8), "10.20.0.12");
	struct node *second = add_node(p, 8, "10.20.0.12");
	eq_str(give(p, 8), "10.20.0.12");
	cr_assert_eq(address_give(p, 9, &address, &err), -ENOSPC);
	cr_assert(strstr(err_msg(err), "all 2 addresses of the range are used: set a wider 'range' in [network lab]"), "%s", err_msg(err));
	node_forget(p, second); /* destroyed: its address is there for others, and for itself as long as nobody took it */
	eq_str(give(p, 8), "10.20.0.12");
	eq_str(give(p, 9), "10.20.0.12");
	add_node(p, 9, "10.20.0.12");
	host_close(p);

	p = opened(LAB); /* the records of nodes are not there: what was given is */
	eq_str(give(p, 7), "10.20.0.10");
	eq_str(give(p, 9), "10.20.0.12");
	host_close(p);
}

Test(networks_instance, a_node_keeps_its_address_when_the_leases_are_lost)
{
	struct provider *p = opened(LAB);

	add_node(p, 7, "10.20.0.10");
	eq_str(give(p, 8), "10.20.0.12");
	host_close(p);
}

Test(networks_instance, a_network_does_not_change_under_its_nodes)
{
	_cleanup_err_ struct err *err = NULL;
	_cleanup_err_ struct err *second = NULL;
	struct settings other = {0}, gateway = {0}, range = {0};

	put("subnet", "10.20.0.0/24\n10.20.0.11\n", 0600);
	struct provider *p = opened(LAB);
	add_node(p, 7, "10.20.0.10");
	settings_of("network lab: subnet = 10.21.0.0/24", &other);
	cr_assert_eq(host_reload(p, &other, &err), -EBUSY);
	eq_str(err_msg(err), "'subnet' cannot change from 10.20.0.0/24 to 10.21.0.0/24 while nodes of this provider exist");
	settings_of("network lab: subnet = 10.20.0.0/24", &gateway);
	cr_assert_eq(host_reload(p, &gateway, &second), -EBUSY);
	eq_str(err_msg(second), "'gateway' cannot change from 10.20.0.11 to 10.20.0.1 while nodes of this provider exist");
	settings_of("network lab: subnet = 10.20.0.0/24; network lab: range = 10.20.0.30-10.20.0.40; network lab: gateway = 10.20.0.11", &range);
	cr_assert_eq(host_reload(p, &range, NULL), 0);
	eq_str(give(p, 8), "10.20.0.30");
	settings_release(&other);
	settings_release(&gateway);
	settings_release(&range);
	host_close(p);
}

Test(networks_instance, one_that_cannot_be_does_not_open)
{
	_cleanup_err_ struct err *err = NULL;
	struct provider *p = NULL;

	cr_assert_eq(try_open("network lab: range = 10.0.0.1-10.0.0.9", &p, &err), -EINVAL);
	cr_assert_null(p);
}
