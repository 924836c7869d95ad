/* Inside of the container provider: what its files share.
 *
 * Beside its record (providers/host/host.h) a node's directory holds
 *   pid         "BOOT-ID PID STARTTIME" of its first process on the host, written by the launcher before that process goes on
 *   upper work  its own layer over the image's tree; root is where both are joined, inside the node's mount namespace only
 *   console.log
 * and, in the kernel, a network namespace, a veth into the instance's bridge and control groups, all called after the node's ref. */
#ifndef REBARFS_PROVIDERS_CONTAINER_H
#define REBARFS_PROVIDERS_CONTAINER_H

#include "fs/base/buf.h"
#include "fs/base/err.h"
#include "fs/base/keys.h"
#include "fs/base/str.h"
#include "providers/host/host.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- cgroup.c: control groups of a node, v1, hybrid or v2 */

/* Makes the groups called name. outer: cgroup.procs files for the node's first process to write "0" to. inner: where systemd-nspawn must go
 * then, because v2 forbids processes beside the groups that it makes; NULL on v1. complaint: what could not be limited and why, in one
 * sentence; empty if all is well. */
void cgroup_make(const char *name, const struct limits *limits, bool nested, struct strlist *outer, char **inner, struct buf *complaint);
void cgroup_kill(const char *name);  /* SIGKILL to all in them */
bool cgroup_empty(const char *name); /* no process left */
void cgroup_remove(const char *name);

/* ---- layer.c: a node's own layer over the image's tree */

int container_write(struct node_job *j, struct err **err);

/* ---- nodeproc.c: its start and its end; blocking, on a worker */

/* Starts it; it must not run. complaint as in cgroup_make(). */
int node_launch(const struct node_job *j, struct buf *complaint, struct err **err);
/* The first process's id if it still is that process, else 0. */
pid_t node_pid(const char *dir);
/* Asks the init of a systemd node to power off (sshd nodes: ends it). */
void node_ask_off(const struct node_job *j);
/* Ends it at once: without force its init only, so that all else follows tidily. */
void node_kill(const struct node_job *j, bool force);
bool node_gone(const struct node_job *j);         /* no process left */
void node_clean_kernel(const struct node_job *j); /* namespace, veth, groups: after node_gone() */

/* ---- launch.c: from this process to a node's first process */

struct launch {
	const char *dir;  /* the node's directory */
	const char *tree; /* image */
	const char *ref;  /* names the network namespace */
	const char *host_name;
	const char *bridge; /* the veth's host end is called as the ref */
	uint8_t mac[6];
	uint32_t address, gateway;
	int prefix, mtu;
	bool own_pid1; /* argv is process 1 of new namespaces, inside the tree; else it runs on the host's tree in a mount namespace */
	bool privileged;
	const char *const *cgroups; /* cgroup.procs files, NULL-terminated */
	const char *const *detach;  /* mounts that its mount namespace must not keep alive, NULL-terminated */
	const char *boot_id;
	const char *const *argv, *const *env;
};
int launch(const struct launch *l, struct err **err);

/* ---- preflight.c */

int container_preflight(const struct preflight *f, struct err **err);
/* Pure: the sentence about inotify instances, or nothing. used: by everything that runs, nodes too. */
void preflight_inotify(int64_t max_instances, int64_t used, int64_t nodes, int64_t running, struct buf *out);

#endif
