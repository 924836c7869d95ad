/* SHA-256 (libcrypto), and HMAC with it. */
#ifndef REBARFS_BASE_HASH_H
#define REBARFS_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct hash {
	uint8_t b[32];
};
#define HASH_HEX 65 /* 64 digits and NUL */

struct hasher; /* incremental; one thread at a time */
struct hasher *hasher_new(void);
void hasher_reset(struct hasher *h);
/* For the id by which git knows a file of this size with the bytes that are added: SHA-1, or SHA-256 in a repo of that format. The 20 bytes of a
 * SHA-1 are followed by zeros. */
struct hasher *hasher_new_blob(uint64_t size, bool sha256);
void hasher_add(struct hasher *h, const void *data, size_t len);
/* Adds the length (8 bytes, little endian) and then the bytes, so that ("ab","c") and ("a","bc") differ. NULL counts as a value of its own. */
void hasher_add_str(struct hasher *h, const char *s);
void hasher_end(struct hasher *h, struct hash *ret);
void hasher_free(struct hasher *h);

void hash_bytes(const void *data, size_t len, struct hash *ret);
void hash_keyed(const struct hash *key, const void *data, size_t len, struct hash *ret); /* HMAC */
void hash_hex(const struct hash *h, char hex[HASH_HEX]);
bool hash_from_hex(const char *hex, struct hash *ret);
static inline bool hash_eq(const struct hash *a, const struct hash *b)
{
	return !memcmp(a->b, b->b, sizeof a->b);
}
static inline bool hash_is_zero(const struct hash *h)
{
	static const struct hash zero;
	return hash_eq(h, &zero);
}

#endif
