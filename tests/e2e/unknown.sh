#!/bin/bash
# Machines that belong to no node: of one that was forgotten, of a database put back from a copy. They are shown, nobody touches them, and a person gives
# them to a node again or has them destroyed.
. "$(dirname "$0")/lib.sh"
needs root fuse ip iptables
make_root_tree_if_needed plain
setup
light_provider c
put_d() { # COUNT
	printf '[deployment]\nprovider = c\nroles = r\n[nodes n]\ncount = %s\n' "$1" | document deployments/d/deployment.ini
	cat "$MNT/problems"
}
printf '[role]\nrunner = script\n' | document roles/r/role.ini
document roles/r/apply <<<$'#!/bin/sh\necho ran >>/root/ran\nwc -l </root/ran >"$REBAR_OUTPUTS/times"'
chmod +x "$REPO/roles/r/apply"
put_d 2 2>/dev/null
start
settle d 60
U=$MNT/providers/c/unknown
expect "unknown machines" "$(cat "$U")" ""
alive() { # how many of our containers run
	local f n=0
	for f in "$STATE"/providers/c/nodes/*/pid; do [ -d "/proc/$(cut -d ' ' -f 2 "$f")" ] && n=$((n + 1)); done
	echo "$n"
}
shown() { sed -n '2,$s/ .*//p' "$U"; }

say "a node that was forgotten, and described again"
put_d 1
echo forget >"$MNT/nodes/d-n-2/ctl" || fail "cannot forget: $(cat "$MNT/nodes/d-n-2/refused")"
eventually 30 "an unknown machine" grep -q runs "$U"
settle d 60
ref=$(shown)
expect "containers that run" "$(alive)" 2
expect_match "why of the provider" "$(cat "$MNT/providers/c/why")" '; 1 machine belongs to no node, see unknown$'
expect_match "events" "$(cat "$MNT/events")" "provider c has a machine that belongs to no node: $ref, see providers/c/unknown"
kill_hard
start
eventually 30 "it after a restart" grep -q "^$ref " "$U"
echo pause >"$MNT/deployments/d/ctl"
put_d 2
refuses() { # WHAT VERB SENTENCE
	! echo "$2" 2>/dev/null >"$MNT/providers/c/ctl" || fail "$1 is taken"
	expect_match "$1" "$(cat "$MNT/providers/c/refused")" "$3"
}
refuses "a machine that there is none of" "destroy rb-nothing" "'rb-nothing' is no machine in providers/c/unknown"
refuses "a node that there is none of" "adopt $ref d-n-9" "there is no node 'd-n-9'"
refuses "a node that has a machine" "adopt $ref d-n-1" "node d-n-1 has a machine of its own, or had one"
refuses "half of it" "adopt $ref" "adopt MACHINE NODE"
echo "adopt $ref d-n-2" >"$MNT/providers/c/ctl" || fail "cannot adopt: $(cat "$MNT/providers/c/refused")"
echo resume >"$MNT/deployments/d/ctl"
settle d 60
expect "unknown machines" "$(cat "$U")" ""
expect "what ran on it" "$(cat "$MNT/nodes/d-n-2/roles/r/outputs/times") times, it is $(cat "$MNT/nodes/d-n-2/state")" "2 times, it is ready"
expect "containers that run" "$(alive)" 2
kill_hard
start
settle d 60
expect "runs since then" "$(cat "$MNT/nodes/d-n-2/roles/r/outputs/times")" 2

say "a database that was put back"
stop
cp "$STATE/rebarfs.db" "$T/older.db"
start
put_d 3
settle d 60
stop
put_d 2 2>/dev/null
cp "$T/older.db" "$STATE/rebarfs.db"
start
settle d 60
eventually 30 "the newer machine" grep -q runs "$U"
expect "containers that run" "$(alive)" 3
echo "destroy $(shown)" >"$MNT/providers/c/ctl" || fail "cannot destroy: $(cat "$MNT/providers/c/refused")"
eventually 60 "its end" grep -q "provider c destroyed .*, which belonged to no node" "$MNT/events"
expect "unknown machines" "$(cat "$U")" ""
expect "containers that run" "$(alive)" 2
settle d 60
destroy d 60
stop
expect "directories that are left" "$(ls "$STATE/providers/c/nodes")" ""
