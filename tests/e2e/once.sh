#!/bin/bash
# Roles that run once only leave a mark on the machine: whoever takes it over, or an old copy of the database, finds it and asks instead of doing it again.
. "$(dirname "$0")/lib.sh"
needs root fuse ssh-keygen unshare ansible-playbook
ROOT_TREE_PROGRAMS=(python3)
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed plain
in_own_network
setup
net_up
tree=$(root_tree "${ROOT_TREE_PROGRAMS[@]}") || exit 1
machine m1 11 "$tree"
ssh_repo m1=10.77.0.11
printf '[role]\nrunner = script\nonce = yes\n' | document roles/slow/role.ini
printf '#!/bin/sh\necho wiped >>/root/ran\n' | document roles/slow/apply
printf '[role]\nrunner = ansible\nonce = yes\ngather-facts = no\n' | document roles/play/role.ini
printf -- '- name: Wipe\n  ansible.builtin.shell: echo played >>/root/ran\n' | document roles/play/tasks/main.yml
sed -i 's/^roles = slow/roles = slow, play/' "$REPO/deployments/s/deployment.ini"
start
stop
cp -a "$STATE" "$T/copy" # before it knew of any run
start
apply s
settle s 90
ran() {
	on 11 'sort /root/ran | uniq -c | sed "s/^ *//"' | paste -sd ' ' -
}
expect "what was done" "$(ran)" "1 played 1 wiped"
expect "marks" "$(on 11 ls /var/lib/rebar/once)" "play
slow"
stop

# Another state directory, with documents of its own.
STATE=$T/other
start
apply s
settle_badly s 60
echo adopt >"$MNT/nodes/m1/ctl"
settle_badly s 90
for role in slow play; do
	expect "state of $role" "$(cat "$MNT/nodes/m1/roles/$role/state")" error
	expect_match "why of $role" "$(cat "$MNT/nodes/m1/roles/$role/why")" \
		"^error: outcome unknown: it began on 'm1' before: run [0-9]+ of another rebarfs \('[0-9a-f]+'\) left its mark there; .* write 'accept' or 'run' to ctl$"
	! echo retry >"$MNT/nodes/m1/roles/$role/ctl" 2>/dev/null || fail "retry should be refused"
done
expect "what was done" "$(ran)" "1 played 1 wiped"
echo accept >"$MNT/nodes/m1/roles/slow/ctl" || fail "cannot accept"
echo run >"$MNT/nodes/m1/roles/play/ctl" || fail "cannot run"
settle s 60
expect "what was done" "$(ran)" "2 played 1 wiped"
stop

# The copy is older than what it did: it would give the same numbers again.
STATE=$T/copy
start
apply s
settle_badly s 60
echo adopt >"$MNT/nodes/m1/ctl"
settle_badly s 90
expect "states" "$(states "$MNT/nodes/m1/roles/*/state")" "2 error"
expect_match "why" "$(cat "$MNT/nodes/m1/roles/slow/why")" "run [0-9]+ left its mark there, and this database does not know of it \(is it an old copy\?\); "
expect "what was done" "$(ran)" "2 played 1 wiped"
stop
