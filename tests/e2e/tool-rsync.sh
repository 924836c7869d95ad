#!/bin/bash
# rsync in all its ways of putting files in place, for one document and for a whole tree.
. "$(dirname "$0")/saves.sh"
needs root fuse rsync
begin
ROUNDS=2

cp -a "$REPO" "$T/tree"
synced() { # OPTION...
	cp "$NEW" "$T/tree/$DOCUMENT" && rsync -rpI "$@" "$T/tree/" "$MNT/desired/"
}
saves "rsync" rsync -I "$NEW" "$FILE"
saves "rsync of a tree" synced
saves "rsync -a of a tree" synced -a --delete
saves "rsync --inplace" synced --inplace
saves "rsync --inplace --no-whole-file" synced --inplace --no-whole-file
saves "rsync --delay-updates" synced --delay-updates
saves "rsync --temp-dir" synced --temp-dir="$T"
saves "rsync --backup" synced --backup

# A role of many files, which all change with the document: one model has the old ones, the next the new ones.
mkdir -p "$T/tree/roles/shell/files"
printf '[role]\nrunner = script\n' >"$T/tree/roles/shell/role.ini"
printf '#!/bin/sh\n' >"$T/tree/roles/shell/apply"
chmod +x "$T/tree/roles/shell/apply"
for n in {1..200}; do echo "$n" >"$T/tree/roles/shell/files/$n"; done
sed 's/^roles = app/roles = app, shell/' "$NEW" >"$T/tree/$DOCUMENT"
mark
rsync -a "$T/tree/" "$MNT/desired/" || fail "rsync failed"
settle d 30
expect "what came into force with a role of 200 files" "$(models roles/shell | wc -w)" 1
kill "$LOOKER" # names do not come and go in what follows: who looks in the middle would see the middle
mark
for n in {1..200}; do echo "$n $n" >"$T/tree/roles/shell/files/$n"; done
rsync -a "$T/tree/" "$MNT/desired/" || fail "rsync failed"
settle d 30
expect "what came into force with 200 changed files" "$(models roles/shell | wc -w)" 1

# What is no longer there goes.
mark
sed -i 's/^roles = app, shell/roles = app/' "$T/tree/$DOCUMENT"
rm -r "$T/tree/roles/shell"
rsync -a --delete "$T/tree/" "$MNT/desired/" || fail "rsync --delete failed"
expect_models "rsync --delete" "$(digits "$T/tree/$DOCUMENT")"
expect "roles" "$(list "$MNT/roles")" "app base"
expect "problems at the end" "$(cat "$MNT/problems")" ""
stop
