#ifndef REBARFS_RUNNERS_PUPPET_H
#define REBARFS_RUNNERS_PUPPET_H

#include "fs/base/buf.h"
#include "runners/runner.h"

extern const struct runner_ops puppet_runner;

/* What hiera reads: CLASS::PARAM -> value, 'rebar' -> all inputs, and which of them are to become Sensitive. New reference. */
json_t *puppet_data(const struct run_item *item, const char *class, bool sensitive);
/* The class that the manifest defines first; false: none. */
bool puppet_class(const char *manifest, struct buf *out);

#endif
