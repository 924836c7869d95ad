/* Machines: the way of a node from planned to ready and back, one provider call or contact at a time. */
#include "fs/base/secret.h"
#include "fs/engine/internal.h"
#include <errno.h>
#include <string.h>

#define CALL_TIMEOUT_MS (15 * 60 * 1000) /* an image may have to be built first */
#define ABANDON_MS (30 * 1000)           /* how long a cancelled call may take to end */
#define BOOT_TIMEOUT_MS (180 * 1000)
#define DECLARED_TIMEOUT_MS (45 * 1000)    /* a machine that is said to run answers soon or not at all */
#define REBOOT_TIMEOUT_MS (10 * 60 * 1000) /* a server tests its memory first */
#define NO_ANSWER "no answer within the provider's timeout, not even to being cancelled"
#define CREATE_ATTEMPTS 3
#define RETRY_FIRST_MS 2000
#define RETRY_MAX_MS (60 * 1000)

size_t provider_limit(const struct provider_object *p)
{
	if (p->def && p->def->max_parallel > 0)
		return (size_t)p->def->max_parallel;
	/* Simulated machines cost nothing; on a laptop 64 at once are more than it can carry anyway. */
	return p->ops && p->ops->simulate ? 4096 : 64;
}

/* ---- slots of a provider ---- */

static void slot_free(struct engine *e, struct provider_object *p)
{
	size_t woken = 0;
	while (woken < p->n_waiting) {
		int64_t id = p->waiting[woken++];
		struct node *n = model_node_id(&e->m, id);
		struct node_role *nr = model_node_role_id(&e->m, id); /* of both, when the node's number came with an adopted machine */
		if (id == p->waiting_check)
			p->waiting_check = 0;
		if (n) {
			n->waits_for_slot = false;
			queue_node(e, n);
		}
		if (nr) {
			nr->waits_for_slot = false;
			queue_node_role(e, nr);
		}
		if (n || (nr && nr->due))
			break;
	}
	if (woken) {
		memmove(p->waiting, p->waiting + woken, (p->n_waiting - woken) * sizeof *p->waiting);
		p->n_waiting -= woken;
	}
}

void provider_slot_freed(struct engine *e, struct provider_object *p)
{
	slot_free(e, p);
}

void provider_wait(struct provider_object *p, int64_t id, bool *waits)
{
	if (*waits)
		return;
	*waits = true;
	GROW(p->waiting, p->n_waiting, p->cap_waiting);
	p->waiting[p->n_waiting++] = id;
}

bool node_op_slot(struct provider_object *p, struct node *n)
{
	if (p->calls < provider_limit(p)) {
		p->calls++;
		n->waits_for = NULL;
		return true;
	}
	n->waits_for = "max-parallel: others go first";
	provider_wait(p, n->row.id, &n->waits_for_slot);
	return false;
}

/* ---- one operation ---- */

static char *op_string(struct node_op *op, const char *s)
{
	return s ? (op->strings[op->n_strings++] = xstrdup(s)) : NULL;
}

static void op_free(struct node_op *op)
{
	for (size_t i = 0; i < op->n_strings; i++)
		free(op->strings[i]);
	free(op->recipe);
	for (size_t i = 0; i < op->settings.n; i++) { /* secrets among them */
		wipe_free(op->settings.items[i].value);
		op->settings.items[i].value = NULL;
	}
	settings_release(&op->settings);
	free(op);
}

static void op_closed(uv_handle_t *h)
{
	op_free(h->data);
}

void node_op_end(struct node_op *op)
{
	if (op->has_deadline)
		uv_close((uv_handle_t *)&op->deadline, op_closed);
	else
		op_free(op);
}

/* The operation is over for its node; the lock is held. NULL when the node is gone meanwhile. */
struct node *node_op_over(struct node_op *op)
{
	struct node *n = model_node_id(&op->e->m, op->node_id);
	if (op->kind != OP_CONTACT && op->kind != OP_REBOOT && !op->abandoned) {
		op->provider->calls--;
		slot_free(op->e, op->provider);
		provider_look_at_room(op->e, op->provider);
	}
	if (!n || n->op != op)
		return NULL;
	n->op = NULL;
	str_replace(&n->progress, NULL);
	queue_node(op->e, n);
	touch_deployment(op->e, n->deployment);
	return n;
}

static struct node_op *op_make(struct engine *e, struct provider_object *p, enum op_kind kind, int64_t node_id, int64_t incarnation)
{
	struct node_op *op = xcalloc(1, sizeof *op);
	op->e = e;
	op->kind = kind;
	op->node_id = node_id;
	op->incarnation = incarnation;
	op->provider = p;
	op->call.data = op;
	op->contact.data = op;
	return op;
}

struct node_op *node_op_alone(struct engine *e, struct provider_object *p, enum op_kind kind, int64_t node_id, int64_t incarnation)
{
	p->calls++; /* a person asked, and waits for nobody's slot */
	return op_make(e, p, kind, node_id, incarnation);
}

struct node_op *node_op_new(struct engine *e, struct node *n, enum op_kind kind)
{
	struct node_op *op = op_make(e, n->provider, kind, n->row.id, n->row.incarnation);
	n->op = op;
	touch_deployment(e, n->deployment);
	return op;
}

static const char *const op_names[] = {"create", "destroy", "power", "reboot", "contact"};

/* The provider did not even answer to cancel: go on without it. Its done(), should it ever come, finds a node that is no longer its own. */
static void on_abandoned(uv_timer_t *t)
{
	struct node_op *op = t->data;
	engine_wrlock(op->e);
	struct node *n = node_op_over(op);
	op->abandoned = true;
	if (n)
		node_step_failed(op->e, n, op_names[op->kind], NO_ANSWER, false);
	else if (op->kind == OP_DESTROY)
		unknown_kept(op->e, op->provider, (uint64_t)op->node_id, (uint32_t)op->incarnation, NO_ANSWER);
	engine_wrunlock(op->e);
}

static void on_deadline(uv_timer_t *t)
{
	struct node_op *op = t->data;
	op->timed_out = true;
	uv_timer_start(&op->deadline, on_abandoned, ABANDON_MS, 0);
	op->provider->ops->cancel(op->provider->instance, &op->call);
}

void node_op_deadline(struct node_op *op)
{
	int64_t ms = op->provider->def && op->provider->def->timeout_ms > 0 ? op->provider->def->timeout_ms : CALL_TIMEOUT_MS;
	uv_timer_init(&op->e->loop, &op->deadline);
	op->deadline.data = op;
	op->has_deadline = true;
	uv_timer_start(&op->deadline, on_deadline, (uint64_t)ms, 0);
}

void node_op_progress(struct provider_call *call, const char *sentence)
{
	struct node_op *op = call->data;
	engine_wrlock(op->e);
	struct node *n = model_node_id(&op->e->m, op->node_id);
	if (n && n->op == op) {
		str_replace(&n->progress, sentence);
		touch_deployment(op->e, n->deployment);
	}
	engine_wrunlock(op->e);
}

void node_phase(struct engine *e, struct node *n, enum node_phase phase)
{
	n->row.phase = phase;
	n->row.since = now_ms();
	mark_node(e, n);
}

static void retry_due(struct engine *e, int64_t id)
{
	engine_wrlock(e);
	struct node *n = model_node_id(&e->m, id);
	int64_t left = n && n->retry_at ? n->retry_at - monotonic_ms() : -1;
	if (left > 0) {
		engine_after(e, left, retry_due, id);
	} else if (n && n->retry_at) {
		n->retry_at = 0;
		queue_node(e, n);
		touch_deployment(e, n->deployment);
	}
	engine_wrunlock(e);
}

void node_look_again(struct engine *e, struct node *n, int64_t ms)
{
	n->retry_at = monotonic_ms() + ms;
	engine_after(e, ms, retry_due, n->row.id);
}

static void retry_in(struct engine *e, struct node *n, int64_t ms)
{
	/* jitter of a quarter, so that a hundred nodes that failed together do not come back together */
	ms += rand_r(&e->seed) % (ms / 4 + 1);
	n->retry_at = monotonic_ms() + ms;
	engine_after(e, ms, retry_due, n->row.id);
}

/* A step failed: said, counted, and tried again unless it can never work. */
void node_step_failed(struct engine *e, struct node *n, const char *what, const char *why, bool for_good)
{
	_cleanup_free_ char *sentence = xasprintf("%s failed: %s", what, why);
	n->row.attempts = for_good ? CREATE_ATTEMPTS : n->row.attempts + 1;
	str_replace(&n->row.error, sentence);
	mark_node(e, n);
	event_add(e, NULL, n, NULL, NULL, "%s", sentence);
	if (n->row.attempts >= CREATE_ATTEMPTS)
		return;
	int64_t ms = RETRY_FIRST_MS << (n->row.attempts - 1);
	retry_in(e, n, ms > RETRY_MAX_MS ? RETRY_MAX_MS : ms);
}

void node_refused(struct engine *e, struct node *n, const char *why)
{
	_cleanup_free_ char *sentence = xasprintf("%s; to take it over, write 'adopt' to nodes/%s/ctl", why, n->row.name);
	if (!n->row.error || strcmp(n->row.error, sentence))
		event_add(e, NULL, n, NULL, NULL, "%s", sentence);
	str_replace(&n->row.error, sentence);
	n->row.attempts = CREATE_ATTEMPTS;
	n->contacted = n->unreachable = false;
	n->retry_at = 0;
	mark_node(e, n);
	queue_node(e, n);
}

const char *node_op_why(const struct node_op *op, const struct err *err)
{
	return op->timed_out ? "no answer within the provider's timeout" : err_msg(err);
}

/* ---- create ---- */

void machine_take(struct node *n, const struct machine *m)
{
	str_replace(&n->row.machine, m->ref);
	str_replace(&n->row.address, m->address);
	n->row.port = m->port ? m->port : 22;
	str_replace(&n->row.user, m->user ? m->user : "root");
	str_replace(&n->row.key, m->key);
	if (m->host_key)
		str_replace(&n->row.host_key, m->host_key);
	str_replace(&n->row.image, m->image);
	str_replace(&n->console, m->console);
	if (m->facts)
		str_replace(&n->row.facts, m->facts);
}

static void node_ready(struct engine *e, struct node *n)
{
	n->contacted = true;
	n->unreachable = n->off = n->gone = false;
	n->row.attempts = 0;
	str_replace(&n->row.error, NULL);
	if (n->row.phase != NODE_READY) {
		node_phase(e, n, NODE_READY);
		reboot_over(e, n);
		event_add(e, NULL, n, NULL, NULL, "ready at %s", n->row.address ? n->row.address : "no address");
	}
	mark_node(e, n);
	stale_facts(e, n);
	queue_node(e, n);
	if (n->row.incarnation > 1 || (n->group && n->group->max_down > 0))
		queue_limited(e, n);
}

static void create_done(struct provider_call *call, int rc, const struct err *err, const struct machine *machines, size_t count)
{
	struct node_op *op = call->data;
	struct engine *e = op->e;
	engine_wrlock(e);
	struct node *n = node_op_over(op);
	if (n && n->row.incarnation == op->incarnation) {
		if (rc < 0 || !count) {
			bool for_good = rc == -EINVAL || rc == -EPERM;
			if (rc == -ENOENT || rc == -EAGAIN)
				provider_image(n->provider, node_image(n))->phase = IMAGE_UNKNOWN;
			if (!op->cancelled)
				node_step_failed(e, n, "create", rc < 0 ? node_op_why(op, err) : "the provider returned no machine", for_good);
		} else {
			store_del_intent(engine_batch(e), op->intent);
			machine_take(n, machines);
			str_replace(&n->row.spec, op->made_from);
			str_replace(&n->row.recipe, op->recipe);
			n->row.created = now_ms();
			n->row.attempts = 0;
			str_replace(&n->row.error, NULL);
			str_replace(&n->row.approved, NULL);
			n->row.wish_rebuild = false;
			n->rebuilding = false;
			n->off = n->gone = n->unreachable = false;
			event_add(e, NULL, n, NULL, NULL, "created %s at %s", n->row.machine ? n->row.machine : "",
			        n->row.address ? n->row.address : "no address");
			node_phase(e, n, NODE_BOOTING);
			stale_nodes_input(e, n->deployment);
			for (size_t i = 0; i < n->n_roles; i++)
				n->roles[i]->stale = true;
			if (n->provider->ops->simulate)
				node_ready(e, n);
		}
	}
	engine_wrunlock(e);
	node_op_end(op);
}

static void create_submit(struct engine *e, void *arg)
{
	struct node_op *op = arg;
	node_op_deadline(op);
	op->provider->ops->create(op->provider->instance, &op->spec, &op->call);
}

static void create_start(struct engine *e, struct node *n)
{
	_cleanup_free_ char *why = NULL;
	if (!secrets_node_ready(e, n, &why)) {
		if (why)
			node_step_failed(e, n, "create", why, false);
		return;
	}
	if (!node_image_ready(e, n) || !node_op_slot(n->provider, n))
		return;
	if (n->row.phase == NODE_PLANNED) {
		n->row.incarnation++;
		node_phase(e, n, NODE_CREATING);
		event_add(e, NULL, n, NULL, NULL, "creating%s", n->row.incarnation > 1 ? " anew" : "");
	}
	struct node_op *op = node_op_new(e, n, OP_CREATE);
	op->intent = engine_new_id(e);
	struct row_intent intent = {op->intent, INTENT_CREATE, n->row.id, n->row.incarnation, now_ms()};
	store_put_intent(engine_batch(e), &intent);
	const struct def_node *def = n->declared ? node_definition(n) : NULL;
	if (def)
		settings_copy(&op->settings, &def->settings);
	secrets_node_fill(e, n, &op->settings);
	op->spec = (struct machine_spec){
	        .node_id = (uint64_t)n->row.id,
	        .incarnation = (uint32_t)n->row.incarnation,
	        .intent = op->intent,
	        .name = op_string(op, n->row.name),
	        .image = op_string(op, node_image(n)),
	        .cpus = n->group ? n->group->cpus : 0,
	        .memory_bytes = n->group ? n->group->memory_bytes : 0,
	        .node = &op->settings,
	};
	node_spec(n, op->made_from);
	op->recipe = node_recipe(n);
	op->call.done = create_done;
	op->call.progress = node_op_progress;
	mark_node(e, n);
	stale_nodes_input(e, n->deployment);
	effect_add(e, create_submit, op);
}

/* ---- contact ---- */

static void contact_done(struct contact *c, int rc, const struct err *err, const json_t *facts, const char *host_key)
{
	struct node_op *op = c->data;
	struct engine *e = op->e;
	engine_wrlock(e);
	struct node *n = node_op_over(op);
	if (n && n->row.incarnation == op->incarnation && !op->cancelled) {
		if (rc == 0) {
			char *text = json_dumps(facts, JSON_SORT_KEYS);
			str_replace(&n->row.facts, text);
			free(text);
			if (!n->row.host_key && host_key)
				str_replace(&n->row.host_key, host_key);
			if (n->unreachable)
				event_add(e, NULL, n, NULL, NULL, "answers again");
			if (op->contact.adopt) {
				n->row.wish_adopt = false;
				event_add(e, NULL, n, NULL, NULL, "adopted");
			}
			node_ready(e, n);
		} else {
			bool for_good = rc == -EKEYREJECTED || rc == -EACCES || rc == -EPERM;
			if (n->row.phase == NODE_READY && !n->unreachable && !for_good) {
				n->unreachable = true;
				n->row.attempts = 0;
			}
			if (for_good)
				n->unreachable = false; /* it answers, and says what is wrong */
			if (n->unreachable) {
				/* It was there once: asked again for as long as it takes, ever more slowly. */
				str_replace(&n->row.error, err_msg(err));
				n->row.attempts++;
				mark_node(e, n);
				int64_t ms = n->row.attempts > 5 ? RETRY_MAX_MS : RETRY_FIRST_MS << n->row.attempts;
				retry_in(e, n, ms > RETRY_MAX_MS ? RETRY_MAX_MS : ms);
			} else {
				/* One timeout is three minutes of trying: said as it is, not repeated in silence. */
				_cleanup_free_ char *cure = NULL;
				if (rc == -EKEYREJECTED)
					cure = xasprintf("%s; if that is right, write 'trust' to nodes/%s/ctl", err_msg(err), n->row.name);
				if (rc == -EPERM && !n->row.wish_adopt) /* else that was said while it was asked */
					node_refused(e, n, err_msg(err));
				else if (rc != -EPERM)
					node_step_failed(e, n, "contact", cure ? cure : err_msg(err), true);
			}
		}
	}
	engine_wrunlock(e);
	node_op_end(op);
}

static void contact_submit(struct engine *e, void *arg)
{
	struct node_op *op = arg;
	contact_start(&e->runner_host, &op->contact);
}

void node_target(const struct model *m, const struct node *n, struct target *t, char *(*keep)(void *arg, const char *s), void *arg)
{
	_cleanup_free_ char *key = node_key_path(m, n);
	*t = (struct target){
	        .node_id = (uint64_t)n->row.id,
	        .incarnation = (uint32_t)n->row.incarnation,
	        .name = keep(arg, n->row.name),
	        .address = keep(arg, n->row.address),
	        .port = n->row.port ? (int)n->row.port : 22,
	        .user = keep(arg, n->row.user ? n->row.user : "root"),
	        .key = keep(arg, key),
	        .host_key = keep(arg, n->row.host_key),
	};
}

static char *op_keep(void *arg, const char *s)
{
	return op_string(arg, s);
}

void node_op_target(struct node_op *op, const struct node *n)
{
	node_target(&op->e->m, n, &op->target, op_keep, op);
}

static void contact_begin(struct engine *e, struct node *n, int64_t timeout_ms)
{
	struct node_op *op = node_op_new(e, n, OP_CONTACT);
	n->facts_old = false;
	node_op_target(op, n);
	op->contact.target = &op->target;
	op->contact.timeout_ms = timeout_ms;
	op->contact.adopt = n->row.wish_adopt;
	op->contact.done = contact_done;
	if (n->row.phase == NODE_BOOTING) {
		_cleanup_free_ char *text = xasprintf("waiting for ssh at %s", n->row.address);
		str_replace(&n->progress, text);
	}
	effect_add(e, contact_submit, op);
}

/* ---- destroy ---- */

static void node_reset(struct engine *e, struct node *n)
{
	char **gone[] = {&n->row.machine, &n->row.address, &n->row.host_key, &n->row.image, &n->row.spec, &n->row.recipe, &n->row.facts,
	        &n->row.error, &n->row.user, &n->row.key, NULL};
	for (size_t i = 0; gone[i]; i++)
		str_replace(gone[i], NULL);
	n->row.attempts = 0;
	n->row.wish_adopt = false;
	n->contacted = n->unreachable = n->off = n->gone = false;
	node_phase(e, n, NODE_PLANNED);
}

/* The machine is no more. A declared node stays as a name, any other goes. */
static void node_released(struct engine *e, struct node *n, const char *how)
{
	struct deployment *d = n->deployment;
	event_add(e, NULL, n, NULL, NULL, "%s", how);
	stale_leaving(e, n);
	bool declared = e->m.desired && desired_node(e->m.desired, n->row.name);
	if (declared && !n->wanted) {
		while (n->n_roles)
			node_role_remove(e, n->roles[n->n_roles - 1]);
		node_attach(n, NULL);
		str_replace(&n->row.group, NULL);
		str_replace(&n->row.approved, NULL);
		n->group = NULL;
		n->row.wish_release = n->row.wish_forget = n->row.wish_rebuild = n->row.is_protected = false;
		node_reset(e, n);
	} else if (declared || n->wanted) {
		/* destroyed as told while it is still described: an empty place until 'apply' */
		for (size_t i = 0; i < n->n_roles; i++)
			n->roles[i]->stale = true;
		node_reset(e, n);
		n->row.wish_release = n->row.wish_forget = false;
	} else {
		node_delete(e, n);
	}
	if (d) {
		stale_nodes_input(e, d);
		touch_deployment(e, d);
		queue_deployment(e, d);
		if (!d->n_nodes && d->orphaned)
			deployment_remove(e, d);
	}
}

static void destroy_done(struct provider_call *call, int rc, const struct err *err, const struct machine *machines, size_t count)
{
	struct node_op *op = call->data;
	struct engine *e = op->e;
	engine_wrlock(e);
	struct node *n = node_op_over(op);
	if (n && n->row.incarnation == op->incarnation) {
		if (rc < 0 && rc != -ENOENT) {
			node_step_failed(e, n, "destroy", node_op_why(op, err), false);
		} else {
			store_del_intent(engine_batch(e), op->intent);
			if (n->rebuilding) {
				event_add(e, NULL, n, NULL, NULL, "destroyed, to be made anew");
				node_reset(e, n);
				n->rebuilding = true;
				stale_nodes_input(e, n->deployment);
			} else {
				node_released(e, n, n->provider->ops->declared_only ? "released" : "destroyed");
			}
		}
	}
	engine_wrunlock(e);
	node_op_end(op);
}

static void destroy_submit(struct engine *e, void *arg)
{
	struct node_op *op = arg;
	node_op_deadline(op);
	ssh_pool_drop(e->pool, (uint64_t)op->node_id);
	op->provider->ops->destroy(op->provider->instance, (uint64_t)op->node_id, (uint32_t)op->incarnation, &op->call);
}

static void destroy_start(struct engine *e, struct node *n, bool rebuild)
{
	if (n->running) {
		run_cancel(e, n->running, "rebarfs (the node is released)");
		return;
	}
	if (!node_op_slot(n->provider, n))
		return;
	n->rebuilding = rebuild;
	if (n->row.phase != NODE_RELEASING) {
		node_phase(e, n, NODE_RELEASING);
		str_replace(&n->row.error, NULL);
		n->row.attempts = 0;
		str_replace(&n->row.reboot, NULL);
		event_add(e, NULL, n, NULL, NULL, rebuild ? "rebuilding" : "releasing");
	}
	struct node_op *op = node_op_new(e, n, OP_DESTROY);
	op->intent = engine_new_id(e);
	struct row_intent intent = {op->intent, INTENT_DESTROY, n->row.id, n->row.incarnation, now_ms()};
	store_put_intent(engine_batch(e), &intent);
	op->call.done = destroy_done;
	op->call.progress = node_op_progress;
	for (size_t i = 0; i < n->n_roles; i++)
		count_node_role(e, n->roles[i]);
	stale_nodes_input(e, n->deployment);
	effect_add(e, destroy_submit, op);
}

void node_op_cancel(struct engine *e, struct node *n)
{
	/* Called with the lock held: the plug-in is told by an effect. */
	if (!n->op || n->op->cancelled || n->op->kind == OP_DESTROY)
		return;
	n->op->cancelled = true;
	n->cancel_op = true;
}

struct cancel {
	int64_t node_id;
	struct node_op *op;
};

static void cancel_submit(struct engine *e, void *arg)
{
	struct cancel *c = arg;
	engine_wrlock(e);
	struct node *n = model_node_id(&e->m, c->node_id);
	struct node_op *op = n && n->op == c->op ? c->op : NULL;
	engine_wrunlock(e);
	if (op && op->kind == OP_CONTACT)
		contact_cancel(&op->contact);
	else if (op && op->kind != OP_REBOOT) /* that ends within seconds */
		op->provider->ops->cancel(op->provider->instance, &op->call);
	free(c);
}

static void drop_effect(struct engine *e, void *arg)
{
	ssh_pool_drop(e->pool, (uint64_t)(uintptr_t)arg);
}

void ssh_pool_drop_later(struct engine *e, int64_t node_id)
{
	effect_add(e, drop_effect, (void *)(uintptr_t)node_id);
}

/* ---- the next step ---- */

static void releasing_step(struct engine *e, struct node *n)
{
	if (n->row.phase == NODE_PLANNED) {
		node_released(e, n, "no longer wanted");
		return;
	}
	if (n->row.wish_forget) {
		node_released(e, n, "forgotten: its machine, if there is one, was left as it is");
		return;
	}
	if (n->row.phase == NODE_READY && drop_release(e, n))
		return;
	destroy_start(e, n, false);
}

static bool has_given_up(const struct node *n)
{
	return n->row.error && n->row.attempts >= CREATE_ATTEMPTS && !n->unreachable;
}

static int64_t contact_timeout(const struct node *n)
{
	if (n->row.reboot && n->row.phase == NODE_BOOTING)
		return REBOOT_TIMEOUT_MS;
	return n->provider->ops->declared_only || n->row.phase == NODE_READY ? DECLARED_TIMEOUT_MS : BOOT_TIMEOUT_MS;
}

/* The key that lets us in may be a secret that has to be fetched. */
static void contact_step(struct engine *e, struct node *n)
{
	const char *why;
	if (secrets_key_ready(e, n, &why))
		contact_begin(e, n, contact_timeout(n));
	else if (why)
		node_step_failed(e, n, "contact", why, true);
}

/* What a person asked for is done to a node that is held, paused or about to be released, too; one without a machine is adopted when it has one. */
static bool adopt_step(struct engine *e, struct node *n)
{
	if ((n->row.phase != NODE_BOOTING && n->row.phase != NODE_READY) || n->off || n->gone || has_given_up(n))
		return false;
	if (!n->provider->ops->simulate) {
		contact_step(e, n);
		return true;
	}
	n->row.wish_adopt = false;
	mark_node(e, n);
	return false;
}

/* Facts are read again when all that was to run on the node has run: roles install packages, and a check is asked what is there. */
static bool facts_wanted(const struct node *n)
{
	if (!n->facts_old || n->running || n->checking || n->row.held)
		return false;
	for (size_t i = 0; i < n->n_roles; i++)
		if (n->roles[i]->due || n->roles[i]->wish_check)
			return false;
	return true;
}

void node_step(struct engine *e, struct node *n)
{
	struct deployment *d = n->deployment;
	bool leaving = !n->wanted || (d && d->row.destroying) || n->row.wish_forget;

	node_spec_refresh(e, n);
	n->unapproved = d && (!n->wanted || n->row.phase == NODE_PLANNED || node_needs_rebuild(n)) && !node_step_approved(n);
	if (n->unapproved && leaving && d->row.destroying)
		n->unapproved = false;

	if (n->op) {
		if ((leaving && node_step_approved(n) && n->op->kind != OP_DESTROY) || ((n->row.power || n->off) && n->op->kind == OP_CONTACT))
			node_op_cancel(e, n);
		if (n->cancel_op) {
			n->cancel_op = false;
			struct cancel *c = xmalloc(sizeof *c);
			*c = (struct cancel){n->row.id, n->op};
			effect_add(e, cancel_submit, c);
		}
		return;
	}
	if (d && d->elsewhere)
		return;
	if (!n->provider || !n->provider->instance) {
		if (leaving && n->row.wish_forget)
			node_released(e, n, "forgotten");
		else if (leaving && n->row.phase == NODE_PLANNED)
			node_released(e, n, "no longer wanted"); /* there is no machine to ask a provider for */
		return;
	}
	if (n->retry_at > monotonic_ms())
		return;
	n->retry_at = 0;
	if (n->row.wish_adopt && adopt_step(e, n))
		return;
	if (n->row.power && !leaving && !n->gone && (n->row.phase == NODE_READY || n->row.phase == NODE_BOOTING) && power_step(e, n))
		return; /* what a person asks for is done to one that is held, too */
	if (leaving) {
		if (n->row.phase == NODE_RELEASING && n->row.attempts >= CREATE_ATTEMPTS)
			return;
		if (!d && !n->row.wish_release && !n->row.wish_forget)
			return;
		if ((d && d->row.destroying) || node_step_approved(n))
			releasing_step(e, n);
		return;
	}
	if (n->row.held || deployment_frozen(&e->m, d))
		return;
	bool given_up = has_given_up(n);
	switch (n->row.phase) {
	case NODE_PLANNED:
		if (!given_up && !n->unapproved)
			create_start(e, n);
		return;
	case NODE_CREATING:
		if (!given_up)
			create_start(e, n);
		return;
	case NODE_RELEASING:
		if (!given_up)
			destroy_start(e, n, n->rebuilding);
		return;
	case NODE_BOOTING:
	case NODE_READY:
		if (node_needs_rebuild(n) && node_step_approved(n)) {
			if (!rebuild_must_wait(n)) {
				destroy_start(e, n, true);
				return;
			}
			n->waits_for = "its rebuild waits for other nodes of the group, which are being changed or broken";
			touch_deployment(e, d);
		} else {
			n->waits_for = NULL;
		}
		if (given_up || n->gone || power_step(e, n) || n->off || reboot_step(e, n))
			return;
		if (n->provider->ops->simulate && (!n->contacted || n->row.phase == NODE_BOOTING))
			node_ready(e, n);
		else if (n->provider->ops->simulate)
			return;
		else if (n->row.phase == NODE_BOOTING || !n->contacted || n->unreachable || facts_wanted(n))
			contact_step(e, n);
		return;
	}
}
