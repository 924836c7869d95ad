/* A whole repo in one input: a line "%% PATH" begins a document. Whatever it says, it is parsed, and every verdict has its reason. */
#include "fs/base/mem.h"
#include "fs/desired/internal.h"
#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct key_row container_keys[] = {
        {"container", "boot", VALUE_ENUM, .values = "systemd,sshd"}, {"image *", "suite", VALUE_STRING}, {NULL}};
static const struct key_row ssh_node_keys[] = {{"node", "port", VALUE_INT, .min = 1, .max = 65535}, {NULL}};
static const struct key_row ansible_keys[] = {{"role", "become", VALUE_BOOL}, {NULL}};
static const struct schema_provider providers[] = {{"container", false, false, container_keys, NULL}, {"ssh", true, true, NULL, ssh_node_keys}};
static const struct schema_runner runners[] = {{"script", NULL, NULL}, {"ansible", ansible_keys, NULL}, {"none", NULL, NULL}};
static const struct desired_schema schema = {providers, 2, runners, 3};

static void add(struct tree *t, const char *path, const char *text, size_t len)
{
	struct tree_doc d = {0};
	if (!doc_path_parse(path, &d.kind, &d.name))
		return;
	for (size_t i = 0; i < t->n_docs; i++)
		if (!strcmp(t->docs[i].path, path)) {
			free(d.name);
			return;
		}
	d.path = xstrdup(path);
	d.busy = len >= 5 && !memcmp(text, ";busy", 5);
	d.text = d.busy ? NULL : xstrndup(text, len);
	d.len = d.busy ? 0 : len;
	hash_bytes(text, len, &d.hash);
	GROW(t->docs, t->n_docs, t->cap_docs);
	t->docs[t->n_docs++] = d;
}

/* xstrndup stops at a NUL; a document does not. */
static struct tree *make_tree(const char *data, size_t size)
{
	struct tree *t = xcalloc(1, sizeof *t);
	size_t pos = 0, len, start = 0;
	const char *line;
	_cleanup_free_ char *path = NULL;
	while (ini_next_line(data, size, &pos, &line, &len)) {
		if (len < 4 || memcmp(line, "%% ", 3))
			continue;
		if (path)
			add(t, path, data + start, strnlen(data + start, (size_t)(line - data) - start));
		free(path);
		path = xstrndup(line + 3, len - 3);
		start = pos;
	}
	if (path)
		add(t, path, data + start, strnlen(data + start, size - start));
	tree_sort(t);
	return t;
}

static void check_deployment(const struct desired *d, const struct def_deployment *dep)
{
	assert(dep->valid ? !dep->problem && !dep->busy : dep->problem || dep->busy);
	for (size_t i = 0; i < dep->n_groups; i++) {
		const struct def_group *g = &dep->groups[i];
		assert(!dep->valid || (g->provider && g->provider->valid));
		for (size_t j = 0; j < g->n_roles; j++) {
			assert(!dep->valid || g->roles[j]->valid);
			for (size_t k = 0; k < g->roles[j]->n_params; k++) {
				const char *value = desired_param(
				        d, dep, g->roles[j], g->name, g->nodes.n ? g->nodes.items[0] : NULL, &g->roles[j]->params[k], NULL);
				assert(!dep->valid || value);
			}
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tree *t = make_tree((const char *)data, size);
	struct desired *d = NULL;
	assert(desired_parse(t, &schema, &d, NULL) == 0);
	for (size_t i = 0; i < d->n_problems; i++)
		assert(*d->problems[i].file && *d->problems[i].text && d->problems[i].line >= 0 &&
		        (d->problems[i].column > 0) == (d->problems[i].line > 0) && d->problems[i].code > 0);
	for (size_t i = 0; i < d->n_deployments; i++)
		check_deployment(d, d->deployments[i]);
	desired_unref(d);
	tree_free(t);
	return 0;
}
