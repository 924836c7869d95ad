/* How faithful one deployment is to another: of what two stages should have in common, what is the same, and what is not. Computed from the model
 * under its lock; it compares what runs, never what is merely desired. */
#ifndef REBARFS_FIDELITY_H
#define REBARFS_FIDELITY_H

#include "fs/engine/model.h"

enum fidelity_kind { FIDELITY_CONTENT, FIDELITY_PARAM, FIDELITY_IMAGE, FIDELITY_FACT, FIDELITY_KINDS };
/* What would close a gap. */
enum fidelity_cure { CURE_NONE, CURE_FINISH, CURE_DESCRIBE, CURE_CONTENT, CURE_PARAM, CURE_IMAGE, CURE_SIZE, CURE_PACKAGES, CURE_MACHINE };
struct fidelity_item {
	enum fidelity_kind kind;
	char *group, *role; /* role NULL: of the machines */
	char *name;         /* "content", "quorum", "image", "kernel" */
	bool same;
	char *here, *there; /* "5", "3 on 2 of 3 nodes, not active on 1" */
	enum fidelity_cure cure;
};
struct fidelity {
	const struct deployment *here, *there;
	struct fidelity_item *items; /* by group, machines before roles */
	size_t n_items, cap_items;
	size_t compared[FIDELITY_KINDS], same[FIDELITY_KINDS];
	int percent; /* of all items, rounded down: 100 only when there is no gap. 0 when there is nothing to compare */
};
void fidelity_make(const struct model *m, const struct deployment *here, const struct deployment *there, struct fidelity *ret);
void fidelity_release(struct fidelity *f);
void fidelity_text(const struct fidelity *f, struct buf *out);
void fidelity_json(const struct fidelity *f, struct buf *out);

#endif
