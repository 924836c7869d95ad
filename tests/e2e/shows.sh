#!/bin/bash
# limit: 420
# A session as it would be typed on a fresh machine, word for word but for the place of the mount.
. "$(dirname "$0")/lib.sh"
needs root fuse mmdebstrap systemd-nspawn
setup
rebar=$MNT
cp -a "$TOP/contrib/examples/etcd/." "$REPO/"
"$REBARFS" -o "state=$STATE,cache=$CACHE" "$REPO" "$rebar" || fail "cannot mount"
DAEMON=$(daemon_of_state)

out=$(timeout 300 cat "$rebar/deployments/etcd/wait" && cat "$rebar/deployments/etcd/status" "$rebar/deployments/etcd/matrix") || fail "the cluster does not come up: $out"
expect_match "wait, status and matrix" "$out" 'etcd-db-3.*active'
out=$(cat "$rebar/nodes/etcd-db-1/roles/etcd/log") || fail "no log"
expect_match "the log" "$out" 'is member'
out=$(ssh -F "$rebar/deployments/etcd/ssh_config" etcd-db-1 etcdctl member list) || fail "no members"
expect "members" "$(grep -c started <<<"$out")" 3

sed -i 's/^count.*/count = 5/' "$rebar/desired/deployments/etcd/deployment.ini"
plan=$(cat "$rebar/deployments/etcd/plan")
expect_match "the plan" "$plan" '^\+ node etcd-db-4 '
expect_match "the plan" "$plan" '^~ run  etcd on etcd-db-1 '
timeout 200 cat "$rebar/deployments/etcd/wait" >/dev/null || fail "it does not grow to five: $(cat "$rebar/deployments/etcd/error")"
expect "members" "$(ssh -F "$rebar/deployments/etcd/ssh_config" etcd-db-5 etcdctl member list | grep -c started)" 5

echo 'colour = blue' >>"$rebar/desired/roles/etcd/role.ini"
expect_match "the problems" "$(cat "$rebar/problems")" '^roles/etcd/role.ini:[0-9]+: .*colour'

echo destroy >"$rebar/deployments/etcd/ctl" || fail "destroy is refused: $(cat "$rebar/deployments/etcd/refused")"
timeout 100 cat "$rebar/deployments/etcd/wait" >/dev/null || fail "it is not destroyed: $(cat "$rebar/deployments/etcd/error")"
expect "nodes" "$(ls "$rebar/nodes" | grep -c etcd-db)" 0
fusermount3 -u "$rebar" || fail "cannot unmount"
gone "$DAEMON" 10 || fail "the daemon still runs 10 s after an unmount"
DAEMON=
