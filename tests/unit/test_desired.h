/* A repo in a temporary directory, a schema that imitates the built-in providers and runners, and sentences to compare with. */
#ifndef TEST_DESIRED_H
#define TEST_DESIRED_H

#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "fs/desired/desired.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static char repo[64], store_dir[64];

static const struct key_row container_keys[] = {
        {"container", "boot", VALUE_ENUM, .dflt = "systemd", .values = "systemd,sshd"},
        {"image *", "suite", VALUE_STRING},
        {"image *", "packages", VALUE_LIST},
        {NULL},
};
static const struct key_row ssh_keys[] = {
        {"ssh", "user", VALUE_STRING, .dflt = "root"}, {"ssh", "port", VALUE_INT, .dflt = "22", .min = 1, .max = 65535}, {NULL}};
static const struct key_row ssh_node_keys[] = {{"node", "user", VALUE_STRING}, {"node", "port", VALUE_INT, .min = 1, .max = 65535}, {NULL}};
static const struct key_row fake_keys[] = {{"fake", "create-delay", VALUE_DURATION}, {"fake", "failure-rate", VALUE_FLOAT}, {NULL}};
static const struct key_row ansible_keys[] = {{"role", "become", VALUE_BOOL, .dflt = "yes"}, {"role", "playbook", VALUE_STRING}, {NULL}};

static int script_check(const char *dir, const struct settings *settings, struct err **err)
{
	struct stat st;
	_cleanup_free_ char *apply = path_join(dir, "apply");
	if (stat(apply, &st) < 0)
		return err_set(err, ENOENT, "there is no 'apply'");
	return st.st_mode & S_IXUSR ? 0 : err_set(err, EACCES, "'apply' is not executable: chmod +x it");
}

static int ansible_check(const char *dir, const struct settings *settings, struct err **err)
{
	struct stat st;
	_cleanup_free_ char *tasks = path_join(dir, "tasks/main.yml");
	return stat(tasks, &st) < 0 ? err_set(err, ENOENT, "there is neither 'playbook.yml' nor 'tasks/main.yml'") : 0;
}

static const struct schema_provider test_providers[] = {
        {"container", false, false, container_keys, NULL},
        {"ssh", true, true, ssh_keys, ssh_node_keys},
        {"fake", false, false, fake_keys, NULL},
};
static const struct schema_runner test_runners[] = {{"script", NULL, script_check}, {"ansible", ansible_keys, ansible_check}, {"none", NULL, NULL}};
static const struct desired_schema schema = {test_providers, 3, test_runners, 3};

static inline void put_mode(const char *path, const char *text, size_t len, mode_t mode)
{
	_cleanup_free_ char *full = path_join(repo, path);
	char *slash = strrchr(full, '/');
	*slash = 0;
	cr_assert_eq(dir_make_all(full, 0755, NULL), 0);
	*slash = '/';
	unlink(full);
	_cleanup_close_ int fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	cr_assert_geq(fd, 0, "%s", full);
	cr_assert_eq(fd_write_all(fd, text, len), 0);
	fchmod(fd, mode);
}

static inline void put(const char *path, const char *text)
{
	put_mode(path, text, strlen(text), 0644);
}

static inline void put_script(const char *path, const char *text)
{
	put_mode(path, text, strlen(text), 0755);
}

static inline void drop(const char *path)
{
	_cleanup_free_ char *full = path_join(repo, path);
	tree_remove(full, NULL);
}

static inline void make_repo(void)
{
	snprintf(repo, sizeof repo, "/tmp/rebarfs-test-repo-XXXXXX");
	snprintf(store_dir, sizeof store_dir, "/tmp/rebarfs-test-store-XXXXXX");
	cr_assert_not_null(mkdtemp(repo));
	cr_assert_not_null(mkdtemp(store_dir));
}

static inline void remove_repo(void)
{
	tree_remove(repo, NULL);
	tree_remove(store_dir, NULL);
}

/* The etcd example: three containers, two roles. */
static inline void put_etcd(void)
{
	put("providers/laptop/provider.ini", "[provider]\ntype = container\nmax-parallel = 4\nimage = debian-12\n");
	put("roles/base/role.ini", "[role]\nrunner = none\n");
	put("roles/etcd/role.ini", "[role]\nrunner = script\nrequires = base\nwants = nodes\ntimeout = 10m\nretries = 3\n\n[param quorum]\ntype = "
	                           "int\ndefault = 3\nmin = 1\nmax = 9\n");
	put_script("roles/etcd/apply", "#!/bin/sh\n");
	put("deployments/etcd/deployment.ini", "[deployment]\nprovider = laptop\nroles = base\n\n[nodes db]\ncount = 3\nmemory = 512M\ncpus = "
	                                       "1.5\nmax-down = 1\nroles = etcd\n\n[params etcd]\nquorum = 5\n");
}

static inline struct tree *read_tree_opt(const struct tree_options *opt)
{
	struct tree *t = NULL;
	struct err *err = NULL;
	cr_assert_eq(tree_read_repo(repo, opt, NULL, &t, &err), 0, "%s", err_msg(err));
	return t;
}

static inline struct desired *parse_tree(struct tree *t)
{
	struct desired *d = NULL;
	struct err *err = NULL;
	cr_assert_eq(desired_parse(t, &schema, &d, &err), 0, "%s", err_msg(err));
	return d;
}

static inline struct desired *parse_opt(const struct tree_options *opt)
{
	struct tree *t = read_tree_opt(opt);
	struct desired *d = parse_tree(t);
	tree_free(t);
	return d;
}

static inline struct desired *parse(void)
{
	return parse_opt(NULL);
}

/* All problems, one a line, as `rebarfs --check` prints them. */
static inline char *problems(const struct desired *d)
{
	struct buf b = {0};
	for (size_t i = 0; i < d->n_problems; i++) {
		const struct problem *p = &d->problems[i];
		if (p->line)
			buf_addf(&b, "%s:%d: %s\n", p->file, p->line, p->text);
		else
			buf_addf(&b, "%s: %s\n", p->file, p->text);
	}
	return buf_detach(&b, NULL);
}

#define expect_problems(want)                                                                                                                        \
	do {                                                                                                                                         \
		struct desired *d_ = parse();                                                                                                        \
		char *got_ = problems(d_);                                                                                                           \
		cr_expect_str_eq(got_, want, "got:\n%s\nwant:\n%s", got_, want);                                                                     \
		free(got_);                                                                                                                          \
		desired_unref(d_);                                                                                                                   \
	} while (0)

static inline const struct def_deployment *valid_deployment(const struct desired *d, const char *name)
{
	const struct def_deployment *dep = desired_deployment(d, name);
	cr_assert_not_null(dep);
	cr_assert(dep->valid, "%s: %s", name, dep->problem ? dep->problem : "(no problem told)");
	return dep;
}

static inline struct hash closure_of(const char *name)
{
	struct desired *d = parse();
	struct hash h = valid_deployment(d, name)->closure;
	desired_unref(d);
	return h;
}

#endif
