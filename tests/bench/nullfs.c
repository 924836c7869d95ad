/* A file system that does nothing: one directory, one small file, the same answer to every question. What remains is the price of FUSE itself, the
 * peer of `cat state`. As in rebarfs the attributes of the file are not cached, and flush and the rest are answered ENOSYS, which the kernel
 * remembers. usage: nullfs MOUNTPOINT (stays in the foreground) */
#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char content[] = "ready\n";
enum { FILE_INODE = 2 };

static void fill(fuse_ino_t ino, struct stat *st)
{
	memset(st, 0, sizeof *st);
	st->st_ino = ino;
	st->st_mode = ino == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0444;
	st->st_nlink = 1;
	st->st_size = ino == FUSE_ROOT_ID ? 0 : sizeof content - 1;
}

static void null_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = {.ino = FILE_INODE, .entry_timeout = 1};

	fill(FILE_INODE, &e.attr);
	if (strcmp(name, "state"))
		fuse_reply_err(req, ENOENT);
	else
		fuse_reply_entry(req, &e);
}

static void null_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	fill(ino, &st);
	fuse_reply_attr(req, &st, ino == FUSE_ROOT_ID ? 1 : 0);
}

static void null_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fi->direct_io = 1;
	fuse_reply_open(req, fi);
}

static void null_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	size_t len = sizeof content - 1, from = (size_t)off < len ? (size_t)off : len;

	fuse_reply_buf(req, content + from, len - from < size ? len - from : size);
}

static const struct fuse_lowlevel_ops ops = {.lookup = null_lookup, .getattr = null_getattr, .open = null_open, .read = null_read};

int main(int argc, char **argv)
{
	char *no_options[] = {argv[0], "-ofsname=nullfs", NULL};
	struct fuse_args args = FUSE_ARGS_INIT(2, no_options);
	struct fuse_session *se;
	struct fuse_loop_config *config = fuse_loop_cfg_create();

	if (argc != 2 || !(se = fuse_session_new(&args, &ops, sizeof ops, NULL))) {
		fprintf(stderr, "usage: nullfs MOUNTPOINT\n");
		return 2;
	}
	if (fuse_set_signal_handlers(se) || fuse_session_mount(se, argv[1]))
		return 1;
	int rc = fuse_session_loop_mt(se, config);
	fuse_session_unmount(se);
	fuse_remove_signal_handlers(se);
	fuse_session_destroy(se);
	fuse_loop_cfg_destroy(config);
	fuse_opt_free_args(&args);
	return rc != 0;
}
