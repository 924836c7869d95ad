/* A booted image. It is booted once for a shape, up to where it waits to be told who it is; then its memory (a file), the state of its devices
 * and its disk are kept. A clone maps the memory privately, so that clones share what they do not write, and goes on from there.
 *
 * qemu's capability x-ignore-shared leaves memory that is a shared file out of the state. */
#include "providers/vm/vm.h"

#include "fs/base/hash.h"
#include "fs/base/io.h"
#include "fs/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define START_MS 60000
#define CONVERSE_MS 60000
#define POLL_US 20000
#define CONSOLE_MAX (4 << 20)

static const uint8_t nobodys_mac[6] = {0x02, 0x72, 0x62, 0, 0, 0};
static const char nobodys_id[] = "00000000000000000000000000000000";

char *snapshot_dir(const struct shape *s)
{
	struct utsname u = {0};
	struct hash hash;
	char hex[HASH_HEX];

	uname(&u);
	/* with KVM the guest has seen the host's own processor, which only the same host is sure to have */
	_cleanup_free_ char *text = xasprintf("%lld %lld %d %s %s %s %s", (long long)s->memory_bytes, (long long)s->disk_bytes, s->cpus, s->disks,
	        s->qemu, s->kvm ? "kvm" : "tcg", s->kvm ? u.nodename : "");
	hash_bytes(text, strlen(text), &hash);
	hash_hex(&hash, hex);
	return xasprintf("%s/snapshot-%.16s", s->base, hex);
}

static int make_files(const struct shape *s, const char *dir, const char *memory, struct err **err)
{
	struct node_job j = {.dir = (char *)dir, .base = (char *)s->base, .disk_bytes = s->disk_bytes, .disks = (char *)s->disks};
	_cleanup_free_ char *seed = path_join(dir, "seed.img");
	const struct {
		const char *path;
		int64_t bytes;
	} files[] = {{memory, s->memory_bytes}, {seed, SEED_BYTES}};
	int rc = node_begin(&j, err);

	if (rc == 0)
		rc = node_disks(&j, err);
	for (size_t i = 0; rc == 0 && i < sizeof files / sizeof *files; i++) {
		_cleanup_close_ int fd = open(files[i].path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0 || ftruncate(fd, files[i].bytes) < 0)
			rc = err_errno(err, errno, "cannot make '%s'", files[i].path);
	}
	return rc;
}

int snapshot_boot(const struct shape *s, const char *dir, struct err **err)
{
	_cleanup_strlist_ struct strlist argv = {0}, disks = {0};
	_cleanup_free_ char *memory = path_join(dir, "memory");
	int rc;

	snapshot_drop(dir); /* what somebody who was killed has left */
	strlist_split(&disks, s->disks);
	rc = make_files(s, dir, memory, err);
	if (rc < 0)
		return rc;
	struct qemu_machine m = {.name = "rebarfs-image",
	        .dir = dir,
	        .base = s->base,
	        .uuid = nobodys_id,
	        .memory_bytes = s->memory_bytes,
	        .cpus = s->cpus,
	        .kvm = s->kvm,
	        .kernel = true,
	        .data_disks = (int)disks.n,
	        .mac = nobodys_mac,
	        .memory = memory,
	        .share = true,
	        .once = true};
	qemu_arguments(&m, &argv);
	return qemu_run(&argv, START_MS, err);
}

int snapshot_waits(const char *dir, struct err **err)
{
	_cleanup_free_ char *path = path_join(dir, "console.log");
	_cleanup_buf_ struct buf b = {0};
	bool runs = qemu_pid(dir) > 0; /* before its last words are read */

	file_read(AT_FDCWD, path, CONSOLE_MAX, &b, NULL);
	if (runs)
		return strstr(buf_str(&b), GUEST_WAITS) != NULL;
	while (b.len && strchr("\r\n", b.data[b.len - 1]))
		b.data[--b.len] = '\0';
	const char *last = strrchr(buf_str(&b), '\n');
	return err_set(err, EAGAIN, "the image ended while it booted, with the words '%s'", last ? last + 1 : buf_str(&b));
}

void snapshot_drop(const char *dir)
{
	qemu_signal(dir, SIGKILL);
	for (int i = 0; i < 100 && qemu_pid(dir); i++)
		usleep(POLL_US);
	tree_remove(dir, NULL);
}

/* ---- conversations */

static int ignore_shared(struct qmp *q, struct err **err)
{
	return qmp_command(q, "migrate-set-capabilities", json_pack("{s:[{s:s, s:b}]}", "capabilities", "capability", "x-ignore-shared", "state", 1),
	        -1, NULL, err);
}

/* Until command says status: wanted. */
static int wait_status(struct qmp *q, const char *command, const char *wanted, struct err **err)
{
	for (;;) {
		json_t *answer = NULL;
		int rc = qmp_command(q, command, NULL, -1, &answer, err);
		const char *status = json_string_value(json_object_get(answer, "status"));
		bool there = status && !strcmp(status, wanted);
		bool failed = status && (!strcmp(status, "failed") || !strcmp(status, "internal-error"));
		json_decref(answer);
		if (rc < 0 || there)
			return rc;
		if (failed)
			return err_set(err, EIO, "qemu could not move its state");
		if (monotonic_ms() > q->deadline_ms)
			return err_set(err, ETIMEDOUT, "qemu was not done with its state in time");
		usleep(POLL_US);
	}
}

static int hand_over(struct qmp *q, const char *path, int flags, const char *command, struct err **err)
{
	_cleanup_close_ int fd = open(path, flags | O_CLOEXEC, 0600);
	int rc;

	if (fd < 0)
		return err_errno(err, errno, "cannot open '%s'", path);
	rc = ignore_shared(q, err);
	if (rc == 0)
		rc = qmp_command(q, "getfd", json_pack("{s:s}", "fdname", "state"), fd, NULL, err);
	return rc == 0 ? qmp_command(q, command, json_pack("{s:s}", "uri", "fd:state"), -1, NULL, err) : rc;
}

int snapshot_save(const char *dir, const char *to, struct err **err)
{
	_cleanup_free_ char *monitor = path_join(dir, "qmp"), *state = path_join(dir, "state");
	struct qmp q;
	int rc = qmp_open(monitor, CONVERSE_MS, &q, err);

	if (rc < 0)
		return rc;
	rc = qmp_command(&q, "stop", NULL, -1, NULL, err);
	if (rc == 0)
		rc = hand_over(&q, state, O_RDWR | O_CREAT | O_TRUNC, "migrate", err);
	if (rc == 0)
		rc = wait_status(&q, "query-migrate", "completed", err);
	if (rc == 0)
		qmp_command(&q, "quit", NULL, -1, NULL, NULL);
	qmp_close(&q);
	for (int64_t end = monotonic_ms() + CONVERSE_MS; rc == 0 && qemu_pid(dir) && monotonic_ms() < end;)
		usleep(POLL_US);
	if (rc == 0 && qemu_pid(dir))
		rc = err_set(err, ETIMEDOUT, "qemu does not end");
	if (rc == 0 && rename(dir, to) < 0)
		rc = err_errno(err, errno, "cannot rename '%s'", dir);
	return rc;
}

int snapshot_load(const char *dir, const char *snapshot, struct err **err)
{
	_cleanup_free_ char *monitor = path_join(dir, "qmp"), *state = path_join(snapshot, "state");
	struct qmp q;
	int rc = qmp_open(monitor, CONVERSE_MS, &q, err);

	if (rc < 0)
		return rc;
	rc = hand_over(&q, state, O_RDONLY, "migrate-incoming", err);
	if (rc == 0)
		rc = wait_status(&q, "query-status", "paused", err);
	qmp_close(&q);
	return rc < 0 ? err_wrap(err, "cannot go on from '%s'", snapshot) : 0;
}
