/* The database read as a whole, once, at start. Columns in the order of the tables in sqlite.c. */
#include "fs/base/mem.h"
#include "fs/observed/batch.h"
#include <errno.h>
#include <sqlite3.h>
#include <string.h>

static char *text(sqlite3_stmt *st, int col)
{
	return xstrdup((const char *)sqlite3_column_text(st, col));
}

static int64_t number(sqlite3_stmt *st, int col)
{
	return sqlite3_column_int64(st, col);
}

static void deployment_row(struct store_contents *c, sqlite3_stmt *st)
{
	c->deployments = xreallocarray(c->deployments, c->n_deployments + 1, sizeof *c->deployments);
	c->deployments[c->n_deployments++] = (struct row_deployment){
	        .id = number(st, 0),
	        .name = text(st, 1),
	        .paused = number(st, 2),
	        .destroying = number(st, 3),
	        .in_force = text(st, 4),
	        .commit = text(st, 5),
	        .passed = text(st, 6),
	        .dirty = number(st, 7),
	};
	if (number(st, 0) > c->max_id)
		c->max_id = number(st, 0);
}

/* Grows by doubling: powers of two. */
static void *room(void *items, size_t n, size_t size)
{
	return n & (n - 1) ? items : xreallocarray(items, n ? n * 2 : 1, size);
}

static void node_row(struct store_contents *c, sqlite3_stmt *st)
{
	c->nodes = room(c->nodes, c->n_nodes, sizeof *c->nodes);
	c->nodes[c->n_nodes++] = (struct row_node){
	        .id = number(st, 0),
	        .name = text(st, 1),
	        .deployment = text(st, 2),
	        .group = text(st, 3),
	        .provider = text(st, 4),
	        .incarnation = number(st, 5),
	        .phase = (int)number(st, 6),
	        .machine = text(st, 7),
	        .address = text(st, 8),
	        .port = number(st, 9),
	        .user = text(st, 10),
	        .key = text(st, 11),
	        .host_key = text(st, 12),
	        .image = text(st, 13),
	        .spec = text(st, 14),
	        .facts = text(st, 15),
	        .error = text(st, 16),
	        .attempts = number(st, 17),
	        .since = number(st, 18),
	        .held = text(st, 19),
	        .held_by = text(st, 20),
	        .held_since = number(st, 21),
	        .is_protected = number(st, 22),
	        .wish_rebuild = number(st, 23),
	        .wish_release = number(st, 24),
	        .wish_forget = number(st, 25),
	        .approved = text(st, 26),
	        .created = number(st, 27),
	        .recipe = text(st, 28),
	        .wish_adopt = number(st, 29),
	        .power = text(st, 30),
	        .power_by = text(st, 31),
	        .reboot = text(st, 32),
	};
	if (number(st, 0) > c->max_id)
		c->max_id = number(st, 0);
}

static void node_role_row(struct store_contents *c, sqlite3_stmt *st)
{
	c->node_roles = room(c->node_roles, c->n_node_roles, sizeof *c->node_roles);
	c->node_roles[c->n_node_roles++] = (struct row_node_role){
	        .id = number(st, 0),
	        .node_id = number(st, 1),
	        .role = text(st, 2),
	        .last_run = number(st, 3),
	        .last_result = (int)number(st, 4),
	        .last_incarnation = number(st, 5),
	        .last_digest = text(st, 6),
	        .last_started = number(st, 7),
	        .last_took_ms = number(st, 8),
	        .attempts = number(st, 9),
	        .error = text(st, 10),
	        .wish_run = number(st, 11),
	        .outcome_unknown = number(st, 12),
	        .approved = text(st, 13),
	        .approved_unknown = text(st, 14),
	        .checked = number(st, 15),
	        .drift = text(st, 16),
	        .remover = text(st, 17),
	};
	if (number(st, 0) > c->max_id)
		c->max_id = number(st, 0);
}

static void run_row(struct store_contents *c, sqlite3_stmt *st)
{
	c->runs = room(c->runs, c->n_runs, sizeof *c->runs);
	c->runs[c->n_runs++] = (struct row_run){
	        .number = number(st, 0),
	        .node_role_id = number(st, 1),
	        .node_id = number(st, 2),
	        .incarnation = number(st, 3),
	        .role = text(st, 4),
	        .digest = text(st, 5),
	        .result = (int)number(st, 6),
	        .exit_status = (int)number(st, 7),
	        .why = text(st, 8),
	        .started = number(st, 9),
	        .took_ms = number(st, 10),
	        .attempt = number(st, 11),
	        .commit = text(st, 12),
	        .dirty = number(st, 13),
	};
	c->max_run = number(st, 0);
}

static void output_row(struct store_contents *c, sqlite3_stmt *st)
{
	c->outputs = room(c->outputs, c->n_outputs, sizeof *c->outputs);
	c->outputs[c->n_outputs++] = (struct row_output){number(st, 0), text(st, 1), text(st, 2)};
}

static void event_row(struct store_contents *c, sqlite3_stmt *st)
{
	c->events = room(c->events, c->n_events, sizeof *c->events);
	c->events[c->n_events++] = (struct row_event){number(st, 0), number(st, 1), text(st, 2), text(st, 3), text(st, 4), text(st, 5), text(st, 6)};
	c->max_seq = number(st, 0);
}

static void intent_row(struct store_contents *c, sqlite3_stmt *st)
{
	c->intents = room(c->intents, c->n_intents, sizeof *c->intents);
	c->intents[c->n_intents++] = (struct row_intent){number(st, 0), (int)number(st, 1), number(st, 2), number(st, 3), number(st, 4)};
	if (number(st, 0) > c->max_id)
		c->max_id = number(st, 0);
}

static void used_row(struct store_contents *c, sqlite3_stmt *st)
{
	int64_t *max = number(st, 0) ? &c->max_run : &c->max_id;
	if (number(st, 1) > *max)
		*max = number(st, 1);
}

static bool hash_col(sqlite3_stmt *st, struct hash *h)
{
	if (sqlite3_column_bytes(st, 0) != (int)sizeof h->b)
		return false;
	memcpy(h->b, sqlite3_column_blob(st, 0), sizeof h->b);
	return true;
}

static void component_row(struct store_contents *c, sqlite3_stmt *st)
{
	struct row_component r = {0};
	if (!hash_col(st, &r.hash))
		return;
	r.text = text(st, 1);
	c->components = room(c->components, c->n_components, sizeof *c->components);
	c->components[c->n_components++] = r;
}

static void digest_row(struct store_contents *c, sqlite3_stmt *st)
{
	struct row_digest r = {0};
	if (!hash_col(st, &r.digest))
		return;
	r.parts = text(st, 1);
	c->digests = room(c->digests, c->n_digests, sizeof *c->digests);
	c->digests[c->n_digests++] = r;
}

static const struct {
	const char *sql;
	void (*row)(struct store_contents *c, sqlite3_stmt *st);
} queries[] = {
        {"SELECT * FROM deployments ORDER BY id", deployment_row},
        {"SELECT * FROM nodes ORDER BY id", node_row},
        {"SELECT * FROM node_roles ORDER BY id", node_role_row},
        {"SELECT * FROM runs ORDER BY number", run_row},
        {"SELECT * FROM outputs ORDER BY node_role_id, key", output_row},
        {"SELECT * FROM (SELECT * FROM events ORDER BY seq DESC LIMIT 10000) ORDER BY seq", event_row},
        {"SELECT * FROM intents ORDER BY id", intent_row},
        {"SELECT name='run', last FROM used", used_row}, /* behind those it adds to */
        {"SELECT * FROM components", component_row},
        {"SELECT * FROM digests", digest_row},
};

/* What no kept run was made of is of no use to any plan: dropped at start, so that these tables do not grow for ever. */
static const char prune[] = "BEGIN IMMEDIATE;"
                            "DELETE FROM digests WHERE lower(hex(digest)) NOT IN (SELECT digest FROM runs WHERE digest IS NOT NULL UNION SELECT "
                            "last_digest FROM node_roles WHERE last_digest IS NOT NULL);"
                            "DELETE FROM components WHERE lower(hex(hash)) NOT IN (SELECT j.value FROM digests, json_each(digests.parts) AS j);"
                            "COMMIT";

int contents_load(sqlite3 *db, struct store_contents *ret, struct err **err)
{
	struct store_contents c = {0};
	for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) {
		sqlite3_stmt *st = NULL;
		int rc = sqlite3_prepare_v2(db, queries[i].sql, -1, &st, NULL);
		while (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
			queries[i].row(&c, st);
			rc = SQLITE_OK;
		}
		sqlite3_finalize(st);
		if (rc != SQLITE_DONE) {
			store_contents_release(&c);
			return err_set(err, EIO, "cannot read the database: %s", sqlite3_errmsg(db));
		}
	}
	*ret = c;
	return 0;
}

int store_load(struct store *s, struct store_contents *ret, struct err **err)
{
	sqlite3 *db = store_db(s);
	if (sqlite3_exec(db, prune, NULL, NULL, NULL) != SQLITE_OK && !sqlite3_get_autocommit(db))
		sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	return contents_load(db, ret, err);
}

/* ---- release ---- */

void row_deployment_release(struct row_deployment *r)
{
	free(r->name);
	free(r->in_force);
	free(r->commit);
	free(r->passed);
}

void row_node_release(struct row_node *r)
{
	char *all[] = {r->name, r->deployment, r->group, r->provider, r->machine, r->address, r->user, r->key, r->host_key, r->image, r->spec,
	        r->recipe, r->facts, r->error, r->held, r->held_by, r->approved, r->power, r->power_by, r->reboot};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		free(all[i]);
}

void row_node_role_release(struct row_node_role *r)
{
	free(r->role);
	free(r->last_digest);
	free(r->error);
	free(r->approved);
	free(r->approved_unknown);
	free(r->drift);
	free(r->remover);
}

void row_run_release(struct row_run *r)
{
	free(r->role);
	free(r->digest);
	free(r->why);
	free(r->commit);
}

void store_contents_release(struct store_contents *c)
{
	for (size_t i = 0; i < c->n_deployments; i++)
		row_deployment_release(&c->deployments[i]);
	for (size_t i = 0; i < c->n_nodes; i++)
		row_node_release(&c->nodes[i]);
	for (size_t i = 0; i < c->n_node_roles; i++)
		row_node_role_release(&c->node_roles[i]);
	for (size_t i = 0; i < c->n_runs; i++)
		row_run_release(&c->runs[i]);
	for (size_t i = 0; i < c->n_outputs; i++) {
		free(c->outputs[i].key);
		free(c->outputs[i].value);
	}
	for (size_t i = 0; i < c->n_events; i++) {
		struct row_event *r = &c->events[i];
		free(r->deployment);
		free(r->node);
		free(r->role);
		free(r->who);
		free(r->text);
	}
	for (size_t i = 0; i < c->n_components; i++)
		free(c->components[i].text);
	for (size_t i = 0; i < c->n_digests; i++)
		free(c->digests[i].parts);
	free(c->deployments);
	free(c->nodes);
	free(c->node_roles);
	free(c->runs);
	free(c->outputs);
	free(c->events);
	free(c->intents);
	free(c->components);
	free(c->digests);
	*c = (struct store_contents){0};
}
