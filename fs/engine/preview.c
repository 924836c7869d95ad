/* The model as a tree would make it, for who wants to see a plan before anything is checked out: the same rows, the same taking over and the same
 * annealer as in the daemon, in an engine that has neither store nor instances of providers, so that the annealer has nothing to act on. */
#include "fs/engine/internal.h"
#include <errno.h>
#include <stdlib.h>

/* A run under way is the daemon's; it is not ours to find out that it was lost. */
static void mark_running(struct engine *e)
{
	for (struct node_role *nr = e->m.node_roles_by_id; nr; nr = nr->hh_id.next) {
		nr->running = nr->unattended;
		nr->unattended = false;
	}
}

/* The second time with what the first one found out of nodes: who counts as one of the others depends on their approval. */
static void settle(struct engine *e)
{
	anneal(e);
	for (struct deployment *d = e->m.deployments_by_name; d; d = d->hh_name.next)
		stale_deployment(e, d);
	anneal(e);
}

/* What is gated is put together in the content store: over the one there is, one that goes again. */
static int read_aside(struct engine *e, struct store_contents *c, struct err **err)
{
	const char *tmp = getenv("TMPDIR");
	_cleanup_free_ char *content = path_join(e->state_dir, "content");
	_cleanup_free_ char *scratch = xasprintf("%s/rebarfs-plan-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (!mkdtemp(scratch))
		return err_errno(err, errno, "cannot make the temporary directory '%s'", scratch);
	content_open_over(content, scratch, &e->content);
	engine_wrlock(e);
	engine_take(e, c);
	mark_running(e);
	engine_wrunlock(e);
	int rc = read_now(e, err);
	if (!rc && e->unread)
		rc = err_set(err, EIO, "%s", e->unread);
	tree_remove(scratch, NULL);
	return rc;
}

int engine_preview(const char *repo, const char *state_dir, struct engine **ret, struct err **err)
{
	_cleanup_free_ char *db = path_join(state_dir, "rebarfs.db");
	struct store_contents c = {0};
	int rc = store_peek(db, &c, err);
	if (rc < 0)
		return rc;
	struct engine *e = engine_new(&(struct engine_options){.repo = repo, .mountpoint = "", .state_dir = state_dir, .cache_dir = ""});
	e->looks_only = true;
	rc = read_aside(e, &c, err);
	if (rc < 0) {
		engine_free(e);
		return rc;
	}
	engine_wrlock(e);
	settle(e);
	engine_wrunlock(e);
	*ret = e;
	return 0;
}
