#!/bin/bash
# Reboots that roles ask for: the node is rebooted and waited for, whoever waits for the role waits for that, a group goes down one by one, and the
# role goes on behind it or is done, as it says.
. "$(dirname "$0")/lib.sh"
needs root fuse ip iptables jq
make_root_tree_if_needed plain
setup
light_provider c
N=$MNT/nodes/d-n-1
# When the first process of the node began: another boot, another answer.
BOOT='cut -d " " -f 22 /proc/1/stat'
printf '[role]\nrunner = script\nretries = 0\n' | document roles/kernel/role.ini
printf '[role]\nrunner = script\nafter = kernel\n' | document roles/behind/role.ini
apply_is behind <<<$'#!/bin/sh\n'"$BOOT"$' >"$REBAR_OUTPUTS/boot"'
apply_is kernel <<<$'#!/bin/sh\n'"$BOOT"$' >"$REBAR_OUTPUTS/boot"\necho >"$REBAR_OUTPUTS/reboot"'
printf '[deployment]\nprovider = c\nroles = kernel, behind\n[nodes n]\ncount = 3\nmax-down = 1\n' | document deployments/d/deployment.ini
start
settle d 90

say "done: active when the node is back"
for n in 1 2 3; do
	expect_match "events of d-n-$n" "$(cat "$MNT/events")" "d-n-$n: rebooted, as kernel asked"
	expect "outputs of kernel on d-n-$n" "$(ls "$MNT/nodes/d-n-$n/roles/kernel/outputs")" boot
	[ "$(cat "$MNT/nodes/d-n-$n/roles/kernel/outputs/boot")" != "$(cat "$MNT/nodes/d-n-$n/roles/behind/outputs/boot")" ] ||
		fail "d-n-$n was not rebooted between the role that asked and the one behind it"
done
expect "runs of both roles" "$(runs "$MNT/nodes/*/roles/kernel") $(runs "$MNT/nodes/*/roles/behind")" "3 3"
last_boot=$(grep -n ': rebooted, as kernel asked' "$MNT/events" | tail -n 1 | cut -d : -f 1)
first_behind=$(grep -n '/behind: running' "$MNT/events" | head -n 1 | cut -d : -f 1)
((first_behind > last_boot)) || fail "'behind' began in line $first_behind, before the last reboot in line $last_boot of events"

say "one by one in a group with max-down = 1"
before=$(wc -l <"$MNT/events")
echo '# other' >>"$REPO/roles/kernel/apply"
settle d 90
order=$(tail -n "+$((before + 1))" "$MNT/events" | sed -n 's/^.* d\/\(d-n-[0-9]\)\/kernel: running$/\1 down/p; s/^.* \(d\/\)\?\(d-n-[0-9]\): ready at .*/\2 up/p')
expect "nodes down and up" "$(cut -d ' ' -f 2 <<<"$order" | paste -sd ' ')" "down up down up down up"
expect "runs of kernel" "$(runs "$MNT/nodes/*/roles/kernel")" 6

say "again: it goes on behind the reboot"
sed -i 's/^count = 3/count = 1/' "$REPO/deployments/d/deployment.ini"
cat "$MNT/problems" >/dev/null
apply d
settle d 60
apply_is kernel <<<$'#!/bin/sh\necho "in it" >"$REBAR_OUTPUTS/made"\n[ -e /root/stage ] && exit 0\ntouch /root/stage\necho again >"$REBAR_OUTPUTS/reboot"'
settle d 60
expect_match "events" "$(cat "$MNT/events")" 'd-n-1/kernel: asks for a reboot of its node'
runs=$(ls "$N/roles/kernel/runs" | sort -n | tail -n 2)
expect "the results of its last runs" "$(for r in $runs; do cat "$N/roles/kernel/runs/$r/result"; done | paste -sd ' ')" "reboot ok"
expect "its outputs" "$(cat "$N/roles/kernel/outputs/made")" "in it"
expect "attempts" "$(cat "$N/roles/kernel/attempts")" 1

say "without end"
asked() { grep -c 'd-n-1/kernel: asks for a reboot' "$MNT/events"; }
before=$(asked)
apply_is kernel <<<$'#!/bin/sh\necho again >"$REBAR_OUTPUTS/reboot"'
settle_badly d 60
expect_match "why" "$(cat "$N/roles/kernel/why")" '^error: it asked for a reboot every time that it was run again after one'
expect "reboots until then" $(($(asked) - before)) 5

say "another word, and a role that runs once"
apply_is kernel <<<$'#!/bin/sh\necho please >"$REBAR_OUTPUTS/reboot"'
settle_badly d 60
expect_match "why" "$(cat "$N/roles/kernel/why")" "^error: its output 'reboot' says neither 'done' .* nor 'again'"
expect "state of the node" "$(cat "$N/state")" ready

say "killed while it reboots; held before it does"
asked_since() { (($(asked) > $1)); }
before=$(asked)
apply_is kernel <<<$'#!/bin/sh\nsleep 3\necho done >"$REBAR_OUTPUTS/reboot"'
eventually 30 "the wish" asked_since "$before"
kill_hard
start
settle d 60
expect "state of the role" "$(cat "$N/roles/kernel/state")" active
before=$(asked)
echo '# once more' >>"$REPO/roles/kernel/apply"
value_becomes 20 "$N/roles/kernel/state" running
echo "hold the disk is being looked at" >"$N/ctl"
eventually 20 "the end of the run" asked_since "$before"
sleep 1
boots=$(grep -c ': rebooted, as kernel asked' "$MNT/events")
sleep 1
expect "boots of a held node" "$(grep -c ': rebooted, as kernel asked' "$MNT/events")" "$boots"
expect "state" "$(cat "$N/state")" held
echo unhold >"$N/ctl"
settle d 60
expect "boots" "$(grep -c ': rebooted, as kernel asked' "$MNT/events")" $((boots + 1))

say "an output that others want cannot be called so"
printf '[output reboot]\nhelp = x\n' >>"$REPO/roles/kernel/role.ini"
expect_match "problems" "$(cat "$MNT/problems")" "^roles/kernel/role.ini:4: .*'reboot'"
sed -i '/^\[output/,$d' "$REPO/roles/kernel/role.ini"
expect "problems" "$(cat "$MNT/problems")" ""
destroy d 60
stop
