/* The install runner: puts a tool on the node. A tool that is there already is left alone, wherever it came from; else it is installed from the
 * node's own package sources (puppet), or copied from the control host (salt-source, chef-package). */
#include "runners/install.h"
#include "fs/base/hash.h"
#include "fs/base/mem.h"
#include "runners/node.h"
#include "runners/onnode.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct key_row keys[] = {
        {"role", "tool", VALUE_ENUM, NULL, 0, 0, "puppet,salt,chef", "for install: what is to be on the node"},
        {"role", "salt-source", VALUE_STRING, NULL, 0, 0, NULL, "for install: a directory here with salt-call and all that it imports"},
        {"role", "chef-package", VALUE_STRING, NULL, 0, 0, NULL, "for install: a Debian package, or a directory with the program, here"},
        {NULL},
};

static const char *tool_of(const struct settings *s)
{
	const char *name = settings_str(s, keys, "role", "tool");
	return name ? name : "";
}

/* What is shipped; NULL: nothing. */
static const char *source_of(const struct settings *s)
{
	const char *tool = tool_of(s), *key = !strcmp(tool, "salt") ? "salt-source" : !strcmp(tool, "chef") ? "chef-package" : NULL;
	return key ? settings_str(s, keys, "role", key) : NULL;
}

/* Nothing else leaves this host, or whoever writes a role could have any directory of root's copied to a node. */
static bool holds_tool(const char *source)
{
	static const char *const programs[] = {"salt-call", "chef-client", "cinc-client", NULL};
	struct stat st;
	size_t len = strlen(source);
	if (stat(source, &st) < 0 || *source != '/')
		return false;
	bool holds = S_ISREG(st.st_mode) && len > 4 && !strcmp(source + len - 4, ".deb");
	for (size_t i = 0; !holds && programs[i]; i++) {
		_cleanup_free_ char *program = xasprintf("%s/%s", source, programs[i]);
		holds = access(program, X_OK) == 0;
	}
	return holds;
}

/* Named by path and time: to read a tool whole each time would take longer than it takes to ship it. */
static char *content(const struct run_item *item, struct hash *ret_hash)
{
	struct stat st = {0};
	const char *source = source_of(item->settings);
	if (source && !holds_tool(source))
		source = NULL; /* the sentence is the node's */
	if (source && stat(source, &st) < 0)
		st = (struct stat){0};
	_cleanup_free_ char *text = xasprintf(
	        "tool %s %" PRId64 ".%ld %" PRId64, source ? source : "", (int64_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (int64_t)st.st_size);
	hash_bytes(text, strlen(text), ret_hash);
	return xstrdup(source ? source : "");
}

/* ---- on the node ---- */

#define REPORT                                                                                                                                       \
	"tell() { printf '{\"status\": \"ok\", \"resources\": [{\"name\": \"%s\", \"status\": \"%s\", \"message\": \"%s\"}]}\\n' $T $1 \"$2\" > "    \
	"$REBAR_REPORT; exit 0; }\n"                                                                                                                 \
	"die() { echo \"$T is not on this node, $*\"; exit 1; }\n"                                                                                   \
	"there() { for p in $P; do f=$(command -v $p) && return 0; done; return 1; }\n"                                                              \
	"! there || { echo \"$f is there\"; tell unchanged; }\n"                                                                                     \
	"[ $CHECK = 0 ] || { echo \"$T is not there\"; tell changed \"not there\"; }\n"                                                              \
	"A='-q -y -o DPkg::Lock::Timeout=300 -o DPkg::Use-Pty=0 --no-install-recommends'\n"

static const char install_puppet[] =
        "command -v apt-get > /dev/null || die 'and it has no apt-get: let a role that provides = runner-puppet install it'\n"
        "apt-get $A install puppet-agent || { apt-get -q update && apt-get $A install puppet-agent; } ||\n"
        "	die 'and apt-get cannot install puppet-agent: see the log'\n";

#define COPY                                                                                                                                         \
	"D=" INSTALLED_TOOLS "/$T\n"                                                                                                                 \
	"copy() { mkdir -p " INSTALLED_TOOLS " && rm -rf $D $D.new && cp -Rp \"$C\" $D.new && mv $D.new $D || die 'and cannot be copied to it'; }\n"

static const char install_salt[] = COPY "[ -n \"$FROM\" ] || die \"and no role says 'salt-source = DIRECTORY', where to copy it from\"\n"
                                        "[ -x \"$C/salt-call\" ] || die \"and there is no program salt-call in '$FROM'\"\n"
                                        "copy\n"
                                        "$D/salt-call --version || { rm -rf $D; die 'and what was copied to it does not run: see the log'; }\n";

static const char install_chef[] =
        COPY "[ -n \"$FROM\" ] || die \"and no role says 'chef-package = FILE or DIRECTORY', where to take it from\"\n"
             "set -- \"$C\"/*.deb\n"
             "if [ -f \"$1\" ]; then\n"
             "	apt-get $A install \"$1\" || { apt-get -q update && apt-get $A install \"$1\"; } || die \"and apt-get cannot install '${1##*/}': "
             "see the log\"\n"
             "else\n"
             "	[ -x \"$C/chef-client\" ] || [ -x \"$C/cinc-client\" ] || die \"and there is no program chef-client or cinc-client in '$FROM'\"\n"
             "	copy\n"
             "fi\n";

static const struct {
	const char *name, *programs, *path, *install;
} tools[] = {
        {"puppet", "puppet", "/opt/puppetlabs/bin", install_puppet},
        {"salt", "salt-call", "/opt/saltstack/salt:" INSTALLED_TOOLS "/salt", install_salt},
        {"chef", "chef-client cinc-client", "/opt/chef/bin:/opt/cinc/bin:" INSTALLED_TOOLS "/chef", install_chef},
};

static void command_of(struct buf *out, const struct run_item *item)
{
	const char *tool = tool_of(item->settings), *from = source_of(item->settings);
	size_t i = 0;
	while (i + 1 < sizeof tools / sizeof *tools && strcmp(tools[i].name, tool) != 0)
		i++;
	buf_addf(out, "T=%s P='%s' PATH=$PATH:%s CHECK=%d FROM=", tools[i].name, tools[i].programs, tools[i].path, item->check);
	sh_quote(out, from ? from : "");
	buf_adds(out, "\n" REPORT);
	buf_adds(out, tools[i].install);
	buf_adds(out, "there || die 'although it was installed: it is in none of the directories of the PATH'\ntell changed installed\n");
}

static void supervisor(struct buf *out, const struct run_item *item)
{
	_cleanup_buf_ struct buf command = {0};
	command_of(&command, item);
	onnode_supervisor(out, item, "", buf_str(&command));
}

static void private_files(struct buf *out, const struct run_item *item)
{
}

/* What it prints last is the sentence. */
static void judge(const struct onnode_end *end, struct onnode_verdict *v)
{
	if (end->exit_status == 0) {
		report_judge("install", end, v);
		return;
	}
	v->result = RUN_FAILED;
	buf_adds(&v->why, end->item->hide || !*end->tail ? "it cannot be installed" : end->tail);
	report_add(v->resources, tool_of(end->item->settings), "failed", NULL, 0, buf_str(&v->why));
}

/* ---- the plug-in ---- */

static const struct onnode_tool tool = {.name = "install", .content = content, .supervisor = supervisor, .private = private_files, .judge = judge};

static int install_check(const char *content_dir, const struct settings *settings, struct err **err)
{
	return *tool_of(settings) ? 0 : err_set(err, EINVAL, "[role] has no 'tool': say puppet, salt or chef");
}

static int install_open(const struct runner_host *host, struct runner **ret, struct err **err)
{
	return onnode_open(host, &tool, ret, err);
}

const struct runner_ops install_runner = {
        .api = RUNNER_API,
        .name = "install",
        .help = "puts a tool on the node that another runner needs",
        .keys = keys,
        .keeps_secrets = true,
        .batch_max = 1,
        .check = install_check,
        .open = install_open,
        .close = onnode_close,
        .run = onnode_run,
        .cancel = onnode_cancel,
};
