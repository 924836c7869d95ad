#!/bin/bash
# limit: 240
# A formula on a node: what changed, drift, a step that fails, what Salt ends well with although it failed, and where the secret is.
# Salt is no package of Debian's: REBARFS_TEST_SALT names a directory with salt-call and all that it imports, e.g. an unpacked thin tree.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/hello.sh"
needs root fuse ssh-keygen unshare jq
hello salt salt-call salt-source
expect "where a resource is" "$(report | jq -c '.resources[] | select(.name | test("pkg")) | [.status, .file, .line]')" '["unchanged","init.sls",5]'
drifts '^-.*by hand'
fails init.sls 's/{% if hello.broken %}/{% if true %}/' 'cmd.run a step that fails \(init.sls:[0-9]+\): '
fails init.sls 's/{% if hello.broken %}/{% if %}/' 'salt failed: .*Rendering SLS'
fails init.sls 's|name: busybox httpd.*|name: kill -TERM $PPID; sleep 5|; s/unless: .*/unless: "false"/' '^error: salt ended well, but wrote no report'
goodbye
