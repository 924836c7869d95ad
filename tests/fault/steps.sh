#!/bin/bash
# The daemon is killed at every step of a deployment's life, one step a life: before each commit, after it, before each effect. After every kill the next
# mount must carry on by itself, and in the end nothing may be lost, made twice or left over:
#
#   - every node has one machine, of the incarnation that it should have, and the provider has no other
#   - a role that runs once ran once on each machine (or says that it does not know, which a person answers)
#   - the lives end alike, whatever happened in between
#
# FAULT_STEP=N takes every N-th step, FAULT_FIRST and FAULT_LAST some of them. Needs a build with REBARFS_FAULT ($BUILD). Exit 1 if anything was lost.
. "$(dirname "$0")/lib.sh"
STEP=${FAULT_STEP:-1}
FIRST=${FAULT_FIRST:-1} LAST=${FAULT_LAST:-100000}

# One life: its directory $D, the step at which it is killed, and what it says in $D/said.
new_life() {
	D=$work/$1
	mkdir -p "$D/repo" "$D/mnt"
	printf '[provider]\ntype = fake\n[fake]\ncreate-delay = 5ms\nrole-delay = 5ms\n' | document providers/sim/provider.ini
	printf '[role]\nrunner = none\nonce = yes\n' | document roles/disk/role.ini
	printf '[role]\nrunner = none\nrequires = disk\nretries = 3\nbackoff = 10ms\n[output key]\nhelp = a value\n' | document roles/base/role.ini
	printf '[role]\nrunner = none\nrequires = base\nwants = nodes, base.key\nretries = 3\nbackoff = 10ms\n' | document roles/app/role.ini
	printf '[deployment]\nprovider = sim\n[nodes n]\ncount = 3\nroles = app\n' | document deployments/d/deployment.ini
}

# The first node is put in the place of itself, once.
rebuilt() {
	[ "$(machines | cut -d ' ' -f 2 | sort -n | tail -n 1)" = 2 ] && {
		at_rest active 2
		return
	}
	# said once: when the daemon was killed before it answered, the plan tells whether it had heard
	[ -e "$D/told" ] || ! timeout 5 grep -q '^!' "$D/mnt/deployments/d/plan" || : >"$D/told"
	[ -e "$D/told" ] || { told nodes/d-n-1/ctl rebuild && : >"$D/told"; }
	applied nothing 0
	return 1
}

verify() { # MACHINES INCARNATIONS RUNS
	local have
	have=$(machines)
	[ "$(grep -c . <<<"$have")" = "$1" ] || lost "machines: $(paste -sd , <<<"$have") where there should be $1"
	[ "$(cut -d ' ' -f 2 <<<"$have" | sort -n | paste -sd ' ')" = "$2" ] || lost "incarnations: $(cut -d ' ' -f 2 <<<"$have" | sort -n | paste -sd ' ') and not $2"
	until_so "a look at the runs" once_runs || return
	[ "$(cut -d ' ' -f 2 "$D/once" | sort -n | paste -sd ' ')" = "$3" ] || lost "a role that runs once ran: $(paste -sd , "$D/once")"
}

live() { # STEP
	new_life "$1"
	mount_it "$1"
	until_so "three nodes" at_rest active 3 || return
	verify 3 "1 1 1" "1 1 1"
	until_so "an edit" sed -i 's/^count = .*/count = 4/' "$D/repo/deployments/d/deployment.ini" || return
	until_so "four nodes" at_rest active 4 || return
	sed -i 's/^count = .*/count = 2/' "$D/repo/deployments/d/deployment.ini"
	until_so "two nodes" applied active 2 || return
	verify 2 "1 1" "1 1"
	until_so "a rebuild" rebuilt || return
	verify 2 "1 2" "1 2"
	until_so "the word to destroy" told deployments/d/ctl destroy || return
	until_so "the end" at_rest proposed 0 || return
	[ -z "$(machines)" ] || lost "left over: $(machines | paste -sd ,)"
	dead || { kill -TERM "$(cat "$D/pid")" && timeout 10 tail -f --pid="$(cat "$D/pid")" /dev/null; }
	mountpoint -q "$D/mnt" && lost "still mounted"
}

declare -A kinds=() bad=()
failed=0
for ((step = FIRST; step <= LAST; step += STEP)); do
	live "$step"
	where=$(sed -n 's/^fault: killed at point [0-9]*, //p' "$D/daemon.log" | head -n 1)
	if [ -s "$D/said" ]; then
		failed=$((failed + 1))
		bad[${where:-no kill}]=$((${bad[${where:-no kill}]:-0} + 1))
	fi
	bury "step-$step"
	[ -n "$where" ] || break # the life was over before this step came
	kinds[$where]=$((${kinds[$where]:-0} + 1))
done
for kind in "${!kinds[@]}"; do row "killed $kind" "${kinds[$kind]}" "${bad[$kind]:-0}"; done
((failed == 0 && ${#kinds[@]} > 0))
