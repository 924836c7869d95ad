/* A node's own layer over the image's tree. Blocking; runs on a worker. */
#include "providers/container/container.h"

#include "fs/base/io.h"
#include "fs/base/mem.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Without an init a package's attempt to start its service can only fail. */
static const char policy_rc[] = "#!/bin/sh\nexit 101\n";

/* systemd-nspawn mounts the v1 control groups read-only whatever it is told, and container engines make groups of their own. */
static const char privileged_unit[] =
        "[Unit]\n"
        "Description=Writable control groups for container engines\n"
        "Before=containerd.service docker.service kubelet.service crio.service\n"
        "[Service]\n"
        "Type=oneshot\n"
        "RemainAfterExit=yes\n"
        "ExecStart=/bin/sh -c 'for m in /sys/fs/cgroup /sys/fs/cgroup/*/; do mount -o remount,bind,rw $m 2>/dev/null; done; "
        "mount --make-rshared /'\n";

static int make_privileged(const char *upper, struct err **err)
{
	static const char *const dirs[] = {"etc/systemd", "etc/systemd/system", "etc/systemd/system/multi-user.target.wants"};
	_cleanup_free_ char *link = path_join(upper, "etc/systemd/system/multi-user.target.wants/rebarfs-privileged.service");
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof dirs / sizeof *dirs; i++)
		rc = node_make_dir(upper, dirs[i], 0755, err);
	if (rc == 0)
		rc = node_make_file(upper, "etc/systemd/system/rebarfs-privileged.service", privileged_unit, 0644, err);
	if (rc == 0 && symlink("../rebarfs-privileged.service", link) < 0 && errno != EEXIST)
		rc = err_errno(err, errno, "cannot make '%s'", link);
	return rc;
}

static int make_layer(struct node_job *j, const char *upper, struct err **err)
{
	int rc = node_identity(j, upper, err);

	if (rc == 0 && j->boot == BOOT_SYSTEMD && j->privileged)
		rc = make_privileged(upper, err);
	if (rc < 0 || j->boot != BOOT_SSHD)
		return rc;
	rc = node_make_dir(upper, "usr", 0755, err);
	if (rc == 0)
		rc = node_make_dir(upper, "usr/sbin", 0755, err);
	return rc == 0 ? node_make_file(upper, "usr/sbin/policy-rc.d", policy_rc, 0755, err) : rc;
}

int container_write(struct node_job *j, struct err **err)
{
	static const char *const dirs[] = {"upper", "work", "root"};
	int rc = node_begin(j, err);

	for (size_t i = 0; rc == 0 && i < sizeof dirs / sizeof *dirs; i++)
		rc = node_make_dir(j->dir, dirs[i], 0755, err);
	if (rc == 0) {
		_cleanup_free_ char *upper = path_join(j->dir, "upper");
		rc = make_layer(j, upper, err);
	}
	return rc == 0 ? node_record(j, err) : rc;
}
