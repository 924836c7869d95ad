/* The redactor: what is stored or shown of a run's words passes it, and every secret in hand becomes asterisks there, as many as it has bytes, so
 * that offsets into a log mean the same before and after.
 *
 * A value counts as it is, as JSON, a shell, a URL and base64 write it, and line by line; what has less than REDACT_MIN bytes is let through, or half
 * of every log would go. Any thread. */
#ifndef REBARFS_BASE_REDACT_H
#define REBARFS_BASE_REDACT_H

#include "fs/base/buf.h"
#include <stddef.h>

#define REDACT_MIN 4

struct redactor;
struct redactor *redactor_new(void);
void redactor_free(struct redactor *r);
/* Counted: as many removals as additions. */
void redactor_add(struct redactor *r, const char *value, size_t len);
void redactor_remove(struct redactor *r, const char *value, size_t len);

/* A whole text, in place. r may be NULL: nothing is secret. */
void redact(struct redactor *r, char *text, size_t len);
/* A text that comes in pieces. What may be the beginning of a secret waits for the next piece, or for the end. */
struct redact_stream {
	struct buf held;
	size_t covered; /* so many bytes of it are asterisks whatever comes */
};
void redact_add(struct redactor *r, struct redact_stream *s, const char *data, size_t len, struct buf *out); /* appends what is certain */
void redact_end(struct redactor *r, struct redact_stream *s, struct buf *out);                               /* appends the rest */
void redact_release(struct redact_stream *s);                                                                /* forgets what waits */
/* A file, in place; -errno. */
int redact_file(struct redactor *r, const char *path);

#endif
