/* Changes in the repo, by inotify on a descriptor of its own: libuv's wrapper drops IN_Q_OVERFLOW and knows no IN_CLOSE_WRITE. */
#include "fs/base/io.h"
#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "fs/desired/internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <uthash.h>

#define QUIET_MS 300 /* as long as this nothing came or went: what lies there is meant */
#define GONE_MS 1000 /* a document or directory that went and has not come back; a slow machine is in the middle of 'mv' for longer than 300 ms */
#define EVENTS (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF)

enum place { PLACE_REPO, PLACE_GIT, PLACE_REFS, PLACE_TARGETS };
struct dir { /* one watched directory */
	int wd;
	enum place place;
	char *path;
	struct strlist targets; /* PLACE_TARGETS: files in it to which links lead; others are not ours */
	unsigned pass;          /* of the scan that saw it last */
	UT_hash_handle hh;
};
struct gone { /* a document or directory whose name went, not so long ago, and has not come back */
	char *path;
	int64_t at; /* monotonic ms */
	UT_hash_handle hh;
};
struct watch {
	uv_poll_t poll;
	int fd;
	char *repo;
	void (*changed)(void *arg);
	void *arg;
	struct dir *dirs;
	unsigned pass;
	struct strlist links;  /* documents that are links, of the scan under way */
	bool rescan;           /* directories came, went or moved */
	bool full;             /* the kernel has no more watches; said once */
	_Atomic unsigned seen; /* counts up before events are taken from the kernel */
	int64_t names_at;      /* monotonic, when a name last came or went; 0: never */
	struct gone *gone;     /* in the order in which they went */
};

/* ---- what is watched ---- */

static int watch_failed(struct watch *w, const char *path, struct err **err)
{
	struct buf limit = {0};
	int code = errno;
	if (code == ENOSPC && !file_read(AT_FDCWD, "/proc/sys/fs/inotify/max_user_watches", 64, &limit, NULL))
		err_set(err, code,
		        "cannot watch '%s': fs.inotify.max_user_watches is %.*s, all in use: raise it with 'sysctl "
		        "fs.inotify.max_user_watches=524288'",
		        path, (int)strcspn(buf_str(&limit), "\n"), buf_str(&limit));
	else
		err_errno(err, code, "cannot watch '%s'", path);
	buf_release(&limit);
	return -code;
}

/* *ret is the directory if this scan sees it for the first time, or looks for targets, else NULL. 0 too for one that is gone or closed to us: reading
 * the tree tells of that. */
static int add_dir(struct watch *w, const char *path, enum place place, uint32_t flags, struct dir **ret, struct err **err)
{
	struct dir *d;
	*ret = NULL;
	int wd = inotify_add_watch(w->fd, path, EVENTS | IN_ONLYDIR | flags);
	if (wd < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == EACCES ? 0 : watch_failed(w, path, err);
	HASH_FIND_INT(w->dirs, &wd, d);
	if (!d) {
		d = xcalloc(1, sizeof *d);
		d->wd = wd;
		HASH_ADD_INT(w->dirs, wd, d);
	}
	bool is_new = d->pass != w->pass;
	if (is_new)
		strlist_release(&d->targets);
	if (is_new || place == PLACE_TARGETS)
		*ret = d;
	if (is_new || place == PLACE_GIT || place == PLACE_REFS) {
		d->pass = w->pass;
		d->place = place;
		str_replace(&d->path, path);
	}
	return 0;
}

/* "roles" and its like, where the directories of documents lie, links or not. */
static bool is_doc_place(const struct watch *w, const char *dir)
{
	size_t n = strlen(w->repo);
	if (strncmp(dir, w->repo, n) || dir[n] != '/')
		return false;
	for (int k = 0; k < DOC_KINDS; k++)
		if (!strcmp(dir + n + 1, doc_places[k].dir))
			return true;
	return false;
}

static bool is_doc_name(const char *name)
{
	for (int k = 0; k < DOC_KINDS; k++)
		if (!strcmp(name, doc_places[k].file))
			return true;
	return false;
}

static bool is_dir_link(const struct watch *w, const char *parent, const char *path)
{
	struct stat st;
	return is_doc_place(w, parent) && stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* path and all below it; what is a link is followed only where a document's directory stands. */
static int add_tree(struct watch *w, const char *path, bool follow, int depth, struct err **err)
{
	struct dir *seen;
	int rc = add_dir(w, path, PLACE_REPO, follow ? 0 : IN_DONT_FOLLOW, &seen, err);
	DIR *d = !rc && seen && depth < 64 ? opendir(path) : NULL;
	struct dirent *e;
	while (!rc && d && (e = readdir(d))) {
		if (name_ignored(e->d_name) || (e->d_type != DT_DIR && e->d_type != DT_LNK && e->d_type != DT_UNKNOWN))
			continue;
		_cleanup_free_ char *child = path_join(path, e->d_name);
		if (e->d_type == DT_LNK && is_doc_name(e->d_name))
			strlist_add(&w->links, child);
		bool link = e->d_type != DT_DIR && is_dir_link(w, path, child);
		if (link || e->d_type != DT_LNK)
			rc = add_tree(w, child, link, depth + 1, err);
	}
	if (d)
		closedir(d);
	return rc;
}

/* A document that is a link changes where it leads to. */
static int add_target(struct watch *w, const char *link, struct err **err)
{
	struct dir *d;
	_cleanup_free_ char *target = realpath(link, NULL);
	char *slash = target ? strrchr(target, '/') : NULL;
	if (!slash || slash == target)
		return 0;
	*slash = 0;
	int rc = add_dir(w, target, PLACE_TARGETS, 0, &d, err);
	if (!rc && d && d->place == PLACE_TARGETS)
		strlist_add(&d->targets, slash + 1);
	return rc;
}

static int add_targets(struct watch *w, struct err **err)
{
	int rc = 0;
	for (size_t i = 0; i < w->links.n && !rc; i++)
		rc = add_target(w, w->links.items[i], err);
	return rc;
}

static int add_git(struct watch *w, struct err **err)
{
	struct dir *seen;
	_cleanup_free_ char *common = NULL;
	_cleanup_free_ char *git = git_dir(w->repo, &common);
	if (!git)
		return 0;
	int rc = add_dir(w, git, PLACE_GIT, 0, &seen, err);
	if (!rc && strcmp(git, common)) /* a worktree: packed-refs lie there */
		rc = add_dir(w, common, PLACE_GIT, 0, &seen, err);
	_cleanup_free_ char *ref = git_head_ref(git);
	char *slash = ref ? strrchr(ref, '/') : NULL;
	if (rc || !slash)
		return rc;
	*slash = 0;
	_cleanup_free_ char *dir = path_join(common, ref);
	return add_dir(w, dir, PLACE_REFS, 0, &seen, err);
}

static void drop_dir(struct watch *w, struct dir *d)
{
	HASH_DEL(w->dirs, d);
	strlist_release(&d->targets);
	free(d->path);
	free(d);
}

/* Looks at the whole tree again; what is no longer in it is no longer watched. */
static int scan(struct watch *w, struct err **err)
{
	struct dir *d, *tmp;
	w->rescan = false;
	w->pass++;
	int rc = add_tree(w, w->repo, true, 0, err);
	if (!rc)
		rc = add_targets(w, err);
	if (!rc)
		rc = add_git(w, err);
	strlist_release(&w->links);
	HASH_ITER (hh, w->dirs, d, tmp)
		if (d->pass != w->pass) {
			inotify_rm_watch(w->fd, d->wd);
			drop_dir(w, d);
		}
	return rc;
}

static void scan_again(struct watch *w)
{
	_cleanup_err_ struct err *err = NULL;
	if (scan(w, &err) == 0)
		w->full = false;
	else if (!w->full) {
		w->full = true;
		log_msg(LOG_WARN, "changes in the repo may go unseen: %s", err_msg(err));
	}
}

/* ---- what happened ---- */

/* Not the index nor its lock: each 'git status' writes them anew, and who waits for them to change looks by himself. */
static bool matters_in_git(const char *name)
{
	static const char *const names[] = {
	        "HEAD", "packed-refs", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "sequencer", "rebase-merge", "rebase-apply"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

static bool is_link(const struct dir *d, const char *name)
{
	struct stat st;
	_cleanup_free_ char *path = path_join(d->path, name);
	return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

static void gone_drop(struct watch *w, struct gone *g)
{
	HASH_DEL(w->gone, g);
	free(g->path);
	free(g);
}

/* Names that come and go. Not IN_MOVED_TO by itself: what is put in place by a rename is complete at once. */
static void note_name(struct watch *w, const struct dir *d, const struct inotify_event *e, const char *name)
{
	int64_t now = monotonic_ms();
	if (e->mask & (IN_CREATE | IN_DELETE | IN_MOVED_FROM))
		w->names_at = now;
	if (!e->len || !(e->mask & (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)) || !(e->mask & IN_ISDIR || is_doc_name(name)))
		return;
	_cleanup_free_ char *path = path_join(d->path, name);
	struct gone *g;
	HASH_FIND_STR(w->gone, path, g);
	if (g)
		gone_drop(w, g);
	if (e->mask & (IN_CREATE | IN_MOVED_TO))
		return;
	g = xcalloc(1, sizeof *g);
	*g = (struct gone){.path = xstrdup(path), .at = now};
	HASH_ADD_STR(w->gone, path, g);
}

static bool in_repo(struct watch *w, const struct dir *d, const struct inotify_event *e, const char *name)
{
	if (!strcmp(name, ".git")) {
		w->rescan = true;
		return true;
	}
	if (e->len && name_ignored(name))
		return false;
	note_name(w, d, e, name);
	if (e->mask & (IN_ISDIR | IN_DELETE_SELF | IN_MOVE_SELF) && e->mask & ~(IN_ISDIR | IN_ATTRIB | IN_MODIFY | IN_CLOSE_WRITE))
		w->rescan = true;
	/* a link to a document's directory came or went, or to a document came */
	if (e->mask & (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO) && is_doc_place(w, d->path))
		w->rescan = true;
	if (e->mask & (IN_CREATE | IN_MOVED_TO) && is_doc_name(name) && is_link(d, name))
		w->rescan = true;
	return true;
}

static bool in_targets(struct watch *w, const struct dir *d, const struct inotify_event *e, const char *name)
{
	if (e->len && !strlist_has(&d->targets, name))
		return false;
	note_name(w, d, e, name);
	return true;
}

static bool is_change(struct watch *w, const struct inotify_event *e)
{
	const char *name = e->len ? e->name : "";
	struct dir *d;
	if (e->mask & IN_Q_OVERFLOW) {
		w->rescan = true;
		return true;
	}
	HASH_FIND_INT(w->dirs, &e->wd, d);
	if (!d)
		return false;
	if (e->mask & IN_IGNORED) {
		drop_dir(w, d);
		w->rescan = true; /* it may stand again already, as after git's unlink and create */
		return true;
	}
	if (d->place == PLACE_REPO)
		return in_repo(w, d, e, name);
	if (d->place == PLACE_TARGETS)
		return in_targets(w, d, e, name);
	if (d->place == PLACE_REFS)
		return !strstr(name, ".lock");
	if (!matters_in_git(name))
		return false;
	if (!strcmp(name, "HEAD"))
		w->rescan = true; /* another branch: its ref may lie in another directory */
	return true;
}

static bool is_pending(const struct watch *w)
{
	int size = 0;
	return ioctl(w->fd, FIONREAD, &size) == 0 && size > 0;
}

bool watch_drain(struct watch *w)
{
	/* as inotify(7) asks for */
	char buf[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
	bool any = false;
	while (is_pending(w)) {
		w->seen++;
		ssize_t n = read(w->fd, buf, sizeof buf);
		for (ssize_t at = 0; at < n;) {
			const struct inotify_event *e = (const struct inotify_event *)(buf + at);
			any |= is_change(w, e);
			at += (ssize_t)(sizeof *e + e->len);
		}
	}
	if (w->rescan)
		scan_again(w);
	return any;
}

int64_t watch_rests_at(struct watch *w)
{
	int64_t now = monotonic_ms(), at = w->names_at ? w->names_at + QUIET_MS : 0;
	while (w->gone && w->gone->at + GONE_MS <= now)
		gone_drop(w, w->gone);
	if (w->gone) {
		const struct gone *last = ELMT_FROM_HH(w->gone->hh.tbl, w->gone->hh.tbl->tail);
		at = last->at + GONE_MS > at ? last->at + GONE_MS : at;
	}
	return at;
}

unsigned watch_mark(const struct watch *w)
{
	return w->seen;
}

bool watch_changed_since(const struct watch *w, unsigned mark)
{
	return is_pending(w) || w->seen != mark;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct watch *w = poll->data;
	if (watch_drain(w))
		w->changed(w->arg);
}

/* ---- lifetime ---- */

static void free_watch(struct watch *w)
{
	struct dir *d, *tmp;
	HASH_ITER (hh, w->dirs, d, tmp)
		drop_dir(w, d);
	while (w->gone)
		gone_drop(w, w->gone);
	close(w->fd);
	free(w->repo);
	free(w);
}

static int start(uv_loop_t *loop, struct watch *w, struct err **err)
{
	int rc = scan(w, err);
	if (rc < 0)
		return rc;
	if (!w->dirs)
		return err_set(err, ENOENT, "cannot watch '%s': it is not a directory that can be read", w->repo);
	rc = uv_poll_init(loop, &w->poll, w->fd);
	if (!rc)
		rc = uv_poll_start(&w->poll, UV_READABLE, on_readable);
	return rc < 0 ? err_set(err, -rc, "cannot watch '%s': %s", w->repo, uv_strerror(rc)) : 0;
}

int watch_open(uv_loop_t *loop, const char *repo, void (*changed)(void *arg), void *arg, struct watch **ret, struct err **err)
{
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (fd < 0 && errno == EMFILE)
		return err_set(err, EMFILE,
		        "cannot watch '%s': all of fs.inotify.max_user_instances are in use: raise it with 'sysctl "
		        "fs.inotify.max_user_instances=8192'",
		        repo);
	if (fd < 0)
		return err_errno(err, errno, "cannot watch '%s'", repo);
	struct watch *w = xcalloc(1, sizeof *w);
	*w = (struct watch){.fd = fd, .repo = xstrdup(repo), .changed = changed, .arg = arg};
	w->poll.data = w;
	int rc = start(loop, w, err);
	if (rc < 0) {
		free_watch(w);
		return rc;
	}
	*ret = w;
	return 0;
}

static void on_closed(uv_handle_t *h)
{
	free_watch(h->data);
}

void watch_close(struct watch *w)
{
	if (!w)
		return;
	uv_poll_stop(&w->poll);
	uv_close((uv_handle_t *)&w->poll, on_closed);
}
