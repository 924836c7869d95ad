/* The provider of virtual machines: a node is a qemu, on an overlay over a disk that is made of the same root tree that containers stand on.
 * This file is the table; providers/host is what happens to nodes. */
#include "providers/vm/vm.h"

#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "providers/host/instance.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define MEMORY_MIN (64LL << 20)
#define CONVERT_BYTES (3LL << 30)

static const struct key_row keys[] = {
        {"vm", "accel", VALUE_ENUM, "auto", 0, 0, "auto,kvm,tcg", "kvm, or tcg: emulation; auto: kvm if a guest was seen to boot with it"},
        {"vm", "cpus", VALUE_INT, "1", 1, 255, NULL, "processors of a node whose group does not say"},
        {"vm", "memory", VALUE_SIZE, "512M", MEMORY_MIN, 1LL << 46, NULL, "memory of a node whose group does not say"},
        {"vm", "disk", VALUE_SIZE, "8G", 2LL << 30, 1LL << 50, NULL, "size of a node's root disk; only what is written takes room"},
        {"vm", "disks", VALUE_LIST, NULL, 0, 0, NULL, "sizes of further, empty disks: 10G, 10G"},
        {"vm", "snapshot", VALUE_BOOL, "yes", 0, 0, NULL, "boot an image once for each shape of node, and let nodes go on from there"},
        {"vm", "subnet", VALUE_STRING, "auto", 0, 0, NULL, "network of the nodes, as 10.20.0.0/22; auto: a private /22 that is free on this host",
                .fixed = true},
        {"vm", "nat", VALUE_BOOL, "yes", 0, 0, NULL, "let nodes reach the outside through this host's address"},
        NETWORK_KEYS,
        {"image *", "suite", VALUE_STRING, "bookworm", 0, 0, NULL, "Debian's suite to build the image from; the mirror is this host's own"},
        {"image *", "packages", VALUE_LIST, NULL, 0, 0, NULL, "packages to install beyond what a node needs itself"},
        {"image *", "script", VALUE_STRING, NULL, 0, 0, NULL,
                "program to run in the new tree at the end of its making; relative to the provider's directory", .file = true},
        {"image *", "source", VALUE_STRING, NULL, 0, 0, NULL,
                "directory or tar to use as root tree instead of building one; or a whole disk with cloud-init (.qcow2, .img, .raw)", .file = true},
        {0},
};

static int check_disks(const char *text, struct err **err)
{
	_cleanup_strlist_ struct strlist sizes = {0};
	int64_t bytes;
	int rc = 0;

	strlist_split(&sizes, text);
	for (size_t i = 0; rc == 0 && i < sizes.n; i++) {
		rc = parse_size(sizes.items[i], &bytes, err);
		if (rc == 0 && bytes < 1 << 20)
			rc = err_set(err, ERANGE, "'%s' is too small for a disk", sizes.items[i]);
	}
	/* what a qemu of this kind has slots for, with room for the rest */
	if (rc == 0 && sizes.n > 20)
		rc = err_set(err, ERANGE, "%zu disks are too many: at most 20", sizes.n);
	return rc < 0 ? err_wrap(err, "'disks'") : 0;
}

static int use(struct provider *p, const struct settings *settings, struct err **err)
{
	const char *accel = settings_str(settings, keys, "vm", "accel"), *disks = settings_str(settings, keys, "vm", "disks");
	int rc = check_disks(disks ? disks : "", err);

	if (rc < 0)
		return rc;
	if (!p->vm)
		p->vm = xcalloc(1, sizeof *p->vm);
	p->vm->accel = !strcmp(accel, "kvm") ? ACCEL_KVM : !strcmp(accel, "tcg") ? ACCEL_TCG : ACCEL_AUTO;
	p->vm->memory_bytes = settings_int(settings, keys, "vm", "memory");
	p->vm->disk_bytes = settings_int(settings, keys, "vm", "disk");
	p->vm->cpus = (double)settings_int(settings, keys, "vm", "cpus");
	p->vm->snapshot = settings_bool(settings, keys, "vm", "snapshot");
	p->vm->known = false;
	str_replace(&p->vm->disks, disks ? disks : "");
	return 0;
}

static void forget(struct provider *p)
{
	if (!p->vm)
		return;
	free(p->vm->disks);
	free(p->vm->version);
	free(p->vm);
}

/* A machine has processors and memory by the piece and by the megabyte. */
static void describe(const struct provider *p, struct node_job *j)
{
	if (j->limits.cpus <= 0)
		j->limits.cpus = p->vm->cpus;
	if (j->limits.memory_bytes <= 0)
		j->limits.memory_bytes = p->vm->memory_bytes;
	if (j->limits.memory_bytes < MEMORY_MIN)
		j->limits.memory_bytes = MEMORY_MIN;
	j->limits.memory_bytes = (j->limits.memory_bytes + (1 << 20) - 1) >> 20 << 20;
	j->disk_bytes = p->vm->disk_bytes;
	j->disks = xstrdup(p->vm->disks);
}

/* ---- is this host fit? */

static int64_t memory_available(void)
{
	_cleanup_buf_ struct buf b = {0};
	const char *at;

	if (file_read(AT_FDCWD, "/proc/meminfo", 1 << 16, &b, NULL) < 0 || !(at = strstr(buf_str(&b), "MemAvailable:")))
		return INT64_MAX;
	return strtoll(at + strlen("MemAvailable:"), NULL, 10) << 10;
}

int vm_preflight(const struct preflight *f, struct err **err)
{
	_cleanup_buf_ struct buf out = {0}, room = {0};

	preflight_common(f, "virtual machines", &out);
	preflight_program(QEMU, "qemu-system-x86", &out);
	preflight_program("qemu-img", "qemu-utils", &out);
	preflight_program("tar", "tar", &out);
	if (f->convert)
		preflight_program("mke2fs", "e2fsprogs", &out);
	if (access("/dev/net/tun", R_OK | W_OK) < 0)
		preflight_add(&out, "/dev/net/tun cannot be opened: run 'modprobe tun', or let this container have the device");
	if (f->convert)
		preflight_disk(f->cache_dir, CONVERT_BYTES, &out);
	if (f->memory_bytes && f->nodes > f->running && memory_available() < f->memory_bytes) {
		format_size(&room, memory_available() >> 20 << 20);
		preflight_add(&out, "only %s of memory are available, less than one node's: set a smaller 'memory'", buf_str(&room));
	}
	return out.len ? err_set(err, EAGAIN, "%s", buf_str(&out)) : 0;
}

/* ---- the table */

static const struct host_kind kind = {
        .section = "vm",
        .keys = keys,
        .off_grace_ms = 60000, /* an emulated guest needs its time to stop */
        .settings = use,
        .forget = forget,
        .describe = describe,
        .base = disk_base,
        .base_ready = disk_ready,
        .base_command = disk_command,
        .no_tree = disk_whole,
        .warm_up = vm_warm_up,
        .warm_up_end = vm_warm_up_end,
        .preflight = vm_preflight,
        .write = vm_write,
        .launch = vm_launch,
        .resume = vm_resume,
        .runs = vm_runs,
        .ask_off = vm_ask_off,
        .kill = vm_kill,
        .gone = vm_gone,
        .clean = vm_clean,
};

static int check(const struct settings *settings, int *ret_line, struct err **err)
{
	return host_check(&kind, settings, ret_line, err);
}

static int vm_open(const struct provider_host *host, const struct settings *settings, struct provider **ret, struct err **err)
{
	return host_open(&kind, host, settings, ret, err);
}

const struct provider_ops provider_vm = {
        .api = PROVIDER_API,
        .type = "vm",
        .help = "virtual machines on this machine, of the same images as containers",
        .default_image = HOST_DEFAULT_IMAGE,
        .keys = keys,
        .check = check,
        .open = vm_open,
        .reload = host_reload,
        .close = host_close,
        .prepare = host_prepare,
        .create = host_create,
        .destroy = host_destroy,
        .power = host_power,
        .list = host_list,
        .cancel = host_cancel,
        .capacity = host_capacity,
        .networks = host_networks,
};
