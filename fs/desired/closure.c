/* All that a deployment refers to. */
#include "fs/base/mem.h"
#include "fs/desired/internal.h"
#include <string.h>

static void add(struct closure *c, const struct tree_doc *doc)
{
	if (!doc)
		return;
	for (size_t i = 0; i < c->n; i++)
		if (c->docs[i] == doc)
			return;
	GROW(c->docs, c->n, c->cap);
	c->docs[c->n++] = doc;
}

void closure_make(const struct tree *t, const struct def_deployment *dep, struct closure *ret)
{
	const char *provider = settings_get(&dep->effective, "deployment", "provider");
	const struct def_deployment *d = dep;
	do
		add(ret, tree_doc_find(t, DOC_DEPLOYMENT, d->name));
	while ((d = d->like));
	for (size_t i = 0; i < dep->n_roles; i++)
		add(ret, tree_doc_find(t, DOC_ROLE, dep->roles[i]->name));
	if (provider)
		add(ret, tree_doc_find(t, DOC_PROVIDER, provider));
	for (size_t i = 0; i < dep->n_groups; i++)
		if (dep->groups[i].provider)
			add(ret, tree_doc_find(t, DOC_PROVIDER, dep->groups[i].provider->name));
	/* names of nodes are unique by now, and there may be many */
	for (size_t i = 0; i < dep->n_groups; i++)
		for (size_t j = 0; j < dep->groups[i].nodes.n; j++) {
			const struct tree_doc *doc = tree_doc_find(t, DOC_NODE, dep->groups[i].nodes.items[j]);
			if (!doc)
				continue;
			GROW(ret->docs, ret->n, ret->cap);
			ret->docs[ret->n++] = doc;
		}
}

void closure_release(struct closure *c)
{
	free(c->docs);
	*c = (struct closure){0};
}

static int by_address(const void *a, const void *b)
{
	/* documents of a tree stand in one array sorted by kind and name */
	const struct tree_doc *x = *(const struct tree_doc *const *)a, *y = *(const struct tree_doc *const *)b;
	return x < y ? -1 : x > y;
}

void closure_hash(const struct tree *t, const struct def_deployment *dep, struct hash *ret)
{
	struct closure c = {0};
	struct hasher *h = hasher_new();
	closure_make(t, dep, &c);
	if (c.n)
		qsort(c.docs, c.n, sizeof *c.docs, by_address);
	hasher_add_str(h, "closure 1");
	hasher_add_str(h, dep->name);
	for (size_t i = 0; i < c.n; i++) {
		hasher_add_str(h, c.docs[i]->path);
		hasher_add(h, c.docs[i]->hash.b, sizeof c.docs[i]->hash.b);
	}
	for (size_t i = 0; i < dep->n_roles; i++) {
		hasher_add_str(h, dep->roles[i]->name);
		hasher_add(h, dep->roles[i]->content.b, sizeof dep->roles[i]->content.b);
	}
	hasher_end(h, ret);
	hasher_free(h);
	closure_release(&c);
}

const char *closure_uncommitted(const struct tree *t, const struct def_deployment *dep)
{
	struct closure c = {0};
	const char *path = NULL;
	closure_make(t, dep, &c);
	for (size_t i = 0; i < c.n && !path; i++)
		path = c.docs[i]->uncommitted ? c.docs[i]->path : NULL;
	for (size_t i = 0; i < dep->n_roles && !path; i++) {
		const struct tree_content *content = tree_content_find(t, dep->roles[i]->name);
		path = content && !hash_is_zero(&dep->roles[i]->content) ? content->uncommitted : NULL;
	}
	closure_release(&c);
	return path;
}

bool def_refers_to(const struct def_deployment *dep, const char *path)
{
	enum doc_kind kind;
	_cleanup_free_ char *name = NULL;
	bool found = false;
	if (!doc_path_parse(path, &kind, &name))
		return false;
	const struct def_deployment *d = dep;
	do
		found |= kind == DOC_DEPLOYMENT && !strcmp(d->name, name);
	while ((d = d->like));
	for (size_t i = 0; i < dep->n_roles && kind == DOC_ROLE; i++)
		found |= !strcmp(dep->roles[i]->name, name);
	for (size_t i = 0; i < dep->n_groups; i++) {
		const struct def_group *g = &dep->groups[i];
		found |= kind == DOC_PROVIDER && g->provider && !strcmp(g->provider->name, name);
		found |= kind == DOC_NODE && strlist_has(&g->nodes, name);
	}
	return found;
}
