/* Where a crash would be worst. `make fault` builds with REBARFS_FAULT and has the process killed at each of these points in turn (REBARFS_FAULT_AT=N in
 * the environment: at the N-th that is passed); in every other build they are nothing. */
#ifndef REBARFS_BASE_FAULT_H
#define REBARFS_BASE_FAULT_H

#ifdef REBARFS_FAULT
void fault_point(const char *where);
#else
static inline void fault_point(const char *where)
{
}
#endif

#endif
