#!/bin/bash
# limit: 900
# The staircase: one description on containers, a virtual machine, a machine that somebody else made, and simulated metal. Each comes up from the same
# roles, each is compared with each, a change climbs from step to step through the gates, and everything is taken down. On the way the metal provider is
# held to what it promises: nothing before the apply, a BMC's refusal said, the daemon's death no loss. By emulation; disks and snapshots are cached.
. "$(dirname "$0")/lib.sh"
needs root fuse mmdebstrap systemd-nspawn ip iptables qemu-system-x86_64 qemu-img mke2fs ipmi_sim ipmitool dnsmasq busybox setpriv ssh-keygen unshare jq
[ -c /dev/net/tun ] || skip "needs /dev/net/tun"
setup
metal_lab 1

# The example with one node on each step but the first. The virtual machine has the shape of vm.sh's, whose snapshot it shares.
said() { sed -n "s/^$1 = //p" "$T/lab.ini"; }
rack=$(said address | head -n 1)
net_joins "$(said interface)" "${rack%.*}"
cp -a "$TOP/contrib/examples/staircase/." "$REPO/"
diff -r "$TOP/contrib/examples/etcd/roles" "$REPO/roles" || fail "the roles are not those of the example 'etcd'"
rm -r "$REPO"/nodes/m[23] "$REPO"/nodes/r1-0[23]
printf '\n[nodes db]\ncount = 1\n' >>"$REPO/deployments/vm/deployment.ini"
sed -i 's/^nodes = m.*/nodes = m1/' "$REPO/deployments/qa/deployment.ini"
sed -i 's/^nodes = r1.*/nodes = r1-01/' "$REPO/deployments/metal/deployment.ini"
sed -i 's/^memory = .*/&\ndisks = 100M/' "$REPO/providers/vms/provider.ini"
sed -i "s|^key = .*|key = $T/id|" "$REPO/providers/machines/provider.ini"
sed -i "s/^address = .*/address = $NET.31/" "$REPO/nodes/m1/node.ini"
sed -i "s/^interface = .*/interface = $BRIDGE/" "$REPO/providers/rack/provider.ini"
sed -i "s|^mac = .*|mac = $(said mac)|; s|^address = .*|address = $rack|; s|^bmc = .*|bmc = $(said bmc)|" "$REPO/nodes/r1-01/node.ini"

D=$MNT/deployments
declare -A node_of=([lab]=lab-db-1 [vm]=vm-db-1 [qa]=m1 [metal]=r1-01)
stairs=(lab vm qa metal)
power() {
	ipmitool -I lanplus -C 3 -H 127.0.0.1 -p "$(cat "$lab/m1/bmc.port")" -U admin -f "$lab/password" chassis power status
}
secret() {
	mkdir -p -m 700 "$STATE/secrets"
	(umask 077 && printf '%s\n' "$1" >"$STATE/secrets/new" && mv "$STATE/secrets/new" "$STATE/secrets/r1-bmc")
}
on_step() {
	local step=$1
	shift
	timeout 60 ssh -F "$D/$step/ssh_config" "${node_of[$step]}" "$@" 2>&1
}
healthy() {
	expect_match "etcdctl on $1" "$(on_step "$1" etcdctl endpoint health --cluster --command-timeout=20s)" ' is healthy'
	expect_no_match "etcdctl on $1" "$(on_step "$1" etcdctl endpoint health --cluster --command-timeout=20s)" 'unhealthy'
}
installed() {
	grep -qs '"installed": true' "$STATE"/providers/rack/nodes/*/machine
}

# Nothing happens to metal by itself; an apply meets a BMC that refuses the password.
start
secret wrong
value_becomes 20 "$D/metal/state" proposed
expect "stairs" "$(list "$D")" "lab metal qa vm"
expect_match "the plan" "$(cat "$D/metal/plan")" 'node r1-01 .*, network card [0-9a-f:]{17}, writes the only disk'
expect "the power before the apply" "$(power)" "Chassis Power is off"
apply metal
settle lab 300 # the first time on a machine it builds the image
say "lab is up after $SECONDS s"
eventually 300 "the refusal of the BMC" grep -q 'refuses the user or the password' "$MNT/nodes/r1-01/why"
expect "the power after a refusal" "$(power)" "Chassis Power is off"
secret "$(cat "$lab/password")"

tree=$(root_tree etcd etcdctl) || exit 1
machine m1 31 "$tree"
settle vm 600
say "vm is up after $SECONDS s"
eventually 20 "qa is let through" test -e "$MNT/nodes/m1/roles/etcd/state"
settle qa 120
say "qa is up after $SECONDS s"
eventually 600 "a machine that is installed" installed
say "metal is installed after $SECONDS s"
[ -z "$(ls "$STATE"/providers/rack/http/*/identity.tar 2>/dev/null)" ] || fail "its keys are still to be fetched"
kill_hard
start
settle metal 300
say "metal is up after $SECONDS s"

for step in "${stairs[@]}"; do
	settle "$step" 60
	expect "state of $step" "$(cat "$D/$step/state")" active
	healthy "$step"
done
expect "members in the lab" "$(on_step lab etcdctl member list | grep -c started)" 3
expect_match "what metal stands on" "$(on_step metal findmnt -no SOURCE /)" '^/dev/vda1$'
expect "the power" "$(power)" "Chassis Power is on"
! grep -qF "$(cat "$lab/password")" "$MNT/events" "$MNT/nodes/r1-01/why" "$T/daemon.log" || fail "the password was said"

# observed STEP: what a node of this step shows, but for addresses, names, facts and where it comes from
observed() {
	local at=$MNT/nodes/${node_of[$1]} role
	(cd "$at" && find . -path ./desired -prune -o -path '*/runs/*' -prune -o -print | sort) | grep -v '/desired'
	for role in base etcd; do
		jq -S '{params, outputs, want: keys}' "$at/roles/$role/inputs.json"
		jq -S keys "$at/roles/$role/outputs.json"
		cat "$at/roles/$role/state"
		jq '.runner, .failed' "$at/roles/$role/runs/$(ls "$at/roles/$role/runs" | sort -n | tail -n 1)/report.json"
	done
	cat "$at/state" "$at/group"
}
observed lab >"$T/observed.lab"
grep -q '"heartbeat-interval"' "$T/observed.lab" || fail "nothing was observed: $(cat "$T/observed.lab")"
for step in vm qa metal; do
	observed "$step" | diff "$T/observed.lab" - || fail "$step is not as lab is (see above)"
done

# faithful: each step against each other: all content and parameters, and gaps only in what machines are
faithful() {
	local a b
	for a in "${stairs[@]}"; do
		for b in "${stairs[@]}"; do
			[ "$a" != "$b" ] || continue
			jq -e '[.items[] | select(.kind == "content" or .kind == "parameters")] | length > 0 and all(.same)' "$D/$a/fidelity/$b.json" >/dev/null ||
				fail "$a is not faithful to $b: $(cat "$D/$a/fidelity/$b")"
			expect_match "fidelity of $a to $b" "$(cat "$D/$a/fidelity/$b")" '^content +100 %'
		done
	done
}
faithful
cat "$D/metal/fidelity/lab"

# A change of a role climbs step by step. vm stands still at first: what waits behind it says for what.
echo qa >"$D/metal/desired/deployment/gate" || fail "cannot set a gate: $(cat "$D/metal/refused")"
echo pause >"$D/vm/ctl"
sed -i 's|^say "\$name is member|echo step >/root/step\n&|' "$MNT/desired/roles/etcd/apply"
settle lab 120
expect "lab" "$(on_step lab cat /root/step)" step
expect_match "why of qa" "$(cat "$D/qa/why")" 'gated: roles/etcd content .* is not yet active in vm'
expect_match "why of metal" "$(cat "$D/metal/why")" 'gated: roles/etcd content .* is not yet active in qa'
say "$(cat "$D/metal/why")"
echo resume >"$D/vm/ctl"
settle vm 120
expect "vm" "$(on_step vm cat /root/step)" step
eventually 20 "qa goes on" sh -c '! grep -q gated "$1"' - "$D/qa/why"
settle qa 120
expect "qa" "$(on_step qa cat /root/step)" step
value_becomes 20 "$D/metal/state" proposed
expect_match "the plan of metal" "$(cat "$D/metal/plan")" '^~ run  etcd on r1-01 .*content roles/etcd'
expect_match "metal before its apply" "$(on_step metal cat /root/step)" 'No such file'
echo apply >"$D/metal/ctl"
settle metal 200
expect "metal" "$(on_step metal cat /root/step)" step
say "the change is on metal after $SECONDS s"
faithful
for step in "${stairs[@]}"; do healthy "$step"; done

# All of it away: what was made is gone, the machine that was there runs on, metal is off.
for step in "${stairs[@]}"; do echo destroy >"$D/$step/ctl" || fail "cannot destroy $step"; done
for step in "${stairs[@]}"; do
	settle "$step" 120
	expect "what is left of $step" "$(list "$D/$step/nodes")" ""
done
expect_match "the machine that was there before" "$(on 31 etcdctl endpoint health 2>&1)" ' is healthy'
expect "the power after the end" "$(power)" "Chassis Power is off"
expect "records that are left" "$(ls "$STATE"/providers/rack/nodes "$STATE"/providers/vms/nodes | grep -v '^/\|^$')" ""
stop
