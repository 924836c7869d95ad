/* Images: what machines are made from, built once for all daemons of this machine; and what goes into each machine made from one. */
#ifndef REBARFS_PROVIDERS_IMAGE_H
#define REBARFS_PROVIDERS_IMAGE_H

#include "fs/base/buf.h"
#include "fs/base/err.h"
#include "fs/base/keys.h"
#include "fs/base/str.h"

#include <stdbool.h>

/* ---- apt.c: the host's own package sources and proxies */

/* Adds the entries of a sources file (deb822: true for *.sources) that a suite's tree can use, as one-line entries, to verbatim; entries of
 * the host's own suite (codename) re-written for suite go to rewritten. Only entries with the component main: the rest are third parties. */
void apt_sources_parse(const char *text, bool deb822, const char *suite, const char *codename, struct strlist *verbatim, struct strlist *rewritten);
/* All sources of this host for suite, a line each; empty if it has none. */
void apt_sources_host(const char *suite, struct buf *out);
/* Paths of the keyrings named by [signed-by=...] in lines. */
void apt_keyrings(const char *lines, struct strlist *ret);
/* The lines of `apt-config dump` that tell how to reach a mirror: proxies, and whether old snapshots are accepted. A proxy on the host's
 * loopback is written with the address gateway instead, unless gateway is NULL. */
void apt_config_lines(const char *dump, const char *gateway, struct buf *out);

/* ---- hostkey.c */

/* A fresh ed25519 pair: the private file in OpenSSH's format, and "ssh-ed25519 AAAA...". */
int hostkey_make(const char *comment, struct buf *private_file, struct buf *public_line, struct err **err);

/* ---- image.c */

struct image {
	char *name, *suite, *source, *script; /* paths absolute */
	struct strlist packages;
	char key[17];
	char *tree;    /* where it is or will be */
	bool borrowed; /* source is a directory, used where it lies */
};
void image_release(struct image *i);
/* From the settings; reads the script. -EINVAL: no such image, -ENOENT: no such file. */
int image_resolve(
        const struct settings *settings, const char *name, const char *cache_dir, const char *base_dir, struct image *ret, struct err **err);
bool image_ready(const struct image *i); /* it is there */
/* What to run to build it: a command, additions to its environment and its input. apt_config: lines for apt's configuration, or NULL. The
 * command holds a lock: a second one waits and then finds the tree there. Its stdout is progress and, last, what failed. */
void image_command(const struct image *i, const char *apt_config, struct strlist *argv, struct strlist *env, struct buf *input);
/* ---- disk.c */

struct image_variable {
	const char *name, *value; /* NULL: empty */
};
/* What to run to make from an image's tree the directory disk, for machines: a command and additions to its environment. script (sh) goes on in an
 * empty $DISK.new, may use join_tree (mounts the tree as $r), install_kernel PACKAGE... ($r/etc/initramfs-tools/hooks/rebarfs must be there), in_tree
 * COMMAND..., leave_tree, and ends by renaming. Locks and output are as of image_command. */
void image_disk_command(const struct image *i, const char *disk, const char *script, const struct image_variable *variables, size_t n,
        struct strlist *argv, struct strlist *env);
/* A line of the build's output as progress, or NULL if it says nothing to people. */
const char *image_progress(const char *line);

#endif
