/* `rebarfs --redfish DIR WORDS`: one question to a BMC, in the words that ipmitool's `chassis` takes: power status | on | off, bootdev pxe | disk. */
#ifndef REBARFS_PROVIDERS_METAL_REDFISH_H
#define REBARFS_PROVIDERS_METAL_REDFISH_H

#define REDFISH_OPTION "--redfish"

/* argv[0] is DIR, a node's directory, with 'bmc' and 'password' in it; BMC_CA in the environment names a file of certificates to trust. Prints the
 * answer or what went wrong. Returns an exit status: 0; 1 where it is worth to try again, 3 where it is not. */
int redfish_main(int argc, char **argv);

#endif
