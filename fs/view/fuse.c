/* The session: which part of the view answers which request. */
#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "fs/view/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>

#define IDLE_THREADS 10

static struct view *view_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	/* 'ls -l' of 1,000 entries: 9,000 requests without READDIRPLUS, 10 with it. The kernel's guess when to use it is worse than always. */
	if (conn->capable & FUSE_CAP_READDIRPLUS)
		conn->want |= FUSE_CAP_READDIRPLUS;
	conn->want &= ~FUSE_CAP_READDIRPLUS_AUTO;
	((struct view *)userdata)->opens_dirs = conn->capable & FUSE_CAP_NO_OPENDIR_SUPPORT;
	/* One system call more for every request, to save a copy in large writes. */
	conn->want &= ~FUSE_CAP_SPLICE_READ;
	/* A write must take set-id bits away; we write as root, so the kernel has to ask for it. */
	conn->want &= ~FUSE_CAP_HANDLE_KILLPRIV;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (ino_is_live(parent))
		live_lookup(view_of(req), req, parent, name);
	else
		repo_lookup(view_of(req), req, parent, name);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	if (!ino_is_live(ino))
		repo_forget(view_of(req), ino, nlookup);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		if (!ino_is_live(forgets[i].ino))
			repo_forget(view_of(req), forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (ino_is_live(ino))
		live_getattr(view_of(req), req, ino);
	else
		repo_getattr(view_of(req), req, ino, fi);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int which, struct fuse_file_info *fi)
{
	if (ino_is_live(ino))
		live_setattr(view_of(req), req, ino, which);
	else
		repo_setattr(view_of(req), req, ino, attr, which, fi);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	if (ino_is_live(ino))
		live_readlink(view_of(req), req, ino);
	else
		repo_readlink(view_of(req), req, ino);
}

/* The names of live directories are fixed. EPERM sends vim and nano to write in place, which works. */
static bool refuse_live(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	if (ino_is_live(dir))
		refuse_name(view_of(req), req, dir, name);
	return ino_is_live(dir);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	if (!refuse_live(req, parent, name))
		repo_mknod(view_of(req), req, parent, name, mode, rdev, NULL);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	if (!refuse_live(req, parent, name))
		repo_mknod(view_of(req), req, parent, name, mode | S_IFDIR, 0, NULL);
}

static void op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
	if (!refuse_live(req, parent, name))
		repo_mknod(view_of(req), req, parent, name, S_IFLNK, 0, link);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (!refuse_live(req, parent, name))
		repo_remove(view_of(req), req, parent, name, 0);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (!refuse_live(req, parent, name))
		repo_remove(view_of(req), req, parent, name, AT_REMOVEDIR);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname, unsigned flags)
{
	if (!refuse_live(req, parent, name) && !refuse_live(req, newparent, newname))
		repo_rename(view_of(req), req, parent, name, newparent, newname, flags);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	if (refuse_live(req, newparent, newname))
		return;
	if (ino_is_live(ino))
		fuse_reply_err(req, EPERM);
	else
		repo_link(view_of(req), req, ino, newparent, newname);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	if (!refuse_live(req, parent, name))
		repo_create(view_of(req), req, parent, name, mode, fi);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (ino_is_live(ino))
		live_open(view_of(req), req, ino, fi);
	else
		repo_open_file(view_of(req), req, ino, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	if (ino_is_live(ino))
		live_read(view_of(req), req, size, off, fi);
	else
		repo_read(view_of(req), req, size, off, fi);
}

static void op_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *in, off_t off, struct fuse_file_info *fi)
{
	if (!ino_is_live(ino)) {
		repo_write(view_of(req), req, in, off, fi);
		return;
	}
	size_t size = fuse_buf_size(in);
	_cleanup_free_ char *data = xmalloc(size + 1);
	struct fuse_bufvec out = FUSE_BUFVEC_INIT(size);
	out.buf[0].mem = data;
	ssize_t n = fuse_buf_copy(&out, in, 0);
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		store_write(view_of(req), req, data, (size_t)n, off, fi);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (ino_is_live(ino))
		fuse_reply_err(req, 0);
	else
		repo_flush(view_of(req), req, fi);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (ino_is_live(ino))
		live_release(view_of(req), req, fi);
	else
		repo_release(view_of(req), req, fi);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	if (ino_is_live(ino)) /* a store is durable when its write returns */
		fuse_reply_err(req, 0);
	else
		repo_fsync(view_of(req), req, datasync, fi);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length, struct fuse_file_info *fi)
{
	if (ino_is_live(ino))
		fuse_reply_err(req, EOPNOTSUPP);
	else
		repo_fallocate(view_of(req), req, mode, offset, length, fi);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	if (ino_is_live(ino)) /* SEEK_DATA and SEEK_HOLE; the others are the kernel's own */
		fuse_reply_err(req, EINVAL);
	else
		repo_lseek(view_of(req), req, off, whence, fi);
}

/* The kernel does it by itself from then on, and keeps the names that it read: of the repo as long as the directory's time of change is the same, of
 * live directories not at all (live_readdir). An older kernel gets the same by flags. */
static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (view_of(req)->opens_dirs) {
		fuse_reply_err(req, ENOSYS);
		return;
	}
	fi->cache_readdir = fi->keep_cache = 1;
	fuse_reply_open(req, fi);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	if (ino_is_live(ino))
		live_readdir(view_of(req), req, ino, size, off, false);
	else
		repo_readdir(view_of(req), req, ino, size, off, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	if (ino_is_live(ino))
		live_readdir(view_of(req), req, ino, size, off, true);
	else
		repo_readdir(view_of(req), req, ino, size, off, true);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	if (ino_is_live(ino))
		fuse_reply_err(req, 0);
	else
		repo_fsyncdir(view_of(req), req, ino, datasync);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	repo_statfs(view_of(req), req, ino);
}

static void op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct fuse_pollhandle *ph)
{
	struct live_file *f = ino_is_live(ino) ? (struct live_file *)(uintptr_t)fi->fh : NULL;
	if (f && f->stream) {
		stream_poll(view_of(req), req, f->stream, ph);
		return;
	}
	if (ph)
		fuse_pollhandle_destroy(ph);
	fuse_reply_poll(req, POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM);
}

/* No xattr functions: ENOSYS once, and the kernel never asks again. No locks: the kernel keeps them by itself. */
static const struct fuse_lowlevel_ops ops = {
        .init = op_init,
        .lookup = op_lookup,
        .forget = op_forget,
        .forget_multi = op_forget_multi,
        .getattr = op_getattr,
        .setattr = op_setattr,
        .readlink = op_readlink,
        .mknod = op_mknod,
        .mkdir = op_mkdir,
        .symlink = op_symlink,
        .unlink = op_unlink,
        .rmdir = op_rmdir,
        .rename = op_rename,
        .link = op_link,
        .create = op_create,
        .open = op_open,
        .read = op_read,
        .write_buf = op_write_buf,
        .flush = op_flush,
        .release = op_release,
        .fsync = op_fsync,
        .fallocate = op_fallocate,
        .lseek = op_lseek,
        .opendir = op_opendir,
        .readdir = op_readdir,
        .readdirplus = op_readdirplus,
        .fsyncdir = op_fsyncdir,
        .statfs = op_statfs,
        .poll = op_poll,
};

static void on_change(void *arg)
{
	struct view *v = arg;
	v->changed_at = now_ms();
	live_changed(v);
	settles_changed(v);
	streams_changed(v);
	stores_changed(v);
}

static void free_parts(struct view *v)
{
	settles_free(v->settles);
	streams_free(v->streams);
	costly_free(v->costly);
	open_files_free(v->open_files);
	told_free(v->told);
	listings_free(v->listings);
	refusals_free(v->refusals);
	stores_free(v->stores);
	names_free(v->names);
	repo_close(v->desired);
	free(v);
}

int view_open(const struct view_options *opt, struct view **ret, struct err **err)
{
	struct view *v = xcalloc(1, sizeof *v);
	v->engine = opt->engine;
	v->model = engine_model(opt->engine);
	v->repo = opt->repo;
	v->mountpoint = opt->mountpoint;
	v->state_dir = opt->state_dir;
	v->changed_at = now_ms();
	v->names = names_new();
	v->open_files = open_files_new();
	v->told = told_new();
	v->listings = listings_new();
	v->costly = costly_new();
	v->streams = streams_new(v);
	v->refusals = refusals_new();
	v->stores = stores_new();
	v->settles = settles_new();
	int rc = repo_open(v, &v->desired, err);
	if (!rc) {
		v->session = fuse_session_new(opt->args, &ops, sizeof ops, v);
		if (!v->session)
			rc = err_set(err, EINVAL, "the mount options are not understood: see 'rebarfs --help'");
	}
	if (rc) {
		free_parts(v);
		return rc;
	}
	engine_on_change(v->engine, on_change, v);
	*ret = v;
	return 0;
}

static int mount_id(const char *path, uint64_t *ret)
{
	struct statx st;
	if (statx(AT_FDCWD, path, AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, STATX_MNT_ID, &st) < 0 || !(st.stx_mask & STATX_MNT_ID))
		return -ENODATA;
	*ret = st.stx_mnt_id;
	return 0;
}

int view_mount(struct view *v, struct err **err)
{
	if (fuse_session_mount(v->session, v->mountpoint) < 0)
		return err_set(err, EIO, "cannot mount on '%s'", v->mountpoint);
	v->mounted = true;
	/* A child that kept it would keep the mount alive after us. */
	fcntl(fuse_session_fd(v->session), F_SETFD, FD_CLOEXEC);
	if (mount_id(v->mountpoint, &v->mount_id) < 0)
		v->mount_id = 0;
	repo_watch_start(v);
	return 0;
}

/* ---- ending ---- */

struct watcher { /* of signals and of the mount table */
	struct view *v;
	pthread_t loop;
	int signals, mounts, stop; /* signalfd, /proc/self/mountinfo, eventfd */
	_Atomic bool ended;
};

/* Each line of mountinfo begins with the mount's id. */
static bool is_mounted(uint64_t id)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t cap = 0;
	bool found = !f;
	while (!found && getline(&line, &cap, f) > 0)
		found = strtoull(line, NULL, 10) == id;
	free(line);
	if (f)
		fclose(f);
	return found;
}

/* After 'fusermount3 -uz' the kernel says nothing as long as somebody has a file open in what was the mount, and a blocked reader would have it open
 * for ever. But the mount table changes, and poll(2) tells. */
static void *watch_end(void *arg)
{
	struct watcher *w = arg;
	struct pollfd fds[] = {{w->signals, POLLIN, 0}, {w->stop, POLLIN, 0}, {w->mounts, POLLPRI, 0}};
	bool end = false;
	while (!end) {
		if (poll(fds, w->mounts >= 0 ? 3 : 2, -1) < 0 && errno != EINTR)
			break;
		end = fds[0].revents || fds[1].revents || (fds[2].revents && !is_mounted(w->v->mount_id));
	}
	if (!w->ended)
		fuse_session_exit(w->v->session);
	/* libfuse looks at the flag and then waits for a semaphore; a signal that comes in between is lost, so one is not enough. */
	while (!w->ended) {
		pthread_kill(w->loop, SIGUSR1);
		nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	}
	return NULL;
}

static void wake(int sig)
{
}

static int watcher_start(struct watcher *w, pthread_t *ret, struct err **err)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	struct sigaction act = {.sa_handler = wake};
	sigaction(SIGUSR1, &act, NULL);
	w->signals = signalfd(-1, &set, SFD_CLOEXEC);
	w->stop = eventfd(0, EFD_CLOEXEC);
	w->mounts = w->v->mount_id ? open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC) : -1;
	int rc = w->signals < 0 || w->stop < 0 ? errno : pthread_create(ret, NULL, watch_end, w);
	return rc ? err_errno(err, rc, "cannot watch for signals") : 0;
}

static void watcher_stop(struct watcher *w, pthread_t thread)
{
	w->ended = true;
	eventfd_write(w->stop, 1);
	pthread_join(thread, NULL);
	close(w->signals);
	close(w->stop);
	if (w->mounts >= 0)
		close(w->mounts);
}

int view_run(struct view *v, struct err **err)
{
	struct watcher w = {.v = v, .loop = pthread_self()};
	pthread_t thread = 0;
	int rc = watcher_start(&w, &thread, err);
	if (rc)
		return rc;
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	fuse_loop_cfg_set_idle_threads(config, IDLE_THREADS);
	fuse_loop_cfg_set_clone_fd(config, 0);
	rc = fuse_session_loop_mt(v->session, config);
	fuse_loop_cfg_destroy(config);
	watcher_stop(&w, thread);
	fuse_session_exit(v->session); /* the loop reset it; replies to a mount that is gone are no news */
	streams_fail(v);
	return rc < 0 ? err_errno(err, -rc, "the mount on '%s' broke", v->mountpoint) : 0;
}

void view_unmount(struct view *v)
{
	if (!v->mounted)
		return;
	fuse_session_unmount(v->session);
	repo_watch_stop(v);
	v->mounted = false;
}

void view_free(struct view *v)
{
	if (!v)
		return;
	view_unmount(v);
	fuse_session_destroy(v->session);
	free_parts(v);
}
