#!/bin/bash
# Editors without a screen that write a file anew and rename it: sed -i of two kinds, perl -i, git config -f, patch's way.
. "$(dirname "$0")/saves.sh"
needs root fuse busybox git perl
begin

# In place, and all of the new text in place of the old one
saves "sed -i" sed -i -n -e "1r $NEW" "$FILE"
saves "sed -i.bak" sed -i.bak -n -e "1r $NEW" "$FILE"
saves "sed -i --follow-symlinks" sed -i --follow-symlinks -n -e "1r $NEW" "$FILE"
saves "busybox sed -i" busybox sed -i -n -e "1r $NEW" "$FILE"
# shellcheck disable=SC2016
saves "perl -i" perl -i -ne 'if ($. == 1) { open my $in, "<", $ENV{NEW}; print while <$in> }' "$FILE"

# git config indents every key that it writes, and groups are subsections to it.
mark
expected=
for n in 20 30 40; do
	git config -f "$MNT/desired/providers/sim/provider.ini" provider.max-parallel "$n" || fail "git config failed"
	expect "what git config wrote" "$(git config -f "$REPO/providers/sim/provider.ini" provider.max-parallel)" "$n"
	expected="$expected${expected:+ }$(digits "$REPO/providers/sim/provider.ini")"
	expect_models "git config -f" "$expected" providers/sim/provider.ini
done
expect "the value in force" "$(cat "$MNT/providers/sim/desired/provider/max-parallel")" 40
mkdir "$MNT/desired/deployments/g"
git config -f "$MNT/desired/deployments/g/deployment.ini" deployment.provider sim
git config -f "$MNT/desired/deployments/g/deployment.ini" nodes.n.roles app
git config -f "$MNT/desired/deployments/g/deployment.ini" nodes.n.count 2
eventually 5 "a deployment of git config" test -d "$MNT/deployments/g"
settle g 30
expect "nodes of what git config made" "$(list "$MNT/deployments/g/nodes")" "g-n-1 g-n-2"
echo 3 >"$MNT/deployments/g/desired/nodes.n/count" || fail "a value cannot be stored into what git config made: $(cat "$MNT/deployments/g/refused")"
expect "what git config reads of it" "$(git config -f "$REPO/deployments/g/deployment.ini" nodes.n.count)" 3

# A role's content is one thing: its lock and its new file were never part of it.
document roles/shell/apply <<<'#!/bin/sh'
chmod +x "$REPO/roles/shell/apply"
printf '[role]\nrunner = script\n' | document roles/shell/role.ini
sed -i 's/^roles = app/roles = app, shell/' "$FILE"
settle d 30
mark
git config -f "$MNT/desired/roles/shell/role.ini" role.retries 3 || fail "git config of a role failed"
expect_models "git config -f of a role" "$(digits "$REPO/roles/shell/role.ini")" roles/shell/role.ini
mark
for n in 4 5 6; do
	sed -i "1a echo $n" "$MNT/desired/roles/shell/apply" || fail "sed -i of a script failed"
	settle d 30
done
expect "how often content came into force" "$(models roles/shell | wc -w)" 3
expect_match "its events" "$(tail -n 20 "$MNT/deployments/d/events")" 'd: in force: roles/shell [0-9a-f]{8}$'
end
