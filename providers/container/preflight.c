/* Is this host fit for containers? */
#include "providers/container/container.h"

#include "fs/base/io.h"
#include "fs/base/mem.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* A systemd node holds about six inotify instances: the kernel's default of 128 was seen to end at the twentieth. */
#define INSTANCES_PER_20_NODES 128
#define INSTANCES_CURE 8192

static void need_place(const char *dir, struct buf *out)
{
	struct statfs s;

	if (strpbrk(dir, ",:\\\""))
		preflight_add(out, "'%s' holds one of , : \\ \" which overlayfs cannot take in a path: use another directory", dir);
	if (statfs(dir, &s) == 0 && (unsigned long)s.f_type == OVERLAYFS_SUPER_MAGIC)
		preflight_add(out,
		        "'%s' is on overlayfs, which cannot hold the layers of nodes: use a directory on a disk of the host "
		        "(a volume, if this is a container) with '-o state=DIR'",
		        dir);
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
		preflight_add(out, "%s", buf_str(&sentence));
}

int container_preflight(const struct preflight *f, struct err **err)
{
	_cleanup_buf_ struct buf out = {0};

	preflight_common(f, "containers", &out);
	if (f->boot == BOOT_SYSTEMD)
		preflight_program("systemd-nspawn", "systemd-container", &out);
	need_place(f->state_dir, &out);
	need_place(f->cache_dir, &out);
	if (f->boot == BOOT_SYSTEMD)
		need_inotify(f->nodes, f->running, &out);
	return out.len ? err_set(err, EAGAIN, "%s", buf_str(&out)) : 0;
}
