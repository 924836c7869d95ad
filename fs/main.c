/* Command line, start-up, shut-down. Until the mount answers every failure is fatal and worded; from then on nothing but a signal or an unmount ends
 * us. */
#include "fs/base/io.h"
#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "fs/base/private.h"
#include "fs/base/str.h"
#include "fs/engine/engine.h"
#include "fs/look.h"
#include "fs/version.h"
#include "fs/view/view.h"
#include "providers/metal/redfish.h"
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <limits.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <uv.h>

enum { EXIT_TROUBLE = 1, EXIT_USAGE = 2 };

struct options {
	char *state, *cache, *only, *secrets;
	int foreground, help, version, check, plan, json;
	struct strlist names;   /* REPO MOUNTPOINT */
	struct fuse_args mount; /* what is left for the mount */
};
struct paths {
	char *repo, *mountpoint, *state, *cache;
};

static const char usage[] =
        "usage: rebarfs [-f] [-o OPTION,...] REPO MOUNTPOINT   mount; returns when the mount answers\n"
        "       rebarfs --check [--json] REPO                  every mistake as FILE:LINE:COLUMN: message\n"
        "       rebarfs --plan [--json] REPO STATE             what this tree would change of what is in that state directory; touches nothing\n"
        "       rebarfs --help | --version\n"
        "\n"
        "  -f, --foreground     stay, and log to stderr\n"
        "  -o state=DIR         database, run logs, host keys; default /var/lib/rebarfs/NAME, or $XDG_STATE_HOME/rebarfs/NAME without root\n"
        "  -o cache=DIR         images; default /var/cache/rebarfs, or $XDG_CACHE_HOME/rebarfs\n"
        "  -o only=NAME:NAME    the deployments this mount answers for; default all\n"
        "  -o secrets=CMD|DIR   'pass show %s' prints what secret:NAME stands for, or DIR holds files NAME of mode 0600; default STATE/secrets\n"
        "  -o ro,nosuid,...     as for any mount; works in fstab as REPO MOUNTPOINT fuse.rebarfs OPTIONS\n"
        "\n"
        "--check and --plan exit with 0: nothing, 1: something, 2: could not look; both go without a mount.\n"
        "Unmount with 'fusermount3 -u MOUNTPOINT' or SIGTERM: machines keep running and are taken up again by the next mount.\n";

static void complain(const char *sentence)
{
	fprintf(stderr, "rebarfs: %s\n", sentence);
}

/* ---- command line ---- */

enum { KEY_DISCARD = 1 };

/* Names in fstab that are for mount(8) and systemd, not for us. */
static bool is_foreign(const char *option)
{
	static const char *const names[] = {
	        "noauto", "auto", "nofail", "_netdev", "user", "nouser", "users", "nousers", "owner", "group", "defaults", "rw", NULL};
	for (const char *const *n = names; *n; n++)
		if (!strcmp(option, *n))
			return true;
	return !strncmp(option, "x-", 2) || !strncmp(option, "comment=", 8);
}

/* An option that nobody knows is said before anything else is looked at; those after -o are the mount's own. */
static int refuse_option(const char *arg)
{
	static const char *const known[] = {"--foreground", "--help", "--version", "--check", "--plan", "--json"};
	const char *meant = str_suggest(arg, known, sizeof known / sizeof *known);
	fprintf(stderr, "rebarfs: unknown option '%s'", arg);
	if (meant)
		fprintf(stderr, " (did you mean '%s'?)", meant);
	fputc('\n', stderr);
	return -1;
}

static int take_option(void *data, const char *arg, int key, struct fuse_args *out)
{
	struct options *o = data;
	if (key == KEY_DISCARD)
		return 0;
	if (key == FUSE_OPT_KEY_NONOPT) {
		strlist_add(&o->names, arg);
		return 0;
	}
	if (*arg == '-' && strcmp(arg, "-d") != 0) /* -d: libfuse tells of every request */
		return refuse_option(arg);
	return is_foreign(arg) ? 0 : 1;
}

static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct fuse_opt spec[] = {
	        {"state=%s", offsetof(struct options, state), 0},
	        {"cache=%s", offsetof(struct options, cache), 0},
	        {"only=%s", offsetof(struct options, only), 0},
	        {"secrets=%s", offsetof(struct options, secrets), 0},
	        {"-f", offsetof(struct options, foreground), 1},
	        {"--foreground", offsetof(struct options, foreground), 1},
	        {"-h", offsetof(struct options, help), 1},
	        {"--help", offsetof(struct options, help), 1},
	        {"-V", offsetof(struct options, version), 1},
	        {"--version", offsetof(struct options, version), 1},
	        {"--check", offsetof(struct options, check), 1},
	        {"--plan", offsetof(struct options, plan), 1},
	        {"--json", offsetof(struct options, json), 1},
	        FUSE_OPT_KEY("-n", KEY_DISCARD), /* mount(8) passes these on */
	        FUSE_OPT_KEY("-s", KEY_DISCARD),
	        FUSE_OPT_KEY("-v", KEY_DISCARD),
	        FUSE_OPT_END,
	};
	o->mount = (struct fuse_args)FUSE_ARGS_INIT(argc, argv);
	return fuse_opt_parse(&o->mount, o, spec, take_option);
}

static void release_options(struct options *o)
{
	free(o->state);
	free(o->cache);
	free(o->only);
	free(o->secrets);
	strlist_release(&o->names);
	fuse_opt_free_args(&o->mount);
}

static int show_version(void)
{
	printf("rebarfs %s (fuse %s, sqlite %s, libuv %s)\n", REBARFS_VERSION, fuse_pkgversion(), sqlite3_libversion(), uv_version_string());
	return 0;
}

/* ---- where things are ---- */

static char *home_dir(const char *variable, const char *under_home)
{
	const char *dir = getenv(variable), *home = getenv("HOME");
	if (dir && *dir == '/')
		return xstrdup(dir);
	return xasprintf("%s/%s", home && *home == '/' ? home : "/tmp", under_home);
}

static char *absolute(const char *path)
{
	char cwd[PATH_MAX];
	if (*path == '/' || !getcwd(cwd, sizeof cwd))
		return xstrdup(path);
	return path_join(cwd, path);
}

static char *state_dir(const struct options *o, const char *repo)
{
	if (o->state)
		return absolute(o->state);
	const char *slash = strrchr(repo, '/'), *name = slash && slash[1] ? slash + 1 : "root";
	if (geteuid() == 0)
		return xasprintf("/var/lib/rebarfs/%s", name);
	_cleanup_free_ char *dir = home_dir("XDG_STATE_HOME", ".local/state");
	return xasprintf("%s/rebarfs/%s", dir, name);
}

static char *cache_dir(const struct options *o)
{
	if (o->cache)
		return absolute(o->cache);
	if (geteuid() == 0)
		return xstrdup("/var/cache/rebarfs");
	_cleanup_free_ char *dir = home_dir("XDG_CACHE_HOME", ".cache");
	return xasprintf("%s/rebarfs", dir);
}

static bool is_within(const char *path, const char *dir)
{
	size_t n = strlen(dir);
	return !strcmp(dir, "/") || (!strncmp(path, dir, n) && (path[n] == '/' || !path[n]));
}

static int run_quiet(const char *const *argv)
{
	pid_t pid = fork();
	if (pid == 0) {
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	int status;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* statfs() asks the daemon; stat() and open() may be answered by what the kernel remembers. */
static bool is_dead(const char *mountpoint)
{
	struct statfs fs;
	return statfs(mountpoint, &fs) < 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

/* What a daemon that was killed leaves behind: every access says ENOTCONN until somebody unmounts it. */
static int clear_stale(const char *mountpoint, struct err **err)
{
	const char *const argv[] = {"fusermount3", "-uz", "--", mountpoint, NULL};
	while (is_dead(mountpoint))
		if (umount2(mountpoint, MNT_DETACH) < 0 && run_quiet(argv) != 0)
			return err_set(err, EBUSY, "a dead mount is on '%s' and cannot be removed: try 'fusermount3 -uz %s'", mountpoint, mountpoint);
	return 0;
}

static int find_dir(const char *path, const char *what, char **ret, struct err **err)
{
	char *real = realpath(path, NULL);
	struct stat st;
	int code = real && stat(real, &st) == 0 ? (S_ISDIR(st.st_mode) ? 0 : ENOTDIR) : errno ? errno : EIO;
	if (code) {
		free(real);
		err_errno(err, code, "cannot use '%s' as the %s", path, what);
		return -code;
	}
	*ret = real;
	return 0;
}

static int find_paths(const struct options *o, struct paths *p, struct err **err)
{
	int rc = find_dir(o->names.items[0], "repo", &p->repo, err);
	if (!rc)
		rc = clear_stale(o->names.items[1], err);
	if (!rc)
		rc = find_dir(o->names.items[1], "mount point", &p->mountpoint, err);
	if (rc == -ENOENT && p->repo)
		return err_set(err, ENOENT, "there is no mount point '%s': make it with 'mkdir %s'", o->names.items[1], o->names.items[1]);
	if (rc)
		return rc;
	p->state = state_dir(o, p->repo);
	p->cache = cache_dir(o);
	if (is_within(p->repo, p->mountpoint))
		return err_set(
		        err, EINVAL, "the repo '%s' is inside the mount point '%s': it would hide behind its own mount", p->repo, p->mountpoint);
	if (is_within(p->mountpoint, p->repo))
		return err_set(err, EINVAL, "the mount point '%s' is inside the repo '%s': the repo would contain itself", p->mountpoint, p->repo);
	return 0;
}

/* A directory beside the one that was meant is mounted as well as any other, and then nothing happens. */
static void note_empty(const char *repo)
{
	static const char *const kinds[] = {"providers", "roles", "deployments", "nodes", NULL};
	for (const char *const *k = kinds; *k; k++) {
		_cleanup_free_ char *path = path_join(repo, *k);
		if (access(path, F_OK) == 0)
			return;
	}
	fprintf(stderr, "rebarfs: nothing is described in '%s' yet: it has none of providers/, roles/, deployments/, nodes/\n", repo);
}

static int check_state(const struct paths *p, struct err **err)
{
	if (!is_within(p->state, p->repo) && !is_within(p->state, p->mountpoint))
		return 0;
	return err_set(err, EINVAL, "the state directory '%s' is inside the repo or the mount: choose another with -o state=DIR", p->state);
}

static int make_dirs(struct paths *p, struct err **err)
{
	int rc = check_state(p, err);
	if (!rc)
		rc = dir_make_all(p->state, 0700, err);
	if (!rc)
		rc = dir_make_all(p->cache, 0755, err);
	if (rc)
		return rc;
	char *real = realpath(p->state, NULL);
	if (real) {
		free(p->state);
		p->state = real;
	}
	return check_state(p, err); /* again: it may have been behind a link */
}

static void release_paths(struct paths *p)
{
	free(p->repo);
	free(p->mountpoint);
	free(p->state);
	free(p->cache);
}

#define LOCK_PATIENCE_MS 500
#define LOCK_PATIENCE_ENDING_MS 30000

/* The lock goes with the process, however it ends; what is in the file is for the sentence, and for who mounts again right after an unmount: the
 * daemon before may still be writing things down. */
static void sign_lock(int fd, const char *mountpoint, const char *what)
{
	_cleanup_free_ char *text = xasprintf("%d%s for '%s'\n", getpid(), what, mountpoint);
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, strlen(text), 0) < 0)
		log_msg(LOG_WARN, "cannot write the lock file: %s", strerror(errno));
}

static void read_lock(int fd, char *text, size_t size)
{
	ssize_t n = pread(fd, text, size - 1, 0);
	text[n > 0 ? n : 0] = 0;
	text[strcspn(text, "\n")] = 0;
}

/* One daemon per state directory. */
static int lock_state(const struct paths *p, int *ret_fd, struct err **err)
{
	_cleanup_free_ char *path = path_join(p->state, "lock");
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(err, errno, "cannot open '%s'", path);
	char holder[PATH_MAX + 64] = "";
	int64_t began = monotonic_ms();
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		int code = errno;
		read_lock(fd, holder, sizeof holder);
		int64_t patience = strstr(holder, " (ending) ") ? LOCK_PATIENCE_ENDING_MS : LOCK_PATIENCE_MS;
		if (code == EWOULDBLOCK && monotonic_ms() - began < patience) {
			nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
			continue;
		}
		close(fd);
		if (code == EWOULDBLOCK)
			return err_set(err, EBUSY, "the state directory '%s' is in use by process %s: unmount that one first", p->state,
			        *holder ? holder : "?");
		return err_errno(err, code, "cannot lock '%s'", path);
	}
	sign_lock(fd, p->mountpoint, "");
	*ret_fd = fd;
	return 0;
}

/* ---- mount options ---- */

static bool fuse_conf_allows_other(void)
{
	FILE *f = fopen("/etc/fuse.conf", "re");
	char line[256];
	bool allowed = false;
	while (f && !allowed && fgets(line, sizeof line, f)) {
		char *word = line + strspn(line, " \t");
		word[strcspn(word, " \t\r\n")] = 0;
		allowed = !strcmp(word, "user_allow_other");
	}
	if (f)
		fclose(f);
	return allowed;
}

static void add_mount_options(struct fuse_args *args, const char *repo)
{
	_cleanup_buf_ struct buf o = {0};
	buf_adds(&o, "-osubtype=rebarfs,default_permissions,fsname=");
	for (const char *s = repo; *s; s++) {
		if (*s == ',' || *s == '\\')
			buf_addc(&o, '\\');
		buf_addc(&o, *s);
	}
	fuse_opt_add_arg(args, buf_str(&o));
	if (geteuid() == 0 || fuse_conf_allows_other())
		fuse_opt_add_arg(args, "-oallow_other");
	else
		complain("only you will see the mount: 'user_allow_other' is not in /etc/fuse.conf");
}

/* ---- the daemon ---- */

static void to_null(int first, int last)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = first; null >= 0 && fd <= last; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
}

/* Tells whoever started us that the mount is there, or why not. */
struct starter {
	int fd; /* -1: it is ourselves, in the foreground */
};

static void tell(struct starter *s, const char *sentence)
{
	if (s->fd < 0) {
		if (*sentence)
			complain(sentence);
		return;
	}
	char status = *sentence ? 'E' : 'R';
	(void)fd_write_all(s->fd, &status, 1);
	(void)fd_write_all(s->fd, sentence, strlen(sentence));
	close(s->fd);
	s->fd = -1;
	to_null(2, 2); /* until now fusermount3 could say on it what it dislikes */
}

#define FILES_WANTED 262144

/* Every inode of desired/ that the kernel knows is an open file here, and so is every node's connection. Only root may have more than it was given.
 */
static void raise_limits(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	if (limit.rlim_max >= FILES_WANTED || setrlimit(RLIMIT_NOFILE, &(struct rlimit){FILES_WANTED, FILES_WANTED}) < 0)
		setrlimit(RLIMIT_NOFILE, &(struct rlimit){limit.rlim_max, limit.rlim_max});
}

/* Threads inherit this: the signals are for the one that waits for them. */
static void block_signals(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	sigaction(SIGPIPE, &ignore, NULL);
}

struct daemon {
	const struct options *options;
	struct paths *paths;
	struct fuse_args *args;
	struct starter starter;
	struct strlist only;
	int lock;
	struct engine *engine;
	struct view *view;
};

static void split_only(const char *text, struct strlist *ret)
{
	_cleanup_free_ char *copy = xstrdup(text);
	char *rest = copy;
	for (char *name; copy && (name = strsep(&rest, ":"));)
		if (*name)
			strlist_add(ret, name);
}

static int open_all(struct daemon *d, struct err **err)
{
	struct paths *p = d->paths;
	int rc = make_dirs(p, err);
	if (!rc)
		rc = lock_state(p, &d->lock, err);
	if (rc)
		return rc;
	if (!d->options->foreground) {
		_cleanup_free_ char *log = path_join(p->state, "log");
		log_to_file(log);
	}
	split_only(d->options->only, &d->only);
	struct engine_options eo = {
	        .repo = p->repo,
	        .mountpoint = p->mountpoint,
	        .state_dir = p->state,
	        .cache_dir = p->cache,
	        .secrets = d->options->secrets,
	        .only = d->only.n ? (const char *const *)d->only.items : NULL,
	};
	rc = engine_open(&eo, &d->engine, err);
	if (rc)
		return rc;
	struct view_options vo = {.engine = d->engine, .repo = p->repo, .mountpoint = p->mountpoint, .state_dir = p->state, .args = d->args};
	return view_open(&vo, &d->view, err);
}

static int start_all(struct daemon *d, struct err **err)
{
	int rc = engine_start(d->engine, err);
	if (rc)
		return rc;
	rc = view_mount(d->view, err);
	if (rc)
		engine_stop(d->engine);
	return rc;
}

static void close_all(struct daemon *d)
{
	view_free(d->view);
	engine_free(d->engine);
	strlist_release(&d->only);
	if (d->lock >= 0)
		close(d->lock);
}

static int serve(struct daemon *d)
{
	_cleanup_err_ struct err *err = NULL;
	block_signals();
	raise_limits();
	umask(0);
	int rc = open_all(d, &err);
	if (!rc)
		rc = start_all(d, &err);
	if (rc) {
		tell(&d->starter, err_msg(err));
		close_all(d);
		return EXIT_TROUBLE;
	}
	log_msg(LOG_INFO, "'%s' is mounted on '%s', state in '%s'", d->paths->repo, d->paths->mountpoint, d->paths->state);
	tell(&d->starter, "");
	rc = view_run(d->view, &err);
	if (rc)
		log_msg(LOG_ERROR, "%s", err_msg(err));
	sign_lock(d->lock, d->paths->mountpoint, " (ending)");
	engine_stop(d->engine);
	view_unmount(d->view);
	log_msg(LOG_INFO, "'%s' is unmounted", d->paths->mountpoint);
	close_all(d);
	return rc ? EXIT_TROUBLE : 0;
}

/* ---- in the background ---- */

/* The mount answers when a file in it can be looked at. */
static int wait_for_mount(const struct paths *p)
{
	_cleanup_free_ char *readme = path_join(p->mountpoint, "README");
	struct stat st;
	if (stat(readme, &st) == 0)
		return 0;
	fprintf(stderr, "rebarfs: the mount on '%s' does not answer: %s; see '%s/log'\n", p->mountpoint, strerror(errno), p->state);
	return EXIT_TROUBLE;
}

static int wait_for_daemon(int fd, const struct paths *p)
{
	_cleanup_buf_ struct buf text = {0};
	char part[512];
	ssize_t n;
	while ((n = read(fd, part, sizeof part)) > 0 || (n < 0 && errno == EINTR))
		if (n > 0)
			buf_add(&text, part, (size_t)n);
	close(fd);
	if (text.len && text.data[0] == 'R')
		return wait_for_mount(p);
	complain(text.len > 1 ? text.data + 1 : "ended before the mount was there");
	return EXIT_TROUBLE;
}

static int serve_in_background(struct daemon *d)
{
	int fds[2];
	if (pipe2(fds, O_CLOEXEC) < 0) {
		complain("cannot make a pipe");
		return EXIT_TROUBLE;
	}
	fflush(NULL);
	pid_t pid = fork(); /* before there is any thread */
	if (pid < 0) {
		fprintf(stderr, "rebarfs: cannot fork: %s\n", strerror(errno));
		return EXIT_TROUBLE;
	}
	if (pid > 0) {
		close(fds[1]);
		return wait_for_daemon(fds[0], d->paths);
	}
	close(fds[0]);
	d->starter.fd = fds[1];
	setsid();
	if (chdir("/") < 0)
		complain("cannot leave the working directory");
	to_null(0, 1);
	return serve(d);
}

static int mount_repo(struct options *o)
{
	_cleanup_err_ struct err *err = NULL;
	struct paths paths = {0};
	int rc = EXIT_TROUBLE;
	if (find_paths(o, &paths, &err)) {
		complain(err_msg(err));
	} else {
		note_empty(paths.repo);
		add_mount_options(&o->mount, paths.repo);
		struct daemon d = {.options = o, .paths = &paths, .args = &o->mount, .starter = {.fd = -1}, .lock = -1};
		rc = o->foreground ? serve(&d) : serve_in_background(&d);
	}
	release_paths(&paths);
	return rc;
}

int main(int argc, char **argv)
{
	struct options o = {0};
	private_json();
	uv_replace_allocator(xmalloc, xrealloc, xcalloc, free); /* before its first use; it cannot do without memory any more than we can */
	int rc = EXIT_USAGE;
	/* What our parent left open is nobody's business below us: a container would keep a shell's pipe open for as long as it lives. */
	close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
	if (argc > 1 && !strcmp(argv[1], REDFISH_OPTION))
		return redfish_main(argc - 2, argv + 2); /* a child of ours, nobody's command */
	if (parse_options(argc, argv, &o) < 0) {
		complain("see 'rebarfs --help'");
	} else if (o.help) {
		fputs(usage, stdout);
		rc = 0;
	} else if (o.version) {
		rc = show_version();
	} else if (o.names.n != (o.check ? 1 : 2) || (o.check && o.plan) || (o.json && !o.check && !o.plan)) {
		if (o.names.n == 1 && !o.plan)
			fprintf(stderr, "rebarfs: where is '%s' to be mounted?\n", o.names.items[0]);
		fputs(usage, stderr);
	} else if (o.check) {
		note_empty(o.names.items[0]);
		rc = look_check(o.names.items[0], o.json);
	} else {
		rc = o.plan ? look_plan(o.names.items[0], o.names.items[1], o.json) : mount_repo(&o);
	}
	release_options(&o);
	return rc;
}
