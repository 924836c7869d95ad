/* Who a node is, as its guest can read it: for a guest of our own making a tar on a small disk, for others what cloud-init asks for. */
#include "providers/vm/vm.h"

#include "fs/base/hash.h"
#include "fs/base/io.h"
#include "fs/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TAR_MS 60000
#define KEY_MAX (64 * 1024)

/* ---- our own */

static int make_network(const struct node_job *j, const char *root, struct err **err)
{
	uint8_t mac[6];

	node_mac(j, mac);
	_cleanup_free_ char *text = xasprintf("%02x:%02x:%02x:%02x:%02x:%02x %s/%d %s %d\n", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5],
	        j->address, j->prefix, j->gateway, j->mtu);
	int rc = node_make_dir(root, "etc/rebarfs", 0755, err);
	return rc == 0 ? node_make_file(root, "etc/rebarfs/network", text, 0644, err) : rc;
}

static int make_random(const char *root, struct err **err)
{
	unsigned char bytes[32];
	char text[2 * sizeof bytes + 1];

	if (RAND_bytes(bytes, sizeof bytes) != 1)
		return err_set(err, EIO, "libcrypto has no random bytes");
	for (size_t i = 0; i < sizeof bytes; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	int rc = node_make_dir(root, "run", 0755, err);
	return rc == 0 ? node_make_file(root, "run/rebarfs-random", text, 0600, err) : rc;
}

static int pack(const char *dir, const char *root, struct err **err)
{
	_cleanup_strlist_ struct strlist argv = {0};
	_cleanup_free_ char *path = path_join(dir, "seed.img");
	const char *const words[] = {
	        "tar", "--create", "--format=ustar", "--owner=0", "--group=0", "--numeric-owner", "--directory", root, "--file", path, "."};
	int rc;

	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		strlist_add(&argv, words[i]);
	rc = qemu_run(&argv, TAR_MS, err);
	/* its size must be that of the blank one in a snapshot; it holds the host key */
	if (rc == 0 && (chmod(path, 0600) < 0 || truncate(path, SEED_BYTES) < 0))
		rc = err_errno(err, errno, "cannot write '%s'", path);
	return rc;
}

static int write_tar(struct node_job *j, struct err **err)
{
	_cleanup_free_ char *root = path_join(j->dir, "seed");
	int rc = node_make_dir(j->dir, "seed", 0755, err);

	if (rc == 0)
		rc = node_identity(j, root, err);
	if (rc == 0)
		rc = make_network(j, root, err);
	if (rc == 0)
		rc = make_random(root, err);
	if (rc == 0)
		rc = pack(j->dir, root, err);
	return rc == 0 ? tree_remove(root, err) : rc;
}

/* ---- cloud-init's */

static void add_block(struct buf *out, const char *indent, const char *text)
{
	for (const char *line = text; *line; line += strcspn(line, "\n") + 1) {
		buf_addf(out, "%s%.*s\n", indent, (int)strcspn(line, "\n"), line);
		if (!line[strcspn(line, "\n")])
			break;
	}
}

static int user_data(struct node_job *j, struct buf *out, struct err **err)
{
	_cleanup_buf_ struct buf secret = {0}, public = {0}, access_key = {0};
	_cleanup_free_ char *path = xasprintf("%s.pub", j->access_key);
	int rc = file_read(AT_FDCWD, path, KEY_MAX, &access_key, err);

	if (rc == 0)
		rc = hostkey_make(j->name, &secret, &public, err);
	if (rc < 0)
		return rc;
	str_replace(&j->host_key, buf_str(&public));
	buf_addf(out,
	        "#cloud-config\nhostname: %s\nmanage_etc_hosts: true\ndisable_root: false\nssh_deletekeys: true\nssh_authorized_keys:\n  - %.*s\n"
	        "ssh_keys:\n  ed25519_public: %s %s\n  ed25519_private: |\n",
	        j->name, (int)strcspn(buf_str(&access_key), "\n"), buf_str(&access_key), buf_str(&public), j->name);
	add_block(out, "    ", buf_str(&secret));
	return 0;
}

static void network_config(const struct node_job *j, struct buf *out)
{
	uint8_t mac[6];
	_cleanup_buf_ struct buf resolv = {0};

	node_mac(j, mac);
	/* by its address, for nobody knows what a guest calls its card */
	buf_addf(out,
	        "version: 2\nethernets:\n  net0:\n    match: {macaddress: '%02x:%02x:%02x:%02x:%02x:%02x'}\n    addresses: [%s/%d]\n    gateway4: "
	        "%s\n",
	        mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], j->address, j->prefix, j->gateway);
	if (j->mtu)
		buf_addf(out, "    mtu: %d\n", j->mtu);
	node_resolv(j, &resolv);
	if (!strstr(buf_str(&resolv), "nameserver "))
		return;
	buf_adds(out, "    nameservers:\n      addresses:\n");
	for (const char *at = buf_str(&resolv); (at = strstr(at, "nameserver ")); at += strcspn(at, "\n"))
		buf_addf(out, "        - '%.*s'\n", (int)strcspn(at + strlen("nameserver "), "\n"), at + strlen("nameserver "));
}

static int write_cloud(struct node_job *j, struct err **err)
{
	_cleanup_free_ char *root = path_join(j->dir, "seed"),
	                    *meta = xasprintf("instance-id: %s-%u\nlocal-hostname: %s\n", j->ref, j->incarnation, j->name);
	_cleanup_buf_ struct buf user = {0}, network = {0};
	int rc = node_make_dir(j->dir, "seed", 0700, err);

	if (rc == 0)
		rc = user_data(j, &user, err);
	if (rc == 0)
		rc = node_make_file(root, "user-data", buf_str(&user), 0600, err);
	if (rc == 0)
		rc = node_make_file(root, "meta-data", meta, 0600, err);
	network_config(j, &network);
	return rc == 0 ? node_make_file(root, "network-config", buf_str(&network), 0600, err) : rc;
}

int seed_write(struct node_job *j, struct err **err)
{
	return qemu_has_kernel(j->base) ? write_tar(j, err) : write_cloud(j, err);
}
