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

/* What a step of it is approved for: an approval is good for this, and for nothing that is described later. */
static void node_target_now(struct node *n)
{
	struct hasher *h = hasher_new();
	struct hash hash;
	char hex[HASH_HEX];
	hasher_add_str(h, n->spec_now);
	hasher_add_str(h, n->recipe_now);
	hasher_end(h, &hash);
	hasher_free(h);
	hash_hex(&hash, hex);
	str_replace(&n->target_now, n->recipe_now ? hex : n->spec_now);
}

static bool differ(const char *a, const char *b)
{
	return a != b && (!a || !b || strcmp(a, b) != 0);
}

void node_spec_refresh(struct engine *e, struct node *n)
{
	char spec[HASH_HEX];
	_cleanup_free_ char *recipe = node_recipe(n);
	node_spec(n, spec);
	if (!n->target_now || differ(n->spec_now, spec) || differ(n->recipe_now, recipe)) {
		str_replace(&n->spec_now, spec);
		str_replace(&n->recipe_now, recipe);
		node_target_now(n);
	}
	n->recipe_changed = recipe_diff(n->row.recipe, recipe, NULL);
	if (!n->row.spec || n->recipe_changed || !recipe || !differ(n->row.recipe, recipe))
		return;
	/* Made before anybody wrote down how, or when it could not be told: as it is made now, as far as is known. */
	_cleanup_free_ char *known = recipe_complete(n->row.recipe, recipe);
	if (differ(n->row.recipe, known)) {
		str_replace(&n->row.recipe, known);
		mark_node(e, n);
	}
}

bool node_needs_rebuild(const struct node *n)
{
	if (!n->wanted || n->row.phase == NODE_PLANNED || n->row.phase == NODE_RELEASING || n->rebuilding)
		return false;
	if (n->row.wish_rebuild)
		return true;
	return n->row.spec && n->spec_now && (strcmp(n->row.spec, n->spec_now) != 0 || n->recipe_changed);
}

static bool approved_is(const struct node *n, const char *what)
{
	_cleanup_free_ char *full = xasprintf("%s:%s", what, n->target_now ? n->target_now : "");
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
