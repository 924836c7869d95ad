#!/bin/bash
# The daemon is killed at random moments, FAULT_KILLS of them, while FAULT_NODES simulated nodes are made, changed, given up, rebuilt and destroyed. Each
# time the mount is there again within a second, and in the end everything is as in a life in which nobody was killed. Another rebarfs lives beside it
# all the time and does not notice.
. "$(dirname "$0")/lib.sh"
KILLS=${FAULT_KILLS:-50} NODES=${FAULT_NODES:-100} SEED=${FAULT_SEED:-$RANDOM}
echo "seed $SEED"
RANDOM=$SEED
kills=0 slowest=0

now() { # ms
	local t=${EPOCHREALTIME/[.,]/}
	echo $((t / 1000))
}

new_life() { # NAME NODES
	D=$work/$1
	mkdir -p "$D/repo" "$D/mnt"
	printf '[provider]\ntype = fake\nmax-parallel = 12\n[fake]\ncreate-delay = 150ms\nrole-delay = 60ms\n' | document providers/sim/provider.ini
	printf '[role]\nrunner = none\nonce = yes\n' | document roles/disk/role.ini
	printf '[role]\nrunner = none\nrequires = disk\nretries = 3\nbackoff = 10ms\n[param size]\ntype = int\ndefault = 3\n[output key]\nhelp = a value\n' | document roles/base/role.ini
	printf '[role]\nrunner = none\nrequires = base\nwants = nodes, base.key\nretries = 3\nbackoff = 10ms\n' | document roles/app/role.ini
	printf '[deployment]\nprovider = sim\nmax-destroy = 0\n[nodes n]\ncount = %s\nroles = app\n' "$2" | document deployments/d/deployment.ini
}

# mounts it again after a death, and holds it to its second
again() {
	local began=$(now) took
	mount_it || { lost "it did not come back" && return 1; }
	took=$(($(now) - began))
	((took <= slowest)) || slowest=$took
	((took <= 1000)) || lost "the mount was there after $took ms only"
}

maybe_kill() {
	((kills < limit && $(now) >= next)) || return 0
	kill -KILL "$(cat "$D/pid")"
	kills=$((kills + 1))
	while ! dead; do sleep 0.01; done
	again
	next=$(($(now) + 50 + RANDOM % 700))
}

# as until_so, and killed in between
through() { # WHAT COMMAND...
	local what=$1 end=$(($(now) + 90000))
	shift
	while (($(now) < end)); do
		maybe_kill
		"$@" 2>/dev/null && return 0
		sleep 0.05
	done
	lost "$what: not within its time: $(timeout 5 cat "$D/mnt/deployments/d/why" 2>&1)"
	timeout 5 cat "$D/mnt/deployments/d/plan" >>"$D/said"
	return 1
}

set_count() {
	sed -i "s/^count = .*/count = $1/" "$D/repo/deployments/d/deployment.ini"
}

rebuilt() {
	[ "$(machines | grep -c ' 2$')" = 3 ] && at_rest active $((NODES - 5)) && return
	local n
	if [ ! -e "$D/told" ]; then
		for n in 1 2 3; do told "nodes/d-n-$n/ctl" rebuild || return; done
		: >"$D/told"
	fi
	applied nothing 0
	# what was told and not yet heard when it was killed is told again
	for n in 1 2 3; do
		timeout 5 grep -q "^! node d-n-$n " "$D/mnt/deployments/d/plan" || machines | grep -q "^$(id_of "d-n-$n") 2$" || told "nodes/d-n-$n/ctl" rebuild
	done
	return 1
}

id_of() { # of a node, from the database
	sqlite3 -readonly "$D/state/rebarfs.db" "SELECT id FROM nodes WHERE name='$1'" 2>/dev/null
}

# What there is in the end, without what differs from life to life.
told_of_it() {
	timeout 5 cat "$D/mnt/deployments/d/matrix" || return
	machines | cut -d ' ' -f 2 | sort | uniq -c
	timeout 5 cat "$D"/mnt/nodes/*/roles/base/inputs.json | grep -A1 '"size"' | sort | uniq -c
	once_runs && cut -d ' ' -f 2 "$D/once" | sort | uniq -c
}

live() { # NAME KILLS
	new_life "$1" "$NODES"
	limit=$2 kills=0 next=$(($(now) + 300))
	again
	through "all nodes" at_rest active "$NODES" || return
	sed -i '$a [params base]\nsize = 5' "$D/repo/deployments/d/deployment.ini"
	through "a parameter" sh -c 'grep -q "\"value\": 5" "$1"' - "$D/mnt/nodes/d-n-$NODES/roles/base/inputs.json"
	through "all as the parameter says" at_rest active "$NODES" || return
	set_count $((NODES - 5))
	through "five nodes less" applied active $((NODES - 5)) || return
	through "three rebuilt" rebuilt || return
	# whoever still has lives to lose loses them on the way up and down
	while ((kills < limit)); do
		set_count "$NODES"
		through "five nodes more" at_rest active "$NODES" || return
		set_count $((NODES - 5))
		through "five nodes less" applied active $((NODES - 5)) || return
	done
	told_of_it >"$work/$1.end" || lost "the end could not be read"
	[ "$(machines | wc -l)" = $((NODES - 5)) ] || lost "$(machines | wc -l) machines for $((NODES - 5)) nodes"
	# once on each machine, and three nodes had two
	[ "$(grep -vE '^d-n-[123] ' "$D/once" | cut -d ' ' -f 2 | sort -u) $(grep -E '^d-n-[123] ' "$D/once" | cut -d ' ' -f 2 | sort -u)" = "1 2" ] ||
		lost "a role that runs once ran: $(paste -sd , "$D/once")"
	limit=0
	through "the word to destroy" told deployments/d/ctl destroy
	through "the end" at_rest proposed 0
	[ -z "$(machines)" ] || lost "left over: $(machines | paste -sd ,)"
	kill -TERM "$(cat "$D/pid")"
	timeout 10 tail -f --pid="$(cat "$D/pid")" /dev/null
	grep " $D/mnt " /proc/self/mountinfo >>"$D/said" && lost "still mounted"
}

new_life beside 5
beside=$D
mount_it
until_so "the other one" at_rest active 5
before=$(machines)
live calm 0
rc=0
[ ! -s "$D/said" ] || rc=1
bury calm
live killed "$KILLS"
diff "$work/calm.end" "$work/killed.end" >>"$D/said" || lost "the end is another than without kills"
ended=$(($(wc -l <"$D/said" 2>/dev/null || echo 0) > 0))
bury killed
D=$beside
[ "$before" = "$(machines)" ] && at_rest active 5 || { lost "the other one was touched" && ended=1; }
bury beside
row "killed at random" "$kills" "$ended"
echo "seed $SEED: $kills kills, $NODES nodes; the mount was there again after $slowest ms at most"
((rc == 0 && ended == 0 && kills == KILLS))
