#include "fs/view/place.h"
#include "fs/base/mem.h"
#include <pthread.h>
#include <string.h>
#include <uthash.h>

#define LIVE (1ull << 63)
#define KIND_SHIFT 59
#define ROW_SHIFT 52
#define NAME_SHIFT 32
#define ROOT_INO 1

uint64_t place_ino(const struct place *p)
{
	if (p->kind == PLACE_ROOT && !p->row)
		return ROOT_INO;
	return LIVE | (uint64_t)p->kind << KIND_SHIFT | (uint64_t)p->row << ROW_SHIFT | (uint64_t)p->name << NAME_SHIFT | p->id;
}

bool ino_is_live(uint64_t ino)
{
	return ino == ROOT_INO || (ino & LIVE);
}

struct place ino_place(uint64_t ino)
{
	if (ino == ROOT_INO)
		return (struct place){.kind = PLACE_ROOT};
	return (struct place){
	        .kind = ino >> KIND_SHIFT & 0xf, .row = ino >> ROW_SHIFT & 0x7f, .name = ino >> NAME_SHIFT & PLACE_NAME_MASK, .id = (uint32_t)ino};
}

struct name {
	uint32_t id;
	unsigned len;
	const char *second;
	UT_hash_handle hh;
	char text[]; /* first NUL second NUL */
};
struct names {
	pthread_mutex_t lock;
	struct name *by_text;
	struct name **items; /* id - 1 */
	size_t n, cap;
};

struct names *names_new(void)
{
	struct names *n = xcalloc(1, sizeof *n);
	pthread_mutex_init(&n->lock, NULL);
	return n;
}

void names_free(struct names *n)
{
	if (!n)
		return;
	HASH_CLEAR(hh, n->by_text);
	for (size_t i = 0; i < n->n; i++)
		free(n->items[i]);
	free(n->items);
	pthread_mutex_destroy(&n->lock);
	free(n);
}

static struct name *name_add(struct names *n, const char *text, size_t first_len, size_t len)
{
	if (n->n >= PLACE_NAME_MASK)
		return NULL;
	struct name *item = xcalloc(1, sizeof *item + len + 1);
	memcpy(item->text, text, len);
	item->len = (unsigned)len;
	item->second = len > first_len ? item->text + first_len + 1 : NULL;
	GROW(n->items, n->n, n->cap);
	n->items[n->n++] = item;
	item->id = (uint32_t)n->n;
	HASH_ADD_KEYPTR(hh, n->by_text, item->text, item->len, item);
	return item;
}

uint32_t names_intern(struct names *n, const char *first, const char *second)
{
	size_t first_len = strlen(first), len = first_len + (second ? 1 + strlen(second) : 0);
	char small[256], *text = len < sizeof small ? small : xmalloc(len + 1);
	memcpy(text, first, first_len + 1);
	if (second)
		memcpy(text + first_len + 1, second, len - first_len);
	pthread_mutex_lock(&n->lock);
	struct name *item;
	HASH_FIND(hh, n->by_text, text, len, item);
	if (!item)
		item = name_add(n, text, first_len, len);
	pthread_mutex_unlock(&n->lock);
	if (text != small)
		free(text);
	return item ? item->id : 0;
}

static const struct name *name_get(struct names *n, uint32_t id)
{
	pthread_mutex_lock(&n->lock);
	const struct name *item = id && id <= n->n ? n->items[id - 1] : NULL;
	pthread_mutex_unlock(&n->lock);
	return item;
}

const char *names_first(struct names *n, uint32_t id)
{
	const struct name *item = name_get(n, id);
	return item ? item->text : NULL;
}

const char *names_second(struct names *n, uint32_t id)
{
	const struct name *item = name_get(n, id);
	return item ? item->second : NULL;
}

static uint64_t fnv(uint64_t h, const void *data, size_t len)
{
	for (const unsigned char *p = data; len--; p++)
		h = (h ^ *p) * 0x100000001b3ull;
	return h;
}

static uint64_t fnv_name(uint64_t h, struct names *n, uint32_t id)
{
	const struct name *item = name_get(n, id);
	return item ? fnv(h, item->text, item->len + 1) : h;
}

uint64_t place_stat_ino(struct names *n, const struct place *p)
{
	bool named_object = p->kind == PLACE_PROVIDER || p->kind == PLACE_ROLE;
	bool named = p->name && p->kind != PLACE_RUN;
	if (!named_object && !named)
		return place_ino(p);
	uint64_t h = 0xcbf29ce484222325ull;
	uint32_t where[2];
	memset(where, 0, sizeof where); /* it is hashed byte by byte */
	where[0] = (uint32_t)p->kind;
	where[1] = p->row;
	h = fnv(h, where, sizeof where);
	h = named_object ? fnv_name(h, n, p->id) : fnv(h, &p->id, sizeof p->id);
	if (named)
		h = fnv_name(h, n, p->name);
	return h | LIVE;
}
