/* Where values of secrets come from: a command of the user's, or files in a directory. */
#include "fs/desired/desired.h"
#include "fs/engine/secrets.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define COMMAND_MS 30000

/* ---- files ---- */

static int check_private(const char *path, const struct stat *st, mode_t forbidden, const char *cure, struct err **err)
{
	if (st->st_uid != geteuid() && st->st_uid != 0)
		return err_set(err, EPERM, "'%s' belongs to uid %u, not to who runs rebarfs: chown it", path, (unsigned)st->st_uid);
	if (st->st_mode & forbidden)
		return err_set(err, EPERM, "others can %s '%s' (mode %04o): %s", forbidden & 044 ? "read" : "write to", path,
		        (unsigned)st->st_mode & 07777, cure);
	return 0;
}

static int read_whole(int fd, struct buf *out)
{
	char part[4096];
	ssize_t n;
	while (out->len <= SECRET_MAX + 1 && (n = read(fd, part, sizeof part)) != 0) {
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			buf_add(out, part, (size_t)n);
	}
	explicit_bzero(part, sizeof part);
	return 0;
}

static int read_file(const char *dir, const char *name, struct buf *out, struct err **err)
{
	_cleanup_free_ char *path = path_join(dir, name), *parent = xstrdup(path);
	struct stat st;
	*strrchr(parent, '/') = '\0';
	/* Not to wait for a writer, should it be a pipe. */
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 && errno == ENOENT)
		return err_set(err, ENOENT, "there is no '%s': write the value into it, with mode 0600", path);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, errno, "cannot read '%s'", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "'%s' is not a file", path);
	int rc = check_private(path, &st, 077, "chmod 600 it", err);
	if (rc < 0)
		return rc;
	if (stat(parent, &st) < 0)
		return err_errno(err, errno, "cannot read '%s'", parent);
	if ((rc = check_private(parent, &st, 022, "chmod 700 it", err)) < 0)
		return rc;
	rc = read_whole(fd, out);
	return rc < 0 ? err_errno(err, -rc, "cannot read '%s'", path) : 0;
}

struct fetch {
	struct engine *e;
	struct secret_entry *entry;
	const char *dir;
	struct secret *value;
	struct err *err;
};

static void fetch_end(struct fetch *f)
{
	char *why = NULL;
	if (!f->value)
		why = xasprintf("secret '%s': %s", f->entry->name, err_msg(f->err));
	secret_came(f->e, f->entry, f->value, why);
	err_free(f->err);
	free(f);
}

static void take(struct fetch *f, const char *data, size_t len)
{
	_cleanup_err_ struct err *err = NULL;
	f->value = secret_new(data, len, &err);
	if (!f->value)
		err_set(&f->err, err->code, "its value %s", err_msg(err));
}

static void file_work(void *arg)
{
	struct fetch *f = arg;
	_cleanup_buf_ struct buf text = {.secret = true};
	if (read_file(f->dir, f->entry->name, &text, &f->err) == 0)
		take(f, buf_str(&text), text.len);
}

static void file_done(void *arg)
{
	fetch_end(arg);
}

/* ---- the command ---- */

static void command_done(void *arg, const struct child_result *res)
{
	struct fetch *f = arg;
	if (res->status == 0) {
		take(f, res->out, res->out_len);
	} else {
		/* Its output is not a cause to tell anybody: part of a value may be in it. */
		struct child_result told = *res;
		_cleanup_buf_ struct buf why = {0};
		told.out = "";
		child_explain(&why, "the secret command", &told);
		err_set(&f->err, EIO, "%s", buf_str(&why));
	}
	fetch_end(f);
}

/* The name is made of letters that mean nothing to a shell. */
static char *command_for(const char *command, const char *name)
{
	struct buf b = {0};
	for (const char *p = command; *p;) {
		size_t n = strcspn(p, "%");
		buf_add(&b, p, n);
		p += n;
		if (!strncmp(p, "%s", 2)) {
			buf_adds(&b, name);
			p += 2;
		} else if (*p) {
			buf_addc(&b, *p++);
		}
	}
	return buf_detach(&b, NULL);
}

static void command_start(struct fetch *f, const char *command)
{
	_cleanup_free_ char *line = command_for(command, f->entry->name);
	const char *argv[] = {"/bin/sh", "-c", line, NULL};
	struct child *child;
	struct child_spec spec = {.argv = argv, .secret = true, .timeout_ms = COMMAND_MS, .done = command_done, .arg = f};
	if (child_start(&f->e->loop, &spec, &child, &f->err) < 0)
		fetch_end(f);
}

void secret_source_fetch(struct engine *e, struct secret_entry *s)
{
	if (secret_is_output(s->name)) {
		secret_output_fetch(e, s);
		return;
	}
	struct fetch *f = xcalloc(1, sizeof *f);
	f->e = e;
	f->entry = s;
	f->dir = e->secrets->dir;
	if (e->secrets->command)
		command_start(f, e->secrets->command);
	else
		engine_work(e, file_work, file_done, f);
}

/* ---- the directory, watched ---- */

#define QUIET_MS 200

static void rescan(struct engine *e, int64_t id)
{
	if (!e->secrets->rescan)
		return;
	engine_wrlock(e);
	e->secrets->rescan = false;
	for (struct secret_entry *s = e->secrets->entries; s; s = s->hh.next)
		if (!secret_is_output(s->name))
			secret_ask(e, s);
	engine_wrunlock(e);
}

static void on_change(void *arg)
{
	struct engine *e = arg;
	if (e->secrets->rescan)
		return;
	e->secrets->rescan = true;
	engine_after(e, QUIET_MS, rescan, 0);
}

bool secrets_settling(struct engine *e)
{
	if (!e->secrets->dir)
		return false; /* a command may take its time */
	if ((e->secrets->watch && watch_drain(e->secrets->watch)) || e->secrets->rescan) {
		e->secrets->rescan = true;
		rescan(e, 0);
	}
	for (const struct secret_entry *s = e->secrets->entries; s; s = s->hh.next)
		if (s->state != SECRET_IDLE && !secret_is_output(s->name))
			return true;
	return false;
}

/* ---- at start ---- */

static int dir_open(struct engine *e, struct err **err)
{
	struct secrets *s = e->secrets;
	_cleanup_err_ struct err *unwatched = NULL;
	struct stat st;
	if (stat(s->dir, &st) < 0)
		return err_errno(err, errno, "cannot use '%s' as the directory of secrets", s->dir);
	if (check_private(s->dir, &st, 022, "chmod 700 it", err) < 0)
		return err_wrap(err, "cannot use the directory of secrets");
	if (watch_open(&e->loop, s->dir, on_change, e, &s->watch, &unwatched) < 0)
		log_msg(LOG_WARN, "changed secrets are seen when something runs, not at once: %s", err_msg(unwatched));
	return 0;
}

int secret_source_open(struct engine *e, const char *source, struct err **err)
{
	struct secrets *s = e->secrets;
	struct stat st;
	if (!source) {
		s->dir = path_join(e->state_dir, "secrets");
		int rc = dir_make_all(s->dir, 0700, err);
		return rc < 0 ? rc : dir_open(e, err);
	}
	if (strstr(source, "%s")) {
		s->command = xstrdup(source);
		return 0;
	}
	if (*source != '/' || stat(source, &st) < 0 || !S_ISDIR(st.st_mode))
		return err_set(
		        err, EINVAL, "secrets=%s is neither the path of a directory nor a command with %%s in it, where the name goes", source);
	s->dir = xstrdup(source);
	return dir_open(e, err);
}
