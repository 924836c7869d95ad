/* deployments/NAME */
#include "fs/base/mem.h"
#include "fs/engine/fidelity.h"
#include "fs/engine/plan.h"
#include "fs/view/entries.h"
#include <string.h>

static void render_state(const struct object *o, struct buf *out)
{
	add_line(out, deployment_state_name(deployment_state(o->deployment)));
}

static void render_why(const struct object *o, struct buf *out)
{
	deployment_why(o->m, o->deployment, out);
	end_line(out);
}

static void render_error(const struct object *o, struct buf *out)
{
	deployment_error(o->m, o->deployment, out);
	end_line(out);
}

static void render_status(const struct object *o, struct buf *out)
{
	report_status(o->m, o->deployment, out);
}

static void render_status_json(const struct object *o, struct buf *out)
{
	report_add_json(report_status_json(o->m, o->deployment), out);
}

static void render_events(const struct object *o, struct buf *out)
{
	for (int64_t seq = o->m->first_seq; seq < o->m->next_seq; seq++) {
		const struct event *e = model_event(o->m, seq);
		if (e && e->deployment && !strcmp(e->deployment, o->deployment->row.name))
			report_event(e, out);
	}
}

static void render_plan(const struct object *o, struct buf *out)
{
	struct plan p = {0};
	plan_make(o->m, o->deployment, &p);
	plan_text(&p, out);
	plan_release(&p);
	end_line(out);
}

static void render_plan_json(const struct object *o, struct buf *out)
{
	struct plan p = {0};
	plan_make(o->m, o->deployment, &p);
	plan_json(&p, o->deployment, out);
	plan_release(&p);
	end_line(out);
}

static void render_matrix(const struct object *o, struct buf *out)
{
	report_matrix(o->deployment, out);
}

static void render_inventory(const struct object *o, struct buf *out)
{
	access_inventory(o, o->deployment, out);
}

static void render_hosts(const struct object *o, struct buf *out)
{
	access_hosts(o->deployment, out);
}

static void render_ssh_config(const struct object *o, struct buf *out)
{
	for (size_t i = 0; i < o->deployment->n_nodes; i++)
		access_ssh_config(o, o->deployment->nodes[i], out);
}

static void list_nodes(const struct object *o, const struct place *dir, struct lister *l)
{
	for (size_t i = 0; i < o->deployment->n_nodes; i++) {
		const struct node *n = o->deployment->nodes[i];
		struct place p;
		if (make_place(PLACE_NODE, PLACE_LINK_DEPLOYMENT, n->row.id, &p))
			l->add(l, n->row.name, &p);
	}
}

static bool find_node(const struct object *o, const struct place *dir, const char *name, struct place *ret)
{
	const struct node *n = model_node(o->m, name);
	return n && n->deployment == o->deployment && make_place(PLACE_NODE, PLACE_LINK_DEPLOYMENT, n->row.id, ret);
}

static bool role_link(const struct object *o, const char *name, struct place *ret)
{
	return model_role(o->m, name) && make_place(PLACE_ROLE, PLACE_LINK_DEPLOYMENT, names_intern(o->names, name, NULL), ret) && ret->id;
}

static void list_roles(const struct object *o, const struct place *dir, struct lister *l)
{
	const struct def_deployment *def = o->deployment->def;
	for (size_t i = 0; def && i < def->n_roles; i++) {
		struct place p;
		if (role_link(o, def->roles[i]->name, &p))
			l->add(l, def->roles[i]->name, &p);
	}
}

static bool find_role(const struct object *o, const struct place *dir, const char *name, struct place *ret)
{
	const struct def_deployment *def = o->deployment->def;
	for (size_t i = 0; def && i < def->n_roles; i++)
		if (!strcmp(def->roles[i]->name, name))
			return role_link(o, name, ret);
	return false;
}

/* fidelity/OTHER and fidelity/OTHER.json: the place's second name tells the two apart */

static bool fidelity_place(const struct object *o, const struct place *dir, const char *other, bool json, struct place *ret)
{
	*ret = *dir;
	ret->name = names_intern(o->names, other, json ? "json" : NULL);
	return ret->name;
}

static void list_fidelity(const struct object *o, const struct place *dir, struct lister *l)
{
	for (const struct deployment *d = o->m->deployments_by_name; d; d = d->hh_name.next) {
		if (d == o->deployment)
			continue;
		struct place p;
		_cleanup_free_ char *json = xasprintf("%s.json", d->row.name);
		if (fidelity_place(o, dir, d->row.name, false, &p))
			l->add(l, d->row.name, &p);
		if (!model_deployment(o->m, json) && fidelity_place(o, dir, d->row.name, true, &p))
			l->add(l, json, &p);
	}
}

static bool find_fidelity(const struct object *o, const struct place *dir, const char *name, struct place *ret)
{
	const struct deployment *d = model_deployment(o->m, name);
	if (d)
		return d != o->deployment && fidelity_place(o, dir, d->row.name, false, ret);
	size_t len = strlen(name);
	if (len < 6 || strcmp(name + len - 5, ".json"))
		return false;
	_cleanup_free_ char *other = xstrndup(name, len - 5);
	d = model_deployment(o->m, other);
	return d && d != o->deployment && fidelity_place(o, dir, d->row.name, true, ret);
}

static void render_fidelity(const struct object *o, struct buf *out)
{
	const struct deployment *other = model_deployment(o->m, o->first);
	if (!other)
		return;
	struct fidelity f;
	fidelity_make(o->m, o->deployment, other, &f);
	if (o->second)
		fidelity_json(&f, out);
	else
		fidelity_text(&f, out);
	fidelity_release(&f);
}

#define COSTLY_FRESH (ENTRY_COSTLY | ENTRY_SETTLE)

static const struct entry fidelity_file = {
        .name = "OTHER",
        .mode = S_IFREG | 0444,
        .flags = COSTLY_FRESH,
        .render = render_fidelity,
        .help = "how much of what runs here is the same in deployment OTHER, each gap with both values and what would close it; OTHER.json for "
                "programs",
};

const struct entry deployment_entries[] = {
        {.name = "state",
                .mode = S_IFREG | 0444,
                .flags = ENTRY_TOLD,
                .render = render_state,
                .help = "invalid, orphaned, elsewhere, paused, error, working, proposed or active"},
        {.name = "why", .mode = S_IFREG | 0444, .render = render_why, .help = "the state as a sentence that names the first cause"},
        {.name = "error", .mode = S_IFREG | 0444, .render = render_error, .help = "what failed, PATH: SENTENCE a line; empty when nothing did"},
        {.name = "status",
                .mode = S_IFREG | 0444,
                .flags = COSTLY_FRESH,
                .render = render_status,
                .help = "one page: progress, counts, the commit in force, what is wrong"},
        {.name = "status.json", .mode = S_IFREG | 0444, .flags = COSTLY_FRESH, .render = render_status_json, .help = "the same for programs"},
        {.name = "events",
                .mode = S_IFREG | 0444,
                .flags = ENTRY_COSTLY,
                .render = render_events,
                .help = "what happened here, an event a line, the last 10,000 of all deployments; 'in force' tells which documents changed, with "
                        "their SHA-256's "
                        "first digits"},
        {.name = "plan",
                .mode = S_IFREG | 0444,
                .flags = COSTLY_FRESH,
                .render = render_plan,
                .help = "what would change and because of what; its id is what 'apply ID' approves"},
        {.name = "plan.json", .mode = S_IFREG | 0444, .flags = COSTLY_FRESH, .render = render_plan_json, .help = "the same for programs"},
        {.name = "wait",
                .mode = S_IFREG | 0444,
                .flags = ENTRY_STREAM | ENTRY_SETTLE,
                .help = "blocks until nothing runs any more and shows progress; fails with EIO unless desired is reached"},
        ENTRY_DESIRED("each key that deployment.ini has, inherits or could have"),
        {.name = "nodes", .mode = S_IFDIR | 0755, .list = list_nodes, .find = find_node, .help = "links to its nodes"},
        {.name = "roles", .mode = S_IFDIR | 0755, .list = list_roles, .find = find_role, .help = "links to its roles"},
        {.name = "matrix", .mode = S_IFREG | 0444, .flags = ENTRY_COSTLY, .render = render_matrix, .help = "node x role, a state in each cell"},
        {.name = "inventory.json", .mode = S_IFREG | 0444, .flags = ENTRY_COSTLY, .render = render_inventory, .help = "for ansible -i"},
        {.name = "hosts", .mode = S_IFREG | 0444, .flags = ENTRY_COSTLY, .render = render_hosts, .help = "addresses and names as in /etc/hosts"},
        {.name = "ssh_config",
                .mode = S_IFREG | 0444,
                .flags = ENTRY_COSTLY,
                .render = render_ssh_config,
                .help = "for ssh -F: address, user, key and host key of every node"},
        {.name = "fidelity",
                .mode = S_IFDIR | 0755,
                .list = list_fidelity,
                .find = find_fidelity,
                .file = &fidelity_file,
                .help = "this deployment against each other one"},
        ENTRY_REFUSED,
        ENTRY_CTL("read: the verbs; write: one of them"),
        {0},
};
