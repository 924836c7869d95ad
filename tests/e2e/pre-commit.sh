#!/bin/bash
# contrib/git-hooks/pre-commit: a commit with a mistake in it does not come about, whatever lies in the tree.
. "$(dirname "$0")/lib.sh"
needs git
setup
export GIT_CONFIG_GLOBAL=$T/gitconfig GIT_CONFIG_SYSTEM=/dev/null TMPDIR=$T
HOOK=$TOP/contrib/git-hooks/pre-commit
git config --global user.name tester && git config --global user.email tester@example.com
git config --global protocol.file.allow always
mkdir "$T/bin" "$T/empty"
ln -s "$REBARFS" "$T/bin/rebarfs"
PATH=$T/bin:$PATH

# commit WANTED ARGUMENT...: made or refused; what was said goes to $T/said
commit() {
	local wanted=$1 before after
	shift
	before=$(git rev-parse -q --verify HEAD)
	timeout 30 git commit -q "$@" >"$T/said" 2>&1
	after=$(git rev-parse -q --verify HEAD)
	[ "$before" = "$after" ] && local got=refused || local got=made
	[ "$got" = "$wanted" ] || fail "'git commit $*' was $got, not $wanted: $(cat "$T/said")"
	expect "what it left behind" "$(find "$T" -maxdepth 1 -name 'rebarfs-staged*')" ""
}

# try SHELL: everything with the hook run by this shell
try() {
	local shell=$1 document=deployments/d/deployment.ini
	say "with $shell"
	rm -rf "$REPO" && mkdir "$REPO"
	fake_repo 3
	git init -q -b main "$REPO"
	cd "$REPO" || fail "cannot enter '$REPO'"
	if [ "$shell" = sh ]; then
		ln -s "$HOOK" .git/hooks/pre-commit # as a person would
	else
		printf '#!/bin/sh\nexec %s %s\n' "$shell" "$HOOK" >.git/hooks/pre-commit
		chmod +x .git/hooks/pre-commit
	fi
	git add -A
	commit made -m first

	sed -i 's/^count = 3/count = lots/' $document
	git add -A
	commit refused -m "a mistake"
	expect_match "what was said" "$(cat "$T/said")" '^deployments/d/deployment.ini:6:9: '
	expect_match "what was said" "$(cat "$T/said")" '^pre-commit: these mistakes are in what is staged'
	commit made -m "without looking" --no-verify
	git reset -q --hard HEAD~

	# What is staged counts: right in the tree, wrong in the index, and the other way round.
	sed -i 's/^count = 3/count = lots/' $document
	git add -A
	sed -i 's/^count = lots/count = 4/' $document
	commit refused -m "mended only in the tree"
	git add -A
	sed -i 's/^count = 4/count = lots/' $document
	commit made -m "spoilt only in the tree"
	commit refused -am "all of it"
	commit refused -m "this one" $document
	git checkout -q -- $document
	rm roles/base/role.ini
	echo '; a comment' >>$document
	commit made -m "only this one" $document
	git add -A
	commit refused -m "a role that is used is gone"
	expect_match "what was said" "$(cat "$T/said")" "^deployments/d/deployment.ini:[0-9]+:[0-9]+: role 'base' is not used in this deployment|^roles/app/role.ini:3:1: 'requires' names role 'base', which is not there"
	git reset -q --hard

	# From a directory below, and in another work tree.
	(cd roles && echo '; more' >>../$document && commit made -qam "from below")
	git worktree add -q "$T/second" -b second
	(
		cd "$T/second" || exit 1
		sed -i 's/^size = 5/size = 500/' $document
		commit refused -am "in another work tree"
		expect_match "what was said" "$(cat "$T/said")" '^deployments/d/deployment.ini:10:1: '
	) || exit 1
	git worktree remove --force "$T/second"

	# A role's content in a submodule.
	printf '#!/bin/sh\n' | document "../outer/apply" && chmod +x "$T/outer/apply"
	git init -q -b main "$T/outer" && git -C "$T/outer" add -A && git -C "$T/outer" commit -qm content
	printf '[role]\nrunner = script\n' >"$T/outer/role.ini"
	git -C "$T/outer" add -A && git -C "$T/outer" commit -qm role
	git submodule --quiet add "$T/outer" roles/outer
	sed -i 's/^roles = app/roles = app, outer/' $document
	git add -A
	commit made -m "a submodule"
	git -C roles/outer checkout -q HEAD~
	git add -A
	commit refused -m "a submodule at another commit"
	expect_match "what was said" "$(cat "$T/said")" "there is no role 'outer'"
	git submodule --quiet update
	git reset -q --hard
	rm -rf "$T/outer"

	# Desired state in a part of the work tree.
	mkdir infra && git mv deployments providers roles infra/ && git config rebarfs.directory infra/
	commit made -m moved
	sed -i 's/^count = 4/count = -1/' infra/$document
	commit refused -am "a mistake"
	expect_match "what was said" "$(cat "$T/said")" '^infra/deployments/d/deployment.ini:6:9: '
	cd "$T" || exit 1
}
for shell in sh bash "busybox sh"; do
	command -v "${shell%% *}" >/dev/null && try "$shell"
done

say "without rebarfs"
cd "$REPO" || exit 1
git checkout -q -- .
echo '; more' >>infra/deployments/d/deployment.ini
ln -s "$(command -v git)" "$T/empty/git"
sed "s|^PATH=.*|PATH=$T/empty|" "$HOOK" >.git/hooks/pre-commit # it may be installed where the hook looks by itself
chmod +x .git/hooks/pre-commit
commit refused -am "nobody looks"
expect_match "what was said" "$(cat "$T/said")" 'pre-commit: rebarfs is not on PATH'
