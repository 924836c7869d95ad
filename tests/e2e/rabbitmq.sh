#!/bin/bash
# limit: 420
# The rabbitmq example on containers: three brokers become one cluster with a cookie that one of them has made; a fourth joins while the first is made anew, and
# with it the cookie; one leaves.
. "$(dirname "$0")/lib.sh"
needs root fuse mmdebstrap systemd-nspawn jq
setup
cp -a "$TOP/contrib/examples/rabbitmq/." "$REPO/"
start only=mq
run_on() { # NODE COMMAND...
	timeout 20 ssh -F "$MNT/deployments/mq/ssh_config" "$@" 2>&1
}
# brokers NODE WHO...: members of the cluster, all of them running, as this node's broker tells
brokers() {
	local node=$1
	shift
	expect "the cluster that $node is in" "$(run_on "$node" rabbitmqctl -q cluster_status --formatter json | jq -r '[(.disk_nodes | sort), (.running_nodes | sort), .partitions] | map(tostring) | join(" ")')" \
		"$(jq -rn '[$ARGS.positional | map("rabbit@" + .) | sort | tostring] | "\(.[0]) \(.[0]) {}"' --args "$@")"
}
cookie() { run_on "$1" cat /var/lib/rabbitmq/.erlang.cookie; }
nowhere() {
	expect "where the cookie is stored here" "$(timeout 20 grep -rlaF --exclude-dir=nodes -e "$1" "$STATE" "$T/daemon.log"; timeout 20 grep -rlaF -e "$1" "$MNT"/nodes/*/roles/*/log)" ""
}
turns() { # the order in which they had their turn to join; none began before the one before it had ended
	timeout 5 sed -n 's|.*mq/\(.*\)/rabbitmq-member: \(running\|active\).*|\1 \2|p' "$MNT/deployments/mq/events"
}

settle mq 300 # the first time on a machine it builds the image
say "three brokers after $SECONDS s"
brokers mq-more-2 mq-first-1 mq-more-1 mq-more-2
expect "turns that overlap" "$(turns | awk '$2 == "running" { if (on) print; on = 1 } $2 == "active" { on = 0 }')" ""
old=$(cookie mq-first-1)
expect "characters of the cookie" "${#old}" 48
expect "the cookie of another" "$(cookie mq-more-2)" "$old"
expect "the cookie in the mount" "$(cat "$MNT/nodes/mq-first-1/roles/rabbitmq-cookie/outputs/cookie")" secret
nowhere "$old"
expect "bytes of memory where a broker of 512M slows its clients down" "$(run_on mq-more-1 rabbitmqctl -q status --formatter json | jq .vm_memory_high_watermark_limit)" 214748364
run_on mq-first-1 'amqp-declare-queue -d -q work && amqp-publish -p -r work -b "carry this"' >/dev/null || fail "cannot publish"
pid=$(run_on mq-more-1 pidof beam.smp)

# Who made the cookie loses its disk, while a newcomer comes: all brokers that run take the new cookie over as they are.
echo rebuild >"$MNT/nodes/mq-first-1/ctl" || fail "cannot ask for a rebuild: $(cat "$MNT/nodes/mq-first-1/refused")"
echo 3 >"$MNT/deployments/mq/desired/nodes.more/count" || fail "cannot ask for four"
apply mq
settle mq 180
say "four brokers, one of them anew, after $SECONDS s"
brokers mq-first-1 mq-first-1 mq-more-1 mq-more-2 mq-more-3
new=$(cookie mq-more-3)
[ "${#new}" = 48 ] && [ "$new" != "$old" ] || fail "the cookie is the old one, or none: '$new'"
expect "the cookie of one that ran on" "$(cookie mq-more-1)" "$new"
nowhere "$new"
expect "its process" "$(run_on mq-more-1 pidof beam.smp)" "$pid"
expect "the message, taken from the one made anew" "$(run_on mq-first-1 amqp-get -q work)" "carry this"
expect_match "how it came in" "$(cat "$MNT/nodes/mq-first-1/roles/rabbitmq-member/log")" '^the cluster forgets the machine that was rabbit@mq-first-1 before$'

# Who is not described any more leaves, and the others do not wait for it.
echo 2 >"$MNT/deployments/mq/desired/nodes.more/count" || fail "cannot ask for three"
expect_match "the plan: nobody runs before that is said" "$(cat "$MNT/deployments/mq/plan")" '^plan [0-9a-f]*: 1 release, 1 confirm$'
apply mq
settle mq 90
say "three brokers again after $SECONDS s"
brokers mq-more-1 mq-first-1 mq-more-1 mq-more-2

destroy mq 60
expect "brokers that were taken out" "$(timeout 5 grep -c "rabbitmq-member: removed after" "$MNT/events")" 4
stop
