/* Files: whole reads, atomic writes, directories. Every descriptor is close-on-exec. */
#ifndef REBARFS_BASE_IO_H
#define REBARFS_BASE_IO_H

#include "fs/base/buf.h"
#include "fs/base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Reads all of path (relative to dirfd, or AT_FDCWD) into out (appended). -EFBIG over max bytes; other errnos as read(2). */
int file_read(int dirfd, const char *path, size_t max, struct buf *out, struct err **err);
/* temp file beside it, write, fsync, rename, fsync of the directory. mode is used as is. -ENOSPC and so on leave the old file as it was. */
int file_write_atomic(int dirfd, const char *path, const void *data, size_t len, mode_t mode, struct err **err);
/* As file_write_atomic, keeping owner and mode of an existing file and writing through a symlink to its target. */
int file_replace(const char *path, const void *data, size_t len, struct err **err);
/* The same with a gate around the rename: enter may refuse (-errno; the old file stays), and keeps others out until leave. */
struct replace_gate {
	int (*enter)(void *arg, struct err **err);
	void (*leave)(void *arg);
	void *arg;
};
int file_replace_gated(const char *path, const void *data, size_t len, const struct replace_gate *gate, struct err **err);
int dir_make_all(const char *path, mode_t mode, struct err **err); /* mkdir -p */
/* Removes a tree; does not follow links nor cross into mounts. No error when it is not there. */
int tree_remove(const char *path, struct err **err);
/* Whether anybody has the regular file of fd, which is open for reading only, open for writing. false too where that cannot be known: somebody else's
 * file without root, a network file system. */
bool fd_has_writer(int fd);
int fd_write_all(int fd, const void *data, size_t len); /* -errno */
char *path_join(const char *a, const char *b);          /* caller frees; no doubled slash */

#endif
