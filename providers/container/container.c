/* The provider of system containers, and the default: a node is a systemd-nspawn container with an init, an sshd and a package database of
 * its own, on an overlay over a cached root tree; with boot = sshd it is plain namespaces around one sshd.
 * This file is the table; providers/host is what happens to nodes. */
#include "providers/container/container.h"
#include "providers/host/instance.h"

#include <string.h>

static const struct key_row keys[] = {
        {"container", "boot", VALUE_ENUM, "systemd", 0, 0, "systemd,sshd",
                "what runs in a node: its own systemd, or only sshd (2 MB, hundreds on a laptop)"},
        {"container", "subnet", VALUE_STRING, "auto", 0, 0, NULL,
                "network of the nodes, as 10.20.0.0/22; auto: a private /22 that is free on this host", .fixed = true},
        {"container", "nat", VALUE_BOOL, "yes", 0, 0, NULL, "let nodes reach the outside through this host's address"},
        {"container", "privileged", VALUE_BOOL, "no", 0, 0, NULL, "give nodes all capabilities, for container engines and kubelets inside them"},
        NETWORK_KEYS,
        {"image *", "suite", VALUE_STRING, "bookworm", 0, 0, NULL, "Debian's suite to build the image from; the mirror is this host's own"},
        {"image *", "packages", VALUE_LIST, NULL, 0, 0, NULL, "packages to install beyond what a node needs itself"},
        {"image *", "script", VALUE_STRING, NULL, 0, 0, NULL,
                "program to run in the new tree at the end of its making; relative to the provider's directory", .file = true},
        {"image *", "source", VALUE_STRING, NULL, 0, 0, NULL, "directory or tar to use as root tree instead of building one", .file = true},
        {0},
};

static int use(struct provider *p, const struct settings *settings, struct err **err)
{
	p->boot = strcmp(settings_str(settings, keys, "container", "boot"), "sshd") ? BOOT_SYSTEMD : BOOT_SSHD;
	p->privileged = settings_bool(settings, keys, "container", "privileged");
	return 0;
}

static void describe(const struct provider *p, struct node_job *j)
{
	j->boot = p->boot;
	j->privileged = p->privileged;
}

static bool runs(const char *dir)
{
	return node_pid(dir) > 0;
}

static const struct host_kind kind = {
        .section = "container",
        .keys = keys,
        .overlay = true,
        .off_grace_ms = 15000,
        .settings = use,
        .describe = describe,
        .preflight = container_preflight,
        .write = container_write,
        .launch = node_launch,
        .runs = runs,
        .ask_off = node_ask_off,
        .kill = node_kill,
        .gone = node_gone,
        .clean = node_clean_kernel,
};

static int check(const struct settings *settings, int *ret_line, struct err **err)
{
	return host_check(&kind, settings, ret_line, err);
}

static int container_open(const struct provider_host *host, const struct settings *settings, struct provider **ret, struct err **err)
{
	return host_open(&kind, host, settings, ret, err);
}

const struct provider_ops provider_container = {
        .api = PROVIDER_API,
        .type = "container",
        .reboot_by_power = true,
        .help = "system containers on this machine, made from a cached root tree; the default",
        .default_image = HOST_DEFAULT_IMAGE,
        .keys = keys,
        .check = check,
        .open = container_open,
        .reload = host_reload,
        .close = host_close,
        .prepare = host_prepare,
        .create = host_create,
        .destroy = host_destroy,
        .power = host_power,
        .list = host_list,
        .cancel = host_cancel,
        .capacity = host_capacity,
        .networks = host_networks,
};
