#!/bin/bash
# Roles that a node is to lose: what they made is taken away by the script that came with what made it, in reverse order, once a person has agreed; a
# machine that is let go is cleaned up first, and nothing that goes wrong there keeps it.
. "$(dirname "$0")/lib.sh"
needs root fuse ssh-keygen unshare
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed plain
in_own_network
setup
net_up
tree=$(root_tree) || exit 1
machine m1 11 "$tree"
machine m2 12 "$tree"
ssh_repo m1=10.77.0.11
role() { # NAME KEYS REMOVE
	printf '[role]\nrunner = script\nretries = 0\n%b' "$2" | document "roles/$1/role.ini"
	printf '#!/bin/sh\necho "%s up" >>/root/log\n' "$1" | document "roles/$1/apply"
	[ -z "$3" ] || printf '#!/bin/sh\n%s\n' "$3" | document "roles/$1/remove"
	chmod +x "$REPO/roles/$1"/[ar]*
	chmod -x "$REPO/roles/$1/role.ini"
}
# shellcheck disable=SC2016 # for the script, not for us
role base '[param level]\ntype = int\ndefault = 4\n' 'echo "base down level=$REBAR_PARAM_LEVEL" >>/root/log'
role app 'requires = base\n' 'echo "app down 1" >>/root/log'
role plain '' ''
log_() { on 11 'cat /root/log; : >/root/log' | paste -sd ,; }
roles() { sed -i "s/^roles = .*/roles = $1/" "$REPO/deployments/s/deployment.ini"; }
roles "app, plain"
start
apply s
settle s 60
expect "what ran" "$(log_ | tr ',' '\n' | LC_ALL=C sort | paste -sd ,)" "app up,base up,plain up"

# In the plan, and nothing else; taken back, as if it had not been said.
roles plain
eventually 5 "the plan" grep -q 'x drop app on m1 *confirm: runs its remove script' "$MNT/deployments/s/plan"
expect "lines of the plan" "$(grep -c 'confirm: runs its remove script' "$MNT/deployments/s/plan")" 2
expect_match "the plan" "$(head -n1 "$MNT/deployments/s/plan")" '^plan [0-9a-f]{8}: 2 drop, 2 confirm$'
expect "state of app" "$(cat "$MNT/nodes/m1/roles/app/state")" proposed
expect "why of app" "$(cat "$MNT/nodes/m1/roles/app/why")" "proposed: no longer wanted: its remove script is in the plan and waits for 'apply ID'"
expect "the deployment" "$(cat "$MNT/deployments/s/state")" proposed
echo apply >"$MNT/deployments/s/ctl"
sleep 0.5
stop
start
expect "after a bare apply and a restart" "$(cat "$MNT/nodes/m1/roles/app/state")" proposed
expect "events that tell it" "$(grep -c 'app.*no longer a role' "$MNT/events")" 1
roles "app, plain"
settle s 30
expect "states after it was taken back" "$(states "$MNT/nodes/m1/roles/*/state")" "3 active"
expect "what ran" "$(log_)" ""

# What is in force by then has another script; what ran here last is taken away by its own.
printf '#!/bin/sh\necho "app down 2" >>/root/log\n' | document roles/app/remove
eventually 5 "the new content in the plan" grep -q 'run *app on m1 *content roles/app' "$MNT/deployments/s/plan"
roles plain
rm -r "$REPO/roles/app"
eventually 5 "the plan" grep -q 'drop app' "$MNT/deployments/s/plan"
id=$(plan_id s)
! echo "apply 00000000" >"$MNT/deployments/s/ctl" 2>/dev/null || fail "another id was taken"
echo "apply $id" >"$MNT/deployments/s/ctl" || fail "apply $id: $(cat "$MNT/deployments/s/refused")"
settle s 60
expect "what ran" "$(log_)" "app down 1,base down level=4"
expect "roles of the node" "$(list "$MNT/nodes/m1/roles")" plain
expect_match "events" "$(cat "$MNT/deployments/s/events")" "s/m1/app: removed after"

# One that fails asks; 'retry' runs it again, 'accept' lets it be.
role bad '' 'echo "bad down" >>/root/log; test -e /root/good'
role worse '' 'exit 4'
roles "bad, plain, worse"
apply s
settle s 60
roles plain
eventually 5 "the plan" grep -q 'drop bad' "$MNT/deployments/s/plan"
echo "apply $(plan_id s)" >"$MNT/deployments/s/ctl"
settle_badly s 30
expect "the deployment" "$(cat "$MNT/deployments/s/state")" error
expect_match "why of worse" "$(cat "$MNT/nodes/m1/roles/worse/why")" "^error: its remove script failed: exit 4.*'retry' runs it again, 'accept' forgets the role"
expect_match "the deployment's error" "$(cat "$MNT/deployments/s/error")" "nodes/m1/roles/bad: its remove script failed"
stop
start
expect "after a restart" "$(cat "$MNT/nodes/m1/roles/worse/state")" error
echo accept >"$MNT/nodes/m1/roles/worse/ctl" || fail "cannot accept"
on 11 touch /root/good
echo retry >"$MNT/nodes/m1/roles/bad/ctl" || fail "cannot retry"
settle s 30
expect "roles of the node" "$(list "$MNT/nodes/m1/roles")" plain
expect "what ran" "$(log_ | grep -o 'bad down' | wc -l)" 2

# Killed in the middle: found again, and not begun a second time.
role slow '' 'echo "slow down" >>/root/log; sleep 4'
roles "plain, slow"
apply s
settle s 60
log_ >/dev/null
roles plain
eventually 5 "the plan" grep -q 'drop slow' "$MNT/deployments/s/plan"
echo "apply $(plan_id s)" >"$MNT/deployments/s/ctl"
eventually 10 "the script" sh -c 'grep -q running "$1"' - "$MNT/nodes/m1/roles/slow/state"
eventually 10 "what it says" on 11 grep -q slow /root/log
kill_hard
fusermount3 -uz "$MNT"
start
settle s 60
expect "roles of the node" "$(list "$MNT/nodes/m1/roles")" plain
expect "what ran" "$(log_)" "slow down"

# A machine that is let go: all of them, the last one first; one that fails and one that never ends do not keep it.
role first '' 'echo "first down" >>/root/log'
role second 'requires = first\n' 'echo "second down" >>/root/log; exit 1'
role third 'requires = second\ntimeout = 2s\n' 'echo "third down" >>/root/log; sleep 1000'
roles "third, plain"
apply s
settle s 60
log_ >/dev/null
destroy s 60
expect "what ran" "$(log_)" "third down,second down,first down"
expect_match "events" "$(cat "$MNT/deployments/s/events")" "s/m1/second: its remove script failed: exit 1.*; the machine goes all the same"

# Several at once: the order is that of all together, and no machine goes while another's script may have to talk to it.
rm -r "$REPO/deployments/s"
printf '[node]\nprovider = machines\naddress = 10.77.0.12\n' | document nodes/m2/node.ini
role server '' 'sleep 0.1'
role client 'after = server\n' 'sleep 2'
printf '[deployment]\nprovider = machines\napply = auto\n[nodes a]\nnodes = m1\nroles = server\n[nodes b]\nnodes = m2\nroles = client, plain\n' |
	document deployments/t/deployment.ini
eventually 10 "the deployment" test -e "$MNT/deployments/t/wait"
settle t 60
echo destroy >"$MNT/deployments/t/ctl"
eventually 10 "the client's script" grep -q running "$MNT/nodes/m2/roles/client/state"
expect_match "why of the server's machine" "$(cat "$MNT/nodes/m1/why")" 'no longer wanted: its machine goes when the others have run the remove scripts that come first$'
settle t 60
order=$(sed -n 's/^.* t\/\(m[12]\/[a-z]*\): removed after .*/\1/p; s/^.* t\/\(m[12]\): released$/\1 released/p' "$MNT/events" | paste -sd ,)
expect_match "what happened in this order" "$order" '^m2/client,m1/server,(m1 released,m2 released|m2 released,m1 released)$|^m2/client,m2 released,m1/server,m1 released$'
stop
