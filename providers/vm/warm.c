/* What comes between an image and the first machine made of it: whether KVM can be used, and the booted snapshot that machines of this shape
 * go on from. Only one boots it, of all daemons of this host; the others wait for its lock. */
#include "providers/vm/vm.h"

#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "providers/host/instance.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#define POLL_MS 200
#define BOOT_MS (8 * 60 * 1000LL) /* emulation on a busy machine was seen to take two minutes */

struct warm_up {
	void (*next)(struct op *op);
	struct shape shape;
	char *base, *disks, *version; /* the shape's */
	char *to, *dir;               /* the snapshot, and where it is made */
	int lock;
	bool booting, waits, kvm;
	enum accel accel;
	int64_t began_ms;
};

static void look(struct op *op);

static void shape_release(struct warm_up *w)
{
	free(w->base);
	free(w->disks);
	free(w->version);
	free(w->to);
	free(w->dir);
}

void vm_warm_up_end(struct op *op)
{
	struct warm_up *w = op->warm_up;

	op->warm_up = NULL;
	if (w->booting)
		qemu_signal(w->dir, SIGKILL); /* what it leaves is removed by the next who boots it */
	if (w->lock >= 0)
		close(w->lock);
	shape_release(w);
	free(w);
}

static void go_on(struct op *op)
{
	void (*next)(struct op * op) = op->warm_up->next;

	vm_warm_up_end(op);
	next(op);
}

static bool stopped(struct op *op)
{
	if (op->rc >= 0 && !op->cancelled && !op->p->closed)
		return false;
	go_on(op);
	return true;
}

/* ---- the snapshot */

static void save_worker(struct op *op)
{
	op->rc = snapshot_save(op->warm_up->dir, op->warm_up->to, &op->err);
}

static void saved(struct op *op)
{
	if (stopped(op))
		return;
	op->warm_up->booting = false;
	str_replace(&op->node->job.snapshot, op->warm_up->to);
	go_on(op);
}

static void watch_worker(struct op *op)
{
	struct warm_up *w = op->warm_up;

	op->rc = snapshot_waits(w->dir, &op->err);
	w->waits = op->rc > 0;
	if (op->rc == 0 && monotonic_ms() > w->began_ms + BOOT_MS)
		op->rc = err_set(&op->err, ETIMEDOUT, "the image did not boot within %lld s: see '%s/console.log'", BOOT_MS / 1000, w->dir);
}

static void watched(struct op *op);

static void watch(struct op *op)
{
	op_work(op, watch_worker, watched);
}

static void watched(struct op *op)
{
	struct warm_up *w = op->warm_up;

	if (stopped(op))
		return;
	if (w->waits) {
		op_work(op, save_worker, saved);
		return;
	}
	op_wait(op, POLL_MS, watch);
}

static void boot_worker(struct op *op)
{
	op->rc = snapshot_boot(&op->warm_up->shape, op->warm_up->dir, &op->err);
}

/* Somebody else may have finished it while we were on the way to the lock. */
static void look_worker(struct op *op)
{
	struct warm_up *w = op->warm_up;
	_cleanup_free_ char *path = xasprintf("%s.lock", w->to);

	if (w->lock < 0)
		w->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (w->lock < 0)
		op->rc = err_errno(&op->err, errno, "cannot lock '%s'", path);
	else if (flock(w->lock, LOCK_EX | LOCK_NB) < 0)
		op->rc = 1;
}

static void looked(struct op *op)
{
	struct warm_up *w = op->warm_up;
	const struct node_job *j = &op->node->job;

	if (stopped(op))
		return;
	if (access(w->to, F_OK) == 0) {
		str_replace(&op->node->job.snapshot, w->to);
		op->rc = 0;
		go_on(op);
	} else if (op->rc > 0) {
		op_progress(op, "waiting until its image has been booted for another node");
		op_wait(op, POLL_MS, look);
	} else {
		w->booting = true;
		w->began_ms = monotonic_ms();
		_cleanup_free_ char *s = xasprintf("booting image %s, once for nodes of this shape%s", j->image, j->kvm ? "" : " and by emulation");
		op_progress(op, s);
		op_work(op, boot_worker, watched);
	}
}

static void look(struct op *op)
{
	op_work(op, look_worker, looked);
}

static void find_snapshot(struct op *op)
{
	struct warm_up *w = op->warm_up;
	const struct node_job *j = &op->node->job;

	str_replace(&w->base, j->base);
	str_replace(&w->disks, j->disks);
	str_replace(&w->version, op->p->vm->version);
	w->shape = (struct shape){.base = w->base,
	        .memory_bytes = j->limits.memory_bytes,
	        .disk_bytes = j->disk_bytes,
	        .cpus = qemu_cpus(j->limits.cpus),
	        .disks = w->disks,
	        .kvm = op->p->vm->kvm,
	        .qemu = w->version};
	w->to = snapshot_dir(&w->shape);
	w->dir = xasprintf("%s.new", w->to);
	look(op);
}

/* ---- KVM */

static void with_accel(struct op *op)
{
	struct node *n = op->node;

	if (stopped(op))
		return;
	if (n)
		n->job.kvm = op->p->vm->kvm;
	if (n && op->p->vm->snapshot && qemu_has_kernel(n->job.base))
		find_snapshot(op);
	else
		go_on(op);
}

static void probed(struct op *op)
{
	if (stopped(op))
		return;
	op->p->vm->known = true;
	op->p->vm->kvm = op->warm_up->kvm;
	str_replace(&op->p->vm->version, op->warm_up->version);
	with_accel(op);
}

static void probe_worker(struct op *op)
{
	struct warm_up *w = op->warm_up;

	op->rc = qemu_version(&w->version, &op->err);
	if (op->rc == 0 && w->accel == ACCEL_AUTO)
		w->kvm = kvm_works(op->p->cache_dir, w->base, w->version);
	else
		w->kvm = w->accel == ACCEL_KVM;
}

void vm_warm_up(struct op *op, void (*next)(struct op *op))
{
	struct warm_up *w = op->warm_up = xcalloc(1, sizeof *w);

	w->next = next;
	w->lock = -1;
	w->accel = op->p->vm->accel;
	if (op->p->vm->known) {
		with_accel(op);
		return;
	}
	w->base = xstrdup(op->node ? op->node->job.base : op->base);
	op_progress(op, "trying whether guests boot with KVM here");
	op_work(op, probe_worker, probed);
}
