#!/bin/bash
# git in the middle of something: nothing in desired/ is taken over until that has ended, status, why and plan say so, and then all of it is. With every command
# that stops at a conflict, with its lock, at a restart, and in repos whose git directory lies elsewhere.
. "$(dirname "$0")/lib.sh"
needs root fuse git jq
setup
export GIT_CONFIG_GLOBAL=$T/gitconfig GIT_CONFIG_NOSYSTEM=1 GIT_EDITOR=true
git config --global user.name Test && git config --global user.email test@example.org && git config --global init.defaultBranch main
git config --global advice.detachedHead false && git config --global safe.directory '*' && git config --global protocol.file.allow always
WORK=$REPO # of the work tree, which may be larger than the repo
g() { git -C "$WORK" "$@" >"$T/git.out" 2>&1 || fail "git $*: $(tail -n 3 "$T/git.out")"; }
stops() { ! git -C "$WORK" "$@" >"$T/git.out" 2>&1 || fail "git $* should stop at a conflict"; }
file=$REPO/deployments/d/deployment.ini
count() { sed -i "s/^count = [0-9]*/count = $1/" "$file" && g commit -qam "count $1"; }
nodes() { list "$MNT/deployments/d/nodes" | wc -w; }

# main has 4 nodes, side 5, both from a commit with 3
fake_repo 3
g init -q . && g add -A && g commit -qm three
g checkout -q -b side && count 5 && echo >>"$file" && g commit -qam "side again"
g checkout -q main && count 4
start
settle d 30
expect "nodes" "$(nodes)" 4

# waits WHAT: says so everywhere, and takes nothing over
waits() {
	local said="git is in the middle of $1: nothing in desired/ is taken over until that has ended"
	eventually 5 "status tells of $1" grep -qxF "$said" "$MNT/status"
	expect "status.json" "$(jq -r .git "$MNT/status.json")" "$1"
	expect_match "why" "$(cat "$MNT/deployments/d/why")" "^active: 4 nodes, .*; $said$"
	expect_match "plan" "$(cat "$MNT/deployments/d/plan")" "^$said$"
	printf '[deployment]\nprovider = sim\n[nodes n]\ncount = 1\n' | document deployments/new/deployment.ini
	cat "$MNT/deployments/d/plan" >/dev/null
	sleep 0.5
	expect_no_match "deployments in the middle of $1" "$(list "$MNT/deployments")" new
	expect_no_match "problems in the middle of $1" "$(cat "$MNT/problems")" .
	if echo 7 2>/dev/null >"$MNT/deployments/d/desired/params.base/size"; then fail "a store in the middle of $1 should be refused"; fi
	expect_match "refused" "$(cat "$MNT/deployments/d/refused")" "git is in the middle of $1"
	expect "nodes in the middle of $1" "$(nodes)" 4
	expect "reached" "$(timeout 10 cat "$MNT/deployments/d/wait" >/dev/null 2>&1 && echo yes)" yes
	rm -r "$REPO/deployments/new"
}
ended() {
	eventually 5 "the end of $1" sh -c '! grep -q "in the middle" "$1"' - "$MNT/deployments/d/why"
	expect_match "events" "$(tail -n 5 "$MNT/events")" "git has ended $1$"
}

stops merge side
waits "a merge"
g checkout --ours deployments/d/deployment.ini && g commit -qam merged
ended "a merge"
settle d 30
expect "nodes after the merge" "$(nodes)" 4
g reset -q --hard HEAD~1

stops rebase side
waits "a rebase"
g rebase --abort
ended "a rebase"
stops cherry-pick side~1
waits "a cherry-pick"
g cherry-pick --abort
ended "a cherry-pick"
stops cherry-pick side~1 side
git -C "$WORK" checkout -q --ours deployments/d/deployment.ini && g commit -qa --allow-empty -m picked
waits "a cherry-pick or revert of several commits"
g cherry-pick --quit
ended "a cherry-pick or revert of several commits"
g reset -q --hard HEAD~1
for size in 6 8; do sed -i "s/^size = .*/size = $size/" "$file" && g commit -qam "size $size"; done
settle d 30
stops revert HEAD~1
waits "a revert"
g revert --abort
ended "a revert"
git -C "$WORK" format-patch -1 --stdout side~1 >"$T/patch"
stops am -3 "$T/patch"
waits "an am"
g am --abort
ended "an am"
sed -i 's/^count = 4/count = 6/' "$file" && g stash -q && sed -i 's/^count = 4/count = 5/' "$file" && g commit -qam five
settle d 30
stops stash pop
eventually 5 "unmerged paths" grep -q "git is in the middle of unmerged paths" "$MNT/status"
expect "nodes with unmerged paths" "$(nodes)" 5
g checkout -q -f HEAD && g stash drop && g reset -q --hard HEAD~1
ended "unmerged paths"
apply d
settle d 30

# A bisect is not in the middle of anything: what it checks out is what somebody wants to try.
g bisect start HEAD HEAD~2 && g checkout -q side~1
settle d 30
expect "nodes in a bisect" "$(nodes)" 5
g bisect reset
apply d
settle d 30

# The index's lock: a checkout that works is waited for, one that was left behind for 5 s.
: >"$WORK/.git/index.lock"
sed -i 's/^count = 4/count = 5/' "$file"
sleep 2
expect "nodes while git has its lock" "$(nodes)" 4
rm "$WORK/.git/index.lock"
eventually 3 "the end of the lock" test -d "$MNT/nodes/d-n-5"
: >"$WORK/.git/index.lock"
sed -i 's/^count = 5/count = 6/' "$file"
began=$(date +%s%N)
eventually 10 "a lock that was left behind" test -d "$MNT/nodes/d-n-6"
waited=$((($(date +%s%N) - began) / 1000000))
[ "$waited" -gt 4000 ] || fail "a lock was waited for $waited ms only"
rm "$WORK/.git/index.lock"
g checkout -q -f main
apply d
settle d 30

# A daemon that starts in the middle of a merge goes on with what was in force.
stop
stops merge side
start
waits "a merge"
g merge --abort
ended "a merge"
settle d 30
expect "problems" "$(cat "$MNT/problems")" ""
destroy d 30
stop

# Somebody else's work tree of another repo, the repo a directory of it, a role a submodule: seen as ever, and git is run as that owner, without what his
# configuration names.
STATE=$T/state2 WORK=$T/main
mkdir "$WORK" "$T/role" && cp -a "$REPO" "$WORK/stage" && rm -rf "$WORK/stage/.git"
(cd "$T/role" && printf '[role]\nrunner = script\n' >role.ini && printf '#!/bin/sh\n' >apply && chmod +x apply && git init -q . && git add -A && git commit -qm role) || fail "a role"
g init -q . && g submodule add -q "$T/role" stage/roles/sub
file=$WORK/stage/deployments/d/deployment.ini
sed -i 's/^roles = app/roles = app, sub/; s/^\[deployment\]/[deployment]\ncommit = required/' "$file"
printf '#!/bin/sh\ntouch %s/ran\n' "$T" >"$T/evil" && chmod +x "$T/evil"
g add -A && g commit -qm one && g worktree add -q "$T/tree"
WORK=$T/tree REPO=$T/tree/stage file=$T/tree/stage/deployments/d/deployment.ini
g submodule update -q --init
chmod 711 "$T" && chown -R 4711:4712 "$T/main" "$T/tree" "$T/role"
start
settle d 30
expect "the commit of a worktree" "$(jq -r '"\(.commit) \(.dirty)"' "$MNT/deployments/d/status.json")" "$(git -C "$WORK" rev-parse HEAD) false"
# Only now: our own git would run it too.
git -C "$T/main" config core.fsmonitor "$T/evil" && git -C "$T/main" config core.pager "$T/evil"
echo true >>"$REPO/roles/sub/apply"
expect_match "an edit in a submodule" "$(cat "$MNT/deployments/d/plan")" 'roles/sub/apply is not committed'
git -C "$REPO/roles/sub" commit -qam two
expect_match "committed in the submodule alone" "$(cat "$MNT/deployments/d/plan")" 'roles/sub/apply is not committed'
git -c core.fsmonitor=false -C "$WORK" commit -qam "the role's second" || fail "git commit of a submodule"
chown -R 4711:4712 "$T/main" "$T/tree"
[ ! -e "$T/ran" ] || fail "the test itself ran what the configuration names"
settle d 30
expect "the commit that has the submodule's" "$(jq -r '"\(.commit) \(.dirty)"' "$MNT/deployments/d/status.json")" "$(git -C "$WORK" rev-parse HEAD) false"
expect_no_match "why" "$(cat "$MNT/deployments/d/why")" committed
[ ! -e "$T/ran" ] || fail "git ran what the repo's configuration names"
: >"$(git -C "$WORK" rev-parse --git-dir)/MERGE_HEAD"
eventually 5 "a merge in a worktree" grep -q "git is in the middle of a merge" "$MNT/status"
rm "$(git -C "$WORK" rev-parse --git-dir)/MERGE_HEAD"
eventually 5 "its end" sh -c '! grep -q "in the middle" "$1"' - "$MNT/status"
