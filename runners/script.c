/* The script runner: the role's executable 'apply' on the node, or 'check' for a dry run. */
#include "runners/script.h"
#include "fs/base/mem.h"
#include "runners/node.h"
#include "runners/onnode.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define DRIFTED 1 /* exit status of a 'check', as of diff(1) and grep(1): 0 as it should be, 1 not, more is trouble */

static const char *no_check(const struct run_item *item)
{
	_cleanup_free_ char *path = xasprintf("%s/check", item->content_dir);
	return access(path, X_OK) == 0 ? NULL : "has no executable 'check'";
}

static void supervisor(struct buf *out, const struct run_item *item)
{
	script_supervisor(out, item, script_is_bash(item->content_dir, script_program(item)));
}

/* A script is one resource: what it does inside is its own affair. */
static void judge(const struct onnode_end *end, struct onnode_verdict *v)
{
	const struct run_item *item = end->item;
	if (item->check && end->exit_status == DRIFTED) {
		v->result = RUN_OK;
		v->drifted = true;
	} else if (end->exit_status != 0) {
		buf_addf(&v->why, "exit %d", end->exit_status);
		if (*end->failed && !item->hide) {
			_cleanup_buf_ struct buf command = {0};
			last_line(end->failed, strlen(end->failed), &command);
			buf_addf(&v->why, " at '%s'", buf_str(&command));
		}
		if (*end->tail)
			buf_addf(&v->why, ": %s", end->tail);
	}
	const char *status = v->result != RUN_OK ? "failed" : item->check && !v->drifted ? "unchanged" : "changed";
	report_add(v->resources, item->role, status, script_program(item), 0, v->result == RUN_OK ? "" : buf_str(&v->why));
}

static const struct onnode_tool tool = {.name = "script", .no_check = no_check, .supervisor = supervisor, .private = script_env, .judge = judge};

static int script_check(const char *content_dir, const struct settings *settings, struct err **err)
{
	_cleanup_free_ char *path = xasprintf("%s/apply", content_dir);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return err_set(err, ENOENT, "'apply' is missing: a script role needs an executable of that name");
	if (fd < 0)
		return err_errno(err, errno, "cannot read 'apply'");
	struct stat st;
	if (settings_get(settings, "role", "check-every")) {
		_cleanup_free_ char *check = xasprintf("%s/check", content_dir);
		if (access(check, X_OK) < 0)
			return err_errno(err, errno, "'check-every' needs an executable 'check' beside 'apply', and it cannot be run");
	}
	if (fstat(fd, &st) < 0)
		return err_errno(err, errno, "cannot read 'apply'");
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "'apply' is not a file");
	if (!(st.st_mode & 0111))
		return err_set(err, EACCES, "'apply' is not executable: chmod +x it");
	char start[4];
	ssize_t n = read(fd, start, sizeof start);
	if (n >= 2 && !memcmp(start, "#!", 2))
		return 0;
	if (n == 4 && !memcmp(start, "\177ELF", 4))
		return 0;
	return err_set(err, ENOEXEC, "'apply' is neither a script nor a program: its first line must name an interpreter (#!/bin/sh)");
}

static int script_open(const struct runner_host *host, struct runner **ret, struct err **err)
{
	return onnode_open(host, &tool, ret, err);
}

const struct runner_ops script_runner = {
        .api = RUNNER_API,
        .name = "script",
        .help = "runs the role's executable 'apply' on the node",
        .keeps_secrets = true,
        .batch_max = 1,
        .check = script_check,
        .open = script_open,
        .close = onnode_close,
        .run = onnode_run,
        .cancel = onnode_cancel,
};
