/* The documents' own keys. What providers and runners take beside them stands in their tables. */
#include "fs/desired/desired.h"

#define MINUTE 60000LL
#define DAY (24 * 60 * MINUTE)

const struct key_row deployment_keys[] = {
        {"deployment", "like", VALUE_STRING, .help = "inherit every section of this deployment; what is written here overrides it"},
        {"deployment", "provider", VALUE_STRING, .help = "where the nodes of groups come from that name no provider of their own"},
        {"deployment", "roles", VALUE_LIST, .help = "roles on every node; what they require comes with them"},
        {"deployment", "apply", VALUE_ENUM, .values = "auto,manual",
                .help = "auto: changes are approved as they appear; manual: by 'apply'; the provider decides if it is not said"},
        {"deployment", "gate", VALUE_STRING,
                .help = "roles, and what is inherited, come into force here only as they were when this deployment was active with them"},
        {"deployment", "commit", VALUE_ENUM, .dflt = "any", .values = "any,required",
                .help = "required: nothing comes into force that is not committed in git"},
        {"deployment", "max-destroy", VALUE_INT, .min = 0, .max = 1000000,
                .help = "how many machines one apply may release or rebuild; 0: any number"},
        {"deployment", "owner", VALUE_STRING, .help = "the user who may write to this deployment's files; not inherited"},
        {"deployment", "group", VALUE_STRING, .help = "the group who may write to this deployment's files; not inherited"},
        {"nodes *", "count", VALUE_INT, .min = 0, .max = 100000, .help = "how many nodes; their names are DEPLOYMENT-GROUP-1 and so on"},
        {"nodes *", "nodes", VALUE_LIST, .help = "declared nodes by name, sets allowed: r1-[01-40]; displaces count"},
        {"nodes *", "provider", VALUE_STRING, .help = "where this group's nodes come from"},
        {"nodes *", "roles", VALUE_LIST, .help = "roles on the nodes of this group, beside the deployment's"},
        {"nodes *", "image", VALUE_STRING, .help = "what its nodes are made from; else the provider's"},
        {"nodes *", "cpus", VALUE_FLOAT, .help = "processors of a node; not set: no limit"},
        {"nodes *", "memory", VALUE_SIZE, .min = 1 << 20, .max = 1LL << 50, .help = "memory of a node; not set: no limit"},
        {"nodes *", "max-down", VALUE_INT, .min = 1, .max = 100000, .help = "how many nodes of the group may be changed or broken at one time"},
        {"params *", "*", VALUE_STRING, .help = "[params ROLE] or [params ROLE @GROUP]: values for parameters that the role declares"},
        {NULL},
};

const struct key_row role_keys[] = {
        {"role", "runner", VALUE_STRING, .help = "what runs the content: script, ansible, puppet, salt, chef, install, none"},
        {"role", "requires", VALUE_LIST, .help = "roles that must be active on the same node before; they are put there"},
        {"role", "after", VALUE_LIST, .help = "roles that come first on every node of the deployment that has them"},
        {"role", "wants", VALUE_LIST, .help = "inputs beside the parameters: nodes, node, facts.KEY, ROLE.KEY"},
        {"role", "provides", VALUE_LIST, .help = "what this role is good for, for others' conflicts"},
        {"role", "conflicts", VALUE_LIST, .help = "roles, or what they provide, that cannot be on the same node"},
        {"role", "once", VALUE_BOOL, .dflt = "no", .help = "destructive: never run a second time by itself"},
        {"role", "serial", VALUE_INT, .dflt = "0", .min = 0, .max = 100000, .help = "how many nodes may run it at one time; 0: any number"},
        {"role", "timeout", VALUE_DURATION, .dflt = "30m", .min = 1000, .max = 7 * DAY, .help = "how long one run may take"},
        {"role", "retries", VALUE_INT, .dflt = "2", .min = 0, .max = 1000, .help = "how often a failed run is tried again"},
        {"role", "backoff", VALUE_DURATION, .dflt = "5s", .min = 0, .max = DAY, .help = "the wait before the first retry; it doubles"},
        {"role", "check-every", VALUE_DURATION, .min = 10000, .max = 366 * DAY,
                .help = "how often to find out, without changing anything, whether it still is as it was left; not set: only when told"},
        {"role", "repair", VALUE_BOOL, .dflt = "no", .help = "run it again when a check finds that it is not"},
        {"param *", "type", VALUE_ENUM, .dflt = "string", .values = "string,int,bool,enum,list,size,duration,float,json",
                .help = "what values look like"},
        {"param *", "default", VALUE_STRING, .help = "the value where nobody sets one; without it the parameter must be set"},
        {"param *", "min", VALUE_STRING, .help = "the smallest value"},
        {"param *", "max", VALUE_STRING, .help = "the largest value"},
        {"param *", "values", VALUE_LIST, .help = "the values of an enum"},
        {"param *", "secret", VALUE_BOOL, .dflt = "no", .help = "never shown"},
        {"param *", "help", VALUE_STRING, .help = "one line for people"},
        {"output *", "secret", VALUE_BOOL, .dflt = "no", .help = "stays on the node that made it"},
        {"output *", "ttl", VALUE_DURATION, .min = 1000, .max = 3650 * DAY, .help = "how long the value is good; renewed by its role when another needs it"},
        {"output *", "help", VALUE_STRING, .help = "one line for people"},
        {NULL},
};

const struct key_row node_keys[] = {
        {"node", "provider", VALUE_STRING, .help = "who has this machine; else the provider of the group that names it"},
        {"node", "address", VALUE_STRING, .help = "address or host name of its sshd"},
        {"node", "labels", VALUE_LIST, .help = "words and KEY=VALUE pairs that describe it"},
        {"node", "image", VALUE_STRING, .help = "what it is made from; else the group's"},
        {"params *", "*", VALUE_STRING, .help = "[params ROLE]: values for parameters on this node"},
        {NULL},
};

const struct key_row provider_keys[] = {
        {"provider", "type", VALUE_STRING, .dflt = "container", .help = "container, vm, metal, ssh, exec, fake", .fixed = true},
        {"provider", "image", VALUE_STRING, .help = "what nodes are made from: built in, or an [image NAME]"},
        {"provider", "max-parallel", VALUE_INT, .min = 1, .max = 100000,
                .help = "how many machines are worked on, and how many roles run on them, at one time (unset: 64)"},
        {"provider", "timeout", VALUE_DURATION, .dflt = "15m", .min = 1000, .max = DAY, .help = "how long one call (create, destroy) may take"},
        {"provider", "apply", VALUE_ENUM, .values = "auto,manual",
                .help = "auto or manual for deployments that do not say; the type decides if it is not said here either"},
        {NULL},
};
