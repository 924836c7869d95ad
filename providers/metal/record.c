/* Nodes of the provider metal, as declared and as recorded. */
#include "providers/metal/metal.h"

#include "fs/base/hash.h"
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "providers/net/net.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORD_MAX 65536

struct metal_node *record_new(struct provider *p, uint64_t node_id)
{
	struct metal_node *n = xcalloc(1, sizeof *n);

	n->node_id = node_id;
	n->dir = xasprintf("%s/nodes/%" PRIu64, p->host->state_dir, node_id);
	HASH_ADD(hh, p->nodes, node_id, sizeof n->node_id, n);
	return n;
}

void record_free(struct provider *p, struct metal_node *n)
{
	HASH_DEL(p->nodes, n);
	free(n->name);
	free(n->dir);
	free(n->mac);
	free(n->address);
	free(n->host);
	free(n->port);
	free(n->scheme);
	free(n->path);
	free(n->fingerprint);
	free(n->user);
	free(n->disk);
	free(n->image);
	free(n->host_key);
	free(n);
}

void record_machine(const struct metal_node *n, struct machine *ret)
{
	*ret = (struct machine){.node_id = n->node_id,
	        .incarnation = n->incarnation,
	        .ref = n->mac,
	        .address = n->address,
	        .host_key = n->host_key,
	        .image = n->image,
	        .running = n->running};
}

/* ---- what is declared */

static bool is_mac(const char *s)
{
	for (int i = 0; i < 17; i++)
		if (i % 3 == 2 ? s[i] != ':' : !isxdigit((unsigned char)s[i]))
			return false;
	return !s[17];
}

/* Words that go into files of lines and names of locks. */
static bool is_word(const char *s, const char *more)
{
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr(more, *s))
			return false;
	return true;
}

/* Without TLS a password is for nobody but this host. */
static bool is_loopback(const char *host)
{
	struct in_addr a;

	return !strcmp(host, "localhost") || (inet_pton(AF_INET, host, &a) == 1 && ntohl(a.s_addr) >> 24 == 127);
}

static int parse_bmc(const char *url, struct metal_node *n, struct err **err)
{
	static const struct {
		const char *name;
		int port;
	} schemes[] = {{"ipmi", 623}, {"redfish", 443}, {"redfish+http", 80}};
	const char *host = strstr(url, "://"), *colon, *path;
	size_t i = 0, count = sizeof schemes / sizeof *schemes;
	int64_t port;

	while (i < count && (!host || strlen(schemes[i].name) != (size_t)(host - url) || strncmp(url, schemes[i].name, (size_t)(host - url))))
		i++;
	if (i == count || !host[3])
		return err_set(err, EINVAL, "bmc '%s' is not like 'ipmi://HOST' or 'redfish://HOST', with ':PORT' if it is another than usual", url);
	host += 3;
	path = host + strcspn(host, "/");
	colon = memchr(host, ':', (size_t)(path - host));
	_cleanup_free_ char *number = colon ? xstrndup(colon + 1, (size_t)(path - colon - 1)) : xasprintf("%d", schemes[i].port);
	if (parse_int(number, &port, NULL) < 0 || port < 1 || port > 65535)
		return err_set(err, EINVAL, "bmc '%s': '%s' is not a port", url, number);
	if (*path && (!i || !is_word(path, "/-._~%")))
		return err_set(err, EINVAL, "bmc '%s': '%s' is not the place of a system", url, path);
	free(n->host);
	free(n->port);
	n->host = xstrndup(host, (size_t)((colon ? colon : path) - host));
	n->port = xasprintf("%d", (int)port);
	str_replace(&n->scheme, schemes[i].name);
	str_replace(&n->path, strcmp(path, "/") ? path : "");
	if (!*n->host || !is_word(n->host, "-._") || *n->host == '-')
		return err_set(err, EINVAL, "bmc '%s': '%s' is not a host", url, n->host);
	if (!strcmp(n->scheme, "redfish+http") && !is_loopback(n->host))
		return err_set(
		        err, EINVAL, "bmc '%s': without TLS its password would be sent for everybody to read: write 'redfish://%s'", url, n->host);
	return 0;
}

/* As 'openssl x509 -fingerprint -sha256' prints it, or without colons. */
static int parse_fingerprint(const char *text, struct metal_node *n, struct err **err)
{
	_cleanup_buf_ struct buf hex = {0};
	struct hash h;

	for (const char *c = text ? text : ""; *c; c++)
		if (*c != ':')
			buf_addc(&hex, (char)tolower((unsigned char)*c));
	if (hex.len && !hash_from_hex(buf_str(&hex), &h))
		return err_set(err, EINVAL, "bmc-fingerprint '%s' is not the SHA-256 of a certificate, 64 hexadecimal digits", text);
	if (hex.len && strcmp(n->scheme, "redfish") != 0)
		return err_set(err, EINVAL, "a 'bmc-fingerprint' is for 'redfish://', and the bmc is '%s://'", n->scheme);
	str_replace(&n->fingerprint, buf_str(&hex));
	return 0;
}

static int check_password(const char *password, const struct metal_node *n, struct err **err)
{
	if (!strcmp(n->scheme, "ipmi") && strlen(password) > 20)
		return err_set(err, EINVAL, "the password of the BMC of '%s' is longer than 20 bytes, which IPMI does not know", n->name);
	return 0;
}

static int check_taken(const struct provider *p, const struct metal_node *n, struct err **err)
{
	for (const struct metal_node *o = p->nodes; o; o = o->hh.next)
		if (o != n && o->mac && !strcasecmp(o->mac, n->mac))
			return err_set(err, EINVAL, "the network card %s is node '%s' already", n->mac, o->name);
		else if (o != n && o->address && !strcmp(o->address, n->address))
			return err_set(err, EINVAL, "the address %s is that of node '%s' already", n->address, o->name);
	return 0;
}

static int write_bmc(const struct metal_node *n, const char *password, struct err **err)
{
	_cleanup_free_ char *path = path_join(n->dir, "bmc"), *secret = path_join(n->dir, "password");
	_cleanup_free_ char *text = xasprintf("%s\n%s\n%s\n%s\n%s\n%s\n%s\n", n->host, n->port, n->user, n->name, n->scheme, n->path, n->fingerprint);
	int rc = dir_make_all(n->dir, 0700, err);

	if (rc == 0)
		rc = file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, err);
	return rc == 0 ? file_write_atomic(AT_FDCWD, secret, password, strlen(password), 0600, err) : rc;
}

int record_declare(struct provider *p, const struct machine_spec *spec, struct metal_node *n, struct err **err)
{
	const char *mac = settings_get(spec->node, "node", "mac"), *address = settings_get(spec->node, "node", "address"),
	           *bmc = settings_get(spec->node, "node", "bmc"), *user = settings_get(spec->node, "node", "bmc-user"),
	           *password = settings_get(spec->node, "node", "bmc-password"), *disk = settings_get(spec->node, "node", "disk");
	const struct {
		const char *key, *value;
	} needed[] = {{"mac", mac}, {"address", address}, {"bmc", bmc}, {"bmc-user", user}, {"bmc-password", password}};
	uint32_t ip;

	for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
		if (!needed[i].value || !*needed[i].value)
			return err_set(err, EINVAL, "node '%s' has no '%s' in its node.ini", spec->name, needed[i].key);
	if (!is_mac(mac))
		return err_set(err, EINVAL, "mac '%s' is not like '52:54:00:12:34:56'", mac);
	if (address_parse(address, &ip) < 0)
		return err_set(err, EINVAL, "address '%s' is not an IPv4 address", address);
	if (!is_word(user, "-._@") || *user == '-')
		return err_set(err, EINVAL, "bmc-user '%s' has other characters than letters, digits and - . _ @", user);
	if (disk && !is_word(disk, "-._/:"))
		return err_set(err, EINVAL, "disk '%s' is neither like 'sda' nor a serial number", disk);
	n->incarnation = spec->incarnation;
	n->installed = false;
	str_replace(&n->name, spec->name);
	str_replace(&n->mac, mac);
	for (char *c = n->mac; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	str_replace(&n->address, address);
	str_replace(&n->user, user);
	str_replace(&n->disk, disk ? disk : "");
	str_replace(&n->image, spec->image);
	int rc = parse_bmc(bmc, n, err);
	rc = rc < 0 ? rc : parse_fingerprint(settings_get(spec->node, "node", "bmc-fingerprint"), n, err);
	rc = rc < 0 ? rc : check_password(password, n, err);
	rc = rc < 0 ? rc : check_taken(p, n, err);
	return rc == 0 ? write_bmc(n, password, err) : rc;
}

/* ---- what is recorded */

int record_write(const struct provider *p, const struct metal_node *n, struct err **err)
{
	_cleanup_free_ char *path = path_join(n->dir, "machine");
	json_t *o = json_pack("{s:s, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s*, s:b, s:s*, s:s*, s:s*}", "owner", p->host->owner,
	        "node_id", (json_int_t)n->node_id, "incarnation", (json_int_t)n->incarnation, "name", n->name, "mac", n->mac, "address", n->address,
	        "host", n->host, "port", n->port, "user", n->user, "disk", n->disk, "image", n->image, "host_key", n->host_key, "installed",
	        n->installed, "scheme", n->scheme, "path", n->path, "fingerprint", n->fingerprint);
	char *text = o ? json_dumps(o, JSON_INDENT(1)) : NULL;
	int rc = text ? file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, err) : err_set(err, EINVAL, "cannot write '%s': not UTF-8", path);

	free(text);
	json_decref(o);
	return rc;
}

int record_remove(struct provider *p, struct metal_node *n, struct err **err)
{
	_cleanup_free_ char *record = path_join(n->dir, "machine");
	int rc;

	if (unlink(record) < 0 && errno != ENOENT)
		return err_errno(err, errno, "cannot remove '%s'", record);
	rc = tree_remove(n->dir, err);
	if (rc == 0)
		record_free(p, n);
	return rc;
}

static void record_read(struct provider *p, const char *id)
{
	_cleanup_free_ char *path = xasprintf("%s/nodes/%s/machine", p->host->state_dir, id);
	_cleanup_buf_ struct buf text = {0};
	json_int_t node_id, incarnation;
	const char *owner, *name, *mac, *address, *host, *port, *user, *disk, *image, *host_key = NULL, *scheme = NULL, *bmc_path = NULL,
	                                                                              *fingerprint = NULL;
	int installed;

	if (file_read(AT_FDCWD, path, RECORD_MAX, &text, NULL) < 0)
		return;
	json_t *o = json_loadb(buf_str(&text), text.len, 0, NULL);
	if (o &&
	        !json_unpack(o, "{s:s, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s?s, s:b, s?s, s?s, s?s}", "owner", &owner, "node_id",
	                &node_id, "incarnation", &incarnation, "name", &name, "mac", &mac, "address", &address, "host", &host, "port", &port, "user",
	                &user, "disk", &disk, "image", &image, "host_key", &host_key, "installed", &installed, "scheme", &scheme, "path", &bmc_path,
	                "fingerprint", &fingerprint) &&
	        !strcmp(owner, p->host->owner)) {
		struct metal_node *n = record_new(p, (uint64_t)node_id);
		n->incarnation = (uint32_t)incarnation;
		n->installed = installed;
		n->running = installed; /* until its BMC was asked */
		n->name = xstrdup(name);
		n->mac = xstrdup(mac);
		n->address = xstrdup(address);
		n->host = xstrdup(host);
		n->port = xstrdup(port);
		n->user = xstrdup(user);
		n->disk = xstrdup(disk);
		n->image = xstrdup(image);
		str_replace(&n->host_key, host_key);
		str_replace(&n->scheme, scheme);
		str_replace(&n->path, bmc_path);
		str_replace(&n->fingerprint, fingerprint);
	}
	json_decref(o);
}

void records_read(struct provider *p)
{
	_cleanup_free_ char *path = path_join(p->host->state_dir, "nodes");
	DIR *dir = opendir(path);
	const struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (isdigit((unsigned char)*entry->d_name))
			record_read(p, entry->d_name);
	if (dir)
		closedir(dir);
}
