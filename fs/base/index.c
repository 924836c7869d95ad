#include "fs/base/index.h"
#include "fs/base/mem.h"
#include <stdio.h>
#include <string.h>
#include <uthash.h>

struct index {
	size_t at;
	UT_hash_handle hh;
	char name[];
};

static struct index *find(const struct index *ix, const char *name, size_t len)
{
	struct index *e;
	HASH_FIND(hh, ix, name, len, e);
	return e;
}

bool index_put(struct index **ix, const char *name, size_t at)
{
	size_t len = strlen(name);
	if (find(*ix, name, len))
		return false;
	struct index *e = xcalloc(1, sizeof *e + len + 1);
	e->at = at;
	memcpy(e->name, name, len);
	HASH_ADD_KEYPTR(hh, *ix, e->name, len, e);
	return true;
}

bool index_find(const struct index *ix, const char *name, size_t *ret_at)
{
	const struct index *e = find(ix, name, strlen(name));
	if (e)
		*ret_at = e->at;
	return e;
}

void index_release(struct index **ix)
{
	struct index *e, *tmp;
	HASH_ITER (hh, *ix, e, tmp) {
		HASH_DEL(*ix, e);
		free(e);
	}
}

bool index_put_pair(struct index **ix, const char *first, const char *second, size_t at)
{
	_cleanup_free_ char *name = xasprintf("%s\n%s", first, second);
	return index_put(ix, name, at);
}

bool index_find_pair(const struct index *ix, const char *first, const char *second, size_t *ret_at)
{
	char name[256]; /* nearly always enough, and asked often */
	if (snprintf(name, sizeof name, "%s\n%s", first, second) < (int)sizeof name)
		return index_find(ix, name, ret_at);
	_cleanup_free_ char *longer = xasprintf("%s\n%s", first, second);
	return index_find(ix, longer, ret_at);
}
