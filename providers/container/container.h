/* Inside of the container provider: what its files share.
 *
 * A node is a directory STATE/nodes/ID with
 *   machine     the tag and all that is needed to start it again (JSON, written before anything else happens)
 *   pid         "BOOT-ID PID STARTTIME" of its first process on the host, written by the launcher before that process goes on
 *   upper work  its own layer over the image's tree; root is where both are joined, inside the node's mount namespace only
 *   console.log
 * and, in the kernel, a network namespace, a veth into the instance's bridge and control groups, all called after the node's ref.
 *
 * Threads: struct provider, struct node tables and operations belong to the loop's thread. What runs on a worker gets a struct node_job,
 * which is a copy. */
#ifndef REBARFS_PROVIDERS_CONTAINER_H
#define REBARFS_PROVIDERS_CONTAINER_H

#include "fs/base/buf.h"
#include "fs/base/err.h"
#include "fs/base/keys.h"
#include "fs/base/str.h"
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- subnet.c: pure arithmetic on IPv4 networks, in host byte order */

struct subnet {
	uint32_t base;
	int prefix; /* 0..32 */
};
struct subnets {
	struct subnet *items;
	size_t n, cap;
};
int subnet_parse(const char *text, struct subnet *ret, struct err **err); /* "10.1.2.0/24"; host bits must be zero */
void subnet_format(const struct subnet *s, char out[20]);
bool subnet_overlap(const struct subnet *a, const struct subnet *b);
/* Networks of the lines of `ip -4 -o route show table all`, without default routes and without those of device except. */
void subnets_from_routes(const char *text, const char *except, struct subnets *ret);
/* The first of taken that s overlaps, or NULL. */
const struct subnet *subnets_find(const struct subnets *taken, const struct subnet *s);
/* A private /22 that overlaps none of taken; where the search begins depends on seed, so that two instances rarely meet. -ENOSPC. */
int subnet_pick(const struct subnets *taken, uint64_t seed, struct subnet *ret, struct err **err);
/* How many nodes have room: all addresses but network, gateway (the first) and broadcast. */
uint32_t subnet_room(const struct subnet *s);
/* The n-th address for a node, n < subnet_room(); and the gateway's. */
uint32_t subnet_address(const struct subnet *s, uint32_t n);
uint32_t subnet_gateway(const struct subnet *s);
void address_format(uint32_t address, char out[16]);
int address_parse(const char *text, uint32_t *ret); /* -EINVAL */

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

/* ---- resolv.c */

/* A resolv.conf for nodes from the host's: nameservers that are not on loopback, and the search list. False if none is left. */
bool resolv_for_nodes(const char *text, struct buf *out);

/* ---- hostkey.c */

/* A fresh ed25519 pair: the private file in OpenSSH's format, and "ssh-ed25519 AAAA...". */
int hostkey_make(const char *comment, struct buf *private_file, struct buf *public_line, struct err **err);

/* ---- cgroup.c: control groups of a node, v1, hybrid or v2 */

struct cgroup_limits {
	double cpus;          /* 0: none */
	int64_t memory_bytes; /* 0: none */
};
/* Makes the groups called name. outer: cgroup.procs files for the node's first process to write "0" to. inner: where systemd-nspawn must go
 * then, because v2 forbids processes beside the groups that it makes; NULL on v1. complaint: what could not be limited and why, in one
 * sentence; empty if all is well. */
void cgroup_make(const char *name, const struct cgroup_limits *limits, bool nested, struct strlist *outer, char **inner, struct buf *complaint);
void cgroup_kill(const char *name);  /* SIGKILL to all in them */
bool cgroup_empty(const char *name); /* no process left */
void cgroup_remove(const char *name);

/* ---- node.c, nodeproc.c: one node's directory, its start and its end; blocking, on a worker */

enum boot { BOOT_SYSTEMD, BOOT_SSHD };

struct node_job {
	/* who */
	char *owner;
	uint64_t node_id;
	uint32_t incarnation;
	char *name, *ref, *dir;
	/* what */
	char *image, *tree;
	enum boot boot;
	bool privileged;
	struct cgroup_limits limits;
	/* where in the network */
	char *bridge, *address, *gateway;
	int prefix;
	int mtu; /* 0: the kernel's default */
	/* how to get in */
	char *access_key;
	char *apt_config; /* lines for apt.conf.d, or NULL */
	char *host_key;   /* made by node_write() */
};
void node_job_release(struct node_job *j);
void node_job_copy(struct node_job *to, const struct node_job *from);

/* Writes the node's directory anew and, last, its record. */
int node_write(struct node_job *j, struct err **err);
/* Reads a record back. -ENOENT: none. -EPERM: another owner's. */
int node_read(const char *dir, const char *owner, struct node_job *ret, struct err **err);
/* Starts it; it must not run. complaint as in cgroup_make(). */
int node_launch(const struct node_job *j, struct buf *complaint, struct err **err);
/* The first process's id if it still is that process, else 0. */
pid_t node_pid(const char *dir);
/* Asks the init of a systemd node to power off (sshd nodes: ends it). */
void node_ask_off(const struct node_job *j);
/* Ends it at once: without force its init only, so that all else follows tidily. */
void node_kill(const struct node_job *j, bool force);
bool node_gone(const struct node_job *j);                    /* no process left */
void node_clean_kernel(const struct node_job *j);            /* namespace, veth, groups: after node_gone() */
int node_remove(const struct node_job *j, struct err **err); /* its directory */

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

/* ---- link.c: netlink and ioctl, async-signal-safe: called between fork and exec too; each returns -errno */

int link_socket(void); /* a netlink socket, for the namespace it was made in */
/* A veth: host_end in the socket's namespace, up and in the bridge (its index); the other end is eth0 in the namespace of process peer. */
int link_veth(int nl, const char *host_end, uint32_t bridge, const uint8_t mac[6], int mtu, pid_t peer);
int link_delete(int nl, const char *name); /* 0 if there is none */
/* In the caller's namespace: up with this address, and a default route if gateway is not 0. prefix 0: only up. */
int link_configure(const char *name, uint32_t address, int prefix, uint32_t gateway);

/* ---- preflight.c */

struct preflight {
	const char *state_dir, *cache_dir;
	enum boot boot;
	bool build;      /* an image has to be built */
	int64_t nodes;   /* how many are to be */
	int64_t running; /* of these, already */
	uint32_t room;   /* addresses; 0: not known yet */
};
/* Blocking. Everything that is missing, each with its cure, in one sentence; -EAGAIN. */
int preflight(const struct preflight *f, struct err **err);
/* Pure: the sentence about inotify instances, or nothing. used: by everything that runs, nodes too. */
void preflight_inotify(int64_t max_instances, int64_t used, int64_t nodes, int64_t running, struct buf *out);

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
/* A line of the build's output as progress, or NULL if it says nothing to people. */
const char *image_progress(const char *line);

#endif
