/* nodes/NAME/roles/ROLE and its runs/NUMBER */
#include "fs/base/hash.h"
#include "fs/base/mem.h"
#include "fs/view/entries.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void render_state(const struct object *o, struct buf *out)
{
	add_line(out, node_role_state_name(node_role_state(o->node_role)));
}

static void render_why(const struct object *o, struct buf *out)
{
	node_role_why(o->m, o->node_role, out);
	end_line(out);
}

static void render_error(const struct object *o, struct buf *out)
{
	add_line(out, o->node_role->lacks ? o->node_role->lacks : o->node_role->row.error);
}

static void render_digest(const struct object *o, struct buf *out)
{
	const struct digest *d = o->node_role->digest;
	char hex[HASH_HEX];
	if (d && d->complete) {
		hash_hex(&d->hash, hex);
		add_line(out, hex);
	} else if (d && d->missing) {
		buf_addf(out, "known after %s\n", d->missing);
	}
}

static void render_attempts(const struct object *o, struct buf *out)
{
	buf_addf(out, "%" PRId64 "\n", node_role_attempts(o->node_role));
}

static void add_time(struct buf *out, int64_t at)
{
	if (at)
		format_time(out, at);
	end_line(out);
}

static void add_took(struct buf *out, int64_t started, int64_t took_ms, bool running)
{
	if (running && started)
		took_ms = now_ms() - started;
	if (started)
		format_duration(out, took_ms > 0 ? took_ms : 0);
	end_line(out);
}

static void render_started(const struct object *o, struct buf *out)
{
	add_time(out, o->node_role->row.last_started);
}

static void render_took(const struct object *o, struct buf *out)
{
	const struct row_node_role *row = &o->node_role->row;
	add_took(out, row->last_started, row->last_took_ms, o->node_role->running);
}

static void render_checked(const struct object *o, struct buf *out)
{
	add_time(out, o->node_role->row.checked);
}

static void render_drift(const struct object *o, struct buf *out)
{
	if (node_role_drifted(o->node_role))
		add_line(out, o->node_role->row.drift);
}

static void render_inputs(const struct object *o, struct buf *out)
{
	json_t *inputs = node_role_inputs(o->m, o->node_role, true);
	if (inputs)
		report_add_json(inputs, out);
}

static void render_outputs(const struct object *o, struct buf *out)
{
	json_t *all = json_object();
	for (size_t i = 0; i < o->node_role->n_outputs; i++)
		json_object_set_new(all, o->node_role->outputs[i].key, json_string(output_shown(&o->node_role->outputs[i])));
	report_add_json(all, out);
}

static const struct output *output_find(const struct node_role *nr, const char *key)
{
	for (size_t i = 0; i < nr->n_outputs; i++)
		if (!strcmp(nr->outputs[i].key, key))
			return &nr->outputs[i];
	return NULL;
}

/* The second part of the name only tells it from a section. */
static bool output_place(const struct object *o, const struct place *dir, const char *key, struct place *ret)
{
	*ret = *dir;
	ret->name = names_intern(o->names, key, "");
	return ret->name;
}

static void list_outputs(const struct object *o, const struct place *dir, struct lister *l)
{
	struct place p;
	for (size_t i = 0; i < o->node_role->n_outputs; i++)
		if (output_place(o, dir, o->node_role->outputs[i].key, &p))
			l->add(l, o->node_role->outputs[i].key, &p);
}

static bool find_output(const struct object *o, const struct place *dir, const char *name, struct place *ret)
{
	return output_find(o->node_role, name) && output_place(o, dir, name, ret);
}

static void render_output(const struct object *o, struct buf *out)
{
	const struct output *value = o->first ? output_find(o->node_role, o->first) : NULL;
	add_line(out, value ? output_shown(value) : NULL);
}

static const struct entry output_file = {.name = "KEY",
        .mode = S_IFREG | 0444,
        .render = render_output,
        .help = "what the last successful run wrote into $REBAR_OUTPUTS under this name"};

static bool run_place(const struct place *dir, const struct run_summary *run, struct place *ret)
{
	*ret = (struct place){.kind = PLACE_RUN, .name = run->number & PLACE_NAME_MASK, .id = dir->id};
	return true;
}

static void list_runs(const struct object *o, const struct place *dir, struct lister *l)
{
	for (size_t i = 0; i < o->node_role->n_runs; i++) {
		char name[24];
		struct place p;
		snprintf(name, sizeof name, "%" PRId64, o->node_role->runs[i].number);
		if (run_place(dir, &o->node_role->runs[i], &p))
			l->add(l, name, &p);
	}
}

static bool find_run(const struct object *o, const struct place *dir, const char *name, struct place *ret)
{
	for (size_t i = 0; i < o->node_role->n_runs; i++) {
		char number[24];
		snprintf(number, sizeof number, "%" PRId64, o->node_role->runs[i].number);
		if (!strcmp(number, name))
			return run_place(dir, &o->node_role->runs[i], ret);
	}
	return false;
}

const struct entry node_role_entries[] = {
        {.name = "state",
                .mode = S_IFREG | 0444,
                .flags = ENTRY_TOLD,
                .render = render_state,
                .help = "running, held, error, blocked, proposed, todo or active"},
        {.name = "why", .mode = S_IFREG | 0444, .render = render_why, .help = "the state as a sentence that names the first cause"},
        {.name = "error", .mode = S_IFREG | 0444, .render = render_error, .help = "how the last run failed; empty when it did not"},
        {.name = "digest",
                .mode = S_IFREG | 0444,
                .render = render_digest,
                .help = "the hash of all it depends on; a run is due when the last good one had another"},
        {.name = "attempts", .mode = S_IFREG | 0444, .render = render_attempts, .help = "how many times it was tried as it is now"},
        {.name = "started", .mode = S_IFREG | 0444, .render = render_started, .help = "when the last run began; empty before the first"},
        {.name = "took", .mode = S_IFREG | 0444, .render = render_took, .help = "how long it ran, or has been running"},
        {.name = "inputs.json",
                .mode = S_IFREG | 0444,
                .render = render_inputs,
                .help = "what a run gets, each parameter with its origin; empty while something is not known yet"},
        {.name = "outputs.json", .mode = S_IFREG | 0444, .render = render_outputs, .help = "what the last successful run gave"},
        {.name = "outputs", .mode = S_IFDIR | 0755, .list = list_outputs, .find = find_output, .file = &output_file, .help = "the same, a file each"},
        {.name = "log", .mode = S_IFREG | 0444, .flags = ENTRY_LOG, .help = "what the last run printed; grows while it runs"},
        {.name = "checked", .mode = S_IFREG | 0444, .render = render_checked, .help = "when the last check ended; empty before the first"},
        {.name = "drift",
                .mode = S_IFREG | 0444,
                .render = render_drift,
                .help = "what a run would change, as the last check found, in the tool's words; empty when nothing"},
        {.name = "runs", .mode = S_IFDIR | 0755, .list = list_runs, .find = find_run, .help = "a directory for each run that is kept"},
        ENTRY_REFUSED,
        ENTRY_CTL("read: the verbs; write: one of them"),
        {0},
};

static void render_run_result(const struct object *o, struct buf *out)
{
	add_line(out, o->run->result < 0 ? "running" : run_result_name((enum run_result)o->run->result));
}

static void render_run_exit(const struct object *o, struct buf *out)
{
	if (o->run->result >= 0 && o->run->exit_status >= 0)
		buf_addf(out, "%d\n", o->run->exit_status);
}

static void render_run_why(const struct object *o, struct buf *out)
{
	add_line(out, o->run->why);
}

static void render_run_digest(const struct object *o, struct buf *out)
{
	add_line(out, o->run->digest);
}

static void render_run_commit(const struct object *o, struct buf *out)
{
	if (o->run->commit)
		buf_addf(out, "%s%s\n", o->run->commit, o->run->dirty ? " (dirty)" : "");
}

static void render_run_started(const struct object *o, struct buf *out)
{
	add_time(out, o->run->started);
}

static void render_run_took(const struct object *o, struct buf *out)
{
	add_took(out, o->run->started, o->run->took_ms, o->run->result < 0);
}

const struct entry run_entries[] = {
        {.name = "result",
                .mode = S_IFREG | 0444,
                .render = render_run_result,
                .help = "running, ok, failed, unreachable, timed-out, cancelled, interrupted or reboot (to be run again after one)"},
        {.name = "exit_status", .mode = S_IFREG | 0444, .render = render_run_exit, .help = "of the content; empty where there is none"},
        {.name = "why", .mode = S_IFREG | 0444, .render = render_run_why, .help = "how it failed; empty when it did not"},
        {.name = "digest", .mode = S_IFREG | 0444, .render = render_run_digest, .help = "what it began with"},
        {.name = "commit",
                .mode = S_IFREG | 0444,
                .render = render_run_commit,
                .help = "the git commit of what was in force, (dirty) behind it if not all of that was committed; empty without git"},
        {.name = "started", .mode = S_IFREG | 0444, .render = render_run_started, .help = "when it began"},
        {.name = "took", .mode = S_IFREG | 0444, .render = render_run_took, .help = "how long it ran, or has been running"},
        {.name = "log", .mode = S_IFREG | 0444, .flags = ENTRY_LOG, .help = "what it printed"},
        {.name = "inputs.json",
                .mode = S_IFREG | 0444,
                .flags = ENTRY_KEPT,
                .help = "what it was given, each parameter with its origin; null where nothing was: a simulated run"},
        {.name = "outputs.json",
                .mode = S_IFREG | 0444,
                .flags = ENTRY_KEPT,
                .help = "what it gave; null unless it succeeded, and of a simulated run"},
        {.name = "report.json",
                .mode = S_IFREG | 0444,
                .flags = ENTRY_KEPT,
                .help = "what became of each resource; null where it did not end, and of a simulated run"},
        {0},
};
