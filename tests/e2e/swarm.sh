#!/bin/bash
# limit: 420
# The swarm example on containers: a token from the manager with which workers join, a service on every node; a newcomer when the token is old, one that
# leaves, one that is rebuilt. What docker itself says counts.
. "$(dirname "$0")/lib.sh"
needs root fuse mmdebstrap systemd-nspawn curl
setup
cp -a "$TOP/contrib/examples/swarm/." "$REPO/"
start

docker_on_manager() {
	ssh -F "$MNT/deployments/swarm/ssh_config" swarm-manager-1 docker "$@"
}
# members NAME...: the swarm has these, all of them ready
members() {
	expect "members of the swarm" "$(docker_on_manager node ls --format "'{{.Hostname}} {{.Status}}'" | sort | paste -sd ,)" \
		"$(printf '%s Ready\n' "$@" | paste -sd ,)"
}
# answers NAME...: each at its own address, with the page PAGE
answers() {
	local name address
	for name in "$@"; do
		address=$(cat "$MNT/nodes/$name/address")
		expect "what answers at $name" "$(curl -sf --max-time 5 "http://$address:8080/cgi-bin/where")" "$name"
		expect "the page at $name" "$(curl -sf --max-time 5 "http://$address:8080/")" "$PAGE"
	done
}
token() {
	docker_on_manager swarm join-token --quiet worker
}

PAGE="served by a swarm"
settle swarm 240 # the first time on a machine it builds the image
say "a swarm of three after $SECONDS s"
members swarm-manager-1 swarm-worker-1 swarm-worker-2
answers swarm-manager-1 swarm-worker-1 swarm-worker-2
first=$(token)
[[ $first == SWMTKN-* ]] || fail "the token is '$first'"
expect "the token in the mount" "$(cat "$MNT/nodes/swarm-manager-1/roles/swarm-manager/outputs/worker-token")" secret
# but for the nodes' own disks, which lie in the state directory too
expect "places where the token is kept here" "$(grep -rlaF --exclude-dir=nodes -- "$first" "$STATE" "$REPO" | wc -l)" 0
expect "runs of the manager" "$(runs "$MNT/nodes/swarm-manager-1/roles/swarm-manager")" 1
expect "runs of a worker" "$(runs "$MNT/nodes/swarm-worker-1/roles/swarm-worker")" 1

# Another worker: the token is old by then, so there is a new one, and nobody who is in joins again.
echo 1s >"$MNT/roles/swarm-manager/desired/output.worker-token/ttl" || fail "cannot set the ttl"
sleep 1
echo 3 >"$MNT/deployments/swarm/desired/nodes.worker/count" || fail "cannot ask for three workers"
settle swarm 120
say "one joined after $SECONDS s"
members swarm-manager-1 swarm-worker-1 swarm-worker-2 swarm-worker-3
answers swarm-worker-3
[ "$(token)" != "$first" ] || fail "the token is the one from the beginning"
[ "$(runs "$MNT/nodes/swarm-manager-1/roles/swarm-manager")" -gt 1 ] || fail "the manager did not run again for the newcomer"
expect "runs of a worker that was in" "$(runs "$MNT/nodes/swarm-worker-1/roles/swarm-worker")" 1
expect_match "why the manager ran again" "$(grep -h due: "$MNT/deployments/swarm/events")" "due: output .worker-token., which swarm-worker on swarm-worker-3 needs, is older than 1.0 s"

# Another page: the image on each node, then the service.
PAGE="served by a swarm of four"
echo "$PAGE" >"$MNT/deployments/swarm/desired/params.web-image/page" || fail "cannot set the page"
settle swarm 120
answers swarm-manager-1 swarm-worker-1 swarm-worker-2 swarm-worker-3

# One goes, having said so; then one is made anew under its old name.
echo 2 >"$MNT/deployments/swarm/desired/nodes.worker/count" || fail "cannot ask for two workers"
apply swarm
settle swarm 120
members swarm-manager-1 swarm-worker-1 swarm-worker-2
say "one gone after $SECONDS s"
echo rebuild >"$MNT/nodes/swarm-worker-1/ctl" || fail "cannot ask for a rebuild"
apply swarm
settle swarm 180
say "one rebuilt after $SECONDS s"
members swarm-manager-1 swarm-worker-1 swarm-worker-2
answers swarm-manager-1 swarm-worker-1 swarm-worker-2

destroy swarm 120
expect "nodes of the deployment" "$(ls "$MNT/nodes" | grep -c swarm-)" 0
stop
