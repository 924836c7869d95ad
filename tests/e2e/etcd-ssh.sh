#!/bin/bash
# limit: 240
# The second stage of the etcd example: the same description on three machines that somebody else made.
. "$(dirname "$0")/lib.sh"
needs root fuse ssh-keygen unshare
ROOT_TREE_PROGRAMS=(etcd etcdctl)
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed etcd etcd-server etcd-client
in_own_network
setup
net_up
tree=$(root_tree "${ROOT_TREE_PROGRAMS[@]}") || exit 1
cp -a "$TOP/contrib/examples/etcd/." "$REPO/"
for n in 1 2 3; do
	machine "m$n" "1$n" "$tree"
	sed -i "s/^address = .*/address = 10.77.0.1$n/" "$REPO/nodes/m$n/node.ini"
done
sed -i "s|^key = .*|key = $T/id|" "$REPO/providers/machines/provider.ini"
start only=etcd-machines

expect "state" "$(cat "$MNT/deployments/etcd-machines/state")" proposed
expect "what happened to a machine that nobody approved" "$(on 11 'ls /var/lib/rebar 2>/dev/null | wc -l')" 0
echo apply >"$MNT/deployments/etcd-machines/ctl" || fail "cannot apply: $(cat "$MNT/deployments/etcd-machines/refused")"
settle etcd-machines 180
say "three members after $SECONDS s"
expect "members" "$(on 12 etcdctl member list | grep -c ', started, m[1-3],')" 3
expect "healthy members" "$(on 13 etcdctl endpoint health --cluster 2>&1 | grep -c 'is healthy')" 3
expect "states of node roles" "$(states "$MNT/nodes/m*/roles/*/state")" "6 active"
expect "a name that the role 'base' wrote" "$(on 11 'getent hosts m3' | awk '{ print $1 }')" 10.77.0.13
expect "output" "$(cat "$MNT/nodes/m1/roles/etcd/outputs/client-url")" http://10.77.0.11:2379
expect "ssh by the generated configuration" "$(ssh -F "$MNT/deployments/etcd-machines/ssh_config" m2 hostname)" m2

# A connection that drops in the middle of everything is made again.
on 11 "pkill -f 'sshd: root@' || :" 2>/dev/null
sed -i 's/^heartbeat-interval = .*/heartbeat-interval = 150ms/' "$MNT/desired/deployments/etcd/deployment.ini"
expect_match "the plan" "$(cat "$MNT/deployments/etcd-machines/plan")" '^~ run  etcd on m1 .*heartbeat-interval 100ms -> 150ms'
echo apply >"$MNT/deployments/etcd-machines/ctl"
settle etcd-machines 180
expect "the new setting" "$(on 11 'tr "\0" "\n" </proc/$(pidof etcd)/environ' | grep ^ETCD_HEARTBEAT)" ETCD_HEARTBEAT_INTERVAL=150

# Destroying a deployment of machines that were there before lets go of them, and no more.
destroy etcd-machines 60
expect "members on the machines" "$(on 12 etcdctl endpoint health --cluster 2>&1 | grep -c 'is healthy')" 3
stop
