/* Readings of the repo and stores into it, on a worker, one at a time.
 *
 * When to read: 300 ms after the last change, while git holds no lock (5 s at most) and is in the middle of nothing; for who opens plan, wait or
 * problems at once, but for names: what came or went may be the middle of a replacement (vim and mv take the old file away, then make a new one), so
 * it is believed after 300 ms, a document that is missing after a second. A reading during which something changed is done again: its documents may
 * be of different moments. A store is a reading too: the document is edited in memory, everything is checked against everything with it, and only
 * then is it written. */
#include "fs/engine/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define QUIET_MS 300
#define GIT_LOCK_MS 5000
#define GIT_AGAIN_MS 300
#define DRAIN_MS 100       /* a release may come after the next open: what was closed a moment ago is waited for so long */
#define SECRETS_MS 2000    /* their files may lie on a file system that hangs */
#define READ_AGAIN_MS 2000 /* after a reading that failed or passed something by: a full disk tells nobody when it is no longer */
#define NAMES_MS 4000      /* for so long at most is a reading put off because names come and go */
#define RESTLESS_MS 10000  /* who changes something all the time keeps the repo unread for no longer than this */
#define READ_ATTEMPTS 5

struct waiter {
	void (*done)(void *arg);
	void *arg;
	struct waiter *next;
};

struct writer {
	char *path;
	size_t n;
	UT_hash_handle hh;
};

struct job {
	struct engine *e;
	struct job *next;
	struct write_request *write; /* NULL: a reading */
	char *path;                  /* document to store into, relative to the repo */
	struct waiter *waiters;
	int64_t asked; /* monotonic */
	int attempts;
	/* what was known when it began */
	unsigned mark; /* of the watch */
	struct strlist busy;
	struct strlist sound;   /* deployments without mistakes */
	struct desired *before; /* the last reading; NULL: none yet */
	char *fixed;            /* why the key to be stored cannot change now; NULL: it can */
	struct {
		char *name, *passed;
		struct hash version;
	} * in_force;
	size_t n_in_force;
	/* results */
	int rc;
	struct err *err;
	struct tree *tree;
	struct desired *desired;
	struct taking *takings; /* by index of desired->deployments */
};

/* ---- on the worker ---- */

static bool is_in_force(const struct job *j, const char *name, const struct hash *version)
{
	for (size_t i = 0; i < j->n_in_force; i++)
		if (!strcmp(j->in_force[i].name, name))
			return hash_eq(&j->in_force[i].version, version);
	return false;
}

/* The manifest with which this deployment was active last; NULL: it never was. */
static const char *passed_of(const struct job *j, const char *name)
{
	for (size_t i = 0; i < j->n_in_force; i++)
		if (!strcmp(j->in_force[i].name, name))
			return j->in_force[i].passed;
	return NULL;
}

static void reading_drop(struct job *j)
{
	for (size_t i = 0; j->takings && j->desired && i < j->desired->n_deployments; i++)
		taking_release(&j->takings[i]);
	free(j->takings);
	j->takings = NULL;
	tree_free(j->tree);
	j->tree = NULL;
	desired_unref(j->desired);
	j->desired = NULL;
}

static int read_tree(struct job *j, const char *overlay, size_t overlay_len)
{
	struct tree_options opt = {.busy = (const char *const *)j->busy.items, .committed = j->e->committed};
	if (overlay) {
		opt.overlay_path = j->path;
		opt.overlay_text = overlay;
		opt.overlay_len = overlay_len;
	}
	int rc = tree_read_repo(j->e->repo, &opt, j->e->cache, &j->tree, &j->err);
	return rc < 0 ? rc : desired_parse(j->tree, engine_schema(), &j->desired, &j->err);
}

/* Of a gated deployment: with its own document, but roles and what is inherited as they passed. */
static int let_through(struct job *j, const char *passed, struct taking *t)
{
	_cleanup_free_ char *own = t->manifest;
	struct tree *tree = NULL;
	t->manifest = NULL;
	int rc = desired_gate(own, passed, &t->manifest, &j->err);
	if (rc == 0)
		rc = tree_read_kept(j->e->content, t->manifest, &tree, &j->err);
	if (rc == 0)
		rc = desired_parse(tree, engine_schema(), &t->owner, &j->err);
	tree_free(tree);
	if (rc < 0)
		return rc;
	const struct def_deployment *lies = t->def;
	t->def = desired_deployment(t->owner, lies->name);
	gate_find(lies, t->def, &t->gated);
	if (!t->def->valid) {
		free(t->manifest);
		t->manifest = NULL;
	}
	return 0;
}

static int keep_one(struct job *j, const struct def_deployment *def, struct taking *t)
{
	const char *passed = def->gate ? passed_of(j, def->gate) : NULL;
	t->def = def;
	t->version = def->closure;
	if (def->gate) {
		struct hasher *h = hasher_new();
		hasher_add(h, &def->closure, sizeof def->closure);
		hasher_add_str(h, passed);
		hasher_end(h, &t->version);
		hasher_free(h);
	}
	if (is_in_force(j, def->name, &t->version))
		return 0;
	if (def->gate && !passed) {
		gate_find(def, NULL, &t->gated);
		return 0;
	}
	if (j->e->looks_only && !passed) { /* nobody will want it back */
		t->manifest = xstrdup("");
		return 0;
	}
	int rc = desired_keep(j->tree, j->e->repo, j->desired, def, j->e->content, &t->manifest, &j->err);
	return rc == 0 && passed ? let_through(j, passed, t) : rc;
}

static int keep_all(struct job *j)
{
	j->takings = xcalloc(j->desired->n_deployments + 1, sizeof *j->takings);
	for (size_t i = 0; i < j->desired->n_deployments; i++) {
		const struct def_deployment *def = j->desired->deployments[i];
		int rc = def->valid && !def->busy ? keep_one(j, def, &j->takings[i]) : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}

static void read_work(struct job *j)
{
	for (int attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
		j->rc = read_tree(j, NULL, 0);
		if (j->rc == 0)
			j->rc = keep_all(j);
		if (j->rc != -EAGAIN)
			return;
		/* Changed under our eyes: once more. */
		reading_drop(j);
		err_freep(&j->err);
	}
}

/* Is one of the documents open for writing? Under writers_lock. */
static bool is_written(const struct engine *e, const char *path)
{
	struct writer *w = NULL;
	HASH_FIND_STR(e->writers, path, w);
	return w && w->n;
}

struct storing {
	struct job *j;
	char *full, *target; /* the document, absolute; relative to the repo what it is when a link leads to it */
	struct buf text;     /* as it was read */
};

static int not_in_force(struct storing *s, const struct desired *before, struct err **err)
{
	const char *path = s->j->path, *git = NULL;
	struct hash now;
	if (git_state(s->j->e->repo, &git) == GIT_MERGING)
		return err_set(err, EBUSY, "git is in the middle of %s: nothing is taken over until that has ended", git);
	for (size_t i = 0; before && i < before->n_problems; i++) {
		const struct problem *p = &before->problems[i];
		if (!strcmp(p->file, path))
			return err_set(err, EBUSY, "the document on disk is not the one in force: %s:%d: %s", p->file, p->line, p->text);
	}
	const struct def_source *src = before ? desired_source(before, path) : NULL;
	hash_bytes(buf_str(&s->text), s->text.len, &now);
	if (src && !src->busy && hash_eq(&src->hash, &now))
		return 0;
	return err_set(err, EBUSY, "'%s' is being changed by somebody else: what it says is not in force yet, try again", path);
}

/* Between this and the rename nobody opens the document for writing in the mount: what he wrote would go to a file that is no longer there. */
static int gate_enter(void *arg, struct err **err)
{
	struct storing *s = arg;
	struct engine *e = s->j->e;
	_cleanup_buf_ struct buf now = {0};
	pthread_mutex_lock(&e->writers_lock);
	int rc = is_written(e, s->j->path) || (s->target && is_written(e, s->target))
	                 ? err_set(err, EBUSY, "'%s' is open for writing: close it first, and what was written there comes into force", s->j->path)
	                 : file_read(AT_FDCWD, s->full, DOCUMENT_MAX, &now, err);
	if (rc == 0 && (now.len != s->text.len || memcmp(buf_str(&now), buf_str(&s->text), now.len)))
		rc = err_set(err, EBUSY, "'%s' was changed by somebody else at this very moment: try again", s->j->path);
	if (rc < 0)
		pthread_mutex_unlock(&e->writers_lock);
	return rc;
}

static void gate_leave(void *arg)
{
	pthread_mutex_unlock(&((struct storing *)arg)->j->e->writers_lock);
}

static bool was_there(const struct desired *before, const struct problem *p)
{
	for (size_t i = 0; before && i < before->n_problems; i++)
		if (!strcmp(before->problems[i].file, p->file) && !strcmp(before->problems[i].text, p->text))
			return true;
	return false;
}

/* The mistake that a store would make: errno and sentence. 0: none. */
static int store_mistake(struct job *j)
{
	for (size_t i = 0; i < j->desired->n_problems; i++) {
		const struct problem *p = &j->desired->problems[i];
		if (!strcmp(p->file, j->path))
			return err_set(&j->err, p->code == ERANGE ? ERANGE : EINVAL, "%s", p->text);
	}
	for (size_t i = 0; i < j->desired->n_problems; i++) {
		const struct problem *p = &j->desired->problems[i];
		if (!was_there(j->before, p))
			return err_set(&j->err, p->code == ERANGE ? ERANGE : EINVAL, "%s:%d: %s", p->file, p->line, p->text);
	}
	for (size_t i = 0; i < j->desired->n_deployments; i++) {
		const struct def_deployment *def = j->desired->deployments[i];
		if (!def->valid && !def->busy && strlist_has(&j->sound, def->name))
			return err_set(&j->err, EINVAL, "%s", def->problem ? def->problem : def->name);
		if (def->busy && !strcmp(def->src.path, j->path))
			return err_set(&j->err, EBUSY, "something that deployment %s refers to is open for writing: it could not come into force now",
			        def->name);
	}
	return 0;
}

/* 1: it says so already. */
static int store_edited(struct storing *s, struct err **err)
{
	struct job *j = s->j;
	const struct write_request *w = j->write;
	const struct replace_gate gate = {gate_enter, gate_leave, s};
	_cleanup_buf_ struct buf edited = {0};
	int rc = file_read(AT_FDCWD, s->full, DOCUMENT_MAX, &s->text, err);
	if (rc == 0)
		rc = not_in_force(s, j->before, err);
	if (rc == 0)
		rc = document_set(buf_str(&s->text), s->text.len, w->section, w->key, w->unset ? NULL : w->text, &edited, err);
	if (rc == 0)
		rc = read_tree(j, buf_str(&edited), edited.len);
	if (rc == 0)
		rc = store_mistake(j);
	if (rc < 0)
		return rc;
	if (edited.len == s->text.len && !memcmp(buf_str(&edited), buf_str(&s->text), s->text.len))
		return 1;
	if (j->fixed)
		return err_set(err, EBUSY, "%s", j->fixed);
	return file_replace_gated(s->full, buf_str(&edited), edited.len, &gate, err);
}

static void store_work(struct job *j)
{
	struct storing s = {.j = j, .full = path_join(j->e->repo, j->path)};
	_cleanup_free_ char *real = realpath(s.full, NULL);
	size_t len = strlen(j->e->repo);
	if (real && !strncmp(real, j->e->repo, len) && real[len] == '/')
		s.target = real + len + 1;
	j->rc = store_edited(&s, &j->err);
	bool changed = j->rc == 0;
	if (j->rc >= 0)
		j->rc = keep_all(j);
	if (j->rc == -EAGAIN) { /* somebody else wrote at the same moment: ours is stored, read what lies there now */
		reading_drop(j);
		err_freep(&j->err);
		read_work(j);
	} else if (j->rc < 0 && changed && file_replace(s.full, buf_str(&s.text), s.text.len, NULL) < 0) {
		err_wrap(&j->err, "'%s' is changed, but not in force", j->path);
	}
	buf_release(&s.text);
	free(s.full);
}

static void job_work(void *arg)
{
	struct job *j = arg;
	if (j->write)
		store_work(j);
	else
		read_work(j);
}

/* ---- on the engine's thread ---- */

static void job_next(struct engine *e);
static void settle_start(struct engine *e, int64_t ms);
static enum git_state git_now(struct engine *e);

static void waiters_done(struct engine *e, void *arg)
{
	for (struct waiter *w = arg, *next; w; w = next) {
		next = w->next;
		w->done(w->arg);
		free(w);
	}
}

struct reply {
	struct write_request *w;
	int rc;
	struct err *err;
};

static void reply_effect(struct engine *e, void *arg)
{
	struct reply *r = arg;
	free(r->w->who);
	r->w->who = NULL;
	r->w->done(r->w, r->rc, r->err);
	err_free(r->err);
	free(r);
}

void write_reply(struct engine *e, struct write_request *w, int rc, struct err *err)
{
	if (rc < 0) {
		_cleanup_free_ char *file = w->section ? xasprintf("desired/%s/%s", w->section, w->key) : xstrdup(w->file ? w->file : "ctl");
		for (char *p = file; w->section && *p; p++) /* the name of the file: the section's words joined by dots */
			if (*p == ' ')
				*p = '.';
		refuse(e, w->kind, w->id, w->who, file, err_msg(err));
	}
	struct reply *r = xcalloc(1, sizeof *r);
	*r = (struct reply){w, rc, err};
	if (rc < 0)
		answer_add(e, reply_effect, r);
	else
		effect_add(e, reply_effect, r);
}

/* What it knew, and what it found. */
static void job_forget(struct job *j)
{
	reading_drop(j);
	for (size_t i = 0; i < j->n_in_force; i++) {
		free(j->in_force[i].name);
		free(j->in_force[i].passed);
	}
	free(j->in_force);
	j->in_force = NULL;
	j->n_in_force = 0;
	strlist_release(&j->busy);
	strlist_release(&j->sound);
	desired_unref(j->before);
	j->before = NULL;
	free(j->fixed);
	j->fixed = NULL;
	err_freep(&j->err);
}

static void job_free(struct job *j)
{
	job_forget(j);
	free(j->path);
	free(j);
}

static void log_answer(struct engine *e, void *arg)
{
	_cleanup_free_ char *text = arg;
	log_msg(LOG_ERROR, "%s", text);
}

/* What goes wrong is said once, and tried again; to the log too, because what keeps the repo from being read may keep events from being stored. */
static void read_tell(struct engine *e, const struct job *j)
{
	const char *why = j->rc < 0 ? err_msg(j->err) : NULL;
	if (why && (!e->unread || strcmp(why, e->unread))) {
		event_add(e, NULL, NULL, NULL, NULL, "cannot read the repo: %s", why);
		answer_add(e, log_answer, xasprintf("cannot read the repo: %s", why));
	} else if (!why && e->unread) {
		event_add(e, NULL, NULL, NULL, NULL, "the repo is read again");
	}
	str_replace(&e->unread, why);
	if (why || (j->tree && tree_is_passing(j->tree))) {
		e->rescan = true;
		if (!uv_is_active((uv_handle_t *)&e->settle_timer))
			settle_start(e, READ_AGAIN_MS);
	}
}

/* What the events will say. The engine's thread reads the model without the lock: nobody else writes it. */
static void explain_takings(struct job *j)
{
	for (size_t i = 0; i < j->desired->n_deployments; i++) {
		struct taking *t = &j->takings[i];
		const struct deployment *d = model_deployment(&j->e->m, j->desired->deployments[i]->name);
		struct buf changes = {0};
		if (!t->manifest)
			continue;
		manifest_changes(d ? d->row.in_force : NULL, t->manifest, &changes);
		if (!changes.len)
			buf_adds(&changes, "as before");
		t->changes = buf_detach(&changes, NULL);
	}
}

static void take(struct job *j)
{
	explain_takings(j);
	engine_wrlock(j->e);
	take_over(j->e, j->desired, j->takings);
	engine_wrunlock(j->e);
}

/* Something changed while it was read: what it found may be of different moments. */
static bool read_again(struct job *j)
{
	struct engine *e = j->e;
	if (j->write || ++j->attempts >= READ_ATTEMPTS || !watch_changed_since(e->watch, j->mark))
		return false;
	job_forget(j);
	j->next = e->jobs;
	e->jobs = j;
	if (!j->next)
		e->jobs_tail = &j->next;
	return true;
}

static void job_done(void *arg)
{
	struct job *j = arg;
	struct engine *e = j->e;
	e->job = NULL;
	if (read_again(j)) {
		job_next(e);
		return;
	}
	if (j->desired && (j->rc == 0 || !j->write) && j->takings)
		take(j);
	engine_wrlock(e);
	if (!j->write)
		read_tell(e, j);
	if (j->write) {
		struct write_request *w = j->write;
		if (j->rc == 0) {
			struct deployment *d = w->kind == OBJECT_DEPLOYMENT ? model_deployment_id(&e->m, w->id) : NULL;
			struct node *n = w->kind == OBJECT_NODE ? model_node_id(&e->m, w->id) : NULL;
			event_add(e, d, n, NULL, w->who, "%s [%s] %s = %s", j->path, w->section, w->key, w->unset ? "(unset)" : w->text);
		}
		write_reply(e, w, j->rc, j->err);
		j->err = NULL;
	}
	/* Who waited is answered when the annealer has seen it. */
	if (j->waiters)
		answer_add(e, waiters_done, j->waiters);
	e->changed = true;
	engine_wrunlock(e);
	job_free(j);
	job_next(e);
	if (e->rescan && !uv_is_active((uv_handle_t *)&e->settle_timer))
		settle_start(e, QUIET_MS);
}

static void job_begin(struct engine *e, struct job *j)
{
	if (!j->write)
		e->rescan = false;
	if (e->watch)
		j->mark = watch_mark(e->watch);
	pthread_mutex_lock(&e->writers_lock);
	for (struct writer *w = e->writers; w; w = w->hh.next)
		if (w->n)
			strlist_add(&j->busy, w->path);
	pthread_mutex_unlock(&e->writers_lock);
	model_rdlock(&e->m);
	j->before = j->write ? desired_ref(e->m.desired) : NULL;
	j->in_force = xcalloc(HASH_CNT(hh_name, e->m.deployments_by_name) + 1, sizeof *j->in_force);
	for (struct deployment *d = e->m.deployments_by_name; d; d = d->hh_name.next) {
		if (!d->invalid && d->def)
			strlist_add(&j->sound, d->row.name);
		j->in_force[j->n_in_force].name = xstrdup(d->row.name);
		j->in_force[j->n_in_force].passed = xstrdup(d->row.passed);
		j->in_force[j->n_in_force++].version = d->version;
	}
	model_unlock(&e->m);
}

static void names_rested(struct engine *e, int64_t id)
{
	e->jobs_put_off = false;
	job_next(e);
}

/* How long until names have not come or gone for a while, ms; 0: begin. */
static int64_t names_rest(struct engine *e, const struct job *j)
{
	if (watch_drain(e->watch))
		job_read_soon(e);
	int64_t now = monotonic_ms(), at = watch_rests_at(e->watch);
	return now < at && now - j->asked < NAMES_MS ? at - now : 0;
}

/* Git began something while it waited: it is read when that has ended. */
static bool job_is_void(struct engine *e, struct job *j)
{
	if (j->write || git_now(e) != GIT_MERGING)
		return false;
	if (j->waiters)
		answer_add(e, waiters_done, j->waiters);
	job_read_soon(e);
	job_free(j);
	return true;
}

static void job_next(struct engine *e)
{
	if (e->job || !e->jobs || e->jobs_put_off)
		return;
	struct job *j = e->jobs;
	int64_t rest = names_rest(e, j);
	if (rest > 0) {
		e->jobs_put_off = true;
		engine_after(e, rest, names_rested, 0);
		return;
	}
	e->jobs = j->next;
	if (!e->jobs)
		e->jobs_tail = &e->jobs;
	if (job_is_void(e, j)) {
		job_next(e);
		return;
	}
	e->job = j;
	job_begin(e, j);
	engine_work(e, job_work, job_done, j);
}

static struct job *job_add(struct engine *e)
{
	struct job *j = xcalloc(1, sizeof *j);
	j->e = e;
	j->asked = monotonic_ms();
	*e->jobs_tail = j;
	e->jobs_tail = &j->next;
	return j;
}

void job_read(struct engine *e, void (*done)(void *arg), void *arg)
{
	/* A reading that waits already will see what this one would. */
	struct job *j = e->jobs;
	while (j && j->write)
		j = j->next;
	if (!j)
		j = job_add(e);
	if (done) {
		struct waiter *w = xcalloc(1, sizeof *w), **at = &j->waiters;
		*w = (struct waiter){done, arg, NULL};
		while (*at) /* at the end: they may be stores, which come in order */
			at = &(*at)->next;
		*at = w;
	}
	job_next(e);
}

static void next_effect(struct engine *e, void *arg)
{
	job_next(e);
}

/* What machines were made with does not change under them. */
static char *why_fixed(const struct engine *e, const struct write_request *w)
{
	const struct provider_object *p = w->kind == OBJECT_PROVIDER ? model_provider_id(&e->m, w->id) : NULL;
	const struct settable s = {.schema = engine_schema(), .provider = p ? p->def : NULL};
	const struct key_row *row = s.provider ? settable_row(&s, w->section, w->key) : NULL;
	size_t n = row && row->fixed ? provider_machines(e, p) : 0;
	if (!n)
		return NULL;
	_cleanup_buf_ struct buf now = {0};
	settable_value(&s, w->section, w->key, &now);
	return xasprintf("'%s' cannot change from %s to %s while machines of provider %s exist: there %s %zu", w->key, buf_str(&now),
	        w->unset ? "its default" : w->text, p->name, n == 1 ? "is" : "are", n);
}

void job_store(struct engine *e, struct write_request *w, const char *path)
{
	struct job *j = job_add(e);
	j->write = w;
	j->path = xstrdup(path);
	j->fixed = why_fixed(e, w);
	answer_add(e, next_effect, NULL); /* the caller holds the lock, and beginning takes it */
}

/* ---- settling ---- */

/* What git is doing in the repo; what keeps everything waiting is told. Without the lock. */
static enum git_state git_now(struct engine *e)
{
	const char *what = NULL;
	enum git_state state = git_state(e->repo, &what);
	if (state != GIT_MERGING)
		what = NULL;
	if (what == e->m.git_doing || (what && e->m.git_doing && !strcmp(what, e->m.git_doing)))
		return state;
	engine_wrlock(e);
	if (what)
		event_add(e, NULL, NULL, NULL, NULL, "git is in the middle of %s: nothing in desired/ is taken over until that has ended", what);
	else
		event_add(e, NULL, NULL, NULL, NULL, "git has ended %s", e->m.git_doing);
	e->m.git_doing = what;
	for (struct deployment *d = e->m.deployments_by_name; d; d = d->hh_name.next)
		touch_deployment(e, d);
	engine_wrunlock(e);
	return state;
}

static void on_settle(uv_timer_t *t);

static void settle_start(struct engine *e, int64_t ms)
{
	uv_timer_start(&e->settle_timer, on_settle, (uint64_t)ms, 0);
}

static void on_settle(uv_timer_t *t)
{
	struct engine *e = t->data;
	if (!e->rescan)
		return;
	switch (git_now(e)) {
	case GIT_MERGING:
		settle_start(e, GIT_AGAIN_MS);
		return;
	case GIT_LOCKED:
		/* As long as it works; a lock that was left behind shows by nothing happening. */
		if (monotonic_ms() - e->changed_last < GIT_LOCK_MS) {
			settle_start(e, GIT_AGAIN_MS);
			return;
		}
		break;
	case GIT_QUIET:
		break;
	}
	job_read(e, NULL, NULL);
}

void job_read_soon(struct engine *e)
{
	int64_t now = monotonic_ms();
	if (!e->rescan)
		e->changed_first = now;
	e->rescan = true;
	e->changed_last = now;
	if (now - e->changed_first < RESTLESS_MS || !uv_is_active((uv_handle_t *)&e->settle_timer))
		settle_start(e, QUIET_MS);
}

static void on_watch(void *arg)
{
	job_read_soon(arg);
}

static bool writers_open(struct engine *e)
{
	bool any = false;
	pthread_mutex_lock(&e->writers_lock);
	for (struct writer *w = e->writers; w && !any; w = w->hh.next)
		any = w->n > 0;
	pthread_mutex_unlock(&e->writers_lock);
	return any;
}

struct settle {
	struct engine *e;
	void (*done)(void *arg);
	void *arg;
	int64_t asked;
	uv_timer_t timer;
};

static void settle_free(uv_handle_t *h)
{
	free(h->data);
}

static void settle_end(struct settle *s)
{
	uv_close((uv_handle_t *)&s->timer, settle_free);
}

static void settle_try(struct settle *s);

static void settle_again(uv_timer_t *t)
{
	settle_try(t->data);
}

struct settled {
	void (*done)(void *arg);
	void *arg;
};

static void settled_effect(struct engine *e, void *arg)
{
	struct settled *s = arg;
	s->done(s->arg);
	free(s);
}

static void settle_try(struct settle *s)
{
	struct engine *e = s->e;
	int64_t waited = monotonic_ms() - s->asked;
	enum git_state git = git_now(e);
	if (e->watch && watch_drain(e->watch))
		job_read_soon(e);
	bool secrets = secrets_settling(e) && waited < SECRETS_MS;
	if (secrets || (waited < DRAIN_MS && writers_open(e)) || (git == GIT_LOCKED && waited < GIT_LOCK_MS)) {
		uv_timer_start(&s->timer, settle_again, 10, 0);
		return;
	}
	if ((e->rescan && git != GIT_MERGING) || e->job || e->jobs) {
		/* A reading under way may have begun before the change: the next one counts. */
		job_read(e, s->done, s->arg);
	} else {
		struct settled *now = xmalloc(sizeof *now);
		*now = (struct settled){s->done, s->arg};
		answer_add(e, settled_effect, now);
	}
	settle_end(s);
}

static void settle_post(struct engine *e, void *arg)
{
	struct settle *s = arg;
	uv_timer_init(&e->loop, &s->timer);
	s->timer.data = s;
	settle_try(s);
}

void engine_settle(struct engine *e, void (*done)(void *arg), void *arg)
{
	struct settle *s = xcalloc(1, sizeof *s);
	*s = (struct settle){.e = e, .done = done, .arg = arg, .asked = monotonic_ms()};
	engine_post(e, settle_post, s);
}

/* ---- the mount's own writers ---- */

static void changed_post(struct engine *e, void *arg)
{
	job_read_soon(e);
}

void engine_document_changed(struct engine *e, const char *path)
{
	engine_post(e, changed_post, NULL);
}

void engine_document_opened(struct engine *e, const char *path)
{
	pthread_mutex_lock(&e->writers_lock);
	struct writer *w = NULL;
	HASH_FIND_STR(e->writers, path, w);
	if (!w) {
		w = xcalloc(1, sizeof *w);
		w->path = xstrdup(path);
		HASH_ADD_KEYPTR(hh, e->writers, w->path, strlen(w->path), w);
	}
	w->n++;
	pthread_mutex_unlock(&e->writers_lock);
}

void engine_document_closed(struct engine *e, const char *path)
{
	pthread_mutex_lock(&e->writers_lock);
	struct writer *w = NULL;
	HASH_FIND_STR(e->writers, path, w);
	if (w && w->n && !--w->n) {
		HASH_DEL(e->writers, w);
		free(w->path);
		free(w);
	}
	pthread_mutex_unlock(&e->writers_lock);
	engine_post(e, changed_post, NULL);
}

/* ---- life ---- */

/* At start too nothing is read in the middle of a checkout, nor in that of a merge: what was in force before goes on. */
static bool git_lets_read(struct engine *e)
{
	int64_t began = monotonic_ms();
	enum git_state state;
	while ((state = git_now(e)) == GIT_LOCKED && monotonic_ms() - began < GIT_LOCK_MS)
		nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	return state != GIT_MERGING;
}

int read_now(struct engine *e, struct err **err)
{
	if (!e->looks_only && !git_lets_read(e)) {
		job_read_soon(e);
		return 0;
	}
	struct job *j = xcalloc(1, sizeof *j);
	j->e = e;
	job_begin(e, j);
	read_work(j);
	int rc = j->rc;
	if (j->desired && j->takings) {
		take(j);
		engine_wrlock(e);
		if (rc < 0)
			read_tell(e, j);
		engine_wrunlock(e);
		rc = 0;
	}
	if (rc < 0) {
		*err = j->err;
		j->err = NULL;
	}
	job_free(j);
	return rc;
}

int jobs_open(struct engine *e, struct err **err)
{
	e->jobs_tail = &e->jobs;
	e->asked_tail = &e->asked;
	return watch_open(&e->loop, e->repo, on_watch, e, &e->watch, err);
}

void jobs_close(struct engine *e)
{
	if (e->watch)
		watch_close(e->watch);
	e->watch = NULL;
	struct writer *w, *tmp;
	HASH_ITER (hh, e->writers, w, tmp) {
		HASH_DEL(e->writers, w);
		free(w->path);
		free(w);
	}
}
