#!/bin/bash
# limit: 240
# The second stage of the web example: the same description on three machines that somebody else made.
. "$(dirname "$0")/lib.sh"
needs root fuse ssh-keygen unshare ansible-playbook curl
ROOT_TREE_PROGRAMS=(nginx haproxy python3)
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed web nginx-light haproxy
in_own_network
setup
net_up
tree=$(root_tree "${ROOT_TREE_PROGRAMS[@]}") || exit 1
cp -a "$TOP/contrib/examples/web/." "$REPO/"
for n in 1 2 3; do
	machine "w$n" "1$n" "$tree"
	sed -i "s/^address = .*/address = 10.77.0.1$n/" "$REPO/nodes/w$n/node.ini"
done
sed -i "s|^key = .*|key = $T/id|" "$REPO/providers/machines/provider.ini"
start only=web-machines

expect "state" "$(cat "$MNT/deployments/web-machines/state")" proposed
echo apply >"$MNT/deployments/web-machines/ctl" || fail "cannot apply: $(cat "$MNT/deployments/web-machines/refused")"
settle web-machines 200
say "up after $SECONDS s"
expect "states of node roles" "$(states "$MNT/nodes/w[1-3]/roles/*/state")" "4 active"
for n in 1 2 3 4 5 6; do curl -sf --max-time 5 http://10.77.0.13/; done >"$T/pages" || fail "the balancer does not answer"
expect "servers that answer" "$(sed -n 's/.*served by \([^<]*\).*/\1/p' "$T/pages" | sort -u | paste -sd ' ')" "w1 w2"
expect_match "the page" "$(cat "$T/pages")" 'Hello from machines'
expect "who answered, as the role saw it" "$(cat "$MNT/nodes/w3/roles/page/outputs/served_by")" "w1 w2"
expect "where the title came from" "$(python3 -c 'import json, sys; print(json.load(sys.stdin)["params"]["nginx_title"]["origin"])' <"$MNT/nodes/w1/roles/nginx/inputs.json" | cut -d : -f 1)" \
	deployments/web-machines/deployment.ini
stop
