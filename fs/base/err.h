/* Errors: a sentence that grows on its way up.
 *
 * A function that can fail takes `struct err **` as its last argument and returns 0 or a negative errno. On success *err is untouched.
 * NULL may be passed by who does not care. A function logs or returns an error, never both. Messages: lower case, the subject quoted,
 * the cause last: cannot read 'roles/etcd/role.ini': Permission denied */
#ifndef REBARFS_BASE_ERR_H
#define REBARFS_BASE_ERR_H

struct err {
	int code; /* positive errno */
	char *msg;
};

/* Sets *err (an older one is freed) and returns -code. */
int err_set(struct err **err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* As err_set, with ": strerror(code)" at the end. */
int err_errno(struct err **err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Puts "PREFIX: " before the message; returns -(*err)->code (or -EIO when there is no message). */
int err_wrap(struct err **err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void err_free(struct err *err);
static inline void err_freep(struct err **err)
{
	err_free(*err);
	*err = 0;
}
/* Never NULL: "unknown error" without one. */
const char *err_msg(const struct err *err);
#define _cleanup_err_ __attribute__((cleanup(err_freep)))

#endif
