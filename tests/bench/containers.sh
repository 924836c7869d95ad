#!/bin/bash
# Thirty light container nodes from nothing to answering ssh, beside a shell loop that does the same by hand. Both on the cached root tree, in a
# network and a mount namespace made for this, so that nothing of it can stay behind.
. "$(dirname "$0")/lib.sh"
NODES=30
CACHE=${REBARFS_CACHE:-/var/cache/rebarfs}

make_repo() { # COUNT
	mkdir -p "$DIR/repo/providers/laptop" "$DIR/repo/deployments/light" "$MNT" "$DIR/state"
	printf '[provider]\ntype = container\n[container]\nboot = sshd\n' >"$DIR/repo/providers/laptop/provider.ini"
	printf '[deployment]\nprovider = laptop\n[nodes db]\ncount = %s\n' "$1" >"$DIR/repo/deployments/light/deployment.ini"
}

wait_settled() { timeout "$1" cat "$MNT/deployments/light/wait" >"$DIR/wait" || { tail -n3 "$DIR/wait" >&2 && return 1; }; }

destroy_all() {
	echo destroy >"$MNT/deployments/light/ctl"
	wait_settled 120
}

tree() { find "$CACHE/images" -mindepth 1 -maxdepth 1 -type d -name 'debian-12-*' ! -name '*.new' -print -quit 2>/dev/null; }

seconds() { # COMMAND...: its wall time into TOOK; not in $(...), which would wait for what the command leaves running
	local start=$EPOCHREALTIME
	"$@"
	TOOK=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f\n", b - a }')
}

# ---- by hand

login() { # N: OpenSSH's default key exchange costs more than the whole node, curve25519 is what libssh2 takes too
	ssh -F none -i "$DIR/key" -o KexAlgorithms=curve25519-sha256 -o ConnectTimeout=1 -o BatchMode=yes -o UserKnownHostsFile="$DIR/known" \
		-o LogLevel=QUIET "root@10.77.0.$((10 + $1))" "$2" </dev/null
}

first_process() { # N: becomes it
	local root=$DIR/n$1/root
	mount -t overlay overlay -o "lowerdir=$TREE,upperdir=$DIR/n$1/upper,workdir=$DIR/n$1/work" "$root"
	mount -t proc proc "$root/proc"
	mount --rbind /dev "$root/dev"
	mount -t tmpfs -o mode=755 tmpfs "$root/run"
	mkdir "$root/run/sshd"
	hostname "n$1"
	exec chroot "$root" /usr/sbin/sshd -D
}

# Asks the port first: an ssh client costs twenty times as much, and thirty of them would measure themselves.
log_in() { # N ADDRESS
	local end=$((SECONDS + 60))
	until (: <"/dev/tcp/$2/22") 2>/dev/null; do ((SECONDS < end)) || return 1; sleep 0.1; done
	until [[ $(login "$1" hostname 2>/dev/null) == "n$1" ]]; do ((SECONDS < end)) || return 1; sleep 0.1; done
}

by_hand() { # N
	local d=$DIR/n$1 ip=10.77.0.$((10 + $1))
	mkdir -p "$d"/{upper/etc/ssh/sshd_config.d,upper/root,work,root}
	mkdir -m 700 "$d/upper/root/.ssh"
	chmod 700 "$d/upper/root"
	ssh-keygen -q -t ed25519 -N '' -C "n$1" -f "$d/upper/etc/ssh/ssh_host_ed25519_key"
	echo "$ip $(cut -d' ' -f1,2 "$d/upper/etc/ssh/ssh_host_ed25519_key.pub")" >>"$DIR/known"
	cp "$DIR/key.pub" "$d/upper/root/.ssh/authorized_keys"
	echo "n$1" >"$d/upper/etc/hostname"
	printf 'UseDNS no\nHostKey /etc/ssh/ssh_host_ed25519_key\n' >"$d/upper/etc/ssh/sshd_config.d/bench.conf"
	ip netns add "bench$1"
	ip link add "v$1" type veth peer name eth0 netns "bench$1"
	ip link set "v$1" master bench0 up
	ip -n "bench$1" addr add "$ip/24" dev eth0
	ip -n "bench$1" link set lo up
	ip -n "bench$1" link set eth0 up
	ip netns exec "bench$1" unshare --mount --pid --uts --ipc --fork --kill-child "$0" first-process "$1" &
	PIDS+=($!)
	log_in "$1" "$ip" &
	LOGINS+=($!)
}

all_by_hand() {
	LOGINS=()
	for n in $(seq "$NODES"); do by_hand "$n"; done
	for n in "${LOGINS[@]}"; do wait "$n"; done
}

take_down_by_hand() {
	kill -9 "${PIDS[@]}"
	wait "${PIDS[@]}" 2>/dev/null || true
	PIDS=()
	# the cable first: the kernel takes a namespace apart later, and the next round would find its names taken
	for n in $(seq "$NODES"); do ip link del "v$n" && ip netns del "bench$n"; done
	rm -rf --one-file-system "$DIR"/n[0-9]* "$DIR/known"
}

# ---- by rebarfs

by_rebarfs() {
	start_daemon
	wait_settled 120
}

inside() {
	ip link set lo up
	mount -t tmpfs tmpfs /run/netns
	mkdir "$DIR/cgroup" # a sysfs shows the network in which it was mounted
	mount --rbind /sys/fs/cgroup "$DIR/cgroup"
	mount -t sysfs sysfs /sys
	mount --move "$DIR/cgroup" /sys/fs/cgroup
	ip link add bench0 type bridge
	ip addr add 10.77.0.1/24 dev bench0
	ip link set bench0 up
	ssh-keygen -q -t ed25519 -N '' -f "$DIR/key"
	export TREE REBARFS_BENCH_DIR=$DIR
	TREE=$(tree)
	local hand=() ours=()
	for _ in 1 2 3; do
		seconds all_by_hand
		hand+=("$TOOK")
		take_down_by_hand
		make_repo "$NODES"
		seconds by_rebarfs
		ours+=("$TOOK")
		[[ $(cat "$MNT"/nodes/*/state | grep -c ready) == "$NODES" ]]
		destroy_all
		stop_daemon
		rm -rf "$DIR/state" "$DIR/repo"
	done
	row "$NODES light container nodes to ssh" "$(best_of "${ours[@]}")" "$(best_of "${hand[@]}")" s 1.3x "(shell loop)"
}

case ${1:-} in
inside) inside ;;
first-process) first_process "$2" ;;
*)
	[[ $(id -u) == 0 ]] || { echo "containers: needs root" >&2 && exit 1; }
	if [[ -z $(tree) ]]; then # the tree is built with the host's network
		make_repo 1
		start_daemon
		wait_settled 900
		destroy_all
	fi
	unshare --net --mount --propagation private "$0" inside
	;;
esac
