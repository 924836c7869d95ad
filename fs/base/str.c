#include "fs/base/str.h"
#include "fs/base/mem.h"
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <time.h>

/* ---- lists ---- */

void strlist_add_take(struct strlist *l, char *s)
{
	if (l->n + 2 > l->cap) {
		l->cap = l->cap ? l->cap * 2 : 8;
		l->items = xreallocarray(l->items, l->cap, sizeof *l->items);
	}
	l->items[l->n++] = s;
	l->items[l->n] = NULL;
}

void strlist_add(struct strlist *l, const char *s)
{
	strlist_add_take(l, xstrdup(s));
}

void strlist_release(struct strlist *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->items[i]);
	free(l->items);
	*l = (struct strlist){0};
}

bool strlist_has(const struct strlist *l, const char *s)
{
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->items[i], s))
			return true;
	return false;
}

static int cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void strlist_sort(struct strlist *l)
{
	if (l->n)
		qsort(l->items, l->n, sizeof *l->items, cmp);
}

static void add_trimmed(struct strlist *l, const char *from, const char *to)
{
	while (from < to && isspace((unsigned char)*from))
		from++;
	while (to > from && isspace((unsigned char)to[-1]))
		to--;
	if (to > from)
		strlist_add_take(l, xstrndup(from, (size_t)(to - from)));
}

void strlist_split(struct strlist *l, const char *text)
{
	const char *start = text;
	int depth = 0;
	for (const char *p = text;; p++) {
		if (*p == '[')
			depth++;
		else if (*p == ']' && depth)
			depth--;
		if (!*p || *p == '\n' || (*p == ',' && !depth)) {
			add_trimmed(l, start, p);
			start = p + 1;
		}
		if (!*p)
			return;
	}
}

void strlist_join(const struct strlist *l, const char *sep, struct buf *out)
{
	for (size_t i = 0; i < l->n; i++) {
		if (i)
			buf_adds(out, sep);
		buf_adds(out, l->items[i]);
	}
}

/* ---- did you mean ---- */

#define WORD_MAX 64

/* Damerau-Levenshtein (adjacent transpositions): a typo is most often one of these four. */
static size_t distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	size_t d[3][WORD_MAX + 1];
	if (la > WORD_MAX || lb > WORD_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= lb; j++)
		d[0][j] = j;
	for (size_t i = 1; i <= la; i++) {
		size_t *now = d[i % 3], *last = d[(i + 2) % 3], *before = d[(i + 1) % 3];
		now[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			size_t best = last[j - 1] + (a[i - 1] != b[j - 1]);
			if (last[j] + 1 < best)
				best = last[j] + 1;
			if (now[j - 1] + 1 < best)
				best = now[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
				best = before[j - 2] + 1;
			now[j] = best;
		}
	}
	return d[la % 3][lb];
}

const char *str_suggest(const char *word, const char *const *candidates, size_t n)
{
	const char *best = NULL;
	size_t len = strlen(word), best_distance = len > 3 ? len / 3 + 1 : 1;
	for (size_t i = 0; i < n; i++) {
		size_t dist = candidates[i] ? distance(word, candidates[i]) : SIZE_MAX;
		/* everything replaced is no resemblance */
		if (dist <= best_distance && dist < strlen(candidates[i]) && (!best || dist < best_distance)) {
			best = candidates[i];
			best_distance = dist;
		}
	}
	return best;
}

/* ---- values ---- */

int parse_int(const char *text, int64_t *ret, struct err **err)
{
	const char *p = text + (*text == '-' || *text == '+');
	char *end;
	if (!isdigit((unsigned char)*p))
		return err_set(err, EINVAL, "must be a whole number, not '%s'", text);
	errno = 0;
	long long v = strtoll(text, &end, 10);
	if (*end)
		return err_set(err, EINVAL, "must be a whole number, not '%s'", text);
	if (errno == ERANGE)
		return err_set(err, ERANGE, "'%s' is too %s", text, v < 0 ? "small" : "large");
	*ret = v;
	return 0;
}

int parse_size(const char *text, int64_t *ret_bytes, struct err **err)
{
	static const char units[] = "KMGT";
	char *end;
	int shift = 0;
	if (!isdigit((unsigned char)*text))
		return err_set(err, EINVAL, "must be a size such as 512M or 2G, not '%s'", text);
	errno = 0;
	unsigned long long v = strtoull(text, &end, 10);
	const char *u = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
	if (u) {
		shift = 10 * (int)(u - units + 1);
		end++;
		if (!strcasecmp(end, "iB") || !strcasecmp(end, "B"))
			end = "";
	} else if (!strcasecmp(end, "B")) {
		end = "";
	}
	if (*end)
		return err_set(err, EINVAL, "must be a size such as 512M or 2G, not '%s'", text);
	if (errno == ERANGE || v > (unsigned long long)INT64_MAX >> shift)
		return err_set(err, ERANGE, "size '%s' is too large", text);
	*ret_bytes = (int64_t)(v << shift);
	return 0;
}

int parse_duration(const char *text, int64_t *ret_ms, struct err **err)
{
	static const struct {
		const char *name;
		int64_t ms;
	} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"min", 60000}, {"h", 3600000}, {"d", 86400000}};
	int64_t sum = 0, last = INT64_MAX;
	const char *p = text;
	do {
		char *end;
		if (!isdigit((unsigned char)*p))
			return err_set(err, EINVAL, "must be a duration such as 300ms, 10s, 5m or 1h30m, not '%s'", text);
		errno = 0;
		unsigned long long v = strtoull(p, &end, 10);
		size_t len = strspn(end, "abcdefghijklmnopqrstuvwxyz");
		int64_t unit = *end || p != text ? 0 : 1000; /* a bare number is seconds */
		for (size_t i = 0; i < sizeof units / sizeof *units; i++)
			if (len == strlen(units[i].name) && !strncmp(end, units[i].name, len))
				unit = units[i].ms;
		if (!unit || unit >= last)
			return err_set(err, EINVAL, "must be a duration such as 300ms, 10s, 5m or 1h30m, not '%s'", text);
		int64_t add;
		if (errno == ERANGE || v > INT64_MAX || __builtin_mul_overflow((int64_t)v, unit, &add) || __builtin_add_overflow(sum, add, &sum))
			return err_set(err, ERANGE, "duration '%s' is too long", text);
		last = unit;
		p = end + len;
	} while (*p);
	*ret_ms = sum;
	return 0;
}

int parse_bool(const char *text, bool *ret, struct err **err)
{
	static const char *const yes[] = {"yes", "true", "on", "1"}, *const no[] = {"no", "false", "off", "0"};
	for (size_t i = 0; i < 4; i++) {
		if (!strcasecmp(text, yes[i]) || !strcasecmp(text, no[i])) {
			*ret = !strcasecmp(text, yes[i]);
			return 0;
		}
	}
	return err_set(err, EINVAL, "must be yes or no, not '%s'", text);
}

/* ---- for people ---- */

void format_duration(struct buf *out, int64_t ms)
{
	int64_t s = (ms + 500) / 1000;
	if (ms < 9950)
		buf_addf(out, "%.1f s", (double)ms / 1000);
	else if (s < 60)
		buf_addf(out, "%lld s", (long long)s);
	else if (s < 3600)
		buf_addf(out, "%lld min %lld s", (long long)(s / 60), (long long)(s % 60));
	else if (s < 86400)
		buf_addf(out, "%lld h %lld min", (long long)(s / 3600), (long long)(s / 60 % 60));
	else
		buf_addf(out, "%lld d %lld h", (long long)(s / 86400), (long long)(s / 3600 % 24));
}

void format_size(struct buf *out, int64_t bytes)
{
	static const char units[] = "TGMK";
	for (int i = 0; i < 4; i++) {
		int64_t unit = (int64_t)1 << (10 * (4 - i));
		if (bytes >= unit && bytes % unit == 0) {
			buf_addf(out, "%lld%c", (long long)(bytes / unit), units[i]);
			return;
		}
	}
	buf_addf(out, "%lld", (long long)bytes);
}

void format_time(struct buf *out, int64_t unix_ms)
{
	time_t t = (time_t)(unix_ms / 1000);
	struct tm tm = {0}; /* stays so for a year that does not fit */
	char text[32] = "";
	gmtime_r(&t, &tm);
	strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
	buf_adds(out, text);
}

size_t utf8_length(const char *text, size_t left)
{
	const unsigned char *s = (const unsigned char *)text;
	if (s[0] < 0x80)
		return 1;
	size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	if (s[0] < 0xc2 || s[0] > 0xf4 || n > left)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

void str_make_line(char *s)
{
	for (size_t left = strlen(s), n; left; s += n, left -= n) {
		n = utf8_length(s, left);
		if (!n || (unsigned char)*s < 0x20 || *s == 0x7f) {
			*s = '?';
			n = 1;
		}
	}
}

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); /* in every locale */
}

int check_name(const char *name, struct err **err)
{
	size_t len = strlen(name), ok = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");
	if (len == 0 || len > 63 || ok != len || name[0] == '-' || name[len - 1] == '-')
		return err_set(err, EINVAL, "'%s' is not a name: use a-z, 0-9 and '-', 1 to 63 characters, no '-' at the ends", name);
	return 0;
}

int check_word(const char *name, const char *marks, struct err **err)
{
	size_t len = strlen(name);
	bool ok = len > 0 && len <= 63 && is_alnum(name[0]) && is_alnum(name[len - 1]);
	for (size_t i = 0; ok && i < len; i++)
		ok = is_alnum(name[i]) || strchr(marks, name[i]);
	if (ok)
		return 0;
	_cleanup_buf_ struct buf list = {0};
	for (size_t i = 0; marks[i]; i++)
		buf_addf(&list, "%s'%c'", !i ? "" : marks[i + 1] ? ", " : " and ", marks[i]);
	return err_set(
	        err, EINVAL, "'%s' is not a name: use a-z, A-Z, 0-9, %s, 1 to 63 characters, a letter or digit at the ends", name, buf_str(&list));
}

static int64_t clock_ms(clockid_t clock)
{
	struct timespec ts;
	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t now_ms(void)
{
	return clock_ms(CLOCK_REALTIME);
}

int64_t monotonic_ms(void)
{
	return clock_ms(CLOCK_MONOTONIC);
}
