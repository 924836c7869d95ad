#!/bin/bash
# What runs cost the control host: runs that find nothing to do, beyond the tool's own process on the node; and a batch of ansible beside the same
# playbook by hand, with pipelining and kept connections. On light containers, in a network and a mount namespace made for this.
. "$(dirname "$0")/lib.sh"
NODES=20 FEW=3
CACHE=${REBARFS_CACHE:-/var/cache/rebarfs}

provider() { # the image has what the tools need, so that what is installed at the first run is nothing
	mkdir -p "$DIR/repo/providers/laptop" "$MNT" "$DIR/state"
	printf '[provider]\ntype = container\nimage = tools\n[container]\nboot = sshd\n[image tools]\nsuite = bookworm\npackages = puppet-agent, procps, busybox\n' \
		>"$DIR/repo/providers/laptop/provider.ini"
}
deployment() { # NAME COUNT
	mkdir -p "$DIR/repo/deployments/$1"
	printf '[deployment]\nprovider = laptop\nroles = %s\n[nodes n]\ncount = %s\n' "$1" "$2" >"$DIR/repo/deployments/$1/deployment.ini"
}
document() { mkdir -p "$(dirname "$DIR/repo/$1")" && cat >"$DIR/repo/$1"; }
settled() { timeout "$2" cat "$MNT/deployments/$1/wait" >"$DIR/wait" || { tail -n3 "$DIR/wait" >&2 && return 1; }; }
run_all() { # ROLE: on all its nodes
	local ctl
	for ctl in "$MNT/nodes/$1"-*/roles/"$1"/ctl; do echo run >"$ctl"; done
	settled "$1" 300
}

# Seconds of CPU of the daemon and of all that it started and waited for.
cpu_with_children() { awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); print ($12 + $13 + $14 + $15) / hz }' "/proc/$1/stat"; }

overhead() { # ROLE COUNT: ms of CPU here per node, mean of three runs on all
	local before i
	before=$(cpu_with_children "$DAEMON")
	for i in 1 2 3; do run_all "$1"; done
	row "a run of $1 that finds nothing to do, CPU per node" "$(awk -v a="$before" -v b="$(cpu_with_children "$DAEMON")" -v n="$2" 'BEGIN { printf "%.1f\n", (b - a) * 1000 / 3 / n }')" - ms 30
}

roles() {
	printf '[role]\nrunner = script\nwants = nodes\n' | document roles/script/role.ini
	printf '#!/bin/sh\ntest -d /srv\necho 1 >"$REBAR_OUTPUTS/answer"\n' | document roles/script/apply
	chmod +x "$DIR/repo/roles/script/apply"
	deployment script "$NODES"
	printf '[role]\nrunner = puppet\nwants = nodes\n' | document roles/puppet/role.ini
	printf 'class puppet {\n  file { "/srv/puppet": content => "x" }\n}\n' | document roles/puppet/manifests/init.pp
	deployment puppet "$FEW"
	printf '[role]\nrunner = ansible\ngather-facts = no\n' | document roles/ansible/role.ini
	document roles/ansible/tasks/main.yml <<-'END'
		- file: {path: /srv/a, state: directory}
		- copy: {dest: /srv/a/b, content: "x\n"}
		- lineinfile: {path: /srv/a/b, line: x}
		- stat: {path: /srv/a/b}
		- command: /bin/true
		  changed_when: false
	END
	deployment ansible "$NODES"
	if [[ -n ${REBARFS_TEST_SALT:-} ]]; then
		cp -rL "$REBARFS_TEST_SALT" "$DIR/thin"
		printf '[role]\nrunner = salt\nwants = nodes\nsalt-source = %s\n' "$DIR/thin" | document roles/salt/role.ini
		printf '/srv/salt:\n  file.managed:\n    - contents: x\n' | document roles/salt/init.sls
		deployment salt "$FEW"
	fi
	if [[ -n ${REBARFS_TEST_CHEF:-} ]]; then
		cp -rL "$REBARFS_TEST_CHEF" "$DIR/pack"
		printf '[role]\nrunner = chef\nwants = nodes\nchef-package = %s\nchef-license = accept-no-persist\n' "$DIR/pack" | document roles/chef/role.ini
		echo 'name "chef"' | document roles/chef/metadata.rb
		echo 'file "/srv/chef" do content "x" end' | document roles/chef/recipes/default.rb
		deployment chef "$FEW"
	fi
}

seconds() { # COMMAND...: its wall time into TOOK
	local start=$EPOCHREALTIME
	"$@"
	TOOK=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f\n", b - a }')
}

# The same role, with what a careful user sets.
by_hand() {
	local sockets
	sockets=$(mktemp -d "$DIR/cp.XXXXXX")
	ANSIBLE_HOST_KEY_CHECKING=0 ANSIBLE_PIPELINING=1 ANSIBLE_FORKS=$NODES ANSIBLE_ROLES_PATH=$DIR/repo/roles ANSIBLE_INVENTORY_ENABLED=yaml,ini \
		ANSIBLE_PYTHON_INTERPRETER=auto_silent ANSIBLE_SSH_CONTROL_PATH_DIR=$sockets LC_ALL=C.UTF-8 \
		ANSIBLE_SSH_ARGS="-F $DIR/ssh_config -o ControlMaster=auto -o ControlPersist=15s -o KexAlgorithms=curve25519-sha256" \
		ansible-playbook -i "$DIR/inventory" "$DIR/playbook.yml" >"$DIR/by-hand" || { tail -n5 "$DIR/by-hand" >&2 && return 1; }
}

ansible_batch() {
	local hand=() ours=() name
	cat "$MNT/deployments/ansible/ssh_config" >"$DIR/ssh_config"
	for name in $(ls "$MNT/deployments/ansible/nodes"); do echo "$name"; done >"$DIR/inventory"
	printf -- '- hosts: all\n  gather_facts: no\n  roles: [ansible]\n' >"$DIR/playbook.yml"
	for _ in 1 2 3; do
		seconds by_hand
		hand+=("$TOOK")
		seconds run_all ansible
		ours+=("$TOOK")
	done
	row "ansible, $NODES nodes x 5 tasks with nothing to do" "$(best_of "${ours[@]}")" "$(best_of "${hand[@]}")" s 1.1x "(ansible-playbook by hand)"
}

destroy() { # NAME: so that the next has the machine for itself
	echo destroy >"$MNT/deployments/$1/ctl"
	settled "$1" 120
	rm -r "$DIR/repo/deployments/$1"
}

inside() {
	ip link set lo up
	mount -t tmpfs tmpfs /run/netns
	mkdir "$DIR/cgroup" # a sysfs shows the network in which it was mounted
	mount --rbind /sys/fs/cgroup "$DIR/cgroup"
	mount -t sysfs sysfs /sys
	mount --move "$DIR/cgroup" /sys/fs/cgroup
	local name count
	roles
	mv "$DIR/repo/deployments" "$DIR/deployments"
	start_daemon
	for name in script ansible puppet salt chef; do
		[[ -d $DIR/deployments/$name ]] || { echo "not measured: $name (REBARFS_TEST_${name^^} is not set)" >&2 && continue; }
		mkdir -p "$DIR/repo/deployments"
		mv "$DIR/deployments/$name" "$DIR/repo/deployments/"
		wait_until 10 test -e "$MNT/deployments/$name/wait"
		settled "$name" 300
		count=$(ls "$MNT/deployments/$name/nodes" | wc -l)
		if [[ $name == ansible ]]; then ansible_batch; else overhead "$name" "$count"; fi
		destroy "$name"
	done
	stop_daemon
}

case ${1:-} in
inside) inside ;;
*)
	[[ $(id -u) == 0 ]] || { echo "runners: needs root" >&2 && exit 1; }
	provider
	if [[ -z $(find "$CACHE/images" -mindepth 1 -maxdepth 1 -type d -name 'tools-*' ! -name '*.new' -print -quit 2>/dev/null) ]]; then
		deployment none 1 # the tree is built with the host's network
		printf '[role]\nrunner = none\n' | document roles/none/role.ini
		start_daemon
		settled none 900
		destroy none
		stop_daemon
		rm -rf "$DIR/state" "$DIR/repo/deployments" "$DIR/repo/roles"
		mkdir "$DIR/state"
	fi
	REBARFS_BENCH_DIR=$DIR unshare --net --mount --propagation private "$0" inside
	;;
esac
