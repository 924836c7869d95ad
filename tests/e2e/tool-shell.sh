#!/bin/bash
# Redirections of three shells, and what people put in front of them: each document comes into force as it was meant, however long its writer takes.
. "$(dirname "$0")/saves.sh"
needs root fuse dash busybox
begin
ROUNDS=2

# shellcheck disable=SC2016
{
	saves_in_shells "cat >" 'cat "$NEW" >"$FILE"'
	saves_in_shells "a here-document" 'text=$(cat "$NEW"); cat >"$FILE" <<END
$text
END'
	saves_in_shells "printf >" 'printf "%s\n" "$(cat "$NEW")" >"$FILE"'
	saves_in_shells "a slow writer" '{ head -n 5 "$NEW"; sleep 0.5; tail -n +6 "$NEW"; } >"$FILE"'
	saves_in_shells "two redirections into one open file" 'exec 3>"$FILE"; head -n 3 "$NEW" >&3; sleep 0.4; tail -n +4 "$NEW" >&3; exec 3>&-'
	saves_in_shells "tee" 'tee "$FILE" <"$NEW" >/dev/null'
	saves_in_shells "a new file and a rename" 'cat "$NEW" >"$FILE.new" && mv "$FILE.new" "$FILE"'
	saves_in_shells "remove, then write" 'rm "$FILE" && cat "$NEW" >"$FILE"'
	saves_in_shells "noclobber" 'set -C; rm -f "$FILE"; cat "$NEW" >"$FILE"'
}

# Two saves at once: the last one wins, and nothing between the two is ever seen.
mark
new_text
cp "$NEW" "$T/first"
new_text
{ head -n 4 "$T/first"; sleep 0.4; tail -n +5 "$T/first"; } >"$FILE" &
slow=$!
sleep 0.1
cat "$NEW" >"$T/second" && mv "$T/second" "$FILE"
wait "$slow"
expect "the document of who came last" "$(cat "$FILE")" "$(cat "$NEW")"
expect_models "two savers" "$(digits "$NEW")"

# Appended to: every state is one that was meant.
mark
expected=
for n in 1 2 3; do
	echo "; appended $n" >>"$FILE"
	expected="$expected${expected:+ }$(digits "$REPO/$DOCUMENT")"
	expect_models "an append" "$expected"
done

# A mistake is said, and what was good stays.
mark
new_text
sed 's/^count/cuont/' "$NEW" >"$FILE"
expect_models "a mistake" "invalid:"
expect_match "problems" "$(cat "$MNT/problems")" "^$DOCUMENT:[0-9:]+ .*cuont"
cat "$NEW" >"$FILE"
expect_models "a mistake that is put right" "invalid: valid $(digits "$NEW")"

# A removal that was meant is one.
mark
rm -r "$MNT/desired/deployments/d"
expect_models "a document that is removed" "orphaned:"
mkdir "$MNT/desired/deployments/d" && cp "$NEW" "$FILE"
expect_models "a document that is put back" "orphaned: its"
end
