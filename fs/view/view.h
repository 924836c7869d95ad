/* The tree as files: FUSE requests in, replies out. Knows the engine and its model; nobody but fs/main.c knows it. */
#ifndef REBARFS_VIEW_H
#define REBARFS_VIEW_H

#include "fs/base/err.h"
#include <stdbool.h>

struct engine;
struct fuse_args;
struct view;

struct view_options {
	struct engine *engine;  /* opened, not started: the view takes engine_on_change */
	const char *repo;       /* absolute, real path; shown as desired/ */
	const char *mountpoint; /* absolute, real path */
	const char *state_dir;  /* absolute: run logs, the access key */
	struct fuse_args *args; /* program's name and mount options; consumed */
};
/* Makes the session. Nothing is mounted yet, no thread runs. All strings must outlive the view. */
int view_open(const struct view_options *opt, struct view **ret, struct err **err);
int view_mount(struct view *v, struct err **err);
/* Serves until the mount goes away or SIGTERM, SIGINT or SIGHUP comes to the process: all threads must have them blocked. Readers that are blocked
 * then get an error before this returns. The engine must run. */
int view_run(struct view *v, struct err **err);
/* After engine_stop: replies that the engine still owed were sent by then. */
void view_unmount(struct view *v);
void view_free(struct view *v); /* takes NULL */

#endif
