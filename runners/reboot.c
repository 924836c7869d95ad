/* Tells a node to reboot. */
#include "fs/base/mem.h"
#include "runners/node.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define REBOOT_MS 30000

struct teller {
	struct reboot *reboot;
	struct node_call call;
	struct buf text;
};

static void on_data(void *arg, const char *data, size_t len)
{
	struct teller *t = arg;
	if (t->text.len + len <= 4096)
		buf_add(&t->text, data, len);
}

static void on_done(void *arg, const struct ssh_result *res, bool begun)
{
	struct teller *t = arg;
	struct reboot *r = t->reboot;
	_cleanup_err_ struct err *err = NULL;
	_cleanup_free_ char *answer = xstrndup(buf_str(&t->text), strcspn(buf_str(&t->text), "\n"));
	_cleanup_free_ char *refusal = node_refusal(r->target->name, answer);
	int rc = 0;
	if (refusal)
		rc = err_set(&err, EPERM, "%s", refusal);
	else if (!strcmp(answer, "cannot"))
		rc = err_set(&err, ENOTSUP, "there is neither systemctl nor shutdown nor reboot on '%s'", r->target->name);
	else if (res->rc)
		rc = err_set(&err, -res->rc, "%s", err_msg(res->err));
	else if (strcmp(answer, "reboots") != 0)
		rc = err_set(&err, EIO, "'%s' did not take it: %s", r->target->name, *res->tail ? res->tail : "no answer");
	r->done(r, rc, err);
	buf_release(&t->text);
	free(t);
}

void reboot_start(const struct runner_host *host, struct reboot *r)
{
	struct teller *t = xcalloc(1, sizeof *t);
	_cleanup_free_ char *mounts = xasprintf("%" PRIu64, host->mounts);
	const char *args[] = {host->owner, mounts, "0", NULL};
	t->reboot = r;
	t->call.on_data = on_data;
	t->call.done = on_done;
	t->call.arg = t;
	node_call_start(
	        &t->call, host->pool, r->target, node_reboot, args, &(struct node_call_options){.connect_ms = REBOOT_MS, .timeout_ms = REBOOT_MS});
}
