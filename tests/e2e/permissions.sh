#!/bin/bash
# Who may what: owners and modes of the repo hold in the mount, for documents and for what is made of them. Users here are numbers that nobody has.
. "$(dirname "$0")/lib.sh"
needs root fuse setpriv git python3
setup
chmod 755 "$T"
ALICE=64001 BOB=64002 WEB=64003
as() { # alice | bob, COMMAND...
	local who=$1
	shift
	case $who in
	alice) setpriv --reuid $ALICE --regid $ALICE --groups $WEB --inh-caps=-all -- "$@" ;;
	bob) setpriv --reuid $BOB --regid $BOB --clear-groups --inh-caps=-all -- "$@" ;;
	esac
}
may() {
	as "$@" 2>"$T/said" || fail "$1 should be able to: ${*:2}: $(cat "$T/said")"
}
may_not() {
	as "$@" 2>"$T/said" && fail "$1 should not be able to: ${*:2}"
	expect_match "what $1 is told of: ${*:2}" "$(cat "$T/said")" 'Permission denied|Operation not permitted'
}
store() { # WHO VALUE FILE
	may "$1" sh -c 'echo "$1" >"$2"' - "$2" "$3"
}
store_not() {
	may_not "$1" sh -c 'echo "$1" >"$2"' - "$2" "$3"
}
owner_of() {
	stat -c '%u:%g %a' "$1"
}

fake_repo 1
for d in web db like-web; do
	document "deployments/$d/deployment.ini" <<-END
		[deployment]
		provider = sim
		roles = app
		[nodes n]
		count = 1
	END
done
printf '[deployment]\nlike = web\n' >"$REPO/deployments/like-web/deployment.ini"
chown -R 0:$WEB "$REPO/deployments/web"
chmod 2775 "$REPO/deployments/web"
chmod 664 "$REPO/deployments/web/deployment.ini"
start
for d in d web db like-web; do settle $d 30; done
W=$MNT/deployments/web D=$MNT/desired

# Bob looks and does not touch. Nothing at all can be written by him.
for file in status problems deployments/web/plan deployments/web/matrix nodes/web-n-1/why nodes/web-n-1/roles/app/inputs.json desired/deployments/web/deployment.ini; do
	may bob cat "$MNT/$file" >/dev/null
done
expect "what bob could write" "$(as bob find "$MNT" -not -type l -writable -print)" ""
store_not bob 2 "$W/desired/nodes.n/count"
store_not bob apply "$W/ctl"
may_not bob touch "$D/deployments/web/new"
may_not bob rm -f "$D/deployments/web/deployment.ini"
may_not bob mkdir "$D/deployments/bob"
expect "the event of a refused store" "$(grep -c "uid $BOB" "$MNT/events")" 0

# Alice is in the group that may write deployments/web/: that deployment, its nodes and what runs on them are hers, and no other.
expect "who may write to the deployment" "$(owner_of "$W/ctl")" "0:$WEB 664"
store alice 2 "$W/desired/nodes.n/count"
settle web 30
expect "nodes" "$(list "$W/nodes")" "web-n-1 web-n-2"
expect "the document's owner and mode" "$(owner_of "$REPO/deployments/web/deployment.ini")" "0:$WEB 664"
expect_match "the event of her store" "$(cat "$W/events")" "count = 2 \(uid $ALICE \(sh [0-9]+\)\)\$"
store alice "hold while I look" "$MNT/nodes/web-n-1/ctl"
expect_match "the event of her verb" "$(cat "$W/events")" "web/web-n-1: held: while I look \(uid $ALICE \(sh [0-9]+\)\)\$"
store alice unhold "$MNT/nodes/web-n-1/ctl"
store alice run "$MNT/nodes/web-n-1/roles/app/ctl"
settle web 30
store alice pause "$W/ctl"
store alice resume "$W/ctl"
store alice 1 "$W/desired/nodes.n/count"
store alice "apply $(plan_id web)" "$W/ctl"
settle web 30
expect "nodes" "$(list "$W/nodes")" web-n-1
for file in ctl deployments/db/ctl deployments/like-web/ctl deployments/db/desired/nodes.n/count deployments/db/desired/deployment/group nodes/db-n-1/ctl nodes/db-n-1/roles/app/ctl \
	nodes/like-web-n-1/ctl providers/sim/ctl providers/sim/desired/fake/role-delay roles/base/desired/role/retries; do
	[ -e "$MNT/$file" ] || continue
	store_not alice destroy "$MNT/$file"
done
may_not alice sed -i s/1/2/ "$D/deployments/db/deployment.ini"
may_not alice sh -c 'echo ";" >>"$1"' - "$D/roles/base/role.ini"
may_not alice rm -r "$D/deployments/db"
may_not alice mv "$D/deployments/web" "$D/deployments/db/web"

# What she makes is hers, from its first moment on; the group is the directory's.
python3 - "$REPO/deployments/web" "$D/deployments/web" $ALICE $WEB <<'EOP' || fail "owners of what is made in the mount (see above)"
import os, sys
repo, mount, uid, gid = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
child = os.fork()
if not child:
    os.setgroups([gid])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.umask(0o027)
    for n in range(300):
        os.close(os.open("%s/file%d" % (mount, n), os.O_WRONLY | os.O_CREAT, 0o666))
        os.mkdir("%s/dir%d" % (mount, n))
        os.symlink("nowhere", "%s/link%d" % (mount, n))
        os.mkfifo("%s/fifo%d" % (mount, n))
    os._exit(0)
looks = 0
while True:
    ended = os.waitpid(child, os.WNOHANG)
    for e in os.scandir(repo):
        if e.name != "deployment.ini":
            st = e.stat(follow_symlinks=False)
            looks += 1
            if (st.st_uid, st.st_gid) != (uid, gid):
                sys.exit("%s is %d:%d" % (e.name, st.st_uid, st.st_gid))
    if ended[0]:
        break
if ended[1]:
    sys.exit("the creator failed")
if looks < 1200:
    sys.exit("only %d looks" % looks)
st = os.stat(mount + "/dir7"), os.stat(mount + "/file7")
if [s.st_mode & 0o7777 for s in st] != [0o2750, 0o640]:
    sys.exit("modes are %s" % [oct(s.st_mode) for s in st])
EOP
as alice sh -c 'rm -r "$1"/file* "$1"/dir* "$1"/link* "$1"/fifo*' - "$D/deployments/web"
may alice sed -i 's/^count = 1/count = 2/' "$D/deployments/web/deployment.ini" # a new file, hers
expect "the owner of what sed made" "$(stat -c %u:%g "$REPO/deployments/web/deployment.ini")" "$ALICE:$WEB"
settle web 30
chmod 664 "$D/deployments/web/deployment.ini"
chown 0:$WEB "$D/deployments/web/deployment.ini"
expect "the owner after chown in the mount" "$(owner_of "$REPO/deployments/web/deployment.ini")" "0:$WEB 664"
may_not bob chmod 666 "$D/deployments/web/deployment.ini"
may_not alice chown $ALICE "$D/deployments/db/deployment.ini"

# A document that bob may not read shows him nothing of itself anywhere.
chmod 640 "$D/deployments/db/deployment.ini"
eventually 3 "modes of what is made of a document" sh -c '[ "$(stat -c %a "$1")" = 640 ]' - "$MNT/deployments/db/desired/nodes.n/count"
may_not bob cat "$D/deployments/db/deployment.ini"
may_not bob cat "$MNT/deployments/db/desired/nodes.n/count"
may_not bob cat "$MNT/nodes/db-n-1/roles/app/inputs.json"
chmod 644 "$D/deployments/db/deployment.ini"

# An access control list gives nothing in the mount, but what it takes is taken: the group's bits of the mode are only its upper bound.
acl() { # FILE [TAG:PERM:ID...]: sets it, or prints it
	python3 - "$@" <<-'END'
		import os, struct, sys
		name, entries = "system.posix_acl_access", [tuple(map(int, e.split(":"))) for e in sys.argv[2:]]
		if entries:
		    os.setxattr(sys.argv[1], name, struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *e) for e in entries))
		print(os.getxattr(sys.argv[1], name).hex())
	END
}
store alice 1 "$W/desired/nodes.n/max-down"
list=$(acl "$REPO/deployments/web/deployment.ini" 1:6:-1 2:4:$ALICE 4:6:-1 16:6:-1 32:4:-1) || skip "no access control lists on the file system of '$T'"
expect "the mode below of a document with a list" "$(stat -c %a "$REPO/deployments/web/deployment.ini")" 664
eventually 3 "a list that takes" sh -c '[ "$(stat -c %a "$1")" = 644 ]' - "$W/desired/nodes.n/max-down"
may_not alice sh -c 'echo ";" >>"$1"' - "$D/deployments/web/deployment.ini"
store_not alice 2 "$W/desired/nodes.n/max-down"
echo 2 >"$W/desired/nodes.n/max-down" || fail "a store to a document with a list"
expect "the list after a store" "$(acl "$REPO/deployments/web/deployment.ini")" "$list"
echo 1 >"$W/desired/nodes.n/max-down"
python3 -c 'import os, sys; os.removexattr(sys.argv[1], "system.posix_acl_access")' "$REPO/deployments/web/deployment.ini"
eventually 3 "a list that is gone" sh -c '[ "$(stat -c %a "$1")" = 664 ]' - "$W/desired/nodes.n/max-down"
store alice 1 "$W/desired/nodes.n/max-down"

# git sets modes anew at each checkout; the keys stand in the document.
export GIT_CONFIG_GLOBAL=$T/gitconfig
git config --global user.name Test && git config --global user.email test@example.org && git config --global safe.directory '*'
git -C "$D" init -q && git -C "$D" add -A && git -C "$D" commit -qm one || fail "git commit"
sed -i "s/^provider = sim/provider = sim\ngroup = $WEB\nowner = $BOB/" "$D/deployments/web/deployment.ini"
git -C "$D" commit -qam two && git -C "$D" checkout -q HEAD~1 && git -C "$D" checkout -q - || fail "git checkout"
settle web 30
expect "the document after a checkout" "$(owner_of "$REPO/deployments/web/deployment.ini")" "0:$WEB 644"
expect "who may store there" "$(owner_of "$W/ctl")" "$BOB:$WEB 664"
may_not alice sh -c 'echo ";" >>"$1"' - "$D/deployments/web/deployment.ini"
store alice 3 "$W/desired/nodes.n/count"
store bob 1 "$W/desired/nodes.n/count"
store bob "apply $(plan_id web)" "$W/ctl"
settle web 30
expect "the document after their stores" "$(owner_of "$REPO/deployments/web/deployment.ini")" "0:$WEB 644"
# Not for what is like it
expect "who may store to a deployment that is like it" "$(owner_of "$MNT/deployments/like-web/ctl")" "0:0 644"
store_not alice destroy "$MNT/deployments/like-web/ctl"
store_not bob 2 "$MNT/deployments/like-web/desired/nodes.n/count"
store alice destroy "$W/ctl"
settle web 30
expect "nodes that are left of it" "$(list "$W/nodes")" ""
expect_match "nodes that are left" "$(list "$MNT/nodes")" "^d-n-1 db-n-1 like-web-n-1"
expect_match "whose word that was" "$(cat "$W/events")" "destroy: 1 nodes? \(uid $ALICE \(sh [0-9]+\)\)\$"
stop
