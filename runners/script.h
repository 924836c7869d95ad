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
/* What it finds beside itself if there are secrets among the inputs: a shell script that sets the environment, and inputs.json. */
void script_env(struct buf *out, const struct run_item *item);
void script_inputs(struct buf *out, const struct run_item *item);
/* First line of the program names bash. */
bool script_is_bash(const char *content_dir, const char *program);

/* Contents as archives, made once for all nodes they are shipped to. */
extern const struct runner_ops script_runner;

struct packer;
struct packer *packer_open(const struct runner_host *host, struct err **err);
void packer_close(struct packer *p);
/* done: path of the tar.gz, or NULL and the sentence. From the loop; may come at once, never from inside the call. */
struct pack_wait;
struct pack_wait *packer_want(
        struct packer *p, const char *hash, const char *content_dir, void (*done)(void *arg, const char *path, const struct err *err), void *arg);
void packer_cancel(struct pack_wait *w);

#endif
