#!/bin/bash
# A virtual machine from its wish to answering ssh, where its image was booted before, beside qemu by hand: the same machine, its processor and memory
# taken back with -loadvm from what savevm wrote into its disk.
. "$(dirname "$0")/lib.sh"
CACHE=${REBARFS_CACHE:-/var/cache/rebarfs}
[[ $(id -u) == 0 ]] || { echo "vm: needs root" >&2 && exit 1; }

# That of the end-to-end tests, whose snapshot it shares.
make_repo() {
	local examples
	examples=$(realpath "$BENCH/../../contrib/examples")
	mkdir -p "$DIR/repo/providers/machine" "$DIR/repo/deployments/d" "$MNT" "$DIR/state"
	cp "$examples/staircase/providers/laptop/prepare.sh" "$DIR/repo/providers/"
	cat >"$DIR/repo/providers/machine/provider.ini" <<-'EOF'
		[provider]
		type = vm
		[vm]
		disks = 100M
		[image debian-12]
		packages = etcd-server, etcd-client
		script = ../prepare.sh
	EOF
	printf '[deployment]\nprovider = machine\n[nodes vm]\ncount = 1\nmemory = 384M\n' >"$DIR/repo/deployments/d/deployment.ini"
}

wait_settled() { timeout "$1" cat "$MNT/deployments/d/wait" >"$DIR/wait" || { tail -n3 "$DIR/wait" >&2 && return 1; }; }
log_in() { # ADDRESS NAME: who does not ask the port first measures ssh clients
	local end=$((SECONDS + 120))
	until (: <"/dev/tcp/$1/22") 2>/dev/null; do ((SECONDS < end)) || return 1; sleep 0.05; done
	until [[ $(ssh -F "$DIR/ssh_config" "$2" hostname 2>/dev/null </dev/null) == "$2" ]]; do ((SECONDS < end)) || return 1; sleep 0.1; done
}
since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f\n", b - a }'; }

# Another node, one more each time; its name into NAME, the seconds into TOOK.
clone() {
	local start=$EPOCHREALTIME address
	NAME=d-vm-$1
	echo "$1" >"$MNT/deployments/d/desired/nodes.vm/count"
	until address=$(cat "$MNT/nodes/$NAME/address" 2>/dev/null) && [[ -n $address ]]; do sleep 0.02; done
	cp "$MNT/nodes/$NAME/ssh_config" "$DIR/ssh_config"
	log_in "$address" "$NAME"
	TOOK=$(since "$start")
}

# hmp SOCKET COMMAND: what a person would type into qemu's monitor
hmp() {
	python3 - "$@" <<-'EOF'
		import json, socket, sys
		s = socket.socket(socket.AF_UNIX)
		s.connect(sys.argv[1])
		f = s.makefile("rw")
		f.readline()
		for command in ({"execute": "qmp_capabilities"}, {"execute": "human-monitor-command", "arguments": {"command-line": sys.argv[2]}}):
		    print(json.dumps(command), file=f, flush=True)
		    while "return" not in (answer := json.loads(f.readline())):
		        assert "error" not in answer, answer
		sys.exit(answer["return"].strip() or 0)
	EOF
}

kill_qemu() { # PIDFILE
	local pid
	pid=$(cat "$1")
	kill -9 "$pid"
	wait_until 10 test ! -d "/proc/$pid"
}

# Machines outlive the daemon: they go first, whatever comes between.
destroy_all() {
	echo destroy >"$MNT/deployments/d/ctl"
	wait_settled 120
}
trap 'set +e; [[ -z $DAEMON ]] || destroy_all; clean_up' EXIT

make_repo
start_daemon
wait_settled 900
ours=() hand=()
for n in 2 3 4; do
	clone "$n"
	ours+=("$TOOK")
	wait_settled 120
done

# By hand, on the last of them; the daemon is told to leave it alone, or would start it again.
echo hold >"$MNT/nodes/$NAME/ctl"
address=$(cat "$MNT/nodes/$NAME/address")
cp "$MNT/nodes/$NAME/ssh_config" "$DIR/ssh_config"
node=$(dirname "$(grep -l "\"$NAME\"" "$DIR"/state/providers/machine/nodes/*/machine)")
mapfile -d '' -t qemu <"/proc/$(cat "$node/qemu.pid")/cmdline"
for i in "${!qemu[@]}"; do
	[[ ${qemu[i]:-} != -incoming ]] || unset "qemu[i]" "qemu[i + 1]"
done
hmp "$node/qmp" "migrate_set_capability x-ignore-shared off" # by which its memory was mapped; -loadvm knows nothing of it
hmp "$node/qmp" "savevm bench"
for n in 1 2 3; do
	kill_qemu "$node/qemu.pid"
	start=$EPOCHREALTIME
	"${qemu[@]}" -loadvm bench
	log_in "$address" "$NAME"
	hand+=("$(since "$start")")
done
row "virtual machine from its snapshot to ssh" "$(best_of "${ours[@]}")" "$(best_of "${hand[@]}")" s 1.2x "(qemu -loadvm)"
