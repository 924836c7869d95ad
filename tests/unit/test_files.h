/* A directory of its own for each test of files, and what is in it. */
#ifndef REBARFS_TEST_FILES_H
#define REBARFS_TEST_FILES_H

#include "fs/base/err.h"
#include "fs/base/io.h"
#include "fs/base/str.h"
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define eq_str(a, b) cr_assert_str_eq(a, b, "'%s' is not '%s'", a, b)

static char dir[64];

static inline void make_dir(void)
{
	strcpy(dir, "/tmp/rebarfs-base.XXXXXX");
	cr_assert(mkdtemp(dir));
}

static inline void remove_dir(void)
{
	_cleanup_err_ struct err *err = NULL;
	cr_assert_eq(tree_remove(dir, &err), 0, "%s", err_msg(err));
	cr_assert_eq(access(dir, F_OK), -1);
}

static inline const char *at(const char *name)
{
	static char path[4][400];
	static int i;
	i = (i + 1) % 4;
	snprintf(path[i], sizeof path[i], "%s/%s", dir, name);
	return path[i];
}

static inline void put(const char *name, const char *text, mode_t mode)
{
	_cleanup_err_ struct err *err = NULL;
	cr_assert_eq(file_write_atomic(AT_FDCWD, at(name), text, strlen(text), mode, &err), 0, "%s", err_msg(err));
}

static inline void holds(const char *name, const char *want)
{
	_cleanup_err_ struct err *err = NULL;
	_cleanup_buf_ struct buf b = {0};
	cr_assert_eq(file_read(AT_FDCWD, at(name), 1 << 20, &b, &err), 0, "%s", err_msg(err));
	eq_str(buf_str(&b), want);
}

#endif
