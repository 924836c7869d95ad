/* Private ssh keys that are secrets: libssh2 could take them from memory, ssh and ansible cannot. They lie in a private directory, in memory where
 * there is such a file system, and stay there when the daemon ends: runs of ansible outlive it. */
#include "fs/base/private.h"
#include "fs/engine/secrets.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>

static char *key_file(const struct model *m, const char *name)
{
	char *path = xasprintf("%s/keys/%s", m->private_dir, name);
	for (char *p = path + strlen(m->private_dir) + strlen("/keys/"); *p; p++)
		*p = *p == '/' ? ',' : *p; /* stands in no name */
	return path;
}

char *node_key_path(const struct model *m, const struct node *n)
{
	const char *name = secret_ref(n->row.key);
	if (name)
		return key_file(m, name);
	return n->row.key ? xstrdup(n->row.key) : path_join(m->state_dir, "id_ed25519");
}

static int key_write(const struct model *m, const char *name, const struct secret *value, struct err **err)
{
	_cleanup_free_ char *dir = path_join(m->private_dir, "keys"), *path = key_file(m, name);
	_cleanup_buf_ struct buf text = {.secret = true};
	if (strncmp(value->value, "-----BEGIN ", 11))
		return err_set(err, EINVAL, "its value is not a private key");
	if (!strncmp(value->value, "-----BEGIN RSA ", 15))
		return err_set(err, EINVAL, "its value is an RSA key: nodes refuse those signatures, use an ed25519 or ecdsa key");
	int rc = private_dir_make(m->private_dir, err);
	rc = rc < 0 ? rc : private_dir_make(dir, err);
	if (rc < 0)
		return rc;
	buf_add(&text, value->value, value->len);
	buf_addc(&text, '\n'); /* OpenSSH takes no key without it */
	return file_write_atomic(AT_FDCWD, path, text.data, text.len, 0600, err);
}

struct secret *secret_key_came(struct engine *e, struct secret_entry *s, struct secret *value, char **ret_why)
{
	_cleanup_err_ struct err *err = NULL;
	s->is_written = key_write(&e->m, s->name, value, &err) == 0;
	if (s->is_written)
		return value;
	*ret_why = xasprintf("secret '%s': %s", s->name, err_msg(err));
	secret_drop(value);
	return NULL;
}

static bool logs_in_with(const struct node *n, const char *name)
{
	const char *key = secret_ref(n->row.key);
	return key && !strcmp(key, name);
}

void secret_key_users(struct engine *e, const struct secret_entry *s)
{
	for (struct node *n = e->m.nodes_by_name; n; n = n->hh_name.next) {
		if (!logs_in_with(n, s->name))
			continue;
		if (!s->why && !n->contacted && n->row.error) { /* what was missing is there: that is a retry */
			str_replace(&n->row.error, NULL);
			n->row.attempts = 0;
			mark_node(e, n);
		}
		queue_node(e, n);
	}
}

bool secrets_key_ready(struct engine *e, const struct node *n, const char **ret_why)
{
	const char *name = secret_ref(n->row.key);
	*ret_why = NULL;
	if (!name)
		return true;
	struct secret_entry *s = secret_entry(e, name);
	s->is_key = true;
	if (!s->is_written && s->why)
		*ret_why = s->why;
	else if (!s->is_written)
		secret_ask(e, s);
	return s->is_written;
}

void secrets_key_retry(struct engine *e, const struct node *n)
{
	const char *name = secret_ref(n->row.key);
	if (name && !secret_entry(e, name)->is_written)
		str_replace(&secret_entry(e, name)->why, NULL);
}
