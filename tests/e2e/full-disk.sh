#!/bin/bash
# A disk that is full: nothing crashes and nobody waits for ever, the mount says what is wrong, what cannot be stored is refused, and when there is room
# again everything goes on by itself. State and repo each lie on a small disk of their own, in a mount namespace of the test.
. "$(dirname "$0")/lib.sh"
needs root fuse unshare
if [ -z "${REBARFS_E2E_MOUNTS:-}" ]; then
	REBARFS_E2E_MOUNTS=own exec unshare --mount --propagation private -- "$0" "$@"
fi
setup
mkdir "$STATE"
mount -t tmpfs -o size=8M,mode=755 state "$STATE" || skip "cannot mount a tmpfs"
mount -t tmpfs -o size=1M,mode=755 repo "$REPO" || skip "cannot mount a tmpfs"

fill() { # DIRECTORY: to the last byte
	dd if=/dev/zero of="$1/.filler" bs=64k 2>/dev/null
	local n
	for n in 1 2 3 4; do dd if=/dev/zero bs=1 count=4096 2>/dev/null >>"$1/.filler$n" || break; done
	expect "room on $1" "$(stat -fc %f "$1")" 0
}
room() {
	rm -f "$1"/.filler*
}
# store FILE VALUE SECONDS: prints how it ended: stored, refused, or waiting until it was interrupted
store() {
	timeout -s INT -k 5 "$3" sh -c 'echo "$2" >"$1"' - "$1" "$2" 2>/dev/null
	case $? in
	0) echo stored ;;
	124) echo waiting ;;
	137) echo "not to be killed" ;;
	*) echo refused ;;
	esac
}

fake_repo 3 'role-delay = 200ms' 'create-delay = 100ms'
start
settle d 30
document=$REPO/deployments/d/deployment.ini
V=$MNT/deployments/d/desired

say "the repo's disk is full"
cp "$document" "$T/before"
fill "$REPO"
expect "a value" "$(store "$V/nodes.n/count" 4 10)" refused
cmp "$T/before" "$document" || fail "a store without room changed the document"
expect_match "refused" "$(cat "$MNT/deployments/d/refused")" 'No space left on device'
expect "what is left beside the document" "$(ls -A "$REPO/deployments/d")" deployment.ini
python3 - "$V/nodes.n/count" <<'EOS' || fail "a store on a full disk should be ENOSPC"
import errno, os, sys
fd = os.open(sys.argv[1], os.O_WRONLY)
try:
    os.write(fd, b"4\n")
except OSError as e:
    sys.exit(e.errno != errno.ENOSPC)
sys.exit(1)
EOS
expect "a verb needs no room there" "$(store "$MNT/deployments/d/ctl" retry 10)" stored
expect "what a copy into the mount says" "$(head -c 20000 /dev/zero | cp /dev/stdin "$MNT/desired/deployments/d/big" 2>&1 | grep -o 'No space left on device')" "No space left on device"
rm -f "$REPO/deployments/d/big"
room "$REPO"
expect "a value" "$(store "$V/nodes.n/count" 4 10)" stored
settle d 30

say "the state directory's disk is full"
cp "$document" "$T/before"
fill "$STATE"
expect "a value whose document could not be kept" "$(store "$V/params.base/size" 6 10)" refused
cmp "$T/before" "$document" || fail "a value that was refused is in the document"
expect_match "refused" "$(cat "$MNT/deployments/d/refused")" 'No space left on device'
# The first wish finds out; nothing is lost, and whoever does not want to wait for room need not.
expect "the first verb" "$(store "$MNT/ctl" pause 4)" waiting
for file in status status.json problems metrics deployments/d/plan deployments/d/matrix nodes/d-n-1/why; do
	timeout 5 cat "$MNT/$file" >"$T/read" || fail "'$file' cannot be read while the disk is full"
done
expect_match "status" "$(cat "$MNT/status")" '^nothing can be stored: .*full'
expect "the next verb" "$(store "$MNT/deployments/d/ctl" retry 5)" refused
expect_match "refused" "$(cat "$MNT/deployments/d/refused")" 'nothing can be stored: .*full'
expect "a value" "$(store "$V/nodes.n/count" 5 5)" refused
expect_match "refused" "$(cat "$MNT/deployments/d/refused")" 'nothing can be stored: .*full'
# A document is the repo's; it comes into force when it can be kept.
sed -i 's/size = 5/size = 7/' "$MNT/desired/deployments/d/deployment.ini" || fail "a document cannot be written while the state directory is full"
timeout 5 cat "$MNT/problems" >/dev/null || fail "'problems' cannot be read while the disk is full"
expect "the value in force" "$(cat "$V/params.base/size")" 5
room "$STATE"
eventually 10 "status without trouble" sh -c '! grep -q "^nothing can be stored" "$1/status"' - "$MNT"
expect_match "the wish that nobody waited for" "$(cat "$MNT/status")" '^paused'
expect "a verb" "$(store "$MNT/ctl" resume 5)" stored
value_becomes 10 "$V/params.base/size" 7
settle d 30
expect "states" "$(states "$MNT/nodes/d-n-*/roles/*/state")" "8 active"

say "it becomes full in the middle of work"
before=$(runs "$MNT/nodes/*/roles/*")
sed -i 's/^max-parallel.*/max-parallel = 3/' "$REPO/providers/sim/provider.ini"
echo 12 >"$V/nodes.n/count" || fail "cannot store a value"
eventually 20 "the first of the new nodes" test -s "$MNT/nodes/d-n-6/address"
fill "$STATE"
eventually 20 "status to tell" grep -q '^nothing can be stored' "$MNT/status"
sleep 2
daemon_lives || fail "the daemon died: $(tail -n 3 "$T/daemon.log")"
timeout 5 cat "$MNT/deployments/d/matrix" >/dev/null || fail "the matrix cannot be read"
timeout 2 cat "$MNT/deployments/d/wait" >/dev/null 2>&1
expect "how 'cat wait' ended (124: it waits)" "$?" 124
room "$STATE"
settle d 60
expect "states" "$(states "$MNT/nodes/d-n-*/roles/*/state")" "24 active"
expect "runs" "$(runs "$MNT/nodes/*/roles/*")" $((before + 16))
stop
start
settle d 30
expect "runs after a restart" "$(runs "$MNT/nodes/*/roles/*")" $((before + 16))

say "it is ended while the disk is full"
fill "$STATE"
store "$MNT/ctl" pause 60 >"$T/last" &
last=$!
eventually 20 "status to tell" grep -q '^nothing can be stored' "$MNT/status"
kill -TERM "$DAEMON"
gone "$DAEMON" 20 || fail "the daemon still runs 20 s after SIGTERM"
wait "$DAEMON" 2>/dev/null
DAEMON=
wait "$last"
expect "the wish that was under way" "$(cat "$T/last")" refused
expect_match "what the daemon said" "$(cat "$T/daemon.log")" 'gave up after .*full'
! mountpoint -q "$MNT" || fail "'$MNT' is still mounted after SIGTERM"
# SQLite may still have room in the files it holds; when it has not, the start says so.
if ! timeout -k 30 3 "$REBARFS" -f -o "state=$STATE,cache=$CACHE" "$REPO" "$MNT" 2>"$T/said"; then
	expect_match "what a start on a full disk says" "$(cat "$T/said")" 'full|No space left|is unmounted'
fi
room "$STATE"
start
settle d 30
expect "runs" "$(runs "$MNT/nodes/*/roles/*")" $((before + 16))
stop
