/* Secret outputs. The value stays on the node that made it; here it is a mark and its keyed hash, and who wants it gets it from there for a run. */
#include "fs/base/redact.h"
#include "fs/engine/secrets.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MARK '\1' /* before the hash: no value that people read begins with it */

bool output_is_secret(const struct output *o)
{
	return *o->value == MARK;
}

const char *output_shown(const struct output *o)
{
	return output_is_secret(o) ? "secret" : o->value;
}

char *secret_output_name(const char *role, const char *key, const char *node)
{
	return xasprintf("%s.%s on %s", role, key, node);
}

void secret_output_forget(struct engine *e, const char *role, const char *key, const char *node)
{
	_cleanup_free_ char *name = secret_output_name(role, key, node);
	secret_forget(e, secret_entry(e, name));
}

bool secret_is_output(const char *name)
{
	return strchr(name, ' ');
}

const struct def_output *def_output_find(const struct def_role *r, const char *key)
{
	for (size_t i = 0; i < r->n_outputs; i++)
		if (!strcmp(r->outputs[i].name, key))
			return &r->outputs[i];
	return NULL;
}

static char *marked(const struct engine *e, const char *value)
{
	struct hash h;
	char hex[HASH_HEX];
	hash_keyed(&e->secrets->key, value, strlen(value), &h);
	hash_hex(&h, hex);
	return xasprintf("%c%s", MARK, hex);
}

bool outputs_hide(struct engine *e, const struct def_role *def, json_t *outputs, struct held_secrets *held)
{
	const char *key;
	json_t *value;
	bool any = false;
	json_object_foreach(outputs, key, value)
	{
		const struct def_output *o = def_output_find(def, key);
		const char *text = json_string_value(value);
		if (!o || !o->secret || !text)
			continue;
		_cleanup_free_ char *mark = marked(e, text);
		struct secret *s = secret_new(text, strlen(text), NULL);
		if (s)
			held_add(e, held, s);
		secret_drop(s);
		json_object_set_new(outputs, key, json_string(mark));
		any = true;
	}
	/* What is not declared as secret may hold one all the same. */
	json_object_foreach(outputs, key, value)
	{
		_cleanup_free_ char *text = xstrdup(json_string_value(value));
		if (!text || *text == MARK)
			continue;
		redact(e->redactor, text, strlen(text));
		json_object_set_new(outputs, key, json_string(text));
	}
	return any;
}

json_t *outputs_to_show(const json_t *outputs)
{
	json_t *shown = json_object(), *value;
	const char *key;
	json_object_foreach((json_t *)outputs, key, value)
	{
		const char *text = json_string_value(value);
		json_object_set_new(shown, key, json_string(text && *text == MARK ? "secret" : text ? text : ""));
	}
	return shown;
}

/* ---- from its node ---- */

struct reading {
	struct engine *e;
	struct secret_entry *entry;
	struct secret_read read;
	struct target target;
	char *role, *key, *node, *mark; /* mark: NULL: there is no such output */
	char *strings[8];
	size_t n_strings;
};

static char *reading_keep(void *arg, const char *s)
{
	struct reading *rd = arg;
	return s ? (rd->strings[rd->n_strings++] = xstrdup(s)) : NULL;
}

static void reading_free(struct reading *rd)
{
	for (size_t i = 0; i < rd->n_strings; i++)
		free(rd->strings[i]);
	free(rd->role);
	free(rd->key);
	free(rd->node);
	free(rd->mark);
	free(rd);
}

static void reading_done(struct secret_read *read, const char *why, const char *data, size_t len)
{
	struct reading *rd = read->data;
	_cleanup_err_ struct err *err = NULL;
	struct secret *s = why ? NULL : secret_new(data, len, &err);
	char *mark = s ? marked(rd->e, s->value) : NULL, *sentence = NULL;
	if (!s)
		sentence = xasprintf("output '%s' of %s on %s cannot be read there: %s", rd->key, rd->role, rd->node, why ? why : err_msg(err));
	else if (strcmp(mark, rd->mark))
		sentence = xasprintf("output '%s' of %s on %s is not what its run left there: run %s again", rd->key, rd->role, rd->node, rd->role);
	if (sentence) {
		secret_drop(s);
		s = NULL;
	}
	free(mark);
	secret_came(rd->e, rd->entry, s, sentence);
	reading_free(rd);
}

/* The lock is held. */
static bool reading_aim(struct reading *rd)
{
	struct node *n = model_node(&rd->e->m, rd->node);
	struct node_role *nr = n ? node_role_find(n, rd->role) : NULL;
	for (size_t i = 0; nr && i < nr->n_outputs; i++)
		if (!strcmp(nr->outputs[i].key, rd->key) && output_is_secret(&nr->outputs[i]))
			rd->mark = xstrdup(nr->outputs[i].value);
	if (!n || !rd->mark || !n->row.address || n->provider->ops->simulate)
		return false;
	node_target(&rd->e->m, n, &rd->target, reading_keep, rd);
	return true;
}

void secret_output_fetch(struct engine *e, struct secret_entry *s)
{
	struct reading *rd = xcalloc(1, sizeof *rd);
	const char *dot = strchr(s->name, '.'), *on = strstr(s->name, " on ");
	rd->e = e;
	rd->entry = s;
	rd->role = xstrndup(s->name, (size_t)(dot - s->name));
	rd->key = xstrndup(dot + 1, (size_t)(on - dot - 1));
	rd->node = xstrdup(on + strlen(" on "));
	engine_wrlock(e);
	bool aimed = reading_aim(rd);
	engine_wrunlock(e);
	if (!aimed) {
		secret_came(e, s, NULL, xasprintf("output '%s' of %s on %s is not there", rd->key, rd->role, rd->node));
		reading_free(rd);
		return;
	}
	rd->read = (struct secret_read){.target = &rd->target, .role = rd->role, .key = rd->key, .done = reading_done, .data = rd};
	secret_read_start(&e->runner_host, &rd->read);
}
