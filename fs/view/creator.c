/* Making files as the caller. Making them as root and giving them away afterwards would show them as root's for a moment, and in a directory of the
 * caller's own the name could by then stand for something else. The file system user id is a thread's own, and so are capabilities. */
#include "fs/view/repo.h"
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>

/* Whether the caller may create there the kernel has asked already (default_permissions), with all of the caller's groups, which we do not know. The
 * change of the user id took this capability away; the way back to root gives it again. */
static void keep_access(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	if (syscall(SYS_capget, &header, data) < 0)
		return;
	data[0].effective |= data[0].permitted & (1u << CAP_DAC_OVERRIDE);
	syscall(SYS_capset, &header, data);
}

bool creator_become(fuse_req_t req)
{
	const struct fuse_ctx *caller = fuse_req_ctx(req);
	if (geteuid() != 0 || (caller->uid == 0 && caller->gid == 0))
		return false;
	setfsgid(caller->gid);
	setfsuid(caller->uid);
	keep_access();
	return true;
}

void creator_end(bool became)
{
	if (!became)
		return;
	setfsuid(0);
	setfsgid(0);
}
