/* Runs: a number committed, the inputs put together, the runner asked, the result written down. */
#include "fs/base/redact.h"
#include "fs/engine/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define INPUTS_MAX (16 << 20)
#define BACKOFF_MAX_MS (5 * 60 * 1000)
#define SIMULATION_ENDED "interrupted: the daemon that simulated it ended"

char *run_dir(const struct engine *e, int64_t number)
{
	return xasprintf("%s/%lld", e->runs_dir, (long long)number);
}

static char *run_keep(void *arg, const char *s)
{
	struct run *r = arg;
	return s ? (r->strings[r->n_strings++] = xstrdup(s)) : NULL;
}

void run_free(struct run *r)
{
	held_release(r->e, &r->held);
	for (size_t i = 0; i < r->n_strings; i++)
		free(r->strings[i]);
	json_decref(r->params);
	json_decref(r->inputs);
	json_decref(r->shown);
	json_decref(r->secret_params);
	desired_unref(r->owner);
	free(r->output_keys);
	free(r->secret_outputs);
	free(r->approved);
	free(r);
}

/* ---- the end ---- */

static bool outputs_same(const struct node_role *nr, const json_t *outputs)
{
	if (nr->n_outputs != json_object_size(outputs))
		return false;
	for (size_t i = 0; i < nr->n_outputs; i++) {
		const char *v = json_string_value(json_object_get(outputs, nr->outputs[i].key));
		if (!v || strcmp(v, nr->outputs[i].value))
			return false;
	}
	return true;
}

static int output_cmp(const void *a, const void *b)
{
	return strcmp(((const struct output *)a)->key, ((const struct output *)b)->key);
}

static void outputs_take(struct engine *e, struct node_role *nr, json_t *outputs)
{
	if (outputs_same(nr, outputs))
		return;
	for (size_t i = 0; i < nr->n_outputs; i++) {
		if (output_is_secret(&nr->outputs[i]))
			secret_output_forget(e, nr->row.role, nr->outputs[i].key, nr->node->row.name);
		free(nr->outputs[i].key);
		free(nr->outputs[i].value);
	}
	nr->n_outputs = 0;
	nr->outputs = xreallocarray(nr->outputs, json_object_size(outputs) + 1, sizeof *nr->outputs);
	const char *key;
	json_t *value;
	json_object_foreach(outputs, key, value)
	{
		nr->outputs[nr->n_outputs++] = (struct output){xstrdup(key), xstrdup(json_string_value(value) ? json_string_value(value) : "")};
	}
	qsort(nr->outputs, nr->n_outputs, sizeof *nr->outputs, output_cmp);
	struct row_output *rows = xcalloc(nr->n_outputs + 1, sizeof *rows);
	for (size_t i = 0; i < nr->n_outputs; i++)
		rows[i] = (struct row_output){nr->row.id, nr->outputs[i].key, nr->outputs[i].value};
	store_set_outputs(engine_batch(e), nr->row.id, rows, nr->n_outputs);
	free(rows);
	if (nr->def && nr->node->deployment && nr->node->deployment->slots)
		stale_outputs(e, nr->node->deployment, nr->role_index);
}

static struct run_summary *summary_of(struct node_role *nr, int64_t number)
{
	for (size_t i = nr->n_runs; i-- > 0;)
		if (nr->runs[i].number == number)
			return &nr->runs[i];
	return NULL;
}

static void run_record(struct engine *e, struct node_role *nr, const struct run_summary *s)
{
	struct row_run row = {
	        .number = s->number,
	        .node_role_id = nr->row.id,
	        .node_id = nr->row.node_id,
	        .incarnation = nr->row.last_incarnation,
	        .role = nr->row.role,
	        .digest = s->digest,
	        .result = s->result,
	        .exit_status = s->exit_status,
	        .why = s->why,
	        .started = s->started,
	        .took_ms = s->took_ms,
	        .attempt = nr->row.attempts + 1,
	        .commit = s->commit,
	        .dirty = s->dirty,
	};
	store_put_run(engine_batch(e), &row);
}

struct prune {
	char *dirs[4];
	size_t n;
};

static void prune_work(void *arg)
{
	struct prune *p = arg;
	for (size_t i = 0; i < p->n; i++)
		tree_remove(p->dirs[i], NULL);
}

static void prune_done(void *arg)
{
	struct prune *p = arg;
	for (size_t i = 0; i < p->n; i++)
		free(p->dirs[i]);
	free(p);
}

static void runs_prune(struct engine *e, struct node_role *nr)
{
	if (nr->n_runs <= RUNS_KEPT)
		return;
	struct prune *p = xcalloc(1, sizeof *p);
	size_t drop = nr->n_runs - RUNS_KEPT;
	if (drop > 4)
		drop = 4;
	for (size_t i = 0; i < drop; i++) {
		p->dirs[p->n++] = run_dir(e, nr->runs[i].number);
		free(nr->runs[i].why);
		free(nr->runs[i].digest);
		free(nr->runs[i].commit);
	}
	memmove(nr->runs, nr->runs + drop, (nr->n_runs - drop) * sizeof *nr->runs);
	nr->n_runs -= drop;
	store_del_runs_before(engine_batch(e), nr->row.id, nr->runs[0].number);
	engine_work(e, prune_work, prune_done, p);
}

static void node_role_retry_due(struct engine *e, int64_t id)
{
	engine_wrlock(e);
	struct node_role *nr = model_node_role_id(&e->m, id);
	int64_t left = nr && nr->retry_at ? nr->retry_at - monotonic_ms() : -1;
	if (left > 0) {
		engine_after(e, left, node_role_retry_due, id);
	} else if (nr && nr->retry_at) {
		nr->retry_at = 0;
		queue_node_role(e, nr);
		touch_deployment(e, nr->node->deployment); /* if something else keeps it from starting, nobody else tells whoever waits */
	}
	engine_wrunlock(e);
}

static void retry_later(struct engine *e, struct node_role *nr)
{
	int64_t ms = nr->def->backoff_ms;
	for (int64_t i = 1; i < nr->row.attempts && ms < BACKOFF_MAX_MS; i++)
		ms *= 2;
	if (ms > BACKOFF_MAX_MS)
		ms = BACKOFF_MAX_MS;
	ms += rand_r(&e->seed) % (ms / 4 + 1);
	nr->retry_at = monotonic_ms() + ms;
	engine_after(e, ms, node_role_retry_due, nr->row.id);
}

static void free_node(struct engine *e, struct node_role *nr)
{
	struct node *n = nr->node;
	struct deployment *d = n->deployment;
	nr->running = false;
	nr->cancelling = false;
	nr->changing = nr->removing = false;
	nr->run = NULL;
	if (n->running == nr)
		n->running = NULL;
	queue_node(e, n);
	if (!d || !d->slots || !nr->def)
		return;
	/* Now, not when its turn comes: who waits for its place may stand before it in the queue, and would find it taken and never look again. */
	count_node_role(e, nr);
	if (nr->def->serial > 0 || (n->group && n->group->max_down > 0) || n->row.incarnation > 1)
		queue_limited(e, n);
}

static void finished(struct engine *e, struct node_role *nr, const struct run_done *ended)
{
	struct run_done endless = *ended;
	const struct run_done *done = ended;
	if (ended->result == RUN_REBOOT && reboots_without_end(nr)) {
		endless.result = RUN_FAILED;
		endless.why = "it asked for a reboot every time that it was run again after one";
		done = &endless;
	}
	struct run_summary *s = summary_of(nr, nr->row.last_run);
	bool refused = done->result == RUN_REFUSED, lost = done->result == RUN_UNREACHABLE || refused;
	bool never = done->result == RUN_NOT_STARTED;

	if (done->result == RUN_OK && !nr->removing && nr->run)
		drop_remember(nr, nr->run);
	nr->retry_at = 0;
	nr->unattended = lost;
	if (refused) {
		node_refused(e, nr->node, done->why);
	} else if (lost) {
		nr->node->unreachable = true;
		str_replace(&nr->node->row.error, done->why);
		mark_node(e, nr->node);
	} else if (never) {
		/* The daemon was killed between the commit and the start: as if it had not been. */
		nr->row.last_result = -1;
		str_replace(&nr->row.last_digest, NULL);
	} else if (nr->removing) {
		nr->node->facts_old = true;
	} else {
		nr->row.last_result = (int)done->result;
		nr->row.last_took_ms = done->took_ms;
		/* An approval given while it ran is for what comes next. */
		if (done->result == RUN_OK && nr->row.approved && nr->run && nr->run->approved && !strcmp(nr->row.approved, nr->run->approved)) {
			str_replace(&nr->row.approved, NULL);
			str_replace(&nr->row.approved_unknown, NULL);
		}
		nr->row.wish_run = false;
		nr->node->facts_old = true;
		if (done->result == RUN_OK) {
			str_replace(&nr->row.error, NULL);
			str_replace(&nr->row.drift, NULL);
			str_replace(&nr->renewing, NULL);
			json_t *none = done->outputs ? NULL : json_object();
			outputs_take(e, nr, none ? none : done->outputs);
			json_decref(none);
		} else if (done->result == RUN_REBOOT) {
			str_replace(&nr->row.error, NULL);
		} else {
			nr->row.attempts++;
			str_replace(&nr->row.error, nr->cancelled_by ? nr->cancelled_by : done->why ? done->why : run_result_name(done->result));
			nr->row.outcome_unknown = done->marked || (done->result == RUN_INTERRUPTED && nr->def && nr->def->once);
		}
	}
	if (s && never) { /* as if it had not been */
		free(s->why);
		free(s->digest);
		size_t after = (size_t)(&nr->runs[nr->n_runs] - (s + 1));
		memmove(s, s + 1, after * sizeof *s);
		nr->n_runs--;
		store_del_run(engine_batch(e), nr->row.last_run);
	} else if (s) {
		s->result = lost ? -1 : (int)done->result;
		s->exit_status = done->exit_status;
		s->took_ms = done->took_ms;
		str_replace(&s->why, done->why);
		if (!lost)
			run_record(e, nr, s);
	}
	if (nr->removing && !lost && !never)
		drop_ended(e, nr, done);
	else if (done->result == RUN_OK)
		event_add(e, NULL, NULL, nr, NULL, "active after %.1f s", (double)done->took_ms / 1000);
	else if (lost)
		event_add(e, NULL, NULL, nr, NULL, "lost sight of its run: %s", done->why ? done->why : "");
	else if (nr->cancelled_by)
		event_add(e, NULL, NULL, nr, NULL, "%s", nr->cancelled_by);
	else if (!never && done->result != RUN_REBOOT)
		event_add(e, NULL, NULL, nr, NULL, "%s: %s", run_result_name(done->result), done->why ? done->why : "");
	bool removal = nr->removing || drop_is_removal(nr);
	str_replace(&nr->cancelled_by, NULL);
	mark_node_role(e, nr);
	if (nr->run && nr->run->reboot && (done->result == RUN_OK || done->result == RUN_REBOOT))
		reboot_want(e, nr);
	free_node(e, nr);
	if (!lost && !never && !removal && done->result != RUN_OK && done->result != RUN_REBOOT && nr->def && !node_role_failed_for_good(nr))
		retry_later(e, nr);
	runs_prune(e, nr);
	queue_node_role(e, nr);
}

void run_lost(struct engine *e, struct node_role *nr)
{
	finished(e, nr, &(struct run_done){.result = RUN_INTERRUPTED, .exit_status = -1, .why = SIMULATION_ENDED});
}

static void run_ended(struct run *r, const struct run_done *done)
{
	struct engine *e = r->e;
	engine_wrlock(e);
	r->provider->runs--;
	provider_slot_freed(e, r->provider);
	struct node_role *nr = model_node_role_id(&e->m, r->node_role_id);
	if (nr && nr->run == r)
		finished(e, nr, done);
	digest_unref(r->digest);
	engine_wrunlock(e);
	run_free(r);
}

/* A run that succeeded ends when its outputs lie beside its inputs: who sees its result can read what it gave. */
struct ending {
	struct run *r;
	struct run_done done;
	char *why, *text;
	char *report;
	json_t *outputs;
	bool redact_log; /* by values that nobody knew while it was written */
};

static void keep_file(const struct run *r, const char *name, const char *text)
{
	_cleanup_free_ char *path = path_join(r->item.run_dir, name);
	_cleanup_err_ struct err *err = NULL;
	if (file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, &err) < 0)
		log_msg(LOG_ERROR, "%s: %s", r->item.node_role, err_msg(err));
}

static void ending_work(void *arg)
{
	struct ending *end = arg;
	if (end->redact_log) {
		_cleanup_free_ char *log = path_join(end->r->item.run_dir, "log");
		int rc = redact_file(end->r->e->redactor, log);
		if (rc < 0)
			log_msg(LOG_ERROR, "%s: its log may tell a secret output: cannot write '%s': %s", end->r->item.node_role, log, strerror(-rc));
	}
	if (end->done.result == RUN_OK) {
		_cleanup_free_ char *remover = path_join(end->r->item.content_dir, "remove");
		end->r->has_remove = !strcmp(end->r->runner->name, "script") && access(remover, X_OK) == 0;
		keep_file(end->r, "outputs.json", end->text);
	}
	if (end->report)
		keep_file(end->r, "report.json", end->report);
}

static void ending_done(void *arg)
{
	struct ending *end = arg;
	/* Without a store its end cannot be written down: the next daemon finds it on its node. */
	if (!end->r->e->stopping)
		run_ended(end->r, &end->done);
	free(end->why);
	free(end->text);
	free(end->report);
	json_decref(end->outputs);
	free(end);
}

static char *json_document(const json_t *j)
{
	char *text = json_dumps(j, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(15)), *line = xasprintf("%s\n", text ? text : "null");
	free(text);
	return line;
}

/* Word by word: in the document a secret may be written otherwise, and asterisks must not break it. */
static json_t *redacted(struct redactor *redactor, const json_t *j)
{
	const char *key;
	size_t i;
	json_t *value, *copy;
	switch (json_typeof(j)) {
	case JSON_OBJECT:
		copy = json_object();
		json_object_foreach((json_t *)j, key, value) json_object_set_new(copy, key, redacted(redactor, value));
		return copy;
	case JSON_ARRAY:
		copy = json_array();
		json_array_foreach((json_t *)j, i, value) json_array_append_new(copy, redacted(redactor, value));
		return copy;
	case JSON_STRING: {
		_cleanup_free_ char *text = xstrdup(json_string_value(j));
		redact(redactor, text, strlen(text));
		copy = json_string(text);
		return copy ? copy : json_string("*");
	}
	default:
		return json_incref((json_t *)j);
	}
}

static void item_done(struct run_item *item, const struct run_done *done)
{
	struct run *r = item->data;
	struct ending *end = xcalloc(1, sizeof *end);
	r->over = true;
	end->r = r;
	end->outputs = done->outputs ? json_deep_copy(done->outputs) : json_object();
	end->done = *done;
	end->done.outputs = end->outputs;
	reboot_asked(r, &end->done);
	done = &end->done;
	end->redact_log = outputs_hide(r->e, r->def, end->outputs, &r->held);
	end->why = xstrdup(done->why);
	if (end->why)
		redact(r->e->redactor, end->why, strlen(end->why));
	if (item->check || item->remove || (done->result != RUN_OK && !end->redact_log && !done->report)) {
		struct run_done told = *done;
		told.why = end->why;
		(item->check ? check_done : run_ended)(r, &told);
		free(end->why);
		json_decref(end->outputs);
		free(end);
		return;
	}
	json_t *to_show = outputs_to_show(end->outputs);
	end->text = json_document(to_show);
	json_decref(to_show);
	end->done.why = end->why;
	const json_t *reported = done->report;
	end->done.report = NULL;
	if (reported) {
		json_t *report = redacted(r->e->redactor, reported);
		end->report = json_document(report);
		json_decref(report);
	}
	engine_work(r->e, ending_work, ending_done, end);
}

static void simulated_done(struct simulated_run *sim, int exit_status, const char *why, const char *const *values)
{
	struct run *r = sim->data;
	json_t *outputs = NULL;
	if (exit_status == 0 && r->output_keys[0]) {
		outputs = json_object();
		for (size_t i = 0; r->output_keys[i]; i++)
			json_object_set_new(outputs, r->output_keys[i], json_string(values && values[i] ? values[i] : ""));
		outputs_hide(r->e, r->def, outputs, &r->held);
	}
	enum run_result result = exit_status == 0            ? RUN_OK
	                         : exit_status == -ETIMEDOUT ? RUN_TIMED_OUT
	                         : exit_status == -ECANCELED ? RUN_CANCELLED
	                                                     : RUN_FAILED;
	run_ended(r, &(struct run_done){.result = result,
	                     .exit_status = exit_status < 0 ? -1 : exit_status,
	                     .why = why,
	                     .outputs = outputs,
	                     .took_ms = now_ms() - r->began});
	json_decref(outputs);
}

/* ---- the beginning ---- */

struct start {
	const struct runner_ops *ops;
	struct runner *instance;
	struct provider_object *provider;
	struct run **runs;
	char **texts; /* inputs.json of each; NULL: it has its own */
	size_t n;
};

static void start_free(struct start *s)
{
	for (size_t i = 0; s->texts && i < s->n; i++)
		free(s->texts[i]);
	free(s->texts);
	free(s->runs);
	free(s);
}

/* What the run that made it got: as it was shown, so without secrets. */
static void inputs_again(struct run *r)
{
	_cleanup_free_ char *dir = run_dir(r->e, r->after), *path = path_join(dir, "inputs.json");
	_cleanup_buf_ struct buf text = {0};
	if (file_read(AT_FDCWD, path, INPUTS_MAX, &text, NULL) < 0)
		return;
	json_t *inputs = json_loadb(buf_str(&text), text.len, 0, NULL), *with_origin = json_object_get(inputs, "params"), *value;
	if (!json_is_object(inputs)) {
		json_decref(inputs);
		return;
	}
	keep_file(r, "inputs.json", buf_str(&text));
	json_t *params = json_object();
	const char *key;
	json_object_foreach(with_origin, key, value) json_object_set(params, key, json_object_get(value, "value"));
	json_object_set(inputs, "params", params);
	json_decref(r->params);
	json_decref(r->inputs);
	r->item.params = r->params = params;
	r->item.inputs = r->inputs = inputs;
}

/* On a worker: a batch of fifty is as many times three syncs, and the engine has other things to do. */
static void inputs_work(void *arg)
{
	struct start *s = arg;
	for (size_t i = 0; i < s->n; i++) {
		struct run *r = s->runs[i];
		_cleanup_err_ struct err *err = NULL;
		if (dir_make_all(r->item.run_dir, 0700, &err) < 0)
			log_msg(LOG_ERROR, "%s: %s", r->item.node_role, err_msg(err));
		if (r->item.remove && !r->item.attach_only)
			inputs_again(r);
		else if (s->texts[i])
			keep_file(r, "inputs.json", s->texts[i]);
	}
}

static void inputs_done(void *arg)
{
	struct start *s = arg;
	struct run_item **items = xcalloc(s->n, sizeof *items);
	for (size_t i = 0; i < s->n; i++)
		items[i] = &s->runs[i]->item;
	/* What did not begin before the end of this daemon begins with the next. */
	if (!s->runs[0]->e->stopping) {
		s->ops->run(s->instance, items, s->n);
		for (size_t i = 0; i < s->n; i++) {
			s->runs[i]->begun = true;
			if (s->runs[i]->unwanted)
				s->ops->cancel(s->instance, items[i]);
		}
	}
	free(items);
	start_free(s);
}

static void start_effect(struct engine *e, void *arg)
{
	struct start *s = arg;
	if (s->provider) {
		for (size_t i = 0; i < s->n; i++)
			s->provider->ops->simulate(s->provider->instance, &s->runs[i]->simulated);
		start_free(s);
		return;
	}
	s->texts = xcalloc(s->n, sizeof *s->texts);
	for (size_t i = 0; i < s->n; i++)
		if (s->runs[i]->shown && !s->runs[i]->item.attach_only) /* a run that is found again keeps what it began with */
			s->texts[i] = json_document(s->runs[i]->shown);
	engine_work(e, inputs_work, inputs_done, s);
}

void run_unwanted(struct run *r)
{
	if (r->begun)
		r->runner->cancel(r->instance, &r->item);
	else
		r->unwanted = true;
}

/* Whose marks on the node are no surprise. Who says 'run' knows of all of them. */
static char *known_runs(const struct node_role *nr)
{
	struct buf b = {0};
	if (nr->row.wish_run)
		return xstrdup("any");
	buf_addf(&b, "%lld,", (long long)nr->run_before); /* one that was never begun is not among the others */
	for (size_t i = 0; i < nr->n_runs; i++)
		if (nr->runs[i].number != nr->row.last_run)
			buf_addf(&b, "%lld,", (long long)nr->runs[i].number);
	return buf_detach(&b, NULL);
}

static struct run *run_new(struct engine *e, struct node_role *nr, int64_t number, bool attach, bool hide)
{
	struct node *n = nr->node;
	struct run *r = xcalloc(1, sizeof *r);
	r->e = e;
	r->node_role_id = nr->row.id;
	r->node_id = n->row.id;
	r->provider = n->provider;
	r->owner = desired_ref(n->deployment->def_owner);
	r->def = nr->def;
	r->digest = digest_ref(nr->digest);
	r->began = now_ms();
	r->approved = xstrdup(nr->row.approved);
	if (n->provider->ops->simulate) {
		r->output_keys = xcalloc(nr->def->n_outputs + 1, sizeof *r->output_keys);
		for (size_t i = 0; i < nr->def->n_outputs; i++)
			r->output_keys[i] = nr->def->outputs[i].name;
		r->simulated = (struct simulated_run){
		        .node_id = (uint64_t)n->row.id,
		        .incarnation = (uint32_t)n->row.incarnation,
		        .number = number,
		        .role = nr->def->name,
		        .outputs = r->output_keys,
		        .timeout_ms = nr->def->timeout_ms,
		        .done = simulated_done,
		        .data = r,
		};
		return r;
	}
	r->secret_outputs = xcalloc(nr->def->n_outputs + 1, sizeof *r->secret_outputs);
	for (size_t i = 0, k = 0; i < nr->def->n_outputs; i++)
		if (nr->def->outputs[i].secret)
			r->secret_outputs[k++] = nr->def->outputs[i].name;
	char hex[HASH_HEX];
	hash_hex(&nr->def->content, hex);
	node_target(&e->m, n, &r->target, run_keep, r);
	if (attach) /* the run has its own on the node; here they are for the redactor */
		r->inputs = json_object();
	else
		r->inputs = run_inputs(e, nr);
	held_of(e, &r->held, nr->digest);
	r->params = json_incref(json_object_get(r->inputs, "params"));
	r->secret_params = node_role_secret_params(nr);
	if (!attach) {
		r->shown = node_role_inputs(&e->m, nr, false);
		json_object_set_new(r->shown, "params", node_role_params(nr, true));
	}
	r->strings[r->n_strings++] = xasprintf("%s on %s", nr->row.role, n->row.name);
	r->item = (struct run_item){
	        .number = number,
	        .target = &r->target,
	        .role = nr->def->name,
	        .node_role = r->strings[r->n_strings - 1],
	        .params = r->params,
	        .inputs = r->inputs,
	        .settings = &nr->def->settings,
	        .timeout_ms = nr->def->timeout_ms,
	        .attach_only = attach,
	        .secret = nr->digest->n_secrets > 0 || r->secret_outputs[0],
	        .secret_params = r->secret_params,
	        .secret_outputs = r->secret_outputs,
	        .hide = hide,
	        .again = nr->again,
	        .done = item_done,
	        .data = r,
	};
	if (nr->def->once)
		r->item.once = r->strings[r->n_strings++] = known_runs(nr);
	r->item.content_hash = run_keep(r, hex);
	r->strings[r->n_strings++] = content_path(e->content, &nr->def->content);
	r->item.content_dir = r->strings[r->n_strings - 1];
	r->strings[r->n_strings++] = run_dir(e, number);
	r->item.run_dir = r->strings[r->n_strings - 1];
	return r;
}

/* Commits to a run: its number, under which it is found again. */
static void number_next(struct engine *e, struct node_role *nr, const char *digest)
{
	nr->run_before = nr->row.last_run;
	nr->row.last_run = e->next_run++;
	nr->row.last_result = -1;
	nr->row.last_incarnation = nr->node->row.incarnation;
	nr->row.last_started = now_ms();
	nr->row.outcome_unknown = false;
	str_replace(&nr->row.last_digest, digest);
	nr->runs = xreallocarray(nr->runs, nr->n_runs + 1, sizeof *nr->runs);
	const struct deployment *d = nr->node->deployment;
	nr->runs[nr->n_runs++] = (struct run_summary){
	        .number = nr->row.last_run,
	        .started = nr->row.last_started,
	        .result = -1,
	        .exit_status = -1,
	        .digest = xstrdup(digest),
	        .commit = xstrdup(d ? d->row.commit : NULL),
	        .dirty = d && d->row.dirty,
	};
	run_record(e, nr, &nr->runs[nr->n_runs - 1]);
	event_add(e, NULL, NULL, nr, NULL, nr->removing ? "removing" : "running");
}

static void run_number(struct engine *e, struct node_role *nr)
{
	char hex[HASH_HEX];
	hash_hex(&nr->digest->hash, hex);
	/* What was cut in half may have lost notifications: the next run does everything again. */
	nr->again = nr->row.last_result == RUN_INTERRUPTED || nr->row.last_result == RUN_TIMED_OUT || nr->row.last_result == RUN_CANCELLED;
	if (nr->row.last_result == RUN_OK || !nr->row.last_digest || strcmp(nr->row.last_digest, hex) ||
	        nr->row.last_incarnation != nr->node->row.incarnation)
		nr->row.attempts = 0;
	digest_keep(e, nr->digest);
	number_next(e, nr, hex);
}

static void find_runner(const struct engine *e, struct start *s, const char *name)
{
	for (size_t i = 0; i < e->n_runners; i++)
		if (!strcmp(e->runners[i].ops->name, name)) {
			s->ops = e->runners[i].ops;
			s->instance = e->runners[i].instance;
		}
}

bool runner_batches(const struct engine *e, const char *runner)
{
	struct start s = {0};
	find_runner(e, &s, runner);
	return s.ops && s.ops->batch_max > 1;
}

void run_check(struct engine *e, struct node_role **nrs, size_t n)
{
	struct start *s = xcalloc(1, sizeof *s);
	s->runs = xcalloc(n, sizeof(struct run *));
	s->n = n;
	find_runner(e, s, nrs[0]->def->runner);
	for (size_t i = 0; i < n; i++) {
		struct run *r = s->runs[i] = run_new(e, nrs[i], e->next_run++, false, false);
		r->item.check = true;
		r->item.once = NULL;
		r->runner = s->ops;
		r->instance = s->instance;
		check_begins(e, nrs[i], r);
	}
	effect_add(e, start_effect, s);
}

/* A simulated run ended with the process that simulated it: it is history, and another one follows. */
static void run_cut_short(struct engine *e, struct node_role *nr)
{
	struct run_summary *s = summary_of(nr, nr->row.last_run);
	if (!s)
		return;
	s->result = RUN_INTERRUPTED;
	str_replace(&s->why, SIMULATION_ENDED);
	run_record(e, nr, s);
}

static void start(struct engine *e, struct node_role **nrs, size_t n, bool attach, bool hide)
{
	struct start *s = xcalloc(1, sizeof *s);
	s->runs = xcalloc(n, sizeof(struct run *));
	s->n = n;
	find_runner(e, s, nrs[0]->def->runner);
	if (nrs[0]->node->provider->ops->simulate)
		s->provider = nrs[0]->node->provider;
	for (size_t i = 0; i < n; i++) {
		struct node_role *nr = nrs[i];
		nr->retry_at = 0;
		nr->unattended = false;
		if (attach && s->provider)
			run_cut_short(e, nr);
		if (!attach || s->provider)
			run_number(e, nr);
		s->runs[i] = nr->run = run_new(e, nr, nr->row.last_run, attach, hide);
		s->runs[i]->runner = s->ops;
		s->runs[i]->instance = s->instance;
		mark_node_role(e, nr);
	}
	effect_add(e, start_effect, s);
}

void run_remove(struct engine *e, struct node_role *nr, const char *content, int64_t timeout_ms, int64_t after, bool attach)
{
	static const struct def_role no_role = {.name = ""};
	static const char *const no_outputs[] = {NULL};
	struct start *s = xcalloc(1, sizeof *s);
	struct node *n = nr->node;
	struct run *r = xcalloc(1, sizeof *r);
	struct hash hash;
	_cleanup_free_ char *digest = xstrdup(nr->row.last_digest ? nr->row.last_digest : "");
	s->runs = xcalloc(1, sizeof(struct run *));
	s->runs[0] = nr->run = r;
	s->n = 1;
	find_runner(e, s, "script");
	nr->unattended = false;
	if (!attach)
		number_next(e, nr, digest);
	r->e = e;
	r->node_role_id = nr->row.id;
	r->node_id = n->row.id;
	r->provider = n->provider;
	r->def = &no_role;
	r->began = now_ms();
	r->runner = s->ops;
	r->instance = s->instance;
	r->after = after;
	r->params = json_object();
	r->inputs = json_object();
	node_target(&e->m, n, &r->target, run_keep, r);
	hash_from_hex(content, &hash);
	r->item = (struct run_item){
	        .number = nr->row.last_run,
	        .target = &r->target,
	        .role = run_keep(r, nr->row.role),
	        .content_hash = run_keep(r, content),
	        .params = r->params,
	        .inputs = r->inputs,
	        .settings = &no_role.settings,
	        .timeout_ms = timeout_ms,
	        .attach_only = attach,
	        .remove = true,
	        .secret_outputs = no_outputs,
	        .done = item_done,
	        .data = r,
	};
	r->item.node_role = r->strings[r->n_strings++] = xasprintf("%s on %s", nr->row.role, n->row.name);
	r->item.content_dir = r->strings[r->n_strings++] = content_path(e->content, &hash);
	r->item.run_dir = r->strings[r->n_strings++] = run_dir(e, nr->row.last_run);
	mark_node_role(e, nr);
	effect_add(e, start_effect, s);
}

void run_start(struct engine *e, struct node_role **nrs, size_t n)
{
	start(e, nrs, n, false, false);
}

void run_attach(struct engine *e, struct node_role *nr, bool hide)
{
	start(e, &nr, 1, true, hide);
}

/* ---- cancel ---- */

static void cancel_effect(struct engine *e, void *arg)
{
	int64_t id = *(int64_t *)arg;
	free(arg);
	engine_wrlock(e);
	struct node_role *nr = model_node_role_id(&e->m, id);
	struct run *r = nr ? nr->run : NULL;
	engine_wrunlock(e);
	if (!r || r->over)
		return;
	if (r->provider->ops->simulate)
		r->provider->ops->simulate_cancel(r->provider->instance, &r->simulated);
	else
		run_unwanted(r);
}

void run_cancel(struct engine *e, struct node_role *nr, const char *who)
{
	if (!nr->running || nr->cancelling)
		return;
	nr->cancelling = true;
	free(nr->cancelled_by);
	nr->cancelled_by = xasprintf("cancelled by %s", who);
	event_add(e, NULL, NULL, nr, who, "cancel");
	effect_add(e, cancel_effect, xmemdup(&nr->row.id, sizeof nr->row.id));
}
