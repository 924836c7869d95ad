/* The live tree as data: one table per kind of directory, a row per name. The tables serve the mount, print its README, and drive a test over every
 * row. A new file is one function and one row. */
#ifndef REBARFS_VIEW_ENTRIES_H
#define REBARFS_VIEW_ENTRIES_H

#include "fs/engine/engine.h"
#include "fs/view/place.h"
#include <sys/stat.h>

/* An object of the model, found again for one place. Good only while the model's lock is held. */
struct object {
	enum place_kind kind;
	const struct model *m;
	struct names *names;
	const char *state_dir;
	struct provider_object *provider;
	struct role_object *role;
	struct deployment *deployment;
	struct node *node; /* of a node, its node roles and their runs */
	struct node_role *node_role;
	const struct run_summary *run;
	const char *first, *second;    /* the place's interned name: SECTION and KEY, or an output's key; NULL */
	const struct refusal *refused; /* the view's own last refusal here, if newer than the engine's; NULL */
};
/* false: it is gone. */
bool object_find(const struct model *m, struct names *names, const char *state_dir, const struct place *p, struct object *ret);

/* Receives the names in a directory. */
struct lister {
	void (*add)(struct lister *l, const char *name, const struct place *p);
};

enum entry_flags {
	ENTRY_STREAM = 1, /* blocks; size 0 */
	ENTRY_LOG = 2,    /* a growing file, the one whose path render gives; without it the log of the object's last run */
	ENTRY_COSTLY = 4, /* rendered by a worker, once per generation, shared by all readers */
	ENTRY_SETTLE = 8, /* who opens it sees his own change */
	ENTRY_REPO = 16,  /* the repo itself */
	ENTRY_KEPT = 32,  /* a JSON document of a run's directory in the state directory, by this name */
	ENTRY_TOLD = 64,  /* a word of the model alone: the kernel may keep what it was told of it, and is told when that changes */
};

struct entry {
	const char *name;
	mode_t mode; /* S_IFREG with the most that is allowed, or S_IFDIR */
	unsigned flags;
	void (*render)(const struct object *o, struct buf *out);
	/* Its time, ms since the epoch. NULL: the engine's last change. Editors warn when the time of what they edit moves. */
	int64_t (*time)(const struct object *o);
	/* Says what a write into it asks of the engine: fills section and key. NULL: not writable. */
	void (*store)(const struct object *o, struct write_request *w);
	/* Directories: all names, and one of them. o->first tells which directory, where a row has several levels. */
	void (*list)(const struct object *o, const struct place *dir, struct lister *l);
	bool (*find)(const struct object *o, const struct place *dir, const char *name, struct place *ret);
	const struct entry *file; /* what a directory's files are, when they are not objects */
	const char *help;
};

extern const struct entry root_entries[], provider_entries[], role_entries[], deployment_entries[], node_entries[], node_role_entries[],
        run_entries[];
/* The table of a kind; rows end with name NULL. */
const struct entry *entries_of(enum place_kind kind);
const char *place_kind_name(enum place_kind kind);
/* The row behind a place. NULL: a directory or link that is no row of its own (an object's directory, a section), or no such row. */
const struct entry *place_entry(struct names *names, const struct place *p);
/* Type and most permissions of what stands there. */
mode_t place_mode(struct names *names, const struct place *p);
/* One name in a directory. */
bool place_child(const struct object *o, const struct place *dir, const char *name, struct place *ret);
void place_list(const struct object *o, const struct place *dir, struct lister *l);
/* Where a link points. */
void place_link(const struct object *o, struct buf *out);
/* Owner and permissions in the mount, from the document behind the object. */
struct owner {
	uid_t uid;
	gid_t gid;
	mode_t mode;
};
void place_owner(const struct object *o, const struct entry *e, mode_t mode, const struct owner *repo, struct owner *ret);
/* The document behind it, relative to the repo; NULL: none. Good while the lock is held. */
const char *object_document(const struct object *o);
/* The run whose log stands behind an ENTRY_LOG: the last of a node role or node. 0: none ran yet. */
int64_t object_run(const struct object *o);

/* ---- what several tables share ---- */

void render_refused(const struct object *o, struct buf *out);
void render_verbs(const struct object *o, struct buf *out);
void store_verb(const struct object *o, struct write_request *w);
void store_power(const struct object *o, struct write_request *w);  /* the verb power */
void store_target(const struct object *o, struct write_request *w); /* kind and id */
#define ENTRY_REFUSED                                                                                                                                \
	{                                                                                                                                            \
		.name = "refused", .mode = S_IFREG | 0444, .render = render_refused,                                                                 \
		.help = "the last refused write in this directory: when, who, what, why; empty when none was"                                        \
	}
#define ENTRY_CTL(help_text)                                                                                                                         \
	{                                                                                                                                            \
		.name = "ctl", .mode = S_IFREG | 0664, .render = render_verbs, .store = store_verb, .help = help_text                                \
	}

/* desired/SECTION/KEY (settings.c) */
extern const struct entry setting_file;
void settings_list(const struct object *o, const struct place *dir, struct lister *l);
bool settings_find(const struct object *o, const struct place *dir, const char *name, struct place *ret);
#define ENTRY_DESIRED(help_text)                                                                                                                     \
	{                                                                                                                                            \
		.name = "desired", .mode = S_IFDIR | 0755, .list = settings_list, .find = settings_find, .file = &setting_file, .help = help_text    \
	}

/* Adds a newline unless there is nothing or one already. */
void end_line(struct buf *out);
void add_line(struct buf *out, const char *text);                                   /* NULL, "": nothing */
bool make_place(enum place_kind kind, unsigned row, int64_t id, struct place *ret); /* false: the id does not fit */

/* Reports over many objects (report.c). */
void report_status(const struct model *m, const struct deployment *d, struct buf *out);
json_t *report_status_json(const struct model *m, const struct deployment *d);
void report_root_status(const struct model *m, struct buf *out);
json_t *report_root_json(const struct model *m);
void report_metrics(const struct model *m, struct buf *out);
void report_matrix(const struct deployment *d, struct buf *out);
void report_add_json(json_t *take, struct buf *out); /* indented, newline; takes the reference */
void report_event(const struct event *e, struct buf *out);
void report_progress(const struct event *e, struct buf *out); /* as `wait` prints it */
/* For tools that log in (access.c). */
void access_ssh_config(const struct object *o, const struct node *n, struct buf *out);
void access_inventory(const struct object *o, const struct deployment *d, struct buf *out);
void access_hosts(const struct deployment *d, struct buf *out);
/* The tree's own manual (manual.c). */
void manual_text(const struct object *o, struct buf *out);

#endif
