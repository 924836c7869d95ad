/* A node's directory, record and identity. Blocking; runs on a worker. */
#include "providers/host/host.h"

#include "fs/base/hash.h"
#include "fs/base/io.h"
#include "fs/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define RECORD_MAX (64 * 1024)
#define KEY_MAX (64 * 1024)

/* UseDNS: a resolver that does not answer costs 10 s a login. MaxStartups and MaxSessions: the engine opens many at once. */
static const char sshd_config[] = "UseDNS no\n"
                                  "MaxStartups 100\n"
                                  "MaxSessions 64\n"
                                  "PasswordAuthentication no\n"
                                  "PermitRootLogin prohibit-password\n"
                                  "HostKey /etc/ssh/ssh_host_ed25519_key\n";

void node_job_release(struct node_job *j)
{
	char *const strings[] = {j->owner, j->name, j->ref, j->dir, j->image, j->base, j->bridge, j->address, j->gateway, j->access_key,
	        j->apt_config, j->resolv, j->host_key, j->snapshot, j->disks};

	for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
		free(strings[i]);
	memset(j, 0, sizeof *j);
}

void node_job_copy(struct node_job *to, const struct node_job *from)
{
	*to = *from;
	char **const strings[] = {&to->owner, &to->name, &to->ref, &to->dir, &to->image, &to->base, &to->bridge, &to->address, &to->gateway,
	        &to->access_key, &to->apt_config, &to->resolv, &to->host_key, &to->snapshot, &to->disks};
	for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
		*strings[i] = xstrdup(*strings[i]);
}

/* ---- identity */

/* A directory hides the mode of the one below or before it, so each is given the mode that Debian's has. */
int node_make_dir(const char *root, const char *path, mode_t mode, struct err **err)
{
	_cleanup_free_ char *full = path_join(root, path);

	if ((mkdir(full, mode) < 0 && errno != EEXIST) || chmod(full, mode) < 0)
		return err_errno(err, errno, "cannot make '%s'", full);
	return 0;
}

int node_make_file(const char *root, const char *path, const char *text, mode_t mode, struct err **err)
{
	_cleanup_free_ char *full = path_join(root, path);
	_cleanup_close_ int fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	int rc = fd < 0 ? -errno : fchmod(fd, mode) < 0 ? -errno : fd_write_all(fd, text, strlen(text));

	return rc < 0 ? err_errno(err, -rc, "cannot write '%s'", full) : 0;
}

static int make_dirs(const char *root, struct err **err)
{
	static const struct {
		const char *path;
		mode_t mode;
	} dirs[] = {{"", 0755}, {"etc", 0755}, {"etc/ssh", 0755}, {"etc/ssh/sshd_config.d", 0755}, {"etc/apt", 0755}, {"etc/apt/apt.conf.d", 0755},
	        {"root", 0700}, {"root/.ssh", 0700}};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof dirs / sizeof *dirs; i++)
		rc = node_make_dir(root, dirs[i].path, dirs[i].mode, err);
	return rc;
}

static int make_host_key(struct node_job *j, const char *root, struct err **err)
{
	_cleanup_buf_ struct buf secret = {0}, public = {0};
	int rc = hostkey_make(j->name, &secret, &public, err);

	if (rc == 0)
		rc = node_make_file(root, "etc/ssh/ssh_host_ed25519_key", buf_str(&secret), 0600, err);
	if (rc == 0) {
		str_replace(&j->host_key, buf_str(&public));
		buf_addf(&public, " %s\n", j->name);
		rc = node_make_file(root, "etc/ssh/ssh_host_ed25519_key.pub", buf_str(&public), 0644, err);
	}
	return rc;
}

static int make_access(const struct node_job *j, const char *root, struct err **err)
{
	_cleanup_free_ char *path = xasprintf("%s.pub", j->access_key);
	_cleanup_buf_ struct buf key = {0};
	int rc = file_read(AT_FDCWD, path, KEY_MAX, &key, err);

	return rc < 0 ? rc : node_make_file(root, "root/.ssh/authorized_keys", buf_str(&key), 0600, err);
}

void node_machine_id(const struct node_job *j, char out[34])
{
	_cleanup_free_ char *text = xasprintf("%s %llu %u", j->owner, (unsigned long long)j->node_id, j->incarnation);
	struct hash h;
	char hex[HASH_HEX];

	hash_bytes(text, strlen(text), &h);
	hash_hex(&h, hex);
	snprintf(out, 34, "%.32s\n", hex);
}

void node_resolv(const struct node_job *j, struct buf *out)
{
	/* the second is what systemd-resolved itself asks */
	static const char *const files[] = {"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"};

	if (j->resolv) {
		buf_adds(out, j->resolv);
		return;
	}
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		_cleanup_buf_ struct buf text = {0};
		buf_reset(out);
		if (file_read(AT_FDCWD, files[i], RECORD_MAX, &text, NULL) == 0 && resolv_for_nodes(buf_str(&text), out))
			break;
	}
}

static int make_resolv(const struct node_job *j, const char *root, struct err **err)
{
	_cleanup_buf_ struct buf out = {0};

	node_resolv(j, &out);
	return node_make_file(root, "etc/resolv.conf", buf_str(&out), 0644, err);
}

int node_identity(struct node_job *j, const char *root, struct err **err)
{
	_cleanup_free_ char *host_name = xasprintf("%s\n", j->name);
	_cleanup_free_ char *hosts = xasprintf(
	        "127.0.0.1\tlocalhost\n127.0.1.1\t%s\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
	        j->name);
	char id[34];
	int rc = make_dirs(root, err);

	node_machine_id(j, id);
	if (rc == 0)
		rc = node_make_file(root, "etc/hostname", host_name, 0644, err);
	if (rc == 0)
		rc = node_make_file(root, "etc/hosts", hosts, 0644, err);
	if (rc == 0)
		rc = node_make_file(root, "etc/machine-id", id, 0444, err);
	if (rc == 0)
		rc = make_resolv(j, root, err);
	if (rc == 0)
		rc = node_make_file(root, "etc/ssh/sshd_config.d/00-rebarfs.conf", sshd_config, 0644, err);
	if (rc == 0 && j->apt_config && *j->apt_config)
		rc = node_make_file(root, "etc/apt/apt.conf.d/95rebarfs", j->apt_config, 0644, err);
	if (rc == 0)
		rc = make_access(j, root, err);
	return rc == 0 ? make_host_key(j, root, err) : rc;
}

void node_mac(const struct node_job *j, uint8_t mac[6])
{
	_cleanup_free_ char *text = xasprintf("%s %llu", j->owner, (unsigned long long)j->node_id);
	struct hash h;

	hash_bytes(text, strlen(text), &h);
	memcpy(mac, h.b, 6);
	mac[0] = 0x02;
}

/* ---- the record */

static const char *boot_name(enum boot boot)
{
	return boot == BOOT_SSHD ? "sshd" : "systemd";
}

int node_record(const struct node_job *j, struct err **err)
{
	_cleanup_free_ char *path = path_join(j->dir, "machine");
	json_t *o = json_pack("{s:s, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:f, s:I, s:I, s:b}", "owner", j->owner, "node_id",
	        (json_int_t)j->node_id, "incarnation", (json_int_t)j->incarnation, "ref", j->ref, "name", j->name, "image", j->image, "tree", j->base,
	        "address", j->address, "host_key", j->host_key, "boot", boot_name(j->boot), "privileged", j->privileged, "cpus", j->limits.cpus,
	        "memory", (json_int_t)j->limits.memory_bytes, "disk", (json_int_t)j->disk_bytes, "kvm", j->kvm);
	char *text = o ? json_dumps(o, JSON_INDENT(1)) : NULL;
	int rc = text ? file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, err) : err_set(err, EINVAL, "cannot write '%s': not UTF-8", path);

	free(text);
	json_decref(o);
	return rc;
}

int node_begin(const struct node_job *j, struct err **err)
{
	int rc = tree_remove(j->dir, err);

	return rc == 0 ? dir_make_all(j->dir, 0700, err) : rc;
}

int node_read(const char *dir, const char *owner, struct node_job *ret, struct err **err)
{
	_cleanup_free_ char *path = path_join(dir, "machine");
	_cleanup_buf_ struct buf text = {0};
	json_int_t id = 0, incarnation = 0, memory = 0, disk = 0;
	const char *whose, *ref, *name, *image, *base, *address, *host_key, *boot;
	int privileged = 0, kvm = 0, rc = file_read(AT_FDCWD, path, RECORD_MAX, &text, err);
	double cpus = 0;
	json_t *o;

	if (rc < 0)
		return rc;
	o = json_loads(buf_str(&text), 0, NULL);
	if (json_unpack(o, "{s:s, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:F, s:I, s?I, s?b}", "owner", &whose, "node_id", &id,
	            "incarnation", &incarnation, "ref", &ref, "name", &name, "image", &image, "tree", &base, "address", &address, "host_key",
	            &host_key, "boot", &boot, "privileged", &privileged, "cpus", &cpus, "memory", &memory, "disk", &disk, "kvm", &kvm) < 0) {
		rc = err_set(err, EINVAL, "'%s' is not a machine's record", path);
	} else if (strcmp(whose, owner)) {
		rc = err_set(err, EPERM, "'%s' belongs to another state directory (%s)", path, whose);
	} else {
		*ret = (struct node_job){.owner = xstrdup(whose),
		        .node_id = (uint64_t)id,
		        .incarnation = (uint32_t)incarnation,
		        .name = xstrdup(name),
		        .ref = xstrdup(ref),
		        .dir = xstrdup(dir),
		        .image = xstrdup(image),
		        .base = xstrdup(base),
		        .address = xstrdup(address),
		        .host_key = xstrdup(host_key),
		        .boot = strcmp(boot, "sshd") ? BOOT_SYSTEMD : BOOT_SSHD,
		        .privileged = privileged,
		        .limits = {cpus, memory},
		        .disk_bytes = disk,
		        .kvm = kvm};
	}
	json_decref(o);
	return rc;
}

int node_remove(const struct node_job *j, struct err **err)
{
	_cleanup_free_ char *record = path_join(j->dir, "machine");

	/* first, so that a removal cut short is not taken for a machine */
	if (unlink(record) < 0 && errno != ENOENT && errno != ENOTDIR)
		return err_errno(err, errno, "cannot remove '%s'", record);
	return tree_remove(j->dir, err);
}
