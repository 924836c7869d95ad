/* One command on a connection: open a channel, ask for the command, feed its input and read its output, close. */
#include "fs/base/mem.h"
#include "fs/base/str.h"
#include "runners/ssh/conn.h"
#include <errno.h>
#include <string.h>
#include <utlist.h>

#define CHUNK 32768
#define OUT_MAX (256 * 1024) /* more than that waiting for the socket: no more input for now */
#define TAIL_MAX 4096
/* sshd's default MaxSessions is 10, and a command that was closed before its end still counts there. */
#define CHANNELS_MAX 7

void exec_end(struct ssh_exec *e, int code, const char *msg)
{
	if (e->ended)
		return;
	e->ended = true;
	e->on_stdout = NULL;
	if (e->reported)
		return;
	e->rc = -code;
	if (code) {
		err_set(&e->err, code, "%s", msg);
		e->exit_status = -1;
	}
	if (e->conn)
		e->host_key = xstrdup(e->conn->host_key);
	DL_APPEND2(e->pool->ended, e, prev_ended, next_ended);
	pool_kick(e->pool);
}

void exec_free(struct ssh_exec *e)
{
	free(e->command);
	if (e->input)
		explicit_bzero(e->input, e->input_len); /* secrets may be in it */
	free(e->input);
	free(e->chunk);
	buf_release(&e->tail);
	err_free(e->err);
	free(e->host_key);
	free(e);
}

void exec_forget(struct ssh_exec *e)
{
	if (e->conn && e->conn->opening == e)
		e->conn->opening = NULL;
	e->conn = NULL;
	e->channel = NULL;
	if (e->reported)
		exec_free(e);
}

/* The whole session is broken, not this channel alone. */
static bool session_broken(int rc)
{
	return rc != LIBSSH2_ERROR_EAGAIN && rc != LIBSSH2_ERROR_CHANNEL_FAILURE && rc != LIBSSH2_ERROR_CHANNEL_REQUEST_DENIED &&
	       rc != LIBSSH2_ERROR_CHANNEL_CLOSED && rc != LIBSSH2_ERROR_CHANNEL_EOF_SENT;
}

/* For a negative rc that is not EAGAIN. */
static void failed(struct ssh_exec *e, int rc, const char *what)
{
	struct conn *c = e->conn;
	char *msg = "";
	libssh2_session_last_error(c->session, &msg, NULL, 0);
	if (session_broken(rc)) {
		conn_fail(c, ECONNRESET, "lost the connection to '%s' (%s port %d): %s", c->name, c->address, c->port, msg);
		return;
	}
	_cleanup_free_ char *text = xasprintf("cannot %s on '%s': %s", what, c->name, msg);
	exec_end(e, EAGAIN, text);
	e->step = e->channel ? EXEC_CLOSE : EXEC_ENDED;
}

static bool open_channel(struct ssh_exec *e)
{
	struct conn *c = e->conn;
	if (c->opening && c->opening != e)
		return false;
	if (!c->opening) {
		if (e->ended) { /* cancelled before anything was sent */
			e->step = EXEC_ENDED;
			return true;
		}
		size_t busy = 0;
		for (struct ssh_exec *other = c->execs; other; other = other->next)
			busy += other->step > EXEC_OPEN;
		if (busy >= CHANNELS_MAX)
			return false;
	}
	c->opening = e;
	e->channel = libssh2_channel_open_session(c->session);
	int rc = e->channel ? 0 : libssh2_session_last_errno(c->session);
	if (rc == LIBSSH2_ERROR_EAGAIN)
		return false;
	c->opening = NULL;
	if (rc)
		failed(e, rc, "open a channel");
	else
		e->step = e->ended ? EXEC_CLOSE : EXEC_REQUEST;
	return true;
}

bool ssh_exec_sent(const struct ssh_exec *e)
{
	return e->sent;
}

static bool request(struct ssh_exec *e)
{
	e->sent = true;
	int rc = libssh2_channel_process_startup(e->channel, "exec", 4, e->command, strlen(e->command));
	if (rc == LIBSSH2_ERROR_EAGAIN)
		return false;
	if (rc)
		failed(e, rc, "start a command");
	else
		e->step = EXEC_RUN;
	return true;
}

/* Bytes to send next; 0: none. */
static size_t next_input(struct ssh_exec *e, const char **ret)
{
	if (!e->read_input) {
		*ret = e->input + e->input_pos;
		return e->input_len - e->input_pos;
	}
	if (e->chunk_pos == e->chunk_len && !e->input_ended) {
		if (!e->chunk)
			e->chunk = xmalloc(CHUNK);
		ssize_t n = e->read_input(e->arg, e->chunk, CHUNK);
		if (n < 0) {
			_cleanup_free_ char *text = xasprintf("cannot read what is to be sent to '%s': %s", e->conn->name, strerror(-n));
			exec_end(e, -n, text);
			e->step = EXEC_CLOSE;
			n = 0;
		}
		e->input_ended = n == 0;
		e->chunk_pos = 0;
		e->chunk_len = n;
	}
	*ret = e->chunk + e->chunk_pos;
	return e->chunk_len - e->chunk_pos;
}

static bool feed(struct ssh_exec *e)
{
	bool moved = false;
	while (!e->eof_sent && e->conn->out.len < OUT_MAX) {
		const char *data;
		size_t len = next_input(e, &data);
		if (e->step != EXEC_RUN)
			return true;
		if (!len) {
			int rc = libssh2_channel_send_eof(e->channel);
			if (rc == LIBSSH2_ERROR_EAGAIN)
				return moved;
			e->eof_sent = true;
			return true;
		}
		ssize_t n = libssh2_channel_write(e->channel, data, len);
		if (n == LIBSSH2_ERROR_EAGAIN || n == 0)
			return moved;
		if (n < 0) {
			if (session_broken(n)) {
				failed(e, n, "feed a command");
				return true;
			}
			e->eof_sent = true; /* it ended without reading all: its exit status tells what that means */
			return true;
		}
		moved = true;
		if (e->read_input)
			e->chunk_pos += n;
		else
			e->input_pos += n;
	}
	return moved;
}

static void keep_tail(struct buf *tail, const char *data, size_t len)
{
	buf_add(tail, data, len);
	if (tail->len <= 2 * TAIL_MAX)
		return;
	memmove(tail->data, tail->data + tail->len - TAIL_MAX, TAIL_MAX + 1);
	tail->len = TAIL_MAX;
}

static bool read_stream(struct ssh_exec *e, int stream)
{
	char data[CHUNK];
	bool moved = false;
	for (;;) {
		ssize_t n = libssh2_channel_read_ex(e->channel, stream, data, sizeof data);
		if (n == LIBSSH2_ERROR_EAGAIN || n == 0)
			return moved;
		if (n < 0) {
			failed(e, n, "read from a command");
			return true;
		}
		moved = true;
		if (e->ended)
			continue;
		if (stream)
			keep_tail(&e->tail, data, n);
		else if (e->on_stdout)
			e->on_stdout(e->arg, data, n);
		if (e->conn->state != CONN_READY)
			return true;
	}
}

static bool run(struct ssh_exec *e)
{
	if (e->ended) {
		e->step = EXEC_CLOSE;
		return true;
	}
	bool moved = feed(e);
	if (e->step == EXEC_RUN && e->conn->state == CONN_READY)
		moved |= read_stream(e, 0);
	if (e->step == EXEC_RUN && e->conn->state == CONN_READY)
		moved |= read_stream(e, SSH_EXTENDED_DATA_STDERR);
	if (e->step == EXEC_RUN && e->conn->state == CONN_READY && libssh2_channel_eof(e->channel)) {
		e->step = EXEC_CLOSE;
		moved = true;
	}
	return moved;
}

static bool close_channel(struct ssh_exec *e)
{
	int rc = libssh2_channel_close(e->channel);
	if (rc == LIBSSH2_ERROR_EAGAIN)
		return false;
	if (rc && session_broken(rc)) {
		failed(e, rc, "end a command");
		return true;
	}
	char *signal = NULL;
	libssh2_channel_get_exit_signal(e->channel, &signal, NULL, NULL, NULL, NULL, NULL);
	e->exit_status = signal ? -1 : libssh2_channel_get_exit_status(e->channel);
	libssh2_free(e->conn->session, signal);
	exec_end(e, 0, NULL);
	e->step = EXEC_FREE;
	return true;
}

bool exec_advance(struct ssh_exec *e)
{
	switch (e->step) {
	case EXEC_OPEN:
		return open_channel(e);
	case EXEC_REQUEST:
		return request(e);
	case EXEC_RUN:
		return run(e);
	case EXEC_CLOSE:
		return close_channel(e);
	case EXEC_FREE:
		if (libssh2_channel_free(e->channel) == LIBSSH2_ERROR_EAGAIN)
			return false;
		e->channel = NULL;
		e->step = EXEC_ENDED;
		return true;
	case EXEC_WAITS:
	case EXEC_ENDED:
		break;
	}
	return false;
}
