#!/bin/bash
# Sourced by tests of runners whose tool no package of Debian's brings: a program that a directory named by the environment holds is put on one node,
# where it applies the role hello-TOOL of contrib/examples/parity.

# hello TOOL PROGRAM KEY [LINE]: KEY of role.ini names where the tool is copied from. Runs it once, and looks at what everybody's hello comes to.
hello() {
	local tool=$1 program=$2 variable=REBARFS_TEST_${1^^} tree
	local from=${!variable:-}
	[ -n "$from" ] || skip "THE ${tool^^} RUNNER IS NOT TESTED: $variable names no directory with $program"
	[ -x "$from/$program" ] || fail "there is no program '$from/$program'"
	ROOT_TREE_PROGRAMS=(python3 pgrep busybox)
	[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed parity puppet-agent busybox
	in_own_network
	setup
	net_up
	tree=$(root_tree "${ROOT_TREE_PROGRAMS[@]}") || exit 1
	VALUE=Ab-7-tiger-lily
	mkdir -m 700 "$T/secrets"
	(umask 077 && echo "$VALUE" >"$T/secrets/hello")
	machine m 11 "$tree"
	cp -rL "$from" "$T/$tool" || fail "cannot copy $from"
	mkdir "$REPO/roles"
	cp -r "$TOP/contrib/examples/parity/roles/hello-$tool" "$REPO/roles/"
	CONTENT=$REPO/roles/hello-$tool ROLE=$MNT/nodes/m/roles/hello-$tool
	sed -i "s|^runner = .*|&\n$3 = $T/$tool\n${4:-}|" "$CONTENT/role.ini"
	printf '[provider]\ntype = ssh\napply = auto\n[ssh]\nuser = root\nkey = %s\n' "$T/id" | document providers/p/provider.ini
	printf '[node]\nprovider = p\naddress = 10.77.0.11\n' | document nodes/m/node.ini
	printf '[deployment]\nprovider = p\nroles = hello-%s\n[nodes one]\nnodes = m\n[params hello-%s]\npassword = secret:hello\n' "$tool" "$tool" |
		document deployments/d/deployment.ini
	start "secrets=$T/secrets"
	settle d 90
	expect "how the tool came there" "$(jq -c '[.runner, .changed]' "$MNT/nodes/m/roles/runner-$tool/runs/1/report.json")" '["install",1]'
	page hello
	expect "the secret" "$(on 11 cat /etc/hello.secret)" "$VALUE"
	expect "the service" "$(on 11 pgrep -xc busybox)" 1
	expect "the output" "$(cat "$ROLE/outputs/url")" "http://m:8088/"
	expect "the report" "$(report | jq -r '.runner, .failed, (.changed > 0)' | paste -sd ' ')" "$tool 0 true"
	echo run >"$ROLE/ctl" || fail "cannot run"
	settle d 60
	echo check >"$ROLE/ctl" || fail "cannot check"
	settle d 60
	expect "drift where nothing was touched" "$(cat "$ROLE/drift")" ""
	expect "what a second run changed" "$(report | jq -c '[.changed, .failed]')" "[0,0]"

	# A parameter; in the middle of its run the daemon is killed, and finds the run again.
	local before
	before=$(runs "$ROLE")
	PAGE="good day"
	sed -i 's/^default = hello$/default = good day/' "$CONTENT/role.ini"
	value_becomes 20 "$ROLE/state" running
	kill_hard
	start "secrets=$T/secrets"
	settle d 60
	page "$PAGE"
	expect "runs, of which one was under way when the daemon was killed" "$(runs "$ROLE")" $((before + 1))
}
page() { expect "the page" "$(on 11 cat /srv/hello/index.html)" "$1 from m"; }
report() { timeout 5 cat "$ROLE/runs/$(ls "$ROLE/runs" | sort -n | tail -n 1)/report.json"; }

# By hand: a check shows it as a diff, and a run repairs it. drifts REGEX
drifts() {
	on 11 'echo by hand >/srv/hello/index.html'
	echo check >"$MNT/deployments/d/ctl" || fail "cannot check"
	settle d 60
	expect_match "drift" "$(cat "$ROLE/drift")" "$1"
	expect "a check changes nothing" "$(on 11 cat /srv/hello/index.html)" "by hand"
	echo run >"$ROLE/ctl" || fail "cannot run"
	settle d 60
	page "$PAGE"
}

# What succeeds is told apart from what only ends well. fails FILE SED-SCRIPT REGEX
fails() {
	sed "$2" "$TOP/contrib/examples/parity/roles/${CONTENT##*/}/$1" >"$T/changed"
	cmp -s "$T/changed" "$TOP/contrib/examples/parity/roles/${CONTENT##*/}/$1" && fail "'$2' changes nothing in $1"
	cat "$T/changed" >"$CONTENT/$1"
	eventually 20 "the change is seen" still_to_do
	settle_badly d 60
	expect_match "why" "$(cat "$ROLE/why")" "$3"
}
still_to_do() { [ "$(cat "$MNT/deployments/d/state")" != active ]; }

# The secret is in its file, and nowhere else.
goodbye() {
	local found
	echo "$VALUE" >"$T/pattern"
	found=$(timeout 20 grep -rlaF --exclude=hello.secret --exclude=hello --exclude=alive -f "$T/pattern" "$STATE" "$T/machines" "$T/daemon.log" 2>/dev/null)
	expect "where else the secret is" "$found" ""
	stop
}
