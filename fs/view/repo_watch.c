/* Changes behind the mount. The kernel may keep a name or a size for a second; who edits the repo beside the mount and then looks through it must not
 * see the second before. A thread that serves no request (a notification can wait for a directory's lock, whose holder waits for a request) listens
 * to every directory that the kernel knows and tells it to look again. Entries are expired, not invalidated: an invalidated directory would be
 * "deleted" for a shell that stands in it, and the watch sees our own changes too. */
#include "fs/base/mem.h"
#include "fs/view/repo.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>

#define WATCHED (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_ATTRIB | IN_ONLYDIR | IN_EXCL_UNLINK)
#define NAMES_CHANGE (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)

struct watched_dir {
	int wd;
	struct repo_inode *dir;
	UT_hash_handle hh;
};
struct repo_watch {
	struct view *v;
	int fd, stop;
	pthread_t thread;
	_Atomic unsigned seen;     /* counts up before events are taken from the kernel */
	struct watched_dir *by_wd; /* guarded by the repo's lock */
};

/* Without a watch (no instance or no watch left), or on a file system that others write to, what is behind the mount shows after a second. */
void repo_watch_add(struct repo *r, struct repo_inode *dir)
{
	struct repo_watch *w = r->watch;
	char path[FD_PATH];
	if (!w || dir->wd >= 0)
		return;
	fd_path(dir->fd, path);
	int wd = inotify_add_watch(w->fd, path, WATCHED);
	if (wd < 0)
		return;
	dir->wd = wd;
	struct watched_dir *it = xcalloc(1, sizeof *it);
	it->wd = wd;
	it->dir = dir;
	HASH_ADD_INT(w->by_wd, wd, it);
}

void repo_watch_remove(struct repo *r, struct repo_inode *dir)
{
	struct repo_watch *w = r->watch;
	struct watched_dir *it;
	if (!w || dir->wd < 0)
		return;
	HASH_FIND_INT(w->by_wd, &dir->wd, it);
	if (it)
		HASH_DEL(w->by_wd, it);
	free(it);
	inotify_rm_watch(w->fd, dir->wd);
	dir->wd = -1;
}

unsigned repo_watch_mark(struct repo *r)
{
	return r->watch ? r->watch->seen : 0;
}

double repo_watch_linger(struct repo *r, struct repo_inode *dir, unsigned mark)
{
	struct repo_watch *w = r->watch;
	int pending = 0;
	if (!w || r->remote)
		return LINGER_S;
	pthread_mutex_lock(&r->lock);
	bool watched = dir->wd >= 0;
	pthread_mutex_unlock(&r->lock);
	return watched && ioctl(w->fd, FIONREAD, &pending) == 0 && !pending && w->seen == mark ? LINGER_WATCHED_S : LINGER_S;
}

/* What the kernel is to look at again: found under the lock, told without it. */
struct news {
	fuse_ino_t dir, child;
	bool is_dir;
};

static struct news find_news(struct view *v, const struct inotify_event *e)
{
	struct repo *r = v->desired;
	struct news news = {0};
	struct watched_dir *it;
	struct stat st;
	pthread_mutex_lock(&r->lock);
	HASH_FIND_INT(r->watch->by_wd, &e->wd, it);
	if (it) {
		news.dir = (uintptr_t)it->dir;
		if (e->len && fstatat(it->dir->fd, e->name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
			struct repo_key key;
			struct repo_inode *child;
			repo_key_of(&st, &key);
			news.is_dir = S_ISDIR(st.st_mode);
			HASH_FIND(hh, r->inodes, &key, sizeof key, child);
			if (child && repo_is_news(child, &st))
				news.child = (uintptr_t)child;
		}
	}
	pthread_mutex_unlock(&r->lock);
	return news;
}

static int expire_entry(struct fuse_session *se, fuse_ino_t dir, const char *name)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 15)
	return fuse_lowlevel_notify_expire_entry(se, dir, name, strlen(name));
#else
	return fuse_lowlevel_notify_expire_entry(se, dir, name, strlen(name), FUSE_LL_EXPIRE_ONLY);
#endif
}

static void tell_kernel(struct view *v, const struct inotify_event *e)
{
	struct news news = find_news(v, e);
	if (news.child)
		fuse_lowlevel_notify_inval_inode(v->session, news.child, -1, 0);
	if (!news.dir)
		return;
	if (e->len && (e->mask & NAMES_CHANGE) && expire_entry(v->session, news.dir, e->name) == -ENOSYS && !news.is_dir) /* before Linux 6.2 */
		fuse_lowlevel_notify_inval_entry(v->session, news.dir, e->name, strlen(e->name));
	if (e->mask & (NAMES_CHANGE | IN_ATTRIB))
		fuse_lowlevel_notify_inval_inode(v->session, news.dir, 0, 0); /* from byte 0 on: the names that it keeps, too */
}

/* More happened than the queue held: all that the kernel keeps may be old. Without its attributes it asks for a file that is gone or replaced, is
 * told ESTALE, and looks its name up again. */
static void tell_all(struct view *v)
{
	struct repo *r = v->desired;
	struct repo_inode *i, *next;
	pthread_mutex_lock(&r->lock);
	size_t n = 0;
	fuse_ino_t *inos = xcalloc(HASH_COUNT(r->inodes) + 1, sizeof *inos);
	HASH_ITER (hh, r->inodes, i, next)
		inos[n++] = (uintptr_t)i;
	pthread_mutex_unlock(&r->lock);
	for (size_t k = 0; k < n; k++)
		fuse_lowlevel_notify_inval_inode(v->session, inos[k], 0, 0);
	free(inos);
}

static void *watch_repo(void *arg)
{
	struct repo_watch *w = arg;
	struct pollfd fds[] = {{w->fd, POLLIN, 0}, {w->stop, POLLIN, 0}};
	char events[65536] __attribute__((aligned(__alignof__(struct inotify_event))));
	while (poll(fds, 2, -1) >= 0 || errno == EINTR) {
		if (fds[1].revents)
			break;
		w->seen++;
		ssize_t n = read(w->fd, events, sizeof events);
		for (ssize_t at = 0; at < n;) {
			const struct inotify_event *e = (const struct inotify_event *)(events + at);
			if (e->mask & IN_Q_OVERFLOW)
				tell_all(w->v);
			else
				tell_kernel(w->v, e);
			at += (ssize_t)sizeof *e + e->len;
		}
	}
	return NULL;
}

void repo_watch_start(struct view *v)
{
	struct repo_watch *w = xcalloc(1, sizeof *w);
	w->v = v;
	w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	w->stop = eventfd(0, EFD_CLOEXEC);
	v->desired->watch = w;
	if (w->fd < 0 || w->stop < 0 || pthread_create(&w->thread, NULL, watch_repo, w) != 0) {
		closep(&w->fd);
		closep(&w->stop);
		free(w);
		v->desired->watch = NULL;
		return;
	}
	pthread_mutex_lock(&v->desired->lock);
	repo_watch_add(v->desired, v->desired->root);
	pthread_mutex_unlock(&v->desired->lock);
}

void repo_watch_stop(struct view *v)
{
	struct repo_watch *w = v->desired->watch;
	if (!w)
		return;
	eventfd_write(w->stop, 1);
	pthread_join(w->thread, NULL);
	v->desired->watch = NULL;
	close(w->fd);
	close(w->stop);
	struct watched_dir *it, *next;
	HASH_ITER (hh, w->by_wd, it, next) {
		HASH_DEL(w->by_wd, it);
		free(it);
	}
	free(w);
}
