/* The provider of bare metal: a node is a machine with a BMC and a disk, declared in nodes/NAME/node.ini. It is switched on to boot from the network
 * into a ramdisk that writes the image to its disk, and then boots from that.
 *
 * What takes long is one script each (scripts.c), a child of the daemon. If the daemon ends in between, the next one begins the installation anew. */
#include "providers/metal/metal.h"

#include "fs/base/io.h"
#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "providers/host/host.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#define BUILD_MS (60 * 60 * 1000)
#define POWER_MS (5 * 60 * 1000)
#define STATUS_MS 50000
#define STATUS_AT_ONCE "16"
/* The statuses by which our scripts say that their last line is the sentence. */
#define SAID_AGAIN 3
#define SAID_NEVER 4
#define LINE_MAX_BYTES 300

const struct key_row metal_keys[] = {
        {"metal", "interface", VALUE_STRING, NULL, 0, 0, NULL,
                "the network interface of this host that the machines boot from; it must have an address", .fixed = true},
        {"metal", "gateway", VALUE_STRING, NULL, 0, 0, NULL, "the machines' default route; none unless it is given", .fixed = true},
        {"metal", "kernel", VALUE_STRING, "linux-image-amd64", 0, 0, NULL, "the package of the machines' kernel", .fixed = true},
        {"metal", "at-once", VALUE_INT, "8", 1, 1000, NULL, "how many machines may be installed at the same time"},
        {"metal", "max-power-ons", VALUE_INT, "8", 1, 1000, NULL, "how many machines may be switched on at the same time"},
        {"metal", "boot-timeout", VALUE_DURATION, "5m", 10000, 3600000, NULL, "how long a machine may take from power on to its ramdisk"},
        {"metal", "bmc-ca", VALUE_STRING, NULL, 0, 0, NULL,
                "a file of certificates, of the authorities to trust about BMCs; the system's unless it is given"},
        {"image *", "suite", VALUE_STRING, "bookworm", 0, 0, NULL, "Debian suite"},
        {"image *", "packages", VALUE_LIST, NULL, 0, 0, NULL, "what else it has"},
        {"image *", "script", VALUE_STRING, NULL, 0, 0, NULL, "a program run in the tree at the end of its making, with the tree as its argument",
                .file = true},
        {NULL},
};
const struct key_row metal_node_keys[] = {
        {"node", "mac", VALUE_STRING, NULL, 0, 0, NULL, "of the network card that it boots from", .plan = "network card"},
        {"node", "bmc", VALUE_STRING, NULL, 0, 0, NULL, "its BMC: ipmi://HOST[:PORT] or redfish://HOST[:PORT][/redfish/v1/Systems/NAME]"},
        {"node", "bmc-user", VALUE_STRING, NULL, 0, 0, NULL, "whom to log in there as"},
        {"node", "bmc-password", VALUE_STRING, NULL, 0, 0, NULL, "with which password: secret:NAME", .secret = true},
        {"node", "bmc-fingerprint", VALUE_STRING, NULL, 0, 0, NULL, "the SHA-256 of its BMC's certificate, for one that no authority vouches for"},
        {"node", "disk", VALUE_STRING, NULL, 0, 0, NULL,
                "the disk to write: its name, like 'sda', or serial number; may be left out where there is only one", .plan = "writes disk",
                .plan_unset = "writes the only disk"},
        {NULL},
};

const char *metal_get(const struct provider *p, const char *key)
{
	return settings_str(&p->settings, metal_keys, "metal", key);
}

/* ---- operations */

static void start_waiting(struct provider *p);

static struct metal_op *op_new(struct provider *p, struct provider_call *call, int kind)
{
	struct metal_op *op = xcalloc(1, sizeof *op);

	op->p = p;
	op->call = call;
	op->kind = kind;
	op->soon.data = op;
	call->priv = op;
	uv_timer_init(p->host->loop, &op->soon);
	DL_APPEND(p->ops, op);
	return op;
}

static void op_closed(uv_handle_t *handle)
{
	struct metal_op *op = handle->data;

	image_release(&op->image);
	buf_release(&op->last);
	err_free(op->err);
	free(op->disk);
	free(op);
}

static void op_end(struct metal_op *op, const struct machine *machines, size_t n)
{
	struct provider_call *call = op->call;
	struct provider *p = op->p;

	if (p)
		DL_DELETE(p->ops, op);
	if (op->node && op->node->op == op)
		op->node->op = NULL;
	uv_close((uv_handle_t *)&op->soon, op_closed);
	if (!call)
		return;
	call->priv = NULL;
	call->done(call, op->rc, op->rc < 0 ? op->err : NULL, op->rc < 0 ? NULL : machines, op->rc < 0 ? 0 : n);
	if (p)
		start_waiting(p);
}

static void on_soon(uv_timer_t *timer)
{
	struct metal_op *op = timer->data;

	op->ended(op);
}

static void op_soon(struct metal_op *op, void (*ended)(struct metal_op *op))
{
	op->ended = ended;
	uv_timer_start(&op->soon, on_soon, 0, 0);
}

static void end_empty(struct metal_op *op)
{
	op_end(op, NULL, 0);
}

static void child_line(void *arg, const char *line, size_t len)
{
	struct metal_op *op = arg;
	static const char word[] = "progress ";
	_cleanup_free_ char *text = xstrndup(line, len > LINE_MAX_BYTES ? LINE_MAX_BYTES : len);
	const char *progress = NULL;
	_cleanup_buf_ struct buf b = {0};

	str_make_line(text);
	if (op->kind == METAL_PREPARE && (progress = image_progress(text)))
		buf_addf(&b, "building image %s: %s", op->image.name, progress);
	else if (!strncmp(text, word, strlen(word)))
		buf_adds(&b, text + strlen(word));
	if (b.len && op->call && op->call->progress)
		op->call->progress(op->call, buf_str(&b));
	/* a status, or what explains a failure: its first line that is an error */
	if (!b.len && len && strncmp(buf_str(&op->last), "E: ", 3)) {
		if (op->kind != METAL_LIST)
			buf_reset(&op->last);
		buf_addf(&op->last, op->kind == METAL_LIST ? "%s\n" : "%s", text);
	}
}

static void child_ended(void *arg, const struct child_result *res)
{
	struct metal_op *op = arg;
	struct child_result told = *res;
	_cleanup_buf_ struct buf b = {0};
	const char *line = res->tail ? res->tail : "", *at;

	op->child = NULL;
	while ((at = strchr(line, '\n')) && at[1])
		line = at + 1;
	if (res->cancelled || op->cancelled) {
		op->rc = err_set(&op->err, ECANCELED, "cancelled");
	} else if (res->status == SAID_AGAIN || res->status == SAID_NEVER) {
		_cleanup_free_ char *text = xstrndup(line, strcspn(line, "\n"));
		str_make_line(text);
		op->rc = err_set(&op->err, res->status == SAID_NEVER ? EINVAL : EAGAIN, "%s", text);
	} else if (res->status != 0) {
		if (op->kind == METAL_PREPARE && op->last.len)
			told.tail = buf_str(&op->last);
		child_explain(&b, op->kind == METAL_PREPARE ? "making its image" : "sh", &told);
		op->rc = err_set(&op->err, EAGAIN, "%s", buf_str(&b));
	}
	op->ended(op);
}

static void op_child(struct metal_op *op, const struct child_spec *spec, void (*ended)(struct metal_op *op))
{
	struct child_spec copy = *spec;

	copy.on_line = child_line;
	copy.done = child_ended;
	copy.arg = op;
	buf_reset(&op->last);
	op->ended = ended;
	op->rc = child_start(op->p->host->loop, &copy, &op->child, &op->err);
	if (op->rc < 0)
		op_soon(op, ended);
}

/* What the script needs to know about how BMCs are asked. Our own program is found even if another was installed in its place. */
static void control_env(const struct provider *p, struct strlist *env)
{
	const char *ca = metal_get(p, "bmc-ca");

	strlist_add_take(env, xasprintf("LOCKS=%s/locks", p->host->state_dir));
	strlist_add_take(env, xasprintf("REBARFS=/proc/%d/exe", (int)getpid()));
	if (ca && *ca)
		strlist_add_take(env, *ca == '/' ? xasprintf("BMC_CA=%s", ca) : xasprintf("BMC_CA=%s/%s", p->base_dir, ca));
}

/* Runs the script for a verb on the operation's node. */
static void control(struct metal_op *op, const char *verb, void (*ended)(struct metal_op *op))
{
	const struct provider *p = op->p;
	const struct metal_node *n = op->node;
	bool install = !strcmp(verb, "install");
	const char *argv[] = {"setpriv", "--pdeathsig", "TERM", "sh", "-c", metal_control, "metal", verb, n->dir, NULL};
	_cleanup_strlist_ struct strlist env = {0};

	control_env(p, &env);
	strlist_add_take(&env, xasprintf("SAID=%s/said/%s", p->host->state_dir, n->token));
	strlist_add_take(&env, xasprintf("HTTP=%s/http/%s", p->host->state_dir, n->token));
	strlist_add_take(&env, xasprintf("POWER_ONS=%" PRId64, settings_int(&p->settings, metal_keys, "metal", "max-power-ons")));
	strlist_add_take(&env, xasprintf("BOOT=%" PRId64, settings_int(&p->settings, metal_keys, "metal", "boot-timeout") / 1000));
	struct child_spec spec = {.argv = argv, .env = (const char *const *)env.items, .timeout_ms = install ? 0 : POWER_MS};

	op_child(op, &spec, ended);
}

/* ---- prepare */

static void build_step(struct metal_op *op)
{
	_cleanup_strlist_ struct strlist argv = {0}, env = {0};
	_cleanup_buf_ struct buf input = {0};

	bool tree = image_ready(&op->image), disk = metal_disk_ready(op->disk);
	if (op->rc < 0)
		err_wrap(&op->err, "cannot build image '%s'", op->image.name);
	else if (!disk && op->built >= 2)
		op->rc = err_set(&op->err, EAGAIN, "image '%s' was built, but '%s' is not there", op->image.name, op->disk);
	if (op->rc < 0 || disk) {
		op_end(op, NULL, 0);
		return;
	}
	op->built++;
	_cleanup_free_ char *dir = xstrdup(tree ? op->disk : op->image.tree);
	*strrchr(dir, '/') = '\0';
	op->rc = dir_make_all(dir, 0755, &op->err);
	if (op->rc < 0) {
		op_soon(op, end_empty);
		return;
	}
	if (tree)
		metal_disk_command(op->p, &op->image, op->disk, &argv, &env);
	else
		image_command(&op->image, NULL, &argv, &env, &input);
	struct child_spec spec = {.argv = (const char *const *)argv.items,
	        .env = (const char *const *)env.items,
	        .input = input.len ? input.data : NULL,
	        .input_len = input.len,
	        .timeout_ms = BUILD_MS};
	op_child(op, &spec, build_step);
}

static int preflight(struct err **err)
{
	static const struct {
		const char *program, *package;
	} rows[] = {{"ipmitool", "ipmitool"}, {"dnsmasq", "dnsmasq-base"}, {"busybox", "busybox"}, {"mmdebstrap", "mmdebstrap"},
	        {"mke2fs", "e2fsprogs"}, {"qemu-img", "qemu-utils"}, {"setpriv", "util-linux"}, {"tar", "tar"}};
	_cleanup_buf_ struct buf out = {0};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		preflight_program(rows[i].program, rows[i].package, &out);
	if (geteuid() != 0)
		preflight_add(&out, "answering machines that boot from the network needs root: mount with sudo");
	return out.len ? err_set(err, EAGAIN, "%s", buf_str(&out)) : 0;
}

static int look_up_image(struct metal_op *op, const char *image)
{
	struct provider *p = op->p;
	int rc = image_resolve(&p->settings, image ? image : "debian-12", p->host->cache_dir, p->base_dir, &op->image, &op->err);

	if (rc == 0)
		op->disk = metal_disk(p, &op->image);
	return rc;
}

static void metal_prepare(struct provider *p, const char *image, int64_t wanted_nodes, struct provider_call *call)
{
	struct metal_op *op = op_new(p, call, METAL_PREPARE);

	op->rc = preflight(&op->err);
	if (op->rc == 0)
		op->rc = look_up_image(op, image);
	op_soon(op, op->rc < 0 ? end_empty : build_step);
}

/* ---- create */

static void forget_files(const struct provider *p, struct metal_node *n)
{
	_cleanup_free_ char *dir = xasprintf("%s/http/%s", p->host->state_dir, n->token),
	                    *said = xasprintf("%s/said/%s", p->host->state_dir, n->token), *root = path_join(n->dir, "root");

	if (*n->token) {
		tree_remove(dir, NULL);
		unlink(said);
	}
	tree_remove(root, NULL);
	*n->token = '\0';
}

static void create_ended(struct metal_op *op)
{
	struct provider *p = op->p;
	struct metal_node *n = op->node;
	struct machine m;

	if (!p) {
		op_end(op, NULL, 0);
		return;
	}
	forget_files(p, n);
	boot_serve(p, NULL); /* it is served no more; if that cannot be written, what it would fetch is gone all the same */
	if (op->rc == 0) {
		n->installed = n->running = true;
		op->rc = record_write(p, n, &op->err);
	}
	record_machine(n, &m);
	op_end(op, &m, 1);
}

static void install(struct metal_op *op)
{
	struct provider *p = op->p;

	op->waits = false;
	op->rc = boot_up(p, &op->err);
	op->rc = op->rc < 0 ? op->rc : boot_prepare(p, op->node, op->disk, &op->err);
	op->rc = op->rc < 0 ? op->rc : boot_serve(p, &op->err);
	op->rc = op->rc < 0 ? op->rc : record_write(p, op->node, &op->err);
	if (op->rc < 0)
		op_soon(op, create_ended);
	else
		control(op, "install", create_ended);
}

static void start_waiting(struct provider *p)
{
	struct metal_op *op, *next;
	int64_t room = settings_int(&p->settings, metal_keys, "metal", "at-once");

	DL_FOREACH(p->ops, op)
	room -= op->kind == METAL_CREATE && !op->waits;
	DL_FOREACH_SAFE(p->ops, op, next)
	{
		if (!op->waits || room <= 0)
			continue;
		room--;
		install(op);
	}
}

static void begin_install(struct metal_op *op)
{
	op->waits = true;
	start_waiting(op->p);
	if (op->waits && op->call && op->call->progress)
		op->call->progress(op->call, "waiting until fewer machines are being installed");
}

static void create_known(struct metal_op *op)
{
	struct machine m;

	record_machine(op->node, &m);
	op_end(op, &m, 1);
}

static int busy(struct metal_op *op)
{
	return op->node->op ? err_set(&op->err, EAGAIN, "another operation on '%s' is still under way", op->node->name) : 0;
}

static void metal_create(struct provider *p, const struct machine_spec *spec, struct provider_call *call)
{
	struct metal_op *op = op_new(p, call, METAL_CREATE);
	struct metal_node *n;

	HASH_FIND(hh, p->nodes, &spec->node_id, sizeof spec->node_id, n);
	if (n && n->installed && n->incarnation == spec->incarnation) {
		op->node = n;
		op_soon(op, create_known);
		return;
	}
	op->node = n ? n : record_new(p, spec->node_id);
	op->rc = busy(op);
	if (op->rc < 0) {
		op_soon(op, end_empty);
		return;
	}
	op->node->op = op;
	op->rc = record_declare(p, spec, op->node, &op->err);
	op->rc = op->rc < 0 ? op->rc : look_up_image(op, spec->image);
	if (op->rc == 0 && !metal_disk_ready(op->disk))
		op->rc = err_set(&op->err, EAGAIN, "image '%s' is not built", op->image.name);
	if (op->rc < 0) {
		if (!n) {
			tree_remove(op->node->dir, NULL);
			record_free(p, op->node);
			op->node = NULL;
		}
		op_soon(op, end_empty);
		return;
	}
	if (!op->node->image)
		op->node->image = xstrdup(op->image.name);
	op_soon(op, begin_install);
}

/* ---- destroy, power, list */

static void destroy_ended(struct metal_op *op)
{
	struct metal_node *n = op->node;

	if (op->p && op->rc == 0) {
		op->node = NULL;
		op->rc = record_remove(op->p, n, &op->err);
		if (op->rc < 0)
			n->op = NULL;
	}
	op_end(op, NULL, 0);
}

static struct metal_op *on_node(struct provider *p, uint64_t node_id, uint32_t incarnation, struct provider_call *call, int kind)
{
	struct metal_op *op = op_new(p, call, kind);

	HASH_FIND(hh, p->nodes, &node_id, sizeof node_id, op->node);
	if (op->node && op->node->incarnation != incarnation)
		op->node = NULL;
	op->rc = op->node ? busy(op) : 0;
	if (op->rc < 0)
		op->node = NULL;
	if (op->node)
		op->node->op = op;
	return op;
}

static void metal_destroy(struct provider *p, uint64_t node_id, uint32_t incarnation, struct provider_call *call)
{
	struct metal_op *op = on_node(p, node_id, incarnation, call, METAL_DESTROY);

	if (op->node)
		control(op, "off", destroy_ended);
	else
		op_soon(op, end_empty);
}

static void power_ended(struct metal_op *op)
{
	if (op->rc == 0)
		op->node->running = op->power_on;
	op_end(op, NULL, 0);
}

static void metal_power(struct provider *p, uint64_t node_id, uint32_t incarnation, enum power power, struct provider_call *call)
{
	static const char *const verbs[] = {[POWER_ON] = "on", [POWER_OFF] = "off", [POWER_CYCLE] = "cycle", [POWER_RESET] = "reset"};
	struct metal_op *op = on_node(p, node_id, incarnation, call, METAL_POWER);

	op->power_on = power != POWER_OFF;
	if (op->node) {
		control(op, verbs[power], power_ended);
		return;
	}
	if (op->rc == 0)
		op->rc = err_set(&op->err, ENOENT, "there is no such machine");
	op_soon(op, end_empty);
}

/* Lines like "17 on"; a BMC that does not answer says nothing, and what was known stays. */
static void take_status(struct provider *p, const char *text)
{
	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		char *end;
		uint64_t id = strtoull(line, &end, 10);
		struct metal_node *n;
		HASH_FIND(hh, p->nodes, &id, sizeof id, n);
		if (n && n->installed)
			n->running = !strncmp(end, " on", 3);
	}
}

static void list_ended(struct metal_op *op)
{
	struct provider *p = op->p;
	_cleanup_free_ struct machine *machines = NULL;
	size_t n = 0;

	if (p) {
		take_status(p, buf_str(&op->last));
		machines = xcalloc(HASH_COUNT(p->nodes) + 1, sizeof *machines);
		for (const struct metal_node *m = p->nodes; m; m = m->hh.next)
			if (m->installed)
				record_machine(m, &machines[n++]);
		if (op->rc < 0 && !op->cancelled) { /* those that were asked in time count */
			op->rc = 0;
			err_freep(&op->err);
		}
	}
	op_end(op, machines, n);
}

static void metal_list(struct provider *p, struct provider_call *call)
{
	static const char ask_all[] =
	        "xargs -r -n 1 -P " STATUS_AT_ONCE " sh -c 's=$(sh -c \"$CONTROL\" metal status \"$1\" 2>/dev/null) && echo \"${1##*/} $s\"; :' -";
	struct metal_op *op = op_new(p, call, METAL_LIST);
	_cleanup_strlist_ struct strlist env = {0};
	_cleanup_buf_ struct buf input = {0};
	const char *argv[] = {"sh", "-c", ask_all, NULL};

	control_env(p, &env);
	strlist_add_take(&env, xasprintf("CONTROL=%s", metal_control));
	for (const struct metal_node *n = p->nodes; n; n = n->hh.next)
		if (n->installed && !n->op)
			buf_addf(&input, "'%s'\n", n->dir);
	struct child_spec spec = {
	        .argv = argv, .env = (const char *const *)env.items, .input = buf_str(&input), .input_len = input.len, .timeout_ms = STATUS_MS};
	if (input.len)
		op_child(op, &spec, list_ended);
	else
		op_soon(op, list_ended);
}

static void metal_cancel(struct provider *p, struct provider_call *call)
{
	struct metal_op *op = call->priv;

	if (!op || op->cancelled)
		return;
	op->cancelled = true;
	if (op->child) {
		child_cancel(op->child, 0);
	} else if (op->waits) {
		op->waits = false;
		op->rc = err_set(&op->err, ECANCELED, "cancelled");
		op_soon(op, end_empty);
	}
}

static void metal_capacity(struct provider *p, struct buf *out)
{
	unsigned installing = 0;

	for (const struct metal_node *n = p->nodes; n; n = n->hh.next)
		installing += *n->token != '\0';
	buf_addf(out, "%u machines, %u of them being installed", HASH_COUNT(p->nodes), installing);
}

/* ---- open and close */

static int metal_open(const struct provider_host *host, const struct settings *settings, struct provider **ret, struct err **err)
{
	struct provider *p = xcalloc(1, sizeof *p);

	p->host = host;
	p->base_dir = xasprintf("%s/providers/%s", host->repo, host->name);
	settings_copy(&p->settings, settings);
	records_read(p);
	*ret = p;
	return 0;
}

static int metal_reload(struct provider *p, const struct settings *settings, struct err **err)
{
	settings_release(&p->settings);
	p->settings = (struct settings){0};
	settings_copy(&p->settings, settings);
	return 0;
}

/* Scripts under way end with their operations, which are freed when they do. */
static void metal_close(struct provider *p)
{
	struct metal_op *op, *next_op;
	struct metal_node *n, *next;

	DL_FOREACH_SAFE(p->ops, op, next_op)
	{
		DL_DELETE(p->ops, op);
		op->p = NULL;
		op->call = NULL;
		op->node = NULL;
		op->waits = false;
		op->ended = end_empty;
		if (op->child)
			child_cancel(op->child, 0);
		else
			op_soon(op, end_empty);
	}
	HASH_ITER (hh, p->nodes, n, next) {
		if (*n->token)
			forget_files(p, n);
		record_free(p, n);
	}
	boot_close(p);
	settings_release(&p->settings);
	free(p->base_dir);
	free(p);
}

extern const struct provider_ops provider_metal; /* declared again in providers/table.c */
const struct provider_ops provider_metal = {
        .api = PROVIDER_API,
        .type = "metal",
        .help = "physical machines with a BMC, declared in nodes/NAME/node.ini: booted from the network and installed",
        .apply_manual = true,
        .default_image = "debian-12",
        .keys = metal_keys,
        .node_keys = metal_node_keys,
        .open = metal_open,
        .reload = metal_reload,
        .close = metal_close,
        .prepare = metal_prepare,
        .create = metal_create,
        .destroy = metal_destroy,
        .power = metal_power,
        .list = metal_list,
        .cancel = metal_cancel,
        .capacity = metal_capacity,
};
