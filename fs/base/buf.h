/* A growing string of bytes, always NUL-terminated behind len. {0} is an empty one. */
#ifndef REBARFS_BASE_BUF_H
#define REBARFS_BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct buf {
	char *data; /* NULL while nothing was added; buf_str() is never NULL */
	size_t len, cap;
	bool secret; /* overwritten where it moves from and when it is released */
};

void buf_add(struct buf *b, const void *data, size_t len);
void buf_adds(struct buf *b, const char *s);
void buf_addc(struct buf *b, char c);
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vaddf(struct buf *b, const char *fmt, va_list ap);
void buf_reset(struct buf *b);                /* len = 0, memory kept */
void buf_release(struct buf *b);              /* frees; b is empty again */
char *buf_detach(struct buf *b, size_t *len); /* caller frees; never NULL; b is empty again; len may be NULL */
const char *buf_str(const struct buf *b);
#define _cleanup_buf_ __attribute__((cleanup(buf_release)))

#endif
