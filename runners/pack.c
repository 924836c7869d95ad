/* Contents as archives under STATE/ship/RUNNER: one `tar` a content, however many nodes it goes to. */
#include "runners/pack.h"
#include "fs/base/child.h"
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <uthash.h>
#include <utlist.h>

#define KEPT_MAX 32

struct pack_wait {
	struct pack *pack;
	struct pack_wait *prev, *next;
	void (*done)(void *arg, const char *path, const struct err *err);
	void *arg;
};
struct pack {
	struct packer *packer;
	char *hash, *path, *temp;
	struct child *child;
	bool ready;
	struct err *err; /* tar could not be started */
	struct pack_wait *waits;
	UT_hash_handle hh;
};
struct packer {
	const struct runner_host *host;
	char *dir;
	struct pack *packs;
	uv_timer_t *kick; /* for what is ready at once: done never comes from inside a call */
};

static void pack_free(struct pack *p)
{
	struct pack_wait *w, *next;
	DL_FOREACH_SAFE(p->waits, w, next)
	{
		free(w);
	}
	err_free(p->err);
	free(p->hash);
	free(p->path);
	free(p->temp);
	free(p);
}

static void pack_remove(struct pack *p)
{
	HASH_DEL(p->packer->packs, p);
	unlink(p->path);
	unlink(p->temp);
	pack_free(p);
}

/* The waiters may ask again from inside done: they get a new turn. */
static void answer(struct pack *p, const struct err *err)
{
	struct pack_wait *waits = p->waits, *w, *next;
	p->waits = NULL;
	DL_FOREACH_SAFE(waits, w, next)
	{
		w->done(w->arg, err ? NULL : p->path, err);
		free(w);
	}
}

static void on_packed(void *arg, const struct child_result *res)
{
	struct pack *p = arg;
	_cleanup_err_ struct err *err = NULL;
	p->child = NULL;
	if (!p->packer) { /* closed meanwhile */
		unlink(p->temp);
		pack_free(p);
		return;
	}
	if (res->status != 0) {
		_cleanup_buf_ struct buf why = {0};
		child_explain(&why, "tar", res);
		err_set(&err, EIO, "cannot pack the content of a role: %s", buf_str(&why));
	} else if (rename(p->temp, p->path) < 0) {
		err_errno(&err, errno, "cannot rename '%s'", p->temp);
	}
	p->ready = !err;
	answer(p, err);
	if (err)
		pack_remove(p);
}

static int pack_begin(struct pack *p, const char *content, struct err **err)
{
	struct stat st;
	bool is_file = *content && stat(content, &st) == 0 && !S_ISDIR(st.st_mode);
	const char *slash = strrchr(content, '/');
	_cleanup_free_ char *parent = slash ? xstrndup(content, (size_t)(slash - content) + 1) : xstrdup(".");
	const char *dir = !*content ? "/" : is_file ? parent : content, *name = is_file ? (slash ? slash + 1 : content) : ".";
	const char *argv[] = {"tar", "--create", "--gzip", "--file", p->temp, "--directory", dir, "--owner=0", "--group=0", "--numeric-owner",
	        "--mode=u+rwX,go+rX,go-w", "--sort=name", *content ? "--" : "--files-from=/dev/null", *content ? name : NULL, NULL};
	struct child_spec spec = {.argv = argv, .timeout_ms = 300000, .done = on_packed, .arg = p};
	return child_start(p->packer->host->loop, &spec, &p->child, err);
}

static void forget_oldest(struct packer *packer)
{
	struct pack *p, *next;
	HASH_ITER (hh, packer->packs, p, next) {
		if (HASH_COUNT(packer->packs) < KEPT_MAX)
			return;
		if (p->ready && !p->waits)
			pack_remove(p); /* who is reading it has it open */
	}
}

static void on_kick(uv_timer_t *timer)
{
	struct packer *packer = timer->data;
	struct pack *p, *next;
	HASH_ITER (hh, packer->packs, p, next) {
		if (!p->ready || !p->waits)
			continue;
		answer(p, p->err);
		if (p->err && !p->waits)
			pack_remove(p);
	}
}

struct pack_wait *packer_want(
        struct packer *packer, const char *hash, const char *content, void (*done)(void *arg, const char *path, const struct err *err), void *arg)
{
	struct pack *p;
	HASH_FIND_STR(packer->packs, hash, p);
	if (p && p->ready && !p->waits && access(p->path, R_OK) < 0) {
		pack_remove(p);
		p = NULL;
	}
	if (!p) {
		forget_oldest(packer);
		p = xcalloc(1, sizeof *p);
		p->packer = packer;
		p->hash = xstrdup(hash);
		p->path = xasprintf("%s/%s.tar.gz", packer->dir, hash);
		p->temp = xasprintf("%s/%s.new", packer->dir, hash);
		HASH_ADD_KEYPTR(hh, packer->packs, p->hash, strlen(p->hash), p);
		p->ready = pack_begin(p, content, &p->err) < 0;
	}
	struct pack_wait *w = xcalloc(1, sizeof *w);
	*w = (struct pack_wait){.pack = p, .done = done, .arg = arg};
	DL_APPEND(p->waits, w);
	if (p->ready)
		uv_timer_start(packer->kick, on_kick, 0, 0);
	return w;
}

void packer_cancel(struct pack_wait *w)
{
	if (!w)
		return;
	DL_DELETE(w->pack->waits, w);
	free(w);
}

struct packer *packer_open(const struct runner_host *host, const char *name, struct err **err)
{
	_cleanup_free_ char *dir = xasprintf("%s/ship/%s", host->state_dir, name);
	if (tree_remove(dir, err) || dir_make_all(dir, 0700, err))
		return NULL;
	struct packer *p = xcalloc(1, sizeof *p);
	p->host = host;
	p->dir = xstrdup(dir);
	p->kick = xcalloc(1, sizeof *p->kick);
	uv_timer_init(host->loop, p->kick);
	p->kick->data = p;
	return p;
}

static void free_handle(uv_handle_t *handle)
{
	free(handle);
}

void packer_close(struct packer *packer)
{
	struct pack *p, *next;
	HASH_ITER (hh, packer->packs, p, next) {
		HASH_DEL(packer->packs, p);
		unlink(p->path);
		if (p->child) {
			struct pack_wait *w, *after;
			DL_FOREACH_SAFE(p->waits, w, after)
			{
				free(w);
			}
			p->waits = NULL;
			p->packer = NULL;
			child_cancel(p->child, 0);
		} else {
			pack_free(p);
		}
	}
	uv_close((uv_handle_t *)packer->kick, free_handle);
	free(packer->dir);
	free(packer);
}
