/* The puppet runner: the role's directory is a module, and `puppet apply` on the node includes its class. Puppet's exit status alone proves nothing
 * (0 is also what it says of a dry run that found changes), so that the report which our processor writes decides. */
#include "runners/puppet.h"
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "fs/base/secret.h"
#include "runners/node.h"
#include "runners/onnode.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define MANIFEST_MAX (1024 * 1024)

static const char processor[] =
#include "runners/puppet_report.rb.h"
        ;

static const struct key_row keys[] = {
        {"role", "modulepath", VALUE_LIST, "/usr/share/puppet/modules", 0, 0, NULL,
                "for puppet: where the modules are that it needs: directories in the role, or on the node"},
        {"role", "sensitive", VALUE_BOOL, "yes", 0, 0, NULL, "for puppet: hand secret parameters to the class as Sensitive; no: as String"},
        {NULL},
};

/* ---- what hiera reads ---- */

/* Hiera looks for %{...} in every string, keys included: values of ours are text, those of other nodes among them. */
static json_t *literal_text(const char *text, size_t len)
{
	_cleanup_buf_ struct buf b = {.secret = true};
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '%' && i + 1 < len && text[i + 1] == '{')
			buf_adds(&b, "%{literal('%')}");
		else
			buf_addc(&b, text[i]);
	}
	return json_stringn(buf_str(&b), b.len);
}

static json_t *literal(const json_t *value)
{
	const char *key;
	json_t *item, *copy;
	size_t i;
	switch (json_typeof(value)) {
	case JSON_STRING:
		return literal_text(json_string_value(value), json_string_length(value));
	case JSON_ARRAY:
		copy = json_array();
		json_array_foreach((json_t *)value, i, item) json_array_append_new(copy, literal(item));
		return copy;
	case JSON_OBJECT:
		copy = json_object();
		json_object_foreach((json_t *)value, key, item)
		{
			json_t *name = literal_text(key, strlen(key));
			json_object_set_new(copy, json_string_value(name), literal(item));
			json_decref(name);
		}
		return copy;
	default:
		return json_incref((json_t *)value);
	}
}

static char *param_key(const char *class, const char *param)
{
	char *key = xasprintf("%s::%s", class, param);
	for (char *c = key; *c; c++)
		if (*c == '-' || *c == '.')
			*c = '_';
	return key;
}

json_t *puppet_data(const struct run_item *item, const char *class, bool sensitive)
{
	json_t *data = json_object(), *options = json_object(), *value;
	const char *name;
	size_t i;
	json_object_foreach((json_t *)item->params, name, value)
	{
		_cleanup_free_ char *key = param_key(class, name);
		json_object_set_new(data, key, literal(value));
	}
	json_array_foreach((json_t *)item->secret_params, i, value)
	{
		_cleanup_free_ char *key = param_key(class, json_string_value(value));
		if (sensitive && json_object_get(data, key))
			json_object_set_new(options, key, json_pack("{s:s}", "convert_to", "Sensitive"));
	}
	json_object_set_new(data, "rebar", item->inputs ? literal(item->inputs) : json_object());
	json_object_set_new(data, "lookup_options", options);
	return data;
}

/* ---- the module ---- */

bool puppet_class(const char *manifest, struct buf *out)
{
	for (const char *line = manifest; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		const char *word = line + strspn(line, " \t");
		if (strncmp(word, "class", 5) != 0 || (word[5] != ' ' && word[5] != '\t'))
			continue;
		word += 5 + strspn(word + 5, " \t");
		size_t len = strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789_");
		if (len == 0 || len > 100 || word[len] == ':')
			continue;
		buf_add(out, word, len);
		return true;
	}
	return false;
}

static int module_class(const char *content_dir, struct buf *out, struct err **err)
{
	_cleanup_free_ char *path = xasprintf("%s/manifests/init.pp", content_dir);
	_cleanup_buf_ struct buf text = {0};
	if (access(path, F_OK) < 0 && errno == ENOENT)
		return err_set(err, ENOENT, "'manifests/init.pp' is missing: a puppet role is a module");
	int rc = file_read(AT_FDCWD, path, MANIFEST_MAX, &text, err);
	if (rc < 0)
		return rc;
	return puppet_class(buf_str(&text), out) ? 0 : err_set(err, EINVAL, "'manifests/init.pp' defines no class");
}

/* Relative ones are the content's own; quoted for a shell that has $C. */
static void add_modulepath(struct buf *out, const struct run_item *item)
{
	_cleanup_free_ char *list = xstrdup(settings_str(item->settings, keys, "role", "modulepath"));
	char *rest = list;
	buf_adds(out, "P=\"$PWD/modules\"\n");
	for (char *dir; (dir = strsep(&rest, ", \t"));) {
		if (!*dir)
			continue;
		buf_adds(out, *dir == '/' ? "P=$P:" : "P=$P:$C/");
		sh_quote(out, dir);
		buf_addc(out, '\n');
	}
}

static void class_of(const struct run_item *item, struct buf *class)
{
	if (module_class(item->content_dir, class, NULL) < 0)
		buf_adds(class, "none"); /* its content is gone from the store: only ever where a run is attached to */
}

static void files(struct buf *out, const struct run_item *item, const char *class)
{
	_cleanup_buf_ struct buf site = {0};
	json_t *data = puppet_data(item, class, settings_bool(item->settings, keys, "role", "sensitive"));
	char *text = json_dumps(data, JSON_COMPACT | JSON_REAL_PRECISION(15));
	buf_addf(&site, "include %s", class);
	buf_addf(out, "mkdir -p modules data lib/puppet/reports conf && ln -s \"$C\" modules/%s || exit 126\n", class);
	supervisor_file(out, "lib/puppet/reports/rebar.rb", processor);
	supervisor_file(out, "hiera.yaml",
	        "version: 5\nhierarchy:\n  - name: rebar\n    data_hash: json_data\n    path: node.json\ndefaults:\n  datadir: data\n");
	supervisor_file(out, "site.pp", buf_str(&site));
	supervisor_file(out, "data/node.json", text ? text : "{}");
	wipe_free(text);
	json_decref(data);
}

static void private_files(struct buf *out, const struct run_item *item)
{
	_cleanup_buf_ struct buf class = {0};
	class_of(item, &class);
	files(out, item, buf_str(&class));
}

/* Everything that Puppet keeps lies in the run's own directory: its bucket holds copies of the files it replaced, secrets too. */
static void supervisor(struct buf *out, const struct run_item *item)
{
	_cleanup_buf_ struct buf text = {.secret = item->secret}, command = {0}, class = {0};
	class_of(item, &class);
	if (!item->secret)
		files(&text, item, buf_str(&class));
	buf_adds(&command, "PATH=$PATH:/opt/puppetlabs/bin\n"
	                   "command -v puppet > /dev/null || { echo \"puppet is not on this node: let a role that this one requires install it "
	                   "(apt-get install puppet-agent)\"; exit 127; }\n");
	add_modulepath(&command, item);
	buf_addf(&command, "export RUBYLIB=\"$PWD/lib\" REBAR_STRIP=\"$PWD/modules/%s/\" FACTER_rebar_outputs=\"$REBAR_OUTPUTS\"\n", buf_str(&class));
	buf_addf(&command,
	        "puppet apply --config \"$PWD/puppet.conf\" --confdir \"$PWD/conf\" --vardir \"$PWD/var\" --rundir \"$PWD/run\" "
	        "--logdir \"$PWD/log\" --ssldir \"$PWD/ssl\" --hiera_config \"$PWD/hiera.yaml\" --modulepath \"$P\" --report --reports rebar "
	        "--detailed-exitcodes --logdest console --color=false --show_diff %s\"$PWD/site.pp\"\n"
	        /* 2: something changed, and that is what it was for */
	        "rc=$?; [ $rc != 2 ] || rc=0; exit $rc\n",
	        item->check ? "--noop " : "");
	onnode_supervisor(out, item, buf_str(&text), buf_str(&command));
}

/* ---- the end ---- */

/* Of a catalog that cannot be compiled there is no report: what Puppet printed names files as they lay on the node. */
static void in_role(struct buf *why)
{
	static const char modules[] = "/tool/modules/";
	_cleanup_buf_ struct buf out = {0};
	const char *rest = buf_str(why), *found;
	while ((found = strstr(rest, modules))) {
		const char *from = found, *to = strchr(found + strlen(modules), '/');
		while (from > rest && from[-1] != ' ')
			from--;
		if (!to)
			break;
		buf_add(&out, rest, (size_t)(from - rest));
		rest = to + 1;
	}
	buf_adds(&out, rest);
	buf_reset(why);
	buf_add(why, buf_str(&out), out.len);
}

static void judge(const struct onnode_end *end, struct onnode_verdict *v)
{
	report_judge("puppet", end, v);
	in_role(&v->why);
}

/* ---- the plug-in ---- */

static const struct onnode_tool tool = {.name = "puppet", .supervisor = supervisor, .private = private_files, .judge = judge};

static int puppet_check(const char *content_dir, const struct settings *settings, struct err **err)
{
	_cleanup_buf_ struct buf class = {0};
	return module_class(content_dir, &class, err);
}

static int puppet_open(const struct runner_host *host, struct runner **ret, struct err **err)
{
	return onnode_open(host, &tool, ret, err);
}

/* Whoever has puppet from elsewhere names a role that 'provides = runner-puppet'. */
static const struct runner_tool on_node = {"runner-puppet", "[role]\nrunner = install\ntool = puppet\ntimeout = 15m\nretries = 1\n", NULL, NULL};

const struct runner_ops puppet_runner = {
        .api = RUNNER_API,
        .name = "puppet",
        .help = "applies the role's directory, a Puppet module, on the node",
        .keys = keys,
        .keeps_secrets = true,
        .tool = &on_node,
        .batch_max = 1,
        .check = puppet_check,
        .open = puppet_open,
        .close = onnode_close,
        .run = onnode_run,
        .cancel = onnode_cancel,
};
