/* What is in force outlives the repo: a deployment's closure goes into the content store and comes back as a tree. */
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "fs/desired/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>

static json_t *hex_of(const struct hash *h)
{
	char hex[HASH_HEX];
	hash_hex(h, hex);
	return json_string(hex);
}

static int keep_documents(const struct closure *docs, struct content_store *c, json_t *ret, struct err **err)
{
	for (size_t i = 0; i < docs->n; i++) {
		const struct tree_doc *d = docs->docs[i];
		int rc = d->text ? content_add_document(c, &d->hash, d->text, d->len, err) : err_set(err, EAGAIN, "'%s' is being written", d->path);
		if (rc < 0)
			return rc;
		json_object_set_new(ret, d->path,
		        json_pack("{s:o, s:I, s:I, s:i}", "hash", hex_of(&d->hash), "uid", (json_int_t)d->uid, "gid", (json_int_t)d->gid, "mode",
		                (int)d->mode));
	}
	return 0;
}

static int keep_contents(const struct tree *t, const struct def_deployment *dep, struct content_store *c, json_t *ret, struct err **err)
{
	for (size_t i = 0; i < dep->n_roles; i++) {
		const struct def_role *r = dep->roles[i];
		const struct tree_content *content = tree_content_find(t, r->name);
		if (hash_is_zero(&r->content))
			continue;
		int rc = content ? content_add_directory(c, &r->content, content->dir, err)
		                 : err_set(err, EAGAIN, "the content of role '%s' is gone", r->name);
		if (rc < 0)
			return rc;
		json_object_set_new(ret, r->name, hex_of(&r->content));
	}
	return 0;
}

int desired_keep(const struct tree *t, const char *repo, const struct desired *d, const struct def_deployment *dep, struct content_store *c,
        char **ret_manifest, struct err **err)
{
	if (!dep->valid || !tree_doc_find(t, DOC_DEPLOYMENT, dep->name))
		return err_set(err, EINVAL, "deployment '%s' cannot be kept: %s", dep->name, dep->problem ? dep->problem : "it is not in this tree");
	struct closure docs = {0};
	json_t *documents = json_object(), *contents = json_object();
	closure_make(t, dep, &docs);
	int rc = keep_documents(&docs, c, documents, err);
	if (!rc)
		rc = keep_contents(t, dep, c, contents, err);
	closure_release(&docs);
	json_t *manifest =
	        json_pack("{s:s, s:s?, s:o, s:o}", "deployment", dep->name, "commit", d->commit, "documents", documents, "contents", contents);
	if (!rc)
		*ret_manifest = json_dumps(manifest, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref(manifest);
	return rc;
}

#define CHANGES_TOLD 8
#define HASH_TOLD 8

struct changes {
	struct buf *out;
	size_t n;
};

static void tell_change(struct changes *c, const char *dir, const char *name, const char *hex)
{
	if (c->n++ < CHANGES_TOLD)
		buf_addf(c->out, "%s%s%s %.*s", c->n > 1 ? ", " : "", dir, name, HASH_TOLD, hex ? hex : "gone");
}

/* A document's entry is an object with its hash, a content's is the hash. */
static const char *hex_in(const json_t *entry)
{
	return json_string_value(json_is_object(entry) ? json_object_get(entry, "hash") : entry);
}

static void tell_changes(struct changes *c, const char *dir, json_t *before, json_t *now)
{
	const char *name;
	json_t *entry;
	json_object_foreach(now, name, entry)
	{
		const char *old = hex_in(json_object_get(before, name)), *new = hex_in(entry);
		if (new && (!old || strcmp(old, new)))
			tell_change(c, dir, name, new);
	}
	json_object_foreach(before, name, entry) if (!json_object_get(now, name)) tell_change(c, dir, name, NULL);
}

void manifest_changes(const char *before, const char *now, struct buf *out)
{
	struct changes c = {.out = out};
	json_t *old = before ? json_loads(before, 0, NULL) : NULL, *new = json_loads(now, 0, NULL);
	tell_changes(&c, "", json_object_get(old, "documents"), json_object_get(new, "documents"));
	tell_changes(&c, "roles/", json_object_get(old, "contents"), json_object_get(new, "contents"));
	if (c.n > CHANGES_TOLD)
		buf_addf(out, " and %zu more", c.n - CHANGES_TOLD);
	json_decref(old);
	json_decref(new);
}

/* ---- and back ---- */

static bool hash_of(const json_t *v, struct hash *ret)
{
	return json_is_string(v) && hash_from_hex(json_string_value(v), ret);
}

static int read_document(const struct content_store *c, struct tree *t, const char *path, const json_t *v, struct err **err)
{
	struct tree_doc d = {0};
	struct buf b = {0};
	struct hash now;
	if (!hash_of(json_object_get(v, "hash"), &d.hash))
		return err_set(err, EINVAL, "the manifest has no hash for '%s'", path);
	if (!doc_path_parse(path, &d.kind, &d.name))
		return err_set(err, EINVAL, "the manifest names '%s', which is no document", path);
	_cleanup_free_ char *file = content_path(c, &d.hash);
	int rc = file_read(AT_FDCWD, file, DOCUMENT_MAX, &b, err);
	hash_bytes(buf_str(&b), b.len, &now);
	if (!rc && !hash_eq(&now, &d.hash))
		rc = err_set(err, EIO, "the kept copy of '%s' is damaged: '%s' does not have its hash", path, file);
	if (rc < 0) {
		buf_release(&b);
		free(d.name);
		return rc;
	}
	d.path = xstrdup(path);
	d.text = buf_detach(&b, &d.len);
	d.uid = (uid_t)json_integer_value(json_object_get(v, "uid"));
	d.gid = (gid_t)json_integer_value(json_object_get(v, "gid"));
	d.mode = (mode_t)json_integer_value(json_object_get(v, "mode"));
	GROW(t->docs, t->n_docs, t->cap_docs);
	t->docs[t->n_docs++] = d;
	return 0;
}

static int find_content(const struct content_store *c, struct tree *t, const char *role, const json_t *v, struct err **err)
{
	struct tree_content content = {0};
	struct stat st;
	if (!hash_of(v, &content.hash))
		return err_set(err, EINVAL, "the manifest has no hash for the content of role '%s'", role);
	content.dir = content_path(c, &content.hash);
	if (stat(content.dir, &st) < 0) {
		int code = errno;
		int rc = err_errno(err, code, "the kept content of role '%s' is not there: '%s'", role, content.dir);
		free(content.dir);
		return rc;
	}
	content.role = xstrdup(role);
	GROW(t->contents, t->n_contents, t->cap_contents);
	t->contents[t->n_contents++] = content;
	return 0;
}

int tree_read_kept(const struct content_store *c, const char *manifest, struct tree **ret, struct err **err)
{
	json_error_t je;
	json_t *root = json_loads(manifest, 0, &je);
	if (!json_is_object(root)) {
		json_decref(root);
		return err_set(err, EINVAL, "the manifest is not a JSON object");
	}
	struct tree *t = xcalloc(1, sizeof *t);
	const char *commit = json_string_value(json_object_get(root, "commit")), *key;
	json_t *v;
	int rc = 0;
	t->kept = true;
	t->commit = xstrdup(commit);
	json_object_foreach(json_object_get(root, "documents"), key, v) if (!rc) rc = read_document(c, t, key, v, err);
	json_object_foreach(json_object_get(root, "contents"), key, v) if (!rc) rc = find_content(c, t, key, v, err);
	json_decref(root);
	if (rc < 0) {
		tree_free(t);
		return rc;
	}
	tree_sort(t);
	*ret = t;
	return 0;
}
