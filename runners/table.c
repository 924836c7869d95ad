/* All runners that are built in. */
#include "runners/ansible.h"
#include "runners/chef.h"
#include "runners/install.h"
#include "runners/none.h"
#include "runners/puppet.h"
#include "runners/salt.h"
#include "runners/script.h"
#include <string.h>

const struct runner_ops *const runner_table[] = {
        &script_runner, &ansible_runner, &puppet_runner, &salt_runner, &chef_runner, &install_runner, &none_runner, NULL};

const struct runner_ops *runner_find(const char *name)
{
	for (const struct runner_ops *const *ops = runner_table; *ops; ops++)
		if (!strcmp((*ops)->name, name))
			return *ops;
	return NULL;
}
