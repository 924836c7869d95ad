/* A role without content: it succeeds at once. Also the smallest runner there can be. */
#include "runners/none.h"
#include "fs/base/mem.h"
#include <utlist.h>

struct none_run {
	struct run_item *item;
	bool cancelled;
	struct none_run *prev, *next;
};
struct runner {
	struct none_run *runs;
	uv_timer_t *soon; /* done never comes from inside run() */
};

static void on_soon(uv_timer_t *timer)
{
	struct runner *r = timer->data;
	struct none_run *last = r->runs ? r->runs->prev : NULL, *run;
	while (last && (run = r->runs)) {
		struct run_done done = {.result = run->cancelled ? RUN_CANCELLED : RUN_OK, .why = run->cancelled ? "cancelled" : NULL};
		struct run_item *item = run->item;
		bool more = run != last;
		DL_DELETE(r->runs, run);
		free(run);
		item->priv = NULL;
		if (item->started && !item->attach_only)
			item->started(item);
		item->done(item, &done);
		if (!more)
			break;
	}
	if (r->runs)
		uv_timer_start(r->soon, on_soon, 0, 0);
}

static void none_run(struct runner *r, struct run_item *const *items, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct none_run *run = xcalloc(1, sizeof *run);
		run->item = items[i];
		items[i]->priv = run;
		DL_APPEND(r->runs, run);
	}
	if (!uv_is_active((uv_handle_t *)r->soon))
		uv_timer_start(r->soon, on_soon, 0, 0);
}

static void none_cancel(struct runner *r, struct run_item *item)
{
	struct none_run *run = item->priv;
	if (run)
		run->cancelled = true;
}

static int none_check(const char *content_dir, const struct settings *settings, struct err **err)
{
	return 0;
}

static int none_open(const struct runner_host *host, struct runner **ret, struct err **err)
{
	struct runner *r = xcalloc(1, sizeof *r);
	r->soon = xcalloc(1, sizeof *r->soon);
	uv_timer_init(host->loop, r->soon);
	r->soon->data = r;
	*ret = r;
	return 0;
}

static void free_handle(uv_handle_t *handle)
{
	free(handle);
}

static void none_close(struct runner *r)
{
	struct none_run *run, *next;
	DL_FOREACH_SAFE(r->runs, run, next)
	{
		run->item->priv = NULL;
		free(run);
	}
	uv_close((uv_handle_t *)r->soon, free_handle);
	free(r);
}

const struct runner_ops none_runner = {
        .api = RUNNER_API,
        .name = "none",
        .help = "runs nothing: a role that only orders others",
        .keeps_secrets = true,
        .batch_max = 1,
        .check = none_check,
        .open = none_open,
        .close = none_close,
        .run = none_run,
        .cancel = none_cancel,
};
