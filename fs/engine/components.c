/* What digests were made of, remembered under their hashes: a plan can say "quorum 3 -> 5" because both texts are still there. */
#include "fs/engine/internal.h"
#include <string.h>

const char *model_component_text(const struct model *m, const struct hash *h)
{
	struct hash_component *c = NULL;
	HASH_FIND(hh, m->components, h, sizeof *h, c);
	return c ? c->text : NULL;
}

/* A `nodes` table of ten thousand is worth showing as "nodes + etcd-db-4"; a blob is not. */
#define COMPONENT_TEXT_MAX (1 << 20)

void component_keep(struct engine *e, const struct hash *h, const char *text, bool store)
{
	struct hash_component *c = NULL;
	HASH_FIND(hh, e->m.components, h, sizeof *h, c);
	if (c)
		return;
	c = xcalloc(1, sizeof *c);
	c->hash = *h;
	c->text = text && strlen(text) <= COMPONENT_TEXT_MAX ? xstrdup(text) : NULL;
	HASH_ADD(hh, e->m.components, hash, sizeof c->hash, c);
	if (store) {
		struct row_component row = {*h, c->text};
		store_put_component(engine_batch(e), &row);
	}
}

static struct kept_digest *kept_find(const struct model *m, const struct hash *h)
{
	struct kept_digest *k = NULL;
	HASH_FIND(hh, m->digests, h, sizeof *h, k);
	return k;
}

void digest_keep(struct engine *e, const struct digest *d)
{
	if (kept_find(&e->m, &d->hash))
		return;
	struct kept_digest *k = xcalloc(1, sizeof *k);
	k->hash = d->hash;
	k->digest = xcalloc(1, sizeof *k->digest);
	*k->digest = (struct digest){.refs = 1, .hash = d->hash, .n_parts = d->n_parts, .complete = true};
	k->digest->parts = d->n_parts ? xmemdup(d->parts, d->n_parts * sizeof *d->parts) : NULL;
	HASH_ADD(hh, e->m.digests, hash, sizeof k->hash, k);

	json_t *parts = json_object();
	for (size_t i = 0; i < d->n_parts; i++) {
		char hex[HASH_HEX];
		hash_hex(&d->parts[i].hash, hex);
		json_object_set_new(parts, d->parts[i].name, json_string(hex));
		struct row_component row = {d->parts[i].hash, (char *)model_component_text(&e->m, &d->parts[i].hash)};
		store_put_component(engine_batch(e), &row);
	}
	char *text = json_dumps(parts, JSON_COMPACT);
	struct row_digest row = {d->hash, text};
	store_put_digest(engine_batch(e), &row);
	free(text);
	json_decref(parts);
}

const struct digest *digest_kept(const struct model *m, const char *hex)
{
	struct hash h;
	if (!hex || !hash_from_hex(hex, &h))
		return NULL;
	struct kept_digest *k = kept_find(m, &h);
	return k ? k->digest : NULL;
}

/* ---- forgetting ---- */

static void component_live(const struct model *m, const struct hash *h)
{
	struct hash_component *c = NULL;
	HASH_FIND(hh, m->components, h, sizeof *h, c);
	if (c)
		c->live = true;
}

static void parts_live(const struct model *m, const struct digest *d)
{
	for (size_t i = 0; d && i < d->n_parts; i++)
		component_live(m, &d->parts[i].hash);
}

static void hex_live(const struct model *m, const char *hex)
{
	struct hash h;
	struct kept_digest *k = hex && hash_from_hex(hex, &h) ? kept_find(m, &h) : NULL;
	if (k && !k->live) {
		k->live = true;
		parts_live(m, k->digest);
	}
}

static void slots_live(const struct model *m, const struct deployment *d)
{
	if (d->nodes_part)
		component_live(m, &d->nodes_part->hash);
	for (size_t i = 0; d->slots && i < d->def->n_roles; i++) {
		for (size_t g = 0; g < d->slots[i].n_shared; g++)
			parts_live(m, d->slots[i].shared[g]);
		for (size_t k = 0; k < d->slots[i].n_outputs; k++)
			component_live(m, &d->slots[i].outputs[k].part.hash);
	}
}

/* A daemon that runs for years would remember every list of nodes that ever was. The store does the same when it is opened. */
void components_prune(struct engine *e)
{
	struct model *m = &e->m;
	if (HASH_COUNT(m->components) + HASH_COUNT(m->digests) < e->prune_at)
		return;
	for (struct node_role *nr = m->node_roles_by_id; nr; nr = nr->hh_id.next) {
		parts_live(m, nr->digest);
		hex_live(m, nr->row.last_digest);
		for (size_t i = 0; i < nr->n_runs; i++)
			hex_live(m, nr->runs[i].digest);
	}
	for (const struct deployment *d = m->deployments_by_name; d; d = d->hh_name.next)
		slots_live(m, d);
	struct kept_digest *k, *k_tmp;
	HASH_ITER (hh, m->digests, k, k_tmp) {
		if (!k->live) {
			HASH_DELETE(hh, m->digests, k);
			digest_unref(k->digest);
			free(k);
			continue;
		}
		k->live = false;
	}
	struct hash_component *c, *c_tmp;
	HASH_ITER (hh, m->components, c, c_tmp) {
		if (!c->live) {
			HASH_DELETE(hh, m->components, c);
			free(c->text);
			free(c);
			continue;
		}
		c->live = false;
	}
	e->prune_at = 2 * (HASH_COUNT(m->components) + HASH_COUNT(m->digests)) + PRUNE_FIRST;
}
