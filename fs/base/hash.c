#include "fs/base/hash.h"
#include "fs/base/mem.h"
#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdio.h>

struct hasher {
	EVP_MD_CTX *ctx;
};

/* Looked up once and contexts kept: with OpenSSL 3 the lookup costs more than a short text (SHA256() 540 ns, this 160 ns). */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static EVP_MD *sha256, *sha1;
static pthread_key_t thread_hasher;

static void thread_ends(void *h)
{
	hasher_free(h);
}

static void init(void)
{
	sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	sha1 = EVP_MD_fetch(NULL, "SHA1", NULL);
	if (!sha256 || !sha1 || pthread_key_create(&thread_hasher, thread_ends))
		out_of_memory();
}

struct hasher *hasher_new(void)
{
	pthread_once(&once, init);
	struct hasher *h = xmalloc(sizeof *h);
	h->ctx = EVP_MD_CTX_new();
	if (!h->ctx)
		out_of_memory();
	hasher_reset(h);
	return h;
}

void hasher_reset(struct hasher *h)
{
	if (EVP_DigestInit_ex(h->ctx, sha256, NULL) != 1)
		out_of_memory();
}

struct hasher *hasher_new_blob(uint64_t size, bool is_sha256)
{
	struct hasher *h = hasher_new();
	char head[32];
	int n = snprintf(head, sizeof head, "blob %" PRIu64, size);
	if (!is_sha256 && EVP_DigestInit_ex(h->ctx, sha1, NULL) != 1)
		out_of_memory();
	hasher_add(h, head, (size_t)n + 1); /* with its NUL */
	return h;
}

void hasher_add(struct hasher *h, const void *data, size_t len)
{
	EVP_DigestUpdate(h->ctx, data, len);
}

void hasher_add_str(struct hasher *h, const char *s)
{
	uint64_t len = s ? strlen(s) : UINT64_MAX;
	uint8_t le[8];
	for (int i = 0; i < 8; i++)
		le[i] = (uint8_t)(len >> (8 * i));
	hasher_add(h, le, sizeof le);
	if (s)
		hasher_add(h, s, len);
}

void hasher_end(struct hasher *h, struct hash *ret)
{
	*ret = (struct hash){0};
	EVP_DigestFinal_ex(h->ctx, ret->b, NULL);
}

void hasher_free(struct hasher *h)
{
	if (!h)
		return;
	EVP_MD_CTX_free(h->ctx);
	free(h);
}

void hash_bytes(const void *data, size_t len, struct hash *ret)
{
	pthread_once(&once, init);
	struct hasher *h = pthread_getspecific(thread_hasher);
	if (h) {
		hasher_reset(h);
	} else {
		h = hasher_new();
		pthread_setspecific(thread_hasher, h);
	}
	hasher_add(h, data, len);
	hasher_end(h, ret);
}

void hash_keyed(const struct hash *key, const void *data, size_t len, struct hash *ret)
{
	if (!HMAC(EVP_sha256(), key->b, sizeof key->b, data, len, ret->b, NULL))
		out_of_memory();
}

void hash_hex(const struct hash *h, char hex[HASH_HEX])
{
	static const char digits[] = "0123456789abcdef";
	for (int i = 0; i < 32; i++) {
		hex[2 * i] = digits[h->b[i] >> 4];
		hex[2 * i + 1] = digits[h->b[i] & 15];
	}
	hex[64] = '\0';
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool hash_from_hex(const char *hex, struct hash *ret)
{
	struct hash h;
	for (int i = 0; i < 32; i++) {
		int hi = digit(hex[2 * i]), lo = hi < 0 ? -1 : digit(hex[2 * i + 1]);
		if (lo < 0)
			return false;
		h.b[i] = (uint8_t)(hi << 4 | lo);
	}
	if (hex[64])
		return false;
	*ret = h;
	return true;
}
