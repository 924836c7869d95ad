#!/bin/bash
# A machine that refuses our key and one whose host key changed: one sentence each, with what to do, and nothing else is disturbed.
. "$(dirname "$0")/lib.sh"
needs root fuse ssh-keygen unshare
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed etcd etcd-server etcd-client
in_own_network
setup
net_up
tree=$(root_tree) || exit 1
machine m1 11 "$tree"
machine m2 12 "$tree"
on 12 'mv /root/.ssh/authorized_keys /root/.ssh/away'
ssh_repo m1=10.77.0.11 m2=10.77.0.12
sed -i 's/1 2 3 4/1/' "$REPO/roles/slow/apply"
printf '[provider]\ntype = ssh\ntimeout = 10s\n[ssh]\nkey = %s\n' "$T/id" | document providers/machines/provider.ini
start
apply s

value_becomes 60 "$MNT/nodes/m1/roles/slow/state" active
value_becomes 90 "$MNT/nodes/m2/state" error
expect_match "why of a machine that refuses our key" "$(cat "$MNT/nodes/m2/why")" '(key|authoriz|denied|refuse)'
expect_match "the errors of the deployment" "$(cat "$MNT/deployments/s/error")" '^nodes/m2: .*'
expect "state of the machine beside it" "$(cat "$MNT/nodes/m1/state")" ready
say "refused: $(cat "$MNT/nodes/m2/why")"

# No ssh is possible there: mend it from outside.
nsenter -t "$(pgrep -P "$(cat "$T/machines/m2/pid")")" -m -r -- mv /root/.ssh/away /root/.ssh/authorized_keys || fail "cannot mend m2"
echo retry >"$MNT/nodes/m2/ctl"
settle s 60
expect "state once it lets us in" "$(cat "$MNT/nodes/m2/roles/slow/state")" active

# Another host key at the same address: never touched until somebody trusts it.
on 11 'rm /etc/ssh/ssh_host_ed25519_key*; ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key; kill -HUP 1'
sleep 1
on 11 "pkill -f 'sshd: root@' || :" 2>/dev/null # the connection that is open knows the old key
sed -i 's/now it begins/now it begins again/' "$MNT/desired/roles/slow/apply"
apply s
eventually 60 "the sentence about the changed key" grep -q "host key.*trust" "$MNT/nodes/m1/why"
why=$(cat "$MNT/nodes/m1/why")
expect_match "why of a machine whose host key changed" "$why" 'host key.*trust'
say "changed: $why"
expect "how often the script ran there" "$(on 11 'grep -c begun /root/ran')" 1
value_becomes 60 "$MNT/nodes/m2/roles/slow/state" active
key=$(on 11 'cut -d " " -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub')
echo "trust ssh-ed25519 AAAAnonsense" >"$MNT/nodes/m1/ctl" 2>/dev/null && value_becomes 90 "$MNT/nodes/m1/state" error
echo "trust $key" >"$MNT/nodes/m1/ctl" || fail "cannot trust the new key: $(cat "$MNT/nodes/m1/refused")"
settle s 90
expect "how often the script ran there after 'trust'" "$(on 11 'grep -c begun /root/ran')" 2
stop
