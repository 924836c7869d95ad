#!/bin/bash
# A network that a provider's document describes: what overlaps is refused before anything is made; addresses come from its range, are kept through a restart
# and free again when their node is destroyed; nodes have its gateway, name server and packet size.
. "$(dirname "$0")/lib.sh"
needs root fuse ip iptables nsenter dnsmasq busybox
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed plain
in_own_network
setup
N=10.$((128 + RANDOM % 64)).$((RANDOM % 256)) # what networks are taken is known to all daemons of this machine

provider() { # NAME LINE...: of [network lab]
	light_provider "$1" "[network lab]" "${@:2}"
}
deployment() { # PROVIDER COUNT
	printf '[deployment]\nprovider = %s\nroles = r\n[nodes n]\ncount = %s\n' "$1" "$2" | document "deployments/$1/deployment.ini"
	value_becomes 10 "$MNT/deployments/$1/desired/nodes.n/count" "$2"
}
refused() { # NODE REGEX
	eventually 20 "$1 to be refused: $2" grep -qE "$2" "$MNT/nodes/$1/why"
}
bridges() {
	ip -o link show type bridge | grep -c ': rb'
}
addresses() {
	tr -s ' ' <"$MNT/providers/c/addresses" | paste -sd ' ' -
}
used() {
	eventually 30 "networks to say $1" sh -c "tail -n 1 '$MNT/providers/c/networks' | tr -s ' ' | grep -q '^lab $N.0/24 $N.11 $N.10-$N.12 1400 $1 of 2 ${2:-no} 192.0.2.53\$'"
}
printf '[role]\nrunner = script\n' | document roles/r/role.ini
document roles/r/apply <<'EOS'
#!/bin/sh
cp /etc/resolv.conf "$REBAR_OUTPUTS/resolv"
EOS
chmod +x "$REPO/roles/r/apply"
provider c "subnet = $N.0/24" "range = $N.10-$N.12" "gateway = $N.11" 'dns = 192.0.2.53' 'mtu = 1400'
mkdir "$T/wrong" && cp -r "$REPO/providers" "$T/wrong"
sed -i 's/^gateway.*/gateway = 10.0.0.1/' "$T/wrong/providers/c/provider.ini"
said=$("$REBARFS" --check "$T/wrong" 2>&1) && fail "a gateway outside of the subnet is no mistake"
expect_match "the mistake" "$said" "^providers/c/provider.ini:11:1: \[network lab\]: 'gateway' 10.0.0.1 is not an address for a host in the subnet $N.0/24"
start

# ---- what this host has a route to ----

ip link add other0 type bridge && ip link set other0 up && ip route add "$N.0/25" dev other0 || fail "cannot make a route"
deployment c 2
refused c-n-1 "the subnet $N.0/24 overlaps $N.0/25, to which this host has a route: set 'subnet' to another"
expect "bridges" "$(bridges)" 0
expect "addresses" "$(addresses)" ""
ip route del "$N.0/25"
echo retry >"$MNT/deployments/c/ctl" || fail "cannot retry: $(cat "$MNT/deployments/c/refused")"
settle c 60

# ---- what nodes get ----

expect "addresses" "$(addresses)" "$N.10 c-n-1 $N.12 c-n-2"
expect "a node's address" "$(cat "$MNT/nodes/c-n-2/address")" "$N.12"
expect "its name server" "$(cat "$MNT/nodes/c-n-2/roles/r/outputs/resolv")" "nameserver 192.0.2.53"
bridge=$(ip -o link show type bridge | sed -n 's/.*: \(rb[0-9a-f]*\):.*/\1/p')
for link in $(ip -o link show master "$bridge" | sed 's/^[0-9]*: \([^@:]*\).*/\1/'); do
	inside=$(nsenter --net="/run/netns/$link" sh -c 'ip -o link show eth0; ip route show default')
	expect_match "the network of $link" "$inside" "^2: .* mtu 1400 "
	expect_match "the routes of $link" "$inside" "^default via $N.11 "
done
used 2

# ---- DHCP: for its nodes, and nobody else ----

cat >"$T/asked" <<'EOS'
#!/bin/sh
[ "$1" != bound ] || echo "$ip $router $dns $mtu $hostname"
EOS
chmod +x "$T/asked"
ask() { # NAMESPACE
	timeout -k1 10 nsenter --net="/run/netns/$1" busybox udhcpc -i eth0 -f -q -n -t 2 -T 1 -O mtu -O hostname -s "$T/asked" 2>/dev/null
}
expect "an answer before there is DHCP" "$(ask "$link")" ""
echo yes >"$MNT/providers/c/desired/network.lab/dhcp" || fail "no DHCP: $(cat "$MNT/providers/c/refused")"
used 2 yes
for node in c-n-1 c-n-2; do
	ref=$(grep -l "\"$node\"" "$STATE"/providers/c/nodes/*/machine | sed -n 's|.*/\([0-9]*\)/machine|\1|p')
	expect "the answer to $node" "$(ask "$bridge-$ref")" "$(cat "$MNT/nodes/$node/address") $N.11 192.0.2.53 1400 $node"
done
nsenter --net="/run/netns/$link" sh -c 'ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:01; ip link set eth0 up'
expect "the answer to a stranger" "$(ask "$link")" ""
pids=$(pgrep -f "conf-file=-" -P "$DAEMON")
echo no >"$MNT/providers/c/desired/network.lab/dhcp" || fail "DHCP cannot be taken away: $(cat "$MNT/providers/c/refused")"
used 2
eventually 10 "dnsmasq to end" test ! -e "/proc/${pids:?}"

# ---- what another provider has; what does not fit ----

provider e "subnet = $N.128/25"
deployment e 1
refused e-n-1 "the subnet $N.128/25 overlaps $N.0/24, which is of provider 'c': set 'subnet'"
expect "bridges" "$(bridges)" 1
rm -r "$REPO/deployments/e" "$REPO/providers/e"
deployment c 3
refused c-n-3 "3 nodes are wanted and the range has addresses for 2: set a wider 'range' in \[network lab\]"
value_refused() { # KEY VALUE
	sh -c 'echo "$2" >"$1"' - "$MNT/providers/c/desired/network.lab/$1" "$2" 2>/dev/null && fail "$1 = $2 was taken"
}
value_refused range "$N.0-$N.9"
expect_match "refused" "$(cat "$MNT/providers/c/refused")" "'range' $N.0-$N.9 is not within the addresses for hosts of the subnet $N.0/24"
value_refused gateway "$N.1"
expect_match "refused" "$(cat "$MNT/providers/c/refused")" "'gateway' cannot change from $N.11 to $N.1 while machines of provider c exist"

# ---- kept through a restart, free again after the end ----

deployment c 2
settle c 60
stop
start
settle c 60
expect "addresses after a restart" "$(addresses)" "$N.10 c-n-1 $N.12 c-n-2"
deployment c 1
apply c
settle c 60
expect "addresses of what is left" "$(addresses)" "$N.10 c-n-1"
used 1
deployment c 2
settle c 60
expect "addresses" "$(addresses)" "$N.10 c-n-1 $N.12 c-n-2"
ip link del "$bridge" || fail "cannot take the bridge away" # as a boot of this host does
destroy c 30
expect "bridges" "$(bridges)" 0
expect "nobody has it any more" "$(find "$CACHE/subnets" -name "$N.0-24")" ""
stop
