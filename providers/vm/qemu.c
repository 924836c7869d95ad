/* qemu: its command line and its processes. */
#include "providers/vm/vm.h"

#include "fs/base/io.h"
#include "fs/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAID_MAX 4096

/* ---- the command line */

static void add(struct strlist *argv, const char *option, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void add(struct strlist *argv, const char *option, const char *fmt, ...)
{
	struct buf b = {0};
	va_list ap;

	va_start(ap, fmt);
	buf_vaddf(&b, fmt, ap);
	va_end(ap);
	strlist_add(argv, option);
	strlist_add(argv, buf_str(&b));
	buf_release(&b);
}

/* A comma ends a value, two are one (qemu(1)). */
static char *quote(const char *dir, const char *file)
{
	_cleanup_free_ char *path = file ? path_join(dir, file) : xstrdup(dir);
	struct buf b = {0};

	for (const char *c = path; *c; c++) {
		if (*c == ',')
			buf_addc(&b, ',');
		buf_addc(&b, *c);
	}
	char *quoted = xstrdup(buf_str(&b));
	buf_release(&b);
	return quoted;
}

int qemu_cpus(double cpus)
{
	return cpus > 1 ? (int)ceil(cpus) : 1;
}

static void add_memory(const struct qemu_machine *m, struct strlist *argv)
{
	/* tb-size: the default takes a gigabyte for translated code */
	const char *accel = m->kvm ? "kvm" : "tcg,tb-size=64", *cpu = m->kvm ? "host" : "max";

	add(argv, "-machine", "pc%s", m->memory ? ",memory-backend=ram" : "");
	add(argv, "-accel", "%s", accel);
	add(argv, "-cpu", "%s", cpu);
	add(argv, "-smp", "%d", m->cpus);
	add(argv, "-m", "%lldk", (long long)(m->memory_bytes / 1024));
	if (m->memory) {
		_cleanup_free_ char *path = quote(m->memory, NULL);
		add(argv, "-object", "memory-backend-file,id=ram,size=%lldk,mem-path=%s,share=%s", (long long)(m->memory_bytes / 1024), path,
		        m->share ? "on" : "off");
	}
}

static void add_disk(const struct qemu_machine *m, const char *file, const char *id, struct strlist *argv)
{
	_cleanup_free_ char *path = quote(m->dir, file);

	add(argv, "-drive", "file=%s,if=none,id=%s,format=qcow2,discard=unmap%s", path, id, m->once ? ",cache=unsafe" : "");
	add(argv, "-device", "virtio-blk-pci,drive=%s,serial=rebarfs-%s", id, id);
}

static void add_disks(const struct qemu_machine *m, struct strlist *argv)
{
	add_disk(m, "disk.qcow2", "root", argv);
	if (m->kernel) {
		_cleanup_free_ char *seed = quote(m->dir, "seed.img");
		add(argv, "-drive", "file=%s,if=none,id=seed,format=raw,read-only=on", seed);
		add(argv, "-device", "virtio-blk-pci,drive=seed,serial=rebarfs-seed");
	} else {
		/* the label is what cloud-init looks for (its data source NoCloud) */
		_cleanup_free_ char *seed = quote(m->dir, "seed");
		add(argv, "-blockdev", "driver=vvfat,node-name=seed,dir=%s,label=CIDATA,read-only=on", seed);
		add(argv, "-device", "virtio-blk-pci,drive=seed,serial=rebarfs-seed");
	}
	for (int i = 1; i <= m->data_disks; i++) {
		char file[32], id[16];
		snprintf(file, sizeof file, "data%d.qcow2", i);
		snprintf(id, sizeof id, "data%d", i);
		add_disk(m, file, id, argv);
	}
}

static void add_network(const struct qemu_machine *m, struct strlist *argv)
{
	if (m->tap)
		add(argv, "-netdev", "tap,id=net0,ifname=%s,script=no,downscript=no", m->tap);
	else
		add(argv, "-netdev", "hubport,id=net0,hubid=0");
	/* romfile: no time is lost in looking for a network to boot from */
	add(argv, "-device", "virtio-net-pci,netdev=net0,romfile=,mac=%02x:%02x:%02x:%02x:%02x:%02x", m->mac[0], m->mac[1], m->mac[2], m->mac[3],
	        m->mac[4], m->mac[5]);
}

void qemu_arguments(const struct qemu_machine *m, struct strlist *argv)
{
	_cleanup_free_ char *console = quote(m->dir, "console.log"), *qmp = quote(m->dir, "qmp"), *pid = path_join(m->dir, "qemu.pid");

	strlist_add(argv, QEMU);
	add(argv, "-name", "%s", m->name);
	add(argv, "-uuid", "%.8s-%.4s-%.4s-%.4s-%.12s", m->uuid, m->uuid + 8, m->uuid + 12, m->uuid + 16, m->uuid + 20);
	strlist_add(argv, "-nodefaults");
	strlist_add(argv, "-no-user-config");
	add(argv, "-display", "none");
	add_memory(m, argv);
	if (m->kernel) {
		strlist_add(argv, "-kernel");
		strlist_add_take(argv, path_join(m->base, "kernel"));
		strlist_add(argv, "-initrd");
		strlist_add_take(argv, path_join(m->base, "initrd"));
		add(argv, "-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0%s", m->kvm ? "" : " mitigations=off");
	}
	add_disks(m, argv);
	add_network(m, argv);
	add(argv, "-device", "virtio-rng-pci");
	add(argv, "-chardev", "file,id=console,path=%s,append=on", console);
	add(argv, "-serial", "chardev:console");
	add(argv, "-chardev", "socket,id=qmp,path=%s,server=on,wait=off", qmp);
	add(argv, "-mon", "chardev=qmp,mode=control");
	strlist_add(argv, "-pidfile");
	strlist_add(argv, pid);
	strlist_add(argv, "-daemonize");
	if (m->incoming)
		add(argv, "-incoming", "defer");
	if (m->once)
		strlist_add(argv, "-no-reboot");
}

/* ---- processes */

static int start(const struct strlist *argv, int out, pid_t *ret)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int rc;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&files, out, 2);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	rc = posix_spawnp(ret, argv->items[0], &files, &attributes, argv->items, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&files);
	return -rc;
}

/* Until the program ends or lets go of the pipe, as a daemon does. False: too late. */
static bool collect(int fd, int64_t deadline_ms, struct buf *said)
{
	char chunk[512];

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int64_t left = deadline_ms - monotonic_ms();
		int rc = left > 0 ? poll(&p, 1, (int)left) : 0;
		if (rc < 0 && errno == EINTR)
			continue;
		if (rc <= 0)
			return false;
		ssize_t n = read(fd, chunk, sizeof chunk);
		if (n <= 0)
			return true;
		if (said->len < SAID_MAX)
			buf_add(said, chunk, (size_t)n);
	}
}

int qemu_run(const struct strlist *argv, int64_t timeout_ms, struct err **err)
{
	_cleanup_buf_ struct buf said = {0};
	int ends[2], status = 0, rc;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(err, errno, "cannot make a pipe");
	rc = start(argv, ends[1], &pid);
	close(ends[1]);
	bool in_time = rc < 0 || collect(ends[0], monotonic_ms() + timeout_ms, &said);
	close(ends[0]);
	if (rc < 0)
		return err_errno(err, -rc, "cannot run '%s'", argv->items[0]);
	if (!in_time)
		kill(-pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!in_time)
		return err_set(err, ETIMEDOUT, "'%s' was not done after %lld s", argv->items[0], (long long)timeout_ms / 1000);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return err_set(
	        err, EAGAIN, "'%s' failed: %.*s", argv->items[0], (int)strcspn(buf_str(&said), "\n"), said.len ? buf_str(&said) : "it says nothing");
}

/* qemu locks the file it names itself in, and the kernel knows who holds a lock: no stale file, no process with a number that is used again. */
pid_t qemu_pid(const char *dir)
{
	_cleanup_free_ char *path = path_join(dir, "qemu.pid");
	_cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	if (fd < 0 || fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
		return 0;
	return lock.l_pid > 0 ? lock.l_pid : 0;
}

void qemu_signal(const char *dir, int sig)
{
	pid_t pid = qemu_pid(dir);
	_cleanup_close_ int fd = pid ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

	/* asked again: by now the number could be another's, the descriptor cannot */
	if (fd >= 0 && qemu_pid(dir) == pid)
		syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0);
}

/* ---- disks */

#define DISK_MS 60000

int qemu_disk(const char *path, const char *backing, const char *format, int64_t bytes, struct err **err)
{
	_cleanup_strlist_ struct strlist argv = {0};
	const char *const words[] = {"qemu-img", "create", "-q", "-f", "qcow2"};

	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		strlist_add(&argv, words[i]);
	if (backing) {
		strlist_add(&argv, "-b");
		strlist_add(&argv, backing);
		strlist_add(&argv, "-F");
		strlist_add(&argv, format);
	}
	strlist_add(&argv, path);
	if (bytes)
		strlist_add_take(&argv, xasprintf("%lld", (long long)bytes));
	return qemu_run(&argv, DISK_MS, err);
}

char *qemu_base_disk(const char *base, const char **ret_format)
{
	char *path = path_join(base, "disk.qcow2");

	*ret_format = "qcow2";
	if (access(path, F_OK) == 0)
		return path;
	free(path);
	*ret_format = "raw";
	return path_join(base, "disk.raw");
}

bool qemu_has_kernel(const char *base)
{
	_cleanup_free_ char *path = path_join(base, "kernel");

	return access(path, F_OK) == 0;
}
