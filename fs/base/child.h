/* Child processes on a libuv loop. Children get their own process group, /dev/null as stdin unless given bytes, and no descriptor of
 * ours but the three. All calls from the loop's thread; done comes later from the loop, exactly once, never from inside a call. */
#ifndef REBARFS_BASE_CHILD_H
#define REBARFS_BASE_CHILD_H

#include "fs/base/buf.h"
#include "fs/base/err.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

struct child;
struct child_result {
	int status; /* exit status; -1 if ended by a signal or never started */
	int signal; /* 0, or what ended it */
	bool timed_out, cancelled;
	const char *out; /* stdout, unless it went to a file or line callback; at most 1 MiB, the rest dropped */
	size_t out_len;
	const char *tail; /* the last 4 KiB of stderr (of stdout+stderr when both went to one file: empty) */
};
struct child_spec {
	const char *const *argv; /* argv[0] is looked up in PATH */
	const char *const *env;  /* "NAME=value" added to (overriding) our environment, LC_ALL=C.UTF-8 unless said; NULL */
	bool bare;               /* of our environment it gets PATH alone, beside env */
	bool as_user;            /* as uid and gid, without other groups: needs root */
	uid_t uid;
	gid_t gid;
	const char *cwd;   /* NULL: / */
	const char *input; /* bytes for stdin; NULL: /dev/null */
	size_t input_len;
	const char *output_path; /* append stdout and stderr to this file; NULL: stdout collected */
	void (*on_line)(void *arg, const char *line,
	        size_t len); /* each line of stdout as it comes, without its newline (over 16 MiB: in pieces); else NULL */
	bool secret;         /* what it prints on stdout is overwritten when it is no longer needed */
	bool nul_lines;      /* its lines end in NUL, as those of 'ls-tree -z' */
	int64_t timeout_ms;  /* SIGTERM to the group then, SIGKILL 5 s later, done when the whole group is gone; 0: none */
	void (*done)(void *arg, const struct child_result *res);
	void *arg;
};
/* -errno at once when it cannot be started (done is not called then). All of spec is copied. */
int child_start(uv_loop_t *loop, const struct child_spec *spec, struct child **ret, struct err **err);
/* The same, and waits for its end, on a loop of its own: for workers. done is called within. */
int child_run(const struct child_spec *spec, struct err **err);
/* SIGTERM (or sig) to the group, SIGKILL after 5 s; done still comes, when the whole group is gone. */
void child_cancel(struct child *c, int sig);
int child_pid(const struct child *c);
/* One sentence for a failed child: "'mmdebstrap' failed: exit 25: E: Unable to locate package foo" (last useful line of tail). */
void child_explain(struct buf *out, const char *name, const struct child_result *res);

#endif
