#!/bin/bash
# limit: 420
# The web example on containers: two servers behind a balancer by Ansible; a third server joins; a change of the page is a change of the servers only.
. "$(dirname "$0")/lib.sh"
needs root fuse mmdebstrap systemd-nspawn ansible-playbook curl
setup
cp -a "$TOP/contrib/examples/web/." "$REPO/"
start only=web
settle web 300
say "up after $SECONDS s"
expect "states of node roles" "$(states "$MNT/nodes/web-*/roles/*/state")" "4 active"
# served COUNT: so many different servers answer through the balancer
served() {
	local n
	for ((n = 0; n < 12; n++)); do curl -sf --max-time 5 "$(cat "$MNT/nodes/web-lb-1/roles/haproxy/outputs/url")"; done | sed -n 's/.*served by \([^<]*\).*/\1/p' | sort -u | wc -l
}
expect "servers that answer" "$(served)" 2
expect "who answered, as the role saw it" "$(cat "$MNT/nodes/web-lb-1/roles/page/outputs/served_by")" "web-web-1 web-web-2"

echo "A better page" >"$MNT/deployments/web/desired/params.nginx/nginx_title" || fail "cannot set the title"
expect_match "the plan or what runs" "$(cat "$MNT/deployments/web/plan"; cat "$MNT/deployments/web/status")" 'nginx'
settle web 120
expect_match "the page" "$(curl -sf "$(cat "$MNT/nodes/web-lb-1/roles/haproxy/outputs/url")")" 'A better page'
expect "runs of the balancer's role" "$(ls "$MNT/nodes/web-lb-1/roles/haproxy/runs" | wc -l)" 1

echo 3 >"$MNT/deployments/web/desired/nodes.web/count" || fail "cannot ask for three"
settle web 180
expect "servers that answer" "$(served)" 3

# A mistake in a role is told where it is, and only what depends on it stops.
sed -i 's/state: started/state: dancing/' "$MNT/desired/roles/nginx/tasks/main.yml"
settle_badly web 120
expect_match "the errors" "$(cat "$MNT/deployments/web/error")" '^nodes/web-web-1/roles/nginx: .*'
expect_match "why" "$(cat "$MNT/nodes/web-web-1/roles/nginx/why")" "Start nginx"
expect "servers that answer all the same" "$(served)" 3
sed -i 's/state: dancing/state: started/' "$MNT/desired/roles/nginx/tasks/main.yml"
settle web 120

destroy web 120
stop
