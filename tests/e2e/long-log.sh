#!/bin/bash
# limit: 180
# A role that prints without end fills no disk: its log is cut, says so, and the run goes on to its end.
. "$(dirname "$0")/lib.sh"
needs root fuse ssh-keygen unshare
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed plain
in_own_network
setup
net_up
tree=$(root_tree) || exit 1
machine m1 11 "$tree"
ssh_repo m1=10.77.0.11
document roles/slow/apply <<-'EOF'
	#!/bin/sh
	echo "now it begins"
	yes 0123456789abcdef | head -c 80000000
	sleep 2
	echo 42 >"$REBAR_OUTPUTS/answer"
	exit "$(cat /root/exit 2>/dev/null || echo 0)"
EOF
start
apply s
settle s 90
log=$MNT/nodes/m1/roles/slow/log
expect "first line" "$(head -n 1 "$log")" "now it begins"
expect "last line" "$(tail -n 1 "$log")" "rebarfs: the log is cut here: it is longer than 64 MiB"
size=$(stat -Lc %s "$log")
[ "$size" -gt 67108864 ] && [ "$size" -lt 67109000 ] || fail "the log has $size bytes"
expect "output" "$(cat "$MNT/nodes/m1/roles/slow/outputs/answer")" 42

# The same through a restart in the middle, and with a failure at the end.
on 11 'echo 3 >/root/exit'
sed -i 's/^sleep 2/sleep 4/; s/80000000/70000000/' "$REPO/roles/slow/apply"
sed -i 's/^retries = .*/retries = 0/' "$REPO/roles/slow/role.ini"
eventually 10 "the changed role" grep -q confirm\\\|run "$MNT/deployments/s/plan"
echo apply >"$MNT/deployments/s/ctl"
eventually 30 "the log of the second run" sh -c "[ \$(stat -Lc %s '$MNT/nodes/m1/roles/slow/runs/2/log') -gt 67108864 ]"
kill_hard
fusermount3 -uz "$MNT"
start
settle_badly s 60
expect_match "why" "$(cat "$MNT/nodes/m1/roles/slow/why")" "^error: exit 3$"
expect "lines that say it is cut" "$(tail -c 1000 "$log" | grep -c 'is cut here')" 1
stop
