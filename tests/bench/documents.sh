#!/bin/bash
# A repo of 10,000 documents: how soon the mount answers, and what 'git status' in it costs the second time, beside the same on the disk below.
. "$(dirname "$0")/lib.sh"
DOCUMENTS=10000
mkdir -p "$MNT" "$DIR/repo/providers/sim" "$DIR/state" "$DIR/cache"
printf '[provider]\ntype = fake\n' >"$DIR/repo/providers/sim/provider.ini"
for ((n = 1; n < DOCUMENTS; n++)); do
	mkdir -p "$DIR/repo/nodes/n$n"
	printf '[node]\nprovider = sim\nlabels = rack=%d\n' $((n % 40)) >"$DIR/repo/nodes/n$n/node.ini"
done
export GIT_CONFIG_GLOBAL=$DIR/gitconfig GIT_DISCOVERY_ACROSS_FILESYSTEM=1
git config --global user.name Bench && git config --global user.email bench@example.org && git config --global safe.directory '*'
git -C "$DIR/repo" init -q
git -C "$DIR/repo" add -A
git -C "$DIR/repo" commit -qm all
sleep 1.1 # what changed within the second of the index is looked at again each time

now() { date +%s%N; }
status_ms() { # DIRECTORY
	local began
	began=$(now)
	git -C "$1" status >/dev/null
	echo $((($(now) - began) / 1000000))
}
git -C "$DIR/repo" status >/dev/null
disk=$(best_of "$(status_ms "$DIR/repo")" "$(status_ms "$DIR/repo")" "$(status_ms "$DIR/repo")")
ready=() second=() later=()
for _ in 1 2 3; do # each mount has one second time
	began=$(now)
	start_daemon
	ready+=($((($(now) - began) / 1000000)))
	status_ms "$MNT/desired" >/dev/null
	second+=("$(status_ms "$MNT/desired")")
	later+=("$(status_ms "$MNT/desired")")
	stop_daemon
done
row "mount to ready, $DOCUMENTS documents" "${ready[0]}" - ms 2000
row "git status of $DOCUMENTS documents, second time" "$(best_of "${second[@]}")" "$disk" ms 2x "on the disk below"
row "git status of $DOCUMENTS documents, after that" "$(best_of "${later[@]}")" "$disk" ms - "on the disk below"
