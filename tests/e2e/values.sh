#!/bin/bash
# Values: one line written to a file under desired/SECTION/KEY changes the document and nothing else in it; a bad one fails in the write itself, with the
# reason in 'refused'.
. "$(dirname "$0")/lib.sh"
needs root fuse dash busybox vim.tiny
setup
fake_repo 2
start
settle d 30
V=$MNT/deployments/d/desired
document=$REPO/deployments/d/deployment.ini

expect "the sections" "$(list "$V")" "deployment nodes.n params.base params.base.@n"
expect "count" "$(cat "$V/nodes.n/count")" 2
cp "$document" "$T/before"
bash -c 'echo 3 >"$1"' - "$V/nodes.n/count" || fail "bash cannot store a count: $(cat "$MNT/deployments/d/refused")"
expect "count" "$(cat "$V/nodes.n/count")" 3
expect "what changed in the document" "$(diff "$T/before" "$document" | grep '^[<>]' | tr -s ' ' | paste -sd ' ')" "< count = 2 ; how many > count = 3 ; how many"
settle d 30
expect "nodes" "$(list "$MNT/nodes")" "d-n-1 d-n-2 d-n-3"
dash -c 'echo 4 >"$1"' - "$V/nodes.n/count" || fail "dash cannot store a count"
settle d 30
expect "nodes" "$(ls "$MNT/nodes" | wc -l)" 4
busybox sh -c 'echo 7 >"$1"' - "$V/params.base/size" || fail "busybox cannot store a value"
expect "size" "$(cat "$V/params.base/size")" 7
printf '6' >"$V/params.base/size" || fail "a value without its newline"
settle d 30
expect_match "inputs" "$(tr -d ' \n' <"$MNT/nodes/d-n-1/roles/base/inputs.json")" '"size":\{[^}]*"value":6'

# refused_write FILE VALUE REGEX: in every shell
refused_write() {
	local before was shell
	before=$(cat "$document") was=$(cat "$V/$1")
	for shell in bash dash "busybox sh"; do
		$shell -c 'echo "$2" >"$1"' - "$V/$1" "$2" 2>"$T/said" && fail "$shell: 'echo $2 > $1' should have failed"
		[ -s "$T/said" ] || fail "$shell says nothing about a refused write"
		expect "the document after a refused write" "$(cat "$document")" "$before"
		expect "the value after a refused write" "$(cat "$V/$1")" "$was"
		expect_match "refused" "$(cat "$MNT/deployments/d/refused")" "^[-0-9T:]*Z [^ ]* \(.*\): desired/$1: .*$3"
		expect_match "refused" "$(cat "$MNT/deployments/d/refused")" "\(${shell%% *} [0-9]+\)"
	done
}
refused_write nodes.n/count lots "'lots'"
refused_write nodes.n/count -1 "from 0 to 100000"
refused_write params.base/size 500 "from 1 to 100"
refused_write params.base/size 5x "'5x'"
refused_write nodes.n/roles "app, nosuch" "there is no role 'nosuch'"
refused_write nodes.n/roles "bse" "did you mean 'base'"
refused_write deployment/provider nosuch "there is no provider 'nosuch'"
refused_write nodes.n/memory "1 ; two" "comment"
refused_write nodes.n/count "" "group 'n' has no nodes"
expect_match "refused says who and which file" "$(cat "$MNT/deployments/d/refused")" "$(id -un)|uid $(id -u)"

# Errors have numbers: out of range is ERANGE, the rest EINVAL.
python3 - "$V" <<'EOF' || fail "wrong errno (see above)"
import errno, os, sys
for name, value, want in (("nodes.n/count", b"lots\n", errno.EINVAL), ("params.base/size", b"500\n", errno.ERANGE), ("nodes.n/memory", b"1\n", errno.ERANGE),
                          ("params.base/size", b"4\n5\n", errno.EINVAL), ("params.base/size", b"4\0\n", errno.EINVAL), ("params.base/size", b"\xff\n", errno.EINVAL),
                          ("nodes.n/image", b"x" * 70000, errno.EINVAL)):
    fd = os.open(sys.argv[1] + "/" + name, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(fd, value)
        sys.exit(name + ": the write succeeded")
    except OSError as e:
        if e.errno != want:
            sys.exit("%s: errno %s, not %s" % (name, errno.errorcode[e.errno], errno.errorcode[want]))
    os.close(fd)
EOF

# Nothing is changed by opening, touching, emptying.
cp "$document" "$T/before"
touch "$V/nodes.n/count" && : >"$V/nodes.n/count" || fail "touch and ':>' should do nothing, and well"
cmp -s "$T/before" "$document" || fail "touch or an empty write changed the document"

# Every key that could be set is there; 'ls -l' tells which are: the others are of 1970 and show what holds instead.
expect "keys of a group" "$(list "$V/nodes.n")" "count cpus image max-down memory nodes provider roles"
set_here() {
	(cd "$1" && find . -type f -newermt 2000-01-01 | LC_ALL=C sort | paste -sd ' ')
}
expect "what is set" "$(set_here "$V")" "./deployment/provider ./nodes.n/count ./nodes.n/roles ./params.base/size"
expect "what a group inherits from the deployment" "$(cat "$V/nodes.n/provider")" sim
expect "what nobody set" "$(cat "$V/nodes.n/memory")" ""
expect "who decides if it is not said" "$(cat "$V/deployment/apply")" auto
expect "a parameter of the group" "$(cat "$V/params.base.@n/size")" 6
expect "its size" "$(stat -c %s "$V/params.base.@n/size")" 2
echo 256M >"$V/nodes.n/memory" && echo 9 >"$V/params.base.@n/size" || fail "what is not there cannot be set: $(cat "$MNT/deployments/d/refused")"
expect "what is set" "$(set_here "$V")" "./deployment/provider ./nodes.n/count ./nodes.n/memory ./nodes.n/roles ./params.base.@n/size ./params.base/size"
expect "the new section" "$(tail -n 2 "$document" | paste -sd ' ')" "[params base @n] size = 9"
settle d 30
expect_match "inputs" "$(tr -d ' \n' <"$MNT/nodes/d-n-1/roles/base/inputs.json")" '"size":\{"value":9,"origin":"deployments/d/deployment.ini:14"\}'
echo >"$V/params.base.@n/size" && echo >"$V/nodes.n/memory" || fail "an empty line should take a key out: $(cat "$MNT/deployments/d/refused")"
expect "what holds again" "$(cat "$V/params.base.@n/size")" 6
grep -q memory "$document" && fail "'echo > memory' did not take it out of the document"
echo >"$V/params.base/size" || fail "a parameter with a default can be taken out"
expect "the role's default" "$(cat "$V/params.base/size")" 3
echo 6 >"$V/params.base/size"
ROLE=$MNT/roles/base/desired PROVIDER=$MNT/providers/sim/desired
expect "a role's sections" "$(list "$ROLE")" "param.size role"
expect "a role's default" "$(cat "$ROLE/role/timeout")" 30m
echo 20m >"$ROLE/role/timeout" && grep -qx 'timeout = 20m' "$REPO/roles/base/role.ini" || fail "cannot store into a role"
expect "a provider's keys" "$(list "$PROVIDER/fake")" "create-delay failure-rate hang-rate lie-rate role-delay seed vanish-rate"
expect "a provider's default" "$(cat "$PROVIDER/fake/create-delay")" 50ms
echo 5ms >"$PROVIDER/fake/create-delay" && grep -qx 'create-delay = 5ms' "$REPO/providers/sim/provider.ini" || fail "cannot store into a provider"

for refusal in "$PROVIDER/fake/failure-rate|lots" "$PROVIDER/provider/type|nosuch" "$ROLE/role/retries|-1" "$ROLE/param.size/default|1000"; do
	file=${refusal%|*} dir=${refusal%/desired/*}
	dash -c 'echo "$2" >"$1"' - "$file" "${refusal#*|}" 2>/dev/null && fail "$file took ${refusal#*|}"
	expect_match "refused of $dir" "$(cat "$dir/refused")" "\(dash [0-9]*\): desired/${file#*/desired/}: .*${refusal#*|}"
done
for how in 'echo 7 | tee "$1"' 'echo 7 | dd of="$1" status=none' 'echo 7 >"$2" && cp "$2" "$1"' 'cat "$2" >"$1"' 'vim.tiny -u NONE -es -c "%s/.*/7/" -c wq "$1" </dev/null'; do
	echo 6 >"$V/params.base/size"
	bash -c "$how" - "$V/params.base/size" "$T/seven" >/dev/null && expect "after $how" "$(cat "$V/params.base/size")" 7 || fail "$how"
done
echo 6 >"$V/params.base/size"
before=$(stat -c %y "$V/params.base/size")
echo pause >"$MNT/deployments/d/ctl" && echo resume >"$MNT/deployments/d/ctl"
expect "the time of a value while other things change" "$(stat -c %y "$V/params.base/size")" "$before"
mkdir "$T/settings" && tar -C "$V" -cf - . | tar -C "$T/settings" -xf - && diff -r "$V" "$T/settings" || fail "tar loses values"

# What is inherited shows; written, it is overridden here; taken out, it shows again.
printf '[deployment]\nlike = d\n[nodes n]\ncount = 1\n' | document deployments/e/deployment.ini
eventually 5 "e" test -d "$MNT/deployments/e"
settle e 30
E=$MNT/deployments/e/desired
expect "what e inherits" "$(cat "$E/params.base/size") $(cat "$E/nodes.n/roles") $(cat "$E/nodes.n/count")" "6 app 1"
expect "what e sets" "$(set_here "$E")" "./deployment/like ./nodes.n/count"
echo 8 >"$E/params.base/size" || fail "cannot override: $(cat "$MNT/deployments/e/refused")"
expect "what e sets" "$(set_here "$E")" "./deployment/like ./nodes.n/count ./params.base/size"
expect "of both" "$(cat "$E/params.base/size" "$V/params.base/size" | paste -sd ' ')" "8 6"
echo >"$E/params.base/size" || fail "cannot take the override out"
expect "what is inherited again" "$(cat "$E/params.base/size")" 6

# A document that is not the one in force takes no value: a mistake in it, or somebody who has it open.
busy() {
	python3 - "$V/params.base/size" <<-'EOF' || fail "$1: the store should be EBUSY"
		import errno, os, sys
		fd = os.open(sys.argv[1], os.O_WRONLY)
		try:
		    os.write(fd, b"11\n")
		    sys.exit("the write succeeded")
		except OSError as e:
		    sys.exit(0 if e.errno == errno.EBUSY else errno.errorcode[e.errno])
	EOF
	expect_match "refused" "$(cat "$MNT/deployments/d/refused")" "desired/params.base/size: .*$2"
}
cp -p "$document" "$T/before"
sed -i 's/^count = .*/count = many/' "$document"
busy "a mistake in the document" "deployments/d/deployment.ini:[0-9]*: .*many"
cat "$T/before" >"$document"
value_becomes 5 "$MNT/deployments/d/state" active
exec 8>>"$MNT/desired/deployments/d/deployment.ini"
busy "an open writer" "open for writing"
exec 8>&-
cmp -s "$T/before" "$document" || fail "a busy document was changed"

# Owner and mode stay, through a symbolic link too.
mv "$document" "$REPO/elsewhere.ini" && chown 4321:8765 "$REPO/elsewhere.ini" && chmod 640 "$REPO/elsewhere.ini" && ln -s ../../elsewhere.ini "$document"
echo 12 >"$V/params.base/size" || fail "cannot store through a link: $(cat "$MNT/deployments/d/refused")"
expect "the link" "$(readlink "$document")" ../../elsewhere.ini
expect "owner and mode" "$(stat -c '%u:%g %a' "$REPO/elsewhere.ini")" "4321:8765 640"
expect "in the mount" "$(stat -c '%u:%g %a' "$V/params.base/size")" "4321:8765 640"
rm "$document" && cp "$REPO/elsewhere.ini" "$document" && rm "$REPO/elsewhere.ini"

# Two at once, of the same key and of another: the last wins, none is torn, none is lost, and each is an event.
cp "$document" "$T/before"
for who in 3 6 9; do
	(for ((n = 0; n < 10; n++)); do echo "$who$n" >"$V/params.base/size" || echo "writer $who: $n" >>"$T/lost"; done) &
	writers[who]=$!
done
(for ((n = 1; n <= 10; n++)); do echo "$n" >"$V/nodes.n/max-down" || echo "max-down $n" >>"$T/lost"; done) &
wait "${writers[@]}" $!
[ ! -e "$T/lost" ] || fail "stores that failed: $(cat "$T/lost" "$MNT/deployments/d/refused")"
expect "the other key" "$(cat "$V/nodes.n/max-down")" 10
expect "stores that are events" "$(grep -c '\[params base\] size = [369][0-9]\>' "$MNT/deployments/d/events")" 30
case $(cat "$V/params.base/size") in 39 | 69 | 99) ;; *) fail "the last writer's last value is not in force: $(cat "$V/params.base/size")" ;; esac
echo 6 >"$V/params.base/size"
echo >"$V/nodes.n/max-down"
expect "the document" "$(diff "$T/before" "$document" | grep '^[<>]' | paste -sd ' ')" "< size = 12 > size = 6"
settle d 30

# The tree is fixed: nothing is made, renamed or removed in it.
for attempt in 'touch "$1/nodes/new"' 'rm "$1/deployments/d/state"' 'mv "$1/deployments/d/state" "$1/deployments/d/other"' 'mkdir "$1/x"' 'echo x >"$1/deployments/d/state"' 'rm -f "$1/deployments/d/ctl"'; do
	sh -c "$attempt" - "$MNT" 2>/dev/null && fail "'$attempt' should not be possible"
done
# What the kernel's two words for that leave open stands in 'refused', but not what an editor tries beside a file.
expect_match "refused after rm ctl" "$(cat "$MNT/deployments/d/refused")" ': ctl: names are fixed here'
echo x 2>/dev/null >"$MNT/deployments/d/state"
expect_match "refused after a write into what only shows" "$(cat "$MNT/deployments/d/refused")" ": state: this file only shows: .*'ctl'"
touch "$V/nodes.n/cuont" "$V/nodes.n/.count.swp" 2>/dev/null
expect_match "refused after a new key" "$(cat "$MNT/deployments/d/refused")" ": desired/nodes.n/cuont: .*'desired/deployments/d/deployment.ini'"
mkdir "$MNT/deployments/mine" 2>/dev/null
expect_match "refused after mkdir" "$(cat "$MNT/refused")" ": deployments/mine: .*'desired/deployments/mine/deployment.ini'"

# Verbs.
echo dance >"$MNT/deployments/d/ctl" 2>/dev/null && fail "an unknown verb should be refused"
expect_match "refused" "$(cat "$MNT/deployments/d/refused")" 'dance'
echo "apply deadbeef" >"$MNT/deployments/d/ctl" 2>/dev/null && fail "a plan that is not there cannot be applied"
for verb in apply retry pause resume cancel destroy; do
	grep -q "^$verb" "$MNT/deployments/d/ctl" || fail "'cat ctl' does not tell of '$verb'"
done

# Copies: what the mount shows can be copied with everything that copies.
mkdir "$T/copy"
tar -C "$MNT/nodes/d-n-1" -cf - state why address image facts.json roles/base/state roles/base/inputs.json | tar -C "$T/copy" -xf - || fail "tar"
for file in state why address image facts.json roles/base/state roles/base/inputs.json; do
	[ "$file" = why ] || cmp -s "$MNT/nodes/d-n-1/$file" "$T/copy/$file" || fail "'$file' came out of tar different"
done
stop
