#!/bin/bash
# A repo of more files than the daemon may have open: everything works as with few of them.
. "$(dirname "$0")/lib.sh"
needs root fuse rsync python3
setup
fake_repo 1
for n in {1..150}; do
	mkdir -p "$REPO/roles/many/d$n"
	for f in {1..6}; do echo "$n $f" >"$REPO/roles/many/d$n/f$f"; done
done
ulimit -n 600
start
settle d 30
D=$MNT/desired/roles/many R=$REPO/roles/many
same() {
	diff -r "$R" "$D" >"$T/diff" || fail "the mount shows something else after $1: $(head -n 3 "$T/diff")"
}
same "the start"
expect "files" "$(find "$D" -type f | wc -l)" 900
[ "$(ls "/proc/$DAEMON/fd" | wc -l)" -lt 600 ] || fail "the daemon has too many files open"

find "$D" -name f6 -exec sed -i 's/$/ changed/' {} +
expect "changed files" "$(grep -rl changed "$R" | wc -l)" 150
for n in {1..150}; do echo appended >>"$D/d$n/f5"; done
expect "files with something behind" "$(grep -rl appended "$R" | wc -l)" 150
chmod 600 "$D"/d*/f4
expect "modes" "$(find "$R" -name f4 -perm 600 | wc -l)" 150
for n in {1..150}; do mv "$D/d$n/f3" "$D/d$n/g3" && ln "$D/d$n/f2" "$D/d$n/g2" && ln -s f1 "$D/d$n/l1"; done
expect "renamed files" "$(cat "$D"/d*/g3 | wc -l)" 150
expect "files behind links" "$(cat "$D"/d*/l1 | wc -l)" 150
rm "$D/d150/l1"
mv "$D/d150" "$D/e150" && mv "$D/e150/f1" "$D/d1/from150"
expect "a file of a directory that moved" "$(cat "$D/e150/f2") $(cat "$D/d1/from150")" "150 2 150 1"
same "changes through the mount"
rsync -a "$R/" "$T/copy/" && find "$T/copy" -name f2 -exec sh -c 'echo new >"$1"' - {} \; && rsync -aI "$T/copy/" "$D/" || fail "rsync"
same "rsync"
# Behind it: replaced, removed, and numbers of inodes that are used again
for n in {1..149}; do echo behind >"$R/d$n/.new" && mv "$R/d$n/.new" "$R/d$n/f5" && rm "$R/d$n/f6" && echo "again $n" >"$R/d$n/f7"; done
sleep 1
same "changes behind the mount"
python3 - "$D" <<'EOP' || fail "files that are gone while they are open (see above)"
import os, sys
for n in range(1, 140):
    with open("%s/d%d/temp" % (sys.argv[1], n), "w+") as f:
        f.write("kept")
        f.flush()
        os.unlink(f.name)
        f.truncate(2)
        f.seek(0)
        if f.read() != "ke" or os.fstat(f.fileno()).st_nlink:
            sys.exit(f.name)
EOP
expect "what the daemon complained of" "$(grep -ciE 'warn|error' "$T/daemon.log")" 0
stop
