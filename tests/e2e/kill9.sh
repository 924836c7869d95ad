#!/bin/bash
# kill -9 at any moment: no node is lost, none is made twice, no run is started twice, and the next mount needs no help.
. "$(dirname "$0")/lib.sh"
needs root fuse ssh-keygen unshare
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed etcd etcd-server etcd-client
in_own_network
setup
net_up
tree=$(root_tree) || exit 1
machine m1 11 "$tree"
fake_repo 200 'create-delay = 100ms' 'role-delay = 100ms'
sed -i 's/^max-parallel.*/max-parallel = 10/' "$REPO/providers/sim/provider.ini"
ssh_repo m1=10.77.0.11

start
apply s
for moment in 0.1 0.3 0.5 0.2 0.8 0.05 1 0.4; do
	sleep "$moment"
	kill_hard
	# The mount of a daemon that was killed is there and dead; the next start clears it.
	start
	expect "mounts after a kill" "$(grep -c " $MNT " /proc/self/mountinfo)" 1
done
eventually 30 "the script to begin" on 11 'test -s /root/ran'
kill_hard
start
settle s 60
settle d 120
expect "how often the script began" "$(on 11 'grep -c begun /root/ran')" 1
expect "how often it ended" "$(on 11 'grep -c ended /root/ran')" 1
expect "nodes" "$(ls -d "$MNT"/nodes/d-n-* | wc -l)" 200
expect "states of simulated node roles" "$(states "$MNT/nodes/d-n-*/roles/*/state")" "400 active"
# Destruction is taken up again too.
echo destroy >"$MNT/deployments/d/ctl" || fail "destroy is refused"
sleep 0.3
kill_hard
start
settle d 120
expect "what is left" "$(ls "$MNT/nodes")" m1
stop
