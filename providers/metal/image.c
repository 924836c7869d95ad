/* Images of the provider metal: a directory CACHE/metal/NAME-KEY-KERNEL with kernel and initrd; pieces, the used mebibytes of the disk, each called
 * after where it belongs; map: where that is, how many they are and their checksum; size: of the whole, in MB. */
#include "providers/metal/metal.h"

#include "fs/base/io.h"
#include "fs/base/mem.h"

#include <unistd.h>

/* To be counted up with every change of metal_build, metal_install or image/disk.c. */
#define RECIPE "3"

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
	const struct image_variable variables[] = {{"KERNEL", metal_get(p, "kernel")}, {"INSTALL", metal_install}};

	image_disk_command(i, disk, metal_build, variables, sizeof variables / sizeof *variables, argv, env);
}
