/* Deployments while they are put together: shared by deploy.c, like.c and places.c. */
#ifndef REBARFS_DESIRED_DEPLOY_H
#define REBARFS_DESIRED_DEPLOY_H

#include "fs/desired/internal.h"

/* Settings in force for a deployment. Strings are the documents'. */
struct effective_item {
	const char *section, *key, *value;
	int line;
	const struct doc *doc; /* that says it */
};
struct effective_heading {
	const char *name;
	int line;
	const struct doc *doc;
};
struct effective {
	struct effective_item *items;
	size_t n, cap;
	struct effective_heading *headings; /* each once */
	size_t n_headings, cap_headings;
	struct index *by_key, *by_heading;
};
void effective_make(struct effective *e, const struct effective *parent, const struct doc *child);
const struct effective_item *effective_get(const struct effective *e, const char *section, const char *key);
void effective_release(struct effective *e);

struct work { /* one deployment */
	struct doc *doc;
	struct def_deployment *def;
	struct work *parent;
	bool circular, complete;
	struct effective effective;
	struct place { /* parallel to def->groups: where its nodes are declared */
		const struct doc *doc;
		int line;
	} * places;
};
struct deploy {
	struct parse *p;
	struct work *works; /* parallel to the deployments */
	size_t n;
};

/* Finds everybody's parent, reports circles, makes the effective settings. */
void like_resolve(struct deploy *all);
/* Parameters set in a deployment, against the roles it uses. */
void values_link(struct deploy *all, struct work *w);
/* Nodes claimed twice. */
void places_check(struct deploy *all);

#endif
