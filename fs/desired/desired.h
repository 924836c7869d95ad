/* Desired state: documents in a repo -> definitions that refer to one another, all checked.
 *
 *   tree_read_repo() ─┐
 *   tree_read_kept() ─┴─> struct tree (documents as bytes, hashes of role contents) ── desired_parse() ──> struct desired (immutable, counted)
 *
 * A `struct desired` is everything one reading of a tree gave: definitions, valid or not, and the list of mistakes. It is immutable and reference
 * counted as a whole: a deployment that stays in force keeps the reading it came from. Nothing here knows the engine, the store, providers or
 * runners; what those accept arrives as a schema. All functions but the watch may be called from any thread (worker threads do); they do file I/O. */
#ifndef REBARFS_DESIRED_H
#define REBARFS_DESIRED_H

#include "fs/base/err.h"
#include "fs/base/hash.h"
#include "fs/base/index.h"
#include "fs/base/keys.h"
#include "fs/base/str.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

/* ---- schema: what documents may say ---- */

struct schema_provider {
	const char *type;
	bool declared_only; /* nodes only by name, from nodes/NAME/node.ini */
	bool apply_manual;
	const struct key_row *keys, *node_keys;
	int (*check)(const struct settings *settings, int *ret_line, struct err **err); /* mistakes that the tables cannot see; may be NULL */
};
struct schema_runner {
	const char *name;
	const struct key_row *keys;
	int (*check)(const char *content_dir, const struct settings *settings, struct err **err);
	/* The role that puts its tool on a node; NULL: none. It has this document where the repo has none of that name. */
	const char *tool_role, *tool_document;
	const char *program_key, *source_key; /* of roles that need it: where the tool is on the node; where the role gets it. May be NULL */
};
struct desired_schema {
	const struct schema_provider *providers;
	size_t n_providers;
	const struct schema_runner *runners;
	size_t n_runners;
};
/* Keys of the documents themselves (fs/desired/keys.c), each ended by a row with section NULL. */
extern const struct key_row deployment_keys[], role_keys[], node_keys[], provider_keys[];

/* ---- definitions ---- */

struct def_source { /* the document behind a definition */
	char *path; /* relative to the repo: "roles/etcd/role.ini" */
	uid_t uid;
	gid_t gid;
	mode_t mode;      /* permission bits */
	struct hash hash; /* of its bytes */
	bool busy;        /* a writer has it open: not read now, what is in force stays */
	bool uncommitted; /* it is not what HEAD has there */
	int64_t since;    /* when whoever keeps it first saw these bytes, ms; 0 in a reading */
};
struct def_param {
	char *name, *dflt, *min, *max, *values, *help; /* NULL where not said */
	enum value_type type;
	bool secret;
	int line;
};
struct def_output {
	char *name, *help;
	bool secret;
	int64_t ttl_ms;
};
enum want_kind { WANT_NODES, WANT_NODE, WANT_FACT, WANT_OUTPUT };
struct def_want {
	enum want_kind kind;
	char *text;       /* as written, and the component's name: "nodes", "node", "facts.memory", "base.version" */
	char *role, *key; /* WANT_OUTPUT: both; WANT_FACT: key */
};
struct def_role {
	char *name;
	struct def_source src;
	bool valid;
	const char *problem; /* first mistake as "FILE:LINE: message", NULL when valid */
	char *runner;
	struct strlist requires, after, provides, conflicts;
	struct def_want *wants;
	size_t n_wants;
	bool once;
	int64_t serial; /* 0: no limit */
	int64_t timeout_ms, retries, backoff_ms;
	int64_t check_every_ms; /* 0: only when told */
	bool repair;
	struct def_param *params;
	size_t n_params;
	struct index *by_param; /* name -> of params */
	struct def_output *outputs;
	size_t n_outputs;
	struct settings settings; /* all of role.ini */
	struct hash content;      /* of the role's directory without role.ini; zero with runner none */
	struct hash runner_keys;  /* of the keys of role.ini that reach a run: the runner's name and its own keys */
};
struct def_provider {
	char *name;
	struct def_source src;
	bool valid;
	const char *problem;
	char *type, *image; /* image NULL: the type's default */
	int64_t max_parallel, timeout_ms;
	bool apply_manual;
	struct settings settings; /* all of provider.ini */
	struct settings files;    /* of keys that name a file: the digest of what lay there, where something did */
};
struct def_node {
	char *name;
	struct def_source src;
	bool valid;
	const char *problem;
	char *provider; /* its [node] provider; NULL: not said */
	struct strlist labels;
	struct settings settings; /* all of node.ini */
	struct hash identity;     /* of provider, address, mac, image...: a different one is a rebuild */
};
struct def_group {
	char *name;
	const struct def_provider *provider;
	int64_t count;                 /* -1: by name */
	struct strlist nodes;          /* by name: expanded; empty with count */
	char *image;                   /* NULL: the provider's */
	double cpus;                   /* 0: no limit */
	int64_t memory_bytes;          /* 0: no limit */
	int64_t max_down;              /* 0: not said */
	const struct def_role **roles; /* all that run on its nodes: the deployment's and the group's, with what they require, in dependency order */
	size_t n_roles;
};
struct def_value { /* a parameter set in a deployment (own or inherited), or in a node.ini */
	char *role, *param, *value;
	char *group;  /* NULL: the whole deployment */
	char *origin; /* "deployments/etcd/deployment.ini:12" */
};
struct def_deployment {
	char *name;
	struct def_source src;
	bool valid;                        /* it and all it refers to */
	bool busy;                         /* it or something it refers to has a writer: keep what is in force, say nothing */
	const char *problem;               /* first mistake in it or in what it refers to, as "FILE:LINE: message" */
	const struct def_deployment *like; /* NULL: none */
	const char *gate;                  /* name of the deployment whose success lets roles and what is inherited through; NULL: none */
	bool commit_required;              /* only what is committed may come into force */
	const char *uncommitted;           /* the first file of all that it refers to that is not what HEAD has; NULL: all is */
	bool apply_manual;                 /* effective */
	int64_t max_destroy;               /* 0: no limit */
	uid_t store_uid;                   /* [deployment] owner, else (uid_t)-1 */
	gid_t store_gid;                   /* [deployment] group, else (gid_t)-1 */
	struct def_group *groups;
	size_t n_groups;
	const struct def_role **roles; /* every role used, in dependency order */
	size_t n_roles;
	struct def_value *values;
	size_t n_values;
	struct index *by_group, *by_value; /* name -> of groups; what is set -> of values */
	struct settings own;               /* as written in this document */
	struct settings effective;         /* with what `like` inherits */
	struct hash closure;               /* of all documents and role contents it refers to: same hash, nothing to do */
};

struct problem {
	char *file; /* relative to the repo */
	int line;   /* 0: the file as a whole */
	int column; /* in bytes, from 1; 0 with line 0 */
	int code;   /* EINVAL, ERANGE, ENOENT, EACCES, ELOOP (a cycle)... */
	char *text;
};

struct desired {
	/* Sorted by name. */
	struct def_provider **providers;
	size_t n_providers;
	struct def_role **roles;
	size_t n_roles;
	struct def_node **nodes;
	size_t n_nodes;
	struct def_deployment **deployments;
	size_t n_deployments;
	struct problem *problems;
	size_t n_problems; /* by file, line */
	/* With tree_options.committed: */
	char *commit;           /* HEAD's, all digits; NULL: without git or commit, or incomparable */
	char *incomparable;     /* why nobody knows what is committed: a sentence; NULL: all was compared */
	bool git_failed;        /* it is git that could not be asked */
	struct strlist removed; /* documents that are committed and do not lie there */
};
struct desired *desired_ref(struct desired *d); /* any thread */
void desired_unref(struct desired *d);          /* takes NULL */

const struct def_provider *desired_provider(const struct desired *d, const char *name); /* NULL: none; valid or not */
const struct def_role *desired_role(const struct desired *d, const char *name);
const struct def_node *desired_node(const struct desired *d, const char *name);
const struct def_deployment *desired_deployment(const struct desired *d, const char *name);
const struct def_source *desired_source(const struct desired *d, const char *path); /* of the document at path; NULL: there is none */
bool def_refers_to(const struct def_deployment *dep, const char *path);             /* to the document at path, or it is its own */
const struct def_group *def_group_find(const struct def_deployment *d, const char *name);
const struct def_param *def_param_find(const struct def_role *r, const char *name);

/* The effective value of a parameter, precedence low to high: role default, deployment, group, node.ini of a declared node (node may be NULL).
 * NULL when nothing sets it. *ret_origin (may be NULL): "roles/etcd/role.ini:7 (default)", "deployments/etcd/deployment.ini:12". Text as written;
 * owned by d and its deployment. */
const char *desired_param(const struct desired *d, const struct def_deployment *dep, const struct def_role *role, const char *group, const char *node,
        const struct def_param *param, const char **ret_origin);

/* ---- content store: STATE/content; role contents and documents under their hash, written once, never changed ---- */

struct content_store;
int content_open(const char *dir, struct content_store **ret, struct err **err);
/* What is in base, for reading only; what is added goes to scratch, an empty directory of the caller's. */
void content_open_over(const char *base, const char *scratch, struct content_store **ret);
void content_close(struct content_store *c);
char *content_path(const struct content_store *c, const struct hash *h); /* caller frees; of a directory (role) or file (document), there or not */

/* ---- trees ---- */

#define DOCUMENT_MAX (1 << 20)      /* bytes; far over any real one: what is larger is an accident */
bool is_document(const char *path); /* relative to the repo: "roles/etcd/role.ini" is one, "roles/etcd/apply" is not */

struct tree;
struct tree_options {
	const char *overlay_path; /* read this document as if it had these bytes: to check an edit before it is made; NULL: none */
	const char *overlay_text;
	size_t overlay_len;
	const char *const *busy;     /* documents that have a writer, NULL-terminated; may be NULL */
	struct committed *committed; /* compare with HEAD; NULL: nothing is said about it */
};
/* Reads all documents and hashes all role contents. Remembers (inode, size, times) -> hash of files between calls in cache, which the caller keeps
 * (one thread at a time), and takes for busy what somebody is writing at the moment; NULL reads everything as it lies there. A document that cannot
 * be read is a problem of desired_parse, not an error here; only a repo that is not there at all is one. */
struct hash_cache;
struct hash_cache *hash_cache_new(void);
void hash_cache_free(struct hash_cache *c);
/* What HEAD's tree has, kept between readings by whoever reads (one thread at a time): git is asked once for each commit, as the repo's owner. */
struct committed;
struct committed *committed_new(void);
void committed_free(struct committed *c);
int tree_read_repo(const char *repo, const struct tree_options *opt, struct hash_cache *cache, struct tree **ret, struct err **err);
/* The tree that was kept for one deployment. -ENOENT: part of it is missing in the store. */
int tree_read_kept(const struct content_store *c, const char *manifest, struct tree **ret, struct err **err);
void tree_free(struct tree *t);
/* Something in it is busy for a reason whose end nobody will tell of: read again after a while. */
bool tree_is_passing(const struct tree *t);
/* Checks everything against everything. Takes nothing, adds to t the roles that put tools on nodes; *ret has one reference. Fails only on ENOMEM-like
 * trouble: mistakes are in problems. */
int desired_parse(struct tree *t, const struct desired_schema *schema, struct desired **ret, struct err **err);
/* Copies the documents and role contents of a valid deployment into the store and returns the manifest (JSON text: deployment, commit, path -> hash)
 * by which tree_read_kept finds them. -EAGAIN: something changed since the tree was read; read again. */
int desired_keep(const struct tree *t, const char *repo, const struct desired *d, const struct def_deployment *dep, struct content_store *c,
        char **ret_manifest, struct err **err);
/* What differs between two manifests: "deployments/d/deployment.ini 5f1c02aa, roles/app 77aa11bb, nodes/n1/node.ini gone". A document or content
 * stands there with the first digits of its hash (of a document: its SHA-256). before NULL: all of it. A long list is cut, and says so. */
void manifest_changes(const char *before, const char *now, struct buf *out);

/* The manifest of a gated deployment: own (of what lies in the repo) with roles and inherited documents as in passed. -EINVAL: damaged. */
int desired_gate(const char *own, const char *passed, char **ret_manifest, struct err **err);

/* ---- what documents could say (settable.c) ---- */

/* A document as its reading in force knows it. One of the first four is not NULL. */
struct settable {
	const struct desired_schema *schema;
	const struct def_deployment *deployment;
	const struct def_provider *provider;
	const struct def_role *role;
	const struct def_node *node;
	const struct desired *owner;     /* the reading of the deployment, or of the one that the node is in; else NULL */
	const struct def_deployment *in; /* of a node: where it is, and in which group; NULL: in none */
	const struct def_group *group;
};
typedef void settable_fn(void *arg, const char *name); /* name is good during the call */
/* Every section, and every key of one, that the document has, inherits or could have: each once. */
void settable_sections(const struct settable *s, settable_fn *each, void *arg);
void settable_keys(const struct settable *s, const char *section, settable_fn *each, void *arg);
bool settable_is_set(const struct settable *s, const char *section, const char *key); /* in this very document, not inherited */
/* What is set, else inherited, else what holds by default; appends nothing when there is no such thing. */
void settable_value(const struct settable *s, const char *section, const char *key, struct buf *out);
/* The row that rules a key; NULL: a parameter, or none. */
const struct key_row *settable_row(const struct settable *s, const char *section, const char *key);

/* ---- editing, node sets ---- */

/* The document with KEY in [SECTION] set to value (NULL: unset). Comments, order, blank lines, indentation and everything else stay byte for byte. A
 * missing section is added at the end. -EINVAL: the document or value cannot take it (newline, too long for the reader). */
int document_set(const char *text, size_t len, const char *section, const char *key, const char *value, struct buf *out, struct err **err);
/* "r1-[01-03,7]" -> r1-01 r1-02 r1-03 r1-7, appended. Ranges keep leading zeros; at most 100,000 names. */
int node_set_expand(const char *text, struct strlist *out, struct err **err);
/* Sorted names folded into sets: "etcd-db-[1-3]" */
void node_set_fold(const struct strlist *names, struct buf *out);

/* ---- watching ---- */

/* Calls changed() on the loop whenever something under the repo (but .git's inside) or .git's HEAD, refs of HEAD or merge state changed,
 * not more than once per loop turn; on overflow too. inotify on a descriptor of its own. New directories are watched as they appear. Symlinked role
 * directories too. */
struct watch;
int watch_open(uv_loop_t *loop, const char *repo, void (*changed)(void *arg), void *arg, struct watch **ret, struct err **err);
void watch_close(struct watch *w);
/* Reads what is pending now: true if there was something (changed() is not called for it). */
bool watch_drain(struct watch *w);
/* When names will have been still for long enough (monotonic ms; 0: none ever moved): one that came or went may be the middle of a replacement. 300 ms
 * after the last of them; a second after a document or directory went that has not come back. As of the last drain; the loop's thread. */
int64_t watch_rests_at(struct watch *w);
/* Whether anything changed since a mark that was taken right after a drain. Any thread. */
unsigned watch_mark(const struct watch *w);
bool watch_changed_since(const struct watch *w, unsigned mark);
/* What git is doing in the repo: settled documents are not to be taken over in the middle of it. */
enum git_state { GIT_QUIET, GIT_LOCKED /* index.lock */, GIT_MERGING /* merge, rebase, cherry-pick, revert or unmerged paths */ };
enum git_state git_state(const char *repo, const char **ret_what); /* ret_what: "a rebase"; static */

#endif
