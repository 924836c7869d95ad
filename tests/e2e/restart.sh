#!/bin/bash
# A restart in the middle: simulated nodes converge all the same; a script that runs on a machine goes on without us and is not run twice.
. "$(dirname "$0")/lib.sh"
needs root fuse ssh-keygen unshare
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed etcd etcd-server etcd-client
in_own_network
setup
net_up
tree=$(root_tree) || exit 1
machine m1 11 "$tree"
fake_repo 60 'create-delay = 200ms' 'role-delay = 200ms'
sed -i 's/^max-parallel.*/max-parallel = 5/' "$REPO/providers/sim/provider.ini"
ssh_repo m1=10.77.0.11
start

expect "state of machines nobody approved" "$(cat "$MNT/deployments/s/state")" proposed
apply s
eventually 30 "the script's first line in the log" grep -q 'now it begins' "$MNT/nodes/m1/roles/slow/log"
expect "state while it runs" "$(cat "$MNT/nodes/m1/roles/slow/state")" running
eventually 20 "some of the simulated nodes" test -d "$MNT/nodes/d-n-3"
stop
[ "$(on 11 'cat /root/ran' | wc -l)" = 1 ] || fail "the script should have begun once"
sleep 1
start
settle s 60
settle d 60
expect "how often the script began" "$(on 11 'grep -c begun /root/ran')" 1
expect "how often it ended" "$(on 11 'grep -c ended /root/ran')" 1
expect "runs" "$(runs "$MNT/nodes/m1/roles/slow")" 1
expect_match "the log, from before and after the restart" "$(paste -sd ' ' "$MNT/nodes/m1/roles/slow/log")" 'now it begins.*now it ends'
expect "its output" "$(cat "$MNT/nodes/m1/roles/slow/outputs/answer")" 42
expect "states of simulated node roles" "$(states "$MNT/nodes/d-n-*/roles/*/state")" "120 active"
expect "simulated nodes" "$(ls -d "$MNT"/nodes/d-n-* | wc -l)" 60

# Everything is known again after a restart with nothing to do, and nothing runs.
before=$(runs "$MNT/nodes/*/roles/*")
stop
start
settle s 20
settle d 20
expect "runs after a restart with nothing to do" "$(runs "$MNT/nodes/*/roles/*")" "$before"
stop
