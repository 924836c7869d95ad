#!/bin/bash
# limit: 900
# Simulated metal: a machine with a real IPMI endpoint and an empty disk is described, and from the apply on it is switched on, installed over the
# network and configured; a BMC that refuses is said; the daemon's death is no loss; in the end the machine is off. By emulation.
. "$(dirname "$0")/lib.sh"
needs root fuse mmdebstrap ip qemu-system-x86_64 qemu-img ipmi_sim ipmitool dnsmasq busybox setpriv
[ -c /dev/net/tun ] || skip "needs /dev/net/tun"
setup
lab=$T/lab
stop_lab() {
	[ ! -e "$lab/bridge" ] || "$TOP/contrib/metal-lab" stop "$lab"
}
end() {
	local rc=$?
	stop_lab
	(exit "$rc")
	cleanup
}
trap end EXIT
"$TOP/contrib/metal-lab" 1 "$lab" >"$T/lab.ini" || fail "the lab did not start: $(cat "$T/lab.ini")"

# What the lab prints is what is written.
part() {
	sed -n "\\|^# $1|,/^\$/p" "$T/lab.ini" | sed '/^#/d'
}
part providers/lab | document providers/lab/provider.ini
part nodes/lab-1 | document nodes/lab-1/node.ini
printf '[role]\nrunner = script\nretries = 8\nbackoff = 1s\n[output root]\nhelp = what it stands on\n' | document roles/here/role.ini
printf '#!/bin/sh\nfindmnt -no SOURCE / >"$REBAR_OUTPUTS/root"\n' | document roles/here/apply
chmod +x "$REPO/roles/here/apply"
printf '[deployment]\nroles = here\nprovider = lab\n[nodes all]\nnodes = lab-1\n' | document deployments/metal/deployment.ini
node=$MNT/nodes/lab-1
power() {
	ipmitool -I lanplus -C 3 -H 127.0.0.1 -p "$(cat "$lab/m1/bmc.port")" -U admin -f "$lab/password" chassis power status
}
says() {
	grep -qE "$1" "$node/why"
}
secret() {
	mkdir -p -m 700 "$STATE/secrets"
	(umask 077 && printf '%s\n' "$1" >"$STATE/secrets/lab.new" && mv "$STATE/secrets/lab.new" "$STATE/secrets/lab")
}
installed() {
	grep -qs '"installed": true' "$STATE"/providers/lab/nodes/*/machine
}

# Nothing happens by itself.
start
secret wrong
value_becomes 20 "$MNT/deployments/metal/state" proposed
expect_match "the plan" "$(cat "$MNT/deployments/metal/plan")" 'node lab-1 .*, network card [0-9a-f:]{17}, writes the only disk'
expect "the power before the apply" "$(power)" "Chassis Power is off"

# A password that the BMC refuses.
apply metal
eventually 300 "the refusal of the BMC" says 'refuses the user or the password'
expect "the power after a refusal" "$(power)" "Chassis Power is off"
say "refused after $SECONDS s"
secret "$(cat "$lab/password")"

eventually 120 "the machine in its ramdisk" says 'writing image|found '
say "in its ramdisk after $SECONDS s"
eventually 200 "a machine that is installed" installed
say "installed after $SECONDS s"
[ -z "$(ls "$STATE"/providers/lab/http/*/identity.tar 2>/dev/null)" ] || fail "its keys are still to be fetched"
kill_hard
start
settle metal 300
say "up after $SECONDS s"
expect "its state" "$(cat "$node/state")" ready
expect "what it stands on" "$(cat "$node/roles/here/outputs/root")" /dev/vda1
expect "the power" "$(power)" "Chassis Power is on"
! grep -qF "$(cat "$lab/password")" "$MNT/events" "$node/why" "$T/daemon.log" || fail "the password was said"

destroy metal 60
expect "the power after the end" "$(power)" "Chassis Power is off"
expect "records that are left" "$(ls "$STATE/providers/lab/nodes")" ""
stop
