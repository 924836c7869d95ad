/* What a guest made of a tree needs beyond a container: to be told who it is, and to bring its network up. Shell, because every Debian has it. */
#include "providers/vm/vm.h"

/* The tar is read past the page cache, for in a snapshot the disk was blank when it was looked at first. What was drawn from the random
 * generator before the snapshot is known to every clone, hence the fresh bytes and ioctl RNDRESEEDCRNG. The clock stood still in the
 * snapshot. One whom nobody tells anything (whoever booted it was killed) does not wait for ever. */
const char guest_seed[] =
        "#!/bin/sh\n"
        "# Tells this machine, once, who it is: a tar on the disk rebarfs-seed. While that disk is blank it waits.\n"
        "set -eu\n"
        "disk=/dev/disk/by-id/virtio-rebarfs-seed\n"
        "written() { [ \"$(dd if=$disk iflag=direct bs=512 count=1 2>/dev/null | tail -c +258 | head -c 5)\" = ustar ]; }\n"
        "resize2fs /dev/vda >/dev/null 2>&1 || :\n"
        "if ! written; then\n"
        "	sync\n"
        "	echo '" GUEST_WAITS "' >/dev/console\n"
        "	n=0\n"
        "	until written; do\n"
        "		n=$((n + 1))\n"
        "		[ $n -lt 3000 ] || exec systemctl poweroff --force\n"
        "		sleep 0.1\n"
        "	done\n"
        "fi\n"
        "dd if=$disk iflag=direct bs=64k 2>/dev/null | tar -x -C / --no-overwrite-dir --numeric-owner -f -\n"
        "date -u -s \"@$(cat /sys/class/rtc/rtc0/since_epoch)\" >/dev/null || :\n"
        "cat /etc/hostname >/proc/sys/kernel/hostname\n"
        "perl -e 'open(my $r, \"+<\", \"/dev/urandom\"); syswrite($r, join \"\", <STDIN>); ioctl($r, 0x5207, 0)' </run/rebarfs-random\n"
        "rm -f /run/rebarfs-random\n"
        "mkdir -p /var/lib/rebarfs\n"
        ": >/var/lib/rebarfs/seeded\n";

const char guest_network[] = "#!/bin/sh\n"
                             "# Brings eth0 up as /etc/rebarfs/network says: MAC ADDRESS GATEWAY MTU (0: as it is)\n"
                             "set -eu\n"
                             "read -r mac address gateway mtu </etc/rebarfs/network\n"
                             "[ \"$mtu\" = 0 ] && mtu= || mtu=\"mtu $mtu\"\n"
                             "exec ip -batch - <<END\n"
                             "link set dev eth0 address $mac $mtu\n"
                             "addr replace $address brd + dev eth0\n"
                             "link set dev eth0 up\n"
                             "route replace default via $gateway\n"
                             "END\n";

/* After basic.target: what is in a snapshot need not be done again. Before network.target: no service comes up under a wrong name. */
const char guest_seed_unit[] = "[Unit]\n"
                               "Description=Identity of this machine\n"
                               "After=basic.target dbus.service systemd-logind.service\n"
                               "Before=rebarfs-network.service network.target\n"
                               "ConditionPathExists=!/var/lib/rebarfs/seeded\n"
                               "[Service]\n"
                               "Type=oneshot\n"
                               "RemainAfterExit=yes\n"
                               "TimeoutStartSec=infinity\n"
                               "ExecStart=/usr/lib/rebarfs/seed\n";

const char guest_network_unit[] = "[Unit]\n"
                                  "Description=Network of this machine\n"
                                  "Wants=network.target\n"
                                  "Before=network.target\n"
                                  "[Service]\n"
                                  "Type=oneshot\n"
                                  "RemainAfterExit=yes\n"
                                  "ExecStart=/usr/lib/rebarfs/network\n";
