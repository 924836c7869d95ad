#include "fs/base/secret.h"
#include "fs/base/mem.h"
#include <errno.h>
#include <jansson.h>
#include <string.h>

#define NAME_LEN_MAX 200

const char *secret_ref(const char *value)
{
	return value && !strncmp(value, "secret:", 7) && value[7] ? value + 7 : NULL;
}

static bool part_ok(const char *part, size_t len)
{
	static const char first[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_",
	                  all[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.@+-";
	return len && strchr(first, *part) && strspn(part, all) >= len;
}

int secret_name_check(const char *name, struct err **err)
{
	bool ok = strlen(name) <= NAME_LEN_MAX;
	for (const char *p = name; ok; p += strcspn(p, "/") + 1) {
		ok = part_ok(p, strcspn(p, "/"));
		if (!p[strcspn(p, "/")])
			break;
	}
	if (ok)
		return 0;
	return err_set(err, EINVAL,
	        "'secret:%.40s' names no secret: a name is made of letters, digits and _ . @ + -, in parts divided by '/' that begin with a letter, "
	        "a digit or _",
	        name);
}

/* Jansson's own judgement, because what it refuses could not be handed to any role. */
static bool is_text(const char *data, size_t len)
{
	json_t *j = memchr(data, 0, len) ? NULL : json_stringn(data, len);
	json_decref(j);
	return j;
}

struct secret *secret_new(const char *data, size_t len, struct err **err)
{
	if (len && data[len - 1] == '\n')
		len--;
	if (!len)
		err_set(err, EINVAL, "is empty");
	else if (len > SECRET_MAX)
		err_set(err, EFBIG, "has more than %d bytes", SECRET_MAX);
	else if (!is_text(data, len))
		err_set(err, EINVAL, "is not UTF-8 text");
	else {
		struct secret *s = xmalloc(sizeof *s + len + 1);
		*s = (struct secret){.refs = 1, .len = len};
		memcpy(s->value, data, len);
		s->value[len] = 0;
		return s;
	}
	return NULL;
}

struct secret *secret_hold(struct secret *s)
{
	s->refs++;
	return s;
}

void secret_drop(struct secret *s)
{
	if (!s || --s->refs)
		return;
	explicit_bzero(s->value, s->len);
	free(s);
}

void secret_hash(const struct hash *key, const struct secret *s, struct hash *ret)
{
	hash_keyed(key, s->value, s->len, ret);
}

void wipe_free(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	free(s);
}
