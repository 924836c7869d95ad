/* Every kind of mistake, with its place and its sentence. */
#include "test_desired.h"
#include <sys/socket.h>
#include <sys/un.h>

static void make_etcd(void)
{
	make_repo();
	put_etcd();
}

TestSuite(desired_mistakes, .init = make_etcd, .fini = remove_repo);

/* The form of documents. */

Test(desired_mistakes, lines)
{
	put("deployments/etcd/deployment.ini", "provider = laptop\n[deployment]\nnonsense\n[nodes db\ncount = 3\n= 4\n[]\n[nodes db] count\n");
	expect_problems(
	        "deployments/etcd/deployment.ini:1: a key before the first [section]\n"
	        "deployments/etcd/deployment.ini:3: 'nonsense' is neither [section] nor 'key = value' (a line that continues a value is indented)\n"
	        "deployments/etcd/deployment.ini:4: a section's heading has no ']'\n"
	        "deployments/etcd/deployment.ini:5: unknown key 'count' in [deployment]\n"
	        "deployments/etcd/deployment.ini:6: there is no key before the '='\n"
	        "deployments/etcd/deployment.ini:7: a section's heading is empty\n"
	        "deployments/etcd/deployment.ini:8: there is something behind the ']' of a section's heading: it would be ignored\n");
}

/* A misspelt 'count' is one mistake: that the group has no nodes only follows from it, and would be told first. */
Test(desired_mistakes, a_cause_without_its_consequence)
{
	put("deployments/etcd/deployment.ini", "[deployment]\nprovider = laptop\nroles = base\n\n[nodes db]\ncuont = 3\nroles = etcd\n");
	expect_problems("deployments/etcd/deployment.ini:6: unknown key 'cuont' in [nodes db] (did you mean 'count'?)\n");
}

Test(desired_mistakes, what_the_reader_would_cut)
{
	struct buf b = {0};
	buf_adds(&b, "[role]\nrunner = none\n[output p]\nhelp = ");
	for (int i = 0; i < 192; i++)
		buf_addc(&b, 'x');
	put("roles/base/role.ini", buf_str(&b)); /* 199 bytes: the longest that is read */
	expect_problems("");
	buf_addc(&b, 'x');
	put("roles/base/role.ini", buf_str(&b));
	expect_problems("roles/base/role.ini:4: the line has 200 bytes, at most 199 are read: continue a long value on indented lines\n");
	put("roles/base/role.ini",
	        "[role]\nrunner = none\n[output a22222222222222222222222222222222222222222]\n[output a222222222222222222222222222222222222222222]\n");
	expect_problems("roles/base/role.ini:4: a section's heading is longer than 49 bytes: the rest would be cut off\n");
	put("roles/base/role.ini", "[role]\nrunner = none\na2345678901234567890123456789012345678901234567890 = 1\n");
	expect_problems("roles/base/role.ini:3: a key is longer than 49 bytes: the rest would be cut off\n");
	buf_release(&b);
}

Test(desired_mistakes, bytes)
{
	put_mode("roles/base/role.ini", "[role]\nrunner = none\n; \xc3\x28\n", 26, 0644);
	expect_problems("roles/base/role.ini:3: byte 0xc3 at column 3 is not UTF-8 text\n");
	put_mode("roles/base/role.ini", "[role]\nrunner = none\n\0\n", 23, 0644);
	expect_problems("roles/base/role.ini:3: a NUL byte at column 1: this is not a text file\n");
	put("roles/base/role.ini", "[role]\nrunner = none\n\x1b[31m\n");
	expect_problems("roles/base/role.ini:3: a control character (0x1b) at column 1\n");
	put("roles/base/role.ini", "[role]\nrunner = none\n[output p]\nhelp = gr\xc3\xb6\xc3\x9f"
	                           "er \xe2\x82\xac \xf0\x9f\x98\x80\n");
	expect_problems("");
}

Test(desired_mistakes, continued_lines)
{
	put("roles/base/role.ini", "[role]\nrunner = none\n[param p]\nhelp = one\n two ; three\n");
	expect_problems("roles/base/role.ini:5: a ';' behind a blank in a continued line: put the comment on a line of its own\n");
	put("roles/base/role.ini", "[role]\nrunner = none\n");
	put("deployments/etcd/deployment.ini", "[deployment]\nprovider = laptop\n[nodes db]\ncount = 3\n  roles = etcd\n");
	expect_problems("deployments/etcd/deployment.ini:4: 'count' must be a whole number from 0 to 100000, not '3 roles = etcd'\n");
	/* inih takes the second indented key for more of the first one's value */
	put("deployments/etcd/deployment.ini", "[deployment]\nprovider = laptop\n[nodes db]\n  count = 3\n  roles = etcd\n");
	expect_problems("deployments/etcd/deployment.ini:5: an indented line continues the value above; the key there is indented as much, so this "
	                "looks like "
	                "a key: indent no keys\n");
}

Test(desired_mistakes, keys_set_twice)
{
	put("deployments/etcd/deployment.ini",
	        "[deployment]\nprovider = laptop\n[nodes db]\ncount = 3\n[deployment]\nroles = etcd\n[nodes db]\ncount = 4\n 5\n");
	expect_problems("deployments/etcd/deployment.ini:8: 'count' is set in [nodes db] already, at line 4\n");
}

Test(desired_mistakes, sections_and_keys)
{
	put("roles/base/role.ini", "[rolle]\nrunner = none\n[role]\nrunner = none\nrequries = etcd\n[param]\n[outputs x]\n[zzzzzzzz]\n");
	put("deployments/etcd/deployment.ini",
	        "[deployment]\nprovider = laptop\nrolls = base\n[nodes]\ncount = 1\n[nods db]\n[deployment x]\n[params]\n[params etcd db]\n");
	expect_problems("deployments/etcd/deployment.ini:3: unknown key 'rolls' in [deployment] (did you mean 'roles'?)\n"
	                "deployments/etcd/deployment.ini:4: unknown section [nodes]: it is written [nodes NAME]\n"
	                "deployments/etcd/deployment.ini:6: unknown section [nods db] (did you mean [nodes db]?)\n"
	                "deployments/etcd/deployment.ini:7: unknown section [deployment x]: it is written [deployment]\n"
	                "deployments/etcd/deployment.ini:8: [params] is written [params ROLE] or [params ROLE @GROUP]\n"
	                "deployments/etcd/deployment.ini:9: [params etcd db] is written [params ROLE] or [params ROLE @GROUP]\n"
	                "roles/base/role.ini:1: unknown section [rolle] (did you mean [role]?)\n"
	                "roles/base/role.ini:5: unknown key 'requries' in [role] (did you mean 'requires'?)\n"
	                "roles/base/role.ini:6: unknown section [param]: it is written [param NAME]\n"
	                "roles/base/role.ini:7: unknown section [outputs x] (did you mean [output x]?)\n"
	                "roles/base/role.ini:8: unknown section [zzzzzzzz]\n");
}

Test(desired_mistakes, values)
{
	put("deployments/etcd/deployment.ini", "[deployment]\nprovider = laptop\napply = maybe\nlike =\n[nodes db]\ncount = lots\ncpus = -1\n");
	expect_problems("deployments/etcd/deployment.ini:3: 'apply' must be one of auto, manual, not 'maybe'\n"
	                "deployments/etcd/deployment.ini:4: 'like' has no value\n"
	                "deployments/etcd/deployment.ini:6: 'count' must be a whole number from 0 to 100000, not 'lots'\n"
	                "deployments/etcd/deployment.ini:7: 'cpus' must be more than 0, not '-1'\n");
}

Test(desired_mistakes, names_of_directories)
{
	put("roles/Web.1/role.ini", "[role]\nrunner = none\n");
	put("deployments/etcd/deployment.ini", "[deployment]\nprovider = laptop\n[nodes DB]\ncount = 1\n");
	struct desired *d = parse();
	cr_assert_eq(d->n_problems, 2);
	cr_expect_str_eq(d->problems[0].file, "deployments/etcd/deployment.ini");
	cr_expect_eq(d->problems[0].line, 3);
	cr_expect(!strncmp(d->problems[0].text, "group 'DB' has no good name: ", 29));
	cr_expect(!strncmp(d->problems[1].text, "the directory 'roles/Web.1' has no good name: ", 46));
	cr_expect_eq(d->problems[1].line, 0);
	desired_unref(d);
}

/* Providers and runners. */

Test(desired_mistakes, types_and_their_keys)
{
	put("providers/laptop/provider.ini", "[provider]\ntype = continer\n");
	put("providers/other/provider.ini", "[provider]\ntype = ssh\n[container]\nboot = sshd\n[ssh]\nusr = me\nport = 70000\n");
	put("roles/base/role.ini", "[role]\nrunner = scrpt\nbecome = yes\n");
	put("roles/etcd/role.ini", "[role]\ntimeout = 5m\nbecome = yes\n");
	put("deployments/etcd/deployment.ini", "[deployment]\n");
	expect_problems("providers/laptop/provider.ini:2: unknown provider type 'continer' (did you mean 'container'?)\n"
	                "providers/other/provider.ini:3: unknown section [container]\n"
	                "providers/other/provider.ini:6: unknown key 'usr' in [ssh] (did you mean 'user'?)\n"
	                "providers/other/provider.ini:7: 'port' must be a whole number from 1 to 65535, not '70000'\n"
	                "roles/base/role.ini:2: unknown runner 'scrpt' (did you mean 'script'?)\n"
	                "roles/etcd/role.ini:1: [role] has no 'runner': say script, ansible or none\n"
	                "roles/etcd/role.ini:3: unknown key 'become' in [role]\n");
}

Test(desired_mistakes, content)
{
	put_mode("roles/etcd/apply", "#!/bin/sh\n", 10, 0644);
	expect_problems("roles/etcd/role.ini:2: 'apply' is not executable: chmod +x it\n");
	drop("roles/etcd/apply");
	expect_problems("roles/etcd/role.ini:2: there is no 'apply'\n");
	put_script("roles/etcd/apply", "#!/bin/sh\n");
	_cleanup_free_ char *pipe = path_join(repo, "roles/etcd/pipe");
	mkfifo(pipe, 0644);
	expect_problems("roles/etcd/pipe: 'pipe' is a pipe: only files, directories and links can be content\n");
	drop("roles/etcd/pipe");
	put("roles/none-needs-none/role.ini", "[role]\nrunner = none\n");
	expect_problems("");
}

Test(desired_mistakes, documents_that_are_no_files)
{
	_cleanup_free_ char *doc = path_join(repo, "roles/base/role.ini");
	unlink(doc);
	mkdir(doc, 0755);
	expect_problems("roles/base/role.ini: is a directory, not a file\n");
	rmdir(doc);
	mkfifo(doc, 0644);
	expect_problems("roles/base/role.ini: is a pipe, not a file\n");
	unlink(doc);
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	snprintf(name.sun_path, sizeof name.sun_path, "%s", doc);
	cr_assert_eq(bind(fd, (struct sockaddr *)&name, sizeof name), 0);
	expect_problems("roles/base/role.ini: is a socket, not a file\n");
	unlink(doc);
	cr_assert_eq(symlink("/dev/zero", doc), 0); /* mknod would need root */
	expect_problems("roles/base/role.ini: is a device, not a file\n");
	unlink(doc);
	cr_assert_eq(symlink("role.ini", doc), 0);
	expect_problems("roles/base/role.ini: cannot be read: Too many levels of symbolic links\n");
	unlink(doc);
	cr_assert_eq(symlink("nowhere", doc), 0);
	expect_problems("roles/base/role.ini: is a link to what is not there\n");
}

Test(desired_mistakes, directories_that_are_none)
{
	_cleanup_free_ char *dir = path_join(repo, "roles/base");
	drop("roles/base");
	cr_assert_eq(symlink("nowhere", dir), 0);
	expect_problems("roles/base/role.ini: lies behind a link to what is not there\n");
	unlink(dir);
	cr_assert_eq(symlink("base", dir), 0);
	expect_problems("roles/base/role.ini: cannot be read: Too many levels of symbolic links\n");
	drop("roles");
	put("roles", "no directory\n");
	struct desired *d = parse();
	cr_assert_geq(d->n_problems, 1);
	char *all = problems(d);
	cr_expect(strstr(all, "roles: cannot be read: Not a directory\n"), "%s", all);
	free(all);
	desired_unref(d);
}

Test(desired_mistakes, sizes)
{
	size_t max = 1 << 20;
	_cleanup_free_ char *big = xcalloc(1, max + 2);
	memset(big, '\n', max);
	memcpy(big, "[role]\nrunner = none\n", 21);
	put("roles/base/role.ini", big);
	expect_problems("");
	big[max] = '\n';
	put("roles/base/role.ini", big);
	expect_problems("roles/base/role.ini: is larger than 1 MiB: this is not a document\n");
}

/* Columns are bytes, from 1: where the line has what the sentence quotes, else where its text begins. */

static void expect_columns(const char *want)
{
	struct desired *d = parse();
	_cleanup_buf_ struct buf got = {0};
	for (size_t i = 0; i < d->n_problems; i++)
		buf_addf(&got, "%d:%d ", d->problems[i].line, d->problems[i].column);
	char *all = problems(d);
	cr_expect_str_eq(buf_str(&got), want, "got %s for\n%s", buf_str(&got), all);
	free(all);
	desired_unref(d);
}

Test(desired_mistakes, columns)
{
	put("deployments/etcd/deployment.ini", "[deployment]\n"
	                                       "provider = laptop\n"
	                                       "roles = base, bsae\n" /* the name that is wrong, not the one that is meant */
	                                       "[nodes db]\n"
	                                       "count = lots\n"
	                                       "cuont = 3\n"
	                                       " [nodes]\n");
	expect_columns("3:15 5:9 6:1 ");
	put("deployments/etcd/deployment.ini", "  [deployment] ; blanks before a heading are no harm\n"
	                                       "provider = laptop\n"
	                                       "[nodes db] x\n"
	                                       "count = \xc3\x28\n"
	                                       "= 4\n");
	expect_columns("3:12 4:9 5:1 ");
	put("deployments/etcd/deployment.ini", "[deployment]\nprovider = laptop\n[nodes db]\ncount = 1\n count = 2\n[nodes db]\ncount = 3\n");
	expect_columns("4:1 7:1 ");
}

Test(desired_mistakes, a_heading_of_quotes)
{
	put("deployments/etcd/deployment.ini", "[deployment]\nprovider = laptop\n[\" \"]\n");
	expect_problems("deployments/etcd/deployment.ini:3: a section's heading is empty\n");
}

/* A name that is no text, a line that would be cut within a character: a mistake stays one line of text. */
Test(desired_mistakes, sentences_are_text)
{
	put("roles/base/role.ini", "[role]\nrunner = none\nabcdefghijklmnopqrstuvwxyzabcdefghijklm\xc3\xa4\xc3\xa4\n");
	expect_problems("roles/base/role.ini:3: 'abcdefghijklmnopqrstuvwxyzabcdefghijklm?' is neither [section] nor 'key = value' (a line that "
	                "continues a value is indented)\n");
	put("roles/base/role.ini", "[role]\nrunner = none\n");
	_cleanup_free_ char *pipe = path_join(repo, "roles/etcd/\nx\xff");
	mkfifo(pipe, 0644);
	expect_problems("roles/etcd/?x?: '?x?' is a pipe: only files, directories and links can be content\n");
}

Test(desired_mistakes, unreadable)
{
	/* root reads everything: another user is asked to read */
	if (geteuid())
		cr_skip_test("only root can become somebody else");
	_cleanup_free_ char *doc = path_join(repo, "roles/base/role.ini");
	chmod(repo, 0755);
	chmod(doc, 0);
	cr_assert_eq(seteuid(65534), 0);
	struct desired *d = parse();
	cr_assert_eq(seteuid(0), 0);
	char *all = problems(d);
	cr_expect_str_eq(all, "roles/base/role.ini: cannot be read: Permission denied\n", "%s", all);
	cr_expect_eq(d->problems[0].code, EACCES);
	cr_expect(!desired_deployment(d, "etcd")->valid);
	cr_expect_str_eq(desired_deployment(d, "etcd")->problem, "roles/base/role.ini: cannot be read: Permission denied");
	free(all);
	desired_unref(d);
}

/* Parameters and outputs as roles declare them. */

Test(desired_mistakes, declarations)
{
	put("deployments/etcd/deployment.ini", "[deployment]\n");
	put("roles/etcd/role.ini", "[role]\nrunner = script\n"
	                           "[param a]\ntype = integer\n"                            /* 4 */
	                           "[param b]\ntype = int\nmin = 5\nmax = 4\n"              /* 8 */
	                           "[param c]\ntype = enum\n"                               /* 9 */
	                           "[param d]\nmin = 1\nvalues = x\n"                       /* 12, 13 */
	                           "[param e]\ntype = int\nmin = 1\ndefault = 0\n"          /* 17 */
	                           "[param 1f]\n"                                           /* 18 */
	                           "[param g]\ntype = int\ndefault = many\n"                /* 21 */
	                           "[output a/b]\n"                                         /* 22 */
	                           "[output k]\nttl = soon\n"                               /* 24 */
	                           "[param h]\ntype = enum\nvalues = a, b\ndefault = c\n"); /* 28 */
	struct desired *d = parse();
	static const struct {
		int line;
		const char *text;
	} want[] = {
	        {4, "'type' must be one of"},
	        {8, "'max' is below 'min' (5)"},
	        {9, "parameter 'c' is an enum without 'values'"},
	        {12, "'min' does not go with type = string"},
	        {13, "'values' goes with type = enum, this is string"},
	        {17, "the default of parameter 'e' must be at least 1, not 0"},
	        {18, "'1f' cannot be a parameter: a letter, then letters, digits, '_' and '-'"},
	        {21, "the default of parameter 'g' must be a whole number, not 'many'"},
	        {22, "'a/b' cannot be an output: a letter, then letters, digits, '_', '-' and '.'"},
	        {24, "'ttl' must be a duration"},
	        {28, "the default of parameter 'h' must be one of a, b, not 'c'"},
	};
	char *all = problems(d);
	cr_assert_eq(d->n_problems, sizeof want / sizeof *want, "%s", all);
	for (size_t i = 0; i < d->n_problems; i++) {
		cr_expect(d->problems[i].line == want[i].line, "%s", all);
		cr_expect(!strncmp(d->problems[i].text, want[i].text, strlen(want[i].text)), "%s", all);
	}
	cr_expect_eq(d->problems[5].code, ERANGE);
	free(all);
	desired_unref(d);
}

Test(desired_mistakes, wants)
{
	put("roles/etcd/role.ini", "[role]\nrunner = script\nwants = noodes, facts.memry, base.versoin, bse.x, etcd.y, nodes\n[output z]\n");
	put("roles/base/role.ini", "[role]\nrunner = none\n[output version]\n");
	put("deployments/etcd/deployment.ini", "[deployment]\n");
	expect_problems("roles/etcd/role.ini:3: 'wants' makes a cycle: etcd -> etcd\n"
	                "roles/etcd/role.ini:3: 'wants' names no fact 'memry' (did you mean 'memory'?)\n"
	                "roles/etcd/role.ini:3: 'wants' names output 'versoin', which role 'base' does not declare (did you mean 'version'?)\n"
	                "roles/etcd/role.ini:3: 'wants' names role 'bse', which is not there (did you mean 'base'?)\n"
	                "roles/etcd/role.ini:3: 'wants' takes nodes, node, facts.KEY and ROLE.KEY, not 'noodes' (did you mean 'nodes'?)\n");
}

Test(desired_mistakes, wanted_role_is_not_used)
{
	put("roles/etcd/role.ini", "[role]\nrunner = script\nwants = ca.cert\n");
	put("roles/ca/role.ini", "[role]\nrunner = none\n");
	put("deployments/etcd/deployment.ini", "[deployment]\nprovider = laptop\nroles = etcd\n[nodes db]\ncount = 1\n");
	expect_problems("deployments/etcd/deployment.ini:3: role 'etcd' wants 'ca.cert', but role 'ca' is not used here: add it to 'roles'\n");
	put("deployments/etcd/deployment.ini",
	        "[deployment]\nprovider = laptop\nroles = etcd\n[nodes db]\ncount = 1\n[nodes ca]\ncount = 1\nroles = ca\n");
	expect_problems("");
}

/* References and circles. */

Test(desired_mistakes, references)
{
	put("roles/etcd/role.ini",
	        "[role]\nrunner = script\nrequires = bass\nafter = nothing-like-it\nconflicts = bsae\n[param quorum]\ndefault = 1\n");
	put("deployments/etcd/deployment.ini", "[deployment]\nprovider = lapptop\nroles = etdc\nowner = nobody-of-that-name\ngroup = "
	                                       "no-such-group\n[nodes db]\ncount = 1\nroles = base, ghost\n");
	put("deployments/qa/deployment.ini", "[deployment]\nlike = etcdd\n");
	put("nodes/n1/node.ini", "[node]\nprovider = dc1\n[params bsae]\nx = 1\n[params]\n[params base @db]\n");
	expect_problems("deployments/etcd/deployment.ini:2: there is no provider 'lapptop' (did you mean 'laptop'?)\n"
	                "deployments/etcd/deployment.ini:3: there is no role 'etdc' (did you mean 'etcd'?)\n"
	                "deployments/etcd/deployment.ini:4: 'owner' names user 'nobody-of-that-name', who is not known here\n"
	                "deployments/etcd/deployment.ini:5: 'group' names group 'no-such-group', which is not known here\n"
	                "deployments/etcd/deployment.ini:8: there is no role 'ghost'\n"
	                "deployments/qa/deployment.ini:2: 'like' names deployment 'etcdd', which is not there (did you mean 'etcd'?)\n"
	                "nodes/n1/node.ini:2: there is no provider 'dc1'\n"
	                "nodes/n1/node.ini:3: there is no role 'bsae' (did you mean 'base'?)\n"
	                "nodes/n1/node.ini:5: [params] is written [params ROLE] in a node's document\n"
	                "nodes/n1/node.ini:6: [params base @db] is written [params ROLE] in a node's document\n"
	                "roles/etcd/role.ini:3: 'requires' names role 'bass', which is not there (did you mean 'base'?)\n"
	                "roles/etcd/role.ini:4: 'after' names role 'nothing-like-it', which is not there\n"
	                "roles/etcd/role.ini:5: 'conflicts' names role 'bsae', which is not there (did you mean 'base'?)\n");
}

Test(desired_mistakes, circles_of_roles)
{
	put("roles/a/role.ini", "[role]\nrunner = none\nrequires = b\n");
	put("roles/b/role.ini", "[role]\nrunner = none\n\nafter = c\n");
	put("roles/c/role.ini", "[role]\nrunner = none\n\n\nwants = a.x\n");
	put("roles/d/role.ini", "[role]\nrunner = none\nrequires = d, a\n");
	expect_problems("roles/a/role.ini:3: 'requires' makes a cycle: a -> b -> c -> a\n"
	                "roles/b/role.ini:4: 'after' makes a cycle: b -> c -> a -> b\n"
	                "roles/c/role.ini:5: 'wants' makes a cycle: c -> a -> b -> c\n"
	                "roles/d/role.ini:3: 'requires' makes a cycle: d -> d\n");
	put("deployments/x/deployment.ini", "[deployment]\nprovider = laptop\nroles = d\n[nodes n]\ncount = 1\n");
	struct desired *d = parse();
	cr_expect(!desired_deployment(d, "x")->valid);
	cr_expect(desired_deployment(d, "etcd")->valid);
	cr_expect_str_eq(desired_role(d, "b")->problem, "roles/b/role.ini:4: 'after' makes a cycle: b -> c -> a -> b");
	for (size_t i = 0; i < d->n_problems; i++)
		cr_expect_eq(d->problems[i].code, ELOOP);
	desired_unref(d);
}

Test(desired_mistakes, circles_of_deployments)
{
	put("deployments/a/deployment.ini", "[deployment]\nlike = b\n");
	put("deployments/b/deployment.ini", "[deployment]\nprovider = laptop\nlike = c\n");
	put("deployments/c/deployment.ini", "[deployment]\nlike = b\n");
	put("deployments/d/deployment.ini", "[deployment]\nlike = d\n");
	expect_problems("deployments/b/deployment.ini:3: 'like' makes a cycle: b -> c -> b\n"
	                "deployments/c/deployment.ini:2: 'like' makes a cycle: c -> b -> c\n"
	                "deployments/d/deployment.ini:2: 'like' makes a cycle: d -> d\n");
	struct desired *d = parse();
	cr_expect(!desired_deployment(d, "a")->valid);
	cr_expect_str_eq(desired_deployment(d, "a")->problem, "deployments/b/deployment.ini:3: 'like' makes a cycle: b -> c -> b");
	desired_unref(d);
}

/* Groups and nodes. */

Test(desired_mistakes, groups)
{
	put("providers/dc1/provider.ini", "[provider]\ntype = ssh\n");
	put("nodes/n1/node.ini", "[node]\nprovider = dc1\naddress = 10.0.0.1\n");
	put("nodes/n2/node.ini", "[node]\nprovider = laptop\n");
	put("deployments/etcd/deployment.ini",
	        "[deployment]\n[nodes a]\ncount = 1\n[nodes b]\nprovider = dc1\ncount = 2\n[nodes c]\nprovider = dc1\n"
	        "[nodes d]\nprovider = dc1\nnodes = n1, n2, n3, n1\n[nodes e]\nprovider = dc1\ncount = 1\nnodes = n4-[1-\n"
	        "[nodes f]\nprovider = dc1\nnodes = N5\n");
	struct desired *d = parse();
	char *all = problems(d);
	static const char want[] =
	        "deployments/etcd/deployment.ini:2: group 'a' has no provider: say 'provider = NAME' in [deployment] or in [nodes a]\n"
	        "deployments/etcd/deployment.ini:6: provider 'dc1' makes no machines (type ssh): name declared ones, 'nodes = NAME, ...' instead of "
	        "'count'\n"
	        "deployments/etcd/deployment.ini:7: group 'c' has no nodes: say 'count = N' or 'nodes = NAME, ...'\n"
	        "deployments/etcd/deployment.ini:11: node 'n1' is named twice in group 'd'\n"
	        "deployments/etcd/deployment.ini:11: node 'n2' is of provider 'laptop' (nodes/n2/node.ini:2), group 'd' takes its nodes from 'dc1'\n"
	        "deployments/etcd/deployment.ini:11: node 'n3' is not declared: nodes/n3/node.ini is not there (did you mean 'n1'?)\n"
	        "deployments/etcd/deployment.ini:15: 'n4-[1-' is not a node set: there is no ']'\n"
	        "deployments/etcd/deployment.ini:15: group 'e' has both 'count' (line 14) and 'nodes': say one\n"
	        "deployments/etcd/deployment.ini:18: 'N5' cannot be a node: ";
	cr_expect(!strncmp(all, want, sizeof want - 1), "%s", all);
	free(all);
	desired_unref(d);
}

Test(desired_mistakes, a_set_of_many_that_was_mistyped)
{
	put("deployments/x/deployment.ini", "[deployment]\nprovider = laptop\n[nodes db]\nnodes = r[1-100000]\n");
	struct desired *d = parse();
	cr_assert_eq(d->n_problems, 6);
	cr_expect_str_eq(d->problems[0].text, "node 'r1' is not declared: nodes/r1/node.ini is not there");
	cr_expect_str_eq(d->problems[5].text, "there may be more wrong with the 100000 nodes of group 'db': these are the first 5");
	desired_unref(d);
}

Test(desired_mistakes, names_that_cannot_be_shown)
{
	put("roles/a\nb/role.ini", "[role]\n");
	put("roles/\xc3\xa4/files", "no document: nobody's business");
	expect_problems("roles: a directory with a role.ini has blanks or unprintable bytes in its name\n");
}

Test(desired_mistakes, long_names)
{
	put("deployments/a234567890123456789012345678901/deployment.ini",
	        "[deployment]\nprovider = laptop\n[nodes a2345678901234567890123456789]\ncount = 9\n[nodes a23456789012345678901234567890]\ncount = "
	        "1\n");
	struct desired *d = parse();
	cr_assert_eq(d->n_problems, 1);
	cr_expect_eq(d->problems[0].line, 6);
	cr_expect_str_eq(d->problems[0].text,
	        "the node name 'a234567890123456789012345678901-a23456789012345678901234567890-1' is longer than 63 bytes: shorten the "
	        "deployment's or the group's name");
	desired_unref(d);
}

Test(desired_mistakes, one_node_in_two_places)
{
	put("providers/dc1/provider.ini", "[provider]\ntype = ssh\n");
	put("nodes/n1/node.ini", "[node]\nprovider = dc1\naddress = 10.0.0.1\n");
	put("deployments/a/deployment.ini", "[deployment]\nprovider = dc1\n[nodes x]\nnodes = n1\n");
	put("deployments/b/deployment.ini", "[deployment]\nprovider = dc1\n[nodes y]\nnodes = n1\n");
	expect_problems(
	        "deployments/a/deployment.ini:4: node 'n1' is in two places: in group 'x' of deployment 'a', and in group 'y' of deployment 'b' "
	        "(deployments/b/deployment.ini:4)\n"
	        "deployments/b/deployment.ini:4: node 'n1' is in two places: in group 'y' of deployment 'b', and in group 'x' of deployment 'a' "
	        "(deployments/a/deployment.ini:4)\n");
	struct desired *d = parse();
	cr_expect(!desired_deployment(d, "a")->valid && !desired_deployment(d, "b")->valid && desired_deployment(d, "etcd")->valid);
	desired_unref(d);
	drop("deployments/b");
	put("deployments/a/deployment.ini", "[deployment]\nprovider = dc1\n[nodes x]\nnodes = n1\n[nodes z]\nnodes = n1\n");
	d = parse();
	cr_expect_eq(d->n_problems, 2);
	desired_unref(d);
}

Test(desired_mistakes, made_and_declared)
{
	put("nodes/etcd-db-2/node.ini", "[node]\nprovider = laptop\n");
	expect_problems("deployments/etcd/deployment.ini:6: node 'etcd-db-2' is in two places: made by 'count' for group 'db', and declared in "
	                "nodes/etcd-db-2/node.ini\n");
	drop("nodes");
	/* "a-b" + "c" and "a" + "b-c" make the same names */
	put("deployments/a-b/deployment.ini", "[deployment]\nprovider = laptop\n[nodes c]\ncount = 2\n");
	put("deployments/a/deployment.ini", "[deployment]\nprovider = laptop\n[nodes b-c]\ncount = 3\n");
	struct desired *d = parse();
	cr_expect_eq(d->n_problems, 2);
	cr_expect_str_eq(d->problems[0].file, "deployments/a-b/deployment.ini");
	cr_expect(strstr(d->problems[0].text, "node 'a-b-c-1' is in two places"));
	desired_unref(d);
}

Test(desired_mistakes, a_child_that_inherits_nodes)
{
	put("providers/dc1/provider.ini", "[provider]\ntype = ssh\n");
	put("nodes/n1/node.ini", "[node]\nprovider = dc1\naddress = 10.0.0.1\n");
	put("deployments/a/deployment.ini", "[deployment]\nprovider = dc1\n[nodes x]\nnodes = n1\n");
	put("deployments/b/deployment.ini", "[deployment]\nlike = a\n");
	struct desired *d = parse();
	char *all = problems(d);
	cr_expect_eq(d->n_problems, 2, "%s", all);
	cr_expect_str_eq(desired_deployment(d, "b")->problem,
	        "deployments/a/deployment.ini:4: node 'n1' is in two places: in group 'x' of deployment 'b', and in "
	        "group 'x' of deployment 'a' (deployments/a/deployment.ini:4)");
	free(all);
	desired_unref(d);
}

Test(desired_mistakes, conflicts)
{
	put("roles/a/role.ini", "[role]\nrunner = none\nconflicts = b, engine\n");
	put("roles/b/role.ini", "[role]\nrunner = none\n");
	put("roles/c/role.ini", "[role]\nrunner = none\nprovides = engine\n");
	put("deployments/etcd/deployment.ini", "[deployment]\nprovider = laptop\nroles = a\n[nodes x]\ncount = 1\nroles = b\n[nodes y]\ncount = "
	                                       "1\nroles = c\n[nodes z]\ncount = 1\n");
	expect_problems("deployments/etcd/deployment.ini:6: roles 'a' and 'b' conflict, and both are on group 'x'\n"
	                "deployments/etcd/deployment.ini:9: role 'a' conflicts with 'engine', which role 'c' on group 'y' provides\n");
}

/* Parameters set. */

Test(desired_mistakes, parameters)
{
	put("deployments/etcd/deployment.ini",
	        "[deployment]\nprovider = laptop\nroles = base\n[nodes db]\ncount = 1\nroles = etcd\n[nodes web]\ncount = 1\n"
	        "[params etcd]\nqorum = 4\nquorum = ten\n"
	        "[params edcd]\nquorum = 5\n"
	        "[params etcd @dbb]\nquorum = 5\n"
	        "[params etcd @web]\nquorum = 5\n"
	        "[params etcd @db]\nquorum = 12\n");
	put("nodes/n1/node.ini", "[node]\nprovider = laptop\n[params etcd]\nquorum = x\nq = 1\n");
	struct desired *d = parse();
	char *all = problems(d);
	static const struct {
		int line, code;
		const char *text;
	} want[] = {
	        {10, EINVAL, "role 'etcd' has no parameter 'qorum' (did you mean 'quorum'?)"},
	        {11, EINVAL, "parameter 'quorum' of role 'etcd' must be "},
	        {12, EINVAL, "role 'edcd' is not used in this deployment (did you mean 'etcd'?)"},
	        {14, ENOENT, "there is no group 'dbb' in this deployment (did you mean 'db'?)"},
	        {16, EINVAL, "role 'etcd' is not on the nodes of group 'web'"},
	        {19, ERANGE, "parameter 'quorum' of role 'etcd' must be "},
	        {4, EINVAL, "parameter 'quorum' of role 'etcd' must be "},
	        {5, EINVAL, "role 'etcd' has no parameter 'q'"},
	};
	cr_assert_eq(d->n_problems, 8, "%s", all);
	for (size_t i = 0; i < 8; i++) {
		cr_expect_eq(d->problems[i].line, want[i].line, "%s", all);
		cr_expect_eq(d->problems[i].code, want[i].code, "%s", all);
		cr_expect(!strncmp(d->problems[i].text, want[i].text, strlen(want[i].text)), "%s", all);
	}
	free(all);
	desired_unref(d);
}

Test(desired_mistakes, parameters_that_are_one_variable)
{
	put("roles/etcd/role.ini",
	        "[role]\nrunner = script\n[param max-size]\ndefault = 1\n[param max_size]\ndefault = 1\n[param Max_Sized]\ndefault = 1\n");
	expect_problems("roles/etcd/role.ini:5: parameters 'max-size' (line 3) and 'max_size' would be one variable to scripts and tools: rename "
	                "one\n");
}

Test(desired_mistakes, parameters_that_must_be_set)
{
	put("roles/etcd/role.ini", "[role]\nrunner = script\n[param token]\n");
	put("deployments/etcd/deployment.ini", "[deployment]\nprovider = laptop\n[nodes db]\ncount = 1\nroles = etcd\n");
	expect_problems("deployments/etcd/deployment.ini:5: parameter 'token' of role 'etcd' has no default and is not set for group 'db': set it "
	                "under [params etcd]\n");
	put("deployments/qa/deployment.ini", "[deployment]\nlike = etcd\n[params etcd]\ntoken = t\n");
	struct desired *d = parse();
	cr_expect(desired_deployment(d, "qa")->valid, "%s", desired_deployment(d, "qa")->problem);
	cr_expect(!desired_deployment(d, "etcd")->valid);
	desired_unref(d);
	put("providers/laptop/provider.ini", "[provider]\ntype = ssh\n");
	put("nodes/n1/node.ini", "[node]\n[params etcd]\ntoken = a\n");
	put("nodes/n2/node.ini", "[node]\n");
	drop("deployments/qa");
	put("deployments/etcd/deployment.ini", "[deployment]\nprovider = laptop\n[nodes db]\nnodes = n1\nroles = etcd\n");
	expect_problems("");
	put("deployments/etcd/deployment.ini", "[deployment]\nprovider = laptop\n[nodes db]\nnodes = n1, n2\nroles = etcd\n");
	d = parse();
	cr_expect_eq(d->n_problems, 1);
	desired_unref(d);
}

/* Whose mistake it is. */

Test(desired_mistakes, others_are_not_touched)
{
	put("roles/broken/role.ini", "[role]\nrunner = nonesuch\n");
	put("providers/broken/provider.ini", "[provider]\ntype = nonesuch\n");
	put("nodes/broken/node.ini", "[nod]\n");
	put("deployments/broken/deployment.ini", "[deployment]\nprovider = broken\nroles = broken\n");
	put("deployments/uses/deployment.ini", "[deployment]\nprovider = laptop\nroles = broken\n[nodes n]\ncount = 1\n");
	put("deployments/like-broken/deployment.ini", "[deployment]\nlike = uses\nroles = base\n");
	struct desired *d = parse();
	cr_expect(desired_deployment(d, "etcd")->valid);
	cr_expect(!desired_deployment(d, "broken")->valid);
	cr_expect(!desired_deployment(d, "uses")->valid);
	cr_expect_str_eq(desired_deployment(d, "uses")->problem, "roles/broken/role.ini:2: unknown runner 'nonesuch'");
	/* its parent is right in form, and what the parent refers to and it does not is not its own */
	cr_expect(desired_deployment(d, "like-broken")->valid, "%s", desired_deployment(d, "like-broken")->problem);
	desired_unref(d);
	put("deployments/uses/deployment.ini", "[deployment]\nprovider = laptop\nroles = base\nrols = x\n[nodes n]\ncount = 1\n");
	d = parse();
	cr_expect(!desired_deployment(d, "like-broken")->valid);
	cr_expect_str_eq(desired_deployment(d, "like-broken")->problem,
	        "deployments/uses/deployment.ini:4: unknown key 'rols' in [deployment] (did you mean 'roles'?)");
	desired_unref(d);
}

Test(desired_mistakes, an_output_that_nothing_renews)
{
	put("roles/base/role.ini", "[role]\nrunner = none\nonce = yes\n[output token]\nttl = 1h\n");
	expect_problems("roles/base/role.ini:5: output 'token' cannot have a 'ttl': another run renews it, and this role says once = yes\n");
}
