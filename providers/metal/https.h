/* Requests to a BMC by HTTPS, with JSON both ways. What blocks: for a process of its own, never for the engine's. */
#ifndef REBARFS_PROVIDERS_METAL_HTTPS_H
#define REBARFS_PROVIDERS_METAL_HTTPS_H

#include "fs/base/err.h"
#include "fs/base/hash.h"

#include <jansson.h>

struct https;
/* All of it is the caller's and outlives the struct https. */
struct https_spec {
	const char *who;        /* how sentences name the other end: "the BMC of m1 (10.2.0.11 port 443)" */
	const char *base;       /* "https://10.2.0.11:443"; http:// goes without certificates */
	const char *user;       /* sent with every request, and so is the password */
	const char *password;   /* in no sentence */
	const char *ca;         /* a file of certificates to trust; NULL: those of this system */
	const struct hash *pin; /* SHA-256 of the one certificate to trust; NULL: as its authority says */
};
struct https_reply {
	json_t *json; /* of a GET; NULL otherwise */
	char *etag;   /* NULL: none */
};
struct https *https_new(const struct https_spec *spec);
void https_free(struct https *h);
/* path starts with '/'. body and etag (for If-Match) may be NULL. An answer other than a success is an error, in a sentence: -EAGAIN where it is
 * worth to try again, else -EINVAL. */
int https_ask(struct https *h, const char *method, const char *path, const json_t *body, const char *etag, struct https_reply *ret, struct err **err);
void https_reply_release(struct https_reply *r);

#endif
