#!/bin/bash
# Readers that wait: two hundred of them cost the mount nothing, each can be interrupted, and none can keep the daemon from ending.
. "$(dirname "$0")/lib.sh"
needs root fuse python3
setup
fake_repo 2 'role-delay = 1h'
start
eventually 10 "a role that runs" grep -q running "$MNT/nodes/d-n-1/roles/base/state"

# What the kernel keeps of a state is never older than what somebody may know.
state=$MNT/nodes/d-n-1/state
for n in {1..25}; do
	expect "size of the state of a node that is ready, time $n" "$(stat -c %s "$state")" 6
	echo hold >"$MNT/nodes/d-n-1/ctl"
	expect "size of the state of a node that is held, time $n" "$(stat -c %s "$state")" 5
	expect "state of a node that is held, time $n" "$(cat "$state")" held
	echo unhold >"$MNT/nodes/d-n-1/ctl"
done

readers=()
more_readers() {
	local n
	for ((n = 0; n < 100; n++)); do
		cat "$MNT/deployments/d/wait" >/dev/null 2>&1 &
		readers+=($!)
		cat "$MNT/events.follow" >/dev/null 2>&1 &
		readers+=($!)
	done
	sleep 0.5
}
all_ended() { # SECONDS WHAT
	local end=$((SECONDS + $1)) pid
	for pid in "${readers[@]}"; do
		while kill -0 "$pid" 2>/dev/null; do
			[ "$SECONDS" -le "$end" ] || fail "readers are still blocked $1 s after $2"
			sleep 0.05
		done
	done
	readers=()
}

more_readers
alive=0
for pid in "${readers[@]}"; do kill -0 "$pid" 2>/dev/null && alive=$((alive + 1)); done
expect "readers that wait" "$alive" 200
for file in status deployments/d/matrix nodes/d-n-1/why deployments/d/plan; do
	timeout 2 cat "$MNT/$file" >/dev/null || fail "'$file' does not answer while 200 readers wait"
done
timeout 2 sh -c 'echo pause >"$1/ctl"' - "$MNT" || fail "a write is not taken while 200 readers wait"
timeout 2 sh -c 'echo resume >"$1/ctl"' - "$MNT" || fail "a write is not taken while 200 readers wait"

# Ctrl-C, on each kind.
for file in deployments/d/wait events.follow; do
	timeout -s INT -k 3 1 cat "$MNT/$file" >/dev/null 2>&1
	expect "how 'cat $file' ended on SIGINT (124: at once; 137: it had to be killed)" "$?" 124
done

# poll(2): nothing to read, nothing; something, at once.
python3 - "$MNT" <<'EOF' || fail "poll on events.follow (see above)"
import os, select, sys, time
mnt = sys.argv[1]
fd = os.open(mnt + "/events.follow", os.O_RDONLY)
poll = select.poll()
poll.register(fd, select.POLLIN)
while poll.poll(300):
    if not os.read(fd, 65536):
        sys.exit("events.follow came to an end")
with open(mnt + "/deployments/d/ctl", "w") as f:
    f.write("pause\n")
began = time.monotonic()
if not poll.poll(5000):
    sys.exit("an event came and poll did not tell")
text = os.read(fd, 65536).decode()
if "pause" not in text:
    sys.exit("the event is not in what was read: " + text)
if time.monotonic() - began > 2:
    sys.exit("poll told late")
EOF

fusermount3 -u "$MNT" 2>"$T/busy" && fail "'fusermount3 -u' should say busy while somebody reads"
expect_match "what it says" "$(cat "$T/busy")" '[Bb]usy'
daemon_lives || fail "the daemon ended on a 'fusermount3 -u' that was refused"

kill -TERM "$DAEMON"
all_ended 3 SIGTERM
gone "$DAEMON" 10 || fail "the daemon still runs 10 s after SIGTERM"
DAEMON=
! mountpoint -q "$MNT" || fail "'$MNT' is still mounted after SIGTERM"

start
more_readers
fusermount3 -uz "$MNT" || fail "'fusermount3 -uz' failed"
all_ended 3 "'fusermount3 -uz'"
gone "$DAEMON" 10 || fail "the daemon still runs 10 s after 'fusermount3 -uz'"
DAEMON=
start
stop
