/* Positions in a list by name, for lists that may be long. */
#ifndef REBARFS_BASE_INDEX_H
#define REBARFS_BASE_INDEX_H

#include <stdbool.h>
#include <stddef.h>

struct index; /* NULL: empty */
/* Copies the name. false: it has a position already, which stays. */
bool index_put(struct index **ix, const char *name, size_t at);
bool index_find(const struct index *ix, const char *name, size_t *ret_at);
void index_release(struct index **ix);
/* The same by two words; the first has no newline. */
bool index_put_pair(struct index **ix, const char *first, const char *second, size_t at);
bool index_find_pair(const struct index *ix, const char *first, const char *second, size_t *ret_at);

#endif
