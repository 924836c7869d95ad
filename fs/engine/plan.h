/* The plan of a deployment: desired in force - observed. Computed from the model under its lock, cheap enough for every read (10,000 node roles in
 * milliseconds). */
#ifndef REBARFS_PLAN_H
#define REBARFS_PLAN_H

#include "fs/engine/model.h"

enum plan_op { PLAN_CREATE = '+', PLAN_CHANGE = '~', PLAN_REBUILD = '!', PLAN_RELEASE = '-', PLAN_DROP = 'x' };
struct plan_line {
	enum plan_op op;
	int64_t node_id, node_role_id; /* node_role_id 0: the line is about the node */
	char *object;                  /* "node etcd-db-4", "run  etcd on etcd-db-1" */
	char *detail;                  /* "container debian-12, 1 cpu, 512M"; "quorum 3 -> 5"; "known after base on etcd-db-4" */
	bool confirm;                  /* approved only by apply ID */
	bool approved;
	size_t order; /* as found: by group, number, role */
	char *target; /* what is approved with it: spec or digest, hex; NULL: known after */
};
struct plan {
	char id[9];              /* hash of the lines not yet approved: 8 hex digits; "-" when there is none */
	struct plan_line *lines; /* creations, runs, rebuilds, releases */
	size_t n_lines, cap_lines;
	char *gated;       /* what lies in the repo and is not in the plan because it is gated: a sentence; NULL: nothing */
	char *uncommitted; /* the same because it is not committed */
	char *git;         /* the same because git is in the middle of something */
	size_t n_create, n_run, n_rebuild, n_drop, n_release, n_confirm;
};
void plan_make(const struct model *m, const struct deployment *d, struct plan *ret);
void plan_release(struct plan *p);
void plan_text(const struct plan *p, struct buf *out);
void plan_json(const struct plan *p, const struct deployment *d, struct buf *out);

#endif
