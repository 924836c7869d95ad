/* Rows into batches: nothing but copying, so that the engine's thread is done in no time. */
#include "fs/observed/batch.h"
#include "fs/base/mem.h"
#include <string.h>

struct store_batch *store_batch_new(struct store *s)
{
	struct store_batch *b = xcalloc(1, sizeof *b);
	b->store = s;
	return b;
}

void store_batch_free(struct store_batch *b)
{
	free(b->steps);
	free(b->values);
	free(b->arena);
	free(b);
}

bool store_batch_empty(const struct store_batch *b)
{
	return b->n_steps == 0;
}

static void step(struct store_batch *b, enum statement s)
{
	GROW(b->steps, b->n_steps, b->cap_steps);
	b->steps[b->n_steps++] = (struct step){s, 0};
}

static void value(struct store_batch *b, struct value v)
{
	GROW(b->values, b->n_values, b->cap_values);
	b->values[b->n_values++] = v;
	b->steps[b->n_steps - 1].n_values++;
}

static void number(struct store_batch *b, int64_t n)
{
	value(b, (struct value){BIND_INTEGER, n, 0});
}

static void bytes(struct store_batch *b, enum bind_kind kind, const void *data, size_t len)
{
	/* one more: an arena of nothing but empty strings is still one, and NULL would be bound as SQL NULL */
	if (b->arena_len + len + 1 > b->arena_cap) {
		while (b->arena_len + len + 1 > b->arena_cap)
			b->arena_cap = b->arena_cap ? b->arena_cap * 2 : 1024;
		b->arena = xreallocarray(b->arena, b->arena_cap, 1);
	}
	memcpy(b->arena + b->arena_len, data, len);
	value(b, (struct value){kind, (int64_t)b->arena_len, len});
	b->arena_len += len;
}

static void text(struct store_batch *b, const char *s)
{
	if (s)
		bytes(b, BIND_TEXT, s, strlen(s));
	else
		value(b, (struct value){BIND_NULL, 0, 0});
}

/* For columns that are NOT NULL: a batch that breaks a constraint could never be written, and whatever comes behind it neither. */
static void needed(struct store_batch *b, const char *s)
{
	text(b, s ? s : "");
}

static void with_id(struct store_batch *b, enum statement s, int64_t id)
{
	step(b, s);
	number(b, id);
}

void store_put_meta(struct store_batch *b, const char *key, const char *value)
{
	step(b, PUT_META);
	text(b, key);
	needed(b, value);
}

void store_put_deployment(struct store_batch *b, const struct row_deployment *r)
{
	with_id(b, PUT_DEPLOYMENT, r->id);
	needed(b, r->name);
	number(b, r->paused);
	number(b, r->destroying);
	text(b, r->in_force);
	text(b, r->commit);
	text(b, r->passed);
	number(b, r->dirty);
}

void store_del_deployment(struct store_batch *b, int64_t id)
{
	with_id(b, DEL_DEPLOYMENT, id);
}

void store_put_node(struct store_batch *b, const struct row_node *r)
{
	with_id(b, PUT_NODE, r->id);
	needed(b, r->name);
	text(b, r->deployment);
	text(b, r->group);
	text(b, r->provider);
	number(b, r->incarnation);
	number(b, r->phase);
	text(b, r->machine);
	text(b, r->address);
	number(b, r->port);
	text(b, r->user);
	text(b, r->key);
	text(b, r->host_key);
	text(b, r->image);
	text(b, r->spec);
	text(b, r->facts);
	text(b, r->error);
	number(b, r->attempts);
	number(b, r->since);
	text(b, r->held);
	text(b, r->held_by);
	number(b, r->held_since);
	number(b, r->is_protected);
	number(b, r->wish_rebuild);
	number(b, r->wish_release);
	number(b, r->wish_forget);
	text(b, r->approved);
	number(b, r->created);
	text(b, r->recipe);
	number(b, r->wish_adopt);
	text(b, r->power);
	text(b, r->power_by);
	text(b, r->reboot);
}

void store_del_node(struct store_batch *b, int64_t id)
{
	with_id(b, DEL_NODE_RUNS, id);
	with_id(b, DEL_NODE_OUTPUTS, id);
	with_id(b, DEL_NODE_ROLES_OF_NODE, id);
	with_id(b, DEL_NODE_INTENTS, id);
	with_id(b, DEL_NODE, id);
}

void store_put_node_role(struct store_batch *b, const struct row_node_role *r)
{
	with_id(b, PUT_NODE_ROLE, r->id);
	number(b, r->node_id);
	needed(b, r->role);
	number(b, r->last_run);
	number(b, r->last_result);
	number(b, r->last_incarnation);
	text(b, r->last_digest);
	number(b, r->last_started);
	number(b, r->last_took_ms);
	number(b, r->attempts);
	text(b, r->error);
	number(b, r->wish_run);
	number(b, r->outcome_unknown);
	text(b, r->approved);
	text(b, r->approved_unknown);
	number(b, r->checked);
	text(b, r->drift);
	text(b, r->remover);
}

void store_del_node_role(struct store_batch *b, int64_t id)
{
	with_id(b, DEL_ROLE_RUNS, id);
	with_id(b, DEL_OUTPUTS, id);
	with_id(b, DEL_NODE_ROLE, id);
}

void store_put_run(struct store_batch *b, const struct row_run *r)
{
	with_id(b, PUT_RUN, r->number);
	number(b, r->node_role_id);
	number(b, r->node_id);
	number(b, r->incarnation);
	text(b, r->role);
	text(b, r->digest);
	number(b, r->result);
	number(b, r->exit_status);
	text(b, r->why);
	number(b, r->started);
	number(b, r->took_ms);
	number(b, r->attempt);
	text(b, r->commit);
	number(b, r->dirty);
}

void store_del_run(struct store_batch *b, int64_t run)
{
	with_id(b, DEL_RUN, run);
}

void store_del_runs_before(struct store_batch *b, int64_t node_role_id, int64_t run)
{
	with_id(b, DEL_RUNS_BEFORE, node_role_id);
	number(b, run);
}

void store_set_outputs(struct store_batch *b, int64_t node_role_id, const struct row_output *rows, size_t n)
{
	with_id(b, DEL_OUTPUTS, node_role_id);
	for (size_t i = 0; i < n; i++) {
		with_id(b, PUT_OUTPUT, node_role_id);
		needed(b, rows[i].key);
		needed(b, rows[i].value);
	}
}

void store_put_event(struct store_batch *b, const struct row_event *r)
{
	with_id(b, PUT_EVENT, r->seq);
	number(b, r->at);
	text(b, r->deployment);
	text(b, r->node);
	text(b, r->role);
	text(b, r->who);
	needed(b, r->text);
	if (r->seq % 1000 == 0)
		with_id(b, TRIM_EVENTS, r->seq);
}

void store_put_intent(struct store_batch *b, const struct row_intent *r)
{
	with_id(b, PUT_INTENT, r->id);
	number(b, r->kind);
	number(b, r->node_id);
	number(b, r->incarnation);
	number(b, r->at);
}

void store_del_intent(struct store_batch *b, int64_t id)
{
	with_id(b, DEL_INTENT, id);
}

void store_put_component(struct store_batch *b, const struct row_component *r)
{
	step(b, PUT_COMPONENT);
	bytes(b, BIND_BLOB, r->hash.b, sizeof r->hash.b);
	text(b, r->text);
}

void store_put_digest(struct store_batch *b, const struct row_digest *r)
{
	step(b, PUT_DIGEST);
	bytes(b, BIND_BLOB, r->digest.b, sizeof r->digest.b);
	needed(b, r->parts);
}
