#!/bin/bash
# A simulated machine that boots at once (tests/e2e/metal-machine) from the apply to its boot from its disk: what the provider adds, which is all that
# is neither the ramdisk's start nor the writing of the image. BMC, DHCP and HTTP are real.
. "$(dirname "$0")/lib.sh"
TOP=$(realpath "$BENCH/../..")
CACHE=${REBARFS_CACHE:-/var/cache/rebarfs}
LAB=$DIR/lab
[[ $(id -u) == 0 ]] || { echo "metal: needs root" >&2 && exit 1; }

PATH=$TOP/tests/e2e/metal-machine:$PATH METAL_LAB_DISK='' "$TOP/contrib/metal-lab" 1 "$LAB" >"$DIR/lab.ini"
trap 'set +e; stop_daemon; "$TOP/contrib/metal-lab" stop "$LAB"; clean_up' EXIT
mkdir -p "$MNT" "$DIR/state" "$DIR/repo/deployments/d"
(umask 077 && mkdir "$DIR/state/secrets" && cp "$LAB/password" "$DIR/state/secrets/lab")
awk -v repo="$DIR/repo" '/^# [a-z]+\/.*\.ini$/ { file = repo "/" $2; system("mkdir -p $(dirname " file ")"); next } file && !/^#/ { print >file }' "$DIR/lab.ini"
printf '[deployment]\nprovider = lab\n[nodes db]\nnodes = lab-1\n' >"$DIR/repo/deployments/d/deployment.ini"

proposed() { [[ $(cat "$MNT/deployments/d/state") == proposed ]]; }
starts() { [[ $(grep -c '^switched on at' "$LAB/m1/console.log") == "$1" ]]; }

destroy_all() {
	echo destroy >"$MNT/deployments/d/ctl"
	timeout 60 cat "$MNT/deployments/d/wait" >/dev/null
}

start_daemon
overhead=()
for n in 1 2 3; do
	((n > 1)) || wait_until 60 proposed
	begun=$EPOCHREALTIME
	echo apply >"$MNT/deployments/d/ctl" || { cat "$MNT/deployments/d/refused" "$MNT/deployments/d/plan" >&2 && exit 1; }
	wait_until 900 starts $((2 * n))
	read -r on_network on_disk < <(sed -n 's/^switched on at //p' "$LAB/m1/console.log" | tail -n 2 | paste -sd ' ')
	overhead+=("$(awk -v a="$begun" -v b="$on_network" -v c="$(stat -c %.9Y "$LAB/m1/ram/installed")" -v d="$on_disk" 'BEGIN { printf "%.2f\n", b - a + d - c }')")
	destroy_all
done
row "metal: what is added to its boots and the writing of its disk" "$(best_of "${overhead[@]}")" - s 2
