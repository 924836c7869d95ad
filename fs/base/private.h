/* Where secrets may be while they are in hand: memory that is neither dumped nor swapped, files that lie on no disk. */
#ifndef REBARFS_BASE_PRIVATE_H
#define REBARFS_BASE_PRIVATE_H

#include "fs/base/buf.h"
#include "fs/base/err.h"

/* From now on this process leaves no core and its memory is not swapped. What could not be had stands in ret_why as a sentence, nothing if all was.
 */
void private_memory(struct buf *ret_why);
/* Jansson overwrites what it frees; texts that it gives out are freed with free() as before, or wipe_free(). */
void private_json(void);
/* A directory for one state directory's private files, in memory if there is such a file system: /run/rebarfs-OWNER. It may not exist yet. Caller
 * frees. */
char *private_dir(const char *owner, const char *state_dir);
/* Makes dir with mode 0700, or finds it made like that by us. */
int private_dir_make(const char *dir, struct err **err);

#endif
