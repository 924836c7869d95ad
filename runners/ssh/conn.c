/* One ssh connection on libssh2, never blocking.
 *
 * libssh2 wants a call that met a full socket to be repeated with the same buffer before anything else is sent (transport.c, send_existing():
 * LIBSSH2_ERROR_BAD_USE otherwise), and its own keepalive breaks that rule. So the socket is never full here: our send callback takes everything,
 * what the kernel did not take waits in conn->out, and commands stop feeding input while that is long. What remains of EAGAIN is "nothing has
 * arrived", after which any channel may be used. This also makes libssh2_session_block_directions(), which may be 0, needless.
 *
 * An idle connection has nobody who could read from it (libssh2 reads only on behalf of a channel), so it is watched for its end alone, and the
 * kernel's TCP keepalive finds vanished peers. */
#include "runners/ssh/conn.h"
#include "fs/base/hash.h"
#include "fs/base/mem.h"
#include "fs/base/str.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/socket.h>
#include <utlist.h>

#define HELLO_MAX 4096

static void on_poll(uv_poll_t *handle, int status, int events);

static ssize_t flush_out(struct conn *c)
{
	while (c->out_pos < c->out.len) {
		ssize_t n = send(c->fd, c->out.data + c->out_pos, c->out.len - c->out_pos, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		c->out_pos += n;
	}
	buf_reset(&c->out);
	c->out_pos = 0;
	return 0;
}

static LIBSSH2_SEND_FUNC(on_send)
{
	struct conn *c = *abstract;
	(void)socket;
	(void)flags;
	if (c->state == CONN_DEAD)
		return -EPIPE;
	buf_add(&c->out, buffer, length);
	ssize_t rc = flush_out(c);
	return rc < 0 ? rc : (ssize_t)length;
}

static LIBSSH2_RECV_FUNC(on_recv)
{
	struct conn *c = *abstract;
	(void)socket;
	(void)flags;
	if (c->state == CONN_DEAD)
		return -ECONNRESET;
	ssize_t n;
	do
		n = recv(c->fd, buffer, length, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	c->received += n;
	if (c->state == CONN_HANDSHAKE && c->hello.len < HELLO_MAX)
		buf_add(&c->hello, buffer, n);
	return n;
}

/* ---- host keys ---- */

static size_t word_len(const char *s)
{
	return strcspn(s, " \t\r\n");
}

static bool key_words(const char *text, const char **type, size_t *type_len, const char **base64, size_t *base64_len)
{
	text += strspn(text, " \t");
	*type = text;
	*type_len = word_len(text);
	text += *type_len;
	text += strspn(text, " \t");
	*base64 = text;
	*base64_len = word_len(text);
	return *type_len && *base64_len;
}

bool ssh_same_key(const char *a, const char *b)
{
	const char *type_a, *type_b, *data_a, *data_b;
	size_t type_a_len, type_b_len, data_a_len, data_b_len;
	if (!key_words(a, &type_a, &type_a_len, &data_a, &data_a_len) || !key_words(b, &type_b, &type_b_len, &data_b, &data_b_len))
		return false;
	return type_a_len == type_b_len && data_a_len == data_b_len && !memcmp(type_a, type_b, type_a_len) && !memcmp(data_a, data_b, data_a_len);
}

static void add_base64(struct buf *out, const void *data, size_t len)
{
	_cleanup_free_ char *text = xmalloc((len + 2) / 3 * 4 + 1);
	EVP_EncodeBlock((unsigned char *)text, data, len);
	buf_adds(out, text);
}

void ssh_fingerprint(const char *host_key, struct buf *out)
{
	const char *type, *data;
	size_t type_len, data_len;
	_cleanup_free_ unsigned char *raw = NULL;
	int n = -1;
	if (key_words(host_key, &type, &type_len, &data, &data_len) && data_len % 4 == 0) {
		raw = xmalloc(data_len);
		n = EVP_DecodeBlock(raw, (const unsigned char *)data, data_len);
	}
	if (n < 0) {
		buf_adds(out, "(unreadable key)");
		return;
	}
	for (const char *end = data + data_len; end[-1] == '=' && n > 0; end--)
		n--;
	struct hash h;
	hash_bytes(raw, n, &h);
	buf_addf(out, "%.*s SHA256:", (int)type_len, type);
	add_base64(out, h.b, sizeof h.b);
	while (out->len && out->data[out->len - 1] == '=')
		out->data[--out->len] = 0;
}

static uint32_t be32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* RFC 4253, 4.2 and 7.1: a line "SSH-2.0-...", then a packet {length, padding length, 20, cookie[16], list of key exchanges, list of host keys}. */
bool ssh_offered_host_keys(const void *data, size_t len, struct buf *out)
{
	const unsigned char *p = memmem(data, len, "SSH-", 4);
	const unsigned char *end = (const unsigned char *)data + len;
	if (!p || !(p = memchr(p, '\n', end - p)) || end - ++p < 26 || p[5] != 20)
		return false;
	p += 22;
	uint32_t kex = be32(p);
	if (kex > (size_t)(end - p) || (size_t)(end - p) - kex < 8)
		return false;
	p += 4 + kex;
	uint32_t keys = be32(p);
	p += 4;
	if (keys > (size_t)(end - p))
		return false;
	buf_add(out, p, keys);
	return true;
}

static bool check_host_key(struct conn *c)
{
	size_t len;
	int type;
	const char *raw = libssh2_session_hostkey(c->session, &len, &type);
	if (!raw || len < 4 || be32((const unsigned char *)raw) > len - 4) {
		conn_fail(c, EPROTO, "'%s' (%s port %d) showed no host key", c->name, c->address, c->port);
		return false;
	}
	struct buf key = {0};
	buf_add(&key, raw + 4, be32((const unsigned char *)raw));
	buf_addc(&key, ' ');
	add_base64(&key, raw, len);
	free(c->host_key);
	c->host_key = buf_detach(&key, NULL);
	if (!c->want_key || ssh_same_key(c->want_key, c->host_key))
		return true;
	_cleanup_buf_ struct buf old = {0}, new = {0};
	ssh_fingerprint(c->want_key, &old);
	ssh_fingerprint(c->host_key, &new);
	conn_fail(c, EKEYREJECTED, "the host key of '%s' (%s port %d) changed from %s to %s", c->name, c->address, c->port, buf_str(&old),
	        buf_str(&new));
	return false;
}

/* ---- from nothing to ready ---- */

static void update_poll(struct conn *c)
{
	if (!c->has_poll || c->state == CONN_DEAD)
		return;
	int events = UV_DISCONNECT;
	if (c->state == CONN_TCP)
		events |= UV_WRITABLE;
	else if (c->state != CONN_READY || c->execs)
		events |= UV_READABLE;
	if (c->out_pos < c->out.len)
		events |= UV_WRITABLE;
	uv_poll_start(&c->poll, events, on_poll);
}

static void connect_to(struct conn *c, const struct sockaddr *addr, socklen_t len)
{
	c->fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0) {
		conn_fail(c, errno, "cannot make a socket for '%s': %s", c->name, strerror(errno));
		return;
	}
	/* without TCP_NODELAY the first command waited some 45 ms for a delayed ACK */
	int one = 1, idle = 15, interval = 10, count = 3, user_timeout_ms = 30000;
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
	setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
	setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
	setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
	setsockopt(c->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof user_timeout_ms);
	if (connect(c->fd, addr, len) < 0 && errno != EINPROGRESS) {
		conn_fail(c, errno, "cannot connect to '%s' (%s port %d): %s", c->name, c->address, c->port, strerror(errno));
		return;
	}
	c->state = CONN_TCP;
	c->state_by = monotonic_ms() + TCP_MS;
	int rc = uv_poll_init(c->pool->loop, &c->poll, c->fd);
	if (rc) {
		conn_fail(c, -rc, "cannot watch the connection to '%s': %s", c->name, uv_strerror(rc));
		return;
	}
	c->poll.data = c;
	c->has_poll = true;
	update_poll(c);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *res)
{
	struct conn *c = req->data;
	c->resolving = false;
	if (c->state == CONN_DEAD)
		conn_free(c);
	else if (status || !res)
		conn_fail(c, EHOSTUNREACH, "cannot find the address of '%s' ('%s'): %s", c->name, c->address,
		        status ? uv_strerror(status) : "no answer");
	else
		connect_to(c, res->ai_addr, res->ai_addrlen);
	uv_freeaddrinfo(res);
}

void conn_start(struct conn *c)
{
	c->pool->handshakes++;
	c->pool->connections++;
	c->state = CONN_RESOLVE;
	c->state_by = monotonic_ms() + HANDSHAKE_MS;
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(c->port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(c->port)};
	if (inet_pton(AF_INET, c->address, &v4.sin_addr) == 1) {
		connect_to(c, (struct sockaddr *)&v4, sizeof v4);
		return;
	}
	if (inet_pton(AF_INET6, c->address, &v6.sin6_addr) == 1) {
		connect_to(c, (struct sockaddr *)&v6, sizeof v6);
		return;
	}
	char port[16];
	snprintf(port, sizeof port, "%d", c->port);
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	c->resolve.data = c;
	int rc = uv_getaddrinfo(c->pool->loop, &c->resolve, on_resolved, c->address, port, &hints);
	if (rc)
		conn_fail(c, -rc, "cannot find the address of '%s' ('%s'): %s", c->name, c->address, uv_strerror(rc));
	else
		c->resolving = true;
}

static int socket_error(const struct conn *c)
{
	int code = 0;
	socklen_t len = sizeof code;
	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &code, &len);
	return code;
}

static void begin_session(struct conn *c)
{
	int code = socket_error(c);
	if (code) {
		conn_fail(c, code, "cannot connect to '%s' (%s port %d): %s", c->name, c->address, c->port, strerror(code));
		return;
	}
	c->session = libssh2_session_init_ex(NULL, NULL, NULL, c);
	if (!c->session) {
		conn_fail(c, ENOMEM, "cannot make an ssh session for '%s'", c->name);
		return;
	}
	union {
		LIBSSH2_SEND_FUNC((*send));
		LIBSSH2_RECV_FUNC((*recv));
		void *any;
	} send_cb = {.send = on_send}, recv_cb = {.recv = on_recv};
	libssh2_session_callback_set(c->session, LIBSSH2_CALLBACK_SEND, send_cb.any);
	libssh2_session_callback_set(c->session, LIBSSH2_CALLBACK_RECV, recv_cb.any);
	libssh2_session_set_blocking(c->session, 0);
	/* curve25519 first: 1 ms of our CPU, against 80 ms with the server's own favourite */
	libssh2_session_method_pref(c->session, LIBSSH2_METHOD_KEX,
	        "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,"
	        "diffie-hellman-group-exchange-sha256,diffie-hellman-group16-sha512,diffie-hellman-group14-sha256");
	/* The kind we hold comes first: a server with several keys must show that one, or a good host looks like a changed one. */
	_cleanup_buf_ struct buf kinds = {0};
	if (c->want_key)
		buf_addf(&kinds, "%.*s,", (int)word_len(c->want_key), c->want_key);
	buf_adds(&kinds, "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521");
	libssh2_session_method_pref(c->session, LIBSSH2_METHOD_HOSTKEY, buf_str(&kinds));
	c->state = CONN_HANDSHAKE;
	c->state_by = monotonic_ms() + HANDSHAKE_MS;
}

static void handshake_failed(struct conn *c)
{
	char *msg;
	libssh2_session_last_error(c->session, &msg, NULL, 0);
	_cleanup_buf_ struct buf offered = {0};
	if (ssh_offered_host_keys(c->hello.data, c->hello.len, &offered) && !strstr(buf_str(&offered), "ssh-ed25519") &&
	        !strstr(buf_str(&offered), "ecdsa-sha2-nistp")) {
		conn_fail(c, EINVAL,
		        "'%s' (%s port %d) has no host key of a kind that can be checked (it offers %s): make an ed25519 or ecdsa one there with "
		        "'ssh-keygen -A' and restart its sshd",
		        c->name, c->address, c->port, buf_str(&offered));
		return;
	}
	conn_fail(c, ECONNRESET, "no ssh session with '%s' (%s port %d): %s", c->name, c->address, c->port, msg);
}

static void auth_failed(struct conn *c, int rc)
{
	char *msg;
	libssh2_session_last_error(c->session, &msg, NULL, 0);
	if (rc == LIBSSH2_ERROR_FILE || rc == LIBSSH2_ERROR_METHOD_NOT_SUPPORTED) {
		conn_fail(c, EINVAL, "cannot use '%s' to log in at '%s': %s (an ed25519 or ecdsa key without passphrase is needed)", c->key, c->name,
		        msg);
		return;
	}
	if (rc == LIBSSH2_ERROR_SOCKET_RECV || rc == LIBSSH2_ERROR_SOCKET_DISCONNECT || rc == LIBSSH2_ERROR_SOCKET_SEND) {
		conn_fail(c, ECONNRESET, "'%s' (%s port %d) closed the connection during login", c->name, c->address, c->port);
		return;
	}
	conn_fail(c, EACCES,
	        "'%s' (%s port %d) refuses user '%s' with key '%s': put the key's .pub into that user's authorized_keys (RSA keys do not work)",
	        c->name, c->address, c->port, c->user, c->key);
}

static void set_ready(struct conn *c)
{
	c->state = CONN_READY;
	c->state_by = 0;
	c->pool->handshakes--;
	buf_release(&c->hello);
	int64_t now = monotonic_ms();
	struct ssh_exec *e;
	DL_FOREACH(c->execs, e)
	{
		e->step = EXEC_OPEN;
		e->end_by = e->timeout_ms ? now + e->timeout_ms : 0;
	}
	pool_kick(c->pool); /* a place for a handshake is free */
}

static void establish(struct conn *c)
{
	if (c->state == CONN_HANDSHAKE) {
		int rc = libssh2_session_handshake(c->session, c->fd);
		if (rc == LIBSSH2_ERROR_EAGAIN)
			return;
		if (rc) {
			handshake_failed(c);
			return;
		}
		if (!check_host_key(c))
			return;
		c->state = CONN_AUTH;
	}
	int rc = libssh2_userauth_publickey_fromfile_ex(c->session, c->user, strlen(c->user), NULL, c->key, NULL);
	if (rc == LIBSSH2_ERROR_EAGAIN)
		return;
	if (rc)
		auth_failed(c, rc);
	else
		set_ready(c);
}

/* ---- ready ---- */

static void serve(struct conn *c)
{
	/* A read for one channel queues what arrived for the others: round again until a whole round neither moved anything nor received anything. */
	uint64_t received;
	bool moved;
	do {
		received = c->received;
		moved = false;
		struct ssh_exec *e, *next;
		for (e = c->execs; e && c->state == CONN_READY; e = next) {
			moved |= exec_advance(e);
			next = e->next;
			if (e->step == EXEC_ENDED && c->state == CONN_READY) {
				DL_DELETE(c->execs, e);
				exec_forget(e);
			}
		}
	} while (c->state == CONN_READY && c->execs && (moved || c->received != received));
}

static void idle_check(struct conn *c)
{
	char byte;
	ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		conn_fail(c, ECONNRESET, "'%s' (%s port %d) closed the connection", c->name, c->address, c->port);
}

void conn_pump(struct conn *c)
{
	if (c->pumping || c->state == CONN_DEAD)
		return;
	c->pumping = true;
	c->wants_pump = false;
	if (c->state == CONN_HANDSHAKE || c->state == CONN_AUTH)
		establish(c);
	if (c->state == CONN_READY)
		serve(c);
	c->pumping = false;
	if (c->state == CONN_DEAD)
		conn_free(c);
	else
		update_poll(c);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
	struct conn *c = handle->data;
	if (c->state == CONN_DEAD)
		return;
	if (status < 0) { /* libuv says EBADF for every POLLERR: the socket knows better */
		int code = socket_error(c);
		conn_fail(c, code ? code : ECONNRESET, "%s '%s' (%s port %d): %s",
		        c->state == CONN_TCP ? "cannot connect to" : "lost the connection to", c->name, c->address, c->port,
		        code ? strerror(code) : "connection closed");
		return;
	}
	if (c->state == CONN_TCP) {
		begin_session(c);
		if (c->state == CONN_DEAD)
			return;
	}
	ssize_t rc = flush_out(c);
	if (rc < 0)
		conn_fail(c, -rc, "lost the connection to '%s' (%s port %d): %s", c->name, c->address, c->port, strerror(-rc));
	else if (c->state == CONN_READY && !c->execs && (events & UV_DISCONNECT))
		conn_fail(c, ECONNRESET, "'%s' (%s port %d) closed the connection", c->name, c->address, c->port);
	else if (c->state == CONN_READY && !c->execs)
		idle_check(c);
	else
		conn_pump(c);
	if (c->state == CONN_READY && !c->execs)
		update_poll(c);
}

/* ---- the end ---- */

void conn_fail(struct conn *c, int code, const char *fmt, ...)
{
	if (c->state == CONN_DEAD)
		return;
	_cleanup_buf_ struct buf msg = {0};
	va_list ap;
	va_start(ap, fmt);
	buf_vaddf(&msg, fmt, ap);
	va_end(ap);

	bool handshaking = c->state > CONN_WAITS && c->state < CONN_READY;
	c->state = CONN_DEAD;
	HASH_DEL(c->pool->conns, c);
	for (struct ssh_exec *e = c->execs; e; e = e->next)
		exec_end(e, code, buf_str(&msg));
	if (handshaking) {
		c->pool->handshakes--;
		pool_kick(c->pool); /* a place for a handshake is free */
	}
	if (!c->pumping)
		conn_free(c);
}

static void on_closed(uv_handle_t *handle)
{
	struct conn *c = handle->data;
	close(c->fd);
	free(c);
}

void conn_free(struct conn *c)
{
	c->state = CONN_DEAD;
	struct ssh_exec *e, *next;
	for (e = c->execs; e; e = next) {
		next = e->next;
		DL_DELETE(c->execs, e);
		exec_forget(e); /* its channel goes with the session */
	}
	/* Our callbacks fail now, so this sends nothing and waits for nothing; EAGAIN can still come while it walks through its states. */
	for (int i = 0; c->session && i < 100; i++)
		if (libssh2_session_free(c->session) != LIBSSH2_ERROR_EAGAIN)
			c->session = NULL;
	buf_release(&c->out);
	buf_release(&c->hello);
	if (c->resolving) /* on_resolved comes back here */
		return;
	free(c->name);
	free(c->address);
	free(c->user);
	free(c->key);
	free(c->want_key);
	free(c->host_key);
	if (c->has_poll) {
		uv_poll_stop(&c->poll);
		uv_close((uv_handle_t *)&c->poll, on_closed);
		return;
	}
	if (c->fd >= 0)
		close(c->fd);
	free(c);
}
