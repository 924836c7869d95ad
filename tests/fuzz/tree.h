/* A repo as one text, for fuzzers: a line "%% PATH" begins a document. And a schema that imitates the built-in providers and runners. */
#ifndef FUZZ_TREE_H
#define FUZZ_TREE_H

#include "fs/base/mem.h"
#include "fs/desired/internal.h"
#include <assert.h>
#include <string.h>

static const struct key_row container_keys[] = {
        {"container", "boot", VALUE_ENUM, .values = "systemd,sshd"}, {"image *", "suite", VALUE_STRING}, {NULL}};
static const struct key_row ssh_node_keys[] = {{"node", "port", VALUE_INT, .min = 1, .max = 65535}, {NULL}};
static const struct key_row ansible_keys[] = {{"role", "become", VALUE_BOOL}, {NULL}};
static const struct schema_provider providers[] = {{"container", false, false, container_keys, NULL}, {"ssh", true, true, NULL, ssh_node_keys}};
static const struct schema_runner runners[] = {{"script", NULL, NULL}, {"ansible", ansible_keys, NULL}, {"none", NULL, NULL}};
static const struct desired_schema schema = {providers, 2, runners, 3};

static inline void tree_add_text(struct tree *t, const char *path, const char *text, size_t len)
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
static inline struct tree *make_tree(const char *data, size_t size)
{
	struct tree *t = xcalloc(1, sizeof *t);
	size_t pos = 0, len, start = 0;
	const char *line;
	_cleanup_free_ char *path = NULL;
	while (ini_next_line(data, size, &pos, &line, &len)) {
		if (len < 4 || memcmp(line, "%% ", 3))
			continue;
		if (path)
			tree_add_text(t, path, data + start, strnlen(data + start, (size_t)(line - data) - start));
		free(path);
		path = xstrndup(line + 3, len - 3);
		start = pos;
	}
	if (path)
		tree_add_text(t, path, data + start, strnlen(data + start, size - start));
	tree_sort(t);
	return t;
}

#endif
