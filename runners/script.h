/* Parts of the script runner. */
#ifndef REBARFS_RUNNERS_SCRIPT_H
#define REBARFS_RUNNERS_SCRIPT_H

#include "fs/base/buf.h"
#include "runners/runner.h"

/* "max-size" -> "REBAR_PARAM_MAX_SIZE" */
void script_env_name(struct buf *out, const char *param);
/* A parameter as an environment variable holds it: strings as they are, true and false, lists comma-separated, anything else as JSON. */
void script_env_value(struct buf *out, const json_t *value);
/* The role's program: 'apply', or 'check' for a dry run. */
const char *script_program(const struct run_item *item);
/* The shell script that supervises one run on the node. bash: its program is run by bash, which can tell the command that failed. */
void script_supervisor(struct buf *out, const struct run_item *item, bool bash);
/* What it finds beside itself if there are secrets among the inputs: a shell script that sets the environment. */
void script_env(struct buf *out, const struct run_item *item);
/* First line of the program names bash. */
bool script_is_bash(const char *content_dir, const char *program);

extern const struct runner_ops script_runner;

#endif
