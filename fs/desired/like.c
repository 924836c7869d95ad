/* Inheritance: the settings of a deployment with what `like` brings, each with the document that says it. */
#include "fs/base/mem.h"
#include "fs/desired/deploy.h"
#include <errno.h>
#include <string.h>

static void add_item(struct effective *e, const struct effective_item *item)
{
	GROW(e->items, e->n, e->cap);
	index_put_pair(&e->by_key, item->section, item->key, e->n);
	e->items[e->n++] = *item;
}

static void add_own(struct effective *e, const struct setting *s, const struct doc *doc)
{
	add_item(e, &(struct effective_item){s->section, s->key, s->value, s->line, doc});
}

static void add_heading(struct effective *e, const struct effective_heading *h)
{
	if (!index_put(&e->by_heading, h->name, e->n_headings))
		return;
	GROW(e->headings, e->n_headings, e->cap_headings);
	e->headings[e->n_headings++] = *h;
}

/* Where nodes of a group come from is said in one way: a child's own way displaces the one it would inherit. */
static bool is_displaced(const struct doc *child, const struct effective_item *item)
{
	static const char *const ways[] = {"count", "nodes"};
	if (strncmp(item->section, "nodes ", 6))
		return false;
	for (size_t i = 0; i < 2; i++)
		if (!strcmp(item->key, ways[i]))
			return doc_setting(child, item->section, ways[1 - i]) && !doc_setting(child, item->section, item->key);
	return false;
}

/* Said by a deployment for itself alone. Who may store there is: else who may write a document would let himself into all that are like it. */
static bool is_personal(const struct effective_item *item)
{
	static const char *const keys[] = {"like", "owner", "group"};
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		if (!strcmp(item->section, "deployment") && !strcmp(item->key, keys[i]))
			return true;
	return false;
}

static void inherit(struct effective *e, const struct effective *parent, const struct doc *child)
{
	for (size_t i = 0; i < parent->n; i++) {
		const struct effective_item *item = &parent->items[i];
		if (is_displaced(child, item) || is_personal(item))
			continue;
		const struct setting *own = doc_setting(child, item->section, item->key);
		if (own)
			add_own(e, own, child);
		else
			add_item(e, item);
	}
	for (size_t i = 0; i < parent->n_headings; i++)
		add_heading(e, &parent->headings[i]);
}

const struct effective_item *effective_get(const struct effective *e, const char *section, const char *key)
{
	size_t at;
	return index_find_pair(e->by_key, section, key, &at) ? &e->items[at] : NULL;
}

void effective_make(struct effective *e, const struct effective *parent, const struct doc *child)
{
	const struct settings *own = &child->ini.settings;
	if (parent)
		inherit(e, parent, child);
	for (size_t i = 0; i < own->n; i++) {
		const struct setting *s = &own->items[i];
		if (!parent || !effective_get(e, s->section, s->key))
			add_own(e, s, child);
	}
	for (size_t i = 0; i < child->ini.n_headings; i++)
		add_heading(e, &(struct effective_heading){child->ini.headings[i].name, child->ini.headings[i].line, child});
}

void effective_release(struct effective *e)
{
	free(e->items);
	free(e->headings);
	index_release(&e->by_key);
	index_release(&e->by_heading);
	*e = (struct effective){0};
}

/* ---- chains ---- */

static void cycle(struct deploy *all, struct work *w)
{
	_cleanup_buf_ struct buf text = {0};
	struct work *at = w;
	do {
		buf_addf(&text, "%s -> ", at->def->name);
		at = at->parent;
	} while (at != w);
	buf_adds(&text, w->def->name);
	mistake(all->p, w->doc, w->doc, doc_line(w->doc, "deployment", "like"), ELOOP, "'like' makes a cycle: %s", buf_str(&text));
	w->doc->malformed = true;
}

static void find_parent(struct deploy *all, struct work *w)
{
	const struct setting *like = doc_setting(w->doc, "deployment", "like");
	char hint[160];
	if (!like || !*like->value)
		return;
	struct doc *parent = parse_doc(all->p, DOC_DEPLOYMENT, like->value);
	if (parent) {
		w->parent = &all->works[(size_t)(parent - all->p->docs) - all->p->first[DOC_DEPLOYMENT]];
		return;
	}
	mistake(all->p, w->doc, w->doc, like->line, ENOENT, "'like' names deployment '%s', which is not there%s", like->value,
	        suggest_doc(all->p, DOC_DEPLOYMENT, like->value, hint));
	w->doc->malformed = true;
}

/* Is w on a circle? Chains that only lead into one are not. */
static bool on_cycle(const struct deploy *all, const struct work *w)
{
	const struct work *at = w->parent;
	for (size_t i = 0; at && at != w && i <= all->n; i++)
		at = at->parent;
	return at == w;
}

static void complete(struct work *w)
{
	if (w->complete)
		return;
	w->complete = true;
	if (w->parent)
		complete(w->parent);
	effective_make(&w->effective, w->parent ? &w->parent->effective : NULL, w->doc);
}

void like_resolve(struct deploy *all)
{
	for (size_t i = 0; i < all->n; i++)
		find_parent(all, &all->works[i]);
	for (size_t i = 0; i < all->n; i++) {
		all->works[i].circular = on_cycle(all, &all->works[i]);
		if (all->works[i].circular)
			cycle(all, &all->works[i]);
	}
	for (size_t i = 0; i < all->n; i++)
		if (all->works[i].circular)
			all->works[i].parent = NULL;
	for (size_t i = 0; i < all->n; i++) {
		complete(&all->works[i]);
		all->works[i].def->like = all->works[i].parent ? all->works[i].parent->def : NULL;
	}
}
