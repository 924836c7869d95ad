# What the tests of tools that save documents share: a repo, somebody who looks all the time, and the models that the engine saw.
#
#   . "$(dirname "$0")/saves.sh"
#   needs root fuse TOOL
#   begin                                    # mounts, and looks at 'plan' again and again, which takes over whatever lies there
#   saves "the tool" COMMAND...              # COMMAND is run with several texts one after the other: what came into force must be these, nothing else
#
# A command finds the text it is to save in $NEW (a file outside the mount) and the document in $FILE.
# shellcheck shell=bash
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

DOCUMENT=deployments/d/deployment.ini
LOOKER=
ROUNDS=3

begin() {
	setup
	fake_repo 1
	NEW=$T/new FILE=$MNT/desired/$DOCUMENT
	export NEW FILE
	STATE_NUMBER=0
	start
	settle d 30
	mark
	look_all_the_time
}

# The worst that can happen to who replaces a file in several steps is that somebody looks in between.
look_all_the_time() {
	# as long as this script lives: nobody ends what a SIGKILL orphaned
	while kill -0 $$ 2>/dev/null; do cat "$MNT/deployments/d/plan" >/dev/null 2>&1 || sleep 0.1; done &
	LOOKER=$!
	disown
	NODES+=("$LOOKER") # ended by cleanup
}

# Another text for the document, into $NEW.
new_text() {
	STATE_NUMBER=$((STATE_NUMBER + 1))
	cat >"$NEW" <<-END
		; text $STATE_NUMBER
		[deployment]
		provider = sim

		[nodes n]
		count = 1
		roles = app

		[params base]
		size = $((STATE_NUMBER % 100 + 1))
	END
}

# Digits of a file's hash, as events show them.
digits() {
	sha256sum <"$1" | cut -c 1-8
}

# From here on models are counted.
mark() {
	cat "$MNT/deployments/d/plan" >/dev/null
	MARK=$(wc -l <"$MNT/deployments/d/events")
}

# models [DOCUMENT]: what was seen of it since the mark: digits of each text that came into force, 'other' where something else did, and every trouble.
models() {
	cat "$MNT/deployments/d/plan" >/dev/null
	tail -n "+$((MARK + 1))" "$MNT/deployments/d/events" | awk -v document="${1:-$DOCUMENT}" '
		/ d: in force: as before; commit/ { next } # the same texts, committed
		/ d: in force: / {
			seen = "other"
			sub(/.* d: in force: /, "")
			sub(/; commit.*/, "")
			n = split($0, parts, ", ")
			for (i = 1; i <= n; i++) if (index(parts[i], document " ") == 1) seen = substr(parts[i], length(document) + 2)
			print seen
		}
		/ d: (invalid|orphaned|valid again|its document is back|found)/ { print $3 }' | paste -sd ' '
}

# seen REGEX: in an event since the mark
seen() {
	tail -n "+$((MARK + 1))" "$MNT/deployments/d/events" | grep -qE -- "$1"
}

# expect_models WHAT EXPECTED [DOCUMENT]
expect_models() {
	expect "what came into force with $1" "$(models "${3:-}")" "$2"
}

# saves WHAT COMMAND...
saves() {
	local what=$1 expected= n
	shift
	mark
	for ((n = 0; n < ROUNDS; n++)); do
		new_text
		"$@" || fail "$what: '$*' failed"
		cmp -s "$NEW" "$REPO/$DOCUMENT" || fail "$what did not save what it should: $(diff "$NEW" "$REPO/$DOCUMENT")"
		cmp -s "$NEW" "$FILE" || fail "$what: the mount shows something else: $(diff "$NEW" "$FILE")"
		expected="$expected${expected:+ }$(digits "$NEW")"
		expect_models "$what" "$expected"
	done
}

# In each shell: saves_in_shells WHAT SCRIPT
saves_in_shells() {
	local shell
	for shell in bash dash "busybox sh"; do
		# shellcheck disable=SC2086
		saves "$1 in $shell" $shell -c "$2"
	done
}

end() {
	kill "$LOOKER"
	expect "problems at the end" "$(cat "$MNT/problems")" ""
	stop
}
