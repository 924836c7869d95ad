#!/bin/bash
# limit: 420
# The etcd example on containers: three members, then five, then three again; a rebuilt member; a restart of the daemon and of nothing else.
. "$(dirname "$0")/lib.sh"
needs root fuse mmdebstrap systemd-nspawn
setup
cp -a "$TOP/contrib/examples/etcd/." "$REPO/"
cp "$REPO/deployments/etcd/deployment.ini" "$T/three"
start only=etcd
etcdctl_on() {
	local node=$1
	shift
	ssh -F "$MNT/deployments/etcd/ssh_config" "$node" etcdctl "$@" 2>&1
}
# members COUNT: so many, all healthy, as any of them tells
members() {
	expect "members" "$(etcdctl_on etcd-db-1 member list | grep -c ', started, etcd-db-')" "$1"
	expect "healthy members" "$(etcdctl_on etcd-db-2 endpoint health --cluster | grep -c 'is healthy')" "$1"
}

settle etcd 300 # the first time on a machine it builds the image
say "three members after $SECONDS s"
members 3
expect "what is in the nodes' roles" "$(states "$MNT/nodes/etcd-db-*/roles/*/state")" "6 active"
expect "member id" "$(cat "$MNT/nodes/etcd-db-1/roles/etcd/outputs/member-id")" "$(etcdctl_on etcd-db-1 member list | sed -n 's/, started, etcd-db-1,.*//p')"
expect_match "the log" "$(cat "$MNT/nodes/etcd-db-1/roles/etcd/log")" 'is member'
expect "os" "$(python3 -c 'import json, sys; print(json.load(sys.stdin)["os"])' <"$MNT/nodes/etcd-db-1/facts.json")" debian
etcdctl_on etcd-db-1 put colour blue >/dev/null || fail "cannot put a value"
pid=$(ssh -F "$MNT/deployments/etcd/ssh_config" etcd-db-1 pidof etcd)

echo 5 >"$MNT/deployments/etcd/desired/nodes.db/count" || fail "cannot ask for five"
settle etcd 180
say "five members after $SECONDS s"
members 5
expect "the value, read from a newcomer" "$(etcdctl_on etcd-db-5 get colour --print-value-only)" blue
expect "the process of the first member" "$(ssh -F "$MNT/deployments/etcd/ssh_config" etcd-db-1 pidof etcd)" "$pid"

# The daemon goes and comes back; machines stay.
stop
start only=etcd
settle etcd 60
expect "the process of the first member after a restart of the daemon" "$(ssh -F "$MNT/deployments/etcd/ssh_config" etcd-db-1 pidof etcd)" "$pid"
expect "runs of the first member: one for each list of nodes" "$(runs "$MNT/nodes/etcd-db-1/roles/etcd")" 2

cp "$T/three" "$MNT/desired/deployments/etcd/deployment.ini"
expect_match "the plan" "$(cat "$MNT/deployments/etcd/plan")" '^- node etcd-db-5 .*confirm'
members 5
apply etcd
settle etcd 180
say "three members again after $SECONDS s"
members 3
expect "nodes" "$(list "$MNT/deployments/etcd/nodes")" "etcd-db-1 etcd-db-2 etcd-db-3"

# A machine that loses its disk.
echo rebuild >"$MNT/nodes/etcd-db-2/ctl" || fail "cannot ask for a rebuild: $(cat "$MNT/nodes/etcd-db-2/refused")"
apply etcd
settle etcd 180
say "one rebuilt after $SECONDS s"
members 3
expect "the value, read from the rebuilt one" "$(etcdctl_on etcd-db-2 get colour --print-value-only)" blue

destroy etcd 120
expect "nodes of the deployment" "$(ls "$MNT/nodes" | grep -c etcd-db)" 0
stop
