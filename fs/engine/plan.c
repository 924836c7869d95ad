/* The plan: a line for each difference between what is desired and what is there, with what it is because of. */
#include "fs/base/secret.h"
#include "fs/engine/internal.h"
#include <string.h>

static struct plan_line *line_add(struct plan *p, enum plan_op op, const struct node *n, const struct node_role *nr)
{
	GROW(p->lines, p->n_lines, p->cap_lines);
	struct plan_line *l = &p->lines[p->n_lines++];
	*l = (struct plan_line){.op = op, .node_id = n->row.id, .node_role_id = nr ? nr->row.id : 0};
	l->object = nr ? xasprintf("%s %s on %s", op == PLAN_DROP ? "drop" : "run ", nr->row.role, n->row.name) : xasprintf("node %s", n->row.name);
	return l;
}

/* ---- nodes ---- */

static char *machine_text(const struct node *n)
{
	struct buf b = {0};
	const char *image = node_image(n);
	buf_adds(&b, n->provider && n->provider->ops ? n->provider->ops->type : "unknown provider");
	if (image)
		buf_addf(&b, " %s", image);
	if (n->group && n->group->cpus > 0)
		buf_addf(&b, ", %g cpu", n->group->cpus);
	if (n->group && n->group->memory_bytes > 0) {
		buf_adds(&b, ", ");
		format_size(&b, n->group->memory_bytes);
	}
	/* of a physical machine a disk is overwritten: which one, and of which machine */
	const struct def_node *def = n->declared ? node_definition(n) : NULL;
	const struct key_row *row = def && n->provider && n->provider->ops ? n->provider->ops->node_keys : NULL;
	for (; row && row->section; row++) {
		const char *value = row->plan ? settings_get(&def->settings, row->section, row->key) : NULL;
		if (value)
			buf_addf(&b, ", %s %s", row->plan, value);
		else if (row->plan_unset)
			buf_addf(&b, ", %s", row->plan_unset);
	}
	return buf_detach(&b, NULL);
}

static void plan_node(struct plan *p, const struct deployment *d, const struct node *n)
{
	struct plan_line *l;
	if (d->row.destroying || !n->wanted) {
		if (n->row.phase == NODE_PLANNED)
			return;
		l = line_add(p, PLAN_RELEASE, n, NULL);
		l->confirm = !d->row.destroying;
		l->detail = d->row.destroying                                                ? xstrdup("destroy was told")
		            : n->row.group && d->def && def_group_find(d->def, n->row.group) ? xasprintf("surplus of group %s", n->row.group)
		                                                                             : xstrdup("no longer described");
		if (n->row.is_protected) {
			char *more = xasprintf("%s; protected: 'unprotect' it first", l->detail);
			free(l->detail);
			l->detail = more;
		}
		l->target = xstrdup("release");
		l->approved = node_step_approved(n);
		p->n_release++;
		return;
	}
	if (d->orphaned) /* nothing describes it: what it lacks is not wanted */
		return;
	if (n->row.phase == NODE_PLANNED || n->row.phase == NODE_CREATING) {
		l = line_add(p, PLAN_CREATE, n, NULL);
		l->detail = machine_text(n);
		l->target = xstrdup(n->target_now ? n->target_now : "");
		l->approved = !n->unapproved;
		p->n_create++;
	} else if (node_needs_rebuild(n)) {
		l = line_add(p, PLAN_REBUILD, n, NULL);
		const char *image = node_image(n);
		_cleanup_buf_ struct buf changed = {0};
		l->confirm = true;
		if (n->gone)
			l->detail = xstrdup("gone: its provider no longer lists it");
		else if (n->row.wish_rebuild)
			l->detail = xstrdup("rebuild was told: its disk is lost");
		else if (n->row.image && image && strcmp(n->row.image, image))
			l->detail = xasprintf("image %s -> %s: its disk is lost", n->row.image, image);
		else if (recipe_diff(n->row.recipe, n->recipe_now, &changed))
			l->detail = xasprintf("image %s: %s: its disk is lost", node_image_name(n), buf_str(&changed));
		else
			l->detail = xstrdup("its description changed: its disk is lost");
		l->target = xstrdup(n->target_now ? n->target_now : "");
		l->approved = node_step_approved(n);
		p->n_rebuild++;
	}
}

/* ---- runs ---- */

static const struct part *part_find(const struct digest *d, const char *name)
{
	for (size_t i = 0; d && i < d->n_parts; i++)
		if (!strcmp(d->parts[i].name, name))
			return &d->parts[i];
	return NULL;
}

#define SHOWN_MAX 60

static void shown(struct buf *out, const char *text)
{
	size_t len = text ? strcspn(text, "\n") : 0;
	if (!text)
		buf_adds(out, "?");
	else if (!len)
		buf_adds(out, "\"\"");
	else
		buf_addf(out, "%.*s%s", (int)(len > SHOWN_MAX ? SHOWN_MAX : len), text, len > SHOWN_MAX || text[len] ? "..." : "");
}

static bool has_line(const char *text, const char *line, size_t len)
{
	for (const char *p = text; p && *p;) {
		size_t l = strcspn(p, "\n");
		if (l == len && !memcmp(p, line, len))
			return true;
		p += l + (p[l] == '\n');
	}
	return false;
}

/* "nodes + etcd-db-4 - etcd-db-2": first words of the lines that are only in one of two tables. */
static void table_diff(struct buf *out, const char *from, const char *to)
{
	const char *const sides[2] = {to, from}, *const others[2] = {from, to};
	size_t listed = 0, more = 0;
	for (int s = 0; s < 2; s++)
		for (const char *p = sides[s]; p && *p;) {
			size_t l = strcspn(p, "\n");
			if (!has_line(others[s], p, l)) {
				if (listed < 6)
					buf_addf(out, " %c %.*s", s == 0 ? '+' : '-', (int)strcspn(p, " =\n"), p);
				else
					more++;
				listed++;
			}
			p += l + (p[l] == '\n');
		}
	if (more)
		buf_addf(out, " and %zu more", more);
}

static bool is_table(const char *name)
{
	return !strcmp(name, "nodes") || (strchr(name, '.') && strncmp(name, "facts.", 6));
}

static void part_diff(
        const struct model *m, struct buf *out, const struct node_role *nr, const char *name, const struct part *from, const struct part *to)
{
	if (out->len)
		buf_adds(out, ", ");
	if (!strcmp(name, "content")) {
		buf_addf(out, "content roles/%s", nr->row.role);
		return;
	}
	buf_adds(out, name);
	const char *a = m && from ? model_component_text(m, &from->hash) : NULL, *b = m && to ? model_component_text(m, &to->hash) : NULL;
	if (secret_ref(a) || secret_ref(b)) {
		buf_adds(out, from && to ? " changed" : to ? " = secret" : " no longer asked for");
		return;
	}
	if (is_table(name) && a && b) {
		table_diff(out, a, b);
		return;
	}
	if (from && to) {
		buf_addc(out, ' ');
		shown(out, a);
		buf_adds(out, " -> ");
		shown(out, b);
	} else if (to) {
		buf_adds(out, " = ");
		shown(out, b);
	} else {
		buf_adds(out, " no longer asked for");
	}
}

static void known_diff(const struct model *m, struct buf *b, const struct node_role *nr, const struct digest *was)
{
	for (size_t i = 0; i < nr->digest->n_parts; i++) {
		const struct part *to = &nr->digest->parts[i], *from = part_find(was, to->name);
		if (!from || !hash_eq(&from->hash, &to->hash))
			part_diff(m, b, nr, to->name, from, to);
	}
}

/* What can be told of inputs that are not complete: who joins and who leaves is known before their addresses are. */
static void unknown_diff(const struct model *m, struct buf *b, const struct node_role *nr, const struct digest *was)
{
	const struct part *from = part_find(was, "nodes");
	known_diff(m, b, nr, was);
	if (from && !part_find(nr->digest, "nodes")) {
		_cleanup_buf_ struct buf now = {0};
		const struct node *lacks = NULL;
		const char *then = model_component_text(m, &from->hash);
		nodes_input_text(nr->node->deployment, &now, &lacks);
		if (then) {
			buf_adds(b, b->len ? ", nodes" : "nodes");
			table_diff(b, then, buf_str(&now));
		}
	}
	if (b->len)
		buf_adds(b, ", ");
}

static char *run_detail(const struct model *m, const struct node_role *nr)
{
	struct buf b = {0};
	const struct node *n = nr->node;
	const struct digest *was = m ? digest_kept(m, nr->row.last_digest) : NULL; /* without a model only the id is wanted */
	bool first = !nr->row.last_run || !nr->row.last_digest || nr->row.last_incarnation != n->row.incarnation;
	if (nr->row.wish_run) {
		buf_adds(&b, "run was told");
	} else if (nr->renewing && node_role_ran_digest(nr)) {
		buf_adds(&b, nr->renewing);
	} else if (n->row.phase != NODE_READY && n->row.phase != NODE_BOOTING) {
		buf_addf(&b, "known after creation of %s", n->row.name);
	} else if (!nr->digest || !nr->digest->complete) {
		if (nr->digest && was && !first)
			unknown_diff(m, &b, nr, was);
		buf_addf(&b, "known after %s", nr->digest && nr->digest->missing ? nr->digest->missing : "a moment");
	} else if (first) {
		buf_adds(&b, nr->row.last_run && nr->row.last_incarnation != n->row.incarnation ? "first on the new machine" : "first");
	} else {
		if (was)
			known_diff(m, &b, nr, was);
		for (size_t i = 0; was && i < was->n_parts; i++)
			if (!part_find(nr->digest, was->parts[i].name))
				part_diff(m, &b, nr, was->parts[i].name, &was->parts[i], NULL);
		if (!b.len && nr->row.drift)
			buf_addf(&b, "drifted: %.*s", (int)strcspn(nr->row.drift, "\n"), nr->row.drift);
		if (!b.len && nr->row.last_result != RUN_OK && nr->row.last_result >= 0)
			buf_addf(&b, "run %lld %s%s%s", (long long)nr->row.last_run, run_result_name((enum run_result)nr->row.last_result),
			        nr->row.error ? ": " : "", nr->row.error ? nr->row.error : "");
		if (!b.len)
			buf_adds(&b, "again");
	}
	return buf_detach(&b, NULL);
}

static bool wants_nodes(const struct def_role *r)
{
	for (size_t i = 0; i < r->n_wants; i++)
		if (r->wants[i].kind == WANT_NODES)
			return true;
	return false;
}

static void plan_drop(struct plan *p, const struct node_role *nr)
{
	struct plan_line *l = line_add(p, PLAN_DROP, nr->node, nr);
	if (nr->running)
		l->detail = xasprintf("running (run %lld)", (long long)nr->row.last_run);
	else
		l->detail = nr->row.error ? xstrdup(nr->row.error) : xstrdup("runs its remove script");
	l->target = xstrdup(drop_target(nr));
	l->confirm = true;
	l->approved = nr->running || !nr->unapproved;
	p->n_drop++;
}

/* coming: a node whose creation waits for approval; NULL: none. */
static void plan_node_role(const struct model *m, struct plan *p, const struct node_role *nr, const struct node *coming)
{
	if (nr->dropped && !nr->node->row.held)
		plan_drop(p, nr);
	if (!nr->def || nr->node->row.held)
		return;
	/* Active, running or approved as it is: with the longer table it is to run again, and the same 'apply' agrees to both. */
	if (coming && wants_nodes(nr->def) && nr->node->wanted && !(nr->due && nr->unapproved)) {
		struct plan_line *again = line_add(p, PLAN_CHANGE, nr->node, nr);
		again->detail = xasprintf("known after creation of %s", coming->row.name);
		p->n_run++;
		return;
	}
	if (!nr->due && !nr->running)
		return;
	struct plan_line *l = line_add(p, PLAN_CHANGE, nr->node, nr);
	l->detail = nr->running ? xasprintf("running (run %lld)", (long long)nr->row.last_run) : run_detail(m, nr);
	if (nr->digest && nr->digest->complete) {
		char hex[HASH_HEX];
		hash_hex(&nr->digest->hash, hex);
		l->target = xstrdup(hex);
	}
	l->approved = nr->running || !nr->unapproved;
	l->confirm = !nr->running && !nr->row.wish_run && node_role_destroys(nr);
	p->n_run++;
}

/* ---- the whole ---- */

static int op_rank(enum plan_op op)
{
	return op == PLAN_CREATE ? 0 : op == PLAN_REBUILD ? 1 : op == PLAN_CHANGE ? 2 : op == PLAN_DROP ? 3 : 4;
}

static int line_cmp(const void *a, const void *b)
{
	const struct plan_line *x = a, *y = b;
	int c = op_rank(x->op) - op_rank(y->op);
	/* otherwise as they were found: by group, number, role */
	return c ? c : x->order < y->order ? -1 : 1;
}

static void plan_id(struct plan *p)
{
	struct hasher *h = NULL;
	struct hash hash;
	char hex[HASH_HEX];
	strcpy(p->id, "-");
	for (size_t i = 0; i < p->n_lines; i++) {
		const struct plan_line *l = &p->lines[i];
		if (l->approved)
			continue;
		if (!h)
			h = hasher_new();
		hasher_add(h, &(char){(char)l->op}, 1);
		hasher_add_str(h, l->object);
		hasher_add_str(h, l->target);
	}
	if (!h)
		return;
	hasher_end(h, &hash);
	hasher_free(h);
	hash_hex(&hash, hex);
	memcpy(p->id, hex, 8);
	p->id[8] = '\0';
}

static char *sentence(struct buf *b)
{
	return b->len ? buf_detach(b, NULL) : NULL;
}

void plan_make(const struct model *m, const struct deployment *d, struct plan *ret)
{
	const struct node *coming = NULL;
	*ret = (struct plan){0};
	struct buf gated = {0}, uncommitted = {0}, git = {0};
	deployment_gated(m, d, &gated);
	deployment_uncommitted(d, &uncommitted);
	git_waits(m, &git);
	ret->gated = sentence(&gated);
	ret->uncommitted = sentence(&uncommitted);
	ret->git = sentence(&git);
	for (size_t i = 0; i < d->n_nodes && !coming; i++)
		if (d->nodes[i]->wanted && d->nodes[i]->unapproved && d->nodes[i]->row.phase == NODE_PLANNED && !d->nodes[i]->row.incarnation)
			coming = d->nodes[i];
	for (size_t i = 0; i < d->n_nodes; i++) {
		plan_node(ret, d, d->nodes[i]);
		if (!d->row.destroying && !d->orphaned)
			for (size_t k = 0; k < d->nodes[i]->n_roles; k++)
				plan_node_role(m, ret, d->nodes[i]->roles[k], coming);
	}
	for (size_t i = 0; i < ret->n_lines; i++) {
		ret->lines[i].order = i;
		ret->n_confirm += ret->lines[i].confirm && !ret->lines[i].approved;
	}
	if (ret->n_lines)
		qsort(ret->lines, ret->n_lines, sizeof *ret->lines, line_cmp);
	plan_id(ret);
}

void plan_release(struct plan *p)
{
	for (size_t i = 0; i < p->n_lines; i++) {
		free(p->lines[i].object);
		free(p->lines[i].detail);
		free(p->lines[i].target);
	}
	free(p->lines);
	free(p->gated);
	free(p->uncommitted);
	free(p->git);
	*p = (struct plan){0};
}

static void counted(struct buf *out, size_t n, const char *what)
{
	if (n)
		buf_addf(out, "%s%zu %s", out->len && out->data[out->len - 1] != ' ' ? ", " : "", n, what);
}

/* What lies in the repo and is not in the plan. */
static void held_back(const struct plan *p, struct buf *out)
{
	const char *const why[] = {p->gated, p->uncommitted, p->git};
	for (size_t i = 0; i < sizeof why / sizeof *why; i++)
		if (why[i])
			buf_addf(out, "%s\n", why[i]);
}

void plan_text(const struct plan *p, struct buf *out)
{
	buf_addf(out, "plan %s: ", p->id);
	if (!p->n_lines) {
		buf_adds(out, "nothing to do\n");
		held_back(p, out);
		return;
	}
	counted(out, p->n_create, "create");
	counted(out, p->n_run, "run");
	counted(out, p->n_rebuild, "rebuild");
	counted(out, p->n_drop, "drop");
	counted(out, p->n_release, "release");
	counted(out, p->n_confirm, "confirm");
	buf_addc(out, '\n');
	size_t width = 0;
	for (size_t i = 0; i < p->n_lines; i++)
		if (strlen(p->lines[i].object) > width)
			width = strlen(p->lines[i].object);
	for (size_t i = 0; i < p->n_lines; i++) {
		const struct plan_line *l = &p->lines[i];
		buf_addf(out, "%c %-*s  %s%s\n", l->op, (int)width, l->object, l->confirm && !l->approved ? "confirm: " : "", l->detail);
	}
	held_back(p, out);
}

static const char *op_name(enum plan_op op)
{
	switch (op) {
	case PLAN_CREATE:
		return "create";
	case PLAN_CHANGE:
		return "run";
	case PLAN_REBUILD:
		return "rebuild";
	case PLAN_RELEASE:
		return "release";
	case PLAN_DROP:
		return "drop";
	}
	return "";
}

void plan_json(const struct plan *p, const struct deployment *d, struct buf *out)
{
	json_t *lines = json_array();
	for (size_t i = 0; i < p->n_lines; i++) {
		const struct plan_line *l = &p->lines[i];
		const char *object = strchr(l->object, ' ');
		json_array_append_new(
		        lines, json_pack("{s:s, s:s, s:s, s:b, s:b, s:s?}", "op", op_name(l->op), "object", object + strspn(object, " "), "because",
		                       l->detail, "confirm", l->confirm, "approved", l->approved, "target", l->target));
	}
	json_t *all = json_pack("{s:s, s:s, s:s?, s:b, s:s?, s:s?, s:s?, s:o}", "deployment", d->row.name, "id", p->id, "commit", d->row.commit,
	        "dirty", d->row.dirty, "gated", p->gated, "uncommitted", p->uncommitted, "git", p->git, "lines", lines);
	char *text = json_dumps(all, JSON_INDENT(2));
	buf_adds(out, text);
	buf_addc(out, '\n');
	free(text);
	json_decref(all);
}
