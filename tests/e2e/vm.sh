#!/bin/bash
# limit: 900
# A virtual machine and a container in one deployment: made, configured, met by each other, taken up again after kill -9 of the daemon, destroyed
# without a trace. The image's disk and its booted snapshot stay in the cache: without them, and by emulation, this takes minutes.
. "$(dirname "$0")/lib.sh"
needs root fuse mmdebstrap ip iptables qemu-system-x86_64 qemu-img mke2fs jq
[ -c /dev/net/tun ] || skip "needs /dev/net/tun"
setup
# The image is that of the example 'staircase', so that both tests go on from one snapshot.
document providers/prepare.sh <"$TOP/contrib/examples/staircase/providers/laptop/prepare.sh"
chmod +x "$REPO/providers/prepare.sh"
document providers/box/provider.ini <<-'EOF'
	[provider]
	type = container
	[container]
	boot = sshd
	[image debian-12]
	packages = etcd-server, etcd-client
	script = ../prepare.sh
EOF
document providers/machine/provider.ini <<-'EOF'
	[provider]
	type = vm
	[vm]
	disks = 100M
	[network lab]
	dns = 192.0.2.53
	mtu = 1420
	[image debian-12]
	packages = etcd-server, etcd-client
	script = ../prepare.sh
EOF
document roles/meet/role.ini <<-'EOF'
	[role]
	runner = script
	wants = nodes
	timeout = 5m
	retries = 8
	backoff = 1s
	[output kernel]
	help = the kernel that runs there
	[output met]
	help = how many nodes of the deployment answer
EOF
document roles/meet/apply <<-'EOF'
	#!/usr/bin/python3
	import json, os, socket
	nodes = json.load(open(os.environ["REBAR_INPUTS"]))["nodes"]
	met = 0
	for node in nodes:
	    with socket.create_connection((node["address"], 22), timeout=60) as s:
	        met += s.recv(4) == b"SSH-"
	out = os.environ["REBAR_OUTPUTS"]
	open(out + "/met", "w").write(str(met))
	open(out + "/kernel", "w").write(os.uname().release)
	print("hostname", socket.gethostname(), "machine-id", open("/etc/machine-id").read())
	print("mtu", open("/sys/class/net/eth0/mtu").read().strip(), open("/etc/resolv.conf").read())
EOF
chmod +x "$REPO/roles/meet/apply"
document deployments/mixed/deployment.ini <<-'EOF'
	[deployment]
	roles = meet
	provider = machine
	[nodes vm]
	count = 1
	memory = 384M
	[nodes box]
	provider = box
	count = 1
EOF
vm=$MNT/nodes/mixed-vm-1

# qemus: the processes of this test's machines
qemus() {
	local f
	for f in "$STATE"/providers/machine/nodes/*/qemu.pid; do
		[ ! -e "$f" ] || ! tr '\0' '\n' <"/proc/$(cat "$f")/cmdline" 2>/dev/null | grep -qxF "$f" || cat "$f"
	done
}

recorded() {
	cat "$STATE"/providers/machine/nodes/*/machine
}

start
eventually 600 "the virtual machine's record" recorded
say "made after $SECONDS s"
kill_hard
start
settle mixed 300
say "up after $SECONDS s"
expect "states" "$(cat "$MNT"/nodes/mixed-*/state)" "$(printf 'ready\nready')"
expect "how many met each other" "$(sort -u "$vm/roles/meet/outputs/met" "$MNT/nodes/mixed-box-1/roles/meet/outputs/met")" 2
expect "processes" "$(qemus | wc -l)" 1
expect_match "the kernel of the virtual machine" "$(cat "$vm/roles/meet/outputs/kernel")" 'cloud'
expect_match "its name, as it knows it itself" "$(cat "$vm/roles/meet/log")" 'hostname mixed-vm-1 machine-id [0-9a-f]{32}'
expect_match "its network" "$(cat "$vm/roles/meet/log")" 'mtu 1420 nameserver 192.0.2.53'
expect "whether its further disk is there" "$(jq '[.disks[].size] | index(104857600) != null' "$vm/facts.json")" true
eventually 20 "something on its console" test -s "$vm/console"
expect "the image of both" "$(sort -u "$vm/image" "$MNT/nodes/mixed-box-1/image")" debian-12

# A role asks for a reboot: the machine does it itself, and the role goes on behind it.
document roles/kernel/role.ini <<<$'[role]\nrunner = script\ntimeout = 5m'
document roles/kernel/apply <<<$'#!/bin/sh\ncat /proc/sys/kernel/random/boot_id >"$REBAR_OUTPUTS/boot"\n[ -e /root/first ] && exec cp /root/first "$REBAR_OUTPUTS/first"\nmv "$REBAR_OUTPUTS/boot" /root/first\necho again >"$REBAR_OUTPUTS/reboot"'
chmod +x "$REPO/roles/kernel/apply"
sed -i 's/^memory = 384M/&\nroles = meet, kernel/' "$REPO/deployments/mixed/deployment.ini"
before=$(qemus)
settle mixed 300
say "rebooted after $SECONDS s"
expect "its process after a reboot" "$(qemus)" "$before"
expect_match "events" "$(cat "$MNT/events")" 'mixed-vm-1: reboots, as kernel asked'
expect "runs of the role" "$(runs "$vm/roles/kernel")" 2
[ "$(cat "$vm/roles/kernel/outputs/boot")" != "$(cat "$vm/roles/kernel/outputs/first")" ] || fail "it was not rebooted between its runs"

# Taken up again: the same process, nothing runs a second time.
before=$(qemus)
ran=$(runs "$vm/roles/meet")
kill_hard
start
settle mixed 60
expect "its process after a restart" "$(qemus)" "$before"
expect "runs after a restart" "$(runs "$vm/roles/meet")" "$ran"

ref=$(recorded | sed -n 's/.*"ref": *"\([^"]*\)".*/\1/p')
ip link show dev "${ref:?}" >/dev/null || fail "there is no device '$ref'"
destroy mixed 60
gone "$before" 5 || fail "qemu still runs"
expect "directories that are left" "$(ls "$STATE/providers/machine/nodes")" ""
! ip link show dev "$ref" 2>/dev/null || fail "the device '$ref' is left"
! ip link show dev "${ref%-*}" 2>/dev/null || fail "the bridge is left"
stop
