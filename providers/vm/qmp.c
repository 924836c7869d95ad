/* QMP: a line of JSON is a command, an answer or an event (qemu's docs/interop/qmp-spec.txt). One conversation holds the monitor, which
 * serves one at a time, for milliseconds; nothing has to be taken up again after a restart of the daemon. */
#include "providers/vm/vm.h"

#include "fs/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LINE_MAX_BYTES (1 << 20)

static int wait_ready(const struct qmp *q, short events, struct err **err)
{
	struct pollfd p = {.fd = q->fd, .events = events};
	int64_t left;
	int rc;

	do {
		left = q->deadline_ms - monotonic_ms();
		rc = left > 0 ? poll(&p, 1, (int)left) : 0;
	} while (rc < 0 && errno == EINTR);
	if (rc < 0)
		return err_errno(err, errno, "cannot wait for qemu's monitor");
	return rc ? 0 : err_set(err, ETIMEDOUT, "qemu's monitor does not answer");
}

/* One line as JSON, the caller's. */
static int read_message(struct qmp *q, json_t **ret, struct err **err)
{
	char chunk[4096], *end;
	ssize_t n;
	int rc;

	while (!(end = q->in.len ? memchr(q->in.data, '\n', q->in.len) : NULL)) {
		if (q->in.len > LINE_MAX_BYTES)
			return err_set(err, EPROTO, "qemu's monitor sent a line without an end");
		rc = wait_ready(q, POLLIN, err);
		if (rc < 0)
			return rc;
		n = recv(q->fd, chunk, sizeof chunk, 0);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return err_set(err, ECONNRESET, "qemu ended");
		buf_add(&q->in, chunk, (size_t)n);
	}
	*ret = json_loadb(q->in.data, (size_t)(end - q->in.data), 0, NULL);
	size_t used = (size_t)(end + 1 - q->in.data);
	memmove(q->in.data, q->in.data + used, q->in.len - used);
	q->in.len -= used;
	return *ret ? 0 : err_set(err, EPROTO, "qemu's monitor does not speak JSON");
}

/* The first byte carries the descriptor. */
static int send_line(struct qmp *q, const char *text, size_t len, int fd, struct err **err)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	int rc;

	for (size_t at = 0; at < len;) {
		struct iovec part = {.iov_base = (char *)text + at, .iov_len = len - at};
		struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
		if (at == 0 && fd >= 0) {
			message.msg_control = control.space;
			message.msg_controllen = sizeof control.space;
			struct cmsghdr *c = CMSG_FIRSTHDR(&message);
			*c = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
			memcpy(CMSG_DATA(c), &fd, sizeof fd);
		}
		rc = wait_ready(q, POLLOUT, err);
		if (rc < 0)
			return rc;
		ssize_t n = sendmsg(q->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return err_set(err, ECONNRESET, "qemu ended");
		at += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int qmp_command(struct qmp *q, const char *name, json_t *arguments, int fd, json_t **ret, struct err **err)
{
	json_t *command = json_pack("{s:s, s:o*}", "execute", name, "arguments", arguments), *answer = NULL, *said = NULL;
	char *text = json_dumps(command, JSON_COMPACT);
	_cleanup_free_ char *line = xasprintf("%s\n", text ? text : "{}");
	int rc = send_line(q, line, strlen(line), fd, err);

	free(text);
	json_decref(command);
	while (rc == 0 && !said) {
		json_decref(answer);
		answer = NULL;
		rc = read_message(q, &answer, err);
		/* events come at any time and have neither */
		if (rc == 0 && (said = json_object_get(answer, "error"))) {
			const char *why = json_string_value(json_object_get(said, "desc"));
			rc = err_set(err, EREMOTEIO, "qemu refuses '%s': %s", name, why ? why : "without a reason");
		} else if (rc == 0) {
			said = json_object_get(answer, "return");
		}
	}
	if (rc == 0 && ret)
		*ret = json_incref(said);
	json_decref(answer);
	return rc;
}

int qmp_begin(int fd, int64_t timeout_ms, struct qmp *ret, struct err **err)
{
	struct qmp q = {.fd = fd, .deadline_ms = monotonic_ms() + timeout_ms};
	json_t *greeting = NULL;
	int rc = read_message(&q, &greeting, err);

	if (rc == 0 && !json_object_get(greeting, "QMP"))
		rc = err_set(err, EPROTO, "what listens is not qemu's monitor");
	json_decref(greeting);
	if (rc == 0)
		rc = qmp_command(&q, "qmp_capabilities", NULL, -1, NULL, err);
	if (rc < 0)
		qmp_close(&q);
	else
		*ret = q;
	return rc;
}

int qmp_open(const char *path, int64_t timeout_ms, struct qmp *ret, struct err **err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	/* by way of /proc: a state directory's path may be longer than a socket's address can be */
	_cleanup_free_ char *dir = xstrdup(path);
	char *slash = strrchr(dir, '/');
	_cleanup_close_ int at = -1;
	int fd, rc;

	*slash = '\0';
	at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (at < 0)
		return err_errno(err, errno, "cannot open '%s'", dir);
	snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", at, slash + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, errno, "cannot make a socket");
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
		rc = err_errno(err, errno, "cannot connect to qemu's monitor '%s'", path);
		close(fd);
		return rc;
	}
	return qmp_begin(fd, timeout_ms, ret, err);
}

void qmp_close(struct qmp *q)
{
	close(q->fd);
	buf_release(&q->in);
	*q = (struct qmp){.fd = -1};
}
