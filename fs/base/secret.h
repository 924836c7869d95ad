/* Secrets: how documents name them, and a value while it is in hand. */
#ifndef REBARFS_BASE_SECRET_H
#define REBARFS_BASE_SECRET_H

#include "fs/base/err.h"
#include "fs/base/hash.h"
#include <stdbool.h>
#include <stddef.h>

/* The NAME of "secret:NAME"; NULL: value (may be NULL) is nothing of the kind. */
const char *secret_ref(const char *value);
/* Letters, digits and _ . @ + - in parts divided by '/'. Nothing in it means anything to a shell, and no part leaves a directory. */
int secret_name_check(const char *name, struct err **err);

/* A value, overwritten when the last holder lets go. Counted without a lock: one thread's own. */
struct secret {
	int refs;
	size_t len;
	char value[]; /* NUL-terminated behind len */
};
#define SECRET_MAX 65536

/* One newline at the end is dropped. NULL and a sentence ("is empty", "is not UTF-8 text"...) for what cannot be a secret. */
struct secret *secret_new(const char *data, size_t len, struct err **err);
struct secret *secret_hold(struct secret *s);
void secret_drop(struct secret *s);
/* What stands for it where the value itself must not be: nobody without the key can find it by guessing. */
void secret_hash(const struct hash *key, const struct secret *s, struct hash *ret);

void wipe_free(char *s); /* overwrites a string and frees it; NULL is fine */

#endif
