/* The providers that are built in. A new one is a row here. */
#include "providers/provider.h"

#include <string.h>

extern const struct provider_ops provider_container, provider_vm, provider_metal, provider_ssh, provider_exec, provider_fake;

const struct provider_ops *const provider_table[] = {
        &provider_container, &provider_vm, &provider_metal, &provider_ssh, &provider_exec, &provider_fake, NULL};

const struct provider_ops *provider_find(const char *type)
{
	for (size_t i = 0; provider_table[i]; i++)
		if (!strcmp(provider_table[i]->type, type))
			return provider_table[i];
	return NULL;
}
