/* Secrets that a provider itself needs, like the credentials of a cloud. It is opened with their values, in place of the names that its document
 * and the model have, and anew when one changes; as long as it holds them the redactor knows them. */
#include "fs/engine/secrets.h"

#include <string.h>

/* The secret that a setting of the provider stands for, as its plug-in has it declared; NULL: none. */
static const char *name_of(const struct provider_object *p, const struct setting *s)
{
	bool known;
	const struct key_row *row = p->ops && p->ops->keys ? key_find(p->ops->keys, s->section, s->key, &known) : NULL;
	return row && row->secret ? secret_ref(s->value) : NULL;
}

bool secrets_provider_ready(struct engine *e, const struct provider_object *p, const char **ret_why)
{
	bool ready = true;
	*ret_why = NULL;
	for (size_t i = 0; i < p->def->settings.n; i++) {
		const char *name = name_of(p, &p->def->settings.items[i]);
		struct secret_entry *s = name ? secret_entry(e, name) : NULL;
		if (!s || s->value)
			continue;
		ready = false;
		if (s->why)
			*ret_why = *ret_why ? *ret_why : s->why;
		else
			secret_ask(e, s);
	}
	return ready;
}

struct held_secrets *secrets_provider_fill(struct engine *e, const struct provider_object *p, struct settings *settings)
{
	struct held_secrets *held = xcalloc(1, sizeof *held);
	for (size_t i = 0; i < settings->n; i++) {
		const char *name = name_of(p, &settings->items[i]);
		struct secret *s = name ? secret_entry(e, name)->value : NULL;
		if (!s)
			continue;
		str_replace(&settings->items[i].value, s->value);
		held_add(e, held, s);
	}
	return held;
}

bool secrets_provider_same(struct engine *e, const struct provider_object *p)
{
	size_t n = 0;
	for (size_t i = 0; i < p->opened_with.n; i++) {
		const char *name = name_of(p, &p->opened_with.items[i]);
		if (!name)
			continue;
		const struct secret *was = p->held && n < p->held->n ? p->held->items[n] : NULL, *now = secret_value(e, name);
		n++;
		if (now && was && (now->len != was->len || memcmp(now->value, was->value, now->len) != 0))
			return false;
	}
	return true;
}

void secrets_provider_release(struct engine *e, struct held_secrets **held)
{
	if (*held)
		held_release(e, *held);
	free(*held);
	*held = NULL;
}

static bool uses(const struct provider_object *p, const char *secret)
{
	for (size_t i = 0; p->def && i < p->def->settings.n; i++) {
		const char *name = name_of(p, &p->def->settings.items[i]);
		if (name && !strcmp(name, secret))
			return true;
	}
	return false;
}

void secret_provider_users(struct engine *e, const struct secret_entry *s)
{
	struct provider_object *p, *tmp;
	HASH_ITER (hh_name, e->m.providers_by_name, p, tmp)
		if (uses(p, s->name))
			provider_refresh(e, p);
}

void secret_provider_ask_again(struct engine *e)
{
	struct provider_object *p, *tmp;
	HASH_ITER (hh_name, e->m.providers_by_name, p, tmp)
		for (size_t i = 0; p->def && i < p->def->settings.n; i++) {
			const char *name = name_of(p, &p->def->settings.items[i]);
			struct secret_entry *s = name ? secret_entry(e, name) : NULL;
			if (s && s->why)
				secret_ask(e, s);
		}
}
