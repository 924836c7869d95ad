#!/bin/bash
# The command line: what it prints, how it exits, what it refuses.
. "$(dirname "$0")/lib.sh"
needs root fuse jq
setup
fake_repo 1

# says WANTED_RC REGEX ARGUMENT...
says() {
	local rc=$1 regex=$2 out got
	shift 2
	out=$(timeout 20 "$REBARFS" "$@" 2>&1)
	got=$?
	[ "$got" = "$rc" ] || fail "'rebarfs $*' exits with $got, not $rc: $out"
	expect_match "what 'rebarfs $*' says" "$out" "$regex"
	expect_no_match "what 'rebarfs $*' says" "$out" '(Segmentation|Sanitizer|assert)'
}

says 0 'rebarfs .*REPO MOUNTPOINT' --help
says 0 '^rebarfs [0-9]+\.[0-9]+' --version
says 2 "unknown option '--pln' .did you mean '--plan'" --pln "$REPO" "$T"
says 2 "unknown option '-x'" -x "$REPO" "$MNT"
says 0 '' --check "$REPO"
expect "as JSON" "$("$REBARFS" --check --json "$REPO")" '[]'
says 2 "cannot read the repo '$T/nosuch': No such file" --check "$T/nosuch"
"$REBARFS" --check "$T/nosuch" 2>/dev/null | grep . && fail "why it cannot look belongs to standard error"
sed -i 's/^size = 5/size = 500/' "$REPO/deployments/d/deployment.ini"
says 1 '^deployments/d/deployment.ini:10:1: ' --check "$REPO"
expect "as JSON" "$("$REBARFS" --check --json "$REPO" | jq -c '.[] | [.file, .line, .column, (.message | type)]')" '["deployments/d/deployment.ini",10,1,"string"]'
sed -i 's/^size = 500/size = 5/' "$REPO/deployments/d/deployment.ini"
for arguments in "" "$REPO" "--nosuch" "-o nosuch=1 $REPO $MNT" "--check $REPO $MNT" "--check --plan $REPO" "--plan $REPO" "--json $REPO $MNT" "-o state=$T/s1 $REPO $T/nosuch" "-o state=$T/s2 $T/nosuch $MNT" "$REPO $MNT more"; do
	# shellcheck disable=SC2086
	out=$(timeout 20 "$REBARFS" $arguments 2>&1) && fail "'rebarfs $arguments' should fail"
	[ -n "$out" ] || fail "'rebarfs $arguments' fails and says nothing"
	! mountpoint -q "$MNT" || fail "'rebarfs $arguments' mounted something"
done

says 1 "mkdir $T/nosuch" -o "state=$T/s1" "$REPO" "$T/nosuch"
says 2 'to be mounted\?' "$REPO"
mkdir "$T/empty"
says 0 "nothing is described in '$T/empty'" --check "$T/empty"

# The repo in the mount and the mount in the repo.
mkdir -p "$REPO/in" "$T/around/repo"
says 1 '(in|inside|below|contains)' -o "state=$T/s3" "$REPO" "$REPO/in"
rmdir "$REPO/in"
says 1 '(in|inside|below|contains)' -o "state=$T/s4" "$T/around/repo" "$T/around"
# The state directory in the repo would be read as desired state.
says 1 '' -o "state=$REPO/state" "$REPO" "$MNT"

# It goes to the background, and only once the mount answers.
timeout 30 "$REBARFS" -o "state=$STATE,cache=$CACHE" "$REPO" "$MNT" || fail "cannot mount in the background"
[ -s "$MNT/README" ] || fail "rebarfs came back before the mount answered"
DAEMON=$(daemon_of_state)
[ -n "$DAEMON" ] || fail "no daemon runs for this state directory"
# The reference in README.md is what the mount prints: whoever adds a row copies it there from the mount's README, from the line '/' to the end.
diff <(sed -n '/^\/$/,$p' "$MNT/README") <(sed -n '/^## The tree/,/^## How to write a provider/p' "$TOP/README.md" | sed -n '/^```$/,/^```$/{//!p}') >"$T/reference" ||
	fail "the reference in README.md is not what the mount's README says (< is the mount's): $(cat "$T/reference")"
for fd in /proc/"$DAEMON"/fd/*; do
	case $(readlink "$fd") in "$T"/*.out) fail "the daemon kept a descriptor of whoever started it" ;; esac
done
settle d 30

# One daemon for a state directory; one repo for a state directory.
mkdir "$T/mnt2"
says 1 "$DAEMON for '$MNT'" -o "state=$STATE" "$REPO" "$T/mnt2"
fusermount3 -u "$MNT" || fail "cannot unmount a mount that nobody uses"
gone "$DAEMON" 10 || fail "the daemon still runs 10 s after an unmount"
cp -a "$REPO" "$T/repo2"
says 1 "$REPO" -o "state=$STATE" "$T/repo2" "$T/mnt2"

# The mount of a daemon that died is cleared.
start
kill_hard
cat "$MNT/README" >/dev/null 2>&1 && fail "a mount without its daemon should not answer"
start
expect "state" "$(cat "$MNT/deployments/d/state")" active
stop

# As fstab does it: mount(8) runs mount.fuse3 (or mount.fuse), which runs the program: "rebarfs#REPO" of type fuse, or REPO of type fuse.rebarfs once it is installed.
if command -v mount.fuse3 >/dev/null || command -v mount.fuse >/dev/null; then
	mount -t fuse -o "state=$STATE,cache=$CACHE" "$REBARFS#$REPO" "$MNT" || fail "mount -t fuse failed"
	expect "state" "$(cat "$MNT/deployments/d/state")" active
	DAEMON=$(daemon_of_state)
	umount "$MNT" || fail "umount failed"
	gone "$DAEMON" 10 || fail "the daemon still runs 10 s after umount"
	DAEMON=
fi

# Children inherit neither /dev/fuse nor the database: none is running now, so look at the daemon's own flags.
start
for info in /proc/"$DAEMON"/fdinfo/*; do
	fd=${info##*/}
	[ "$fd" -gt 2 ] || continue
	target=$(readlink "/proc/$DAEMON/fd/$fd") || continue
	flags=$(awk '$1 == "flags:" { print $2 }' "$info" 2>/dev/null)
	[ -n "$flags" ] && [ $((flags & 02000000)) -ne 0 ] || fail "descriptor $fd of the daemon ($target) is not close-on-exec"
done
stop
