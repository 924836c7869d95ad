#!/bin/bash
# 500 fake machines switched on again, 20 at a time and 200 ms each, beside what that limit allows; and the slowest reading of the tree meanwhile, beside
# that of a file system that does nothing: a busy machine makes both of them wait.
. "$(dirname "$0")/lib.sh"
NODES=500 AT_ONCE=20

mkdir -p "$DIR/repo/providers/sim" "$DIR/repo/deployments/d" "$MNT" "$DIR/state" "$DIR/cache"
printf '[provider]\ntype = fake\nmax-parallel = %s\n[fake]\ncreate-delay = 200ms\n' "$AT_ONCE" >"$DIR/repo/providers/sim/provider.ini"
printf '[deployment]\nprovider = sim\n[nodes n]\ncount = %s\n' "$NODES" >"$DIR/repo/deployments/d/deployment.ini"

switch() { for n in "$MNT"/nodes/*/power; do echo "$1" >"$n"; done; }
all_are() { [[ $(cat "$MNT"/nodes/*/power | sort | uniq -c) =~ ^\ *$NODES\ $1$ ]]; }

mkdir -p "$DIR/null"
MOUNTS+=("$DIR/null")
"$BUILD/bench/nullfs" "$DIR/null" &
PIDS+=($!)
wait_until 10 test -e "$DIR/null/state"
start_daemon
timeout 120 cat "$MNT/deployments/d/wait" >"$DIR/wait" || { tail -n3 "$DIR/wait" >&2 && exit 1; }
switch off
wait_until 60 all_are off
files=("$MNT"/nodes/*/{state,why,power} "$MNT"/deployments/d/{state,why,matrix} "$MNT"/status "$MNT"/events)
start=$EPOCHREALTIME
switch on
for ((slowest = 0, null = 0, reads = 0; ; )); do
	read -r _ took < <("$BUILD/bench/openread" ${#files[@]} "${files[@]}")
	slowest=$((took > slowest ? took : slowest)) reads=$((reads + ${#files[@]}))
	read -r _ took < <("$BUILD/bench/openread" ${#files[@]} "$DIR/null/state")
	null=$((took > null ? took : null))
	! all_are on || break
done
took=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
row "500 fake machines powered on, $AT_ONCE at a time, 0.2 s each" "$took" "$(awk -v n="$NODES" -v m="$AT_ONCE" 'BEGIN { printf "%.1f", n / m * 0.2 }')" s 1.5x "(the limit)"
ms() { awk -v us="$1" 'BEGIN { printf "%.1f", us / 1000 }'; }
row "slowest of $reads readings meanwhile" "$(ms "$slowest")" "$(ms "$null")" ms 5 "(null file system)"
