/* From this process to a node's first process.
 *
 *   worker --fork--> middle: session, control groups, network namespace and veth, mount namespace, overlay
 *                      --fork--> first: (sshd nodes: its own PID, UTS and IPC namespaces, /proc /sys /dev, pivot_root) exec
 *
 * middle writes first's id beside the node's record before first may go on, and ends: a node that runs is always known, whenever this
 * program is killed, and is nobody's child. If this program is killed, middle dies with it: it must not go on beside the next daemon. Between fork
 * and exec stand only system calls (this program has threads). What fails there comes back through a pipe that exec closes.
 *
 * _Fork, not fork: fork runs pthread_atfork's handlers, and libuv's makes its signal pipe anew and writes into it, under numbers that are
 * long ours here. A first process was seen to take that byte (a '*') for its permission to go on. */
#include "providers/container/container.h"

#include "fs/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEADLINE_MS 30000 /* a mount on a sick disk must not take a worker for ever */

enum step {
	STEP_SESSION,
	STEP_CGROUP,
	STEP_NETNS,
	STEP_NETNS_NAME,
	STEP_VETH,
	STEP_ADDRESS,
	STEP_NAMESPACES,
	STEP_OVERLAY,
	STEP_FORK,
	STEP_PID_FILE,
	STEP_PROC,
	STEP_SYS,
	STEP_DEV,
	STEP_RUN,
	STEP_PIVOT,
	STEP_EXEC,
};
static const char *const step_names[] = {
        [STEP_SESSION] = "cannot start a session",
        [STEP_CGROUP] = "cannot join its control group",
        [STEP_NETNS] = "cannot make a network namespace",
        [STEP_NETNS_NAME] = "cannot name its network namespace under /run/netns",
        [STEP_VETH] = "cannot join it to the bridge",
        [STEP_ADDRESS] = "cannot set its address",
        [STEP_NAMESPACES] = "cannot make its namespaces",
        [STEP_OVERLAY] = "cannot mount its overlay",
        [STEP_FORK] = "cannot fork",
        [STEP_PID_FILE] = "cannot write its pid file",
        [STEP_PROC] = "cannot mount /proc in it",
        [STEP_SYS] = "cannot mount /sys in it",
        [STEP_DEV] = "cannot make its /dev",
        [STEP_RUN] = "cannot make its /run",
        [STEP_PIVOT] = "cannot enter its tree",
        [STEP_EXEC] = "cannot execute its first program",
};

struct failure {
	enum step step;
	int error; /* positive */
};

/* All that needs memory, made before the fork. */
struct prepared {
	const struct launch *l;
	char *netns, *overlay_options, *root, *pid_new, *pid_file, *console;
	pid_t parent;
	uint32_t bridge; /* index */
	int report;      /* write end */
	int gate[2];
};

static _Noreturn void give_up(const struct prepared *p, enum step step, int error)
{
	struct failure f = {step, error};

	(void)!write(p->report, &f, sizeof f);
	_exit(1);
}

/* For system calls: -1 and errno. */
static void sys(const struct prepared *p, enum step step, long rc)
{
	if (rc < 0)
		give_up(p, step, errno);
}

/* For our own: a negative errno. */
static void check(const struct prepared *p, enum step step, int rc)
{
	if (rc < 0)
		give_up(p, step, -rc);
}

/* No descriptor of the daemon's may stay open here: not even for as long as a slow mount takes. */
static void keep_only(struct prepared *p)
{
	int null = open("/dev/null", O_RDONLY), log = open(p->console, O_WRONLY | O_CREAT | O_APPEND, 0600);
	int keep[3] = {p->report, p->gate[0], p->gate[1]};

	if (null < 0 || log < 0)
		give_up(p, STEP_SESSION, errno);
	/* above all of them first, then down to 3, 4, 5 */
	for (int i = 0; i < 3; i++)
		keep[i] = fcntl(keep[i], F_DUPFD_CLOEXEC, 64);
	dup2(null, 0);
	dup2(log, 1);
	dup2(log, 2);
	for (int i = 0; i < 3; i++)
		if (keep[i] < 0 || dup3(keep[i], 3 + i, O_CLOEXEC) < 0)
			_exit(1);
	p->report = 3;
	p->gate[0] = 4;
	p->gate[1] = 5;
	syscall(SYS_close_range, 6U, ~0U, 0U);
}

static void reset_signals(void)
{
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int put(const char *path, const char *text, size_t len, int flags)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | flags, 0600), rc = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, len) != (ssize_t)len)
		rc = errno ? -errno : -EIO;
	close(fd);
	return rc;
}

static void enter_network(struct prepared *p)
{
	const struct launch *l = p->l;
	int nl = link_socket(), fd;

	check(p, STEP_VETH, nl);
	sys(p, STEP_NETNS, unshare(CLONE_NEWNET));
	fd = open(p->netns, O_RDONLY | O_CREAT | O_CLOEXEC, 0);
	sys(p, STEP_NETNS_NAME, fd);
	close(fd);
	sys(p, STEP_NETNS_NAME, mount("/proc/self/ns/net", p->netns, NULL, MS_BIND, NULL));
	check(p, STEP_VETH, link_veth(nl, l->ref, p->bridge, l->mac, l->mtu, getpid()));
	close(nl);
	link_announce();
	check(p, STEP_ADDRESS, link_configure("lo", 0, 0, 0));
	check(p, STEP_ADDRESS, link_configure("eth0", l->address, l->prefix, l->gateway));
}

static void enter_mounts(const struct prepared *p)
{
	const struct launch *l = p->l;
	int more = l->own_pid1 ? CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC : 0;

	sys(p, STEP_NAMESPACES, unshare(CLONE_NEWNS | more));
	/* slave: what is unmounted on the host goes here too, and nothing of ours comes out */
	sys(p, STEP_NAMESPACES, mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
	for (const char *const *d = l->detach; *d; d++)
		umount2(*d, MNT_DETACH | UMOUNT_NOFOLLOW);
	sys(p, STEP_OVERLAY, mount("overlay", p->root, "overlay", 0, p->overlay_options));
}

/* ---- the first process of an sshd node */

static void mount_proc(const struct prepared *p)
{
	/* Against accidents, not against malice: such a node is root with CAP_SYS_ADMIN. */
	static const char *const guarded[] = {"proc/sys", "proc/irq", "proc/bus"};

	sys(p, STEP_PROC, mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
	if (p->l->privileged)
		return;
	for (size_t i = 0; i < sizeof guarded / sizeof *guarded; i++)
		if (mount(guarded[i], guarded[i], NULL, MS_BIND, NULL) == 0)
			mount(NULL, guarded[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	/* its own network's settings are its own */
	mount("proc/sys/net", "proc/sys/net", NULL, MS_BIND, NULL);
	mount(NULL, "proc/sys/net", NULL, MS_BIND | MS_REMOUNT | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount("/dev/null", "proc/sysrq-trigger", NULL, MS_BIND, NULL);
}

static void make_dev(const struct prepared *p)
{
	static const struct {
		const char *path;
		unsigned int major, minor;
	} devices[] = {{"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};
	static const struct {
		const char *target, *path;
	} links[] = {{"pts/ptmx", "dev/ptmx"}, {"/proc/self/fd", "dev/fd"}, {"fd/0", "dev/stdin"}, {"fd/1", "dev/stdout"}, {"fd/2", "dev/stderr"}};

	sys(p, STEP_DEV, mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=4m"));
	umask(0);
	for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
		sys(p, STEP_DEV, mknod(devices[i].path, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)));
	umask(022);
	for (size_t i = 0; i < sizeof links / sizeof *links; i++)
		sys(p, STEP_DEV, symlink(links[i].target, links[i].path));
	if (p->l->privileged)
		mknod("dev/kmsg", S_IFCHR | 0600, makedev(1, 11));
	sys(p, STEP_DEV, mkdir("dev/pts", 0755));
	sys(p, STEP_DEV, mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5"));
	sys(p, STEP_DEV, mkdir("dev/shm", 0755));
	sys(p, STEP_DEV, mount("tmpfs", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777"));
	if (mkdir("dev/mqueue", 0755) == 0)
		mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
}

/* As systemd-nspawn does: loading modules, setting the clock and raw I/O stay with the host. */
static void drop_capabilities(void)
{
	static const int dropped[] = {CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_TIME, CAP_SYSLOG, CAP_MAC_ADMIN, CAP_MAC_OVERRIDE, CAP_SYS_PACCT,
	        CAP_WAKE_ALARM, CAP_BLOCK_SUSPEND, CAP_PERFMON, CAP_BPF, CAP_CHECKPOINT_RESTORE};

	for (size_t i = 0; i < sizeof dropped / sizeof *dropped; i++)
		prctl(PR_CAPBSET_DROP, dropped[i], 0, 0, 0); /* EINVAL: an older kernel without it */
}

static void become_pid1(const struct prepared *p)
{
	const struct launch *l = p->l;

	sys(p, STEP_PIVOT, chdir(p->root));
	mount_proc(p);
	sys(p, STEP_SYS, mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | (l->privileged ? 0 : MS_RDONLY), NULL));
	make_dev(p);
	sys(p, STEP_RUN, mount("tmpfs", "run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755"));
	sys(p, STEP_RUN, mkdir("run/sshd", 0755));
	mkdir("run/lock", 0755);
	chmod("run/lock", 01777);
	sys(p, STEP_NAMESPACES, sethostname(l->host_name, strlen(l->host_name)));
	sys(p, STEP_PIVOT, syscall(SYS_pivot_root, ".", "."));
	sys(p, STEP_PIVOT, umount2(".", MNT_DETACH));
	sys(p, STEP_PIVOT, chdir("/"));
	/* now, and not before: the groups it sees should begin at its own */
	unshare(CLONE_NEWCGROUP);
	if (!l->privileged)
		drop_capabilities();
}

static _Noreturn void run_first(const struct prepared *p)
{
	char go;

	/* EOF without a byte: middle was killed before the id was on disk */
	close(p->gate[1]);
	if (read(p->gate[0], &go, 1) != 1)
		_exit(1);
	setsid();
	if (p->l->own_pid1)
		become_pid1(p);
	execve(p->l->argv[0], (char *const *)p->l->argv, (char *const *)p->l->env);
	give_up(p, STEP_EXEC, errno);
}

/* ---- the pid file */

static char *add_text(char *at, const char *text)
{
	return mempcpy(at, text, strlen(text));
}

static char *add_number(char *at, uint64_t n)
{
	char digits[20];
	size_t len = 0;

	do
		digits[len++] = (char)('0' + n % 10);
	while (n /= 10);
	while (len)
		*at++ = digits[--len];
	return at;
}

/* Field 22 of /proc/PID/stat, after the program's name, which may hold anything. */
static uint64_t start_time(pid_t pid)
{
	char path[40], text[1024], *end = add_number(add_text(path, "/proc/"), (uint64_t)pid);
	uint64_t n = 0;
	ssize_t len;
	int fd;

	*add_text(end, "/stat") = '\0';
	fd = open(path, O_RDONLY | O_CLOEXEC);
	len = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (fd >= 0)
		close(fd);
	if (len <= 0)
		return 0;
	text[len] = '\0';
	char *at = strrchr(text, ')');
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	for (at = at ? at + 1 : text + len; *at >= '0' && *at <= '9'; at++)
		n = n * 10 + (uint64_t)(*at - '0');
	return n;
}

static void write_pid(const struct prepared *p, pid_t pid)
{
	char line[128], *end = add_text(line, p->l->boot_id);

	*end++ = ' ';
	end = add_number(end, (uint64_t)pid);
	*end++ = ' ';
	end = add_number(end, start_time(pid));
	*end++ = '\n';
	check(p, STEP_PID_FILE, put(p->pid_new, line, (size_t)(end - line), O_CREAT | O_TRUNC));
	sys(p, STEP_PID_FILE, rename(p->pid_new, p->pid_file));
}

/* ---- middle, and the worker's side */

static _Noreturn void run_middle(struct prepared *p)
{
	pid_t first;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != p->parent)
		_exit(1);
	keep_only(p);
	reset_signals();
	umask(022);
	sys(p, STEP_SESSION, setsid());
	for (const char *const *c = p->l->cgroups; *c; c++)
		check(p, STEP_CGROUP, put(*c, "0", 1, 0));
	enter_network(p);
	enter_mounts(p);
	first = _Fork();
	sys(p, STEP_FORK, first);
	if (first == 0)
		run_first(p);
	write_pid(p, first);
	if (write(p->gate[1], "", 1) != 1)
		give_up(p, STEP_PID_FILE, errno);
	_exit(0);
}

static int wait_for(int fd, pid_t middle, struct err **err)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	struct failure f;
	ssize_t n = 0;
	int ready;

	do
		ready = poll(&poll_fd, 1, DEADLINE_MS);
	while (ready < 0 && errno == EINTR);
	if (ready > 0)
		n = read(fd, &f, sizeof f);
	else
		kill(middle, SIGKILL);
	while (waitpid(middle, NULL, 0) < 0 && errno == EINTR)
		;
	if (ready == 0)
		return err_set(err, ETIMEDOUT, "its namespaces were not made within %d s", DEADLINE_MS / 1000);
	if (n == (ssize_t)sizeof f && f.step <= STEP_EXEC)
		return err_errno(err, f.error, "%s", step_names[f.step]);
	return n ? err_set(err, EIO, "its launcher ended early") : 0;
}

static void prepared_release(struct prepared *p)
{
	free(p->netns);
	free(p->overlay_options);
	free(p->root);
	free(p->pid_new);
	free(p->pid_file);
	free(p->console);
	for (int i = 0; i < 2; i++)
		if (p->gate[i] >= 0)
			close(p->gate[i]);
}

int launch(const struct launch *l, struct err **err)
{
	struct prepared p = {.l = l, .gate = {-1, -1}};
	int report[2], rc;
	sigset_t all, before;
	pid_t middle;

	p.bridge = if_nametoindex(l->bridge);
	if (!p.bridge)
		return err_errno(err, errno, "there is no bridge '%s'", l->bridge);
	if (pipe2(report, O_CLOEXEC) < 0)
		return err_errno(err, errno, "cannot make a pipe");
	p.report = report[1];
	p.parent = getpid();
	p.netns = xasprintf("/run/netns/%s", l->ref);
	p.root = xasprintf("%s/root", l->dir);
	p.overlay_options = xasprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", l->tree, l->dir, l->dir);
	p.pid_new = xasprintf("%s/pid.new", l->dir);
	p.pid_file = xasprintf("%s/pid", l->dir);
	p.console = xasprintf("%s/console.log", l->dir);
	if (pipe2(p.gate, O_CLOEXEC) < 0) {
		rc = err_errno(err, errno, "cannot make a pipe");
		close(report[1]);
	} else {
		/* as libuv does: no handler of ours may run in the child */
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &before);
		middle = _Fork();
		if (middle == 0)
			run_middle(&p);
		rc = middle < 0 ? err_errno(err, errno, "cannot fork") : 0;
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		close(report[1]);
		/* the gate's ends too, or first would not see middle's death */
		close(p.gate[0]);
		close(p.gate[1]);
		p.gate[0] = p.gate[1] = -1;
		if (rc == 0)
			rc = wait_for(report[0], middle, err);
	}
	close(report[0]);
	prepared_release(&p);
	return rc;
}
