#!/bin/sh
# Runs inside the image when it is built. Packages enable their services as they are; here a role decides where one runs, and with which cookie: none may be
# in the image, or all clusters made from it would have the same.
set -eu
systemctl disable rabbitmq-server
rm -f /var/lib/rabbitmq/.erlang.cookie
