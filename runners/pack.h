/* Contents as archives, made once for all nodes they are shipped to. One packer a runner: its directory is STATE/ship/NAME. */
#ifndef REBARFS_RUNNERS_PACK_H
#define REBARFS_RUNNERS_PACK_H

#include "runners/runner.h"

struct packer;
struct packer *packer_open(const struct runner_host *host, const char *name, struct err **err);
void packer_close(struct packer *p);
/* content: a directory, a file, or "": an archive of nothing. done: path of the tar.gz, or NULL and the sentence. From the loop; may come at once,
 * never from inside the call. */
struct pack_wait;
struct pack_wait *packer_want(
        struct packer *p, const char *hash, const char *content, void (*done)(void *arg, const char *path, const struct err *err), void *arg);
void packer_cancel(struct pack_wait *w);

#endif
