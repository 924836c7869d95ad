#!/bin/bash
# Fidelity: one stage against another, as a file. What runs the same counts; each gap is a line with both values under what would close it.
. "$(dirname "$0")/lib.sh"
needs root fuse
setup
fake_repo 2
printf '[deployment]\nlike = d\n' | document deployments/e/deployment.ini
start
settle d 30
settle e 30

F=$MNT/deployments/e/fidelity
expect "names" "$(list "$F")" "d d.json"
expect_match "a twin" "$(cat "$F/d")" '^e against d: 100 % \(10 of 10 the same\)'
expect_no_match "no gap in a twin" "$(cat "$F/d")" " here, "
expect "size" "$(stat -c %s "$F/d")" "$(cat "$F/d" | wc -c)"

# A parameter of one side's own.
printf '\n[params base]\nsize = 7\n' >>"$REPO/deployments/e/deployment.ini"
settle e 30
said=$(cat "$F/d")
expect_match "percent" "$said" '^e against d: 90 % \(9 of 10 the same\)'
expect_match "what would close it" "$said" '^set the parameter alike'
expect_match "both values" "$said" '^  n base size  7 here, 5 in d$'
expect_match "from the other side" "$(cat "$MNT/deployments/d/fidelity/e")" '^  n base size  5 here, 7 in e$'
expect_match "parameters on their own" "$said" '^parameters +0 %  0 of 1$'

# JSON says the same.
python3 - "$F/d.json" <<'EOF' || fail "fidelity/d.json (see above)"
import json, sys
f = json.load(open(sys.argv[1]))
gaps = [i for i in f["items"] if not i["same"]]
assert f["percent"] == 90 and f["against"] == "d", f
assert [(g["kind"], g["role"], g["name"], g["here"], g["there"]) for g in gaps] == [("parameters", "base", "size", "7", "5")], gaps
assert "params" in gaps[0]["closed-by"] and f["definition"], gaps
EOF

# A group that one side does not have, and what is desired but does not run yet.
printf '\n[nodes more]\ncount = 1\nroles = base\n' >>"$REPO/deployments/e/deployment.ini"
settle e 30
expect_match "a group of one side" "$(cat "$F/d")" '^  more group +described here, not described in d$'
echo pause >"$MNT/deployments/e/ctl"
echo 9 >"$MNT/deployments/e/desired/params.base/size"
echo 9 >"$MNT/deployments/d/desired/params.base/size"
settle d 30
expect_match "what still runs with the old value" "$(cat "$F/d")" '^  n base size +7 here, 9 in d$'
echo resume >"$MNT/deployments/e/ctl"
settle e 30
expect_no_match "closed" "$(cat "$F/d")" 'n base size'

# Without machines on one side there is nothing to compare with, and that is said.
destroy d 30
expect_match "no machines there" "$(cat "$F/d")" 'no machine|not active|no nodes'
[ ! -e "$F/e" ] || fail "a deployment against itself"
[ ! -e "$F/nosuch" ] || fail "against a deployment that is not there"
