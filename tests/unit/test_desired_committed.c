/* What is committed, against real repos made with git: which file of a deployment is not what HEAD has, and how git is asked. */
#include "test_desired.h"
#include <sys/stat.h>

static struct committed *committed;
static char elsewhere[64]; /* beside the repo */

static void run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void run(const char *fmt, ...)
{
	struct buf b = {0};
	va_list ap;
	va_start(ap, fmt);
	buf_vaddf(&b, fmt, ap);
	va_end(ap);
	_cleanup_free_ char *command = xasprintf("cd %s && { %s\n} >%s/said 2>&1", repo, buf_str(&b), elsewhere);
	cr_assert_eq(system(command), 0, "%s", command);
	buf_release(&b);
}

static void make_world(void)
{
	make_repo();
	snprintf(elsewhere, sizeof elsewhere, "/tmp/rebarfs-test-beside-XXXXXX");
	cr_assert_not_null(mkdtemp(elsewhere));
	committed = committed_new();
	setenv("GIT_CONFIG_GLOBAL", "/dev/null", 1);
	setenv("GIT_CONFIG_NOSYSTEM", "1", 1);
	static const char *const who[] = {"GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"};
	for (size_t i = 0; i < 4; i++)
		setenv(who[i], "test@example.org", 1);
	put_etcd();
	alarm(100);
}

static void remove_world(void)
{
	committed_free(committed);
	tree_remove(elsewhere, NULL);
	remove_repo();
}

TestSuite(desired_committed, .init = make_world, .fini = remove_world);

static void commit(void)
{
	run("git add -A && git commit -qm x");
}

static void make_commit(void)
{
	run("git init -q .");
	commit();
}

static struct desired *compare(void)
{
	return parse_opt(&(struct tree_options){.committed = committed});
}

/* The first file of deployment etcd that is not committed; "": all are. */
static void expect_uncommitted(const char *want)
{
	struct desired *d = compare();
	const char *got = valid_deployment(d, "etcd")->uncommitted;
	cr_assert_null(d->incomparable, "%s", d->incomparable);
	cr_assert_not_null(d->commit);
	cr_expect_str_eq(got ? got : "", want, "got '%s', want '%s'", got ? got : "", want);
	desired_unref(d);
}

static void expect_incomparable(const char *want)
{
	struct desired *d = compare();
	cr_expect_null(d->commit);
	cr_expect(d->incomparable && strstr(d->incomparable, want), "'%s' is not in '%s'", want, d->incomparable ? d->incomparable : "(null)");
	cr_expect_null(valid_deployment(d, "etcd")->uncommitted);
	desired_unref(d);
}

Test(desired_committed, without_a_commit)
{
	expect_incomparable("the repo is not a git work tree");
	run("git init -q .");
	expect_incomparable("nothing is committed in the repo yet");
	commit();
	expect_uncommitted("");
}

Test(desired_committed, nobody_asked)
{
	make_commit();
	put_script("roles/etcd/apply", "#!/bin/sh\nfalse\n");
	struct desired *d = parse();
	cr_expect_not_null(d->commit);
	cr_expect_null(d->incomparable);
	cr_expect_null(valid_deployment(d, "etcd")->uncommitted);
	desired_unref(d);
}

Test(desired_committed, every_kind_of_change)
{
	put("roles/etcd/files/conf", "x\n");
	put("deployments/qa/deployment.ini", "[deployment]\nlike = etcd\n");
	make_commit();
	static const char *const changes[][2] = {
	        {"echo >>deployments/etcd/deployment.ini", "deployments/etcd/deployment.ini"},
	        {"echo >>providers/laptop/provider.ini", "providers/laptop/provider.ini"}, {"echo >>roles/base/role.ini", "roles/base/role.ini"},
	        {"echo >>roles/etcd/role.ini", "roles/etcd/role.ini"}, {"echo true >>roles/etcd/apply", "roles/etcd/apply"},
	        {"chmod +x roles/etcd/files/conf", "roles/etcd/files/conf"}, {"rm roles/etcd/files/conf", "roles/etcd/files/conf"},
	        {"ln -sf apply roles/etcd/files/conf", "roles/etcd/files/conf"}, {"echo >roles/etcd/new", "roles/etcd/new"},
	        {"echo new >.gitignore; echo >roles/etcd/new", "roles/etcd/new"}, /* what git ignores is content all the same */
	        {"echo true >>roles/etcd/apply; git add -A", "roles/etcd/apply"}, /* staged is not committed */
	        {"echo >>deployments/qa/deployment.ini", ""},                     /* not of this deployment */
	        {"mkdir -p roles/other && echo '[role]' >roles/other/role.ini", ""}, {"echo >roles/base/unused-because-runner-none", ""},
	        {"echo >roles/etcd/apply~; echo >roles/etcd/.swp; echo >README", ""},
	        {"touch roles/etcd/apply; git rm -q --cached -r .", ""}, /* the index is nobody's business */
	};
	expect_uncommitted("");
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		run("%s", changes[i][0]);
		expect_uncommitted(changes[i][1]);
		run("git reset -q --hard && git clean -qfdx");
		expect_uncommitted("");
	}
}

Test(desired_committed, removed_documents)
{
	put("deployments/qa/deployment.ini", "[deployment]\nlike = etcd\n");
	make_commit();
	drop("deployments/qa");
	struct desired *d = compare();
	cr_assert_eq(d->removed.n, 1);
	cr_expect_str_eq(d->removed.items[0], "deployments/qa/deployment.ini");
	desired_unref(d);
	commit();
	d = compare();
	cr_expect_eq(d->removed.n, 0);
	desired_unref(d);
}

Test(desired_committed, going_back)
{
	make_commit();
	put_script("roles/etcd/apply", "#!/bin/sh\ntrue\n");
	run("git commit -qam two");
	expect_uncommitted("");
	run("git checkout -q HEAD~1");
	expect_uncommitted("");
	run("git reset -q --soft main 2>/dev/null || git reset -q --soft master");
	expect_uncommitted("roles/etcd/apply");
}

Test(desired_committed, links)
{
	run("mkdir vendor && mv roles/etcd vendor/etcd && ln -s ../vendor/etcd roles/etcd");
	run("ln -s files/../apply roles/etcd/again; mkdir roles/etcd/files; mv deployments/etcd/deployment.ini vendor/d.ini; "
	    "ln -s ../../vendor/d.ini deployments/etcd/deployment.ini");
	make_commit();
	expect_uncommitted("");
	run("echo >>vendor/etcd/apply");
	expect_uncommitted("roles/etcd/apply");
	run("git checkout -q . && echo >>vendor/d.ini");
	expect_uncommitted("deployments/etcd/deployment.ini");
	run("git checkout -q . && ln -sf apply roles/etcd/again");
	expect_uncommitted("roles/etcd/again");
	run("git checkout -q . && cp -a vendor/etcd vendor/copy && ln -sfn ../vendor/copy roles/etcd"); /* the same bytes by another way */
	expect_uncommitted("roles/etcd/role.ini");
	run("git add -A && git commit -qm x && rm vendor/copy/apply && cp vendor/etcd/apply vendor/copy/apply");
	expect_uncommitted("");
	run("mv vendor/copy %s/copy && ln -sfn %s/copy roles/etcd && git add -A && git commit -qm x", elsewhere, elsewhere);
	expect_uncommitted("roles/etcd/role.ini"); /* out of the repo: nobody knows what was there */
}

Test(desired_committed, a_directory_of_a_work_tree)
{
	char top[sizeof repo];
	strcpy(top, repo);
	run("mkdir stages && mkdir .new && mv deployments providers roles .new && mv .new stages/qa");
	make_commit();
	strcat(repo, "/stages/qa");
	expect_uncommitted("");
	run("echo >>roles/etcd/apply");
	expect_uncommitted("roles/etcd/apply");
	strcpy(repo, top);
}

Test(desired_committed, git_directories_elsewhere)
{
	char top[sizeof repo];
	run("git init -q --separate-git-dir=%s/git .", elsewhere);
	commit();
	expect_uncommitted("");
	run("git worktree add -q %s/tree", elsewhere);
	strcpy(top, repo);
	strcpy(repo, elsewhere);
	strcat(repo, "/tree");
	expect_uncommitted("");
	run("echo >>roles/etcd/apply");
	expect_uncommitted("roles/etcd/apply");
	run("git commit -qam side");
	expect_uncommitted("");
	strcpy(repo, top);
	expect_uncommitted("");
}

Test(desired_committed, submodules)
{
	run("mv roles/etcd %s/etcd && cd %s/etcd && git init -q . && git add -A && git commit -qm module", elsewhere, elsewhere);
	run("git init -q . && git -c protocol.file.allow=always submodule add -q %s/etcd roles/etcd", elsewhere);
	commit();
	expect_uncommitted("");
	run("echo >>roles/etcd/apply");
	expect_uncommitted("roles/etcd/apply");
	run("git -C roles/etcd commit -qam further"); /* committed there, but not here */
	expect_uncommitted("roles/etcd/apply");
	commit();
	expect_uncommitted("");
}

Test(desired_committed, sha256)
{
	run("git init -q --object-format=sha256 .");
	commit();
	expect_uncommitted("");
	run("echo >>roles/etcd/apply");
	expect_uncommitted("roles/etcd/apply");
}

/* ---- how git is asked ---- */

static void put_git(const char *script)
{
	_cleanup_free_ char *path = xasprintf("%s/git", elsewhere), *now = xasprintf("%s:%s", elsewhere, getenv("PATH"));
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	cr_assert_eq(fd_write_all(fd, script, strlen(script)), 0);
	fchmod(fd, 0755);
	setenv("PATH", now, 1);
}

static char *said_by_git(void)
{
	struct buf b = {0};
	_cleanup_free_ char *path = xasprintf("%s/who", elsewhere);
	cr_assert_eq(file_read(AT_FDCWD, path, 1 << 16, &b, NULL), 0);
	return buf_detach(&b, NULL);
}

Test(desired_committed, as_the_owner_of_the_repo)
{
	make_commit();
	_cleanup_free_ char *script = xasprintf("#!/bin/sh\n{ id -u; id -G; env; echo \"$@\"; } >%s/who\nexec /usr/bin/git \"$@\"\n", elsewhere);
	put_git(script);
	setenv("GIT_DIR", "/nonexistent", 1); /* as in a daemon that a hook started */
	if (geteuid() == 0)
		run("chown -R 4711:4712 . && chmod 777 %s", elsewhere);
	expect_uncommitted("");
	_cleanup_free_ char *who = said_by_git();
	if (geteuid() == 0)
		cr_expect(!strncmp(who, "4711\n4712\n", 10), "%s", who);
	cr_expect_null(strstr(who, "GIT_DIR"), "%s", who);
	cr_expect_not_null(strstr(who, "\nGIT_OPTIONAL_LOCKS=0\n"));
	cr_expect_not_null(strstr(who, "core.fsmonitor=false"));
}

Test(desired_committed, no_program_of_the_configuration)
{
	make_commit();
	_cleanup_free_ char *mark = xasprintf("%s/ran", elsewhere);
	run("printf '#!/bin/sh\\ntouch %s\\n' >%s/evil && chmod +x %s/evil", mark, elsewhere, elsewhere);
	run("for k in core.fsmonitor core.pager pager.ls-tree alias.ls-tree core.sshCommand filter.x.clean filter.x.process "
	    "core.alternateRefsCommand; do "
	    "git config $k %s/evil; done; echo '* filter=x' >.git/info/attributes",
	        elsewhere);
	expect_uncommitted("");
	cr_expect_neq(access(mark, F_OK), 0, "git ran what the repo's configuration names");
}

Test(desired_committed, once_for_a_commit)
{
	make_commit();
	_cleanup_free_ char *script = xasprintf("#!/bin/sh\necho x >>%s/who\nexec /usr/bin/git \"$@\"\n", elsewhere);
	put_git(script);
	for (int i = 0; i < 3; i++) {
		expect_uncommitted(i ? "roles/etcd/apply" : "");
		put_script("roles/etcd/apply", "#!/bin/sh\nfalse\n");
	}
	_cleanup_free_ char *calls = said_by_git();
	cr_expect_str_eq(calls, "x\n");
}

Test(desired_committed, git_fails)
{
	make_commit();
	put_git("#!/bin/sh\necho 'fatal: this repo is cursed' >&2\nexit 128\n");
	expect_incomparable("cannot ask git for what is committed: 'git' failed: exit 128: fatal: this repo is cursed");
	setenv("PATH", "/nonexistent", 1);
	committed_free(committed);
	committed = committed_new();
	expect_incomparable("'git' is not installed");
}

Test(desired_committed, git_hangs)
{
	make_commit();
	put_git("#!/bin/sh\nsleep 60\n");
	int64_t began = monotonic_ms();
	expect_incomparable("'git' did not end in time and was stopped");
	cr_expect_lt(monotonic_ms() - began, 30000);
	began = monotonic_ms();
	expect_incomparable("did not end in time"); /* and is not asked again at once */
	cr_expect_lt(monotonic_ms() - began, 5000);
}
