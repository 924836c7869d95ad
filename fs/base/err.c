#include "fs/base/err.h"
#include "fs/base/buf.h"
#include "fs/base/mem.h"
#include <errno.h>
#include <string.h>

static int put(struct err **err, int code, char *msg)
{
	if (!err) {
		free(msg);
		return -code;
	}
	struct err *e = xmalloc(sizeof *e);
	*e = (struct err){code, msg};
	err_free(*err);
	*err = e;
	return -code;
}

int err_set(struct err **err, int code, const char *fmt, ...)
{
	struct buf b = {0};
	va_list ap;
	va_start(ap, fmt);
	buf_vaddf(&b, fmt, ap);
	va_end(ap);
	return put(err, code, buf_detach(&b, NULL));
}

int err_errno(struct err **err, int code, const char *fmt, ...)
{
	struct buf b = {0};
	va_list ap;
	va_start(ap, fmt);
	buf_vaddf(&b, fmt, ap);
	va_end(ap);
	buf_addf(&b, ": %s", strerrordesc_np(code) ? strerrordesc_np(code) : "unknown error");
	return put(err, code, buf_detach(&b, NULL));
}

int err_wrap(struct err **err, const char *fmt, ...)
{
	if (!err || !*err)
		return -EIO;
	struct buf b = {0};
	va_list ap;
	va_start(ap, fmt);
	buf_vaddf(&b, fmt, ap);
	va_end(ap);
	buf_addf(&b, ": %s", (*err)->msg);
	free((*err)->msg);
	(*err)->msg = buf_detach(&b, NULL);
	return -(*err)->code;
}

void err_free(struct err *err)
{
	if (!err)
		return;
	free(err->msg);
	free(err);
}

const char *err_msg(const struct err *err)
{
	return err && err->msg ? err->msg : "unknown error";
}
