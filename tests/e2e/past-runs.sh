#!/bin/bash
# What a past run was given and what it gave is kept with it, whatever came after: another value, a failure, a restart. Of a simulated run nothing is.
. "$(dirname "$0")/lib.sh"
needs root fuse ssh-keygen unshare jq
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed etcd etcd-server etcd-client
in_own_network
setup
net_up
tree=$(root_tree) || exit 1
machine m1 11 "$tree"
fake_repo 1
ssh_repo m1=10.77.0.11
printf '[role]\nrunner = script\nretries = 0\nwants = node\n[param size]\ntype = int\ndefault = 3\n[output double]\nhelp = of size\n' | document roles/slow/role.ini
document roles/slow/apply <<-'EOS'
	#!/bin/sh
	set -eu
	echo $((2 * REBAR_PARAM_SIZE)) >"$REBAR_OUTPUTS/double"
	[ "$REBAR_PARAM_SIZE" != 7 ] || exit 7
EOS
start
apply s
settle s 60
role=$MNT/nodes/m1/roles/slow
printf '[params slow]\nsize = 5\n' >>"$REPO/deployments/s/deployment.ini"
settle_badly s 20 # a person must approve
apply s
settle s 60
sed -i 's/size = 5/size = 7/' "$REPO/deployments/s/deployment.ini"
settle_badly s 20
apply s
settle_badly s 60

kept() { # what of each run, oldest first
	local run
	for run in $(ls "$role/runs" | sort -n); do
		jq -c "$2" "$role/runs/$run/$1.json" || echo "run $run: no JSON"
	done | paste -sd ' '
}
look() {
	expect "the runs" "$(for run in $(ls "$role/runs" | sort -n); do cat "$role/runs/$run/result"; done | paste -sd ' ')" "ok ok failed"
	expect "what they were given" "$(kept inputs .params.size.value)" "3 5 7"
	expect "the keys of what they were given" "$(kept inputs 'keys | join("+")')" '"node+params" "node+params" "node+params"'
	expect_match "where the second's came from" "$(kept inputs .params.size.origin)" 'deployments/s/deployment.ini:'
	expect "what they gave" "$(kept outputs .)" '{"double":"6"} {"double":"10"} null'
	expect "what the last good one gave" "$(jq -c . "$role/outputs.json")" '{"double":"10"}'
}
look
for file in "$role"/runs/*/*.json; do
	expect "the size of $file" "$(stat -c %s "$file")" "$(wc -c <"$file")"
done
settle d 20
run=$(ls "$MNT/nodes/d-n-1/roles/app/runs")
expect "what a simulated run was given and gave" "$(cat "$MNT/nodes/d-n-1/roles/app/runs/$run/"{in,out}puts.json | paste -sd ' ')" "null null"
stop
start
look
stop
