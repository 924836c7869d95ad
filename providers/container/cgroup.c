/* Control groups of a node: limits, and a handle on all of its processes. They stand at the root of each hierarchy, outside of the daemon's
 * own unit, so that stopping that unit leaves nodes alone.
 *
 * v1 and hybrid: /sys/fs/cgroup/{systemd,unified,cpu,memory}/NAME.
 * v2: /sys/fs/cgroup/NAME with the limits, below it node/ (and outer/ for the process that waits for systemd-nspawn). systemd, when it is
 * process 1, disables at the root what none of its units needs; it cannot while a group below has passed the controllers on, as ours has. */
#include "providers/container/container.h"

#include "fs/base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define ROOT "/sys/fs/cgroup"
#define PERIOD_US 100000

static bool is_type(const char *path, long type)
{
	struct statfs s;

	return statfs(path, &s) == 0 && (long)s.f_type == type;
}

static bool is_v2(void)
{
	return is_type(ROOT, CGROUP2_SUPER_MAGIC);
}

/* The hierarchies that nodes have groups in; on v1 the one best at telling who is there comes first. */
static void hierarchies(struct strlist *ret)
{
	static const char *const names[] = {"systemd", "unified", "cpu", "memory"};

	if (is_v2()) {
		strlist_add(ret, ROOT);
		return;
	}
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		_cleanup_free_ char *path = xasprintf(ROOT "/%s", names[i]);
		if (is_type(path, CGROUP_SUPER_MAGIC) || is_type(path, CGROUP2_SUPER_MAGIC))
			strlist_add(ret, path);
	}
}

static int put(const char *dir, const char *file, const char *text)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", dir, file);
	int fd = open(path, O_WRONLY | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

static void complain(struct buf *complaint, const char *what, int rc)
{
	buf_addf(complaint, "%s%s is not enforced: the host's control groups do not allow it (%s)", complaint->len ? "; " : "", what, strerror(-rc));
}

static void limit_cpus(const char *dir, bool v2, double cpus, struct buf *complaint)
{
	long quota = (long)(cpus * PERIOD_US);
	_cleanup_free_ char *text = v2 ? xasprintf("%ld %d", quota, PERIOD_US) : xasprintf("%ld", quota);
	int rc = put(dir, v2 ? "cpu.max" : "cpu.cfs_quota_us", text);

	if (rc < 0) {
		_cleanup_free_ char *what = xasprintf("cpus = %g", cpus);
		complain(complaint, what, rc);
	}
}

static void limit_memory(const char *dir, bool v2, int64_t bytes, struct buf *complaint)
{
	_cleanup_free_ char *text = xasprintf("%lld", (long long)bytes);
	int rc = put(dir, v2 ? "memory.max" : "memory.limit_in_bytes", text);

	if (rc < 0) {
		_cleanup_buf_ struct buf what = {0};
		buf_adds(&what, "memory = ");
		format_size(&what, bytes);
		complain(complaint, buf_str(&what), rc);
	}
}

static char *make(const char *parent, const char *name)
{
	char *dir = xasprintf("%s/%s", parent, name);

	if (mkdir(dir, 0755) < 0 && errno != EEXIST) {
		free(dir);
		return NULL;
	}
	return dir;
}

static void make_v2(const char *name, const struct limits *limits, bool nested, struct strlist *outer, char **inner, struct buf *complaint)
{
	static const char *const controllers[] = {"+cpu", "+memory", "+pids"};
	_cleanup_free_ char *dir = NULL, *node = NULL, *wait = NULL;

	for (size_t i = 0; i < sizeof controllers / sizeof *controllers; i++)
		put(ROOT, "cgroup.subtree_control", controllers[i]);
	dir = make(ROOT, name);
	if (!dir) {
		if (limits->cpus > 0 || limits->memory_bytes > 0)
			complain(complaint, "a limit of cpus or memory", -errno);
		return;
	}
	for (size_t i = 0; i < sizeof controllers / sizeof *controllers; i++)
		put(dir, "cgroup.subtree_control", controllers[i]);
	if (limits->cpus > 0)
		limit_cpus(dir, true, limits->cpus, complaint);
	if (limits->memory_bytes > 0)
		limit_memory(dir, true, limits->memory_bytes, complaint);
	node = make(dir, "node");
	wait = nested ? make(dir, "outer") : NULL;
	if (node && wait)
		*inner = xasprintf("%s/cgroup.procs", node);
	if (wait || node)
		strlist_add_take(outer, xasprintf("%s/cgroup.procs", wait ? wait : node));
}

void cgroup_make(const char *name, const struct limits *limits, bool nested, struct strlist *outer, char **inner, struct buf *complaint)
{
	_cleanup_strlist_ struct strlist roots = {0};
	bool cpu = false, memory = false;

	*inner = NULL;
	if (is_v2()) {
		make_v2(name, limits, nested, outer, inner, complaint);
		return;
	}
	hierarchies(&roots);
	for (size_t i = 0; i < roots.n; i++) {
		_cleanup_free_ char *dir = make(roots.items[i], name);
		if (!dir)
			continue;
		if (!strcmp(roots.items[i], ROOT "/cpu") && (cpu = true) && limits->cpus > 0)
			limit_cpus(dir, false, limits->cpus, complaint);
		if (!strcmp(roots.items[i], ROOT "/memory") && (memory = true) && limits->memory_bytes > 0)
			limit_memory(dir, false, limits->memory_bytes, complaint);
		strlist_add_take(outer, xasprintf("%s/cgroup.procs", dir));
	}
	if (!cpu && limits->cpus > 0)
		complain(complaint, "a limit of cpus", -ENODEV);
	if (!memory && limits->memory_bytes > 0)
		complain(complaint, "a limit of memory", -ENODEV);
}

/* Calls visit for each process in dir and below it; stops when it says so. */
static bool walk(const char *dir, bool (*visit)(pid_t pid))
{
	_cleanup_free_ char *path = xasprintf("%s/cgroup.procs", dir);
	FILE *f = fopen(path, "re");
	bool stopped = false;
	int pid;

	while (f && !stopped && fscanf(f, "%d", &pid) == 1)
		stopped = pid > 0 && visit((pid_t)pid);
	if (f)
		fclose(f);
	DIR *d = stopped ? NULL : opendir(dir);
	for (struct dirent *e; d && !stopped && (e = readdir(d));) {
		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		_cleanup_free_ char *sub = xasprintf("%s/%s", dir, e->d_name);
		stopped = walk(sub, visit);
	}
	if (d)
		closedir(d);
	return stopped;
}

static bool kill_one(pid_t pid)
{
	kill(pid, SIGKILL);
	return false;
}

static bool found_one(pid_t pid)
{
	return true;
}

static bool walk_all(const char *name, bool (*visit)(pid_t pid))
{
	_cleanup_strlist_ struct strlist roots = {0};
	bool stopped = false;

	hierarchies(&roots);
	for (size_t i = 0; i < roots.n && !stopped; i++) {
		_cleanup_free_ char *dir = xasprintf("%s/%s", roots.items[i], name);
		stopped = walk(dir, visit);
	}
	return stopped;
}

void cgroup_kill(const char *name)
{
	walk_all(name, kill_one);
}

bool cgroup_empty(const char *name)
{
	return !walk_all(name, found_one);
}

static void remove_tree(const char *dir)
{
	DIR *d;

	if (rmdir(dir) == 0 || errno == ENOENT)
		return;
	d = opendir(dir);
	for (struct dirent *e; d && (e = readdir(d));) {
		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		_cleanup_free_ char *sub = xasprintf("%s/%s", dir, e->d_name);
		remove_tree(sub);
	}
	if (d)
		closedir(d);
	rmdir(dir);
}

void cgroup_remove(const char *name)
{
	_cleanup_strlist_ struct strlist roots = {0};

	hierarchies(&roots);
	for (size_t i = 0; i < roots.n; i++) {
		_cleanup_free_ char *dir = xasprintf("%s/%s", roots.items[i], name);
		remove_tree(dir);
	}
}
