#!/bin/bash
# limit: 240
# A cookbook on a node: what changed, drift, a step that fails, what ends well although it failed, and where the secret is.
# Chef is no package of Debian's: REBARFS_TEST_CHEF names a directory with a program chef-client and all that it needs but Ruby.
. "$(dirname "$0")/lib.sh"
needs root fuse ssh-keygen unshare jq
[ -n "${REBARFS_TEST_CHEF:-}" ] || skip "THE CHEF RUNNER IS NOT TESTED: REBARFS_TEST_CHEF names no directory with chef-client"
[ -x "$REBARFS_TEST_CHEF/chef-client" ] || fail "there is no program '$REBARFS_TEST_CHEF/chef-client'"
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
cp -rL "$REBARFS_TEST_CHEF" "$T/chef" && tar c -C "$T" chef | on 11 tar x --no-same-owner -C /opt || fail "cannot copy Chef to the node"
cp -r "$TOP/contrib/examples/parity/roles/hello-chef" "$REPO/roles/"
sed -i 's|^runner = .*|&\nchef-client = /opt/chef/chef-client\nchef-license = accept-no-persist|' "$REPO/roles/hello-chef/role.ini"
document providers/p/provider.ini <<-EOF
	[provider]
	type = ssh
	apply = auto
	[ssh]
	user = root
	key = $T/id
EOF
printf '[node]\nprovider = p\naddress = 10.77.0.11\n' | document nodes/m/node.ini
printf '[deployment]\nprovider = p\nroles = hello-chef\n[nodes one]\nnodes = m\n[params hello-chef]\npassword = secret:hello\n' | document deployments/d/deployment.ini
ROLE=$MNT/nodes/m/roles/hello-chef
report() { timeout 5 cat "$ROLE/runs/$(ls "$ROLE/runs" | sort -n | tail -n 1)/report.json"; }

start "secrets=$T/secrets"
settle d 90
page() { expect "the page" "$(on 11 cat /srv/hello/index.html)" "$1 from m"; }
page hello
expect "the secret" "$(on 11 cat /etc/hello.secret)" "$VALUE"
expect "the service" "$(on 11 pgrep -xc busybox)" 1
expect "the output" "$(cat "$ROLE/outputs/url")" "http://m:8088/"
expect "the report" "$(report | jq -r '.runner, .failed, (.changed > 0)' | paste -sd ' ')" "chef 0 true"
expect "where a resource is" "$(report | jq -c '.resources[] | select(.name | test("package")) | [.status, .file, .line]')" '["unchanged","recipes/default.rb",4]'

# By hand: a check shows it as a diff, and a run repairs it.
on 11 'echo by hand >/srv/hello/index.html'
echo check >"$MNT/deployments/d/ctl" || fail "cannot check"
settle d 60
expect_match "drift" "$(cat "$ROLE/drift")" '^ *-by hand'
expect "a check changes nothing" "$(on 11 cat /srv/hello/index.html)" "by hand"
echo run >"$ROLE/ctl" || fail "cannot run"
settle d 60
page hello

# What succeeds is told apart from what only ends well.
fails() { # CHANGE WHY
	local recipe=roles/hello-chef/recipes/default.rb
	sed "$1" "$TOP/contrib/examples/parity/$recipe" >"$T/changed.rb" && cat "$T/changed.rb" >"$REPO/$recipe"
	eventually 20 "the change is seen" still_to_do
	settle_badly d 60
	expect_match "why" "$(cat "$ROLE/why")" "$2"
}
still_to_do() { [ "$(cat "$MNT/deployments/d/state")" != active ]; }
fails "s/only_if .*//" 'execute\[a step that fails\] run \(recipes/default.rb:19\): '
fails "s/^hello = .*/hello = (/" 'chef failed: '
fails "s|execute 'busybox httpd.*|execute 'kill -KILL \$PPID; sleep 3' do|; s/not_if .*//" '.'

# The secret is in its file, and nowhere else.
echo "$VALUE" >"$T/pattern"
found=$(timeout 20 grep -rlaF --exclude=hello.secret --exclude=hello --exclude=alive -f "$T/pattern" "$STATE" "$T/machines" "$T/daemon.log" 2>/dev/null)
expect "where else the secret is" "$found" ""
stop
