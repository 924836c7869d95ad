/* The chef runner: the role's directory is a cookbook, and chef-client on the node applies its default recipe in local mode. A client that is told
 * to end by SIGTERM exits 0: so that what our report handler writes decides. */
#include "runners/chef.h"
#include "fs/base/mem.h"
#include "fs/base/secret.h"
#include "runners/install.h"
#include "runners/node.h"
#include "runners/onnode.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

static const char handler[] =
#include "runners/chef_report.rb.h"
        ;

static const struct key_row keys[] = {
        {"role", "cookbook", VALUE_STRING, NULL, 0, 0, NULL, "for chef: the cookbook's name, as its metadata says it; default: the role's name"},
        {"role", "cookbook-path", VALUE_LIST, NULL, 0, 0, NULL,
                "for chef: where the cookbooks are that it needs: directories in the role, or on the node"},
        {"role", "chef-client", VALUE_STRING, NULL, 0, 0, NULL, "for chef: the program on the node; default: chef-client or cinc-client"},
        {"role", "chef-package", VALUE_STRING, NULL, 0, 0, NULL,
                "for chef: a Debian package, or a directory with the program, here, for nodes without Chef"},
        {"role", "chef-license", VALUE_STRING, NULL, 0, 0, NULL, "for chef: accept-no-persist, to tell it that its license is accepted"},
        {NULL},
};

static const char *cookbook_of(const struct run_item *item)
{
	const char *name = settings_str(item->settings, keys, "role", "cookbook");
	return name ? name : item->role;
}

json_t *chef_attributes(const struct run_item *item, const char *cookbook)
{
	json_t *attributes = json_object();
	json_object_set(attributes, cookbook, (json_t *)item->params);
	json_object_set_new(attributes, "rebar", item->inputs ? json_incref((json_t *)item->inputs) : json_object());
	_cleanup_free_ char *recipe = xasprintf("recipe[%s]", cookbook);
	json_object_set_new(attributes, "run_list", json_pack("[s]", recipe));
	return attributes;
}

/* Relative ones are the content's own. An element of a Ruby list each. */
static void add_cookbook_path(struct buf *out, const struct run_item *item)
{
	const char *value = settings_str(item->settings, keys, "role", "cookbook-path");
	_cleanup_free_ char *list = xstrdup(value ? value : "");
	char *rest = list;
	for (char *dir; (dir = strsep(&rest, ", \t"));)
		if (*dir)
			buf_addf(out, ", File.join(%s'%s')", *dir == '/' ? "" : "ENV['C'], ", dir);
}

/* All that the client keeps lies in the run's own directory: it writes every attribute of the node to a file, secrets too. */
static void files(struct buf *out, const struct run_item *item)
{
	const char *cookbook = cookbook_of(item);
	json_t *attributes = chef_attributes(item, cookbook);
	char *text = json_dumps(attributes, JSON_COMPACT | JSON_REAL_PRECISION(15));
	_cleanup_buf_ struct buf config = {0};
	buf_adds(&config, "require 'json'\n"
	                  "here = ENV['REBAR_TOOL']\n"
	                  "local_mode true\n"
	                  "chef_repo_path here\n"
	                  "cookbook_path [File.join(here, 'cookbooks')");
	add_cookbook_path(&config, item);
	buf_addf(&config,
	        "]\n"
	        "node_path File.join(here, 'nodes')\n"
	        "cache_path File.join(here, 'cache')\n"
	        "file_cache_path File.join(here, 'cache')\n"
	        "file_backup_path File.join(here, 'backup')\n"
	        "node_name '%s'\n"
	        "run_lock_timeout 0\n"
	        "attributes = File.join(here, 'attributes.json')\n"
	        "given = JSON.parse(File.read(attributes))\n"
	        "given['rebar']['outputs'] = ENV['REBAR_OUTPUTS']\n"
	        "File.write(attributes, JSON.generate(given))\n"
	        "require File.join(here, 'handler.rb')\n"
	        "report_handlers << RebarReport.new\n"
	        "exception_handlers << RebarReport.new\n",
	        item->target->name);
	buf_addf(out, "mkdir cookbooks nodes cache && cp -Rp \"$C\" cookbooks/%s || exit 126\n", cookbook);
	supervisor_file(out, "handler.rb", handler);
	supervisor_file(out, "client.rb", buf_str(&config));
	supervisor_file(out, "attributes.json", text ? text : "{}");
	wipe_free(text);
	json_decref(attributes);
}

static void supervisor(struct buf *out, const struct run_item *item)
{
	_cleanup_buf_ struct buf text = {.secret = item->secret}, command = {0};
	const char *program = settings_str(item->settings, keys, "role", "chef-client");
	const char *license = settings_str(item->settings, keys, "role", "chef-license");
	if (!item->secret)
		files(&text, item);
	buf_adds(&command, "PATH=$PATH:/opt/chef/bin:/opt/cinc/bin:" INSTALLED_TOOLS "/chef\n");
	if (program) {
		buf_adds(&command, "chef=");
		sh_quote(&command, program);
		buf_addc(&command, '\n');
	} else {
		buf_adds(&command, "chef=chef-client; command -v chef-client > /dev/null || chef=cinc-client\n");
	}
	buf_adds(&command,
	        "command -v \"$chef\" > /dev/null || { echo \"neither chef-client nor cinc-client is on this node: let a role that this one "
	        "requires install it, or name it with 'chef-client ='\"; exit 127; }\n");
	if (license) {
		buf_adds(&command, "export CHEF_LICENSE=");
		sh_quote(&command, license);
		buf_addc(&command, '\n');
	}
	buf_addf(&command,
	        "export REBAR_TOOL=\"$PWD\" REBAR_COOKBOOK=%s\n"
	        "exec \"$chef\" --local-mode --config \"$PWD/client.rb\" --json-attributes \"$PWD/attributes.json\" --no-color --force-formatter%s\n",
	        cookbook_of(item), item->check ? " --why-run" : "");
	onnode_supervisor(out, item, buf_str(&text), buf_str(&command));
}

static void judge(const struct onnode_end *end, struct onnode_verdict *v)
{
	report_judge("chef", end, v);
}

/* ---- the plug-in ---- */

static const struct onnode_tool tool = {.name = "chef", .supervisor = supervisor, .private = files, .judge = judge};

static int chef_check(const char *content_dir, const struct settings *settings, struct err **err)
{
	const char *cookbook = settings_str(settings, keys, "role", "cookbook"), *path = settings_str(settings, keys, "role", "cookbook-path");
	_cleanup_free_ char *recipe = xasprintf("%s/recipes/default.rb", content_dir);
	if (cookbook && (!*cookbook || cookbook[strspn(cookbook, NAME_CHARS)]))
		return err_set(err, EINVAL, "cookbook = '%s' is no name: letters, digits, - and _ make one", cookbook);
	if (path && strpbrk(path, "'\\"))
		return err_set(err, EINVAL, "cookbook-path = '%s': no quotes and no backslashes", path);
	if (access(recipe, F_OK) < 0)
		return err_set(err, ENOENT, "'recipes/default.rb' is missing: a chef role is a cookbook");
	return 0;
}

static int chef_open(const struct runner_host *host, struct runner **ret, struct err **err)
{
	return onnode_open(host, &tool, ret, err);
}

static const struct runner_tool on_node = {
        "runner-chef", "[role]\nrunner = install\ntool = chef\ntimeout = 15m\nretries = 1\n", "chef-client", "chef-package"};

const struct runner_ops chef_runner = {
        .api = RUNNER_API,
        .name = "chef",
        .help = "applies the role's directory, a Chef cookbook, on the node",
        .keys = keys,
        .keeps_secrets = true,
        .tool = &on_node,
        .batch_max = 1,
        .check = chef_check,
        .open = chef_open,
        .close = onnode_close,
        .run = onnode_run,
        .cancel = onnode_cancel,
};
