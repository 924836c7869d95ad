#!/bin/bash
# limit: 300
# One small service, written once for each tool: nobody downstream can tell which it was.
. "$(dirname "$0")/lib.sh"
needs root fuse ssh-keygen unshare ansible-playbook jq
ROOT_TREE_PROGRAMS=(puppet python3 pgrep busybox)
[ -n "${REBARFS_E2E_NETWORK:-}" ] || make_root_tree_if_needed parity puppet-agent busybox
in_own_network
setup
net_up
tree=$(root_tree "${ROOT_TREE_PROGRAMS[@]}") || exit 1
TOOLS=(script ansible puppet)
VALUE=Ab-7-tiger-lily
cp -a "$TOP/contrib/examples/parity/." "$REPO/"
mkdir -m 700 "$T/secrets"
(umask 077 && echo "$VALUE" >"$T/secrets/hello")
for i in "${!TOOLS[@]}"; do
	machine "p-${TOOLS[i]}" "1$((i + 1))" "$tree"
	sed -i "s/^address = .*/address = 10.77.0.1$((i + 1))/" "$REPO/nodes/p-${TOOLS[i]}/node.ini"
done
sed -i "s|^key = .*|key = $T/id|; s/^type = ssh/&\napply = auto/" "$REPO/providers/machines/provider.ini"
start "secrets=$T/secrets"
settle parity 120

role() { echo "$MNT/nodes/p-$1/roles/hello-$1"; }
each() { # FUNCTION: for every tool, with its name and the number of its machine
	local i
	for i in "${!TOOLS[@]}"; do "$1" "${TOOLS[i]}" "1$((i + 1))"; done
}
report() { timeout 5 cat "$(role "$1")/runs/$(ls "$(role "$1")/runs" | sort -n | tail -n 1)/report.json"; }

PAGE="hello"
first() {
	expect "the page of $1" "$(on "$2" cat /srv/hello/index.html)" "$PAGE from p-ansible p-puppet p-script"
	expect "the secret of $1" "$(on "$2" cat /etc/hello.secret)" "$VALUE"
	expect "the service of $1" "$(on "$2" pgrep -xc busybox)" 1
	expect "the output of $1" "$(cat "$(role "$1")/outputs/url")" "http://p-$1:8088/"
	expect "what changed with $1" "$(report "$1" | jq -r '.runner, (.changed > 0), .failed' | paste -sd ' ')" "$1 true 0"
}
each first
expect "what was to be done so that puppet is there" "$(cat "$MNT/nodes/p-puppet/roles/runner-puppet/state") $(jq -c '[.changed, .failed]' "$MNT"/nodes/p-puppet/roles/runner-puppet/runs/*/report.json)" "active [0,0]"
expect "what the dependant was told" "$(cat "$MNT/nodes/p-script/roles/told/outputs/urls")" "http://p-ansible:8088/ http://p-puppet:8088/ http://p-script:8088/"

# Nothing was touched: a check finds nothing; by hand: it is found, and a run repairs it.
checked() {
	echo check >"$MNT/deployments/parity/ctl" || fail "cannot check"
	settle parity 90
}
by_hand() { on "$2" 'echo by hand >/srv/hello/index.html'; }
drifted() { expect_match "drift with $1" "$(cat "$(role "$1")/drift")" '^-.*by hand'; }
rerun() { echo run >"$(role "$1")/ctl" || fail "cannot run $1"; }
untouched() { expect "drift with $1 where nothing was touched" "$(cat "$(role "$1")/drift")" ""; }
checked
each untouched
each by_hand
checked
each drifted
each rerun
settle parity 90
each first

# Once more: there is nothing to do. What a script does is its own affair.
for tool in "${TOOLS[@]:1}"; do rerun "$tool"; done
settle parity 90
for tool in "${TOOLS[@]:1}"; do expect "what a second run of $tool changed" "$(report "$tool" | jq -c '[.changed, .failed]')" "[0,0]"; done

# A parameter: it stands in the plan, in what the tool tells, and in the file. In the middle of all that the daemon is killed, and finds its runs again.
echo pause >"$MNT/deployments/parity/ctl" || fail "cannot pause"
sed -i 's/^default = hello$/default = good day/' "$REPO"/roles/hello-*/role.ini
echo 'sleep 5' >>"$REPO/roles/hello-script/apply"
printf -- '- command: sleep 5\n' >>"$REPO/roles/hello-ansible/tasks/main.yml"
sed -i '$s|^}$|  exec { "/bin/sleep 5": }\n}|' "$REPO/roles/hello-puppet/manifests/init.pp"
planned() { grep -qE "hello-$1 on p-$1 .*greeting \"?hello\"? -> \"?good day" <<<"$PLAN"; }
all_planned() {
	PLAN=$(timeout 10 cat "$MNT/deployments/parity/plan")
	planned script && planned ansible && planned puppet
}
eventually 10 "the parameter is in the plan" all_planned
echo resume >"$MNT/deployments/parity/ctl" || fail "cannot resume"
all_run() { [ "$(states "$MNT/nodes/p-*/roles/hello-*/state")" = "3 running" ]; }
eventually 20 "all run" all_run
before=$(runs "$MNT/nodes/p-*/roles/hello-*")
kill_hard
start "secrets=$T/secrets"
PAGE="good day"
settle parity 90
each first
expect "runs after the daemon was killed" "$(runs "$MNT/nodes/p-*/roles/hello-*")" "$before"
told() { expect_match "what $1 tells of it" "$(timeout 5 cat "$(role "$1")/log")" '^\+good day from'; }
for tool in "${TOOLS[@]:1}"; do told "$tool"; done

# A step that fails says where.
sed -i 's/^default = no$/default = yes/' "$REPO"/roles/hello-*/role.ini
sleep 1
settle_badly parity 90
failing() { expect "state of $1" "$(cat "$(role "$1")/state")" error; }
each failing
expect_match "why of puppet" "$(cat "$(role puppet)/why")" 'Exec\[a step that fails\] \(manifests/init.pp:[0-9]+\): .*/bin/false'
expect "the failing resource" "$(report puppet | jq -c '[.resources[] | select(.status == "failed") | .file]')" '["manifests/init.pp"]'
expect_match "the failing task" "$(report ansible | jq -c '.resources[] | select(.status == "failed") | [.file, .line]')" '^\["tasks/main.yml",[0-9]+\]$'
broken_off() { expect_match "report of $1" "$(report "$1" | jq -c '[.failed > 0, .runner]')" "true,\"$1\""; }
each broken_off

# The secret is in its file, and nowhere else.
echo "$VALUE" >"$T/pattern"
found=$(timeout 20 grep -rlaF --exclude=hello.secret --exclude=hello --exclude=alive -f "$T/pattern" "$STATE" "$T/machines" "$T/daemon.log" 2>/dev/null)
expect "where else the secret is" "$found" ""
stop
