#!/bin/bash
# limit: 180
# A secret reaches the role that asks for it, and nothing else: not the state directory, the mount, a command line, nor what the node keeps.
. "$(dirname "$0")/lib.sh"
needs root fuse ssh-keygen unshare ansible-playbook
ROOT_TREE_PROGRAMS=(python3)
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed bare
in_own_network
setup
net_up
PRIVATE= # keys outlive the daemon there: runs of ansible may need them
trap 'rc=$?; [ -z "$PRIVATE" ] || rm -rf "$PRIVATE"; (exit $rc); cleanup' EXIT
tree=$(root_tree "${ROOT_TREE_PROGRAMS[@]}") || exit 1

VALUE="Tr0ub4dor&'3' \"x\"" # with what shells and JSON quote
SECRETS=$T/secrets
mkdir -m 700 "$SECRETS"
put_secret() {
	(umask 077 && mkdir -p "$(dirname "$SECRETS/$1")" && printf '%s\n' "$2" >"$SECRETS/$1.new" && mv "$SECRETS/$1.new" "$SECRETS/$1")
}

# What every process shows of itself, all the time; processes of the machines are among them.
watch_command_lines() {
	exec python3 - "$T/command-lines" "$@" <<-'EOF2'
		import os, sys, time
		words = [w.encode() for w in sys.argv[2:]]
		with open(sys.argv[1], "wb", buffering=0) as told:
		    while True:
		        for pid in filter(str.isdigit, os.listdir("/proc")):
		            try:
		                line = open(f"/proc/{pid}/cmdline", "rb").read() if int(pid) != os.getpid() else b""
		            except OSError:
		                continue
		            if any(w in line for w in words):
		                told.write(line.replace(b"\0", b" ") + b"\n")
		        time.sleep(0.01)
	EOF2
}

nowhere() { # TEXT WHERE-IT-MAY-BE...
	local text=$1 found
	echo "$text" >"$T/pattern"
	found=$(timeout 20 grep -rlaF --exclude-dir=desired --exclude=wait --exclude=events.follow --exclude=alive -f "$T/pattern" "$STATE" "$MNT" "$T/machines" "$T/daemon.log" /run/rebarfs-* 2>/dev/null | grep -vE "${2:-^$}")
	[ -z "$found" ] || fail "'$text' is in $found"
}

machine m1 11 "$tree"
machine m2 12 "$tree"
document providers/machines/provider.ini <<-EOF2
	[provider]
	type = ssh
	apply = auto
	[ssh]
	key = secret:ssh/key
EOF2
for n in 1 2; do
	printf '[node]\nprovider = machines\naddress = 10.77.0.1%s\n' "$n" | document "nodes/m$n/node.ini"
done
document roles/user/role.ini <<-'EOF2'
	[role]
	runner = script
	retries = 0
	[param password]
	secret = yes
	[param mode]
	default = good
EOF2
document roles/user/apply <<-'EOF2'
	#!/bin/bash
	set -eu
	umask 077
	printf '%s' "$REBAR_PARAM_PASSWORD" >/root/password
	python3 -c 'import json, os, sys; sys.stdout.write(json.load(open(os.environ["REBAR_INPUTS"]))["params"]["password"])' >/root/password.json
	echo "it lay in ${REBAR_INPUTS%/rebar-*}"
	echo "the password is $REBAR_PARAM_PASSWORD."
	printf '%s\n' "$REBAR_PARAM_PASSWORD" | base64
	cat "$REBAR_INPUTS"
	printf 'in two: %s' "${REBAR_PARAM_PASSWORD%???????}"; sleep 1; echo "${REBAR_PARAM_PASSWORD#"${REBAR_PARAM_PASSWORD%???????}"}"
	(set -x; : "$REBAR_PARAM_PASSWORD")
	[ "$REBAR_PARAM_MODE" = good ] || { echo "wrong: $REBAR_PARAM_PASSWORD" >&2; exit 3; }
EOF2
chmod +x "$REPO/roles/user/apply"
document deployments/d/deployment.ini <<-EOF2
	[deployment]
	provider = machines
	[nodes all]
	nodes = m[1-2]
	roles = user
	[params user]
	password = secret:db
EOF2
watch_command_lines Tr0ub4dor made-on-the-node &
NODES+=($!)
disown

# Missing, then readable by others, then there.
start "secrets=$SECRETS"
settle_badly d 60
expect_match "why nobody logs in" "$(cat "$MNT/nodes/m1/why")" "^error: contact failed: secret 'ssh/key': there is no '$SECRETS/ssh/key'"
put_secret ssh/key "$(cat "$T/id")"
settle_badly d 60
expect_match "why" "$(cat "$MNT/nodes/m1/roles/user/why")" "^error: secret 'db': there is no '$SECRETS/db'"
expect_match "the last line of wait" "$(grep -v ^cat: "$T/wait.d" | tail -n 1)" "secret 'db': there is no"
put_secret db "$VALUE"
settle d 60
on 11 cat /root/password >"$T/got" && expect "the password on the node" "$(cat "$T/got")" "$VALUE"
expect "the same from \$REBAR_INPUTS" "$(on 12 cat /root/password.json)" "$VALUE"
log=$(cat "$MNT/nodes/m1/roles/user/log")
expect_match "the log" "$log" '^the password is \*{17}\.$'
expect_match "the log, of two writes" "$log" '^in two: \*{17}$'
expect_match "where the inputs lay" "$log" '^it lay in /run$'
nowhere Tr0ub4dor "/root/password(.json|.ansible)?$"
nowhere "$(sed -n 3p "$T/id")" "^/run/rebarfs-[0-9a-f]*/keys/ssh,key$"
PRIVATE=$(sed -n 's|.*IdentityFile "\(.*\)/keys/ssh,key"$|\1|p' "$MNT/deployments/d/ssh_config" | head -n 1)
[ -d "$PRIVATE" ] || fail "the generated configuration names no key in a private directory"
expect "ssh by the generated configuration" "$(ssh -F "$MNT/deployments/d/ssh_config" m2 hostname)" m2
nowhere "$(printf '%s\n' "$VALUE" | base64 | cut -c 4-16)"
expect "what a run leaves on the node" "$(on 11 'ls -d /run/rebar-* /dev/shm/rebar-* 2>/dev/null; ls /var/lib/rebar/runs/*/1 | paste -sd " "')" "alive begin outputs pid run seen status trap"
expect_match "inputs.json" "$(cat "$MNT/nodes/m1/roles/user/inputs.json")" '"value": "secret:db"'

# A failure tells nothing either.
sed -i '/^\[params user\]/a mode = bad' "$REPO/deployments/d/deployment.ini"
settle_badly d 60
expect_match "the error" "$(cat "$MNT/nodes/m1/roles/user/error")" "^exit 3: wrong: \*{17}$"
nowhere Tr0ub4dor "/root/password(.json|.ansible)?$"
sed -i '/^mode = bad/d' "$REPO/deployments/d/deployment.ini"
settle d 60

# Another value: exactly its users run.
put_secret db "Tr0ub4dor&4"
password_is() { [ "$(on "$1" cat /root/password)" = "$2" ]; }
eventually 20 "the new password" password_is 12 "Tr0ub4dor&4"
settle d 60
expect_match "events" "$(cat "$MNT/events")" "secret 'db' changed"
nowhere Tr0ub4dor "/root/password(.json|.ansible)?$"

# The same by Ansible, which writes what it renders into files of its own and says everything to everybody.
document roles/book/role.ini <<-'EOF2'
	[role]
	runner = ansible
	gather-facts = no
	retries = 0
	[param password]
	secret = yes
	[param last]
	default = succeed
EOF2
document roles/book/tasks/main.yml <<-'EOF2'
	- copy: {dest: /root/password.ansible, content: "{{ password }}", mode: "0600"}
	- debug: {msg: "the password is {{ password }}"}
	- debug: {var: rebar.params}
	- fail: {msg: "no good: {{ password }}"}
	  when: last == 'fail'
EOF2
sed -i 's/^roles = user/roles = user, book/' "$REPO/deployments/d/deployment.ini"
printf '[params book]\npassword = secret:db\n' >>"$REPO/deployments/d/deployment.ini"
settle d 60
expect "the password by Ansible" "$(on 12 cat /root/password.ansible)" "Tr0ub4dor&4"
expect_match "its log" "$(cat "$MNT/nodes/m2/roles/book/log")" 'the password is \*{11}'
nowhere Tr0ub4dor "/root/password(.json|.ansible)?$"
echo "last = fail" >>"$REPO/deployments/d/deployment.ini"
settle_badly d 60
expect_match "its error" "$(cat "$MNT/nodes/m2/roles/book/error")" "^failed at 'book : fail': no good: \*{11}$"
nowhere Tr0ub4dor "/root/password(.json|.ansible)?$"
sed -i -e '/^last = fail/d' -e '/^\[params book\]/,$d' -e 's/, book//' "$REPO/deployments/d/deployment.ini"
settle d 60

# A secret output stays where it was made, and is fetched for who wants it.
printf '[role]\nrunner = script\nretries = 0\n[output token]\nsecret = yes\n' | document roles/maker/role.ini
document roles/maker/apply <<-'EOF2'
	#!/bin/sh
	printf 'made-%s-the-node-%s\n' on "$REBAR_NODE" >"$REBAR_OUTPUTS/token"
	echo "its token is $(cat "$REBAR_OUTPUTS/token")"
EOF2
printf '[role]\nrunner = script\nretries = 0\nwants = maker.token\n' | document roles/taker/role.ini
document roles/taker/apply <<-'EOF2'
	#!/bin/sh
	umask 077
	python3 -c 'import json, os; print(json.load(open(os.environ["REBAR_INPUTS"]))["outputs"]["maker"]["token"]["m1"])' >/root/token
	cat "$REBAR_INPUTS"
EOF2
chmod +x "$REPO"/roles/{maker,taker}/apply
sed -i 's/^roles = user/roles = user, maker, taker/' "$REPO/deployments/d/deployment.ini"
settle d 60
expect "m1's token on m2" "$(on 12 cat /root/token)" made-on-the-node-m1
expect "what the mount shows of it" "$(cat "$MNT/nodes/m1/roles/maker/outputs/token")" secret
expect_match "and as an input" "$(cat "$MNT/nodes/m2/roles/taker/inputs.json")" '"m1": "secret"'
expect_match "the log of who made it" "$(cat "$MNT/nodes/m1/roles/maker/log")" '^its token is \*{19}$'
nowhere made-on-the-node "/root/token$|/rebar/secrets/[^/]*/maker/token$|^$T/machines/.*/outputs/token$"
expect "where it is kept" "$(on 11 'cat /var/lib/rebar/secrets/*/maker/token')" made-on-the-node-m1
sed -i 's/, maker, taker//' "$REPO/deployments/d/deployment.ini"
settle d 60

# A daemon that comes while the run goes on redacts what follows.
on 11 'mkdir -p /tmp/x'
document roles/user/apply <<-'EOF2'
	#!/bin/sh
	echo "now $REBAR_PARAM_PASSWORD"
	sleep 2
	echo "then $REBAR_PARAM_PASSWORD"
EOF2
eventually 20 "the run" grep -q now "$MNT/nodes/m1/roles/user/log"
kill_hard
start "secrets=$SECRETS"
settle d 60
expect "the log of a run that outlived its daemon" "$(cat "$MNT/nodes/m1/roles/user/log")" "$(printf 'now ***********\nthen ***********')"
# The same, but nobody knows the value any more that is to be redacted.
document roles/user/apply <<-'EOF2'
	#!/bin/sh
	sleep 2
	echo "again $REBAR_PARAM_PASSWORD"
EOF2
eventually 20 "the run" grep -q running "$MNT/nodes/m1/roles/user/state"
sleep 0.5
kill_hard
put_secret db "another one"
start "secrets=$SECRETS"
settle d 60
expect_match "the log of a run whose secret nobody knows" "$(cat "$MNT"/nodes/m1/roles/user/runs/*/log)" '^\*{17}$'
nowhere Tr0ub4dor "/root/password(.json|.ansible)?$"
expect "command lines that tell it" "$(cat "$T/command-lines")" ""
expect "cores the daemon may leave" "$(awk '/Max core file size/ { print $5 }' "/proc/$DAEMON/limits")" 1
stop
