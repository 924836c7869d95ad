/* From a root tree to a disk with a kernel: what all providers of machines have in common. The tree is joined with an empty layer, so that nothing is
 * copied before mke2fs reads it. */
#include "providers/image/image.h"

#include "fs/base/mem.h"

/* Precedes a script. $DISK is the directory to make, built beside its place; $r the tree in it. */
static const char tools[] =
        "set -eu\n"
        "umask 022\n"
        "exec 2>&1\n"
        "[ ! -d \"$DISK\" ] || exit 0\n"
        "rm -rf --one-file-system \"$DISK\".new\n"
        "trap 'umount -R \"$DISK\".new/root 2>/dev/null || :; rm -rf --one-file-system \"$DISK\".new' EXIT\n"
        "trap 'exit 1' TERM INT HUP\n"
        "mkdir \"$DISK\".new\n"
        "r=\"$DISK\".new/root\n"
        "join_tree() {\n"
        "	mkdir \"$DISK\".new/upper \"$DISK\".new/work \"$r\"\n"
        "	mount -t overlay overlay -o \"lowerdir=$TREE,upperdir=$DISK.new/upper,workdir=$DISK.new/work\" \"$r\"\n"
        "	mount -t proc proc \"$r/proc\"\n"
        "	mount --rbind /dev \"$r/dev\"\n"
        "	mount --make-rslave \"$r/dev\"\n"
        "	mkdir -p \"$r/etc/initramfs-tools/conf.d\" \"$r/etc/initramfs-tools/hooks\" \"$r/usr/lib/rebarfs\"\n"
        "}\n"
        "in_tree() {\n"
        "	chroot \"$r\" env DEBIAN_FRONTEND=noninteractive \"$@\" >\"$DISK\".new/log 2>&1 && return\n"
        "	grep '^E: ' \"$DISK\".new/log || tail -n 1 \"$DISK\".new/log\n"
        "	exit 1\n"
        "}\n"
        "install_kernel() {\n"
        "	chmod 755 \"$r/etc/initramfs-tools/hooks/rebarfs\"\n"
        "	printf '#!/bin/sh\\nexit 101\\n' >\"$r/usr/sbin/policy-rc.d\"\n"
        "	chmod 755 \"$r/usr/sbin/policy-rc.d\"\n"
        "	[ ! -L \"$r/etc/resolv.conf\" ] || rm \"$r/etc/resolv.conf\"\n"
        "	cp -L /etc/resolv.conf \"$r/etc/resolv.conf\"\n"
        "	echo 'I: installing a kernel'\n"
        "	in_tree apt-get -qq update\n"
        "	in_tree apt-get -qqy --no-install-recommends -o Dpkg::Options::=--force-unsafe-io install \"$@\"\n"
        "	rm -rf \"$r/usr/sbin/policy-rc.d\" \"$r/etc/apt/apt.conf.d/95rebarfs\" \"$r\"/var/lib/apt/lists/* \"$r\"/var/cache/apt/*.bin\n"
        "	in_tree apt-get clean\n"
        "}\n"
        "leave_tree() {\n"
        "	umount -R \"$r/dev\"\n"
        "	umount \"$r/proc\"\n"
        "	echo 'I: writing a disk'\n"
        "}\n";

void image_disk_command(const struct image *i, const char *disk, const char *script, const struct image_variable *variables, size_t n,
        struct strlist *argv, struct strlist *env)
{
	static const char *const words[] = {"unshare", "--mount", "--propagation=slave", "sh", "-c"};

	strlist_add(argv, "flock");
	strlist_add_take(argv, xasprintf("%s.lock", disk));
	for (size_t k = 0; k < sizeof words / sizeof *words; k++)
		strlist_add(argv, words[k]);
	strlist_add_take(argv, xasprintf("%s%s", tools, script));
	for (size_t k = 0; k < n; k++)
		strlist_add_take(env, xasprintf("%s=%s", variables[k].name, variables[k].value ? variables[k].value : ""));
	strlist_add_take(env, xasprintf("DISK=%s", disk));
	strlist_add_take(env, xasprintf("TREE=%s", i->tree));
	strlist_add(env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	/* until it is told its own; an empty file would make systemd take this for the machine's very first boot and set presets anew */
	strlist_add_take(env, xasprintf("ID=%.16s%.16s", i->key, i->key));
}
