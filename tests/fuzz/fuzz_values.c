/* Stores of values, as the mount makes them: the first four lines are the document's path, section, key and value ("-": unset), the rest is a repo.
 * What the document offers is known to its reader; a value that is accepted is the one that holds, and one that is not has a reason. */
#include "tests/fuzz/tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct store {
	char *path, *section, *key, *value; /* value NULL: unset */
};

static bool settable_at(const struct desired *d, const char *path, struct settable *ret)
{
	enum doc_kind kind;
	_cleanup_free_ char *name = NULL;
	*ret = (struct settable){.schema = &schema, .owner = d};
	if (!doc_path_parse(path, &kind, &name))
		return false;
	ret->provider = kind == DOC_PROVIDER ? desired_provider(d, name) : NULL;
	ret->role = kind == DOC_ROLE ? desired_role(d, name) : NULL;
	ret->node = kind == DOC_NODE ? desired_node(d, name) : NULL;
	ret->deployment = kind == DOC_DEPLOYMENT ? desired_deployment(d, name) : NULL;
	return ret->provider || ret->role || ret->node || ret->deployment;
}

static const struct problem *problem_in(const struct desired *d, const char *path)
{
	for (size_t i = 0; i < d->n_problems; i++)
		if (!strcmp(d->problems[i].file, path))
			return &d->problems[i];
	return NULL;
}

static void add_name(void *arg, const char *name)
{
	struct strlist *names = arg;
	assert(!strlist_has(names, name));
	strlist_add(names, name);
}

/* Everything that the tree shows of a document can be shown; is the key among it? */
static bool offers(const struct settable *s, const char *section, const char *key)
{
	struct strlist sections = {0};
	bool found = false;
	settable_sections(s, add_name, &sections);
	for (size_t i = 0; i < sections.n; i++) {
		struct strlist keys = {0};
		settable_keys(s, sections.items[i], add_name, &keys);
		for (size_t j = 0; j < keys.n; j++) {
			_cleanup_buf_ struct buf value = {0};
			settable_value(s, sections.items[i], keys.items[j], &value);
		}
		found |= !strcmp(sections.items[i], section) && strlist_has(&keys, key);
		strlist_release(&keys);
	}
	strlist_release(&sections);
	return found;
}

static void check_stored(const struct desired *d, const struct store *w, const char *section, bool offered)
{
	const struct problem *p = problem_in(d, w->path);
	struct settable s;
	assert(!p || *p->text);
	if (p) {
		assert(!offered || !w->value || (strncmp(p->text, "unknown ", 8) && !strstr(p->text, " has no parameter ")));
		return;
	}
	_cleanup_buf_ struct buf now = {0};
	assert(settable_at(d, w->path, &s));
	assert(settable_is_set(&s, section, w->key) == (w->value != NULL));
	settable_value(&s, section, w->key, &now);
	assert(!w->value || !strcmp(buf_str(&now), w->value));
	assert(!w->value || offers(&s, section, w->key));
}

static void store(struct tree *t, const struct store *w)
{
	struct desired *before = NULL, *after = NULL;
	struct settable s;
	struct buf text = {0};
	struct tree_doc *doc = NULL;
	_cleanup_free_ char *section = ini_section_name(w->section, strlen(w->section));
	assert(desired_parse(t, &schema, &before, NULL) == 0);
	for (size_t i = 0; i < t->n_docs; i++)
		if (!strcmp(t->docs[i].path, w->path) && t->docs[i].text)
			doc = &t->docs[i];
	bool good = doc && settable_at(before, w->path, &s) && !problem_in(before, w->path);
	bool offered = good && offers(&s, section, w->key);
	if (good && document_set(doc->text, doc->len, w->section, w->key, w->value, &text, NULL) == 0) {
		free(doc->text);
		doc->text = buf_detach(&text, &doc->len);
		assert(desired_parse(t, &schema, &after, NULL) == 0);
		check_stored(after, w, section, offered);
	}
	buf_release(&text);
	desired_unref(before);
	desired_unref(after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = xstrndup((const char *)data, size);
	char *part[4], *at = text;
	for (int i = 0; i < 4; i++) {
		part[i] = at;
		char *nl = strchr(at, '\n');
		if (!nl)
			return 0;
		*nl = 0;
		at = nl + 1;
	}
	size_t rest = (size_t)(at - text);
	struct tree *t = make_tree((const char *)data + rest, size - rest);
	/* The mount takes an empty line for "unset", and one line at a time */
	store(t, &(struct store){part[0], part[1], part[2], strcmp(part[3], "-") && *part[3] ? part[3] : NULL});
	tree_free(t);
	return 0;
}
