/* What the files of fs/desired share with one another and with nobody else. */
#ifndef REBARFS_DESIRED_INTERNAL_H
#define REBARFS_DESIRED_INTERNAL_H

#include "fs/desired/desired.h"
#include "fs/desired/ini.h"
#include <stdatomic.h>

/* ---- trees (tree.c, kept.c) ---- */

enum doc_kind { DOC_PROVIDER, DOC_ROLE, DOC_NODE, DOC_DEPLOYMENT, DOC_KINDS };
struct doc_place { /* "roles" "role.ini": where documents of a kind lie */
	const char *dir, *file;
};
extern const struct doc_place doc_places[DOC_KINDS];

struct tree_doc {
	enum doc_kind kind;
	char *name, *path; /* "etcd", "roles/etcd/role.ini" */
	char *text;        /* NULL: busy, or it could not be read */
	size_t len;
	uid_t uid;
	gid_t gid;
	mode_t mode;
	struct hash hash;
	bool busy;
	bool uncommitted; /* it is not what HEAD has there */
	int code;         /* errno of what is wrong with the file, 0: nothing */
	char *trouble;    /* ... as a sentence */
};
struct tree_content {
	char *role, *dir; /* dir: absolute */
	struct hash hash;
	char *uncommitted; /* the first file of it that is not what HEAD has, relative to the repo; NULL: all of it is */
	int code;
	char *trouble, *trouble_path; /* path relative to the repo */
};
struct tree_trouble { /* a directory that cannot be read */
	char *path, *text;
	int code;
};
struct tree {
	bool passing;
	bool kept;              /* from the store: holds one deployment's closure and nothing else */
	char *repo;             /* where it was read; NULL when kept */
	char *commit;           /* HEAD's */
	char *incomparable;     /* why nobody knows what is committed; NULL: all was compared, or nobody asked */
	bool git_failed;        /* as in struct desired */
	struct strlist removed; /* documents that are committed and do not lie there */
	struct tree_doc *docs;  /* sorted by kind, name */
	size_t n_docs, cap_docs;
	struct tree_content *contents; /* sorted by role */
	size_t n_contents, cap_contents;
	struct tree_trouble *troubles;
	size_t n_troubles, cap_troubles;
};
void tree_sort(struct tree *t);
const struct tree_doc *tree_doc_find(const struct tree *t, enum doc_kind kind, const char *name);
const struct tree_content *tree_content_find(const struct tree *t, const char *role);
/* "roles/etcd/role.ini" -> DOC_ROLE "etcd"; false: no document. */
bool doc_path_parse(const char *path, enum doc_kind *ret_kind, char **ret_name);
const char *file_kind(mode_t mode); /* "directory", "pipe"... */
/* Begins with . or #, or ends in ~: editors' leftovers, stored and ignored. */
bool name_ignored(const char *name);

/* ---- role contents (scan.c) ---- */

struct content_entry {
	char *path;       /* relative to the role's directory */
	char kind;        /* 'f', 'x' (a file with the x bit) or 'l' */
	char *target;     /* 'l' */
	struct hash hash; /* of the bytes or the target */
};
struct content_list {
	struct content_entry *entries; /* sorted by path */
	size_t n, cap;
};
/* Lists and hashes what counts as content under dir. -EBUSY, with a cache only: somebody is writing it. *ret_path (relative to dir, caller frees) is
 * what the error is about. */
int content_scan(const char *dir, struct hash_cache *cache, struct content_list *ret, char **ret_path, struct err **err);
void content_list_hash(const struct content_list *l, struct hash *ret);
void content_list_release(struct content_list *l);
/* Ends a pass over the tree: what was not looked up since the last call is forgotten. */
void hash_cache_sweep(struct hash_cache *cache);

/* ---- store (content.c) ---- */

int content_add_document(struct content_store *c, const struct hash *h, const void *data, size_t len, struct err **err);
/* -EAGAIN: what lies in dir does not have this hash (any more). */
int content_add_directory(struct content_store *c, const struct hash *h, const char *dir, struct err **err);

/* ---- git (git.c) ---- */

char *git_head(const char *repo); /* 40 or 64 hex digits, NULL without git or commit; caller frees */
/* The git directory of the work tree that repo is (in), and the one that holds refs; NULL without git; caller frees both. */
char *git_dir(const char *repo, char **ret_common);
/* git is at work in the work tree that begins at dir: a submodule, or a repo within the repo. */
bool git_works_in(const char *dir);
char *git_head_ref(const char *gitdir); /* "refs/heads/main"; NULL: detached or none */

/* ---- what is committed (committed.c) ---- */

/* What is asked below is asked of this commit (NULL: none), for which git may have to be run. */
void committed_look(struct committed *c, const char *repo, const char *commit);
const char *committed_trouble(const struct committed *c); /* why that failed; NULL: it did not */
bool committed_document(const struct committed *c, const char *repo, const char *path, const void *text, size_t len);
/* The path, relative to the repo, of the first file of a role that is not as it is committed, or missing; NULL: all are. Caller frees. */
char *committed_content(struct committed *c, const char *repo, const char *role, const struct content_list *l);
void committed_documents(const struct committed *c, void (*each)(void *arg, const char *path), void *arg);
void committed_sweep(struct committed *c); /* ends a pass over the tree */

/* ---- parsing ---- */

struct parse;
struct doc { /* a document being understood */
	const struct tree_doc *td;
	struct ini_doc ini;
	void *def;      /* struct def_role... by td->kind */
	bool malformed; /* mistakes in its form: whoever builds on it is wrong too */
	bool wrong;     /* any mistake */
	char *first;    /* the first mistake, "FILE:LINE: message" */
	int first_line;
	bool first_own; /* it is in this very document */
};
struct all { /* what a struct desired really is */
	struct desired d;
	atomic_int refs;
	struct all_node *nodes; /* parallel to d.nodes */
	struct all_role *roles; /* parallel to d.roles */
	struct strlist texts;   /* what the `problem` pointers point to */
};
struct all_node {
	struct def_value *values; /* [params ROLE] of node.ini */
	size_t n_values, cap_values;
	struct index *by_value;
};
struct all_role {
	char **origins; /* parallel to params: "roles/etcd/role.ini:7 (default)" */
	int runner_line, requires_line, after_line, wants_line, conflicts_line;
};
struct parse {
	const struct tree *t;
	const struct desired_schema *schema;
	struct all *all;
	struct doc *docs;                      /* parallel to t->docs */
	size_t first[DOC_KINDS], n[DOC_KINDS]; /* of a kind: docs[first .. first + n) */
	bool form;                             /* documents are being read one by one: mistakes are of form */
	size_t cap_problems;
	struct told *told; /* mistakes that several may find */
	size_t guessed;
};
/* Records a mistake at a line of doc. It makes owner wrong, which is doc itself or a deployment that builds on it. */
void mistake(struct parse *p, struct doc *owner, const struct doc *doc, int line, int code, const char *fmt, ...)
        __attribute__((format(printf, 6, 7)));
/* The same about any file. */
void mistake_at(struct parse *p, struct doc *owner, const char *path, int line, int code, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
/* " (did you mean 'x'?)" or "" from names; the result is good until the next call with the same buffer. */
const char *did_you_mean(struct parse *p, char buf[160], const char *word, const char *const *names, size_t n);

struct doc *parse_doc(const struct parse *p, enum doc_kind kind, const char *name); /* NULL: none */
/* did_you_mean over the names of all documents of a kind. */
const char *suggest_doc(struct parse *p, enum doc_kind kind, const char *word, char buf[160]);
const struct setting *doc_setting(const struct doc *d, const char *section, const char *key);
int doc_line(const struct doc *d, const char *section, const char *key); /* 0: not set */
int heading_line(const struct doc *d, const char *section);              /* 0: not there */
/* "params etcd @db" -> words; at most max. The strings are the list's. */
void section_words(const char *section, struct strlist *ret);

/* "nodes *" takes "nodes db": as many words, and * any one. */
bool section_matches(const char *pattern, const char *section);
/* Sections and keys against tables (NULL-terminated list), values against rows. [params ...] is the caller's. */
void check_form(struct parse *p, struct doc *doc, const struct key_row *const *tables);
/* The names of a list, as many as may be: more were a mistake. */
void list_names(const char *text, struct strlist *ret);
bool is_params(const char *section); /* [params] or [params ...] */
/* A value's error as what is said of a subject: " must be yes or no", ": 'x' is too large". Good until the next call of the thread. */
const char *predicate(const struct err *err);
const struct schema_provider *schema_provider_find(const struct desired_schema *s, const char *type);
const struct schema_runner *schema_runner_find(const struct desired_schema *s, const char *name);
/* One value against a declared parameter. secret:NAME stands for anything. */
int param_check(const struct def_param *param, const char *text, struct err **err);
const char *suggest_param(struct parse *p, const struct def_role *r, const char *word, char buf[160]);

/* ---- columns (column.c) ---- */

/* Where in a line (from 1) it has what the sentence quotes; else where its text begins. */
size_t column_find(const char *line, size_t len, const char *sentence);
void columns_fill(struct problem *problems, size_t n, const struct tree *t); /* sorted by file and line; those that have none yet */

void define_provider(struct parse *p, struct doc *doc);
void define_role(struct parse *p, struct doc *doc, struct all_role *priv);
void define_node(struct parse *p, struct doc *doc);
void define_deployment(struct parse *p, struct doc *doc);
/* After all documents were read one by one. */
void roles_link(struct parse *p);       /* references, cycles, the runner's own check */
void nodes_link(struct parse *p);       /* providers, parameters */
void deployments_link(struct parse *p); /* like, groups, roles, parameters; then nodes named twice */

/* ---- what puts tools on nodes (tools.c) ---- */

/* Adds the documents of those roles that some role's runner needs and that the repo does not have itself. */
void tree_add_tools(struct tree *t, const struct desired_schema *schema);
void roles_need_tools(struct parse *p); /* before roles are linked: who needs one requires it */

/* ---- closures (closure.c) ---- */

struct closure {
	const struct tree_doc **docs;
	size_t n, cap;
};
/* The documents of: the deployment, its like chain, its roles, providers and declared nodes. */
void closure_make(const struct tree *t, const struct def_deployment *dep, struct closure *ret);
void closure_release(struct closure *c);
/* The first file of it that is not as it is committed; NULL: all are, or nobody knows. Owned by t. */
const char *closure_uncommitted(const struct tree *t, const struct def_deployment *dep);
void closure_hash(const struct tree *t, const struct def_deployment *dep, struct hash *ret);

/* values[at] sets this parameter (group NULL: everywhere). */
void value_put(struct index **ix, const struct def_value *v, size_t at);

/* Roles needed before r: requires, after, and the makers of outputs it wants. Names, each once. */
void role_needs(const struct def_role *r, struct strlist *ret);
/* Completes roles with what they require and sorts the result: dependencies first, else the order given. *ret: caller frees. */
size_t roles_order(const struct parse *p, const struct def_role *const *roles, size_t n, const struct def_role ***ret);

#endif
