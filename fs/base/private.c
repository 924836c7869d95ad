#include "fs/base/private.h"
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include <errno.h>
#include <jansson.h>
#include <linux/magic.h>
#include <malloc.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* ---- memory ---- */

static void no_core(struct buf *why)
{
	struct rlimit limit;
	/* One byte, not none: to a program behind a pipe in core_pattern the kernel gives every core but those limited to 1. Children inherit it, and
	 * they hold secrets, too. */
	if (getrlimit(RLIMIT_CORE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max > 0;
		setrlimit(RLIMIT_CORE, &limit);
	}
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		buf_addf(why, "a crash may leave a core: %s", strerror(errno));
}

/* On fault only: what is mapped and never touched costs nothing. A limit is not tried out, because allocations would fail beyond it from then on. */
static void no_swap(struct buf *why)
{
	struct rlimit limit = {0};
	const char *cause = NULL;
	if (geteuid() != 0 && (getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur != RLIM_INFINITY))
		cause = "the limit of locked memory (ulimit -l) is not 'unlimited'";
	else if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
		cause = strerror(errno);
	if (cause)
		buf_addf(why, "%smemory is not locked, and secrets may reach the swap: %s", why->len ? "; " : "", cause);
}

void private_memory(struct buf *ret_why)
{
	no_core(ret_why);
	no_swap(ret_why);
}

static void json_wipe(void *block)
{
	if (block)
		explicit_bzero(block, malloc_usable_size(block));
	free(block);
}

void private_json(void)
{
	json_set_alloc_funcs(xmalloc, json_wipe);
}

/* ---- files ---- */

static bool in_memory(const char *dir)
{
	struct statfs fs;
	return dir && *dir == '/' && access(dir, W_OK | X_OK) == 0 && statfs(dir, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}

char *private_dir(const char *owner, const char *state_dir)
{
	const char *const places[] = {geteuid() == 0 ? "/run" : getenv("XDG_RUNTIME_DIR"), "/dev/shm"};
	for (size_t i = 0; i < sizeof places / sizeof *places; i++)
		if (in_memory(places[i]))
			return xasprintf("%s/rebarfs-%s", places[i], owner);
	return path_join(state_dir, "private");
}

int private_dir_make(const char *dir, struct err **err)
{
	struct stat st;
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return err_errno(err, errno, "cannot make '%s'", dir);
	if (lstat(dir, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
		return err_set(err, EPERM, "'%s' is not a directory of ours with mode 0700: remove it", dir);
	return 0;
}
