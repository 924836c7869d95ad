#!/bin/bash
# limit: 240
# A formula on a node: what changed, drift, a step that fails, what Salt ends well with although it failed, and where the secret is.
# Salt is no package of Debian's: REBARFS_TEST_SALT names a directory with salt-call and all that it imports, e.g. an unpacked thin tree.
. "$(dirname "$0")/lib.sh"
needs root fuse ssh-keygen unshare jq
[ -n "${REBARFS_TEST_SALT:-}" ] || skip "THE SALT RUNNER IS NOT TESTED: REBARFS_TEST_SALT names no directory with salt-call"
[ -x "$REBARFS_TEST_SALT/salt-call" ] || fail "there is no program '$REBARFS_TEST_SALT/salt-call'"
ROOT_TREE_PROGRAMS=(python3 pgrep busybox)
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed parity puppet-agent busybox
in_own_network
setup
net_up
tree=$(root_tree "${ROOT_TREE_PROGRAMS[@]}") || exit 1
VALUE=Ab-7-tiger-lily
mkdir -m 700 "$T/secrets"
(umask 077 && echo "$VALUE" >"$T/secrets/hello")
mkdir "$REPO/roles"
machine m 11 "$tree"
cp -rL "$REBARFS_TEST_SALT" "$T/salt" && tar c -C "$T" salt | on 11 tar x --no-same-owner -C /opt || fail "cannot copy Salt to the node"
cp -r "$TOP/contrib/examples/parity/roles/hello-salt" "$REPO/roles/"
sed -i 's|^runner = .*|&\nsalt-call = /opt/salt/salt-call|' "$REPO/roles/hello-salt/role.ini"
document providers/p/provider.ini <<-EOF
	[provider]
	type = ssh
	apply = auto
	[ssh]
	user = root
	key = $T/id
EOF
printf '[node]\nprovider = p\naddress = 10.77.0.11\n' | document nodes/m/node.ini
printf '[deployment]\nprovider = p\nroles = hello-salt\n[nodes one]\nnodes = m\n[params hello-salt]\npassword = secret:hello\n' | document deployments/d/deployment.ini
ROLE=$MNT/nodes/m/roles/hello-salt
report() { timeout 5 cat "$ROLE/runs/$(ls "$ROLE/runs" | sort -n | tail -n 1)/report.json"; }

start "secrets=$T/secrets"
settle d 90
page() { expect "the page" "$(on 11 cat /srv/hello/index.html)" "$1 from m"; }
page hello
expect "the secret" "$(on 11 cat /etc/hello.secret)" "$VALUE"
expect "the service" "$(on 11 pgrep -xc busybox)" 1
expect "the output" "$(cat "$ROLE/outputs/url")" "http://m:8088/"
expect "the report" "$(report | jq -r '.runner, .failed, (.changed > 0)' | paste -sd ' ')" "salt 0 true"
expect "where a resource is" "$(report | jq -c '.resources[] | select(.name | test("pkg")) | [.status, .file, .line]')" '["unchanged","init.sls",5]'

# By hand: a check shows it as a diff, and a run repairs it.
on 11 'echo by hand >/srv/hello/index.html'
echo check >"$MNT/deployments/d/ctl" || fail "cannot check"
settle d 60
expect_match "drift" "$(cat "$ROLE/drift")" '^-.*by hand'
expect "a check changes nothing" "$(on 11 cat /srv/hello/index.html)" "by hand"
echo run >"$ROLE/ctl" || fail "cannot run"
settle d 60
page hello

# What succeeds is told apart from what only ends well.
fails() { # CHANGE-OF-init.sls WHY
	cp "$TOP/contrib/examples/parity/roles/hello-salt/init.sls" "$T/init.sls"
	eval "$1" <"$T/init.sls" >"$T/changed.sls" && cat "$T/changed.sls" >"$REPO/roles/hello-salt/init.sls"
	eventually 20 "the change is seen" still_to_do
	settle_badly d 60
	expect_match "why" "$(cat "$ROLE/why")" "$2"
}
still_to_do() { [ "$(cat "$MNT/deployments/d/state")" != active ]; }
fails "sed 's/{% if hello.broken %}/{% if true %}/'" 'cmd.run a step that fails \(init.sls:[0-9]+\): '
fails "sed 's/{% if hello.broken %}/{% if %}/'" 'salt failed: .*Rendering SLS'
fails "sed 's|name: busybox httpd.*|name: kill -TERM \$PPID; sleep 5|; s/unless: .*/unless: \"false\"/'" 'salt .*'

# The secret is in its file, and nowhere else.
echo "$VALUE" >"$T/pattern"
found=$(timeout 20 grep -rlaF --exclude=hello.secret --exclude=hello --exclude=alive -f "$T/pattern" "$STATE" "$T/machines" "$T/daemon.log" 2>/dev/null)
expect "where else the secret is" "$found" ""
stop
