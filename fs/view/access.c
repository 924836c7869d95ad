/* For the tools that log in: ssh, ansible, /etc/hosts. */
#include "fs/base/mem.h"
#include "fs/view/entries.h"
#include <inttypes.h>
#include <string.h>

/* Self-contained, so that it can be copied elsewhere: the host key stands in it as the output of a command, which ssh then takes as known_hosts. */
void access_ssh_config(const struct object *o, const struct node *n, struct buf *out)
{
	if (!n->row.address)
		return;
	_cleanup_free_ char *key = node_key_path(o->m, n);
	buf_addf(out, "Host %s %s\n", n->row.name, n->row.address);
	buf_addf(out, "    HostName %s\n", n->row.address);
	buf_addf(out, "    Port %" PRId64 "\n", n->row.port ? n->row.port : 22);
	buf_addf(out, "    User %s\n", n->row.user ? n->row.user : "root");
	buf_addf(out, "    IdentityFile \"%s\"\n    IdentitiesOnly yes\n", key);
	buf_addf(out, "    HostKeyAlias %s\n", n->row.name);
	buf_adds(out, "    StrictHostKeyChecking yes\n    UserKnownHostsFile /dev/null\n    GlobalKnownHostsFile /dev/null\n");
	if (n->row.host_key)
		buf_addf(out, "    KnownHostsCommand /bin/echo %s %s\n", n->row.name, n->row.host_key);
	buf_addc(out, '\n');
}

void access_hosts(const struct deployment *d, struct buf *out)
{
	int width = 0;
	for (size_t i = 0; i < d->n_nodes; i++) {
		int n = d->nodes[i]->row.address ? (int)strlen(d->nodes[i]->row.address) : 0;
		width = n > width ? n : width;
	}
	for (size_t i = 0; i < d->n_nodes; i++)
		if (d->nodes[i]->row.address)
			buf_addf(out, "%-*s  %s\n", width, d->nodes[i]->row.address, d->nodes[i]->row.name);
}

static json_t *host_vars(const struct object *o, const struct node *n)
{
	_cleanup_free_ char *key = node_key_path(o->m, n);
	json_t *vars = json_object();
	json_object_set_new(vars, "ansible_host", json_string(n->row.address));
	json_object_set_new(vars, "ansible_port", json_integer(n->row.port ? n->row.port : 22));
	json_object_set_new(vars, "ansible_user", json_string(n->row.user ? n->row.user : "root"));
	json_object_set_new(vars, "ansible_ssh_private_key_file", json_string(key));
	return vars;
}

static json_t *group_of(json_t *groups, const char *name)
{
	json_t *group = json_object_get(groups, name);
	if (!group) {
		group = json_pack("{s:{}}", "hosts");
		json_object_set_new(groups, name, group);
	}
	return json_object_get(group, "hosts");
}

/* Not what an inventory program prints (--list) but what ansible reads from a file with -i: an inventory in YAML, of which JSON is a part. */
void access_inventory(const struct object *o, const struct deployment *d, struct buf *out)
{
	json_t *groups = json_object();
	for (size_t i = 0; i < d->n_nodes; i++) {
		const struct node *n = d->nodes[i];
		if (n->row.address)
			json_object_set_new(group_of(groups, n->row.group ? n->row.group : "ungrouped"), n->row.name, host_vars(o, n));
	}
	_cleanup_free_ char *args = xasprintf("-F \"%s/deployments/%s/ssh_config\"", o->m->mountpoint, d->row.name);
	json_t *all = json_object(), *vars = json_object(), *inventory = json_object();
	json_object_set_new(vars, "ansible_ssh_common_args", json_string(args));
	json_object_set_new(all, "vars", vars);
	json_object_set_new(all, "children", groups);
	json_object_set_new(inventory, "all", all);
	report_add_json(inventory, out);
}
