#!/bin/bash
# limit: 240
# A cookbook on a node: what changed, drift, a step that fails, what ends well although it failed, and where the secret is.
# Chef is no package of Debian's: REBARFS_TEST_CHEF names a directory with a program chef-client and all that it needs but Ruby.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/hello.sh"
needs root fuse ssh-keygen unshare jq
hello chef chef-client chef-package 'chef-license = accept-no-persist'
expect "where a resource is" "$(report | jq -c '.resources[] | select(.name | test("package")) | [.status, .file, .line]')" '["unchanged","recipes/default.rb",4]'
drifts '^ *-by hand'
recipe=recipes/default.rb
fails $recipe "s/only_if .*//" 'execute\[a step that fails\] run \(recipes/default.rb:19\): '
fails $recipe "s/^hello = .*/hello = (/" 'chef failed: '
fails $recipe "s|execute 'busybox httpd.*|execute 'kill -KILL \$PPID; sleep 3' do|; s/not_if .*//" '^error: exit 137: '
# The other way to tell an output; a file in its directory is new each time, and no change.
sed "s|^node.override.*|file \"#{rebar['outputs']}/url\" do content \"http://m:1/\" end|" "$TOP/contrib/examples/parity/roles/hello-chef/$recipe" >"$CONTENT/$recipe"
settle d 60
expect "an output that a resource wrote" "$(cat "$ROLE/outputs/url")" "http://m:1/"
expect "what that changed" "$(report | jq -c "[.changed, .failed]")" "[0,0]"
goodbye
