/* nodes/NAME */
#include "fs/view/entries.h"
#include <string.h>

static void render_state(const struct object *o, struct buf *out)
{
	add_line(out, node_state_name(node_state(o->node)));
}

static void render_why(const struct object *o, struct buf *out)
{
	node_why(o->m, o->node, out);
	end_line(out);
}

static void render_error(const struct object *o, struct buf *out)
{
	size_t before = out->len;
	node_failure(o->node, out);
	if (out->len > before)
		buf_addc(out, '\n');
	else if (node_state(o->node) == NS_ERROR)
		render_why(o, out);
}

static void render_address(const struct object *o, struct buf *out)
{
	add_line(out, o->node->row.address);
}

static void render_provider(const struct object *o, struct buf *out)
{
	add_line(out, o->node->row.provider);
}

static void render_deployment(const struct object *o, struct buf *out)
{
	add_line(out, o->node->row.deployment);
}

static void render_group(const struct object *o, struct buf *out)
{
	add_line(out, o->node->row.group);
}

static void render_image(const struct object *o, struct buf *out)
{
	add_line(out, o->node->row.image);
}

static void render_power(const struct object *o, struct buf *out)
{
	const struct node *n = o->node;
	bool there = n->row.phase == NODE_READY || n->row.phase == NODE_BOOTING;
	add_line(out, n->off ? "off" : there && !n->gone && !n->unreachable && !(n->op && n->row.power) ? "on" : "unknown");
}

static void render_console_path(const struct object *o, struct buf *out)
{
	if (o->node->console)
		buf_adds(out, o->node->console);
}

static void render_facts(const struct object *o, struct buf *out)
{
	json_t *facts = o->node->row.facts ? json_loads(o->node->row.facts, 0, NULL) : NULL;
	report_add_json(facts ? facts : json_object(), out);
}

static void render_ssh_config(const struct object *o, struct buf *out)
{
	access_ssh_config(o, o->node, out);
}

static void list_roles(const struct object *o, const struct place *dir, struct lister *l)
{
	for (size_t i = 0; i < o->node->n_roles; i++) {
		struct place p;
		if (make_place(PLACE_NODE_ROLE, 0, o->node->roles[i]->row.id, &p))
			l->add(l, o->node->roles[i]->row.role, &p);
	}
}

static bool find_role(const struct object *o, const struct place *dir, const char *name, struct place *ret)
{
	const struct node_role *nr = node_role_find(o->node, name);
	return nr && make_place(PLACE_NODE_ROLE, 0, nr->row.id, ret);
}

const struct entry node_entries[] = {
        {.name = "state",
                .mode = S_IFREG | 0444,
                .flags = ENTRY_TOLD,
                .render = render_state,
                .help = "held, error, releasing, unreachable, off, planned, creating, booting or ready"},
        {.name = "why", .mode = S_IFREG | 0444, .render = render_why, .help = "the state as a sentence that names the first cause"},
        {.name = "error", .mode = S_IFREG | 0444, .render = render_error, .help = "what failed; empty when nothing did"},
        {.name = "address", .mode = S_IFREG | 0444, .render = render_address, .help = "where its ssh answers; empty until it is known"},
        {.name = "provider", .mode = S_IFREG | 0444, .render = render_provider, .help = "where it comes from"},
        {.name = "deployment", .mode = S_IFREG | 0444, .render = render_deployment, .help = "what it belongs to; empty when to none"},
        {.name = "group", .mode = S_IFREG | 0444, .render = render_group, .help = "its group in the deployment"},
        {.name = "image", .mode = S_IFREG | 0444, .render = render_image, .help = "what it was made from"},
        {.name = "power",
                .mode = S_IFREG | 0644,
                .render = render_power,
                .store = store_power,
                .help = "on, off or unknown; write on, off, cycle or reset: what is off stays off until somebody says on"},
        {.name = "facts.json", .mode = S_IFREG | 0444, .render = render_facts, .help = "what was found on it: os, kernel, cpus, memory, disks, nics"},
        {.name = "console",
                .mode = S_IFREG | 0440,
                .flags = ENTRY_LOG,
                .render = render_console_path,
                .help = "what the machine itself prints, bounded; empty where its provider has no console"},
        {.name = "log", .mode = S_IFREG | 0444, .flags = ENTRY_LOG, .help = "what the last run on it printed; grows while it runs"},
        {.name = "ssh_config", .mode = S_IFREG | 0444, .render = render_ssh_config, .help = "for ssh -F"},
        ENTRY_DESIRED("each key that node.ini has or could have, if there is one"),
        {.name = "roles", .mode = S_IFDIR | 0755, .list = list_roles, .find = find_role, .help = "a directory for each role on it"},
        ENTRY_REFUSED,
        ENTRY_CTL("read: the verbs; write: one of them"),
        {0},
};
