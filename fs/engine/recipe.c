/* How an image is made, as the provider that makes it describes it: the keys of its [image NAME], each with its value, a list sorted, a file with the
 * digest of what lay there. Kept as JSON with every machine made from it, so that the plan can tell what has changed since. What was not known then,
 * or is not now, is no difference. */
#include "fs/engine/internal.h"
#include <string.h>

#define IMAGES "image *"
#define DIGEST_TOLD 8

static json_t *list_of(const char *text)
{
	_cleanup_strlist_ struct strlist items = {0};
	json_t *list = json_array();
	strlist_split(&items, text);
	strlist_sort(&items);
	for (size_t i = 0; i < items.n; i++)
		json_array_append_new(list, json_string(items.items[i]));
	return list;
}

/* A file's entry: what it is called, and the digest of what lay there (null: not known). */
static json_t *file_of(const struct def_provider *def, const char *section, const char *key, const char *name)
{
	return json_pack("{s:s, s:s?}", "file", name, "digest", settings_get(&def->files, section, key));
}

const char *node_image_name(const struct node *n)
{
	const char *image = node_image(n);
	return image || !n->provider || !n->provider->ops ? image : n->provider->ops->default_image;
}

char *node_recipe(const struct node *n)
{
	const char *image = node_image_name(n);
	const struct def_provider *def = n->provider ? n->provider->def : NULL;
	const struct key_row *rows = n->provider && n->provider->ops ? n->provider->ops->keys : NULL;
	json_t *recipe = NULL;
	if (!image || !def)
		return NULL;
	_cleanup_free_ char *section = xasprintf("image %s", image);
	for (const struct key_row *r = rows; r && r->section; r++) {
		const char *value = settings_get(&def->settings, section, r->key);
		if (strcmp(r->section, IMAGES))
			continue;
		if (!recipe)
			recipe = json_object();
		if (!value || !*value)
			value = r->dflt;
		if (value && *value)
			json_object_set_new(recipe, r->key,
			        r->type == VALUE_LIST ? list_of(value)
			        : r->file             ? file_of(def, section, r->key, value)
			                              : json_string(value));
	}
	char *text = recipe ? json_dumps(recipe, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	json_decref(recipe);
	return text;
}

/* ---- comparing ---- */

static json_t *parsed(const char *recipe)
{
	json_t *j = recipe ? json_loads(recipe, 0, NULL) : NULL;
	if (json_is_object(j))
		return j;
	json_decref(j);
	return NULL;
}

static const char *file_digest(const json_t *value)
{
	return json_string_value(json_object_get(value, "digest"));
}

/* The same file, of which once it was not known what it holds. */
static bool is_half_known(const json_t *was, const json_t *now)
{
	return json_is_object(was) && json_is_object(now) && json_equal(json_object_get(was, "file"), json_object_get(now, "file")) &&
	       (!file_digest(was) || !file_digest(now));
}

static bool has_item(const json_t *list, const json_t *item)
{
	size_t i;
	json_t *o;
	json_array_foreach(list, i, o) if (json_equal(o, item)) return true;
	return false;
}

static void items_diff(struct buf *out, const json_t *list, const json_t *other, char sign)
{
	size_t i;
	json_t *item;
	json_array_foreach(list, i, item) if (!has_item(other, item)) buf_addf(out, " %c %s", sign, json_string_value(item));
}

static const char *value_text(const json_t *value)
{
	const char *text = json_string_value(json_is_object(value) ? json_object_get(value, "file") : value);
	return text ? text : "-";
}

static void key_diff(struct buf *out, const char *key, const json_t *was, const json_t *now)
{
	buf_addf(out, "%s%s", out->len ? ", " : "", key);
	if (json_is_array(was) || json_is_array(now)) {
		items_diff(out, now, was, '+');
		items_diff(out, was, now, '-');
	} else if (json_is_object(was) && json_is_object(now) && !strcmp(value_text(was), value_text(now))) {
		buf_addf(out, " %s %.*s -> %.*s", value_text(now), DIGEST_TOLD, file_digest(was), DIGEST_TOLD, file_digest(now));
	} else {
		buf_addf(out, " %s -> %s", value_text(was), value_text(now));
	}
}

bool recipe_diff(const char *was, const char *now, struct buf *out)
{
	if (!was || !now || !strcmp(was, now))
		return false;
	json_t *a = parsed(was), *b = parsed(now), *v;
	struct buf text = {0};
	const char *key;
	if (a && b) {
		json_object_foreach(b, key, v)
		{
			const json_t *before = json_object_get(a, key);
			if (!json_equal(before, v) && !is_half_known(before, v))
				key_diff(&text, key, before, v);
		}
		json_object_foreach(a, key, v) if (!json_object_get(b, key)) key_diff(&text, key, v, NULL);
	}
	bool differs = text.len > 0;
	if (out)
		buf_adds(out, buf_str(&text));
	buf_release(&text);
	json_decref(a);
	json_decref(b);
	return differs;
}

char *recipe_complete(const char *was, const char *now)
{
	json_t *a = parsed(was), *b = parsed(now), *v;
	const char *key;
	if (!a) {
		a = b;
		b = NULL;
	}
	json_object_foreach(b, key, v)
	{
		const json_t *before = json_object_get(a, key);
		if (is_half_known(before, v) && !file_digest(before))
			json_object_set(a, key, v);
	}
	char *text = a ? json_dumps(a, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	json_decref(a);
	json_decref(b);
	return text;
}
