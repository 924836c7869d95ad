#!/bin/sh
# Runs inside the image when it is built. Packages enable their services as they are; here a role decides where one runs, and with which settings.
set -eu
systemctl disable docker.service docker.socket containerd.service
