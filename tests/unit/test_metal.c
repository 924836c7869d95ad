/* What the metal provider's script asks a BMC for, of a program that stands where ipmitool would: the order of calls, not the protocol, which the
 * end-to-end tests have with real ones. */
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "providers/metal/metal.h"
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
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

/* It is switched on when the file "on" is there, and writes down what changes anything. */
static void make(void)
{
	cr_assert_not_null(mkdtemp(dir));
	put("bmc", "192.0.2.1\n623\nadmin\nm1\n", 0600);
	put("password", "secret\n", 0600);
	put("ipmitool",
	        "#!/bin/sh\n"
	        "cd \"$DIR\"\n"
	        "while [ \"$1\" != chassis ]; do shift; done\n"
	        "case $3 in\n"
	        "status) [ -e on ] && echo 'Chassis Power is on' || echo 'Chassis Power is off' ;;\n"
	        "on) echo on >>asked; touch on ;;\n"
	        "off) echo off >>asked; rm on ;;\n"
	        "*) echo \"unexpected $*\" >>asked ;;\n"
	        "esac\n",
	        0755);
}

static void drop(void)
{
	tree_remove(dir, NULL);
}

TestSuite(metal, .init = make, .fini = drop);

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
	_cleanup_buf_ struct buf complaint = {0};
	cr_expect_neq(ask("explode", &complaint), 0);
	cr_expect_str_eq(buf_str(&complaint), "unknown verb 'explode'\n");
}
