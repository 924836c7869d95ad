#!/bin/bash
# Where git's own files lie: a clone made in the mount, a repo that is a worktree or keeps .git elsewhere, submodules, repos within the repo, links.
. "$(dirname "$0")/saves.sh"
needs root fuse git
begin
export GIT_CONFIG_GLOBAL=$T/gitconfig
git config --global user.name Test && git config --global user.email test@example.org && git config --global init.defaultBranch main
git config --global safe.directory '*' && git config --global protocol.file.allow always && git config --global advice.detachedHead false
D=$MNT/desired
quietly() {
	"$@" >"$T/git.log" 2>&1 || fail "$*: $(tail -n 3 "$T/git.log")"
}
# two commits in a repo of its own: how a role comes from elsewhere
mkdir -p "$T/role/files"
printf '[role]\nrunner = script\n' >"$T/role/role.ini"
for n in 1 2; do
	printf '#!/bin/sh\necho %s\n' $n >"$T/role/apply"
	chmod +x "$T/role/apply"
	for f in {1..50}; do echo "$n $f" >"$T/role/files/$f"; done
	[ -d "$T/role/.git" ] || git -C "$T/role" init -q
	git -C "$T/role" add -A && git -C "$T/role" commit -qm "$n" || fail "git commit"
done

# A submodule as a role.
quietly git -C "$D" init
quietly git -C "$D" add -A
quietly git -C "$D" commit -m one
mark
quietly git -C "$D" submodule add "$T/role" roles/foreign
sed -i 's/^roles = app/roles = app, foreign/' "$FILE"
with=$(digits "$REPO/$DOCUMENT")
expect_models "a submodule" "$with"
settle d 30
quietly git -C "$D" commit -am "with a submodule"
mark
quietly git -C "$D/roles/foreign" checkout HEAD~1
expect "contents with a checkout in the submodule" "$(models roles/foreign | wc -w)" 1
quietly git -C "$D" submodule update
expect "contents with git submodule update" "$(models roles/foreign | wc -w)" 2
expect "git status" "$(git -C "$D" status --porcelain)" ""
# While git holds the submodule's lock nothing of it is read, whoever looks.
mark
: >"$REPO/.git/modules/roles/foreign/index.lock"
echo 'echo half' >>"$D/roles/foreign/apply"
sleep 0.6
expect_models "the middle of a submodule's checkout" "" roles/foreign
rm "$REPO/.git/modules/roles/foreign/index.lock"
eventually 5 "the role once its lock is gone" seen "d: in force: roles/foreign"
quietly git -C "$D/roles/foreign" checkout -q -- .

# A clone of a role into the mount: it is there when it is whole.
mark
quietly git clone -q "$T/role" "$D/roles/cloned"
sed -i 's/foreign$/foreign, cloned/' "$FILE"
settle d 30
expect "contents with a clone in the repo" "$(models roles/cloned | wc -w)" 1

# Links: a role, a document and a whole deployment elsewhere in the repo, and a role outside of it.
mark
cp -r "$T/role" "$T/outside"
ln -s "$T/outside" "$D/roles/outside"
ln -s ../roles/app "$D/roles/alias"
sed -i 's/cloned$/cloned, outside, alias/' "$FILE"
settle d 30
expect_models "links to roles" "$(digits "$REPO/$DOCUMENT")"
mark
echo 'echo changed' >>"$T/outside/apply"
eventually 5 "a change behind a link out of the repo" seen "d: in force: roles/outside [0-9a-f]"
mark
mkdir "$D/shared"
cp "$FILE" "$D/shared/etc.ini"
ln -sf ../../shared/etc.ini "$FILE"
expect_models "a link in the place of the same document" ""
new_text
cat "$NEW" >"$FILE"
expect "where the text went" "$(digits "$REPO/shared/etc.ini")" "$(digits "$NEW")"
expect_models "a document behind a link" "$(digits "$NEW")"
cp "$NEW" "$T/elsewhere.ini"
ln -sf "$T/elsewhere.ini" "$FILE"
expect_models "a link to outside of the same text" "$(digits "$NEW")"
before=$(digits "$NEW")
new_text
cat "$NEW" >"$T/elsewhere.ini"
eventually 3 "a change of a document outside of the repo" seen "$(digits "$NEW")"
expect_models "what a link leads to" "$before $(digits "$NEW")"
cp "$NEW" "$T/elsewhere.new"
echo "; replaced" >>"$T/elsewhere.new"
mv "$T/elsewhere.new" "$T/elsewhere.ini"
eventually 3 "a replaced document outside of the repo" seen "$(digits "$T/elsewhere.ini")"
kill "$LOOKER"
expect "problems" "$(cat "$MNT/problems")" ""
stop

# A clone into an empty mount, then a worktree of it with its git directory elsewhere, then one with --separate-git-dir.
rm "$REPO/$DOCUMENT" && cp "$NEW" "$REPO/$DOCUMENT" && rm -r "$REPO/roles/"{foreign,cloned,outside,alias} "$REPO/.gitmodules" "$REPO/shared"
quietly git -C "$REPO" add -A
quietly git -C "$REPO" commit -m "no submodules"
git clone -q --bare "$REPO" "$T/origin.git"
for kind in clone worktree separate; do
	rm -rf "$REPO" "$STATE"
	case $kind in
	clone) mkdir "$REPO" ;;
	worktree) quietly git -C "$T/origin.git" worktree add "$REPO" -b "tree" main ;;
	separate) quietly git clone --separate-git-dir "$T/git.dir" "$T/origin.git" "$REPO" ;;
	esac
	start
	[ "$kind" != clone ] || quietly git -C "$D" clone "$T/origin.git" .
	eventually 5 "the deployment of a $kind" test -d "$MNT/deployments/d"
	settle d 30
	expect "what came into force with a $kind" "$(grep -c 'd: in force: .*deployment.ini' "$MNT/deployments/d/events")" 1
	look_all_the_time
	mark
	new_text
	cp "$NEW" "$FILE"
	quietly git -C "$D" commit -am "in a $kind"
	text=$(digits "$NEW")
	expect_models "a commit in a $kind" "$text"
	quietly git -C "$D" checkout HEAD~1
	expect_models "going back in a $kind" "$text $(digits "$REPO/$DOCUMENT")"
	expect_match "the event with a $kind" "$(tail -n 20 "$MNT/deployments/d/events")" "; commit $(git -C "$REPO" rev-parse HEAD | cut -c 1-8)"
	kill "$LOOKER"
	expect "git status in a $kind" "$(git -C "$D" status --porcelain)" ""
	# Its lock counts, wherever it lies.
	lock=$(git -C "$REPO" rev-parse --absolute-git-dir)/index.lock
	: >"$lock"
	new_text
	cp "$NEW" "$FILE"
	sleep 0.7
	expect_match "the last event while a $kind is locked" "$(tail -n 1 "$MNT/deployments/d/events")" "commit|active"
	rm "$lock"
	settle d 30
	expect "what is in force in a $kind" "$(cat "$MNT/deployments/d/desired/params.base/size")" "$(sed -n 's/^size = //p' "$NEW")"
	stop
done
