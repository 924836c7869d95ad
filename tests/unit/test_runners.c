/* The parts of the runners and of the ssh provider that need no node. */
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "providers/provider.h"
#include "runners/ansible.h"
#include "runners/node.h"
#include "runners/onnode.h"
#include "runners/puppet.h"
#include "runners/script.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static char *scratch(void)
{
	char *dir = xstrdup("/tmp/test-runners-XXXXXX");
	cr_assert(mkdtemp(dir));
	return dir;
}

static void put(const char *dir, const char *name, const char *text, mode_t mode)
{
	_cleanup_free_ char *path = path_join(dir, name);
	_cleanup_free_ char *parent = xstrndup(path, strrchr(path, '/') - path);
	cr_assert_eq(dir_make_all(parent, 0755, NULL), 0);
	cr_assert_eq(file_write_atomic(AT_FDCWD, path, text, strlen(text), mode, NULL), 0);
}

static void drop(char *dir)
{
	tree_remove(dir, NULL);
	free(dir);
}

static char *output_of(const char *command)
{
	FILE *f = popen(command, "r");
	struct buf b = {0};
	char text[4096];
	size_t n;
	while ((n = fread(text, 1, sizeof text, f)) > 0)
		buf_add(&b, text, n);
	cr_assert_eq(pclose(f), 0, "%s", command);
	return buf_detach(&b, NULL);
}

Test(shell, quoting_survives_a_shell)
{
	static const char *const words[] = {"", "plain", "it's", "a b\nc", "$(id) `id` \\ \" * ~", "'", "''''", "-n", "\t\001"};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		_cleanup_buf_ struct buf command = {0};
		buf_adds(&command, "printf %s ");
		sh_quote(&command, words[i]);
		_cleanup_free_ char *out = output_of(buf_str(&command));
		cr_assert_str_eq(out, words[i]);
	}
}

Test(shell, arguments_reach_the_script)
{
	const char *args[] = {"one", "it's two", "", NULL};
	_cleanup_free_ char *command = node_command("root", "printf '%s|' \"$@\"; echo 'end'", args);
	_cleanup_free_ char *out = output_of(command);
	cr_assert_str_eq(out, "one|it's two||end\n");
	_cleanup_free_ char *other = node_command("admin", "printf '%s|' \"$@\"", args);
	cr_assert(strstr(other, "sudo -n"));
}

Test(shell, scripts_are_right_in_every_shell_here)
{
	static const char *const scripts[] = {node_start, node_ship, node_stop, node_prepare, node_collect, node_supervisor_tools};
	static const char *const shells[] = {"dash", "bash --posix", "busybox sh"};
	for (size_t k = 0; k < sizeof shells / sizeof *shells; k++) {
		_cleanup_free_ char *there = xasprintf("command -v %.*s > /dev/null", (int)strcspn(shells[k], " "), shells[k]);
		if (system(there))
			continue;
		for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
			_cleanup_buf_ struct buf command = {0};
			buf_addf(&command, "%s -n -c ", shells[k]);
			sh_quote(&command, scripts[i]);
			cr_assert_eq(system(buf_str(&command)), 0, "script %zu in %s", i, shells[k]);
		}
	}
}

Test(shell, commands_fit_into_one_request)
{
	const char *args[] = {"0123456789abcdef", "18446744073709551615", "9223372036854775807",
	        "0123456789012345678901234567890123456789012345678901234567890123", "1000000", "0", "9223372036854775807", NULL};
	_cleanup_free_ char *command = node_command("somebody", node_start, args);
	cr_assert_lt(strlen(command), 30000u); /* libssh2's packets end at 35000 */
}

Test(script, environment_names)
{
	_cleanup_buf_ struct buf b = {0};
	script_env_name(&b, "max-size.2x");
	cr_assert_str_eq(buf_str(&b), "REBAR_PARAM_MAX_SIZE_2X");
}

Test(script, environment_values)
{
	static const struct {
		const char *json, *text;
	} rows[] = {{"\"it's\\n\"", "it's\n"}, {"5", "5"}, {"-3", "-3"}, {"true", "true"}, {"false", "false"}, {"[\"a\",\"b c\",3]", "a,b c,3"},
	        {"[]", ""}, {"{\"b\":1,\"a\":[true]}", "{\"a\":[true],\"b\":1}"}, {"null", ""}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		json_t *v = json_loads(rows[i].json, JSON_DECODE_ANY, NULL);
		_cleanup_buf_ struct buf b = {0};
		script_env_value(&b, v);
		cr_assert_str_eq(buf_str(&b), rows[i].text);
		json_decref(v);
	}
}

static void check_script(const char *text, mode_t mode, int want, const char *says)
{
	char *dir = scratch();
	struct err *err = NULL;
	if (text)
		put(dir, "apply", text, mode);
	int rc = runner_find("script")->check(dir, NULL, &err);
	cr_assert_eq(rc, want, "rc %d for '%s': %s", rc, text ? text : "", err_msg(err));
	if (says)
		cr_assert(strstr(err_msg(err), says), "%s", err_msg(err));
	err_free(err);
	drop(dir);
}

Test(script, check_tells_what_is_wrong)
{
	check_script("#!/bin/sh\n", 0755, 0, NULL);
	check_script("\177ELF...", 0755, 0, NULL);
	check_script(NULL, 0, -ENOENT, "'apply' is missing");
	check_script("#!/bin/sh\n", 0644, -EACCES, "'apply' is not executable: chmod +x it");
	check_script("echo hello\n", 0755, -ENOEXEC, "first line");
	check_script("", 0755, -ENOEXEC, "first line");
}

Test(script, bash_is_found_by_the_first_line)
{
	char *dir = scratch();
	put(dir, "apply", "#!/usr/bin/env bash\n", 0755);
	cr_assert(script_is_bash(dir, "apply"));
	put(dir, "apply", "#!/bin/sh\nbash -c true\n", 0755);
	cr_assert_not(script_is_bash(dir, "apply"));
	drop(dir);
}

/* The supervisor itself, on this machine: a node's shell in all but the connection. */
Test(script, supervisor_quotes_everything)
{
	static const struct target target = {.name = "n1", .user = "root"};
	json_t *params = json_pack("{s:s,s:s}", "evil", "'; touch /tmp/never; '\n$(id)", "end", "REBAR_END\nREBAR_END");
	json_t *inputs = json_pack("{s:O}", "params", params);
	struct run_item item = {.number = 7, .target = &target, .role = "r", .content_hash = "00", .params = params, .inputs = inputs};
	_cleanup_buf_ struct buf b = {0}, command = {0};
	script_supervisor(&b, &item, true);
	buf_adds(&command, "sh -n -c ");
	sh_quote(&command, buf_str(&b));
	cr_assert_eq(system(buf_str(&command)), 0);
	/* only the delimiter itself stands alone on a line outside quotes: the JSON is one line */
	char *json = strstr(buf_str(&b), "{\"params\"");
	cr_assert(json);
	cr_assert_eq(strncmp(strchr(json, '\n') + 1, "REBAR_END\n", 10), 0);
	json_decref(params);
	json_decref(inputs);
}

/* ---- collect ---- */

static void keep_log(void *arg, const char *data, size_t len)
{
	buf_add(arg, data, len);
}

static const char collected[] = "state done\nage 300\nexit 3\ntook 120\nfailed 4\nlog 6\noutput one 3\noutput two.x 0\n\nls x"
                                "a\nb\nc\n"
                                "v1\n";

Test(collect, any_cut_of_the_stream_gives_the_same)
{
	for (size_t step = 1; step <= sizeof collected; step++) {
		_cleanup_buf_ struct buf log = {0};
		struct collect c = {.on_log = keep_log, .arg = &log, .exit_status = -1};
		size_t len = sizeof collected - 1;
		for (size_t at = 0; at < len; at += step) {
			cr_assert_not(c.complete);
			collect_add(&c, collected + at, at + step > len ? len - at : step);
		}
		cr_assert(c.complete, "step %zu", step);
		cr_assert_str_eq(c.state, "done");
		cr_assert_eq(c.exit_status, 3);
		cr_assert_eq(c.took_ms, 1200);
		cr_assert_str_eq(buf_str(&c.failed), "ls x");
		cr_assert_str_eq(buf_str(&log), "a\nb\nc\n");
		char *complaint = NULL;
		json_t *o = collect_outputs(&c, &complaint);
		cr_assert_str_eq(json_string_value(json_object_get(o, "one")), "v1");
		cr_assert_str_eq(json_string_value(json_object_get(o, "two.x")), "");
		json_decref(o);
		collect_reset(&c);
	}
}

static char *complaint_of(const char *text, size_t len)
{
	struct collect c = {.exit_status = -1};
	collect_add(&c, text, len);
	char *complaint = NULL;
	json_t *o = collect_outputs(&c, &complaint);
	cr_assert_null(o);
	collect_reset(&c);
	return complaint;
}

Test(collect, outputs_that_break_the_rules)
{
	static const struct {
		const char *text;
		const char *says;
	} rows[] = {{"state done\nbad-size big 70000\n\n", "'big' has 70000 bytes"}, {"state done\nbad-name a?b\n\n", "'a?b'"},
	        {"state done\nbad-kind d\n\n", "not a plain file"}, {"state done\noutput ../x 1\n\nv", "announced"},
	        {"state done\noutput x 99999999\n\n", "announced"}, {"state done\noutput x 2\n\n\xff\xfe", "not UTF-8"}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		_cleanup_free_ char *complaint = complaint_of(rows[i].text, strlen(rows[i].text));
		cr_assert(complaint && strstr(complaint, rows[i].says), "%s", complaint ? complaint : "(none)");
	}
	_cleanup_free_ char *nul = complaint_of("output x 3\n\na\0b", 15);
	cr_assert(strstr(nul, "not UTF-8"));
}

Test(collect, a_cut_answer_is_not_complete)
{
	struct collect c = {.exit_status = -1};
	collect_add(&c, collected, sizeof collected - 2);
	cr_assert_not(c.complete);
	collect_reset(&c);
}

Test(node, refusals_are_sentences)
{
	_cleanup_free_ char *a = node_refusal("n1", "foreign 0011\n"), *b = node_refusal("n1", "newer 7");
	cr_assert_str_eq(a, "'n1' belongs to another rebarfs (its /var/lib/rebar/owner names '0011')");
	cr_assert(strstr(b, "mount 7"));
	cr_assert_null(node_refusal("n1", "started 0"));
	_cleanup_free_ char *c = node_marked("n1", "0011", "marked 0022 7\n"), *d = node_marked("n1", "0011", "marked 0011 7");
	cr_assert_str_eq(c, "it began on 'n1' before: run 7 of another rebarfs ('0022') left its mark there");
	cr_assert(strstr(d, "run 7 left its mark there, and this database does not know of it"), "%s", d);
	cr_assert_null(node_marked("n1", "0011", "started 0"));
}

Test(node, last_line_is_short_and_clean)
{
	_cleanup_buf_ struct buf b = {0};
	last_line("first\nE: no\tsuch\033 thing  \n\n", 27, &b);
	cr_assert_str_eq(buf_str(&b), "E: no such  thing");
	buf_reset(&b);
	last_line("", 0, &b);
	cr_assert_eq(b.len, 0u);
	char text[1000];
	memset(text, 'x', sizeof text);
	last_line(text, sizeof text, &b);
	cr_assert_eq(b.len, 300u);
}

/* ---- host keys ---- */

#define KEY "AAAAC3NzaC1lZDI1NTE5AAAAIC6yujVCX8nYdYUAVshXZJ4L40yCT7v6k3myM1uJrQs6"

Test(keys, comparison_ignores_comments)
{
	cr_assert(ssh_same_key("ssh-ed25519 " KEY, "ssh-ed25519  " KEY " root@n1\n"));
	cr_assert_not(ssh_same_key("ssh-ed25519 " KEY, "ssh-rsa " KEY));
	cr_assert_not(ssh_same_key("ssh-ed25519 " KEY, "ssh-ed25519 " KEY "A"));
	cr_assert_not(ssh_same_key("", ""));
	cr_assert_not(ssh_same_key("ssh-ed25519", "ssh-ed25519"));
}

Test(keys, fingerprint_is_that_of_ssh_keygen)
{
	char *dir = scratch();
	put(dir, "k.pub", "ssh-ed25519 " KEY " c\n", 0644);
	_cleanup_free_ char *command = xasprintf("ssh-keygen -l -f %s/k.pub | cut -d' ' -f2 | tr -d '\\n'", dir);
	_cleanup_free_ char *want = output_of(command);
	_cleanup_buf_ struct buf b = {0};
	ssh_fingerprint("ssh-ed25519 " KEY " c", &b);
	cr_assert_eq(strncmp(buf_str(&b), "ssh-ed25519 SHA256:", 19), 0);
	cr_assert_str_eq(buf_str(&b) + 12, want);
	buf_reset(&b);
	ssh_fingerprint("nonsense", &b);
	cr_assert_str_eq(buf_str(&b), "(unreadable key)");
	drop(dir);
}

Test(keys, offered_kinds_are_read_from_the_first_packet)
{
	_cleanup_buf_ struct buf hello = {0}, kinds = {0};
	buf_adds(&hello, "SSH-2.0-OpenSSH_9.2\r\n");
	buf_add(&hello,
	        "\0\0\1\0\4\24"
	        "0123456789abcdef"
	        "\0\0\0\3kex"
	        "\0\0\0\14rsa-sha2-256",
	        6 + 16 + 7 + 16);
	cr_assert(ssh_offered_host_keys(hello.data, hello.len, &kinds));
	cr_assert_str_eq(buf_str(&kinds), "rsa-sha2-256");
	for (size_t len = 0; len < hello.len; len++)
		cr_assert_not(ssh_offered_host_keys(hello.data, len, &kinds), "%zu", len);
	memset(hello.data + 21 + 22, 0xff, 4);
	cr_assert_not(ssh_offered_host_keys(hello.data, hello.len, &kinds));
}

/* ---- ansible ---- */

struct texts {
	struct buf of[2];
};

static void keep_text(void *arg, size_t i, const char *text, size_t len)
{
	struct texts *t = arg;
	buf_add(&t->of[i], text, len);
}

static const char events[] = "{\"e\":\"play\",\"name\":\"p\"}\n"
                             "{\"e\":\"result\",\"host\":\"a\",\"task\":\"t1\",\"status\":\"ok\",\"text\":\"\"}\n"
                             "nonsense\n"
                             "{\"e\":\"result\",\"host\":\"b\",\"task\":\"t1\",\"status\":\"failed\",\"text\":\"no\\nwhy\"}\n"
                             "{\"e\":\"result\",\"host\":\"stranger\",\"task\":\"t1\",\"status\":\"ok\"}\n"
                             "{\"e\":\"stats\",\"host\":\"a\",\"failures\":0,\"unreachable\":0,\"custom\":{\"k\":\"v\"}}\n"
                             "{\"e\":\"stats\",\"host\":\"b\",\"failures\":1,\"unreachable\":0,\"custom\":{}}\n"
                             "{\"e\":\"end\",\"reached\":true}\n";

Test(ansible, events_give_each_host_its_own)
{
	for (size_t step = 1; step < 200; step += 7) {
		struct texts texts = {0};
		struct batch_events e = {.hosts = xcalloc(2, sizeof(struct host_events)), .n = 2, .on_text = keep_text, .arg = &texts};
		e.hosts[0].name = "a";
		e.hosts[1].name = "b";
		size_t len = sizeof events - 1;
		for (size_t at = 0; at < len; at += step)
			batch_events_add(&e, events + at, at + step > len ? len - at : step);
		cr_assert(e.ended && e.reached_end);
		cr_assert(e.hosts[0].has_stats && !e.hosts[0].failed_task);
		cr_assert_eq(e.hosts[1].failures, 1);
		cr_assert_str_eq(e.hosts[1].failed_task, "t1");
		cr_assert_str_eq(json_string_value(json_object_get(e.hosts[0].custom, "k")), "v");
		cr_assert_str_eq(buf_str(&texts.of[0]), "PLAY [p]\nTASK [t1]\nok\n");
		cr_assert_str_eq(buf_str(&texts.of[1]), "PLAY [p]\nTASK [t1]\nfailed: no\nwhy\n");
		batch_events_release(&e);
		buf_release(&texts.of[0]);
		buf_release(&texts.of[1]);
	}
}

Test(ansible, inventory_holds_no_templates)
{
	static const struct target target = {.name = "n1", .address = "10.0.0.1", .port = 2222, .user = "admin", .key = "/k"};
	json_t *params = json_pack("{s:s,s:i}", "max-size", "{{ lookup('pipe', 'id') }}", "n", 3);
	json_t *inputs = json_pack("{s:O,s:[{s:s,s:s}]}", "params", params, "nodes", "name", "n1", "group", "web-1");
	struct run_item item = {.number = 9, .target = &target, .role = "r", .params = params, .inputs = inputs};
	struct ansible_host host = {.item = &item};
	json_t *inventory = ansible_inventory("0011", &host, 1);
	json_t *vars = json_object_get(json_object_get(json_object_get(inventory, "all"), "hosts"), "n1");
	cr_assert_str_eq(json_string_value(json_object_get(json_object_get(vars, "max_size"), "__ansible_unsafe")), "{{ lookup('pipe', 'id') }}");
	cr_assert_eq(json_integer_value(json_object_get(vars, "n")), 3);
	cr_assert_str_eq(json_string_value(json_object_get(vars, "rebar_outputs")), "/var/lib/rebar/runs/0011/9/outputs");
	cr_assert(json_is_true(json_object_get(vars, "ansible_become")));
	json_t *groups = json_object_get(json_object_get(inventory, "all"), "children");
	cr_assert(json_object_get(json_object_get(json_object_get(groups, "web_1"), "hosts"), "n1"));
	json_decref(inventory);
	json_decref(inputs);
	json_decref(params);
}

Test(ansible, check_tells_what_is_missing)
{
	char *dir = scratch();
	struct err *err = NULL;
	const struct runner_ops *ops = runner_find("ansible");
	cr_assert_eq(ops->check(dir, NULL, &err), -ENOENT);
	cr_assert(strstr(err_msg(err), "'tasks/main.yml'"));
	err_free(err);
	put(dir, "tasks/main.yml", "[]\n", 0644);
	cr_assert_eq(ops->check(dir, NULL, NULL), 0);
	drop(dir);
}

Test(puppet, the_class_is_the_first_that_is_defined)
{
	struct buf b = {0};
	cr_assert(puppet_class("# class etcd in a comment\n  class   redis_cache(\n  String $a) {}\nclass other {}\n", &b));
	cr_assert_str_eq(buf_str(&b), "redis_cache");
	cr_assert_not(puppet_class("class a::b {}\n", &b));
	cr_assert_not(puppet_class("", &b));
	buf_release(&b);
}

Test(puppet, hiera_interpolates_nothing_of_ours)
{
	json_t *params = json_pack("{s:s, s:i}", "pass-word", "a%{facts}b", "size", 3), *inputs = json_pack("{s:[s]}", "nodes", "%{x}");
	json_t *secret = json_pack("[s]", "pass-word");
	struct run_item item = {.params = params, .inputs = inputs, .secret_params = secret};
	json_t *data = puppet_data(&item, "etcd", true);
	cr_assert_str_eq(json_string_value(json_object_get(data, "etcd::pass_word")), "a%{literal('%')}{facts}b");
	cr_assert_eq(json_integer_value(json_object_get(data, "etcd::size")), 3);
	cr_assert_str_eq(json_string_value(json_array_get(json_object_get(json_object_get(data, "rebar"), "nodes"), 0)), "%{literal('%')}{x}");
	cr_assert(json_object_get(json_object_get(data, "lookup_options"), "etcd::pass_word"));
	cr_assert_not(json_object_get(json_object_get(data, "lookup_options"), "etcd::size"));
	json_decref(data);
	json_decref(params);
	json_decref(inputs);
	json_decref(secret);
}

Test(report, has_one_form_and_an_end)
{
	json_t *resources = json_array(),
	       *told = json_pack("{s:[{s:s, s:s, s:s, s:i, s:s}, {s:s, s:i}, i]}", "resources", "name", "File[/a]", "status", "changed", "file",
	               "/c/manifests/init.pp", "line", 7, "message", "created", "status", "odd", "line", -1, 5);
	report_take(resources, told, "/c/");
	for (int i = 0; i < 3000; i++)
		report_add(resources, "same", "unchanged", NULL, 0, NULL);
	struct run_item item = {0};
	json_t *report = run_report("puppet", &item, resources), *first = json_array_get(json_object_get(report, "resources"), 0);
	cr_assert_eq(json_integer_value(json_object_get(report, "changed")), 1);
	cr_assert_eq(json_integer_value(json_object_get(report, "failed")), 2, "what is not understood is no success");
	cr_assert_eq(json_integer_value(json_object_get(report, "unchanged")), 3000);
	cr_assert_eq(json_array_size(json_object_get(report, "resources")), 3);
	cr_assert_eq(json_integer_value(json_object_get(report, "left_out")), 3000);
	cr_assert_str_eq(json_string_value(json_object_get(first, "file")), "manifests/init.pp");
	struct buf why = {0};
	cr_assert(report_tell(resources, "changed", &why));
	cr_assert_str_eq(buf_str(&why), "File[/a] (manifests/init.pp:7): created");
	buf_release(&why);
	json_decref(report);
	json_decref(resources);
	json_decref(told);
}

Test(table, every_runner_is_whole)
{
	for (size_t i = 0; runner_table[i]; i++) {
		const struct runner_ops *ops = runner_table[i];
		cr_assert_eq(ops->api, RUNNER_API);
		cr_assert(ops->name && ops->help && ops->batch_max > 0 && ops->check && ops->open && ops->close && ops->run && ops->cancel);
		cr_assert_eq(runner_find(ops->name), ops);
	}
	cr_assert_null(runner_find("nonsense"));
}

/* ---- the ssh provider ---- */

struct outcome {
	struct provider_call call;
	int rc, done;
	char *msg, *address, *user, *key, *host_key;
	int port;
	size_t n;
};

static void on_done(struct provider_call *call, int rc, const struct err *err, const struct machine *machines, size_t n)
{
	struct outcome *o = call->data;
	o->rc = rc;
	o->done++;
	o->n = n;
	str_replace(&o->msg, err ? err_msg(err) : NULL);
	if (n) {
		str_replace(&o->address, machines[0].address);
		str_replace(&o->user, machines[0].user);
		str_replace(&o->key, machines[0].key);
		str_replace(&o->host_key, machines[0].host_key);
		o->port = machines[0].port;
	}
}

struct ssh_case {
	char *dir;
	uv_loop_t loop;
	struct provider_host host;
	struct provider *p;
	const struct provider_ops *ops;
	struct settings instance;
	struct outcome o;
};

static void case_open(struct ssh_case *c)
{
	c->dir = scratch();
	put(c->dir, "access", "-----BEGIN OPENSSH PRIVATE KEY-----\n", 0600);
	put(c->dir, "repo/providers/dc/id", "-----BEGIN OPENSSH PRIVATE KEY-----\n", 0600);
	put(c->dir, "repo/providers/dc/open", "-----BEGIN OPENSSH PRIVATE KEY-----\n", 0644);
	put(c->dir, "repo/providers/dc/id.pub", "ssh-ed25519 AAAA\n", 0600);
	put(c->dir, "state/readme.txt", "not a machine", 0600);
	uv_loop_init(&c->loop);
	c->host = (struct provider_host){.loop = &c->loop,
	        .name = "dc",
	        .owner = "0011",
	        .state_dir = path_join(c->dir, "state"),
	        .access_key = path_join(c->dir, "access"),
	        .repo = path_join(c->dir, "repo")};
	c->ops = provider_find("ssh");
	cr_assert_eq(c->ops->open(&c->host, &c->instance, &c->p, NULL), 0);
	c->o.call = (struct provider_call){.done = on_done, .data = &c->o};
}

static void case_close(struct ssh_case *c)
{
	c->ops->close(c->p);
	uv_run(&c->loop, UV_RUN_DEFAULT);
	cr_assert_eq(uv_loop_close(&c->loop), 0);
	free((char *)c->host.state_dir);
	free((char *)c->host.access_key);
	free((char *)c->host.repo);
	free(c->o.msg);
	free(c->o.address);
	free(c->o.user);
	free(c->o.key);
	free(c->o.host_key);
	drop(c->dir);
}

static void create(struct ssh_case *c, uint64_t id, const char *address, const char *key, const char *host_key)
{
	struct settings node = {0};
	if (address)
		settings_add(&node, "node", "address", address, 1);
	if (key)
		settings_add(&node, "node", "key", key, 2);
	if (host_key)
		settings_add(&node, "node", "host-key", host_key, 3);
	struct machine_spec spec = {.node_id = id, .incarnation = 1, .name = "n", .node = &node};
	c->o.done = 0;
	c->ops->create(c->p, &spec, &c->o.call);
	cr_assert_eq(c->o.done, 0, "done came from inside the call");
	uv_run(&c->loop, UV_RUN_DEFAULT);
	cr_assert_eq(c->o.done, 1);
	settings_release(&node);
}

Test(ssh_provider, adopts_lists_and_forgets)
{
	struct ssh_case c = {0};
	case_open(&c);
	create(&c, 1, "10.0.0.5", NULL, "ssh-ed25519 " KEY);
	cr_assert_eq(c.o.rc, 0, "%s", c.o.msg);
	cr_assert_str_eq(c.o.address, "10.0.0.5");
	cr_assert_str_eq(c.o.user, "root");
	cr_assert_eq(c.o.port, 22);
	cr_assert_null(c.o.key);
	cr_assert_str_eq(c.o.host_key, "ssh-ed25519 " KEY);
	create(&c, 1, "10.0.0.5", "id", NULL);
	cr_assert_eq(c.o.rc, 0, "again: %s", c.o.msg);
	cr_assert(strstr(c.o.key, "repo/providers/dc/id"));
	create(&c, 2, "10.0.0.5", NULL, NULL);
	cr_assert_eq(c.o.rc, -EINVAL);
	cr_assert_str_eq(c.o.msg, "10.0.0.5 port 22 is node 'n' already");

	c.ops->list(c.p, &c.o.call);
	uv_run(&c.loop, UV_RUN_DEFAULT);
	cr_assert_eq(c.o.n, 1u);
	for (int i = 0; i < 2; i++) {
		c.ops->destroy(c.p, 1, 1, &c.o.call);
		uv_run(&c.loop, UV_RUN_DEFAULT);
		cr_assert_eq(c.o.rc, 0);
	}
	c.ops->list(c.p, &c.o.call);
	uv_run(&c.loop, UV_RUN_DEFAULT);
	cr_assert_eq(c.o.n, 0u);
	c.ops->power(c.p, 1, 1, POWER_OFF, &c.o.call);
	uv_run(&c.loop, UV_RUN_DEFAULT);
	cr_assert_eq(c.o.rc, -ENOTSUP);
	case_close(&c);
}

Test(ssh_provider, wrong_declarations_are_sentences)
{
	struct ssh_case c = {0};
	case_open(&c);
	static const struct {
		const char *address, *key, *host_key, *says;
	} rows[] = {{NULL, NULL, NULL, "no 'address'"}, {"a", "missing", NULL, "there is no private key"}, {"a", "open", NULL, "chmod 600"},
	        {"a", "id.pub", NULL, "that is the public one"}, {"a", NULL, "ssh-rsa AAAA", "ed25519 or ecdsa"},
	        {"a", "~nobody-of-that-name/k", NULL, "there is no user"}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		create(&c, 1, rows[i].address, rows[i].key, rows[i].host_key);
		cr_assert_eq(c.o.rc, -EINVAL);
		cr_assert(strstr(c.o.msg, rows[i].says), "%s", c.o.msg);
	}
	case_close(&c);
}
