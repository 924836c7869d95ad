#ifndef REBARFS_RUNNERS_CHEF_H
#define REBARFS_RUNNERS_CHEF_H

#include "runners/runner.h"

extern const struct runner_ops chef_runner;

/* The node's attributes but the place of outputs, which only the node knows: COOKBOOK -> parameters, 'rebar' -> all inputs, and what is to run. New
 * reference. */
json_t *chef_attributes(const struct run_item *item, const char *cookbook);

#endif
