/* What the kernel was told of short files and may keep for a while. With default_permissions each open(2) asks for attributes that have run out, a
 * third of what reading a 'state' costs; and an attribute that outlives its text makes tar and rsync lose data. So these are kept, and taken back
 * from the kernel in the instant the text is another: before anybody is answered who could know. */
#include "fs/base/mem.h"
#include "fs/view/internal.h"
#include <pthread.h>
#include <string.h>

#define PROBES 4

struct slot {
	fuse_ino_t ino; /* 0: free */
	int64_t until;  /* monotonic ms; the kernel has forgotten by then */
	int64_t at;     /* the time that was told */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	size_t len;
	char text[TOLD_TEXT_MAX];
};
struct told {
	pthread_mutex_t lock;
	struct slot slots[TOLD_MAX];
};

struct told *told_new(void)
{
	struct told *t = xcalloc(1, sizeof *t);
	pthread_mutex_init(&t->lock, NULL);
	return t;
}

void told_free(struct told *t)
{
	if (!t)
		return;
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* The slot of ino, or with 'take' one that is free for it; NULL: none. Locked. */
static struct slot *slot_of(struct told *t, fuse_ino_t ino, bool take)
{
	int64_t now = monotonic_ms();
	struct slot *empty = NULL;
	uint64_t first = (uint64_t)ino * 0x9e3779b97f4a7c15u >> 32;
	for (unsigned i = 0; i < PROBES; i++) {
		struct slot *s = &t->slots[(first + i) % TOLD_MAX];
		if (s->ino && s->until < now)
			s->ino = 0;
		if (s->ino == ino)
			return s;
		if (!s->ino && !empty)
			empty = s;
	}
	return take ? empty : NULL;
}

static bool same(const struct slot *s, const struct stat *st, const struct buf *text)
{
	return s->mode == st->st_mode && s->uid == st->st_uid && s->gid == st->st_gid && s->len == text->len && !memcmp(s->text, text->data, s->len);
}

bool told_keep(struct told *t, fuse_ino_t ino, const struct stat *st, const struct buf *text, int64_t *at)
{
	bool kept = false;
	if (!text->len || text->len > TOLD_TEXT_MAX)
		return false;
	pthread_mutex_lock(&t->lock);
	struct slot *s = slot_of(t, ino, true);
	if (s) {
		if (s->ino == ino && same(s, st, text))
			*at = s->at;
		*s = (struct slot){.ino = ino,
		        .at = *at,
		        .mode = st->st_mode,
		        .uid = st->st_uid,
		        .gid = st->st_gid,
		        .len = text->len,
		        .until = monotonic_ms() + TOLD_MS};
		memcpy(s->text, text->data, text->len);
		kept = true;
	}
	pthread_mutex_unlock(&t->lock);
	return kept;
}

bool told_differs(struct told *t, fuse_ino_t ino, const struct stat *st, const struct buf *text)
{
	pthread_mutex_lock(&t->lock);
	struct slot *s = slot_of(t, ino, false);
	bool differs = s && !(st && same(s, st, text));
	if (differs)
		s->ino = 0;
	pthread_mutex_unlock(&t->lock);
	return differs;
}

size_t told_list(struct told *t, fuse_ino_t ret[TOLD_MAX])
{
	int64_t now = monotonic_ms();
	size_t n = 0;
	pthread_mutex_lock(&t->lock);
	for (size_t i = 0; i < TOLD_MAX; i++)
		if (t->slots[i].ino && t->slots[i].until >= now)
			ret[n++] = t->slots[i].ino;
	pthread_mutex_unlock(&t->lock);
	return n;
}
