/* The top of the mount */
#include "fs/view/entries.h"
#include <string.h>

static void render_status(const struct object *o, struct buf *out)
{
	report_root_status(o->m, out);
}

static void render_status_json(const struct object *o, struct buf *out)
{
	report_add_json(report_root_json(o->m), out);
}

static void render_problems(const struct object *o, struct buf *out)
{
	const struct desired *d = o->m->desired;
	for (size_t i = 0; d && i < d->n_problems; i++) {
		const struct problem *p = &d->problems[i];
		if (p->line)
			buf_addf(out, "%s:%d: %s\n", p->file, p->line, p->text);
		else
			buf_addf(out, "%s:1: %s\n", p->file, p->text);
	}
	for (const struct deployment *dep = o->m->deployments_by_name; dep; dep = dep->hh_name.next)
		if (dep->uncommitted)
			buf_addf(out, "%s:1: deployment '%s' does not take this over (commit = required): %s\n", dep->uncommitted_file, dep->row.name,
			        dep->uncommitted);
}

static void render_events(const struct object *o, struct buf *out)
{
	for (int64_t seq = o->m->first_seq; seq < o->m->next_seq; seq++) {
		const struct event *e = model_event(o->m, seq);
		if (e)
			report_event(e, out);
	}
}

static void render_metrics(const struct object *o, struct buf *out)
{
	report_metrics(o->m, out);
}

/* Providers and roles are known by their names, so that is what their places hold. */
static bool named_place(const struct object *o, enum place_kind kind, const char *name, struct place *ret)
{
	return make_place(kind, 0, names_intern(o->names, name, NULL), ret) && ret->id;
}

static void list_providers(const struct object *o, const struct place *dir, struct lister *l)
{
	struct place p;
	for (const struct provider_object *it = o->m->providers_by_name; it; it = it->hh_name.next)
		if (named_place(o, PLACE_PROVIDER, it->name, &p))
			l->add(l, it->name, &p);
}

static bool find_provider(const struct object *o, const struct place *dir, const char *name, struct place *ret)
{
	return model_provider(o->m, name) && named_place(o, PLACE_PROVIDER, name, ret);
}

static void list_roles(const struct object *o, const struct place *dir, struct lister *l)
{
	struct place p;
	for (const struct role_object *it = o->m->roles_by_name; it; it = it->hh_name.next)
		if (named_place(o, PLACE_ROLE, it->name, &p))
			l->add(l, it->name, &p);
}

static bool find_role(const struct object *o, const struct place *dir, const char *name, struct place *ret)
{
	return model_role(o->m, name) && named_place(o, PLACE_ROLE, name, ret);
}

static void list_deployments(const struct object *o, const struct place *dir, struct lister *l)
{
	struct place p;
	for (const struct deployment *it = o->m->deployments_by_name; it; it = it->hh_name.next)
		if (make_place(PLACE_DEPLOYMENT, 0, it->row.id, &p))
			l->add(l, it->row.name, &p);
}

static bool find_deployment(const struct object *o, const struct place *dir, const char *name, struct place *ret)
{
	const struct deployment *it = model_deployment(o->m, name);
	return it && make_place(PLACE_DEPLOYMENT, 0, it->row.id, ret);
}

static void list_nodes(const struct object *o, const struct place *dir, struct lister *l)
{
	struct place p;
	for (const struct node *it = o->m->nodes_by_name; it; it = it->hh_name.next)
		if (make_place(PLACE_NODE, 0, it->row.id, &p))
			l->add(l, it->row.name, &p);
}

static bool find_node(const struct object *o, const struct place *dir, const char *name, struct place *ret)
{
	const struct node *it = model_node(o->m, name);
	return it && make_place(PLACE_NODE, 0, it->row.id, ret);
}

const struct entry root_entries[] = {
        {.name = "README", .mode = S_IFREG | 0444, .render = manual_text, .help = "how to use this tree, made from the tables that serve it"},
        {.name = "desired", .mode = S_IFDIR | 0755, .flags = ENTRY_REPO, .help = "the repo, byte for byte: plain files, git and editors work here"},
        {.name = "status",
                .mode = S_IFREG | 0444,
                .flags = ENTRY_COSTLY | ENTRY_SETTLE,
                .render = render_status,
                .help = "one page: every deployment, its progress, what is wrong"},
        {.name = "status.json",
                .mode = S_IFREG | 0444,
                .flags = ENTRY_COSTLY | ENTRY_SETTLE,
                .render = render_status_json,
                .help = "the same for programs"},
        {.name = "problems",
                .mode = S_IFREG | 0444,
                .flags = ENTRY_SETTLE,
                .render = render_problems,
                .help = "every mistake in desired/, FILE:LINE: MESSAGE; empty when there is none"},
        {.name = "events",
                .mode = S_IFREG | 0444,
                .flags = ENTRY_COSTLY,
                .render = render_events,
                .help = "the last 10,000 events, one a line: time, what about, what, who"},
        {.name = "events.follow", .mode = S_IFREG | 0444, .flags = ENTRY_STREAM, .help = "events as they happen; blocks; poll(2) works"},
        {.name = "metrics", .mode = S_IFREG | 0444, .flags = ENTRY_COSTLY, .render = render_metrics, .help = "counts in Prometheus' text format"},
        {.name = "providers", .mode = S_IFDIR | 0755, .list = list_providers, .find = find_provider, .help = "where machines come from"},
        {.name = "roles", .mode = S_IFDIR | 0755, .list = list_roles, .find = find_role, .help = "units of configuration"},
        {.name = "deployments",
                .mode = S_IFDIR | 0755,
                .list = list_deployments,
                .find = find_deployment,
                .help = "groups of nodes and what they run"},
        {.name = "nodes", .mode = S_IFDIR | 0755, .list = list_nodes, .find = find_node, .help = "machines, whatever provider they come from"},
        ENTRY_REFUSED,
        ENTRY_CTL("read: the verbs; write: one of them"),
        {0},
};
