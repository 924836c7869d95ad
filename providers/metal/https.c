/* Requests to a BMC by HTTPS: libcurl, with a look of our own at the certificate. */
#include "providers/metal/https.h"

#include "fs/base/buf.h"
#include "fs/base/mem.h"

#include <curl/curl.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <string.h>

#define ANSWER_MS 15000L /* of one request, the handshake included: BMCs are slow */
#define BODY_MAX (1 << 20)
#define REDIRECTS_MAX 3L
#define SAID_MAX "200" /* bytes of what a BMC says that go into a sentence */

struct https {
	const struct https_spec *spec;
	CURL *curl;
	char complaint[CURL_ERROR_SIZE];
	struct buf body;
	char *etag;
	bool too_long;
	struct hash shown; /* the fingerprint of its certificate */
	bool was_shown;
	int verdict; /* X509_V_... on it */
};

/* ---- the certificate */

/* Stands in for OpenSSL's own check: remembers whom we speak to, so that a refusal can name it. That the other end has the key of this certificate
 * is proven by the handshake and none of our business. */
static int check_certificate(X509_STORE_CTX *ctx, void *arg)
{
	struct https *h = arg;
	unsigned len = sizeof h->shown.b;
	bool ok;

	h->was_shown = X509_digest(X509_STORE_CTX_get0_cert(ctx), EVP_sha256(), h->shown.b, &len) == 1;
	if (h->spec->pin) {
		ok = h->was_shown && hash_eq(&h->shown, h->spec->pin);
		X509_STORE_CTX_set_error(ctx, ok ? X509_V_OK : X509_V_ERR_CERT_REJECTED);
	} else {
		ok = X509_verify_cert(ctx) > 0;
	}
	h->verdict = X509_STORE_CTX_get_error(ctx);
	return ok;
}

static CURLcode set_check(CURL *curl, void *ssl_ctx, void *arg)
{
	SSL_CTX_set_cert_verify_callback(ssl_ctx, check_certificate, arg);
	return CURLE_OK;
}

static int explain_certificate(const struct https *h, struct err **err)
{
	char hex[HASH_HEX];

	hash_hex(&h->shown, hex);
	if (h->spec->pin)
		return err_set(err, EINVAL, "%s shows a certificate that is not the one in 'bmc-fingerprint', but %s", h->spec->who, hex);
	return err_set(err, EINVAL,
	        "the certificate of %s cannot be trusted: %s (name its authority with 'bmc-ca' of the provider, or, if it really is its own, "
	        "'bmc-fingerprint = %s' in its node.ini)",
	        h->spec->who, h->verdict != X509_V_OK ? X509_verify_cert_error_string(h->verdict) : "it was made for another host", hex);
}

/* ---- what went wrong */

static int explain_transfer(const struct https *h, CURLcode rc, struct err **err)
{
	const char *who = h->spec->who, *said = *h->complaint ? h->complaint : curl_easy_strerror(rc);
	long os = 0;

	curl_easy_getinfo(h->curl, CURLINFO_OS_ERRNO, &os);
	switch (rc) {
	case CURLE_PEER_FAILED_VERIFICATION:
		if (h->was_shown)
			return explain_certificate(h, err);
		return err_set(err, EINVAL, "%s: %s", who, said);
	case CURLE_OPERATION_TIMEDOUT:
		return err_set(err, EAGAIN, "%s does not answer within %ld s", who, ANSWER_MS / 1000);
	case CURLE_COULDNT_CONNECT:
		return err_set(err, EAGAIN, "%s does not answer: %s", who, os ? strerror((int)os) : said);
	case CURLE_WRITE_ERROR:
		if (h->too_long)
			return err_set(err, EINVAL, "%s answers with more than %d bytes", who, BODY_MAX);
		return err_set(err, EAGAIN, "%s: %s", who, said);
	case CURLE_SSL_CACERT_BADFILE:
		if (h->spec->ca)
			return err_set(err, EINVAL, "cannot read the certificates in '%s' (bmc-ca)", h->spec->ca);
		return err_set(err, EINVAL,
		        "the certificate of %s cannot be judged, for this system has none to trust: install the package ca-certificates, or see "
		        "'bmc-ca' "
		        "and 'bmc-fingerprint'",
		        who);
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_TOO_MANY_REDIRECTS:
		return err_set(err, EINVAL, "%s names a place that is none of its own: %s", who, said);
	default:
		return err_set(err, EAGAIN, "%s: %s", who, said);
	}
}

/* What it says itself about a refusal; NULL where it says nothing. */
static const char *extended_message(json_t *json)
{
	const json_t *error = json_object_get(json, "error"), *all = json_object_get(error, "@Message.ExtendedInfo");
	const char *said = json_string_value(json_object_get(json_array_get(all, 0), "Message"));

	return said && *said ? said : json_string_value(json_object_get(error, "message"));
}

static int explain_status(const struct https *h, const char *method, const char *path, long status, struct err **err)
{
	const struct https_spec *s = h->spec;
	json_t *json = h->body.len ? json_loadb(h->body.data, h->body.len, 0, NULL) : NULL;
	const char *said = extended_message(json);
	bool again = status >= 500 || status == 408 || status == 409 || status == 412 || status == 429;
	int rc;

	if (status == 401)
		rc = err_set(err, EINVAL, "%s refuses the user or the password of '%s'", s->who, s->user);
	else if (status == 403)
		rc = err_set(err, EINVAL, "%s does not allow %s '%." SAID_MAX "s' to '%s'%s%." SAID_MAX "s", s->who, method, path, s->user,
		        said ? ": " : "", said ? said : "");
	else if (status == 404)
		rc = err_set(err, EINVAL, "%s has no '%." SAID_MAX "s' (HTTP 404)", s->who, path);
	else
		rc = err_set(err, again ? EAGAIN : EINVAL, "%s answers %s '%." SAID_MAX "s' with HTTP %ld%s%." SAID_MAX "s", s->who, method, path,
		        status, said ? ": " : "", said ? said : "");
	json_decref(json);
	return rc;
}

/* ---- requests */

static size_t take_body(char *data, size_t size, size_t n, void *arg)
{
	struct https *h = arg;

	h->too_long = h->body.len + size * n > BODY_MAX;
	if (h->too_long)
		return 0;
	buf_add(&h->body, data, size * n);
	return size * n;
}

static size_t take_header(char *data, size_t size, size_t n, void *arg)
{
	static const char etag[] = "etag:";
	struct https *h = arg;
	_cleanup_free_ char *line = xstrndup(data, size * n);

	if (!strncasecmp(line, etag, strlen(etag))) {
		char *value = line + strlen(etag);
		value += strspn(value, " \t");
		value[strcspn(value, "\r\n")] = '\0';
		free(h->etag);
		h->etag = *value ? xstrdup(value) : NULL;
	}
	return size * n;
}

/* No redirect leads to another scheme, and curl gives the password to no other host. No proxy and no .netrc of the environment has a say. */
static void set_options(struct https *h)
{
	const struct https_spec *s = h->spec;
	const char *scheme = strncmp(s->base, "http:", 5) ? "https" : "http";
	CURL *c = h->curl;

	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, scheme);
	curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, scheme);
	curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
	curl_easy_setopt(c, CURLOPT_MAXREDIRS, REDIRECTS_MAX);
	curl_easy_setopt(c, CURLOPT_PROXY, "");
	curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, ANSWER_MS);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, h->complaint);
	curl_easy_setopt(c, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
	curl_easy_setopt(c, CURLOPT_USERNAME, s->user);
	curl_easy_setopt(c, CURLOPT_PASSWORD, s->password);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, h);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, take_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, h);
	curl_easy_setopt(c, CURLOPT_SSL_CTX_FUNCTION, set_check);
	curl_easy_setopt(c, CURLOPT_SSL_CTX_DATA, h);
	if (s->pin) {
		/* the certificate itself is named: neither its authority nor the names in it matter */
		curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
		curl_easy_setopt(c, CURLOPT_CAINFO, NULL);
		curl_easy_setopt(c, CURLOPT_CAPATH, NULL);
	} else if (s->ca) {
		curl_easy_setopt(c, CURLOPT_CAINFO, s->ca);
		curl_easy_setopt(c, CURLOPT_CAPATH, NULL);
	}
}

struct https *https_new(const struct https_spec *spec)
{
	struct https *h = xcalloc(1, sizeof *h);

	h->spec = spec;
	h->curl = curl_global_init(CURL_GLOBAL_DEFAULT) ? NULL : curl_easy_init();
	if (!h->curl)
		out_of_memory();
	set_options(h);
	return h;
}

void https_free(struct https *h)
{
	if (!h)
		return;
	curl_easy_cleanup(h->curl);
	buf_release(&h->body);
	free(h->etag);
	free(h);
}

void https_reply_release(struct https_reply *r)
{
	json_decref(r->json);
	free(r->etag);
	*r = (struct https_reply){0};
}

static CURLcode perform(struct https *h, const char *method, const char *path, const char *body, const char *etag)
{
	_cleanup_free_ char *url = xasprintf("%s%s", h->spec->base, path), *match = etag ? xasprintf("If-Match: %s", etag) : NULL;
	struct curl_slist *headers = curl_slist_append(NULL, "Accept: application/json");

	headers = curl_slist_append(headers, "Content-Type: application/json");
	headers = curl_slist_append(headers, "OData-Version: 4.0");
	headers = curl_slist_append(headers, "Expect:"); /* some never say 100-continue */
	if (match)
		headers = curl_slist_append(headers, match);
	curl_easy_setopt(h->curl, CURLOPT_URL, url);
	curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(h->curl, CURLOPT_HTTPGET, 1L);
	if (body)
		curl_easy_setopt(h->curl, CURLOPT_COPYPOSTFIELDS, body);
	curl_easy_setopt(h->curl, CURLOPT_CUSTOMREQUEST, method);
	buf_reset(&h->body);
	free(h->etag);
	h->etag = NULL;
	*h->complaint = '\0';
	h->was_shown = false;
	CURLcode rc = curl_easy_perform(h->curl);
	curl_slist_free_all(headers);
	return rc;
}

int https_ask(struct https *h, const char *method, const char *path, const json_t *body, const char *etag, struct https_reply *ret, struct err **err)
{
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	CURLcode rc = perform(h, method, path, text, etag);
	long status = 0;

	free(text);
	if (rc != CURLE_OK)
		return explain_transfer(h, rc, err);
	curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status < 200 || status > 299)
		return explain_status(h, method, path, status, err);
	if (body)
		return 0;
	json_t *json = json_loadb(buf_str(&h->body), h->body.len, 0, NULL);
	if (!json_is_object(json)) {
		json_decref(json);
		return err_set(err, EINVAL, "%s answers %s '%." SAID_MAX "s' with something that is not JSON: does it speak Redfish?", h->spec->who,
		        method, path);
	}
	ret->json = json;
	ret->etag = h->etag;
	h->etag = NULL;
	return 0;
}
