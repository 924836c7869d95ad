#!/bin/bash
# limit: 120
# An image described anew under the same name: the plan says what is other, nothing happens by itself, and 'apply ID' puts new machines in their place.
. "$(dirname "$0")/lib.sh"
needs root fuse systemd-nspawn
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed plain
in_own_network
setup
tree=$(root_tree) || exit 1
ln -s "$tree" "$T/first"
ln -s "$tree" "$T/second"
document providers/laptop/provider.ini <<-EOF
	[provider]
	type = container
	image = plain
	[container]
	boot = sshd
	nat = no
	[image plain]
	source = $T/first
EOF
printf '[role]\nrunner = script\n' | document roles/mark/role.ini
printf '#!/bin/sh\n[ ! -e /root/mark ] || echo again\ntouch /root/mark\n' | document roles/mark/apply
chmod +x "$REPO/roles/mark/apply"
printf '[deployment]\nprovider = laptop\nroles = mark\n[nodes n]\ncount = 1\n' | document deployments/d/deployment.ini
start
settle d 60
expect "plan" "$(cat "$MNT/deployments/d/plan")" "plan -: nothing to do"

sed -i 's|/first|/second|' "$MNT/desired/providers/laptop/provider.ini"
expect_match "plan" "$(cat "$MNT/deployments/d/plan")" "^! node d-n-1 +confirm: image plain: source $T/first -> $T/second: its disk is lost$"
echo apply >"$MNT/deployments/d/ctl" || fail "cannot apply: $(cat "$MNT/deployments/d/refused")"
settle_badly d 30
expect "state" "$(cat "$MNT/nodes/d-n-1/state")" ready
expect_match "why" "$(cat "$MNT/nodes/d-n-1/why")" "a rebuild is in the plan and waits for 'apply ID'"
expect "runs" "$(runs "$MNT/nodes/d-n-1/roles/mark")" 1

apply d
settle d 60
expect "plan" "$(cat "$MNT/deployments/d/plan")" "plan -: nothing to do"
expect "runs" "$(runs "$MNT/nodes/d-n-1/roles/mark")" 2
expect "log of the new machine" "$(cat "$MNT/nodes/d-n-1/roles/mark/log")" ""
destroy d 60
stop
