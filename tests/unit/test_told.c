/* What the kernel may keep of a short file: until it changes, and for as long as there is room. */
#include "fs/base/mem.h"
#include "fs/view/internal.h"
#include <criterion/criterion.h>
#include <string.h>

static struct stat as_told(mode_t mode)
{
	return (struct stat){.st_mode = S_IFREG | mode, .st_uid = 1, .st_gid = 2};
}

static struct buf word(const char *text)
{
	return (struct buf){.data = (char *)text, .len = strlen(text)};
}

Test(told, the_time_stands_while_the_text_does)
{
	struct told *t = told_new();
	struct stat st = as_told(0444);
	struct buf ready = word("ready\n"), held = word("held\n");
	int64_t at = 100;
	cr_assert(told_keep(t, 7, &st, &ready, &at));
	cr_expect_eq(at, 100);
	at = 200;
	cr_assert(told_keep(t, 7, &st, &ready, &at));
	cr_expect_eq(at, 100, "nothing changed, and yet it is told %lld", (long long)at);
	at = 300;
	cr_assert(told_keep(t, 7, &st, &held, &at));
	cr_expect_eq(at, 300);
	told_free(t);
}

Test(told, what_differs_is_forgotten_once)
{
	struct told *t = told_new();
	struct stat st = as_told(0444), other = as_told(0440);
	struct buf ready = word("ready\n"), other_word = word("error\n");
	fuse_ino_t inos[TOLD_MAX];
	int64_t at = 1;
	cr_expect_not(told_differs(t, 7, &st, &ready), "of what was never told the kernel keeps nothing");
	told_keep(t, 7, &st, &ready, &at);
	cr_expect_not(told_differs(t, 7, &st, &ready));
	cr_expect(told_differs(t, 7, &st, &other_word), "another text of the same length");
	cr_expect_not(told_differs(t, 7, &st, &other_word));
	cr_expect_eq(told_list(t, inos), 0);
	told_keep(t, 7, &st, &ready, &at);
	cr_expect(told_differs(t, 7, &other, &ready), "another mode");
	told_keep(t, 7, &st, &ready, &at);
	cr_expect(told_differs(t, 7, NULL, &ready), "a file that is gone");
	told_free(t);
}

Test(told, without_room_nothing_is_kept)
{
	struct told *t = told_new();
	struct stat st = as_told(0444);
	struct buf ready = word("ready\n"), empty = word(""), too_long = word("longer than what fits here");
	fuse_ino_t inos[TOLD_MAX];
	int64_t at = 1;
	size_t kept = 0;
	cr_assert_gt(too_long.len, TOLD_TEXT_MAX);
	cr_expect_not(told_keep(t, 1, &st, &too_long, &at));
	cr_expect_not(told_keep(t, 1, &st, &empty, &at));
	for (fuse_ino_t ino = 1; ino <= 4 * TOLD_MAX; ino++)
		kept += told_keep(t, ino, &st, &ready, &at);
	cr_expect_eq(kept, told_list(t, inos), "each that was kept is still known");
	cr_expect_leq(kept, TOLD_MAX);
	cr_expect_gt(kept, TOLD_MAX / 2);
	told_free(t);
}
