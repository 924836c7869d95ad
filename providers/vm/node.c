/* One virtual machine: its directory, its start and its end. Blocking; runs on a worker. */
#include "providers/vm/vm.h"

#include "fs/base/hash.h"
#include "fs/base/io.h"
#include "fs/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define START_MS 60000
#define QMP_MS 3000
#define END_MS 5000
#define PATH_LEN_MAX 4096

/* ---- its directory */

int node_disks(const struct node_job *j, struct err **err)
{
	_cleanup_strlist_ struct strlist sizes = {0};
	_cleanup_free_ char *path = path_join(j->dir, "disk.qcow2"), *backing = NULL;
	const char *format = "qcow2";
	int64_t bytes = 0;
	int rc;

	backing = j->snapshot ? path_join(j->snapshot, "disk.qcow2") : qemu_base_disk(j->base, &format);
	rc = qemu_disk(path, backing, format, j->disk_bytes, err);
	strlist_split(&sizes, j->disks ? j->disks : "");
	for (size_t i = 0; rc == 0 && i < sizes.n; i++) {
		_cleanup_free_ char *data = xasprintf("%s/data%zu.qcow2", j->dir, i + 1);
		rc = parse_size(sizes.items[i], &bytes, err);
		if (rc == 0)
			rc = qemu_disk(data, NULL, NULL, bytes, err);
	}
	return rc;
}

int vm_write(struct node_job *j, struct err **err)
{
	_cleanup_free_ char *fresh = xasprintf("%s\n", j->snapshot ? j->snapshot : "");
	int rc = node_begin(j, err);

	if (rc == 0)
		rc = node_disks(j, err);
	if (rc == 0)
		rc = seed_write(j, err);
	if (rc == 0 && j->snapshot)
		rc = node_make_file(j->dir, "fresh", fresh, 0600, err);
	return rc == 0 ? node_record(j, err) : rc;
}

/* The snapshot to go on from, if it never ran yet: from then on its disk is its own, and memory of before would not fit it. */
static char *fresh_snapshot(const char *dir)
{
	_cleanup_free_ char *path = path_join(dir, "fresh");
	_cleanup_buf_ struct buf b = {0};

	if (file_read(AT_FDCWD, path, PATH_LEN_MAX, &b, NULL) < 0)
		return NULL;
	return xstrndup(buf_str(&b), strcspn(buf_str(&b), "\n"));
}

/* ---- its start */

static int plug(const struct node_job *j, struct err **err)
{
	int nl = link_socket(), rc = nl < 0 ? nl : link_tap(nl, j->ref, if_nametoindex(j->bridge), j->mtu);

	if (nl >= 0)
		close(nl);
	return rc < 0 ? err_errno(err, -rc, "cannot make its tap device on the bridge '%s'", j->bridge) : 0;
}

static int count_data_disks(const char *dir)
{
	for (int n = 1;; n++) {
		_cleanup_free_ char *path = xasprintf("%s/data%d.qcow2", dir, n);
		if (access(path, F_OK) < 0)
			return n - 1;
	}
}

static void end_now(const char *dir)
{
	qemu_signal(dir, SIGKILL);
	for (int i = 0; i < END_MS / 20 && qemu_pid(dir); i++)
		usleep(20000);
}

/* It has loaded the snapshot and stands still. What runs from here on cannot be begun anew; if we are killed before it is let go, vm_resume()
 * does it. */
static int let_go(const struct node_job *j, const char *snapshot, struct err **err)
{
	_cleanup_free_ char *fresh = path_join(j->dir, "fresh");
	int rc = snapshot_load(j->dir, snapshot, err);

	if (rc == 0 && unlink(fresh) < 0)
		rc = err_errno(err, errno, "cannot remove '%s'", fresh);
	return rc == 0 ? vm_resume(j, err) : rc;
}

int vm_resume(const struct node_job *j, struct err **err)
{
	_cleanup_free_ char *path = path_join(j->dir, "qmp");
	json_t *answer = NULL;
	struct qmp q;
	int rc = qmp_open(path, QMP_MS, &q, err);

	if (rc < 0)
		return rc;
	rc = qmp_command(&q, "query-status", NULL, -1, &answer, err);
	const char *status = json_string_value(json_object_get(answer, "status"));
	if (rc == 0 && status && !strcmp(status, "paused"))
		rc = qmp_command(&q, "cont", NULL, -1, NULL, err);
	json_decref(answer);
	qmp_close(&q);
	return rc;
}

int vm_launch(const struct node_job *j, struct buf *complaint, struct err **err)
{
	_cleanup_strlist_ struct strlist argv = {0};
	_cleanup_free_ char *snapshot = fresh_snapshot(j->dir), *memory = snapshot ? path_join(snapshot, "memory") : NULL,
	                    *qmp = path_join(j->dir, "qmp");
	uint8_t mac[6];
	char id[34];
	int rc;

	end_now(j->dir); /* one whose start was cut short */
	vm_clean(j);
	unlink(qmp);
	rc = plug(j, err);
	node_mac(j, mac);
	node_machine_id(j, id);
	if (rc == 0) {
		struct qemu_machine m = {.name = j->ref,
		        .dir = j->dir,
		        .base = j->base,
		        .uuid = id,
		        .memory_bytes = j->limits.memory_bytes,
		        .cpus = qemu_cpus(j->limits.cpus),
		        .kvm = j->kvm,
		        .kernel = qemu_has_kernel(j->base),
		        .data_disks = count_data_disks(j->dir),
		        .tap = j->ref,
		        .mac = mac,
		        .memory = memory,
		        .incoming = snapshot != NULL};
		qemu_arguments(&m, &argv);
		rc = qemu_run(&argv, START_MS, err);
	}
	if (rc == 0 && snapshot)
		rc = let_go(j, snapshot, err);
	if (rc < 0) {
		err_wrap(err, "cannot start '%s'", j->name);
		end_now(j->dir);
	}
	return rc;
}

/* ---- its end */

/* One that waits for its snapshot does not. */
bool vm_runs(const char *dir)
{
	_cleanup_free_ char *fresh = path_join(dir, "fresh");

	return qemu_pid(dir) > 0 && access(fresh, F_OK) < 0;
}

void vm_ask_off(const struct node_job *j)
{
	_cleanup_free_ char *path = path_join(j->dir, "qmp");
	struct qmp q;

	/* as long as it does not answer it is asked again, and killed in the end */
	if (qmp_open(path, QMP_MS, &q, NULL) < 0)
		return;
	qmp_command(&q, "system_powerdown", NULL, -1, NULL, NULL);
	qmp_close(&q);
}

void vm_kill(const struct node_job *j, bool force)
{
	qemu_signal(j->dir, force ? SIGKILL : SIGTERM);
}

bool vm_gone(const struct node_job *j)
{
	return !qemu_pid(j->dir);
}

void vm_clean(const struct node_job *j)
{
	int nl = link_socket();

	if (nl >= 0) {
		link_delete(nl, j->ref);
		close(nl);
	}
}
