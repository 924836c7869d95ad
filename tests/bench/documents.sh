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
status_ms() { # DIRECTORY: the second time
	local began
	git -C "$1" status >/dev/null
	began=$(now)
	git -C "$1" status >/dev/null
	echo $((($(now) - began) / 1000000))
}
disk=$(best_of "$(status_ms "$DIR/repo")" "$(status_ms "$DIR/repo")" "$(status_ms "$DIR/repo")")
began=$(now)
start_daemon
ready=$((($(now) - began) / 1000000))
ours=$(best_of "$(status_ms "$MNT/desired")" "$(status_ms "$MNT/desired")" "$(status_ms "$MNT/desired")")
stop_daemon
row "mount to ready, $DOCUMENTS documents" "$ready" - ms 2000
row "git status of $DOCUMENTS documents, second time" "$ours" "$disk" ms 2x "on the disk below"
