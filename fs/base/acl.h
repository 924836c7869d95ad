/* Access control lists (acl(5)), for who shows or keeps only owner, group and mode. */
#ifndef REBARFS_BASE_ACL_H
#define REBARFS_BASE_ACL_H

#include <sys/stat.h>

/* Of a file with a list the group's bits of st_mode are the list's mask: an upper bound, not what the group may. Takes from the mode what the list
 * takes from the group, and from group and others what it takes from anybody it names. What it gives to those is not in the mode. fd may be an O_PATH
 * one; name: of a file in that directory, NULL: fd itself. */
mode_t acl_mode(int fd, const char *name, mode_t mode);
/* Gives 'to' the list of the file at path, or takes its own away if that has none. 0, or -1 and errno. */
int acl_copy(int dirfd, const char *path, int to);

#endif
