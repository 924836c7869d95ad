#!/bin/bash
# Reading the state of nodes while 1,000 of them converge, beside a file system that does nothing.
. "$(dirname "$0")/lib.sh"

mkdir -p "$DIR/null"
MOUNTS+=("$DIR/null")
"$BUILD/bench/nullfs" "$DIR/null" &
PIDS+=($!)
wait_until 10 test -e "$DIR/null/state"

make_repo 1000 1s 100 # a hundred at a time: for a hundred seconds some 100 node roles end in every second
start_daemon
wait_until 20 grep -q working "$MNT/deployments/big/state"
files=("$MNT"/nodes/big-db-{1..100}/state)
ours=() null=()
for _ in 1 2 3; do # in turn, for the machine is not always equally busy; the best counts
	null+=("$("$BUILD/bench/openread" 50000 "$DIR/null/state" | cut -d " " -f 1)")
	ours+=("$("$BUILD/bench/openread" 50000 "${files[@]}" | cut -d " " -f 1)")
done
grep -q working "$MNT/deployments/big/state" || { echo "the nodes had converged before the end of the measurement" >&2 && exit 1; }
row "open+read+close of a node's state, 1,000 nodes converging" "$(best_of "${ours[@]}")" "$(best_of "${null[@]}")" us 2x "(null file system)"
