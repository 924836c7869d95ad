/* Machines that already run: nothing is made, nothing destroyed. A declared node is adopted as it is described and forgotten when it is released.
 *
 * What was adopted is one small file per node in the instance's state directory, so that list() answers after a restart, and so that what a
 * declaration says later does not change under a machine: a change of it is the engine's to see, and becomes a rebuild or a new create(). */
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "fs/base/secret.h"
#include "providers/provider.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <utlist.h>

static const struct key_row instance_keys[] = {
        {"ssh", "user", VALUE_STRING, "root", 0, 0, NULL, "whom to log in as; another than root needs sudo without password there"},
        {"ssh", "port", VALUE_INT, "22", 1, 65535, NULL, "port of sshd"},
        {"ssh", "key", VALUE_STRING, NULL, 0, 0, NULL,
                "private key to log in with: secret:NAME, or a path, from ~ or from the provider's directory; default: the state directory's own"},
        {"ssh", "host-key", VALUE_ENUM, "learn", 0, 0, "learn,declared", "learn: trust the first key shown; declared: each node names its key"},
        {NULL},
};
static const struct key_row node_keys[] = {
        {"node", "user", VALUE_STRING, NULL, 0, 0, NULL, "whom to log in as; default: the provider's"},
        {"node", "port", VALUE_INT, NULL, 1, 65535, NULL, "port of sshd; default: the provider's"},
        {"node", "key", VALUE_STRING, NULL, 0, 0, NULL, "private key to log in with; default: the provider's"},
        {"node", "host-key", VALUE_STRING, NULL, 0, 0, NULL, "its public host key: 'ssh-ed25519 AAAA...'"},
        {NULL},
};

/* The result of a call, delivered from the loop. */
struct answer {
	struct provider_call *call;
	int rc;
	struct err *err;
	json_t *machines; /* as the files in the state directory */
	struct answer *prev, *next;
};
struct provider {
	const struct provider_host *host;
	struct settings settings;
	struct answer *answers;
	uv_timer_t *soon;
};

/* ---- answers ---- */

static void fill(struct machine *m, const json_t *file)
{
	m->node_id = json_integer_value(json_object_get(file, "node_id"));
	m->incarnation = json_integer_value(json_object_get(file, "incarnation"));
	m->address = json_string_value(json_object_get(file, "address"));
	m->ref = m->address;
	m->port = json_integer_value(json_object_get(file, "port"));
	m->user = json_string_value(json_object_get(file, "user"));
	m->key = json_string_value(json_object_get(file, "key"));
	m->host_key = json_string_value(json_object_get(file, "host_key"));
	m->running = true;
}

static void answer_free(struct answer *a)
{
	err_free(a->err);
	json_decref(a->machines);
	free(a);
}

static void deliver(struct answer *a)
{
	size_t n = json_array_size(a->machines);
	_cleanup_free_ struct machine *machines = xcalloc(n + 1, sizeof *machines);
	for (size_t i = 0; i < n; i++)
		fill(&machines[i], json_array_get(a->machines, i));
	a->call->priv = NULL;
	a->call->done(a->call, a->rc, a->err, n ? machines : NULL, n);
	answer_free(a);
}

static void on_soon(uv_timer_t *timer)
{
	struct provider *p = timer->data;
	struct answer *last = p->answers ? p->answers->prev : NULL;
	while (p->answers) {
		struct answer *a = p->answers;
		bool more = a != last;
		DL_DELETE(p->answers, a);
		deliver(a);
		if (!more)
			break;
	}
	if (p->answers)
		uv_timer_start(p->soon, on_soon, 0, 0);
}

/* Takes err and machines. */
static void answer(struct provider *p, struct provider_call *call, int rc, struct err *err, json_t *machines)
{
	struct answer *a = xcalloc(1, sizeof *a);
	*a = (struct answer){.call = call, .rc = rc, .err = err, .machines = machines};
	call->priv = a;
	DL_APPEND(p->answers, a);
	if (!uv_is_active((uv_handle_t *)p->soon))
		uv_timer_start(p->soon, on_soon, 0, 0);
}

/* ---- what is declared ---- */

static char *key_path(const struct provider *p, const char *text, struct err **err)
{
	if (secret_ref(text)) /* the engine knows where that will lie */
		return secret_name_check(secret_ref(text), err) < 0 ? NULL : xstrdup(text);
	if (*text == '/')
		return xstrdup(text);
	if (*text != '~')
		return xasprintf("%s/providers/%s/%s", p->host->repo, p->host->name, text);
	size_t len = strcspn(text + 1, "/");
	_cleanup_free_ char *user = xstrndup(text + 1, len);
	const struct passwd *pw = len ? getpwnam(user) : getpwuid(geteuid());
	if (!pw) {
		err_set(err, EINVAL, "key '%s': there is no user '%s'", text, user);
		return NULL;
	}
	return xasprintf("%s%s", pw->pw_dir, text + 1 + len);
}

static int check_key(const char *path, struct err **err)
{
	if (secret_ref(path))
		return 0;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char start[64];
	if (fd < 0 && errno == ENOENT)
		return err_set(err, EINVAL, "there is no private key '%s': make one with 'ssh-keygen -t ed25519 -f %s'", path, path);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, errno, "cannot read the private key '%s'", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "the private key '%s' is not a file", path);
	if (st.st_mode & 077)
		return err_set(err, EINVAL, "others can read the private key '%s' (mode %04o): chmod 600 it", path, st.st_mode & 07777);
	ssize_t n = read(fd, start, sizeof start - 1);
	start[n > 0 ? n : 0] = 0;
	if (strncmp(start, "-----BEGIN ", 11))
		return err_set(err, EINVAL, "'%s' is not a private key%s", path, strncmp(start, "ssh-", 4) ? "" : ": that is the public one");
	if (!strncmp(start, "-----BEGIN RSA ", 15))
		return err_set(err, EINVAL, "'%s' is an RSA key: nodes refuse those signatures, use an ed25519 or ecdsa key", path);
	return 0;
}

static int check_host_key(const char *text, struct err **err)
{
	static const char *const kinds[] = {"ssh-ed25519 ", "ecdsa-sha2-nistp256 ", "ecdsa-sha2-nistp384 ", "ecdsa-sha2-nistp521 "};
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (!strncmp(text, kinds[i], strlen(kinds[i])) && !strncmp(text + strlen(kinds[i]), "AAAA", 4))
			return 0;
	return err_set(err, EINVAL, "host-key '%.40s' is not a host key of kind ed25519 or ecdsa: it looks like 'ssh-ed25519 AAAA...'", text);
}

static const char *of_node(const struct provider *p, const struct machine_spec *spec, const char *key)
{
	const char *own = settings_get(spec->node, "node", key);
	return own ? own : settings_str(&p->settings, instance_keys, "ssh", key);
}

/* The machine as its file holds it; NULL and the sentence. */
static json_t *describe(const struct provider *p, const struct machine_spec *spec, struct err **err)
{
	const char *address = settings_get(spec->node, "node", "address"), *host_key = settings_get(spec->node, "node", "host-key"),
	           *key = of_node(p, spec, "key");
	const char *port = settings_get(spec->node, "node", "port");
	if (!address || !*address) {
		err_set(err, EINVAL, "node '%s' has no 'address' in its node.ini", spec->name);
		return NULL;
	}
	if (!host_key && !strcmp(settings_str(&p->settings, instance_keys, "ssh", "host-key"), "declared")) {
		err_set(err, EINVAL, "node '%s' has no 'host-key' in its node.ini, and the provider has 'host-key = declared'", spec->name);
		return NULL;
	}
	if (host_key && check_host_key(host_key, err))
		return NULL;
	_cleanup_free_ char *path = key ? key_path(p, key, err) : xstrdup(p->host->access_key);
	if (!path || check_key(path, err))
		return NULL;
	return json_pack("{s:I,s:I,s:s,s:s,s:I,s:s,s:s?,s:s?}", "node_id", (json_int_t)spec->node_id, "incarnation", (json_int_t)spec->incarnation,
	        "name", spec->name, "address", address, "port",
	        (json_int_t)(port ? settings_int(spec->node, node_keys, "node", "port") : settings_int(&p->settings, instance_keys, "ssh", "port")),
	        "user", of_node(p, spec, "user"), "key", key ? path : NULL, "host_key", host_key);
}

/* ---- the files ---- */

static char *file_of(const struct provider *p, uint64_t node_id)
{
	return xasprintf("%s/%" PRIu64 ".json", p->host->state_dir, node_id);
}

static json_t *read_machine(const char *path)
{
	_cleanup_buf_ struct buf text = {0};
	if (file_read(AT_FDCWD, path, 65536, &text, NULL))
		return NULL;
	json_t *m = json_loadb(buf_str(&text), text.len, 0, NULL);
	if (json_integer_value(json_object_get(m, "node_id")) > 0 && json_string_value(json_object_get(m, "address")))
		return m;
	json_decref(m);
	return NULL;
}

/* Two declarations of one machine would fight over it. */
static int check_taken(const struct provider *p, const json_t *machine, struct err **err)
{
	DIR *dir = opendir(p->host->state_dir);
	if (!dir)
		return err_errno(err, errno, "cannot read '%s'", p->host->state_dir);
	const struct dirent *entry;
	int rc = 0;
	while (!rc && (entry = readdir(dir))) {
		size_t len = strlen(entry->d_name);
		if (len < 6 || strcmp(entry->d_name + len - 5, ".json"))
			continue;
		_cleanup_free_ char *path = path_join(p->host->state_dir, entry->d_name);
		json_t *other = read_machine(path);
		if (other && !json_equal(json_object_get(other, "node_id"), json_object_get(machine, "node_id")) &&
		        json_equal(json_object_get(other, "address"), json_object_get(machine, "address")) &&
		        json_equal(json_object_get(other, "port"), json_object_get(machine, "port")))
			rc = err_set(err, EINVAL, "%s port %lld is node '%s' already", json_string_value(json_object_get(other, "address")),
			        (long long)json_integer_value(json_object_get(other, "port")), json_string_value(json_object_get(other, "name")));
		json_decref(other);
	}
	closedir(dir);
	return rc;
}

static void ssh_create(struct provider *p, const struct machine_spec *spec, struct provider_call *call)
{
	struct err *err = NULL;
	json_t *m = describe(p, spec, &err);
	int rc = m ? check_taken(p, m, &err) : -EINVAL;
	if (!rc) {
		_cleanup_free_ char *path = file_of(p, spec->node_id), *text = json_dumps(m, JSON_COMPACT);
		rc = file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, &err);
	}
	if (rc) {
		json_decref(m);
		answer(p, call, rc, err, NULL);
		return;
	}
	answer(p, call, 0, NULL, json_pack("[o]", m));
}

static void ssh_destroy(struct provider *p, uint64_t node_id, uint32_t incarnation, struct provider_call *call)
{
	_cleanup_free_ char *path = file_of(p, node_id);
	json_t *m = read_machine(path);
	struct err *err = NULL;
	int rc = 0;
	/* a later incarnation is another machine to the engine: not the one to be forgotten */
	bool newer = m && json_integer_value(json_object_get(m, "incarnation")) > (json_int_t)incarnation;
	json_decref(m);
	if (!newer && unlink(path) < 0 && errno != ENOENT)
		rc = err_errno(&err, errno, "cannot remove '%s'", path);
	answer(p, call, rc, err, NULL);
}

static void ssh_list(struct provider *p, struct provider_call *call)
{
	DIR *dir = opendir(p->host->state_dir);
	if (!dir) {
		struct err *err = NULL;
		int rc = err_errno(&err, errno, "cannot read '%s'", p->host->state_dir);
		answer(p, call, rc, err, NULL);
		return;
	}
	json_t *all = json_array();
	const struct dirent *entry;
	while ((entry = readdir(dir))) {
		size_t len = strlen(entry->d_name);
		if (len < 6 || strcmp(entry->d_name + len - 5, ".json"))
			continue;
		_cleanup_free_ char *path = path_join(p->host->state_dir, entry->d_name);
		json_t *m = read_machine(path);
		if (m)
			json_array_append_new(all, m);
	}
	closedir(dir);
	answer(p, call, 0, NULL, all);
}

static void ssh_power(struct provider *p, uint64_t node_id, uint32_t incarnation, enum power power, struct provider_call *call)
{
	struct err *err = NULL;
	int rc = err_set(&err, ENOTSUP, "the power of machines of an ssh provider cannot be switched: they were not made here");
	answer(p, call, rc, err, NULL);
}

static void ssh_prepare(struct provider *p, const char *image, int64_t wanted_nodes, struct provider_call *call)
{
	struct err *err = NULL;
	const char *key = settings_str(&p->settings, instance_keys, "ssh", "key");
	_cleanup_free_ char *path = key ? key_path(p, key, &err) : NULL;
	int rc = 0;
	if (image)
		rc = err_set(&err, EINVAL, "an ssh provider makes no machines: 'image = %s' has no meaning for it", image);
	else if (key)
		rc = path ? check_key(path, &err) : -EINVAL;
	answer(p, call, rc, err, NULL);
}

static void ssh_cancel(struct provider *p, struct provider_call *call)
{
	/* every call is answered in the next turn of the loop */
}

/* ---- open and close ---- */

static int ssh_open(const struct provider_host *host, const struct settings *settings, struct provider **ret, struct err **err)
{
	struct provider *p = xcalloc(1, sizeof *p);
	p->host = host;
	settings_copy(&p->settings, settings);
	p->soon = xcalloc(1, sizeof *p->soon);
	uv_timer_init(host->loop, p->soon);
	p->soon->data = p;
	*ret = p;
	return 0;
}

static int ssh_reload(struct provider *p, const struct settings *settings, struct err **err)
{
	settings_release(&p->settings);
	p->settings = (struct settings){0};
	settings_copy(&p->settings, settings);
	return 0;
}

static void free_handle(uv_handle_t *handle)
{
	free(handle);
}

static void ssh_close(struct provider *p)
{
	struct answer *a, *next;
	DL_FOREACH_SAFE(p->answers, a, next)
	{
		answer_free(a);
	}
	uv_close((uv_handle_t *)p->soon, free_handle);
	settings_release(&p->settings);
	free(p);
}

extern const struct provider_ops provider_ssh; /* declared again in providers/table.c */
const struct provider_ops provider_ssh = {
        .api = PROVIDER_API,
        .type = "ssh",
        .help = "machines that already run, declared in nodes/NAME/node.ini: adopted, and only ever forgotten",
        .declared_only = true,
        .apply_manual = true,
        .keys = instance_keys,
        .node_keys = node_keys,
        .open = ssh_open,
        .reload = ssh_reload,
        .close = ssh_close,
        .prepare = ssh_prepare,
        .create = ssh_create,
        .destroy = ssh_destroy,
        .power = ssh_power,
        .list = ssh_list,
        .cancel = ssh_cancel,
};
