/* The pure parts of the container provider: networks, package sources, resolvers, image keys, host keys, preflight's arithmetic. */
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "providers/container/container.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static struct subnet net(const char *text)
{
	struct subnet s = {0};

	cr_assert_eq(subnet_parse(text, &s, NULL), 0, "%s", text);
	return s;
}

/* ---- subnets */

Test(container, subnet_is_parsed_and_printed)
{
	struct subnet s = net("10.20.4.0/22");
	char text[20];

	cr_assert_eq(s.base, 0x0a140400U);
	cr_assert_eq(s.prefix, 22);
	subnet_format(&s, text);
	cr_assert_str_eq(text, "10.20.4.0/22");
}

Test(container, bad_subnets_are_refused_with_what_would_be_right)
{
	static const struct {
		const char *text, *said;
		int code;
	} rows[] = {{"10.20.5.0/22", "the network is 10.20.4.0/22", EINVAL}, {"10.20.4.0", "10.20.0.0/22", EINVAL},
	        {"10.20.4/22", "not a subnet", EINVAL}, {"10.0.0.0/8", "between /16 and /29", ERANGE}, {"10.0.0.0/30", "between /16 and /29", ERANGE},
	        {"10.0.0.0/33", "not a subnet", EINVAL}, {"", "not a subnet", EINVAL}};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct subnet s = {1, 2};
		struct err *err = NULL;
		cr_assert_eq(subnet_parse(rows[i].text, &s, &err), -rows[i].code, "%s", rows[i].text);
		cr_assert(strstr(err_msg(err), rows[i].said), "%s: %s", rows[i].text, err_msg(err));
		cr_assert_eq(s.base, 1);
		err_free(err);
	}
}

Test(container, overlap_is_symmetric)
{
	static const struct {
		const char *a, *b;
		bool overlap;
	} rows[] = {{"10.0.0.0/22", "10.0.3.0/24", true}, {"10.0.0.0/22", "10.0.4.0/24", false}, {"10.0.0.0/16", "10.0.0.0/16", true},
	        {"192.168.0.0/24", "192.168.1.0/24", false}};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct subnet a = net(rows[i].a), b = net(rows[i].b);
		cr_assert_eq(subnet_overlap(&a, &b), rows[i].overlap, "%s %s", rows[i].a, rows[i].b);
		cr_assert_eq(subnet_overlap(&b, &a), rows[i].overlap, "%s %s", rows[i].b, rows[i].a);
	}
}

static const char routes[] = "default via 192.0.2.1 dev eth0 \n"
                             "0.0.0.0/1 via 10.8.0.1 dev tun0 \n"
                             "10.64.0.0/22 dev rb12345 proto kernel scope link src 10.64.0.1 \n"
                             "172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1 linkdown \n"
                             "unreachable 10.96.0.0/16 \n"
                             "local 127.0.0.0/8 dev lo table local proto kernel scope host src 127.0.0.1 \n"
                             "local 192.0.2.2 dev eth0 table local proto kernel scope host src 192.0.2.2 \n";

Test(container, routes_become_networks_but_for_defaults_and_the_own_bridge)
{
	struct subnets taken = {0};
	struct subnet docker = net("172.17.4.0/22"), own = net("10.64.0.0/22"), cut = net("10.96.8.0/22"), free_one = net("10.65.0.0/22"),
	              host = net("192.0.2.0/24");

	subnets_from_routes(routes, "rb12345", &taken);
	cr_assert_eq(taken.n, 4);
	cr_assert(subnets_find(&taken, &docker));
	cr_assert(subnets_find(&taken, &cut));
	cr_assert(subnets_find(&taken, &host));
	cr_assert_not(subnets_find(&taken, &own));
	cr_assert_not(subnets_find(&taken, &free_one));
	free(taken.items);
}

Test(container, a_picked_network_is_free_private_and_stable)
{
	struct subnets taken = {0};
	struct subnet a, b, c;

	cr_assert_eq(subnet_pick(&taken, 12345, &a, NULL), 0);
	cr_assert_eq(subnet_pick(&taken, 12345, &b, NULL), 0);
	cr_assert(a.base == b.base && a.prefix == 22 && a.base >> 24 == 10);
	GROW(taken.items, taken.n, taken.cap);
	taken.items[taken.n++] = a;
	cr_assert_eq(subnet_pick(&taken, 12345, &c, NULL), 0);
	cr_assert_not(subnet_overlap(&a, &c));
	/* 10/8 is somebody else's: another private range */
	taken.items[0] = (struct subnet){0x0a000000, 8};
	cr_assert_eq(subnet_pick(&taken, 12345, &c, NULL), 0);
	cr_assert_eq(c.base >> 20, 0xac1);
	free(taken.items);
}

Test(container, no_free_network_is_a_sentence)
{
	struct subnet all[] = {{0x0a000000, 8}, {0xac100000, 12}, {0xc0a80000, 16}}, s;
	struct subnets taken = {.items = all, .n = 3, .cap = 3};
	struct err *err = NULL;

	cr_assert_eq(subnet_pick(&taken, 1, &s, &err), -ENOSPC);
	cr_assert(strstr(err_msg(err), "'subnet'"));
	err_free(err);
}

/* ---- package sources */

static void sources(const char *text, bool deb822, const char *suite, struct buf *verbatim, struct buf *rewritten)
{
	struct strlist v = {0}, r = {0};

	apt_sources_parse(text, deb822, suite, "bookworm", &v, &r);
	strlist_join(&v, "\n", verbatim);
	strlist_join(&r, "\n", rewritten);
	strlist_release(&v);
	strlist_release(&r);
}

static const char deb822[] = "# a comment\n"
                             "Types: deb deb-src\n"
                             "URIs: http://mirror.example/debian\n"
                             "Suites: bookworm bookworm-updates bookworm-backports\n"
                             "Components: main contrib\n"
                             "Signed-By: /usr/share/keyrings/debian.gpg\n"
                             "\n"
                             "Types: deb\n"
                             "URIs: https://other.example/\n"
                             "Suites: bookworm\n"
                             "Components: stable\n"
                             "\n"
                             "Types: deb\n"
                             "Enabled: no\n"
                             "URIs: http://off.example/debian\n"
                             "Suites: bookworm\n"
                             "Components: main\n"
                             "\n"
                             "Types: deb\n"
                             "URIs: http://mirror.example/debian-security\n"
                             "Suites: bookworm-security\n"
                             "Components: main\n"
                             "Signed-By:\n"
                             " -----BEGIN PGP PUBLIC KEY BLOCK-----\n"
                             " .\n"
                             " abc\n"
                             " -----END PGP PUBLIC KEY BLOCK-----\n";

Test(container, deb822_sources_of_the_suite_are_kept)
{
	_cleanup_buf_ struct buf v = {0}, r = {0};

	sources(deb822, true, "bookworm", &v, &r);
	cr_assert_str_eq(buf_str(&v), "deb [signed-by=/usr/share/keyrings/debian.gpg] http://mirror.example/debian bookworm main contrib\n"
	                              "deb [signed-by=/usr/share/keyrings/debian.gpg] http://mirror.example/debian bookworm-updates main contrib\n"
	                              "deb http://mirror.example/debian-security bookworm-security main");
	cr_assert_eq(r.len, 0);
}

Test(container, sources_of_the_hosts_suite_are_rewritten_for_another)
{
	_cleanup_buf_ struct buf v = {0}, r = {0};

	sources(deb822, true, "trixie", &v, &r);
	cr_assert_eq(v.len, 0);
	cr_assert(strstr(buf_str(&r), "http://mirror.example/debian trixie-updates main contrib"));
	cr_assert(strstr(buf_str(&r), "http://mirror.example/debian-security trixie-security main"));
	cr_assert_not(strstr(buf_str(&r), "backports"));
}

Test(container, one_line_sources_are_kept)
{
	_cleanup_buf_ struct buf v = {0}, r = {0};

	sources("# deb http://no.example bookworm main\n"
	        "deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian bookworm main # why\n"
	        "deb-src http://a.example/debian bookworm main\n"
	        "deb cdrom:[Debian]/ bookworm main\n"
	        "deb\thttp://b.example/debian\tstable-updates\tmain\n"
	        "deb http://c.example/ubuntu jammy main\n",
	        false, "bookworm", &v, &r);
	cr_assert_str_eq(
	        buf_str(&v), "deb [signed-by=/k.gpg] http://a.example/debian bookworm main\ndeb http://b.example/debian bookworm-updates main");
	cr_assert_eq(r.len, 0);
}

Test(container, odd_sources_do_no_harm)
{
	static const char *const odd[] = {"", "\n\n", "deb", "deb [", "deb [x] ", ":", "Types", " lone\n", "URIs: http://x\n"};

	for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
		for (int form = 0; form < 2; form++) {
			_cleanup_buf_ struct buf v = {0}, r = {0};
			sources(odd[i], form, "bookworm", &v, &r);
			cr_assert_eq(v.len + r.len, 0, "%s", odd[i]);
		}
}

Test(container, keyrings_are_found_in_lines)
{
	_cleanup_strlist_ struct strlist l = {0};

	apt_keyrings("deb [signed-by=/a.gpg] http://x s main\ndeb [signed-by=/b.gpg] http://y s main\ndeb [signed-by=/a.gpg] http://z s main\n", &l);
	cr_assert_eq(l.n, 2);
	cr_assert_str_eq(l.items[0], "/a.gpg");
	cr_assert_str_eq(l.items[1], "/b.gpg");
}

Test(container, proxies_on_loopback_become_the_gateway)
{
	static const char dump[] = "APT \"\";\n"
	                           "Acquire::http::Proxy \"http://127.0.0.1:3142\";\n"
	                           "Acquire::https::Proxy::mirror.example \"DIRECT\";\n"
	                           "Acquire::http::Timeout \"30\";\n"
	                           "Acquire::Check-Valid-Until \"false\";\n"
	                           "Dir::Log::Proxy \"x\";\n";
	_cleanup_buf_ struct buf b = {0}, host = {0};

	apt_config_lines(dump, "10.1.0.1", &b);
	cr_assert_str_eq(buf_str(&b), "Acquire::http::Proxy \"http://10.1.0.1:3142\";\n"
	                              "Acquire::https::Proxy::mirror.example \"DIRECT\";\n"
	                              "Acquire::Check-Valid-Until \"false\";\n");
	apt_config_lines(dump, NULL, &host);
	cr_assert(strstr(buf_str(&host), "http://127.0.0.1:3142"));
}

/* ---- resolvers */

Test(container, resolvers_on_loopback_are_left_out)
{
	_cleanup_buf_ struct buf a = {0}, b = {0};

	cr_assert(resolv_for_nodes("# x\nnameserver 127.0.0.53\nnameserver 10.0.0.53\noptions edns0\nsearch a.example  b.example\n", &a));
	cr_assert_str_eq(buf_str(&a), "nameserver 10.0.0.53\nsearch a.example b.example\n");
	cr_assert_not(resolv_for_nodes("nameserver 127.0.0.1\nnameserver ::1\nnameserver fe80::1%eth0\nnameserver\n", &b));
}

/* ---- images */

static char *image_key(const struct settings *s, const char *name, const char *base)
{
	struct image i;
	char *key;

	cr_assert_eq(image_resolve(s, name, "/cache", base, &i, NULL), 0);
	key = xstrdup(i.key);
	cr_assert(strstr(i.tree, key));
	image_release(&i);
	return key;
}

Test(container, image_key_is_the_content_that_makes_the_tree)
{
	char dir[] = "/tmp/rebarfs-test-image.XXXXXX";
	struct settings none = {0}, a = {0}, b = {0}, c = {0};

	cr_assert(mkdtemp(dir));
	_cleanup_free_ char *script = path_join(dir, "prepare.sh");
	cr_assert_eq(file_write_atomic(AT_FDCWD, script, "one", 3, 0755, NULL), 0);
	settings_add(&a, "image debian-12", "packages", "curl, jq", 1);
	settings_add(&b, "image debian-12", "packages", "jq,curl", 1);
	settings_add(&c, "image debian-12", "script", "prepare.sh", 1);
	_cleanup_free_ char *plain = image_key(&none, "debian-12", dir), *one = image_key(&a, "debian-12", dir),
	                    *two = image_key(&b, "debian-12", dir), *other = image_key(&none, "debian-13", dir),
	                    *first = image_key(&c, "debian-12", dir);
	cr_assert_eq(file_write_atomic(AT_FDCWD, script, "two", 3, 0755, NULL), 0);
	_cleanup_free_ char *second = image_key(&c, "debian-12", dir);
	cr_assert_str_eq(one, two);
	cr_assert_str_neq(plain, one);
	cr_assert_str_neq(plain, other);
	cr_assert_str_neq(first, second);
	tree_remove(dir, NULL);
	settings_release(&a);
	settings_release(&b);
	settings_release(&c);
}

Test(container, images_that_cannot_be_are_refused)
{
	struct settings s = {0};
	struct image i;
	struct err *err = NULL;

	cr_assert_eq(image_resolve(&s, "mine", "/cache", "/nowhere", &i, &err), -EINVAL);
	cr_assert(strstr(err_msg(err), "[image mine]"));
	settings_add(&s, "image mine", "source", "tree.tar", 1);
	cr_assert_eq(image_resolve(&s, "mine", "/cache", "/nowhere", &i, &err), -ENOENT);
	cr_assert(strstr(err_msg(err), "/nowhere/tree.tar"));
	settings_add(&s, "image mine", "packages", "curl", 2);
	cr_assert_eq(image_resolve(&s, "mine", "/cache", "/nowhere", &i, &err), -EINVAL);
	err_free(err);
	settings_release(&s);
}

Test(container, only_what_says_something_is_progress)
{
	cr_assert_str_eq(image_progress("I: extracting archives..."), "extracting archives...");
	cr_assert_null(image_progress("I: success in 42.0 seconds"));
	cr_assert_null(image_progress("E: Unable to locate package x"));
	cr_assert_null(image_progress(""));
}

/* ---- host keys */

Test(container, ssh_keygen_reads_our_host_keys)
{
	char path[] = "/tmp/rebarfs-test-key.XXXXXX", line[512] = "";
	_cleanup_buf_ struct buf secret = {0}, public = {0}, again = {0};
	int fd = mkstemp(path);

	cr_assert(fd >= 0);
	cr_assert_eq(hostkey_make("node-1", &secret, &public, NULL), 0);
	cr_assert_eq(fd_write_all(fd, secret.data, secret.len), 0);
	close(fd);
	_cleanup_free_ char *command = xasprintf("ssh-keygen -y -f %s", path);
	FILE *f = popen(command, "re");
	cr_assert(f);
	cr_assert(fgets(line, sizeof line, f), "ssh-keygen cannot read the key");
	cr_assert_eq(pclose(f), 0);
	unlink(path);
	cr_assert_eq(strncmp(line, buf_str(&public), public.len), 0, "%s\n%s", line, buf_str(&public));
	cr_assert_eq(hostkey_make("node-1", &secret, &again, NULL), 0);
	cr_assert_str_neq(buf_str(&public), buf_str(&again));
}

/* ---- records */

Test(container, a_record_is_read_back_and_another_owners_is_not)
{
	char dir[] = "/tmp/rebarfs-test-node.XXXXXX";
	struct node_job j = {.owner = xstrdup("0123456789abcdef"),
	        .node_id = 7,
	        .incarnation = 3,
	        .name = xstrdup("db-1"),
	        .ref = xstrdup("rb12345-7"),
	        .image = xstrdup("debian-12"),
	        .base = xstrdup("/tree"),
	        .address = xstrdup("10.1.0.2"),
	        .boot = BOOT_SSHD,
	        .limits = {1.5, 1 << 20}};
	struct node_job back = {0};
	struct err *err = NULL;
	struct stat st;

	cr_assert(mkdtemp(dir));
	_cleanup_free_ char *key = path_join(dir, "key.pub"), *sshd = NULL, *root = NULL;
	cr_assert_eq(file_write_atomic(AT_FDCWD, key, "ssh-ed25519 AAAA x\n", 19, 0600, NULL), 0);
	j.access_key = path_join(dir, "key");
	j.dir = path_join(dir, "7");
	umask(077);
	cr_assert_eq(container_write(&j, &err), 0, "%s", err_msg(err));
	cr_assert_eq(node_read(j.dir, j.owner, &back, NULL), 0);
	cr_assert(back.node_id == 7 && back.incarnation == 3 && back.boot == BOOT_SSHD && back.limits.cpus == 1.5 &&
	          back.limits.memory_bytes == 1 << 20);
	cr_assert_str_eq(back.host_key, j.host_key);
	cr_assert_eq(node_pid(j.dir), 0);
	/* what the node sees must not depend on the daemon's umask */
	sshd = path_join(j.dir, "upper/etc/ssh/sshd_config.d/00-rebarfs.conf");
	root = path_join(j.dir, "upper");
	cr_assert(stat(sshd, &st) == 0 && (st.st_mode & 07777) == 0644);
	cr_assert(stat(root, &st) == 0 && (st.st_mode & 07777) == 0755);
	node_job_release(&back);
	cr_assert_eq(node_read(j.dir, "ffffffffffffffff", &back, &err), -EPERM);
	cr_assert_eq(node_remove(&j, NULL), 0);
	cr_assert_eq(node_read(j.dir, j.owner, &back, &err), -ENOENT);
	cr_assert_eq(node_remove(&j, NULL), 0);
	err_free(err);
	node_job_release(&j);
	tree_remove(dir, NULL);
}

/* ---- preflight */

Test(container, inotify_is_enough_for_twenty_nodes_by_default)
{
	_cleanup_buf_ struct buf few = {0}, many = {0}, more = {0};

	preflight_inotify(128, 0, 20, 0, &few);
	cr_assert_eq(few.len, 0);
	preflight_inotify(128, 0, 21, 0, &many);
	cr_assert_str_eq(buf_str(&many),
	        "/proc/sys/fs/inotify/max_user_instances is 128: more than 20 nodes need 'sysctl fs.inotify.max_user_instances=8192'");
	preflight_inotify(8192, 0, 2000, 0, &more);
	cr_assert(strstr(buf_str(&more), "max_user_instances=16384"));
}

Test(container, inotify_counts_what_is_in_use)
{
	_cleanup_buf_ struct buf fits = {0}, tight = {0};

	preflight_inotify(128, 64, 15, 5, &fits);
	cr_assert_eq(fits.len, 0, "ten more fit into sixty-four");
	preflight_inotify(128, 64, 16, 5, &tight);
	cr_assert_str_eq(buf_str(&tight), "/proc/sys/fs/inotify/max_user_instances is 128, of which 64 are in use: more than 15 nodes need 'sysctl "
	                                  "fs.inotify.max_user_instances=8192'");
}
