/* What providers and runners declare of themselves, as the schema that desired state is checked against. */
#include "fs/engine/internal.h"

static struct desired_schema schema;

static void schema_make(void)
{
	size_t np = 0, nr = 0;
	while (provider_table[np])
		np++;
	while (runner_table[nr])
		nr++;
	struct schema_provider *p = xcalloc(np, sizeof *p);
	struct schema_runner *r = xcalloc(nr, sizeof *r);
	for (size_t i = 0; i < np; i++) {
		const struct provider_ops *o = provider_table[i];
		p[i] = (struct schema_provider){o->type, o->declared_only, o->apply_manual, o->keys, o->node_keys, o->check};
	}
	for (size_t i = 0; i < nr; i++) {
		const struct runner_tool *t = runner_table[i]->tool;
		r[i] = (struct schema_runner){runner_table[i]->name, runner_table[i]->keys, runner_table[i]->check};
		if (!t)
			continue;
		r[i].tool_role = t->role;
		r[i].tool_document = t->document;
		r[i].program_key = t->program_key;
		r[i].source_key = t->source_key;
	}
	schema = (struct desired_schema){p, np, r, nr};
}

const struct desired_schema *engine_schema(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, schema_make);
	return &schema;
}
