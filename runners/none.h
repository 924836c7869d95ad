#ifndef REBARFS_RUNNERS_NONE_H
#define REBARFS_RUNNERS_NONE_H

#include "runners/runner.h"

extern const struct runner_ops none_runner;

#endif
