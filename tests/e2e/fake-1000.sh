#!/bin/bash
# A thousand simulated nodes with failures: all become active through retries, and what stays broken says so and can be mended.
. "$(dirname "$0")/lib.sh"
needs root fuse
setup
fake_repo 1000 'create-delay = 50ms' 'role-delay = 10ms' 'failure-rate = 0.05'
start

settle d 120
expect "state of the deployment" "$(cat "$MNT/deployments/d/state")" active
expect "nodes" "$(ls "$MNT/deployments/d/nodes" | wc -l)" 1000
expect "states of nodes" "$(states "$MNT/nodes/*/state")" "1000 ready"
expect "states of node roles" "$(states "$MNT/nodes/*/roles/*/state")" "2000 active"
retried=$(($(runs "$MNT/nodes/*/roles/*") - 2000))
[ "$retried" -gt 20 ] || fail "at a failure rate of 5 % more than 20 of 2,000 runs should have been repeated, not $retried"
say "$retried runs were retries"
expect_match "the plan" "$(cat "$MNT/deployments/d/plan")" '^plan -: nothing to do'
expect "error" "$(cat "$MNT/deployments/d/error")" ""
expect "hosts of the inventory" "$(python3 -c 'import json, sys; print(len(json.load(sys.stdin)["all"]["children"]["n"]["hosts"]))' <"$MNT/deployments/d/inventory.json")" 1000

# One parameter, one role: what depends on it is due, and nothing else.
before=$(runs "$MNT/nodes/*/roles/app")
sed -i 's/^size = 5/size = 6/' "$MNT/desired/deployments/d/deployment.ini"
settle d 120
expect "digest parts after the change" "$(grep -c '"value": *6' "$MNT/nodes/d-n-1/roles/base/inputs.json")" 1
expect "runs of the role that did not depend on it" "$(runs "$MNT/nodes/*/roles/app")" "$before"

# Everything fails from now on: it ends in errors that are listed, the old state stays, and a retry mends it.
echo 1 >"$MNT/providers/sim/desired/fake/failure-rate" || fail "cannot set failure-rate: $(cat "$MNT/providers/sim/refused")"
sed -i 's/^size = 6/size = 7/; s/^count = 1000/count = 20/' "$MNT/desired/deployments/d/deployment.ini"
sed -i 's/^retries = 8/retries = 1/' "$MNT/desired/roles/base/role.ini"
expect_match "the plan" "$(cat "$MNT/deployments/d/plan")" '^- node d-n-1000 .*confirm'
settle_badly d 120
expect "state" "$(cat "$MNT/deployments/d/state")" error
expect_match "the errors" "$(cat "$MNT/deployments/d/error")" '^nodes/d-n-[0-9]+/roles/base: .+'
expect_match "why of a role that failed" "$(cat "$MNT/nodes/d-n-1/roles/base/why")" '^error'
echo 0 >"$MNT/providers/sim/desired/fake/failure-rate"
apply d || fail "cannot apply the releases"
echo retry >"$MNT/deployments/d/ctl"
settle d 120
expect "nodes that are left" "$(ls "$MNT/nodes" | wc -l)" 20
expect "states of node roles" "$(states "$MNT/nodes/*/roles/*/state")" "40 active"
stop
