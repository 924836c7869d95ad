#!/bin/bash
# 1,000 fake nodes with ten roles each: CPU from nothing to active, memory then, and a plan that finds nothing to do beside ninja over 10,000 edges.
. "$(dirname "$0")/lib.sh"

# In ten chains of a thousand... the other way round: what a node is to us is a chain of ten copies to ninja. Built once and kept.
ninja_tree() {
	local tree=$BUILD/bench/ninja
	if [[ ! -e $tree/.done ]]; then
		rm -rf "$tree" && mkdir -p "$tree"
		awk 'BEGIN {
			print "rule cp\n  command = cp $in $out"
			for (n = 1; n <= 1000; n++)
				for (r = 1; r <= 10; r++)
					printf "build n%d/r%d: cp %s\n", n, r, r == 1 ? "source" : sprintf("n%d/r%d", n, r - 1)
		}' >"$tree/build.ninja"
		echo x >"$tree/source"
		ninja -C "$tree" >/dev/null
		touch "$tree/.done"
	fi
	echo "$tree"
}

ninja_ms() { # CPU of one run that finds nothing to do, mean of ten
	local tree TIMEFORMAT='%U %S'
	tree=$(ninja_tree)
	ninja -C "$tree" -n | grep -q 'no work to do'
	{ time for _ in {1..10}; do ninja -C "$tree" >/dev/null; done; } 2>&1 | awk '{ printf "%.1f\n", ($1 + $2) * 1000 / 10 }'
}

plan_ms() { # CHANGE-COMMAND: CPU of the daemon for a plan after each of twenty changes that change nothing, mean
	local before i
	before=$(cpu_of "$DAEMON")
	for i in {1..20}; do
		"$1" "$i"
		grep -q 'nothing to do' "$MNT/deployments/big/plan" || { head "$MNT/deployments/big/plan" >&2 && return 1; }
	done
	awk -v a="$before" -v b="$(cpu_of "$DAEMON")" 'BEGIN { printf "%.1f\n", (b - a) * 1000 / 20 }'
}
edit_comment() { echo "; $1" >>"$DIR/repo/deployments/big/deployment.ini"; }
hold_one() { echo hold >"$MNT/nodes/big-db-$1/ctl" && echo unhold >"$MNT/nodes/big-db-$1/ctl"; }

make_repo 1000 10ms 1000
start_daemon
timeout 120 cat "$MNT/deployments/big/wait" >"$DIR/wait" || { tail -n3 "$DIR/wait" >&2 && exit 1; }
row "1,000 fake nodes x 10 roles to active, CPU per node role" "$(cpu_of "$DAEMON" | awk '{ printf "%.3f", $1 * 1000 / 10000 }')" - ms 0.2
row "daemon's memory then" "$(awk '/^VmRSS/ { printf "%.1f", $2 / 1024 }' "/proc/$DAEMON/status")" - MB 60
ninja=$(ninja_ms)
row "plan: nothing to do, after an edited comment" "$(plan_ms edit_comment)" "$ninja" ms 3x "(ninja, 10,000 edges)"
row "plan: nothing to do, after hold and unhold of a node" "$(plan_ms hold_one)" "$ninja" ms - "(ninja, 10,000 edges)"
