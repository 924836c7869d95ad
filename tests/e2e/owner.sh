#!/bin/bash
# Two rebarfs that describe the same machine: it belongs to one of them, the other is told whose it is and touches nothing until 'adopt', at any time.
. "$(dirname "$0")/lib.sh"
needs root fuse ssh-keygen unshare
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed plain
in_own_network
setup
net_up
tree=$(root_tree) || exit 1
machine m1 11 "$tree"
ssh_repo m1=10.77.0.11
sed -i 's/ 1 2 3 4//' "$REPO/roles/slow/apply"
mkdir "$T/mnt2"
A=$MNT B=$T/mnt2 STATE_A=$STATE STATE_B=$T/state2
start
apply s
settle s 60
daemon_a=$DAEMON
owner_a=$(on 11 'sed "s/.*\"owner\":\"\([0-9a-f]*\)\".*/\1/" /var/lib/rebar/owner')
NODES+=("$daemon_a")
begun() {
	on 11 'grep -c begun /root/ran'
}
expect "runs on the machine" "$(begun)" 1

MNT=$B STATE=$STATE_B
start
apply s
settle_badly s 60
expect "state of a node that is another's" "$(cat "$B/nodes/m1/state")" error
expect_match "why" "$(cat "$B/nodes/m1/why")" "^error: 'm1' belongs to another rebarfs .*'$owner_a'.*; to take it over, write 'adopt' to nodes/m1/ctl$"
expect_match "why of its role" "$(cat "$B/nodes/m1/roles/slow/why")" "^blocked: node m1: 'm1' belongs to another rebarfs"
expect "runs on the machine" "$(begun)" 1

# To a node that is held, too: then it is ours, and goes on being held.
echo 'hold for a look' >"$B/nodes/m1/ctl"
echo adopt >"$B/nodes/m1/ctl" || fail "cannot adopt: $(cat "$B/nodes/m1/refused")"
eventually 30 "the adoption of a held node" grep -q 'm1.*adopted' "$B/events"
expect "state of a held node" "$(cat "$B/nodes/m1/state")" held
expect "runs on the machine" "$(begun)" 1
echo unhold >"$B/nodes/m1/ctl"
settle s 60
expect "runs on the machine" "$(begun)" 2

# Who owned it learns of it when it wants something of it: that is the node's error, not one of the role.
echo run >"$A/nodes/m1/roles/slow/ctl"
value_becomes 30 "$A/nodes/m1/state" error
owner_b=$(on 11 'sed "s/.*\"owner\":\"\([0-9a-f]*\)\".*/\1/" /var/lib/rebar/owner')
expect_match "why" "$(cat "$A/nodes/m1/why")" "belongs to another rebarfs .*'$owner_b'.*write 'adopt' to nodes/m1/ctl"
expect "state of the role" "$(cat "$A/nodes/m1/roles/slow/state")" blocked
expect "errors" "$(cat "$A/deployments/s/error")" "nodes/m1: $(sed 's/^error: //' "$A/nodes/m1/why")"
expect "runs on the machine" "$(begun)" 2
echo adopt >"$A/nodes/m1/ctl"
MNT=$A
settle s 60
expect "runs on the machine" "$(begun)" 3
MNT=$B STATE=$STATE_B
stop

# The state directory's owner is the same in a copy of it, but the machine has seen a later mount.
cp -a "$STATE_A" "$T/copy"
MNT=$A STATE=$STATE_A DAEMON=$daemon_a
stop
for time in 1 2; do
	start
	eventually 30 "contact of mount $((time + 1))" on 11 "grep -q '\"mounts\":$((time + 1))}' /var/lib/rebar/owner"
	stop
done
STATE=$T/copy
start
value_becomes 60 "$A/nodes/m1/state" error
expect_match "why" "$(cat "$A/nodes/m1/why")" "^error: 'm1' was taken by a newer mount of this state directory \(mount 3\): is a copy of it in use\?; to take it over"
stop
