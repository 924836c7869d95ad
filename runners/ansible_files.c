/* The files that one ansible-playbook reads. Values of parameters and inputs are marked unsafe, so that '{{' in them is text and never a template:
 * outputs of other nodes are among them. */
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "fs/base/secret.h"
#include "runners/ansible.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#define FORKS_MAX 20

static const char callback[] =
#include "runners/ansible_callback.py.h"
        ;

int ansible_write_callback(const char *state_dir, struct err **err)
{
	_cleanup_free_ char *dir = xasprintf("%s/ansible/callback", state_dir), *path = xasprintf("%s/rebar.py", dir);
	if (dir_make_all(dir, 0700, err))
		return -(err && *err ? (*err)->code : EIO);
	return file_write_atomic(AT_FDCWD, path, callback, strlen(callback), 0600, err);
}

void ansible_variable_name(struct buf *out, const char *param)
{
	for (; *param; param++)
		buf_addc(out, *param == '-' || *param == '.' ? '_' : *param);
}

static json_t *unsafe(const json_t *value)
{
	const char *key;
	json_t *item, *copy;
	size_t i;
	switch (json_typeof(value)) {
	case JSON_STRING:
		return json_pack("{s:O}", "__ansible_unsafe", value);
	case JSON_ARRAY:
		copy = json_array();
		json_array_foreach((json_t *)value, i, item) json_array_append_new(copy, unsafe(item));
		return copy;
	case JSON_OBJECT:
		copy = json_object();
		json_object_foreach((json_t *)value, key, item) json_object_set_new(copy, key, unsafe(item));
		return copy;
	default:
		return json_incref((json_t *)value);
	}
}

/* The group of the node among the inputs; NULL where the role did not ask for it. */
static const char *group_of(const struct run_item *item)
{
	size_t i;
	json_t *node;
	json_array_foreach(json_object_get(item->inputs, "nodes"), i, node)
	{
		const char *name = json_string_value(json_object_get(node, "name"));
		if (name && !strcmp(name, item->target->name))
			return json_string_value(json_object_get(node, "group"));
	}
	return json_string_value(json_object_get(json_object_get(item->inputs, "node"), "group"));
}

static json_t *host_vars(const char *owner, const struct run_item *item)
{
	const struct target *t = item->target;
	json_t *vars = json_object();
	const char *name;
	json_t *value;
	json_object_foreach((json_t *)item->params, name, value)
	{
		_cleanup_buf_ struct buf variable = {0};
		ansible_variable_name(&variable, name);
		json_object_set_new(vars, buf_str(&variable), unsafe(value));
	}
	json_object_set_new(vars, "rebar", unsafe(item->inputs));
	json_object_set_new(vars, "rebar_outputs", json_sprintf("/var/lib/rebar/runs/%s/%" PRId64 "/outputs", owner, item->number));
	json_object_set_new(vars, "ansible_host", json_string(t->address));
	json_object_set_new(vars, "ansible_port", json_integer(t->port));
	json_object_set_new(vars, "ansible_user", json_string(t->user));
	json_object_set_new(vars, "ansible_ssh_private_key_file", json_string(t->key));
	if (strcmp(t->user, "root"))
		json_object_set_new(vars, "ansible_become", json_true());
	return vars;
}

json_t *ansible_inventory(const char *owner, const struct ansible_host *hosts, size_t n)
{
	json_t *all = json_object(), *groups = json_object();
	for (size_t i = 0; i < n; i++) {
		const char *name = hosts[i].item->target->name, *group = group_of(hosts[i].item);
		json_object_set_new(all, name, host_vars(owner, hosts[i].item));
		if (!group)
			continue;
		_cleanup_buf_ struct buf key = {0};
		ansible_variable_name(&key, group);
		if (!strcmp(buf_str(&key), "all") || !strcmp(buf_str(&key), "ungrouped"))
			continue;
		if (!json_object_get(groups, buf_str(&key)))
			json_object_set_new(groups, buf_str(&key), json_pack("{s:{}}", "hosts"));
		json_object_set_new(json_object_get(json_object_get(groups, buf_str(&key)), "hosts"), name, json_object());
	}
	return json_pack("{s:{s:o,s:o}}", "all", "hosts", all, "children", groups);
}

static int write_file(const char *dir, const char *name, const char *data, size_t len, struct err **err)
{
	_cleanup_free_ char *path = path_join(dir, name);
	return file_write_atomic(AT_FDCWD, path, data, len, 0600, err);
}

static int write_inventory(const char *dir, const char *owner, const struct ansible_host *hosts, size_t n, struct err **err)
{
	json_t *inventory = ansible_inventory(owner, hosts, n);
	char *text = json_dumps(inventory, JSON_INDENT(1) | JSON_REAL_PRECISION(15));
	json_decref(inventory);
	if (!text)
		return err_set(err, EINVAL, "the inputs of '%s' are not valid JSON", hosts[0].item->role);
	int rc = write_file(dir, "inventory.json", text, strlen(text), err);
	wipe_free(text);
	return rc;
}

static int write_known_hosts(const char *dir, const struct ansible_host *hosts, size_t n, struct err **err)
{
	_cleanup_buf_ struct buf b = {0};
	for (size_t i = 0; i < n; i++) {
		const struct target *t = hosts[i].item->target;
		if (t->port == 22)
			buf_addf(&b, "%s %s\n", t->address, hosts[i].host_key);
		else
			buf_addf(&b, "[%s]:%d %s\n", t->address, t->port, hosts[i].host_key);
	}
	return write_file(dir, "known_hosts", buf_str(&b), b.len, err);
}

static bool content_has(const char *content_dir, const char *name)
{
	_cleanup_free_ char *path = path_join(content_dir, name);
	return access(path, R_OK) == 0;
}

/* One playbook, because ansible-playbook takes no second one after a failure. Its last play tells that all before it came to their end: hosts that
 * were stopped by another's failure (any_errors_fatal, max_fail_percentage) have none of their own to count, but then no play follows. On one host
 * only: a task on each would cost as much as one of the role's. Imported plays keep their own directory as playbook_dir. */
static int write_playbook(const char *dir, const struct run_item *item, struct err **err)
{
	_cleanup_free_ char *roles = path_join(dir, "roles"), *role = xasprintf("%s/%s", roles, item->role), *content = path_join(dir, "content");
	if (dir_make_all(roles, 0700, err))
		return -(err && *err ? (*err)->code : EIO);
	if (symlink(item->content_dir, role) < 0 || symlink(item->content_dir, content) < 0)
		return err_errno(err, errno, "cannot make links in '%s'", dir);
	_cleanup_buf_ struct buf b = {0};
	if (content_has(item->content_dir, "playbook.yml"))
		buf_adds(&b, "- ansible.builtin.import_playbook: content/playbook.yml\n");
	else
		buf_addf(&b, "- name: %s\n  hosts: all\n  gather_facts: %s\n  roles:\n    - role: %s\n", item->role,
		        settings_bool(item->settings, ansible_keys, "role", "gather-facts") ? "true" : "false", item->role);
	buf_adds(&b, "- name: rebar end\n  hosts: all\n  gather_facts: false\n  become: false\n  tasks:\n    - ansible.builtin.debug:\n        msg: "
	             "end\n      run_once: true\n");
	return write_file(dir, "main.yml", buf_str(&b), b.len, err);
}

static void add_env(struct buf *b, const char *name, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void add_env(struct buf *b, const char *name, const char *fmt, ...)
{
	_cleanup_buf_ struct buf value = {0};
	va_list ap;
	va_start(ap, fmt);
	buf_vaddf(&value, fmt, ap);
	va_end(ap);
	buf_addf(b, "\t%s=", name);
	sh_quote(b, buf_str(&value));
	buf_adds(b, " \\\n");
}

/* What the role names itself comes first; relative ones are its own. */
static void add_search_path(struct buf *b, const char *variable, const char *first, const struct run_item *item, const char *key, const char *last)
{
	const char *value = settings_str(item->settings, ansible_keys, "role", key);
	_cleanup_free_ char *list = xstrdup(value ? value : "");
	_cleanup_buf_ struct buf path = {0};
	buf_adds(&path, first);
	char *rest = list;
	for (char *dir; (dir = strsep(&rest, ", \t\n"));)
		if (*dir)
			buf_addf(&path, "%s%s%s:", *dir == '/' ? "" : item->content_dir, *dir == '/' ? "" : "/", dir);
	buf_adds(&path, last);
	add_env(b, variable, "%s", buf_str(&path));
}

/* All settings by environment: nothing of the user's own ansible.cfg or ssh_config reaches a run. */
static int write_run(
        const char *dir, const char *files, const char *short_dir, const char *state_dir, const struct run_item *item, size_t n, struct err **err)
{
	_cleanup_buf_ struct buf b = {0};
	const char *home = getenv("HOME"), *path = getenv("PATH");
	buf_adds(&b, "cd ");
	sh_quote(&b, dir);
	buf_adds(&b, " || exit 1\n"
	             "IFS= read -r l < /proc/$$/stat; l=${l##*) }; set -- $l\n"
	             "echo \"$$ ${20}\" > pid.new && mv pid.new pid || exit 1\n"
	             /* a trap, not '': what is ignored here would be ignored by ansible-playbook, too */
	             "trap : INT\n"
	             "env -i \\\n");
	/* the daemon's own first: ansible may live in a virtual environment */
	add_env(&b, "PATH", "%s%s%s", path ? path : "", path && *path ? ":" : "", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	add_env(&b, "HOME", "%s", home && *home ? home : "/root");
	add_env(&b, "LC_ALL", "C.UTF-8");
	add_env(&b, "LANG", "C.UTF-8");
	add_env(&b, "PYTHONDONTWRITEBYTECODE", "1");
	add_env(&b, "REBAR_EVENTS", "%s/events", dir);
	add_env(&b, "ANSIBLE_CONFIG", "%s/ansible.cfg", dir);
	add_env(&b, "ANSIBLE_INVENTORY", "%s/inventory.json", files);
	add_env(&b, "ANSIBLE_INVENTORY_ENABLED", "yaml");
	add_env(&b, "ANSIBLE_INVENTORY_UNPARSED_FAILED", "1");
	add_env(&b, "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED", "1");
	add_env(&b, "ANSIBLE_CALLBACK_PLUGINS", "%s/ansible/callback", state_dir);
	add_env(&b, "ANSIBLE_STDOUT_CALLBACK", "rebar");
	add_env(&b, "ANSIBLE_FORKS", "%zu", n < FORKS_MAX ? n : (size_t)FORKS_MAX);
	_cleanup_free_ char *roles = xasprintf("%s/roles:", dir),
	                    *own = xasprintf("%s/roles:/etc/ansible/roles:/usr/share/ansible/roles", item->content_dir),
	                    *collections = xasprintf("%s/collections:~/.ansible/collections:/usr/share/ansible/collections", item->content_dir);
	add_search_path(&b, "ANSIBLE_ROLES_PATH", roles, item, "roles-path", own);
	add_search_path(&b, "ANSIBLE_COLLECTIONS_PATH", "", item, "collections-path", collections);
	add_env(&b, "ANSIBLE_LOCAL_TEMP", "%s/tmp", files);
	add_env(&b, "ANSIBLE_RETRY_FILES_ENABLED", "0");
	add_env(&b, "ANSIBLE_HOST_KEY_CHECKING", "1");
	add_env(&b, "ANSIBLE_PYTHON_INTERPRETER", "auto_silent");
	add_env(&b, "ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS", "ignore");
	add_env(&b, "ANSIBLE_NOCOLOR", "1");
	add_env(&b, "ANSIBLE_NOCOWS", "1");
	add_env(&b, "ANSIBLE_PIPELINING", "1");
	add_env(&b, "ANSIBLE_TIMEOUT", "30");
	add_env(&b, "ANSIBLE_SSH_TRANSFER_METHOD", "piped"); /* a node need not have sftp-server */
	add_env(&b, "ANSIBLE_SSH_RETRIES", "2");
	add_env(&b, "ANSIBLE_SSH_CONTROL_PATH_DIR", "%s", short_dir);
	add_env(&b, "ANSIBLE_SSH_ARGS",
	        "-F /dev/null -o ControlMaster=auto -o ControlPersist=15s -o UserKnownHostsFile=%s/known_hosts -o GlobalKnownHostsFile=/dev/null "
	        "-o StrictHostKeyChecking=yes -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes -o ServerAliveInterval=15 "
	        "-o KexAlgorithms=curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,diffie-hellman-group14-sha256",
	        short_dir);
	buf_adds(&b, "\tansible-playbook --diff");
	if (item->again)
		buf_adds(&b, " --force-handlers");
	if (item->check)
		buf_adds(&b, " --check");
	buf_adds(&b, " main.yml > output 2>&1 < /dev/null\n"
	             "echo $? > status.new && mv status.new status\n"
	             "rm -rf tmp ");
	if (files != dir) {
		sh_quote(&b, files);
		buf_adds(&b, "/tmp ");
		sh_quote(&b, files);
		buf_adds(&b, "/inventory.json ");
	}
	sh_quote(&b, short_dir);
	buf_addc(&b, '\n');
	return write_file(dir, "run", buf_str(&b), b.len, err);
}

static int link_private(const char *dir, const char *files, struct err **err)
{
	static const char *const names[] = {"events", "output"};
	_cleanup_free_ char *private = path_join(dir, "private");
	if (symlink(files, private) < 0)
		return err_errno(err, errno, "cannot make '%s'", private);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		_cleanup_free_ char *link = path_join(dir, names[i]), *target = path_join(files, names[i]);
		if (symlink(target, link) < 0)
			return err_errno(err, errno, "cannot make '%s'", link);
	}
	return 0;
}

int ansible_write_batch(const char *dir, const char *files, const char *short_dir, const char *state_dir, const char *owner,
        const struct ansible_host *hosts, size_t n, struct err **err)
{
	const struct run_item *item = hosts[0].item;
	int rc = files != dir ? link_private(dir, files, err) : 0;
	rc = rc ? rc : write_inventory(files, owner, hosts, n, err);
	rc = rc ? rc : write_known_hosts(short_dir, hosts, n, err);
	rc = rc ? rc : write_playbook(dir, item, err);
	rc = rc ? rc : write_file(dir, "ansible.cfg", "[defaults]\n", 11, err);
	rc = rc ? rc : write_file(files, "events", "", 0, err);
	return rc ? rc : write_run(dir, files, short_dir, state_dir, item, n, err);
}
