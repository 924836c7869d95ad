/* What the host knows about package mirrors, for the trees of nodes. */
#include "providers/image/image.h"

#include "fs/base/io.h"
#include "fs/base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define SOURCES_MAX (1 << 20)

/* One entry, before it is multiplied out into lines. */
struct entry {
	bool deb, enabled;
	struct strlist uris, suites, components;
	char *signed_by; /* a path; NULL: none, or a key written in the file itself */
};

static void entry_release(struct entry *e)
{
	strlist_release(&e->uris);
	strlist_release(&e->suites);
	strlist_release(&e->components);
	free(e->signed_by);
	*e = (struct entry){.enabled = true};
}

static void add_words(struct strlist *l, const char *text)
{
	_cleanup_free_ char *copy = xstrdup(text);
	char *save = NULL;

	for (char *w = strtok_r(copy, " \t\r\n", &save); w; w = strtok_r(NULL, " \t\r\n", &save))
		strlist_add(l, w);
}

/* What follows the suite's name in "bookworm-updates"; NULL if text is not a suite called name. Backports are left out: they are opt-in. */
static const char *suite_suffix(const char *text, const char *name)
{
	static const char *const suffixes[] = {"", "-updates", "-security", "/updates"};
	size_t len = strlen(name);

	if (strncmp(text, name, len))
		return NULL;
	for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++)
		if (!strcmp(text + len, suffixes[i]))
			return suffixes[i];
	return NULL;
}

/* The suffix if text names the host's own suite, by codename or by alias. */
static const char *host_suffix(const char *text, const char *codename)
{
	static const char *const aliases[] = {"oldstable", "stable", "testing", "unstable"};
	const char *suffix = codename ? suite_suffix(text, codename) : NULL;

	for (size_t i = 0; !suffix && i < sizeof aliases / sizeof *aliases; i++)
		suffix = suite_suffix(text, aliases[i]);
	return suffix;
}

static void emit(const struct entry *e, const char *uri, const char *suite, const char *suffix, struct strlist *lines)
{
	_cleanup_buf_ struct buf b = {0};

	buf_adds(&b, "deb ");
	if (e->signed_by)
		buf_addf(&b, "[signed-by=%s] ", e->signed_by);
	buf_addf(&b, "%s %s%s", uri, suite, suffix);
	for (size_t i = 0; i < e->components.n; i++)
		buf_addf(&b, " %s", e->components.items[i]);
	if (!strlist_has(lines, buf_str(&b)))
		strlist_add(lines, buf_str(&b));
}

static void entry_done(struct entry *e, const char *suite, const char *codename, struct strlist *verbatim, struct strlist *rewritten)
{
	bool useful = e->deb && e->enabled && strlist_has(&e->components, "main");

	for (size_t u = 0; useful && u < e->uris.n; u++) {
		const char *uri = e->uris.items[u];
		/* cdrom: and file: mean nothing inside a tree */
		if (strncmp(uri, "http://", 7) && strncmp(uri, "https://", 8))
			continue;
		for (size_t s = 0; s < e->suites.n; s++) {
			const char *suffix = suite_suffix(e->suites.items[s], suite);
			if (suffix)
				emit(e, uri, suite, suffix, verbatim);
			else if ((suffix = host_suffix(e->suites.items[s], codename)))
				emit(e, uri, suite, suffix, codename && !strcmp(codename, suite) ? verbatim : rewritten);
		}
	}
	entry_release(e);
}

static void field(struct entry *e, const char *name, const char *value)
{
	bool yes = true;

	if (!strcasecmp(name, "Types")) {
		_cleanup_strlist_ struct strlist types = {0};
		add_words(&types, value);
		e->deb = strlist_has(&types, "deb");
	} else if (!strcasecmp(name, "URIs")) {
		add_words(&e->uris, value);
	} else if (!strcasecmp(name, "Suites")) {
		add_words(&e->suites, value);
	} else if (!strcasecmp(name, "Components")) {
		add_words(&e->components, value);
	} else if (!strcasecmp(name, "Enabled")) {
		e->enabled = parse_bool(value, &yes, NULL) < 0 || yes;
	} else if (!strcasecmp(name, "Signed-By") && value[0] == '/' && !strpbrk(value, " \t\n")) {
		str_replace(&e->signed_by, value);
	}
}

static char *trim(char *s)
{
	size_t n;

	s += strspn(s, " \t\r");
	n = strlen(s);
	while (n && strchr(" \t\r\n", s[n - 1]))
		s[--n] = '\0';
	return s;
}

static void parse_deb822(char *text, const char *suite, const char *codename, struct strlist *verbatim, struct strlist *rewritten)
{
	struct entry e = {.enabled = true};
	_cleanup_free_ char *name = NULL;
	struct buf value = {0};
	char *next;

	for (char *line = text; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (line[0] == '#')
			continue;
		if (name && (line[0] == ' ' || line[0] == '\t')) {
			buf_addf(&value, "\n%s", line);
			continue;
		}
		if (name)
			field(&e, name, buf_str(&value));
		str_replace(&name, NULL);
		buf_reset(&value);
		line = trim(line);
		char *colon = strchr(line, ':');
		if (!*line) {
			entry_done(&e, suite, codename, verbatim, rewritten);
		} else if (colon) {
			*colon = '\0';
			str_replace(&name, trim(line));
			buf_adds(&value, trim(colon + 1));
		}
	}
	if (name)
		field(&e, name, buf_str(&value));
	buf_release(&value);
	entry_done(&e, suite, codename, verbatim, rewritten);
}

static void parse_line(char *line, const char *suite, const char *codename, struct strlist *verbatim, struct strlist *rewritten)
{
	struct entry e = {.enabled = true};
	char *hash = strchr(line, '#'), *options = NULL;

	if (hash)
		*hash = '\0';
	line = trim(line);
	if (strncmp(line, "deb", 3) || !strchr(" \t", line[3]))
		return;
	line = trim(line + 3);
	if (*line == '[') {
		char *end = strchr(line, ']');
		if (!end)
			return;
		*end = '\0';
		options = line + 1;
		line = trim(end + 1);
	}
	_cleanup_strlist_ struct strlist words = {0};
	add_words(&words, line);
	if (options) {
		_cleanup_strlist_ struct strlist opts = {0};
		add_words(&opts, options);
		for (size_t i = 0; i < opts.n; i++)
			if (!strncasecmp(opts.items[i], "signed-by=", 10))
				field(&e, "Signed-By", opts.items[i] + 10);
	}
	e.deb = true;
	for (size_t i = 0; i < words.n; i++)
		strlist_add(i == 0 ? &e.uris : i == 1 ? &e.suites : &e.components, words.items[i]);
	entry_done(&e, suite, codename, verbatim, rewritten);
}

void apt_sources_parse(const char *text, bool deb822, const char *suite, const char *codename, struct strlist *verbatim, struct strlist *rewritten)
{
	_cleanup_free_ char *copy = xstrdup(text);
	char *save = NULL;

	if (deb822) {
		parse_deb822(copy, suite, codename, verbatim, rewritten);
		return;
	}
	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		parse_line(line, suite, codename, verbatim, rewritten);
}

/* VERSION_CODENAME of /etc/os-release, NULL if there is none. */
static char *host_codename(void)
{
	_cleanup_buf_ struct buf b = {0};
	const char *at;

	if (file_read(AT_FDCWD, "/etc/os-release", SOURCES_MAX, &b, NULL) < 0)
		return NULL;
	at = strstr(buf_str(&b), "VERSION_CODENAME=");
	if (!at)
		return NULL;
	at += strlen("VERSION_CODENAME=");
	at += *at == '"';
	return xstrndup(at, strcspn(at, "\"\n"));
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && !strcmp(s + n - m, end);
}

void apt_sources_host(const char *suite, struct buf *out)
{
	_cleanup_free_ char *codename = host_codename();
	_cleanup_strlist_ struct strlist files = {0}, verbatim = {0}, rewritten = {0};
	DIR *dir = opendir("/etc/apt/sources.list.d");

	for (struct dirent *d; dir && (d = readdir(dir));)
		if (ends_with(d->d_name, ".list") || ends_with(d->d_name, ".sources"))
			strlist_add_take(&files, path_join("/etc/apt/sources.list.d", d->d_name));
	if (dir)
		closedir(dir);
	strlist_add(&files, "/etc/apt/sources.list");
	strlist_sort(&files);
	for (size_t i = 0; i < files.n; i++) {
		_cleanup_buf_ struct buf b = {0};
		if (file_read(AT_FDCWD, files.items[i], SOURCES_MAX, &b, NULL) == 0)
			apt_sources_parse(buf_str(&b), ends_with(files.items[i], ".sources"), suite, codename, &verbatim, &rewritten);
	}
	const struct strlist *use = verbatim.n ? &verbatim : &rewritten;
	for (size_t i = 0; i < use->n; i++)
		buf_addf(out, "%s\n", use->items[i]);
}

void apt_keyrings(const char *lines, struct strlist *ret)
{
	for (const char *at = lines; (at = strstr(at, "[signed-by="));) {
		at += strlen("[signed-by=");
		_cleanup_free_ char *path = xstrndup(at, strcspn(at, "]"));
		if (!strlist_has(ret, path))
			strlist_add(ret, path);
	}
}

static bool wanted_option(const char *line)
{
	static const char *const names[] = {"Acquire::Check-Valid-Until ", "Acquire::Check-Date "};
	const char *space = strchr(line, ' ');

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strncasecmp(line, names[i], strlen(names[i])))
			return true;
	if (!space || strncasecmp(line, "Acquire::http", 13))
		return false;
	/* Acquire::http::Proxy "...", Acquire::https::Proxy::HOST "DIRECT" */
	const char *proxy = strcasestr(line, "::Proxy");
	return proxy && proxy < space && strcmp(space, " \"\";");
}

void apt_config_lines(const char *dump, const char *gateway, struct buf *out)
{
	_cleanup_free_ char *copy = xstrdup(dump);
	char *save = NULL;

	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		static const char *const loopbacks[] = {"://localhost", "://127.0.0.1"};
		bool done = false;
		if (!wanted_option(line))
			continue;
		for (size_t i = 0; gateway && !done && i < sizeof loopbacks / sizeof *loopbacks; i++) {
			char *at = strstr(line, loopbacks[i]);
			size_t len = strlen(loopbacks[i]);
			if (at && strchr(":/\"", at[len])) {
				buf_addf(out, "%.*s://%s%s\n", (int)(at - line), line, gateway, at + len);
				done = true;
			}
		}
		if (!done)
			buf_addf(out, "%s\n", line);
	}
}
