/* Roles and what they say of one another: references, cycles, order. */
#include "fs/base/mem.h"
#include "fs/desired/internal.h"
#include <errno.h>
#include <string.h>

static const struct def_role *role_of(const struct parse *p, const char *name)
{
	struct doc *doc = parse_doc(p, DOC_ROLE, name);
	return doc ? doc->def : NULL;
}

static size_t index_of(const struct parse *p, const struct def_role *r)
{
	return (size_t)(parse_doc(p, DOC_ROLE, r->name) - p->docs) - p->first[DOC_ROLE];
}

void role_needs(const struct def_role *r, struct strlist *ret)
{
	for (size_t i = 0; i < r->requires.n; i++)
		strlist_add(ret, r->requires.items[i]);
	for (size_t i = 0; i < r->after.n; i++)
		if (!strlist_has(ret, r->after.items[i]))
			strlist_add(ret, r->after.items[i]);
	for (size_t i = 0; i < r->n_wants; i++)
		if (r->wants[i].kind == WANT_OUTPUT && !strlist_has(ret, r->wants[i].role))
			strlist_add(ret, r->wants[i].role);
}

/* ---- references ---- */

static void missing_role(struct parse *p, struct doc *doc, int line, const char *key, const char *name)
{
	char hint[160];
	mistake(p, doc, doc, line, ENOENT, "'%s' names role '%s', which is not there%s", key, name, suggest_doc(p, DOC_ROLE, name, hint));
}

static bool is_provided(const struct parse *p, const char *name)
{
	const struct desired *d = &p->all->d;
	for (size_t i = 0; i < d->n_roles; i++)
		if (strlist_has(&d->roles[i]->provides, name))
			return true;
	return false;
}

/* A kept tree holds only what its deployment uses: 'after' and 'conflicts' may name more. */
static void link_names(struct parse *p, struct doc *doc, const struct def_role *r, const struct all_role *priv)
{
	for (size_t i = 0; i < r->requires.n; i++)
		if (!role_of(p, r->requires.items[i]))
			missing_role(p, doc, priv->requires_line, "requires", r->requires.items[i]);
	if (p->t->kept)
		return;
	for (size_t i = 0; i < r->after.n; i++)
		if (!role_of(p, r->after.items[i]))
			missing_role(p, doc, priv->after_line, "after", r->after.items[i]);
	for (size_t i = 0; i < r->conflicts.n; i++)
		if (!role_of(p, r->conflicts.items[i]) && !is_provided(p, r->conflicts.items[i]))
			missing_role(p, doc, priv->conflicts_line, "conflicts", r->conflicts.items[i]);
}

static void link_wants(struct parse *p, struct doc *doc, const struct def_role *r, const struct all_role *priv)
{
	for (size_t i = 0; i < r->n_wants; i++) {
		const struct def_want *w = &r->wants[i];
		if (w->kind != WANT_OUTPUT || !strcmp(w->role, r->name))
			continue;
		struct doc *maker_doc = parse_doc(p, DOC_ROLE, w->role);
		if (!maker_doc) {
			missing_role(p, doc, priv->wants_line, "wants", w->role);
			continue;
		}
		const struct def_role *maker = maker_doc->def;
		_cleanup_free_ const char **names = xcalloc(maker->n_outputs + 1, sizeof *names);
		bool found = !maker->n_outputs || maker_doc->td->busy;
		for (size_t j = 0; j < maker->n_outputs; j++) {
			names[j] = maker->outputs[j].name;
			found |= !strcmp(names[j], w->key);
		}
		char hint[160];
		if (!found)
			mistake(p, doc, doc, priv->wants_line, ENOENT, "'wants' names output '%s', which role '%s' does not declare%s", w->key,
			        w->role, did_you_mean(p, hint, w->key, names, maker->n_outputs));
	}
}

static void check_content(struct parse *p, struct doc *doc, struct def_role *r, const struct all_role *priv)
{
	const struct tree_content *c = tree_content_find(p->t, r->name);
	const struct schema_runner *runner = r->runner ? schema_runner_find(p->schema, r->runner) : NULL;
	struct err *err = NULL;
	if (!runner || !c || !strcmp(runner->name, "none"))
		return;
	if (c->trouble)
		mistake_at(p, doc, c->trouble_path, 0, c->code, "%s", c->trouble);
	else if (!doc->wrong && runner->check && runner->check(c->dir, &r->settings, &err) < 0)
		mistake(p, doc, doc, priv->runner_line, err ? err->code : EINVAL, "%s", err_msg(err));
	err_free(err);
}

/* ---- cycles ---- */

enum color { WHITE, GREY, BLACK };
struct walk {
	struct parse *p;
	enum color *color; /* by index of the role */
	const struct def_role **path;
	size_t depth;
};

static const char *edge_key(const struct parse *p, const struct def_role *from, const char *to, int *ret_line)
{
	const struct all_role *priv = &p->all->roles[index_of(p, from)];
	if (strlist_has(&from->requires, to)) {
		*ret_line = priv->requires_line;
		return "requires";
	}
	if (strlist_has(&from->after, to)) {
		*ret_line = priv->after_line;
		return "after";
	}
	*ret_line = priv->wants_line;
	return "wants";
}

/* path[from..depth) is a circle: each of its roles is told, from its own point of view. */
static void report_cycle(struct walk *w, size_t from)
{
	size_t n = w->depth - from;
	for (size_t i = 0; i < n; i++) {
		const struct def_role *r = w->path[from + i], *next = w->path[from + (i + 1) % n];
		struct doc *doc = parse_doc(w->p, DOC_ROLE, r->name);
		_cleanup_buf_ struct buf text = {0};
		int line;
		for (size_t j = 0; j <= n; j++)
			buf_addf(&text, "%s%s", j ? " -> " : "", w->path[from + (i + j) % n]->name);
		const char *key = edge_key(w->p, r, next->name, &line);
		mistake(w->p, doc, doc, line, ELOOP, "'%s' makes a cycle: %s", key, buf_str(&text));
	}
}

static void visit(struct walk *w, const struct def_role *r)
{
	size_t i = index_of(w->p, r);
	_cleanup_strlist_ struct strlist needs = {0};
	w->color[i] = GREY;
	w->path[w->depth++] = r;
	role_needs(r, &needs);
	for (size_t j = 0; j < needs.n; j++) {
		const struct def_role *next = role_of(w->p, needs.items[j]);
		if (!next || (next == r && !strlist_has(&r->requires, r->name) && !strlist_has(&r->after, r->name)))
			continue; /* wanting its own output was said where it was read */
		enum color c = w->color[index_of(w->p, next)];
		size_t from = w->depth;
		if (c == WHITE)
			visit(w, next);
		while (c == GREY && from > 0)
			if (w->path[--from] == next)
				break;
		if (c == GREY)
			report_cycle(w, from);
	}
	w->depth--;
	w->color[i] = BLACK;
}

static void find_cycles(struct parse *p)
{
	struct desired *d = &p->all->d;
	struct walk w = {.p = p};
	w.color = xcalloc(d->n_roles + 1, sizeof *w.color);
	w.path = xcalloc(d->n_roles + 1, sizeof *w.path);
	for (size_t i = 0; i < d->n_roles; i++)
		if (w.color[i] == WHITE)
			visit(&w, d->roles[i]);
	free(w.color);
	free(w.path);
}

void roles_link(struct parse *p)
{
	struct desired *d = &p->all->d;
	for (size_t i = 0; i < d->n_roles; i++) {
		struct doc *doc = &p->docs[p->first[DOC_ROLE] + i];
		if (!doc->td->text)
			continue;
		link_names(p, doc, d->roles[i], &p->all->roles[i]);
		link_wants(p, doc, d->roles[i], &p->all->roles[i]);
		check_content(p, doc, d->roles[i], &p->all->roles[i]);
	}
	find_cycles(p);
}

/* ---- order ---- */

struct order {
	const struct parse *p;
	const struct def_role **list;
	size_t n;
	char *seen; /* by index of the role */
};

static void add_with_required(struct order *o, const struct def_role *r)
{
	char *seen = &o->seen[index_of(o->p, r)];
	if (*seen)
		return;
	*seen = 1;
	for (size_t i = 0; i < r->requires.n; i++) {
		const struct def_role *q = role_of(o->p, r->requires.items[i]);
		if (q)
			add_with_required(o, q);
	}
	o->list[o->n++] = r;
}

/* Is something that r needs in the list and not yet placed? */
static bool must_wait(const struct order *o, const struct def_role *r)
{
	bool waits = false;
	_cleanup_strlist_ struct strlist needs = {0};
	role_needs(r, &needs);
	for (size_t i = 0; i < needs.n; i++) {
		const struct def_role *q = role_of(o->p, needs.items[i]);
		waits |= q && q != r && o->seen[index_of(o->p, q)] == 1;
	}
	return waits;
}

size_t roles_order(const struct parse *p, const struct def_role *const *roles, size_t n, const struct def_role ***ret)
{
	size_t all = p->all->d.n_roles, placed = 0;
	struct order o = {.p = p, .list = xcalloc(all + 1, sizeof *o.list), .seen = xcalloc(all + 1, 1)};
	const struct def_role **out = xcalloc(all + 1, sizeof *out);
	for (size_t i = 0; i < n; i++)
		add_with_required(&o, roles[i]);
	while (placed < o.n) {
		size_t pick = o.n, first = o.n;
		for (size_t i = 0; i < o.n && pick == o.n; i++) {
			char seen = o.seen[index_of(p, o.list[i])];
			if (seen == 1 && first == o.n)
				first = i;
			if (seen == 1 && !must_wait(&o, o.list[i]))
				pick = i;
		}
		if (pick == o.n)
			pick = first; /* a cycle, reported elsewhere: any order will do */
		o.seen[index_of(p, o.list[pick])] = 2;
		out[placed++] = o.list[pick];
	}
	free(o.list);
	free(o.seen);
	*ret = out;
	return placed;
}
