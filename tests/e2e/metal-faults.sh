#!/bin/bash
# limit: 900
# Metal that goes wrong while it is installed: no disk, one too small, somebody else's, two of them, what arrives is not what was sent, death on the way,
# no boot at all. Each is a sentence in 'why', no other disk is touched, and a stranger on the wire is given nothing; one that is killed when it runs is
# switched on again. BMCs, DHCP, HTTP and the installer are real; the machines are namespaces (see metal-machine), so nothing has to boot.
. "$(dirname "$0")/lib.sh"
needs root fuse mmdebstrap qemu-img mke2fs ipmi_sim ipmitool dnsmasq busybox setpriv unshare nsenter
[ -c /dev/net/tun ] || skip "needs /dev/net/tun"
[ -e /bin/dash ] || skip "needs /bin/dash"
setup
PATH=$TOP/tests/e2e/metal-machine:$PATH METAL_LAB_DISK='' metal_lab 9

# What the lab printed are the documents, each after a line that names it.
awk -v repo="$REPO" '/^# [a-z]+\/.*\.ini$/ { file = repo "/" $2; system("mkdir -p $(dirname " file ")"); next } file && !/^#/ { print >file }' "$T/lab.ini"
mkdir -p -m 700 "$STATE/secrets"
(umask 077 && cp "$lab/password" "$STATE/secrets/lab")
echo 'boot-timeout = 20s' >>"$REPO/providers/lab/provider.ini"
names=([1]=fine [2]=bare [3]=small [4]=double [5]=foreign [6]=garbled [7]=dying [8]=silent [9]=bystander)
for n in "${!names[@]}"; do
	mv "$REPO/nodes/lab-$n" "$REPO/nodes/${names[n]}"
	ln -s "m$n" "$lab/${names[n]}"
done
document deployments/d/deployment.ini <<'EOF'
[deployment]
provider = lab
[nodes db]
nodes = fine, bare, small, double, foreign, garbled, dying, silent
EOF
: >"$lab/bare/disks"
echo 'xvdz 300' >"$lab/small/disks"
printf 'xvdz 1024\nxvdy 1024\n' >"$lab/double/disks"
truncate -s 1G "$lab/foreign/xvdz.disk"
printf 'rebarfs 0123456789abcdef 1 1\n' | dd of="$lab/foreign/xvdz.disk" bs=512 seek=2040 conv=notrunc status=none
foreign=$(stat -c "%b %y" "$lab/foreign/xvdz.disk")
touch "$lab/garbled/corrupts" "$lab/silent/silent"
echo 8 >"$lab/dying/dies-after"

said() {
	eventually "$1" "what is wrong with $2" grep -qE -- "$3" "$MNT/nodes/$2/why"
	say "$SECONDS s: $2: $(cat "$MNT/nodes/$2/why")"
}
# lease_of MAC: what a machine with this network card is told to boot
stranger=
lease_of() {
	rm -f "$T/lease"
	nsenter -t "$stranger" -n ip link set eth0 address "$1" up
	nsenter -t "$stranger" -n busybox udhcpc -f -n -q -t 4 -T 1 -i eth0 -O 67 -x 0xaf:010101 -s "$T/got" >/dev/null 2>&1
	cat "$T/lease" 2>/dev/null
}

start
value_becomes 20 "$MNT/deployments/d/state" proposed
expect_match "the plan" "$(cat "$MNT/deployments/d/plan")" 'node fine .*writes the only disk'
apply d
eventually 600 "an answer to machines that are being installed" sh -c 'ls "$1"/providers/lab/http/*/boot.ipxe' - "$STATE"
root_tree >"$lab/tree"
say "$SECONDS s: the image is there"

# While the silent one is waited for, a stranger asks; with the silent one's card it would have been answered.
printf '#!/bin/sh\n[ -z "${ip:-}" ] || echo "$ip ${bootfile:-$boot_file}" >"%s"\n' "$T/lease" >"$T/got"
chmod +x "$T/got"
unshare --net -- sleep infinity &
stranger=$!
NODES+=("$stranger")
disown
eventually 10 "a namespace" sh -c '[ "$(readlink /proc/$1/ns/net)" != "$(readlink /proc/self/ns/net)" ]' - "$stranger"
bridge=$(cat "$lab/bridge")
ip link add "$bridge-s" type veth peer name eth0 netns "$stranger" && ip link set "$bridge-s" master "$bridge" up || fail "cannot make a stranger"
mac_of() { sed -n 's/^mac=//p' "$lab/$1/settings"; }
declared=$(lease_of "$(mac_of silent)")
expect_match "what the silent one's card is told" "$declared" '/[0-9a-f]{32}/boot.ipxe$'
token=$(grep -oE '[0-9a-f]{32}' <<<"$declared")
expect "what a declared machine that is not installed is told" "$(lease_of "$(mac_of bystander)")" ""
expect_no_match "what a stranger is told" "$(lease_of 02:00:00:00:00:99)" "boot.ipxe"
[ -e "$STATE/providers/lab/http/$token" ] || say "the silent one was given up while the stranger asked"

said 60 bare 'it has no disk$'
said 60 small 'its disk xvdz is too small: 300M, and the image needs [0-9]+M'
said 60 double 'it has several disks .* name the one to write'
said 60 foreign 'its disk xvdz belongs to another rebarfs \(0123456789abcdef\)'
said 90 garbled 'what it was sent for xvdz is not the image: the checksum of the piece at [0-9]+M is wrong'
said 90 dying "went off after 'writing image [0-9]+ %'"
said 90 silent 'did not boot from the network within 20 s'
eventually 120 "the installation of the one that is well" grep -qs '"installed": true' "$STATE"/providers/lab/nodes/*/machine
say "$SECONDS s: fine is installed"
expect "how many are installed" "$(grep -ls '"installed": true' "$STATE"/providers/lab/nodes/*/machine | wc -l)" 1
eventually 30 "its boot from its disk" grep -q 'boots from its disk' "$lab/fine/console.log"
piece=$(sed -n 5p "$STATE"/providers/lab/http/image/*/map)
read -r at count _ <<<"$piece"
cmp <(dd if="$lab/fine/xvdz.disk" bs=1M skip="$at" count="$count" status=none) "$STATE"/providers/lab/http/image/*/pieces/"$at" || fail "its disk is not the image"
expect_match "the mark on its disk" "$(dd if="$lab/fine/xvdz.disk" bs=512 skip=2040 count=1 status=none | tr -d '\0')" '^rebarfs [0-9a-f]{16} [0-9]+ 1$'

for name in small double garbled; do
	expect "blocks written by $name" "$(cat <(stat -c %b "$lab/$name"/*.disk) | sort -u)" 0
done
expect "blocks and time of the foreign disk" "$(stat -c "%b %y" "$lab/foreign/xvdz.disk")" "$foreign"
[ ! -e "$lab/bystander/qemu.pid" ] || fail "the bystander was switched on"


# Killed when it runs: its BMC says so, and it is switched on again.
value_becomes 60 "$MNT/nodes/fine/state" ready
kill -KILL "$(cat "$lab/fine/qemu.pid")"
eventually 120 "its being off is seen" grep -q 'fine.* does not run' "$MNT/events"
eventually 60 "its power" grep -q 'fine.* powered on again' "$MNT/events"
value_becomes 60 "$MNT/nodes/fine/state" ready
expect "its boots from its disk" "$(grep -c 'boots from its disk' "$lab/fine/console.log")" 2
say "$SECONDS s: fine was killed and is ready again"
destroy d 120
expect "records that are left" "$(ls "$STATE/providers/lab/nodes")" ""
stop
