#!/bin/bash
# limit: 600
# Metal whose BMC speaks Redfish: a certificate that is not the right one, one that nobody vouches for, and a wrong password are each said, and nothing is
# switched; then it is installed, switched by a person, and let go. The endpoint is real, over TLS. The machine behind it is a process that does by HTTP
# what the ramdisk would: what virtual machines do is for staircase.sh, whose image this shares.
. "$(dirname "$0")/lib.sh"
needs root fuse mmdebstrap qemu-img mke2fs ipmitool dnsmasq busybox setpriv ssh-keygen python3 openssl curl
[ -c /dev/net/tun ] || skip "needs /dev/net/tun"
setup
lab=$T/lab
end() {
	local rc=$?
	[ ! -e "$lab/bridge" ] || "$TOP/contrib/metal-lab" stop "$lab"
	(exit "$rc")
	cleanup
}
trap end EXIT

# What metal-lab starts instead of qemu: told to boot from the network it asks for its script, as iPXE does, of the address that DHCP would tell it.
mkdir "$T/bin"
cat >"$T/bin/qemu-system-x86_64" <<'MACHINE'
#!/bin/bash
if [ "$1" != powered ]; then
	while [ "$1" != -pidfile ]; do
		case $1 in virtio-net-pci,*bootindex=1) from=net ;; esac
		shift
	done
	setsid "$0" powered "$2" "${from:-disk}" &
	echo $! >"$2"
	exit
fi
echo "boots from $3" >>"$(dirname "$2")/boots"
if [ "$3" = net ]; then
	url=$(sed -n 's/.*bootfile-name,//p' "$MACHINE_STATE/providers/rack/dhcp.options")
	script=$(curl -s --retry 50 --retry-delay 1 --retry-connrefused "$url")
	word() { grep -o "rb\.$1=[^ ]*" <<<"$script" | cut -d = -f 2-; }
	say="$(word url)/cgi-bin/say?$(word token)"
	curl -sf -o /dev/null -d 'progress writing image 50 %' "$say"
	curl -sf -o "$(dirname "$2")/identity.tar" "$(word url)/$(word token)/identity.tar" || exit
	until curl -sf -o /dev/null -d done "$say"; do sleep 0.2; done
fi
while :; do sleep 1; done
MACHINE
chmod +x "$T/bin/qemu-system-x86_64"
MACHINE_STATE=$STATE METAL_LAB_REDFISH=1 METAL_LAB_DISK='' PATH=$T/bin:$PATH "$TOP/contrib/metal-lab" 1 "$lab" >"$T/lab.ini" ||
	fail "the lab did not start: $(cat "$T/lab.ini")"
said() { sed -n "s/^$1 = //p" "$T/lab.ini"; }

cp -a "$TOP/contrib/examples/staircase/providers" "$REPO/"
rm -r "$REPO"/providers/{machines,vms}
sed -i "s/^interface = .*/interface = $(said interface)/" "$REPO/providers/rack/provider.ini"
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
powered() { # PID of what runs as the machine
	cat "$m/qemu.pid"
}
never_booted() {
	[ ! -e "$m/boots" ] || fail "it was switched on: $(cat "$m/boots")"
}

# Whom it speaks to, and as whom, is settled before anything else.
node_ini "bmc-fingerprint = $(sha256sum <"$0" | cut -d ' ' -f 1)"
start
secret wrong
value_becomes 20 "$MNT/deployments/metal/state" proposed
echo apply >"$MNT/deployments/metal/ctl" || fail "cannot apply: $(cat "$MNT/deployments/metal/refused")"
eventually 400 "the image" begun
says 'shows a certificate that is not the one in .bmc-fingerprint., but [0-9a-f]{64}$'
node_ini
says 'cannot be trusted: self-signed certificate .*bmc-fingerprint = [0-9a-f]{64}'
sed -i "/^interface/a bmc-ca = $m/cert.pem" "$REPO/providers/rack/provider.ini"
says "the BMC of r1 .* refuses the user or the password of 'admin'"
say "$(cat "$N/why")"
never_booted

# Installed: the boot from the network is for once, the next is from the disk.
node_ini "bmc-fingerprint = $(said bmc-fingerprint)"
secret "$(cat "$lab/password")"
eventually 90 "a machine that is installed" installed
expect "its boots" "$(paste -sd , "$m/boots")" "boots from net,boots from disk"
tar -tf "$m/identity.tar" | grep -q ssh_host_ed25519_key || fail "it was given no keys"
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
expect "its boots" "$(tail -n +3 "$m/boots" | paste -sd ,)" "boots from disk,boots from disk"

# A daemon that comes again knows how to ask.
! grep -qF "$(cat "$lab/password")" "$MNT/events" "$N/why" "$T/daemon.log" || fail "the password was said"
stop
start
last=$(powered)
kill -0 "$last" || fail "it does not run any more"
destroy metal 60
gone "$last" 10 || fail "it was let go, and runs"
stop
