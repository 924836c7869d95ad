/* What git is doing, from its files alone: a repo's configuration can name programs, so git is never run here. */
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "fs/desired/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define INDEX_MAX (256u * 1024 * 1024)

static char *read_line(const char *dir, const char *name)
{
	struct buf b = {0};
	_cleanup_free_ char *path = path_join(dir, name);
	if (file_read(AT_FDCWD, path, 1 << 20, &b, NULL) < 0) {
		buf_release(&b);
		return NULL;
	}
	char *line = buf_detach(&b, NULL);
	line[strcspn(line, "\r\n")] = 0;
	return line;
}

static char *relative_to(const char *dir, const char *path)
{
	return *path == '/' ? xstrdup(path) : path_join(dir, path);
}

/* The git directory named by DIR/.git, NULL if there is none. */
static char *git_dir_at(const char *dir)
{
	struct stat st;
	char *dot = path_join(dir, ".git");
	if (stat(dot, &st) < 0) {
		free(dot);
		return NULL;
	}
	if (S_ISDIR(st.st_mode))
		return dot;
	free(dot);
	_cleanup_free_ char *line = read_line(dir, ".git"); /* a worktree or submodule: "gitdir: PATH" */
	if (!line || strncmp(line, "gitdir:", 7))
		return NULL;
	const char *to = line + 7;
	return relative_to(dir, to + strspn(to, " \t"));
}

char *git_dir(const char *repo, char **ret_common)
{
	_cleanup_free_ char *dir = realpath(repo, NULL);
	char *git = NULL;
	while (dir && !(git = git_dir_at(dir)) && strcmp(dir, "/")) {
		char *slash = strrchr(dir, '/');
		slash[slash == dir ? 1 : 0] = 0;
	}
	if (!git)
		return NULL;
	if (ret_common) {
		_cleanup_free_ char *line = read_line(git, "commondir");
		*ret_common = line ? relative_to(git, line) : xstrdup(git);
	}
	return git;
}

char *git_head_ref(const char *gitdir)
{
	_cleanup_free_ char *head = read_line(gitdir, "HEAD");
	return head && !strncmp(head, "ref: ", 5) ? xstrdup(head + 5) : NULL;
}

static bool is_commit(const char *s)
{
	size_t n = strspn(s, "0123456789abcdef");
	return (n == 40 || n == 64) && (!s[n] || s[n] == ' ');
}

static char *packed_ref(const char *common, const char *ref)
{
	_cleanup_buf_ struct buf b = {0};
	_cleanup_free_ char *path = path_join(common, "packed-refs");
	if (file_read(AT_FDCWD, path, INDEX_MAX, &b, NULL) < 0)
		return NULL;
	size_t pos = 0, len, ref_len = strlen(ref);
	const char *line;
	while (ini_next_line(buf_str(&b), b.len, &pos, &line, &len)) {
		const char *blank = memchr(line, ' ', len);
		if (!blank || *line == '#' || len - (size_t)(blank + 1 - line) != ref_len || strncmp(blank + 1, ref, ref_len))
			continue;
		return is_commit(line) ? xstrndup(line, (size_t)(blank - line)) : NULL;
	}
	return NULL;
}

char *git_head(const char *repo)
{
	_cleanup_free_ char *common = NULL;
	_cleanup_free_ char *git = git_dir(repo, &common);
	_cleanup_free_ char *ref = git ? git_head_ref(git) : NULL;
	if (!git)
		return NULL;
	char *commit = ref ? read_line(common, ref) : read_line(git, "HEAD");
	if (commit && is_commit(commit))
		return commit;
	free(commit);
	return ref ? packed_ref(common, ref) : NULL;
}

#define LOCK_MAX_S 60 /* an older lock was left behind, or waits for somebody's commit message */

bool git_works_in(const char *dir)
{
	struct stat st;
	_cleanup_free_ char *git = git_dir_at(dir);
	_cleanup_free_ char *lock = git ? path_join(git, "index.lock") : NULL;
	return lock && lstat(lock, &st) == 0 && time(NULL) - st.st_mtime < LOCK_MAX_S;
}

static uint32_t be32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Any entry of a stage other than 0 in DIR/index (gitformat-index(5), versions 2 to 4; SHA-1 entries are 62 bytes before the name, SHA-256 ones 74).
 */
static bool has_unmerged(const unsigned char *b, size_t len, size_t hash_len)
{
	if (len < 12 || memcmp(b, "DIRC", 4))
		return false;
	uint32_t version = be32(b + 4), n = be32(b + 8);
	size_t pos = 12, flags_at = 40 + hash_len;
	for (uint32_t i = 0; i < n && pos + flags_at + 4 < len; i++) {
		const unsigned char *e = b + pos;
		unsigned flags = (unsigned)e[flags_at] << 8 | e[flags_at + 1];
		if (flags >> 12 & 3)
			return true;
		size_t name = flags_at + 2 + (version >= 3 && (flags & 0x4000) ? 2 : 0);
		if (version == 4)
			while (pos + name < len && e[name++] & 0x80) /* how much of the name before is dropped */
				;
		const unsigned char *nul = pos + name < len ? memchr(e + name, 0, len - pos - name) : NULL;
		if (!nul)
			return false;
		size_t size = (size_t)(nul - e);
		pos += version == 4 ? size + 1 : (size + 8) & ~(size_t)7;
	}
	return false;
}

static bool index_unmerged(const char *git, const char *common)
{
	_cleanup_buf_ struct buf index = {0}, config = {0};
	_cleanup_free_ char *path = path_join(git, "index");
	_cleanup_free_ char *config_path = path_join(common, "config");
	if (file_read(AT_FDCWD, path, INDEX_MAX, &index, NULL) < 0)
		return false;
	bool sha256 = !file_read(AT_FDCWD, config_path, 1 << 20, &config, NULL) && strcasestr(buf_str(&config), "objectformat = sha256");
	return has_unmerged((const unsigned char *)buf_str(&index), index.len, sha256 ? 32 : 20);
}

static bool exists(const char *dir, const char *name)
{
	struct stat st;
	_cleanup_free_ char *path = path_join(dir, name);
	return lstat(path, &st) == 0;
}

/* A bisect is none of them: each of its steps is a whole tree that somebody asked for, to try it. */
enum git_state git_state(const char *repo, const char **ret_what)
{
	static const struct {
		const char *file, *what;
	} signs[] = {
	        {"MERGE_HEAD", "a merge"},
	        {"rebase-merge", "a rebase"},
	        {"rebase-apply/applying", "an am"},
	        {"rebase-apply", "a rebase"},
	        {"CHERRY_PICK_HEAD", "a cherry-pick"},
	        {"REVERT_HEAD", "a revert"},
	        {"sequencer", "a cherry-pick or revert of several commits"},
	};
	_cleanup_free_ char *common = NULL;
	_cleanup_free_ char *git = git_dir(repo, &common);
	const char *what = NULL;
	enum git_state state = GIT_QUIET;
	for (size_t i = 0; git && !what && i < sizeof signs / sizeof *signs; i++)
		if (exists(git, signs[i].file))
			what = signs[i].what;
	if (git && !what && index_unmerged(git, common))
		what = "unmerged paths";
	if (what)
		state = GIT_MERGING;
	else if (git && exists(git, "index.lock")) {
		state = GIT_LOCKED;
		what = "a git command that holds index.lock";
	}
	if (ret_what)
		*ret_what = what;
	return state;
}
