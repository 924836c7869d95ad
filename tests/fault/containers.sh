#!/bin/bash
# As steps, with real containers: each life makes two nodes, runs roles on them, reboots them for a role, puts one in the place of itself and destroys both, and the daemon is killed
# once in it, at every FAULT_STEP-th step from FAULT_FIRST on. In the end of each nothing may be lost, made twice or left over:
#
#   - there is one container for each node, and the host has no others of this daemon: no process, no link, no control group
#   - a role that runs once left one mark on each machine
#   - a daemon that comes back answers within 5 s
#
# Needs a build with REBARFS_FAULT ($BUILD). Exit 1 if anything was lost.
BUILD=$(realpath "${BUILD:-$(dirname "$0")/../../build-fault}")
export BUILD REBARFS=$BUILD/rebarfs
. "$(dirname "$0")/../e2e/lib.sh"
needs root fuse ip iptables unshare
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed plain
in_own_network
setup
STEP=${FAULT_STEP:-1} FIRST=${FAULT_FIRST:-1} LAST=${FAULT_LAST:-100000}
ROWS=${FAULT_ROWS:-/dev/stdout}

light_provider c
printf '[role]\nrunner = script\nonce = yes\n' | document roles/disk/role.ini
printf '[role]\nrunner = script\nrequires = disk, kernel\nwants = nodes\nretries = 3\nbackoff = 100ms\n' | document roles/app/role.ini
printf '[role]\nrunner = script\nretries = 3\nbackoff = 100ms\n' | document roles/kernel/role.ini
printf '#!/bin/sh\n[ ! -e /root/kernel ] || exit 0\necho again >"$REBAR_OUTPUTS/reboot"\ncut -d " " -f 22 /proc/1/stat >/root/kernel\n' | document roles/kernel/apply
printf '#!/bin/sh\necho made >>/root/disk\n' | document roles/disk/apply
printf '#!/bin/sh\ntest -s /root/disk && [ "$(cut -d " " -f 22 /proc/1/stat)" != "$(cat /root/kernel)" ]\n' | document roles/app/apply
chmod +x "$REPO"/roles/*/apply
printf '[deployment]\nprovider = c\n[nodes n]\ncount = 2\nroles = app\n' | document deployments/d/deployment.ini

# up [STEP]: a daemon that is killed there
up() {
	local n
	REBARFS_FAULT_AT=${1:-} "$REBARFS" -f -o "state=$STATE,cache=$CACHE" "$REPO" "$MNT" >>"$T/daemon.log" 2>&1 &
	DAEMON=$!
	disown "$DAEMON"
	for ((n = 0; n < 100; n++)); do
		[ -s "$MNT/README" ] 2>/dev/null && return
		daemon_lives || return 0 # killed so soon: the next one
		sleep 0.05
	done
	lost "it did not answer within 5 s"
}
lost() {
	echo "$*" >>"$T/said"
}
# until_so WHAT COMMAND...: tries it, with another daemon whenever one was killed; at most 60 s
until_so() {
	local what=$1 n
	shift
	for ((n = 0; n < 600; n++)); do
		daemon_lives || up
		"$@" 2>/dev/null && return
		sleep 0.1
	done
	lost "$what: not within its time: $(timeout 5 cat "$MNT/deployments/d/why" "$MNT"/nodes/*/why 2>&1)"
	return 1
}
at_rest() { # STATE NODES
	local why
	for why in $(timeout 5 grep -l 'outcome unknown' "$MNT"/nodes/*/roles/disk/why); do echo accept >"${why%why}ctl"; done
	[ "$(timeout 5 cat "$MNT/deployments/d/state")" = "$1" ] && [ "$(timeout 5 ls "$MNT/deployments/d/nodes" | wc -l)" = "$2" ]
}
says() { # FILE WORD
	echo "$2" >"$MNT/$1"
}
records() {
	find "$STATE/providers/c/nodes" -mindepth 2 -maxdepth 2 -name machine -exec grep -oh '"ref": *"[^"]*"' {} + 2>/dev/null | cut -d '"' -f 4 | sort
}
# References of containers that have processes, links or groups on this host, whatever the daemon knows.
on_host() {
	[ -n "$PREFIX" ] || return 0
	{
		ip -o link | sed -n "s/^[0-9]*: \($PREFIX-[0-9]*\)[@:].*/\1/p"
		find /sys/fs/cgroup -maxdepth 2 -type d -name "$PREFIX-*" -exec basename {} \;
		ls /run/netns | grep "^$PREFIX-"
	} 2>/dev/null | sort -u
}
verify() { # MACHINES
	local have node
	have=$(records)
	PREFIX=${PREFIX:-$(head -n 1 <<<"$have" | cut -d - -f 1)}
	[ "$(grep -c . <<<"$have")" = "$1" ] || lost "containers: $(paste -sd , <<<"$have") where there should be $1"
	[ "$(on_host)" = "$have" ] || lost "on the host: $(on_host | paste -sd ,), where the daemon has $(paste -sd , <<<"$have")"
	for node in "$STATE"/providers/c/nodes/*/upper; do
		[ ! -d "$node" ] || [ "$(grep -c made "$node/root/disk")" = 1 ] || lost "a role that runs once ran $(grep -c made "$node/root/disk") times"
	done
}
incarnation() { # of a node's container
	grep -l "\"$1\"" "$STATE"/providers/c/nodes/*/machine | xargs grep -oh '"incarnation": *[0-9]*'
}
rebuilt() {
	local now id
	now=$(incarnation d-n-1)
	[ -n "$now" ] && [ "$now" != "$WAS" ] && at_rest active 2 && return
	if [ ! -e "$T/told" ]; then
		# killed before it answered: the plan tells whether it had heard
		{ [ "$now" = "$WAS" ] && ! timeout 5 grep -q '^!' "$MNT/deployments/d/plan" && says nodes/d-n-1/ctl rebuild && : >"$T/told"; } ||
			{ timeout 5 grep -q '^!' "$MNT/deployments/d/plan" && : >"$T/told"; }
	fi
	id=$(timeout 5 sed -n '1s/^plan \([0-9a-f]*\):.*/\1/p' "$MNT/deployments/d/plan")
	[ -z "$id" ] || says deployments/d/ctl "apply $id"
	return 1
}
destroyed() {
	at_rest proposed 0 && [ -z "$(records)" ] && return
	says deployments/d/ctl destroy
	return 1
}
applied() {
	at_rest active 2 && return
	says deployments/d/ctl apply
	return 1
}

live() { # STEP
	rm -f "$T/told"
	up "$1"
	if [ -e "$T/lived" ]; then until_so "two nodes again" applied || return; fi
	until_so "two nodes" at_rest active 2 || return
	verify 2
	WAS=$(incarnation d-n-1)
	until_so "a rebuild" rebuilt || return
	verify 2
	until_so "the end" destroyed || return
	verify 0
	: >"$T/lived"
	daemon_lives && { kill -TERM "$DAEMON" && gone "$DAEMON" 10 || lost "it does not end"; }
	mountpoint -q "$MNT" && lost "still mounted"
}

PREFIX='' failed=0
declare -A kinds=() bad=()
for ((step = FIRST; step <= LAST; step += STEP)); do
	: >"$T/said"
	: >"$T/daemon.log"
	live "$step"
	where=$(sed -n 's/^fault: killed at point [0-9]*, //p' "$T/daemon.log" | head -n 1)
	if [ -s "$T/said" ]; then
		sed "s/^/step $step (${where:-no kill}): /" "$T/said"
		failed=$((failed + 1))
		bad[${where:-no kill}]=$((${bad[${where:-no kill}]:-0} + 1))
		break # what follows would stand on what was lost
	fi
	[ -n "$where" ] || break # the life was over before this step came
	kinds[$where]=$((${kinds[$where]:-0} + 1))
done
for kind in "${!kinds[@]}" "${!bad[@]}"; do echo "$kind"; done | sort -u | while read -r kind; do
	printf 'containers: killed %s\t%s\t%s\n' "$kind" "$((${kinds[$kind]:-0} + ${bad[$kind]:-0}))" "${bad[$kind]:-0}" >>"$ROWS"
done
((failed == 0 && ${#kinds[@]} > 0))
