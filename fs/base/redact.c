#include "fs/base/redact.h"
#include "fs/base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <utlist.h>

#define BUCKETS 1024
#define LINE_MIN 8   /* shorter lines of a long value are likely to be no secret by themselves */
#define BASE64_MIN 8 /* characters of it: fewer come up by chance */
#define FILE_CHUNK (1 << 16)

/* A text to be found. By its first REDACT_MIN bytes it stands in a bucket, so that a search costs what the text is long, however many there are. */
struct needle {
	struct needle *prev, *next;
	size_t len, refs;
	char text[];
};
struct redactor {
	pthread_mutex_t lock;
	struct needle *buckets[BUCKETS];
	size_t n;
};

static size_t bucket_of(const char *text)
{
	uint32_t first;
	memcpy(&first, text, sizeof first);
	return (first * 2654435761u) >> 22;
}
_Static_assert(REDACT_MIN == sizeof(uint32_t) && BUCKETS == 1 << 10, "bucket_of counts on both");

struct redactor *redactor_new(void)
{
	struct redactor *r = xcalloc(1, sizeof *r);
	pthread_mutex_init(&r->lock, NULL);
	return r;
}

static void needle_free(struct needle *n)
{
	explicit_bzero(n->text, n->len);
	free(n);
}

void redactor_free(struct redactor *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < BUCKETS; i++) {
		struct needle *n, *next;
		DL_FOREACH_SAFE(r->buckets[i], n, next)
		{
			needle_free(n);
		}
	}
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* ---- what a value looks like elsewhere ---- */

typedef void needle_fn(struct redactor *r, const char *text, size_t len);

static void needle_put(struct redactor *r, const char *text, size_t len)
{
	if (len < REDACT_MIN)
		return;
	struct needle **bucket = &r->buckets[bucket_of(text)], *n;
	DL_FOREACH(*bucket, n)
	{
		if (n->len == len && !memcmp(n->text, text, len)) {
			n->refs++;
			return;
		}
	}
	n = xmalloc(sizeof *n + len);
	*n = (struct needle){.len = len, .refs = 1};
	memcpy(n->text, text, len);
	DL_APPEND(*bucket, n);
	r->n++;
}

static void needle_take(struct redactor *r, const char *text, size_t len)
{
	if (len < REDACT_MIN)
		return;
	struct needle **bucket = &r->buckets[bucket_of(text)], *n;
	DL_FOREACH(*bucket, n)
	{
		if (n->len == len && !memcmp(n->text, text, len)) {
			if (--n->refs == 0) {
				DL_DELETE(*bucket, n);
				needle_free(n);
				r->n--;
			}
			return;
		}
	}
}

static void as_json(struct redactor *r, needle_fn *fn, const char *value, size_t len, size_t flags)
{
	json_t *j = json_stringn_nocheck(value, len);
	char *text = json_dumps(j, JSON_ENCODE_ANY | flags);
	size_t n = text ? strlen(text) : 0;
	if (n > 2 && (n - 2 != len || memcmp(text + 1, value, len)))
		fn(r, text + 1, n - 2);
	if (text)
		explicit_bzero(text, n);
	free(text);
	json_decref(j);
}

/* it's -> it'\''s */
static void as_shell(struct redactor *r, needle_fn *fn, const char *value, size_t len)
{
	_cleanup_buf_ struct buf b = {.secret = true};
	for (size_t i = 0; i < len; i++)
		buf_add(&b, value[i] == '\'' ? "'\\''" : value + i, value[i] == '\'' ? 4 : 1);
	if (b.len != len)
		fn(r, b.data, b.len);
}

static void as_url(struct redactor *r, needle_fn *fn, const char *value, size_t len)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~";
	_cleanup_buf_ struct buf b = {.secret = true};
	for (size_t i = 0; i < len; i++)
		if (memchr(plain, value[i], sizeof plain - 1))
			buf_addc(&b, value[i]);
		else
			buf_addf(&b, "%%%02X", (unsigned char)value[i]);
	if (b.len != len)
		fn(r, b.data, b.len);
}

/* Inside a longer text that is encoded the value may stand at any of three offsets; only characters made of nothing but its bytes are sure. */
static void as_base64(struct redactor *r, needle_fn *fn, const char *value, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	for (size_t before = 0; before < 3; before++) {
		_cleanup_buf_ struct buf b = {.secret = true};
		size_t first = (before * 8 + 5) / 6, last = (before + len) * 8 / 6; /* characters [first, last) */
		for (size_t c = first; c < last; c++) {
			size_t bit = c * 6, at = bit / 8 - before;
			unsigned two = (unsigned)(unsigned char)value[at] << 8 | (at + 1 < len ? (unsigned char)value[at + 1] : 0);
			buf_addc(&b, digits[two >> (10 - bit % 8) & 63]);
		}
		if (b.len >= BASE64_MIN)
			fn(r, b.data, b.len);
	}
}

/* Of a key in many lines every one tells something; the line that says what it is does not. */
static void as_lines(struct redactor *r, needle_fn *fn, const char *value, size_t len)
{
	if (!memchr(value, '\n', len))
		return;
	for (const char *p = value, *end = value + len; p < end;) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = nl ? (size_t)(nl - p) : (size_t)(end - p);
		if (n >= LINE_MIN && memcmp(p, "-----", 5) != 0)
			fn(r, p, n);
		p += n + 1;
	}
}

static void each_form(struct redactor *r, needle_fn *fn, const char *value, size_t len)
{
	if (len < REDACT_MIN)
		return;
	pthread_mutex_lock(&r->lock);
	fn(r, value, len);
	as_json(r, fn, value, len, 0);
	as_json(r, fn, value, len, JSON_ENSURE_ASCII);
	as_shell(r, fn, value, len);
	as_url(r, fn, value, len);
	as_base64(r, fn, value, len);
	as_lines(r, fn, value, len);
	pthread_mutex_unlock(&r->lock);
}

void redactor_add(struct redactor *r, const char *value, size_t len)
{
	each_form(r, needle_put, value, len);
}

void redactor_remove(struct redactor *r, const char *value, size_t len)
{
	each_form(r, needle_take, value, len);
}

/* ---- the search ---- */

/* The longest needle that stands at text; 0: none. *ret_begun: a longer one may, if the text went on. */
static size_t match(const struct redactor *r, const char *text, size_t len, bool *ret_begun)
{
	const struct needle *n;
	size_t best = 0;
	if (len >= REDACT_MIN) {
		DL_FOREACH(r->buckets[bucket_of(text)], n)
		{
			size_t both = n->len < len ? n->len : len;
			if (both <= best || memcmp(n->text, text, both) != 0)
				continue;
			if (n->len > len)
				*ret_begun = true;
			else
				best = n->len;
		}
		return best;
	}
	for (size_t i = 0; i < BUCKETS && !*ret_begun; i++)
		DL_FOREACH(r->buckets[i], n)
	if (!memcmp(n->text, text, len))
		*ret_begun = true;
	return 0;
}

/* Covers what is certain of text and returns how much that is; all of it if it is the end. *covered as in a stream. */
static size_t cover(const struct redactor *r, char *text, size_t len, bool at_end, size_t *covered)
{
	size_t i = 0, until = *covered;
	if (!r->n && !until)
		return len;
	for (; i < len; i++) {
		bool begun = false;
		size_t n = match(r, text + i, len - i, &begun);
		if (begun && !at_end)
			break;
		if (i + n > until)
			until = i + n;
		if (i < until)
			text[i] = '*';
	}
	*covered = until > i ? until - i : 0;
	return i;
}

void redact(struct redactor *r, char *text, size_t len)
{
	size_t covered = 0;
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	cover(r, text, len, true, &covered);
	pthread_mutex_unlock(&r->lock);
}

static void stream(struct redactor *r, struct redact_stream *s, bool at_end, struct buf *out)
{
	if (!s->held.len)
		return;
	pthread_mutex_lock(&r->lock);
	size_t n = cover(r, s->held.data, s->held.len, at_end, &s->covered);
	pthread_mutex_unlock(&r->lock);
	buf_add(out, s->held.data, n);
	size_t rest = s->held.len - n;
	memmove(s->held.data, s->held.data + n, rest + 1);
	explicit_bzero(s->held.data + rest + 1, n);
	s->held.len = rest;
}

void redact_add(struct redactor *r, struct redact_stream *s, const char *data, size_t len, struct buf *out)
{
	if (!r) {
		buf_add(out, data, len);
		return;
	}
	s->held.secret = true;
	buf_add(&s->held, data, len);
	stream(r, s, false, out);
}

void redact_end(struct redactor *r, struct redact_stream *s, struct buf *out)
{
	if (r)
		stream(r, s, true, out);
	redact_release(s);
}

void redact_release(struct redact_stream *s)
{
	buf_release(&s->held);
	s->covered = 0;
}

static int file_pass(struct redactor *r, int fd)
{
	char *data = xmalloc(FILE_CHUNK);
	struct redact_stream s = {0};
	_cleanup_buf_ struct buf out = {.secret = true};
	off_t from = 0, to = 0;
	ssize_t n;
	int rc = 0;
	do {
		n = pread(fd, data, FILE_CHUNK, from);
		if (n > 0)
			redact_add(r, &s, data, (size_t)n, &out);
		else
			redact_end(r, &s, &out);
		from += n > 0 ? n : 0;
		ssize_t written = out.len ? pwrite(fd, out.data, out.len, to) : 0;
		if (n < 0 || written != (ssize_t)out.len)
			rc = n < 0 || written < 0 ? -errno : -EIO;
		to += (off_t)out.len;
		buf_reset(&out);
	} while (n > 0 && !rc);
	redact_release(&s);
	explicit_bzero(data, FILE_CHUNK);
	free(data);
	return rc;
}

int redact_file(struct redactor *r, const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	int rc = file_pass(r, fd);
	close(fd);
	return rc;
}
