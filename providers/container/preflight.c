/* Is this host fit for nodes? Everything that is missing is told at once, each with its cure. */
#include "providers/container/container.h"

#include "fs/base/io.h"
#include "fs/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <string.h>
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

void preflight_inotify(int64_t max_instances, int64_t nodes, struct buf *out)
{
	int64_t enough_for = max_instances * 20 / INSTANCES_PER_20_NODES;

	if (nodes <= enough_for)
		return;
	int64_t cure = INSTANCES_CURE;
	while (cure * 20 / INSTANCES_PER_20_NODES < nodes)
		cure *= 2;
	buf_addf(out, "/proc/sys/fs/inotify/max_user_instances is %lld: more than %lld nodes need 'sysctl fs.inotify.max_user_instances=%lld'",
	        (long long)max_instances, (long long)enough_for, (long long)cure);
}

static void need_inotify(int64_t nodes, struct buf *out)
{
	_cleanup_buf_ struct buf b = {0}, sentence = {0};

	if (file_read(AT_FDCWD, "/proc/sys/fs/inotify/max_user_instances", 64, &b, NULL) < 0)
		return;
	preflight_inotify(strtoll(buf_str(&b), NULL, 10), nodes, &sentence);
	if (sentence.len)
		add(out, buf_str(&sentence));
}

int preflight(const struct preflight *f, struct err **err)
{
	_cleanup_buf_ struct buf out = {0};

	if (!may_administrate())
		add(&out, "containers need root (CAP_SYS_ADMIN): mount with sudo");
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
		need_inotify(f->nodes, &out);
	if (f->room && f->nodes > f->room) {
		_cleanup_free_ char *s = xasprintf("%lld nodes are wanted and the subnet has addresses for %u: set a wider 'subnet' in [container]",
		        (long long)f->nodes, f->room);
		add(&out, s);
	}
	return out.len ? err_set(err, EAGAIN, "%s", buf_str(&out)) : 0;
}
