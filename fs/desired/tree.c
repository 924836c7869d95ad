/* Documents and role contents as they lie in a repo. */
#include "fs/base/acl.h"
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "fs/desired/internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

const struct doc_place doc_places[DOC_KINDS] = {
        [DOC_PROVIDER] = {"providers", "provider.ini"},
        [DOC_ROLE] = {"roles", "role.ini"},
        [DOC_NODE] = {"nodes", "node.ini"},
        [DOC_DEPLOYMENT] = {"deployments", "deployment.ini"},
};

bool name_ignored(const char *name)
{
	size_t len = strlen(name);
	return !len || name[0] == '.' || name[0] == '#' || name[len - 1] == '~';
}

bool doc_path_parse(const char *path, enum doc_kind *ret_kind, char **ret_name)
{
	for (int k = 0; k < DOC_KINDS; k++) {
		size_t dir = strlen(doc_places[k].dir);
		const char *slash;
		if (strncmp(path, doc_places[k].dir, dir) || path[dir] != '/' || !(slash = strchr(path + dir + 1, '/')))
			continue;
		if (strcmp(slash + 1, doc_places[k].file))
			continue;
		char *name = xstrndup(path + dir + 1, (size_t)(slash - path) - dir - 1);
		if (name_ignored(name)) {
			free(name);
			return false;
		}
		*ret_kind = (enum doc_kind)k;
		*ret_name = name;
		return true;
	}
	return false;
}

bool is_document(const char *path)
{
	enum doc_kind kind;
	char *name = NULL;
	bool is = doc_path_parse(path, &kind, &name);
	free(name);
	return is;
}

static int by_doc(const void *a, const void *b)
{
	const struct tree_doc *x = a, *y = b;
	return x->kind != y->kind ? (int)x->kind - (int)y->kind : strcmp(x->name, y->name);
}

static int by_role(const void *a, const void *b)
{
	return strcmp(((const struct tree_content *)a)->role, ((const struct tree_content *)b)->role);
}

void tree_sort(struct tree *t)
{
	if (t->n_docs)
		qsort(t->docs, t->n_docs, sizeof *t->docs, by_doc);
	if (t->n_contents)
		qsort(t->contents, t->n_contents, sizeof *t->contents, by_role);
}

const struct tree_doc *tree_doc_find(const struct tree *t, enum doc_kind kind, const char *name)
{
	struct tree_doc key = {.kind = kind, .name = (char *)name};
	return t->n_docs ? bsearch(&key, t->docs, t->n_docs, sizeof *t->docs, by_doc) : NULL;
}

const struct tree_content *tree_content_find(const struct tree *t, const char *role)
{
	struct tree_content key = {.role = (char *)role};
	return t->n_contents ? bsearch(&key, t->contents, t->n_contents, sizeof *t->contents, by_role) : NULL;
}

static void doc_trouble(struct tree_doc *d, int code, const char *what)
{
	d->code = code;
	free(d->trouble);
	d->trouble = what ? xstrdup(what) : xasprintf("cannot be read: %s", strerror(code));
}

static void doc_bytes(struct tree_doc *d, char *text, size_t len)
{
	d->text = text;
	d->len = len;
	hash_bytes(text, len, &d->hash);
}

static void not_a_file(struct tree_doc *d, mode_t mode)
{
	_cleanup_free_ char *what = xasprintf("is a %s, not a file", file_kind(mode));
	doc_trouble(d, EINVAL, what);
}

/* 0, or -errno; a file of the wrong kind or size is the document's trouble. */
static int read_open_doc(int fd, struct tree_doc *d)
{
	struct stat st;
	struct buf b = {0};
	if (fstat(fd, &st) < 0)
		return -errno;
	d->uid = st.st_uid;
	d->gid = st.st_gid;
	d->mode = acl_mode(fd, NULL, st.st_mode) & 07777;
	if (!S_ISREG(st.st_mode)) {
		not_a_file(d, st.st_mode);
		return 0;
	}
	char chunk[8192];
	ssize_t n;
	while ((n = read(fd, chunk, sizeof chunk)) > 0 || (n < 0 && errno == EINTR)) {
		if (n > 0)
			buf_add(&b, chunk, (size_t)n);
		if (b.len > DOCUMENT_MAX) {
			buf_release(&b);
			doc_trouble(d, EFBIG, "is larger than 1 MiB: this is not a document");
			return 0;
		}
	}
	if (n < 0) {
		int code = errno;
		buf_release(&b);
		return -code;
	}
	size_t len;
	char *text = buf_detach(&b, &len);
	doc_bytes(d, text, len);
	return 0;
}

static bool is_busy(const struct tree_options *opt, const char *path)
{
	for (size_t i = 0; opt && opt->busy && opt->busy[i]; i++)
		if (!strcmp(opt->busy[i], path))
			return true;
	return false;
}

/* A writer in a role's content: the role is being written, not only its document. */
static bool is_busy_under(const struct tree_options *opt, const char *dir)
{
	size_t len = strlen(dir);
	for (size_t i = 0; opt && opt->busy && opt->busy[i]; i++) {
		const char *path = opt->busy[i];
		const char *base = strrchr(path, '/');
		if (!strncmp(path, dir, len) && path[len] == '/' && !name_ignored(base + 1))
			return true;
	}
	return false;
}

static void free_doc(struct tree_doc *d)
{
	free(d->name);
	free(d->path);
	free(d->text);
	free(d->trouble);
}

static void add_trouble(struct tree *t, const char *path, int code, char *text)
{
	GROW(t->troubles, t->n_troubles, t->cap_troubles);
	t->troubles[t->n_troubles++] = (struct tree_trouble){xstrdup(path), text, code};
}

/* A newline in a file's name would make two lines of one problem. */
static bool is_printable(const char *name)
{
	for (; *name; name++)
		if (*name <= ' ' || *name > '~')
			return false;
	return true;
}

static bool is_link(int dirfd, const char *path)
{
	struct stat st;
	return fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);
}

static bool is_dangling(int dirfd, const char *path)
{
	struct stat st;
	return is_link(dirfd, path) && fstatat(dirfd, path, &st, 0) < 0;
}

static void doc_busy(struct tree_doc *d)
{
	free(d->text);
	d->text = NULL;
	d->len = 0;
	d->busy = true;
}

/* Looked at before it is opened: opening is enough to do harm to some devices. 0, or -errno. */
static int read_doc_file(int repo, struct tree_doc *d, bool mind_writers)
{
	struct stat st;
	if (fstatat(repo, d->path, &st, 0) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode)) {
		not_a_file(d, st.st_mode);
		return 0;
	}
	_cleanup_close_ int fd = openat(repo, d->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	int rc = fd < 0 ? -errno : read_open_doc(fd, d);
	if (rc == 0 && mind_writers && fd_has_writer(fd))
		doc_busy(d);
	return rc;
}

/* Adds the document of directory NAME, if there is one. */
static void read_doc(struct tree *t, int repo, enum doc_kind kind, const char *name, const struct tree_options *opt, bool mind_writers)
{
	struct tree_doc d = {.kind = kind, .name = xstrdup(name), .mode = 0644, .uid = geteuid(), .gid = getegid()};
	d.path = xasprintf("%s/%s/%s", doc_places[kind].dir, name, doc_places[kind].file);
	_cleanup_free_ char *dir = xasprintf("%s/%s", doc_places[kind].dir, name);
	bool overlay = opt && opt->overlay_path && !strcmp(opt->overlay_path, d.path);
	int code = -read_doc_file(repo, &d, mind_writers);
	if (overlay) {
		free(d.text);
		free(d.trouble);
		d.trouble = NULL;
		d.code = 0;
		d.busy = false;
		char *text = xcalloc(1, opt->overlay_len + 1);
		memcpy(text, opt->overlay_text, opt->overlay_len);
		doc_bytes(&d, text, opt->overlay_len);
	} else if (is_busy(opt, d.path) || (kind == DOC_ROLE && code != ENOENT && is_busy_under(opt, dir))) {
		doc_busy(&d);
	} else if (code == ENOENT && (is_link(repo, d.path) || is_dangling(repo, dir))) {
		doc_trouble(&d, ENOENT, is_link(repo, d.path) ? "is a link to what is not there" : "lies behind a link to what is not there");
	} else if (code == ENOENT || code == ENOTDIR) {
		free_doc(&d);
		return;
	} else if (!is_printable(name)) {
		add_trouble(t, doc_places[kind].dir, EINVAL,
		        xasprintf("a directory with a %s has blanks or unprintable bytes in its name", doc_places[kind].file));
		free_doc(&d);
		return;
	} else if (code)
		doc_trouble(&d, code, NULL);
	GROW(t->docs, t->n_docs, t->cap_docs);
	t->docs[t->n_docs++] = d;
}

static void read_kind(struct tree *t, int repo, enum doc_kind kind, const struct tree_options *opt, bool mind_writers)
{
	const char *where = doc_places[kind].dir;
	_cleanup_strlist_ struct strlist names = {0};
	int fd = openat(repo, where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	if (!d && errno != ENOENT)
		add_trouble(t, where, errno, xasprintf("cannot be read: %s", strerror(errno)));
	while (d && (e = readdir(d)))
		if (!name_ignored(e->d_name) && e->d_type != DT_REG)
			strlist_add(&names, e->d_name);
	if (d)
		closedir(d);
	else if (fd >= 0)
		close(fd);
	enum doc_kind okind;
	char *oname = NULL;
	if (opt && opt->overlay_path && doc_path_parse(opt->overlay_path, &okind, &oname) && okind == kind && !strlist_has(&names, oname))
		strlist_add(&names, oname);
	free(oname);
	for (size_t i = 0; i < names.n; i++)
		read_doc(t, repo, kind, names.items[i], opt, mind_writers);
}

/* false: it is being written. */
static bool read_content(struct tree *t, const char *repo, const char *role, struct committed *committed, struct hash_cache *cache)
{
	struct tree_content c = {.role = xstrdup(role), .dir = xasprintf("%s/roles/%s", repo, role)};
	struct content_list list = {0};
	_cleanup_err_ struct err *err = NULL;
	char *bad = NULL;
	int rc = content_scan(c.dir, cache, &list, &bad, &err);
	bool is_locked = cache && git_works_in(c.dir);
	if (rc == -EBUSY || is_locked) {
		t->passing |= is_locked;
		content_list_release(&list);
		free(bad);
		free(c.role);
		free(c.dir);
		return false;
	}
	if (rc < 0) {
		c.code = err->code;
		c.trouble = xstrdup(err_msg(err));
		c.trouble_path = *bad ? xasprintf("roles/%s/%s", role, bad) : xasprintf("roles/%s", role);
		free(bad);
	} else {
		content_list_hash(&list, &c.hash);
		c.uncommitted = committed ? committed_content(committed, repo, role, &list) : NULL;
	}
	content_list_release(&list);
	GROW(t->contents, t->n_contents, t->cap_contents);
	t->contents[t->n_contents++] = c;
	return true;
}

bool tree_is_passing(const struct tree *t)
{
	return t->passing;
}

/* What HEAD has, as far as that can be known. */
static struct committed *look_at_head(struct tree *t, const char *repo, struct committed *c)
{
	_cleanup_free_ char *git = git_dir(repo, NULL);
	if (!git)
		t->incomparable = xstrdup("the repo is not a git work tree");
	else if (!t->commit)
		t->incomparable = xstrdup("nothing is committed in the repo yet");
	committed_look(c, repo, t->commit);
	if (!committed_trouble(c))
		return t->commit ? c : NULL;
	t->git_failed = true;
	t->incomparable = xasprintf("cannot ask git for what is committed: %s", committed_trouble(c));
	str_replace(&t->commit, NULL);
	return NULL;
}

static void add_removed(void *arg, const char *path)
{
	struct tree *t = arg;
	enum doc_kind kind;
	char *name = NULL;
	if (doc_path_parse(path, &kind, &name) && !tree_doc_find(t, kind, name))
		strlist_add(&t->removed, path);
	free(name);
}

static void compare_documents(struct tree *t, const char *repo, struct committed *c)
{
	for (size_t i = 0; i < t->n_docs; i++) {
		struct tree_doc *d = &t->docs[i];
		d->uncommitted = d->text && !committed_document(c, repo, d->path, d->text, d->len);
	}
	committed_documents(c, add_removed, t);
	committed_sweep(c);
}

int tree_read_repo(const char *repo, const struct tree_options *opt, struct hash_cache *cache, struct tree **ret, struct err **err)
{
	_cleanup_close_ int fd = open(repo, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "cannot read the repo '%s'", repo);
	struct tree *t = xcalloc(1, sizeof *t);
	t->repo = xstrdup(repo);
	t->commit = git_head(repo);
	struct committed *committed = opt && opt->committed ? look_at_head(t, repo, opt->committed) : NULL;
	for (int k = 0; k < DOC_KINDS; k++)
		read_kind(t, fd, (enum doc_kind)k, opt, cache);
	for (size_t i = 0; i < t->n_docs; i++)
		if (t->docs[i].kind == DOC_ROLE && !read_content(t, repo, t->docs[i].name, committed, cache))
			doc_busy(&t->docs[i]);
	hash_cache_sweep(cache);
	tree_sort(t);
	if (committed)
		compare_documents(t, repo, committed);
	*ret = t;
	return 0;
}

void tree_free(struct tree *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->n_docs; i++)
		free_doc(&t->docs[i]);
	for (size_t i = 0; i < t->n_contents; i++) {
		free(t->contents[i].role);
		free(t->contents[i].dir);
		free(t->contents[i].uncommitted);
		free(t->contents[i].trouble);
		free(t->contents[i].trouble_path);
	}
	for (size_t i = 0; i < t->n_troubles; i++) {
		free(t->troubles[i].path);
		free(t->troubles[i].text);
	}
	free(t->docs);
	free(t->contents);
	free(t->troubles);
	strlist_release(&t->removed);
	free(t->incomparable);
	free(t->commit);
	free(t->repo);
	free(t);
}
