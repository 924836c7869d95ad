/* Is this host fit for nodes? Everything that is missing is told at once, each with its cure. */
#include "providers/container/container.h"

#include "fs/base/io.h"
#include "fs/base/mem.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

/* A systemd node holds about six inotify instances: the kernel's default of 128 was seen to end at the twentieth. */
#define INSTANCES_PER_20_NODES 128
#define INSTANCES_CURE 8192
#define DISK_MIN_BYTES (1LL << 30)

static void add(struct buf *out, const char *sentence)
{
	buf_addf(out, "%s%s", out->len ? "; " : "", sentence);
}

static bool in_path(const char *program)
{
	const char *path = getenv("PATH");
	_cleanup_free_ char *copy = xasprintf("%s:/usr/sbin:/sbin:/usr/bin:/bin", path ? path : "");
	char *save = NULL;

	for (char *dir = strtok_r(copy, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
		_cleanup_free_ char *full = path_join(dir, program);
		if (access(full, X_OK) == 0)
			return true;
	}
	return false;
}

static void need_programs(const struct preflight *f, struct buf *out)
{
	const struct {
		const char *program, *package;
		bool needed;
	} rows[] = {
	        {"systemd-nspawn", "systemd-container", f->boot == BOOT_SYSTEMD},
	        {"mmdebstrap", "mmdebstrap", f->build},
	        {"flock", "util-linux", f->build},
	        {"unshare", "util-linux", true},
	        {"ip", "iproute2", true},
	        {"iptables", "iptables", true},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (rows[i].needed && !in_path(rows[i].program)) {
			_cleanup_free_ char *s = xasprintf("the program '%s' is missing: run 'apt-get install %s'", rows[i].program, rows[i].package);
			add(out, s);
		}
}

static bool may_administrate(void)
{
	_cleanup_buf_ struct buf b = {0};
	const char *at;

	if (file_read(AT_FDCWD, "/proc/self/status", 1 << 16, &b, NULL) < 0)
		return geteuid() == 0;
	at = strstr(buf_str(&b), "CapEff:");
	return at && (strtoull(at + strlen("CapEff:"), NULL, 16) >> CAP_SYS_ADMIN & 1);
}

static void need_disk(const char *dir, struct buf *out)
{
	struct statvfs s;

	if (statvfs(dir, &s) < 0 || (long long)s.f_bavail * (long long)s.f_frsize >= DISK_MIN_BYTES)
		return;
	_cleanup_buf_ struct buf room = {0};
	format_size(&room, (int64_t)s.f_bavail * (int64_t)s.f_frsize / (1 << 20) * (1 << 20));
	_cleanup_free_ char *s2 = xasprintf("only %s are free on the disk of '%s': at least 1G is needed", buf_str(&room), dir);
	add(out, s2);
}

static void need_place(const char *dir, struct buf *out)
{
	struct statfs s;

	if (strpbrk(dir, ",:\\\"")) {
		add(out, "'");
		buf_adds(out, dir);
		buf_adds(out, "' holds one of , : \\ \" which overlayfs cannot take in a path: use another directory");
	}
	if (statfs(dir, &s) == 0 && (unsigned long)s.f_type == OVERLAYFS_SUPER_MAGIC) {
		_cleanup_free_ char *t =
		        xasprintf("'%s' is on overlayfs, which cannot hold the layers of nodes: use a directory on a disk of the host "
		                  "(a volume, if this is a container) with '-o state=DIR'",
		                dir);
		add(out, t);
	}
}

void preflight_inotify(int64_t max_instances, int64_t used, int64_t nodes, int64_t running, struct buf *out)
{
	int64_t left = max_instances > used ? max_instances - used : 0;
	int64_t enough_for = running + left * 20 / INSTANCES_PER_20_NODES;

	if (nodes <= enough_for)
		return;
	int64_t cure = INSTANCES_CURE;
	while ((cure - used) * 20 / INSTANCES_PER_20_NODES < nodes - running)
		cure *= 2;
	buf_addf(out, "/proc/sys/fs/inotify/max_user_instances is %lld", (long long)max_instances);
	if (used)
		buf_addf(out, ", of which %lld are in use", (long long)used);
	buf_addf(out, ": more than %lld nodes need 'sysctl fs.inotify.max_user_instances=%lld'", (long long)enough_for, (long long)cure);
}

static int64_t inotify_of_process(const char *pid)
{
	_cleanup_free_ char *path = xasprintf("/proc/%s/fd", pid);
	DIR *d = opendir(path);
	int64_t n = 0;

	for (struct dirent *e; d && (e = readdir(d));) {
		char target[32];
		ssize_t len = readlinkat(dirfd(d), e->d_name, target, sizeof target);
		n += len == 18 && !memcmp(target, "anon_inode:inotify", 18);
	}
	if (d)
		closedir(d);
	return n;
}

/* The limit is for each user, and init in a node is root as we are. Without asking, a node beyond it boots to a machine on which nothing answers. */
static int64_t inotify_in_use(void)
{
	DIR *d = opendir("/proc");
	int64_t n = 0;

	for (struct dirent *e; d && (e = readdir(d));) {
		struct stat st;
		if (isdigit((unsigned char)*e->d_name) && fstatat(dirfd(d), e->d_name, &st, 0) == 0 && st.st_uid == geteuid())
			n += inotify_of_process(e->d_name);
	}
	if (d)
		closedir(d);
	return n;
}

static void need_inotify(int64_t nodes, int64_t running, struct buf *out)
{
	_cleanup_buf_ struct buf b = {0}, sentence = {0};

	if (file_read(AT_FDCWD, "/proc/sys/fs/inotify/max_user_instances", 64, &b, NULL) < 0)
		return;
	preflight_inotify(strtoll(buf_str(&b), NULL, 10), inotify_in_use(), nodes, running, &sentence);
	if (sentence.len)
		add(out, buf_str(&sentence));
}

int preflight(const struct preflight *f, struct err **err)
{
	_cleanup_buf_ struct buf out = {0};

	/* The rest would be asked of the wrong user, and no second attempt helps. */
	if (!may_administrate())
		return err_set(err, EPERM, "containers need root (CAP_SYS_ADMIN): mount with sudo");
	need_programs(f, &out);
	/* mmdebstrap checks signatures with the host's keyrings, and only Debian's own hosts are sure to have them */
	if (f->build && access("/usr/share/keyrings/debian-archive-keyring.gpg", R_OK) < 0)
		add(&out, "the keys of Debian's archive are missing: run 'apt-get install debian-archive-keyring'");
	need_place(f->state_dir, &out);
	need_place(f->cache_dir, &out);
	need_disk(f->state_dir, &out);
	if (f->build)
		need_disk(f->cache_dir, &out);
	if (f->boot == BOOT_SYSTEMD)
		need_inotify(f->nodes, f->running, &out);
	if (f->room && f->nodes > f->room) {
		_cleanup_free_ char *s = xasprintf("%lld nodes are wanted and the subnet has addresses for %u: set a wider 'subnet' in [container]",
		        (long long)f->nodes, f->room);
		add(&out, s);
	}
	return out.len ? err_set(err, EAGAIN, "%s", buf_str(&out)) : 0;
}
