/* The digest of a node role: what it is made of, and when it has to be made again.
 *
 * A digest is a list of parts, each a name and a hash. What many node roles share (the table of all nodes, the outputs of a role, the parameters of a
 * group) is hashed once and the digest itself is shared where nothing is the node's own: ten thousand nodes that each hash the list of all peers
 * cost 3.6 s and 6 GB, shared 5 ms. */
#include "fs/base/secret.h"
#include "fs/engine/internal.h"
#include <string.h>

struct digest *digest_ref(struct digest *d)
{
	if (d)
		d->refs++;
	return d;
}

void digest_unref(struct digest *d)
{
	if (!d || --d->refs)
		return;
	free(d->parts);
	free(d->missing);
	free(d->secrets);
	free(d);
}

/* ---- slots ---- */

void slots_free(struct deployment *d)
{
	for (size_t i = 0; d->slots && i < d->def->n_roles; i++) {
		struct role_slot *s = &d->slots[i];
		for (size_t g = 0; g < s->n_shared; g++)
			digest_unref(s->shared[g]);
		for (size_t k = 0; k < s->n_outputs; k++)
			free(s->outputs[k].key);
		free(s->shared);
		free(s->outputs);
		free(s->dependants);
	}
	free(d->slots);
	d->slots = NULL;
	free(d->nodes_part);
	d->nodes_part = NULL;
	free(d->nodes_missing);
	d->nodes_missing = NULL;
	d->nodes_fresh = false;
}

static ssize_t role_index_of(const struct def_deployment *def, const char *name)
{
	for (size_t i = 0; i < def->n_roles; i++)
		if (!strcmp(def->roles[i]->name, name))
			return (ssize_t)i;
	return -1;
}

void slots_make(struct deployment *d)
{
	const struct def_deployment *def = d->def;
	d->slots = xcalloc(def->n_roles ? def->n_roles : 1, sizeof *d->slots);
	for (size_t i = 0; i < def->n_roles; i++) {
		d->slots[i].n_shared = def->n_groups;
		d->slots[i].shared = xcalloc(def->n_groups ? def->n_groups : 1, sizeof(struct digest *));
		d->slots[i].dependants = xcalloc(def->n_roles, sizeof(bool));
		d->slots[i].open_turn = UINT64_MAX;
	}
	for (size_t i = 0; i < def->n_roles; i++) {
		const struct def_role *r = def->roles[i];
		ssize_t on;
		for (size_t a = 0; a < r->after.n; a++)
			if ((on = role_index_of(def, r->after.items[a])) >= 0)
				d->slots[on].dependants[i] = true;
		for (size_t w = 0; w < r->n_wants; w++)
			if (r->wants[w].kind == WANT_OUTPUT && (on = role_index_of(def, r->wants[w].role)) >= 0)
				d->slots[on].dependants[i] = true;
	}
}

/* ---- going stale ---- */

static void stale_role(struct engine *e, struct deployment *d, size_t role)
{
	struct role_slot *s = &d->slots[role];
	for (size_t g = 0; g < s->n_shared; g++) {
		digest_unref(s->shared[g]);
		s->shared[g] = NULL;
	}
	for (size_t i = 0; i < d->n_nodes; i++)
		for (size_t k = 0; k < d->nodes[i]->n_roles; k++) {
			struct node_role *nr = d->nodes[i]->roles[k];
			if (nr->def && nr->role_index == role) {
				nr->stale = true;
				queue_node_role(e, nr);
			}
		}
}

void stale_deployment(struct engine *e, struct deployment *d)
{
	if (!d->def)
		return;
	d->nodes_fresh = false;
	for (size_t i = 0; i < d->def->n_roles; i++) {
		for (size_t k = 0; k < d->slots[i].n_outputs; k++)
			d->slots[i].outputs[k].fresh = false;
		stale_role(e, d, i);
	}
}

static bool wants(const struct def_role *r, enum want_kind kind, const char *role)
{
	for (size_t i = 0; i < r->n_wants; i++)
		if (r->wants[i].kind == kind && (!role || !strcmp(r->wants[i].role, role)))
			return true;
	return false;
}

void stale_nodes_input(struct engine *e, struct deployment *d)
{
	if (!d || !d->def || !d->nodes_fresh)
		return;
	d->nodes_fresh = false;
	for (size_t i = 0; i < d->def->n_roles; i++)
		if (wants(d->def->roles[i], WANT_NODES, NULL))
			stale_role(e, d, i);
}

void stale_facts(struct engine *e, struct node *n)
{
	for (size_t i = 0; i < n->n_roles; i++)
		if (n->roles[i]->def && (wants(n->roles[i]->def, WANT_FACT, NULL) || wants(n->roles[i]->def, WANT_NODE, NULL))) {
			n->roles[i]->stale = true;
			queue_node_role(e, n->roles[i]);
		}
}

void stale_outputs(struct engine *e, struct deployment *d, size_t role_index)
{
	struct role_slot *s = &d->slots[role_index];
	for (size_t k = 0; k < s->n_outputs; k++)
		s->outputs[k].fresh = false;
	for (size_t i = 0; i < d->def->n_roles; i++)
		if (s->dependants[i] && wants(d->def->roles[i], WANT_OUTPUT, d->def->roles[role_index]->name))
			stale_role(e, d, i);
}

void stale_leaving(struct engine *e, struct node *n)
{
	struct deployment *d = n->deployment;
	stale_nodes_input(e, d);
	for (size_t i = 0; d && d->def && i < n->n_roles; i++) {
		ssize_t on = role_index_of(d->def, n->roles[i]->row.role);
		if (on >= 0 && n->roles[i]->n_outputs)
			stale_outputs(e, d, (size_t)on);
	}
}

/* ---- making ---- */

static void part_add(struct digest *d, size_t *cap, const char *name, const struct hash *h)
{
	GROW(d->parts, d->n_parts, *cap);
	d->parts[d->n_parts++] = (struct part){name, *h};
}

static void part_text(struct engine *e, struct digest *d, size_t *cap, const char *name, const char *text)
{
	struct hash h;
	hash_bytes(text, strlen(text), &h);
	component_keep(e, &h, text, false);
	part_add(d, cap, intern(e, name), &h);
}

static void missing(struct digest *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void missing(struct digest *d, const char *fmt, ...)
{
	d->complete = false;
	if (d->missing)
		return;
	struct buf b = {0};
	va_list ap;
	va_start(ap, fmt);
	buf_vaddf(&b, fmt, ap);
	va_end(ap);
	d->missing = buf_detach(&b, NULL);
}

static void digest_secret(struct engine *e, struct digest *d, const char *name)
{
	for (size_t i = 0; i < d->n_secrets; i++)
		if (!strcmp(d->secrets[i], name))
			return;
	d->secrets = xreallocarray(d->secrets, d->n_secrets + 1, sizeof *d->secrets);
	d->secrets[d->n_secrets++] = intern(e, name);
}

/* What is written, secret:NAME, is the text of the component: that it changed can be told, and no more. */
static void param_part(struct engine *e, struct digest *d, size_t *cap, const char *param, const char *value)
{
	const char *name = secret_ref(value);
	struct hash h;
	if (!name) {
		part_text(e, d, cap, param, value ? value : "");
		return;
	}
	digest_secret(e, d, name);
	if (secrets_hash(e, name, &h)) {
		component_keep(e, &h, value, false);
		part_add(d, cap, intern(e, param), &h);
	} else {
		missing(d, "secret '%s'", name);
	}
}

static const struct part *nodes_part(struct engine *e, struct deployment *d)
{
	if (d->nodes_fresh)
		return d->nodes_part;
	_cleanup_buf_ struct buf text = {0};
	const struct node *lacks = NULL;
	nodes_input_text(d, &text, &lacks);
	free(d->nodes_part);
	d->nodes_part = NULL;
	str_replace(&d->nodes_missing, NULL);
	if (lacks) {
		d->nodes_missing = xasprintf("the address of %s", lacks->row.name);
	} else {
		d->nodes_part = xcalloc(1, sizeof *d->nodes_part);
		d->nodes_part->name = intern(e, "nodes");
		hash_bytes(buf_str(&text), text.len, &d->nodes_part->hash);
		component_keep(e, &d->nodes_part->hash, buf_str(&text), false);
	}
	d->nodes_fresh = true;
	return d->nodes_part;
}

/* Nodes that are held are gone on without: what they once gave out still counts, what they never gave is not waited for. */
bool output_input_missing(const struct deployment *d, size_t role_index, const struct node_role **ret_first)
{
	if (!d->slots[role_index].pending)
		return false;
	for (size_t i = 0; i < d->n_nodes; i++) {
		const struct node *n = d->nodes[i];
		if (!n->wanted || n->row.held)
			continue;
		for (size_t k = 0; k < n->n_roles; k++)
			if (n->roles[k]->def && n->roles[k]->role_index == role_index && !node_role_is_active(n->roles[k])) {
				*ret_first = n->roles[k];
				return true;
			}
	}
	return false;
}

/* The values are on the nodes that made them: a run has to fetch them all. */
static void secret_outputs_part(struct engine *e, struct deployment *d, struct digest *dg, const struct def_want *w)
{
	for (size_t i = 0; i < d->n_nodes; i++) {
		const struct node_role *nr = node_role_find(d->nodes[i], w->role);
		for (size_t o = 0; outputs_are_input(nr) && o < nr->n_outputs; o++)
			if (!strcmp(nr->outputs[o].key, w->key) && output_is_secret(&nr->outputs[o])) {
				_cleanup_free_ char *name = secret_output_name(w->role, w->key, nr->node->row.name);
				digest_secret(e, dg, name);
			}
	}
}

/* What expires is no reason to run again: only who gives it out counts. */
static void output_lines(const struct node_role *nr, const char *key, bool expires, struct buf *out)
{
	for (size_t o = 0; outputs_are_input(nr) && o < nr->n_outputs; o++) {
		const struct output *output = &nr->outputs[o];
		if (strcmp(output->key, key))
			continue;
		bool secret = output_is_secret(output);
		buf_addf(out, "%s=%s%s\n", nr->node->row.name, secret ? "secret " : "", expires ? "expires" : output->value + secret);
	}
}

static void output_part(struct engine *e, struct deployment *d, struct digest *dg, size_t *cap, const struct def_want *w)
{
	ssize_t on = role_index_of(d->def, w->role);
	const struct node_role *first = NULL;
	if (on < 0) {
		missing(dg, "role %s, which is not used here", w->role);
		return;
	}
	const struct def_output *def = def_output_find(d->def->roles[on], w->key);
	bool expires = def && def->ttl_ms > 0;
	if (output_input_missing(d, (size_t)on, &first)) {
		missing(dg, "%s on %s", w->role, first->node->row.name);
		return;
	}
	struct role_slot *s = &d->slots[on];
	struct output_part *op = NULL;
	for (size_t k = 0; k < s->n_outputs; k++)
		if (!strcmp(s->outputs[k].key, w->key))
			op = &s->outputs[k];
	if (!op) {
		s->outputs = xreallocarray(s->outputs, s->n_outputs + 1, sizeof *s->outputs);
		op = &s->outputs[s->n_outputs++];
		*op = (struct output_part){.key = xstrdup(w->key)};
	}
	if (!op->fresh) {
		_cleanup_buf_ struct buf text = {0};
		for (size_t i = 0; i < d->n_nodes; i++)
			output_lines(node_role_find(d->nodes[i], w->role), w->key, expires, &text);
		hash_bytes(buf_str(&text), text.len, &op->part.hash);
		op->part.name = intern(e, w->text);
		component_keep(e, &op->part.hash, buf_str(&text), false);
		op->fresh = true;
	}
	part_add(dg, cap, op->part.name, &op->part.hash);
	if (def && def->secret)
		secret_outputs_part(e, d, dg, w);
}

static void fact_part(struct engine *e, struct node *n, struct digest *dg, size_t *cap, const struct def_want *w)
{
	json_t *facts = n->row.facts ? json_loads(n->row.facts, 0, NULL) : NULL;
	json_t *value = json_object_get(facts, w->key);
	if (!facts) {
		missing(dg, "the facts of %s", n->row.name);
	} else {
		/* A fact that this kind of machine does not have is known to be absent. */
		char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_SORT_KEYS) : xstrdup("null");
		part_text(e, dg, cap, w->text, text);
		free(text);
	}
	json_decref(facts);
}

static void digest_seal(struct digest *d)
{
	struct hasher *h = hasher_new();
	for (size_t i = 0; i < d->n_parts; i++) {
		hasher_add_str(h, d->parts[i].name);
		hasher_add(h, &d->parts[i].hash, sizeof d->parts[i].hash);
	}
	hasher_end(h, &d->hash);
	hasher_free(h);
}

static struct digest *digest_make(struct engine *e, struct node_role *nr)
{
	struct deployment *d = nr->node->deployment;
	const struct def_role *r = nr->def;
	struct digest *dg = xcalloc(1, sizeof *dg);
	size_t cap = 0;

	dg->refs = 1;
	dg->complete = true;
	part_add(dg, &cap, intern(e, "content"), &r->content);
	part_add(dg, &cap, intern(e, "runner"), &r->runner_keys);
	component_keep(e, &r->runner_keys, r->runner, false);
	for (size_t i = 0; i < r->n_params; i++) {
		param_part(e, dg, &cap, r->params[i].name, node_role_param(nr, &r->params[i], NULL));
	}
	for (size_t i = 0; i < r->n_wants; i++) {
		const struct def_want *w = &r->wants[i];
		const struct part *nodes;
		switch (w->kind) {
		case WANT_NODES:
			if ((nodes = nodes_part(e, d)))
				part_add(dg, &cap, nodes->name, &nodes->hash);
			else
				missing(dg, "%s", d->nodes_missing);
			break;
		case WANT_NODE:
			if (nr->node->row.address) {
				_cleanup_free_ char *text = xasprintf("%s %s %s", nr->node->row.name, nr->node->row.group, nr->node->row.address);
				part_text(e, dg, &cap, "node", text);
			} else {
				missing(dg, "the address of %s", nr->node->row.name);
			}
			break;
		case WANT_FACT:
			fact_part(e, nr->node, dg, &cap, w);
			break;
		case WANT_OUTPUT:
			output_part(e, d, dg, &cap, w);
			break;
		}
	}
	digest_seal(dg);
	return dg;
}

static bool has_own_inputs(const struct node_role *nr)
{
	if (wants(nr->def, WANT_NODE, NULL) || wants(nr->def, WANT_FACT, NULL))
		return true;
	const struct def_node *def = nr->node->declared ? node_definition(nr->node) : NULL;
	if (!def)
		return false;
	for (size_t i = 0; i < def->settings.n; i++)
		if (!strncmp(def->settings.items[i].section, "params ", 7) && !strcmp(def->settings.items[i].section + 7, nr->row.role))
			return true;
	return false;
}

void digest_refresh(struct engine *e, struct node_role *nr)
{
	struct deployment *d = nr->node->deployment;
	if (!nr->stale || !nr->def || !d || !d->def)
		return;
	nr->stale = false;
	str_replace(&nr->lacks, NULL);
	struct digest **shared = NULL;
	if (nr->node->group && !has_own_inputs(nr)) {
		size_t g = (size_t)(nr->node->group - d->def->groups);
		if (g < d->slots[nr->role_index].n_shared)
			shared = &d->slots[nr->role_index].shared[g];
	}
	struct digest *now = shared && *shared ? digest_ref(*shared) : digest_make(e, nr);
	if (shared && !*shared)
		*shared = digest_ref(now);
	if (nr->digest && !hash_eq(&nr->digest->hash, &now->hash))
		touch_deployment(e, d);
	digest_unref(nr->digest);
	nr->digest = now;
}

/* ---- approval ---- */

void digest_known_hash(const struct digest *d, const char *unknown, struct hash *ret)
{
	struct strlist names = {0};
	struct hasher *h = hasher_new();
	strlist_split(&names, unknown ? unknown : "");
	for (size_t i = 0; i < d->n_parts; i++)
		if (!strlist_has(&names, d->parts[i].name)) {
			hasher_add_str(h, d->parts[i].name);
			hasher_add(h, &d->parts[i].hash, sizeof d->parts[i].hash);
		}
	hasher_end(h, ret);
	hasher_free(h);
	strlist_release(&names);
}

static void unknown_name(const struct digest *d, const char *name, struct buf *out)
{
	for (size_t k = 0; k < d->n_parts; k++)
		if (!strcmp(d->parts[k].name, name))
			return;
	buf_addf(out, "%s%s", out->len ? "," : "", name);
}

/* Names of parameters (secret ones) and wanted inputs that have no part yet, comma-separated. */
static void unknown_names(const struct node_role *nr, struct buf *out)
{
	for (size_t i = 0; i < nr->def->n_params; i++)
		unknown_name(nr->digest, nr->def->params[i].name, out);
	for (size_t i = 0; i < nr->def->n_wants; i++)
		unknown_name(nr->digest, nr->def->wants[i].text, out);
}

void digest_approve(struct node_role *nr)
{
	_cleanup_buf_ struct buf unknown = {0};
	struct hash h;
	char hex[HASH_HEX];
	unknown_names(nr, &unknown);
	digest_known_hash(nr->digest, buf_str(&unknown), &h);
	hash_hex(&h, hex);
	str_replace(&nr->row.approved, hex);
	str_replace(&nr->row.approved_unknown, unknown.len ? buf_str(&unknown) : NULL);
}

bool digest_approved(const struct node_role *nr)
{
	const struct deployment *d = nr->node->deployment;
	if (nr->row.wish_run)
		return true;
	if (d && d->def && !d->def->apply_manual && !node_role_destroys(nr))
		return true;
	/* Who agreed to the run of a role that needs its output agreed to this: it does what it did. */
	if (nr->renewing && node_role_ran_digest(nr))
		return true;
	struct hash approved, now;
	if (!nr->row.approved || !nr->digest || !hash_from_hex(nr->row.approved, &approved))
		return false;
	digest_known_hash(nr->digest, nr->row.approved_unknown, &now);
	return hash_eq(&approved, &now);
}
