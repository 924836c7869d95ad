/* A tree -> definitions and mistakes: what is common to all documents. */
#include "fs/base/mem.h"
#include "fs/desired/internal.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>

/* Names compared with a mistyped one, over all mistakes: whoever has ten thousand of them is not helped by ten thousand proposals. */
#define GUESSES_MAX 1000000

/* A value may be as long as a document. */
#define SENTENCE_MAX 1000

/* ---- mistakes ---- */

static void remember_first(struct doc *owner, const char *path, int line, const char *text)
{
	bool own = !strcmp(path, owner->td->path);
	owner->wrong = true;
	if (owner->first && (owner->first_own > own || (owner->first_own == own && (!own || owner->first_line <= line))))
		return;
	free(owner->first);
	owner->first = line ? xasprintf("%s:%d: %s", path, line, text) : xasprintf("%s: %s", path, text);
	owner->first_line = line;
	owner->first_own = own;
}

struct told {
	UT_hash_handle hh;
	char sentence[];
};

/* Said before of this very place; true from the second time on. */
static bool is_told(struct parse *p, const char *path, int line, const char *text)
{
	_cleanup_free_ char *sentence = xasprintf("%s:%d: %s", path, line, text);
	size_t len = strlen(sentence);
	struct told *t;
	HASH_FIND(hh, p->told, sentence, len, t);
	if (t)
		return true;
	t = xcalloc(1, sizeof *t + len + 1);
	memcpy(t->sentence, sentence, len);
	HASH_ADD(hh, p->told, sentence, len, t);
	return false;
}

static void told_free(struct parse *p)
{
	struct told *t, *tmp;
	HASH_ITER (hh, p->told, t, tmp) {
		HASH_DEL(p->told, t);
		free(t);
	}
}

/* Takes text. shared: the same mistake may be found from several places (a line that is inherited) and is listed once. */
static void record(struct parse *p, struct doc *owner, bool shared, const char *path, int line, int column, int code, char *text)
{
	struct desired *d = &p->all->d;
	_cleanup_free_ char *file = xstrdup(path);
	if (strlen(text) > SENTENCE_MAX)
		strcpy(text + SENTENCE_MAX - 3, "...");
	str_make_line(file);
	str_make_line(text);
	if (owner) {
		remember_first(owner, file, line, text);
		owner->malformed |= p->form;
	}
	if (shared && is_told(p, file, line, text)) {
		free(text);
		return;
	}
	GROW(d->problems, d->n_problems, p->cap_problems);
	d->problems[d->n_problems++] = (struct problem){xstrdup(file), line, column, code, text};
}

static char *vformat(const char *fmt, va_list ap)
{
	struct buf b = {0};
	buf_vaddf(&b, fmt, ap);
	return buf_detach(&b, NULL);
}

void mistake(struct parse *p, struct doc *owner, const struct doc *doc, int line, int code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	record(p, owner, !p->form, doc->td->path, line, 0, code, vformat(fmt, ap));
	va_end(ap);
}

void mistake_at(struct parse *p, struct doc *owner, const char *path, int line, int code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	record(p, owner, false, path, line, 0, code, vformat(fmt, ap));
	va_end(ap);
}

const char *did_you_mean(struct parse *p, char buf[160], const char *word, const char *const *names, size_t n)
{
	p->guessed += n;
	const char *near = n && p->guessed <= GUESSES_MAX ? str_suggest(word, names, n) : NULL;
	buf[0] = 0;
	if (near)
		snprintf(buf, 160, " (did you mean '%s'?)", near);
	return buf;
}

/* ---- documents by name ---- */

struct doc *parse_doc(const struct parse *p, enum doc_kind kind, const char *name)
{
	const struct tree_doc *td = tree_doc_find(p->t, kind, name);
	return td ? &p->docs[td - p->t->docs] : NULL;
}

const char *suggest_doc(struct parse *p, enum doc_kind kind, const char *word, char buf[160])
{
	_cleanup_free_ const char **names = xcalloc(p->n[kind] + 1, sizeof *names);
	for (size_t i = 0; i < p->n[kind]; i++)
		names[i] = p->docs[p->first[kind] + i].td->name;
	return did_you_mean(p, buf, word, names, p->n[kind]);
}

const struct setting *doc_setting(const struct doc *d, const char *section, const char *key)
{
	size_t at;
	return index_find_pair(d->ini.by_key, section, key, &at) ? &d->ini.settings.items[at] : NULL;
}

int doc_line(const struct doc *d, const char *section, const char *key)
{
	const struct setting *s = doc_setting(d, section, key);
	return s ? s->line : 0;
}

int heading_line(const struct doc *d, const char *section)
{
	size_t at;
	return index_find(d->ini.by_heading, section, &at) ? d->ini.headings[at].line : 0;
}

/* ---- reading one by one ---- */

struct reader {
	struct parse *p;
	struct doc *doc;
};

static void on_mistake(void *arg, int line, int column, const char *text)
{
	struct reader *r = arg;
	record(r->p, r->doc, false, r->doc->td->path, line, column, EINVAL, xstrdup(text));
}

static void *new_def(struct parse *p, struct doc *doc)
{
	struct desired *d = &p->all->d;
	size_t i = (size_t)(doc - p->docs) - p->first[doc->td->kind];
	switch (doc->td->kind) {
	case DOC_PROVIDER:
		return d->providers[i] = xcalloc(1, sizeof **d->providers);
	case DOC_ROLE:
		return d->roles[i] = xcalloc(1, sizeof **d->roles);
	case DOC_NODE:
		return d->nodes[i] = xcalloc(1, sizeof **d->nodes);
	default:
		return d->deployments[i] = xcalloc(1, sizeof **d->deployments);
	}
}

static void fill_source(struct def_source *s, const struct tree_doc *td)
{
	s->path = xstrdup(td->path);
	s->uid = td->uid;
	s->gid = td->gid;
	s->mode = td->mode;
	s->hash = td->hash;
	s->busy = td->busy;
	s->uncommitted = td->uncommitted;
}

/* Nodes are hosts, and are named by deployments. A role's name has no dot: 'wants = ROLE.KEY'. */
static int check_doc_name(const struct tree_doc *td, struct err **err)
{
	switch (td->kind) {
	case DOC_ROLE:
		return check_word(td->name, "_-", err);
	case DOC_PROVIDER:
		return check_word(td->name, "_-.", err);
	default:
		return check_name(td->name, err);
	}
}

static void read_text(struct parse *p, struct doc *doc)
{
	const struct tree_doc *td = doc->td;
	struct err *err = NULL;
	if (check_doc_name(td, &err) < 0) {
		mistake(p, doc, doc, 0, EINVAL, "the directory '%s/%s' has no good name: %s", doc_places[td->kind].dir, td->name, err_msg(err));
		err_free(err);
	}
	if (td->trouble)
		mistake(p, doc, doc, 0, td->code, "%s", td->trouble);
	if (td->text)
		ini_read(td->text, td->len, &doc->ini, on_mistake, &(struct reader){p, doc});
}

static void read_one(struct parse *p, struct doc *doc)
{
	size_t i = (size_t)(doc - p->docs) - p->first[doc->td->kind];
	read_text(p, doc);
	doc->def = new_def(p, doc);
	switch (doc->td->kind) {
	case DOC_PROVIDER: {
		struct def_provider *def = doc->def;
		fill_source(&def->src, doc->td);
		define_provider(p, doc);
		break;
	}
	case DOC_ROLE: {
		struct def_role *def = doc->def;
		fill_source(&def->src, doc->td);
		define_role(p, doc, &p->all->roles[i]);
		break;
	}
	case DOC_NODE: {
		struct def_node *def = doc->def;
		fill_source(&def->src, doc->td);
		define_node(p, doc);
		break;
	}
	default: {
		struct def_deployment *def = doc->def;
		fill_source(&def->src, doc->td);
		define_deployment(p, doc);
	}
	}
}

/* ---- the whole ---- */

static void make_room(struct parse *p)
{
	struct desired *d = &p->all->d;
	for (size_t i = 0; i < p->t->n_docs; i++) {
		p->docs[i].td = &p->t->docs[i];
		if (!p->n[p->t->docs[i].kind]++)
			p->first[p->t->docs[i].kind] = i;
	}
	d->n_providers = p->n[DOC_PROVIDER];
	d->n_roles = p->n[DOC_ROLE];
	d->n_nodes = p->n[DOC_NODE];
	d->n_deployments = p->n[DOC_DEPLOYMENT];
	d->providers = xcalloc(d->n_providers + 1, sizeof *d->providers);
	d->roles = xcalloc(d->n_roles + 1, sizeof *d->roles);
	d->nodes = xcalloc(d->n_nodes + 1, sizeof *d->nodes);
	d->deployments = xcalloc(d->n_deployments + 1, sizeof *d->deployments);
	p->all->nodes = xcalloc(d->n_nodes + 1, sizeof *p->all->nodes);
	p->all->roles = xcalloc(d->n_roles + 1, sizeof *p->all->roles);
}

static void set_verdict(struct parse *p, struct doc *doc)
{
	const char *problem = NULL;
	bool valid = !doc->wrong && !doc->td->busy;
	if (doc->first) {
		strlist_add_take(&p->all->texts, doc->first);
		problem = doc->first;
	}
	switch (doc->td->kind) {
	case DOC_PROVIDER: {
		struct def_provider *def = doc->def;
		def->valid = valid;
		def->problem = problem;
		break;
	}
	case DOC_ROLE: {
		struct def_role *def = doc->def;
		def->valid = valid;
		def->problem = problem;
		break;
	}
	case DOC_NODE: {
		struct def_node *def = doc->def;
		def->valid = valid;
		def->problem = problem;
		break;
	}
	default: {
		struct def_deployment *def = doc->def;
		def->valid = valid && !def->busy;
		def->problem = problem;
	}
	}
}

static int by_place(const void *a, const void *b)
{
	const struct problem *x = a, *y = b;
	int c = strcmp(x->file, y->file);
	return c ? c : x->line != y->line ? (x->line < y->line ? -1 : 1) : strcmp(x->text, y->text);
}

int desired_parse(struct tree *t, const struct desired_schema *schema, struct desired **ret, struct err **err)
{
	struct parse p = {.t = t, .schema = schema, .form = true};
	tree_add_tools(t, schema);
	p.all = xcalloc(1, sizeof *p.all);
	atomic_init(&p.all->refs, 1);
	p.all->d.commit = xstrdup(t->commit);
	p.all->d.incomparable = xstrdup(t->incomparable);
	p.all->d.git_failed = t->git_failed;
	for (size_t i = 0; i < t->removed.n; i++)
		strlist_add(&p.all->d.removed, t->removed.items[i]);
	p.docs = xcalloc(t->n_docs + 1, sizeof *p.docs);
	make_room(&p);
	for (size_t i = 0; i < t->n_troubles; i++)
		mistake_at(&p, NULL, t->troubles[i].path, 0, t->troubles[i].code, "%s", t->troubles[i].text);
	for (size_t i = 0; i < t->n_docs; i++)
		read_one(&p, &p.docs[i]);
	p.form = false;
	roles_need_tools(&p);
	roles_link(&p);
	nodes_link(&p);
	deployments_link(&p);
	for (size_t i = 0; i < t->n_docs; i++) {
		set_verdict(&p, &p.docs[i]);
		ini_doc_release(&p.docs[i].ini);
	}
	free(p.docs);
	told_free(&p);
	struct desired *d = &p.all->d;
	if (d->n_problems)
		qsort(d->problems, d->n_problems, sizeof *d->problems, by_place);
	columns_fill(d->problems, d->n_problems, t);
	*ret = d;
	return 0;
}
