/* Node sets: "r1-[01-03,7]" -> r1-01 r1-02 r1-03 r1-7, and back. */
#include "fs/base/mem.h"
#include "fs/desired/desired.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NAMES_MAX 100000
#define DIGITS_MAX 9
#define NAME_BYTES 253 /* of a host name */

struct expansion {
	const char *set; /* the whole item, for sentences */
	struct strlist *out;
	struct err **err;
};

static int bad_set(struct expansion *x, const char *why)
{
	return err_set(x->err, EINVAL, "'%.100s' is not a node set: %s", x->set, why);
}

static int add_name(struct expansion *x, const char *name)
{
	if (x->out->n >= NAMES_MAX)
		return err_set(x->err, ERANGE, "'%.100s' makes more than %d names", x->set, NAMES_MAX);
	if (strlen(name) > NAME_BYTES)
		return bad_set(x, "a name in it is longer than 253 bytes");
	strlist_add(x->out, name);
	return 0;
}

/* Digits at *p; *width: how many, if they begin with a zero that must be kept, else 0. */
static bool read_number(const char **p, long *ret, int *width)
{
	size_t n = strspn(*p, "0123456789");
	if (n < 1 || n > DIGITS_MAX)
		return false;
	*ret = strtol(*p, NULL, 10);
	*width = n > 1 && **p == '0' ? (int)n : 0;
	*p += n;
	return true;
}

static int expand_from(struct expansion *x, struct buf *name, const char *rest);

static int expand_range(struct expansion *x, struct buf *name, long from, long to, int width, const char *rest)
{
	size_t len = name->len;
	int rc = 0;
	for (long i = from; !rc && i <= to; i++) {
		buf_addf(name, "%0*ld", width, i);
		rc = expand_from(x, name, rest);
		name->len = len;
		name->data[len] = 0;
	}
	return rc;
}

/* p stands behind a '['. */
static int expand_brackets(struct expansion *x, struct buf *name, const char *p)
{
	const char *close = strchr(p, ']');
	if (!close)
		return bad_set(x, "there is no ']'");
	buf_adds(name, ""); /* so that it has data to be cut back to */
	for (;;) {
		long from, to;
		int width, width_to;
		p += strspn(p, " ");
		if (!read_number(&p, &from, &width))
			return bad_set(x, "between [ and ] stand numbers of at most 9 digits and ranges, [01-03,7]");
		to = from;
		if (*p == '-') {
			p++;
			if (!read_number(&p, &to, &width_to))
				return bad_set(x, "a range has a number of at most 9 digits on both sides, [01-03]");
			width = width_to > width ? width_to : width;
		}
		if (to < from)
			return bad_set(x, "a range runs from the smaller number to the larger");
		int rc = expand_range(x, name, from, to, width, close + 1);
		if (rc < 0)
			return rc;
		p += strspn(p, " ");
		if (p == close)
			return 0;
		if (*p++ != ',')
			return bad_set(x, "between [ and ] stand numbers and ranges, [01-03,7]");
	}
}

static int expand_from(struct expansion *x, struct buf *name, const char *rest)
{
	size_t n = strcspn(rest, "[]");
	buf_add(name, rest, n);
	if (rest[n] == ']')
		return bad_set(x, "there is a ']' without '['");
	if (rest[n] == '[')
		return expand_brackets(x, name, rest + n + 1);
	return add_name(x, buf_str(name));
}

int node_set_expand(const char *text, struct strlist *out, struct err **err)
{
	_cleanup_strlist_ struct strlist items = {0};
	strlist_split(&items, text);
	int rc = 0;
	for (size_t i = 0; !rc && i < items.n; i++) {
		struct expansion x = {items.items[i], out, err};
		_cleanup_buf_ struct buf name = {0};
		rc = expand_from(&x, &name, items.items[i]);
	}
	return rc;
}

/* ---- folding ---- */

struct numbered {
	const char *name;
	size_t prefix; /* bytes before the number at its end */
	long number;   /* -1: no number */
	int width;     /* as in read_number() */
};

static struct numbered split_name(const char *name)
{
	size_t len = strlen(name), at = len;
	while (at > 0 && name[at - 1] >= '0' && name[at - 1] <= '9')
		at--;
	struct numbered r = {name, at, -1, 0};
	const char *p = name + at;
	if (at == len || len - at > DIGITS_MAX || !read_number(&p, &r.number, &r.width))
		r.prefix = len;
	return r;
}

static int by_number(const void *a, const void *b)
{
	const struct numbered *x = a, *y = b;
	size_t shorter = x->prefix < y->prefix ? x->prefix : y->prefix;
	int c = strncmp(x->name, y->name, shorter);
	if (c || x->prefix != y->prefix)
		return c ? c : x->prefix < y->prefix ? -1 : 1;
	return x->number != y->number ? (x->number < y->number ? -1 : 1) : x->width - y->width;
}

/* Is b the name that a range which began with width writes behind a? */
static bool follows(const struct numbered *a, const struct numbered *b, int width)
{
	char digits[32];
	if (a->number < 0 || b->number != a->number + 1 || a->prefix != b->prefix || strncmp(a->name, b->name, a->prefix))
		return false;
	snprintf(digits, sizeof digits, "%0*ld", width, b->number);
	return !strcmp(digits, b->name + b->prefix);
}

static bool same_prefix(const struct numbered *a, const struct numbered *b)
{
	return a->number >= 0 && b->number >= 0 && a->prefix == b->prefix && !strncmp(a->name, b->name, a->prefix);
}

static void fold_prefix(const struct numbered *names, size_t n, struct buf *out)
{
	if (n == 1) {
		buf_adds(out, names[0].name);
		return;
	}
	buf_add(out, names[0].name, names[0].prefix);
	buf_addc(out, '[');
	for (size_t i = 0; i < n;) {
		size_t last = i;
		while (last + 1 < n && follows(&names[last], &names[last + 1], names[i].width))
			last++;
		buf_addf(out, "%s%s", i ? "," : "", names[i].name + names[i].prefix);
		if (last > i)
			buf_addf(out, "-%s", names[last].name + names[last].prefix);
		i = last + 1;
	}
	buf_addc(out, ']');
}

void node_set_fold(const struct strlist *names, struct buf *out)
{
	struct numbered *all = xcalloc(names->n + 1, sizeof *all);
	for (size_t i = 0; i < names->n; i++)
		all[i] = split_name(names->items[i]);
	if (names->n)
		qsort(all, names->n, sizeof *all, by_number);
	for (size_t i = 0; i < names->n;) {
		size_t n = 1;
		while (i + n < names->n && same_prefix(&all[i], &all[i + n]))
			n++;
		buf_adds(out, i ? "," : "");
		fold_prefix(&all[i], n, out);
		i += n;
	}
	free(all);
}
