#include "fs/base/mem.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void out_of_memory(void)
{
	static const char msg[] = "rebarfs: out of memory\n";
	(void)!write(STDERR_FILENO, msg, sizeof msg - 1);
	abort();
}

static void *must(void *p)
{
	if (!p)
		out_of_memory();
	return p;
}

void *xmalloc(size_t size)
{
	return must(malloc(size ? size : 1));
}

void *xcalloc(size_t n, size_t size)
{
	return must(calloc(n ? n : 1, size ? size : 1));
}

void *xrealloc(void *p, size_t size)
{
	return must(realloc(p, size ? size : 1));
}

void *xreallocarray(void *p, size_t n, size_t size)
{
	return must(reallocarray(p, n ? n : 1, size ? size : 1));
}

char *xstrdup(const char *s)
{
	return s ? must(strdup(s)) : NULL;
}

char *xstrndup(const char *s, size_t n)
{
	return must(strndup(s, n));
}

void *xmemdup(const void *p, size_t size)
{
	void *copy = xmalloc(size);
	return size ? memcpy(copy, p, size) : copy; /* NULL of no bytes is fine here, not for memcpy */
}

char *xasprintf(const char *fmt, ...)
{
	char *s;
	va_list ap;
	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	va_end(ap);
	return must(s);
}

void str_replace(char **p, const char *s)
{
	char *copy = xstrdup(s); /* s may point into *p */
	free(*p);
	*p = copy;
}
