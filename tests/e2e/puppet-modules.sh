#!/bin/bash
# limit: 420
# Modules nobody here wrote, as Debian packages them, on containers: three members of etcd, and three servers of redis with their sentinels.
. "$(dirname "$0")/lib.sh"
needs root fuse mmdebstrap systemd-nspawn jq
setup
cp -a "$TOP/contrib/examples/puppet/." "$REPO/"
PASSWORD=Ab-7-tiger-lily
mkdir -m 700 "$T/secrets"
(umask 077 && echo "$PASSWORD" >"$T/secrets/redis")
start "secrets=$T/secrets"
settle etcd 360 # the first time on a machine it builds the image
settle redis 120
say "six nodes after $SECONDS s"

run_on() { # NODE COMMAND...
	timeout 20 ssh -F "$MNT/deployments/${1%%-*}/ssh_config" "$@" 2>&1
}
redis() { # NODE ARGUMENT...
	local node=$1
	shift
	run_on "$node" REDISCLI_AUTH=$PASSWORD redis-cli "$@"
}
report() { timeout 5 cat "$MNT/nodes/$1/runs/$(ls "$MNT/nodes/$1/runs" | sort -n | tail -n 1)/report.json"; }

expect "healthy members of etcd" "$(run_on etcd-db-2 etcdctl endpoint health --cluster | grep -c 'is healthy')" 3
expect "what etcd says where clients connect" "$(cat "$MNT/nodes/etcd-db-1/roles/etcd-member/outputs/url")" "http://$(cat "$MNT/nodes/etcd-db-1/address"):2379"
expect "the secret's file" "$(redis redis-db-1 config get requirepass | tail -n 1)" "$PASSWORD"
replicas() { [ "$(redis redis-db-1 info replication | grep -c 'state=online')" = 2 ]; }
eventually 20 "two replicas follow the first" replicas
agreed() { redis redis-db-3 -p 26379 sentinel ckquorum mymaster | grep -q '^OK 3 usable'; }
eventually 20 "three sentinels know one another" agreed

# What is done stays done; a parameter reaches the software's own file, and no more than that.
for role in etcd-db-1/roles/etcd-member redis-db-1/roles/redis-node; do echo run >"$MNT/nodes/$role/ctl" || fail "cannot run $role"; done
settle etcd 60
settle redis 60
for role in etcd-db-1/roles/etcd-member redis-db-1/roles/redis-node; do
	expect "what a second run of $role changed" "$(report "$role" | jq -c '[.changed, .failed]')" "[0,0]"
done
echo 48mb >"$MNT/deployments/redis/desired/params.redis-node/maxmemory" || fail "cannot set how much redis keeps"
settle redis 60
expect "how much redis keeps" "$(redis redis-db-2 config get maxmemory | tail -n 1)" $((48 << 20))
expect "members of etcd that ran again" "$(runs "$MNT/nodes/etcd-db-2/roles/etcd-member")" 1

# By hand: it is seen as a diff, and nothing of the secret in it.
run_on redis-db-3 "sed -i 's/^maxmemory.*/maxmemory 1mb/' /etc/redis/redis.conf.puppet"
echo check >"$MNT/nodes/redis-db-3/roles/redis-node/ctl" || fail "cannot check"
settle redis 60
expect_match "drift" "$(cat "$MNT/nodes/redis-db-3/roles/redis-node/drift")" '^-maxmemory 1mb'
expect "where the secret is stored here" "$(timeout 20 grep -rlaF --exclude-dir=nodes --exclude-dir=secrets -e "$PASSWORD" "$STATE" "$T/daemon.log")" ""

destroy redis 60
destroy etcd 60
stop
