#!/bin/bash
# What surrounds the daemon fails while it grows a deployment from 10 to 30 nodes: its database cannot be written, no file can be opened, there is no memory, the clock jumps, it
# is stopped. It lives on (without memory the next one does), says what is wrong where that concerns a user, and when it is over everything is as if it had not been.
. "$(dirname "$0")/lib.sh"
STOP=${FAULT_STOP:-60}
PRELOAD=$BUILD/fault/trouble.so
export REBARFS_TROUBLE=
rc=0

new_life() { # NAME
	D=$work/$1
	mkdir -p "$D/repo" "$D/mnt"
	printf '[provider]\ntype = fake\nmax-parallel = 5\n[fake]\ncreate-delay = 100ms\nrole-delay = 50ms\n' | document providers/sim/provider.ini
	printf '[role]\nrunner = none\nonce = yes\n' | document roles/disk/role.ini
	printf '[role]\nrunner = none\nrequires = disk\nretries = 3\nbackoff = 10ms\n[output key]\nhelp = a value\n' | document roles/base/role.ini
	printf '[deployment]\nprovider = sim\n[nodes n]\ncount = 10\nroles = base\n' | document deployments/d/deployment.ini
	export REBARFS_TROUBLE=$D/trouble
}

status_says() { # REGEX
	timeout 5 grep -q "$1" "$D/mnt/status"
}

status_is_well() {
	! status_says '^nothing can be stored'
}

in_time() { # SECONDS WHAT COMMAND...
	local n what=$2
	for ((n = 0; n < $1 * 20; n++)); do
		"${@:3}" 2>/dev/null && return
		sleep 0.05
	done
	lost "$what: not within $1 s: $(timeout 5 cat "$D/mnt/deployments/d/why" 2>&1); $(timeout 5 head -n 3 "$D/mnt/status" 2>&1)"
}

# trouble KIND COMMAND...: a life, in the middle of whose growth the command makes trouble and takes it away again
trouble() {
	local kind=$1 name=${1// /-} bad
	shift
	new_life "$name"
	mount_it || lost "it could not be mounted"
	in_time 20 "ten nodes" at_rest active 10
	sed -i 's/^count = .*/count = 30/' "$D/repo/deployments/d/deployment.ini"
	in_time 20 "the first of the new nodes" test -s "$D/mnt/nodes/d-n-12/address"
	"$@"
	dead && lost "the daemon died: $(tail -n 2 "$D/daemon.log")"
	in_time 60 "thirty nodes" at_rest active 30
	[ "$(machines | wc -l)" = 30 ] || lost "$(machines | wc -l) machines for 30 nodes"
	[ "$(machines | cut -d ' ' -f 2 | sort -u)" = 1 ] || lost "machines that were made twice: $(machines | paste -sd ,)"
	once_runs
	[ "$(cut -d ' ' -f 2 "$D/once" | sort -u)" = 1 ] || lost "a role that runs once ran: $(grep -v ' 1$' "$D/once" | paste -sd ,)"
	in_time 5 "the end of the trouble" status_is_well
	# as the next daemon finds it
	kill -TERM "$(cat "$D/pid")"
	timeout 20 tail -f --pid="$(cat "$D/pid")" /dev/null || lost "it does not end"
	[ "$(sqlite3 "$D/state/rebarfs.db" 'PRAGMA integrity_check')" = ok ] || lost "the database is damaged: $(sqlite3 "$D/state/rebarfs.db" 'PRAGMA integrity_check' 2>&1 | head -n 3)"
	mount_it || lost "it could not be mounted again"
	in_time 20 "thirty nodes after a restart" at_rest active 30
	bad=$([ -s "$D/said" ] && echo 1 || echo 0)
	rc=$((rc | bad))
	row "$kind" 1 "$bad"
	bury "$name"
}

database() { # SECONDS WORDS: and whoever looks is told
	echo "$2" >"$D/trouble"
	in_time 10 "status to tell of it" status_says '^nothing can be stored: '
	sleep "$1"
	timeout 5 cat "$D/mnt/deployments/d/matrix" >/dev/null || lost "the matrix cannot be read"
	rm "$D/trouble"
}

now_and_then() {
	echo "io 25" >"$D/trouble"
	in_time 60 "thirty nodes in spite of it" at_rest active 30
	rm "$D/trouble"
}

no_files() {
	local pid hard
	pid=$(cat "$D/pid")
	hard=$(prlimit --pid "$pid" --nofile --noheadings --output HARD)
	prlimit --pid "$pid" --nofile="8:$hard"
	sleep 3
	timeout 5 cat "$D/mnt/deployments/d/matrix" >/dev/null || lost "the matrix cannot be read"
	prlimit --pid "$pid" --nofile="1024:$hard"
}

# Nothing here can go on without memory: it ends with a word, and the next one goes on where it was.
no_memory() {
	local n i said deaths=0
	for ((n = 0; n < 10; n++)); do
		said=$(wc -c <"$D/daemon.log")
		echo "mem $((1 << n))" >"$D/trouble"
		for ((i = 0; i < 40; i++)); do
			dead && break
			timeout 5 cat "$D/mnt/deployments/d/plan" "$D/mnt/status" >/dev/null 2>&1
			sleep 0.02
		done
		rm "$D/trouble"
		dead || continue
		deaths=$((deaths + 1))
		tail -c "+$((said + 1))" "$D/daemon.log" | grep -q '^rebarfs: out of memory\|^fuse: ' || lost "it ended without a word: $(tail -n 1 "$D/daemon.log")"
		mount_it || lost "the next one cannot be mounted"
	done
	((deaths > 0)) || lost "no allocation failed: nothing was tested"
}

clock() {
	local seconds
	for seconds in 86400 -86400 3600 -30000000; do
		echo "clock $seconds" >"$D/trouble"
		sleep 0.7
	done
	rm "$D/trouble"
}

stopped() {
	local pid
	pid=$(cat "$D/pid")
	kill -STOP "$pid"
	# Who asks now waits, and not even SIGKILL ends that: so nobody here waits for him.
	cat "$D/mnt/nodes/d-n-1/state" >"$D/answer" 2>/dev/null &
	disown
	sleep "$STOP"
	[ ! -s "$D/answer" ] || lost "who answers for one that is stopped?"
	kill -CONT "$pid"
	in_time 5 "the answer" test -s "$D/answer"
}

trouble "database read-only" database 3 ro
trouble "database error" database 3 "io 1"
trouble "error now and then" now_and_then
trouble "no file can be opened" no_files
trouble "no memory" no_memory
trouble "clock jumps" clock
trouble "stopped for $STOP s" stopped
exit $rc
