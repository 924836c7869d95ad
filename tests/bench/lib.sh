# What the benchmarks share. Sourced; expects BUILD. Everything a part makes is below $DIR and gone when it ends.
set -euo pipefail
export LC_ALL=C
BENCH=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BUILD=$(realpath "${BUILD:-$BENCH/../../build}")
DIR=${REBARFS_BENCH_DIR:-} # given to a part by itself: then who gave it cleans up
[[ -n $DIR ]] || DIR=$(mktemp -d "${TMPDIR:-/tmp}/rebarfs-bench.XXXXXX")
MNT=$DIR/mnt
DAEMON=

clean_up() {
	trap '' INT TERM
	stop_daemon
	for m in "${MOUNTS[@]}"; do fusermount3 -uz "$m" 2>/dev/null; done
	for p in "${PIDS[@]}"; do kill "$p" 2>/dev/null; done
	wait
	rm -rf --one-file-system "$DIR"
}
MOUNTS=() PIDS=()
[[ -n ${REBARFS_BENCH_DIR:-} ]] || trap 'set +e; clean_up' EXIT
trap 'exit 130' INT TERM

wait_until() { # SECONDS COMMAND...: polls
	local end=$((SECONDS + $1))
	shift
	until "$@" 2>/dev/null; do
		((SECONDS < end)) || { echo "waited in vain for: $*" >&2 && return 1; }
		sleep 0.05
	done
}

# A row of the table: what, ours, the peer's, unit, the most that ours may be: "2x" of the peer, or a number.
row() {
	awk -v what="$1" -v ours="$2" -v peer="$3" -v unit="$4" -v target="$5" -v peer_name="${6:-}" 'BEGIN {
		ratio = peer == "-" ? "-" : sprintf("%.2fx", ours / peer)
		limit = target ~ /x$/ ? target * peer : target + 0
		verdict = target == "-" ? "" : ours <= limit ? "ok" : "MISSED"
		printf "%s\t%s %s\t%s\t%s\t%s\t%s\n", what, ours, unit, peer == "-" ? "-" : peer " " unit " " peer_name, ratio, target == "-" ? "-" : "<= " target, verdict
	}'
}

best_of() { printf '%s\n' "$@" | sort -g | head -n1; }

# 1,000 nodes and ten roles in a chain, as users write them: parameters, a list of all peers, an output that others want.
make_repo() { # NODES ROLE-DELAY MAX-PARALLEL
	local r name before=
	mkdir -p "$DIR/repo/providers/sim" "$DIR/repo/deployments/big" "$MNT" "$DIR/state" "$DIR/cache"
	printf '[provider]\ntype = fake\nmax-parallel = %s\n[fake]\nrole-delay = %s\n' "$3" "$2" >"$DIR/repo/providers/sim/provider.ini"
	for r in {01..10}; do
		name=r$r
		mkdir -p "$DIR/repo/roles/$name"
		printf '#!/bin/sh\necho %s\n' "$name" >"$DIR/repo/roles/$name/apply"
		chmod +x "$DIR/repo/roles/$name/apply"
		{
			printf '[role]\nrunner = script\n'
			[[ -z $before ]] || printf 'requires = %s\n' "$before"
			[[ $r == 05 ]] && printf 'wants = nodes\n'
			printf '[param size]\ntype = int\ndefault = 3\n'
			[[ $r == 01 ]] && printf '[output version]\nhelp = what was installed\n'
		} >"$DIR/repo/roles/$name/role.ini" || true
		before=$name
	done
	printf '[deployment]\nprovider = sim\n[nodes db]\ncount = %s\nroles = %s\n[params r03]\nsize = 5\n' "$1" "$before" >"$DIR/repo/deployments/big/deployment.ini"
}

start_daemon() {
	"$BUILD/rebarfs" -f -o "state=$DIR/state,cache=${CACHE:-$DIR/cache}" "$DIR/repo" "$MNT" >"$DIR/log" 2>&1 &
	DAEMON=$!
	wait_until 20 test -e "$MNT/README" || { cat "$DIR/log" >&2 && return 1; }
}

stop_daemon() {
	[[ -n $DAEMON ]] || return 0
	kill "$DAEMON" 2>/dev/null
	wait "$DAEMON" 2>/dev/null
	DAEMON=
	fusermount3 -uz "$MNT" 2>/dev/null || true
}

# Seconds of CPU that a process and its threads have used.
cpu_of() { awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); print ($12 + $13) / hz }' "/proc/$1/stat"; }
