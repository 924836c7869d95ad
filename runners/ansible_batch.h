/* A batch at work: what ansible.c, which starts and follows it, and ansible_end.c, which judges it, share. All of it on the loop's thread. */
#ifndef REBARFS_RUNNERS_ANSIBLE_BATCH_H
#define REBARFS_RUNNERS_ANSIBLE_BATCH_H

#include "runners/ansible.h"
#include "runners/runlog.h"

enum phase { PHASE_SORT, PHASE_PREPARE, PHASE_FOLLOW, PHASE_COLLECT };

struct host {
	struct batch *batch;
	struct run_item *item; /* NULL: done was called */
	size_t i;              /* in batch->events.hosts */
	struct node_call call;
	struct buf answer;
	struct collect collect;
	char *host_key;
	bool settled; /* of the phase: prepared, or collected */
	bool asked, marked;
	bool cancelled;
	char *lost; /* Ansible could not reach it: a sentence; NULL: it could */
	int64_t give_up, backoff_until, backoff_ms;
	struct run_log log;
	int64_t log_have, log_pos; /* bytes that the file had when we came; bytes that the events gave until now */
};

/* Outlives the batch when the runner is closed. */
struct starter {
	struct batch *batch;
};

struct batch {
	struct runner *r;
	struct batch *prev, *next;
	enum phase phase;
	char *dir; /* of the batch; NULL while sorting */
	struct host *hosts;
	size_t n;
	struct batch_events events;
	int events_fd;
	int ticks;
	int64_t end_by, kill_by, starting_until;
	bool hide;               /* nobody knows what is secret in it */
	const char *stopping;    /* "cancelled", "timeout" */
	int64_t took_ms;         /* of ansible-playbook */
	struct starter *starter; /* while the child that starts ansible-playbook lives */
	bool start_failed;
	uv_timer_t timer;
};

struct runner {
	const struct runner_host *host;
	struct batch *batches;
};

/* ---- ansible.c ---- */

void batch_tick_soon(struct batch *b);
void batch_log(void *batch, size_t i, const char *text, size_t len); /* into the log of host i */
char *ansible_short_base(const struct runner_host *host);            /* where a batch has its short directory; caller frees */

/* ---- ansible_end.c ---- */

/* The host is done: its item is given back. Nothing, if it was already. */
void host_finish(struct host *h, enum run_result result, const char *why, json_t *outputs);
void host_finish_why(struct host *h, enum run_result result, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool host_retry_later(struct host *h, int rc); /* after a call that failed; false: its time is over, or it is no use */
/* Starts a script of node.h on it. more: two arguments behind owner, mounts and number; the first NULL: none. */
void host_script(struct host *h, const char *script, const char *const *more, void (*on_data)(void *, const char *, size_t),
        void (*done)(void *, const struct ssh_result *, bool));
void batch_ended(struct batch *b, bool has_status); /* ansible-playbook is gone */
void batch_collect(struct batch *b);                /* reads outputs where they are due */

#endif
