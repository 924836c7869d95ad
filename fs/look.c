#include "fs/look.h"
#include "fs/base/mem.h"
#include "fs/engine/engine.h"
#include "fs/engine/plan.h"
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { NOTHING, SOMETHING, CANNOT_LOOK };

static int cannot(const struct err *err)
{
	fprintf(stderr, "rebarfs: %s\n", err_msg(err));
	return CANNOT_LOOK;
}

/* A pipe that was closed or a full disk: half an answer must not look like one. */
static int flushed(int rc)
{
	if (!fflush(stdout) && !ferror(stdout))
		return rc;
	fprintf(stderr, "rebarfs: cannot write the answer: %s\n", strerror(errno));
	return CANNOT_LOOK;
}

/* ---- mistakes ---- */

/* What is about a whole file is put where an editor opens it. */
static int line_of(const struct problem *p)
{
	return p->line ? p->line : 1;
}

static int column_of(const struct problem *p)
{
	return p->column ? p->column : 1;
}

static void mistakes_text(const struct desired *d, FILE *out)
{
	for (size_t i = 0; i < d->n_problems; i++) {
		const struct problem *p = &d->problems[i];
		fprintf(out, "%s:%d:%d: %s\n", p->file, line_of(p), column_of(p), p->text);
	}
}

static void mistakes_json(const struct desired *d, FILE *out)
{
	json_t *all = json_array();
	for (size_t i = 0; i < d->n_problems; i++) {
		const struct problem *p = &d->problems[i];
		json_array_append_new(
		        all, json_pack("{s:s, s:i, s:i, s:s}", "file", p->file, "line", line_of(p), "column", column_of(p), "message", p->text));
	}
	json_dumpf(all, out, JSON_INDENT(2));
	fputc('\n', out);
	json_decref(all);
}

int look_check(const char *repo, bool json)
{
	_cleanup_err_ struct err *err = NULL;
	struct tree *tree = NULL;
	struct desired *d = NULL;
	int rc = tree_read_repo(repo, NULL, NULL, &tree, &err);
	if (!rc)
		rc = desired_parse(tree, engine_schema(), &d, &err);
	tree_free(tree);
	if (rc)
		return cannot(err);
	(json ? mistakes_json : mistakes_text)(d, stdout);
	rc = d->n_problems ? SOMETHING : NOTHING;
	desired_unref(d);
	return flushed(rc);
}

/* ---- plans ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct deployment *const *)a)->row.name, (*(struct deployment *const *)b)->row.name);
}

static struct deployment **deployments_of(const struct model *m, size_t *ret_n)
{
	struct deployment **all = xcalloc(HASH_CNT(hh_name, m->deployments_by_name) + 1, sizeof *all);
	size_t n = 0;
	for (struct deployment *d = m->deployments_by_name; d; d = d->hh_name.next)
		all[n++] = d;
	qsort(all, n, sizeof *all, by_name);
	*ret_n = n;
	return all;
}

/* As 'tail -v -n +1 deployments/NAME/plan' shows them in the mount; with json, what the plan.json of each is, in an array. */
static void plan_add(const struct plan *p, const struct deployment *d, bool json, struct buf *out)
{
	if (json) {
		buf_adds(out, out->len ? ",\n" : "[");
		plan_json(p, d, out);
		out->data[--out->len] = 0; /* its newline */
	} else {
		buf_addf(out, "%s==> deployments/%s/plan <==\n", out->len ? "\n" : "", d->row.name);
		plan_text(p, out);
	}
}

static int plan_all(struct engine *e, bool json, struct buf *out)
{
	size_t n;
	const struct model *m = engine_model(e);
	_cleanup_free_ struct deployment **all = deployments_of(m, &n);
	int rc = NOTHING;
	for (size_t i = 0; i < n; i++) {
		const struct deployment *d = all[i];
		struct plan p;
		if (d->invalid) {
			fprintf(stderr, "rebarfs: deployment '%s' would not come into force: %s\n", d->row.name, d->problem);
			rc = CANNOT_LOOK;
		}
		plan_make(m, d, &p);
		if (p.n_lines && rc == NOTHING)
			rc = SOMETHING;
		plan_add(&p, d, json, out);
		plan_release(&p);
	}
	if (json)
		buf_adds(out, out->len ? "]\n" : "[]\n");
	return rc;
}

int look_plan(const char *repo, const char *state_dir, bool json)
{
	_cleanup_err_ struct err *err = NULL;
	_cleanup_buf_ struct buf out = {0};
	struct engine *e = NULL;
	int rc = engine_preview(repo, state_dir, &e, &err);
	if (rc < 0)
		return cannot(err);
	rc = plan_all(e, json, &out);
	engine_free(e);
	fwrite(buf_str(&out), 1, out.len, stdout);
	return flushed(rc);
}
