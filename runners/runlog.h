/* The log of a run on the control host: RUN_DIR/log, only ever appended to, and cut where it is too long: what prints for ever must not fill the
 * disk. */
#ifndef REBARFS_RUNNERS_RUNLOG_H
#define REBARFS_RUNNERS_RUNLOG_H

#include "fs/base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RUN_LOG_MAX (64 << 20) /* bytes; then follows one line that says so */

struct run_log {
	int fd;      /* -1: none is kept */
	bool is_cut; /* nothing more is taken */
	int64_t size;
};
/* -errno: none is kept. */
int run_log_open(struct run_log *l, const char *run_dir);
int run_log_add(struct run_log *l, const char *data, size_t len); /* 0, or -errno: then size tells how much of it is there */
void run_log_close(struct run_log *l);

#endif
