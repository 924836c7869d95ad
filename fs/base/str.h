/* Strings: lists, did-you-mean, the value syntax of documents (size, duration, bool). */
#ifndef REBARFS_BASE_STR_H
#define REBARFS_BASE_STR_H

#include "fs/base/buf.h"
#include "fs/base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct strlist {
	char **items; /* items[n] is NULL when n > 0 */
	size_t n, cap;
};
void strlist_add(struct strlist *l, const char *s); /* copies */
void strlist_add_take(struct strlist *l, char *s);  /* takes */
void strlist_release(struct strlist *l);
bool strlist_has(const struct strlist *l, const char *s);
void strlist_sort(struct strlist *l);
/* Splits a comma-separated list, blanks around items dropped, empty items dropped; appends to l. Commas inside [...] do not split. */
void strlist_split(struct strlist *l, const char *text);
void strlist_join(const struct strlist *l, const char *sep, struct buf *out);
#define _cleanup_strlist_ __attribute__((cleanup(strlist_release)))

/* The length of the UTF-8 sequence at s, 0 if it is none (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF). left: bytes there are. */
size_t utf8_length(const char *s, size_t left);
/* Makes one line of text of it: each control character and byte that is no UTF-8 becomes '?'. */
void str_make_line(char *s);

/* The nearest of n candidates to word by edit distance, NULL if none is near enough to be meant. */
const char *str_suggest(const char *word, const char *const *candidates, size_t n);

/* "512M", "2G", "1024": bytes, powers of 1024, suffix K M G T (optional B or iB). -EINVAL, -ERANGE. */
int parse_size(const char *text, int64_t *ret_bytes, struct err **err);
/* "300ms", "10s", "10m", "2h", "1d", "1h30m"; a bare number is seconds. -EINVAL, -ERANGE. */
int parse_duration(const char *text, int64_t *ret_ms, struct err **err);
/* yes|no|true|false|on|off|1|0 */
int parse_bool(const char *text, bool *ret, struct err **err);
/* whole decimal number, no blanks. -EINVAL, -ERANGE. */
int parse_int(const char *text, int64_t *ret, struct err **err);

/* For people: "12 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"; under 10 s with one decimal ("2.9 s"). */
void format_duration(struct buf *out, int64_t ms);
/* For people, the syntax of documents: "512M", "1536M", "2G", "1000". */
void format_size(struct buf *out, int64_t bytes);
/* UTC, "2026-11-23T10:02:33Z". */
void format_time(struct buf *out, int64_t unix_ms);

/* A name for a node, or for what nodes are named by, a group or a deployment: RFC 1123 label characters [a-z0-9-], begins and ends with a letter
 * or digit, at most 63 bytes. Sets err to a sentence that tells what is allowed. */
int check_name(const char *name, struct err **err);
/* A name for what no host is named by: letters, digits and, but for its ends, marks (at least one), at most 63 bytes. */
int check_word(const char *name, const char *marks, struct err **err);

int64_t now_ms(void);       /* wall clock, ms since the epoch: for people and the database */
int64_t monotonic_ms(void); /* for timers and durations */

#endif
