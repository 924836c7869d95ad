/* The salt runner: the role's directory is a formula, and `salt-call --local` on the node applies it. What salt prints of states it could not render
 * looks as good to its exit status as success does, and ended by SIGTERM it exits 0: so that the report which our outputter writes decides. */
#include "runners/salt.h"
#include "fs/base/mem.h"
#include "fs/base/secret.h"
#include "runners/install.h"
#include "runners/node.h"
#include "runners/onnode.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

static const char outputter[] =
#include "runners/salt_report.py.h"
        ;

static const struct key_row keys[] = {
        {"role", "formula", VALUE_STRING, NULL, 0, 0, NULL, "for salt: the formula's name, as its own files say it; default: the role's name"},
        {"role", "salt-call", VALUE_STRING, "salt-call", 0, 0, NULL, "for salt: the program on the node, where it is not in the PATH"},
        {"role", "salt-source", VALUE_STRING, NULL, 0, 0, NULL,
                "for salt: a directory here with salt-call and all that it imports, for nodes without Salt"},
        {NULL},
};

static const char *formula_of(const struct run_item *item)
{
	const char *name = settings_str(item->settings, keys, "role", "formula");
	return name ? name : item->role;
}

json_t *salt_pillar(const struct run_item *item, const char *formula)
{
	json_t *pillar = json_object();
	json_object_set(pillar, formula, (json_t *)item->params);
	json_object_set_new(pillar, "rebar", item->inputs ? json_incref((json_t *)item->inputs) : json_object());
	return pillar;
}

/* All of it is JSON, and says so where Salt would take it for a template: a value may hold {{. Salt merges the two pillars.
 * The formula is copied: Salt serves no file that leads out of its root by a link. */
static void files(struct buf *out, const struct run_item *item)
{
	const char *formula = formula_of(item);
	json_t *pillar = salt_pillar(item, formula);
	char *text = json_dumps(pillar, JSON_COMPACT | JSON_REAL_PRECISION(15));
	_cleanup_buf_ struct buf sls = {.secret = true};
	buf_addf(&sls, "#!json\n%s", text ? text : "{}");
	buf_addf(out,
	        "mkdir states pillar output conf || exit 126\n"
	        "[ ! -e \"$C/init.sls\" ] || cp -Rp \"$C\" states/%s || exit 126\n"
	        "w=$PWD\n"
	        "echo '{\"base\": {\"*\": [\"rebar\", \"outputs\"]}}' > pillar/top.sls\n"
	        "printf '#!json\\n{\"rebar\": {\"outputs\": \"%%s\"}}\\n' \"$D/outputs\" > pillar/outputs.sls\n"
	        "cat > conf/minion << REBAR_END || exit 126\n"
	        "{\"file_client\": \"local\", \"id\": \"%s\", \"root_dir\": \"$w/root\", \"cachedir\": \"$w/cache\", \"pki_dir\": \"$w/pki\",\n"
	        "\"sock_dir\": \"$w/sock\", \"log_file\": \"/dev/null\", \"log_level_logfile\": \"quiet\", \"outputter_dirs\": [\"$w/output\"],\n"
	        "\"file_roots\": {\"base\": [\"$w/states\", \"$C\"]}, \"pillar_roots\": {\"base\": [\"$w/pillar\"]}, \"fileserver_followsymlinks\": "
	        "true,\n"
	        "\"enable_fqdns_grains\": false, \"enable_gpu_grains\": false, \"fileserver_backend\": [\"roots\"]}\n"
	        "REBAR_END\n",
	        formula, item->target->name);
	supervisor_file(out, "output/rebar.py", outputter);
	supervisor_file(out, "pillar/rebar.sls", buf_str(&sls));
	wipe_free(text);
	json_decref(pillar);
}

static void supervisor(struct buf *out, const struct run_item *item)
{
	_cleanup_buf_ struct buf text = {.secret = item->secret}, command = {0};
	if (!item->secret)
		files(&text, item);
	buf_adds(&command, "salt=");
	sh_quote(&command, settings_str(item->settings, keys, "role", "salt-call"));
	buf_addf(&command,
	        "\nPATH=$PATH:/opt/saltstack/salt:" INSTALLED_TOOLS "/salt\n"
	        "command -v \"$salt\" > /dev/null || { echo \"$salt is not on this node: let a role that this one requires install Salt, or name it "
	        "with 'salt-call ='\"; exit 127; }\n"
	        "export REBAR_FORMULA=%s PYTHONDONTWRITEBYTECODE=1\n"
	        "exec \"$salt\" --local --config-dir \"$PWD/conf\" --retcode-passthrough --out=rebar --log-level=warning state.apply %s%s\n",
	        formula_of(item), formula_of(item), item->check ? " test=True" : "");
	onnode_supervisor(out, item, buf_str(&text), buf_str(&command));
}

static void judge(const struct onnode_end *end, struct onnode_verdict *v)
{
	report_judge("salt", end, v);
}

/* ---- the plug-in ---- */

static const struct onnode_tool tool = {.name = "salt", .supervisor = supervisor, .private = files, .judge = judge};

/* Either the formula's own directory, or a repository that has one in it. */
static int salt_check(const char *content_dir, const struct settings *settings, struct err **err)
{
	const char *formula = settings_str(settings, keys, "role", "formula");
	if (formula && (!*formula || formula[strspn(formula, NAME_CHARS)]))
		return err_set(err, EINVAL, "formula = '%s' is no name: letters, digits, - and _ make one", formula);
	_cleanup_free_ char *own = xasprintf("%s/init.sls", content_dir);
	_cleanup_free_ char *below = xasprintf("%s/%s/init.sls", content_dir, formula ? formula : "");
	if (access(own, F_OK) == 0 || (formula && access(below, F_OK) == 0))
		return 0;
	if (formula)
		return err_set(err, ENOENT, "neither 'init.sls' nor '%s/init.sls' is there: a salt role is a formula", formula);
	return err_set(err, ENOENT, "'init.sls' is missing: a salt role is a formula; of a repository with several, 'formula =' names the one");
}

static int salt_open(const struct runner_host *host, struct runner **ret, struct err **err)
{
	return onnode_open(host, &tool, ret, err);
}

static const struct runner_tool on_node = {
        "runner-salt", "[role]\nrunner = install\ntool = salt\ntimeout = 15m\nretries = 1\n", "salt-call", "salt-source"};

const struct runner_ops salt_runner = {
        .api = RUNNER_API,
        .name = "salt",
        .help = "applies the role's directory, a Salt formula, on the node",
        .keys = keys,
        .keeps_secrets = true,
        .tool = &on_node,
        .batch_max = 1,
        .check = salt_check,
        .open = salt_open,
        .close = onnode_close,
        .run = onnode_run,
        .cancel = onnode_cancel,
};
