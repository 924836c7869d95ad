#include "runners/node.h"
#include "fs/base/mem.h"
#include "runners/runlog.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Precedes what a script prints: whatever a .bashrc said before is not ours. */
#define MARK "\036rebar\n"

#define TOOLS                                                                                                                                        \
	"set -u; umask 077; export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"                                     \
	"R=/var/lib/rebar OWNER=$1 MOUNTS=$2 NUMBER=$3; D=$R/runs/$OWNER/$NUMBER\n" /* field N+2 of /proc/PID/stat, counted behind the command's     \
	                                                                               name, which may hold blanks and brackets */                   \
	"stat_fields() { l=; { IFS= read -r l < /proc/$1/stat; } 2>/dev/null; l=${l##*) }; }\n"                                                      \
	"started_at() { stat_fields $1; set -- $l; echo ${20:-none}; }\n"                                                                            \
	"alive() { p= s=; { read -r p s < \"$1/pid\"; } 2>/dev/null; [ -n \"$s\" ] && [ \"$(started_at $p)\" = \"$s\" ]; }\n"                        \
	"ours() {\n"                                                                                                                                 \
	"	[ -f $R/owner ] || return 0\n"                                                                                                             \
	"	o=; read -r o < $R/owner; m=${o#*'\"mounts\":'}; m=${m%%[!0-9]*}; o=${o#*'\"owner\":\"'}; o=${o%%'\"'*}\n"                                 \
	"	[ \"$o\" = \"$OWNER\" ] || { echo \"foreign $o\"; exit 0; }\n"                                                                             \
	"	[ \"${m:-0}\" -le \"$MOUNTS\" ] || { echo \"newer $m\"; exit 0; }\n"                                                                       \
	"}\n"                                                                                                                                        \
	"hundredths() { read -r u x < /proc/uptime; u=${u%.*}${u#*.}; while :; do case $u in 0?*) u=${u#0};; *) break;; esac; done; }\n"             \
	"age() { b=; { read -r b < \"$D/begin\"; } 2>/dev/null; hundredths; echo $((u - ${b:-$u})); }\n"

/* One byte more than is kept, so that it is known to be cut. */
#define TEXT_OF(x) #x
#define NUMBER_TEXT(x) TEXT_OF(x)
#define LOG_ASKED "$((" NUMBER_TEXT(RUN_LOG_MAX) " + 1))"

#define REPORT_ASKED "8388608" /* bytes at most of a tool's own words about its resources */

#define COMMON TOOLS "printf '\\036rebar\\n'\n"

/* The last 20 runs are kept, and the 20 contents used last; a result that nobody has read yet is kept for 100 runs. */
#define PRUNE                                                                                                                                        \
	"prune() {\n"                                                                                                                                \
	"	cd \"$R/runs/$OWNER\" || return\n"                                                                                                         \
	"	for S in /run/rebar-$OWNER-*.* /dev/shm/rebar-$OWNER-*.* \"$PWD\"/rebar-$OWNER-*.*; do\n"                                                  \
	"		[ -d \"$S\" ] || continue\n"                                                                                                              \
	"		n=${S##*-}; kill -0 ${n##*.} 2>/dev/null && continue\n"                                                                                   \
	"		n=${n%.*} o=; { read -r o < \"$n/private\"; } 2>/dev/null\n"                                                                              \
	"		[ \"$o\" = \"$S\" ] && { alive \"$n\" || [ ! -f \"$n/seen\" ]; } || rm -rf \"$S\"\n"                                                      \
	"	done\n"                                                                                                                                    \
	"	for f in *.in.*; do [ -e \"$f\" ] && ! kill -0 ${f##*.} 2>/dev/null && rm -f \"$f\"; done\n"                                               \
	"	set -- $(ls | grep -x '[0-9][0-9]*' | sort -n)\n"                                                                                          \
	"	while [ $# -gt 20 ]; do\n"                                                                                                                 \
	"		alive \"$1\" || { [ -f \"$1/status\" ] && [ ! -f \"$1/seen\" ] && [ $# -le 100 ]; } || rm -rf \"$1\"\n"                                   \
	"		shift\n"                                                                                                                                  \
	"	done\n"                                                                                                                                    \
	"	cd $R/content 2>/dev/null && ls -t | tail -n +21 | while read -r f; do rm -rf \"$f\"; done\n"                                              \
	"}\n"

/* A destructive role leaves a mark before it begins: OWNER NUMBER. KNOWN: "-", it is no such role; "any"; or the runs that may have left one, "3,5,".
 */
#define ONCE                                                                                                                                         \
	"marked() {\n"                                                                                                                               \
	"	[ $KNOWN != - ] && [ $KNOWN != any ] && [ -e \"$R/once/$ROLE\" ] || return 0\n"                                                            \
	"	o= n=; read -r o n < \"$R/once/$ROLE\"\n"                                                                                                  \
	"	if [ \"$o\" = $OWNER ]; then case ,$KNOWN in *,$n,*) return 0;; esac; fi\n"                                                                \
	"	echo \"marked ${o:-?} ${n:-?}\"; exit 0\n"                                                                                                 \
	"}\n"                                                                                                                                        \
	"mark() {\n"                                                                                                                                 \
	"	[ $KNOWN != - ] || return 0\n"                                                                                                             \
	"	M=$R/once/$ROLE.$$; mkdir -p $R/once && echo $OWNER $NUMBER > $M && { sync $M 2>/dev/null || sync; } && mv $M $R/once/$ROLE\n"             \
	"}\n"

/* The supervisor arrives whole before the run's directory is made: a connection that breaks in the middle starts nothing. What holds secrets lies in
 * memory, if the node has such a file system; 'private' in the run's directory says where. */
const char node_start[] = COMMON ONCE
        "HASH=$4 SIZE=$5 ATTACH=$6 OFFSET=$7 SECRET=$8 ROLE=$9; shift 9; KNOWN=$1; C=$R/content/$HASH\n"
        "in_memory() { while read -r x m t x; do [ \"$m $t\" = \"$1 tmpfs\" ] && return 0; done < /proc/mounts; return 1; }\n"
        "private() {\n"
        "	for S in /run /dev/shm \"$R/runs/$OWNER\"; do\n"
        "		[ $S = \"$R/runs/$OWNER\" ] || in_memory $S || continue\n"
        "		S=$S/rebar-$OWNER-$NUMBER.$$; rm -rf \"$S\"; mkdir \"$S\" && return 0\n"
        "	done\n"
        "	return 1\n"
        "}\n"
        "unpack() {\n"
        "	[ -n \"$S\" ] || { mv \"$T\" \"$D/run\"; return; }\n"
        "	set -- $SECRET\n"
        "	echo \"$S\" > \"$D/private\" && head -c $1 \"$T\" > \"$D/run\" && tail -c +$(($1 + 1)) \"$T\" | head -c $2 > \"$S/env\" &&\n"
        "		tail -c +$(($1 + $2 + 1)) \"$T\" > \"$S/inputs.json\" && rm -f \"$T\" && ln -s \"$S/log\" \"$D/log\"\n"
        "}\n"
        "ours\n"
        "[ $ATTACH = 1 ] || marked\n"
        "if [ ! -d \"$D\" ]; then\n"
        "	[ $ATTACH = 0 ] || { echo absent; exit 0; }\n"
        "	[ -d \"$C\" ] || { echo content; exit 0; }\n"
        "	mkdir -p \"$R/runs/$OWNER\" || exit 1\n"
        "	T=$D.in.$$ S=\n"
        "	if [ -n \"$SECRET\" ]; then private && T=$S/in || exit 1; fi\n"
        "	cat > \"$T\" && [ $(wc -c < \"$T\") -eq $SIZE ] || { rm -rf \"$T\" $S; exit 1; }\n"
        "	touch \"$C\"\n"
        "	if mkdir \"$D\" 2>/dev/null; then\n"
        "		mkdir \"$D/outputs\" && unpack && mkfifo \"$D/alive\" && : > \"$D/log\" && mark || { rm -rf \"$T\" $S \"$D\"; exit 1; }\n"
        "		exec 9<> \"$D/alive\"\n"
        "		setsid /bin/sh \"$D/run\" $OWNER $MOUNTS $NUMBER < /dev/null >> \"$D/log\" 2>&1 &\n"
        "		echo started 0\n"
        "	else\n"
        "		rm -rf \"$T\" $S; [ -d \"$D\" ] || { mkdir \"$D\"; exit 1; }\n"
        "		echo found $(age)\n"
        "	fi\n"
        "else\n"
        "	echo found $(age)\n"
        "fi\n"
        "[ -p \"$D/alive\" ] && [ -f \"$D/log\" ] || exit 0\n"
        /* 8 makes the opening of 7 return though there may be no writer; then the supervisor alone keeps it from its end */
        "exec 8<> \"$D/alive\" 7< \"$D/alive\" 8>&- 9>&-\n"
        "t=; [ $OFFSET -lt 0 ] || { tail -c +$((OFFSET + 1)) -f \"$D/log\" 7<&- & t=$!; }\n"
        "read -r x <&7\n"
        "[ -z \"$t\" ] || kill $t 2>/dev/null\n"
        "exit 0\n";

const char node_ship[] = COMMON "HASH=$4; C=$R/content/$HASH T=$R/content/$HASH.tmp.$NUMBER\n"
                                "ours\n"
                                "if [ ! -d \"$C\" ]; then\n"
                                "	rm -rf \"$T\"; mkdir -p \"$T\" && tar xzf - -C \"$T\" || { rm -rf \"$T\"; exit 1; }\n"
                                "	[ -d \"$C\" ] || mv \"$T\" \"$C\" || { rm -rf \"$T\"; exit 1; }\n"
                                /* somebody else's content of that name came in between: mv put ours inside */
                                "	rm -rf \"$T\" \"$C/${T##*/}\"\n"
                                "fi\n"
                                "echo shipped\n";

const char node_stop[] =
        COMMON "REASON=$4\n"
               "ours\n"
               "mkdir -p \"$R/runs/$OWNER\"\n"
               /* not started yet: taking its number keeps it from starting ever */
               "if mkdir \"$D\" 2>/dev/null; then echo $REASON > \"$D/reason\"; echo -1 0 > \"$D/status\"; fi\n"
               "nap() { sleep 0.1 2>/dev/null || sleep 1; }\n"
               "i=0; while [ ! -s \"$D/pid\" ] && [ ! -f \"$D/status\" ] && [ $i -lt 30 ]; do nap; i=$((i + 1)); done\n"
               "[ -f \"$D/status\" ] && { echo stopped; exit 0; }\n"
               "p=; { read -r p s < \"$D/pid\"; } 2>/dev/null\n"
               "[ -n \"$p\" ] || { echo $REASON > \"$D/reason\"; echo stopped; exit 0; }\n"
               "now=$(started_at $p); [ $now = none ] || [ $now = $s ] || { echo stopped; exit 0; }\n"
               "echo $REASON > \"$D/reason\"\n"
               "members() {\n"
               "	for f in /proc/[0-9]*; do\n"
               "		q=${f##*/}; stat_fields $q; set -- $l\n"
               "		[ \"${4:-}\" = $p ] && [ $q != $p ] && [ $1 != Z ] || continue\n"
               /* without its leader the number of the session may have been given again, after a reboot for instance */
               "		[ $now != none ] || tr '\\0' '\\n' < $f/environ 2>/dev/null | grep -qx \"REBAR_RUN=$NUMBER\" || continue\n"
               "		echo $q\n"
               "	done\n"
               "}\n"
               "kill -TERM $(members) 2>/dev/null\n"
               "i=0; while [ -n \"$(members)\" ] && [ $i -lt 50 ]; do nap; i=$((i + 1)); done\n"
               "kill -KILL $(members) 2>/dev/null\n"
               "i=0; while [ ! -f \"$D/status\" ] && alive \"$D\" && [ $i -lt 30 ]; do nap; i=$((i + 1)); done\n"
               "[ -f \"$D/status\" ] || { alive \"$D\" && kill -KILL $p $(members); }\n"
               "echo stopped\n";

const char node_prepare[] = COMMON PRUNE ONCE "ROLE=$4 KNOWN=$5\n"
                                              "ours; marked\n"
                                              "mkdir -p \"$D/outputs\" && mark && echo ready && prune > /dev/null 2>&1\n"
                                              "exit 0\n";

const char node_secret[] = COMMON "ours\n"
                                  "f=$R/secrets/$OWNER/$4/$5; [ -f \"$f\" ] || { echo none; exit 0; }\n"
                                  "echo have; cat \"$f\"\n";

/* It goes down behind the answer. What runs as the first process there is asked in its own way. */
const char node_reboot[] = COMMON "ours\n"
                                  "if [ -d /run/systemd/system ] && command -v systemctl > /dev/null; then\n"
                                  "	down='systemctl reboot'\n"
                                  "elif command -v shutdown > /dev/null; then\n"
                                  "	down='shutdown -r now'\n"
                                  "elif command -v reboot > /dev/null; then\n"
                                  "	down=reboot\n"
                                  "else\n"
                                  "	echo cannot; exit 0\n"
                                  "fi\n"
                                  "sync\n"
                                  ": > /run/rebar-reboots || exit 1\n"
                                  "(sleep 1; exec $down) < /dev/null > /dev/null 2>&1 &\n"
                                  "echo reboots\n";

const char node_collect[] = COMMON
        "OFFSET=$4 ROLE=${5:-}\n"
        "[ $# -gt 5 ] && shift 5 || set --\n"
        "ours\n"
        "if [ $OFFSET = -1 ]; then state=outputs\n"
        "elif [ ! -d \"$D\" ]; then state=absent\n"
        "elif [ -f \"$D/status\" ]; then state=done\n"
        "elif alive \"$D\"; then state=running\n"
        "elif [ -f \"$D/status\" ]; then state=done\n"
        "elif [ ! -s \"$D/pid\" ]; then state=starting\n"
        "else state=gone; fi\n"
        "echo state $state; echo age $(age)\n"
        "[ -f \"$D/reason\" ] && echo reason $(cat \"$D/reason\")\n"
        "[ -f \"$D/private\" ] && echo private\n"
        "case $state in absent | running | starting) echo; exit 0;; esac\n"
        "[ -f \"$D/status\" ] && { read -r x y < \"$D/status\"; echo exit $x; echo took $y; }\n"
        "if [ $state = outputs ] || [ \"${x:-}\" = 0 ]; then\n"
        "	K=$R/secrets/$OWNER/$ROLE; [ $# = 0 ] || mkdir -p \"$K\"\n"
        "	for k; do [ ! -f \"$D/outputs/$k\" ] || { cp \"$D/outputs/$k\" \"$K/$k.new\" && mv \"$K/$k.new\" \"$K/$k\"; } || exit 1; done\n"
        "fi\n"
        "f=0; [ -f \"$D/failed\" ] && f=$(head -c 500 \"$D/failed\" | wc -c); echo failed $((f))\n"
        "P=$D; [ -f \"$D/private\" ] && read -r P < \"$D/private\"\n"
        "r=0; [ -f \"$P/report.json\" ] && r=$(head -c " REPORT_ASKED " \"$P/report.json\" | wc -c); echo report $((r))\n"
        "n=0; [ $OFFSET -ge 0 ] && [ -f \"$D/log\" ] && n=$(($(wc -c < \"$D/log\") - OFFSET)); [ $n -ge 0 ] || n=0\n"
        "[ $n -le " LOG_ASKED " ] || n=" LOG_ASKED "; echo log $n\n"
        "set --\n"
        "for o in \"$D\"/outputs/* \"$D\"/outputs/.[!.]* \"$D\"/outputs/..?*; do\n"
        "	[ -e \"$o\" ] || [ -h \"$o\" ] || continue\n"
        "	k=${o##*/}\n"
        "	case $k in .* | *[!A-Za-z0-9_.-]*) echo \"bad-name $(printf %s \"$k\" | tr -c 'A-Za-z0-9_.-' '[?*]' | head -c 80)\"; "
        "continue;; esac\n"
        "	[ -f \"$o\" ] && [ ! -h \"$o\" ] || { echo bad-kind $k; continue; }\n"
        "	s=$(($(wc -c < \"$o\")))\n"
        "	[ $s -le 65536 ] || { echo bad-size $k $s; continue; }\n"
        "	[ $# -lt 1000 ] || { echo bad-number; break; }\n"
        "	echo output $k $s; set -- \"$@\" \"$o\"\n"
        "done\n"
        "echo\n"
        "[ $f -gt 0 ] && head -c $f \"$D/failed\"\n"
        "[ $r -gt 0 ] && head -c $r \"$P/report.json\"\n"
        "[ $n -gt 0 ] && tail -c +$((OFFSET + 1)) \"$D/log\" | head -c $n\n"
        "[ $# -gt 0 ] && cat \"$@\"\n"
        "[ $state = done ] && : > \"$D/seen\"\n"
        "exit 0\n";

const char node_clean[] =
        COMMON "ours\n"
               "S=; { read -r S < \"$D/private\"; } 2>/dev/null\n"
               "case $S in */rebar-$OWNER-$NUMBER.*) rm -rf \"$S\" && rm -f \"$D/log\" \"$D/failed\" \"$D/private\" || exit 1;; esac\n"
               "echo clean\n";

const char node_supervisor_tools[] = TOOLS PRUNE;

void sh_quote(struct buf *out, const char *s)
{
	buf_addc(out, '\'');
	for (; *s; s++) {
		if (*s == '\'')
			buf_adds(out, "'\\''");
		else
			buf_addc(out, *s);
	}
	buf_addc(out, '\'');
}

char *node_command(const char *user, const char *script, const char *const *args)
{
	struct buf b = {0};
	if (!strcmp(user, "root"))
		buf_adds(&b, "exec /bin/sh -c ");
	else
		buf_adds(
		        &b, "exec /bin/sh -c 'if [ \"$(id -u)\" = 0 ]; then exec /bin/sh -c \"$@\"; else exec sudo -n /bin/sh -c \"$@\"; fi' rebar ");
	sh_quote(&b, script);
	buf_adds(&b, " rebar");
	for (; *args; args++) {
		buf_addc(&b, ' ');
		sh_quote(&b, *args);
	}
	return buf_detach(&b, NULL);
}

/* ---- calls ---- */

static void call_data(void *arg, const char *data, size_t len)
{
	struct node_call *c = arg;
	if (c->begun) {
		c->on_data(c->arg, data, len);
		return;
	}
	buf_add(&c->head, data, len);
	char *mark = memmem(c->head.data, c->head.len, MARK, strlen(MARK));
	if (!mark)
		return;
	c->begun = true;
	mark += strlen(MARK);
	if (mark < c->head.data + c->head.len)
		c->on_data(c->arg, mark, c->head.data + c->head.len - mark);
	buf_release(&c->head);
}

static void call_done(void *arg, const struct ssh_result *res)
{
	struct node_call *c = arg;
	c->exec = NULL;
	buf_release(&c->head);
	c->done(c->arg, res, c->begun);
}

static ssize_t call_read(void *arg, char *data, size_t len)
{
	struct node_call *c = arg;
	return c->read_input(c->arg, data, len);
}

void node_call_start(struct node_call *c, struct ssh_pool *pool, const struct target *t, const char *script, const char *const *args,
        const struct node_call_options *opt)
{
	static const struct node_call_options none;
	if (!opt)
		opt = &none;
	_cleanup_free_ char *command = node_command(t->user, script, args);
	c->begun = false;
	c->read_input = opt->read_input;
	buf_reset(&c->head);
	struct ssh_exec_spec spec = {.target = t,
	        .command = command,
	        .input = opt->input,
	        .input_len = opt->input_len,
	        .read_input = opt->read_input ? call_read : NULL,
	        .on_stdout = call_data,
	        .connect_ms = opt->connect_ms,
	        .timeout_ms = opt->timeout_ms,
	        .done = call_done,
	        .arg = c};
	c->exec = ssh_exec_start(pool, &spec);
}

void node_call_cancel(struct node_call *c)
{
	ssh_exec_cancel(c->exec);
	c->exec = NULL;
	buf_release(&c->head);
}

bool node_worth_retry(int rc)
{
	return rc != -EKEYREJECTED && rc != -EACCES && rc != -EINVAL;
}

char *node_refusal(const char *node, const char *answer)
{
	if (!strncmp(answer, "foreign ", 8))
		return xasprintf(
		        "'%s' belongs to another rebarfs (its /var/lib/rebar/owner names '%.*s')", node, (int)strcspn(answer + 8, "\n"), answer + 8);
	if (!strncmp(answer, "newer ", 6))
		return xasprintf("'%s' was taken by a newer mount of this state directory (mount %.*s): is a copy of it in use?", node,
		        (int)strcspn(answer + 6, "\n"), answer + 6);
	return NULL;
}

char *node_known(const struct run_item *item, bool asked)
{
	if (!item->once || !strcmp(item->once, "any") || !asked)
		return xstrdup(item->once ? item->once : "-");
	return xasprintf("%s%lld,", item->once, (long long)item->number);
}

char *node_marked(const char *node, const char *owner, const char *answer)
{
	if (strncmp(answer, "marked ", 7) != 0)
		return NULL;
	const char *who = answer + 7;
	int len = (int)strcspn(who, " \n");
	const char *number = who + len + (who[len] == ' ');
	int digits = (int)strcspn(number, "\n");
	if ((size_t)len == strlen(owner) && !strncmp(who, owner, (size_t)len))
		return xasprintf("it began on '%s' before: run %.*s left its mark there, and this database does not know of it (is it an old copy?)",
		        node, digits, number);
	return xasprintf("it began on '%s' before: run %.*s of another rebarfs ('%.*s') left its mark there", node, digits, number, len, who);
}

void last_line(const char *text, size_t len, struct buf *out)
{
	while (len && (unsigned char)text[len - 1] <= ' ')
		len--;
	size_t start = len;
	while (start && text[start - 1] != '\n' && text[start - 1] != '\r')
		start--;
	while (start < len && (unsigned char)text[start] <= ' ')
		start++;
	if (len - start > 300)
		len = start + 300;
	for (; start < len; start++)
		buf_addc(out, (unsigned char)text[start] < ' ' || text[start] == 127 ? ' ' : text[start]);
}

const char **node_collect_args(const char *const args[4], const struct run_item *item)
{
	size_t n = 0;
	while (item->secret_outputs && !item->check && item->secret_outputs[n])
		n++;
	const char **all = xcalloc(n + 6, sizeof *all);
	for (size_t i = 0; i < 4; i++)
		all[i] = args[i];
	all[4] = item->role;
	for (size_t i = 0; i < n; i++)
		all[5 + i] = item->secret_outputs[i];
	return all;
}
