#!/bin/bash
# The repo as a git work tree: what is in force is known as a commit, going back is 'git checkout', and with commit = required only what is committed counts.
. "$(dirname "$0")/lib.sh"
needs root fuse git jq
setup
export GIT_CONFIG_GLOBAL=$T/gitconfig GIT_CONFIG_NOSYSTEM=1
git config --global user.name Test && git config --global user.email test@example.org && git config --global init.defaultBranch main
g() { git -C "$REPO" "$@" || fail "git $*"; }
commit_now() { g rev-parse HEAD; }
status() { cat "$MNT/deployments/d/status"; }
json() { jq -c "$1" "$MNT/deployments/d/status.json"; }
file=$REPO/deployments/d/deployment.ini

# Without git there is nothing to say; with the first commit of what lies there, what is in force has its name, and nothing runs again.
fake_repo 2
start
settle d 30
expect_no_match "status without git" "$(status)" '^desired:'
expect "commit without git" "$(json '[.commit, .dirty]')" '[null,null]'
expect "commit of a run without git" "$(cat "$MNT"/nodes/d-n-1/roles/app/runs/*/commit)" ""
g init -q . && g add -A && g commit -qm one
eventually 5 "the first commit is seen" grep -q "^desired: $(commit_now | cut -c 1-8)$" "$MNT/deployments/d/status"
expect "commit" "$(json '[.commit, .dirty]')" "[\"$(commit_now)\",false]"
one=$(commit_now)

# An edit is in force and not committed; a run remembers what it began with; then the commit takes the name over.
echo 6 >"$MNT/deployments/d/desired/params.base/size"
settle d 30
expect_match "status of an edit" "$(status)" "^desired: ${one:0:8} \(dirty\)$"
expect "json of an edit" "$(json '[.commit, .dirty]')" "[\"$one\",true]"
expect_match "event of an edit" "$(tail -n 30 "$MNT/deployments/d/events")" "in force: .*; commit ${one:0:8} \(dirty\)$"
last() { ls "$MNT/nodes/d-n-1/roles/base/runs" | sort -n | tail -n 1; }
run=$(last)
expect "commit of a run" "$(cat "$MNT/nodes/d-n-1/roles/base/runs/$run/commit")" "$one (dirty)"
g commit -qam two
two=$(commit_now)
eventually 5 "the commit of an edit is seen" grep -q "^desired: ${two:0:8}$" "$MNT/deployments/d/status"
expect_match "event of a commit" "$(tail -n 3 "$MNT/deployments/d/events")" "in force: as before; commit ${two:0:8}$"
expect "nothing ran for a commit" "$(last)" "$run"
expect "a run remembers" "$(cat "$MNT/nodes/d-n-1/roles/base/runs/$run/commit")" "$one (dirty)"
expect "git status: nothing of ours is in the repo" "$(g status --porcelain)" ""

# What the deployment does not refer to makes nothing dirty; what git ignores but a role would ship does.
mkdir "$REPO/roles/other" && printf '[role]\nrunner = none\n' >"$REPO/roles/other/role.ini"
eventually 5 "the new role" test -d "$MNT/roles/other"
expect "dirty because of another role" "$(json .dirty)" false
rm -r "$REPO/roles/other"

# After a restart it is still known, from the database.
kill_hard
start
expect_match "status after a restart" "$(status)" "^desired: ${two:0:8}$"
expect "a run after a restart" "$(cat "$MNT/nodes/d-n-1/roles/base/runs/$run/commit")" "$one (dirty)"

# Going back is a checkout, and plan shows what it will do.
echo manual >"$MNT/deployments/d/desired/deployment/apply"
sed -i 's/^count = 2/count = 4/' "$file"
g commit -qam three
three=$(commit_now)
expect_match "plan of a commit" "$(cat "$MNT/deployments/d/plan")" '^\+ node d-n-4 '
apply d
settle d 30
g checkout -q "$two"
plan=$(cat "$MNT/deployments/d/plan")
expect_match "plan of going back" "$plan" '^plan [0-9a-f]{8}: 2 release, 2 confirm$'
expect_match "plan of going back" "$plan" '^- node d-n-4 +confirm: surplus'
expect "plan.json of going back" "$(jq -c '[.commit, .dirty, [.lines[].op]]' "$MNT/deployments/d/plan.json")" "[\"$two\",false,[\"release\",\"release\"]]"
expect_match "status of going back" "$(status)" "^desired: ${two:0:8}$"
apply d
settle d 30
expect "nodes of the commit before" "$(list "$MNT/deployments/d/nodes")" "d-n-1 d-n-2"
g checkout -q main
apply d
settle d 30
expect "nodes of main" "$(list "$MNT/deployments/d/nodes")" "d-n-1 d-n-2 d-n-3 d-n-4"
expect_match "status of main" "$(status)" "^desired: ${three:0:8}$"

# ---- commit = required ----
sed -i 's/^apply = manual/commit = required/' "$file"
expect_match "why: the rule itself is not committed" "$(cat "$MNT/problems" "$MNT/deployments/d/why")" '^active: .*; not taken over \(commit = required\): deployments/d/deployment.ini is not committed; what was committed last stays in force$'
g commit -qam required
required=$(commit_now)
settle d 30
expect "problems once it is committed" "$(cat "$MNT/problems")" ""

# not_taken FILE COMMAND...: what it does to the repo is not in force and named everywhere, until it is committed; then it is undone
not_taken() {
	local path=$1
	shift
	"$@" || fail "'$*' failed"
	expect_match "problems after $*" "$(cat "$MNT/problems")" "^$path:1: deployment 'd' does not take this over \(commit = required\): $path is (not committed|gone, and that is not committed)$"
	expect_match "why after $*" "$(cat "$MNT/deployments/d/why")" "; not taken over \(commit = required\): $path is "
	expect_match "plan after $*" "$(cat "$MNT/deployments/d/plan")" "^plan -: nothing to do"
	expect_match "plan after $*" "$(cat "$MNT/deployments/d/plan")" "^not taken over \(commit = required\): $path "
	expect "status after $*" "$(json '[.commit, .dirty, .uncommitted]')" "[\"$required\",false,\"$path\"]"
	expect "nodes after $*" "$(list "$MNT/deployments/d/nodes")" "d-n-1 d-n-2 d-n-3 d-n-4"
	settle d 30
	g reset -q --hard && g clean -qfd
	eventually 5 "all is well after $* is undone" sh -c '! grep -q "not taken over" "$1"' - "$MNT/deployments/d/why"
	expect "problems after $* is undone" "$(cat "$MNT/problems")" ""
}
before=$(cat "$MNT/nodes/d-n-1/roles/app/digest")
not_taken deployments/d/deployment.ini sed -i 's/^count = 4/count = 3/' "$file"
not_taken deployments/d/deployment.ini sh -c 'echo 9 >"$1/params.base/size"; echo 3 >"$1/nodes.n/count"' - "$MNT/deployments/d/desired"
not_taken deployments/d/deployment.ini sed -i '/^commit = required/d; s/^count = 4/count = 3/' "$file"
not_taken deployments/d/deployment.ini sed -i 's/^count = 4/count = many/' "$file"
not_taken deployments/d/deployment.ini rm "$file"
not_taken roles/base/role.ini sed -i 's/^default = 3/default = 4/' "$REPO/roles/base/role.ini"
not_taken roles/app/role.ini rm "$REPO/roles/app/role.ini"
not_taken providers/sim/provider.ini sed -i 's/^max-parallel = 200/max-parallel = 1/' "$REPO/providers/sim/provider.ini"
expect "digest" "$(cat "$MNT/nodes/d-n-1/roles/app/digest")" "$before"
not_taken deployments/d/deployment.ini sh -c 'sed -i "s/^count = 4/count = 3/" "$1" && git -C "$2" add -A' - "$file" "$REPO"

# The provider is held too, also over a restart, and goes on with the commit.
sed -i 's/^max-parallel = 200/max-parallel = 100/' "$REPO/providers/sim/provider.ini"
eventually 5 "the provider says so" grep -q "^invalid: providers/sim/provider.ini is not committed, and deployment d has commit = required (the last good version stays in force)$" "$MNT/providers/sim/why"
stop
start
eventually 5 "after a restart too" grep -q "is not committed, and deployment d" "$MNT/providers/sim/why"
expect_match "why after a restart" "$(cat "$MNT/deployments/d/why")" "not taken over .*: providers/sim/provider.ini is not committed"
sed -i 's/^count = 4/count = 5/' "$file"
g commit -qm "five" deployments
expect "half of it is not committed" "$(list "$MNT/deployments/d/nodes")" "d-n-1 d-n-2 d-n-3 d-n-4"
g commit -qam "five, slower"
settle d 30
expect "nodes after the commit" "$(list "$MNT/deployments/d/nodes")" "d-n-1 d-n-2 d-n-3 d-n-4 d-n-5"
expect_match "the provider after the commit" "$(cat "$MNT/providers/sim/why")" '^ready: '
expect_match "event" "$(cat "$MNT/deployments/d/events")" 'all of it is committed$'

# No git work tree: nothing is committed.
mv "$REPO/.git" "$T/git"
expect_match "problems without git" "$(cat "$MNT/problems")" "^deployments/d/deployment.ini:1: .*: the repo is not a git work tree$"
expect "nodes without git" "$(list "$MNT/deployments/d/nodes")" "d-n-1 d-n-2 d-n-3 d-n-4 d-n-5"
mv "$T/git" "$REPO/.git"
eventually 5 "git is back" sh -c '! grep -q "not taken over" "$1"' - "$MNT/deployments/d/why"
