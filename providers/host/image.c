/* From an image's name to what a node can stand on: the tree first, then, for kinds that want more than a tree, what is made of it. */
#include "providers/host/instance.h"

#include "fs/base/io.h"
#include "fs/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BUILD_MS (60 * 60 * 1000LL)
#define PARTS 2 /* tree and base: what is built more often than that does not come to be */

static void step(struct op *op);

/* ---- those that are known to be there */

void images_forget(struct provider *p)
{
	struct ready_image *image, *next;

	HASH_ITER (hh, p->images, image, next) {
		HASH_DEL(p->images, image);
		free(image->name);
		free(image->base);
		free(image);
	}
}

static void remember(struct op *op)
{
	struct provider *p = op->p;
	struct ready_image *r;

	HASH_FIND_STR(p->images, op->image, r);
	if (!r) {
		r = xcalloc(1, sizeof *r);
		r->name = xstrdup(op->image);
		HASH_ADD_KEYPTR(hh, p->images, r->name, strlen(r->name), r);
	}
	str_replace(&r->base, op->base);
}

const char *image_base(struct provider *p, const char *name)
{
	struct ready_image *r;

	HASH_FIND_STR(p->images, name, r);
	return r && access(r->base, F_OK) == 0 ? r->base : NULL;
}

int image_look_up(struct op *op)
{
	struct provider *p = op->p;
	int rc;

	image_release(&op->resolved);
	rc = image_resolve(&p->settings, op->image, p->cache_dir, p->base_dir, &op->resolved, &op->err);
	free(op->base);
	op->base = rc < 0 ? NULL : p->kind->base ? p->kind->base(p, &op->resolved) : xstrdup(op->resolved.tree);
	return rc;
}

/* ---- building */

static void build_line(void *arg, const char *line, size_t len)
{
	struct op *op = arg;
	_cleanup_free_ char *text = xstrndup(line, len);
	const char *progress = image_progress(text);

	if (progress) {
		_cleanup_buf_ struct buf b = {0};
		buf_addf(&b, "building image %s: %s", op->resolved.name, progress);
		op_progress(op, buf_str(&b));
	}
	/* the first line that is an error (the later ones only say that something failed), else the last line */
	if (len && !progress && strncmp(buf_str(&op->last), "E: ", 3)) {
		buf_reset(&op->last);
		buf_adds(&op->last, text);
	}
}

static void run_build(struct op *op, const char *name, const struct strlist *argv, const struct strlist *env, const struct buf *input)
{
	struct child_spec spec = {.argv = (const char *const *)argv->items,
	        .env = (const char *const *)env->items,
	        .input = input->len ? input->data : NULL,
	        .input_len = input->len,
	        .on_line = build_line,
	        .timeout_ms = BUILD_MS};
	_cleanup_free_ char *s = xasprintf("building image %s", op->resolved.name);

	op->built++;
	op->child_name = name;
	op_progress(op, s);
	op_child(op, &spec, step);
}

static void build_tree(struct op *op)
{
	_cleanup_strlist_ struct strlist argv = {0}, env = {0};
	_cleanup_buf_ struct buf input = {0}, apt = {0};

	apt_config_lines(op->p->apt_dump ? op->p->apt_dump : "", NULL, &apt);
	image_command(&op->resolved, buf_str(&apt), &argv, &env, &input);
	run_build(op, op->resolved.source ? "tar" : "mmdebstrap", &argv, &env, &input);
}

static void build_base(struct op *op)
{
	_cleanup_strlist_ struct strlist argv = {0}, env = {0};
	_cleanup_buf_ struct buf none = {0}, apt = {0};

	apt_config_lines(op->p->apt_dump ? op->p->apt_dump : "", NULL, &apt);
	op->p->kind->base_command(&op->resolved, op->base, buf_str(&apt), &argv, &env);
	run_build(op, "making its disk", &argv, &env, &none);
}

static void directory_made(struct op *op)
{
	const struct host_kind *kind = op->p->kind;
	bool tree = (!kind->no_tree || !kind->no_tree(&op->resolved)) && !image_ready(&op->resolved);

	if (op->rc < 0 || op->cancelled || op->p->closed)
		op->after_image(op);
	else if (tree)
		build_tree(op);
	else
		build_base(op);
}

static void make_directory(struct op *op)
{
	_cleanup_free_ char *dir = xstrdup(op->built || image_ready(&op->resolved) ? op->base : op->resolved.tree);

	*strrchr(dir, '/') = '\0';
	op->rc = dir_make_all(dir, 0755, &op->err);
}

/* ---- the way there */

static bool tree_is_there(struct op *op)
{
	const struct host_kind *kind = op->p->kind;

	return (kind->no_tree && kind->no_tree(&op->resolved)) || image_ready(&op->resolved);
}

static bool base_is_there(struct op *op)
{
	const struct host_kind *kind = op->p->kind;

	return kind->base ? kind->base_ready(op->base) : tree_is_there(op);
}

static void step(struct op *op)
{
	if (op->rc < 0) {
		err_wrap(&op->err, "cannot build image '%s'", op->image);
	} else if (op->cancelled || op->p->closed) {
		op->rc = 0; /* whoever goes on looks at it */
	} else if (base_is_there(op)) {
		remember(op);
	} else if (!tree_is_there(op) && (op->resolved.borrowed || op->built)) {
		op->rc = err_set(&op->err, EAGAIN, "'%s', the tree of image '%s', has no /usr/sbin/sshd", op->resolved.tree, op->image);
	} else if (op->built >= PARTS) {
		op->rc = err_set(&op->err, EAGAIN, "image '%s' was built, but '%s' is not there", op->image, op->base);
	} else {
		op_work(op, make_directory, directory_made);
		return;
	}
	op->after_image(op);
}

void image_need(struct op *op, void (*next)(struct op *op))
{
	op->after_image = next;
	op->built = 0;
	op->rc = 0;
	step(op);
}
