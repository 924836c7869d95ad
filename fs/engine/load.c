/* At start: rows become objects again. What was under way is taken up where it was. */
#include "fs/engine/internal.h"
#include <string.h>

static void load_nodes(struct engine *e, struct store_contents *c)
{
	for (size_t i = 0; i < c->n_nodes; i++) {
		struct row_node *r = &c->nodes[i];
		struct node *n = node_new(e, r->name, r->id);
		free(n->row.name); /* the table's key is the row's own string: take the loaded row as a whole, then key anew */
		HASH_DELETE(hh_name, e->m.nodes_by_name, n);
		n->row = *r;
		*r = (struct row_node){0};
		HASH_ADD_KEYPTR(hh_name, e->m.nodes_by_name, n->row.name, strlen(n->row.name), n);
		struct deployment *d = model_deployment(&e->m, n->row.deployment);
		if (n->row.provider) {
			n->provider = model_provider(&e->m, n->row.provider);
			if (!n->provider)
				n->provider = provider_object_new(e, n->row.provider);
		}
		if (d) {
			/* DEPLOYMENT-GROUP-N: the number of a counted node is the end of its name. */
			_cleanup_free_ char *prefix = xasprintf("%s-%s-", d->row.name, n->row.group ? n->row.group : "");
			if (!strncmp(n->row.name, prefix, strlen(prefix)))
				n->number = strtoll(n->row.name + strlen(prefix), NULL, 10);
			node_attach(n, d);
		}
		/* Between destroy and create of a rebuild. */
		n->rebuilding = n->row.phase == NODE_PLANNED && n->row.incarnation > 0 && n->row.approved && !strncmp(n->row.approved, "rebuild:", 8);
		if (n->row.phase == NODE_RELEASING && n->row.approved && !strncmp(n->row.approved, "rebuild:", 8))
			n->rebuilding = true;
	}
}

static void load_node_roles(struct engine *e, struct store_contents *c)
{
	for (size_t i = 0; i < c->n_node_roles; i++) {
		struct row_node_role *r = &c->node_roles[i];
		struct node *n = model_node_id(&e->m, r->node_id);
		if (!n)
			continue;
		struct node_role *nr = node_role_new(e, n, r->role, r->id);
		row_node_role_release(&nr->row);
		nr->row = *r;
		*r = (struct row_node_role){0};
		/* A run that was under way: to be found under its number as soon as its node answers. */
		nr->unattended = nr->row.last_run > 0 && nr->row.last_result < 0 && nr->row.last_digest;
	}
	for (size_t i = 0; i < c->n_outputs; i++) {
		struct node_role *nr = model_node_role_id(&e->m, c->outputs[i].node_role_id);
		if (!nr)
			continue;
		nr->outputs = xreallocarray(nr->outputs, nr->n_outputs + 1, sizeof *nr->outputs);
		nr->outputs[nr->n_outputs++] = (struct output){c->outputs[i].key, c->outputs[i].value};
		c->outputs[i].key = c->outputs[i].value = NULL;
	}
	for (size_t i = 0; i < c->n_runs; i++) {
		struct row_run *r = &c->runs[i];
		struct node_role *nr = model_node_role_id(&e->m, r->node_role_id);
		if (!nr)
			continue;
		if (r->result < 0 && r->number != nr->row.last_run) { /* a check that nobody waits for any more */
			store_del_run(engine_batch(e), r->number);
			continue;
		}
		nr->runs = xreallocarray(nr->runs, nr->n_runs + 1, sizeof *nr->runs);
		nr->runs[nr->n_runs++] =
		        (struct run_summary){r->number, r->started, r->took_ms, r->result, r->exit_status, r->why, r->digest, r->commit, r->dirty};
		r->why = r->digest = r->commit = NULL;
	}
}

static void load_digests(struct engine *e, struct store_contents *c)
{
	for (size_t i = 0; i < c->n_components; i++)
		component_keep(e, &c->components[i].hash, c->components[i].text, false);
	for (size_t i = 0; i < c->n_digests; i++) {
		json_t *parts = json_loads(c->digests[i].parts ? c->digests[i].parts : "", 0, NULL);
		if (!json_is_object(parts)) {
			json_decref(parts);
			continue;
		}
		struct kept_digest *k = xcalloc(1, sizeof *k);
		k->hash = c->digests[i].digest;
		k->digest = xcalloc(1, sizeof *k->digest);
		k->digest->refs = 1;
		k->digest->hash = k->hash;
		k->digest->complete = true;
		k->digest->parts = xcalloc(json_object_size(parts) + 1, sizeof *k->digest->parts);
		const char *name;
		json_t *hex;
		json_object_foreach(parts, name, hex)
		{
			struct part *p = &k->digest->parts[k->digest->n_parts];
			if (json_string_value(hex) && hash_from_hex(json_string_value(hex), &p->hash)) {
				p->name = intern(e, name);
				k->digest->n_parts++;
			}
		}
		HASH_ADD(hh, e->m.digests, hash, sizeof k->hash, k);
		json_decref(parts);
	}
}

static void load_events(struct engine *e, struct store_contents *c)
{
	struct model *m = &e->m;
	if (!c->n_events)
		return;
	/* Sequence numbers go on; a gap in what was kept would be shown as empty events: take the unbroken tail. */
	size_t first = c->n_events;
	while (first > 0 && c->n_events - first < EVENTS_KEPT &&
	        c->events[first - 1].seq == c->events[c->n_events - 1].seq - (int64_t)(c->n_events - first))
		first--;
	m->first_seq = c->events[first].seq;
	m->next_seq = c->events[c->n_events - 1].seq + 1;
	for (size_t i = first; i < c->n_events; i++) {
		struct row_event *r = &c->events[i];
		m->events[r->seq % EVENTS_KEPT] = (struct event){r->seq, r->at, r->deployment, r->node, r->role, r->who, r->text};
		*r = (struct row_event){0};
	}
}

void engine_take(struct engine *e, struct store_contents *c)
{
	e->next_id = c->max_id + 1;
	e->next_run = c->max_run + 1;
	e->m.first_seq = e->m.next_seq = c->max_seq + 1;
	load_events(e, c);
	load_digests(e, c);
	for (size_t i = 0; i < c->n_deployments; i++) {
		struct row_deployment *r = &c->deployments[i];
		struct deployment *d = deployment_new(e, r->name, r->id);
		d->row.paused = r->paused;
		d->row.destroying = r->destroying;
		d->row.in_force = r->in_force;
		d->row.commit = r->commit;
		d->row.dirty = r->dirty;
		d->row.passed = r->passed;
		r->in_force = r->commit = r->passed = NULL;
	}
	load_nodes(e, c);
	load_node_roles(e, c);
	/* Open intents need nothing of their own: the node's phase says what was under way, and provider calls carry on with what they find. */
	for (size_t i = 0; i < c->n_intents; i++)
		store_del_intent(engine_batch(e), c->intents[i].id);
	store_contents_release(c);
	struct deployment *d, *tmp;
	HASH_ITER (hh_name, e->m.deployments_by_name, d, tmp)
		take_over_kept(e, d);
}

int engine_load(struct engine *e, struct err **err)
{
	struct store_contents c = {0};
	int rc = store_load(e->store, &c, err);
	if (!rc)
		engine_take(e, &c);
	return rc;
}
