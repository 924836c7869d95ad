/* Roles that put a runner's tool on a node. A role of that runner requires the one for its tool without saying so, and where the repo has none of
 * that name, there is one all the same: a document of ours, in all else like any other. */
#include "fs/base/mem.h"
#include "fs/desired/internal.h"
#include <errno.h>
#include <string.h>

static void ignore_mistake(void *arg, int line, int column, const char *text)
{
}

/* The runner, if it is one that needs a tool which this role does not bring itself. */
static const struct schema_runner *needs_tool(const struct desired_schema *schema, const struct settings *s)
{
	const char *name = settings_get(s, "role", "runner");
	const struct schema_runner *r = name ? schema_runner_find(schema, name) : NULL;
	if (!r || !r->tool_role || (r->program_key && settings_get(s, "role", r->program_key)))
		return NULL;
	return r;
}

static void add_document(struct tree *t, const struct schema_runner *r, const struct tree_doc *wanted_by, const char *source)
{
	struct buf text = {0};
	buf_adds(&text, r->tool_document);
	if (source)
		buf_addf(&text, "%s = %s\n", r->source_key, source);
	struct tree_doc d = {.kind = DOC_ROLE, .uid = wanted_by->uid, .gid = wanted_by->gid, .mode = wanted_by->mode & 0444};
	d.name = xstrdup(r->tool_role);
	d.path = xasprintf("%s/%s/%s", doc_places[DOC_ROLE].dir, r->tool_role, doc_places[DOC_ROLE].file);
	d.text = buf_detach(&text, &d.len);
	hash_bytes(d.text, d.len, &d.hash);
	GROW(t->docs, t->n_docs, t->cap_docs);
	t->docs[t->n_docs++] = d;
}

void tree_add_tools(struct tree *t, const struct desired_schema *schema)
{
	const struct schema_runner *found[16];
	const char *sources[16] = {NULL};
	size_t by[16], n = 0;
	_cleanup_strlist_ struct strlist texts = {0};
	for (size_t i = 0; i < t->n_docs; i++) {
		struct ini_doc ini = {0};
		if (t->docs[i].kind != DOC_ROLE || !t->docs[i].text)
			continue;
		ini_read(t->docs[i].text, t->docs[i].len, &ini, ignore_mistake, NULL);
		const struct schema_runner *r = needs_tool(schema, &ini.settings);
		const char *source = r && r->source_key ? settings_get(&ini.settings, "role", r->source_key) : NULL;
		size_t k = 0;
		while (k < n && found[k] != r)
			k++;
		if (r && k == n && n < 16 && !tree_doc_find(t, DOC_ROLE, r->tool_role)) {
			found[n] = r;
			by[n++] = i;
		}
		if (r && k < n && source && !sources[k]) {
			strlist_add(&texts, source);
			sources[k] = texts.items[texts.n - 1];
		}
		ini_doc_release(&ini);
	}
	for (size_t k = 0; k < n; k++)
		add_document(t, found[k], &t->docs[by[k]], sources[k]);
	if (n)
		tree_sort(t);
}

static bool is_brought(const struct parse *p, const struct def_role *r, const char *tool)
{
	for (size_t i = 0; i < r->requires.n; i++) {
		struct doc *doc = parse_doc(p, DOC_ROLE, r->requires.items[i]);
		if (doc && strlist_has(&((struct def_role *)doc->def)->provides, tool))
			return true;
	}
	return false;
}

void roles_need_tools(struct parse *p)
{
	for (size_t i = 0; i < p->all->d.n_roles; i++) {
		struct def_role *r = p->all->d.roles[i];
		struct doc *doc = &p->docs[p->first[DOC_ROLE] + i];
		const struct schema_runner *runner = needs_tool(p->schema, &r->settings);
		struct doc *tool = runner ? parse_doc(p, DOC_ROLE, runner->tool_role) : NULL;
		if (!tool || tool == doc || is_brought(p, r, runner->tool_role))
			continue;
		if (!strlist_has(&r->requires, runner->tool_role))
			strlist_add(&r->requires, runner->tool_role);
		const char *own = runner->source_key ? settings_get(&r->settings, "role", runner->source_key) : NULL;
		const char *its = own ? settings_get(&((struct def_role *)tool->def)->settings, "role", runner->source_key) : NULL;
		if (own && (!its || strcmp(own, its) != 0))
			mistake(p, doc, doc, doc_line(doc, "role", runner->source_key), EINVAL,
			        "'%s' is '%s' here, but role '%s' has %s%s%s: a node gets the tool once", runner->source_key, own, runner->tool_role,
			        its ? "'" : "", its ? its : "none", its ? "'" : "");
	}
}
