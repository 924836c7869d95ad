#!/bin/bash
# limit: 240
# What a role's runner needs on the node is put there by a role of its own: once, before all that need it, to be seen as what it is.
. "$(dirname "$0")/lib.sh"
needs root fuse ssh-keygen unshare jq
ROOT_TREE_PROGRAMS=(puppet python3 pgrep busybox)
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed parity puppet-agent busybox
in_own_network
setup
net_up
tree=$(root_tree "${ROOT_TREE_PROGRAMS[@]}") || exit 1
machine m 11 "$tree"
apt_get() { # COMMAND: what apt-get on the node does
	printf '#!/bin/sh\n%s\n' "$1" | on 11 'cat >/usr/local/sbin/apt-get; chmod +x /usr/local/sbin/apt-get'
}
apt_get 'echo "no such package"; exit 100'
on 11 'mv /usr/bin/puppet /root/puppet' || fail "cannot take puppet away"
for role in one two; do
	printf '[role]\nrunner = puppet\nretries = 0\n' | document "roles/$role/role.ini"
	printf 'class %s {\n  file { "/srv/%s": content => "%s" }\n}\n' $role $role $role | document "roles/$role/manifests/init.pp"
done
printf '[provider]\ntype = ssh\n[ssh]\nuser = root\nkey = %s\n' "$T/id" | document providers/p/provider.ini
printf '[node]\nprovider = p\naddress = 10.77.0.11\n' | document nodes/m/node.ini
deployment() { printf '[deployment]\nprovider = p\nroles = %s\n[nodes n]\nnodes = m\n' "$1" | document deployments/d/deployment.ini; }
deployment one
expect "mistakes" "$("$REBARFS" --check "$REPO" 2>&1)" ""
start
expect_match "the plan" "$(cat "$MNT/deployments/d/plan")" 'run +runner-puppet on m'
sed -i 's/^type = ssh/&\napply = auto/' "$REPO/providers/p/provider.ini"
ROLES=$MNT/nodes/m/roles
retry() { echo retry >"$ROLES/$1/ctl" || fail "cannot retry $1: $(cat "$ROLES/$1/refused")"; }

# No package source has it: one sentence says so.
settle_badly d 60
expect_match "why" "$(cat "$ROLES/runner-puppet/why")" '^error: puppet is not on this node, and apt-get cannot install puppet-agent'
expect_match "why of what needs it" "$(cat "$ROLES/one/why")" '^blocked: runner-puppet on m failed: puppet is not on this node'
expect_match "the matrix" "$(cat "$MNT/deployments/d/matrix")" 'runner-puppet'

# Now it does.
apt_get 'mv /root/puppet /usr/bin/puppet'
retry runner-puppet
settle d 60
expect "what became of it" "$(jq -c '[.runner, .changed]' "$ROLES/runner-puppet/runs/$(ls "$ROLES/runner-puppet/runs" | sort -n | tail -n 1)/report.json")" '["install",1]'
expect "the role" "$(on 11 cat /srv/one)" one

# Once per node, whoever else needs it.
before=$(runs "$ROLES/runner-puppet")
deployment one,two
settle d 60
expect "the second role" "$(on 11 cat /srv/two)" two
expect "runs of runner-puppet" "$(runs "$ROLES/runner-puppet")" "$before"
echo check >"$MNT/deployments/d/ctl" || fail "cannot check"
settle d 60
expect "drift where the tool is there" "$(cat "$ROLES/runner-puppet/drift")" ""

# From a directory here. The program in it is none, but it is there.
printf '[role]\nrunner = salt\nretries = 0\n' | document roles/three/role.ini
printf 'nothing:\n  test.nop\n' | document roles/three/init.sls
deployment one,three
settle_badly d 60
expect_match "why" "$(cat "$ROLES/runner-salt/why")" "^error: salt is not on this node, and no role says 'salt-source = DIRECTORY'"
# A directory that is no tool is not copied anywhere, whoever names it.
mkdir "$T/private"
echo "for nobody" >"$T/private/file"
printf 'salt-source = %s\n' "$T/private" >>"$REPO/roles/three/role.ini"
eventually 40 "what is wrong with it" grep -q "there is no program salt-call in '$T/private'" "$ROLES/runner-salt/why"
expect "what was copied" "$(on 11 'grep -rls "for nobody" /var/lib/rebar /root')" ""
sed -i '/^salt-source/d' "$REPO/roles/three/role.ini"
mkdir "$T/thin"
printf '#!/bin/sh\necho salt-call 1\n' >"$T/thin/salt-call"
chmod +x "$T/thin/salt-call"
printf 'salt-source = %s\n' "$T/thin" >>"$REPO/roles/three/role.ini"
salt_is_there() { [ "$(cat "$ROLES/runner-salt/state")" = active ]; }
eventually 40 "salt is there" salt_is_there
expect "what was copied" "$(on 11 /var/lib/rebar/tools/salt/salt-call)" "salt-call 1"
settle_badly d 60
expect_match "why" "$(cat "$ROLES/three/why")" '^error: salt ended well, but wrote no report'

# Who brings the tool himself needs nobody to do it.
printf '[role]\nrunner = none\nprovides = runner-puppet\n' | document roles/mine/role.ini
sed -i 's/^runner = puppet$/&\nrequires = mine/' "$REPO"/roles/one/role.ini "$REPO"/roles/two/role.ini
deployment one,two
settle d 60
expect "roles" "$(list "$ROLES")" "mine one two"
stop
