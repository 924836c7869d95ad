/* What a gated deployment takes over: its own document as it lies in the repo, roles and what it inherits as they passed elsewhere.
 *
 * Both are manifests: path -> hash of what the content store holds. So a gate is a choice by path, and what it lets through is a version that was
 * kept as a whole when it was active: never a mixture that no stage ever ran. */
#include "fs/base/mem.h"
#include "fs/desired/desired.h"
#include <errno.h>
#include <jansson.h>
#include <string.h>

static bool passes(const char *path, const char *own_document)
{
	return !strncmp(path, "roles/", 6) || (!strncmp(path, "deployments/", 12) && strcmp(path, own_document) != 0);
}

int desired_gate(const char *own, const char *passed, char **ret_manifest, struct err **err)
{
	json_t *to = json_loads(own, 0, NULL), *from = json_loads(passed, 0, NULL);
	const char *name = json_string_value(json_object_get(to, "deployment")), *key;
	json_t *documents = json_object_get(to, "documents"), *contents = json_object_get(to, "contents"), *v;
	int rc = 0;
	if (!name || !json_is_object(documents) || !json_is_object(contents) || !json_is_object(from)) {
		rc = err_set(err, EINVAL, "a manifest is damaged");
	} else {
		_cleanup_free_ char *own_document = xasprintf("deployments/%s/deployment.ini", name);
		/* Providers and machines are each stage's own; one that only the passed version names comes along, or that would not be whole. */
		json_object_foreach(json_object_get(from, "documents"), key, v) if (passes(key, own_document) || !json_object_get(documents, key))
		        json_object_set(documents, key, v);
		json_object_foreach(json_object_get(from, "contents"), key, v) json_object_set(contents, key, v);
		*ret_manifest = json_dumps(to, JSON_COMPACT | JSON_SORT_KEYS);
	}
	json_decref(to);
	json_decref(from);
	return rc;
}
