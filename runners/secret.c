/* Reads a secret output where it was made. */
#include "fs/base/mem.h"
#include "runners/node.h"
#include <inttypes.h>
#include <string.h>

#define READ_MS 30000

struct reader {
	struct secret_read *read;
	struct node_call call;
	struct buf text;
};

static void on_data(void *arg, const char *data, size_t len)
{
	struct reader *r = arg;
	if (r->text.len + len <= OUTPUT_MAX + 16)
		buf_add(&r->text, data, len);
}

static void on_done(void *arg, const struct ssh_result *res, bool begun)
{
	static const char have[] = "have\n";
	struct reader *r = arg;
	const char *text = buf_str(&r->text);
	_cleanup_free_ char *refusal = node_refusal(r->read->target->name, text);
	if (res->rc)
		r->read->done(r->read, err_msg(res->err), NULL, 0);
	else if (refusal)
		r->read->done(r->read, refusal, NULL, 0);
	else if (strncmp(text, have, strlen(have)))
		r->read->done(r->read, "it is not there any more", NULL, 0);
	else
		r->read->done(r->read, NULL, text + strlen(have), r->text.len - strlen(have));
	buf_release(&r->text);
	free(r);
}

void secret_read_start(const struct runner_host *host, struct secret_read *read)
{
	struct reader *r = xcalloc(1, sizeof *r);
	_cleanup_free_ char *mounts = xasprintf("%" PRIu64, host->mounts);
	const char *args[] = {host->owner, mounts, "0", read->role, read->key, NULL};
	r->read = read;
	r->text.secret = true;
	r->call.on_data = on_data;
	r->call.done = on_done;
	r->call.arg = r;
	node_call_start(
	        &r->call, host->pool, read->target, node_secret, args, &(struct node_call_options){.connect_ms = READ_MS, .timeout_ms = READ_MS});
}
