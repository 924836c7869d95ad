/* Images: what a provider makes ready once, before the first machine is created from it. */
#include "fs/engine/internal.h"
#include <errno.h>
#include <string.h>

#define PREPARE_ATTEMPTS 3
#define PREPARE_AGAIN_MS 10000

struct prepare {
	struct engine *e;
	struct provider_object *p;
	struct image *image;
	int64_t wanted;
	struct provider_call call;
};

struct image *provider_image(struct provider_object *p, const char *name)
{
	for (struct image *i = p->images; i; i = i->next)
		if (!strcmp(i->name, name ? name : ""))
			return i;
	struct image *i = xcalloc(1, sizeof *i);
	i->name = xstrdup(name ? name : "");
	i->next = p->images;
	p->images = i;
	return i;
}

static void image_retry(struct engine *e, int64_t provider)
{
	engine_wrlock(e);
	struct provider_object *p = model_provider_id(&e->m, provider);
	for (struct image *i = p ? p->images : NULL; i; i = i->next)
		if (i->phase == IMAGE_FAILED && i->retry_at != INT64_MAX)
			i->phase = IMAGE_UNKNOWN;
	if (p)
		queue_provider_nodes(e, p);
	engine_wrunlock(e);
}

/* An event of each deployment that waits for an image, so that whoever waits for one of them sees it; nodes of one follow one another. */
static void tell_waiting(struct engine *e, const struct provider_object *p, const char *sentence)
{
	const struct deployment *told = NULL;
	for (struct node *n = e->m.nodes_by_name; n; n = n->hh_name.next)
		if (n->provider == p && n->row.phase == NODE_PLANNED && n->wanted && n->deployment && n->deployment != told) {
			told = n->deployment;
			event_add(e, told, NULL, NULL, NULL, "provider %s: %s", p->name, sentence);
		}
	if (!told)
		event_add(e, NULL, NULL, NULL, NULL, "provider %s: %s", p->name, sentence);
}

static void prepare_done(struct provider_call *call, int rc, const struct err *err, const struct machine *machines, size_t n)
{
	struct prepare *pr = call->data;
	struct engine *e = pr->e;
	engine_wrlock(e);
	str_replace(&pr->image->progress, NULL);
	str_replace(&pr->image->error, rc < 0 ? err_msg(err) : NULL);
	pr->image->phase = rc < 0 ? IMAGE_FAILED : IMAGE_READY;
	if (pr->image->outdated) {
		pr->image->phase = IMAGE_UNKNOWN;
		pr->image->attempts = 0;
	} else if (rc < 0) {
		pr->image->attempts++;
		tell_waiting(e, pr->p, err_msg(err));
		if (pr->image->attempts < PREPARE_ATTEMPTS && rc != -EINVAL && rc != -EPERM) {
			pr->image->retry_at = monotonic_ms() + PREPARE_AGAIN_MS;
			engine_after(e, PREPARE_AGAIN_MS, image_retry, pr->p->id);
		} else {
			pr->image->retry_at = INT64_MAX;
		}
	} else {
		pr->image->attempts = 0;
	}
	e->changed = true;
	queue_provider_nodes(e, pr->p);
	engine_wrunlock(e);
	free(pr);
}

static void prepare_progress(struct provider_call *call, const char *sentence)
{
	struct prepare *pr = call->data;
	struct engine *e = pr->e;
	engine_wrlock(e);
	bool news = !pr->image->progress || strcmp(pr->image->progress, sentence);
	str_replace(&pr->image->progress, sentence);
	for (struct node *n = e->m.nodes_by_name; n; n = n->hh_name.next)
		if (n->provider == pr->p && n->row.phase == NODE_PLANNED && n->wanted) {
			str_replace(&n->progress, sentence);
			touch_deployment(e, n->deployment);
		}
	if (news)
		tell_waiting(e, pr->p, sentence);
	engine_wrunlock(e);
}

static void prepare_start(struct engine *e, void *arg)
{
	struct prepare *pr = arg;
	pr->p->ops->prepare(pr->p->instance, *pr->image->name ? pr->image->name : NULL, pr->wanted, &pr->call);
}

static int64_t wanted_nodes(const struct engine *e, const struct provider_object *p)
{
	int64_t n = 0;
	for (const struct node *o = e->m.nodes_by_name; o; o = o->hh_name.next)
		n += o->provider == p && o->wanted;
	return n;
}

bool node_image_ready(struct engine *e, struct node *n)
{
	struct provider_object *p = n->provider;
	struct image *i = provider_image(p, node_image(n));
	if (i->phase == IMAGE_READY && (p->ops->simulate || wanted_nodes(e, p) <= i->prepared_for))
		return true;
	if (i->phase == IMAGE_FAILED) {
		if (!n->row.error || strcmp(n->row.error, i->error)) {
			str_replace(&n->row.error, i->error);
			str_replace(&n->progress, NULL);
			mark_node(e, n);
		}
		n->retry_at = i->retry_at == INT64_MAX ? 0 : i->retry_at; /* image_retry() queues all of them */
		return false;
	}
	if (n->row.error || n->retry_at) {
		str_replace(&n->row.error, NULL);
		n->retry_at = 0;
		mark_node(e, n);
	}
	n->waits_for = NULL;
	if (i->phase == IMAGE_PREPARING) {
		if (i->progress)
			str_replace(&n->progress, i->progress);
		return false;
	}
	struct prepare *pr = xcalloc(1, sizeof *pr);
	pr->e = e;
	pr->p = p;
	pr->image = i;
	pr->wanted = i->prepared_for = wanted_nodes(e, p);
	pr->call = (struct provider_call){.done = prepare_done, .progress = prepare_progress, .data = pr};
	i->phase = IMAGE_PREPARING;
	i->outdated = false;
	effect_add(e, prepare_start, pr);
	return false;
}

void images_free(struct provider_object *p)
{
	for (struct image *i = p->images, *next; i; i = next) {
		next = i->next;
		free(i->name);
		free(i->progress);
		free(i->error);
		free(i);
	}
	p->images = NULL;
}
