/* A node's processes: how it starts, whether it runs, how it ends. Blocking, but only for milliseconds; runs on a worker. */
#include "providers/container/container.h"

#include "fs/base/io.h"
#include "fs/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define PROC_MAX 4096
#define MOUNTINFO_MAX (16 << 20)

/* systemd-nspawn with --keep-unit does not restart a container that reboots itself but says so by this status. */
#define REBOOT "133"

/* $1: cgroup.procs of the node's inner control group on v2, or nothing; the rest: systemd-nspawn. What a first run left in the group would
 * keep a second one out of it: v2 allows no process beside groups that have controllers. */
static const char nspawn_loop[] = "inner=$1; shift\n"
                                  "while :; do\n"
                                  "	(\n"
                                  "		if [ -n \"$inner\" ]; then\n"
                                  "			find \"${inner%/*}\" -depth -type d -exec rmdir {} + 2>/dev/null\n"
                                  "			mkdir -p \"${inner%/*}\"\n"
                                  "			echo 0 >\"$inner\"\n"
                                  "		fi\n"
                                  "		exec \"$@\"\n"
                                  "	)\n"
                                  "	[ $? = " REBOOT " ] || exit\n"
                                  "done\n";

/* ---- start */

static int boot_id(char out[64], struct err **err)
{
	_cleanup_buf_ struct buf b = {0};
	int rc = file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &b, err);

	snprintf(out, 64, "%.*s", (int)strcspn(buf_str(&b), "\n"), buf_str(&b));
	return rc;
}

/* "\040" and so on, as mountinfo writes blanks. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; to++)
		if (s[0] == '\\' && strspn(s + 1, "01234567") >= 3) {
			*to = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*to = *s++;
		}
	*to = '\0';
}

/* What must not be kept alive by the mount namespace of a node's supervisor: other nodes' network namespaces, FUSE (the file system of the
 * very daemon, which could not be unmounted any more), remote file systems, other people's containers. Deepest first. */
static void find_detached(const char *dir, struct strlist *ret)
{
	static const char *const types[] = {"fuse", "fuse.", "nsfs", "nfs", "nfs4", "cifs", "overlay"};
	_cleanup_buf_ struct buf text = {0};
	_cleanup_strlist_ struct strlist found = {0};
	char *save = NULL;

	if (file_read(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &text, NULL) < 0)
		return;
	for (char *line = strtok_r(text.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *point, *type = strstr(line, " - ");
		for (int field = 0; field < 4 && line; field++)
			line = strchr(line + 1, ' ');
		if (!line || !type)
			continue;
		point = line + 1;
		point[strcspn(point, " ")] = '\0';
		unescape(point);
		type += 3;
		type[strcspn(type, " ")] = '\0';
		/* never what the node itself stands on */
		if (!strncmp(dir, point, strlen(point)))
			continue;
		for (size_t i = 0; i < sizeof types / sizeof *types; i++)
			if (!strcmp(type, types[i]) || (!strcmp(types[i], "fuse.") && !strncmp(type, "fuse.", 5))) {
				strlist_add(&found, point);
				break;
			}
	}
	for (size_t i = found.n; i > 0; i--)
		strlist_add(ret, found.items[i - 1]);
}

static void nspawn_arguments(const struct node_job *j, const char *inner, struct strlist *argv)
{
	const char *const fixed[] = {"/bin/sh", "-c", nspawn_loop, j->ref, inner ? inner : "", "systemd-nspawn", "--quiet", "--register=no",
	        "--keep-unit", "--boot", "--console=passive", "--resolv-conf=off", "--timezone=off", "--link-journal=no"};

	for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
		strlist_add(argv, fixed[i]);
	strlist_add_take(argv, xasprintf("--directory=%s/root", j->dir));
	strlist_add_take(argv, xasprintf("--machine=%s", j->ref));
	strlist_add_take(argv, xasprintf("--hostname=%s", j->name));
	strlist_add_take(argv, xasprintf("--network-namespace-path=/run/netns/%s", j->ref));
	if (j->privileged) {
		/* container engines keep their layers off an overlay, on which no other overlay can stand */
		strlist_add(argv, "--capability=all");
		strlist_add_take(argv, xasprintf("--bind=%s/docker:/var/lib/docker", j->dir));
		strlist_add_take(argv, xasprintf("--bind=%s/containerd:/var/lib/containerd", j->dir));
		if (access("/dev/kmsg", F_OK) == 0)
			strlist_add(argv, "--bind=/dev/kmsg");
		if (access("/dev/fuse", F_OK) == 0)
			strlist_add(argv, "--bind=/dev/fuse");
	}
}

static void environment(const struct node_job *j, struct strlist *env)
{
	strlist_add(env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	if (j->boot == BOOT_SSHD) {
		strlist_add(env, "HOME=/root");
		strlist_add(env, "container=rebarfs");
		return;
	}
	strlist_add(env, "LC_ALL=C.UTF-8");
	if (j->privileged) {
		strlist_add(env, "SYSTEMD_SECCOMP=0");
		strlist_add(env, "SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes");
	}
}

static int make_volumes(const struct node_job *j, struct err **err)
{
	static const char *const names[] = {"docker", "containerd"};

	for (size_t i = 0; j->privileged && i < sizeof names / sizeof *names; i++) {
		_cleanup_free_ char *path = path_join(j->dir, names[i]);
		if (mkdir(path, 0711) < 0 && errno != EEXIST)
			return err_errno(err, errno, "cannot make '%s'", path);
	}
	return 0;
}

int node_launch(const struct node_job *j, struct buf *complaint, struct err **err)
{
	_cleanup_strlist_ struct strlist cgroups = {0}, detach = {0}, argv = {0}, env = {0};
	_cleanup_free_ char *inner = NULL;
	static const char *const none[] = {NULL};
	char id[64];
	int rc = boot_id(id, err);
	struct launch l = {.dir = j->dir,
	        .tree = j->base,
	        .ref = j->ref,
	        .host_name = j->name,
	        .bridge = j->bridge,
	        .prefix = j->prefix,
	        .mtu = j->mtu,
	        .own_pid1 = j->boot == BOOT_SSHD,
	        .privileged = j->privileged,
	        .boot_id = id};

	if (rc == 0)
		rc = make_volumes(j, err);
	if (rc < 0)
		return rc;
	if (address_parse(j->address, &l.address) < 0 || address_parse(j->gateway, &l.gateway) < 0)
		return err_set(err, EINVAL, "'%s' is not an address", j->address);
	node_clean_kernel(j);
	cgroup_make(j->ref, &j->limits, j->boot == BOOT_SYSTEMD, &cgroups, &inner, complaint);
	if (j->boot == BOOT_SYSTEMD) {
		find_detached(j->dir, &detach);
		nspawn_arguments(j, inner, &argv);
	} else {
		const char *const sshd[] = {"/usr/sbin/sshd", "-D", "-e"};
		for (size_t i = 0; i < sizeof sshd / sizeof *sshd; i++)
			strlist_add(&argv, sshd[i]);
	}
	environment(j, &env);
	node_mac(j, l.mac);
	l.cgroups = cgroups.n ? (const char *const *)cgroups.items : none;
	l.detach = detach.n ? (const char *const *)detach.items : none;
	l.argv = (const char *const *)argv.items;
	l.env = (const char *const *)env.items;
	rc = launch(&l, err);
	if (rc < 0) {
		err_wrap(err, "cannot start '%s'", j->name);
		node_clean_kernel(j);
	}
	return rc;
}

/* ---- is it there */

/* Whether pid is alive, and since when. A zombie is not. */
static bool proc_start(pid_t pid, unsigned long long *ret)
{
	char path[40];
	_cleanup_buf_ struct buf b = {0};
	const char *at;
	char state;

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	if (file_read(AT_FDCWD, path, PROC_MAX, &b, NULL) < 0)
		return false;
	at = strrchr(buf_str(&b), ')');
	/* fields 3 and 22 */
	return at && sscanf(at + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &state, ret) == 2 &&
	       state != 'Z' && state != 'X';
}

pid_t node_pid(const char *dir)
{
	_cleanup_free_ char *path = path_join(dir, "pid");
	_cleanup_buf_ struct buf b = {0};
	unsigned long long start = 0, now = 0;
	char id[64], current[64];
	int pid = 0;

	if (file_read(AT_FDCWD, path, PROC_MAX, &b, NULL) < 0 || sscanf(buf_str(&b), "%63s %d %llu", id, &pid, &start) != 3)
		return 0;
	/* ids and start times begin again at each boot */
	if (boot_id(current, NULL) < 0 || strcmp(id, current) || !proc_start(pid, &now) || now != start)
		return 0;
	return (pid_t)pid;
}

bool node_gone(const struct node_job *j)
{
	return node_pid(j->dir) == 0 && cgroup_empty(j->ref);
}

/* ---- the end */

/* The only child of pid, or 0. */
static pid_t child_of(pid_t pid)
{
	char path[64];
	_cleanup_buf_ struct buf b = {0};
	int child = 0;

	snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
	if (file_read(AT_FDCWD, path, PROC_MAX, &b, NULL) < 0 || sscanf(buf_str(&b), "%d", &child) != 1)
		return 0;
	return (pid_t)child;
}

/* The node's process 1: first itself, or the grandchild of the waiting shell. */
static pid_t init_of(const struct node_job *j)
{
	pid_t pid = node_pid(j->dir);

	if (pid && j->boot == BOOT_SYSTEMD) {
		pid = child_of(pid);
		pid = pid ? child_of(pid) : 0;
	}
	return pid;
}

void node_ask_off(const struct node_job *j)
{
	pid_t init = init_of(j);

	if (init)
		kill(init, j->boot == BOOT_SYSTEMD ? SIGRTMIN + 4 : SIGKILL); /* systemd(1): RTMIN+4 is poweroff */
}

void node_kill(const struct node_job *j, bool force)
{
	pid_t first = node_pid(j->dir), init = init_of(j);

	/* systemd-nspawn survives its container's init just long enough to clean up behind itself */
	if (force && first)
		kill(first, SIGKILL);
	if (init)
		kill(init, SIGKILL);
	if (force || (!init && !first))
		cgroup_kill(j->ref);
}

void node_clean_kernel(const struct node_job *j)
{
	_cleanup_free_ char *netns = xasprintf("/run/netns/%s", j->ref);
	_cleanup_free_ char *propagate = xasprintf("/run/systemd/nspawn/propagate/%s", j->ref);
	_cleanup_free_ char *export = xasprintf("/run/systemd/nspawn/unix-export/%s", j->ref);
	int nl = link_socket();

	while (umount2(netns, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		;
	unlink(netns);
	if (nl >= 0) {
		link_delete(nl, j->ref);
		close(nl);
	}
	cgroup_remove(j->ref);
	/* systemd-nspawn's own, if it was killed */
	rmdir(propagate);
	umount2(export, MNT_DETACH | UMOUNT_NOFOLLOW);
	rmdir(export);
}
