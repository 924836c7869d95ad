/* How an image is made is part of what a node was built from: another recipe under the same name is a rebuild, one that a person confirms. */
#include "tests/unit/test_engine.h"
#include <sqlite3.h>

TestSuite(image, .init = make_world, .fini = end_world);

#define P_INI "providers/sim/provider.ini"
#define SCRIPT "providers/sim/prepare.sh"

static void put_images(void)
{
	put_web();
	put(P_INI, "[provider]\ntype = fake\nimage = debian-12\n[fake]\n" QUICK "[image debian-12]\npackages = curl, vim\nscript = prepare.sh\n"
	           "[image other]\npackages = curl\n");
	put(SCRIPT, "#!/bin/sh\ntrue\n");
}

static void built(void)
{
	put_images();
	open_engine();
	rest("d", true);
}

/* Statements of a database that is not open. */
static void sql(const char *text)
{
	_cleanup_free_ char *path = path_join(state_dir, "rebarfs.db");
	sqlite3 *db;
	cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK, "%s: %s", text, sqlite3_errmsg(db));
	sqlite3_close(db);
}

static int64_t incarnation(const char *name)
{
	return locked(node(name)->row.incarnation);
}

Test(image, packages_added_and_taken_away)
{
	built();
	edit(P_INI, "curl, vim", "curl, jq");
	rest("d", false);
	expect_in_plan("d", ": 2 rebuild, 2 confirm\n! node d-n-1  confirm: image debian-12: packages + jq - vim: its disk is lost\n");
	expect_has(why_of("d-n-1", NULL), "a rebuild is in the plan and waits for 'apply ID'");
	cr_expect_eq(ctl("d", "apply"), 0, "%s", refused_why);
	rest("d", false);
	cr_expect_eq(incarnation("d-n-1"), 1, "no automatism rebuilds, and no bare apply");
	cr_assert_eq(apply_id("d"), 0, "%s", refused_why);
	rest("d", true);
	cr_expect_eq(incarnation("d-n-1"), 2);
	cr_expect_eq(incarnation("d-n-2"), 2);
	expect_plan("d", "plan -: nothing to do\n");
}

Test(image, another_order_is_the_same_image)
{
	built();
	edit(P_INI, "curl, vim", "vim,  curl");
	rest("d", true);
	expect_plan("d", "plan -: nothing to do\n");
}

Test(image, an_image_that_nobody_has)
{
	built();
	edit(P_INI, "[image other]\npackages = curl", "[image other]\npackages = jq");
	rest("d", true);
	expect_plan("d", "plan -: nothing to do\n");
}

Test(image, put_back_is_nothing)
{
	built();
	edit(P_INI, "curl, vim", "curl");
	rest("d", false);
	edit(P_INI, "packages = curl\nscript", "packages = curl, vim\nscript");
	rest("d", true);
}

/* The document says the same all the time: it is the script that is another. */
Test(image, the_script_by_its_content)
{
	built();
	put(SCRIPT, "#!/bin/sh\nfalse\n");
	rest("d", false);
	expect_in_plan("d", "! node d-n-1  confirm: image debian-12: script prepare.sh 9ab8fabc -> c07e1e51: its disk is lost\n");
	cr_assert_eq(apply_id("d"), 0, "%s", refused_why);
	rest("d", true);
	put("providers/sim/other.sh", "#!/bin/sh\nfalse\n");
	edit(P_INI, "prepare.sh", "other.sh");
	rest("d", false);
	expect_in_plan("d", "confirm: image debian-12: script prepare.sh -> other.sh: its disk is lost\n");
}

Test(image, a_script_that_is_gone_is_no_difference)
{
	built();
	drop(SCRIPT);
	rest("d", true);
	put(SCRIPT, "#!/bin/sh\ntrue\n");
	rest("d", true);
	put(SCRIPT, "#!/bin/sh\nfalse\n");
	rest("d", false);
}

Test(image, the_default_image)
{
	put_web();
	put(P_INI, "[provider]\ntype = fake\n[fake]\n" QUICK);
	open_engine();
	rest("d", true);
	put(P_INI, "[provider]\ntype = fake\n[fake]\n" QUICK "[image fake]\npackages = jq\n");
	rest("d", false);
	expect_in_plan("d", "confirm: image fake: packages + jq: its disk is lost\n");
}

/* An approval is for the recipe of its time. */
Test(image, an_edit_after_apply_is_not_approved)
{
	built();
	edit(P_INI, "curl, vim", "curl");
	rest("d", false);
	cr_assert_eq(ctl("d", "pause"), 0);
	cr_assert_eq(apply_id("d"), 0, "%s", refused_why);
	edit(P_INI, "packages = curl\nscript", "packages = emacs\nscript");
	settle();
	cr_assert_eq(ctl("d", "resume"), 0);
	rest("d", false);
	cr_expect_eq(incarnation("d-n-1"), 1);
	expect_in_plan("d", ": 2 rebuild, 2 confirm\n");
}

Test(image, is_known_after_a_restart)
{
	built();
	close_engine();
	edit(P_INI, "curl, vim", "curl, vim, jq");
	open_engine();
	rest("d", false);
	expect_in_plan("d", "! node d-n-1  confirm: image debian-12: packages + jq: its disk is lost\n");
}

/* Rows of a rebarfs that did not write it down: whatever is described at the first look is what they were made from. */
Test(image, a_recipe_that_nobody_wrote_down_is_taken_over)
{
	built();
	close_engine();
	sql("UPDATE nodes SET recipe = NULL");
	edit(P_INI, "curl, vim", "curl, vim, jq");
	open_engine();
	rest("d", true);
	expect_plan("d", "plan -: nothing to do\n");
	cr_expect_eq(incarnation("d-n-1"), 1);
	close_engine();
	edit(P_INI, "curl, vim, jq", "jq");
	open_engine();
	rest("d", false);
	expect_in_plan("d", "confirm: image debian-12: packages - curl - vim: its disk is lost\n");
}
