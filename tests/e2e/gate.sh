#!/bin/bash
# A gate: one stage gets roles and what it inherits only as they were when another stage was active with them. What passed is remembered.
. "$(dirname "$0")/lib.sh"
needs root fuse
setup
fake_repo 2
printf '[role]\nrunner = script\nrequires = base\n' | document roles/app/role.ini
printf '#!/bin/sh\necho one\n' | document roles/app/apply
chmod +x "$REPO/roles/app/apply"
printf '[deployment]\nlike = d\ngate = d\n' | document deployments/p/deployment.ini
start
settle d 30
eventually 10 "p is not let through" test -e "$MNT/nodes/p-n-1"
expect "a gated deployment waits for a person" "$(cat "$MNT/deployments/p/state")" proposed
apply p
settle p 30
expect_match "a twin once it is applied" "$(cat "$MNT/deployments/p/fidelity/d")" '100 %'
echo auto >"$MNT/deployments/p/desired/deployment/apply"

digest() {
	cat "$MNT/nodes/$1/roles/app/digest"
}

# New content, not yet active in d: nothing of it in p, not on new nodes either, and it says why.
old=$(digest p-n-1)
echo pause >"$MNT/deployments/d/ctl"
printf '#!/bin/sh\necho two\n' >"$REPO/roles/app/apply"
echo 3 >"$MNT/deployments/p/desired/nodes.n/count"
settle p 30
expect "content of the old nodes" "$(digest p-n-1)" "$old"
expect "content of the new node" "$(digest p-n-3)" "$old"
expect_match "why" "$(cat "$MNT/deployments/p/why")" '^active: .*; gated: roles/app content [0-9a-f]{8} is not yet active in d \(there: active on 0 of 2 nodes\)$'
expect_match "plan" "$(cat "$MNT/deployments/p/plan")" '^gated: roles/app content'
expect_match "plan.json" "$(cat "$MNT/deployments/p/plan.json")" '"gated": "gated: roles/app'
expect_match "event" "$(cat "$MNT/deployments/p/events")" 'gated: roles/app content'
say "$(cat "$MNT/deployments/p/why")"

# A daemon that is killed meanwhile changes nothing.
kill_hard
start
settle p 30
expect "content after a restart" "$(digest p-n-3)" "$old"
expect_match "why after a restart" "$(cat "$MNT/deployments/p/why")" 'gated: roles/app content'

# As soon as d is active with it, p goes on by itself.
echo resume >"$MNT/deployments/d/ctl"
settle d 30
eventually 20 "p goes on" sh -c '! grep -q gated "$1"' - "$MNT/deployments/p/why"
settle p 30
[ "$(digest p-n-1)" != "$old" ] || fail "p still has the old content"
expect "all of p" "$(digest p-n-1) $(digest p-n-2)" "$(digest p-n-3) $(digest p-n-3)"

# What it inherits is gated, what it says itself is not.
echo pause >"$MNT/deployments/d/ctl"
echo 11 >"$MNT/deployments/d/desired/params.base/size"
eventually 10 "p tells of what it inherits" grep -q "gated: what it inherits" "$MNT/deployments/p/why"
settle p 30
expect_match "an inherited parameter" "$(tr -d ' \n' <"$MNT/nodes/p-n-1/roles/base/inputs.json")" '"size":\{[^}]*"value":5'
printf '\n[params base @n]\nsize = 7\n' >>"$REPO/deployments/p/deployment.ini"
settle p 30
expect_match "a parameter of its own" "$(tr -d ' \n' <"$MNT/nodes/p-n-1/roles/base/inputs.json")" '"size":\{[^}]*"value":7'

# It is remembered when the stage before is torn down.
echo resume >"$MNT/deployments/d/ctl"
settle d 30
settle p 30
new=$(digest p-n-1)
destroy d 30
printf '#!/bin/sh\necho three\n' >"$REPO/roles/app/apply"
settle p 30
expect "content without the stage before" "$(digest p-n-1)" "$new"
echo 4 >"$MNT/deployments/p/desired/nodes.n/count"
settle p 30
expect "content of a new node without it" "$(digest p-n-4)" "$new"

# Nothing has passed at all.
printf '[deployment]\nlike = d\napply = manual\n' | document deployments/z/deployment.ini
printf '[deployment]\nlike = d\ngate = z\n' | document deployments/q/deployment.ini
eventually 10 "q is shown" test -e "$MNT/deployments/q/why"
expect "q" "$(cat "$MNT/deployments/q/why")" 'proposed: gated: nothing was ever active as a whole in z'
timeout 20 cat "$MNT/deployments/q/wait" >"$T/said" 2>/dev/null && fail "wait of q should fail"
expect_match "the last line of wait" "$(tail -n 1 "$T/said")" 'gated: nothing was ever active'

# Mistakes.
printf '[deployment]\nlike = d\ngate = nosuch\n' | document deployments/q/deployment.ini
expect_match "a gate that is not there" "$(cat "$MNT/problems")" "^deployments/q/deployment.ini:3:.*'gate' names deployment 'nosuch', which is not there"
printf '[deployment]\nlike = d\ngate = p\n' | document deployments/z/deployment.ini
printf '[deployment]\nlike = d\ngate = z\n' | document deployments/p/deployment.ini
expect_match "a circle" "$(cat "$MNT/problems")" "^deployments/[pz]/deployment.ini:3:.*'gate' makes a cycle: [pz] -> [pz] -> [pz]"
expect "state of what stays in force" "$(cat "$MNT/nodes/p-n-1/state")" ready
