/* What is made of the answers of a BMC that speaks Redfish: those of a stand-in that answers by rote, without TLS. */
#include "fs/base/buf.h"
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "providers/metal/redfish.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/rebarfs-redfish.XXXXXX";
static pid_t server;

static void drop(void)
{
	if (server > 0)
		kill(server, SIGKILL);
	tree_remove(dir, NULL);
}

TestSuite(redfish_answers, .fini = drop);

/* A row "GET /path" answers with what follows "HTTP/1.1 ". What has no row is 404. */
struct row {
	const char *asked, *answer;
};

static void serve_one(int fd, const struct row *rows, int log)
{
	char text[4096];
	size_t len = 0, want = 0;
	ssize_t n;

	while (len < sizeof text - 1 && (!want || len < want) && (n = read(fd, text + len, sizeof text - 1 - len)) > 0) {
		len += (size_t)n;
		text[len] = '\0';
		const char *end = strstr(text, "\r\n\r\n"), *length = strcasestr(text, "content-length:");
		if (end)
			want = (size_t)(end + 4 - text) + (length && length < end ? strtoul(length + 15, NULL, 10) : 0);
	}
	_cleanup_buf_ struct buf said = {0};
	const char *answer = "404 Not Found\r\n\r\n", *body = strstr(text, "\r\n\r\n");
	int words = (int)strcspn(text, "\r");
	buf_addf(&said, "%.*s%s%s\n", words - (int)strlen(" HTTP/1.1"), text, body && body[4] ? " " : "", body ? body + 4 : "");
	if (strncmp(text, "GET", 3) != 0)
		fd_write_all(log, said.data, said.len);
	for (; rows->asked; rows++)
		if (!strncmp(text, rows->asked, strlen(rows->asked)) && !strncmp(text + strlen(rows->asked), " HTTP", 5))
			answer = rows->answer;
	_cleanup_free_ char *all =
	        xasprintf("HTTP/1.1 %.*s\r\nConnection: close\r\n%s", (int)strcspn(answer, "\r"), answer, strchr(answer, '\r') + 2);
	fd_write_all(fd, all, strlen(all));
}

static int begin(const struct row *rows)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	cr_assert_eq(listen(fd, 8), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	server = fork();
	if (server == 0) {
		_cleanup_free_ char *path = path_join(dir, "changes");
		int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGPIPE, SIG_IGN);
		for (;;) {
			int one = accept(fd, NULL, NULL);
			serve_one(one, rows, log);
			close(one);
		}
	}
	close(fd);
	return ntohs(a.sin_port);
}

static void put(const char *name, const char *text)
{
	_cleanup_free_ char *path = path_join(dir, name);
	cr_assert_eq(file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, NULL), 0);
}

/* Both streams of it in one; HOST stands for the stand-in's address. */
static int ask(const struct row *rows, const char *place, const char *what, const char *value, struct buf *ret)
{
	char *argv[] = {dir, (char *)what, (char *)value};
	_cleanup_free_ char *out = NULL;

	if (!server)
		cr_assert_not_null(mkdtemp(dir));
	int port = begin(rows);
	_cleanup_free_ char *bmc = xasprintf("127.0.0.1\n%d\nadmin\nm1\nredfish+http\n%s\n\n", port, place),
	                    *named = xasprintf("127.0.0.1 port %d", port);
	put("bmc", bmc);
	put("password", "secret");
	out = path_join(dir, "out");
	int fd = open(out, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	fflush(NULL);
	int saved[] = {dup(1), dup(2)};
	dup2(fd, 1);
	dup2(fd, 2);
	int rc = redfish_main(3, argv);
	fflush(NULL);
	dup2(saved[0], 1);
	dup2(saved[1], 2);
	close(saved[0]);
	close(saved[1]);
	close(fd);
	_cleanup_buf_ struct buf text = {0};
	cr_assert_eq(file_read(AT_FDCWD, out, 65536, &text, NULL), 0);
	const char *at = strstr(buf_str(&text), named);
	if (at) {
		buf_add(ret, text.data, (size_t)(at - text.data));
		buf_adds(ret, "HOST");
		buf_adds(ret, at + strlen(named));
	} else {
		buf_adds(ret, buf_str(&text));
	}
	kill(server, SIGKILL);
	return rc;
}

static void says(const struct row *rows, const char *place, const char *words, int rc, const char *expected)
{
	_cleanup_buf_ struct buf said = {0};
	_cleanup_free_ char *what = xstrndup(words, strcspn(words, " "));

	cr_expect_eq(ask(rows, place, what, strchr(words, ' ') + 1, &said), rc, "another status for: %s", buf_str(&said));
	cr_expect_str_eq(buf_str(&said), expected, "%s says: %s", words, buf_str(&said));
}

static void changed(const char *expected)
{
	_cleanup_free_ char *path = path_join(dir, "changes");
	_cleanup_buf_ struct buf all = {0};

	file_read(AT_FDCWD, path, 4096, &all, NULL);
	cr_expect_str_eq(buf_str(&all), expected, "changed: %s", buf_str(&all));
}

#define JSON "200 OK\r\nContent-Type: application/json\r\n\r\n"
#define ONE                                                                                                                                          \
	{                                                                                                                                            \
		"GET /redfish/v1/Systems", JSON "{\"Members\": [{\"@odata.id\": \"/redfish/v1/Systems/a\"}]}"                                        \
	}
#define A "GET /redfish/v1/Systems/a"
#define OK "204 No Content\r\n\r\n"

Test(redfish_answers, of_several_systems_none_is_guessed)
{
	static const struct row rows[] = {
	        {"GET /redfish/v1/Systems", JSON "{\"Members\": [{\"@odata.id\": \"/s/1\"}, {\"@odata.id\": \"/s/2\"}, {}]}"},
	        {"GET /s/2", JSON "{\"PowerState\": \"PoweringOff\"}"}, {0}};
	_cleanup_buf_ struct buf said = {0};

	cr_expect_eq(ask(rows, "", "power", "status", &said), 3);
	cr_expect(
	        strstr(buf_str(&said), "the BMC of m1 (HOST) has 3 systems (/s/1, /s/2, ?): say which in its 'bmc', like redfish+http://127.0.0.1:"),
	        "%s", buf_str(&said));
	says(rows, "/s/2", "power status", 0, "power is changing\n");
}

Test(redfish_answers, what_is_no_redfish_is_said)
{
	static const struct row none[] = {{0}}, empty[] = {{"GET /redfish/v1/Systems", JSON "{\"Members\": []}"}, {0}},
	                        page[] = {{"GET /redfish/v1/Systems", "200 OK\r\n\r\n<html>"}, {0}},
	                        list[] = {{"GET /redfish/v1/Systems", "200 OK\r\n\r\n[1]"}, {0}},
	                        away[] = {{"GET /redfish/v1/Systems", JSON "{\"Members\": [{\"@odata.id\": \"http://192.0.2.1/x\"}]}"}, {0}},
	                        mute[] = {ONE, {A, JSON "{}"}, {0}};

	says(none, "", "power status", 3, "the BMC of m1 (HOST) has no '/redfish/v1/Systems' (HTTP 404)\n");
	says(empty, "", "power status", 3, "the BMC of m1 (HOST) has no system in '/redfish/v1/Systems'\n");
	says(page, "", "power status", 3,
	        "the BMC of m1 (HOST) answers GET '/redfish/v1/Systems' with something that is not JSON: does it speak Redfish?\n");
	says(list, "", "power status", 3,
	        "the BMC of m1 (HOST) answers GET '/redfish/v1/Systems' with something that is not JSON: does it speak Redfish?\n");
	says(away, "", "power status", 3, "the BMC of m1 (HOST): what it says of its system has no '@odata.id'\n");
	says(mute, "", "power status", 3, "the BMC of m1 (HOST) does not say whether the power is on\n");
	says(mute, "", "power on", 3, "the BMC of m1 (HOST): what it says of its system has no 'target'\n");
}

Test(redfish_answers, a_refusal_is_told_with_its_reason_and_whether_to_try_again)
{
	static const char denied[] = "{\"error\": {\"message\": \"see more\", \"@Message.ExtendedInfo\": [{\"Message\": \"not\\nyet\"}]}}";
	_cleanup_free_ char *busy = xasprintf("503 Busy\r\n\r\n%s", denied), *forbidden = xasprintf("403 Forbidden\r\n\r\n%s", denied);
	struct row rows[] = {{"GET /redfish/v1/Systems", busy}, {0}};

	says(rows, "", "power status", 1, "the BMC of m1 (HOST) answers GET '/redfish/v1/Systems' with HTTP 503: not?yet\n");
	rows[0].answer = forbidden;
	says(rows, "", "power status", 3, "the BMC of m1 (HOST) does not allow GET '/redfish/v1/Systems' to 'admin': not?yet\n");
	rows[0].answer = "401 Unauthorized\r\n\r\n";
	says(rows, "", "power status", 3, "the BMC of m1 (HOST) refuses the user or the password of 'admin'\n");
	rows[0].answer = "301 Moved\r\nLocation: ftp://192.0.2.1/\r\n\r\n";
	_cleanup_buf_ struct buf said = {0};
	cr_expect_eq(ask(rows, "", "power", "status", &said), 3);
	cr_expect(strstr(buf_str(&said), "the BMC of m1 (HOST) names a place that is none of its own: "), "%s", buf_str(&said));
}

Test(redfish_answers, it_is_asked_for_what_it_allows)
{
	static const struct row here[] = {ONE,
	        {A, JSON "{\"PowerState\": \"Off\", \"Actions\": {\"#ComputerSystem.Reset\": {\"target\": \"/r\", "
	                 "\"ResetType@Redfish.AllowableValues\": [\"ForceOn\", \"GracefulShutdown\"]}}}"},
	        {"POST /r", OK}, {0}},
	                        elsewhere[] = {ONE,
	                                {A, JSON "{\"PowerState\": \"On\", \"Actions\": {\"#ComputerSystem.Reset\": {\"target\": \"/r\", "
	                                         "\"@Redfish.ActionInfo\": \"/i\"}}}"},
	                                {"GET /i", JSON "{\"Parameters\": [{\"Name\": \"Other\"}, {\"Name\": \"ResetType\", \"AllowableValues\": "
	                                                "[\"On\", \"GracefulShutdown\"]}]}"},
	                                {"POST /r", OK}, {0}},
	                        unsaid[] = {ONE, {A, JSON "{\"PowerState\": \"On\", \"Actions\": {\"#ComputerSystem.Reset\": {\"target\": \"/r\"}}}"},
	                                {"POST /r", OK}, {0}};

	says(here, "", "power on", 0, "");
	changed("POST /r {\"ResetType\":\"ForceOn\"}\n");
	says(here, "", "power off", 0, "");
	changed("POST /r {\"ResetType\":\"ForceOn\"}\n");
	says(elsewhere, "", "power off", 3, "the BMC of m1 (HOST) does not allow 'ForceOff', only: On, GracefulShutdown\n");
	says(unsaid, "", "power off", 0, "");
	changed("POST /r {\"ResetType\":\"ForceOn\"}\nPOST /r {\"ResetType\":\"ForceOff\"}\n");
}

Test(redfish_answers, the_next_boot_is_set_for_once)
{
	static const struct row all[] = {ONE,
	        {A, JSON "{\"Boot\": {\"BootSourceOverrideTarget@Redfish.AllowableValues\": [\"None\", \"Pxe\", \"Hdd\"], "
	                 "\"BootSourceOverrideMode@Redfish.AllowableValues\": [\"UEFI\", \"Legacy\"]}}"},
	        {"PATCH /redfish/v1/Systems/a", OK}, {0}},
	                        few[] = {ONE, {A, JSON "{\"Boot\": {\"BootSourceOverrideTarget@Redfish.AllowableValues\": [\"None\", \"Cd\"]}}"},
	                                {"PATCH /redfish/v1/Systems/a", OK}, {0}};

	says(all, "", "bootdev pxe", 0, "");
	changed("PATCH /redfish/v1/Systems/a "
	        "{\"Boot\":{\"BootSourceOverrideTarget\":\"Pxe\",\"BootSourceOverrideEnabled\":\"Once\",\"BootSourceOverrideMode\":\"Legacy\"}}\n");
	put("changes", "");
	says(few, "", "bootdev pxe", 3, "the BMC of m1 (HOST) does not allow 'Pxe', only: None, Cd\n");
	says(few, "", "bootdev disk", 0, "");
	changed("PATCH /redfish/v1/Systems/a {\"Boot\":{\"BootSourceOverrideTarget\":\"None\",\"BootSourceOverrideEnabled\":\"Disabled\"}}\n");
}

Test(redfish_answers, one_that_is_not_there_or_talks_without_end_is_said)
{
	_cleanup_buf_ struct buf page = {0}, said = {0};

	buf_adds(&page, JSON);
	for (int i = 0; i < 40000; i++)
		buf_adds(&page, "                                ");
	const struct row rows[] = {{"GET /redfish/v1/Systems", buf_str(&page)}, {0}};
	says(rows, "", "power status", 3, "the BMC of m1 (HOST) answers with more than 1048576 bytes\n");
	put("bmc", "127.0.0.1\n1\nadmin\nm1\nredfish\n\n\n");
	char *argv[] = {dir, "power", "status"};
	cr_expect_eq(redfish_main(3, argv), 1);
}
