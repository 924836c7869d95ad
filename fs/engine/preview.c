/* The model as a tree would make it, for who wants to see a plan before anything is checked out: the same rows, the same taking over and the same
 * annealer as in the daemon, in an engine that has neither store nor instances of providers, so that the annealer has nothing to act on. */
#include "fs/engine/internal.h"
#include <string.h>

/* A run under way is the daemon's; it is not ours to find out that it was lost. */
static void mark_running(struct engine *e)
{
	for (struct node_role *nr = e->m.node_roles_by_id; nr; nr = nr->hh_id.next) {
		nr->running = nr->unattended;
		nr->unattended = false;
	}
}

/* As the job that reads the repo does it, only that nothing is kept: what is not in force already comes into force under an empty manifest. */
static void take_tree(struct engine *e, struct desired *d)
{
	_cleanup_free_ char **manifests = xcalloc(d->n_deployments + 1, sizeof *manifests);
	for (size_t i = 0; i < d->n_deployments; i++) {
		const struct def_deployment *def = d->deployments[i];
		const struct deployment *now = model_deployment(&e->m, def->name);
		if (def->valid && !(now && now->def && hash_eq(&now->def->closure, &def->closure)))
			manifests[i] = (char *)"";
	}
	take_over(e, d, manifests);
}

/* The second time with what the first one found out of nodes: who counts as one of the others depends on their approval. */
static void settle(struct engine *e)
{
	anneal(e);
	for (struct deployment *d = e->m.deployments_by_name; d; d = d->hh_name.next)
		stale_deployment(e, d);
	anneal(e);
}

int engine_preview(const char *repo, const char *state_dir, struct engine **ret, struct err **err)
{
	_cleanup_free_ char *db = path_join(state_dir, "rebarfs.db"), *content = path_join(state_dir, "content");
	struct store_contents c = {0};
	struct tree *tree = NULL;
	struct desired *d = NULL;
	int rc = tree_read_repo(repo, NULL, NULL, &tree, err);
	if (!rc)
		rc = desired_parse(tree, engine_schema(), &d, err);
	tree_free(tree);
	if (!rc)
		rc = store_peek(db, &c, err);
	if (rc < 0) {
		desired_unref(d);
		return rc;
	}
	struct engine *e = engine_new(&(struct engine_options){.repo = repo, .mountpoint = "", .state_dir = state_dir, .cache_dir = ""});
	e->looks_only = true;
	content_open_to_read(content, &e->content);
	engine_wrlock(e);
	engine_take(e, &c);
	mark_running(e);
	take_tree(e, d);
	settle(e);
	engine_wrunlock(e);
	desired_unref(d);
	*ret = e;
	return 0;
}
