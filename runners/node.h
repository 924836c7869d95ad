/* What rebarfs keeps on a node under /var/lib/rebar, and the POSIX shell (dash, busybox) that works on it:
 *
 *   owner                  one line of JSON: whose node this is
 *   content/HASH/          a role's content, shipped once
 *   once/ROLE              of a role that runs once only: OWNER NUMBER of the run that began last, written before it did
 *   secrets/OWNER/ROLE/KEY secret outputs of the last run that succeeded
 *   runs/OWNER/NUMBER/     one run: run (the supervisor), pid, begin, inputs.json, log, outputs/, status, alive (a pipe that the supervisor holds
 * open while it lives: who reads it learns of its end at once and without polling), work/ (the copy of the content it runs in),
 *   report.json (what the tool says of its resources), tool/ (files of ours for the tool)
 *   With secrets: private (names a directory in memory, which holds env, inputs.json, report.json, tool/ and the log; nothing of it stays when the
 * run is over)
 */
#ifndef REBARFS_RUNNERS_NODE_H
#define REBARFS_RUNNERS_NODE_H

#include "fs/base/buf.h"
#include "runners/ssh/pool.h"

/* Appends s quoted for a shell: 'it'\''s'. */
void sh_quote(struct buf *out, const char *s);
/* The command line that runs a script under /bin/sh as root, with args (NULL-terminated) as $1...; for another user than root through sudo -n. */
char *node_command(const char *user, const char *script, const char *const *args);

/* A script of this module at work on a node. Embedded in its owner. What the login shell's start-up files print is cut off; what the script prints
 * reaches on_data. done: res as from ssh_exec_start; begun tells whether the script ran at all. */
struct node_call {
	struct ssh_exec *exec;
	struct buf head;
	bool begun;
	ssize_t (*read_input)(void *arg, char *data, size_t len);
	void (*on_data)(void *arg, const char *data, size_t len);
	void (*done)(void *arg, const struct ssh_result *res, bool begun);
	void *arg;
};
struct node_call_options {
	const char *input;
	size_t input_len;
	ssize_t (*read_input)(void *arg, char *data, size_t len);
	int64_t connect_ms, timeout_ms;
};
void node_call_start(struct node_call *c, struct ssh_pool *pool, const struct target *t, const char *script, const char *const *args,
        const struct node_call_options *opt);
void node_call_cancel(struct node_call *c); /* no callback any more */

/* The scripts. Arguments of all: OWNER MOUNTS NUMBER, then: */
extern const char node_start[]; /* HASH SIZE ATTACH OFFSET SECRET; stdin: the supervisor. SECRET, if not empty: "RUN ENV", so many bytes of stdin are
                                 * the supervisor and the file 'env', the rest is inputs.json. Prints one word and a newline - "started AGE", "found
                                 * AGE" (age in 1/100 s), "content" (ship it first), "absent" (ATTACH is 1), "foreign OWNER", "newer MOUNTS" - and
                                 * after started and found the log from OFFSET on until the run ends */
extern const char node_ship[];  /* HASH; stdin: tar.gz. Prints "shipped" or "foreign..." */
extern const char node_stop[];  /* REASON. Ends it on the node: SIGTERM, 5 s, SIGKILL. Prints "stopped" or "foreign..." */
extern const char node_prepare[]; /* ROLE KNOWN. Makes the run's directory with outputs/. Prints "ready", "marked..." or "foreign..." */
extern const char node_collect[]; /* OFFSET (-1: outputs only) [ROLE KEY...: outputs that are kept there as secrets]. For struct collect */
extern const char node_secret[];  /* ROLE KEY. Prints "have", a newline and the value, "none" or "foreign..." */

extern const char node_reboot[]; /* Prints "reboots", "cannot" or "foreign..."; what it leaves in /run is gone when it has */
extern const char node_clean[];  /* removes what a run with secrets left. Prints "clean" or "foreign..." */

extern const char node_supervisor_tools[]; /* the functions that the supervisor needs, too: alive, hundredths, prune */

#define NODE_NO_LOG (-2) /* OFFSET: none of the log is wanted */

/* Reads what node_collect prints. */
struct collect {
	struct buf head;
	bool head_ended;
	char state[16];  /* done running starting gone absent outputs; "" while not known */
	char *refusal;   /* "foreign OWNER", "newer MOUNTS" instead of all that; NULL */
	char reason[16]; /* "cancelled", "timeout"; "": ended by itself */
	int exit_status; /* -1: none */
	int64_t took_ms, age_ms;
	size_t failed_len, report_len, log_len;
	struct buf failed; /* the command at which a bash script stopped */
	struct buf report; /* what the tool wrote of its resources, as it is */
	bool is_private;   /* node_clean is to be called when all is read */
	char *complaint;   /* what is wrong with the outputs; NULL */
	struct collect_output {
		char *name;
		size_t len;
		struct buf value;
	} * outputs;
	size_t n_outputs, cap_outputs, at;
	bool complete;
	void (*on_log)(void *arg, const char *data, size_t len);
	void *arg;
};
void collect_reset(struct collect *c);
void collect_add(struct collect *c, const char *data, size_t len);
/* KEY -> string. NULL and the sentence in *ret_complaint (caller frees) if an output breaks the rules. New reference. */
json_t *collect_outputs(const struct collect *c, char **ret_complaint);
#define OUTPUT_MAX 65536

/* Whether an answer is one of the refusals: then the sentence (caller frees), else NULL. */
char *node_refusal(const char *node, const char *answer);
/* The argument KNOWN: whose marks are no surprise. asked: the node was asked before under this number, so that its own may be there. Caller frees. */
char *node_known(const struct run_item *item, bool asked);
/* Whether it says that a once role has begun there, in a run that is not known; as node_refusal. owner: our own id. */
char *node_marked(const char *node, const char *owner, const char *answer);
/* The last line of text that says something, at most 300 bytes, control characters made blanks. */
void last_line(const char *text, size_t len, struct buf *out);
/* The four arguments of every node_collect, and what of the run's outputs is to stay there. Caller frees the array. */
const char **node_collect_args(const char *const args[4], const struct run_item *item);
/* Transient errors of the pool are worth another try. */
bool node_worth_retry(int rc);

#endif
