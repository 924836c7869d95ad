/* What secret:NAME stands for: when it is fetched, who becomes due by it, what is said when it cannot be had, and that its value is never seen. */
#include "tests/unit/test_engine.h"

static char secrets_dir[112];

static void make(void)
{
	make_world();
	snprintf(secrets_dir, sizeof secrets_dir, "%s/secrets", state_dir);
	cr_assert_eq(mkdir(secrets_dir, 0700), 0);
}

TestSuite(secrets, .init = make, .fini = end_world);

static void put_secret(const char *name, const char *value, mode_t mode)
{
	_cleanup_free_ char *path = path_join(secrets_dir, name), *dir = xstrdup(path);
	*strrchr(dir, '/') = 0;
	cr_assert_eq(dir_make_all(dir, 0700, NULL), 0);
	cr_assert_eq(file_write_atomic(AT_FDCWD, path, value, strlen(value), mode, NULL), 0);
}

static void drop_secret(const char *name)
{
	_cleanup_free_ char *path = path_join(secrets_dir, name);
	cr_assert_eq(unlink(path), 0);
}

/* app on two nodes takes the secret, base on both does not. */
static void put_app(const char *value)
{
	put_provider("sim", "", QUICK);
	put_role("base", "");
	put_role("app", "requires = base\n[param password]\nsecret = yes\n");
	_cleanup_free_ char *text =
	        xasprintf("[deployment]\nprovider = sim\nroles = base\n[nodes n]\ncount = 2\nroles = app\n[params app]\npassword = %s\n", value);
	put(D_INI, text);
}

/* As eventually(), for what takes the lock itself. */
#define within_patience(cond)                                                                                                                        \
	do {                                                                                                                                         \
		int64_t end_ = monotonic_ms() + PATIENCE_MS;                                                                                         \
		while (!(cond) && monotonic_ms() < end_)                                                                                             \
			nap();                                                                                                                       \
		cr_assert(cond, "never came true: %s", #cond);                                                                                       \
	} while (0)

/* Nothing that is kept holds the text. */
static void nowhere(const char *text)
{
	_cleanup_free_ char *command = xasprintf("grep -rqaF --exclude-dir=secrets -- '%s' '%s' '%s'", text, state_dir, repo);
	cr_expect_neq(system(command), 0, "'%s' is in the state directory or the repo", text);
}

Test(secrets, a_file_makes_its_users_run)
{
	put_secret("db", "correct horse\n", 0600);
	put_app("secret:db");
	open_engine();
	rest("d", true);
	cr_expect_eq(runs_of("d"), 4);
	nowhere("correct horse");
}

Test(secrets, a_changed_file_makes_exactly_its_users_due)
{
	put_secret("db", "one one one\n", 0600);
	put_secret("other", "other\n", 0600);
	put_app("secret:db");
	put_provider("sim", "apply = manual\n", QUICK);
	open_engine();
	rest("d", false);
	cr_assert_eq(ctl("d", "apply"), 0);
	rest("d", true);
	put_secret("db", "two two two\n", 0600);
	eventually(deployment_state(dep("d")) == DS_PROPOSED);
	expect_in_plan("d", ": 2 run\n~ run  app on d-n-1  password changed\n~ run  app on d-n-2  password changed\n");
	cr_expect_eq(n_events(NULL, NULL, "secret 'db' changed"), 1);
	cr_assert_eq(ctl("d", "apply"), 0);
	rest("d", true);
	cr_expect_eq(n_runs("d-n-1", "app"), 2);
	cr_expect_eq(n_runs("d-n-1", "base"), 1);
	put_secret("other", "other, not used\n", 0600);
	put_secret("db", "two two two", 0600); /* the newline at its end is not part of it */
	nap();
	rest("d", true);
	cr_expect_eq(runs_of("d"), 6);
	nowhere("two two two");
}

Test(secrets, a_restart_asks_files_again_and_runs_nothing)
{
	put_secret("db", "one one one\n", 0600);
	put_app("secret:db");
	open_engine();
	rest("d", true);
	close_engine();
	open_engine();
	rest("d", true);
	cr_expect_eq(runs_of("d"), 4);
	close_engine();
	put_secret("db", "changed while nobody looked\n", 0600);
	open_engine();
	within_patience(n_runs("d-n-2", "app") == 2);
	rest("d", true);
	cr_expect_eq(n_runs("d-n-1", "app"), 2);
	cr_expect_eq(n_runs("d-n-1", "base"), 1);
}

Test(secrets, a_missing_one_is_said_and_comes_by_itself)
{
	put_app("secret:infra/db");
	open_engine();
	rest("d", false);
	expect_has(why_of("d-n-1", "app"), "error: secret 'infra/db': there is no '");
	expect_has(why_of("d-n-1", "app"), "/secrets/infra/db': write the value into it, with mode 0600");
	expect_has(dep_why("d"), "app on d-n-1 failed: secret 'infra/db'");
	cr_expect(locked(state_is("d-n-1", "base", NR_ACTIVE)));
	expect_in_plan("d", "~ run  app on d-n-1  known after secret 'infra/db'\n");
	put_secret("infra/db", "at last\n", 0600);
	eventually(at_rest("d", true));
	cr_expect_eq(n_events(NULL, NULL, "secret 'infra/db': there is no '"), 1, "said once, however often it is looked for");
}

Test(secrets, one_that_others_can_read_is_refused_until_retry)
{
	put_secret("db", "for everybody\n", 0644);
	put_app("secret:db");
	open_engine();
	rest("d", false);
	expect_has(why_of("d-n-1", "app"), "others can read '");
	expect_has(why_of("d-n-1", "app"), "(mode 0644): chmod 600 it");
	_cleanup_free_ char *path = path_join(secrets_dir, "db");
	cr_assert_eq(chmod(path, 0600), 0);
	cr_assert_eq(ctl("d", "retry"), 0);
	rest("d", true);
}

Test(secrets, what_is_no_value_is_told_without_it)
{
	put_secret("empty", "\n", 0600);
	put_app("secret:empty");
	open_engine();
	rest("d", false);
	expect_has(why_of("d-n-1", "app"), "secret 'empty': its value is empty");
	_cleanup_free_ char *fifo = path_join(secrets_dir, "fifo"), *dir = path_join(secrets_dir, "dir");
	cr_assert_eq(mkfifo(fifo, 0600), 0);
	cr_assert_eq(mkdir(dir, 0700), 0);
	edit(D_INI, "secret:empty", "secret:fifo");
	rest("d", false);
	expect_has(why_of("d-n-1", "app"), "fifo' is not a file");
	edit(D_INI, "secret:fifo", "secret:dir");
	rest("d", false);
	expect_has(why_of("d-n-1", "app"), "dir' is not a file");
}

Test(secrets, a_value_of_the_wrong_type_is_told_without_it)
{
	put_secret("n", "4711xyz\n", 0600);
	put_app("secret:n");
	put_role("app", "requires = base\n[param password]\nsecret = yes\ntype = int\n");
	open_engine();
	rest("d", false);
	expect_has(why_of("d-n-1", "app"), "secret 'n' is not what parameter 'password' of role app takes (int)");
	nowhere("4711xyz");
	put_secret("n", "4711\n", 0600);
	eventually(at_rest("d", true));
}

Test(secrets, a_failed_one_leaves_what_is_active_alone)
{
	put_secret("db", "one one one\n", 0600);
	put_app("secret:db");
	open_engine();
	rest("d", true);
	drop_secret("db");
	within_patience(n_events(NULL, NULL, "secret 'db': there is no '") == 1);
	rest("d", true);
	cr_assert_eq(ctl_role("d-n-1", "app", "run"), 0);
	eventually(state_is("d-n-1", "app", NR_ERROR));
	cr_expect(locked(state_is("d-n-2", "app", NR_ACTIVE)));
	put_secret("db", "one one one\n", 0600);
	rest("d", true);
	cr_expect_eq(n_runs("d-n-1", "app"), 2);
	cr_expect_eq(n_runs("d-n-2", "app"), 1);
}

static char command[256];

static void use_command(const char *format)
{
	snprintf(command, sizeof command, "%s", format);
	secrets_source = command;
}

Test(secrets, a_command_prints_them)
{
	_cleanup_free_ char *text = xasprintf("echo asked >> %s/asked; echo value of %%s | rev", world), *asked = path_join(world, "asked");
	use_command(text);
	put_app("secret:db");
	open_engine();
	rest("d", true);
	nowhere("bd fo eulav");
	struct stat st;
	cr_assert_eq(stat(asked, &st), 0);
	cr_expect_eq(st.st_size, 6, "one fetch serves all that start together");
	close_engine();
	open_engine();
	rest("d", true);
	cr_assert_eq(stat(asked, &st), 0);
	cr_expect_eq(st.st_size, 6, "a restart asks for nothing: the hash stands");
	/* Rotated where no file tells of it: the run that somebody asks for finds out, and nobody else's does before that. */
	_cleanup_free_ char *other = xstrdup("echo other %s | rev");
	close_engine();
	use_command(other);
	open_engine();
	rest("d", true);
	cr_assert_eq(ctl_role("d-n-1", "app", "run"), 0);
	within_patience(n_runs("d-n-2", "app") == 2);
	rest("d", true);
	cr_expect_eq(n_runs("d-n-1", "app"), 2);
}

Test(secrets, a_command_that_fails_is_told_by_its_last_words)
{
	_cleanup_free_ char *text = xasprintf("[ -e %s/open ] && echo value && exit; echo half a value; echo it is locked >&2; exit 3", world);
	_cleanup_free_ char *open = path_join(world, "open"), *with_name = xasprintf("true %%s; %s", text);
	use_command(with_name);
	put_app("secret:db");
	open_engine();
	rest("d", false);
	expect_has(why_of("d-n-1", "app"), "secret 'db': 'the secret command' failed: exit 3: it is locked");
	nowhere("half a value");
	cr_assert_eq(file_write_atomic(AT_FDCWD, open, "", 0, 0600, NULL), 0);
	cr_assert_eq(ctl_role("d-n-1", "app", "retry"), 0);
	rest("d", true);
}

Test(secrets, sources_that_cannot_be_used)
{
	_cleanup_err_ struct err *err = NULL;
	secrets_source = "pass show";
	cr_expect_lt(try_open(NULL, &err), 0);
	cr_expect(strstr(err_msg(err), "secrets=pass show is neither the path of a directory nor a command"), "%s", err_msg(err));
	engine = NULL;
	cr_assert_eq(chmod(secrets_dir, 0777), 0);
	secrets_source = secrets_dir;
	cr_expect_lt(try_open(NULL, &err), 0);
	cr_expect(strstr(err_msg(err), "others can write to '"), "%s", err_msg(err));
	engine = NULL;
}

Test(secrets, a_value_in_a_document_is_a_mistake)
{
	put_secret("db", "correct horse\n", 0600);
	put_app("secret:db");
	open_engine();
	rest("d", true);
	cr_expect_eq(set_value("d", "params app", "password", "hunter2hunter2"), -EINVAL);
	expect_has(xstrdup(refused_why), "parameter 'password' of role 'app' must be secret:NAME");
	cr_expect_eq(set_value("d", "params app", "password", "secret:../../etc/shadow"), -EINVAL);
	expect_has(xstrdup(refused_why), "names no secret");
	nowhere("hunter2");
}

Test(secrets, inputs_show_the_name)
{
	put_secret("db", "correct horse\n", 0600);
	put_app("secret:db");
	open_engine();
	rest("d", true);
	json_t *in = locked(node_role_inputs(model, nr_of("d-n-1", "app"), true));
	const char *value = json_string_value(json_object_get(json_object_get(json_object_get(in, "params"), "password"), "value"));
	cr_expect_str_eq(value, "secret:db");
	json_decref(in);
}

Test(secrets, an_output_reads_as_secret_and_only_a_mark_is_kept)
{
	put_provider("sim", "", QUICK);
	put_role("maker", "[output token]\nsecret = yes\n[output plain]\n");
	put_role("taker", "wants = maker.token\n");
	put(D_INI, "[deployment]\nprovider = sim\n[nodes n]\ncount = 2\nroles = maker, taker\n");
	open_engine();
	rest("d", true);
	model_rdlock(model);
	const struct node_role *maker = nr_of("d-n-1", "maker");
	cr_assert_eq(maker->n_outputs, 2);
	cr_expect_str_eq(maker->outputs[1].key, "token");
	cr_expect_str_eq(output_shown(&maker->outputs[1]), "secret");
	cr_expect_eq(strlen(maker->outputs[1].value), 65, "a mark and a hash");
	cr_expect_str_eq(output_shown(&maker->outputs[0]), maker->outputs[0].value);
	json_t *in = node_role_inputs(model, nr_of("d-n-2", "taker"), true);
	model_unlock(model);
	json_t *table = json_object_get(json_object_get(json_object_get(in, "outputs"), "maker"), "token");
	cr_expect_str_eq(json_string_value(json_object_get(table, "d-n-1")), "secret");
	json_decref(in);
	close_engine();
	open_engine();
	rest("d", true);
	cr_expect_eq(runs_of("d"), 4, "the mark stands across a restart");
}
