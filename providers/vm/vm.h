/* Inside of the provider vm: what its files share.
 *
 * Beside its record (providers/host/host.h) a node's directory holds
 *   disk.qcow2    its own layer over the image's disk; data1.qcow2 and so on are its further disks
 *   seed.img      who it is: a tar on a disk that the guest reads once, or the directory seed for cloud-init
 *   fresh         until it first runs: the snapshot to go on from
 *   qemu.pid      locked by qemu as long as it runs: whether it runs, and as which process, is a question to the kernel
 *   qmp           qemu's monitor; console.log what the guest says on its serial console
 * and the bridge a tap device, called after the node's ref. qemu is nobody's child: it outlives the daemon, and everything here can be asked again.
 *
 * An image is a directory CACHE/disks/NAME-KEY with disk.raw, kernel and initrd, or with disk.raw or disk.qcow2 alone if it came as a whole
 * disk; below it snapshots: machines of one shape that have booted and wait to be told who they are. */
#ifndef REBARFS_PROVIDERS_VM_H
#define REBARFS_PROVIDERS_VM_H

#include "providers/host/host.h"

#include <jansson.h>

#define QEMU "qemu-system-x86_64"

/* ---- qmp.c: qemu's machine protocol, one connection for one conversation; blocking, on a worker */

struct qmp {
	int fd;
	struct buf in;
	int64_t deadline_ms; /* monotonic */
};
/* Takes over a connected socket and goes through the greeting; all that follows must be done within timeout_ms. */
int qmp_begin(int fd, int64_t timeout_ms, struct qmp *ret, struct err **err);
int qmp_open(const char *path, int64_t timeout_ms, struct qmp *ret, struct err **err);
/* Takes arguments (NULL: none). fd goes with the command unless it is -1. *ret, unless ret is NULL, is the caller's. -EREMOTEIO: qemu said no. */
int qmp_command(struct qmp *q, const char *name, json_t *arguments, int fd, json_t **ret, struct err **err);
void qmp_close(struct qmp *q);

/* ---- qemu.c: command lines and processes */

struct qemu_machine {
	const char *name, *dir; /* what it keeps is in dir */
	const char *base;       /* the image's directory */
	const char *uuid;       /* 32 hex digits */
	int64_t memory_bytes;
	int cpus;
	bool kvm;
	bool kernel;        /* the image brings kernel and initrd; else it boots by itself and is told who it is by cloud-init */
	int data_disks;     /* data1.qcow2 and so on */
	const char *tap;    /* NULL: a network without anybody in it */
	const uint8_t *mac; /* 6 */
	const char *memory; /* a file that is its memory; NULL: memory of its own */
	bool share;         /* what it writes into its memory goes into that file */
	bool incoming;      /* it waits for a state to go on from */
	bool once;          /* it ends instead of rebooting, and its disk need not be safe */
};
void qemu_arguments(const struct qemu_machine *m, struct strlist *argv);
/* Runs a program to its end. Its stderr is the sentence if it fails. */
int qemu_run(const struct strlist *argv, int64_t timeout_ms, struct err **err);
/* The process that holds dir/qemu.pid, or 0. */
pid_t qemu_pid(const char *dir);
void qemu_signal(const char *dir, int sig);
/* Whole processors for a limit. */
int qemu_cpus(double cpus);
/* An overlay, or with backing NULL an empty disk. format is the backing's. */
int qemu_disk(const char *path, const char *backing, const char *format, int64_t bytes, struct err **err);
/* The image's own disk and its format; caller frees. */
char *qemu_base_disk(const char *base, const char **ret_format);
bool qemu_has_kernel(const char *base);

/* ---- disk.c: from a tree to a disk */

char *disk_base(const struct provider *p, const struct image *i);
bool disk_ready(const char *base);
bool disk_whole(const struct image *i); /* its source is a disk already */
void disk_command(const struct image *i, const char *base, const char *apt_config, struct strlist *argv, struct strlist *env);

/* ---- guest.c: what runs in a guest made of a tree */

/* For disk.c's script: the program that waits for the seed, and its units. */
extern const char guest_seed[], guest_network[], guest_seed_unit[], guest_network_unit[];
#define GUEST_WAITS "rebarfs: waiting to be told who this is"
#define SEED_BYTES (1 << 20)

/* ---- seed.c: who a node is, as its guest can read it */

int seed_write(struct node_job *j, struct err **err);

/* ---- node.c */

int node_disks(const struct node_job *j, struct err **err); /* over its snapshot, or else over its image */

int vm_write(struct node_job *j, struct err **err);
int vm_launch(const struct node_job *j, struct buf *complaint, struct err **err);
int vm_resume(const struct node_job *j, struct err **err); /* lets one that stands still go on */
bool vm_runs(const char *dir);
void vm_ask_off(const struct node_job *j);
void vm_kill(const struct node_job *j, bool force);
bool vm_gone(const struct node_job *j);
void vm_clean(const struct node_job *j);

/* ---- snapshot.c: booted images; blocking, on a worker */

/* What a snapshot can be gone on from with. */
struct shape {
	const char *base;
	int64_t memory_bytes, disk_bytes;
	int cpus;
	const char *disks;
	bool kvm;
	const char *qemu; /* its version */
};
char *snapshot_dir(const struct shape *s);
int snapshot_boot(const struct shape *s, const char *dir, struct err **err); /* begins to boot the image in dir */
/* 1: it waits to be told who it is; 0: not yet. */
int snapshot_waits(const char *dir, struct err **err);
int snapshot_save(const char *dir, const char *to, struct err **err);
void snapshot_drop(const char *dir);
/* Loads the snapshot into the machine in dir, which was started for that. It stands still then, as it did when it was saved. */
int snapshot_load(const char *dir, const char *snapshot, struct err **err);

/* ---- accel.c */

int qemu_version(char **ret, struct err **err);
/* Whether a guest of this image really boots under KVM; remembered in cache_dir until this host boots again. */
bool kvm_works(const char *cache_dir, const char *base, const char *version);

/* ---- vm.c and warm.c */

enum accel { ACCEL_AUTO, ACCEL_KVM, ACCEL_TCG };

struct vm_settings {
	enum accel accel;
	int64_t memory_bytes, disk_bytes;
	double cpus;
	char *disks;
	bool snapshot;
	bool known, kvm; /* accel is decided */
	char *version;
};
void vm_warm_up(struct op *op, void (*next)(struct op *op));
void vm_warm_up_end(struct op *op);
int vm_preflight(const struct preflight *f, struct err **err);

#endif
