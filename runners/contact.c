/* Contact with a node: is it there, is it the one we know, is it ours, and what is it? */
#include "fs/base/mem.h"
#include "fs/base/str.h"
#include "runners/node.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define RETRY_FIRST_MS 50 /* a light container answers within 300 ms of its start */
#define RETRY_MAX_MS 1000
#define HANDSHAKE_MS 30000
#define REFUSED_FOR_MS 10000 /* a machine that boots may refuse a key that it will take in a moment */

/* Ownership, then facts as lines. Such facts as do not change by themselves, for they feed digests; and the packages, which do not. No Python, no
 * tools beyond POSIX and the system's own package database. */
static const char contact_script[] =
        "set -u; umask 077; export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
        "R=/var/lib/rebar OWNER=$1 MOUNTS=$2 ADOPT=$3\n"
        "printf '\\036rebar\\n'\n"
        "[ -e /run/rebar-reboots ] && { echo reboots; exit 0; }\n"
        "mkdir -p $R || exit 1\n"
        "line=\"{\\\"owner\\\":\\\"$OWNER\\\",\\\"node_id\\\":$4,\\\"incarnation\\\":$5,\\\"mounts\\\":$MOUNTS}\"\n"
        "old=; [ -f $R/owner ] && read -r old < $R/owner\n"
        "if [ -n \"$old\" ] && [ $ADOPT = 0 ]; then\n"
        "	m=${old#*'\"mounts\":'}; m=${m%%[!0-9]*}; o=${old#*'\"owner\":\"'}; o=${o%%'\"'*}\n"
        "	[ \"$o\" = \"$OWNER\" ] || { echo \"foreign $o\"; exit 0; }\n"
        "	[ \"${m:-0}\" -le \"$MOUNTS\" ] || { echo \"newer $m\"; exit 0; }\n"
        "fi\n"
        "if [ \"$old\" != \"$line\" ]; then printf '%s\\n' \"$line\" > $R/owner.$$ && mv $R/owner.$$ $R/owner || { rm -f $R/owner.$$; exit 1; }; fi\n"
        "for f in /etc/os-release /usr/lib/os-release; do\n"
        "	[ -r $f ] && { (ID= VERSION_ID=; . $f; echo \"os $ID\"; echo \"os-version $VERSION_ID\"); break; }\n"
        "done\n"
        "echo \"kernel $(uname -r)\"; echo \"arch $(uname -m)\"; echo \"hostname $(uname -n)\"\n"
        "echo \"cpus $(getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null || grep -c ^processor /proc/cpuinfo)\"\n"
        "while read -r k v x; do [ \"$k\" = MemTotal: ] && { m=$((v * 1024)); break; }; done < /proc/meminfo\n"
        "for f in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do\n"
        "	[ -r $f ] && read -r l < $f && case $l in *[!0-9]* | '' | ????????????????*) ;; *) [ $l -lt $m ] && m=$l;; esac\n"
        "done\n"
        "echo \"memory $m\"\n"
        /* a container sees the disks of its host */
        "inside=no; [ -e /run/systemd/container ] || [ -e /run/.containerenv ] || [ -e /.dockerenv ] && inside=yes\n"
        "tr '\\0' '\\n' < /proc/1/environ 2>/dev/null | grep -q '^container=' && inside=yes\n"
        "[ $inside = yes ] || for d in /sys/block/*; do\n"
        "	[ -e $d/device ] && read -r s < $d/size && [ $s -gt 0 ] && echo \"disk ${d##*/} $((s * 512))\"\n"
        "done\n"
        /* names from this network namespace; /sys may show those of another */
        "n=0; while IFS=':' read -r i x; do\n"
        "	i=${i#\"${i%%[! ]*}\"}; d=/sys/class/net/$i\n"
        "	case $i in lo | veth* | docker* | br-* | virbr* | ifb* | dummy* | *'|'* | '' | Inter*) continue;; esac\n"
        "	[ -r $d/address ] && [ ! -e $d/bridge ] && [ ! -e $d/tun_flags ] || continue\n"
        "	[ -e $d/device ] || [ ! -e $d/brport ] || continue\n"
        "	read -r a < $d/address; echo \"nic $i $a\"\n"
        "	n=$((n + 1)); [ $n -lt 64 ] || break\n"
        "done < /proc/net/dev\n"
        "{ dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Version}\\n' || rpm -qa --qf 'ii %{NAME} %{VERSION}-%{RELEASE}\\n'; } 2>/dev/null |\n"
        "	sed -n 's/^ii */package /p'\n"
        "echo end\n";

struct contact_try {
	struct contact *c;
	const struct runner_host *host;
	struct node_call call;
	struct buf text;
	uv_timer_t timer;
	int64_t began, give_up, backoff_ms, refused_since;
	bool cancelled;
};

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void finish(struct contact_try *t, int rc, const struct err *err, const json_t *facts, const char *host_key)
{
	struct contact *c = t->c;
	c->priv = NULL;
	node_call_cancel(&t->call);
	c->done(c, rc, err, facts, host_key);
	buf_release(&t->text);
	uv_close((uv_handle_t *)&t->timer, on_closed);
}

static json_t *text_value(const char *s)
{
	json_t *v = json_string(s);
	return v ? v : json_string("");
}

static void add_pair(json_t *facts, const char *list, char *text, const char *second, bool number)
{
	char *value = strrchr(text, ' ');
	if (!value)
		return;
	*value++ = 0;
	json_t *pair = json_object();
	json_object_set_new(pair, "name", text_value(text));
	json_object_set_new(pair, second, number ? json_integer(strtoll(value, NULL, 10)) : text_value(value));
	json_array_append_new(json_object_get(facts, list), pair);
}

/* NULL unless the last line is "end". */
/* "openssl 3.0.17-1~deb12u2" */
static void add_package(json_t *facts, char *text)
{
	char *blank = strchr(text, ' ');
	json_t *all = json_object_get(facts, "packages");
	if (!all)
		json_object_set_new(facts, "packages", all = json_object());
	if (blank)
		*blank++ = 0;
	json_object_set_new(all, text, text_value(blank ? blank : ""));
}

static json_t *parse_facts(char *text)
{
	json_t *facts = json_pack("{s:[],s:[]}", "disks", "nics");
	bool complete = false;
	char *save = NULL;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		complete = !strcmp(line, "end");
		char *value = strchr(line, ' ');
		if (!value)
			continue;
		*value++ = 0;
		if (!strcmp(line, "disk"))
			add_pair(facts, "disks", value, "size", true);
		else if (!strcmp(line, "nic"))
			add_pair(facts, "nics", value, "mac", false);
		else if (!strcmp(line, "package"))
			add_package(facts, value);
		else if (!strcmp(line, "cpus") || !strcmp(line, "memory"))
			json_object_set_new(facts, line, json_integer(strtoll(value, NULL, 10)));
		else
			json_object_set_new(facts, line, text_value(value));
	}
	if (complete)
		return facts;
	json_decref(facts);
	return NULL;
}

static void on_data(void *arg, const char *data, size_t len)
{
	struct contact_try *t = arg;
	if (t->text.len + len < 65536)
		buf_add(&t->text, data, len);
}

static void attempt(struct contact_try *t);

static void on_timer(uv_timer_t *timer)
{
	struct contact_try *t = timer->data;
	if (!t->cancelled) {
		attempt(t);
		return;
	}
	_cleanup_err_ struct err *err = NULL;
	err_set(&err, ECANCELED, "cancelled");
	finish(t, -ECANCELED, err, NULL, NULL);
}

static bool try_later(struct contact_try *t, const struct ssh_result *res)
{
	int64_t now = monotonic_ms();
	if (now >= t->give_up)
		return false;
	if (res->rc == -EACCES) {
		if (!t->refused_since)
			t->refused_since = now;
		if (now - t->refused_since >= REFUSED_FOR_MS)
			return false;
	} else {
		t->refused_since = 0;
		if (!node_worth_retry(res->rc))
			return false;
	}
	uv_timer_start(&t->timer, on_timer, t->backoff_ms, 0);
	t->backoff_ms = t->backoff_ms * 3 / 2 > RETRY_MAX_MS ? RETRY_MAX_MS : t->backoff_ms * 3 / 2;
	return true;
}

static void not_reached(struct contact_try *t, const struct ssh_result *res)
{
	if (try_later(t, res))
		return;
	if (!node_worth_retry(res->rc)) {
		finish(t, res->rc, res->err, NULL, res->host_key);
		return;
	}
	_cleanup_err_ struct err *err = NULL;
	_cleanup_buf_ struct buf took = {0};
	format_duration(&took, monotonic_ms() - t->began);
	err_set(&err, ETIMEDOUT, "'%s' did not answer for %s: %s", t->c->target->name, buf_str(&took), err_msg(res->err));
	finish(t, -ETIMEDOUT, err, NULL, res->host_key);
}

static void on_done(void *arg, const struct ssh_result *res, bool begun)
{
	struct contact_try *t = arg;
	const char *name = t->c->target->name;
	_cleanup_err_ struct err *err = NULL;
	if (res->rc) {
		not_reached(t, res);
		return;
	}
	_cleanup_free_ char *answer = xstrndup(buf_str(&t->text), strcspn(buf_str(&t->text), "\n"));
	_cleanup_free_ char *refusal = node_refusal(name, answer);
	if (!strcmp(answer, "reboots")) { /* it was told to, and is still going down */
		err_set(&err, ETIMEDOUT,
		        "it was told to reboot and has not: reboot it by hand, or, if it has, remove /run/rebar-reboots, which should be gone");
		not_reached(t, &(struct ssh_result){.rc = -ETIMEDOUT, .err = err, .host_key = res->host_key});
		return;
	}
	if (refusal) {
		err_set(&err, EPERM, "%s", refusal);
		finish(t, -EPERM, err, NULL, res->host_key);
		return;
	}
	json_t *facts = begun ? parse_facts(t->text.data ? t->text.data : (char[]){""}) : NULL;
	if (facts) {
		finish(t, 0, NULL, facts, res->host_key);
		json_decref(facts);
		return;
	}
	_cleanup_buf_ struct buf line = {0};
	last_line(res->tail, strlen(res->tail), &line);
	err_set(&err, EIO, "cannot work as root on '%s' (user '%s'): %s", name, t->c->target->user,
	        line.len ? buf_str(&line) : "its login shell ran no command to its end");
	finish(t, -EIO, err, NULL, res->host_key);
}

static void attempt(struct contact_try *t)
{
	const struct target *target = t->c->target;
	_cleanup_free_ char *mounts = xasprintf("%" PRIu64, t->host->mounts), *id = xasprintf("%" PRIu64, target->node_id),
	                    *incarnation = xasprintf("%" PRIu32, target->incarnation);
	const char *args[] = {t->host->owner, mounts, t->c->adopt ? "1" : "0", id, incarnation, NULL};
	int64_t left = t->give_up - monotonic_ms();
	buf_reset(&t->text);
	t->call.on_data = on_data;
	t->call.done = on_done;
	t->call.arg = t;
	struct node_call_options opt = {.connect_ms = left < 1000 ? 1000 : left < HANDSHAKE_MS ? left : HANDSHAKE_MS, .timeout_ms = 30000};
	node_call_start(&t->call, t->host->pool, target, contact_script, args, &opt);
}

void contact_start(const struct runner_host *host, struct contact *c)
{
	struct contact_try *t = xcalloc(1, sizeof *t);
	t->c = c;
	t->host = host;
	c->priv = t;
	t->began = monotonic_ms();
	t->give_up = t->began + c->timeout_ms;
	t->backoff_ms = RETRY_FIRST_MS;
	uv_timer_init(host->loop, &t->timer);
	t->timer.data = t;
	attempt(t);
}

void contact_cancel(struct contact *c)
{
	struct contact_try *t = c->priv;
	if (!t || t->cancelled)
		return;
	t->cancelled = true;
	node_call_cancel(&t->call);
	uv_timer_start(&t->timer, on_timer, 0, 0);
}
