/* Inputs of node roles: what a run is given, and only what its role asks for. */
#include "fs/base/secret.h"
#include "fs/engine/internal.h"
#include <string.h>

bool node_is_input(const struct node *n)
{
	/* From its creation's apply to its release's apply, never by its state. */
	if (n->row.phase == NODE_PLANNED && n->row.incarnation == 0)
		return n->wanted && node_step_approved(n);
	if (n->row.phase == NODE_RELEASING && !n->rebuilding)
		return false;
	return !n->row.wish_release;
}

bool outputs_are_input(const struct node_role *nr)
{
	/* What a surplus node gave out goes with the node, when somebody has said so. */
	return nr && (nr->def || !nr->node->group) && node_is_input(nr->node);
}

void nodes_input_text(const struct deployment *d, struct buf *out, const struct node **ret_missing)
{
	for (size_t i = 0; i < d->n_nodes; i++) {
		const struct node *n = d->nodes[i];
		if (!node_is_input(n))
			continue;
		if (!n->row.address && !*ret_missing)
			*ret_missing = n;
		buf_addf(out, "%s %s %s\n", n->row.name, n->row.group ? n->row.group : "-", n->row.address ? n->row.address : "?");
	}
}

json_t *param_json(const struct def_param *p, const char *value)
{
	int64_t number;
	bool flag;
	if (!value)
		return json_null();
	if (secret_ref(value))
		return json_string(value);
	switch (p->type) {
	case VALUE_INT:
		return parse_int(value, &number, NULL) < 0 ? json_string(value) : json_integer(number);
	case VALUE_SIZE:
		return parse_size(value, &number, NULL) < 0 ? json_string(value) : json_integer(number);
	case VALUE_DURATION: /* seconds, as every config tool counts; milliseconds as a fraction */
		if (parse_duration(value, &number, NULL) < 0)
			return json_string(value);
		return number % 1000 ? json_real((double)number / 1000) : json_integer(number / 1000);
	case VALUE_FLOAT:
		return json_real(strtod(value, NULL));
	case VALUE_BOOL:
		return parse_bool(value, &flag, NULL) < 0 ? json_string(value) : json_boolean(flag);
	case VALUE_LIST: {
		struct strlist items = {0};
		json_t *list = json_array();
		strlist_split(&items, value);
		for (size_t i = 0; i < items.n; i++)
			json_array_append_new(list, json_string(items.items[i]));
		strlist_release(&items);
		return list;
	}
	case VALUE_JSON: {
		json_t *v = json_loads(value, JSON_DECODE_ANY, NULL);
		return v ? v : json_string(value);
	}
	case VALUE_STRING:
	case VALUE_ENUM:
		break;
	}
	return json_string(value);
}

/* A value is no reference, whatever it begins with. */
static json_t *secret_json(const struct def_param *p, const struct secret *s)
{
	return secret_ref(s->value) ? json_string(s->value) : param_json(p, s->value);
}

static json_t *node_json(const struct node *n)
{
	return json_pack("{s:s, s:s*, s:s*}", "name", n->row.name, "group", n->row.group, "address", n->row.address);
}

static json_t *outputs_json(const struct deployment *d, const char *role, const char *key)
{
	json_t *table = json_object();
	for (size_t i = 0; i < d->n_nodes; i++) {
		const struct node_role *nr = node_role_find(d->nodes[i], role);
		if (!outputs_are_input(nr))
			continue;
		for (size_t o = 0; o < nr->n_outputs; o++)
			if (!strcmp(nr->outputs[o].key, key))
				json_object_set_new(table, nr->node->row.name, json_string(output_shown(&nr->outputs[o])));
	}
	return table;
}

const char *node_role_param(const struct node_role *nr, const struct def_param *p, const char **ret_origin)
{
	const struct deployment *d = nr->node->deployment;
	return desired_param(d->def_owner, d->def, nr->def, nr->node->row.group, nr->node->declared ? nr->node->row.name : NULL, p, ret_origin);
}

json_t *node_role_params(const struct node_role *nr, bool with_origin)
{
	const struct def_role *r = nr->def;
	json_t *params = json_object();
	for (size_t i = 0; i < r->n_params; i++) {
		const char *origin = NULL;
		const char *value = node_role_param(nr, &r->params[i], &origin);
		json_t *v = param_json(&r->params[i], value);
		json_object_set_new(
		        params, r->params[i].name, with_origin ? json_pack("{s:o, s:s}", "value", v, "origin", origin ? origin : "not set") : v);
	}
	return params;
}

json_t *node_role_inputs(const struct model *m, const struct node_role *nr, bool with_origin)
{
	const struct deployment *d = nr->node->deployment;
	const struct def_role *r = nr->def;
	if (!r || !d || !d->def || !nr->digest || (!nr->digest->complete && !with_origin))
		return NULL;

	json_t *in = json_object();
	json_object_set_new(in, "params", node_role_params(nr, with_origin));
	for (size_t i = 0; i < r->n_wants; i++) {
		const struct def_want *w = &r->wants[i];
		switch (w->kind) {
		case WANT_NODES: {
			json_t *nodes = json_array();
			for (size_t k = 0; k < d->n_nodes; k++)
				if (node_is_input(d->nodes[k]))
					json_array_append_new(nodes, node_json(d->nodes[k]));
			json_object_set_new(in, "nodes", nodes);
			break;
		}
		case WANT_NODE:
			json_object_set_new(in, "node", node_json(nr->node));
			break;
		case WANT_FACT: {
			json_t *have = json_object_get(in, "facts");
			if (!have) {
				have = json_object();
				json_object_set_new(in, "facts", have);
			}
			json_t *facts = nr->node->row.facts ? json_loads(nr->node->row.facts, 0, NULL) : NULL;
			json_t *value = json_object_get(facts, w->key);
			json_object_set(have, w->key, value ? value : json_null());
			json_decref(facts);
			break;
		}
		case WANT_OUTPUT: {
			json_t *outputs = json_object_get(in, "outputs");
			if (!outputs) {
				outputs = json_object();
				json_object_set_new(in, "outputs", outputs);
			}
			json_t *role = json_object_get(outputs, w->role);
			if (!role) {
				role = json_object();
				json_object_set_new(outputs, w->role, role);
			}
			json_object_set_new(role, w->key, outputs_json(d, w->role, w->key));
			break;
		}
		}
	}
	return in;
}

static void fetched_outputs(struct engine *e, const struct node_role *nr, const struct def_want *w, json_t *in)
{
	const struct deployment *d = nr->node->deployment;
	json_t *table = json_object_get(json_object_get(json_object_get(in, "outputs"), w->role), w->key);
	for (size_t i = 0; i < d->n_nodes; i++) {
		_cleanup_free_ char *name = secret_output_name(w->role, w->key, d->nodes[i]->row.name);
		const struct secret *s = secret_value(e, name);
		if (s && json_object_get(table, d->nodes[i]->row.name))
			json_object_set_new(table, d->nodes[i]->row.name, json_string(s->value));
	}
}

json_t *node_role_secret_params(const struct node_role *nr)
{
	json_t *names = json_array();
	for (size_t i = 0; i < nr->def->n_params; i++)
		if (secret_ref(node_role_param(nr, &nr->def->params[i], NULL)))
			json_array_append_new(names, json_string(nr->def->params[i].name));
	return names;
}

json_t *run_inputs(struct engine *e, const struct node_role *nr)
{
	json_t *in = node_role_inputs(&e->m, nr, false), *params = json_object_get(in, "params");
	for (size_t i = 0; in && i < nr->def->n_params; i++) {
		const struct def_param *p = &nr->def->params[i];
		const char *name = secret_ref(node_role_param(nr, p, NULL));
		const struct secret *s = name ? secret_value(e, name) : NULL;
		if (s)
			json_object_set_new(params, p->name, secret_json(p, s));
	}
	for (size_t i = 0; in && i < nr->def->n_wants; i++)
		if (nr->def->wants[i].kind == WANT_OUTPUT)
			fetched_outputs(e, nr, &nr->def->wants[i], in);
	return in;
}
