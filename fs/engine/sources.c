/* Providers as the engine keeps them: opened with the settings in force, listed now and then so that what vanished or stopped is seen. */
#include "fs/engine/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* ---- opening and reloading ---- */

static bool settings_same(const struct settings *a, const struct settings *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->items[i].section, b->items[i].section) || strcmp(a->items[i].key, b->items[i].key) ||
		        strcmp(a->items[i].value, b->items[i].value))
			return false;
	return true;
}

struct provider_open {
	struct provider_object *p;
	struct settings settings, files;
	struct settings told; /* settings with the values of secrets in them */
	struct held_secrets *held;
	const struct provider_ops *ops;
	struct provider *instance;
	bool has_machines;
};

/* Writes down whose machines the directory is about: after a restart nothing else tells, and another plug-in would swear that they are gone. */
static int sign_type(const struct provider_open *o, const char *dir, struct err **err)
{
	_cleanup_free_ char *path = path_join(dir, "type");
	_cleanup_buf_ struct buf was = {0};
	bool read = file_read(AT_FDCWD, path, 64, &was, NULL) == 0;

	if (read && !strcmp(buf_str(&was), o->ops->type))
		return 0;
	if (!read || !o->has_machines)
		return file_write_atomic(AT_FDCWD, path, o->ops->type, strlen(o->ops->type), 0600, err);
	return err_set(err, EBUSY, "its type is '%s' now and it has machines of type '%s': put 'type = %s' back until they are given up",
	        o->ops->type, buf_str(&was), buf_str(&was));
}

static int instance_open(struct engine *e, struct provider_open *o, struct err **err)
{
	struct instance_host *h = xcalloc(1, sizeof *h);
	h->dir = xasprintf("%s/providers/%s", e->state_dir, o->p->name);
	int rc = dir_make_all(h->dir, 0700, err);
	h->host = (struct provider_host){.loop = &e->loop,
	        .name = o->p->name,
	        .owner = e->owner,
	        .state_dir = h->dir,
	        .cache_dir = e->cache_dir,
	        .access_key = e->access_key,
	        .repo = e->repo};
	/* An instance that was closed, or could not be opened, may still end what it began: hosts are freed with the loop. */
	h->next = e->instance_hosts;
	e->instance_hosts = h;
	if (rc == 0)
		rc = sign_type(o, h->dir, err);
	return rc < 0 ? rc : o->ops->open(&h->host, &o->told, &o->instance, err);
}

void instance_hosts_free(struct engine *e)
{
	for (struct instance_host *h = e->instance_hosts, *next; h; h = next) {
		next = h->next;
		free(h->dir);
		free(h);
	}
}

static bool is_opened_with(const struct settings *settings, const struct settings *files, const struct def_provider *def)
{
	return settings_same(settings, &def->settings) && settings_same(files, &def->files);
}

static void provider_open_effect(struct engine *e, void *arg)
{
	struct provider_open *o = arg;
	_cleanup_err_ struct err *err = NULL;
	int rc = o->instance ? o->ops->reload(o->instance, &o->told, &err) : instance_open(e, o, &err);

	engine_wrlock(e);
	struct provider_object *p = o->p;
	bool outdated = p->def && !is_opened_with(&o->settings, &o->files, p->def);
	p->opening = false;
	str_replace(&p->error, rc < 0 ? err_msg(err) : NULL);
	if (rc == 0) {
		p->instance = o->instance;
		settings_release(&p->opened_with);
		settings_release(&p->opened_files);
		p->opened_with = o->settings;
		p->opened_files = o->files;
		o->settings = o->files = (struct settings){0};
		secrets_provider_release(e, &p->held);
		p->held = o->held;
		o->held = NULL;
		for (struct image *i = p->images; i; i = i->next)
			if (i->phase == IMAGE_PREPARING) {
				i->outdated = true;
			} else {
				i->phase = IMAGE_UNKNOWN; /* its description may have changed; asking again is cheap */
				i->attempts = 0;
			}
	} else {
		event_add(e, NULL, NULL, NULL, NULL, "provider %s: %s", p->name, err_msg(err));
	}
	queue_provider_nodes(e, p);
	secrets_provider_release(e, &o->held);
	if (outdated || !secrets_provider_same(e, p)) /* described anew meanwhile */
		provider_refresh(e, p);
	e->changed = true;
	engine_wrunlock(e);
	settings_release(&o->settings);
	settings_release(&o->files);
	settings_wipe(&o->told);
	if (rc == 0)
		providers_list(e, p);
	free(o);
}

/* ---- another plug-in under the same name */

size_t provider_machines(const struct engine *e, const struct provider_object *p)
{
	size_t n = 0;
	for (const struct node *o = e->m.nodes_by_name; o; o = o->hh_name.next)
		n += o->provider == p && (o->op || o->row.phase != NODE_PLANNED);
	return n;
}

bool provider_in_use(const struct engine *e, const struct provider_object *p)
{
	for (const struct image *i = p->images; i; i = i->next)
		if (i->phase == IMAGE_PREPARING)
			return true;
	return p->calls || p->runs || p->opening || p->listing || provider_machines(e, p);
}

struct retired {
	const struct provider_ops *ops;
	struct provider *instance;
};

static void retire_effect(struct engine *e, void *arg)
{
	struct retired *r = arg;
	r->ops->close(r->instance);
	free(r);
}

static void retire(struct engine *e, struct provider_object *p)
{
	struct retired *r = xmalloc(sizeof *r);
	*r = (struct retired){p->ops, p->instance};
	p->instance = NULL;
	effect_add(e, retire_effect, r);
	images_free(p);
	p->listed = false;
	str_replace(&p->capacity, NULL);
	str_replace(&p->networks, NULL);
	settings_release(&p->opened_with);
	settings_release(&p->opened_files);
	secrets_provider_release(e, &p->held);
}

bool provider_may_become(struct engine *e, struct provider_object *p, const char *type)
{
	p->awaits_type = false;
	if (!p->instance && !p->opening)
		return true;
	if (!strcmp(p->ops->type, type))
		return true;
	if (!provider_in_use(e, p)) {
		retire(e, p);
		return true;
	}
	p->awaits_type = true;
	size_t n = provider_machines(e, p);
	_cleanup_free_ char *until = n ? xasprintf("its %zu machine%s given up", n, n == 1 ? " is" : "s are") : xstrdup("it has ended what it does");
	str_replace(&p->problem, NULL);
	p->problem = xasprintf("%s: its type was '%s' and is '%s' now, which waits until %s", p->src.path, p->ops->type, type, until);
	return false;
}

static void lacks_secret(struct engine *e, struct provider_object *p, const char *why)
{
	if (p->error && !strcmp(p->error, why))
		return;
	str_replace(&p->error, why);
	event_add(e, NULL, NULL, NULL, NULL, "provider %s: %s", p->name, why);
	queue_provider_nodes(e, p);
	e->changed = true;
}

void provider_refresh(struct engine *e, struct provider_object *p)
{
	const char *why;
	if (!p->def || p->opening)
		return;
	p->ops = provider_find(p->def->type);
	if (!p->ops || e->looks_only)
		return;
	if (p->instance && !p->error && is_opened_with(&p->opened_with, &p->opened_files, p->def) && secrets_provider_same(e, p))
		return;
	if (!secrets_provider_ready(e, p, &why)) {
		if (why)
			lacks_secret(e, p, why);
		return;
	}
	struct provider_open *o = xcalloc(1, sizeof *o);
	o->p = p;
	o->ops = p->ops;
	o->instance = p->instance;
	o->has_machines = provider_machines(e, p);
	settings_copy(&o->settings, &p->def->settings);
	settings_copy(&o->files, &p->def->files);
	settings_copy(&o->told, &p->def->settings);
	o->held = secrets_provider_fill(e, p, &o->told);
	p->opening = true;
	queue_provider_nodes(e, p); /* what they would be made from may be another */
	effect_add(e, provider_open_effect, o);
}

/* ---- listing ---- */

struct listing {
	struct engine *e;
	struct provider_object *p;
	struct provider_call call;
	int64_t began;
};

static const struct machine *machine_of(const struct machine *machines, size_t n, const struct node *node)
{
	for (size_t i = 0; i < n; i++)
		if (machines[i].node_id == (uint64_t)node->row.id && machines[i].incarnation == (uint32_t)node->row.incarnation)
			return &machines[i];
	return NULL;
}

struct listed {
	uint64_t key;
	const struct machine *m;
	UT_hash_handle hh;
};

static void seen(struct engine *e, struct node *n, const struct machine *m)
{
	if (m && !n->console)
		n->console = xstrdup(m->console);
	if (m && n->gone) {
		n->gone = false;
		event_add(e, NULL, n, NULL, NULL, "listed again by its provider");
	}
	if (!m && !n->gone) {
		n->gone = true;
		event_add(e, NULL, n, NULL, NULL, "gone: provider %s no longer lists it", n->provider->name);
	}
	if (m && !m->running && !n->off) {
		n->off = true;
		n->contacted = false;
		event_add(e, NULL, n, NULL, NULL, "does not run");
	} else if (m && m->running && n->off && !n->op) {
		n->off = false;
	} else if (m) {
		return;
	}
	touch_deployment(e, n->deployment);
	queue_node(e, n);
}

static bool take_text(char **to, const struct buf *text)
{
	if (!text->len || (*to && !strcmp(*to, text->data)))
		return false;
	str_replace(to, text->data);
	return true;
}

void provider_look_at_room(struct engine *e, struct provider_object *p)
{
	_cleanup_buf_ struct buf capacity = {0}, networks = {0};

	if (!p->instance)
		return;
	if (p->ops->capacity)
		p->ops->capacity(p->instance, &capacity);
	if (p->ops->networks)
		p->ops->networks(p->instance, &networks);
	if (take_text(&p->capacity, &capacity) | take_text(&p->networks, &networks))
		e->changed = true;
}

/* As long as it does not know what exists, a machine that is gone or does not run is taken for what it was. */
static void list_told(struct engine *e, struct provider_object *p, const char *why)
{
	if (why ? p->list_error && !strcmp(why, p->list_error) : !p->list_error)
		return;
	if (!why)
		event_add(e, NULL, NULL, NULL, NULL, "provider %s can tell again what exists", p->name);
	else if (!p->list_error)
		event_add(e, NULL, NULL, NULL, NULL, "provider %s cannot tell what exists: %s", p->name, why);
	str_replace(&p->list_error, why);
	e->changed = true;
}

static void list_done(struct provider_call *call, int rc, const struct err *err, const struct machine *machines, size_t count)
{
	struct listing *l = call->data;
	struct engine *e = l->e;
	struct listed *table = NULL, *items = xcalloc(count ? count : 1, sizeof *items);

	for (size_t i = 0; i < count; i++) {
		items[i].key = machines[i].node_id;
		items[i].m = &machines[i];
		HASH_ADD(hh, table, key, sizeof items[i].key, &items[i]);
	}
	engine_wrlock(e);
	l->p->listing = false;
	if (rc == 0) {
		l->p->listed = true;
		for (struct node *n = e->m.nodes_by_name; n; n = n->hh_name.next) {
			/* Only what was there, at rest, before the question was asked. */
			if (n->provider != l->p || n->rebuilding || (n->row.phase != NODE_BOOTING && n->row.phase != NODE_READY) ||
			        n->row.since >= l->began)
				continue;
			struct listed *found = NULL;
			uint64_t key = (uint64_t)n->row.id;
			HASH_FIND(hh, table, &key, sizeof key, found);
			const struct machine *m = found ? found->m : NULL;
			if (m && m->incarnation != (uint32_t)n->row.incarnation)
				m = machine_of(machines, count, n);
			if (!n->op || (n->op->kind == OP_CONTACT && m && !m->running)) /* what does not run will not answer */
				seen(e, n, m);
		}
	}
	if (rc == 0)
		unknown_listed(e, l->p, machines, count);
	list_told(e, l->p, rc == 0 ? NULL : err_msg(err));
	provider_look_at_room(e, l->p);
	engine_wrunlock(e);
	HASH_CLEAR(hh, table);
	free(items);
	free(l);
}

static void list_one(struct engine *e, struct provider_object *p)
{
	if (!p->instance || p->listing)
		return;
	struct listing *l = xcalloc(1, sizeof *l);
	l->e = e;
	l->p = p;
	l->began = now_ms();
	l->call.data = l;
	l->call.done = list_done;
	p->listing = true;
	p->ops->list(p->instance, &l->call);
}

void providers_list(struct engine *e, struct provider_object *only)
{
	if (only) {
		list_one(e, only);
		return;
	}
	struct provider_object *p, *tmp;
	HASH_ITER (hh_name, e->m.providers_by_name, p, tmp) {
		if (p->awaits_type && !provider_in_use(e, p))
			job_read_soon(e);
		else
			list_one(e, p);
	}
}
