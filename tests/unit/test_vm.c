/* The pure parts of the provider vm: qemu's protocol against a scripted peer, its command line, what decides whether a snapshot fits. */
#include "fs/base/mem.h"
#include "providers/vm/vm.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n"

/* ---- QMP */

/* Answers each line with the next of answers (in as many pieces as there are bytes), the first before any line. A NULL answer hangs up. */
struct peer {
	int fd;
	const char *answers[8];
	char said[8][256];
	int n;
	pthread_t thread;
};

static void *run_peer(void *arg)
{
	struct peer *p = arg;

	for (int i = 0; p->answers[i]; i++) {
		if (i > 0) {
			ssize_t len = recv(p->fd, p->said[i], sizeof p->said[i] - 1, 0);
			if (len <= 0)
				break;
			p->n = i;
		}
		for (const char *c = p->answers[i]; *c; c++)
			if (send(p->fd, c, 1, MSG_NOSIGNAL) != 1)
				break;
	}
	close(p->fd);
	return NULL;
}

static int begin(struct peer *p, struct qmp *q, int64_t timeout_ms, struct err **err)
{
	int ends[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	p->fd = ends[1];
	pthread_create(&p->thread, NULL, run_peer, p);
	return qmp_begin(ends[0], timeout_ms, q, err);
}

Test(vm, qmp_greets_and_skips_events)
{
	struct peer p = {.answers = {GREETING, "{\"return\": {}}\n",
	                         "{\"event\": \"STOP\", \"timestamp\": {}}\n{\"event\": \"RESUME\"}\n{\"return\": {\"status\": \"running\"}}\n"}};
	json_t *answer = NULL;
	struct qmp q;

	cr_assert_eq(begin(&p, &q, 5000, NULL), 0);
	cr_assert_eq(qmp_command(&q, "query-status", json_pack("{s:i}", "x", 7), -1, &answer, NULL), 0);
	cr_assert_str_eq(json_string_value(json_object_get(answer, "status")), "running");
	json_decref(answer);
	qmp_close(&q);
	pthread_join(p.thread, NULL);
	cr_assert_eq(p.n, 2);
	cr_assert(strstr(p.said[1], "\"execute\":\"qmp_capabilities\""), "%s", p.said[1]);
	cr_assert(strstr(p.said[2], "\"arguments\":{\"x\":7}"), "%s", p.said[2]);
}

Test(vm, qmp_tells_what_qemu_refuses)
{
	struct peer p = {.answers = {GREETING, "{\"return\": {}}\n", "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such device\"}}\n"}};
	struct err *err = NULL;
	struct qmp q;

	cr_assert_eq(begin(&p, &q, 5000, NULL), 0);
	cr_assert_eq(qmp_command(&q, "eject", NULL, -1, NULL, &err), -EREMOTEIO);
	cr_assert_str_eq(err_msg(err), "qemu refuses 'eject': no such device");
	err_free(err);
	qmp_close(&q);
	pthread_join(p.thread, NULL);
}

Test(vm, qmp_ends_with_a_peer_that_hangs_up_lies_or_is_silent)
{
	static const struct {
		const char *first, *second;
		int64_t timeout_ms;
		int code;
	} rows[] = {{NULL, NULL, 5000, ECONNRESET}, {"{\"QMP\": ", NULL, 5000, ECONNRESET}, {"SSH-2.0-OpenSSH\n", NULL, 5000, EPROTO},
	        {"[1, 2]\n", NULL, 5000, EPROTO}, {GREETING, "{}\n", 100, ETIMEDOUT}, {GREETING, "{\"event\": \"X\"}\n", 100, ETIMEDOUT}};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		/* a last answer of nothing keeps the peer waiting for a line that never comes */
		struct peer p = {.answers = {rows[i].first, rows[i].second, rows[i].second ? "" : NULL}};
		struct err *err = NULL;
		struct qmp q;
		int64_t began = monotonic_ms();
		cr_assert_eq(begin(&p, &q, rows[i].timeout_ms, &err), -rows[i].code, "%zu: %s", i, err_msg(err));
		cr_assert_lt(monotonic_ms() - began, 4000);
		cr_assert(err);
		err_free(err);
		pthread_join(p.thread, NULL);
	}
}

Test(vm, qmp_hands_over_a_descriptor)
{
	int ends[2], pipe_ends[2], got = -1;
	char text[256] = {0}, byte = 0;
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec part = {text, sizeof text - 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
	static const char answer[] = "{\"return\": {}}\n";

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	cr_assert_eq(pipe(pipe_ends), 0);
	/* the answer may lie there before the question */
	cr_assert_eq(send(ends[1], answer, sizeof answer - 1, 0), (ssize_t)sizeof answer - 1);
	struct qmp q = {.fd = ends[0], .deadline_ms = monotonic_ms() + 5000};
	cr_assert_eq(qmp_command(&q, "getfd", NULL, pipe_ends[1], NULL, NULL), 0);
	cr_assert_gt(recvmsg(ends[1], &message, 0), 0);
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	cr_assert(c && c->cmsg_type == SCM_RIGHTS);
	memcpy(&got, CMSG_DATA(c), sizeof got);
	cr_assert_eq(write(got, "x", 1), 1);
	cr_assert_eq(read(pipe_ends[0], &byte, 1), 1);
	cr_assert_eq(byte, 'x');
	qmp_close(&q);
}

/* ---- the command line */

static const uint8_t mac[6] = {2, 0xab, 0, 1, 2, 3};

static void line(const struct qemu_machine *m, struct buf *out)
{
	struct strlist argv = {0};

	qemu_arguments(m, &argv);
	strlist_join(&argv, " ", out);
	strlist_release(&argv);
}

static struct qemu_machine machine(void)
{
	return (struct qemu_machine){.name = "rb12345-7",
	        .dir = "/state/a,b",
	        .base = "/cache/x",
	        .uuid = "0123456789abcdef0123456789abcdef",
	        .memory_bytes = 512 << 20,
	        .cpus = 2,
	        .kernel = true,
	        .data_disks = 1,
	        .tap = "rb12345-7",
	        .mac = mac};
}

Test(vm, an_emulated_machine_with_a_kernel_and_disks)
{
	static const char *const wanted[] = {"-uuid 01234567-89ab-cdef-0123-456789abcdef ", "-accel tcg,tb-size=64 ", "-smp 2 ", "-m 524288k ",
	        "-kernel /cache/x/kernel ", "file=/state/a,,b/disk.qcow2,", "file=/state/a,,b/seed.img,", "file=/state/a,,b/data1.qcow2,",
	        "tap,id=net0,ifname=rb12345-7,script=no", "mac=02:ab:00:01:02:03", "path=/state/a,,b/qmp,server=on,wait=off",
	        "-pidfile /state/a,b/qemu.pid"};
	struct qemu_machine m = machine();
	struct buf text = {0};

	line(&m, &text);
	for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
		cr_assert(strstr(buf_str(&text), wanted[i]), "no '%s' in: %s", wanted[i], buf_str(&text));
	cr_assert_not(strstr(buf_str(&text), "-incoming"));
	cr_assert_not(strstr(buf_str(&text), "memory-backend"));
	buf_release(&text);
}

Test(vm, a_clone_maps_the_snapshots_memory_for_itself)
{
	struct qemu_machine m = machine();
	struct buf text = {0};

	m.memory = "/cache/s/memory";
	m.incoming = true;
	line(&m, &text);
	cr_assert(strstr(buf_str(&text), "mem-path=/cache/s/memory,share=off "), "%s", buf_str(&text));
	cr_assert(strstr(buf_str(&text), "-incoming defer"));
	buf_release(&text);
}

Test(vm, a_whole_disk_boots_by_itself_and_asks_cloud_init)
{
	struct qemu_machine m = machine();
	struct buf text = {0};

	m.kernel = false;
	m.kvm = true;
	line(&m, &text);
	cr_assert_not(strstr(buf_str(&text), "-kernel"));
	cr_assert(strstr(buf_str(&text), "driver=vvfat,node-name=seed,dir=/state/a,,b/seed,label=CIDATA"), "%s", buf_str(&text));
	cr_assert(strstr(buf_str(&text), "-accel kvm -cpu host "));
	buf_release(&text);
}

Test(vm, processors_are_whole)
{
	cr_assert_eq(qemu_cpus(0), 1);
	cr_assert_eq(qemu_cpus(0.5), 1);
	cr_assert_eq(qemu_cpus(1), 1);
	cr_assert_eq(qemu_cpus(1.5), 2);
}

Test(vm, a_snapshot_is_for_one_shape)
{
	struct shape s = {.base = "/b", .memory_bytes = 1 << 28, .disk_bytes = 1 << 30, .cpus = 1, .disks = "", .qemu = "q"}, other[5];
	_cleanup_free_ char *dir = snapshot_dir(&s), *again = snapshot_dir(&s);

	for (size_t i = 0; i < 5; i++)
		other[i] = s;
	other[0].memory_bytes++;
	other[1].cpus++;
	other[2].disks = "1G";
	other[3].kvm = true;
	other[4].qemu = "r";
	cr_assert_str_eq(dir, again);
	for (size_t i = 0; i < 5; i++) {
		_cleanup_free_ char *d = snapshot_dir(&other[i]);
		cr_assert_str_neq(d, dir, "%zu", i);
	}
}

/* ---- processes */

Test(vm, a_program_that_fails_or_hangs_is_a_sentence)
{
	struct strlist fails = {0}, hangs = {0}, works = {0};
	struct err *err = NULL;

	strlist_split(&fails, "sh,-c,echo no room >&2; exit 3");
	cr_assert_eq(qemu_run(&fails, 5000, &err), -EAGAIN);
	cr_assert_str_eq(err_msg(err), "'sh' failed: no room");
	strlist_split(&hangs, "sh,-c,sleep 30");
	cr_assert_eq(qemu_run(&hangs, 100, &err), -ETIMEDOUT);
	strlist_split(&works, "true");
	cr_assert_eq(qemu_run(&works, 5000, NULL), 0);
	err_free(err);
	strlist_release(&fails);
	strlist_release(&hangs);
	strlist_release(&works);
}

Test(vm, who_runs_is_who_holds_the_lock)
{
	char dir[] = "/tmp/rebarfs-test-vm-XXXXXX";
	int to_child[2], to_us[2];
	char byte;

	cr_assert(mkdtemp(dir));
	cr_assert_eq(qemu_pid(dir), 0);
	cr_assert(pipe(to_child) == 0 && pipe(to_us) == 0);
	_cleanup_free_ char *path = xasprintf("%s/qemu.pid", dir);
	pid_t pid = fork();
	if (pid == 0) {
		struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
		int fd = open(path, O_RDWR | O_CREAT, 0600);
		if (fcntl(fd, F_SETLK, &lock) == 0 && write(to_us[1], "", 1) == 1 && read(to_child[0], &byte, 1) == 1)
			_exit(0);
		_exit(1);
	}
	cr_assert_eq(read(to_us[0], &byte, 1), 1);
	cr_assert_eq(qemu_pid(dir), pid);
	cr_assert_eq(write(to_child[1], "", 1), 1);
	for (int i = 0; i < 200 && qemu_pid(dir); i++)
		usleep(10000);
	cr_assert_eq(qemu_pid(dir), 0);
	unlink(path);
	rmdir(dir);
}
