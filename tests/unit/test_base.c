/* The base: sentences, text, values, hashes, key tables and files. */
#include "fs/base/hash.h"
#include "fs/base/keys.h"
#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "tests/unit/test_files.h"
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>

#define has(text, part) cr_assert(strstr(text, part), "'%s' is not in '%s'", part, text)

/* ---- errors ---- */

Test(err, grows_on_its_way_up)
{
	_cleanup_err_ struct err *err = NULL;
	cr_assert_eq(err_errno(&err, EACCES, "cannot read '%s'", "x"), -EACCES);
	eq_str(err_msg(err), "cannot read 'x': Permission denied");
	cr_assert_eq(err_wrap(&err, "role '%s'", "etcd"), -EACCES);
	eq_str(err_msg(err), "role 'etcd': cannot read 'x': Permission denied");
	/* an older one is replaced, and may be an argument of the new one */
	cr_assert_eq(err_set(&err, EINVAL, "again: %s", err_msg(err)), -EINVAL);
	eq_str(err_msg(err), "again: role 'etcd': cannot read 'x': Permission denied");
	cr_assert_eq(err->code, EINVAL);
}

Test(err, nobody_asked)
{
	struct err *none = NULL;
	cr_assert_eq(err_set(NULL, ENOENT, "%s", "x"), -ENOENT);
	cr_assert_eq(err_errno(NULL, ENOENT, "%s", "x"), -ENOENT);
	cr_assert_eq(err_wrap(NULL, "x"), -EIO);
	cr_assert_eq(err_wrap(&none, "x"), -EIO);
	cr_assert_null(none);
	eq_str(err_msg(NULL), "unknown error");
}

/* ---- buffers, memory ---- */

Test(buf, grows_and_ends_in_nul)
{
	_cleanup_buf_ struct buf b = {0};
	eq_str(buf_str(&b), "");
	buf_add(&b, NULL, 0);
	eq_str(buf_str(&b), "");
	for (int i = 0; i < 10000; i++)
		buf_addf(&b, "%d,", i % 10);
	cr_assert_eq(b.len, 20000);
	cr_assert_eq(strlen(b.data), b.len);
	char wide[5000];
	memset(wide, 'w', sizeof wide - 1);
	wide[sizeof wide - 1] = '\0';
	buf_reset(&b);
	eq_str(buf_str(&b), "");
	buf_addf(&b, "<%s>", wide);
	cr_assert_eq(b.len, 5001);
	cr_assert_eq(b.data[5000], '>');
	buf_reset(&b);
	buf_add(&b, "a\0b", 3);
	buf_addc(&b, 'c');
	cr_assert_eq(b.len, 4);
	cr_assert_arr_eq(b.data, "a\0bc", 5);
}

Test(buf, detach)
{
	struct buf b = {0};
	size_t len = 99;
	char *s = buf_detach(&b, &len);
	eq_str(s, "");
	cr_assert_eq(len, 0);
	free(s);
	buf_adds(&b, "text");
	s = buf_detach(&b, NULL);
	eq_str(s, "text");
	cr_assert_null(b.data);
	free(s);
}

Test(mem, copies)
{
	cr_assert_null(xstrdup(NULL));
	char *s = xstrdup("held");
	str_replace(&s, s + 2);
	eq_str(s, "ld");
	str_replace(&s, NULL);
	cr_assert_null(s);
	void *none = xmemdup(NULL, 0);
	cr_assert_not_null(none);
	free(none);
}

/* ---- lists, suggestions, names ---- */

static char *joined(const char *text)
{
	_cleanup_strlist_ struct strlist l = {0};
	struct buf b = {0};
	strlist_split(&l, text);
	strlist_join(&l, "|", &b);
	if (l.n)
		cr_assert_null(l.items[l.n]);
	return buf_detach(&b, NULL);
}

static void splits(const char *text, const char *want)
{
	_cleanup_free_ char *got = joined(text);
	cr_assert_str_eq(got, want, "'%s' splits into '%s', not '%s'", text, got, want);
}

Test(str, lists)
{
	splits("", "");
	splits(" , ,, ", "");
	splits("a", "a");
	splits(" a ,b,  c d ", "a|b|c d");
	splits("r1-[01-03,07], x", "r1-[01-03,07]|x");
	splits("a,\n b\nc", "a|b|c");
	splits("x[1,2", "x[1,2");
	splits("a],b", "a]|b");

	_cleanup_strlist_ struct strlist l = {0};
	cr_assert(!strlist_has(&l, "a"));
	strlist_sort(&l);
	for (char c = 'z'; c >= 'a'; c--)
		strlist_add(&l, (char[]){c, '\0'});
	strlist_sort(&l);
	cr_assert_eq(l.n, 26);
	eq_str(l.items[0], "a");
	eq_str(l.items[25], "z");
	cr_assert(strlist_has(&l, "q") && !strlist_has(&l, "qq"));
}

Test(str, suggests_what_was_meant)
{
	static const char *const keys[] = {"requires", "after", "wants", "timeout", "retries", "serial"};
	static const struct {
		const char *word, *meant;
	} cases[] = {{"requries", "requires"}, {"reqires", "requires"}, {"requiress", "requires"}, {"require", "requires"}, {"timout", "timeout"},
	        {"wnats", "wants"}, {"wants", "wants"}, {"colour", NULL}, {"x", NULL}, {"", NULL}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *got = str_suggest(cases[i].word, keys, 6);
		if (cases[i].meant)
			cr_assert(got && !strcmp(got, cases[i].meant), "'%s' suggests '%s'", cases[i].word, got ? got : "nothing");
		else
			cr_assert_null(got, "'%s' suggests '%s'", cases[i].word, got);
	}
	char wide[300];
	memset(wide, 'r', sizeof wide - 1);
	wide[sizeof wide - 1] = '\0';
	cr_assert_null(str_suggest(wide, keys, 6));
	cr_assert_null(str_suggest("wants", NULL, 0));
	/* the nearest one, wherever it stands */
	static const char *const near[] = {"roles", "rule", "role"};
	eq_str(str_suggest("rolr", near, 3), "role");
	/* of three letters one may be wrong */
	static const char *const short_ones[] = {"max", "min"};
	eq_str(str_suggest("mix", short_ones, 2), "max");
	cr_assert_null(str_suggest("bad", short_ones, 2));
}

Test(str, names)
{
	char name[65] = "";
	memset(name, 'a', 63);
	cr_assert_eq(check_name("etcd-db-1", NULL), 0);
	cr_assert_eq(check_word("Role_2-x", "_-", NULL), 0);
	cr_assert_eq(check_word("dc1.example", "_-.", NULL), 0);
	cr_assert_eq(check_word("dc1.example", "_-", NULL), -EINVAL);
	cr_assert_eq(check_word(name, "_-", NULL), 0);
	static const char *const bad_words[] = {"", "-a", "_a", ".a", "a-", "a.", "a/b", "a b", "a\n", "\xc3\xa9", "..", "."};
	for (size_t i = 0; i < sizeof bad_words / sizeof *bad_words; i++)
		cr_assert_eq(check_word(bad_words[i], "_-.", NULL), -EINVAL, "'%s' passed", bad_words[i]);
	cr_assert_eq(check_name("0", NULL), 0);
	cr_assert_eq(check_name(name, NULL), 0);
	name[63] = 'a';
	const char *const wrong[] = {"", "-a", "a-", "A", "a_b", "a.b", "a/b", "..", "a b", "\xc3\xa4", name};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		_cleanup_err_ struct err *err = NULL;
		cr_assert_eq(check_name(wrong[i], &err), -EINVAL, "'%s' passed", wrong[i]);
		has(err_msg(err), "63 characters");
	}
}

/* ---- values ---- */

struct number_case {
	const char *text;
	int rc;
	int64_t want;
};

static void numbers(int (*parse)(const char *, int64_t *, struct err **), const struct number_case *cases)
{
	for (; cases->text; cases++) {
		_cleanup_err_ struct err *err = NULL;
		int64_t got = 4711;
		int rc = parse(cases->text, &got, &err);
		cr_assert_eq(rc, cases->rc, "'%s' gives %d (%s), not %d", cases->text, rc, err_msg(err), cases->rc);
		cr_assert_eq(got, rc ? 4711 : cases->want, "'%s' gives %lld", cases->text, (long long)got);
		if (rc < 0)
			has(err_msg(err), cases->text);
	}
}

Test(str, sizes)
{
	numbers(parse_size,
	        (struct number_case[]){{"0", 0, 0}, {"1024", 0, 1024}, {"1K", 0, 1024}, {"512M", 0, 512LL << 20}, {"512MB", 0, 512LL << 20},
	                {"512MiB", 0, 512LL << 20}, {"2g", 0, 2LL << 30}, {"3T", 0, 3LL << 40}, {"10B", 0, 10}, {"8388607T", 0, 8388607LL << 40},
	                {"8388608T", -ERANGE}, {"9223372036854775807", 0, INT64_MAX}, {"9223372036854775808", -ERANGE},
	                {"99999999999999999999", -ERANGE}, {"", -EINVAL}, {"-1", -EINVAL}, {"M", -EINVAL}, {"1.5G", -EINVAL}, {"1 G", -EINVAL},
	                {"1X", -EINVAL}, {"1iB", -EINVAL}, {"1Mx", -EINVAL}, {" 1", -EINVAL}, {0}});
}

Test(str, durations)
{
	numbers(parse_duration,
	        (struct number_case[]){{"0", 0, 0}, {"10", 0, 10000}, {"300ms", 0, 300}, {"10s", 0, 10000}, {"10m", 0, 600000}, {"10min", 0, 600000},
	                {"2h", 0, 7200000}, {"1d", 0, 86400000}, {"1h30m", 0, 5400000}, {"1d2h3m4s5ms", 0, 93784005}, {"1h30", -EINVAL},
	                {"30m1h", -EINVAL}, {"5m5m", -EINVAL}, {"", -EINVAL}, {"-1s", -EINVAL}, {"s", -EINVAL}, {"1 s", -EINVAL}, {"1S", -EINVAL},
	                {"1y", -EINVAL}, {"1.5h", -EINVAL}, {"99999999999999999999s", -ERANGE}, {"9223372036854775807d", -ERANGE},
	                {"106751991167d", 0, 106751991167LL * 86400000}, {"106751991168d", -ERANGE}, {0}});
}

Test(str, whole_numbers)
{
	numbers(parse_int, (struct number_case[]){{"0", 0, 0}, {"-7", 0, -7}, {"+7", 0, 7}, {"007", 0, 7}, {"9223372036854775807", 0, INT64_MAX},
	                           {"-9223372036854775808", 0, INT64_MIN}, {"9223372036854775808", -ERANGE}, {"-9223372036854775809", -ERANGE},
	                           {"", -EINVAL}, {"-", -EINVAL}, {"--1", -EINVAL}, {" 1", -EINVAL}, {"1 ", -EINVAL}, {"0x10", -EINVAL},
	                           {"1.0", -EINVAL}, {"1e3", -EINVAL}, {0}});
}

Test(str, yes_and_no)
{
	static const char *const yes[] = {"yes", "true", "on", "1", "YES"}, *const no[] = {"no", "false", "off", "0", "Off"};
	bool b;
	for (int i = 0; i < 5; i++) {
		b = false;
		cr_assert(parse_bool(yes[i], &b, NULL) == 0 && b, "%s", yes[i]);
		cr_assert(parse_bool(no[i], &b, NULL) == 0 && !b, "%s", no[i]);
	}
	cr_assert_eq(parse_bool("", &b, NULL), -EINVAL);
	cr_assert_eq(parse_bool("y", &b, NULL), -EINVAL);
}

static void shows(void (*format)(struct buf *, int64_t), int64_t v, const char *want)
{
	_cleanup_buf_ struct buf b = {0};
	format(&b, v);
	cr_assert_str_eq(buf_str(&b), want, "%lld shows as '%s', not '%s'", (long long)v, buf_str(&b), want);
}

Test(str, for_people)
{
	shows(format_duration, 0, "0.0 s");
	shows(format_duration, 2940, "2.9 s");
	shows(format_duration, 9949, "9.9 s");
	shows(format_duration, 9950, "10 s");
	shows(format_duration, 12400, "12 s");
	shows(format_duration, 59600, "1 min 0 s");
	shows(format_duration, 200000, "3 min 20 s");
	shows(format_duration, 7500000, "2 h 5 min");
	shows(format_duration, 3 * 86400000LL + 4 * 3600000, "3 d 4 h");
	shows(format_size, 0, "0");
	shows(format_size, 1000, "1000");
	shows(format_size, 1024, "1K");
	shows(format_size, 512LL << 20, "512M");
	shows(format_size, 1536LL << 20, "1536M");
	shows(format_size, 2LL << 30, "2G");
	shows(format_size, (1LL << 30) + 1, "1073741825");
	shows(format_time, 0, "1970-01-01T00:00:00Z");
	shows(format_time, 1795428153999, "2026-11-23T10:02:33Z");
	_cleanup_buf_ struct buf b = {0};
	format_time(&b, INT64_MAX); /* whatever it shows, it must not crash */
}

Test(str, clocks)
{
	int64_t wall = now_ms(), mono = monotonic_ms();
	nanosleep(&(struct timespec){0, 20000000}, NULL);
	cr_assert_geq(monotonic_ms() - mono, 20);
	cr_assert(llabs((long long)wall - (long long)time(NULL) * 1000) < 5000);
}

/* ---- hashes ---- */

static void hashes_to(const char *text, const char *want)
{
	struct hash h, back;
	char hex[HASH_HEX];
	hash_bytes(text, strlen(text), &h);
	hash_hex(&h, hex);
	cr_assert_str_eq(hex, want, "'%s' hashes to %s", text, hex);
	cr_assert(hash_from_hex(hex, &back) && hash_eq(&h, &back));
}

/* FIPS 180-4's examples. */
Test(hash, vectors)
{
	hashes_to("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	hashes_to("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	hashes_to("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	struct hasher *h = hasher_new();
	struct hash million;
	char hex[HASH_HEX];
	hasher_add(h, "thrown away", 11);
	hasher_reset(h);
	for (int i = 0; i < 10000; i++)
		hasher_add(h, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 100);
	hasher_end(h, &million);
	hash_hex(&million, hex);
	eq_str(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	hasher_free(h);
	hasher_free(NULL);
}

static struct hash of_strings(const char *a, const char *b)
{
	struct hash ret;
	struct hasher *h = hasher_new();
	hasher_add_str(h, a);
	hasher_add_str(h, b);
	hasher_end(h, &ret);
	hasher_free(h);
	return ret;
}

Test(hash, strings_do_not_run_together)
{
	struct hash all[] = {of_strings("ab", "c"), of_strings("a", "bc"), of_strings("abc", ""), of_strings("abc", NULL), of_strings(NULL, "abc")};
	for (int i = 0; i < 5; i++)
		for (int j = 0; j < i; j++)
			cr_assert(!hash_eq(&all[i], &all[j]), "%d and %d", i, j);
}

Test(hash, hex)
{
	struct hash h = {{1}}, zero = {{0}};
	char hex[HASH_HEX], longer[HASH_HEX + 1];
	cr_assert(hash_is_zero(&zero) && !hash_is_zero(&h));
	hash_hex(&h, hex);
	snprintf(longer, sizeof longer, "%s0", hex);
	cr_assert(!hash_from_hex("", &zero) && !hash_from_hex("0", &zero) && !hash_from_hex(longer, &zero));
	hex[63] = 'g';
	cr_assert(!hash_from_hex(hex, &zero));
	hex[63] = '\0';
	cr_assert(!hash_from_hex(hex, &zero));
	cr_assert(hash_is_zero(&zero), "written although it failed");
}

static void *hash_much(void *arg)
{
	struct hash want, got;
	struct hasher *h = hasher_new();
	hasher_add(h, arg, strlen(arg));
	hasher_end(h, &want);
	hasher_free(h);
	for (int i = 0; i < 20000; i++) {
		hash_bytes(arg, strlen(arg), &got);
		if (!hash_eq(&got, &want))
			return arg;
	}
	return NULL;
}

Test(hash, threads)
{
	pthread_t t[4];
	char *texts[] = {(char *)"a", (char *)"bb", (char *)"ccc", (char *)"dddd"};
	for (int i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&t[i], NULL, hash_much, texts[i]), 0);
	for (int i = 0; i < 4; i++) {
		void *bad;
		pthread_join(t[i], &bad);
		cr_assert_null(bad, "%s", (char *)bad);
	}
}

/* ---- key tables ---- */

static const struct key_row rows[] = {
        {"provider", "type", VALUE_ENUM, .values = "container, vm,ssh", .help = "h"},
        {"provider", "max-parallel", VALUE_INT, .dflt = "64", .min = 1, .max = 100, .help = "h"},
        {"nodes *", "memory", VALUE_SIZE, .min = 1 << 20, .max = 1LL << 40, .help = "h"},
        {"nodes *", "every", VALUE_DURATION, .dflt = "1m", .min = 500, .max = 60000, .help = "h"},
        {"nodes *", "rate", VALUE_FLOAT, .dflt = "0.5", .max = 1, .help = "h"},
        {"nodes *", "seed", VALUE_INT, .help = "h"},
        {"param *", "*", VALUE_STRING, .help = "h"},
        {0},
};

static void refused(const struct key_row *row, const char *text, int rc, const char *sentence)
{
	_cleanup_err_ struct err *err = NULL;
	int got = key_check(row, text, &err);
	cr_assert_eq(got, rc, "'%s' gives %d (%s)", text, got, err_msg(err));
	if (sentence)
		has(err_msg(err), sentence);
}

Test(keys, check_values)
{
	refused(&rows[0], "vm", 0, NULL);
	refused(&rows[0], "vn", -EINVAL, "must be one of container, vm, ssh, not 'vn' (did you mean 'vm'?)");
	refused(&rows[0], "hovercraft", -EINVAL, "must be one of container, vm, ssh, not 'hovercraft'");
	refused(&rows[1], "1", 0, NULL);
	refused(&rows[1], "100", 0, NULL);
	refused(&rows[1], "0", -ERANGE, "must be from 1 to 100, not 0");
	refused(&rows[1], "101", -ERANGE, "must be from 1 to 100, not 101");
	refused(&rows[1], "ten", -EINVAL, "whole number");
	refused(&rows[2], "1M", 0, NULL);
	refused(&rows[2], "512K", -ERANGE, "must be from 1M to 1T, not 512K");
	refused(&rows[3], "60s", 0, NULL);
	refused(&rows[3], "499ms", -ERANGE, "must be from 500ms to 60s, not 499ms");
	refused(&rows[4], "0.25", 0, NULL);
	refused(&rows[4], "1e-3", 0, NULL);
	refused(&rows[4], "1.1", -ERANGE, "must be from 0 to 1");
	const char *const not_numbers[] = {"nan", "inf", "-inf", "0x1", " 1", "1 ", "", "."};
	for (size_t i = 0; i < sizeof not_numbers / sizeof *not_numbers; i++)
		refused(&rows[4], not_numbers[i], -EINVAL, "must be a number");
	refused(&rows[4], "1e999", -ERANGE, "1e999");
	refused(&rows[5], "-123456789", 0, NULL);
	refused(&rows[6], "anything at all", 0, NULL);
}

Test(keys, check_types)
{
	_cleanup_err_ struct err *err = NULL;
	cr_assert_eq(value_check(VALUE_INT, "3", "2", "", NULL, NULL), 0);
	cr_assert_eq(value_check(VALUE_INT, "1", "2", NULL, NULL, &err), -ERANGE);
	eq_str(err_msg(err), "must be at least 2, not 1");
	cr_assert_eq(value_check(VALUE_DURATION, "2m", NULL, "1m", NULL, &err), -ERANGE);
	eq_str(err_msg(err), "must be at most 1m, not 2m");
	cr_assert_eq(value_check(VALUE_JSON, "{\"a\": [1, 2]}", NULL, NULL, NULL, NULL), 0);
	cr_assert_eq(value_check(VALUE_JSON, "7", NULL, NULL, NULL, NULL), 0);
	cr_assert_eq(value_check(VALUE_JSON, "{", NULL, NULL, NULL, NULL), -EINVAL);
	cr_assert_eq(value_check(VALUE_JSON, "", NULL, NULL, NULL, NULL), -EINVAL);
	for (int t = VALUE_STRING; t <= VALUE_JSON; t++) {
		enum value_type back;
		cr_assert_eq(value_type_parse(value_type_name((enum value_type)t), &back), 0);
		cr_assert_eq((int)back, t);
	}
	enum value_type none;
	cr_assert_eq(value_type_parse("colour", &none), -EINVAL);
}

Test(keys, find)
{
	bool known;
	cr_assert_eq(key_find(rows, "provider", "type", &known), &rows[0]);
	cr_assert_eq(key_find(rows, "nodes db", "memory", NULL), &rows[2]);
	cr_assert_eq(key_find(rows, "param quorum", "whatever", NULL), &rows[6]);
	cr_assert_null(key_find(rows, "provider", "colour", &known));
	cr_assert(known);
	const char *const unknown[] = {"nodes", "nodes ", "nodesdb", "providers", ""};
	for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
		cr_assert_null(key_find(rows, unknown[i], "memory", &known));
		cr_assert(!known, "'%s'", unknown[i]);
	}
}

Test(keys, settings)
{
	struct settings s = {0}, copy = {0};
	cr_assert_null(settings_get(NULL, "provider", "type"));
	cr_assert_eq(settings_int(&s, rows, "provider", "max-parallel"), 64);
	cr_assert_eq(settings_int(&s, rows, "nodes db", "every"), 60000);
	cr_assert_eq(settings_int(&s, rows, "nodes db", "memory"), 0);
	cr_assert_null(settings_str(&s, rows, "provider", "type"));
	cr_assert_eq(settings_float(&s, rows, "nodes db", "rate"), 0.5);
	settings_add(&s, "nodes db", "memory", "1M", 3);
	settings_add(&s, "nodes db", "memory", "2M", 4);
	settings_add(&s, "nodes web", "rate", "0.25", 5);
	settings_add(&s, "x", "y", "on", 6);
	settings_copy(&copy, &s);
	settings_release(&s);
	cr_assert_eq(copy.n, 4);
	cr_assert_eq(copy.items[1].line, 4);
	eq_str(settings_get(&copy, "nodes db", "memory"), "2M");
	cr_assert_null(settings_get(&copy, "nodes web", "memory"));
	cr_assert_eq(settings_int(&copy, rows, "nodes db", "memory"), 2 << 20);
	cr_assert_eq(settings_float(&copy, rows, "nodes web", "rate"), 0.25);
	cr_assert(settings_bool(&copy, rows, "x", "y") && !settings_bool(&copy, rows, "x", "z"));
	settings_release(&copy);
}

/* ---- files ---- */

static int n_entries(void)
{
	struct strlist l = {0};
	_cleanup_free_ char *command = xasprintf("ls -A %s", dir);
	FILE *f = popen(command, "re");
	char line[400];
	while (fgets(line, sizeof line, f))
		strlist_add(&l, line);
	pclose(f);
	int n = (int)l.n;
	strlist_release(&l);
	return n;
}

Test(io, read, .init = make_dir, .fini = remove_dir)
{
	_cleanup_err_ struct err *err = NULL;
	_cleanup_buf_ struct buf b = {0};
	char *big = xcalloc(1, 100001);
	memset(big, 'x', 100000);
	put("big", big, 0644);
	buf_adds(&b, "before ");
	cr_assert_eq(file_read(AT_FDCWD, at("big"), 100000, &b, &err), 0);
	cr_assert_eq(b.len, 100007);
	buf_reset(&b);
	cr_assert_eq(file_read(AT_FDCWD, at("big"), 99999, &b, &err), -EFBIG);
	has(err_msg(err), "larger than 99999 bytes");
	cr_assert_eq(file_read(AT_FDCWD, at("none"), 10, &b, &err), -ENOENT);
	has(err_msg(err), "none': No such file or directory");
	cr_assert_eq(file_read(AT_FDCWD, dir, 10, &b, &err), -EISDIR);
	free(big);
}

Test(io, a_pipe_is_no_document, .init = make_dir, .fini = remove_dir)
{
	_cleanup_err_ struct err *err = NULL;
	_cleanup_buf_ struct buf b = {0};
	cr_assert_eq(mkfifo(at("fifo"), 0600), 0);
	alarm(10); /* it must not wait for a writer */
	cr_assert_eq(file_read(AT_FDCWD, at("fifo"), 10, &b, &err), -EINVAL);
	has(err_msg(err), "it is a pipe");
}

Test(io, write_atomic, .init = make_dir, .fini = remove_dir)
{
	struct stat st;
	put("f", "one", 0640);
	put("f", "two", 0604);
	holds("f", "two");
	cr_assert_eq(stat(at("f"), &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0604);
	put("f", "", 0644);
	holds("f", "");
	cr_assert_eq(n_entries(), 1, "something is left beside it");

	_cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_eq(file_write_atomic(fd, "relative", "r", 1, 0600, NULL), 0);
	holds("relative", "r");

	char name[256];
	memset(name, 'n', 255);
	name[255] = '\0';
	put(name, "the longest name", 0600);
	holds(name, "the longest name");

	_cleanup_err_ struct err *err = NULL;
	cr_assert_eq(file_write_atomic(AT_FDCWD, at("none/f"), "x", 1, 0600, &err), -ENOENT);
	has(err_msg(err), "none/f'");
	cr_assert_eq(mkdir(at("d"), 0700), 0);
	cr_assert_lt(file_write_atomic(AT_FDCWD, at("d"), "x", 1, 0600, NULL), 0);
	cr_assert_eq(n_entries(), 4, "a failed write left something");
}

/* A daemon that crashed while writing had, in a container, the pid of the next one. */
Test(io, goes_on_beside_what_a_crash_left, .init = make_dir, .fini = remove_dir)
{
	for (unsigned i = 0; i < 20; i++) {
		char name[64];
		snprintf(name, sizeof name, ".f.%d.%u~", (int)getpid(), i);
		int fd = open(at(name), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		cr_assert_geq(fd, 0);
		close(fd);
	}
	put("f", "written", 0600);
	holds("f", "written");
	cr_assert_eq(n_entries(), 21);
}

Test(io, replace_keeps_mode_owner_and_link, .init = make_dir, .fini = remove_dir)
{
	struct stat st;
	bool root = geteuid() == 0;
	put("target", "old", 0600);
	cr_assert_eq(chmod(at("target"), 0751), 0);
	if (root)
		cr_assert_eq(chown(at("target"), 1234, 2345), 0);
	cr_assert_eq(symlink("target", at("link")), 0);
	cr_assert_eq(symlink("link", at("link2")), 0);
	cr_assert_eq(file_replace(at("link2"), "new", 3, NULL), 0);
	holds("target", "new");
	cr_assert_eq(lstat(at("link2"), &st), 0);
	cr_assert(S_ISLNK(st.st_mode));
	cr_assert_eq(lstat(at("target"), &st), 0);
	cr_assert(S_ISREG(st.st_mode));
	cr_assert_eq(st.st_mode & 07777, 0751);
	if (root)
		cr_assert(st.st_uid == 1234 && st.st_gid == 2345);
	cr_assert_eq(file_replace(at("fresh"), "f", 1, NULL), 0);
	holds("fresh", "f");
}

static int gate_calls;

static int gate_opens(void *arg, struct err **err)
{
	gate_calls++;
	return *(int *)arg < 0 ? err_set(err, -*(int *)arg, "not now") : 0;
}

static void gate_closes(void *arg)
{
	gate_calls += 10;
}

Test(io, replace_asks_at_the_gate, .init = make_dir, .fini = remove_dir)
{
	int answer = -EBUSY;
	_cleanup_err_ struct err *err = NULL;
	const struct replace_gate gate = {gate_opens, gate_closes, &answer};
	put("f", "old", 0644);
	cr_expect_eq(file_replace_gated(at("f"), "new", 3, &gate, &err), -EBUSY);
	eq_str(err_msg(err), "not now");
	cr_expect_eq(gate_calls, 1);
	holds("f", "old");
	answer = 0;
	cr_expect_eq(file_replace_gated(at("f"), "new", 3, &gate, NULL), 0);
	cr_expect_eq(gate_calls, 12);
	holds("f", "new");
	cr_assert_eq(unlink(at("f")), 0);
	cr_expect_eq(rmdir(dir), 0, "something is left beside it");
}

Test(io, replace_refuses_what_is_no_file, .init = make_dir, .fini = remove_dir)
{
	_cleanup_err_ struct err *err = NULL;
	struct stat st;
	cr_assert_eq(symlink("nowhere", at("dangling")), 0);
	cr_assert_eq(file_replace(at("dangling"), "x", 1, &err), -ENOENT);
	has(err_msg(err), "a link to what is not there");
	cr_assert(lstat(at("dangling"), &st) == 0 && S_ISLNK(st.st_mode));
	cr_assert_eq(mkfifo(at("fifo"), 0600), 0);
	cr_assert_eq(file_replace(at("fifo"), "x", 1, &err), -EINVAL);
	cr_assert(lstat(at("fifo"), &st) == 0 && S_ISFIFO(st.st_mode));
	cr_assert_eq(file_replace(dir, "x", 1, &err), -EINVAL);
	has(err_msg(err), "it is not a file");
}

Test(io, directories, .init = make_dir, .fini = remove_dir)
{
	_cleanup_err_ struct err *err = NULL;
	cr_assert_eq(dir_make_all(at("a/b//c/"), 0755, &err), 0, "%s", err_msg(err));
	cr_assert_eq(dir_make_all(at("a/b/c"), 0755, &err), 0);
	put("a/file", "x", 0600);
	cr_assert_eq(dir_make_all(at("a/file"), 0755, &err), -ENOTDIR);
	cr_assert_eq(dir_make_all(at("a/file/d"), 0755, &err), -ENOTDIR);
	cr_assert_lt(dir_make_all("", 0755, &err), 0);
	cr_assert_eq(dir_make_all("/", 0755, NULL), 0);
	/* what it removes: links themselves, directories without permissions */
	put("kept", "kept", 0600);
	cr_assert_eq(symlink("../kept", at("a/link")), 0);
	cr_assert_eq(symlink("..", at("a/up")), 0);
	cr_assert_eq(chmod(at("a/b/c"), 0500), 0);
	cr_assert_eq(chmod(at("a/b"), 0500), 0);
	cr_assert_eq(tree_remove(at("a"), &err), 0, "%s", err_msg(err));
	holds("kept", "kept");
	cr_assert_eq(n_entries(), 1);
	cr_assert_eq(tree_remove(at("a"), &err), 0, "what is not there is no error");
	cr_assert_eq(tree_remove(at("kept"), &err), 0);
	cr_assert_eq(n_entries(), 0);
}

Test(io, joins)
{
	static const char *const cases[][3] = {
	        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a", "/b", "a/b"}, {"a/", "//b", "a/b"}, {"", "b", "b"}, {"", "/b", "/b"}, {"/", "b", "/b"}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		_cleanup_free_ char *got = path_join(cases[i][0], cases[i][1]);
		eq_str(got, cases[i][2]);
	}
}

static void private_mounts(void)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		cr_skip_test("needs a mount namespace of its own: run as root");
}

Test(io, a_full_disk_leaves_the_old_file, .init = make_dir, .fini = remove_dir)
{
	private_mounts();
	_cleanup_err_ struct err *err = NULL;
	size_t len = 1 << 20;
	char *big = xmalloc(len);
	memset(big, 'x', len);
	cr_assert_eq(mount("tmpfs", dir, "tmpfs", 0, "size=256k"), 0);
	put("f", "old", 0600);
	cr_assert_eq(file_write_atomic(AT_FDCWD, at("f"), big, len, 0600, &err), -ENOSPC);
	has(err_msg(err), "f': No space left on device");
	cr_assert_eq(file_replace(at("f"), big, len, &err), -ENOSPC);
	holds("f", "old");
	cr_assert_eq(n_entries(), 1, "the temporary file is still there");
	put("f", "new", 0600);
	free(big);
	cr_assert_eq(umount(dir), 0);
}

/* A bind mount has the device of what it shows: the device alone would let tree_remove empty the host's directory. */
Test(io, remove_stops_at_mounts, .init = make_dir, .fini = remove_dir)
{
	private_mounts();
	_cleanup_err_ struct err *err = NULL;
	cr_assert_eq(dir_make_all(at("shown"), 0700, NULL), 0);
	put("shown/precious", "p", 0600);
	cr_assert_eq(dir_make_all(at("tree/mnt"), 0700, NULL), 0);
	cr_assert_eq(mount(at("shown"), at("tree/mnt"), NULL, MS_BIND, NULL), 0);
	cr_assert_eq(tree_remove(at("tree"), &err), -EXDEV);
	has(err_msg(err), "something is mounted in it");
	holds("shown/precious", "p");
	cr_assert_eq(umount(at("tree/mnt")), 0);
	cr_assert_eq(tree_remove(at("tree"), NULL), 0);
}

/* ---- the log ---- */

Test(log, lines, .init = make_dir, .fini = remove_dir)
{
	_cleanup_buf_ struct buf b = {0};
	log_to_file(at("log"));
	log_max = LOG_INFO;
	log_msg(LOG_ERROR, "one %d", 1);
	log_msg(LOG_DEBUG, "not this");
	log_msg(LOG_INFO, "two");
	log_to_file(NULL);
	cr_assert_eq(file_read(AT_FDCWD, at("log"), 4096, &b, NULL), 0);
	has(buf_str(&b), "Z rebarfs: error: one 1\n");
	has(buf_str(&b), "Z rebarfs: info: two\n");
	cr_assert(!strstr(buf_str(&b), "not this"));
}
