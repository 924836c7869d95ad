# What the end-to-end tests share. A test sources this, says what it needs, and then does what a person would type:
#
#   . "$(dirname "$0")/lib.sh"
#   needs root fuse
#   setup                     # $T, and in it $REPO, $MNT, $STATE; all of it is gone when the test ends, however it ends
#   ... write documents into $REPO ...
#   start                     # mount
#   expect "state" "$(cat "$MNT/deployments/d/state")" active
#
# Exit 0: passed; 1: failed; 77: skipped, with the reason as the last line. Nothing here has a fixed name, address or port: tests run side by side.
# shellcheck shell=bash
set -u -o pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
TEST=$(basename "$0" .sh)
REBARFS=${REBARFS:-$TOP/build/rebarfs}
CACHE=${REBARFS_CACHE:-/var/cache/rebarfs}
DAEMON=
NODES=()

say() {
	echo "$TEST: $*"
}

fail() {
	echo "$TEST: FAILED at line ${BASH_LINENO[*]: -2:1}: $*" >&2
	exit 1
}

skip() {
	echo "$TEST: skipped: $*"
	exit 77
}

# needs root fuse PROGRAM...
needs() {
	[ -x "$REBARFS" ] || fail "there is no '$REBARFS': run 'make' first"
	local what
	for what; do
		case $what in
		root) [ "$(id -u)" = 0 ] || skip "needs root" ;;
		fuse)
			[ -c /dev/fuse ] || skip "needs /dev/fuse"
			command -v fusermount3 >/dev/null || skip "needs fusermount3 (package fuse3)"
			;;
		*) command -v "$what" >/dev/null || skip "needs '$what' in the PATH" ;;
		esac
	done
}

# Runs the whole test again in a network namespace of its own, where it may use what addresses it likes.
in_own_network() {
	if [ -z "${REBARFS_E2E_NETWORK:-}" ]; then
		REBARFS_E2E_NETWORK=own exec unshare --net -- "$0" "$@"
	fi
	ip link set lo up || skip "cannot use a network namespace of its own"
}

setup() {
	T=$(mktemp -d "${TMPDIR:-/tmp}/rebarfs-$TEST.XXXXXX") || exit 1
	REPO=$T/repo MNT=$T/mnt STATE=$T/state
	mkdir "$REPO" "$MNT"
	trap cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

# ---- the daemon ----

# start [OPTION,OPTION...]: in the foreground, so that its pid and what it says are ours. Succeeds when the mount answers.
start() {
	"$REBARFS" -f -o "state=$STATE,cache=$CACHE${1:+,$1}" "$REPO" "$MNT" >>"$T/daemon.log" 2>&1 &
	DAEMON=$!
	local n
	for ((n = 0; n < 300; n++)); do
		[ -s "$MNT/README" ] 2>/dev/null && return
		kill -0 "$DAEMON" 2>/dev/null || break
		sleep 0.1
	done
	tail -n 20 "$T/daemon.log" >&2
	fail "the mount did not come up"
}

# Ends the daemon as a shut-down would, and holds it to ending soon.
stop() {
	kill -TERM "$DAEMON" || fail "the daemon was gone already: $(tail -n 3 "$T/daemon.log")"
	gone "$DAEMON" 10 || fail "the daemon still runs 10 s after SIGTERM"
	wait "$DAEMON" 2>/dev/null
	local rc=$?
	DAEMON=
	[ "$rc" = 0 ] || fail "the daemon ended with $rc after SIGTERM: $(tail -n 3 "$T/daemon.log")"
	! mountpoint -q "$MNT" || fail "'$MNT' is still mounted after SIGTERM"
}

kill_hard() {
	kill -KILL "$DAEMON" || fail "the daemon was gone already: $(tail -n 3 "$T/daemon.log")"
	wait "$DAEMON" 2>/dev/null
	DAEMON=
}

# gone PID SECONDS
gone() {
	local n
	for ((n = 0; n < $2 * 10; n++)); do
		# A child that ended and was not waited for is gone too.
		[ -d "/proc/$1" ] && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null || return 0
		sleep 0.1
	done
	return 1
}

daemon_lives() {
	[ -n "$DAEMON" ] && kill -0 "$DAEMON" 2>/dev/null
}

# Asks for the destruction of every deployment that has containers, then lets go of what is left by force. Nothing of a test stays behind.
cleanup() {
	local rc=$? d boot pid start
	trap - EXIT INT TERM
	set +e
	if [ "$rc" != 0 ] && [ "$rc" != 77 ] && [ -n "${T:-}" ]; then
		diagnose >&2
	fi
	if [ -n "$(find "$STATE" -path '*/nodes/*' -name machine -maxdepth 6 2>/dev/null | head -n 1)" ]; then
		if ! daemon_lives; then
			fusermount3 -uz "$MNT" 2>/dev/null
			(start) >/dev/null 2>&1
			DAEMON=$(daemon_of_state)
		fi
		for d in "$MNT"/deployments/*/; do
			timeout 10 sh -c 'echo destroy >"$1/ctl"' - "$d" 2>/dev/null
		done
		for d in "$MNT"/deployments/*/; do
			timeout 60 cat "$d/wait" >/dev/null 2>&1
		done
	fi
	if daemon_lives; then
		kill -TERM "$DAEMON" 2>/dev/null
		gone "$DAEMON" 10 || { say "the daemon had to be killed"; kill -KILL "$DAEMON"; rc=1; }
	fi
	for d in "${NODES[@]}"; do
		kill -KILL "$d" 2>/dev/null
	done
	[ -z "$(jobs -p)" ] || kill -KILL $(jobs -p) 2>/dev/null
	wait 2>/dev/null
	if [ -n "${T:-}" ]; then
		# What a daemon that went wrong left running: only processes whose root is below our directory.
		# Not files of that name in a node's own tree: what they hold is another's.
		for d in "$STATE"/providers/*/nodes/*/pid; do
			read -r boot pid start <"$d" || continue
			[ -z "$start" ] || [ "$(cut -d " " -f 22 "/proc/$pid/stat")" != "$start" ] || kill_tree "$pid"
		done 2>/dev/null
		# qemu is told by the file that it was told to lock: no other process has that in its arguments.
		for d in $(find "$STATE" -path '*/nodes/*/qemu.pid' 2>/dev/null); do
			! tr '\0' '\n' <"/proc/$(cat "$d")/cmdline" 2>/dev/null | grep -qxF "$d" || kill -KILL "$(cat "$d")"
		done
		find "$STATE" -path '*/nodes/*/machine' -exec grep -oh '"ref": *"[^"]*"' {} + 2>/dev/null | cut -d '"' -f 4 | while read -r d; do
			ip netns del "$d"
			ip link del "$d"
			ip link del "${d%-*}"
			[[ $d == rb?*-?* ]] || continue
			find /sys/fs/cgroup/"$d" /sys/fs/cgroup/*/"$d" -depth -type d -exec rmdir {} +
			umount -l "/run/systemd/nspawn/unix-export/$d"
			rmdir "/run/systemd/nspawn/unix-export/$d" "/run/systemd/nspawn/propagate/$d"
		done 2>/dev/null
		awk -v t="$T/" 'index($2, t) == 1 { print $2 }' /proc/self/mounts | sort -r | while read -r d; do umount -l "$d"; done
		rm -rf --one-file-system "$T" 2>/dev/null || { sleep 1; rm -rf --one-file-system "$T"; }
	fi
	[ "$rc" != 0 ] || say "passed"
	exit "$rc"
}

# A shell waits for systemd-nspawn, which does not end with it.
kill_tree() {
	local child
	for child in $(cat "/proc/$1/task/$1/children"); do
		kill_tree "$child"
	done
	kill -KILL "$1"
}

daemon_of_state() {
	local p
	for p in /proc/[0-9]*; do
		if [ "$(readlink "$p/exe")" = "$(readlink -f "$REBARFS")" ] && tr '\0' ' ' <"$p/cmdline" | grep -qF "state=$STATE,"; then
			basename "$p"
			return
		fi
	done
}

# What a person would look at first.
diagnose() {
	echo "---- the daemon said:"
	tail -n 30 "$T/daemon.log" 2>/dev/null
	if daemon_lives; then
		echo "---- status, problems:"
		timeout 5 cat "$MNT/status" "$MNT/problems"
		for d in "$MNT"/deployments/*/; do
			echo "---- $(basename "$d"): error, matrix"
			timeout 5 cat "$d/error" | head -n 20
			timeout 5 cat "$d/matrix" | head -n 20
		done
		for d in "$MNT"/nodes/*/roles/*/; do
			[ "$(timeout 5 cat "$d/state")" = error ] || continue
			echo "---- $d: log"
			timeout 5 tail -n 20 "$d/log"
			break
		done
	fi
}

# ---- expectations ----

# expect WHAT ACTUAL EXPECTED
expect() {
	[ "$2" = "$3" ] || fail "$1 is '$2', not '$3'"
}

# expect_match WHAT TEXT REGEX: some line of the text matches
expect_match() {
	grep -qE -- "$3" <<<"$2" || fail "$1 should match '$3', but is: $2"
}

expect_no_match() {
	! grep -qE -- "$3" <<<"$2" || fail "$1 should not match '$3', but is: $2"
}

# eventually SECONDS WHAT COMMAND...: true within the time
eventually() {
	local seconds=$1 what=$2 end
	shift 2
	end=$((SECONDS + seconds))
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || fail "$what: not within $seconds s ($*)"
		sleep 0.1
	done
}

# value_becomes SECONDS FILE EXPECTED
value_becomes() {
	local end=$((SECONDS + $1))
	until [ "$(cat "$2" 2>/dev/null)" = "$3" ]; do
		[ "$SECONDS" -lt "$end" ] || fail "$2 is '$(cat "$2" 2>&1)', not '$3', after $1 s"
		sleep 0.1
	done
}

# settle DEPLOYMENT SECONDS: `cat wait` ends well within the time
settle() {
	local rc
	timeout "$2" cat "$MNT/deployments/$1/wait" >"$T/wait.$1" 2>&1
	rc=$?
	[ "$rc" != 124 ] || fail "$1 did not settle within $2 s: $(tail -n 3 "$T/wait.$1"); $(cat "$MNT/deployments/$1/why")"
	[ "$rc" = 0 ] || fail "$1 settled in error: $(tail -n 3 "$T/wait.$1")"
}

# settle_badly DEPLOYMENT SECONDS: it ends, and fails
settle_badly() {
	local rc
	timeout "$2" cat "$MNT/deployments/$1/wait" >"$T/wait.$1" 2>&1
	rc=$?
	[ "$rc" != 124 ] || fail "$1 did not settle within $2 s: $(tail -n 3 "$T/wait.$1")"
	[ "$rc" != 0 ] || fail "'cat wait' of $1 succeeded, but should have failed: $(tail -n 3 "$T/wait.$1")"
}

plan_id() {
	sed -n '1s/^plan \([^:]*\):.*/\1/p' "$MNT/deployments/$1/plan"
}

# apply DEPLOYMENT: all of the plan, destruction too
apply() {
	echo "apply $(plan_id "$1")" >"$MNT/deployments/$1/ctl" || fail "cannot apply the plan of $1: $(cat "$MNT/deployments/$1/refused")"
}

# destroy DEPLOYMENT SECONDS
destroy() {
	echo destroy >"$MNT/deployments/$1/ctl" || fail "cannot destroy $1: $(cat "$MNT/deployments/$1/refused")"
	settle "$1" "$2"
	expect "what is left of $1" "$(list "$MNT/deployments/$1/nodes")" ""
}

# runs GLOB: how many runs there were altogether
runs() {
	# shellcheck disable=SC2086
	find $1/runs/ -mindepth 1 -maxdepth 1 | wc -l
}

# Words of a directory listing.
list() {
	ls "$1" | paste -sd ' ' -
}

# ---- machines made outside rebarfs: for the ssh provider ----

# For tests of ssh machines, before in_own_network: there is a tree with these packages, from wherever.
make_root_tree_if_needed() {
	(root_tree "${ROOT_TREE_PROGRAMS[@]}" >/dev/null 2>&1) || make_root_tree "$@"
}
ROOT_TREE_PROGRAMS=()

# root_tree PROGRAM...: prints a directory with a Debian root tree that holds sshd and these programs. Trees that the container provider has cached are as good
# as any; else one is made from packages of these names, once.
root_tree() {
	local tree program ok
	for tree in "$CACHE"/images/*/ "$CACHE"/e2e-trees/*/; do
		case $tree in *.new/) continue ;; esac
		ok=yes
		for program in sshd "$@"; do
			[ -e "$tree/usr/bin/$program" ] || [ -e "$tree/usr/sbin/$program" ] || ok=no
		done
		[ "$ok" = no ] || { echo "${tree%/}"; return; }
	done
	fail "no cached root tree holds $*"
}

# make_root_tree NAME PACKAGE...: needs the network, so before in_own_network.
make_root_tree() {
	local name=$1 tree=$CACHE/e2e-trees/$1 packages
	shift
	packages=$(echo openssh-server python3 python3-apt systemd systemd-sysv dbus iproute2 procps "$@" | tr ' ' ,)
	mkdir -p "$CACHE/e2e-trees"
	(
		flock 9
		[ ! -d "$tree" ] || exit 0
		command -v mmdebstrap >/dev/null || skip "needs 'mmdebstrap' in the PATH to make a root tree"
		say "making a root tree with $*"
		mmdebstrap --quiet --variant=minbase --format=directory --include="$packages" --aptopt='APT::Install-Recommends "false"' \
			--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
			bookworm "$tree.new" >"$tree.log" 2>&1 || { tail -n 5 "$tree.log"; rm -rf --one-file-system "$tree.new"; skip "cannot make a root tree (see above)"; }
		mv "$tree.new" "$tree"
	) 9>"$CACHE/e2e-trees/lock" || exit
}

# The network of such machines: a bridge with the address 10.77.0.1, in the test's own namespace.
BRIDGE=br0
NET=10.77.0
net_up() {
	[ "${REBARFS_E2E_NETWORK:-}" = own ] || fail "net_up is for tests in a network of their own"
	ip link add "$BRIDGE" type bridge && ip addr add "$NET.1/24" dev "$BRIDGE" && ip link set "$BRIDGE" up || fail "cannot make a bridge"
	net_keys
}

# net_joins BRIDGE NET: the machines of this test are plugged into a bridge that is there already, with the address NET.1
net_joins() {
	BRIDGE=$1
	NET=$2
	net_keys
}

net_keys() {
	[ -f "$T/id" ] || ssh-keygen -q -t ed25519 -N '' -C test -f "$T/id"
	cat >"$T/ssh_config" <<-EOF
		Host *
			User root
			IdentityFile $T/id
			IdentitiesOnly yes
			UserKnownHostsFile /dev/null
			StrictHostKeyChecking no
			LogLevel ERROR
			ConnectTimeout 5
	EOF
}

# machine NAME NUMBER TREE [systemd]: boots a machine at $NET.NUMBER from an overlay over the tree, with sshd that lets our key in.
# Its disk is $T/machines/NAME/root while it runs; its pid is in $T/machines/NAME/pid.
machine() {
	local name=$1 number=$2 tree=$3 kind=${4:-sshd} m=$T/machines/$1 root pid
	root=$m/root
	if [ ! -d "$m/upper" ]; then
		mkdir -p "$m/upper/etc/ssh" "$m/upper/root/.ssh" "$m/work" "$root"
		echo "$name" >"$m/upper/etc/hostname"
		printf '127.0.0.1\tlocalhost\n%s.%s\t%s\n' "$NET" "$number" "$name" >"$m/upper/etc/hosts"
		: >"$m/upper/etc/machine-id"
		chmod 700 "$m/upper/root" "$m/upper/root/.ssh"
		cat "$T/id.pub" "$m/authorized_keys" 2>/dev/null >"$m/upper/root/.ssh/authorized_keys" # of others, too, who brought theirs
		ssh-keygen -q -t ed25519 -N '' -f "$m/upper/etc/ssh/ssh_host_ed25519_key"
		mkdir -p "$m/upper/etc/ssh/sshd_config.d"
		printf 'HostKey /etc/ssh/ssh_host_ed25519_key\nUseDNS no\nMaxStartups 100\n' >"$m/upper/etc/ssh/sshd_config.d/test.conf"
	fi
	if [ "$kind" = systemd ]; then
		mount -t overlay "$name" -o "lowerdir=$tree,upperdir=$m/upper,workdir=$m/work" "$root" || fail "cannot mount an overlay"
		unshare --net -- sleep infinity &
		pid=$!
		NODES+=("$pid")
		plug "$name" "$number" "$pid"
		setsid systemd-nspawn -q --register=no --keep-unit -D "$root" -M "$name" --network-namespace-path="/proc/$pid/ns/net" --resolv-conf=off --timezone=off \
			--link-journal=no -b --console=passive </dev/null >"$m/console" 2>&1 &
	else
		unshare --net --mount --pid --uts --ipc --fork --kill-child -- bash -c '
			set -e
			mount --make-rprivate /
			mount -t overlay node -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
			cd "$2/root"
			mount -t proc proc proc
			mount -t sysfs sysfs sys
			mount -t tmpfs -o mode=755 tmpfs dev
			for d in null zero full random urandom tty; do : >dev/$d; mount --bind /dev/$d dev/$d; done
			mkdir dev/pts dev/shm
			mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
			ln -s pts/ptmx dev/ptmx
			ln -s /proc/self/fd dev/fd
			mount -t tmpfs -o mode=755 tmpfs run
			mount -t tmpfs -o mode=1777 tmpfs tmp
			mkdir -p run/sshd run/lock .oldroot
			hostname "$3"
			pivot_root . .oldroot
			umount -l /.oldroot
			exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /usr/sbin/sshd -D -e
		' - "$tree" "$m" "$name" </dev/null >"$m/console" 2>&1 &
		pid=$!
		plug "$name" "$number" "$pid"
	fi
	NODES+=($!)
	echo $! >"$m/pid"
	disown -a # or bash tells of each that is killed
	local n
	for ((n = 0; n < 300; n++)); do
		ssh -F "$T/ssh_config" "$NET.$number" true 2>/dev/null && return
		sleep 0.2
	done
	tail -n 5 "$m/console" >&2
	fail "machine $name does not answer"
}

# plug NAME NUMBER PID: a cable from the bridge into the network namespace of this process
plug() {
	local n
	for ((n = 0; n < 100; n++)); do
		[ "$(readlink "/proc/$3/ns/net")" != "$(readlink /proc/self/ns/net)" ] && break
		sleep 0.05
	done
	# One card for ever, as machines have: with another after each boot, who knows the old one reaches nobody for half a minute.
	ip link add "$BRIDGE-v$2" type veth peer name eth0 address "$(printf '02:00:0a:4d:00:%02x' "$2")" netns "$3" || fail "cannot make a cable to $1"
	ip link set "$BRIDGE-v$2" master "$BRIDGE" up
	nsenter -t "$3" -n sh -c "ip link set lo up; ip addr add $NET.$2/24 dev eth0; ip link set eth0 up; ip route add default via $NET.1" ||
		fail "cannot give $1 its address"
}

machine_off() {
	kill -KILL "$(cat "$T/machines/$1/pid")" 2>/dev/null
	gone "$(cat "$T/machines/$1/pid")" 5
}

on() {
	local number=$1
	shift
	ssh -F "$T/ssh_config" "$NET.$number" "$@"
}

# ---- documents ----

# document PATH: standard input becomes this document of the repo
document() {
	mkdir -p "$(dirname "$REPO/$1")"
	cat >"$REPO/$1"
}

# apply_is ROLE: its script comes from standard input, and is whole and executable at once
apply_is() {
	document "roles/$1/.apply"
	chmod +x "$REPO/roles/$1/.apply"
	mv "$REPO/roles/$1/.apply" "$REPO/roles/$1/apply"
}

# light_provider NAME [LINE]...: of light containers, from whatever tree of ours is there already, so that nothing has to be built
light_provider() {
	local name=$1 tree
	shift
	tree=$(root_tree) || exit 1
	{
		printf '[provider]\ntype = container\nimage = tree\n[container]\nboot = sshd\n[image tree]\nsource = %s\n' "$tree"
		[ $# = 0 ] || printf '%s\n' "$@"
	} | document "providers/$name/provider.ini"
}

# metal_lab COUNT: simulated machines in $lab, as contrib/metal-lab and its variables have it, until the test ends; $T/lab.ini is what it printed
metal_lab() {
	lab=$T/lab
	trap end_with_lab EXIT
	"$TOP/contrib/metal-lab" "$1" "$lab" >"$T/lab.ini" || fail "the lab did not start: $(cat "$T/lab.ini")"
}

end_with_lab() {
	local rc=$?
	[ ! -e "$lab/bridge" ] || "$TOP/contrib/metal-lab" stop "$lab"
	(exit "$rc")
	cleanup
}

# fake_repo COUNT [LINE OF [fake]...]: a deployment 'd' of simulated nodes d-n-1..COUNT with the roles 'base' and 'app', which requires it
fake_repo() {
	local count=$1
	shift
	{
		printf '[provider]\ntype = fake\nmax-parallel = 200\n[fake]\n'
		printf '%s\n' "$@"
	} | document providers/sim/provider.ini
	printf '[role]\nrunner = none\nretries = 8\nbackoff = 100ms\n[param size]\ntype = int\ndefault = 3\nmin = 1\nmax = 100\nhelp = of something\n' | document roles/base/role.ini
	printf '[role]\nrunner = none\nrequires = base\nretries = 8\nbackoff = 100ms\n[output key]\nhelp = a value\n' | document roles/app/role.ini
	document deployments/d/deployment.ini <<-EOF
		; a deployment of simulated nodes
		[deployment]
		provider = sim

		[nodes n]
		count = $count   ; how many
		roles = app

		[params base]
		size = 5
	EOF
}

# states GLOB: how many of which, "3000 active"
states() {
	# shellcheck disable=SC2086
	cat $1 | sort | uniq -c | awk '{ printf "%s%d %s", (NR == 1 ? "" : ", "), $1, $2 } END { print "" }'
}

# ssh_repo NODE=ADDRESS...: a deployment 's' on those machines with the role 'slow', a script that takes 4 s and counts how often it was begun
ssh_repo() {
	local node
	document providers/machines/provider.ini <<-EOF
		[provider]
		type = ssh
		[ssh]
		key = $T/id
	EOF
	for node; do
		printf '[node]\nprovider = machines\naddress = %s\n' "${node#*=}" | document "nodes/${node%%=*}/node.ini"
	done
	printf '[role]\nrunner = script\ntimeout = 1m\nretries = 1\nbackoff = 1s\n[output answer]\nhelp = a number\n' | document roles/slow/role.ini
	document roles/slow/apply <<-'EOF'
		#!/bin/sh
		set -eu
		echo begun >>/root/ran
		echo "now it begins"
		for second in 1 2 3 4; do sleep 1; echo "second $second"; done
		echo 42 >"$REBAR_OUTPUTS/answer"
		echo ended >>/root/ran
		echo "now it ends"
	EOF
	chmod +x "$REPO/roles/slow/apply"
	document deployments/s/deployment.ini <<-EOF
		[deployment]
		provider = machines
		[nodes all]
		nodes = $(printf '%s\n' "$@" | cut -d = -f 1 | paste -sd ,)
		roles = slow
	EOF
}
