#include "fs/base/acl.h"
#include "fs/base/mem.h"
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <stdio.h>
#include <sys/types.h>
#include <sys/xattr.h>

#define ACCESS_LIST "system.posix_acl_access"

/* Size of the list in bytes, or -1 and errno, ENODATA when there is none. A link is followed only if it is a descriptor's. */
static ssize_t list_of(int fd, const char *name, void *buf, size_t size)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof path, "/proc/self/fd/%d%s%s", fd, name ? "/" : "", name ? name : "");
	if (n < 0 || (size_t)n >= sizeof path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return name ? lgetxattr(path, ACCESS_LIST, buf, size) : getxattr(path, ACCESS_LIST, buf, size);
}

static mode_t narrow(mode_t mode, const struct posix_acl_xattr_entry *entry, size_t n)
{
	mode_t group = mode >> 3 & 7, other = mode & 7, mask = 7;
	for (size_t i = 0; i < n; i++)
		if (le16toh(entry[i].e_tag) == ACL_MASK)
			mask = le16toh(entry[i].e_perm);
	for (size_t i = 0; i < n; i++) {
		mode_t may = le16toh(entry[i].e_perm) & mask;
		switch (le16toh(entry[i].e_tag)) {
		case ACL_GROUP_OBJ:
			group &= may;
			break;
		case ACL_USER: /* who is named is so before any group he is in */
			group &= may;
			other &= may;
			break;
		case ACL_GROUP: /* who is in this one and in no other */
			other &= may;
			break;
		}
	}
	return (mode & ~(mode_t)077) | group << 3 | other;
}

mode_t acl_mode(int fd, const char *name, mode_t mode)
{
	_Alignas(struct posix_acl_xattr_header) char buf[4096];
	if (!(mode & 077) || S_ISLNK(mode))
		return mode;
	ssize_t n = list_of(fd, name, buf, sizeof buf);
	const struct posix_acl_xattr_header *head = (const void *)buf;
	if (n < 0 && errno != ERANGE)
		return mode;
	/* Longer than what can be judged, or of another kind: nobody but the owner, rather than too many */
	if (n < (ssize_t)sizeof *head || le32toh(head->a_version) != POSIX_ACL_XATTR_VERSION)
		return mode & ~(mode_t)077;
	return narrow(mode, (const void *)(head + 1), ((size_t)n - sizeof *head) / sizeof(struct posix_acl_xattr_entry));
}

int acl_copy(int dirfd, const char *path, int to)
{
	char list[65536];
	_cleanup_close_ int from = openat(dirfd, path, O_PATH | O_CLOEXEC);
	ssize_t n = from < 0 ? -1 : list_of(from, NULL, list, sizeof list);
	if (n >= 0)
		return fsetxattr(to, ACCESS_LIST, list, (size_t)n, 0);
	return fremovexattr(to, ACCESS_LIST) < 0 && errno != ENODATA && errno != EOPNOTSUPP ? -1 : 0;
}
