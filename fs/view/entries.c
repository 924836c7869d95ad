#include "fs/view/entries.h"
#include "fs/base/mem.h"
#include <stdio.h>
#include <string.h>

const struct entry *entries_of(enum place_kind kind)
{
	static const struct entry *const tables[PLACE_KINDS] = {
	        [PLACE_ROOT] = root_entries,
	        [PLACE_PROVIDER] = provider_entries,
	        [PLACE_ROLE] = role_entries,
	        [PLACE_DEPLOYMENT] = deployment_entries,
	        [PLACE_NODE] = node_entries,
	        [PLACE_NODE_ROLE] = node_role_entries,
	        [PLACE_RUN] = run_entries,
	};
	return kind < PLACE_KINDS ? tables[kind] : NULL;
}

const char *place_kind_name(enum place_kind kind)
{
	static const char *const names[PLACE_KINDS] = {
	        [PLACE_ROOT] = "root",
	        [PLACE_PROVIDER] = "provider",
	        [PLACE_ROLE] = "role",
	        [PLACE_DEPLOYMENT] = "deployment",
	        [PLACE_NODE] = "node",
	        [PLACE_NODE_ROLE] = "node role",
	        [PLACE_RUN] = "run",
	};
	return kind < PLACE_KINDS ? names[kind] : "nothing";
}

bool make_place(enum place_kind kind, unsigned row, int64_t id, struct place *ret)
{
	if (id < 0 || id > UINT32_MAX)
		return false;
	*ret = (struct place){.kind = kind, .row = row, .id = (uint32_t)id};
	return true;
}

static bool is_link(const struct place *p)
{
	return p->row == PLACE_LINK_DEPLOYMENT || p->row == PLACE_LINK_PROVIDER;
}

static const struct entry *row_of(const struct place *p)
{
	const struct entry *table = entries_of(p->kind);
	if (!table || !p->row || is_link(p))
		return NULL;
	for (unsigned i = 0; i < p->row; i++)
		if (!table[i].name)
			return NULL;
	return &table[p->row - 1];
}

/* Does the interned name stand for a directory within the row (a SECTION) rather than for a file? */
static bool is_section(struct names *names, const struct place *p, const struct entry *row)
{
	return row->find == settings_find && !names_second(names, p->name);
}

const struct entry *place_entry(struct names *names, const struct place *p)
{
	const struct entry *row = row_of(p);
	if (!row || !p->name || p->kind == PLACE_RUN)
		return row;
	return is_section(names, p, row) ? NULL : row->file;
}

mode_t place_mode(struct names *names, const struct place *p)
{
	if (is_link(p))
		return S_IFLNK | 0777;
	const struct entry *e = place_entry(names, p);
	return e ? e->mode : S_IFDIR | 0755;
}

static bool find_run(struct object *o, const struct place *p)
{
	for (size_t i = o->node_role->n_runs; i-- > 0;) {
		o->run = &o->node_role->runs[i];
		if ((o->run->number & PLACE_NAME_MASK) == p->name)
			return true;
	}
	return false;
}

static bool find_object(const struct place *p, struct object *o)
{
	const char *name = p->kind == PLACE_PROVIDER || p->kind == PLACE_ROLE ? names_first(o->names, p->id) : NULL;
	switch (p->kind) {
	case PLACE_ROOT:
		return true;
	case PLACE_PROVIDER:
		return name && (o->provider = model_provider(o->m, name));
	case PLACE_ROLE:
		return name && (o->role = model_role(o->m, name));
	case PLACE_DEPLOYMENT:
		return (o->deployment = model_deployment_id(o->m, p->id));
	case PLACE_NODE:
		return (o->node = model_node_id(o->m, p->id));
	case PLACE_NODE_ROLE:
	case PLACE_RUN:
		o->node_role = model_node_role_id(o->m, p->id);
		if (!o->node_role)
			return false;
		o->node = o->node_role->node;
		return p->kind == PLACE_NODE_ROLE || find_run(o, p);
	default:
		return false;
	}
}

bool object_find(const struct model *m, struct names *names, const char *state_dir, const struct place *p, struct object *ret)
{
	*ret = (struct object){.kind = p->kind, .m = m, .names = names, .state_dir = state_dir};
	if (p->row && !is_link(p) && !row_of(p))
		return false;
	if (p->name && p->kind != PLACE_RUN) {
		ret->first = names_first(names, p->name);
		ret->second = names_second(names, p->name);
	}
	return find_object(p, ret);
}

bool place_child(const struct object *o, const struct place *dir, const char *name, struct place *ret)
{
	const struct entry *row = row_of(dir);
	if (row)
		return row->find && row->find(o, dir, name, ret);
	const struct entry *table = entries_of(dir->kind);
	for (unsigned i = 0; table && table[i].name; i++) {
		if (strcmp(table[i].name, name))
			continue;
		*ret = *dir;
		ret->row = i + 1;
		return true;
	}
	return false;
}

void place_list(const struct object *o, const struct place *dir, struct lister *l)
{
	const struct entry *row = row_of(dir);
	if (row) {
		if (row->list)
			row->list(o, dir, l);
		return;
	}
	const struct entry *table = entries_of(dir->kind);
	for (unsigned i = 0; table && table[i].name; i++) {
		struct place p = *dir;
		p.row = i + 1;
		l->add(l, table[i].name, &p);
	}
}

/* All links stand three directories deep. */
void place_link(const struct object *o, struct buf *out)
{
	if (o->kind == PLACE_NODE)
		buf_addf(out, "../../../nodes/%s", o->node->row.name);
	else if (o->kind == PLACE_ROLE)
		buf_addf(out, "../../../roles/%s", o->role->name);
}

static const struct def_source *source_of(const struct object *o)
{
	const struct node *n = o->node;
	if (o->provider)
		return &o->provider->src;
	if (o->role)
		return &o->role->src;
	if (o->deployment)
		return &o->deployment->src;
	if (n && n->def)
		return &n->def->src;
	return n && n->deployment ? &n->deployment->src : NULL;
}

const char *object_document(const struct object *o)
{
	const struct def_source *src = source_of(o);
	return src ? src->path : NULL;
}

void place_owner(const struct object *o, const struct entry *e, mode_t mode, const struct owner *repo, struct owner *ret)
{
	const struct def_source *src = source_of(o);
	*ret = src && src->path ? (struct owner){src->uid, src->gid, src->mode} : *repo;
	if (!S_ISREG(mode)) {
		/* Which objects there are is no secret. */
		ret->mode = mode;
		return;
	}
	ret->mode = (mode & S_IFMT) | (mode & ret->mode & 0777);
	const struct deployment *d = o->deployment ? o->deployment : o->node ? o->node->deployment : NULL;
	if (!e || !e->store || !d || !d->def)
		return;
	if (d->def->store_uid != (uid_t)-1) {
		ret->uid = d->def->store_uid;
		ret->mode |= 0600 & mode;
	}
	if (d->def->store_gid != (gid_t)-1) {
		ret->gid = d->def->store_gid;
		ret->mode |= 0060 & mode;
	}
}

static int64_t last_run(const struct node_role *nr)
{
	int64_t number = nr->row.last_run;
	if (nr->n_runs && nr->runs[nr->n_runs - 1].number > number)
		number = nr->runs[nr->n_runs - 1].number;
	return number;
}

int64_t object_run(const struct object *o)
{
	if (o->run)
		return o->run->number;
	if (o->node_role)
		return last_run(o->node_role);
	int64_t number = 0;
	for (size_t i = 0; o->node && i < o->node->n_roles; i++) {
		int64_t n = last_run(o->node->roles[i]);
		number = n > number ? n : number;
	}
	return number;
}

/* ---- what several tables share ---- */

void end_line(struct buf *out)
{
	if (out->len && out->data[out->len - 1] != '\n')
		buf_addc(out, '\n');
}

void add_line(struct buf *out, const char *text)
{
	if (text && *text)
		buf_adds(out, text);
	end_line(out);
}

static int64_t object_id(const struct object *o)
{
	switch (o->kind) {
	case PLACE_PROVIDER:
		return o->provider->id;
	case PLACE_ROLE:
		return o->role->id;
	case PLACE_DEPLOYMENT:
		return o->deployment->row.id;
	case PLACE_NODE:
		return o->node->row.id;
	case PLACE_NODE_ROLE:
	case PLACE_RUN:
		return o->node_role->row.id;
	default:
		return 0;
	}
}

void render_refused(const struct object *o, struct buf *out)
{
	const struct refusal *r = model_refused(o->m, (enum object_kind)o->kind, object_id(o));
	if (o->refused && (!r || o->refused->at > r->at))
		r = o->refused;
	if (!r)
		return;
	format_time(out, r->at);
	buf_addf(out, " %s: %s: %s\n", r->who ? r->who : "?", r->file ? r->file : "?", r->why ? r->why : "?");
}

void render_verbs(const struct object *o, struct buf *out)
{
	const struct verb_row *rows = engine_verbs((enum object_kind)o->kind);
	int width = 0;
	for (const struct verb_row *r = rows; r && r->name; r++) {
		int n = (int)(strlen(r->name) + strlen(r->args) + 1);
		width = n > width ? n : width;
	}
	for (const struct verb_row *r = rows; r && r->name; r++)
		buf_addf(out, "%s %-*s  %s\n", r->name, width - (int)strlen(r->name) - 1, r->args, r->help);
}

void store_target(const struct object *o, struct write_request *w)
{
	w->kind = (enum object_kind)o->kind;
	w->id = object_id(o);
}

void store_verb(const struct object *o, struct write_request *w)
{
	store_target(o, w);
}

void store_power(const struct object *o, struct write_request *w)
{
	store_target(o, w);
	w->file = "power";
	char *verb = xasprintf("power %s", w->text);
	free(w->text);
	w->text = verb;
}
