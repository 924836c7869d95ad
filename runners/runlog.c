#include "runners/runlog.h"
#include "fs/base/mem.h"
#include "fs/base/str.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CUT "\nrebarfs: the log is cut here: it is longer than 64 MiB\n"

int run_log_open(struct run_log *l, const char *run_dir)
{
	_cleanup_free_ char *path = xasprintf("%s/log", run_dir);
	struct stat st;
	*l = (struct run_log){.fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)};
	if (l->fd < 0)
		return -errno;
	l->size = fstat(l->fd, &st) == 0 ? st.st_size : 0;
	l->is_cut = l->size > RUN_LOG_MAX;
	return 0;
}

static int append(struct run_log *l, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(l->fd, data, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		len -= (size_t)n;
		l->size += n;
	}
	return 0;
}

int run_log_add(struct run_log *l, const char *data, size_t len)
{
	if (l->fd < 0 || l->is_cut)
		return 0;
	size_t room = (size_t)(RUN_LOG_MAX - l->size);
	int rc = append(l, data, len < room ? len : room);
	if (rc == 0 && len > room) {
		rc = append(l, CUT, strlen(CUT));
		l->is_cut = rc == 0 || l->size > RUN_LOG_MAX;
	}
	return rc;
}

void run_log_close(struct run_log *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
}
