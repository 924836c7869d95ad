/* Secrets below the engine: names, values, keyed hashes, and above all the redactor. */
#include "fs/base/mem.h"
#include "fs/base/private.h"
#include "fs/base/redact.h"
#include "fs/base/secret.h"
#include "tests/unit/test_files.h"
#include <errno.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define VALUE "s3cr3t-Pa\"ss'wörd"

static struct redactor *r;

static void make_redactor(void)
{
	r = redactor_new();
	redactor_add(r, VALUE, strlen(VALUE));
}

static void end_redactor(void)
{
	redactor_free(r);
}

static void becomes(const char *text, const char *want)
{
	_cleanup_free_ char *copy = xstrdup(text);
	redact(r, copy, strlen(copy));
	cr_expect_str_eq(copy, want);
}

/* The same, as it would arrive in pieces of so many bytes. */
static char *in_pieces(const char *text, size_t piece)
{
	struct redact_stream s = {0};
	struct buf out = {0};
	for (size_t at = 0, len = strlen(text); at < len; at += piece)
		redact_add(r, &s, text + at, len - at < piece ? len - at : piece, &out);
	redact_end(r, &s, &out);
	return buf_detach(&out, NULL);
}

static void gone_everywhere(const char *text, const char *form)
{
	cr_assert(strstr(text, form), "'%s' is to be looked for in '%s'", form, text);
	for (size_t piece = 1; piece <= strlen(text); piece++) {
		_cleanup_free_ char *out = in_pieces(text, piece);
		cr_expect_eq(strlen(out), strlen(text), "offsets change");
		cr_expect_null(strstr(out, form), "in pieces of %zu: %s", piece, out);
	}
}

Test(redact, covers_a_value_and_nothing_else, .init = make_redactor, .fini = end_redactor)
{
	becomes("password is " VALUE "!", "password is ******************!");
	becomes("password is s3cr3t-Pa", "password is s3cr3t-Pa");
	becomes("", "");
	becomes(VALUE VALUE, "************************************");
}

Test(redact, finds_a_value_across_any_border, .init = make_redactor, .fini = end_redactor)
{
	gone_everywhere("begin " VALUE " s3cr3t-" VALUE "s3cr3t" VALUE, VALUE);
	_cleanup_free_ char *out = in_pieces("s3cr3t-Pa", 1);
	cr_expect_str_eq(out, "s3cr3t-Pa", "what only began like it comes out at the end");
}

Test(redact, keeps_only_what_may_be_the_beginning_of_a_value, .init = make_redactor, .fini = end_redactor)
{
	struct redact_stream s = {0};
	_cleanup_buf_ struct buf out = {0};
	redact_add(r, &s, "step 1\ns3cr", 11, &out);
	cr_expect_str_eq(buf_str(&out), "step 1\n");
	redact_add(r, &s, "ipt.sh\n", 7, &out);
	cr_expect_str_eq(buf_str(&out), "step 1\ns3cript.sh\n");
	redact_release(&s);
}

Test(redact, finds_what_json_shell_and_url_make_of_a_value, .init = make_redactor, .fini = end_redactor)
{
	gone_everywhere("{\"msg\": \"s3cr3t-Pa\\\"ss'wörd\"}", "s3cr3t-Pa\\\"ss'wörd");
	gone_everywhere("{\"msg\": \"s3cr3t-Pa\\\"ss'w\\u00F6rd\"}", "s3cr3t-Pa\\\"ss'w\\u00F6rd");
	gone_everywhere("+ echo 's3cr3t-Pa\"ss'\\''wörd'", "s3cr3t-Pa\"ss'\\''wörd");
	gone_everywhere("http://u:s3cr3t-Pa%22ss%27w%C3%B6rd@h/", "s3cr3t-Pa%22ss%27w%C3%B6rd");
}

Test(redact, finds_a_value_in_base64_at_any_offset, .init = make_redactor, .fini = end_redactor)
{
	static const char *const before[] = {"", "u", "u:", "me:", "root:"};
	for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
		_cleanup_free_ char *plain = xasprintf("%s%s\n", before[i], VALUE);
		char encoded[128];
		EVP_EncodeBlock((unsigned char *)encoded, (unsigned char *)plain, (int)strlen(plain));
		char *copy = xasprintf("Authorization: Basic %s", encoded);
		redact(r, copy, strlen(copy));
		/* What is left of it are characters that other bytes have a part in. */
		size_t stars = 0;
		for (const char *p = copy; *p; p++)
			stars += *p == '*';
		cr_expect_geq(stars, strlen(VALUE) * 8 / 6 - 1, "%s", copy);
		free(copy);
	}
}

Test(redact, finds_the_lines_of_a_key)
{
	static const char key[] = "-----BEGIN KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\nQyNTUxOQAAACB7cn\n-----END KEY-----";
	r = redactor_new();
	redactor_add(r, key, strlen(key));
	becomes("  b3BlbnNzaC1rZXktdjEAAAAA\r\n  QyNTUxOQAAACB7cn\r\n", "  ************************\r\n  ****************\r\n");
	becomes("-----BEGIN KEY-----", "-----BEGIN KEY-----");
	redactor_free(r);
}

Test(redact, lets_go_when_the_last_holder_does, .init = make_redactor, .fini = end_redactor)
{
	redactor_add(r, VALUE, strlen(VALUE));
	redactor_remove(r, VALUE, strlen(VALUE));
	becomes(VALUE, "******************");
	redactor_remove(r, VALUE, strlen(VALUE));
	becomes(VALUE, VALUE);
	redactor_add(r, "abc", 3);
	becomes("abcabc", "abcabc");
	redactor_remove(r, "abc", 3);
	redact(NULL, (char[]){"text"}, 4);
}

Test(redact, covers_the_longer_of_two_and_where_they_overlap)
{
	r = redactor_new();
	redactor_add(r, "abcdef", 6);
	redactor_add(r, "abcdefgh", 8);
	redactor_add(r, "ghijkl", 6);
	becomes("-abcdefgx-", "-******gx-");
	becomes("-abcdefghijkl-", "-************-");
	for (size_t piece = 1; piece < 15; piece++) {
		_cleanup_free_ char *out = in_pieces("-abcdefghijkl-", piece);
		cr_expect_str_eq(out, "-************-");
	}
	redactor_free(r);
}

Test(redact, mends_a_file_in_place, .init = make_redactor, .fini = end_redactor)
{
	make_dir();
	_cleanup_free_ char *path = path_join(dir, "log");
	_cleanup_buf_ struct buf text = {0}, after = {0};
	while (text.len < 65536 - 5) /* the value lies across the border of what is read at once */
		buf_addc(&text, 'x');
	buf_adds(&text, VALUE "\nthe end\n");
	cr_assert_eq(file_write_atomic(AT_FDCWD, path, text.data, text.len, 0600, NULL), 0);
	cr_assert_eq(redact_file(r, path), 0);
	cr_assert_eq(file_read(AT_FDCWD, path, 1 << 20, &after, NULL), 0);
	cr_expect_eq(after.len, text.len);
	cr_expect_str_eq(buf_str(&after) + 65536 - 5, "******************\nthe end\n");
	remove_dir();
}

Test(secret, names)
{
	static const char *const good[] = {"db", "db-password", "infra/db.root", "me@host", "_x", "a/b/c", "A+1"};
	static const char *const bad[] = {"", "/etc/shadow", "../x", "a/../b", "a//b", "a/", "-x", ".x", "a b", "$(id)", "a;b", "a'b", "a%s", "ä"};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		cr_expect_eq(secret_name_check(good[i], NULL), 0, "%s", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		cr_expect_eq(secret_name_check(bad[i], NULL), -EINVAL, "%s", bad[i]);
	cr_expect_str_eq(secret_ref("secret:x"), "x");
	cr_expect_null(secret_ref("secret:"));
	cr_expect_null(secret_ref("a secret:x"));
	cr_expect_null(secret_ref(NULL));
}

Test(secret, values)
{
	struct secret *s = secret_new("two\nlines\n", 10, NULL);
	cr_assert_not_null(s);
	cr_expect_str_eq(s->value, "two\nlines");
	cr_expect_eq(s->len, 9);
	secret_hold(s);
	secret_drop(s);
	cr_expect_str_eq(s->value, "two\nlines");
	secret_drop(s);
	_cleanup_err_ struct err *err = NULL;
	cr_expect_null(secret_new("\n", 1, &err));
	cr_expect_str_eq(err_msg(err), "is empty");
	cr_expect_null(secret_new("a\0b", 3, &err));
	cr_expect_null(secret_new("\xff\xfe", 2, &err));
	cr_expect_str_eq(err_msg(err), "is not UTF-8 text");
	_cleanup_free_ char *big = xcalloc(1, SECRET_MAX + 2);
	memset(big, 'x', SECRET_MAX + 1);
	cr_expect_null(secret_new(big, SECRET_MAX + 1, &err));
}

/* RFC 4231, test case 1, with its key padded by zeros, which HMAC does anyway. */
Test(secret, hash_is_keyed)
{
	struct hash key = {{0}}, other = {{1}}, h, g;
	char hex[HASH_HEX];
	memset(key.b, 0x0b, 20);
	hash_keyed(&key, "Hi There", 8, &h);
	hash_hex(&h, hex);
	cr_expect_str_eq(hex, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
	hash_keyed(&other, "Hi There", 8, &g);
	cr_expect_not(hash_eq(&h, &g));
	hash_bytes("Hi There", 8, &g);
	cr_expect_not(hash_eq(&h, &g));
}

Test(private, memory_leaves_no_core)
{
	_cleanup_buf_ struct buf why = {0};
	struct rlimit limit;
	private_memory(&why);
	cr_assert_eq(getrlimit(RLIMIT_CORE, &limit), 0);
	cr_expect_leq(limit.rlim_cur, 1);
	cr_expect_eq(prctl(PR_GET_DUMPABLE), 0);
	if (geteuid() == 0)
		cr_expect_str_eq(buf_str(&why), "");
}

Test(private, directory_is_ours_alone, .init = make_dir, .fini = remove_dir)
{
	_cleanup_err_ struct err *err = NULL;
	_cleanup_free_ char *path = path_join(dir, "p"), *found = private_dir("0123456789abcdef", dir);
	cr_expect_eq(private_dir_make(path, NULL), 0);
	cr_expect_eq(private_dir_make(path, NULL), 0, "it is there already");
	cr_assert_eq(chmod(path, 0755), 0);
	cr_expect_eq(private_dir_make(path, &err), -EPERM);
	cr_assert_eq(rmdir(path), 0);
	cr_assert_eq(symlink("/tmp", path), 0);
	cr_expect_eq(private_dir_make(path, &err), -EPERM);
	cr_expect_eq(*found, '/');
}

Test(private, json_still_works)
{
	private_json();
	json_t *j = json_loads("{\"a\": [1, \"two\", {\"b\": null}]}", 0, NULL);
	_cleanup_free_ char *text = json_dumps(j, JSON_COMPACT);
	cr_expect_str_eq(text, "{\"a\":[1,\"two\",{\"b\":null}]}");
	json_decref(j);
}
