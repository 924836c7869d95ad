/* What the metal provider takes for the place of a BMC, and what its script does with one that speaks Redfish: a program stands where our own would.
 * The protocol is for the end-to-end tests, which have a real endpoint. */
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "providers/metal/metal.h"
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/rebarfs-metal.XXXXXX";

static void put(const char *name, const char *text, mode_t mode)
{
	_cleanup_free_ char *path = path_join(dir, name);
	cr_assert_eq(file_write_atomic(AT_FDCWD, path, text, strlen(text), mode, NULL), 0);
}

static void make(void)
{
	cr_assert_not_null(mkdtemp(dir));
}

static void drop(void)
{
	tree_remove(dir, NULL);
}

TestSuite(metal_bmc, .init = make, .fini = drop);

static int ask(const char *verb, struct buf *complaint)
{
	_cleanup_free_ char *path = path_join(dir, "complaint");
	pid_t pid = fork();
	if (pid == 0) {
		_cleanup_free_ char *search = xasprintf("%s:%s", dir, getenv("PATH"));
		int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		dup2(fd, STDERR_FILENO);
		setenv("PATH", search, 1);
		setenv("DIR", dir, 1);
		setenv("LOCKS", dir, 1);
		setenv("POWER_ONS", "1", 1);
		setenv("REBARFS", "rebarfs", 1);
		execlp("sh", "sh", "-c", metal_control, "metal", verb, dir, NULL);
		_exit(127);
	}
	int status;
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(file_read(AT_FDCWD, path, 4096, complaint, NULL), 0);
	return WEXITSTATUS(status);
}

static void asked(const char *verb, const char *expected)
{
	_cleanup_buf_ struct buf complaint = {0}, calls = {0};
	_cleanup_free_ char *path = path_join(dir, "asked");
	unlink(path);
	cr_expect_eq(ask(verb, &complaint), 0, "%s: %s", verb, buf_str(&complaint));
	file_read(AT_FDCWD, path, 4096, &calls, NULL);
	cr_expect_str_eq(buf_str(&calls), expected, "%s asked for: %s", verb, buf_str(&calls));
}

/* ---- Redfish */

static void make_redfish(const char *program)
{
	make();
	put("password", "secret", 0600);
	put("bmc", "192.0.2.1\n443\nadmin\nm1\nredfish\n\n\n", 0600);
	put("rebarfs", program, 0755);
}

static void make_answering(void)
{
	make_redfish("#!/bin/sh\n"
	             "cd \"$DIR\"\n"
	             "[ \"$1:$2\" = \"--redfish:$DIR\" ] || exit 3\n"
	             "case $3:$4 in\n"
	             "power:status) [ -e on ] && echo 'power is on' || echo 'power is off' ;;\n"
	             "power:on) echo on >>asked; touch on ;;\n"
	             "power:off) echo off >>asked; rm on ;;\n"
	             "*) exit 3 ;;\n"
	             "esac\n");
}

static void make_refusing(void)
{
	make_redfish("#!/bin/sh\n"
	             "echo asked >>\"$DIR/asked\"\n"
	             "echo 'noise' >&2\n"
	             "echo 'the BMC of m1 refuses' >&2\n"
	             "exit 3\n");
}

TestSuite(redfish, .init = make_answering, .fini = drop);

Test(redfish, is_asked_by_ourselves)
{
	asked("on", "on\n");
	asked("reset", "off\non\n");
	asked("off", "off\n");
	asked("off", "");
}

Test(refusal, of_redfish_is_said_as_it_is_and_not_asked_for_again, .init = make_refusing, .fini = drop)
{
	_cleanup_buf_ struct buf complaint = {0}, calls = {0};
	_cleanup_free_ char *path = path_join(dir, "asked");

	cr_expect_eq(ask("on", &complaint), 3);
	cr_expect_str_eq(buf_str(&complaint), "the BMC of m1 refuses\n");
	file_read(AT_FDCWD, path, 4096, &calls, NULL);
	cr_expect_str_eq(buf_str(&calls), "asked\n");
}

/* ---- what is declared */

/* The file of the node's BMC, or the sentence that refuses it. */
static void declare(const char *bmc, const char *fingerprint, const char *password, struct buf *ret)
{
	_cleanup_err_ struct err *err = NULL;
	struct provider_host host = {.state_dir = dir, .owner = "0123456789abcdef"};
	struct provider p = {.host = &host};
	struct settings s = {0};
	struct machine_spec spec = {.node_id = 7, .name = "m1", .image = "debian-12", .node = &s};
	struct metal_node *n = record_new(&p, 7);

	settings_add(&s, "node", "mac", "52:54:00:12:34:56", 1);
	settings_add(&s, "node", "address", "192.0.2.7", 2);
	settings_add(&s, "node", "bmc", bmc, 3);
	settings_add(&s, "node", "bmc-user", "admin", 4);
	settings_add(&s, "node", "bmc-password", password, 5);
	if (fingerprint)
		settings_add(&s, "node", "bmc-fingerprint", fingerprint, 6);
	if (record_declare(&p, &spec, n, &err) < 0) {
		buf_adds(ret, err_msg(err));
	} else {
		_cleanup_free_ char *path = path_join(n->dir, "bmc");
		cr_assert_eq(file_read(AT_FDCWD, path, 4096, ret, NULL), 0);
		for (char *c = ret->data; (c = strchr(c, '\n'));)
			*c = ' ';
	}
	settings_release(&s);
	record_free(&p, n);
}

#define PRINT "11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00"
#define PLAIN "112233445566778899aabbccddeeff00112233445566778899aabbccddeeff00"

Test(metal_bmc, a_bmc_is_where_its_url_says_or_refused)
{
	static const struct {
		const char *bmc, *fingerprint, *expected;
	} rows[] = {
	        {"ipmi://192.0.2.1", NULL, "192.0.2.1 623 admin m1 ipmi   "},
	        {"ipmi://bmc-1.example:1623", NULL, "bmc-1.example 1623 admin m1 ipmi   "},
	        {"redfish://192.0.2.1", NULL, "192.0.2.1 443 admin m1 redfish   "},
	        {"redfish://192.0.2.1/", NULL, "192.0.2.1 443 admin m1 redfish   "},
	        {"redfish://b:8443/redfish/v1/Systems/1", NULL, "b 8443 admin m1 redfish /redfish/v1/Systems/1  "},
	        {"redfish://b", PRINT, "b 443 admin m1 redfish  " PLAIN " "},
	        {"redfish://b", PLAIN, "b 443 admin m1 redfish  " PLAIN " "},
	        {"redfish+http://127.0.0.1:8000", NULL, "127.0.0.1 8000 admin m1 redfish+http   "},
	        {"redfish+http://192.0.2.1", NULL,
	                "bmc 'redfish+http://192.0.2.1': without TLS its password would be sent for everybody to read: write 'redfish://192.0.2.1'"},
	        {"redfish+http://127.0.0.1.example", NULL,
	                "bmc 'redfish+http://127.0.0.1.example': without TLS its password would be sent for everybody to read: write "
	                "'redfish://127.0.0.1.example'"},
	        {"http://b", NULL, "bmc 'http://b' is not like 'ipmi://HOST' or 'redfish://HOST', with ':PORT' if it is another than usual"},
	        {"redfish", NULL, "bmc 'redfish' is not like 'ipmi://HOST' or 'redfish://HOST', with ':PORT' if it is another than usual"},
	        {"redfish://", NULL, "bmc 'redfish://' is not like 'ipmi://HOST' or 'redfish://HOST', with ':PORT' if it is another than usual"},
	        {"redfish://:443", NULL, "bmc 'redfish://:443': '' is not a host"},
	        {"redfish://b:0", NULL, "bmc 'redfish://b:0': '0' is not a port"},
	        {"redfish://b:x/y", NULL, "bmc 'redfish://b:x/y': 'x' is not a port"},
	        {"redfish://u@b", NULL, "bmc 'redfish://u@b': 'u@b' is not a host"},
	        {"redfish://b/a b", NULL, "bmc 'redfish://b/a b': '/a b' is not the place of a system"},
	        {"ipmi://b/x", NULL, "bmc 'ipmi://b/x': '/x' is not the place of a system"},
	        {"ipmi://b", PRINT, "a 'bmc-fingerprint' is for 'redfish://', and the bmc is 'ipmi://'"},
	        {"redfish://b", "12:34", "bmc-fingerprint '12:34' is not the SHA-256 of a certificate, 64 hexadecimal digits"},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		_cleanup_buf_ struct buf said = {0};
		declare(rows[i].bmc, rows[i].fingerprint, "secret", &said);
		cr_expect_str_eq(buf_str(&said), rows[i].expected, "%s: %s", rows[i].bmc, buf_str(&said));
	}
}

Test(metal_bmc, a_long_password_is_for_redfish_alone)
{
	_cleanup_buf_ struct buf ipmi = {0}, redfish = {0};

	declare("ipmi://b", NULL, "0123456789012345678901", &ipmi);
	cr_expect_str_eq(buf_str(&ipmi), "the password of the BMC of 'm1' is longer than 20 bytes, which IPMI does not know");
	declare("redfish://b", NULL, "0123456789012345678901", &redfish);
	cr_expect_str_eq(buf_str(&redfish), "b 443 admin m1 redfish   ");
}

Test(metal_bmc, what_was_written_is_read_again_and_so_is_what_older_ones_wrote)
{
	static const char old[] =
	        "{\"owner\": \"0123456789abcdef\", \"node_id\": 8, \"incarnation\": 1, \"name\": \"m2\", \"mac\": \"52:54:00:12:34:57\", "
	        "\"address\": \"192.0.2.8\", \"host\": \"b\", \"port\": \"623\", \"user\": \"admin\", \"disk\": \"\", \"image\": "
	        "\"debian-12\", \"host_key\": \"k\", \"installed\": true}";
	struct provider_host host = {.state_dir = dir, .owner = "0123456789abcdef"};
	struct provider p = {.host = &host};
	_cleanup_free_ char *where = path_join(dir, "nodes/8");
	struct metal_node *n, *next;

	cr_assert_eq(dir_make_all(where, 0700, NULL), 0);
	put("nodes/8/machine", old, 0600);
	for (int round = 0; round < 2; round++) {
		records_read(&p);
		cr_assert_eq(HASH_COUNT(p.nodes), 1, "not read in round %d", round);
		cr_expect_null(p.nodes->scheme);
		cr_expect_eq(record_write(&p, p.nodes, NULL), 0);
		HASH_ITER (hh, p.nodes, n, next)
			record_free(&p, n);
	}
}
