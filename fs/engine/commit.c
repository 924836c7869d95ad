/* Commits: as what commit that in force is known, and what commit = required holds back.
 *
 * The rule is asked of what lies in the repo and of what is in force: who takes the rule out has to commit that first. */
#include "fs/engine/internal.h"
#include <string.h>

#define COMMIT_TOLD 8

void commit_label(const char *commit, bool dirty, struct buf *out)
{
	buf_addf(out, "%.*s%s", COMMIT_TOLD, commit, dirty ? " (dirty)" : "");
}

void deployment_uncommitted(const struct deployment *d, struct buf *out)
{
	if (d->uncommitted)
		buf_addf(out, "not taken over (commit = required): %s; %s", d->uncommitted,
		        d->def ? "what was committed last stays in force" : "nothing is in force yet");
}

void git_waits(const struct model *m, struct buf *out)
{
	if (m && m->git_doing)
		buf_addf(out, "git is in the middle of %s: nothing in desired/ is taken over until that has ended", m->git_doing);
}

/* The document in force that was taken away without a commit. */
static const char *removed_document(const struct desired *d, const struct def_deployment *in_force)
{
	for (size_t i = 0; in_force && i < d->removed.n; i++)
		if (def_refers_to(in_force, d->removed.items[i]))
			return d->removed.items[i];
	return NULL;
}

static void hold(struct engine *e, struct deployment *dep, const char *file, char *why)
{
	bool same = why && dep->uncommitted ? !strcmp(why, dep->uncommitted) : why == dep->uncommitted;
	str_replace(&dep->uncommitted_file, file);
	free(dep->uncommitted);
	dep->uncommitted = why;
	if (same)
		return;
	_cleanup_buf_ struct buf text = {0};
	deployment_uncommitted(dep, &text);
	event_add(e, dep, NULL, NULL, NULL, "%s", text.len ? buf_str(&text) : "all of it is committed");
	touch_deployment(e, dep);
}

bool commit_holds(struct engine *e, struct deployment *dep, const struct desired *d, const struct def_deployment *def)
{
	bool required = (def && def->commit_required) || (dep->def && dep->def->commit_required);
	const char *file = NULL;
	char *why = NULL;
	if (required && d->incomparable) {
		file = dep->src.path;
		why = xstrdup(d->incomparable);
	} else if (required && def && def->uncommitted) {
		file = def->uncommitted;
		why = xasprintf("%s is not committed", file);
	} else if (required && (!def || !def->valid) && (file = removed_document(d, dep->def))) {
		why = xasprintf("%s is gone, and that is not committed", file);
	}
	hold(e, dep, file, why);
	return why;
}

/* The same content, and another commit that has it: whoever commits what he tried out should see it said. */
void commit_rename(struct engine *e, struct deployment *dep, const struct desired *d, const struct def_deployment *def)
{
	bool dirty = def->uncommitted;
	if (!d->commit || !dep->def || !hash_eq(&dep->def->closure, &def->closure))
		return;
	if (dep->row.commit && !strcmp(dep->row.commit, d->commit) && dep->row.dirty == dirty)
		return;
	if (dep->row.dirty != dirty || !dep->row.commit) {
		_cleanup_buf_ struct buf label = {0};
		commit_label(d->commit, dirty, &label);
		event_add(e, dep, NULL, NULL, NULL, "in force: as before; commit %s", buf_str(&label));
	}
	str_replace(&dep->row.commit, d->commit);
	dep->row.dirty = dirty;
	mark_deployment(e, dep);
}

static bool uses(const struct deployment *dep, const char *provider)
{
	for (size_t i = 0; i < dep->def->n_groups; i++)
		if (dep->def->groups[i].provider && !strcmp(dep->def->groups[i].provider->name, provider))
			return true;
	return false;
}

char *commit_holds_provider(const struct engine *e, const struct desired *d, const struct def_provider *def)
{
	const struct deployment *dep = e->m.deployments_by_name;
	if (!d->incomparable && !def->src.uncommitted)
		return NULL;
	while (dep && !(dep->def && dep->def->commit_required && uses(dep, def->name)))
		dep = dep->hh_name.next;
	if (!dep)
		return NULL;
	return d->incomparable ? xasprintf("%s, and deployment %s has commit = required", d->incomparable, dep->row.name)
	                       : xasprintf("%s is not committed, and deployment %s has commit = required", def->src.path, dep->row.name);
}
