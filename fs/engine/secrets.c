#include "fs/engine/secrets.h"
#include "fs/base/private.h"
#include "fs/base/redact.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define COMING_MAX 4             /* a hundred commands at once would be a hundred gpg agents asked */
#define IN_HAND_MS 10000         /* one fetch serves what starts together */
#define ASK_AGAIN_MS (60 * 1000) /* what failed, while somebody waits for it: nobody has to remember the retry */

struct secret_entry *secret_entry(struct engine *e, const char *name)
{
	struct secret_entry *s = NULL;
	HASH_FIND_STR(e->secrets->entries, name, s);
	if (!s) {
		s = xcalloc(1, sizeof *s);
		s->name = xstrdup(name);
		HASH_ADD_KEYPTR(hh, e->secrets->entries, s->name, strlen(s->name), s);
	}
	return s;
}

static void let_go(struct engine *e, struct secret_entry *s)
{
	if (!s->value)
		return;
	redactor_remove(e->redactor, s->value->value, s->value->len);
	secret_drop(s->value);
	s->value = NULL;
}

void secret_forget(struct engine *e, struct secret_entry *s)
{
	let_go(e, s);
	str_replace(&s->why, NULL);
}

static void let_go_due(struct engine *e, int64_t id)
{
	engine_wrlock(e);
	int64_t now = monotonic_ms();
	for (struct secret_entry *s = e->secrets->entries; s; s = s->hh.next)
		if (now >= s->let_go_at)
			let_go(e, s);
	engine_wrunlock(e);
}

/* ---- asking ---- */

static void guard_memory(struct engine *e)
{
	_cleanup_buf_ struct buf why = {0};
	if (e->secrets->guarded)
		return;
	e->secrets->guarded = true;
	private_memory(&why);
	if (why.len)
		log_msg(LOG_INFO, "%s", buf_str(&why));
}

static void ask_next(struct engine *e, void *arg)
{
	guard_memory(e);
	for (struct secret_entry *s = e->secrets->entries; s && e->secrets->coming < COMING_MAX; s = s->hh.next)
		if (s->state == SECRET_ASKED) {
			s->state = SECRET_COMING;
			e->secrets->coming++;
			secret_source_fetch(e, s);
		}
}

void secret_ask(struct engine *e, struct secret_entry *s)
{
	if (s->state != SECRET_IDLE)
		return;
	s->state = SECRET_ASKED;
	/* Not an effect: it promises nothing durable, and a full disk is no reason to wait. */
	answer_add(e, ask_next, NULL);
}

static bool uses(const struct node_role *nr, const char *name)
{
	for (size_t i = 0; nr->def && nr->digest && i < nr->digest->n_secrets; i++)
		if (!strcmp(nr->digest->secrets[i], name))
			return true;
	return false;
}

static void ask_again(struct engine *e, int64_t id)
{
	engine_wrlock(e);
	e->secrets->asks_again = false;
	for (struct node_role *nr = e->m.node_roles_by_id; nr; nr = nr->hh_id.next)
		for (size_t i = 0; nr->lacks && nr->digest && i < nr->digest->n_secrets; i++) {
			struct secret_entry *s = secret_entry(e, nr->digest->secrets[i]);
			if (s->why)
				secret_ask(e, s);
		}
	secret_provider_ask_again(e);
	engine_wrunlock(e);
}

/* ---- the answer ---- */

static void save_hashes(struct engine *e)
{
	json_t *all = json_object();
	for (struct secret_entry *s = e->secrets->entries; s; s = s->hh.next) {
		char hex[HASH_HEX];
		hash_hex(&s->hash, hex);
		if (s->known && !secret_is_output(s->name))
			json_object_set_new(all, s->name, json_string(hex));
	}
	_cleanup_free_ char *text = json_dumps(all, JSON_COMPACT);
	store_put_meta(engine_batch(e), "secrets", text);
	json_decref(all);
}

static void users_look_again(struct engine *e, const char *name, bool changed)
{
	for (struct deployment *d = e->m.deployments_by_name; d; d = d->hh_name.next) {
		bool any = false;
		for (size_t i = 0; i < d->n_nodes; i++)
			for (size_t k = 0; k < d->nodes[i]->n_roles; k++) {
				struct node_role *nr = d->nodes[i]->roles[k];
				if (!uses(nr, name))
					continue;
				any = true;
				str_replace(&nr->lacks, NULL);
				queue_node_role(e, nr);
			}
		if (any && changed)
			stale_deployment(e, d);
		if (any)
			touch_deployment(e, d);
	}
}

static void value_came(struct engine *e, struct secret_entry *s, struct secret *value)
{
	struct hash now;
	secret_hash(&e->secrets->key, value, &now);
	bool changed = !s->known || !hash_eq(&now, &s->hash);
	if (s->known && changed && !secret_is_output(s->name))
		event_add(e, NULL, NULL, NULL, NULL, "secret '%s' changed", s->name);
	s->hash = now;
	s->known = s->fresh = true;
	let_go(e, s);
	s->value = value;
	redactor_add(e->redactor, value->value, value->len);
	s->let_go_at = monotonic_ms() + IN_HAND_MS;
	engine_after(e, IN_HAND_MS + 1, let_go_due, 0);
	str_replace(&s->why, NULL);
	if (changed)
		save_hashes(e);
	users_look_again(e, s->name, changed && !secret_is_output(s->name));
}

void secret_came(struct engine *e, struct secret_entry *s, struct secret *value, char *why)
{
	if (e->stopping) { /* there is no store any more that could take the hash */
		secret_drop(value);
		free(why);
		return;
	}
	if (s->is_key && value)
		value = secret_key_came(e, s, value, &why);
	engine_wrlock(e);
	e->secrets->coming--;
	s->state = SECRET_IDLE;
	if (value) {
		value_came(e, s, value);
	} else {
		if (!s->why || strcmp(s->why, why))
			event_add(e, NULL, NULL, NULL, NULL, "%s", why);
		str_replace(&s->why, why);
		s->failed_at = monotonic_ms();
		users_look_again(e, s->name, false);
		if (!e->secrets->asks_again)
			engine_after(e, ASK_AGAIN_MS, ask_again, 0);
		e->secrets->asks_again = true;
	}
	if (s->is_key)
		secret_key_users(e, s);
	secret_node_users(e, s);
	secret_provider_users(e, s);
	answer_add(e, ask_next, NULL);
	engine_wrunlock(e);
	free(why);
}

/* ---- what node roles see of it ---- */

bool secrets_hash(struct engine *e, const char *name, struct hash *ret)
{
	const struct secret_entry *s = secret_entry(e, name);
	*ret = s->hash;
	return s->known;
}

static bool is_due(const struct node_role *nr)
{
	return nr->node->wanted && !nr->running && !node_role_is_active(nr);
}

void secrets_look(struct engine *e, struct node_role *nr)
{
	const char *why = NULL;
	nr->fetching = false;
	for (size_t i = 0; nr->def && nr->digest && i < nr->digest->n_secrets; i++) {
		struct secret_entry *s = secret_entry(e, nr->digest->secrets[i]);
		if (secret_is_output(s->name)) { /* its hash came with the run that made it */
			why = why ? why : s->why;
			continue;
		}
		/* What was known before this daemon started is as good as ever, unless a file may have changed that nobody watched. */
		if (!s->why && (!s->known || (!s->fresh && e->secrets->dir)))
			secret_ask(e, s);
		nr->fetching |= s->state != SECRET_IDLE && !s->known && !s->why;
		why = why ? why : s->why;
	}
	if (why && !nr->fetching && is_due(nr))
		str_replace(&nr->lacks, why);
	else if (!is_due(nr) || nr->fetching)
		str_replace(&nr->lacks, NULL);
}

/* A value is checked against what the role declares when it is in hand, and never told. */
static char *misfit(struct engine *e, const struct node_role *nr)
{
	for (size_t i = 0; i < nr->def->n_params; i++) {
		const struct def_param *p = &nr->def->params[i];
		const char *name = secret_ref(node_role_param(nr, p, NULL));
		const struct secret *value = name ? secret_entry(e, name)->value : NULL;
		if (value && value_check(p->type, value->value, p->min, p->max, p->values, NULL) < 0)
			return xasprintf("secret '%s' is not what parameter '%s' of role %s takes (%s)", name, p->name, nr->row.role,
			        value_type_name(p->type));
	}
	return NULL;
}

bool secrets_for_check(struct engine *e, struct node_role *nr, const char **ret_why)
{
	bool ready = true;
	*ret_why = NULL;
	for (size_t i = 0; i < nr->digest->n_secrets; i++) {
		struct secret_entry *s = secret_entry(e, nr->digest->secrets[i]);
		if (s->value || (nr->node->provider->ops->simulate && secret_is_output(s->name)))
			continue;
		ready = false;
		if (s->why && monotonic_ms() - s->failed_at < IN_HAND_MS)
			*ret_why = s->why;
		else
			secret_ask(e, s);
	}
	return ready;
}

bool secrets_in_hand(struct engine *e, struct node_role *nr)
{
	bool simulated = nr->node->provider->ops->simulate != NULL;
	nr->fetching = false;
	for (size_t i = 0; i < nr->digest->n_secrets; i++) {
		struct secret_entry *s = secret_entry(e, nr->digest->secrets[i]);
		if (s->value || (simulated && secret_is_output(s->name)))
			continue;
		secret_ask(e, s);
		nr->fetching = true;
		nr->waits_for = "a secret that it needs is being fetched";
	}
	if (nr->fetching)
		return false;
	char *why = misfit(e, nr);
	if (why) {
		free(nr->lacks);
		nr->lacks = why;
		count_node_role(e, nr);
		touch_deployment(e, nr->node->deployment);
	}
	return !why;
}

void secrets_retry(struct engine *e, struct node_role *nr)
{
	for (size_t i = 0; nr->lacks && nr->digest && i < nr->digest->n_secrets; i++) {
		struct secret_entry *s = secret_entry(e, nr->digest->secrets[i]);
		str_replace(&s->why, NULL);
		secret_ask(e, s);
	}
	str_replace(&nr->lacks, NULL);
}

const struct secret *secret_value(const struct engine *e, const char *name)
{
	struct secret_entry *s = NULL;
	HASH_FIND_STR(e->secrets->entries, name, s);
	return s ? s->value : NULL;
}

/* ---- what a run holds ---- */

void held_add(struct engine *e, struct held_secrets *h, struct secret *s)
{
	GROW(h->items, h->n, h->cap);
	h->items[h->n++] = secret_hold(s);
	redactor_add(e->redactor, s->value, s->len);
}

void held_release(struct engine *e, struct held_secrets *h)
{
	for (size_t i = 0; i < h->n; i++) {
		redactor_remove(e->redactor, h->items[i]->value, h->items[i]->len);
		secret_drop(h->items[i]);
	}
	free(h->items);
	*h = (struct held_secrets){0};
}

void held_of(struct engine *e, struct held_secrets *h, const struct digest *d)
{
	for (size_t i = 0; i < d->n_secrets; i++) {
		struct secret *s = secret_entry(e, d->secrets[i])->value;
		if (s)
			held_add(e, h, s);
	}
}

/* ---- a run that another daemon began ---- */

/* Does the value in hand have the hash that the run began with? Else what it prints cannot be redacted. */
static bool began_with(struct engine *e, const struct node_role *nr, const struct part *p, bool *ret_wait)
{
	const char *name = secret_ref(model_component_text(&e->m, &p->hash));
	if (!name)
		return true;
	if (!uses(nr, name))
		return false;
	struct secret_entry *s = secret_entry(e, name);
	if (!s->value && !s->why) {
		secret_ask(e, s);
		*ret_wait = true;
	}
	return s->value && hash_eq(&s->hash, &p->hash);
}

bool secrets_for_attach(struct engine *e, struct node_role *nr, bool *ret_hide)
{
	const struct digest *was = digest_kept(&e->m, nr->row.last_digest);
	bool wait = false;
	*ret_hide = outputs_renewed_since(nr);
	for (size_t i = 0; was && i < was->n_parts; i++)
		if (!began_with(e, nr, &was->parts[i], &wait))
			*ret_hide = true;
	/* Of secret outputs only the digest as a whole tells whether they are what they were. */
	char hex[HASH_HEX] = "";
	if (nr->digest && nr->digest->complete)
		hash_hex(&nr->digest->hash, hex);
	for (size_t i = 0; nr->digest && i < nr->digest->n_secrets; i++) {
		struct secret_entry *s = secret_entry(e, nr->digest->secrets[i]);
		if (!secret_is_output(s->name))
			continue;
		if (!s->value && !s->why) {
			secret_ask(e, s);
			wait = true;
		}
		*ret_hide |= !s->value || !nr->row.last_digest || strcmp(hex, nr->row.last_digest) != 0;
	}
	nr->fetching = wait;
	return !wait;
}

/* ---- life ---- */

static int key_make(struct engine *e, struct err **err)
{
	_cleanup_free_ char *path = path_join(e->state_dir, "secret-key");
	_cleanup_buf_ struct buf text = {.secret = true};
	struct hash *key = &e->secrets->key;
	int rc = file_read(AT_FDCWD, path, 1024, &text, err);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	if (rc == 0 && text.len == sizeof key->b) {
		memcpy(key->b, text.data, sizeof key->b);
		return 0;
	}
	if (rc == 0)
		return err_set(err, EINVAL, "'%s' is not a key of %zu bytes: remove it, and what uses a secret runs again", path, sizeof key->b);
	err_freep(err);
	if (uv_random(NULL, NULL, key->b, sizeof key->b, 0, NULL) < 0)
		return err_set(err, EIO, "cannot get random bytes for '%s'", path);
	return file_write_atomic(AT_FDCWD, path, key->b, sizeof key->b, 0600, err);
}

int secrets_open(struct engine *e, const char *source, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	e->secrets = xcalloc(1, sizeof *e->secrets);
	int rc = key_make(e, err);
	rc = rc < 0 ? rc : store_meta_get(e->store, "secrets", &text, err);
	if (rc < 0)
		return rc;
	json_t *all = json_loads(text ? text : "{}", 0, NULL), *hex;
	const char *name;
	json_object_foreach(all, name, hex)
	{
		struct secret_entry *s = secret_entry(e, name);
		s->known = json_is_string(hex) && hash_from_hex(json_string_value(hex), &s->hash);
	}
	json_decref(all);
	return secret_source_open(e, source, err);
}

void secrets_stop(struct engine *e)
{
	if (e->secrets && e->secrets->watch)
		watch_close(e->secrets->watch);
}

void secrets_close(struct engine *e)
{
	struct secrets *all = e->secrets;
	struct secret_entry *s, *next;
	if (!all)
		return;
	HASH_ITER (hh, all->entries, s, next) {
		HASH_DEL(all->entries, s);
		let_go(e, s);
		free(s->why);
		free(s->name);
		free(s);
	}
	explicit_bzero(&all->key, sizeof all->key);
	free(all->dir);
	free(all->command);
	free(all);
	e->secrets = NULL;
}
