/* The ansible runner: one ansible-playbook on the control host for a batch of nodes, in a session of its own that outlives the daemon.
 *
 * A batch lives in RUN_DIR/batch of its first item; the other items have a link to it there:
 *
 *   run             the shell script that runs ansible-playbook and notes pid and status
 *   inventory.json  the batch's nodes, with each one's parameters and inputs as host variables
 *   main.yml        imports the content's playbook, or applies the content as a role; then a last play of ours
 *   content         link to the content
 *   roles/NAME      link to the content
 *   events          what our callback plug-in writes, one JSON object a line
 *   output          what ansible-playbook prints besides: syntax errors
 *   pid  status
 *   private         with secrets: link to a directory in memory, where inventory.json, events, output and ansible's own temporary files are; it is
 *                   removed when the batch is over
 */
#ifndef REBARFS_RUNNERS_ANSIBLE_H
#define REBARFS_RUNNERS_ANSIBLE_H

#include "fs/base/buf.h"
#include "runners/node.h"
#include "runners/runner.h"

extern const struct runner_ops ansible_runner;
extern const struct key_row ansible_keys[];

/* ---- ansible_events.c: what the callback says about one host ---- */

struct host_events {
	const char *name;
	char *task;         /* the task whose heading was written last */
	char *changed_task; /* the first that changed something */
	bool ran;           /* some task of the content ran there */
	bool has_stats;
	long long failures, unreachable, changes;
	char *failed_task, *failed_text;
	json_t *resources; /* array, for run_report */
	json_t *custom;    /* set_stats with per_host: yes; NULL: none */
};
struct batch_events {
	struct host_events *hosts;
	size_t n;
	char *content_dir; /* what paths of files begin with; NULL: not known */
	struct buf line;   /* not ended yet */
	bool ended;        /* the end marker came */
	bool reached_end;  /* ... and no failure stopped the playbook before */
	bool shared_stats; /* set_stats without per_host: nobody's */
	/* text for the log of host i */
	void (*on_text)(void *arg, size_t i, const char *text, size_t len);
	void *arg;
};
void batch_events_add(struct batch_events *e, const char *data, size_t len);
void batch_events_release(struct batch_events *e);

/* ---- ansible_files.c: what ansible-playbook reads ---- */

struct ansible_host {
	struct run_item *item;
	const char *host_key;
};
/* Writes everything into dir (exists, empty). files: where what may hold secrets is to lie, or dir. short_dir: a path without blanks, short enough
 * for sockets. */
int ansible_write_batch(const char *dir, const char *files, const char *short_dir, const char *state_dir, const char *owner,
        const struct ansible_host *hosts, size_t n, struct err **err);
json_t *ansible_inventory(const char *owner, const struct ansible_host *hosts, size_t n); /* new reference */
int ansible_write_callback(const char *state_dir, struct err **err);
void ansible_variable_name(struct buf *out, const char *param); /* "max-size" -> "max_size" */

#endif
