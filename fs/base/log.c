#include "fs/base/log.h"
#include "fs/base/buf.h"
#include "fs/base/io.h"
#include "fs/base/str.h"
#include <fcntl.h>
#include <unistd.h>

enum log_level log_max = LOG_INFO;
static int log_fd = STDERR_FILENO;

void log_to_file(const char *path)
{
	int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : STDERR_FILENO;
	if (fd < 0)
		return;
	if (log_fd != STDERR_FILENO)
		close(log_fd);
	log_fd = fd;
}

void log_msg(enum log_level level, const char *fmt, ...)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};
	if (level > log_max)
		return;
	struct buf line = {0};
	va_list ap;
	va_start(ap, fmt);
	if (log_fd != STDERR_FILENO) {
		format_time(&line, now_ms());
		buf_addc(&line, ' ');
	}
	buf_addf(&line, "rebarfs: %s: ", names[level]);
	buf_vaddf(&line, fmt, ap);
	va_end(ap);
	buf_addc(&line, '\n');
	/* One write a line: lines of several threads do not mix. */
	(void)!write(log_fd, line.data, line.len);
	buf_release(&line);
}
