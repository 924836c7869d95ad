#!/bin/bash
# The power of nodes: what is switched off stays off and says who did it, also through a restart; on, cycle and reset bring it back; nothing runs meanwhile.
. "$(dirname "$0")/lib.sh"
needs root fuse
setup
fake_repo 3 'role-delay = 50ms'
document providers/machines/provider.ini <<'EOF'
[provider]
type = ssh
[ssh]
key = /nowhere
EOF
printf '[node]\nprovider = machines\naddress = 127.0.0.1\n' | document nodes/m1/node.ini
start
settle d 30
N=$MNT/nodes/d-n-1
expect "power" "$(cat "$N/power")" on
echo off >"$N/power" || fail "cannot switch off: $(cat "$N/refused")"
value_becomes 5 "$N/power" off
settle_badly d 20
expect "state" "$(cat "$N/state")" off
expect_match "why" "$(cat "$N/why")" "^off: switched off by $(id -un) \(power.sh [0-9]+\); write 'on' to nodes/d-n-1/power\$"
expect "the deployment" "$(cat "$MNT/deployments/d/state")" error
expect_match "the deployment's error" "$(cat "$MNT/deployments/d/error")" '^nodes/d-n-1: switched off by'
expect_match "why of a role on it" "$(cat "$N/roles/app/why")" '^(active|blocked)'
echo 9 >"$MNT/deployments/d/desired/params.base/size" || fail "cannot store a value"
eventually 10 "the others to run" sh -c 'grep -q "\"value\": 9" "$1/d-n-2/roles/base/inputs.json" && grep -q active "$1/d-n-2/roles/base/state"' - "$MNT/nodes"
expect_match "why of a role on it" "$(cat "$N/roles/base/why")" '^blocked: .*d-n-1'
stop
start
settle_badly d 20
expect "power after a restart" "$(cat "$N/power")" off
echo on >"$N/power" || fail "cannot switch on: $(cat "$N/refused")"
settle d 20
expect "power" "$(cat "$N/power")" on
expect "roles on it" "$(cat "$N/roles/base/state")" active
for word in cycle reset; do
	before=$(grep -c "power $word: done" "$MNT/events")
	echo "$word" >"$N/power" || fail "cannot $word: $(cat "$N/refused")"
	eventually 10 "$word" sh -c '[ "$(grep -c "power $2: done" "$1/events")" -gt "$3" ]' - "$MNT" "$word" "$before"
	settle d 20
	expect "power after $word" "$(cat "$N/power")" on
done
echo hold >"$N/ctl" && echo off >"$N/power" && value_becomes 5 "$N/power" off
echo on >"$N/power" && echo unhold >"$N/ctl" && settle d 20

refused_power() { # NODE WORD REGEX
	sh -c 'echo "$2" >"$1/power"' - "$MNT/nodes/$1" "$2" 2>/dev/null && fail "$2 was taken by $1"
	expect_match "refused" "$(cat "$MNT/nodes/$1/refused")" ": power: $3"
}
refused_power d-n-1 up "power takes one of on, off, cycle, reset, not 'up'"
refused_power m1 off 'the power of machines of provider machines cannot be switched: they were not made here|there is no machine of m1'
sed -i 's/role-delay.*/role-delay = 1h/' "$REPO/providers/sim/provider.ini"
eventually 10 "the new delay" sh -c 'echo run >"$1/roles/app/ctl"; sleep 0.5; grep -q running "$1/roles/app/state"' - "$N"
refused_power d-n-1 off 'app runs on d-n-1: cancel it first, or wait'
echo cancel >"$N/roles/app/ctl"
stop
