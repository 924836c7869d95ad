/* document_set and node sets: text in, text out. */
#include "test_desired.h"

static void set(const char *text, const char *section, const char *key, const char *value, const char *want)
{
	struct buf out = {0};
	struct err *err = NULL;
	int rc = document_set(text, strlen(text), section, key, value, &out, &err);
	cr_expect_eq(rc, 0, "%s", err_msg(err));
	cr_expect_str_eq(buf_str(&out), want, "from:\n%s\ngot:\n%s\nwant:\n%s", text, buf_str(&out), want);
	err_free(err);
	buf_release(&out);
}

static void refuse(const char *text, const char *section, const char *key, const char *value, const char *want)
{
	struct buf out = {0};
	struct err *err = NULL;
	cr_expect_eq(document_set(text, strlen(text), section, key, value, &out, &err), -EINVAL);
	cr_expect_str_eq(err_msg(err), want, "%s", err_msg(err));
	cr_expect_eq(out.len, 0);
	err_free(err);
	buf_release(&out);
}

Test(document_set, a_value_and_nothing_else)
{
	set("; top\n\n[nodes db]\n  count=3   ; three\n# more\nmemory :  512M\t\n\n[x]\ncount = 1\n", "nodes db", "count", "5",
	        "; top\n\n[nodes db]\n  count=5   ; three\n# more\nmemory :  512M\t\n\n[x]\ncount = 1\n");
	set("[nodes db]\ncount=3\nmemory :  512M\t\n", "nodes db", "memory", "1G", "[nodes db]\ncount=3\nmemory :  1G\t\n");
	set("[nodes db]\r\ncount = 3\r\n\r\n", "nodes db", "count", "10", "[nodes db]\r\ncount = 10\r\n\r\n");
	set("[ nodes   db ]\ncount = 3", "nodes db", "count", "4", "[ nodes   db ]\ncount = 4");
	set("\xef\xbb\xbf[a]\nb = 1\n", "a", "b", "2", "\xef\xbb\xbf[a]\nb = 2\n");
	set("[a]\nb = 1\n[c]\nd = 1\n[a]\ne = 1\n", "a", "b", "2", "[a]\nb = 2\n[c]\nd = 1\n[a]\ne = 1\n");
	set("[a]\nb = x;y\n", "a", "b", "y;z", "[a]\nb = y;z\n");
}

Test(document_set, as_git_config_writes_it)
{
	static const char text[] = "[provider]\ntype = fake\n\tmax-parallel = 20\n[nodes \"db\"]\n\tcount = 1\n\troles = a,\n\t\tb\n";
	set(text, "provider", "type", "x", "[provider]\ntype = x\n\tmax-parallel = 20\n[nodes \"db\"]\n\tcount = 1\n\troles = a,\n\t\tb\n");
	set(text, "nodes db", "roles", "c", "[provider]\ntype = fake\n\tmax-parallel = 20\n[nodes \"db\"]\n\tcount = 1\n\troles = c\n");
	set(text, "provider", "max-parallel", NULL, "[provider]\ntype = fake\n[nodes \"db\"]\n\tcount = 1\n\troles = a,\n\t\tb\n");
}

Test(document_set, empty_values)
{
	set("[a]\nb =\nc = 1\n", "a", "b", "2", "[a]\nb = 2\nc = 1\n");
	set("[a]\nb=\n", "a", "b", "2", "[a]\nb= 2\n");
	set("[a]\nb =   \n", "a", "b", "2", "[a]\nb = 2\n");
	set("[a]\nb = ; none\n", "a", "b", "2", "[a]\nb = 2 ; none\n");
	set("[a]\r\nb =\r\n", "a", "b", "2", "[a]\r\nb = 2\r\n");
	set("[a]\nb = 2 ; two\n", "a", "b", "", "[a]\nb =  ; two\n");
	set("[a]\nb = 2\n", "a", "b", "", "[a]\nb = \n");
	set("[a]\n", "a", "b", "", "[a]\nb =\n");
	set("[a]\nb = \n", "a", "b", "", "[a]\nb = \n");
	set("[a]\nb =\t;\n", "a", "b", "", "[a]\nb =\t;\n");
}

Test(document_set, a_key_that_is_not_there)
{
	set("[a]\nb = 1\n\n; about c\n[c]\n", "a", "x", "2", "[a]\nb = 1\nx = 2\n\n; about c\n[c]\n");
	set("[a]\nb = 1,\n  2,\n\n  3\n\n[c]\n", "a", "x", "2", "[a]\nb = 1,\n  2,\n\n  3\nx = 2\n\n[c]\n");
	set("[a]\n[c]\n", "a", "x", "2", "[a]\nx = 2\n[c]\n");
	set("[a]\nb = 1", "a", "x", "2", "[a]\nb = 1\nx = 2\n");
	set("[a]\r\nb = 1\r\n", "a", "x", "2", "[a]\r\nb = 1\r\nx = 2\r\n");
	set("[a]", "a", "x", "2", "[a]\nx = 2\n");
	/* twice the same section: behind the last */
	set("[a]\nb = 1\n[c]\n[a]\nd = 1\n", "a", "x", "2", "[a]\nb = 1\n[c]\n[a]\nd = 1\nx = 2\n");
}

Test(document_set, a_section_that_is_not_there)
{
	set("", "a", "b", "1", "[a]\nb = 1\n");
	set("; only a comment", "a", "b", "1", "; only a comment\n\n[a]\nb = 1\n");
	set("[c]\nd = 1\n", "params etcd @db", "quorum", "5", "[c]\nd = 1\n\n[params etcd @db]\nquorum = 5\n");
	set("[c]\nd = 1\n\n", "a", "b", "1", "[c]\nd = 1\n\n[a]\nb = 1\n");
	set("[c]\r\nd = 1", "a", "b", "1", "[c]\r\nd = 1\r\n\r\n[a]\r\nb = 1\r\n");
}

Test(document_set, unset)
{
	set("[a]\n; about b\nb = 1 ; one\nc = 2\n", "a", "b", NULL, "[a]\n; about b\nc = 2\n");
	set("[a]\nb = 1,\n  2\n; between\n  3\nc = 2\n", "a", "b", NULL, "[a]\n; between\nc = 2\n");
	set("[a]\nb = 1\n", "a", "x", NULL, "[a]\nb = 1\n");
	set("[a]\nb = 1\n", "x", "b", NULL, "[a]\nb = 1\n");
	set("[a]\nb = 1", "a", "b", NULL, "[a]\n");
}

Test(document_set, values_over_many_lines)
{
	set("[a]\nb = 1,\n  2\n; between\n\n  3\nc = 2\n", "a", "b", "9", "[a]\nb = 9\n; between\n\nc = 2\n");
	struct buf value = {0}, out = {0};
	for (int i = 0; i < 60; i++)
		buf_addf(&value, "%snode-%02d", i ? ", " : "", i);
	cr_assert_eq(document_set("[a]\r\nb = 1\r\nc = 1\r\n", 19, "a", "b", buf_str(&value), &out, NULL), 0);
	for (const char *p = buf_str(&out); *p; p += strcspn(p, "\n") + 1)
		cr_expect_leq(strcspn(p, "\r\n"), 199);
	struct buf again = {0};
	cr_assert_eq(document_set(buf_str(&out), out.len, "a", "b", "1", &again, NULL), 0);
	cr_expect_str_eq(buf_str(&again), "[a]\r\nb = 1\r\nc = 1\r\n");
	buf_release(&again);
	cr_assert_eq(document_set("[z]\n", 4, "a", "b", buf_str(&value), &again, NULL), 0);
	buf_release(&again);
	buf_release(&out);
	buf_release(&value);
}

Test(document_set, what_a_document_cannot_hold)
{
	const char *doc = "[a]\nb = 1 ; one\n";
	refuse(doc, "a", "b", "1\n2", "a value is one line");
	refuse(doc, "a", "b", " 1", "a value cannot begin or end with a blank: the reader drops it");
	refuse(doc, "a", "b", "1\t", "a value cannot begin or end with a blank: the reader drops it");
	refuse(doc, "a", "b", "1 ;2", "a value cannot have a ';' at its beginning or behind a blank: the reader takes it for a comment");
	refuse(doc, "a", "b", ";2", "a value cannot have a ';' at its beginning or behind a blank: the reader takes it for a comment");
	refuse("[a]\nnonsense\n", "a", "b", "1",
	        "the document has a mistake in line 2: 'nonsense' is neither [section] nor 'key = value' (a line that continues a value is "
	        "indented)");
	_cleanup_free_ char *longer = xcalloc(1, 300);
	memset(longer, 'x', 196);
	refuse("[a]\n", "a", "b", longer,
	        "the value is too long: the line has room for 195 bytes of it, and it can go on in the next one only after a single blank");
	refuse(doc, "a", "b", longer,
	        "the value is too long: the line has room for 189 bytes of it, and the comment behind it keeps it from going on in the next one");
	struct buf out = {0};
	cr_expect_eq(document_set(doc, strlen(doc), "a", "b", "\x01", &out, NULL), -EINVAL);
	cr_expect_eq(document_set(doc, strlen(doc), "a", "b", "\xff", &out, NULL), -EINVAL);
	cr_expect_eq(document_set(doc, strlen(doc), "a]", "b", "1", &out, NULL), -EINVAL);
	cr_expect_eq(document_set(doc, strlen(doc), "a", "[b", "1", &out, NULL), -EINVAL);
	cr_expect_eq(document_set(doc, strlen(doc), "a", "b=c", "1", &out, NULL), -EINVAL);
	cr_expect_eq(document_set("a = 1\n", 6, "a", "b", "1", &out, NULL), -EINVAL);
	cr_expect_eq(out.len, 0);
	buf_release(&out);
}

/* ---- node sets ---- */

static void expand(const char *text, const char *want)
{
	struct strlist l = {0};
	struct err *err = NULL;
	struct buf b = {0};
	cr_expect_eq(node_set_expand(text, &l, &err), 0, "%s", err_msg(err));
	strlist_join(&l, " ", &b);
	cr_expect_str_eq(buf_str(&b), want, "%s: %s", text, buf_str(&b));
	buf_release(&b);
	strlist_release(&l);
}

static void refuse_set(const char *text, int code, const char *want)
{
	struct strlist l = {0};
	struct err *err = NULL;
	cr_expect_eq(node_set_expand(text, &l, &err), -code);
	cr_expect_str_eq(err_msg(err), want, "%s", err_msg(err));
	err_free(err);
	strlist_release(&l);
}

Test(node_set, expand)
{
	expand("", "");
	expand("n1", "n1");
	expand("a, b ,c", "a b c");
	expand("r1-[01-03,7]", "r1-01 r1-02 r1-03 r1-7");
	expand("r[1-2]n[08-10]", "r1n08 r1n09 r1n10 r2n08 r2n09 r2n10");
	expand("n[9-11]", "n9 n10 n11");
	expand("n[1-03]", "n01 n02 n03");
	expand("n[099-101]x, y", "n099x n100x n101x y");
	expand("n[0]", "n0");
	expand("n[ 1 , 3-4 ]", "n1 n3 n4");
}

Test(node_set, refuse)
{
	refuse_set("n[1-", EINVAL, "'n[1-' is not a node set: there is no ']'");
	refuse_set("n]", EINVAL, "'n]' is not a node set: there is a ']' without '['");
	refuse_set("n[]", EINVAL, "'n[]' is not a node set: between [ and ] stand numbers of at most 9 digits and ranges, [01-03,7]");
	refuse_set("n[a]", EINVAL, "'n[a]' is not a node set: between [ and ] stand numbers of at most 9 digits and ranges, [01-03,7]");
	refuse_set("n[1-]", EINVAL, "'n[1-]' is not a node set: a range has a number of at most 9 digits on both sides, [01-03]");
	refuse_set("n[3-1]", EINVAL, "'n[3-1]' is not a node set: a range runs from the smaller number to the larger");
	refuse_set("n[1;2]", EINVAL, "'n[1;2]' is not a node set: between [ and ] stand numbers and ranges, [01-03,7]");
	refuse_set("n[1234567890]", EINVAL,
	        "'n[1234567890]' is not a node set: between [ and ] stand numbers of at most 9 digits and ranges, [01-03,7]");
	refuse_set("n[1-999999999]", ERANGE, "'n[1-999999999]' makes more than 100000 names");
	refuse_set("n[1-99999][1-99999]", ERANGE, "'n[1-99999][1-99999]' makes more than 100000 names");
}

static void fold(const char *names, const char *want)
{
	struct strlist l = {0};
	struct buf b = {0};
	strlist_split(&l, names);
	node_set_fold(&l, &b);
	cr_expect_str_eq(buf_str(&b), want, "%s: %s", names, buf_str(&b));
	buf_release(&b);
	strlist_release(&l);
}

Test(node_set, fold)
{
	fold("", "");
	fold("n1", "n1");
	fold("web", "web");
	fold("etcd-db-1, etcd-db-2, etcd-db-3", "etcd-db-[1-3]");
	fold("n1, n10, n11, n2, n3", "n[1-3,10-11]");
	fold("n1, n2", "n[1-2]");
	fold("n1, n3, n5", "n[1,3,5]");
	fold("r01, r02, r03, r10", "r[01-03,10]");
	fold("n9, n10, n11", "n[9-11]");
	fold("n09, n10, n11", "n[09-11]");
	fold("a, a1, a2, a3, b, b-1", "a,a[1-3],b,b-1");
	fold("n1, n01, n2, n02", "n[1,01,2,02]");
}
