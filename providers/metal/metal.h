/* Inside of the provider metal: what its files share.
 *
 * A node is a directory STATE/nodes/ID with
 *   machine     the tag and what is known of it (JSON); while "installed" is false its creation is not done
 *   bmc         where its BMC is, as whom to speak to it and how, a line each; password, mode 0600, beside it
 *   root/       its identity while it is installed: names, keys, network
 * STATE/http is what machines may fetch while they boot: the images, and below a name that nobody can guess, told only to the network card of the
 * node, what is one node's own. STATE/said/TOKEN is what the machine said last. */
#ifndef REBARFS_PROVIDERS_METAL_H
#define REBARFS_PROVIDERS_METAL_H

#include "fs/base/buf.h"
#include "fs/base/child.h"
#include "fs/base/str.h"
#include "providers/image/image.h"
#include "providers/provider.h"

#include <uthash.h>

/* ---- record.c: nodes and their directories */

struct metal_node {
	uint64_t node_id; /* key */
	uint32_t incarnation;
	char *name, *dir, *mac, *address, *host, *port, *user, *disk, *image, *host_key;
	char *scheme, *path, *fingerprint; /* of its BMC: NULL: ipmi; "", or its system and certificate, where that is said */
	char token[33];                    /* "" unless it is being installed */
	bool installed, running;
	struct metal_op *op; /* what is under way on it */
	UT_hash_handle hh;
};
struct metal_node *record_new(struct provider *p, uint64_t node_id);
/* From a declaration; the password goes to its file. */
int record_declare(struct provider *p, const struct machine_spec *spec, struct metal_node *n, struct err **err);
int record_write(const struct provider *p, const struct metal_node *n, struct err **err);
int record_remove(struct provider *p, struct metal_node *n, struct err **err); /* frees it */
void records_read(struct provider *p);
void record_free(struct provider *p, struct metal_node *n);
void record_machine(const struct metal_node *n, struct machine *ret);

/* ---- boot.c: what machines boot from: DHCP and HTTP on the provider's interface */

struct server {
	struct provider *p; /* NULL: closed */
	struct child *child;
	const char *name;
	bool again; /* it is being ended, to be started with what is written now */
};
struct netboot {
	struct server *dhcp, *http;              /* NULL: it does not run */
	char address[16], netmask[16], base[16]; /* the interface's */
	int prefix, port;
	struct err *failed; /* why the one or the other ended */
};
/* Starts the servers if they do not run. */
int boot_up(struct provider *p, struct err **err);
/* Has the nodes that are being installed be answered, and nobody else; without any the servers end. */
int boot_serve(struct provider *p, struct err **err);
void boot_close(struct provider *p);
/* A node's files: its identity, and what its network card is to load. */
int boot_prepare(struct provider *p, struct metal_node *n, const char *disk_dir, struct err **err);

/* ---- image.c */

char *metal_disk(const struct provider *p, const struct image *i); /* the directory of what is sent */
bool metal_disk_ready(const char *disk);
void metal_disk_command(const struct provider *p, const struct image *i, const char *disk, struct strlist *argv, struct strlist *env);

/* ---- scripts.c */

extern const char metal_build[], metal_install[], metal_control[], metal_say[];

/* ---- metal.c */

struct metal_op {
	struct provider *p;
	struct provider_call *call; /* NULL: nobody waits for it */
	struct metal_node *node;
	struct child *child;
	void (*ended)(struct metal_op *op); /* after its child, or in the next turn */
	enum { METAL_PREPARE, METAL_CREATE, METAL_DESTROY, METAL_POWER, METAL_LIST } kind;
	struct image image;
	char *disk;
	int built;
	bool waits, cancelled, power_on, known;
	int rc;
	struct err *err;
	struct buf last;
	uv_timer_t soon;
	struct metal_op *prev, *next;
};
struct provider {
	const struct provider_host *host;
	struct settings settings;
	char *base_dir; /* of relative paths in its documents */
	struct metal_node *nodes;
	struct metal_op *ops;
	struct netboot boot;
};
extern const struct key_row metal_keys[], metal_node_keys[];
const char *metal_get(const struct provider *p, const char *key);

#endif
