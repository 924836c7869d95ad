/* What is committed: whether what was read of a repo is what HEAD's tree has.
 *
 * git is asked for the names and hashes of a commit's files, once for each commit, by 'ls-tree', which needs neither index nor work tree. Whether a
 * file is one of them is seen from the bytes that were read: nothing can change between the reading and the question, and an edit costs no process.
 * Where git converts files at checkout (end of line, filters) the bytes differ, and they count as not committed. */
#include "fs/base/child.h"
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "fs/desired/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <uthash.h>

#define GIT_TIMEOUT_MS 10000 /* a daemon that ends waits for it, too */
#define ASK_AGAIN_MS 60000   /* after a git that failed or hung */
#define MODULES_DEEP 8
#define LINKS_MAX 40

struct entry {
	char *path; /* relative to the repo */
	char kind;  /* as in content_entry; 'm': a submodule, whose files follow if they are here */
	struct hash id;
};
struct known { /* the id of a file whose SHA-256 is known: contents of roles are not in memory */
	struct hash hash, id;
	bool used;
	UT_hash_handle hh;
};
struct committed {
	char *commit;          /* whose files these are; NULL: none yet */
	struct entry *entries; /* by path */
	size_t n, cap;
	bool sha256;
	char *trouble; /* why git could not be asked about commit */
	int64_t asked; /* monotonic */
	struct known *known;
};

/* ---- asking git ---- */

static char kind_of(const char *mode)
{
	return !strncmp(mode, "100755", 6)   ? 'x'
	       : !strncmp(mode, "100", 3)    ? 'f'
	       : !strncmp(mode, "120000", 6) ? 'l'
	       : !strncmp(mode, "160000", 6) ? 'm'
	                                     : 0;
}

struct listing {
	struct committed *c;
	const char *prefix; /* "" or "roles/vendor/" */
	char *why;          /* what went wrong */
};

/* "100644 blob ID\tPATH" */
static void on_entry(void *arg, const char *line, size_t len)
{
	struct listing *l = arg;
	struct committed *c = l->c;
	char hex[HASH_HEX];
	const char *tab = memchr(line, '\t', len), *id = tab;
	if (!tab || !kind_of(line))
		return;
	while (id > line && id[-1] != ' ')
		id--;
	snprintf(hex, sizeof hex, "%.*s%024d", (int)(tab - id), id, 0);
	GROW(c->entries, c->n, c->cap);
	struct entry *e = &c->entries[c->n];
	*e = (struct entry){.kind = kind_of(line)};
	if (!hash_from_hex(hex, &e->id))
		return;
	e->path = xasprintf("%s%.*s", l->prefix, (int)(len - (size_t)(tab + 1 - line)), tab + 1);
	c->n++;
}

static void on_listed(void *arg, const struct child_result *res)
{
	struct listing *l = arg;
	struct buf why = {0};
	if (!res->status)
		return;
	child_explain(&why, "git", res);
	l->why = buf_detach(&why, NULL);
}

/* A repo's configuration can name programs, so git is nobody but the owner of the repo. */
static void be_owner(struct child_spec *spec, const struct stat *st)
{
	struct passwd pw, *found = NULL;
	char names[16384];
	if (geteuid() || !st->st_uid)
		return;
	getpwuid_r(st->st_uid, &pw, names, sizeof names, &found);
	spec->as_user = true;
	spec->uid = st->st_uid;
	spec->gid = found ? pw.pw_gid : st->st_gid;
}

/* Appends the files of a commit below dir, which is in its work tree. NULL, or why it cannot be done. */
static char *list_files(struct committed *c, const char *dir, const char *prefix, const char *commit)
{
	static const char *const env[] = {"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0",
	        "GIT_NO_REPLACE_OBJECTS=1", "GIT_ALLOW_PROTOCOL=", /* what is not here is not fetched */
	        "HOME=/nonexistent", NULL};
	const char *argv[] = {
	        "git", "--no-pager", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "ls-tree", "-r", "-z", commit, NULL};
	_cleanup_err_ struct err *err = NULL;
	struct stat st;
	struct listing l = {c, prefix, NULL};
	struct child_spec spec = {
	        .argv = argv,
	        .env = env,
	        .bare = true,
	        .cwd = dir,
	        .on_line = on_entry,
	        .nul_lines = true,
	        .timeout_ms = GIT_TIMEOUT_MS,
	        .done = on_listed,
	        .arg = &l,
	};
	if (stat(dir, &st) < 0)
		return xasprintf("'%s': %s", dir, strerror(errno));
	be_owner(&spec, &st);
	if (child_run(&spec, &err) < 0)
		return xstrdup(err_msg(err));
	return l.why;
}

/* The commit that a submodule is pinned to has files too. One that is not checked out, or lacks that commit, has none. */
static void list_modules(struct committed *c, const char *repo, size_t from, int deep)
{
	size_t end = c->n;
	for (size_t i = from; i < end && deep < MODULES_DEEP; i++) {
		if (c->entries[i].kind != 'm')
			continue;
		char hex[HASH_HEX];
		size_t first = c->n;
		_cleanup_free_ char *dir = path_join(repo, c->entries[i].path), *prefix = xasprintf("%s/", c->entries[i].path);
		hash_hex(&c->entries[i].id, hex);
		hex[c->sha256 ? 64 : 40] = 0;
		free(list_files(c, dir, prefix, hex));
		list_modules(c, repo, first, deep + 1);
	}
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->path, ((const struct entry *)b)->path);
}

/* Of the files that nobody asked for since the last time. */
static void sweep_ids(struct committed *c)
{
	struct known *k, *tmp;
	HASH_ITER (hh, c->known, k, tmp) {
		if (k->used) {
			k->used = false;
			continue;
		}
		HASH_DEL(c->known, k);
		free(k);
	}
}

static void forget_ids(struct committed *c)
{
	sweep_ids(c);
	sweep_ids(c);
}

static void forget_files(struct committed *c)
{
	for (size_t i = 0; i < c->n; i++)
		free(c->entries[i].path);
	c->n = 0;
	str_replace(&c->commit, NULL);
	str_replace(&c->trouble, NULL);
}

void committed_look(struct committed *c, const char *repo, const char *commit)
{
	bool same = commit && c->commit && !strcmp(commit, c->commit);
	if (same && (!c->trouble || monotonic_ms() - c->asked < ASK_AGAIN_MS))
		return;
	forget_files(c);
	if (!commit)
		return;
	c->commit = xstrdup(commit);
	if (c->sha256 != (strlen(commit) == 64))
		forget_ids(c);
	c->sha256 = strlen(commit) == 64;
	c->asked = monotonic_ms();
	c->trouble = list_files(c, repo, "", commit);
	if (!c->trouble)
		list_modules(c, repo, 0, 0);
	if (c->n)
		qsort(c->entries, c->n, sizeof *c->entries, by_path);
}

const char *committed_trouble(const struct committed *c)
{
	return c->trouble;
}

/* ---- comparing ---- */

static const struct entry *find(const struct committed *c, const char *path)
{
	struct entry key = {.path = (char *)path};
	return c->n ? bsearch(&key, c->entries, c->n, sizeof *c->entries, by_path) : NULL;
}

static void id_of(const struct committed *c, const void *data, size_t len, struct hash *ret)
{
	struct hasher *h = hasher_new_blob(len, c->sha256);
	hasher_add(h, data, len);
	hasher_end(h, ret);
	hasher_free(h);
}

/* DIR/TARGET without "." and "..". NULL: it leads out of the repo. */
static char *lead(const char *dir, size_t dir_len, const char *target, const char *rest)
{
	_cleanup_free_ char *whole = xasprintf("%.*s/%s%s", (int)dir_len, dir, target, rest);
	_cleanup_strlist_ struct strlist parts = {0};
	struct buf out = {0};
	char *at = whole, *part;
	if (*target == '/')
		return NULL;
	while ((part = strsep(&at, "/"))) {
		if (!*part || !strcmp(part, "."))
			continue;
		if (strcmp(part, "..")) {
			strlist_add(&parts, part);
		} else {
			if (!parts.n)
				return NULL;
			free(parts.items[--parts.n]);
			parts.items[parts.n] = NULL;
		}
	}
	strlist_join(&parts, "/", &out);
	return buf_detach(&out, NULL);
}

/* Where the first link in path leads; NULL: there is none, or (*ret_bad) it is not committed as it is, or leads out of the repo. */
static char *follow_one(const struct committed *c, const char *repo, const char *path, bool *ret_bad)
{
	for (size_t end = strcspn(path, "/");; end += 1 + strcspn(path + end + 1, "/")) {
		_cleanup_free_ char *name = xstrndup(path, end), *full = path_join(repo, name);
		const struct entry *e = find(c, name);
		if (e && e->kind == 'l') {
			char target[4096], *to = NULL;
			const char *slash = strrchr(name, '/');
			struct hash id;
			ssize_t n = readlink(full, target, sizeof target - 1);
			if (n >= 0) {
				target[n] = 0;
				id_of(c, target, (size_t)n, &id);
			}
			if (n >= 0 && hash_eq(&id, &e->id))
				to = lead(name, slash ? (size_t)(slash - name) : 0, target, path + end);
			*ret_bad = !to;
			return to;
		}
		if (!path[end])
			return NULL;
	}
}

/* The path by which git knows what is at path; NULL: it knows nothing there. */
static char *follow(const struct committed *c, const char *repo, const char *path)
{
	char *at = xstrdup(path);
	bool bad = false;
	for (int i = 0; i < LINKS_MAX; i++) {
		char *to = follow_one(c, repo, at, &bad);
		if (!to && !bad)
			return at;
		free(at);
		if (!to)
			return NULL;
		at = to;
	}
	free(at);
	return NULL;
}

bool committed_document(const struct committed *c, const char *repo, const char *path, const void *text, size_t len)
{
	struct hash id;
	const struct entry *e = find(c, path);
	if (!e || e->kind == 'l') {
		_cleanup_free_ char *at = follow(c, repo, path);
		e = at ? find(c, at) : NULL;
	}
	if (!e || (e->kind != 'f' && e->kind != 'x'))
		return false;
	id_of(c, text, len, &id);
	return hash_eq(&id, &e->id);
}

/* Of a file of which only the SHA-256 is known: it is read once more. false: it is not what it was. */
static bool id_of_file(struct committed *c, const char *dir, const struct content_entry *f, struct hash *ret)
{
	struct known *k;
	HASH_FIND(hh, c->known, &f->hash, sizeof f->hash, k);
	if (!k) {
		char chunk[65536];
		struct hash now;
		struct stat st;
		ssize_t n = -1;
		_cleanup_free_ char *path = path_join(dir, f->path);
		_cleanup_close_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0)
			return false;
		struct hasher *h = hasher_new(), *git = hasher_new_blob((uint64_t)st.st_size, c->sha256);
		while ((n = read(fd, chunk, sizeof chunk)) > 0) {
			hasher_add(h, chunk, (size_t)n);
			hasher_add(git, chunk, (size_t)n);
		}
		k = xcalloc(1, sizeof *k);
		hasher_end(h, &now);
		hasher_end(git, &k->id);
		hasher_free(h);
		hasher_free(git);
		if (n < 0 || !hash_eq(&now, &f->hash)) {
			free(k);
			return false;
		}
		k->hash = f->hash;
		HASH_ADD(hh, c->known, hash, sizeof k->hash, k);
	}
	k->used = true;
	*ret = k->id;
	return true;
}

static bool same_file(struct committed *c, const char *dir, const struct entry *e, const struct content_entry *f)
{
	struct hash id;
	if (!e || e->kind != f->kind)
		return false;
	if (f->kind == 'l')
		id_of(c, f->target, strlen(f->target), &id);
	else if (!id_of_file(c, dir, f, &id))
		return false;
	return hash_eq(&id, &e->id);
}

/* Would it be content if it lay there? */
static bool is_content(const char *path)
{
	bool top = true;
	while (*path) {
		size_t n = strcspn(path, "/");
		_cleanup_free_ char *name = xstrndup(path, n);
		if (name_ignored(name) || (top && !path[n] && !strcmp(name, "role.ini")))
			return false;
		top = false;
		path += n + (path[n] == '/');
	}
	return true;
}

static bool has_file(const struct content_list *l, const char *path)
{
	for (size_t low = 0, high = l->n; low < high;) {
		size_t mid = (low + high) / 2;
		int order = strcmp(path, l->entries[mid].path);
		if (!order)
			return true;
		if (order < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return false;
}

/* The first committed file of a role that does not lie there; NULL: none. at: of its directory, with a '/'. */
static const char *missing_file(const struct committed *c, const char *at, const struct content_list *l)
{
	size_t low = 0, high = c->n, len = strlen(at);
	while (low < high) {
		size_t mid = (low + high) / 2;
		if (strcmp(c->entries[mid].path, at) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	for (; low < c->n && !strncmp(c->entries[low].path, at, len); low++) {
		const struct entry *e = &c->entries[low];
		if (e->kind != 'm' && is_content(e->path + len) && !has_file(l, e->path + len))
			return e->path + len;
	}
	return NULL;
}

char *committed_content(struct committed *c, const char *repo, const char *role, const struct content_list *l)
{
	_cleanup_free_ char *as_named = xasprintf("roles/%s", role), *at = follow(c, repo, as_named), *dir = path_join(repo, as_named);
	_cleanup_free_ char *under = at ? xasprintf("%s/", at) : NULL;
	for (size_t i = 0; i < l->n; i++) {
		_cleanup_free_ char *path = at ? xasprintf("%s%s", under, l->entries[i].path) : NULL;
		if (!path || !same_file(c, dir, find(c, path), &l->entries[i]))
			return xasprintf("%s/%s", as_named, l->entries[i].path);
	}
	const char *missing = at ? missing_file(c, under, l) : NULL;
	return missing ? xasprintf("%s/%s", as_named, missing) : NULL;
}

void committed_documents(const struct committed *c, void (*each)(void *arg, const char *path), void *arg)
{
	for (size_t i = 0; i < c->n; i++)
		if (is_document(c->entries[i].path))
			each(arg, c->entries[i].path);
}

/* ---- lifetime ---- */

struct committed *committed_new(void)
{
	return xcalloc(1, sizeof(struct committed));
}

void committed_sweep(struct committed *c)
{
	sweep_ids(c);
}

void committed_free(struct committed *c)
{
	if (!c)
		return;
	forget_files(c);
	forget_ids(c);
	free(c->entries);
	free(c);
}
