#!/bin/bash
# A daemon that an ordinary user runs, without anything from root: simulated nodes, and machines that already run.
. "$(dirname "$0")/lib.sh"
needs root fuse setpriv ssh-keygen unshare
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed etcd etcd-server etcd-client
in_own_network
setup
net_up
tree=$(root_tree) || exit 1
machine m1 11 "$tree"
ssh_repo m1=10.77.0.11
sed -i 's/1 2 3 4/1/' "$REPO/roles/slow/apply"
fake_repo 2
me=(setpriv --reuid nobody --regid nogroup --clear-groups --inh-caps=-all)
mkdir "$T/home"
cp "$T/id" "$T/home/id"
printf '[provider]\ntype = ssh\n[ssh]\nkey = %s\n' "$T/home/id" | document providers/machines/provider.ini
chmod 711 "$T"
chown -R nobody:nogroup "$T/home" "$REPO" "$MNT"
run() {
	"${me[@]}" env -u XDG_STATE_HOME -u XDG_CACHE_HOME HOME="$T/home" "$@"
}

run "$REBARFS" "$REPO" "$MNT" >"$T/said" 2>&1 || fail "an ordinary user cannot mount: $(cat "$T/said")"
STATE=$T/home/.local/state/rebarfs/repo
NODES+=("$(pgrep -u nobody -f "$REPO $MNT")") # ended with the test, should it fail
expect "who runs it" "$(stat -c %U "/proc/${NODES[-1]}")" nobody
expect "who may look into its state directory" "$(stat -c '%U %a' "$STATE")" "nobody 700"
as_user_settle() {
	run timeout 60 cat "$MNT/deployments/$1/wait" >"$T/wait.$1" 2>&1 || fail "$1 did not settle: $(tail -n 3 "$T/wait.$1"); $(tail -n 5 "$STATE/log")"
}
as_user_settle d
expect "simulated nodes" "$(run sh -c 'cat "$1"/nodes/d-n-*/state | sort | uniq -c | tr -s " "' - "$MNT")" " 2 ready"
run sh -c 'echo 3 >"$1"' - "$MNT/deployments/d/desired/nodes.n/count" || fail "a value cannot be stored"
as_user_settle d
run sh -c 'echo ";" >>"$1"' - "$MNT/desired/deployments/d/deployment.ini" || fail "a document cannot be written"
expect "the document's owner" "$(stat -c %U "$REPO/deployments/d/deployment.ini")" nobody

run sh -c 'echo apply >"$1"' - "$MNT/deployments/s/ctl" || fail "a plan cannot be applied"
as_user_settle s
expect "a machine's role" "$(run cat "$MNT/nodes/m1/roles/slow/state")" active
expect "its output" "$(run cat "$MNT/nodes/m1/roles/slow/outputs/answer")" 42
expect "how often it ran there" "$(on 11 'grep -c ended /root/ran')" 1

# A provider that needs root says so, and disturbs nobody.
printf '[provider]\ntype = container\n' | run sh -c 'mkdir "$1/providers/c" && cat >"$1/providers/c/provider.ini"' - "$MNT/desired"
printf '[deployment]\nprovider = c\n[nodes n]\ncount = 1\n' | run sh -c 'mkdir "$1/deployments/c" && cat >"$1/deployments/c/deployment.ini"' - "$MNT/desired"
eventually 10 "the sentence of a provider that needs root" run grep -rq "root" "$MNT/providers/c/error" "$MNT/providers/c/why"
expect "the other deployments" "$(run cat "$MNT/deployments/d/state" "$MNT/deployments/s/state" | paste -sd ' ')" "active active"

run fusermount3 -u "$MNT" || fail "an ordinary user cannot unmount"
gone "${NODES[-1]}" 10 || fail "the daemon still runs 10 s after the unmount"
unset 'NODES[-1]'
# And again, with what it remembers
run "$REBARFS" "$REPO" "$MNT" >"$T/said" 2>&1 || fail "an ordinary user cannot mount again: $(cat "$T/said")"
NODES+=("$(pgrep -u nobody -f "$REPO $MNT")")
expect "the machine's role" "$(run cat "$MNT/nodes/m1/roles/slow/state")" active
run fusermount3 -u "$MNT" || fail "an ordinary user cannot unmount"
gone "${NODES[-1]}" 10 || fail "the daemon still runs 10 s after the unmount"
