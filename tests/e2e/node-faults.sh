#!/bin/bash
# A node in the middle of a run: its connection drops and comes back, its link is cut for longer than anybody would wait on it, it is frozen and goes on,
# it dies. The run is found again and its result counts; nothing runs twice; who waits is told what is wrong.
. "$(dirname "$0")/lib.sh"
needs root fuse ssh-keygen unshare iptables
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed plain
in_own_network
setup
net_up
tree=$(root_tree) || exit 1
machine m1 11 "$tree"
machine m2 12 "$tree"
ssh_repo m1=10.77.0.11 m2=10.77.0.12
printf '[role]\nrunner = script\nretries = 0\ntimeout = 2m\n' | document roles/steps/role.ini
cat <<'EOF' | document roles/steps/apply
#!/bin/sh
echo begun >>/root/steps
for n in 1 2 3 4 5 6; do sleep 1; echo "step $n"; done
echo ended >>/root/steps
EOF
chmod +x "$REPO/roles/steps/apply"
sed -i 's/^roles = .*/roles = steps/' "$REPO/deployments/s/deployment.ini"
counted() { # NUMBER: how often it began and ended there
	on "$1" 'sort /root/steps | uniq -c | sed "s/^ *//"' | paste -sd ' ' -
}
runs_() { # NODE: of the role, until it has printed something
	eventually 20 "a run on $1" grep -q '^step 1' "$MNT/nodes/$1/roles/steps/log"
}
again() { # a run everywhere
	local n
	for n in m1 m2; do echo run >"$MNT/nodes/$n/roles/steps/ctl" || fail "cannot run on $n"; done
	eventually 20 "the runs to begin" sh -c 'grep -q running "$1/m1/roles/steps/state" && grep -q running "$1/m2/roles/steps/state"' - "$MNT/nodes"
}
start
apply s
runs_ m1

say "the connection drops and returns"
iptables -I OUTPUT -d 10.77.0.11 -p tcp --dport 22 -j REJECT --reject-with tcp-reset
iptables -I INPUT -s 10.77.0.11 -p tcp --sport 22 -j REJECT --reject-with tcp-reset
sleep 2
iptables -D OUTPUT 1 && iptables -D INPUT 1
settle s 60
expect "what m1 did" "$(counted 11)" "1 begun 1 ended"
expect "what m2 did" "$(counted 12)" "1 begun 1 ended"
expect "steps in its log" "$(grep -c '^step' "$MNT/nodes/m1/roles/steps/log")" 6

say "the link is cut while it runs, and its end comes meanwhile"
again
ip link set "$BRIDGE-v11" down || fail "cannot cut the link"
eventually 60 "m2 to end" sh -c 'grep -q active "$1"' - "$MNT/nodes/m2/roles/steps/state"
timeout 2 cat "$MNT/nodes/m1/why" >/dev/null || fail "why of a node that is cut off does not answer"
sleep 4
ip link set "$BRIDGE-v11" up
settle s 90
expect "what m1 did" "$(counted 11)" "2 begun 2 ended"
expect "steps in its log" "$(grep -c '^step' "$MNT/nodes/m1/roles/steps/log")" 6

say "it is frozen while it runs"
hierarchy=$T/cgroup # wherever else it is mounted, if at all
mkdir "$hierarchy" && mount -t cgroup2 cgroup2 "$hierarchy" || fail "cannot mount a cgroup hierarchy"
freezer=$hierarchy/rebarfs-test-$$
mkdir "$freezer" || fail "cannot make a cgroup to freeze"
thaw() {
	local p n
	[ -d "$freezer" ] || return 0
	echo 0 >"$freezer/cgroup.freeze"
	for ((n = 0; n < 50; n++)); do # what it forks meanwhile is born in there
		while read -r p; do echo "$p" >"$hierarchy/cgroup.procs"; done < <(cat "$freezer/cgroup.procs") 2>/dev/null
		rmdir "$freezer" 2>/dev/null && break
		sleep 0.1
	done
	umount -l "$hierarchy"
}
end() {
	local rc=$?
	thaw
	(exit "$rc")
	cleanup
}
trap end EXIT
again
runs_ m1
space=$(readlink "/proc/$(pgrep -P "$(cat "$T/machines/m1/pid")" | head -n 1)/ns/pid")
for proc in /proc/[0-9]*; do
	[ "$(readlink "$proc/ns/pid" 2>/dev/null)" = "$space" ] && echo "${proc#/proc/}" >"$freezer/cgroup.procs"
done
echo 1 >"$freezer/cgroup.freeze"
eventually 10 "it to be frozen" grep -q 'frozen 1' "$freezer/cgroup.events"
eventually 60 "m2 to end" sh -c 'grep -q active "$1"' - "$MNT/nodes/m2/roles/steps/state"
for file in nodes/m1/state nodes/m1/why nodes/m1/roles/steps/why nodes/m1/roles/steps/log status deployments/s/plan; do
	timeout 2 cat "$MNT/$file" >/dev/null || fail "'$file' does not answer while a node is frozen"
done
expect "the role of one that is frozen" "$(cat "$MNT/nodes/m1/roles/steps/state")" running
thaw
settle s 90
expect "what m1 did" "$(counted 11)" "3 begun 3 ended"

say "it dies while it runs, and is there again"
again
runs_ m1
machine_off m1
eventually 60 "m2 to end" sh -c 'grep -q active "$1"' - "$MNT/nodes/m2/roles/steps/state"
machine m1 11 "$tree"
settle_badly s 120
expect_match "why of what was cut short" "$(cat "$MNT/nodes/m1/roles/steps/why")" '^error: .*interrupted'
expect "what m2 has to do with it" "$(cat "$MNT/nodes/m2/roles/steps/state")" active
echo retry >"$MNT/nodes/m1/roles/steps/ctl" || fail "cannot retry"
settle s 60
expect "what m1 did" "$(counted 11)" "5 begun 4 ended"
kill -TERM "$DAEMON" # 'machine' disowned it: its status is nobody's
gone "$DAEMON" 10 || fail "the daemon still runs 10 s after SIGTERM"
DAEMON=
