/* Hashes that change when they should, and what is in force going into the store and coming back. */
#include "test_desired.h"
#include <dirent.h>
#include <jansson.h>

static struct content_store *store;

static void begin(void)
{
	make_repo();
	put_etcd();
	cr_assert_eq(content_open(store_dir, &store, NULL), 0);
}

static void end(void)
{
	content_close(store);
	remove_repo();
}

TestSuite(desired_keep, .init = begin, .fini = end);

/* ---- closure ---- */

static struct hash last;

static void same(const char *what)
{
	struct hash now = closure_of("etcd");
	cr_expect(hash_eq(&now, &last), "%s must not change the closure", what);
	last = now;
}

static void differs(const char *what)
{
	struct hash now = closure_of("etcd");
	cr_expect(!hash_eq(&now, &last), "%s must change the closure", what);
	last = now;
}

Test(desired_keep, closure)
{
	put("roles/other/role.ini", "[role]\nrunner = none\n");
	last = closure_of("etcd");
	same("nothing");
	put("roles/other/role.ini", "[role]\nrunner = none\nserial = 1\n");
	same("a role that is not used");
	put("deployments/qa/deployment.ini", "[deployment]\nlike = etcd\n");
	same("a deployment that is like it");
	put("providers/p/provider.ini", "[provider]\ntype = fake\n");
	put("nodes/n/node.ini", "[node]\nprovider = p\n");
	same("a provider and a node of nobody");
	put("roles/etcd/apply~", "left over");
	put("roles/etcd/.apply.swp", "left over");
	put("roles/etcd/#apply#", "left over");
	put("roles/etcd/.git", "gitdir: elsewhere");
	same("editors' leftovers");
	put("roles/base/files/x", "content of a role with runner none");
	same("content of a role that has none");
	_cleanup_free_ char *empty = path_join(repo, "roles/etcd/empty");
	mkdir(empty, 0755);
	same("an empty directory");
	put("roles/etcd/role.ini", "[role]\nrunner = script\nrequires = base\n[param quorum]\ntype = int\ndefault = 3\n");
	differs("role.ini");
	put("providers/laptop/provider.ini", "[provider]\ntype = container\n");
	differs("provider.ini");
	put("deployments/etcd/deployment.ini", "[deployment]\nprovider = laptop\nroles = base\n[nodes db]\ncount = 3\nroles = etcd\n");
	differs("deployment.ini");
	put_script("roles/etcd/apply", "#!/bin/sh\n:\n");
	differs("a script");
	put("roles/etcd/files/a", "a");
	differs("a new file");
	_cleanup_free_ char *a = path_join(repo, "roles/etcd/files/a"), *b = path_join(repo, "roles/etcd/files/b");
	rename(a, b);
	differs("a file renamed");
	chmod(b, 0744);
	differs("an x bit");
	chmod(b, 0755);
	same("an x bit for others");
	cr_assert_eq(symlink("b", a), 0);
	differs("a link");
	unlink(a);
	cr_assert_eq(symlink("c", a), 0);
	differs("a link's target");
	unlink(a);
	put("roles/etcd/files/a", "c");
	differs("a file in the place of a link");
	drop("deployments/qa");
	put("deployments/etcd/deployment.ini", "[deployment]\nprovider = p\nroles = base\n[nodes db]\nnodes = n\nroles = etcd\n");
	differs("other nodes");
	put("nodes/n/node.ini", "[node]\nprovider = p\nlabels = x\n");
	differs("a node's document");
}

Test(desired_keep, closure_of_a_child_holds_its_parents)
{
	put("deployments/qa/deployment.ini", "[deployment]\nlike = etcd\n");
	put("deployments/prod/deployment.ini", "[deployment]\nlike = qa\n");
	struct hash before = closure_of("prod");
	put("deployments/etcd/deployment.ini", "[deployment]\nprovider = laptop\nroles = base\n[nodes db]\ncount = 4\nroles = etcd\n");
	struct hash after = closure_of("prod");
	cr_expect(!hash_eq(&before, &after));
}

/* ---- content ---- */

static struct hash content(struct hash_cache *cache)
{
	struct tree *t;
	cr_assert_eq(tree_read_repo(repo, NULL, cache, &t, NULL), 0);
	struct desired *d = parse_tree(t);
	struct hash h = desired_role(d, "etcd")->content;
	desired_unref(d);
	tree_free(t);
	return h;
}

Test(desired_keep, a_role_behind_a_link_is_the_same_role)
{
	struct hash before = content(NULL);
	_cleanup_free_ char *role = path_join(repo, "roles/etcd"), *moved = path_join(repo, "elsewhere");
	cr_assert_eq(rename(role, moved), 0);
	cr_assert_eq(symlink("../elsewhere", role), 0);
	struct hash after = content(NULL);
	cr_expect(hash_eq(&before, &after));
}

Test(desired_keep, cached_hashes_are_the_same_hashes)
{
	struct hash_cache *cache = hash_cache_new();
	static const struct timespec old[2] = {{1000000000, 0}, {1000000000, 0}};
	_cleanup_free_ char *apply = path_join(repo, "roles/etcd/apply");
	put("roles/etcd/files/a", "one");
	struct hash a = content(cache), b = content(cache);
	cr_expect(hash_eq(&a, &b));
	/* same size, and a time stamp set back: only the time of change of the inode tells */
	put_script("roles/etcd/apply", "#!/bin/cc\n");
	utimensat(AT_FDCWD, apply, old, 0);
	struct hash c = content(cache);
	cr_expect(!hash_eq(&a, &c));
	sleep(2); /* entries become old enough to be remembered */
	struct hash d = content(cache), e = content(cache);
	cr_expect(hash_eq(&c, &d) && hash_eq(&c, &e));
	int fd = open(apply, O_WRONLY | O_CLOEXEC);
	cr_assert_eq(pwrite(fd, "#!/bin/ss", 9, 0), 9);
	close(fd);
	utimensat(AT_FDCWD, apply, old, 0);
	struct hash f = content(cache), g = content(NULL);
	cr_expect(!hash_eq(&c, &f));
	cr_expect(hash_eq(&f, &g));
	chmod(apply, 0644);
	hash_cache_free(cache);
}

static bool role_is_busy(struct hash_cache *cache)
{
	struct tree *t;
	cr_assert_eq(tree_read_repo(repo, NULL, cache, &t, NULL), 0);
	struct desired *d = parse_tree(t);
	bool busy = desired_role(d, "etcd")->src.busy;
	desired_unref(d);
	tree_free(t);
	return busy;
}

Test(desired_keep, what_is_being_written_is_not_read)
{
	static const char *const files[] = {"roles/etcd/role.ini", "roles/etcd/apply"};
	struct hash_cache *cache = hash_cache_new();
	for (size_t i = 0; i < 2; i++) {
		_cleanup_free_ char *path = path_join(repo, files[i]);
		int fd = open(path, O_RDWR | O_CLOEXEC);
		cr_expect(role_is_busy(cache), "%s", files[i]);
		cr_expect(!role_is_busy(NULL), "who checks a tree checks what lies there");
		close(fd);
		cr_expect(!role_is_busy(cache), "%s", files[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		cr_expect(!role_is_busy(cache), "a reader of '%s' is nobody's trouble", files[i]);
		close(fd);
	}
	hash_cache_free(cache);
}

Test(desired_keep, a_role_that_git_is_checking_out)
{
	struct hash_cache *cache = hash_cache_new();
	put("modules/etcd/HEAD", "ref: refs/heads/main\n");
	put("roles/etcd/.git", "gitdir: ../../modules/etcd\n");
	cr_expect(!role_is_busy(cache));
	put("modules/etcd/index.lock", "");
	cr_expect(role_is_busy(cache));
	static const struct timespec old[2] = {{1000000000, 0}, {1000000000, 0}};
	_cleanup_free_ char *lock = path_join(repo, "modules/etcd/index.lock");
	utimensat(AT_FDCWD, lock, old, 0);
	cr_expect(!role_is_busy(cache), "a lock that was left behind");
	hash_cache_free(cache);
}

static char *changes(const char *before, const char *now)
{
	struct buf out = {0};
	manifest_changes(before, now, &out);
	return buf_detach(&out, NULL);
}

Test(desired_keep, changes_between_manifests)
{
	static const char one[] =
	        "{\"documents\":{\"a\":{\"hash\":\"1111111122\"},\"b\":{\"hash\":\"2222222233\"}},\"contents\":{\"r\":\"3333333344\"}}";
	static const char two[] =
	        "{\"documents\":{\"a\":{\"hash\":\"1111111122\"},\"c\":{\"hash\":\"4444444455\"}},\"contents\":{\"r\":\"5555555566\"}}";
	_cleanup_free_ char *all = changes(NULL, one), *some = changes(one, two), *none = changes(two, two), *bad = changes("{", "[]");
	cr_expect_str_eq(all, "a 11111111, b 22222222, roles/r 33333333");
	cr_expect_str_eq(some, "c 44444444, b gone, roles/r 55555555");
	cr_expect_str_eq(none, "");
	cr_expect_str_eq(bad, "");
	struct buf many = {0};
	buf_adds(&many, "{\"documents\":{");
	for (int i = 0; i < 20; i++)
		buf_addf(&many, "%s\"%d\":{\"hash\":\"00000000\"}", i ? "," : "", i);
	buf_adds(&many, "}}");
	_cleanup_free_ char *cut = changes(NULL, buf_str(&many));
	cr_expect(strstr(cut, ", 7 00000000 and 12 more"), "%s", cut);
	buf_release(&many);
}

/* ---- keep and read back ---- */

static char *keep(const char *name, int want, struct err **err)
{
	struct tree *t = read_tree_opt(NULL);
	struct desired *d = parse_tree(t);
	char *manifest = NULL;
	int rc = desired_keep(t, repo, d, desired_deployment(d, name), store, &manifest, err);
	cr_assert_eq(rc, want, "%d %s", rc, err && *err ? err_msg(*err) : "");
	desired_unref(d);
	tree_free(t);
	return manifest;
}

static struct desired *read_kept(const char *manifest)
{
	struct tree *t = NULL;
	struct err *err = NULL;
	cr_assert_eq(tree_read_kept(store, manifest, &t, &err), 0, "%s", err_msg(err));
	struct desired *d = parse_tree(t);
	tree_free(t);
	return d;
}

static void expect_same(const struct def_deployment *a, const struct def_deployment *b)
{
	cr_expect(hash_eq(&a->closure, &b->closure));
	cr_assert_eq(a->n_groups, b->n_groups);
	cr_assert_eq(a->n_roles, b->n_roles);
	cr_assert_eq(a->n_values, b->n_values);
	cr_assert_eq(a->effective.n, b->effective.n);
	cr_expect_eq(a->apply_manual, b->apply_manual);
	cr_expect_eq(a->max_destroy, b->max_destroy);
	cr_expect_eq(a->src.mode, b->src.mode);
	cr_expect_eq(a->src.uid, b->src.uid);
	cr_expect(hash_eq(&a->src.hash, &b->src.hash));
	for (size_t i = 0; i < a->n_groups; i++) {
		cr_expect_str_eq(a->groups[i].name, b->groups[i].name);
		cr_expect_eq(a->groups[i].count, b->groups[i].count);
		cr_expect_eq(a->groups[i].nodes.n, b->groups[i].nodes.n);
		cr_expect_eq(a->groups[i].n_roles, b->groups[i].n_roles);
	}
	for (size_t i = 0; i < a->n_roles; i++) {
		cr_expect_str_eq(a->roles[i]->name, b->roles[i]->name);
		cr_expect(hash_eq(&a->roles[i]->content, &b->roles[i]->content));
		cr_expect(hash_eq(&a->roles[i]->runner_keys, &b->roles[i]->runner_keys));
	}
	for (size_t i = 0; i < a->n_values; i++)
		cr_expect_str_eq(a->values[i].origin, b->values[i].origin);
}

static void round_trip(const char *name)
{
	struct desired *d = parse();
	char *manifest = keep(name, 0, NULL);
	struct desired *kept = read_kept(manifest);
	expect_same(valid_deployment(d, name), valid_deployment(kept, name));
	desired_unref(d);
	desired_unref(kept);
	free(manifest);
}

Test(desired_keep, round_trip)
{
	put("roles/etcd/files/deep/er/x", "x");
	put_script("roles/etcd/files/run", "#!/bin/sh\n");
	_cleanup_free_ char *link = path_join(repo, "roles/etcd/files/link");
	cr_assert_eq(symlink("../apply", link), 0);
	_cleanup_free_ char *doc = path_join(repo, "deployments/etcd/deployment.ini");
	if (!geteuid())
		cr_assert_eq(chown(doc, 1234, 4321), 0);
	cr_assert_eq(chmod(doc, 0664), 0);
	round_trip("etcd");
	round_trip("etcd"); /* all of it is there already */
}

/* What the parent and the roles name beside what is used is not kept, and not missed. */
Test(desired_keep, round_trip_of_a_closure_with_loose_ends)
{
	put("providers/dc1/provider.ini", "[provider]\ntype = ssh\n");
	put("roles/other/role.ini", "[role]\nrunner = none\n[param x]\n");
	put("roles/etcd/role.ini", "[role]\nrunner = script\nrequires = base\nafter = other\nconflicts = other\n[param quorum]\ndefault = 1\n");
	put("nodes/n1/node.ini", "[node]\naddress = 10.0.0.1\n[params other]\nx = 1\n[params etcd]\nquorum = 2\n");
	put("deployments/prod/deployment.ini", "[deployment]\nlike = etcd\nprovider = dc1\nowner = root\n[nodes db]\nnodes = n1\n");
	round_trip("prod");
}

Test(desired_keep, the_repo_may_go)
{
	char *manifest = keep("etcd", 0, NULL);
	json_t *m = json_loads(manifest, 0, NULL);
	cr_expect_str_eq(json_string_value(json_object_get(m, "deployment")), "etcd");
	cr_expect_eq(json_object_size(json_object_get(m, "documents")), 4);
	cr_expect_eq(json_object_size(json_object_get(m, "contents")), 1);
	json_decref(m);
	drop("roles");
	drop("providers");
	struct desired *kept = read_kept(manifest);
	const struct def_deployment *dep = valid_deployment(kept, "etcd");
	_cleanup_free_ char *dir = content_path(store, &dep->roles[1]->content);
	_cleanup_free_ char *apply = path_join(dir, "apply");
	struct stat st;
	cr_assert_eq(stat(apply, &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0555);
	cr_assert_eq(stat(dir, &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0555);
	/* what was read from the store can be kept from there again */
	struct tree *t;
	cr_assert_eq(tree_read_kept(store, manifest, &t, NULL), 0);
	struct desired *again = parse_tree(t);
	char *second = NULL;
	cr_expect_eq(desired_keep(t, repo, again, desired_deployment(again, "etcd"), store, &second, NULL), 0);
	cr_expect_str_eq(second, manifest);
	free(second);
	tree_free(t);
	desired_unref(again);
	desired_unref(kept);
	free(manifest);
}

Test(desired_keep, what_changed_meanwhile_is_not_kept)
{
	struct tree *t = read_tree_opt(NULL);
	struct desired *d = parse_tree(t);
	char *manifest = NULL;
	struct err *err = NULL;
	put_script("roles/etcd/apply", "#!/bin/sh\nexit 1\n");
	cr_expect_eq(desired_keep(t, repo, d, desired_deployment(d, "etcd"), store, &manifest, &err), -EAGAIN);
	cr_expect(strstr(err_msg(err), "changed while it was copied"), "%s", err_msg(err));
	cr_expect_null(manifest);
	/* and nothing half done lies in the store */
	char hex[HASH_HEX];
	hash_hex(&desired_role(d, "etcd")->content, hex);
	_cleanup_free_ char *dir = xasprintf("%s/%.2s", store_dir, hex);
	DIR *list = opendir(dir);
	for (struct dirent *e; list && (e = readdir(list));)
		cr_expect(!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."), "%s is left", e->d_name);
	if (list)
		closedir(list);
	err_free(err);
	desired_unref(d);
	tree_free(t);
}

Test(desired_keep, only_what_is_valid)
{
	struct err *err = NULL;
	put("deployments/etcd/deployment.ini", "[deployment]\nprovider = laptop\nrolls = x\n");
	cr_expect_null(keep("etcd", -EINVAL, &err));
	cr_expect_str_eq(err_msg(err),
	        "deployment 'etcd' cannot be kept: deployments/etcd/deployment.ini:3: unknown key 'rolls' in [deployment] (did you mean 'roles'?)");
	err_free(err);
}

Test(desired_keep, what_is_missing_or_damaged_in_the_store)
{
	char *manifest = keep("etcd", 0, NULL);
	struct desired *d = parse();
	struct tree *t = NULL;
	struct err *err = NULL;
	_cleanup_free_ char *doc = content_path(store, &desired_role(d, "etcd")->src.hash),
	                    *dir = content_path(store, &desired_role(d, "etcd")->content);
	int fd = open(doc, O_WRONLY | O_TRUNC | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	close(fd);
	cr_expect_eq(tree_read_kept(store, manifest, &t, &err), -EIO);
	unlink(doc);
	cr_expect_eq(tree_read_kept(store, manifest, &t, &err), -ENOENT);
	tree_remove(dir, NULL);
	cr_expect_eq(tree_read_kept(store, manifest, &t, &err), -ENOENT);
	cr_expect_eq(tree_read_kept(store, "[]", &t, &err), -EINVAL);
	cr_expect_eq(tree_read_kept(store, "{\"documents\": {\"roles/x/role.ini\": {}}}", &t, &err), -EINVAL);
	cr_expect_eq(tree_read_kept(store, "{\"contents\": {\"x\": 1}}", &t, &err), -EINVAL);
	cr_expect_null(t);
	err_free(err);
	/* keeping once more mends it */
	free(keep("etcd", 0, NULL));
	desired_unref(read_kept(manifest));
	desired_unref(d);
	free(manifest);
}

Test(desired_keep, leftovers_of_a_killed_daemon_go)
{
	_cleanup_free_ char *sub = path_join(store_dir, "ab/.new-1-1/x");
	cr_assert_eq(dir_make_all(sub, 0755, NULL), 0);
	struct content_store *again;
	cr_assert_eq(content_open(store_dir, &again, NULL), 0);
	cr_expect_eq(access(sub, F_OK), -1);
	content_close(again);
}

Test(desired_keep, without_being_root)
{
	if (geteuid())
		cr_skip_test("only root can become somebody else");
	put("roles/etcd/files/deep/er/x", "x");
	cr_assert_eq(chmod(repo, 0755), 0);
	cr_assert_eq(chown(store_dir, 65534, 65534), 0);
	cr_assert_eq(setegid(65534), 0);
	cr_assert_eq(seteuid(65534), 0);
	round_trip("etcd");
	struct tree *t = read_tree_opt(NULL);
	struct desired *d = parse_tree(t);
	char *manifest = NULL;
	cr_assert_eq(seteuid(0), 0);
	put("roles/etcd/files/deep/er/y", "y");
	cr_assert_eq(seteuid(65534), 0);
	_cleanup_free_ char *dir = content_path(store, &desired_role(d, "etcd")->content);
	cr_assert_eq(seteuid(0), 0);
	tree_remove(dir, NULL);
	cr_assert_eq(seteuid(65534), 0);
	cr_expect_eq(desired_keep(t, repo, d, desired_deployment(d, "etcd"), store, &manifest, NULL), -EAGAIN);
	cr_assert_eq(seteuid(0), 0);
	cr_assert_eq(setegid(0), 0);
	desired_unref(d);
	tree_free(t);
}
