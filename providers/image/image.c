/* Images: root trees that nodes stand on, built once for all daemons of this machine and kept under CACHE/images/KEY. The key is the hash of
 * all that decides what is in the tree; a tree is built beside its place and renamed, so what has the right name is complete. */
#include "providers/image/image.h"

#include "fs/base/hash.h"
#include "fs/base/io.h"
#include "fs/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

/* To be counted up with every change to base_packages, customize or build_script that changes trees. */
#define RECIPE "1"
#define SCRIPT_MAX (1 << 20)

static const struct {
	const char *name, *suite;
} built_in[] = {{"debian-12", "bookworm"}, {"debian-13", "trixie"}};

/* python3 and python3-apt are what ansible's modules need, procps and netbase what many packages' scripts take for granted. */
static const char base_packages[] = "openssh-server,systemd,systemd-sysv,dbus,iproute2,ca-certificates,procps,netbase,python3,python3-apt";

/* mmdebstrap runs this in the end with the tree as $1. Timers that take dpkg's lock while a role wants it are masked; so is the login
 * prompt on a console that nobody sees. The empty manual directories are for packages whose scripts put links there. */
static const char customize[] =
        "set -eu\n"
        "for k in $KEYRINGS; do [ -e \"$1$k\" ] || install -D -m 644 \"$k\" \"$1$k\"; done\n"
        "for u in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer console-getty.service; do\n"
        "	ln -sf /dev/null \"$1/etc/systemd/system/$u\"\n"
        "done\n"
        "mkdir -p \"$1/etc/systemd/journald.conf.d\"\n"
        "printf '[Journal]\\nRuntimeMaxUse=16M\\n' >\"$1/etc/systemd/journald.conf.d/rebarfs.conf\"\n"
        "for n in 1 2 3 4 5 6 7 8; do mkdir -p \"$1/usr/share/man/man$n\"; done\n"
        "if [ -n \"$PREPARE\" ]; then\n"
        "	install -m 755 \"$PREPARE\" \"$1/tmp/rebarfs-prepare\"\n"
        "	echo \"I: running $PREPARE...\"\n"
        "	chroot \"$1\" env DEBIAN_FRONTEND=noninteractive /tmp/rebarfs-prepare || { echo \"E: '$PREPARE' failed: exit $?\"; exit 1; }\n"
        "	rm -f \"$1/tmp/rebarfs-prepare\"\n"
        "fi\n"
        "rm -f \"$1\"/etc/ssh/ssh_host_* \"$1/etc/apt/apt.conf.d/99mmdebstrap\"\n"
        ": >\"$1/etc/machine-id\"\n";

/* In a mount namespace of its own, so that nothing it mounts outlives it. Its output is one stream: progress and, last, the failure. */
static const char build_script[] = "set -eu\n"
                                   "umask 022\n"
                                   "exec 2>&1\n"
                                   "[ ! -d \"$TREE\" ] || exit 0\n"
                                   "rm -rf --one-file-system \"$TREE\".new\n"
                                   "trap 'rm -rf --one-file-system \"$TREE\".new' EXIT\n"
                                   "trap 'exit 1' TERM INT HUP\n"
                                   "mkdir \"$TREE\".new\n"
                                   "if [ -n \"$SOURCE\" ]; then\n"
                                   "	echo 'I: unpacking'\n"
                                   "	tar --numeric-owner -C \"$TREE\".new -xf \"$SOURCE\"\n"
                                   "else\n"
                                   "	printf '%s' \"$APT_CONFIG_LINES\" >\"$TREE\".new/apt.conf\n"
                                   "	set --\n"
                                   "	[ -z \"$APT_CONFIG_LINES\" ] || set -- --aptopt=\"$TREE\".new/apt.conf\n"
                                   "	mmdebstrap --variant=minbase --format=directory --include=\"$PACKAGES\" \"$@\" \\\n"
                                   "		--aptopt='APT::Install-Recommends \"false\"' --dpkgopt=force-unsafe-io \\\n"
                                   "		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \\\n"
                                   "		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \\\n"
                                   "		--customize-hook=\"$CUSTOMIZE\" \"$SUITE\" \"$TREE\".new/tree ${SOURCES:+-}\n"
                                   "fi\n"
                                   "t=\"$TREE\".new\n"
                                   "[ -n \"$SOURCE\" ] || t=\"$TREE\".new/tree\n"
                                   "[ -x \"$t/usr/sbin/sshd\" ] || { echo 'E: the tree has no /usr/sbin/sshd'; exit 1; }\n"
                                   "mv \"$t\" \"$TREE\"\n";

void image_release(struct image *i)
{
	free(i->name);
	free(i->suite);
	free(i->source);
	free(i->script);
	free(i->tree);
	strlist_release(&i->packages);
	memset(i, 0, sizeof *i);
}

static bool described(const struct settings *settings, const char *section)
{
	for (size_t i = 0; i < settings->n; i++)
		if (!strcmp(settings->items[i].section, section))
			return true;
	return false;
}

static char *resolve_path(const char *base_dir, const char *path)
{
	return path[0] == '/' ? xstrdup(path) : path_join(base_dir, path);
}

/* A tar counts by its path, size and time: reading hundreds of megabytes for a name would not be worth it. */
static int hash_source(struct hasher *h, struct image *i, struct err **err)
{
	struct stat st;

	if (stat(i->source, &st) < 0)
		return err_errno(err, errno, "cannot read '%s', the source of image '%s'", i->source, i->name);
	i->borrowed = S_ISDIR(st.st_mode);
	_cleanup_free_ char *text = xasprintf("%lld %lld.%09ld", (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	hasher_add_str(h, i->source);
	hasher_add_str(h, text);
	return 0;
}

static int hash_recipe(struct hasher *h, struct image *i, struct err **err)
{
	_cleanup_buf_ struct buf script = {0};
	struct utsname u = {0};
	int rc = 0;

	uname(&u);
	hasher_add_str(h, RECIPE);
	hasher_add_str(h, u.machine);
	hasher_add_str(h, i->suite);
	for (size_t n = 0; n < i->packages.n; n++)
		hasher_add_str(h, i->packages.items[n]);
	hasher_add_str(h, NULL);
	if (i->script) {
		rc = file_read(AT_FDCWD, i->script, SCRIPT_MAX, &script, err);
		hasher_add_str(h, buf_str(&script));
	}
	return rc;
}

int image_resolve(const struct settings *settings, const char *name, const char *cache_dir, const char *base_dir, struct image *ret, struct err **err)
{
	_cleanup_free_ char *section = xasprintf("image %s", name);
	const char *suite = settings_get(settings, section, "suite"), *packages = settings_get(settings, section, "packages"),
	           *script = settings_get(settings, section, "script"), *source = settings_get(settings, section, "source");
	bool known = described(settings, section);
	struct image i = {0};
	struct hash hash;
	char hex[HASH_HEX];
	int rc;

	for (size_t n = 0; n < sizeof built_in / sizeof *built_in; n++)
		if (!strcmp(built_in[n].name, name)) {
			known = true;
			suite = suite ? suite : built_in[n].suite;
		}
	if (!known)
		return err_set(err, EINVAL, "image '%s' is not described: add a section [image %s] to provider.ini", name, name);
	if (source && (packages || script))
		return err_set(
		        err, EINVAL, "image '%s' has a 'source', which is used as it is: 'packages' and 'script' have no place beside it", name);
	i.name = xstrdup(name);
	i.suite = xstrdup(suite ? suite : "bookworm");
	i.source = source ? resolve_path(base_dir, source) : NULL;
	i.script = script ? resolve_path(base_dir, script) : NULL;
	strlist_split(&i.packages, packages ? packages : "");
	strlist_sort(&i.packages);
	struct hasher *h = hasher_new();
	rc = i.source ? hash_source(h, &i, err) : hash_recipe(h, &i, err);
	hasher_end(h, &hash);
	hasher_free(h);
	if (rc < 0) {
		image_release(&i);
		return rc;
	}
	hash_hex(&hash, hex);
	memcpy(i.key, hex, sizeof i.key - 1);
	i.tree = i.borrowed ? xstrdup(i.source) : xasprintf("%s/images/%s-%s", cache_dir, name, i.key);
	*ret = i;
	return 0;
}

bool image_ready(const struct image *i)
{
	_cleanup_free_ char *sshd = path_join(i->tree, "usr/sbin/sshd");

	return access(sshd, X_OK) == 0;
}

void image_command(const struct image *i, const char *apt_config, struct strlist *argv, struct strlist *env, struct buf *input)
{
	_cleanup_strlist_ struct strlist keyrings = {0};
	_cleanup_buf_ struct buf packages = {0}, rings = {0};
	const char *const words[] = {"sh", "-c", build_script};

	strlist_add(argv, "flock");
	strlist_add_take(argv, xasprintf("%s.lock", i->tree));
	strlist_add(argv, "unshare");
	strlist_add(argv, "--mount");
	for (size_t n = 0; n < sizeof words / sizeof *words; n++)
		strlist_add(argv, words[n]);

	if (!i->source)
		apt_sources_host(i->suite, input);
	apt_keyrings(buf_str(input), &keyrings);
	strlist_join(&keyrings, " ", &rings);
	buf_adds(&packages, base_packages);
	for (size_t n = 0; n < i->packages.n; n++)
		buf_addf(&packages, ",%s", i->packages.items[n]);
	const struct {
		const char *name, *value;
	} rows[] = {{"TREE", i->tree}, {"SUITE", i->suite}, {"PACKAGES", buf_str(&packages)}, {"SOURCE", i->source}, {"PREPARE", i->script},
	        {"KEYRINGS", buf_str(&rings)}, {"CUSTOMIZE", customize}, {"APT_CONFIG_LINES", apt_config}, {"SOURCES", input->len ? "yes" : NULL},
	        {"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}};
	for (size_t n = 0; n < sizeof rows / sizeof *rows; n++)
		strlist_add_take(env, xasprintf("%s=%s", rows[n].name, rows[n].value ? rows[n].value : ""));
}

const char *image_progress(const char *line)
{
	static const char *const dull[] = {
	        "automatically chosen", "chroot architecture", "finding correct", "reading sources", "running --", "success in", "main() received"};

	if (strncmp(line, "I: ", 3))
		return NULL;
	for (size_t i = 0; i < sizeof dull / sizeof *dull; i++)
		if (!strncmp(line + 3, dull[i], strlen(dull[i])))
			return NULL;
	return line + 3;
}
