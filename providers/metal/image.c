/* Images of the provider metal: a directory CACHE/metal/NAME-KEY-KERNEL with kernel and initrd; pieces, the used mebibytes of the disk, each called
 * after where it belongs; map: where that is, how many they are and their checksum; size: of the whole, in MB. */
#include "providers/metal/metal.h"

#include "fs/base/io.h"
#include "fs/base/mem.h"

#include <unistd.h>

/* To be counted up with every change of metal_build or metal_install. */
#define RECIPE "2"

char *metal_disk(const struct provider *p, const struct image *i)
{
	return xasprintf("%s/metal/%s-%s-%s-" RECIPE, p->host->cache_dir, i->name, i->key, metal_get(p, "kernel"));
}

bool metal_disk_ready(const char *disk)
{
	_cleanup_free_ char *map = path_join(disk, "map");

	return access(map, R_OK) == 0;
}

void metal_disk_command(const struct provider *p, const struct image *i, const char *disk, struct strlist *argv, struct strlist *env)
{
	const char *const words[] = {"unshare", "--mount", "--propagation=slave", "sh", "-c", metal_build};
	const struct {
		const char *name, *value;
	} rows[] = {{"DISK", disk}, {"TREE", i->tree}, {"KERNEL", metal_get(p, "kernel")}, {"INSTALL", metal_install},
	        {"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}};

	strlist_add(argv, "flock");
	strlist_add_take(argv, xasprintf("%s.lock", disk));
	for (size_t n = 0; n < sizeof words / sizeof *words; n++)
		strlist_add(argv, words[n]);
	for (size_t n = 0; n < sizeof rows / sizeof *rows; n++)
		strlist_add_take(env, xasprintf("%s=%s", rows[n].name, rows[n].value ? rows[n].value : ""));
	strlist_add_take(env, xasprintf("ID=%.16s%.16s", i->key, i->key));
}
