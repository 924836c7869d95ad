/* Listings of directories under way. The kernel opens directories by itself (after one OPENDIR was answered with ENOSYS), so of two READDIR of one
 * listing only the offset tells that they belong together. What the first one began is kept here for the next. A reader that stops in the middle is
 * never heard of again: what it began gives way to newer ones, and a reader that finds its own gone begins at its offset anew. */
#include "fs/base/mem.h"
#include "fs/view/internal.h"
#include <pthread.h>

#define LISTINGS_MAX 32

struct kept {
	uint64_t ino, dev;
	off_t at;
	uint64_t since; /* in units of listings that were kept */
	void *listing;  /* NULL: free */
	void (*end)(void *listing);
};
struct listings {
	pthread_mutex_t lock;
	uint64_t clock;
	struct kept kept[LISTINGS_MAX];
};

struct listings *listings_new(void)
{
	struct listings *l = xcalloc(1, sizeof *l);
	pthread_mutex_init(&l->lock, NULL);
	return l;
}

void listings_free(struct listings *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < LISTINGS_MAX; i++)
		if (l->kept[i].listing)
			l->kept[i].end(l->kept[i].listing);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

/* Of several that stopped at the same place the newest: the others' readers will hardly come back. */
void *listing_take(struct listings *l, uint64_t ino, uint64_t dev, off_t at)
{
	struct kept *found = NULL;
	pthread_mutex_lock(&l->lock);
	for (struct kept *k = l->kept; k < l->kept + LISTINGS_MAX; k++)
		if (k->listing && k->ino == ino && k->dev == dev && k->at == at && (!found || k->since > found->since))
			found = k;
	void *ret = found ? found->listing : NULL;
	if (found)
		found->listing = NULL;
	pthread_mutex_unlock(&l->lock);
	return ret;
}

void listing_keep(struct listings *l, uint64_t ino, uint64_t dev, off_t at, void *listing, void (*end)(void *listing))
{
	pthread_mutex_lock(&l->lock);
	struct kept *slot = &l->kept[0];
	for (size_t i = 1; slot->listing && i < LISTINGS_MAX; i++)
		if (!l->kept[i].listing || l->kept[i].since < slot->since)
			slot = &l->kept[i];
	struct kept before = *slot;
	*slot = (struct kept){.ino = ino, .dev = dev, .at = at, .since = ++l->clock, .listing = listing, .end = end};
	pthread_mutex_unlock(&l->lock);
	if (before.listing)
		before.end(before.listing);
}
