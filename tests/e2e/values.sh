#!/bin/bash
# Values: one line written to a file under desired/SECTION/KEY changes the document and nothing else in it; a bad one fails in the write itself, with the
# reason in 'refused'.
. "$(dirname "$0")/lib.sh"
needs root fuse dash
setup
fake_repo 2
start
settle d 30
V=$MNT/deployments/d/desired
document=$REPO/deployments/d/deployment.ini

expect "the sections" "$(list "$V")" "deployment nodes.n params.base"
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
printf '6' >"$V/params.base/size" || fail "a value without its newline"
settle d 30
expect_match "inputs" "$(tr -d ' \n' <"$MNT/nodes/d-n-1/roles/base/inputs.json")" '"size":\{[^}]*"value":6'

# refused_write SHELL FILE VALUE REGEX
refused_write() {
	local before
	before=$(cat "$document")
	"$1" -c 'echo "$2" >"$1"' - "$V/$2" "$3" 2>"$T/said" && fail "$1: 'echo $3 > $2' should have failed"
	expect "the document after a refused write" "$(cat "$document")" "$before"
	expect_match "refused" "$(cat "$MNT/deployments/d/refused")" "$4"
}
refused_write bash nodes.n/count lots "lots"
refused_write dash nodes.n/count lots "lots"
refused_write bash nodes.n/count -1 "count"
refused_write bash params.base/size 500 "(100|range|at most|between)"
refused_write dash nodes.n/roles "app, nosuch" "nosuch"
refused_write bash deployment/provider nosuch "nosuch"
expect_match "refused says who and which file" "$(cat "$MNT/deployments/d/refused")" "$(id -un)|uid $(id -u)"

# Errors have numbers: out of range is ERANGE, the rest EINVAL.
python3 - "$V" <<'EOF' || fail "wrong errno (see above)"
import errno, os, sys
for name, value, want in (("nodes.n/count", b"lots\n", errno.EINVAL), ("params.base/size", b"500\n", errno.ERANGE)):
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

# The tree is fixed: nothing is made, renamed or removed in it.
for attempt in 'touch "$1/nodes/new"' 'rm "$1/deployments/d/state"' 'mv "$1/deployments/d/state" "$1/deployments/d/other"' 'mkdir "$1/x"' 'echo x >"$1/deployments/d/state"' 'rm -f "$1/deployments/d/ctl"'; do
	sh -c "$attempt" - "$MNT" 2>/dev/null && fail "'$attempt' should not be possible"
done

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
