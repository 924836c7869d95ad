/* Machines from a program: whatever the program says. One process for each call, JSON on its standard input, JSON lines on its standard output; the
 * protocol is written down for authors in contrib/providers/README.md.
 *
 * The program keeps nothing for us and we keep nothing for it: the tag (owner, node id, incarnation) is its to put on what it makes and to read again
 * in `list`, so that a killed daemon loses nothing. */
#include "fs/base/child.h"
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "fs/base/secret.h"
#include "providers/provider.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <utlist.h>

#define PROTOCOL 1
#define KILL_AFTER_MS (3600 * 1000) /* the engine's own deadline comes first; this one ends what it gave up */
#define LIST_MS 60000               /* it is asked again all the time */

static const struct key_row keys[] = {
        {"exec", "program", VALUE_STRING, NULL, 0, 0, NULL, "the program to ask: a path, absolute or from the provider's directory"},
        {"exec", "prepare-timeout", VALUE_DURATION, "30m", 1000, 86400000, NULL, "how long 'prepare' may take, where an image is built for instance"},
        {"settings", "*", VALUE_STRING, NULL, 0, 0, NULL, "handed to the program as they are, and secret:NAME as what it stands for", .secret = true},
        {NULL},
};

struct provider {
	const struct provider_host *host;
	struct settings settings;
	struct exec_call *calls;
};

struct exec_call {
	struct provider *p; /* NULL: closed, nobody waits for it */
	struct provider_call *call;
	struct exec_call *prev, *next;
	struct child *child;
	const char *verb;
	char *program;
	json_t *answer; /* the last line that was no progress */
	struct err *err;
	int rc;
	uv_timer_t soon; /* ends a call whose program could not be started: never from inside the call */
};

/* ---- the end ---- */

static void on_closed(uv_handle_t *handle)
{
	struct exec_call *c = handle->data;
	json_decref(c->answer);
	err_free(c->err);
	free(c->program);
	free(c);
}

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s && *s ? s : NULL;
}

static int machine_from(const json_t *o, struct machine *m, const char **ret_lacks)
{
	const json_t *running = json_object_get(o, "running");
	json_int_t port = json_integer_value(json_object_get(o, "port"));
	*m = (struct machine){.node_id = (uint64_t)json_integer_value(json_object_get(o, "node_id")),
	        .incarnation = (uint32_t)json_integer_value(json_object_get(o, "incarnation")),
	        .ref = text_of(o, "ref"),
	        .address = text_of(o, "address"),
	        .port = (int)port,
	        .user = text_of(o, "user"),
	        .key = text_of(o, "key"),
	        .host_key = text_of(o, "host_key"),
	        .image = text_of(o, "image"),
	        .running = !running || json_is_true(running)};
	*ret_lacks = !json_is_object(o)         ? "a machine is no object"
	             : !m->node_id              ? "a machine without 'node_id'"
	             : !m->incarnation          ? "a machine without 'incarnation'"
	             : port < 0 || port > 65535 ? "a machine whose 'port' is none"
	                                        : NULL;
	return *ret_lacks ? -EPROTO : 0;
}

static int rc_of(const char *code)
{
	static const struct {
		const char *name;
		int rc;
	} codes[] = {{"again", -EAGAIN}, {"gone", -ENOENT}, {"foreign", -EPERM}, {"invalid", -EINVAL}};
	for (size_t i = 0; code && i < sizeof codes / sizeof *codes; i++)
		if (!strcmp(codes[i].name, code))
			return codes[i].rc;
	return -EIO;
}

/* What the program said as the call's result. */
static int understand(struct exec_call *c, struct machine **ret, size_t *ret_n)
{
	const char *error = text_of(c->answer, "error"), *lacks;
	if (error)
		return err_set(&c->err, -rc_of(text_of(c->answer, "code")), "%s", error);
	const json_t *list = json_object_get(c->answer, "machines");
	bool one = !strcmp(c->verb, "create");
	if ((one || !strcmp(c->verb, "list")) && !json_is_array(list))
		return err_set(&c->err, EPROTO, "'%s %s' answered without 'machines'", c->program, c->verb);
	*ret = xcalloc(json_array_size(list) + 1, sizeof **ret);
	for (size_t i = 0; i < json_array_size(list); i++, ++*ret_n)
		if (machine_from(json_array_get(list, i), &(*ret)[i], &lacks))
			return err_set(&c->err, EPROTO, "'%s %s' answered with %s", c->program, c->verb, lacks);
	if (one && *ret_n != 1)
		return err_set(&c->err, EPROTO, "'%s create' answered with %zu machines instead of one", c->program, *ret_n);
	if (one && !(*ret)->address)
		return err_set(&c->err, EPROTO, "'%s create' answered before the machine has an address", c->program);
	return 0;
}

static void call_end(struct exec_call *c)
{
	_cleanup_free_ struct machine *machines = NULL;
	size_t n = 0;
	if (!c->rc)
		c->rc = understand(c, &machines, &n);
	if (c->p) {
		DL_DELETE(c->p->calls, c);
		c->call->priv = NULL;
		c->call->done(c->call, c->rc, c->rc ? c->err : NULL, c->rc ? NULL : machines, c->rc ? 0 : n);
	}
	uv_close((uv_handle_t *)&c->soon, on_closed);
}

static void on_soon(uv_timer_t *timer)
{
	call_end(timer->data);
}

/* ---- the program ---- */

static void on_line(void *arg, const char *line, size_t len)
{
	struct exec_call *c = arg;
	if (!len)
		return;
	json_error_t where;
	json_t *o = json_loadb(line, len, JSON_REJECT_DUPLICATES, &where);
	if (!json_is_object(o)) {
		json_decref(o);
		if (!c->rc)
			c->rc = err_set(&c->err, EPROTO, "'%s %s' printed a line that is no JSON object: '%.*s'", c->program, c->verb,
			        (int)(len > 80 ? 80 : len), line);
		return;
	}
	const char *progress = text_of(o, "progress");
	if (progress && c->p && c->call->progress)
		c->call->progress(c->call, progress);
	if (progress) {
		json_decref(o);
		return;
	}
	json_decref(c->answer);
	c->answer = o;
}

static void on_done(void *arg, const struct child_result *res)
{
	struct exec_call *c = arg;
	c->child = NULL;
	if (res->cancelled || res->timed_out) {
		err_freep(&c->err);
		c->rc = res->cancelled ? err_set(&c->err, ECANCELED, "'%s %s' was cancelled", c->program, c->verb)
		                       : err_set(&c->err, ETIMEDOUT, "'%s %s' did not answer in time and was ended", c->program, c->verb);
	} else if (!c->rc && !text_of(c->answer, "error") && (res->status || !c->answer)) {
		_cleanup_buf_ struct buf why = {0};
		_cleanup_free_ char *what = xasprintf("%s %s", c->program, c->verb);
		if (res->status || res->signal)
			child_explain(&why, what, res);
		else
			buf_addf(&why, "'%s' ended without an answer", what);
		c->rc = err_set(&c->err, EIO, "%s", buf_str(&why));
	}
	call_end(c);
}

static char *program_path(const struct provider *p, struct err **err)
{
	const char *program = settings_get(&p->settings, "exec", "program");
	struct stat st;
	if (!program || !*program) {
		err_set(err, EINVAL, "provider %s names no program: 'program = PATH' under [exec] in its provider.ini", p->host->name);
		return NULL;
	}
	char *path = *program == '/' ? xstrdup(program) : xasprintf("%s/providers/%s/%s", p->host->repo, p->host->name, program);
	if (stat(path, &st) < 0)
		err_errno(err, errno, "cannot use the program '%s'", path);
	else if (!S_ISREG(st.st_mode))
		err_set(err, EINVAL, "the program '%s' is not a file", path);
	else if (access(path, X_OK) < 0)
		err_set(err, EINVAL, "the program '%s' is not executable: chmod +x it", path);
	else
		return path;
	free(path);
	return NULL;
}

static json_t *settings_json(const struct settings *s, const char *section)
{
	json_t *o = json_object();
	for (size_t i = 0; s && i < s->n; i++)
		if (!strcmp(s->items[i].section, section))
			json_object_set_new(o, s->items[i].key, json_string(s->items[i].value));
	return o;
}

static json_t *request(const struct provider *p, const char *verb)
{
	_cleanup_free_ char *path = xasprintf("%s.pub", p->host->access_key);
	_cleanup_buf_ struct buf key = {0};
	if (file_read(AT_FDCWD, path, 4096, &key, NULL) == 0 && key.len)
		key.data[strcspn(key.data, "\n")] = '\0';
	return json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:o}", "protocol", PROTOCOL, "verb", verb, "provider", p->host->name, "owner",
	        p->host->owner, "state_dir", p->host->state_dir, "public_key", buf_str(&key), "settings", settings_json(&p->settings, "settings"));
}

static int64_t time_for(const struct provider *p, const char *verb)
{
	if (!strcmp(verb, "prepare"))
		return settings_int(&p->settings, keys, "exec", "prepare-timeout");
	return !strcmp(verb, "list") ? LIST_MS : KILL_AFTER_MS;
}

/* Takes the request. */
static void ask(struct provider *p, const char *verb, json_t *req, struct provider_call *call)
{
	struct exec_call *c = xcalloc(1, sizeof *c);
	*c = (struct exec_call){.p = p, .call = call, .verb = verb};
	call->priv = c;
	uv_timer_init(p->host->loop, &c->soon);
	c->soon.data = c;
	DL_APPEND(p->calls, c);
	c->program = program_path(p, &c->err);
	if (c->program) {
		char *text = json_dumps(req, JSON_COMPACT);
		const char *argv[] = {c->program, verb, NULL};
		struct child_spec spec = {.argv = argv,
		        .cwd = p->host->state_dir,
		        .input = text ? text : "",
		        .input_len = text ? strlen(text) : 0,
		        .on_line = on_line,
		        .timeout_ms = time_for(p, verb),
		        .done = on_done,
		        .arg = c};
		c->rc = child_start(p->host->loop, &spec, &c->child, &c->err);
		wipe_free(text); /* secrets may be in it */
	} else {
		c->rc = -EINVAL;
	}
	json_decref(req);
	if (c->rc)
		uv_timer_start(&c->soon, on_soon, 0, 0);
}

/* ---- the table's functions ---- */

static void exec_prepare(struct provider *p, const char *image, int64_t wanted_nodes, struct provider_call *call)
{
	json_t *req = request(p, "prepare");
	json_object_set_new(req, "image", image ? json_string(image) : json_null());
	json_object_set_new(req, "wanted_nodes", json_integer(wanted_nodes));
	ask(p, "prepare", req, call);
}

static void exec_create(struct provider *p, const struct machine_spec *spec, struct provider_call *call)
{
	json_t *req = request(p, "create");
	json_object_set_new(req, "node",
	        json_pack("{s:I, s:i, s:s, s:s?, s:f, s:I, s:I, s:o}", "id", (json_int_t)spec->node_id, "incarnation", (int)spec->incarnation, "name",
	                spec->name, "image", spec->image, "cpus", spec->cpus, "memory", (json_int_t)spec->memory_bytes, "intent",
	                (json_int_t)spec->intent, "settings", settings_json(spec->node, "node")));
	ask(p, "create", req, call);
}

static json_t *about(struct provider *p, const char *verb, uint64_t node_id, uint32_t incarnation)
{
	json_t *req = request(p, verb);
	json_object_set_new(req, "node", json_pack("{s:I, s:i}", "id", (json_int_t)node_id, "incarnation", (int)incarnation));
	return req;
}

static void exec_destroy(struct provider *p, uint64_t node_id, uint32_t incarnation, struct provider_call *call)
{
	ask(p, "destroy", about(p, "destroy", node_id, incarnation), call);
}

static void exec_power(struct provider *p, uint64_t node_id, uint32_t incarnation, enum power power, struct provider_call *call)
{
	static const char *const names[] = {[POWER_ON] = "on", [POWER_OFF] = "off", [POWER_CYCLE] = "cycle", [POWER_RESET] = "reset"};
	json_t *req = about(p, "power", node_id, incarnation);
	json_object_set_new(req, "power", json_string(names[power]));
	ask(p, "power", req, call);
}

static void exec_list(struct provider *p, struct provider_call *call)
{
	ask(p, "list", request(p, "list"), call);
}

static void exec_cancel(struct provider *p, struct provider_call *call)
{
	struct exec_call *c = call->priv;
	if (c && c->child)
		child_cancel(c->child, 0);
}

static int exec_open(const struct provider_host *host, const struct settings *settings, struct provider **ret, struct err **err)
{
	struct provider *p = xcalloc(1, sizeof *p);
	p->host = host;
	settings_copy(&p->settings, settings);
	*ret = p;
	return 0;
}

static int exec_reload(struct provider *p, const struct settings *settings, struct err **err)
{
	settings_wipe(&p->settings);
	p->settings = (struct settings){0};
	settings_copy(&p->settings, settings);
	return 0;
}

static void exec_close(struct provider *p)
{
	struct exec_call *c, *next;
	DL_FOREACH_SAFE(p->calls, c, next)
	{
		DL_DELETE(p->calls, c);
		c->p = NULL;
		if (c->child)
			child_cancel(c->child, 0);
	}
	settings_wipe(&p->settings);
	free(p);
}

extern const struct provider_ops provider_exec; /* declared again in providers/table.c */
const struct provider_ops provider_exec = {
        .api = PROVIDER_API,
        .type = "exec",
        .help = "machines from a program of your own: a cloud, a hypervisor, a lab; JSON in, JSON out",
        .apply_manual = true,
        .keys = keys,
        .open = exec_open,
        .reload = exec_reload,
        .close = exec_close,
        .prepare = exec_prepare,
        .create = exec_create,
        .destroy = exec_destroy,
        .power = exec_power,
        .list = exec_list,
        .cancel = exec_cancel,
};
