/* providers/NAME and roles/NAME */
#include "fs/base/hash.h"
#include "fs/base/mem.h"
#include "fs/view/entries.h"
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

static void render_provider_state(const struct object *o, struct buf *out)
{
	add_line(out, provider_state_name(o->provider));
}

static void render_provider_why(const struct object *o, struct buf *out)
{
	provider_why(o->provider, out);
	end_line(out);
}

static void render_provider_error(const struct object *o, struct buf *out)
{
	add_line(out, o->provider->error);
	add_line(out, o->provider->problem);
}

static void render_capacity(const struct object *o, struct buf *out)
{
	add_line(out, o->provider->capacity);
}

static void render_networks(const struct object *o, struct buf *out)
{
	buf_adds(out, o->provider->networks ? o->provider->networks : "");
}

static void render_unknown(const struct object *o, struct buf *out)
{
	provider_unknown(o->provider, out);
}

static bool is_from(const struct node *n, const struct object *o)
{
	return n->provider == o->provider;
}

static void list_nodes(const struct object *o, const struct place *dir, struct lister *l)
{
	for (const struct node *n = o->m->nodes_by_name; n; n = n->hh_name.next) {
		struct place p;
		if (is_from(n, o) && make_place(PLACE_NODE, PLACE_LINK_PROVIDER, n->row.id, &p))
			l->add(l, n->row.name, &p);
	}
}

static bool find_node(const struct object *o, const struct place *dir, const char *name, struct place *ret)
{
	const struct node *n = model_node(o->m, name);
	return n && is_from(n, o) && make_place(PLACE_NODE, PLACE_LINK_PROVIDER, n->row.id, ret);
}

struct address {
	const struct node *node;
	bool number; /* in in, network byte order; else it is a name */
	struct in_addr in;
};

static int compare_addresses(const void *a, const void *b)
{
	const struct address *x = a, *y = b;

	if (x->number != y->number)
		return x->number ? -1 : 1;
	return x->number ? memcmp(&x->in, &y->in, sizeof x->in) : strcmp(x->node->row.address, y->node->row.address);
}

static void render_addresses(const struct object *o, struct buf *out)
{
	_cleanup_free_ struct address *all = xcalloc(HASH_CNT(hh_name, o->m->nodes_by_name) + 1, sizeof *all);
	size_t count = 0;

	for (const struct node *n = o->m->nodes_by_name; n; n = n->hh_name.next)
		if (is_from(n, o) && n->row.address && *n->row.address) {
			all[count].node = n;
			all[count].number = inet_pton(AF_INET, n->row.address, &all[count].in) == 1;
			count++;
		}
	qsort(all, count, sizeof *all, compare_addresses);
	for (size_t i = 0; i < count; i++)
		buf_addf(out, "%-15s %s\n", all[i].node->row.address, all[i].node->row.name);
}

const struct entry provider_entries[] = {
        {.name = "state", .mode = S_IFREG | 0444, .render = render_provider_state, .help = "ready, error or invalid"},
        {.name = "why", .mode = S_IFREG | 0444, .render = render_provider_why, .help = "the state as a sentence"},
        {.name = "error", .mode = S_IFREG | 0444, .render = render_provider_error, .help = "what is wrong and how to mend it; empty when nothing is"},
        {.name = "capacity",
                .mode = S_IFREG | 0444,
                .render = render_capacity,
                .help = "how much room there was when it was last asked, seconds ago; empty where it is not known"},
        {.name = "networks",
                .mode = S_IFREG | 0444,
                .render = render_networks,
                .help = "the network of its machines, as last asked, seconds ago; empty where it makes none"},
        {.name = "addresses", .mode = S_IFREG | 0444, .render = render_addresses, .help = "each address that a node of it has, and the node"},
        {.name = "unknown",
                .mode = S_IFREG | 0444,
                .render = render_unknown,
                .help = "machines that carry our mark and belong to no node: nothing is done to them but by 'adopt' or 'destroy'"},
        {.name = "nodes", .mode = S_IFDIR | 0755, .list = list_nodes, .find = find_node, .help = "links to the nodes that come from here"},
        ENTRY_DESIRED("each key that provider.ini has or could have"),
        ENTRY_REFUSED,
        ENTRY_CTL("read: the verbs; write: one of them"),
        {0},
};

static void render_role_state(const struct object *o, struct buf *out)
{
	add_line(out, role_state_name(o->role));
}

static void render_role_why(const struct object *o, struct buf *out)
{
	role_why(o->role, out);
	end_line(out);
}

static void render_role_error(const struct object *o, struct buf *out)
{
	const struct def_role *def = o->role->def;
	if (def && !def->valid)
		add_line(out, def->problem);
}

static void render_role_digest(const struct object *o, struct buf *out)
{
	char hex[HASH_HEX];
	if (!o->role->def)
		return;
	hash_hex(&o->role->def->content, hex);
	add_line(out, hex);
}

static bool uses(const struct deployment *d, const char *role)
{
	for (size_t i = 0; d->def && i < d->def->n_roles; i++)
		if (!strcmp(d->def->roles[i]->name, role))
			return true;
	return false;
}

static void render_used_by(const struct object *o, struct buf *out)
{
	for (const struct deployment *d = o->m->deployments_by_name; d; d = d->hh_name.next)
		if (uses(d, o->role->name))
			add_line(out, d->row.name);
}

const struct entry role_entries[] = {
        {.name = "state", .mode = S_IFREG | 0444, .render = render_role_state, .help = "ready or invalid"},
        {.name = "why", .mode = S_IFREG | 0444, .render = render_role_why, .help = "the state as a sentence"},
        {.name = "error", .mode = S_IFREG | 0444, .render = render_role_error, .help = "the first mistake in the role; empty when there is none"},
        {.name = "digest", .mode = S_IFREG | 0444, .render = render_role_digest, .help = "the hash of the role's content as it lies in the repo"},
        {.name = "used-by", .mode = S_IFREG | 0444, .render = render_used_by, .help = "the deployments that use it, one a line"},
        ENTRY_DESIRED("each key that role.ini has or could have"),
        ENTRY_REFUSED,
        {0},
};
