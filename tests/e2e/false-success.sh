#!/bin/bash
# limit: 300
# What ends well although it failed, and what fails although its tool says that all is well: only what every resource came to counts.
. "$(dirname "$0")/lib.sh"
needs root fuse ssh-keygen unshare ansible-playbook jq
ROOT_TREE_PROGRAMS=(puppet python3 pgrep busybox)
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed parity puppet-agent busybox
in_own_network
setup
net_up
tree=$(root_tree "${ROOT_TREE_PROGRAMS[@]}") || exit 1
machine m 11 "$tree"
machine n 12 "$tree"
PUPPET=() ANSIBLE=()
# puppet NAME: its class is standard input
puppet() {
	PUPPET+=("p-$1")
	printf '[role]\nrunner = puppet\nretries = 0\n' | document "roles/p-$1/role.ini"
	{ echo "class p_$1 {" && cat && echo "}"; } | document "roles/p-$1/manifests/init.pp"
}
# ansible NAME FILE: standard input is this file of the role
ansible() {
	ANSIBLE+=("a-$1")
	printf '[role]\nrunner = ansible\nretries = 0\ngather-facts = no\n' | document "roles/a-$1/role.ini"
	document "roles/a-$1/$2"
}

puppet exec <<'END'
exec { '/bin/false': }
-> file { '/srv/never': content => 'x' }
END
puppet restart <<'END'
file { '/srv/restart': content => 'x' }
~> exec { 'restart it': command => '/bin/false', refreshonly => true }
END
puppet syntax <<'END'
include p_syntax::other
END
document roles/p-syntax/manifests/other.pp <<<'class p_syntax::other { file {'
puppet fail <<'END'
fail('not here')
END
puppet killed <<'END'
exec { 'kill it': command => 'kill -TERM $PPID; sleep 1', provider => shell, path => '/bin:/usr/bin' }
END
puppet noop <<'END'
file { '/srv/noop': content => 'x', noop => true }
END
puppet empty </dev/null

ansible ignored tasks/main.yml <<'END'
- name: try
  command: /bin/false
  ignore_errors: yes
- name: rescue
  block:
    - command: /bin/false
  rescue:
    - command: /bin/true
END
ansible unreachable tasks/main.yml <<'END'
- name: far away
  ping:
  vars: {ansible_port: 1}
END
ansible handler tasks/main.yml <<'END'
- name: change
  command: /bin/true
  notify: restart it
END
document roles/a-handler/handlers/main.yml <<'END'
- name: restart it
  command: /bin/false
END
ansible nobody playbook.yml <<'END'
- hosts: nowhere
  tasks: [{ping: }]
END
ansible syntax tasks/main.yml <<'END'
- name: no such module
  nosuchmodule:
END
# Nothing that lies elsewhere is taken for something that is not there.
ansible elsewhere tasks/main.yml <<'END'
- import_role: {name: shared}
- import_role: {name: ours.tools.hello}
END
sed -i "s|^runner = .*|&\nroles-path = vendor, $T/shared\ncollections-path = $T/collections|" "$REPO/roles/a-elsewhere/role.ini"
mkdir -p "$T/shared/shared/tasks" "$T/collections/ansible_collections/ours/tools/roles/hello/tasks"
echo '- import_role: {name: vendored}' >"$T/shared/shared/tasks/main.yml"
echo '- copy: {dest: /srv/vendored, content: here}' | document roles/a-elsewhere/vendor/vendored/tasks/main.yml
echo '- copy: {dest: /srv/collection, content: here}' >"$T/collections/ansible_collections/ours/tools/roles/hello/tasks/main.yml"
ansible empty tasks/main.yml <<'END'
[]
END

printf '[provider]\ntype = ssh\napply = auto\n[ssh]\nuser = root\nkey = %s\n' "$T/id" | document providers/p/provider.ini
for i in m:11 n:12; do printf '[node]\nprovider = p\naddress = 10.77.0.%s\n' "${i#*:}" | document "nodes/${i%:*}/node.ini"; done
document deployments/d/deployment.ini <<END
[deployment]
provider = p
[nodes puppet]
nodes = m
roles = $(echo "${PUPPET[*]}" | sed 's/ /, /g')
[nodes ansible]
nodes = n
roles = $(echo "${ANSIBLE[*]}" | sed 's/ /, /g')
END
expect "mistakes" "$("$REBARFS" --check "$REPO" 2>&1)" ""
start
settle_badly d 150

# is NODE ROLE REGEX [COUNTS]: why, and how many resources changed, did not, failed, were skipped
is() {
	local role=$MNT/nodes/$1/roles/$2
	expect_match "why of $2" "$(cat "$role/why")" "$3"
	[ -z "${4:-}" ] || expect "what became of $2" "$(jq -c '[.changed, .unchanged, .failed, .skipped]' "$role/runs/$(ls "$role/runs")/report.json")" "$4"
}
is m p-exec '^error: Exec\[/bin/false\] \(manifests/init.pp:2\): .*returned 1' '[0,0,1,1]'
is m p-restart '^error: Exec\[restart it\] \(manifests/init.pp:3\): Failed to call refresh' '[1,0,1,0]'
is m p-syntax '^error: exit 1: Error: Syntax error .*\(file: manifests/other.pp'
is m p-fail '^error: exit 1: .*not here \(file: manifests/init.pp, line: 2'
is m p-killed '^error: .*SIGTERM'
is m p-noop '^active' '[0,0,0,1]'
is m p-empty '^active' '[0,0,0,0]'
is n a-ignored '^active'
is n a-unreachable "^error: unreachable at 'a-unreachable : far away'"
is n a-handler "^error: failed at 'a-handler : restart it'"
is n a-nobody "^error: 'playbook.yml' runs nothing on 'n'"
is n a-syntax "^error: ansible-playbook: ERROR! .*nosuchmodule.*\(in 'tasks/main.yml': line 1"
is n a-empty '^active'
is n a-elsewhere '^active'
expect "what roles elsewhere wrote" "$(on 12 cat /srv/vendored /srv/collection)" herehere

# What would change is no success of a dry run, and it changes nothing.
printf 'class p_empty {\n  file { "/srv/p-empty": content => "1" }\n}\n' | document roles/p-empty/manifests/init.pp
drained() { timeout 5 cat "$MNT/deployments/d/plan" >/dev/null; [ "$(cat "$MNT/nodes/m/roles/p-empty/state")" = active ] && [ "$(on 11 cat /srv/p-empty)" = 1 ]; }
eventually 30 "the file is written" drained
on 11 'echo 2 >/srv/p-empty'
echo check >"$MNT/nodes/m/roles/p-empty/ctl" || fail "cannot check"
settle_badly d 60
expect_match "drift" "$(cat "$MNT/nodes/m/roles/p-empty/drift")" '^-2'
expect "what a dry run leaves alone" "$(on 11 cat /srv/p-empty)" 2
stop
