#!/bin/bash
# Changes behind the mount: whoever reads through it sees them within a second, also who has the file open, mapped or followed.
. "$(dirname "$0")/lib.sh"
needs root fuse python3
setup
fake_repo 1
start
settle d 30
D=$MNT/desired

python3 - "$REPO" "$D" <<'EOP' || fail "what is read through the mount (see above)"
import mmap, os, subprocess, sys, time
repo, mount = sys.argv[1:]

def within_a_second(what, true):
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > 1:
            sys.exit(what + ": not within a second")
        time.sleep(0.01)

def write(name, data, mode="w"):
    with open(repo + "/" + name, mode) as f:
        f.write(data)

def content(name):
    with open(mount + "/" + name) as f:
        return f.read()

name = "roles/base/notes.txt"
write(name, "one\n")
within_a_second("a new file", lambda: "notes.txt" in os.listdir(mount + "/roles/base"))
assert content(name) == "one\n"

# In place, of the same size and of another
for text in "two\n", "three\n" * 1000, "four\n", "":
    write(name, text)
    within_a_second("a rewrite", lambda: content(name) == text)
    within_a_second("its size", lambda: os.stat(mount + "/" + name).st_size == len(text))

# Open all the time: another descriptor, and a map of it
write(name, "a" * 8192)
within_a_second("what is to be mapped", lambda: content(name) == "a" * 8192)
fd = os.open(mount + "/" + name, os.O_RDONLY)
view = mmap.mmap(fd, 8192, mmap.MAP_SHARED, mmap.PROT_READ)
private = mmap.mmap(fd, 8192, mmap.MAP_PRIVATE, mmap.PROT_READ)
assert view[:] == private[:] == b"a" * 8192
for letter in "bcd":
    with open(repo + "/" + name, "r+") as f:
        f.write(letter * 8192)
    within_a_second("an open descriptor", lambda: os.pread(fd, 8192, 0) == letter.encode() * 8192)
    within_a_second("a shared map", lambda: view[:] == letter.encode() * 8192)
    within_a_second("a private map", lambda: private[:] == letter.encode() * 8192)
view.close()
private.close()
# Written through a map, behind
with open(repo + "/" + name, "r+b") as f:
    with mmap.mmap(f.fileno(), 0) as m:
        m[:4] = b"MMAP"
        m.flush()
    os.utime(f.fileno())
within_a_second("what was written through a map", lambda: os.pread(fd, 4, 0) == b"MMAP")

# Replaced: who opens it sees the new one, who has it open keeps the old one
write("roles/base/.notes", "new\n")
os.rename(repo + "/roles/base/.notes", repo + "/" + name)
within_a_second("a replacement", lambda: content(name) == "new\n")
assert os.pread(fd, 4, 0) == b"MMAP"
assert os.fstat(fd).st_size == 8192
os.close(fd)

# tail -f
tail = subprocess.Popen(["tail", "-n0", "-f", mount + "/" + name], stdout=subprocess.PIPE)
os.set_blocking(tail.stdout.fileno(), False)
time.sleep(0.3)
for line in b"tail 1\n", b"tail 2\n":
    write(name, line, "ab")
    got = b""
    began = time.monotonic()
    while got != line:
        got += tail.stdout.read() or b""
        if time.monotonic() - began > 2: # it looks once a second itself
            sys.exit("tail -f shows %r, not %r" % (got, line))
        time.sleep(0.02)
tail.kill()
tail.wait()

# Names: gone, a directory in the place of a file, a link, modes
os.unlink(repo + "/" + name)
within_a_second("a removal", lambda: not os.path.exists(mount + "/" + name))
within_a_second("its name", lambda: "notes.txt" not in os.listdir(mount + "/roles/base"))
os.mkdir(repo + "/" + name)
within_a_second("a directory", lambda: os.path.isdir(mount + "/" + name))
write(name + "/deep", "x")
within_a_second("a file in it", lambda: content(name + "/deep") == "x")
os.rename(repo + "/" + name, repo + "/roles/base/moved")
within_a_second("a directory that moved", lambda: os.path.exists(mount + "/roles/base/moved/deep") and not os.path.exists(mount + "/" + name))
os.chmod(repo + "/roles/base/moved/deep", 0o600)
within_a_second("a mode", lambda: os.stat(mount + "/roles/base/moved/deep").st_mode & 0o777 == 0o600)
os.symlink("moved/deep", repo + "/" + name)
within_a_second("a link", lambda: os.path.islink(mount + "/" + name) and os.readlink(mount + "/" + name) == "moved/deep")

# Under another of its names
write("roles/base/moved/linked", "once")
os.link(repo + "/roles/base/moved/linked", repo + "/roles/base/other-name")
within_a_second("two names", lambda: os.stat(mount + "/roles/base/moved/linked").st_nlink == 2)
write("roles/base/other-name", "twice!")
began = time.monotonic()
while os.stat(mount + "/roles/base/moved/linked").st_size != 6:
    if time.monotonic() - began > 1.5: # nobody tells of it: the kernel looks again after a second
        sys.exit("the size of a file that has another name: not within a second")
    time.sleep(0.01)

# A hundred of them at once, and an append through the mount to what was replaced behind it a moment before goes to the new one
for n in range(100):
    write("roles/base/moved/%d" % n, str(n))
within_a_second("a hundred files", lambda: len(os.listdir(mount + "/roles/base/moved")) == 102)
for n in range(20):
    content("roles/base/moved/1")
    write("roles/base/moved/.1", "replaced %d\n" % n)
    os.rename(repo + "/roles/base/moved/.1", repo + "/roles/base/moved/1")
    with open(mount + "/roles/base/moved/1", "a") as f:
        f.write("appended\n")
    with open(repo + "/roles/base/moved/1") as f:
        assert f.read() == "replaced %d\nappended\n" % n
EOP

# More at once than inotify can tell.
echo before >"$REPO/roles/base/lost"
echo gone >"$REPO/roles/base/gone"
for name in lost gone; do eventually 2 "a file" test -e "$D/roles/base/$name"; done
kill -STOP "$DAEMON"
python3 - "$REPO/roles/base" <<'EOP'
import os, sys
limit = int(open("/proc/sys/fs/inotify/max_queued_events").read())
for n in range(min(limit, 100000) // 2 + 1):
    os.utime(sys.argv[1] + "/lost")
    os.utime(sys.argv[1] + "/gone")
EOP
echo "after it" >"$REPO/roles/base/.lost"
mv "$REPO/roles/base/.lost" "$REPO/roles/base/lost"
rm "$REPO/roles/base/gone"
kill -CONT "$DAEMON"
eventually 2 "a replacement that was not told" grep -qx "after it" "$D/roles/base/lost"
eventually 2 "a removal that was not told" test ! -e "$D/roles/base/gone"
expect "its size" "$(stat -c %s "$D/roles/base/lost")" 9

# And the model: what is written behind the mount is in force without anybody asking, within a second.
sed -i 's/^size = 5/size = 9/' "$REPO/deployments/d/deployment.ini"
began=$(date +%s%N)
until grep -q '^9' "$MNT/deployments/d/desired/params.base/size"; do
	[ $(($(date +%s%N) - began)) -lt 1000000000 ] || fail "a document that was changed behind the mount is not in force after a second"
	sleep 0.05
done
stop
