/* What a node should be made from, and whether somebody agreed to make it so. */
#include "fs/engine/internal.h"
#include <string.h>

const char *node_image(const struct node *n)
{
	if (n->group && n->group->image)
		return n->group->image;
	return n->provider && n->provider->def ? n->provider->def->image : NULL;
}

void node_spec(const struct node *n, char hex[HASH_HEX])
{
	struct hasher *h = hasher_new();
	struct hash hash;
	const struct def_node *def = n->declared ? node_definition(n) : NULL;
	hasher_add_str(h, n->provider ? n->provider->name : NULL);
	hasher_add_str(h, n->provider && n->provider->ops ? n->provider->ops->type : NULL);
	hasher_add_str(h, node_image(n));
	if (def)
		hasher_add(h, &def->identity, sizeof def->identity);
	hasher_end(h, &hash);
	hasher_free(h);
	hash_hex(&hash, hex);
}

bool node_needs_rebuild(const struct node *n)
{
	if (!n->wanted || n->row.phase == NODE_PLANNED || n->row.phase == NODE_RELEASING || n->rebuilding)
		return false;
	if (n->row.wish_rebuild)
		return true;
	return n->row.spec && n->spec_now && strcmp(n->row.spec, n->spec_now) != 0;
}

static bool approved_is(const struct node *n, const char *what)
{
	_cleanup_free_ char *full = xasprintf("%s:%s", what, n->spec_now ? n->spec_now : "");
	return n->row.approved && !strcmp(n->row.approved, full);
}

/* Has a person (or the deployment's automatism) agreed to the next step of this node? */
bool node_step_approved(const struct node *n)
{
	const struct deployment *d = n->deployment;
	if (!d)
		return n->row.wish_release || n->row.wish_forget;
	if (!n->wanted)
		return n->row.phase == NODE_PLANNED || n->row.wish_release || n->row.wish_forget || d->row.destroying ||
		       (n->row.approved && !strcmp(n->row.approved, "release"));
	if (node_needs_rebuild(n))
		return approved_is(n, "rebuild");
	if (n->row.phase == NODE_PLANNED)
		return n->rebuilding || (d->def && !d->def->apply_manual) || approved_is(n, "create") || approved_is(n, "rebuild");
	return true;
}
