# What the fault tests share: lives, each in a directory of its own below $work, and a table of what was done to them.
# shellcheck shell=bash
set -u -o pipefail
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=$(realpath "${BUILD:-$TOP/build-fault}")
ROWS=${FAULT_ROWS:-/dev/stdout} # "KIND<tab>TIMES<tab>LOST", a line each
work=$(mktemp -d "${TMPDIR:-/tmp}/rebarfs-fault.XXXXXX") || exit 1
kill_all() {
	local pid mnt
	for pid in $(cat "$work"/*/pid 2>/dev/null); do
		# only what still is our own daemon of this directory
		tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q "$work/" && kill -KILL "$pid" 2>/dev/null
	done
	for mnt in "$work"/*/mnt; do mountpoint -q "$mnt" && fusermount3 -uz "$mnt"; done
	for mnt in "$work"/*/state; do mountpoint -q "$mnt" && umount -l "$mnt"; done
	rm -rf "$work"
}
trap kill_all EXIT
trap 'exit 130' INT TERM

document() {
	mkdir -p "$(dirname "$D/repo/$1")"
	cat >"$D/repo/$1"
}

mount_it() { # [STEP]
	REBARFS_FAULT_AT=${1:-} LD_PRELOAD=${PRELOAD:-} "$BUILD/rebarfs" -f -o "state=$D/state" "$D/repo" "$D/mnt" >>"$D/daemon.log" 2>&1 &
	pid=$!
	disown "$pid"
	echo "$pid" >"$D/pid"
	local n
	for ((n = 0; n < 200; n++)); do
		[ -s "$D/mnt/README" ] 2>/dev/null && return 0
		kill -0 "$pid" 2>/dev/null || return 1
		sleep 0.02
	done
	return 1
}

dead() {
	! kill -0 "$(cat "$D/pid")" 2>/dev/null
}

# until_so WHAT COMMAND...: tries the command, mounting again whenever the daemon was killed, until it succeeds; at most 30 s
until_so() {
	local what=$1 n
	shift
	for ((n = 0; n < 300; n++)); do
		dead && { mount_it || continue; }
		"$@" 2>/dev/null && return 0
		sleep 0.05
	done
	{
		echo "$what: not within its time: $(timeout 5 cat "$D/mnt/deployments/d/why" 2>&1)"
		echo "machines: $(machines | paste -sd ,)"
		timeout 5 cat "$D/mnt/deployments/d/plan" "$D/mnt/nodes/d-n-1/why" "$D/mnt/nodes/d-n-1/refused" "$D/mnt/deployments/d/refused"
		timeout 5 tail -n 20 "$D/mnt/events"
	} >>"$D/said" 2>&1
	return 1
}

at_rest() { # STATE NODES
	# a role that runs once and whose end is not known asks a person: we look, and say that it is done
	for ctl in $(timeout 5 grep -l 'outcome unknown' "$D"/mnt/nodes/*/roles/disk/why); do echo accept >"${ctl%why}ctl"; done
	[ "$(timeout 5 cat "$D/mnt/deployments/d/state")" = "$1" ] && [ "$(timeout 5 ls "$D/mnt/deployments/d/nodes" | wc -l)" = "$2" ]
}

# apply_if CONDITION: approves what destroys, as often as it takes
applied() { # STATE NODES
	at_rest "$@" && return 0
	local id
	id=$(timeout 5 sed -n '1s/^plan \([0-9a-f]*\):.*/\1/p' "$D/mnt/deployments/d/plan")
	[ -n "$id" ] && echo "apply $id" >"$D/mnt/deployments/d/ctl"
	return 1
}

told() { # FILE WORD...: until the write itself succeeded
	echo "${@:2}" >"$D/mnt/$1"
}

# What the provider has: "NODE_ID INCARNATION" of machines that were made and not destroyed, as its own file tells.
machines() {
	awk '$1 == "+" { m[$2] = $2 " " $3 } $1 == "-" { delete m[$2] } END { for (i in m) print m[i] }' "$D/state/providers/sim/machines" | sort -n
}

lost() {
	echo "$*" >>"$D/said"
}

# How often the role that runs once did on each node, from a mount that is there.
once_runs() {
	local role
	for role in "$D"/mnt/nodes/*/roles/disk; do
		echo "$(basename "${role%/roles/disk}") $(timeout 5 ls "$role/runs" | wc -l)"
	done >"$D/once"
	! dead && ! grep -q '\*' "$D/once"
}

row() { # KIND TIMES LOST
	printf '%s\t%s\t%s\n' "$@" >>"$ROWS"
}

# The end of a life: its daemon, its mount, its files. What it lost is told.
bury() { # WHAT
	[ ! -s "$D/said" ] || sed "s/^/$1: /" "$D/said"
	[ ! -s "$D/said" ] || cp "$D/daemon.log" "$BUILD/fault-$1.log"
	mountpoint -q "$D/mnt" && fusermount3 -uz "$D/mnt"
	dead || kill -KILL "$(cat "$D/pid")" 2>/dev/null
	mountpoint -q "$D/state" && umount -l "$D/state"
	rm -rf "$D"
}
