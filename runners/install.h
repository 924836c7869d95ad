/* The install runner: no content, but one of the tools that other runners need on the node. Roles like runner-puppet are of it. */
#ifndef REBARFS_RUNNERS_INSTALL_H
#define REBARFS_RUNNERS_INSTALL_H

#include "runners/runner.h"

extern const struct runner_ops install_runner;

#define INSTALLED_TOOLS "/var/lib/rebar/tools" /* what was copied to a node: a directory for each tool */

#endif
