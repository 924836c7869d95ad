#!/bin/bash
# Mistakes in documents: each is FILE:LINE: message in 'problems', what was good stays in force, also over a restart.
. "$(dirname "$0")/lib.sh"
needs root fuse
setup
fake_repo 2
start
settle d 30
D=$MNT/desired
expect "problems of a repo without mistakes" "$(cat "$MNT/problems")" ""

# mistake WHAT REGEX COMMAND...: does it, expects the problem, undoes it by putting the document back
saved=$T/saved
mistake() {
	local what=$1 regex=$2 problems
	shift 2
	rm -rf "$saved" && cp -a "$REPO" "$saved"
	"$@" || fail "$what: '$*' failed"
	problems=$(cat "$MNT/problems")
	expect_match "problems with $what" "$problems" "$regex"
	expect "states of node roles with $what" "$(states "$MNT/nodes/d-n-*/roles/*/state")" "4 active"
	put_back
	expect "problems once $what was put right" "$(cat "$MNT/problems")" ""
}
put_back() {
	local f
	(cd "$D" && find . -mindepth 1 -depth -not -path './.git*') | while read -r f; do
		[ -e "$saved/$f" ] || rm -rf "${D:?}/$f"
	done
	cp -a "$saved/." "$D/"
}

mistake "a wrong key" '^roles/app/role.ini:[0-9]+: .*requries.*did you mean .requires' sed -i 's/^requires/requries/' "$D/roles/app/role.ini"
mistake "a key that nobody knows" "^roles/base/role.ini:[0-9]+: .*colour" sh -c 'echo "colour = blue" >>"$1"' - "$D/roles/base/role.ini"
mistake "a value out of range" '^deployments/d/deployment.ini:[0-9]+: .*(100|between|range|at most)' sed -i 's/^size = 5/size = 500/' "$D/deployments/d/deployment.ini"
mistake "a value of the wrong type" '^deployments/d/deployment.ini:[0-9]+: .*many' sed -i 's/^count = 2/count = many/' "$D/deployments/d/deployment.ini"
mistake "a role that is not there" "^deployments/d/deployment.ini:[0-9]+: .*nosuch" sed -i 's/^roles = app/roles = app, nosuch/' "$D/deployments/d/deployment.ini"
mistake "a cycle" '^roles/(app|base)/role.ini:[0-9]+: .*app.*base' sh -c 'echo "[role]
requires = app" | cat - "$1" >"$1.new" && sed -i "3{/^\[role\]/d}" "$1.new" && mv "$1.new" "$1"' - "$D/roles/base/role.ini"
mistake "a line that would be cut" '^deployments/d/deployment.ini:[0-9]+: ' sh -c 'printf "[params app]\nx = %0300d\n" 1 >>"$1"' - "$D/deployments/d/deployment.ini"
mistake "an unclosed section" '^deployments/d/deployment.ini:[0-9]+: ' sh -c 'echo "[nodes" >>"$1"' - "$D/deployments/d/deployment.ini"
two_deployments() {
	mkdir -p "$D/nodes/x1" "$D/deployments/e" "$D/deployments/f"
	printf '[node]\nprovider = sim\n' >"$D/nodes/x1/node.ini"
	printf '[deployment]\nprovider = sim\n[nodes n]\nnodes = x1\nroles = base\n' | tee "$D/deployments/e/deployment.ini" >"$D/deployments/f/deployment.ini"
}
mistake "a node in two deployments" 'deployments/[ef]/deployment.ini:[0-9]+: .*x1.*[ef]' two_deployments
script_role() {
	mkdir -p "$D/roles/s"
	printf '[role]\nrunner = script\n' >"$D/roles/s/role.ini"
	printf '#!/bin/sh\nexit 0\n' >"$D/roles/s/apply"
	sed -i 's/^roles = app/roles = app, s/' "$D/deployments/d/deployment.ini"
}
mistake "a script without its x bit" "^roles/s.*apply.*(executable|chmod)" script_role
mistake "a directory where a document should be" '^roles/t/role.ini(:[0-9]+)?: ' mkdir -p "$D/roles/t/role.ini"
mistake "bytes that are no text" '^roles/base/role.ini:[0-9]+: ' sh -c 'printf "\000\377\n" >>"$1"' - "$D/roles/base/role.ini"

# What is in force outlives a restart, with the mistake still there, and with the document gone.
sed -i 's/^count = 2/count = 2x/' "$D/deployments/d/deployment.ini"
expect_match "problems" "$(cat "$MNT/problems")" '^deployments/d/deployment.ini:[0-9]+: '
expect "state with a mistake" "$(cat "$MNT/deployments/d/state")" invalid
expect_match "why" "$(cat "$MNT/deployments/d/why")" 'deployment.ini:[0-9]+: '
stop
start
expect "nodes after a restart with a mistake" "$(list "$MNT/nodes")" "d-n-1 d-n-2"
expect "states after a restart with a mistake" "$(states "$MNT/nodes/*/roles/*/state")" "4 active"
sed -i 's/^count = 2x/count = 2/' "$D/deployments/d/deployment.ini"
settle d 20
rm -r "$D/deployments/d"
eventually 10 "orphaned" grep -q '^orphaned' "$MNT/deployments/d/state"
expect "nodes of a deployment whose document is gone" "$(list "$MNT/nodes")" "d-n-1 d-n-2"
stop
start
expect "nodes of it after a restart" "$(list "$MNT/nodes")" "d-n-1 d-n-2"
cp -a "$saved/deployments/d" "$D/deployments/"
settle d 20
expect "runs: nothing ran again" "$(runs "$MNT/nodes/*/roles/*")" 4
stop
