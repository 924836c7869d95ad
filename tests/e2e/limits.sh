#!/bin/bash
# What no document is: too large, no file at all, no text, no name. A problem each and told at once; nothing hangs, and what was in force stays.
. "$(dirname "$0")/lib.sh"
needs root fuse jq python3 fallocate
setup
fake_repo 2
start
settle d 30
D=$MNT/desired
document=deployments/d/deployment.ini
MiB=1048576

# problem WHAT REGEX: in the mount and by --check; and the node roles do not mind
problem() {
	local problems
	problems=$(timeout 10 cat "$MNT/problems") || fail "$1: 'problems' cannot be read"
	expect_match "problems with $1" "$problems" "$2"
	problems=$(timeout 10 "$REBARFS" --check "$REPO")
	expect "exit status of --check with $1" "$?" 1
	expect_match "--check with $1" "$(sed -E 's/^([^:]*:[0-9]+):[0-9]+:/\1:/' <<<"$problems")" "$2"
	expect "states of node roles with $1" "$(states "$MNT/nodes/d-n-*/roles/*/state")" "4 active"
}
none() {
	expect "problems once $1 is gone" "$(timeout 10 cat "$MNT/problems")" ""
}

say "1 MiB and no more"
cp "$REPO/$document" "$T/document"
pad() { # BYTES: a document of this size, with a comment at its end
	cat "$T/document"
	head -c $(($1 - $(stat -c %s "$T/document") - 2)) /dev/zero | tr '\0' ';' | fold -w 100 | head -c $(($1 - $(stat -c %s "$T/document") - 2))
	printf ';\n'
}
pad $MiB >"$T/large"
expect "the size of the test's own document" "$(stat -c %s "$T/large")" $MiB
cp "$T/large" "$D/$document" || fail "a document of 1 MiB should be stored"
none "a document of 1 MiB"
python3 - "$D/$document" <<'EOS' || fail "a byte more should be EFBIG, however it is written"
import errno, os, sys
mib = 1 << 20
def refused(what, call):
    try:
        call()
    except OSError as e:
        if e.errno == errno.EFBIG:
            return
        print(what, e)
        sys.exit(1)
    print(what, "was accepted")
    sys.exit(1)
fd = os.open(sys.argv[1], os.O_RDWR)
refused("write", lambda: os.pwrite(fd, b";", mib))
refused("a hole", lambda: os.pwrite(fd, b";", 1 << 40))
refused("ftruncate", lambda: os.ftruncate(fd, mib + 1))
refused("fallocate", lambda: os.posix_fallocate(fd, mib, 1))
os.close(fd)
refused("truncate", lambda: os.truncate(sys.argv[1], mib + 1))
refused("append", lambda: os.write(os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND), b";"))
EOS
expect "what the shell says" "$( (echo ';' >>"$D/$document") 2>&1 | grep -o 'File too large')" "File too large"
cmp "$T/large" "$REPO/$document" || fail "what was refused changed the document"
none "what was refused"
echo 3 >"$MNT/deployments/d/desired/nodes.n/cpus" 2>/dev/null && fail "a value that makes the document larger than 1 MiB should be refused"
expect_match "refused" "$(cat "$MNT/deployments/d/refused")" 'larger than 1 MiB'
cmp "$T/large" "$REPO/$document" || fail "a value that was refused changed the document"
head -c $((MiB + 1)) "$T/large" >"$REPO/$document" && echo >>"$REPO/$document" # behind the mount
problem "a document of 1 MiB and a byte" "^$document:1: is larger than 1 MiB"
cp "$T/document" "$REPO/$document"
mkdir "$D/roles/base/files"
head -c $((2 * MiB)) /dev/zero >"$D/roles/base/files/any" || fail "content is no document and may be larger"
rm -r "$D/roles/base/files"
none "a large document"

say "what is no file"
doc=$REPO/roles/base/role.ini
mv "$doc" "$T/role.ini"
not_a_file() { # WHAT REGEX COMMAND...
	"${@:3}" || fail "cannot make $1"
	problem "$1" "^roles/base/role.ini:1: $2"
	timeout 10 ls -lR "$D/roles" >/dev/null 2>&1
	[ $? -lt 124 ] || fail "a listing hangs on $1"
	rm -rf "$doc"
}
not_a_file "a directory" 'is a directory, not a file' mkdir "$doc"
not_a_file "a pipe" 'is a pipe, not a file' mkfifo "$doc"
not_a_file "a socket" 'is a socket, not a file' python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$doc"
not_a_file "a device" 'is a device, not a file' mknod "$doc" c 1 5
not_a_file "a link to a device" 'is a device, not a file' ln -s /dev/zero "$doc"
not_a_file "a link to itself" 'cannot be read: Too many levels of symbolic links' ln -s role.ini "$doc"
not_a_file "a link to nowhere" 'is a link to what is not there' ln -s nowhere "$doc"
mv "$T/role.ini" "$doc"
none "what is no file"
mv "$REPO/roles/base" "$T/base"
ln -s base "$REPO/roles/base"
problem "a directory that is a link to itself" '^roles/base/role.ini:1: cannot be read: Too many levels'
ln -sfn nowhere "$REPO/roles/base"
problem "a directory that is a link to nowhere" '^roles/base/role.ini:1: lies behind a link to what is not there'
ln -sfn "$T/base" "$REPO/roles/base"
none "a directory that is a link"
rm "$REPO/roles/base"
mv "$T/base" "$REPO/roles/base"
mkfifo "$REPO/roles/app/pipe"
ln -s . "$REPO/roles/app/self"
sed -i 's/^runner = none/runner = script/' "$REPO/roles/app/role.ini"
problem "a pipe in a role's content" "^roles/app/pipe:1: 'pipe' is a pipe"
rm "$REPO/roles/app/pipe" "$REPO/roles/app/self"
sed -i 's/^runner = script/runner = none/' "$REPO/roles/app/role.ini"
mv "$REPO/nodes" "$T/" 2>/dev/null
echo 'no directory' >"$REPO/nodes"
problem "a file where a directory is expected" '^nodes:1: cannot be read: Not a directory'
rm "$REPO/nodes"
none "what is no file"

say "what is no text"
not_text() { # WHAT BYTES REGEX
	printf '%b' "$2" >>"$REPO/$document"
	problem "$1" "^$document:$(($(wc -l <"$T/document") + 1)): $3"
	cp "$T/document" "$REPO/$document"
}
not_text "a NUL byte" 'x\0y\n' 'a NUL byte at column 2'
not_text "invalid UTF-8" '; \0377\n' 'byte 0xff at column 3 is not UTF-8 text'
not_text "an overlong form" '; \0300\0200\n' 'byte 0xc0 at column 3 is not UTF-8 text'
not_text "a line that would be cut" "size = $(printf %0200d 1)\n" 'the line has 207 bytes, at most 199 are read'
not_text "an end in the middle of a line" '[params' "a section's heading has no ']'"
none "what is no text"

say "what is no name"
not_a_name() { # NAME REGEX
	mkdir "$REPO/roles/$1"
	printf '[role]\nrunner = none\n' >"$REPO/roles/$1/role.ini"
	problem "the name '$1'" "$2"
	timeout 10 ls -l "$MNT/roles" >/dev/null || fail "a listing fails with the name '$1'"
	rm -r "$REPO/roles/$1"
}
not_a_name "-x" "^roles/-x/role.ini:1: the directory 'roles/-x' has no good name"
not_a_name "a+b" "^roles/a\+b/role.ini:1: the directory 'roles/a\+b' has no good name"
not_a_name "$(printf %064d 1)" "^roles/0*1/role.ini:1: the directory 'roles/0*1' has no good name"
not_a_name "a b" '^roles:1: a directory with a role.ini has blanks or unprintable bytes in its name'
not_a_name $'a\nb' '^roles:1: a directory with a role.ini has blanks or unprintable bytes in its name'
not_a_name $'a\xff' '^roles:1: a directory with a role.ini has blanks or unprintable bytes in its name'
mkdir "$REPO/roles/.x" && echo nonsense >"$REPO/roles/.x/role.ini"
none "what is no name"
daemon_lives || fail "the daemon died: $(tail -n 3 "$T/daemon.log")"
settle d 30
expect "runs: none of all this ran anything" "$(runs "$MNT/nodes/*/roles/*")" 4

say "names as the tools' own content has them"
mkdir -p "$REPO/providers/dc1.example" "$REPO/roles/Web_server" "$REPO/roles/2nd_one" "$REPO/deployments/named"
printf '[provider]\ntype = fake\n' >"$REPO/providers/dc1.example/provider.ini"
printf '[role]\nrunner = none\n[output port]\n' >"$REPO/roles/Web_server/role.ini"
printf '[role]\nrunner = none\nwants = Web_server.port\n[param a_b]\ndefault = 1\n' >"$REPO/roles/2nd_one/role.ini"
printf '[deployment]\nprovider = dc1.example\nroles = Web_server, 2nd_one\n[nodes n]\ncount = 1\n[params 2nd_one @n]\na_b = 2\n' >"$REPO/deployments/named/deployment.ini"
eventually 5 "a deployment of such names" test -e "$MNT/deployments/named/wait"
settle named 30
expect "a value under such a name" "$(cat "$MNT/deployments/named/desired/params.2nd_one.@n/a_b")" 2
expect "an output of such a role" "$(jq -r '.outputs.Web_server | keys[0]' "$MNT/nodes/named-n-1/roles/2nd_one/inputs.json")" port
stop
