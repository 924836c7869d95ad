#ifndef REBARFS_RUNNERS_SALT_H
#define REBARFS_RUNNERS_SALT_H

#include "runners/runner.h"

extern const struct runner_ops salt_runner;

/* The pillar: FORMULA -> parameters, 'rebar' -> all inputs. New reference. */
json_t *salt_pillar(const struct run_item *item, const char *formula);

#endif
