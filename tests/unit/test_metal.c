/* What the metal provider's script asks a BMC for, how often and how many at once, and what it says when one does not do as it should: of a program
 * that stands where ipmitool would. The protocol is for the end-to-end tests, which have real ones. */
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "providers/metal/metal.h"
#include <criterion/criterion.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/rebarfs-metal.XXXXXX";

static void put(const char *name, const char *text, mode_t mode)
{
	_cleanup_free_ char *path = path_join(dir, name);
	cr_assert_eq(file_write_atomic(AT_FDCWD, path, text, strlen(text), mode, NULL), 0);
}

static void put_directory(const char *name)
{
	_cleanup_free_ char *path = path_join(dir, name);
	cr_assert_eq(dir_make_all(path, 0700, NULL), 0);
}

static void expect_file(const char *name, const char *expected)
{
	_cleanup_buf_ struct buf text = {0};
	_cleanup_free_ char *path = path_join(dir, name);
	file_read(AT_FDCWD, path, 65536, &text, NULL);
	cr_expect_str_eq(buf_str(&text), expected, "%s: %s", name, buf_str(&text));
}

static void declare(const char *node, const char *host)
{
	_cleanup_free_ char *bmc = xasprintf("%s/bmc", node), *password = xasprintf("%s/password", node), *root = xasprintf("%s/root", node),
	                    *text = xasprintf("%s\n623\nadmin\n%s\n", host, node);
	put_directory(root);
	put(bmc, text, 0600);
	put(password, "secret\n", 0600);
}

/* Machines by a BMC's host: it is switched on when the file HOST.on is there; what changes anything is written down. More than that is in 'hook',
 * which is called with the host and what was asked, and may answer or end it itself. */
static void make(void)
{
	cr_assert_not_null(mkdtemp(dir));
	declare("m1", "192.0.2.1");
	put_directory("http");
	put("hook", "", 0600);
	put("ipmitool",
	        "#!/bin/sh\n"
	        "cd \"$DIR\"\n"
	        "while [ \"$1\" != chassis ]; do [ \"$1\" != -H ] || host=$2; [ \"$1\" != -v ] || loud=yes; shift; done\n"
	        "what=${3:-$2}\n"
	        ". ./hook\n"
	        "case $what in\n"
	        "status) [ -e \"$host.on\" ] && echo 'Chassis Power is on' || echo 'Chassis Power is off' ;;\n"
	        "on) echo on >>asked; touch \"$host.on\" ;;\n"
	        "off) echo off >>asked; rm \"$host.on\" ;;\n"
	        "pxe | disk) echo $what >>asked ;;\n"
	        "*) echo \"unexpected $*\" >>asked ;;\n"
	        "esac\n",
	        0755);
}

static void drop(void)
{
	tree_remove(dir, NULL);
}

TestSuite(metal, .init = make, .fini = drop);

/* Waiting takes no time. */
static void no_time_passes(void)
{
	put("sleep", "#!/bin/sh\n", 0755);
}

static pid_t begin(const char *verb, const char *node)
{
	pid_t pid = fork();
	if (pid == 0) {
		_cleanup_free_ char *search = xasprintf("%s:%s", dir, getenv("PATH")), *said = path_join(dir, "said"), *http = path_join(dir, "http"),
		                    *at = path_join(dir, node), *complaint = xasprintf("%s/complaint", at), *progress = xasprintf("%s/progress", at);
		int fd = open(complaint, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600),
		    out = open(progress, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		dup2(fd, STDERR_FILENO);
		dup2(out, STDOUT_FILENO);
		setenv("PATH", search, 1);
		setenv("DIR", dir, 1);
		setenv("LOCKS", dir, 1);
		setenv("SAID", said, 1);
		setenv("HTTP", http, 1);
		setenv("BOOT", "3", 1);
		setenv("POWER_ONS", "2", 1);
		execlp("sh", "sh", "-c", metal_control, "metal", verb, at, NULL);
		_exit(127);
	}
	return pid;
}

static int end(pid_t pid)
{
	int status;
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WEXITSTATUS(status);
}

static void asked(const char *verb, const char *expected)
{
	_cleanup_free_ char *path = path_join(dir, "asked");
	unlink(path);
	cr_expect_eq(end(begin(verb, "m1")), 0, "%s", verb);
	expect_file("m1/complaint", "");
	expect_file("asked", expected);
}

static void complains(const char *verb, int status, const char *sentence)
{
	cr_expect_eq(end(begin(verb, "m1")), status, "%s", verb);
	expect_file("m1/complaint", sentence);
}

Test(metal, every_word_for_power_does_something)
{
	asked("on", "on\n");
	asked("on", "");
	asked("cycle", "off\non\n");
	asked("reset", "off\non\n");
	asked("off", "off\n");
	asked("off", "");
	asked("reset", "on\n");
}

Test(metal, what_it_does_not_know_is_no_success)
{
	complains("explode", 3, "unknown verb 'explode'\n");
}

/* ---- how many at once */

Test(metal, a_bmc_is_asked_one_thing_at_a_time_with_a_moment_between)
{
	declare("m2", "192.0.2.1");
	put("hook",
	        "mkdir inside || echo overlap >>wrong\n"
	        "last=$(cat last 2>/dev/null || echo 0)\n"
	        "[ $(($(date +%s%N) - last)) -ge 200000000 ] || echo hurry >>wrong\n"
	        "sleep 0.1\n"
	        "date +%s%N >last\n"
	        "rmdir inside\n",
	        0600);
	pid_t pids[] = {begin("on", "m1"), begin("status", "m2"), begin("status", "m2")};
	for (size_t i = 0; i < 3; i++)
		cr_expect_eq(end(pids[i]), 0);
	expect_file("asked", "on\n");
	expect_file("wrong", "");
}

Test(metal, only_so_many_machines_are_switched_on_at_once)
{
	enum { N = 6 };
	pid_t pids[N];
	char node[3] = "m1", host[] = "192.0.2.1";

	/* from the call until it was seen to be on */
	put("hook",
	        "case $what in\n"
	        "on) mkdir \"powering.$host\"; ls -d powering.* | wc -l >>counts ;;\n"
	        "status) [ ! -e \"$host.on\" ] || rmdir \"powering.$host\" ;;\n"
	        "esac\n",
	        0600);
	for (int i = 0; i < N; i++) {
		node[1] = host[8] = (char)('1' + i);
		declare(node, host);
		pids[i] = begin("on", node);
	}
	for (int i = 0; i < N; i++)
		cr_expect_eq(end(pids[i]), 0);
	expect_file("asked", "on\non\non\non\non\non\n");
	_cleanup_free_ char *most = xasprintf("[ $(sort -n '%s/counts' | tail -n 1) -le 2 ]", dir),
	                    *said = xasprintf("grep -qx 'progress waiting until fewer machines are being switched on' '%s'/m*/progress", dir);
	cr_expect_eq(system(most), 0, "more than two were switched on at once");
	cr_expect_eq(system(said), 0, "nobody said that it waits");
}

/* ---- BMCs that do not do as they should */

Test(metal, a_wrong_password_is_said)
{
	no_time_passes();
	put("hook",
	        "[ -z \"${loud:-}\" ] || echo '> RAKP 2 HMAC is invalid'\n"
	        "echo 'Error: Unable to establish IPMI v2 / RMCP+ session'\n"
	        "exit 1\n",
	        0600);
	complains("on", 3, "the BMC of m1 (192.0.2.1 port 623) refuses the user or the password of 'admin'\n");
	expect_file("asked", "");
}

Test(metal, a_bmc_that_answers_nobody_is_said)
{
	no_time_passes();
	put("hook", "echo 'Error: Unable to establish IPMI v2 / RMCP+ session'; exit 1\n", 0600);
	complains("on", 3, "the BMC of m1 (192.0.2.1 port 623) does not answer, or not in IPMI 2.0\n");
}

/* By a real one, of a port that takes everything and says nothing. */
Test(metal, a_bmc_that_takes_everything_and_answers_nothing_is_said)
{
	static const char real[] = "/usr/bin/ipmitool";
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof at;
	cr_assert_eq(access(real, X_OK), 0, "ipmitool is not installed: run 'make deps'");
	int hole = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(hole, (struct sockaddr *)&at, sizeof at), 0);
	cr_assert_eq(getsockname(hole, (struct sockaddr *)&at, &len), 0);
	_cleanup_free_ char *bmc = xasprintf("127.0.0.1\n%d\nadmin\nm1\n\n", ntohs(at.sin_port)),
	                    *sentence = xasprintf("the BMC of m1 (127.0.0.1 port %d) does not answer, or not in IPMI 2.0\n", ntohs(at.sin_port));
	put("m1/bmc", bmc, 0600);
	no_time_passes();
	/* not so patient as it is made to be */
	put("ipmitool", "#!/bin/sh\nset -- $(printf '%s ' \"$@\" | sed 's/-N 2 -R 2/-N 1 -R 1/')\nexec /usr/bin/ipmitool \"$@\"\n", 0755);
	complains("on", 3, sentence);
	close(hole);
}

Test(metal, a_call_that_hangs_is_ended)
{
	no_time_passes();
	put("timeout", "#!/bin/sh\nshift 3\nexec /usr/bin/timeout -k 1 0.3 \"$@\"\n", 0755);
	put("hook", "echo x >>tried; exec /bin/sleep 600\n", 0600);
	complains("off", 3, "the BMC of m1 (192.0.2.1 port 623) does not answer within 15 s\n");
	expect_file("tried", "x\nx\nx\n");
}

Test(metal, a_bmc_that_answers_in_the_end_is_waited_for)
{
	no_time_passes();
	put("hook", "n=$(($(cat n 2>/dev/null || echo 0) + 1)); echo $n >n; [ $((n % 3)) = 0 ] || { echo 'Error: busy'; exit 1; }\n", 0600);
	asked("on", "on\n");
}

Test(metal, a_bmc_that_lies_about_power_is_found_out)
{
	no_time_passes();
	put("hook", "[ $what != on ] || exit 0\n", 0600);
	complains("on", 3, "the BMC of m1 says it switched the power on, but it is not on\n");
	put("hook", "[ $what != off ] || exit 0\n", 0600);
	put("192.0.2.1.on", "", 0600);
	complains("off", 3, "the BMC of m1 says it switched the power off, but it is not off\n");
	put("hook", "echo 'Chassis Power is unwell'; exit 0\n", 0600);
	complains("status", 3, "the BMC of m1 (192.0.2.1 port 623) says of its power: Chassis Power is unwell\n");
}

/* ---- installations that come to nothing */

Test(metal, an_installation_goes_from_off_to_its_disk)
{
	no_time_passes();
	put("192.0.2.1.on", "", 0600);
	put("hook", "[ $what != on ] || echo done >said\n", 0600);
	asked("install", "off\npxe\non\noff\ndisk\non\n");
}

Test(metal, a_machine_that_never_boots_is_said)
{
	no_time_passes();
	complains("install", 3,
	        "m1 did not boot from the network within 3 s: is its network card the one with its 'mac', on the provider's interface, and first to "
	        "boot?\n");
}

Test(metal, a_machine_that_dies_while_its_disk_is_written_is_said)
{
	no_time_passes();
	put("hook",
	        "[ $what != on ] || echo 'progress writing image 43 %' >said\n[ $what != status ] || ! grep -q 43 m1/progress || rm -f $host.on\n",
	        0600);
	complains("install", 3, "m1 went off after 'writing image 43 %'\n");
	expect_file("asked", "pxe\non\n");
}

Test(metal, a_machine_that_falls_silent_is_said)
{
	no_time_passes();
	put("hook", "[ $what != on ] || echo 'progress writing image 43 %' >said\n", 0600);
	complains("install", 3, "m1 says nothing for 120 s since 'writing image 43 %'\n");
}

Test(metal, what_the_machine_says_is_passed_on)
{
	no_time_passes();
	put("hook", "[ $what != on ] || echo 'never it has no disk' >said\n", 0600);
	complains("install", 4, "m1: it has no disk\n");
	put("hook", "[ $what != on ] || echo 'error cannot fetch the image' >said\n", 0600);
	complains("install", 3, "m1: cannot fetch the image\n");
}
