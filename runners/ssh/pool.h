/* The pool of ssh connections: one per node, opened when first needed, kept, shared by everything that runs there at the same time. What callers
 * see is one function: run a command on a target. All on the loop's thread; done comes later from the loop, exactly once, never from inside a call.
 *
 * Nothing is tried twice here: a connection that fails ends all its commands with the same error, and the next command makes a new one. Who wants
 * to go on after a dropped connection asks again (and decides what asking again means). */
#ifndef REBARFS_RUNNERS_SSH_POOL_H
#define REBARFS_RUNNERS_SSH_POOL_H

#include "runners/runner.h"
#include <sys/types.h>

struct ssh_exec;

struct ssh_result {
	/* 0: the command ran and ended. -EKEYREJECTED: other host key than target->host_key. -EACCES: the node refuses our key. -EINVAL: the key file
	 * cannot be used, or the node offers no kind of host key we know. -ETIMEDOUT, -ECONNREFUSED, -ECONNRESET, -EHOSTUNREACH...: worth another
	 * try. */
	int rc;
	const struct err *err; /* NULL when rc is 0 */
	bool sent;             /* the command went to the node: it may have run there even if rc is not 0 */
	int exit_status;       /* -1 if ended by a signal, or rc is not 0 */
	const char *tail;      /* the last 4 KiB of stderr; never NULL */
	const char *host_key;  /* what the node showed: "ssh-ed25519 AAAA..."; NULL if it never came to that */
};

struct ssh_exec_spec {
	const struct target *target; /* copied where needed */
	const char *command;         /* for the user's login shell; copied */
	const char *input;           /* bytes for stdin; copied. NULL and no read_input: end of file at once */
	size_t input_len;
	ssize_t (*read_input)(void *arg, char *data, size_t len);   /* instead of input: >0 bytes, 0 end, -errno fails the command */
	void (*on_stdout)(void *arg, const char *data, size_t len); /* NULL: dropped. May cancel its own command, nothing else of the pool */
	int64_t connect_ms;                                         /* to have a connection that let us in; 0: 30 s */
	int64_t timeout_ms;                                         /* from then on, for the command; 0: none */
	void (*done)(void *arg, const struct ssh_result *res);
	void *arg;
};
struct ssh_exec *ssh_exec_start(struct ssh_pool *pool, const struct ssh_exec_spec *spec);
/* No callback comes any more. The command is not stopped on the node, only no longer listened to. */
void ssh_exec_cancel(struct ssh_exec *e);

/* The command went to the node (or is just going). */
bool ssh_exec_sent(const struct ssh_exec *e);

/* "SHA256:..." of "TYPE BASE64 ...", as ssh-keygen -l prints it; "(unreadable key)" if that is no key. */
void ssh_fingerprint(const char *host_key, struct buf *out);
/* The same key: type and base64 equal, comments apart. */
bool ssh_same_key(const char *a, const char *b);
/* From the beginning of what a server sent: the kinds of host key it offers, comma-separated. False while that is not there. */
bool ssh_offered_host_keys(const void *data, size_t len, struct buf *out);

#endif
