/* A whole repo in one input: a line "%% PATH" begins a document. Whatever it says, it is parsed, and every verdict has its reason. */
#include "tests/fuzz/tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_deployment(const struct desired *d, const struct def_deployment *dep)
{
	assert(dep->valid ? !dep->problem && !dep->busy : dep->problem || dep->busy);
	for (size_t i = 0; i < dep->n_groups; i++) {
		const struct def_group *g = &dep->groups[i];
		assert(!dep->valid || (g->provider && g->provider->valid));
		for (size_t j = 0; j < g->n_roles; j++) {
			assert(!dep->valid || g->roles[j]->valid);
			for (size_t k = 0; k < g->roles[j]->n_params; k++) {
				const char *value = desired_param(
				        d, dep, g->roles[j], g->name, g->nodes.n ? g->nodes.items[0] : NULL, &g->roles[j]->params[k], NULL);
				assert(!dep->valid || value);
			}
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tree *t = make_tree((const char *)data, size);
	struct desired *d = NULL;
	assert(desired_parse(t, &schema, &d, NULL) == 0);
	for (size_t i = 0; i < d->n_problems; i++)
		assert(*d->problems[i].file && *d->problems[i].text && d->problems[i].line >= 0 &&
		        (d->problems[i].column > 0) == (d->problems[i].line > 0) && d->problems[i].code > 0);
	for (size_t i = 0; i < d->n_deployments; i++)
		check_deployment(d, d->deployments[i]);
	desired_unref(d);
	tree_free(t);
	return 0;
}
