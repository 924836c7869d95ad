/* Git's state from its files, made by hand: no git is run, neither by the code nor by its tests. */
#include "test_desired.h"

TestSuite(desired_git, .init = make_repo, .fini = remove_repo);

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define OTHER "fedcba9876543210fedcba9876543210fedcba98"

static void expect_commit(const char *want)
{
	struct desired *d = parse();
	if (want)
		cr_expect_str_eq(d->commit, want);
	else
		cr_expect_null(d->commit);
	desired_unref(d);
}

static void expect_state(enum git_state want, const char *what)
{
	const char *said = "";
	cr_expect_eq(git_state(repo, &said), want);
	if (what)
		cr_expect_str_eq(said, what);
	else
		cr_expect_null(said);
}

static void make_git(void)
{
	put(".git/HEAD", "ref: refs/heads/main\n");
	put(".git/refs/heads/main", COMMIT "\n");
}

Test(desired_git, head)
{
	expect_commit(NULL);
	expect_state(GIT_QUIET, NULL);
	put(".git/HEAD", "ref: refs/heads/main\n");
	expect_commit(NULL); /* nothing committed yet */
	put(".git/refs/heads/main", COMMIT "\n");
	expect_commit(COMMIT);
	put(".git/HEAD", OTHER "\n");
	expect_commit(OTHER);
	put(".git/HEAD", "ref: refs/heads/topic/x\n");
	put(".git/packed-refs", "# pack-refs with: peeled\n" COMMIT " refs/heads/topic\n" OTHER " refs/heads/topic/x\n^" COMMIT "\n");
	expect_commit(OTHER);
	put(".git/HEAD", "nonsense\n");
	expect_commit(NULL);
}

Test(desired_git, worktree)
{
	put("main/.git/HEAD", "ref: refs/heads/main\n");
	put("main/.git/refs/heads/side", OTHER "\n");
	put("main/.git/worktrees/side/HEAD", "ref: refs/heads/side\n");
	put("main/.git/worktrees/side/commondir", "../..\n");
	put(".git", "gitdir: main/.git/worktrees/side\n");
	expect_commit(OTHER);
	put("main/.git/worktrees/side/MERGE_HEAD", COMMIT "\n");
	expect_state(GIT_MERGING, "a merge");
}

Test(desired_git, a_repo_in_a_work_tree)
{
	make_git();
	put("stages/qa/roles/base/role.ini", "[role]\nrunner = none\n");
	strcat(repo, "/stages/qa");
	expect_commit(COMMIT);
	*strstr(repo, "/stages") = 0;
}

Test(desired_git, states)
{
	make_git();
	expect_state(GIT_QUIET, NULL);
	put(".git/index.lock", "");
	expect_state(GIT_LOCKED, "a git command that holds index.lock");
	static const char *const signs[][2] = {{".git/MERGE_HEAD", "a merge"}, {".git/rebase-merge/done", "a rebase"},
	        {".git/rebase-apply/next", "a rebase"}, {".git/CHERRY_PICK_HEAD", "a cherry-pick"}, {".git/REVERT_HEAD", "a revert"}};
	for (size_t i = 0; i < 5; i++) {
		put(signs[i][0], COMMIT "\n");
		expect_state(GIT_MERGING, signs[i][1]);
		char top[64];
		snprintf(top, sizeof top, ".git/%.*s", (int)strcspn(signs[i][0] + 5, "/"), signs[i][0] + 5);
		drop(top);
		expect_state(GIT_LOCKED, "a git command that holds index.lock");
	}
	cr_expect_eq(git_state(repo, NULL), GIT_LOCKED);
}

/* An index as gitformat-index(5) has it. names: the n-th has stage stages[n]. */
static void put_index(int version, size_t n, const char *const *names, const int *stages)
{
	struct buf b = {0};
	buf_add(&b, "DIRC", 4);
	unsigned char head[8] = {0, 0, 0, (unsigned char)version, 0, 0, 0, (unsigned char)n};
	buf_add(&b, head, 8);
	const char *before = "";
	for (size_t i = 0; i < n; i++) {
		size_t start = b.len, len = strlen(names[i]), common = 0;
		for (int j = 0; j < 60; j++)
			buf_addc(&b, 1);
		buf_addc(&b, (char)(stages[i] << 4));
		buf_addc(&b, (char)len);
		if (version == 4) {
			while (before[common] && before[common] == names[i][common])
				common++;
			buf_addc(&b, (char)(strlen(before) - common));
		}
		buf_adds(&b, names[i] + common);
		do
			buf_addc(&b, 0);
		while (version != 4 && (b.len - start) % 8);
		before = names[i];
	}
	for (int j = 0; j < 20; j++)
		buf_addc(&b, 2);
	put_mode(".git/index", b.data, b.len, 0644);
	buf_release(&b);
}

Test(desired_git, unmerged_paths)
{
	static const char *const names[] = {
	        "deployments/etcd/deployment.ini", "deployments/qa/deployment.ini", "roles/etcd/apply", "roles/etcd/apply"};
	static const int clean[] = {0, 0, 0, 0}, unmerged[] = {0, 0, 2, 3};
	make_git();
	for (int version = 2; version <= 4; version++) {
		put_index(version, 3, names, clean);
		expect_state(GIT_QUIET, NULL);
		put_index(version, 4, names, unmerged);
		expect_state(GIT_MERGING, "unmerged paths");
	}
	put(".git/index", "DIRC");
	expect_state(GIT_QUIET, NULL);
	put(".git/index", "not an index at all, and longer than its header");
	expect_state(GIT_QUIET, NULL);
}
