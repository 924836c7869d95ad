#!/bin/bash
# A provider for clouds that speak EC2's API: contrib/providers/ec2 against moto, whose instances are made machines with a real sshd, so that roles run.
. "$(dirname "$0")/lib.sh"
needs root fuse ssh-keygen unshare jq curl
/usr/bin/python3 -c 'import boto3' 2>/dev/null || skip "needs Debian's package python3-boto3"

# moto is packaged in trixie only: a root tree of its own, from the mirror that this machine takes its packages from.
moto_tree=$CACHE/e2e-trees/moto
make_moto_tree() {
	local mirror
	mkdir -p "$CACHE/e2e-trees"
	(
		flock 9
		[ ! -d "$moto_tree" ] || exit 0
		command -v mmdebstrap >/dev/null || skip "needs 'mmdebstrap' in the PATH to make a root tree"
		# shellcheck disable=SC2016
		mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
			awk -v own="$(. /etc/os-release && echo "$VERSION_CODENAME")" '$2 == own && $3 == "main" { print $1; exit }')
		[ -n "$mirror" ] || skip "apt's configuration names no mirror to make a root tree from"
		apt-config dump | grep -E '^Acquire::(https?::Proxy|Check-Valid-Until|Check-Date) ' >"$moto_tree.apt"
		say "making a root tree with moto"
		rm -rf --one-file-system "$moto_tree.new"
		mmdebstrap --quiet --variant=minbase --format=directory --include=python3-moto,python3-flask,python3-flask-cors \
			--aptopt="$moto_tree.apt" --aptopt='APT::Install-Recommends "false"' --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/man/*' \
			--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
			trixie "$moto_tree.new" "deb $mirror trixie main" >"$moto_tree.log" 2>&1 ||
			{ tail -n 5 "$moto_tree.log"; rm -rf --one-file-system "$moto_tree.new"; skip "cannot make a root tree (see above)"; }
		mv "$moto_tree.new" "$moto_tree"
	) 9>"$CACHE/e2e-trees/lock" || exit
}
if [ -z "${REBARFS_E2E_NETWORK:-}" ]; then
	make_moto_tree
	make_root_tree_if_needed plain
fi
in_own_network
setup
net_up
tree=$(root_tree) || exit 1

# ---- the cloud

ENDPOINT=http://127.0.0.1:5000
CLOUD="/usr/bin/python3 $TOP/tests/e2e/ec2-cloud"
cloud_down() {
	local pid
	[ -z "${WATCH:-}" ] || kill "$WATCH"
	for pid in $(cat "$T"/machines/*/pid 2>/dev/null); do
		! tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$T/machines" || kill -KILL "$pid"
	done
}
trap 'rc=$?; cloud_down 2>/dev/null; (exit $rc); cleanup' EXIT

mkdir "$T/tmp" "$T/machines"
# Nobody is asked who he is until told otherwise: the first user is yet to be made.
unshare --mount -- bash -c 'mount --bind "$2" "$1/tmp"; exec env INITIAL_NO_AUTH_ACTION_COUNT=1000 chroot "$1" moto_server -H 127.0.0.1 -p 5000' \
	- "$moto_tree" "$T/tmp" >"$T/moto.log" 2>&1 &
eventually 60 "moto answers" curl -sf -o /dev/null "$ENDPOINT/moto-api/"
furniture=$($CLOUD furnish "$ENDPOINT") || fail "cannot furnish the cloud"
# shellcheck disable=SC2086
export $(echo $furniture)
curl -sf -o /dev/null -H 'Content-Type: text/plain' -d 0 "$ENDPOINT/moto-api/reset-auth" || fail "moto cannot be told to ask who calls"

boots() {
	local what name address
	while read -r what name address; do
		echo "$(date +%T) $what $name $address"
		case $what in
		on) machine "$name" "${address##*.}" "$tree" </dev/null ;; # ssh would eat the rest of the words
		*) [ ! -s "$T/machines/$name/pid" ] || machine_off "$name" ;;
		esac
	done
}
mkfifo "$T/instances"
boots <"$T/instances" >"$T/boots.log" 2>&1 &
$CLOUD watch "$ENDPOINT" "$T/machines" >"$T/instances" 2>"$T/watch.log" &
WATCH=$!


instances() { # one a line: ID STATE
	$CLOUD list "$ENDPOINT"
}

# ---- credentials

mkdir -m 700 "$T/secrets"
put_secret() { # NAME VALUE
	(umask 077 && printf '%s\n' "$2" >"$T/secrets/$1.new" && mv "$T/secrets/$1.new" "$T/secrets/$1")
}
provider() { # NAME IMAGE LINE...
	local name=$1 image=$2
	shift 2
	{
		printf '[provider]\ntype = exec\napply = auto\nimage = %s\n[exec]\nprogram = ec2\n[settings]\nregion = eu-north-1\nendpoint = %s\n' "$image" "$ENDPOINT"
		printf 'access-key = secret:cloud-id\nsecret-key = secret:cloud-key\npoll = 1\n'
		printf '%s\n' "$@"
	} | document "providers/$name/provider.ini"
	cp "$TOP/contrib/providers/ec2" "$REPO/providers/$name/ec2"
}
provider cloud "$image" "type = t3.micro" "key-pair = people" "subnet = $subnet" "security-groups = $group"
printf '[role]\nrunner = script\nretries = 0\n' | document roles/mark/role.ini
printf '#!/bin/sh\necho marked >>/root/marks\n' | document roles/mark/apply
chmod +x "$REPO/roles/mark/apply"
printf '[deployment]\nprovider = cloud\n[nodes n]\ncount = 2\nroles = mark\n' | document deployments/c/deployment.ini
start "secrets=$T/secrets"

eventually 20 "the provider tells what it lacks" grep -q "secret 'cloud-[a-z]*': there is no" "$MNT/providers/cloud/why"
expect_match "why of a node" "$(cat "$MNT/nodes/c-n-1/why")" "secret 'cloud-"
put_secret cloud-id "$operator_id"
put_secret cloud-key not-the-right-one-at-all
eventually 30 "wrong credentials are told of" grep -q "the cloud refuses the credentials: .*(AuthFailure)" "$MNT/nodes/c-n-1/why"
say "$(cat "$MNT/nodes/c-n-1/why")"
put_secret cloud-key "$operator_key"
settle c 60
say "$(cat "$T/boots.log" | paste -sd ' ')"
for n in 1 2; do
	address=$(cat "$MNT/nodes/c-n-$n/address")
	expect "marks on $address" "$(on "${address##*.}" cat /root/marks)" marked
done
expect_match "facts of an instance" "$(cat "$MNT/nodes/c-n-1/facts.json")" '"os"'
expect "instances that were created" "$(grep -c "created i-" "$MNT/events")" 2
nowhere_in() { # TEXT
	! timeout 20 grep -rqaF -e "$1" "$STATE" "$MNT/providers" "$MNT/events" "$T/daemon.log" || fail "'$1' was written down"
}
nowhere_in "$operator_key"

# ---- power, a killed daemon

echo off >"$MNT/nodes/c-n-1/power"
value_becomes 30 "$MNT/nodes/c-n-1/power" off
expect "machines that run" "$(instances | grep -c running)" 2 # the other node's, and the other owner's
echo on >"$MNT/nodes/c-n-1/power"
settle c 60
kill_hard
start "secrets=$T/secrets"
settle c 60
expect "runs after a kill" "$(runs "$MNT/nodes/*/roles/mark")" 2
expect "instances after a kill" "$(instances | grep -c running)" 3

# ---- what cannot be made

cannot() { # NAME REGEX IMAGE LINE...
	local name=$1 regex=$2
	shift 2
	provider "$name" "$@"
	printf '[deployment]\nprovider = %s\n[nodes n]\ncount = 1\n' "$name" | document "deployments/$name/deployment.ini"
	eventually 30 "why of $name should match '$regex'" grep -Eq "$regex" "$MNT/nodes/$name-n-1/why"
	say "$(cat "$MNT/nodes/$name-n-1/why")"
}
cannot unknown "eu-north-1 does not know 'ami-0badbadbadbadbad0', the 'image' of provider unknown" ami-0badbadbadbadbad0

# ---- the program itself, asked without a daemon

ask() { # VERB SETTINGS NODE: its answer, without its progress
	jq -n --argjson s "$2" --argjson n "$3" --arg image "$image" --arg at "$ENDPOINT" --arg id "$operator_id" --arg key "$operator_key" --arg v "$1" '
		{protocol: 1, verb: $v, provider: "p", owner: "feedfeedfeedfeed", state_dir: "/", power: "cycle", public_key: "ssh-ed25519 AAAA test", image: $image,
		 settings: ({region: "eu-north-1", endpoint: $at, "access-key": $id, "secret-key": $key, poll: "1"} + $s | with_entries(select(.value != null))),
		 node: ({id: 7, incarnation: 1, name: "n7", image: $image, cpus: 0, memory: 0, intent: 40} + $n)}' |
		env -i PATH="$PATH" HOME="$T" timeout 60 "$TOP/contrib/providers/ec2" "$1" | tail -n 1
}
asked=()
sentence() { # REGEX VERB SETTINGS NODE: side by side with the others
	local n=${#asked[@]}
	{
		ask "$2" "$3" "$4" >"$T/sentence.$n" 2>&1
		grep -Eq "$1" "$T/sentence.$n" || echo "should match '$1': $(cat "$T/sentence.$n")" >"$T/sentence.$n.wrong"
	} &
	asked+=($!)
}
$CLOUD throttle 127.0.0.1 5001 "$T/tokens" &
THROTTLE=$!
sentence "does not know 'nobody', the 'key-pair' of provider p.*\"invalid\"" prepare '{"key-pair": "nobody"}' '{}'
sentence "does not know 'subnet-00000000', the 'subnet' of provider p.*\"invalid\"" prepare '{"subnet": "subnet-00000000"}' '{}'
sentence "does not know 'sg-00000000', the 'security-groups' of provider p.*\"invalid\"" prepare '{"security-groups": "sg-00000000"}' '{}'
sentence "n7 is to have 64 cpus, a t3.micro has 2 cpus and 1024 MiB.*\"invalid\"" create '{}' '{"cpus": 64}'
sentence "'zone' under \[settings\] is none of region, .*\"invalid\"" list '{"zone": "a"}' '{}'
sentence "has no credentials: 'access-key = secret:NAME'.*\"invalid\"" list '{"access-key": null, "secret-key": null}' '{}'
sentence "names no region: 'region = ...'" list '{"region": null}' '{}'
sentence "cannot reach the cloud: .*127.0.0.1:1.*\"again\"" list '{"endpoint": "http://127.0.0.1:1"}' '{}'
sentence "throttles requests to RunInstances: fewer at once with 'max-parallel' of provider p.*\"again\"" create '{"endpoint": "http://127.0.0.1:5001"}' '{}'
sentence "gone" power '{}' '{"id": 8}'
sentence '"machines": \[\]' list '{}' '{}'
wait "${asked[@]}"
kill "$THROTTLE"
! cat "$T"/sentence.*.wrong 2>/dev/null || fail "see above"
expect "client tokens" "$(sort -u "$T/tokens")" "rebarfs-feedfeedfeedfeed-7-1"
[ "$(wc -l <"$T/tokens")" -gt 1 ] || fail "a throttled request was not repeated"

mkdir "$T/without"
echo 'raise ImportError("No module named boto3")' >"$T/without/boto3.py"
expect_match "without boto3" "$(PYTHONPATH=$T/without "$TOP/contrib/providers/ec2" list </dev/null)" "install Debian's package python3-boto3.*\"invalid\""

first=$(ask create '{}' '{}' | jq -r '.machines[0].ref')
expect_match "the first answer" "$first" '^i-'
expect "the instance of a second 'create'" "$(ask create '{}' '{"intent": 41}' | jq -r '.machines[0].ref')" "$first"
expect "a reboot" "$(ask power '{}' '{}')" "{}"
expect "destroyed" "$(ask destroy '{}' '{}')" "{}"
expect "destroyed again" "$(ask destroy '{}' '{}')" "{}"

destroy c 60
expect "instances in the end" "$(instances | grep -v terminated)" "$other running"
stop
