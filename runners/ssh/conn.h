/* One connection: states from the first SYN to a session that serves commands. Known to runners/ssh/ alone. */
#ifndef REBARFS_RUNNERS_SSH_CONN_H
#define REBARFS_RUNNERS_SSH_CONN_H

#include "fs/base/buf.h"
#include "runners/ssh/pool.h"
#include <libssh2.h>
#include <uthash.h>

enum exec_step { EXEC_WAITS, EXEC_OPEN, EXEC_REQUEST, EXEC_RUN, EXEC_CLOSE, EXEC_FREE, EXEC_ENDED };

struct ssh_exec {
	struct ssh_pool *pool;
	struct conn *conn;                        /* NULL when the connection has forgotten it; freed when it was reported, too */
	struct ssh_exec *prev, *next;             /* in conn->execs */
	struct ssh_exec *prev_ended, *next_ended; /* in pool->ended */
	enum exec_step step;
	bool sent;
	bool ended;    /* the result is known; what follows is the closing of the channel */
	bool reported; /* done was called, or is not wanted */
	LIBSSH2_CHANNEL *channel;
	char *command;
	char *input;
	size_t input_len, input_pos;
	char *chunk; /* what read_input gave and was not sent yet */
	size_t chunk_len, chunk_pos;
	bool input_ended, eof_sent;
	struct buf tail;
	int64_t connect_by, end_by, timeout_ms; /* monotonic; 0: never */
	ssize_t (*read_input)(void *arg, char *data, size_t len);
	void (*on_stdout)(void *arg, const char *data, size_t len);
	void (*done)(void *arg, const struct ssh_result *res);
	void *arg;
	/* the result, for pool->ended */
	int rc, exit_status;
	struct err *err;
	char *host_key;
};

/* A SYN sent before the address was up is repeated after 1, 3, 7 s only: a new connection is quicker. */
#define TCP_MS 5000
#define HANDSHAKE_MS 30000

enum conn_state { CONN_WAITS, CONN_RESOLVE, CONN_TCP, CONN_HANDSHAKE, CONN_AUTH, CONN_READY, CONN_DEAD };

struct conn {
	struct ssh_pool *pool;
	uint64_t node_id;
	uint32_t incarnation;
	char *name, *address, *user, *key, *want_key, *host_key;
	int port;
	enum conn_state state;
	int64_t state_by; /* to be past the state by then; 0: no matter */
	int fd;
	uv_poll_t poll;
	bool has_poll, resolving;
	uv_getaddrinfo_t resolve;
	LIBSSH2_SESSION *session;
	struct buf out; /* encrypted bytes that the socket did not take yet */
	size_t out_pos;
	uint64_t received;
	struct buf hello;         /* the first bytes received, to tell why a handshake failed */
	struct ssh_exec *execs;   /* DL list, in order of submission */
	struct ssh_exec *opening; /* libssh2 keeps the state of an open in the session: one at a time */
	bool pumping, wants_pump;
	UT_hash_handle hh;
};

struct ssh_pool {
	uv_loop_t *loop;
	struct conn *conns;           /* by node_id */
	size_t handshakes;            /* between CONN_RESOLVE and CONN_READY */
	struct ssh_exec *ended;       /* done is to be called */
	uv_timer_t *kick, *tick;      /* on the heap: they outlive the pool until the loop has closed them */
	size_t waiting;               /* commands not reported yet: the tick runs while there are any */
	size_t connections, commands; /* ever, for the curious */
};

/* conn.c */
void conn_start(struct conn *c);
void conn_pump(struct conn *c);
void conn_fail(struct conn *c, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void conn_free(struct conn *c); /* out of the pool's table already; callbacks are not called */

/* exec.c */
bool exec_advance(struct ssh_exec *e);                        /* true: something happened */
void exec_end(struct ssh_exec *e, int code, const char *msg); /* report; code positive, 0 for a command that ended */
void exec_forget(struct ssh_exec *e);                         /* the connection has no use for it any more; frees it if it was reported */
void exec_free(struct ssh_exec *e);

/* pool.c */
void pool_kick(struct ssh_pool *p);

#endif
