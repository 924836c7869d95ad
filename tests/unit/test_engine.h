/* A real engine on a repo in a temporary directory with simulated nodes: what it makes of documents, verbs and faults is asserted through the model,
 * as the mount shows it. Nothing here waits for a fixed time: a condition is polled until it holds, or fails loudly at its deadline. */
#ifndef TEST_ENGINE_H
#define TEST_ENGINE_H

#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "fs/base/str.h"
#include "fs/engine/engine.h"
#include "fs/engine/plan.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* What is under way when an engine stops is left to the end of the process; everything else must be freed. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:run_new\nleak:op_new\nleak:list_one\nleak:engine_after\nleak:turn_end\nleak:effect_add\nleak:run_start\n";
}

#define PATIENCE_MS 30000 /* a deadline, not a pace: sanitizers on two busy cores are slow */

static char world[64], repo[96], state_dir[96], cache_dir[96];
static struct engine *engine;
static struct model *model;
static char refused_why[1024]; /* of the last write that was refused */
static const char *secrets_source; /* -o secrets; NULL: the state directory's own */

/* ---- the repo ---- */

static inline void put(const char *path, const char *text)
{
	_cleanup_free_ char *full = path_join(repo, path), *dir = xstrdup(full);
	*strrchr(dir, '/') = 0;
	cr_assert_eq(dir_make_all(dir, 0755, NULL), 0);
	_cleanup_close_ int fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, strstr(path, "/apply") ? 0755 : 0644);
	cr_assert_geq(fd, 0, "%s: %s", full, strerror(errno));
	cr_assert_eq(fd_write_all(fd, text, strlen(text)), 0);
}

static inline void drop(const char *path)
{
	_cleanup_free_ char *full = path_join(repo, path);
	cr_assert_eq(tree_remove(full, NULL), 0);
}

static inline char *get(const char *path)
{
	struct buf b = {0};
	_cleanup_free_ char *full = path_join(repo, path);
	cr_assert_eq(file_read(AT_FDCWD, full, 1 << 20, &b, NULL), 0, "%s", full);
	return buf_detach(&b, NULL);
}

/* Puts to where from stands in the document. */
static inline void edit(const char *path, const char *from, const char *to)
{
	_cleanup_free_ char *text = get(path);
	_cleanup_buf_ struct buf out = {0};
	char *at = strstr(text, from);
	cr_assert_not_null(at, "'%s' is not in %s", from, path);
	buf_add(&out, text, (size_t)(at - text));
	buf_adds(&out, to);
	buf_adds(&out, at + strlen(from));
	put(path, buf_str(&out));
}

#define QUICK "create-delay = 5ms\nrole-delay = 2ms\n"

static inline void put_provider(const char *name, const char *keys, const char *fake_keys)
{
	_cleanup_free_ char *path = xasprintf("providers/%s/provider.ini", name),
	                    *text = xasprintf("[provider]\ntype = fake\n%s[fake]\n%s", keys, fake_keys);
	put(path, text);
}

static inline void put_role(const char *name, const char *text)
{
	_cleanup_free_ char *ini = xasprintf("roles/%s/role.ini", name), *apply = xasprintf("roles/%s/apply", name);
	_cleanup_free_ char *whole = xasprintf("[role]\nrunner = script\n%s", text);
	put(ini, whole);
	put(apply, "#!/bin/sh\ntrue\n");
}

#define D_INI "deployments/d/deployment.ini"

/* Two nodes; base, and on it web with a parameter and the table of all nodes. */
static inline void put_web(void)
{
	put_provider("sim", "", QUICK);
	put_role("base", "[output token]\n");
	put_role("web", "requires = base\nwants = nodes\n[param quorum]\ntype = int\ndefault = 3\nmin = 1\nmax = 9\n");
	put(D_INI, "; two of them\n[deployment]\nprovider = sim\nroles = base\n\n[nodes n]\ncount = 2\nroles = web\n");
}

/* ---- the engine ---- */

static inline int try_open(const char *const *only, struct err **err)
{
	struct engine_options opt = {.repo = repo, .mountpoint = "/rebar", .state_dir = state_dir, .cache_dir = cache_dir, .secrets = secrets_source, .only = only};
	int rc = engine_open(&opt, &engine, err);
	if (rc < 0)
		return rc;
	model = engine_model(engine);
	cr_assert_eq(engine_start(engine, err), 0, "%s", err_msg(*err));
	return 0;
}

static inline void open_only(const char *const *only)
{
	_cleanup_err_ struct err *err = NULL;
	cr_assert_eq(try_open(only, &err), 0, "%s", err_msg(err));
}

static inline void open_engine(void)
{
	open_only(NULL);
}

static inline void close_engine(void)
{
	engine_stop(engine);
	engine_free(engine);
	engine = NULL;
	model = NULL;
}

static inline void make_world(void)
{
	strcpy(world, "/tmp/rebarfs-engine.XXXXXX");
	cr_assert_not_null(mkdtemp(world));
	snprintf(repo, sizeof repo, "%s/repo", world);
	snprintf(state_dir, sizeof state_dir, "%s/state", world);
	snprintf(cache_dir, sizeof cache_dir, "%s/cache", world);
	cr_assert_eq(mkdir(repo, 0755), 0);
	cr_assert_eq(mkdir(state_dir, 0700), 0);
}

static inline void end_world(void)
{
	if (engine)
		close_engine();
	tree_remove(world, NULL);
}

static inline void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

/* The condition is looked at under the model's lock. */
#define holds_within(ms, cond)                                                                                                                       \
	({                                                                                                                                           \
		bool holds_ = false;                                                                                                                 \
		for (int64_t end_ = monotonic_ms() + (ms);; nap()) {                                                                                 \
			model_rdlock(model);                                                                                                         \
			holds_ = (cond);                                                                                                             \
			model_unlock(model);                                                                                                         \
			if (holds_ || monotonic_ms() > end_)                                                                                         \
				break;                                                                                                               \
		}                                                                                                                                    \
		holds_;                                                                                                                              \
	})
#define eventually(cond) cr_assert(holds_within(PATIENCE_MS, cond), "never came true: %s", #cond)
#define locked(expr)                                                                                                                                 \
	({                                                                                                                                           \
		model_rdlock(model);                                                                                                                 \
		__typeof__(expr) v_ = (expr);                                                                                                        \
		model_unlock(model);                                                                                                                 \
		v_;                                                                                                                                  \
	})

static inline void post_sem(void *arg)
{
	sem_post(arg);
}

static inline void wait_sem(sem_t *sem, const char *what)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_MS / 1000;
	cr_assert_eq(sem_timedwait(sem, &until), 0, "no answer to %s", what);
	sem_destroy(sem);
}

/* Everything written so far is in force, or in problems. */
static inline void settle(void)
{
	sem_t sem;
	sem_init(&sem, 0, 0);
	engine_settle(engine, post_sem, &sem);
	wait_sem(&sem, "settle");
}

struct written {
	sem_t sem;
	int rc;
};

static inline void on_written(struct write_request *w, int rc, const struct err *err)
{
	struct written *a = w->data;
	a->rc = rc;
	snprintf(refused_why, sizeof refused_why, "%s", err ? err_msg(err) : "");
	sem_post(&a->sem);
}

static inline int write_request(struct write_request w)
{
	struct written a;
	sem_init(&a.sem, 0, 0);
	w.done = on_written;
	w.data = &a;
	w.uid = getuid();
	w.gid = getgid();
	w.pid = getpid();
	engine_write(engine, &w);
	wait_sem(&a.sem, w.text);
	return a.rc;
}

/* ---- looking at the model (under its lock) ---- */

static inline struct deployment *dep(const char *name)
{
	struct deployment *d = model_deployment(model, name);
	cr_assert_not_null(d, "no deployment %s", name);
	return d;
}

static inline struct node *node(const char *name)
{
	struct node *n = model_node(model, name);
	cr_assert_not_null(n, "no node %s", name);
	return n;
}

static inline struct node_role *nr_of(const char *name, const char *role)
{
	struct node_role *nr = node_role_find(node(name), role);
	cr_assert_not_null(nr, "no %s on %s", role, name);
	return nr;
}

static inline bool at_rest(const char *name, bool reached)
{
	bool settled, is_reached;
	struct deployment *d = model_deployment(model, name);
	if (!d)
		return false;
	deployment_rest(model, d, &settled, &is_reached, NULL);
	return settled && is_reached == reached;
}

static inline bool state_is(const char *name, const char *role, enum node_role_state s)
{
	struct node *n = model_node(model, name);
	struct node_role *nr = n ? node_role_find(n, role) : NULL;
	return nr && node_role_state(nr) == s;
}

/* ---- the same, each with its own lock ---- */

static inline int64_t dep_id(const char *name)
{
	return locked(dep(name)->row.id);
}

static inline int ctl(const char *deployment, const char *verb)
{
	return write_request((struct write_request){.kind = OBJECT_DEPLOYMENT, .id = dep_id(deployment), .text = (char *)verb});
}

static inline int ctl_root(const char *verb)
{
	return write_request((struct write_request){.kind = OBJECT_ROOT, .text = (char *)verb});
}

static inline int ctl_node(const char *name, const char *verb)
{
	return write_request((struct write_request){.kind = OBJECT_NODE, .id = locked(node(name)->row.id), .text = (char *)verb});
}

static inline int ctl_role(const char *name, const char *role, const char *verb)
{
	return write_request((struct write_request){.kind = OBJECT_NODE_ROLE, .id = locked(nr_of(name, role)->row.id), .text = (char *)verb});
}

static inline int set_value(const char *deployment, const char *section, const char *key, const char *text)
{
	return write_request((struct write_request){.kind = OBJECT_DEPLOYMENT,
	        .id = dep_id(deployment),
	        .section = (char *)section,
	        .key = (char *)key,
	        .text = (char *)text,
	        .unset = !*text});
}

/* Until nothing moves any more; then whether desired is reached. The sentence of `wait` is shown when it is not as expected. */
static inline void rest(const char *name, bool reached)
{
	settle();
	if (holds_within(PATIENCE_MS, at_rest(name, reached)))
		return;
	_cleanup_buf_ struct buf why = {0}, errors = {0};
	bool settled, is_reached;
	model_rdlock(model);
	deployment_rest(model, dep(name), &settled, &is_reached, &why);
	deployment_why(model, dep(name), &errors);
	deployment_error(model, dep(name), &errors);
	struct plan p;
	plan_make(model, dep(name), &p);
	buf_addc(&errors, '\n');
	plan_text(&p, &errors);
	plan_release(&p);
	for (int64_t s = model->next_seq - 20 > model->first_seq ? model->next_seq - 20 : model->first_seq; s < model->next_seq; s++) {
		const struct event *ev = model_event(model, s);
		buf_addf(&errors, "%s/%s %s\n", ev->node ? ev->node : "", ev->role ? ev->role : "", ev->text);
	}
	model_unlock(model);
	cr_assert_fail("%s did not come to rest %s: settled %d, reached %d: %s\n%s", name, reached ? "as desired" : "short of desired", settled,
	        is_reached, buf_str(&why), buf_str(&errors));
}

static inline char *plan_of(const char *name)
{
	struct plan p;
	struct buf b = {0};
	model_rdlock(model);
	plan_make(model, dep(name), &p);
	plan_text(&p, &b);
	plan_release(&p);
	model_unlock(model);
	return buf_detach(&b, NULL);
}

static inline void plan_id_of(const char *name, char id[9])
{
	struct plan p;
	model_rdlock(model);
	plan_make(model, dep(name), &p);
	memcpy(id, p.id, 9);
	plan_release(&p);
	model_unlock(model);
}

#define expect_plan(name, want)                                                                                                                      \
	do {                                                                                                                                         \
		char *got_ = plan_of(name);                                                                                                          \
		cr_expect_str_eq(got_, want, "plan of %s is:\n%s\nnot:\n%s", name, got_, want);                                                      \
		free(got_);                                                                                                                          \
	} while (0)
#define expect_in_plan(name, want)                                                                                                                   \
	do {                                                                                                                                         \
		char *got_ = plan_of(name);                                                                                                          \
		cr_expect(strstr(got_, want), "plan of %s is:\n%s\nwithout:\n%s", name, got_, want);                                                 \
		free(got_);                                                                                                                          \
	} while (0)

static inline int apply_id(const char *name)
{
	char id[9], verb[32];
	plan_id_of(name, id);
	snprintf(verb, sizeof verb, "apply %s", id);
	return ctl(name, verb);
}

static inline char *why_of(const char *name, const char *role)
{
	struct buf b = {0};
	model_rdlock(model);
	if (role)
		node_role_why(model, nr_of(name, role), &b);
	else
		node_why(model, node(name), &b);
	model_unlock(model);
	return buf_detach(&b, NULL);
}

static inline char *dep_why(const char *name)
{
	struct buf b = {0};
	model_rdlock(model);
	deployment_why(model, dep(name), &b);
	model_unlock(model);
	return buf_detach(&b, NULL);
}

#define expect_has(expr, want)                                                                                                                       \
	do {                                                                                                                                         \
		char *got_ = (expr);                                                                                                                 \
		cr_expect(strstr(got_, want), "'%s' has no '%s'", got_, want);                                                                       \
		free(got_);                                                                                                                          \
	} while (0)

/* "base on d-n-1, web on d-n-2": what is to run, in order. */
static inline char *due_of(const char *name)
{
	struct buf b = {0};
	model_rdlock(model);
	struct deployment *d = dep(name);
	for (size_t i = 0; i < d->n_nodes; i++)
		for (size_t k = 0; k < d->nodes[i]->n_roles; k++)
			if (d->nodes[i]->roles[k]->due)
				buf_addf(&b, "%s%s on %s", b.len ? ", " : "", d->nodes[i]->roles[k]->row.role, d->nodes[i]->row.name);
	model_unlock(model);
	return buf_detach(&b, NULL);
}

#define expect_due(name, want)                                                                                                                       \
	do {                                                                                                                                         \
		char *got_ = due_of(name);                                                                                                           \
		cr_expect_str_eq(got_, want, "due in %s: '%s', not '%s'", name, got_, want);                                                         \
		free(got_);                                                                                                                          \
	} while (0)

static inline int64_t last_run(const char *name, const char *role)
{
	return locked(nr_of(name, role)->row.last_run);
}

static inline size_t n_runs(const char *name, const char *role)
{
	return locked(nr_of(name, role)->n_runs);
}

/* All runs of a deployment so far. */
static inline size_t runs_of(const char *name)
{
	size_t n = 0;
	model_rdlock(model);
	for (size_t i = 0; i < dep(name)->n_nodes; i++)
		for (size_t k = 0; k < dep(name)->nodes[i]->n_roles; k++)
			n += dep(name)->nodes[i]->roles[k]->n_runs;
	model_unlock(model);
	return n;
}

/* ---- events ---- */

static inline bool event_about(const struct event *ev, const char *name, const char *role)
{
	return ev && (!name || (ev->node && !strcmp(ev->node, name))) && (!role || (ev->role && !strcmp(ev->role, role)));
}

/* How many events of a node (NULL: any) and role (NULL: any) begin with these words. */
static inline size_t n_events(const char *name, const char *role, const char *text)
{
	size_t n = 0;
	model_rdlock(model);
	for (int64_t s = model->first_seq; s < model->next_seq; s++) {
		const struct event *ev = model_event(model, s);
		n += event_about(ev, name, role) && !strncmp(ev->text, text, strlen(text));
	}
	model_unlock(model);
	return n;
}

static inline bool is_run_end(const char *text)
{
	static const char *const ends[] = {"active after", "failed", "timed-out", "cancelled", "unreachable", "interrupted", "lost sight", NULL};
	for (const char *const *e = ends; *e; e++)
		if (!strncmp(text, *e, strlen(*e)))
			return true;
	return false;
}

/* The most runs of a role (NULL: any) that were ever under way at one time. */
static inline size_t most_at_once(const char *role)
{
	size_t now = 0, most = 0;
	model_rdlock(model);
	for (int64_t s = model->first_seq; s < model->next_seq; s++) {
		const struct event *ev = model_event(model, s);
		if (!ev->role || (role && strcmp(ev->role, role)))
			continue;
		if (!strcmp(ev->text, "running") && ++now > most)
			most = now;
		else if (is_run_end(ev->text) && now)
			now--;
	}
	model_unlock(model);
	return most;
}

/* The sequence number of the first (or last) such event; -1: none. */
static inline int64_t event_at(const char *name, const char *role, const char *text, bool last)
{
	int64_t at = -1;
	model_rdlock(model);
	for (int64_t s = model->first_seq; s < model->next_seq && (last || at < 0); s++) {
		const struct event *ev = model_event(model, s);
		if (event_about(ev, name, role) && !strncmp(ev->text, text, strlen(text)))
			at = s;
	}
	model_unlock(model);
	return at;
}

/* Machines that the fake provider made and did not destroy, by its own memory: one line a change. */
static inline size_t machines(const char *provider, size_t *ret_made)
{
	_cleanup_buf_ struct buf b = {0};
	_cleanup_free_ char *path = xasprintf("%s/providers/%s/machines", state_dir, provider);
	size_t made = 0, gone = 0;
	if (file_read(AT_FDCWD, path, 1 << 24, &b, NULL) < 0)
		return 0;
	for (const char *line = buf_str(&b); *line; line += strcspn(line, "\n") + 1) {
		made += *line == '+';
		gone += *line == '-';
	}
	if (ret_made)
		*ret_made = made;
	return made - gone;
}

#endif
