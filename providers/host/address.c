/* Which node has which address: leases, one a line of the instance's file "addresses", the last line of a node counts. */
#include "providers/host/instance.h"

#include "fs/base/io.h"
#include "fs/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define FILE_MAX (4 << 20)

static void read_leases(struct provider *p, const char *text)
{
	_cleanup_free_ char *copy = xstrdup(text);
	char *save = NULL;

	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned long long id;
		char word[16];
		struct lease *l;
		uint32_t address;
		if (sscanf(line, "%llu %15s", &id, word) != 2 || address_parse(word, &address) < 0)
			continue;
		uint64_t key = id;
		HASH_FIND(hh, p->leases, &key, sizeof key, l);
		if (!l) {
			l = xcalloc(1, sizeof *l);
			l->node_id = key;
			HASH_ADD(hh, p->leases, node_id, sizeof l->node_id, l);
		}
		l->address = address;
	}
}

void addresses_open(struct provider *p)
{
	_cleanup_free_ char *path = path_join(p->state_dir, "addresses");
	_cleanup_buf_ struct buf text = {0};

	if (file_read(AT_FDCWD, path, FILE_MAX, &text, NULL) == 0)
		read_leases(p, buf_str(&text));
}

void addresses_release(struct provider *p)
{
	struct lease *l, *next;

	HASH_ITER (hh, p->leases, l, next) {
		HASH_DEL(p->leases, l);
		free(l);
	}
}

static int lease_append(struct provider *p, uint64_t node_id, uint32_t address, struct err **err)
{
	_cleanup_free_ char *path = path_join(p->state_dir, "addresses");
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	char text[16];

	address_format(address, text);
	_cleanup_free_ char *line = xasprintf("%llu %s\n", (unsigned long long)node_id, text);
	int rc = fd < 0 ? -errno : fd_write_all(fd, line, strlen(line));
	if (rc < 0)
		return err_errno(err, -rc, "cannot write '%s'", path);
	read_leases(p, line);
	return 0;
}

enum use { USE_FREE, USE_KEPT, USE_TAKEN };

static struct node *node_of(struct provider *p, uint64_t node_id)
{
	struct node *n;

	HASH_FIND(hh, p->nodes, &node_id, sizeof node_id, n);
	return n;
}

/* Kept is what was given to a node that is not there, which may come back: a rebuild. An address that was given away again stays taken by whoever
 * has it now. */
static void find_use(struct provider *p, uint64_t node_id, const struct pool *pool, char *use)
{
	struct lease *l, *next;
	uint32_t address;

	HASH_ITER (hh, p->leases, l, next)
		if (l->node_id != node_id && pool_has(pool, l->address)) {
			char *at = &use[l->address - pool->first];
			*at = *at == USE_TAKEN || node_of(p, l->node_id) ? USE_TAKEN : USE_KEPT;
		}
	/* whatever became of the leases, what a node has is its own */
	for (const struct node *n = p->nodes; n; n = n->hh.next)
		if (n->node_id != node_id && n->job.address && address_parse(n->job.address, &address) == 0 && pool_has(pool, address))
			use[address - pool->first] = USE_TAKEN;
}

int address_give(struct provider *p, uint64_t node_id, uint32_t *ret, struct err **err)
{
	struct pool pool;
	struct lease *mine;

	network_pool(p, &pool);
	uint32_t n = pool.last - pool.first + 1;
	_cleanup_free_ char *use = xcalloc(n, 1);
	find_use(p, node_id, &pool, use);
	HASH_FIND(hh, p->leases, &node_id, sizeof node_id, mine);
	if (mine && pool_has(&pool, mine->address) && use[mine->address - pool.first] != USE_TAKEN) {
		*ret = mine->address;
		return 0;
	}
	for (int allowed = USE_FREE; allowed <= USE_KEPT; allowed++)
		for (uint32_t i = 0; i < n; i++)
			if (use[i] <= allowed && pool_has(&pool, pool.first + i)) {
				*ret = pool.first + i;
				return lease_append(p, node_id, *ret, err);
			}
	_cleanup_free_ char *where = network_where(p);
	return err_set(
	        err, ENOSPC, "all %u addresses of the %s are used: set a wider %s", pool_room(&pool), p->section.first ? "range" : "subnet", where);
}
