/* A real inotify on a real directory. */
#include "test_desired.h"
#include <uv.h>

static uv_loop_t loop;
static struct watch *watch;
static int calls;

static void on_change(void *arg)
{
	calls++;
}

static void begin(void)
{
	make_repo();
	put_etcd();
	put(".git/HEAD", "ref: refs/heads/main\n");
	put(".git/refs/heads/main", "x\n");
	put(".git/objects/ab/cd", "x");
	uv_loop_init(&loop);
	struct err *err = NULL;
	cr_assert_eq(watch_open(&loop, repo, on_change, NULL, &watch, &err), 0, "%s", err_msg(err));
}

static void end(void)
{
	watch_close(watch);
	uv_run(&loop, UV_RUN_DEFAULT);
	cr_expect_eq(uv_loop_close(&loop), 0);
	remove_repo();
}

TestSuite(desired_watch, .init = begin, .fini = end);

/* inotify queues an event before the system call that causes it returns: one turn sees all of it. */
static int turn(void)
{
	calls = 0;
	uv_run(&loop, UV_RUN_NOWAIT);
	return calls;
}

static char *at(const char *path)
{
	return path_join(repo, path);
}

Test(desired_watch, quiet)
{
	cr_expect_eq(turn(), 0);
	desired_unref(parse()); /* reading is no change */
	cr_expect_eq(turn(), 0);
	cr_expect(!watch_drain(watch));
}

Test(desired_watch, files)
{
	_cleanup_free_ char *apply = at("roles/etcd/apply"), *moved = at("roles/etcd/moved");
	put("roles/etcd/new", "1");
	cr_expect_eq(turn(), 1); /* created, written, closed: one call */
	rename(apply, moved);
	cr_expect_eq(turn(), 1);
	chmod(moved, 0600);
	cr_expect_eq(turn(), 1);
	cr_expect_eq(truncate(moved, 1), 0);
	cr_expect_eq(turn(), 1);
	unlink(moved);
	cr_expect_eq(turn(), 1);
	put("roles/etcd/.new.swp", "1");
	put("roles/etcd/new~", "1");
	cr_expect_eq(turn(), 0);
}

Test(desired_watch, names_that_come_and_go)
{
	_cleanup_free_ char *document = at("roles/etcd/role.ini"), *new = at("roles/etcd/new");
	cr_assert_eq(file_write_atomic(AT_FDCWD, document, "[role]\n", 7, 0644, NULL), 0);
	cr_assert_eq(truncate(document, 3), 0);
	cr_expect_eq(turn(), 1);
	cr_expect_eq(watch_rests_at(watch), 0, "a rename over it, and a change in place");
	put("roles/etcd/new", "1");
	turn();
	cr_expect_neq(watch_rests_at(watch), 0, "a new name");
	unsigned mark = watch_mark(watch);
	cr_expect(!watch_changed_since(watch, mark));
	unlink(new);
	cr_expect(watch_changed_since(watch, mark), "before it is drained");
	turn();
	cr_expect(watch_changed_since(watch, mark), "and after");
}

Test(desired_watch, a_document_that_is_missing_is_waited_for)
{
	_cleanup_free_ char *document = at("roles/etcd/role.ini"), *backup = at("roles/etcd/backup"), *dir = at("roles/etcd"),
	                    *moved = at("roles/ctde");
	put("roles/etcd/other", "1");
	turn();
	int64_t name = watch_rests_at(watch);
	cr_expect_eq(rename(document, backup), 0);
	turn();
	int64_t gone = watch_rests_at(watch);
	cr_expect_geq(gone, name + 500, "longer than for any other name");
	cr_expect_eq(rename(backup, document), 0);
	turn();
	cr_expect_leq(watch_rests_at(watch), monotonic_ms() + 300, "it is back");
	cr_expect_eq(rename(dir, moved), 0);
	turn();
	cr_expect_geq(watch_rests_at(watch), gone, "so is a directory");
}

Test(desired_watch, directories_that_appear)
{
	put("deployments/qa/deployment.ini", "[deployment]\n");
	cr_expect_eq(turn(), 1);
	put("deployments/qa/deployment.ini", "[deployment]\n;\n");
	cr_expect_eq(turn(), 1);
	put("roles/x/files/deep/er/file", "1");
	cr_expect_eq(turn(), 1);
	put("roles/x/files/deep/er/file", "2");
	cr_expect_eq(turn(), 1);
	_cleanup_free_ char *from = at("roles/x"), *to = at("roles/y");
	rename(from, to);
	cr_expect_eq(turn(), 1);
	put("roles/y/files/deep/er/file", "3");
	cr_expect_eq(turn(), 1);
	drop("roles/y");
	cr_expect_eq(turn(), 1);
	turn(); /* what the kernel says of watches that ended with their directories */
	put("roles/y/apply", "again");
	cr_expect_eq(turn(), 1);
	put("roles/y/apply", "and again");
	cr_expect_eq(turn(), 1);
}

Test(desired_watch, a_directory_made_anew_at_once)
{
	/* as git checkout does it */
	drop("roles/etcd");
	put("roles/etcd/role.ini", "[role]\nrunner = none\n");
	cr_expect_geq(turn(), 1);
	turn();
	put("roles/etcd/role.ini", "[role]\nrunner = none\n;\n");
	cr_expect_eq(turn(), 1);
}

Test(desired_watch, a_directory_moved_out)
{
	_cleanup_free_ char *from = at("roles/etcd"), *to = path_join(store_dir, "etcd");
	rename(from, to);
	cr_expect_eq(turn(), 1);
	turn();
	_cleanup_free_ char *apply = path_join(to, "apply");
	chmod(apply, 0600);
	cr_expect_eq(turn(), 0);
}

Test(desired_watch, a_role_behind_a_link)
{
	_cleanup_free_ char *target = path_join(store_dir, "shared/tasks"), *link = at("roles/shared"),
	                    *file = path_join(store_dir, "shared/tasks/main.yml");
	cr_assert_eq(dir_make_all(target, 0755, NULL), 0);
	*strrchr(target, '/') = 0;
	cr_assert_eq(symlink(target, link), 0);
	cr_expect_eq(turn(), 1);
	cr_assert_eq(file_write_atomic(AT_FDCWD, file, "x", 1, 0644, NULL), 0);
	cr_expect_eq(turn(), 1);
	unlink(link);
	cr_expect_eq(turn(), 1);
	turn();
	cr_assert_eq(file_write_atomic(AT_FDCWD, file, "y", 1, 0644, NULL), 0);
	cr_expect_eq(turn(), 0);
}

Test(desired_watch, git)
{
	put(".git/objects/ab/ce", "x");
	put(".git/COMMIT_EDITMSG", "x");
	put(".git/logs/HEAD", "x");
	put(".git/index.lock", "");
	put(".git/index", "x");
	drop(".git/index.lock");
	cr_expect_eq(turn(), 0, "what every 'git status' does");
	put(".git/refs/heads/main", "y\n");
	cr_expect_eq(turn(), 1);
	put(".git/MERGE_HEAD", "y\n");
	cr_expect_eq(turn(), 1);
	/* another branch, whose ref lies elsewhere */
	put(".git/refs/heads/topic/x", "z\n");
	put(".git/HEAD", "ref: refs/heads/topic/x\n");
	cr_expect_eq(turn(), 1);
	put(".git/refs/heads/topic/x", "w\n");
	cr_expect_eq(turn(), 1);
}

Test(desired_watch, drain)
{
	put("roles/etcd/new", "1");
	cr_expect(watch_drain(watch));
	cr_expect(!watch_drain(watch));
	cr_expect_eq(turn(), 0);
}

Test(desired_watch, overflow)
{
	/* more events than the kernel keeps for one descriptor, each unlike the one before, which would be merged with it */
	struct buf limit = {0};
	int64_t max = 0;
	cr_assert_eq(file_read(AT_FDCWD, "/proc/sys/fs/inotify/max_queued_events", 64, &limit, NULL), 0);
	limit.data[strcspn(limit.data, "\n")] = 0;
	cr_assert_eq(parse_int(limit.data, &max, NULL), 0);
	buf_release(&limit);
	if (max > 100000)
		cr_skip_test("max_queued_events is too large to fill the queue");
	_cleanup_free_ char *a = at("roles/etcd/a"), *b = at("roles/etcd/b");
	put("roles/etcd/a", "1");
	for (int64_t i = 0; i < max; i++)
		rename(i % 2 ? b : a, i % 2 ? a : b);
	put("roles/late/apply", "its creation is lost");
	cr_expect_eq(turn(), 1);
	put("roles/late/apply", "but it is watched");
	cr_expect_eq(turn(), 1);
}

Test(desired_watch, a_repo_that_is_not_there)
{
	struct watch *w = NULL;
	struct err *err = NULL;
	int rc = watch_open(&loop, "/nonexistent/repo", on_change, NULL, &w, &err);
	cr_expect_eq(rc, -ENOENT);
	cr_expect_null(w);
	err_free(err);
}

Test(desired_watch, where_links_of_documents_lead)
{
	_cleanup_free_ char *link = at("deployments/etcd/deployment.ini"), *dir = at("deployments/qa");
	char outside[] = "/tmp/rebarfs-outside.XXXXXX";
	cr_assert(mkdtemp(outside));
	_cleanup_free_ char *target = path_join(outside, "etcd.ini"), *other = path_join(outside, "other"), *qa = path_join(outside, "qa");
	_cleanup_free_ char *document = path_join(qa, "deployment.ini");
	cr_assert_eq(file_write_atomic(AT_FDCWD, target, "x", 1, 0644, NULL), 0);
	cr_assert_eq(unlink(link), 0);
	cr_assert_eq(symlink(target, link), 0);
	cr_assert_eq(mkdir(qa, 0755), 0);
	cr_assert_eq(symlink(qa, dir), 0);
	turn();
	turn();
	cr_assert_eq(file_write_atomic(AT_FDCWD, target, "y", 1, 0644, NULL), 0);
	cr_expect_eq(turn(), 1, "replaced");
	cr_assert_eq(truncate(target, 0), 0);
	cr_expect_eq(turn(), 1, "changed in place");
	cr_assert_eq(file_write_atomic(AT_FDCWD, other, "y", 1, 0644, NULL), 0);
	cr_expect_eq(turn(), 0, "what lies beside it is nobody's");
	cr_assert_eq(file_write_atomic(AT_FDCWD, document, "y", 1, 0644, NULL), 0);
	cr_expect_eq(turn(), 1, "in a directory behind a link");
	tree_remove(outside, NULL);
}
