/* From a root tree, the very one that containers stand on, to a disk with a kernel: a directory CACHE/disks/NAME-KEY, built beside its place
 * and renamed. A source that is a disk already is used where it lies. */
#include "providers/vm/vm.h"

#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "providers/host/instance.h"

#include <string.h>
#include <unistd.h>

/* To be counted up with every change here, in guest.c or in image/disk.c that changes disks. */
#define RECIPE "3"

/* MODULES=list: an initrd of a third of the size, which an emulated processor unpacks in a third of the time. The disk is sparse and as large as a
 * node's may be at least. */
static const char build_script[] =
        "if [ -n \"$SOURCE\" ]; then\n"
        "	[ -f \"$SOURCE\" ] || { echo \"E: '$SOURCE' is not a file\"; exit 1; }\n"
        "	case $(head -c 4 \"$SOURCE\" | od -An -tx1 | tr -d ' ') in 514649fb) f=qcow2 ;; *) f=raw ;; esac\n"
        "	ln -s \"$SOURCE\" \"$DISK\".new/disk.$f\n"
        "	mv \"$DISK\".new \"$DISK\"\n"
        "	exit\n"
        "fi\n"
        "join_tree\n"
        "mkdir -p \"$r/etc/systemd/system/multi-user.target.wants\"\n"
        "printf 'MODULES=list\\nCOMPRESS=gzip\\nFSTYPE=ext4\\n' >\"$r/etc/initramfs-tools/conf.d/rebarfs\"\n"
        "printf '#!/bin/sh\\n[ \"$1\" != prereqs ] || exit 0\\n. /usr/share/initramfs-tools/hook-functions\\n"
        "manual_add_modules virtio_pci virtio_blk ext4\\n' >\"$r/etc/initramfs-tools/hooks/rebarfs\"\n"
        "printf %s \"$APT_CONFIG_LINES\" >\"$r/etc/apt/apt.conf.d/95rebarfs\"\n"
        "install_kernel linux-image-cloud-amd64 udev kmod e2fsprogs\n"
        "printf %s \"$SEED\" >\"$r/usr/lib/rebarfs/seed\"\n"
        "printf %s \"$NETWORK\" >\"$r/usr/lib/rebarfs/network\"\n"
        "chmod 755 \"$r/usr/lib/rebarfs/seed\" \"$r/usr/lib/rebarfs/network\"\n"
        "printf %s \"$SEED_UNIT\" >\"$r/etc/systemd/system/rebarfs-seed.service\"\n"
        "printf %s \"$NETWORK_UNIT\" >\"$r/etc/systemd/system/rebarfs-network.service\"\n"
        "for u in seed network; do ln -sf ../rebarfs-$u.service \"$r/etc/systemd/system/multi-user.target.wants/\"; done\n"
        "for u in serial-getty@ttyS0.service getty@tty1.service e2scrub_reap.service systemd-networkd-wait-online.service; do\n"
        "	ln -sf /dev/null \"$r/etc/systemd/system/$u\"\n"
        "done\n"
        "echo '/dev/vda / ext4 errors=remount-ro,discard 0 1' >\"$r/etc/fstab\"\n"
        "echo \"$ID\" >\"$r/etc/machine-id\"\n"
        "cp -L \"$r\"/boot/vmlinuz-* \"$DISK\".new/kernel\n"
        "cp -L \"$r\"/boot/initrd.img-* \"$DISK\".new/initrd\n"
        "leave_tree\n"
        "mb=$(($(du -sm \"$r\" | cut -f 1) * 2))\n"
        "truncate -s $((mb < 2048 ? 2048 : mb))M \"$DISK\".new/disk.raw\n"
        "mke2fs -q -F -t ext4 -m 1 -E lazy_itable_init=0,lazy_journal_init=0 -d \"$r\" \"$DISK\".new/disk.raw\n"
        "umount \"$r\"\n"
        "rm -rf --one-file-system \"$DISK\".new/upper \"$DISK\".new/work \"$DISK\".new/log \"$r\"\n"
        "mv \"$DISK\".new \"$DISK\"\n";

char *disk_base(const struct provider *p, const struct image *i)
{
	return xasprintf("%s/disks/%s-%s-" RECIPE, p->cache_dir, i->name, i->key);
}

bool disk_ready(const char *base)
{
	const char *format;
	_cleanup_free_ char *disk = qemu_base_disk(base, &format);

	return access(disk, R_OK) == 0;
}

bool disk_whole(const struct image *i)
{
	static const char *const ends[] = {".qcow2", ".img", ".raw"};
	size_t len = i->source ? strlen(i->source) : 0;

	for (size_t n = 0; n < sizeof ends / sizeof *ends; n++)
		if (len > strlen(ends[n]) && !strcmp(i->source + len - strlen(ends[n]), ends[n]))
			return true;
	return false;
}

void disk_command(const struct image *i, const char *base, const char *apt_config, struct strlist *argv, struct strlist *env)
{
	const struct image_variable variables[] = {{"SOURCE", disk_whole(i) ? i->source : ""}, {"APT_CONFIG_LINES", apt_config}, {"SEED", guest_seed},
	        {"NETWORK", guest_network}, {"SEED_UNIT", guest_seed_unit}, {"NETWORK_UNIT", guest_network_unit}};

	image_disk_command(i, base, build_script, variables, sizeof variables / sizeof *variables, argv, env);
}
