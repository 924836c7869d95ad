/* Secrets that a provider needs to make or reach a declared node. It gets them with the node's declaration; they are in no row, plan or digest. */
#include "fs/engine/secrets.h"

#include <string.h>

/* The secret that a setting of the node stands for, as its provider has it declared; NULL: none. */
static const char *name_of(const struct node *n, const struct setting *s)
{
	bool known;
	const struct key_row *keys = n->provider && n->provider->ops ? n->provider->ops->node_keys : NULL;
	const struct key_row *row = keys ? key_find(keys, s->section, s->key, &known) : NULL;
	return row && row->secret ? secret_ref(s->value) : NULL;
}

bool secrets_node_ready(struct engine *e, const struct node *n, char **ret_why)
{
	const struct def_node *def = n->declared ? node_definition(n) : NULL;
	bool ready = true;
	*ret_why = NULL;
	for (size_t i = 0; def && i < def->settings.n; i++) {
		const char *name = name_of(n, &def->settings.items[i]);
		struct secret_entry *s = name ? secret_entry(e, name) : NULL;
		if (!s || s->value)
			continue;
		ready = false;
		if (s->why && !*ret_why) {
			*ret_why = s->why; /* the next attempt asks anew */
			s->why = NULL;
		} else {
			secret_ask(e, s);
		}
	}
	return ready;
}

void secrets_node_fill(struct engine *e, const struct node *n, struct settings *settings)
{
	for (size_t i = 0; i < settings->n; i++) {
		const char *name = name_of(n, &settings->items[i]);
		const struct secret *s = name ? secret_value(e, name) : NULL;
		if (s)
			str_replace(&settings->items[i].value, s->value);
	}
}

void secret_node_users(struct engine *e, const struct secret_entry *s)
{
	for (struct node *n = e->m.nodes_by_name; n; n = n->hh_name.next) {
		bool uses = false;
		if (!n->declared || (n->row.phase != NODE_PLANNED && n->row.phase != NODE_CREATING))
			continue;
		const struct def_node *def = node_definition(n);
		for (size_t i = 0; def && !uses && i < def->settings.n; i++) {
			const char *name = name_of(n, &def->settings.items[i]);
			uses = name && !strcmp(name, s->name);
		}
		if (uses)
			queue_node(e, n);
	}
}
