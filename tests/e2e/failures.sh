#!/bin/bash
# limit: 300
# What goes wrong on real nodes: each failure is one sentence in the right file with its cure, stays where it is, and is over when its cause is.
. "$(dirname "$0")/lib.sh"
needs root fuse ip iptables
make_root_tree_if_needed plain
setup

light_provider c
tree=$(root_tree) || exit 1
put_d() { # COUNT [LINE]
	document deployments/d/deployment.ini <<-END
		[deployment]
		provider = c
		roles = r
		[nodes n]
		count = $1
		${2:-}
	END
}
why() {
	cat "$MNT/nodes/$1/why" 2>&1
}
why_role() {
	cat "$MNT/nodes/$1/roles/$2/why" 2>&1
}
printf '[role]\nrunner = script\nretries = 1\nbackoff = 200ms\n' | document roles/r/role.ini
apply_is r <<<$'#!/bin/sh\nexit 0'
put_d 3
start
settle d 60

# ---- scripts ----

apply_is r <<<$'#!/bin/sh\necho "no package zork" >&2\nexit 3'
settle_badly d 30
expect_match "why" "$(why_role d-n-1 r)" '^error: exit 3: no package zork \(after 2 attempts\)'
expect_match "error" "$(cat "$MNT/deployments/d/error")" '^nodes/d-n-3/roles/r: exit 3: no package zork'

apply_is r <<<$'#!/bin/sh\necho out >"$REBAR_OUTPUTS/bad name"'
settle_badly d 30
expect_match "why of a badly named output" "$(why_role d-n-1 r)" "^error: output 'bad.name' has a name that is not made of"

apply_is r <<<$'#!/bin/sh\ni=0; while [ $i -lt 1200 ]; do echo $i >"$REBAR_OUTPUTS/k$i"; i=$((i+1)); done'
settle_badly d 60
expect_match "why of too many outputs" "$(why_role d-n-1 r)" '^error: more than 1000 outputs'

echo 'timeout = 2s' >>"$REPO/roles/r/role.ini"
apply_is r <<<$'#!/bin/sh\ntrap "" TERM INT HUP\nwhile :; do sleep 1; done'
settle_badly d 60
expect_match "why of a script that never ends" "$(why_role d-n-2 r)" '^error: stopped: not done after 2'
sed -i '/^timeout/d' "$REPO/roles/r/role.ini"

apply_is r <<<$'#!/bin/sh\nsleep 300 &\necho bye'
settle d 30
expect "log of a script that leaves a child" "$(cat "$MNT/nodes/d-n-1/roles/r/log")" bye

apply_is r <<<$'#!/bin/sh\nhead -c 20000000 /dev/zero | tr "\\0" x | fold -w 100\necho; echo end'
settle d 60
expect "the end of a long log" "$(tail -n 1 "$MNT/nodes/d-n-1/roles/r/log")" end
expect "its size" "$(stat -c %s "$MNT/nodes/d-n-1/roles/r/log")" "$(wc -c <"$MNT/nodes/d-n-1/roles/r/log")"

apply_is r <<<$'#!/bin/sh\nsleep 50'
eventually 10 "it runs" grep -q '^running' "$MNT/nodes/d-n-3/roles/r/why"
echo cancel >"$MNT/deployments/d/ctl" || fail "cancel is refused: $(cat "$MNT/deployments/d/refused")"
settle_badly d 30
expect_match "why of what was cancelled" "$(why_role d-n-3 r)" '^error: cancelled by '
! echo cancel 2>/dev/null >"$MNT/nodes/d-n-3/roles/r/ctl" || fail "cancel of what does not run succeeded"
expect_match "refused" "$(cat "$MNT/nodes/d-n-3/roles/r/refused")" 'ctl: r does not run on d-n-3'

# ---- max-down: a bad change stops at the first node, also between its tries; a good one goes on with that node ----

apply_is r <<<$'#!/bin/sh\nexit 0'
settle d 30
put_d 3 'max-down = 1'
settle d 30
before=$(runs "$MNT/nodes/d-n-*/roles/r")
apply_is r <<<$'#!/bin/sh\nexit 5'
settle_badly d 30
expect "states under max-down" "$(states "$MNT/nodes/d-n-*/roles/r/state")" "1 error, 2 todo"
expect "runs of a bad change under max-down" "$(($(runs "$MNT/nodes/d-n-*/roles/r") - before))" 2
expect_match "why the others wait" "$(cat "$MNT"/nodes/d-n-*/roles/r/why)" '^todo: max-down: '
apply_is r <<<$'#!/bin/sh\nexit 0'
settle d 30

# ---- rebuild: by its id only, one node after the other, each with its roles before the next ----

for n in 1 2 3; do echo rebuild >"$MNT/nodes/d-n-$n/ctl" || fail "rebuild is refused: $(cat "$MNT/nodes/d-n-$n/refused")"; done
expect_match "the plan" "$(cat "$MNT/deployments/d/plan")" '^! node d-n-3 .*confirm: rebuild'
echo apply >"$MNT/deployments/d/ctl"
settle_badly d 30
! echo "apply 00000000" 2>/dev/null >"$MNT/deployments/d/ctl" || fail "an apply with another id succeeded"
expect_match "refused" "$(cat "$MNT/deployments/d/refused")" "plan '00000000' is not the plan of d any more: it is $(plan_id d) now"
apply d
settle d 60
order=$(sed -nE 's|.* d/d-n-[0-9](/r)?: (rebuilding\|active).*|\2|p' "$MNT/deployments/d/events" | tail -n 6 | paste -sd ' ')
expect "rebuilds and roles" "$order" "rebuilding active rebuilding active rebuilding active"

# ---- protect, hold ----

echo protect >"$MNT/nodes/d-n-2/ctl"
! echo destroy 2>/dev/null >"$MNT/deployments/d/ctl" || fail "a protected node can be destroyed"
expect_match "refused" "$(cat "$MNT/deployments/d/refused")" 'node d-n-2 is protected: write .unprotect. to nodes/d-n-2/ctl first'
echo unprotect >"$MNT/nodes/d-n-2/ctl"
echo "hold disk swap" >"$MNT/nodes/d-n-2/ctl"
expect_match "why of a held node" "$(why d-n-2)" '^held: by root .*: disk swap'
! echo "unhold now" 2>/dev/null >"$MNT/nodes/d-n-2/ctl" || fail "unhold took an argument"
expect_match "why of it still" "$(why d-n-2)" '^held: '
echo unhold >"$MNT/nodes/d-n-2/ctl"
settle d 30

# ---- a container whose init is killed is started again, and what runs on it afterwards runs ----

pid=$(cut -d ' ' -f 2 "$(find "$STATE/providers/c/nodes" -mindepth 2 -maxdepth 2 -name pid | head -n 1)")
kill -KILL "$pid" || fail "there is no such process: $pid"
gone "$pid" 5
for n in 1 2 3; do echo run >"$MNT/nodes/d-n-$n/roles/r/ctl"; done
settle d 60
expect_match "events" "$(cat "$MNT/deployments/d/events")" 'powered on again'

# ---- its power: off stays off, and cycle is another boot of the same disk ----

boot_of() {
	find "$STATE/providers/c/nodes" -mindepth 2 -maxdepth 2 -name pid -exec cat {} + | sort | paste -sd ,
}
echo off >"$MNT/nodes/d-n-1/power" || fail "cannot switch off: $(cat "$MNT/nodes/d-n-1/refused")"
value_becomes 20 "$MNT/nodes/d-n-1/power" off
sleep 1
expect "the node" "$(cat "$MNT/nodes/d-n-1/state")" off
echo on >"$MNT/nodes/d-n-1/power"
settle d 60
before=$(boot_of)
echo cycle >"$MNT/nodes/d-n-2/power" || fail "cannot cycle"
eventually 30 "another boot" grep -q 'd-n-2: power cycle: done' "$MNT/events"
settle d 60
[ "$(boot_of)" != "$before" ] || fail "nothing was started anew by 'cycle'"
for n in 1 2; do echo run >"$MNT/nodes/d-n-$n/roles/r/ctl"; done
settle d 60

# ---- its console: the file it prints to, not without end, and not for everybody ----

console=$(find "$STATE/providers/c/nodes" -mindepth 2 -maxdepth 2 -name console.log | LC_ALL=C sort | head -n 1)
for n in 1 2; do
	expect "console of d-n-$n" "$(stat -c '%a' "$MNT/nodes/d-n-$n/console")" 440
done
head -c 5000000 /dev/zero | tr '\0' x >>"$console" && echo "the last line" >>"$console"
shown=$(for n in 1 2 3; do tail -n 1 "$MNT/nodes/d-n-$n/console" | tail -c 14; done | grep -c 'the last line')
expect "consoles that show it" "$shown" 1
eventually 60 "the console to be cut" sh -c '[ "$(stat -c %s "$1")" -lt 2000000 ]' - "$console"
expect "its end" "$(tail -c 14 "$console")" "the last line"

# ---- the daemon killed while it creates, and while it destroys ----

put_d 6
eventually 10 "it creates" grep -q d-n-6 "$MNT/deployments/d/events"
kill_hard
start
settle d 60
expect "machines" "$(find "$STATE/providers/c/nodes" -mindepth 1 -maxdepth 1 | wc -l)" 6
put_d 2
expect_match "the plan" "$(cat "$MNT/deployments/d/plan")" '4 release, 4 confirm'
apply d
kill_hard
start
settle d 60
expect "nodes" "$(list "$MNT/nodes")" "d-n-1 d-n-2"
expect "machines" "$(find "$STATE/providers/c/nodes" -mindepth 1 -maxdepth 1 | wc -l)" 2

# ---- providers that cannot be used, images that cannot be had ----

provider() { # NAME [LINE]: and a deployment of that name on it
	printf '[provider]\ntype = container\nimage = %s\n[container]\nboot = sshd\n%s\n[image tree]\nsource = %s\n' "${3:-tree}" "$2" "$tree" |
		document "providers/$1/provider.ini"
	printf '[deployment]\nprovider = %s\nroles = r\n[nodes n]\ncount = 1\n' "$1" | document "deployments/$1/deployment.ini"
	eventually 10 "it is found" test -e "$MNT/deployments/$1/wait"
}
printf '[provider]\ntype = vm\n[vm]\ndisks = many\n' | document providers/narrow/provider.ini
printf '[deployment]\nprovider = narrow\n[nodes n]\ncount = 1\n' | document deployments/narrow/deployment.ini
eventually 10 "it is found" test -e "$MNT/deployments/narrow/wait"
settle_badly narrow 30
expect_match "why" "$(why narrow-n-1)" "^error: provider narrow cannot be used: .*'many'"
expect_match "error" "$(cat "$MNT/deployments/narrow/error")" '^nodes/narrow-n-1: provider narrow cannot be used'
rm -r "$REPO/deployments/narrow" "$REPO/providers/narrow"
eventually 10 "a name that never had a machine goes with its document" test ! -e "$MNT/nodes/narrow-n-1"
eventually 10 "and its deployment" test ! -e "$MNT/deployments/narrow"
outside=$(ip -4 route show default | sed -n '1s/.* dev \([^ ]*\).*/\1/p') # routes of other tests come and go
taken=$(ip -4 route show scope link ${outside:+dev "$outside"} | awk '$1 ~ /\/(1[6-9]|2[0-9])$/ { print $1; exit }')
if [ -n "$taken" ]; then
	provider taken "subnet = $taken"
	settle_badly taken 60 # it is tried again, for routes come and go
	expect_match "why" "$(why taken-n-1)" "^error: the subnet $taken overlaps .*set 'subnet' to another, or to 'auto'"
	rm -r "$REPO/deployments/taken" "$REPO/providers/taken"
fi
provider nowhere '' other
settle_badly nowhere 30
expect_match "why" "$(why nowhere-n-1)" "^error: image 'other' is not described: add a section \[image other\] to provider.ini"
rm -r "$REPO/deployments/nowhere"
printf '[provider]\ntype = zork\n' | document providers/nowhere/provider.ini
expect_match "problems" "$(cat "$MNT/problems")" "^providers/nowhere/provider.ini:2: unknown provider type 'zork'"
expect_match "what runs is not disturbed" "$(cat "$MNT/deployments/d/why")" '^active: 2 nodes, 2 roles as described'

# ---- a document that disappears destroys nothing; told so, its machines go ----

mv "$REPO/deployments/d" "$T/d"
eventually 10 "orphaned" grep -q '^orphaned: its document is gone; its 2 nodes stay' "$MNT/deployments/d/why"
mv "$T/d" "$REPO/deployments/d"
eventually 10 "not orphaned any more" grep -q '^active' "$MNT/deployments/d/why"
rm -r "$REPO/deployments/d"
eventually 10 "orphaned" grep -q '^orphaned' "$MNT/deployments/d/state"
echo destroy >"$MNT/deployments/d/ctl" || fail "destroy is refused: $(cat "$MNT/deployments/d/refused")"
eventually 30 "it is gone" test ! -e "$MNT/deployments/d"
expect "machines" "$(list "$STATE/providers/c/nodes")" ""
expect "mounts" "$(grep -c " $STATE/providers" /proc/self/mounts)" 0
stop
