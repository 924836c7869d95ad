/* What machines of any kind need of this host. Everything that is missing is told at once, each with its cure. */
#include "providers/host/host.h"

#include "fs/base/io.h"
#include "fs/base/mem.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define DISK_MIN_BYTES (1LL << 30)

void preflight_add(struct buf *out, const char *fmt, ...)
{
	va_list ap;

	if (out->len)
		buf_adds(out, "; ");
	va_start(ap, fmt);
	buf_vaddf(out, fmt, ap);
	va_end(ap);
}

char *preflight_find(const char *program)
{
	const char *path = getenv("PATH");
	_cleanup_free_ char *copy = xasprintf("%s:/usr/sbin:/sbin:/usr/bin:/bin", path ? path : "");
	char *save = NULL;

	for (char *dir = strtok_r(copy, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
		_cleanup_free_ char *full = path_join(dir, program);
		if (access(full, X_OK) == 0)
			return xstrdup(full);
	}
	return NULL;
}

void preflight_program(const char *program, const char *package, struct buf *out)
{
	_cleanup_free_ char *path = preflight_find(program);

	if (!path)
		preflight_add(out, "the program '%s' is missing: run 'apt-get install %s'", program, package);
}

static bool may_administrate(void)
{
	_cleanup_buf_ struct buf b = {0};
	const char *at;

	if (file_read(AT_FDCWD, "/proc/self/status", 1 << 16, &b, NULL) < 0)
		return geteuid() == 0;
	at = strstr(buf_str(&b), "CapEff:");
	return at && (strtoull(at + strlen("CapEff:"), NULL, 16) >> CAP_SYS_ADMIN & 1);
}

void preflight_disk(const char *dir, int64_t bytes, struct buf *out)
{
	_cleanup_buf_ struct buf room = {0}, least = {0};
	struct statvfs s;

	if (statvfs(dir, &s) < 0 || (int64_t)s.f_bavail * (int64_t)s.f_frsize >= bytes)
		return;
	format_size(&room, (int64_t)s.f_bavail * (int64_t)s.f_frsize / (1 << 20) * (1 << 20));
	format_size(&least, bytes);
	preflight_add(out, "only %s are free on the disk of '%s': at least %s is needed", buf_str(&room), dir, buf_str(&least));
}

void preflight_common(const struct preflight *f, const char *what, struct buf *out)
{
	if (!may_administrate())
		preflight_add(out, "%s need root (CAP_SYS_ADMIN): mount with sudo", what);
	if (f->build)
		preflight_program("mmdebstrap", "mmdebstrap", out);
	if (f->build || f->convert)
		preflight_program("flock", "util-linux", out);
	preflight_program("unshare", "util-linux", out);
	preflight_program("ip", "iproute2", out);
	preflight_program("iptables", "iptables", out);
	if (f->dhcp)
		preflight_program("dnsmasq", "dnsmasq-base", out);
	/* mmdebstrap checks signatures with the host's keyrings, and only Debian's own hosts are sure to have them */
	if (f->build && access("/usr/share/keyrings/debian-archive-keyring.gpg", R_OK) < 0)
		preflight_add(out, "the keys of Debian's archive are missing: run 'apt-get install debian-archive-keyring'");
	preflight_disk(f->state_dir, DISK_MIN_BYTES, out);
	if (f->build)
		preflight_disk(f->cache_dir, DISK_MIN_BYTES, out);
}
