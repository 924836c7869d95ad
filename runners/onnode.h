/* What runs on the node itself, whichever tool it is: content shipped once per node and hash, a start that happens once (mkdir), a supervisor that
 * outlives the connection and the daemon, the log as it grows, cancel, timeout, outputs, secrets in memory only. A tool says what to put beside the
 * content, what to start, and how to judge the end; runners/script.c is the smallest, runners/puppet.c one with files and a report of its own.
 *
 * All of it on the loop's thread. */
#ifndef REBARFS_RUNNERS_ONNODE_H
#define REBARFS_RUNNERS_ONNODE_H

#include "fs/base/buf.h"
#include "fs/base/hash.h"
#include "runners/runner.h"

/* How a run ended there. Everything is borrowed. */
struct onnode_end {
	const struct run_item *item;
	int exit_status;
	const char *failed; /* the command at which a bash script stopped; "" */
	const char *tail;   /* the log's last line; "" */
	json_t *report;     /* what the tool wrote into $REBAR_REPORT; NULL: nothing, or not JSON */
};
struct onnode_verdict {
	enum run_result result; /* RUN_OK or RUN_FAILED; as the exit status says before judge */
	bool drifted;           /* of a check */
	struct buf why;         /* a sentence, unless it succeeded; of what drifted, what first */
	json_t *resources;      /* array, for report_add */
};

struct onnode_tool {
	const char *name;
	const char *(*no_check)(const struct run_item *item); /* why a dry run is not possible, after "role NAME "; NULL: it is. May be NULL */
	/* What is shipped in place of the role's own content: a directory or file, "": nothing (caller frees), and a hash that stands for it. May be
	 * NULL. */
	char *(*content)(const struct run_item *item, struct hash *ret_hash);
	/* The shell script that supervises one run on the node; most are onnode_supervisor with a command line. */
	void (*supervisor)(struct buf *out, const struct run_item *item);
	/* Only with secrets: a shell script that the supervisor finds in memory as "$S/env", for all that must not lie on a disk. */
	void (*private)(struct buf *out, const struct run_item *item);
	void (*judge)(const struct onnode_end *end, struct onnode_verdict *v);
};

int onnode_open(const struct runner_host *host, const struct onnode_tool *tool, struct runner **ret, struct err **err);
void onnode_close(struct runner *r);
void onnode_run(struct runner *r, struct run_item *const *items, size_t n);
void onnode_cancel(struct runner *r, struct run_item *item);

/* ---- supervisor.c ---- */

/* The first and last part of every supervisor. Between them: $C is the content, $D the run's directory, $S where what may be secret lies ($D or in
 * memory; inputs.json is there); rc is to be set. */
void supervisor_begin(struct buf *out, const struct run_item *item);
void supervisor_end(struct buf *out, const struct run_item *item);
void supervisor_inputs(struct buf *out, const struct run_item *item); /* inputs.json */
/* A whole supervisor: 'files' (shell text; with secrets it is the tool's 'private' instead) is done in the empty directory $S/tool, then 'command'
 * (shell text) there with $C, $REBAR_INPUTS, $REBAR_OUTPUTS, $REBAR_REPORT, $REBAR_RUN, $REBAR_NODE and $REBAR_ROLE. $S/tool is removed at the end.
 */
void onnode_supervisor(struct buf *out, const struct run_item *item, const char *files, const char *command);
/* Shell text that writes a file (a path below the current directory, without quotes) of text that has no line REBAR_END. */
void supervisor_file(struct buf *out, const char *path, const char *text);

/* ---- report.c: the results of single resources ---- */

#define REPORT_RESOURCES_MAX 2000
/* status: changed, unchanged, failed, skipped. file, message may be NULL, line 0: not known. What is too long is cut. */
void report_add(json_t *resources, const char *name, const char *status, const char *file, int64_t line, const char *message);
/* The document of a run; new reference. */
json_t *run_report(const char *tool, const struct run_item *item, const json_t *resources);
/* Of what a tool wrote itself: {"resources": [{"name", "status", "file", "line", "message"}]}, checked and cut. strip: what paths begin with on the
 * node and nobody wants to read, e.g. the content's directory; NULL. */
void report_take(json_t *resources, const json_t *report, const char *strip);
/* The first resource with this status as a sentence: "NAME (FILE:LINE): MESSAGE"; false: there is none. */
bool report_tell(const json_t *resources, const char *status, struct buf *out);
/* What a tool's run came to by its own report: as for report_take, and {"status": "failed" or another word, "errors": [text]}. Without one it failed,
 * whatever the exit status says. */
void report_judge(const char *tool, const struct onnode_end *end, struct onnode_verdict *v);

#endif
