/* One node, one place: the names that groups claim, by count or by name, over all deployments. */
#include "fs/base/mem.h"
#include "fs/desired/deploy.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>

struct claim {
	struct work *work;
	size_t group;
	UT_hash_handle hh;
	char name[];
};

static void tell(struct deploy *all, struct work *w, size_t group, const char *name, const struct work *other, size_t other_group)
{
	const struct place *here = &w->places[group], *there = &other->places[other_group];
	mistake(all->p, w->doc, here->doc, here->line, EINVAL,
	        "node '%s' is in two places: in group '%s' of deployment '%s', and in group '%s' of deployment '%s' (%s:%d)", name,
	        w->def->groups[group].name, w->def->name, other->def->groups[other_group].name, other->def->name, there->doc->td->path, there->line);
}

/* false: somebody else has it, and both were told. */
static bool claim(struct deploy *all, struct claim **claims, struct work *w, size_t group, const char *name)
{
	struct claim *c;
	HASH_FIND_STR(*claims, name, c);
	if (c && c->work == w && c->group == group)
		return true; /* named twice in one group: said there */
	if (c) {
		tell(all, w, group, name, c->work, c->group);
		tell(all, c->work, c->group, name, w, group);
		return false;
	}
	size_t len = strlen(name);
	c = xcalloc(1, sizeof *c + len + 1);
	memcpy(c->name, name, len);
	c->work = w;
	c->group = group;
	HASH_ADD_KEYPTR(hh, *claims, c->name, len, c);
	return true;
}

/* One clash tells enough about two groups: the rest of the names would repeat it. */
static void claim_counted(struct deploy *all, struct claim **claims, struct work *w, size_t group)
{
	const struct def_group *g = &w->def->groups[group];
	const struct place *here = &w->places[group];
	char name[160];
	for (int64_t i = 1; i <= g->count; i++) {
		if (snprintf(name, sizeof name, "%.63s-%.63s-%lld", w->def->name, g->name, (long long)i) > 63)
			return; /* said at its line */
		const struct doc *doc = parse_doc(all->p, DOC_NODE, name);
		if (doc) {
			mistake(all->p, w->doc, here->doc, here->line, EINVAL,
			        "node '%s' is in two places: made by 'count' for group '%s', and declared in %s", name, g->name, doc->td->path);
			return;
		}
		if (!claim(all, claims, w, group, name))
			return;
	}
}

void places_check(struct deploy *all)
{
	struct claim *claims = NULL, *c, *tmp;
	for (size_t i = 0; i < all->n; i++) {
		struct work *w = &all->works[i];
		for (size_t j = 0; j < w->def->n_groups; j++) {
			const struct def_group *g = &w->def->groups[j];
			bool clear = true;
			for (size_t k = 0; clear && k < g->nodes.n; k++)
				clear = claim(all, &claims, w, j, g->nodes.items[k]);
			if (g->count > 0)
				claim_counted(all, &claims, w, j);
		}
	}
	HASH_ITER (hh, claims, c, tmp) {
		HASH_DEL(claims, c);
		free(c);
	}
}
