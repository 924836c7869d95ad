/* What a disk and a clock can do to the daemon, preloaded into it. A file named by REBARFS_TROUBLE says what is wrong at the moment, a word a line:
 *   io N      of N writes to the database and syncs of it one fails with EIO, which one is as good as random
 *   ro        every write to the database fails with EROFS
 *   mem N     of 128 N allocations one fails
 *   clock N   the time of day is N seconds later (or earlier) than it is
 * Nothing is wrong while there is no such file. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static atomic_uint calls;

/* The number after word; 0 if the word is not there, -1 for one without a number. */
static long said(const char *word)
{
	const char *path = getenv("REBARFS_TROUBLE");
	char text[256];
	int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return 0;
	long n = syscall(SYS_read, fd, text, sizeof text - 1);
	syscall(SYS_close, fd);
	text[n > 0 ? n : 0] = 0;
	const char *at = strstr(text, word);
	return !at ? 0 : at[strlen(word)] == ' ' ? atol(at + strlen(word)) : -1;
}

static int is_database(int fd)
{
	char link[64], path[4096];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof path - 1);
	path[n > 0 ? n : 0] = 0;
	return strstr(path, "/rebarfs.db") != NULL;
}

static int fails(int fd)
{
	int saved = errno;
	int code = 0;
	if (is_database(fd)) {
		long every = said("io");
		if (said("ro"))
			code = EROFS;
		else if (every > 0 && (atomic_fetch_add(&calls, 1) * 2654435761u >> 16) % (unsigned long)every == 0)
			code = EIO;
	}
	errno = code ? code : saved;
	return code;
}

/* The C library's own names of them: asking for them by name would allocate. */
extern void *__libc_malloc(size_t n), *__libc_calloc(size_t n, size_t size), *__libc_realloc(void *p, size_t n);

static int no_memory(void)
{
	static atomic_uint allocations;
	static atomic_long one_of; /* looked up now and then */
	unsigned now = atomic_fetch_add(&allocations, 1);
	if (now % 128 == 0) {
		int saved = errno;
		one_of = said("mem");
		errno = saved;
	}
	long n = one_of;
	if (n <= 0 || (now * 2654435761u >> 8) % (128 * (unsigned long)n))
		return 0;
	errno = ENOMEM;
	return 1;
}

void *malloc(size_t n)
{
	return no_memory() ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
	return no_memory() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
	return no_memory() ? NULL : __libc_realloc(p, n);
}

#define NEXT(name)                                                                                                                                   \
	static __typeof__(&name) next;                                                                                                               \
	if (!next)                                                                                                                                   \
	next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t pwrite(int fd, const void *buf, size_t n, off_t at)
{
	NEXT(pwrite);
	return fails(fd) ? -1 : next(fd, buf, n, at);
}

ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t at)
{
	NEXT(pwrite64);
	return fails(fd) ? -1 : next(fd, buf, n, at);
}

ssize_t write(int fd, const void *buf, size_t n)
{
	NEXT(write);
	return fails(fd) ? -1 : next(fd, buf, n);
}

int fsync(int fd)
{
	NEXT(fsync);
	return fails(fd) ? -1 : next(fd);
}

int fdatasync(int fd)
{
	NEXT(fdatasync);
	return fails(fd) ? -1 : next(fd);
}

int ftruncate64(int fd, off64_t len)
{
	NEXT(ftruncate64);
	return fails(fd) ? -1 : next(fd, len);
}

int clock_gettime(clockid_t id, struct timespec *t)
{
	int rc = (int)syscall(SYS_clock_gettime, id, t);
	if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		t->tv_sec += said("clock");
	return rc;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	*t = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
	return 0;
}

time_t time(time_t *ret)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (ret)
		*ret = now.tv_sec;
	return now.tv_sec;
}
