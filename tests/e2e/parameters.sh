#!/bin/bash
# Parameters: every type, its bounds, and who decides: role, deployment, group, node, in this order, each seen with its origin in inputs.json.
. "$(dirname "$0")/lib.sh"
needs root fuse jq python3
setup
printf '[provider]\ntype = fake\n[fake]\nrole-delay = 1ms\ncreate-delay = 1ms\n' | document providers/sim/provider.ini
document roles/app/role.ini <<'EOF2'
[role]
runner = none
[param word]
default = hello, world
[param number]
type = int
default = 3
min = 1
max = 9
[param flag]
type = bool
default = no
[param colour]
type = enum
values = red, green
default = red
[param hosts]
type = list
default = a, b
[param room]
type = size
default = 1G
min = 1M
[param delay]
type = duration
default = 90s
max = 1h
[param tree]
type = json
default = {"a": [1, 2]}
EOF2
printf '[node]\nprovider = sim\n' | document nodes/r1/node.ini
printf '[node]\nprovider = sim\n' | document nodes/r2/node.ini
printf '[deployment]\nprovider = sim\nroles = app\n[nodes db]\nnodes = r1, r2\n[nodes web]\ncount = 1\n' | document deployments/d/deployment.ini
start
settle d 30
D=$MNT/deployments/d/desired

# given NODE PARAM: its value and origin, as `given r1 number` -> 3 roles/app/role.ini:9 (default)
given() {
	jq -cr ".params[\"$2\"] | \"\\(.value) \\(.origin)\"" "$MNT/nodes/$1/roles/app/inputs.json"
}
line() { # FILE TEXT: where the document says it
	echo "$1:$(grep -n -m1 -x -- "$2" "$REPO/$1" | cut -d: -f1)"
}

# ---- types: set as text, given as what it is
expect "the parameters" "$(list "$D/params.app")" "colour delay flag hosts number room tree word"
while IFS='|' read -r name text value; do
	echo "$text" >"$D/params.app/$name" || fail "$name = $text: $(cat "$MNT/deployments/d/refused")"
	expect "$name" "$(cat "$D/params.app/$name")" "$text"
	expect "what runs get of $name" "$(jq -c ".params[\"$name\"].value" "$MNT/nodes/r1/roles/app/inputs.json")" "$value"
	echo >"$D/params.app/$name" || fail "cannot unset $name"
done <<'EOF2'
word|ü "x" #y|"ü \"x\" #y"
number|9|9
flag|yes|true
flag|off|false
colour|green|"green"
hosts|n1, n2 ,n3|["n1","n2","n3"]
hosts|one|["one"]
room|512M|536870912
delay|2m|120
delay|1500ms|1.5
tree|[true, null, "x"]|[true,null,"x"]
tree|"text"|"text"
EOF2

# ---- bounds and forms: EINVAL or ERANGE in the write, and a sentence
while IFS='|' read -r name text code why; do
	expect "errno of $name = $text" "$(python3 -c 'import errno, os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_TRUNC)
try:
    os.write(fd, sys.argv[2].encode() + b"\n")
    print("stored")
except OSError as e:
    print(errno.errorcode[e.errno])' "$D/params.app/$name" "$text")" "$code"
	expect_match "refused" "$(cat "$MNT/deployments/d/refused")" "desired/params.app/$name: parameter '$name' of role 'app'.*$why"
done <<'EOF2'
number|0|ERANGE|must be from 1 to 9, not 0
number|10|ERANGE|must be from 1 to 9, not 10
number|1.5|EINVAL|'1.5'
number|99999999999999999999|ERANGE|large
flag|maybe|EINVAL|'maybe'
colour|gren|EINVAL|did you mean 'green'
room|10K|ERANGE|at least 1M
room|much|EINVAL|'much'
delay|2h|ERANGE|at most 1h
delay|5 parsecs|EINVAL|'5 parsecs'
tree|{"a":|EINVAL|JSON
EOF2
expect "the document" "$(sed -n '/params/,$p' "$REPO/deployments/d/deployment.ini")" "[params app]"

# ---- precedence
expect "by default" "$(given r1 number)" "3 $(line roles/app/role.ini 'default = 3') (default)"
echo 4 >"$D/params.app/number" || fail "$(cat "$MNT/deployments/d/refused")"
expect "of the deployment" "$(given r1 number)" "4 $(line deployments/d/deployment.ini 'number = 4')"
expect "what holds in the group" "$(cat "$D/params.app.@db/number")" 4
echo 5 >"$D/params.app.@db/number" || fail "$(cat "$MNT/deployments/d/refused")"
expect "of the group" "$(given r1 number)" "5 $(line deployments/d/deployment.ini 'number = 5')"
expect "of the other group" "$(given d-web-1 number)" "4 $(line deployments/d/deployment.ini 'number = 4')"
expect "what holds on the node" "$(cat "$MNT/nodes/r1/desired/params.app/number")" 5
echo 6 >"$MNT/nodes/r1/desired/params.app/number" || fail "$(cat "$MNT/nodes/r1/refused")"
expect "of the node" "$(given r1 number)" "6 $(line nodes/r1/node.ini 'number = 6')"
expect "of its neighbour" "$(given r2 number)" "5 $(line deployments/d/deployment.ini 'number = 5')"
settle d 30
for node in r1 r2 d-web-1; do
	expect "state of $node" "$(cat "$MNT/nodes/$node/roles/app/state")" active
done
echo >"$MNT/nodes/r1/desired/params.app/number" && echo >"$D/params.app.@db/number" && echo >"$D/params.app/number" || fail "cannot unset"
expect "by default again" "$(given r1 number)" "3 $(line roles/app/role.ini 'default = 3') (default)"

# ---- through `like`: a group's value there is nearer than the deployment's here
echo 7 >"$D/params.app.@web/number"
printf '[deployment]\nlike = d\n[nodes db]\ncount = 1\n[params app]\nnumber = 8\n' | document deployments/e/deployment.ini
eventually 5 "deployment e" test -d "$MNT/deployments/e"
settle e 30
expect "e's db" "$(given e-db-1 number)" "8 $(line deployments/e/deployment.ini 'number = 8')"
expect "e's web" "$(given e-web-1 number)" "7 $(line deployments/d/deployment.ini 'number = 7')"

# ---- unknown names
cat >>"$REPO/deployments/e/deployment.ini" <<'EOF2'
nubmer = 4
[params ap]
number = 1
[params app @wbe]
number = 1
EOF2
expect_match "problems" "$(cat "$MNT/problems")" "role 'app' has no parameter 'nubmer' \(did you mean 'number'\?\)"
expect_match "problems" "$(cat "$MNT/problems")" "role 'ap' is not used in this deployment \(did you mean 'app'\?\)"
expect_match "problems" "$(cat "$MNT/problems")" "there is no group 'wbe' in this deployment \(did you mean 'web'\?\)"
expect "what is in force" "$(given e-web-1 number)" "7 $(line deployments/d/deployment.ini 'number = 7')"
stop
