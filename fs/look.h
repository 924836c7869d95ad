/* What can be asked of a tree without a mount: its mistakes, and what it would change. Both print to standard output, say on standard error why they
 * cannot look, and return the exit status: as with diff(1), 0: nothing, 1: something, 2: could not look. */
#ifndef REBARFS_LOOK_H
#define REBARFS_LOOK_H

#include <stdbool.h>

int look_check(const char *repo, bool json);
/* Of every deployment, the plan that the mount would show. A deployment whose mistakes keep it from coming into force counts as not looked at. */
int look_plan(const char *repo, const char *state_dir, bool json);

#endif
