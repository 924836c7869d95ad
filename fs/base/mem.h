/* Allocation that does not return NULL (the process ends with a sentence on stderr, as git and tmux do), and _cleanup_ helpers. */
#ifndef REBARFS_BASE_MEM_H
#define REBARFS_BASE_MEM_H

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

/* For what a library could not do, which only a lack of memory explains. */
void out_of_memory(void) __attribute__((noreturn, cold));
void *xmalloc(size_t size);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t size);
void *xreallocarray(void *p, size_t n, size_t size);
char *xstrdup(const char *s); /* NULL gives NULL */
char *xstrndup(const char *s, size_t n);
void *xmemdup(const void *p, size_t size);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static inline void freep(void *p)
{
	free(*(void **)p);
}
static inline void closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define _cleanup_free_ __attribute__((cleanup(freep)))
#define _cleanup_close_ __attribute__((cleanup(closep)))

/* Frees the string at *p and puts a copy of s there. */
void str_replace(char **p, const char *s);

/* Makes room for one more element in a plain growing array {T *items; size_t n, cap;}. */
#define GROW(items, n, cap)                                                                                                                          \
	do {                                                                                                                                         \
		if ((n) + 1 > (cap)) {                                                                                                               \
			(cap) = (cap) ? (cap)*2 : 8;                                                                                                 \
			(items) = xreallocarray((items), (cap), sizeof *(items));                                                                    \
		}                                                                                                                                    \
	} while (0)

#endif
