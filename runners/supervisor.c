/* The shell script that runs a role's content on the node: what it puts into the environment, and how the end is recorded. */
#include "fs/base/mem.h"
#include "fs/base/secret.h"
#include "runners/node.h"
#include "runners/onnode.h"
#include "runners/script.h"
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

/* One string of execve() may have 128 KiB (MAX_ARG_STRLEN). */
#define ENV_MAX 120000

void script_env_name(struct buf *out, const char *param)
{
	buf_adds(out, "REBAR_PARAM_");
	for (; *param; param++) {
		bool letter = *param >= 'a' && *param <= 'z';
		bool plain = (*param >= 'A' && *param <= 'Z') || (*param >= '0' && *param <= '9');
		buf_addc(out, letter ? *param - 'a' + 'A' : plain ? *param : '_');
	}
}

void script_env_value(struct buf *out, const json_t *value)
{
	size_t i;
	json_t *item;
	switch (json_typeof(value)) {
	case JSON_STRING:
		buf_add(out, json_string_value(value), json_string_length(value));
		return;
	case JSON_ARRAY:
		json_array_foreach((json_t *)value, i, item)
		{
			if (i)
				buf_addc(out, ',');
			script_env_value(out, item);
		}
		return;
	case JSON_NULL:
		return;
	default: {
		char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
		buf_adds(out, text ? text : "");
		wipe_free(text);
	}
	}
}

const char *script_program(const struct run_item *item)
{
	return item->check ? "check" : item->remove ? "remove" : "apply";
}

bool script_is_bash(const char *content_dir, const char *program)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", content_dir, program);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char line[129];
	ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
	if (n < 2)
		return false;
	line[n] = 0;
	line[strcspn(line, "\n")] = 0;
	return !strncmp(line, "#!", 2) && strstr(line, "bash");
}

static void add_assignment(struct buf *out, const char *before, const char *name, const char *value)
{
	buf_addf(out, "%s%s=", before, name);
	sh_quote(out, value);
}

#define ARGUMENT " \\\n\t"
#define COMMAND "\nexport "

static void add_params(struct buf *out, const char *before, struct buf *notes, const json_t *params)
{
	const char *name;
	json_t *value;
	json_object_foreach((json_t *)params, name, value)
	{
		_cleanup_buf_ struct buf env_name = {0}, text = {.secret = true};
		script_env_name(&env_name, name);
		script_env_value(&text, value);
		if (text.len <= ENV_MAX) {
			add_assignment(out, before, buf_str(&env_name), buf_str(&text));
			continue;
		}
		_cleanup_buf_ struct buf note = {0};
		buf_addf(&note, "rebar: $%s is not set: %zu bytes are too long for the environment, read it from $REBAR_INPUTS", buf_str(&env_name),
		        text.len);
		buf_adds(notes, "echo ");
		sh_quote(notes, buf_str(&note));
		buf_addc(notes, '\n');
	}
}

void script_env(struct buf *out, const struct run_item *item)
{
	struct buf notes = {0};
	add_params(out, COMMAND, &notes, item->params);
	buf_addc(out, '\n');
	buf_release(&notes);
}

void supervisor_inputs(struct buf *out, const struct run_item *item)
{
	char *inputs = json_dumps(item->inputs, JSON_COMPACT | JSON_REAL_PRECISION(15));
	buf_adds(out, inputs ? inputs : "{}");
	buf_addc(out, '\n');
	wipe_free(inputs);
}

/* Starts the tool in an environment of its own: nothing of the login shell's. */
#define CLEAN_ENV                                                                                                                                    \
	"h=$(getent passwd 0 2>/dev/null | cut -d: -f6)\n"                                                                                           \
	"exec env -i HOME=\"${h:-/root}\" PATH=\"$PATH\" LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive USER=root SHELL=/bin/sh \\\n"                 \
	"\tREBAR_INPUTS=\"$S/inputs.json\" REBAR_OUTPUTS=\"$D/outputs\" REBAR_REPORT=\"$S/report.json\""

static void add_names(struct buf *env, const struct run_item *item)
{
	add_assignment(env, ARGUMENT, "REBAR_ROLE", item->role);
	add_assignment(env, ARGUMENT, "REBAR_NODE", item->target->name);
	_cleanup_free_ char *number = xasprintf("%" PRId64, item->number);
	add_assignment(env, ARGUMENT, "REBAR_RUN", number);
}

void supervisor_begin(struct buf *out, const struct run_item *item)
{
	buf_adds(out, node_supervisor_tools);
	buf_addf(out, "C=$R/content/%s\n", item->content_hash);
	buf_adds(out, "cd \"$D\" || exit 1\n"
	              "echo \"$$ $(started_at $$)\" > pid.new && mv pid.new pid || exit 1\n"
	              "hundredths; b=$u; echo $b > begin\n");
	if (item->secret) {
		buf_adds(out, "read -r S < private || exit 1\n");
		return;
	}
	/* JSON on one line cannot hold the delimiter on a line of its own */
	buf_adds(out, "S=$D\ncat > inputs.json << 'REBAR_END'\n");
	supervisor_inputs(out, item);
	buf_adds(out, "REBAR_END\n");
}

void supervisor_end(struct buf *out, const struct run_item *item)
{
	buf_adds(out, "hundredths\n");
	if (item->secret)
		buf_adds(out, "rm -f \"$S/env\" \"$S/inputs.json\"\n");
	buf_adds(out, "echo $rc $((u - b)) > status.new && mv status.new status\n"
	              "exec 9>&-\n"
	              "prune > /dev/null 2>&1\n");
}

void supervisor_file(struct buf *out, const char *path, const char *text)
{
	size_t len = strlen(text);
	buf_addf(out, "cat > '%s' << 'REBAR_END' || exit 126\n%s%sREBAR_END\n", path, text, len && text[len - 1] == '\n' ? "" : "\n");
}

void onnode_supervisor(struct buf *out, const struct run_item *item, const char *files, const char *command)
{
	_cleanup_buf_ struct buf env = {0};
	add_names(&env, item);
	supervisor_begin(out, item);
	buf_adds(out, "rm -rf \"$S/tool\"; mkdir \"$S/tool\" || { echo 126 0 > status; exit 1; }\n(\nexec 9>&-\ncd \"$S/tool\" || exit 126\n");
	buf_adds(out, item->secret ? ". \"$S/env\"\n" : files);
	buf_adds(out, "umask 022\n" CLEAN_ENV);
	buf_add(out, env.data, env.len);
	buf_adds(out, ARGUMENT "C=\"$C\"" ARGUMENT "/bin/sh -c ");
	sh_quote(out, command);
	buf_adds(out, "\n)\nrc=$?\nrm -rf \"$S/tool\"\n");
	supervisor_end(out, item);
}

void script_supervisor(struct buf *out, const struct run_item *item, bool bash)
{
	_cleanup_buf_ struct buf env = {.secret = item->secret}, notes = {0};
	add_params(&env, ARGUMENT, &notes, item->params);
	if (item->secret)
		buf_reset(&env); /* arguments of env(1) are for everybody to see: these come by the file */
	add_names(&env, item);

	supervisor_begin(out, item);
	if (bash)
		/* Bash reads BASH_ENV before the script. Its ERR trap notes the command at which 'set -e' ends it; scripts that it starts get none of
		 * this. */
		buf_adds(out, "cat > trap << REBAR_END\n"
		              "unset BASH_ENV; set -E\n"
		              "trap 'case \\$- in *e*) printf %s \"\\$BASH_COMMAND\" > $D/failed;; esac' ERR\n"
		              "REBAR_END\n");
	buf_adds(out, "cp -Rp \"$C\" work || { echo 126 0 > status; exit 1; }\n"
	              "(\n"
	              "exec 9>&-\n"
	              "umask 022\n"
	              "cd work || exit 126\n");
	buf_add(out, buf_str(&notes), notes.len);
	buf_adds(out, CLEAN_ENV);
	if (bash)
		buf_adds(out, " BASH_ENV=\"$D/trap\"");
	buf_add(out, buf_str(&env), env.len);
	if (item->secret)
		buf_addf(out, " \\\n\t/bin/sh -c '. \"$0\"; exec ./%s' \"$S/env\"\n)\n", script_program(item));
	else
		buf_addf(out, " \\\n\t./%s\n)\n", script_program(item));
	buf_adds(out, "rc=$?\nrm -rf work\n");
	supervisor_end(out, item);
}
