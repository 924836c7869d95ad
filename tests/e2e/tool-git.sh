#!/bin/bash
# git in the mount: what one command does to many files is one model, and what it does on its way there is none.
. "$(dirname "$0")/saves.sh"
needs root fuse git
begin
export GIT_CONFIG_GLOBAL=$T/gitconfig
git config --global user.name Test && git config --global user.email test@example.org && git config --global init.defaultBranch main
git config --global safe.directory '*' && git config --global core.editor true && git config --global advice.detachedHead false
D=$MNT/desired
g() {
	git -C "$D" "$@" >"$T/git.log" 2>&1 || fail "git $*: $(tail -n 3 "$T/git.log")"
}
# Another text in the document, committed: its digits are in $TEXT.
commit() { # MESSAGE
	new_text
	cp "$NEW" "$FILE"
	TEXT=$(digits "$NEW")
	g commit -qam "$1"
	mark
}
now() {
	digits "$REPO/$DOCUMENT"
}

# A role of many files, so that a checkout takes its time.
mkdir -p "$D/roles/many/files"
for n in {1..150}; do echo "$n" >"$D/roles/many/files/$n"; done
printf '#!/bin/sh\n' >"$D/roles/many/apply"
chmod +x "$D/roles/many/apply"
printf '[role]\nrunner = script\n' >"$D/roles/many/role.ini"
new_text
sed -i 's/^roles = app/roles = app, many/' "$NEW"
cp "$NEW" "$FILE"
settle d 30

mark
g init -q
g add -A
g commit -qm one
expect "git status" "$(git -C "$D" status --porcelain)" ""
expect_models "git init, add and commit" ""
one=$(now)

g switch -qc two
for n in {1..150}; do echo "$n two" >"$D/roles/many/files/$n"; done
sed -i 's/^size = .*/size = 77/' "$FILE"
g commit -qam two
two=$(now)
mark
g switch -q main
expect_models "git switch" "$one"
expect_match "its event" "$(tail -n 20 "$MNT/deployments/d/events")" " d: in force: $DOCUMENT $one, roles/many [0-9a-f]{8}"
g checkout -q two
expect_models "git checkout" "$one $two"
g reset -q --hard main
expect_models "git reset --hard" "$one $two $one"
expect "git status" "$(git -C "$D" status --porcelain)" ""
g reset -q --hard ORIG_HEAD
g switch -q main

# A branch without the role, and without its directories: stash, checkout and rebase remove them, and make them again.
g switch -qc without
g rm -qr roles/many
sed -i 's/, many//' "$FILE"
g commit -qam "without many"
without=$(now)
mark
g switch -q main
expect_models "git switch to where there is a role more" "$one"
g switch -q without
expect_models "git switch to where there is none" "$one $without"
expect "roles" "$(list "$MNT/roles")" "app base"
g switch -q main
settle d 30

mark
cp "$NEW" "$T/new.kept"
sed -i 's/^size = .*/size = 55/' "$FILE"
dirty=$(now)
expect_models "an edit" "$dirty"
g stash -q
expect_models "git stash" "$dirty $one"
g stash pop -q
expect_models "git stash pop" "$dirty $one $dirty"
g checkout -q -- "$DOCUMENT"
expect_models "git checkout of one file" "$dirty $one $dirty $one"

# From elsewhere: a clone made in the mount, its pulls and rebases.
git clone -q --bare "$REPO" "$T/origin.git"
git clone -q "$T/origin.git" "$T/colleague"
g remote add origin "$T/origin.git"
g fetch -q
g branch -q --set-upstream-to=origin/main
colleague() { # SIZE: says so in the document, and pushes
	sed -i "s/^size = .*/size = $1/" "$T/colleague/$DOCUMENT"
	git -C "$T/colleague" commit -qam "$1" && git -C "$T/colleague" push -q || fail "the colleague's git failed"
}
mark
colleague 20
g pull -q
expect_models "git pull" "$(digits "$T/colleague/$DOCUMENT")"
# Two commits of ours, in another file, over two of his
mark
expected=
for n in 1 2; do
	echo "; ours $n" >>"$D/roles/app/role.ini"
	g commit -qam "ours $n"
	expected="$expected${expected:+ }other"
	expect_models "a commit of a role" "$expected"
done
colleague 21
colleague 22
mark
g pull -q --rebase
expect_models "git pull --rebase" "$(digits "$T/colleague/$DOCUMENT")"
colleague 23
mark
echo "; ours 3" >>"$D/roles/app/role.ini"
g commit -qam "ours 3"
g pull -q --no-rebase
expect_models "git pull with a merge" "other $(digits "$T/colleague/$DOCUMENT")"

# With conflicts nothing is taken over until it is settled, whoever looks.
conflict() { # WHAT GIT-ARGUMENT...
	local what=$1
	shift
	git -C "$D" "$@" >"$T/git.log" 2>&1 && fail "$what should have a conflict"
	grep -q '^<<<<<<<' "$REPO/$DOCUMENT" || fail "$what left no conflict: $(cat "$T/git.log")"
	sleep 0.7
	expect_models "the middle of $what" ""
	expect "problems in the middle of $what" "$(cat "$MNT/problems")" ""
}
g switch -qc three main
sed -i 's/^size = .*/size = 33/' "$FILE"
g commit -qam three
g switch -q main
sed -i 's/^size = .*/size = 34/' "$FILE"
g commit -qam four
mark
conflict "a merge" merge -q three
g merge --abort
expect_models "a merge that was given up" ""
conflict "a cherry-pick" cherry-pick three
sed -i '/^<<<<<<</d; /^=====/,/^>>>>>>>/d' "$FILE"
sed -i 's/^size = .*/size = 35/' "$FILE"
sleep 0.5
expect_models "a conflict that is settled but not committed" ""
g add -A
g cherry-pick --continue
expect_models "a cherry-pick" "$(now)"
mark
conflict "a rebase" rebase -q three
g rebase --abort
expect_models "a rebase that was given up" ""
mark
conflict "a rebase" rebase -q three
git -C "$D" checkout -q --theirs "$DOCUMENT"
g add -A
git -C "$D" rebase --continue >"$T/git.log" 2>&1 || { # the second commit of ours conflicts as well
	expect_models "the middle of a rebase" ""
	git -C "$D" checkout -q --theirs "$DOCUMENT"
	g add -A
	g rebase --continue
}
expect_models "a rebase" ""
expect "git status" "$(git -C "$D" status --porcelain)" ""
g revert --no-edit HEAD
expect_models "git revert" "$(now)"
end
