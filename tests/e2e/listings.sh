#!/bin/bash
# Directories as they are listed: whole, each name once, of now; by many at a time, who stop in the middle, go back, or remove what they read.
. "$(dirname "$0")/lib.sh"
needs root fuse git python3
setup
fake_repo 300
start
settle d 60

cat >"$T/listings.py" <<'EOP'
import ctypes, os, struct, subprocess, sys, threading
mount, repo = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)

class Listing:
    """A directory read some bytes at a time, as no library does it."""
    def __init__(self, path):
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def some(self, size=1024):
        buf = ctypes.create_string_buffer(size)
        n = libc.getdents64(self.fd, buf, ctypes.c_size_t(size))
        if n < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        ret, at = [], 0
        while at < n:
            _, off, length = struct.unpack_from("=QqH", buf, at)
            name = buf.raw[at + 19:at + length].split(b"\0", 1)[0].decode()
            if name not in (".", ".."):
                ret.append((name, off))
            at += length
        return ret if n else None

    def rest(self):
        ret = []
        while (names := self.some()) is not None:
            ret += [name for name, _ in names]
        return ret

    def seek(self, off):
        os.lseek(self.fd, off, os.SEEK_SET)

    def close(self):
        os.close(self.fd)

def check(what, got, wanted):
    if len(got) != len(set(got)):
        sys.exit(f"{what}: a name twice")
    if set(got) != set(wanted):
        sys.exit(f"{what}: missing {sorted(set(wanted) - set(got))[:5]}, not asked for {sorted(set(got) - set(wanted))[:5]}")

def by_hand(path, wanted):
    # More at a time than anybody keeps in mind, all stopped in the middle.
    many = [Listing(path) for _ in range(100)]
    begun = [l.some() for l in many]
    for l, names in zip(many, begun):
        check(f"'{path}', one of 100 readers", [name for name, _ in names] + l.rest(), wanted)
    # Back to the beginning, and back to a place in the middle
    l = many[0]
    l.seek(0)
    head, tail = l.some(), l.rest()
    check(f"'{path}' again", [name for name, _ in head] + tail, wanted)
    for name, off in head[:5] + head[-5:]:
        l.seek(off)
        at = [n for n, _ in head].index(name) + 1
        check(f"'{path}' from '{name}' on", l.rest(), [n for n, _ in head[at:]] + tail)
    for l in many:
        l.close()

nodes = [f"d-n-{n}" for n in range(1, 301)]
by_hand(mount + "/nodes", nodes)
by_hand(mount + "/deployments/d/nodes", nodes)

# Listed all the time while it grows: never without what was there, and at once with what is new.
errors, done = [], threading.Event()
more = nodes + [f"d-n-{n}" for n in range(301, 341)]
def reader():
    while not done.is_set():
        names = os.listdir(mount + "/nodes")
        if len(names) != len(set(names)) or not set(nodes) <= set(names) <= set(more):
            errors.append(f"'nodes' while it grows: {len(names)} names, {len(set(names))} different")
            return
threads = [threading.Thread(target=reader) for _ in range(8)]
for t in threads:
    t.start()
with open(mount + "/deployments/d/desired/nodes.n/count", "w") as f:
    f.write("340\n")
with open(mount + "/deployments/d/wait") as f:
    f.read()
check("'nodes' at once", os.listdir(mount + "/nodes"), more)
done.set()
for t in threads:
    t.join()
if errors:
    sys.exit(errors[0])

role = mount + "/nodes/d-n-1/roles/base"
for n in range(10):
    before = os.listdir(role + "/runs")
    with open(role + "/ctl", "w") as f:
        f.write("run\n")
    with open(mount + "/deployments/d/wait") as f:
        f.read()
    after = os.listdir(role + "/runs")
    if len(after) != len(before) + 1:
        sys.exit(f"'runs' after one more: {len(before)} before, {len(after)} after")

# The repo's own
base = repo + "/roles/base/many"
def fill():
    os.makedirs(base, exist_ok=True)
    wanted = [f"file-with-a-name-{n}" for n in range(1500)]
    for name in wanted:
        open(base + "/" + name, "w").close()
    return wanted
wanted = fill()
path = mount + "/desired/roles/base/many"
by_hand(path, wanted)
check("through the library, cached", os.listdir(path), wanted)
check("through the library, cached, again", os.listdir(path), wanted)

l = Listing(path)
gone = 0
while (names := l.some(4096)) is not None:
    for name, _ in names:
        os.unlink(path + "/" + name)
        gone += 1
l.close()
if gone != len(wanted) or os.listdir(path) or os.listdir(base):
    sys.exit(f"read and removed at once: {gone} of {len(wanted)} gone, {len(os.listdir(base))} left")
fill()
subprocess.run(["rm", "-rf", path], check=True)
fill()
subprocess.run(["git", "-C", mount + "/desired", "clean", "-fdq", "roles/base/many"], check=True)
if os.path.exists(base):
    sys.exit("'git clean' left something")
if os.listdir(mount + "/desired/roles/base") != os.listdir(repo + "/roles/base"):
    sys.exit("the directory shows something else than it has")
EOP
export GIT_DISCOVERY_ACROSS_FILESYSTEM=1 GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
git -C "$REPO" init -q && git -C "$REPO" add -A && git -C "$REPO" -c user.name=T -c user.email=t@example.org commit -qm all || fail "git"
timeout 120 python3 "$T/listings.py" "$MNT" "$REPO" || fail "listings (see above)"

# A listing of what is gone
python3 - "$MNT" <<'EOP' || fail "the directory of a node that is gone (see above)"
import errno, os, sys
mount = sys.argv[1]
fd = os.open(mount + "/nodes/d-n-340", os.O_RDONLY | os.O_DIRECTORY)
os.system(f"echo 339 >{mount}/deployments/d/desired/nodes.n/count")
plan = open(mount + "/deployments/d/plan").read()
with open(mount + "/deployments/d/ctl", "w") as f:
    f.write("apply " + plan.split()[1].rstrip(":") + "\n")
open(mount + "/deployments/d/wait").read()
assert "d-n-340" not in os.listdir(mount + "/nodes"), "it is still listed"
try:
    os.listdir(fd)
    sys.exit("a directory that is gone was listed")
except OSError as e:
    assert e.errno in (errno.ENOENT, errno.ESTALE), e
EOP
stop
