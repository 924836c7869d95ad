/* A BMC that speaks Redfish (DMTF DSP0266, DSP2046). A process of its own for each question: what is asked blocks, and a machine's slow BMC is nobody
 * else's. */
#include "providers/metal/redfish.h"

#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "fs/base/str.h"
#include "providers/metal/https.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX 4096
#define SYSTEMS "/redfish/v1/Systems"
#define NAMED_MAX 8

enum { EXIT_AGAIN = 1, EXIT_NEVER = 3 };

struct bmc {
	struct buf lines, password;
	char *host, *port, *user, *name, *scheme, *path, *fingerprint; /* in lines */
	char *who, *base;
	struct hash pin;
	struct https_spec spec;
	struct https *https;
};

static void bmc_release(struct bmc *b)
{
	https_free(b->https);
	buf_release(&b->lines);
	buf_release(&b->password);
	free(b->who);
	free(b->base);
}

static int bmc_open(struct bmc *b, const char *dir, struct err **err)
{
	_cleanup_free_ char *path = path_join(dir, "bmc"), *secret = path_join(dir, "password");
	char **const fields[] = {&b->host, &b->port, &b->user, &b->name, &b->scheme, &b->path, &b->fingerprint};
	const char *ca = getenv("BMC_CA");
	int rc = file_read(AT_FDCWD, path, FILE_MAX, &b->lines, err);

	b->password.secret = true;
	rc = rc < 0 ? rc : file_read(AT_FDCWD, secret, FILE_MAX, &b->password, err);
	if (rc < 0)
		return rc;
	char *rest = b->lines.data;
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
		if (!(*fields[i] = strsep(&rest, "\n")))
			return err_set(err, EINVAL, "'%s' has only %zu lines", path, i);
	b->who = xasprintf("the BMC of %s (%s port %s)", b->name, b->host, b->port);
	b->base = xasprintf("%s://%s:%s", !strcmp(b->scheme, "redfish+http") ? "http" : "https", b->host, b->port);
	if (*b->fingerprint && !hash_from_hex(b->fingerprint, &b->pin))
		return err_set(err, EINVAL, "'%s': '%s' is not a fingerprint", path, b->fingerprint);
	b->spec = (struct https_spec){.who = b->who,
	        .base = b->base,
	        .user = b->user,
	        .password = buf_str(&b->password),
	        .ca = ca && *ca ? ca : NULL,
	        .pin = *b->fingerprint ? &b->pin : NULL};
	b->https = https_new(&b->spec);
	return 0;
}

/* ---- finding what there is */

static int get(const struct bmc *b, const char *path, struct https_reply *ret, struct err **err)
{
	return https_ask(b->https, "GET", path, NULL, NULL, ret, err);
}

/* A member of an object that is a place on the same host; -EINVAL where it is none. */
static int place(const struct bmc *b, const json_t *object, const char *member, const char **ret, struct err **err)
{
	const char *path = json_string_value(json_object_get(object, member));

	if (!path || *path != '/')
		return err_set(err, EINVAL, "%s: what it says of its system has no '%s'", b->who, member);
	*ret = path;
	return 0;
}

static int several(const struct bmc *b, const json_t *members, struct err **err)
{
	_cleanup_buf_ struct buf names = {0};

	for (size_t i = 0; i < json_array_size(members) && i < NAMED_MAX; i++) {
		const char *path = json_string_value(json_object_get(json_array_get(members, i), "@odata.id"));
		buf_addf(&names, "%s%s", i ? ", " : "", path ? path : "?");
	}
	return err_set(err, EINVAL, "%s has %zu systems (%s): say which in its 'bmc', like %s://%s:%s" SYSTEMS "/NAME", b->who,
	        json_array_size(members), buf_str(&names), b->scheme, b->host, b->port);
}

/* The one that it is the BMC of. Of several none is guessed: another machine would be switched. */
static int get_system(const struct bmc *b, struct https_reply *ret, char **ret_path, struct err **err)
{
	struct https_reply list = {0};
	const json_t *members;
	const char *path = b->path;
	int rc = 0;

	if (!*path) {
		rc = get(b, SYSTEMS, &list, err);
		members = json_object_get(list.json, "Members");
		if (rc == 0 && json_array_size(members) != 1)
			rc = json_array_size(members) ? several(b, members, err) : err_set(err, EINVAL, "%s has no system in '" SYSTEMS "'", b->who);
		rc = rc < 0 ? rc : place(b, json_array_get(members, 0), "@odata.id", &path, err);
	}
	rc = rc < 0 ? rc : get(b, path, ret, err);
	if (rc == 0)
		*ret_path = xstrdup(path);
	https_reply_release(&list);
	return rc;
}

static bool allows(const json_t *allowed, const char *value)
{
	for (size_t i = 0; i < json_array_size(allowed); i++) {
		const char *one = json_string_value(json_array_get(allowed, i));
		if (one && !strcmp(one, value))
			return true;
	}
	return false;
}

/* ---- power */

static const char *power_state(const json_t *system)
{
	const char *state = json_string_value(json_object_get(system, "PowerState"));

	return state ? state : "";
}

static int power_status(const struct bmc *b, const json_t *system, struct err **err)
{
	const char *state = power_state(system);

	if (!*state)
		return err_set(err, EINVAL, "%s does not say whether the power is on", b->who);
	/* PoweringOn and PoweringOff are neither: who waits goes on waiting */
	puts(!strcmp(state, "On") ? "power is on" : !strcmp(state, "Off") ? "power is off" : "power is changing");
	return 0;
}

/* The values of ResetType that it says it takes, a new reference; NULL where it does not say. */
static int allowed_resets(const struct bmc *b, const json_t *action, json_t **ret, struct err **err)
{
	json_t *allowed = json_object_get(action, "ResetType@Redfish.AllowableValues");
	const char *info = json_string_value(json_object_get(action, "@Redfish.ActionInfo"));
	struct https_reply reply = {0};
	json_t *parameter;
	size_t i;
	int rc;

	*ret = NULL;
	if (json_is_array(allowed) || !info || *info != '/') {
		*ret = json_incref(allowed);
		return 0;
	}
	rc = get(b, info, &reply, err);
	json_array_foreach(json_object_get(reply.json, "Parameters"), i, parameter)
	{
		const char *name = json_string_value(json_object_get(parameter, "Name"));
		if (name && !strcmp(name, "ResetType") && !*ret)
			*ret = json_incref(json_object_get(parameter, "AllowableValues"));
	}
	https_reply_release(&reply);
	return rc;
}

static int not_allowed(const struct bmc *b, const char *wanted, const json_t *allowed, struct err **err)
{
	_cleanup_strlist_ struct strlist words = {0};
	_cleanup_buf_ struct buf list = {0};

	for (size_t i = 0; i < json_array_size(allowed) && i < NAMED_MAX; i++)
		strlist_add(&words, json_is_string(json_array_get(allowed, i)) ? json_string_value(json_array_get(allowed, i)) : "?");
	strlist_join(&words, ", ", &list);
	return err_set(err, EINVAL, "%s does not allow '%s', only: %s", b->who, wanted, list.len ? buf_str(&list) : "nothing");
}

/* What to ask for. Where it does not say what it takes, the usual word is tried. */
static const char *choose(const json_t *allowed, const char *first, const char *second)
{
	if (!json_is_array(allowed) || allows(allowed, first))
		return first;
	return second && allows(allowed, second) ? second : NULL;
}

static int power_to(const struct bmc *b, const json_t *system, bool on, struct err **err)
{
	const char *target = NULL, *state = power_state(system), *first = on ? "On" : "ForceOff", *second = on ? "ForceOn" : NULL;
	const json_t *action = json_object_get(json_object_get(system, "Actions"), "#ComputerSystem.Reset");
	json_t *allowed = NULL;
	struct https_reply reply = {0};
	int rc;

	/* asked a second time, after an answer that was lost, it would say that it cannot */
	if (!strcmp(state, on ? "On" : "Off") || (on && !strcmp(state, "PoweringOn")))
		return 0;
	rc = place(b, action, "target", &target, err);
	rc = rc < 0 ? rc : allowed_resets(b, action, &allowed, err);
	if (rc == 0) {
		const char *word = choose(allowed, first, second);
		json_t *body = json_pack("{s:s}", "ResetType", word ? word : first);
		rc = word ? https_ask(b->https, "POST", target, body, NULL, &reply, err) : not_allowed(b, first, allowed, err);
		json_decref(body);
	}
	json_decref(allowed);
	return rc;
}

/* ---- from what it boots next */

static int boot_from(const struct bmc *b, const struct https_reply *system, const char *path, bool network, struct err **err)
{
	const json_t *boot = json_object_get(system->json, "Boot"),
	             *targets = json_object_get(boot, "BootSourceOverrideTarget@Redfish.AllowableValues"),
	             *modes = json_object_get(boot, "BootSourceOverrideMode@Redfish.AllowableValues");
	const char *target = choose(targets, network ? "Pxe" : "Hdd", network ? NULL : "None"),
	           *etag = json_string_value(json_object_get(system->json, "@odata.etag"));
	struct https_reply reply = {0};

	if (!target)
		return not_allowed(b, "Pxe", targets, err);
	json_t *set = json_pack(
	        "{s:s, s:s}", "BootSourceOverrideTarget", target, "BootSourceOverrideEnabled", strcmp(target, "None") ? "Once" : "Disabled");
	/* images boot by BIOS; one that cannot choose is not asked to */
	if (allows(modes, "Legacy"))
		json_object_set_new(set, "BootSourceOverrideMode", json_string("Legacy"));
	json_t *body = json_pack("{s:o}", "Boot", set);
	int rc = https_ask(b->https, "PATCH", path, body, system->etag ? system->etag : etag, &reply, err);
	json_decref(body);
	return rc;
}

/* ---- */

static int answer(const struct bmc *b, const char *words, struct err **err)
{
	struct https_reply system = {0};
	_cleanup_free_ char *path = NULL;
	int rc = get_system(b, &system, &path, err);

	if (rc < 0)
		return rc;
	if (!strcmp(words, "power status"))
		rc = power_status(b, system.json, err);
	else if (!strcmp(words, "power on") || !strcmp(words, "power off"))
		rc = power_to(b, system.json, !strcmp(words, "power on"), err);
	else if (!strcmp(words, "bootdev pxe") || !strcmp(words, "bootdev disk"))
		rc = boot_from(b, &system, path, !strcmp(words, "bootdev pxe"), err);
	else
		rc = err_set(err, EINVAL, "'%s' is nothing that a BMC is asked for", words);
	https_reply_release(&system);
	return rc;
}

int redfish_main(int argc, char **argv)
{
	_cleanup_err_ struct err *err = NULL;
	struct bmc b = {0};
	int rc;

	if (argc != 3) {
		fputs("wanted: DIR and two words\n", stderr);
		return EXIT_NEVER;
	}
	_cleanup_free_ char *words = xasprintf("%s %s", argv[1], argv[2]);
	rc = bmc_open(&b, argv[0], &err);
	rc = rc < 0 ? rc : answer(&b, words, &err);
	if (rc < 0) {
		/* of what a BMC says, one line */
		_cleanup_free_ char *sentence = xstrdup(err_msg(err));
		str_make_line(sentence);
		fprintf(stderr, "%s\n", sentence);
	}
	bmc_release(&b);
	return rc == 0 ? 0 : rc == -EAGAIN ? EXIT_AGAIN : EXIT_NEVER;
}
