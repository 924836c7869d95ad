/* The engine's thread: its inbox, its turns, what becomes durable and what happens after that.
 *
 * A turn is one iteration of the loop. Callbacks (a machine was made, a run ended, somebody wrote) change the model under the write lock, mark rows
 * and add effects. Before the loop sleeps, turn_end() lets the annealer look at what is queued, sends all marked rows to the store as one
 * transaction, and the effects (provider calls, runs, replies) are carried out when that is durable: intents before effects, and nothing is answered
 * that could be lost. */
#include "fs/base/private.h"
#include "fs/base/redact.h"
#include "fs/engine/internal.h"
#include <string.h>

#define TICK_MS 2000 /* how soon trouble of the store is seen */
#define LIST_TICKS 5 /* providers are asked what exists every so many ticks */

struct post {
	void (*fn)(struct engine *e, void *arg);
	void *arg;
	struct post *next;
};

/* ---- lock ---- */

void model_rdlock(struct model *m)
{
	pthread_rwlock_rdlock(&m->lock);
}

void model_unlock(struct model *m)
{
	pthread_rwlock_unlock(&m->lock);
}

void engine_wrlock(struct engine *e)
{
	pthread_rwlock_wrlock(&e->m.lock);
}

void engine_wrunlock(struct engine *e)
{
	pthread_rwlock_unlock(&e->m.lock);
}

struct model *engine_model(struct engine *e)
{
	return &e->m;
}

/* ---- inbox ---- */

void engine_post(struct engine *e, void (*fn)(struct engine *e, void *arg), void *arg)
{
	struct post *p = xmalloc(sizeof *p);
	*p = (struct post){fn, arg, NULL};
	pthread_mutex_lock(&e->inbox_lock);
	*e->inbox_tail = p;
	e->inbox_tail = &p->next;
	pthread_mutex_unlock(&e->inbox_lock);
	uv_async_send(&e->wake);
}

static void inbox_drain(struct engine *e)
{
	pthread_mutex_lock(&e->inbox_lock);
	struct post *p = e->inbox;
	e->inbox = NULL;
	e->inbox_tail = &e->inbox;
	pthread_mutex_unlock(&e->inbox_lock);
	while (p) {
		struct post *next = p->next;
		p->fn(e, p->arg);
		free(p);
		p = next;
	}
}

static void on_wake(uv_async_t *async)
{
	inbox_drain(async->data);
}

void engine_on_change(struct engine *e, void (*fn)(void *arg), void *arg)
{
	e->on_change = fn;
	e->on_change_arg = arg;
}

static void on_poke(uv_timer_t *timer)
{
	struct engine *e = timer->data;
	if (e->on_change)
		e->on_change(e->on_change_arg);
}

void engine_poke_in(struct engine *e, int64_t ms)
{
	if (!uv_is_active((uv_handle_t *)&e->poke_timer) || (int64_t)uv_timer_get_due_in(&e->poke_timer) > ms)
		uv_timer_start(&e->poke_timer, on_poke, (uint64_t)ms, 0);
}

bool engine_is_stored(const struct engine *e)
{
	return e->m.trouble || (!e->commits && !e->batch && !e->n_dirty_deps && !e->n_dirty_nodes && !e->n_dirty_nrs);
}

/* ---- timers and workers ---- */

struct after {
	uv_timer_t timer;
	struct engine *e;
	void (*fn)(struct engine *e, int64_t id);
	int64_t id;
};

static void after_closed(uv_handle_t *h)
{
	free(h->data);
}

static void after_due(uv_timer_t *timer)
{
	struct after *a = timer->data;
	a->fn(a->e, a->id);
	uv_close((uv_handle_t *)timer, after_closed);
}

void engine_after(struct engine *e, int64_t ms, void (*fn)(struct engine *e, int64_t id), int64_t id)
{
	struct after *a = xcalloc(1, sizeof *a);
	a->e = e;
	a->fn = fn;
	a->id = id;
	uv_timer_init(&e->loop, &a->timer);
	uv_update_time(&e->loop); /* after a long turn the loop's clock is old, and the timer would come too early */
	a->timer.data = a;
	uv_timer_start(&a->timer, after_due, ms > 0 ? (uint64_t)ms : 0, 0);
}

struct work {
	uv_work_t req;
	struct engine *e;
	void (*fn)(void *arg);
	void (*done)(void *arg);
	void *arg;
};

static void work_run(uv_work_t *req)
{
	struct work *w = req->data;
	w->fn(w->arg);
}

static void work_done(uv_work_t *req, int status)
{
	struct work *w = req->data;
	w->done(w->arg);
	free(w);
}

static void work_submit(struct engine *e, void *arg)
{
	struct work *w = arg;
	uv_queue_work(&e->loop, &w->req, work_run, work_done);
}

void engine_work(struct engine *e, void (*fn)(void *arg), void (*done)(void *arg), void *arg)
{
	struct work *w = xcalloc(1, sizeof *w);
	w->e = e;
	w->fn = fn;
	w->done = done;
	w->arg = arg;
	w->req.data = w;
	engine_post(e, work_submit, w);
}

/* ---- the turn ---- */

void effect_add(struct engine *e, void (*fn)(struct engine *e, void *arg), void *arg)
{
	GROW(e->effects.items, e->effects.n, e->effects.cap);
	e->effects.items[e->effects.n++] = (struct effect){fn, arg};
}

void answer_add(struct engine *e, void (*fn)(struct engine *e, void *arg), void *arg)
{
	GROW(e->answers.items, e->answers.n, e->answers.cap);
	e->answers.items[e->answers.n++] = (struct effect){fn, arg};
}

struct store_batch *engine_batch(struct engine *e)
{
	if (!e->batch)
		e->batch = store_batch_new(e->store);
	return e->batch;
}

void touch_deployment(struct engine *e, struct deployment *d)
{
	if (d)
		d->generation++;
	e->changed = true;
}

void mark_node(struct engine *e, struct node *n)
{
	touch_deployment(e, n->deployment);
	if (n->dirty)
		return;
	n->dirty = true;
	GROW(e->dirty_nodes, e->n_dirty_nodes, e->cap_dirty_nodes);
	e->dirty_nodes[e->n_dirty_nodes++] = n;
}

void mark_node_role(struct engine *e, struct node_role *nr)
{
	touch_deployment(e, nr->node->deployment);
	if (nr->dirty)
		return;
	nr->dirty = true;
	GROW(e->dirty_nrs, e->n_dirty_nrs, e->cap_dirty_nrs);
	e->dirty_nrs[e->n_dirty_nrs++] = nr;
}

void mark_deployment(struct engine *e, struct deployment *d)
{
	touch_deployment(e, d);
	if (d->dirty)
		return;
	d->dirty = true;
	GROW(e->dirty_deps, e->n_dirty_deps, e->cap_dirty_deps);
	e->dirty_deps[e->n_dirty_deps++] = d;
}

static void rows_to_batch(struct engine *e)
{
	for (size_t i = 0; i < e->n_dirty_deps; i++) {
		e->dirty_deps[i]->dirty = false;
		store_put_deployment(engine_batch(e), &e->dirty_deps[i]->row);
	}
	for (size_t i = 0; i < e->n_dirty_nodes; i++) {
		e->dirty_nodes[i]->dirty = false;
		store_put_node(engine_batch(e), &e->dirty_nodes[i]->row);
	}
	for (size_t i = 0; i < e->n_dirty_nrs; i++) {
		e->dirty_nrs[i]->dirty = false;
		store_put_node_role(engine_batch(e), &e->dirty_nrs[i]->row);
	}
	e->n_dirty_deps = e->n_dirty_nodes = e->n_dirty_nrs = 0;
}

struct commit {
	struct engine *e;
	struct effects effects;
};

static void effects_run(struct engine *e, struct effects *fx)
{
	for (size_t i = 0; i < fx->n; i++) {
		fault_point("before an effect");
		fx->items[i].fn(e, fx->items[i].arg);
	}
	free(fx->items);
}

static void on_committed(void *arg)
{
	struct commit *c = arg;
	fault_point("after a commit");
	c->e->commits--;
	effects_run(c->e, &c->effects);
	free(c);
}

static void trouble_refresh(struct engine *e)
{
	char *now = store_trouble(e->store);
	if (!now && !e->m.trouble)
		return;
	engine_wrlock(e);
	free(e->m.trouble);
	e->m.trouble = now;
	e->m.generation++;
	engine_wrunlock(e);
	if (e->on_change)
		e->on_change(e->on_change_arg);
}

static void read_again(struct engine *e, void *arg)
{
	job_read(e, NULL, NULL);
}

static void turn_end(uv_prepare_t *prepare)
{
	struct engine *e = prepare->data;
	struct effects fx;
	bool changed;

	engine_wrlock(e);
	anneal(e);
	if (e->changed && gates_pass(e))
		answer_add(e, read_again, NULL);
	components_prune(e);
	e->turn_number++;
	rows_to_batch(e);
	changed = e->changed;
	e->changed = false;
	if (changed)
		e->m.generation++;
	engine_wrunlock(e);

	fx = e->effects;
	e->effects = (struct effects){0};
	/* With a commit on its way the effects of this turn queue behind it, so that effects keep the order of the turns. */
	if (e->batch || (fx.n && e->commits)) {
		struct commit *c = xcalloc(1, sizeof *c);
		*c = (struct commit){e, fx};
		struct store_batch *b = engine_batch(e);
		e->batch = NULL;
		e->commits++;
		fault_point("before a commit");
		store_commit(b, on_committed, c);
	} else if (fx.n) {
		effects_run(e, &fx);
	}
	if (changed && e->on_change)
		e->on_change(e->on_change_arg);
	fx = e->answers;
	e->answers = (struct effects){0};
	effects_run(e, &fx);
	/* Effects that were carried out at once may have changed something again: do not sleep on it. */
	if (e->changed || e->n_queue || e->n_node_queue || e->effects.n || e->answers.n)
		uv_async_send(&e->wake);
}

int64_t engine_new_id(struct engine *e)
{
	return e->next_id++;
}

/* ---- life ---- */

static void list_tick(uv_timer_t *timer)
{
	struct engine *e = timer->data;
	if (e->ticks++ % LIST_TICKS == 0)
		providers_list(e, NULL);
	checks_tick(e);
	trouble_refresh(e);
}

static int owner_make(struct engine *e, struct err **err)
{
	int rc = store_meta_get(e->store, "owner", &e->owner, err);
	if (rc < 0)
		return rc;
	if (!e->owner) {
		uint8_t random[8];
		if (uv_random(NULL, NULL, random, sizeof random, 0, NULL) < 0)
			return err_set(err, EIO, "cannot get random bytes for the state directory's id");
		struct buf hex = {0};
		for (size_t i = 0; i < sizeof random; i++)
			buf_addf(&hex, "%02x", random[i]);
		e->owner = buf_detach(&hex, NULL);
		rc = store_meta_put(e->store, "owner", e->owner, err);
		if (rc < 0)
			return rc;
	}
	_cleanup_free_ char *repo = NULL;
	rc = store_meta_get(e->store, "repo", &repo, err);
	if (rc < 0)
		return rc;
	if (repo && strcmp(repo, e->repo))
		return err_set(err, EBUSY, "state directory '%s' belongs to repo '%s', not '%s': give this repo one of its own with -o state=DIR",
		        e->state_dir, repo, e->repo);
	if (!repo && (rc = store_meta_put(e->store, "repo", e->repo, err)) < 0)
		return rc;
	_cleanup_free_ char *mounts = NULL;
	rc = store_meta_get(e->store, "mounts", &mounts, err);
	if (rc < 0)
		return rc;
	e->mounts = (mounts ? strtoull(mounts, NULL, 10) : 0) + 1;
	_cleanup_free_ char *text = xasprintf("%llu", (unsigned long long)e->mounts);
	return store_meta_put(e->store, "mounts", text, err);
}

struct keygen {
	int rc;
	char *why;
	bool ended;
};

static void keygen_done(void *arg, const struct child_result *res)
{
	struct keygen *k = arg;
	k->ended = true;
	if (res->status != 0) {
		struct buf b = {0};
		child_explain(&b, "ssh-keygen", res);
		k->why = buf_detach(&b, NULL);
		k->rc = -EIO;
	}
}

static int access_key_make(struct engine *e, struct err **err)
{
	e->access_key = path_join(e->state_dir, "id_ed25519");
	if (access(e->access_key, R_OK) == 0)
		return 0;
	_cleanup_free_ char *comment = xasprintf("rebarfs-%s", e->owner);
	const char *argv[] = {"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", e->access_key, NULL};
	struct keygen k = {0};
	struct child *child;
	int rc = child_start(&e->loop, &(struct child_spec){.argv = argv, .timeout_ms = 30000, .done = keygen_done, .arg = &k}, &child, err);
	if (rc < 0)
		return err_wrap(err, "cannot make the access key (is openssh-client installed?)");
	while (!k.ended)
		uv_run(&e->loop, UV_RUN_ONCE);
	if (k.rc < 0)
		err_set(err, EIO, "cannot make the access key '%s': %s", e->access_key, k.why);
	free(k.why);
	return k.rc;
}

static void runners_open(struct engine *e)
{
	while (runner_table[e->n_runners])
		e->n_runners++;
	e->runners = xcalloc(e->n_runners, sizeof *e->runners);
	for (size_t i = 0; i < e->n_runners; i++) {
		_cleanup_err_ struct err *err = NULL;
		e->runners[i].ops = runner_table[i];
		if (runner_table[i]->open(&e->runner_host, &e->runners[i].instance, &err) < 0)
			e->runners[i].error = xstrdup(err_msg(err));
	}
}

struct engine *engine_new(const struct engine_options *opt)
{
	struct engine *e = xcalloc(1, sizeof *e);
	e->prune_at = PRUNE_FIRST;
	e->inbox_tail = &e->inbox;
	pthread_mutex_init(&e->inbox_lock, NULL);
	pthread_mutex_init(&e->writers_lock, NULL);
	e->repo = xstrdup(opt->repo);
	e->mountpoint = xstrdup(opt->mountpoint);
	e->state_dir = xstrdup(opt->state_dir);
	e->cache_dir = xstrdup(opt->cache_dir);
	e->runs_dir = path_join(e->state_dir, "runs");
	e->has_only = opt->only != NULL;
	for (size_t i = 0; opt->only && opt->only[i]; i++)
		strlist_add(&e->only, opt->only[i]);
	model_init(&e->m);
	e->m.state_dir = e->state_dir;
	e->m.repo = e->repo;
	e->m.mountpoint = e->mountpoint;
	e->m.started = now_ms();
	e->seed = (unsigned)now_ms();

	uv_loop_init(&e->loop);
	uv_async_init(&e->loop, &e->wake, on_wake);
	uv_prepare_init(&e->loop, &e->turn);
	uv_timer_init(&e->loop, &e->settle_timer);
	uv_timer_init(&e->loop, &e->list_timer);
	uv_timer_init(&e->loop, &e->poke_timer);
	e->wake.data = e->turn.data = e->settle_timer.data = e->list_timer.data = e->poke_timer.data = e;
	return e;
}

/* One may come later, so that it is no mistake. */
static void only_check(const struct engine *e)
{
	for (size_t i = 0; i < e->only.n; i++)
		if (!model_deployment(&e->m, e->only.items[i]))
			log_msg(LOG_WARN, "-o only names '%s', and no deployment is called that", e->only.items[i]);
}

int engine_open(const struct engine_options *opt, struct engine **ret, struct err **err)
{
	struct engine *e = engine_new(opt);
	_cleanup_free_ char *db = NULL, *content = NULL;
	int rc;

	if ((rc = dir_make_all(e->runs_dir, 0700, err)) < 0 || (rc = dir_make_all(e->cache_dir, 0755, err)) < 0)
		goto fail;
	db = path_join(e->state_dir, "rebarfs.db");
	if ((rc = store_open(db, &e->loop, &e->store, err)) < 0)
		goto fail;
	if ((rc = owner_make(e, err)) < 0 || (rc = access_key_make(e, err)) < 0)
		goto fail;
	e->m.owner = e->owner;
	e->m.private_dir = e->private_dir = private_dir(e->owner, e->state_dir);
	content = path_join(e->state_dir, "content");
	if ((rc = content_open(content, &e->content, err)) < 0)
		goto fail;
	e->redactor = redactor_new();
	if ((rc = secrets_open(e, opt->secrets, err)) < 0)
		goto fail;
	if ((rc = ssh_pool_open(&e->loop, &e->pool, err)) < 0)
		goto fail;
	e->runner_host = (struct runner_host){
	        .loop = &e->loop, .owner = e->owner, .mounts = e->mounts, .state_dir = e->state_dir, .pool = e->pool, .redactor = e->redactor};
	runners_open(e);
	e->cache = hash_cache_new();
	e->committed = committed_new();
	if ((rc = engine_load(e, err)) < 0)
		goto fail;
	if ((rc = jobs_open(e, err)) < 0)
		goto fail;
	if ((rc = read_now(e, err)) < 0)
		goto fail;
	only_check(e);
	uv_prepare_start(&e->turn, turn_end);
	uv_timer_start(&e->list_timer, list_tick, 0, TICK_MS);
	*ret = e;
	return 0;
fail:
	engine_free(e);
	return rc;
}

static void engine_main(void *arg)
{
	struct engine *e = arg;
	uv_run(&e->loop, UV_RUN_DEFAULT);
}

int engine_start(struct engine *e, struct err **err)
{
	int rc = uv_thread_create(&e->thread, engine_main, e);
	if (rc < 0)
		return err_set(err, -rc, "cannot start the engine's thread: %s", uv_strerror(rc));
	e->started = true;
	return 0;
}

static void close_handle(uv_handle_t *h, void *arg)
{
	if (!uv_is_closing(h))
		uv_close(h, NULL);
}

static void stop_on_thread(struct engine *e, void *arg)
{
	e->stopping = true;
	engine_wrlock(e);
	rows_to_batch(e);
	engine_wrunlock(e);
	if (e->batch) {
		struct commit *c = xcalloc(1, sizeof *c);
		*c = (struct commit){e, {0}};
		struct store_batch *b = e->batch;
		e->batch = NULL;
		e->commits++;
		store_commit(b, on_committed, c);
	}
	uv_stop(&e->loop);
}

void engine_stop(struct engine *e)
{
	if (!e->started)
		return;
	engine_post(e, stop_on_thread, NULL);
	uv_thread_join(&e->thread);
	e->started = false;
}

void engine_free(struct engine *e)
{
	if (!e)
		return;
	engine_stop(e);
	jobs_close(e);
	secrets_stop(e);
	for (size_t i = 0; i < e->n_runners; i++) {
		if (e->runners[i].instance)
			e->runners[i].ops->close(e->runners[i].instance);
		free(e->runners[i].error);
	}
	struct provider_object *p, *tmp;
	HASH_ITER (hh_name, e->m.providers_by_name, p, tmp)
		if (p->instance) {
			p->ops->close(p->instance);
			p->instance = NULL;
			secrets_provider_release(e, &p->held);
		}
	if (e->pool)
		ssh_pool_close(e->pool);
	if (e->store)
		store_close(e->store);
	/* What is left are our own timers and children that go on without us: their handles are closed, nobody is called back. */
	uv_walk(&e->loop, close_handle, NULL);
	for (int i = 0; i < 100 && uv_run(&e->loop, UV_RUN_NOWAIT); i++)
		;
	uv_loop_close(&e->loop);
	/* The process ends now: what runs and calls under way still point at is left to it. */
	hash_cache_free(e->cache);
	committed_free(e->committed);
	content_close(e->content);
	for (struct post *next; e->inbox; e->inbox = next) {
		next = e->inbox->next;
		free(e->inbox);
	}
	instance_hosts_free(e);
	secrets_close(e);
	redactor_free(e->redactor);
	model_release(&e->m);
	if (e->batch)
		store_batch_free(e->batch);
	free(e->effects.items);
	free(e->answers.items);
	free(e->unread);
	free(e->dirty_nodes);
	free(e->dirty_nrs);
	free(e->dirty_deps);
	free(e->queue);
	free(e->node_queue);
	free(e->runners);
	free(e->owner);
	free(e->repo);
	free(e->mountpoint);
	free(e->state_dir);
	free(e->cache_dir);
	free(e->access_key);
	free(e->private_dir);
	free(e->runs_dir);
	strlist_release(&e->only);
	pthread_mutex_destroy(&e->inbox_lock);
	pthread_mutex_destroy(&e->writers_lock);
	free(e);
}
