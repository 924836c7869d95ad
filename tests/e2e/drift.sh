#!/bin/bash
# limit: 180
# Drift: what somebody changes on a machine by hand is found by a check, told in the tool's own words, and repaired where that was asked for - by the
# same files for a script and for Ansible.
. "$(dirname "$0")/lib.sh"
needs root fuse jq ssh-keygen unshare ansible-playbook
ROOT_TREE_PROGRAMS=(nginx haproxy python3)
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed web nginx-light haproxy
in_own_network
setup
net_up
tree=$(root_tree "${ROOT_TREE_PROGRAMS[@]}") || exit 1
machine m1 11 "$tree"
machine m2 12 "$tree"
machine m3 13 "$tree"

printf '[provider]\ntype = ssh\napply = auto\n[ssh]\nkey = %s\n' "$T/id" | document providers/machines/provider.ini
for n in 1 2 3; do printf '[node]\nprovider = machines\naddress = 10.77.0.1%s\n' $n | document nodes/m$n/node.ini; done
printf '[role]\nrunner = script\n[param word]\ntype = string\ndefault = one\n' | document roles/motd/role.ini
printf '#!/bin/sh\necho "$REBAR_PARAM_WORD" >/etc/motd\necho ran >>/root/ran\n' | document roles/motd/apply
printf '#!/bin/sh\necho "$REBAR_PARAM_WORD" | diff -u /etc/motd -\n' | document roles/motd/check
printf '[role]\nrunner = ansible\nrepair = yes\ngather-facts = no\n' | document roles/issue/role.ini
printf -- '- name: the greeting\n  ansible.builtin.copy: {content: "hello\\n", dest: /etc/issue}\n' | document roles/issue/tasks/main.yml
printf '[role]\nrunner = script\n' | document roles/plain/role.ini
printf '#!/bin/sh\n:\n' | document roles/plain/apply
chmod +x "$REPO"/roles/motd/* "$REPO"/roles/plain/apply
printf '[deployment]\nprovider = machines\nroles = motd, issue, plain\n[nodes all]\nnodes = m1, m2\n' | document deployments/s/deployment.ini
start
settle s 90

checked() {
	echo check >"$MNT/deployments/s/ctl" || fail "cannot check: $(cat "$MNT/deployments/s/refused")"
	settle s "${1:-60}"
}
R=$MNT/nodes/m1/roles
checked
expect "drift where nothing was touched" "$(cat "$MNT"/nodes/m*/roles/*/drift)" ""
expect_match "why of what was checked" "$(cat "$R/motd/why")" '^active: run [0-9]+ took .*; checked .* ago: as it was left$'
expect_match "why of what has no check" "$(cat "$R/plain/why")" "could not be checked: role plain has no executable 'check'"
expect "runs" "$(runs "$MNT/nodes/*/roles/*")" 6

# By hand, on one machine.
on 11 'echo two >/etc/motd; echo bye >/etc/issue'
before=$(cat "$R/motd/digest")
checked
expect_match "the script's own diff" "$(cat "$R/motd/drift")" '^-two$'
expect_match "the script's own diff" "$(cat "$R/motd/drift")" '^\+one$'
expect "state of what drifted and is not to be repaired" "$(cat "$R/motd/state")" active
expect "digest" "$(cat "$R/motd/digest")" "$before"
expect_match "why" "$(cat "$R/motd/why")" 'drifted, see drift$'
expect "size of drift" "$(stat -c %s "$R/motd/drift")" "$(wc -c <"$R/motd/drift")"
expect_match "status" "$(cat "$MNT/deployments/s/status")" '^1 node role drifted:$'
expect_match "status" "$(cat "$MNT/deployments/s/status")" '^  nodes/m1/roles/motd: '
expect_match "event" "$(cat "$MNT/deployments/s/events")" 's/m1/motd: drifted: '
expect "the other machine" "$(cat "$MNT/nodes/m2/roles/motd/drift")" ""
expect "a script that was only checked changed nothing" "$(on 11 cat /etc/motd) $(on 11 'grep -c ran /root/ran')" "two 1"
expect_match "ansible's drift" "$(cat "$MNT/deployments/s/events")" "s/m1/issue: drifted: task 'issue : the greeting' would change something"
expect "what is to be repaired is" "$(on 11 cat /etc/issue)" hello
expect "ansible ran again only where it had to" "$(runs "$MNT/nodes/m1/roles/issue") $(runs "$MNT/nodes/m2/roles/issue")" "2 1"

# A check asks what is there, too: a package that somebody installed by hand is a fact, and a gap between two stages.
printf '[deployment]\nlike = s\n[nodes all]\nnodes = m3\n' | document deployments/t/deployment.ini
eventually 10 "the second stage" test -e "$MNT/deployments/t/wait"
settle t 60
expect_no_match "no package makes them differ" "$(cat "$MNT/deployments/t/fidelity/s")" "all packages"
expect "packages are a fact" "$(jq -r '.packages | has("libc6") and has("dash")' "$MNT/nodes/m3/facts.json")" true
on 13 'printf "\nPackage: handmade\nStatus: install ok installed\nMaintainer: x\nArchitecture: all\nVersion: 1.2-3\nDescription: x\n" >>/var/lib/dpkg/status'
echo check >"$MNT/nodes/m3/ctl"
settle t 60
eventually 10 "a package that came" sh -c 'jq -e ".packages.handmade == \"1.2-3\"" "$1" >/dev/null' - "$MNT/nodes/m3/facts.json"
expect_match "the gap" "$(cat "$MNT/deployments/t/fidelity/s")" '^  all packages +handmade 1.2-3 here, no handmade in s$'
# And so is what a run installed, without a check.
on 13 'sed -i "s/^Version: 1.2-3$/Version: 1.2-4/" /var/lib/dpkg/status'
echo run >"$MNT/nodes/m3/roles/plain/ctl"
settle t 60
eventually 10 "a package of another version" sh -c 'jq -e ".packages.handmade == \"1.2-4\"" "$1" >/dev/null' - "$MNT/nodes/m3/facts.json"
rm -r "$REPO/deployments/t"

# It is remembered, and gone after a run.
kill_hard
start
settle s 60
expect_match "drift after a restart" "$(cat "$R/motd/drift")" '^-two$'
echo run >"$R/motd/ctl"
settle s 60
expect "drift after a run" "$(cat "$R/motd/drift")" ""
expect "the machine" "$(on 11 cat /etc/motd)" one

# By itself, now and then; a check that fails says so and is no drift.
printf '#!/bin/sh\n[ ! -e /root/broken ] || { echo "no disk" >&2; exit 3; }\necho "$REBAR_PARAM_WORD" | diff -u /etc/motd -\n' >"$REPO/roles/motd/check"
sed -i 's/^runner = script/&\ncheck-every = 10s\nrepair = yes/' "$REPO/roles/motd/role.ini"
settle s 60
on 12 'echo three >/etc/motd'
eventually 40 "the periodic check repairs" sh -c 'grep -q "s/m2/motd: drifted" "$1"' - "$MNT/events"
settle s 60
expect "the machine that was repaired" "$(on 12 cat /etc/motd)" one
on 12 'touch /root/broken'
eventually 40 "a check that fails" grep -q "could not be checked: exit 3: no disk" "$MNT/nodes/m2/roles/motd/why"
expect "state then" "$(cat "$MNT/nodes/m2/roles/motd/state")" active

# A run does not wait for a check that began by itself.
on 12 'rm /root/broken'
printf '#!/bin/sh\ntouch /root/checking\nexec sleep 170\n' >"$REPO/roles/motd/check"
eventually 40 "a check under way" on 11 'test -e /root/checking'
printf '[params motd]\nword = four\n' >>"$REPO/deployments/s/deployment.ini"
settle s 60
expect "what a run made though a check was under way" "$(on 11 cat /etc/motd) $(on 12 cat /etc/motd)" "four four"
expect_match "the check" "$(cat "$MNT/events")" 's/m1/motd: check ended: a run comes first'

# Nor for one of many nodes together; the others are checked anew and nothing is said of them.
printf '#!/bin/sh\n:\n' >"$REPO/roles/motd/check"
printf -- '- name: slowly\n  ansible.builtin.command: sleep 170\n  when: ansible_check_mode\n  check_mode: no\n  changed_when: no\n' >>"$REPO/roles/issue/tasks/main.yml"
sed -i 's/^runner = ansible/&\ncheck-every = 10s/' "$REPO/roles/issue/role.ini"
settle s 60
for m in m1 m2; do eventually 40 "a check of $m" grep -q 'being checked' "$MNT/nodes/$m/roles/issue/why"; done
echo run >"$MNT/nodes/m1/roles/plain/ctl"
settle s 60
sleep 1
expect "checks that are said to have failed" "$(grep 'issue: could not be checked' "$MNT/events")" ""
sed -i '/^- name: slowly/,$d' "$REPO/roles/issue/tasks/main.yml"
sed -i '/^check-every/d' "$REPO/roles/issue/role.ini"
settle s 60

# Nor do runs without end keep a check away.
printf '#!/bin/sh\ntouch /root/checked\n' >"$REPO/roles/motd/check"
sed -i 's/^apply = auto/&\nmax-parallel = 1/' "$REPO/providers/machines/provider.ini"
printf '#!/bin/sh\nsleep 2\n' >"$REPO/roles/plain/apply"
printf '[deployment]\nlike = s\n[nodes all]\nnodes = m3\n' | document deployments/t/deployment.ini
eventually 10 "the second stage" test -e "$MNT/deployments/t/wait"
settle t 60
settle s 60
on 13 'rm -f /root/checked'
busy() { while [ -e "$T/busy" ]; do for m in m1 m2; do echo run >"$MNT/nodes/$m/roles/plain/ctl"; done 2>/dev/null; sleep 0.2; done; }
touch "$T/busy"
busy &
eventually 60 "a check among runs without end" on 13 'test -e /root/checked'
rm "$T/busy"
settle s 60

sed -i 's/^runner = script/&\ncheck-every = 10s/' "$REPO/roles/plain/role.ini"
expect_match "a beat without a check" "$(cat "$MNT/problems")" "roles/plain/role.ini:2:.*'check-every' needs an executable 'check'"
stop
expect "leftovers of checks on a machine" "$(on 11 'ls /var/lib/rebar/runs/*/ | wc -l') runs at most 20" "$(on 11 'n=$(ls /var/lib/rebar/runs/*/ | wc -l); echo $((n > 20 ? 20 : n))') runs at most 20"
