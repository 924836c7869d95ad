#!/bin/bash
# limit: 600
# Metal whose BMC speaks Redfish: a certificate that is not the right one, one that nobody vouches for, and a wrong password are each said, and nothing is
# switched; then it is installed, switched by a person, and let go. The endpoint is real, over TLS; the machine is namespaces (see metal-machine), and its
# image that of metal-faults.sh.
. "$(dirname "$0")/lib.sh"
needs root fuse mmdebstrap qemu-img mke2fs ipmitool dnsmasq busybox setpriv unshare ssh-keygen python3 openssl
[ -c /dev/net/tun ] || skip "needs /dev/net/tun"
[ -e /bin/dash ] || skip "needs /bin/dash"
setup
PATH=$TOP/tests/e2e/metal-machine:$PATH METAL_LAB_DISK='' METAL_LAB_REDFISH=1 metal_lab 1
said() { sed -n "s/^$1 = //p" "$T/lab.ini"; }

provider_ini() { # LINE...
	printf '[provider]\ntype = metal\n[metal]\ninterface = %s\nkernel = %s\n' "$(said interface)" "$(said kernel)" | cat - <(printf '%s\n' "$@") |
		document providers/rack/provider.ini
}
node_ini() { # LINE...
	printf '[node]\nprovider = rack\nmac = %s\naddress = %s\nbmc = %s\nbmc-user = admin\nbmc-password = secret:bmc\n' "$(said mac)" "$(said address)" \
		"$(said bmc)" | cat - <(printf '%s\n' "$@") | document nodes/r1/node.ini
}
secret() {
	mkdir -p -m 700 "$STATE/secrets"
	(umask 077 && printf '%s\n' "$1" >"$STATE/secrets/new" && mv "$STATE/secrets/new" "$STATE/secrets/bmc")
}
printf '[role]\nrunner = none\n' | document roles/idle/role.ini
printf '[deployment]\nprovider = rack\n[nodes db]\nnodes = r1\nroles = idle\n' | document deployments/metal/deployment.ini
N=$MNT/nodes/r1
m=$lab/m1
says() { # SENTENCE: the node, tried again where it had given up
	eventually 60 "the sentence '$1'" sh -c 'grep -qE "$2" "$1/why" || { [ "$(cat "$1/state")" != error ] || echo retry >"$1/ctl"; false; }' - "$N" "$1"
}
begun() {
	ls "$STATE"/providers/rack/nodes/*/bmc
}
installed() {
	[ "$(cat "$N/state")" != error ] || echo retry >"$N/ctl"
	grep -qs '"installed": true' "$STATE"/providers/rack/nodes/*/machine
}
booted_from_disk() { # TIMES
	[ "$(grep -c 'boots from its disk' "$m/console.log")" = "$1" ]
}
powered() { # PID of what runs as the machine
	cat "$m/qemu.pid"
}

# Whom it speaks to, and as whom, is settled before anything else.
provider_ini
node_ini "bmc-fingerprint = $(sha256sum <"$0" | cut -d ' ' -f 1)"
start
secret wrong
value_becomes 20 "$MNT/deployments/metal/state" proposed
echo apply >"$MNT/deployments/metal/ctl" || fail "cannot apply: $(cat "$MNT/deployments/metal/refused")"
eventually 400 "the image" begun
says 'shows a certificate that is not the one in .bmc-fingerprint., but [0-9a-f]{64}$'
node_ini
says 'cannot be trusted: self-signed certificate .*bmc-fingerprint = [0-9a-f]{64}'
provider_ini "bmc-ca = $m/cert.pem"
says "the BMC of r1 .* refuses the user or the password of 'admin'"
say "$(cat "$N/why")"
[ ! -e "$m/qemu.pid" ] || fail "it was switched on"

# Installed: the boot from the network is for once, the next is from the disk.
node_ini "bmc-fingerprint = $(said bmc-fingerprint)"
secret "$(cat "$lab/password")"
eventually 90 "a machine that is installed" installed
eventually 30 "its boot from its disk" booted_from_disk 1
expect_match "the mark on its disk" "$(dd if="$m/xvdz.disk" bs=512 skip=2040 count=1 status=none | tr -d '\0')" '^rebarfs [0-9a-f]{16} [0-9]+ 1$'
expect "power" "$(cat "$N/power")" on

# Switched by a person.
first=$(powered)
echo off >"$N/power" || fail "cannot switch it off: $(cat "$N/refused")"
value_becomes 60 "$N/power" off
gone "$first" 10 || fail "it says off, and runs"
echo on >"$N/power" || fail "cannot switch it on: $(cat "$N/refused")"
value_becomes 60 "$N/power" on
second=$(powered)
kill -0 "$second" || fail "it says on, and does not run"
echo reset >"$N/power" || fail "cannot reset it: $(cat "$N/refused")"
eventually 60 "the reset" sh -c 'grep -q "power reset: done" "$1/events"' - "$MNT"
[ "$(powered)" != "$second" ] || fail "it was not reset"
eventually 30 "its boots from its disk" booted_from_disk 3

# A daemon that comes again knows how to ask.
! grep -qF "$(cat "$lab/password")" "$MNT/events" "$N/why" "$T/daemon.log" || fail "the password was said"
stop
start
last=$(powered)
kill -0 "$last" || fail "it does not run any more"
destroy metal 60
gone "$last" 10 || fail "it was let go, and runs"
stop
