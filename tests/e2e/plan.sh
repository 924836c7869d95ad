#!/bin/bash
# rebarfs --plan: what a tree would change, told before it is checked out. The mount says the same after it was; and nothing is touched by asking.
. "$(dirname "$0")/lib.sh"
needs root fuse git jq setpriv
setup
export GIT_CONFIG_GLOBAL=$T/gitconfig GIT_CONFIG_SYSTEM=/dev/null
git config --global user.name tester && git config --global user.email tester@example.com

# plan WANTED_RC [OPTION...]: of the branch in $TREE; into $T/plan, what it complains of into $T/said
plan() {
	local rc=$1
	shift
	timeout 20 "$REBARFS" --plan "$@" "$TREE" "$STATE" >"$T/plan" 2>"$T/said"
	local got=$?
	[ "$got" = "$rc" ] || fail "'rebarfs --plan' exits with $got, not $rc: $(cat "$T/said")"
}

# What the mount shows of all deployments. 'problems' settles first: the shell looks for names before anything is opened.
mount_plan() {
	timeout 20 cat "$MNT/problems"
	(cd "$MNT" && timeout 20 tail -v -n +1 deployments/*/plan)
}

fingerprint() {
	find "$STATE" -printf '%p %y %m %s %T@ %i\n' | sort
	find "$STATE" -type f ! -name '*.sock' -exec sha256sum {} + | sort
}

# untouched COMMAND...: the state directory is the same before and behind it
untouched() {
	fingerprint >"$T/before"
	"$@"
	fingerprint >"$T/behind"
	cmp -s "$T/before" "$T/behind" || fail "'$*' touched the state directory: $(diff "$T/before" "$T/behind" | head -n 5)"
}

fake_repo 3 'role-delay = 10ms' 'create-delay = 10ms'
for name in byhand old; do
	sed "s/^provider = sim/&\napply = manual/" "$REPO/deployments/d/deployment.ini" | document "deployments/$name/deployment.ini"
done
document roles/app/apply <<<'#!/bin/sh'
git init -q -b main "$REPO" && git -C "$REPO" add -A && git -C "$REPO" commit -qm one
start
settle d 30
for name in byhand old; do
	apply "$name"
	settle "$name" 30
done
echo pause >"$MNT/ctl" # so that it stays as it is

say "another branch: more and fewer nodes, other parameters, other content, a deployment that is new and one that is gone"
TREE=$T/tree
git -C "$REPO" worktree add -q -b other "$TREE" main
plan 0
expect_match "the plan of the same tree" "$(cat "$T/plan")" '^plan -: nothing to do$'
mount_plan | diff - "$T/plan" || fail "the mount tells another plan than 'rebarfs --plan' of the same tree"
(
	REPO=$TREE
	sed -i 's/^count = 3/count = 5/; s/^size = 5/size = 7/' "$REPO/deployments/d/deployment.ini"
	sed -i 's/^count = 3/count = 1/' "$REPO/deployments/byhand/deployment.ini"
	sed -i 's/^runner = none/runner = script/' "$REPO/roles/app/role.ini"
	echo 'true' >>"$REPO/roles/app/apply"
	chmod +x "$REPO/roles/app/apply"
	document deployments/new/deployment.ini <<<$'[deployment]\nlike = byhand\n[nodes n]\ncount = 2'
	rm -r "$REPO/deployments/old"
)
git -C "$TREE" add -A && git -C "$TREE" commit -qm two
untouched plan 1
expect "what it complains of" "$(cat "$T/said")" ""
expect_match "the plan" "$(cat "$T/plan")" '^\+ node d-n-5 '
expect_match "the plan" "$(cat "$T/plan")" '^~ run  base on d-n-1 +size 5 -> 7$'
expect_match "the plan" "$(cat "$T/plan")" '^~ run  app on byhand-n-1 +content roles/app'
expect_match "the plan" "$(cat "$T/plan")" '^- node byhand-n-3 +confirm: surplus of group n$'
expect_match "the plan" "$(cat "$T/plan")" '^==> deployments/new/plan <==$'
cp "$T/plan" "$T/foretold"
untouched plan 1 --json
mv "$T/plan" "$T/foretold.json"
plan 1

git -C "$TREE" checkout -q --detach
git -C "$REPO" checkout -q other
mount_plan >"$T/shown"
diff "$T/foretold" "$T/shown" || fail "after the checkout the mount shows another plan than was foretold"
timeout 20 jq -s . "$MNT"/deployments/*/plan.json | diff - <(jq . "$T/foretold.json") || fail "plan.json is another than was foretold"

say "a part of it was approved, and then the way back"
echo "apply" >"$MNT/deployments/new/ctl" || fail "cannot approve: $(cat "$MNT/deployments/new/refused")"
plan 1
mount_plan | diff - "$T/plan" || fail "the mount tells another plan than 'rebarfs --plan' of the same tree"
git -C "$REPO" checkout -q main
git -C "$TREE" checkout -q main --detach
plan 0
mount_plan | diff - "$T/plan" || fail "the mount tells another plan than 'rebarfs --plan' of the same tree"
git -C "$TREE" checkout -q other --detach

say "without a daemon: ended, killed, started again"
stop
ls "$STATE"/rebarfs.db-* >/dev/null 2>&1 && fail "an ended daemon left something of its database"
untouched plan 1
start
echo pause >"$MNT/ctl"
kill_hard
[ -s "$STATE/rebarfs.db-wal" ] || fail "a killed daemon left no WAL: nothing is tested here"
cp "$T/plan" "$T/ended"
untouched plan 1
diff "$T/ended" "$T/plan" || fail "another plan out of the WAL"
start
plan 1

say "while the daemon writes"
echo resume >"$MNT/ctl"
git -C "$REPO" checkout -q other
for n in 1 2 3 4 5 6 7 8; do
	timeout 20 "$REBARFS" --plan "$TREE" "$STATE" >"$T/plan" 2>"$T/said" || [ $? = 1 ] || fail "a plan while runs end: $(cat "$T/said")"
done
settle d 30
plan 1
expect "the plan of d" "$(sed -n '/deployments.d.plan/{n;p}' "$T/plan")" "plan -: nothing to do"

say "a stage that may have only what passed in another"
document deployments/prod/deployment.ini <<<$'[deployment]\nlike = byhand\ngate = d\n[nodes n]\ncount = 1'
cat "$MNT/problems" >/dev/null
apply prod
settle prod 30
echo pause >"$MNT/ctl"
cp -a "$REPO/deployments/prod" "$TREE/deployments/"
echo 'false' >>"$TREE/roles/app/apply"
sed -i 's/^size = 7/size = 9/' "$TREE/deployments/d/deployment.ini"
sed -i 's/^count = 1/count = 2/' "$TREE/deployments/prod/deployment.ini"
untouched plan 1
cp -a "$TREE/deployments" "$TREE/roles" "$REPO/"
mount_plan | diff - "$T/plan" || fail "the mount tells another plan of what is gated than was foretold"
expect_match "the plan of prod" "$(cat "$T/plan")" '^\+ node prod-n-2 '
expect_no_match "the plan of prod" "$(cat "$T/plan")" '^~ run  app on prod-n-1 +content'
git -C "$REPO" checkout -q -- . && rm -r "$REPO/deployments/prod"
git -C "$TREE" checkout -q -- . && rm -r "$TREE/deployments/prod"
echo resume >"$MNT/ctl"
cat "$MNT/problems" >/dev/null
settle d 30

say "a tree with a mistake"
sed -i 's/^size = 7/size = 700/' "$TREE/deployments/d/deployment.ini"
plan 2
expect_match "what it says" "$(cat "$T/said")" "^rebarfs: deployment 'd' would not come into force: deployments/d/deployment.ini:[0-9]+: "
expect "the plan of d, as it is in force" "$(sed -n '/deployments.d.plan/{n;p}' "$T/plan")" "plan -: nothing to do"

say "nothing to look at"
cannot() {
	timeout 20 "$REBARFS" --plan "${@:2}" >"$T/plan" 2>"$T/said"
	expect "the exit status of 'rebarfs --plan ${*:2}'" "$?" 2
	expect_match "what it says" "$(cat "$T/said")" "$1"
}
cannot "there is no state in '$T'" "$TREE" "$T"
cannot "there is no state in '$T/nowhere'" "$TREE" "$T/nowhere"
cannot "cannot read the repo '$T/nowhere': No such file" "$T/nowhere" "$STATE"
cannot 'usage: rebarfs' "$TREE"
cannot 'usage: rebarfs' --check "$TREE" "$STATE"
mkdir "$T/broken"
head -c 8192 /dev/urandom >"$T/broken/rebarfs.db"
cannot "cannot read database '$T/broken/rebarfs.db': file is not a database" "$TREE" "$T/broken"
chmod 755 "$T"
cp "$REBARFS" "$T/rebarfs"
setpriv --reuid=65534 --regid=65534 --clear-groups timeout 20 "$T/rebarfs" --plan "$TREE" "$STATE" >"$T/plan" 2>"$T/said"
expect "the exit status for who may not read" "$?" 2
expect_match "what it says" "$(cat "$T/said")" "cannot read database '$STATE/rebarfs.db': Permission denied"
stop
