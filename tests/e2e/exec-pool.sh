#!/bin/bash
# A provider that is a program: the pool of contrib/providers hands out real sshd machines that stand in a list, and every way in which such a program
# can go wrong is a sentence.
. "$(dirname "$0")/lib.sh"
needs root fuse ssh-keygen unshare jq
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed etcd etcd-server etcd-client
in_own_network
setup
net_up
tree=$(root_tree) || exit 1
machine m1 11 "$tree"
machine m2 12 "$tree"

printf '[provider]\ntype = exec\napply = auto\n[exec]\nprogram = pool\n[settings]\nkey = %s\nmachines = 10.77.0.11, 10.77.0.12\n' "$T/id" |
	document providers/lab/provider.ini
cp "$TOP/contrib/providers/pool" "$REPO/providers/lab/pool"
printf '[role]\nrunner = script\nretries = 0\n' | document roles/mark/role.ini
printf '#!/bin/sh\necho marked >>/root/marks\n' | document roles/mark/apply
chmod +x "$REPO/roles/mark/apply"
printf '[deployment]\nprovider = lab\n[nodes n]\ncount = 2\nroles = mark\n' | document deployments/p/deployment.ini
start
settle p 60
expect "addresses" "$(cat "$MNT"/nodes/p-n-*/address | sort | paste -sd ' ')" "10.77.0.11 10.77.0.12"
expect "each was configured once" "$(on 11 cat /root/marks) $(on 12 cat /root/marks)" "marked marked"

# A daemon that is killed finds its machines again, and asks for none twice.
kill_hard
start
settle p 60
expect "runs after a kill" "$(runs "$MNT/nodes/*/roles/mark")" 2

# More than there are: the pool's own sentence, and the others stay as they are.
echo 3 >"$MNT/deployments/p/desired/nodes.n/count"
value_becomes 30 "$MNT/nodes/p-n-3/state" error
expect_match "why of one too many" "$(cat "$MNT/nodes/p-n-3/why")" 'all machines of the pool are taken'
expect "state of the others" "$(cat "$MNT/nodes/p-n-1/state" "$MNT/nodes/p-n-2/state" | paste -sd ' ')" "ready ready"
echo 1 >"$MNT/deployments/p/desired/nodes.n/count"
apply p
value_becomes 30 "$MNT/deployments/p/state" active
expect "nodes" "$(list "$MNT/deployments/p/nodes")" p-n-1
echo 2 >"$MNT/deployments/p/desired/nodes.n/count"
settle p 60
expect "a machine that was given back is given out again" "$(cat "$MNT"/nodes/p-n-*/address | sort | paste -sd ' ')" "10.77.0.11 10.77.0.12"
expect "and configured again" "$( (on 11 cat /root/marks && on 12 cat /root/marks) | wc -l)" 3 # whichever of them it was

# One that cannot say what there is: told, and nothing is taken for gone.
sed -i '2i[ "$1" != list ] || { echo "the bill was not paid" >&2; exit 3; }' "$REPO/providers/lab/pool"
eventually 60 "why of the provider" grep -q "it cannot tell what exists: .*the bill was not paid" "$MNT/providers/lab/why"
expect "states" "$(cat "$MNT"/nodes/p-n-*/state | paste -sd ' ')" "ready ready"
sed -i 2d "$REPO/providers/lab/pool"
eventually 60 "that it can again" grep -q "provider lab can tell again what exists" "$MNT/events"
expect_no_match "why of the provider" "$(cat "$MNT/providers/lab/why")" "cannot tell"

# One that cannot destroy a machine that belongs to no node: told, and it stays in the list until it can.
echo 1 >"$MNT/deployments/p/desired/nodes.n/count"
echo forget >"$MNT/nodes/p-n-2/ctl" || fail "cannot forget: $(cat "$MNT/nodes/p-n-2/refused")"
unknown() { sed -n '2s/ .*//p' "$MNT/providers/lab/unknown"; }
eventually 60 "an unknown machine" test -s "$MNT/providers/lab/unknown"
sed -i '2i[ "$1" != destroy ] || { echo "it is locked" >&2; exit 3; }' "$REPO/providers/lab/pool"
echo "destroy $(unknown)" >"$MNT/providers/lab/ctl" || fail "cannot destroy: $(cat "$MNT/providers/lab/refused")"
eventually 30 "that it cannot" grep -q "provider lab cannot destroy $(unknown): .*it is locked" "$MNT/events"
expect_match "the list" "$(cat "$MNT/providers/lab/unknown")" "^$(unknown) .* runs$"
sed -i 2d "$REPO/providers/lab/pool"
echo "destroy $(unknown)" >"$MNT/providers/lab/ctl" || fail "cannot destroy: $(cat "$MNT/providers/lab/refused")"
eventually 30 "its end" test ! -s "$MNT/providers/lab/unknown"

destroy p 60
expect "what the pool still holds" "$(find "$STATE/providers/lab" -name '[0-9]*.[0-9]*')" ""

# wrong PROGRAM-TEXT REGEX: a program like that is a sentence in the node's why
n_wrong=0
wrong() {
	n_wrong=$((n_wrong + 1))
	local name=w$n_wrong
	printf '[provider]\ntype = exec\napply = auto\n[exec]\nprogram = bad\nprepare-timeout = 3s\n' | document "providers/$name/provider.ini"
	if [ -n "$1" ]; then
		printf '%s\n' "$1" | document "providers/$name/bad"
		chmod +x "$REPO/providers/$name/bad"
	fi
	printf '[deployment]\nprovider = %s\n[nodes n]\ncount = 1\n' "$name" | document "deployments/$name/deployment.ini"
	eventually 60 "why of $name should match '$2'" sh -c 'grep -Eq "$1" "$2"' - "$2" "$MNT/nodes/$name-n-1/why"
	say "$(cat "$MNT/nodes/$name-n-1/why")"
}
wrong '#!/bin/sh
echo "no quota left" >&2; exit 3' "bad prepare' failed: exit 3: no quota left"
wrong '#!/bin/sh
echo hello' "printed a line that is no JSON object: 'hello'"
wrong '#!/bin/sh
[ "$1" != create ] && echo "{}" || echo "{\"machines\": []}"' "answered with 0 machines instead of one"
wrong '#!/bin/sh
[ "$1" != create ] && echo "{}" || echo "{\"machines\": [{\"node_id\": 1, \"incarnation\": 1}]}"' "before the machine has an address"
wrong '#!/bin/sh
:' "ended without an answer"
wrong '#!/bin/sh
echo "{\"error\": \"the card was refused\", \"code\": \"invalid\"}"; exit 1' 'the card was refused'
wrong '#!/bin/sh
sleep 600' 'did not answer in time and was ended'
wrong '' 'cannot use the program .*bad.: No such file'
stop
expect "programs left behind" "$(pgrep -fc "$REPO/providers/w[0-9]/bad" || :)" 0
