/* Key tables: which INI keys exist, their types, bounds, defaults and help. They validate documents, fill the mount's desired/ directories
 * and print the reference. Documents' own tables stand in fs/desired/keys.c; each provider and runner brings its own. */
#ifndef REBARFS_BASE_KEYS_H
#define REBARFS_BASE_KEYS_H

#include "fs/base/err.h"
#include "fs/base/str.h"
#include <stdbool.h>
#include <stdint.h>

enum value_type { VALUE_STRING, VALUE_INT, VALUE_BOOL, VALUE_ENUM, VALUE_LIST, VALUE_SIZE, VALUE_DURATION, VALUE_FLOAT, VALUE_JSON };
const char *value_type_name(enum value_type t);               /* "int" */
int value_type_parse(const char *name, enum value_type *ret); /* -EINVAL */

struct key_row {
	const char *section; /* "provider"; "nodes *" and "image *": the second word is any name. NULL ends a table */
	const char *key;     /* "count"; "*": any key */
	enum value_type type;
	const char *dflt;              /* as text; NULL: none */
	int64_t min, max;              /* VALUE_INT (numbers), VALUE_SIZE (bytes), VALUE_DURATION (ms); both 0: unbounded */
	const char *values;            /* VALUE_ENUM: comma-separated */
	const char *help;              /* one line, lower case */
	bool fixed;                    /* of a provider: machines that exist were made with it, it cannot change under them */
	bool secret;                   /* of a node: where it says secret:NAME, the provider gets what that stands for */
	const char *plan, *plan_unset; /* of a node: what the plan says before its value ("writes disk"), and without one; NULL: nothing */
	bool file;                     /* names a file, relative to the document's directory: what lies there counts, and not only its name */
};

/* Checks text against a type. Bounds: NULL or "" for none, as text in the syntax of the type. -EINVAL for a wrong form, -ERANGE outside
 * the bounds; the sentence tells what would be right. */
int value_check(enum value_type type, const char *text, const char *min, const char *max, const char *values, struct err **err);
int key_check(const struct key_row *row, const char *text, struct err **err);
/* The row for a section ("nodes db") and key in a table; NULL if none. *ret_section_known tells whether any row has that section. */
const struct key_row *key_find(const struct key_row *table, const char *section, const char *key, bool *ret_section_known);

/* A document's settings in document order: what a plug-in gets of its sections. */
struct setting {
	char *section, *key, *value;
	int line; /* 1-based, where the key stands; 0: not from a document */
};
struct settings {
	struct setting *items;
	size_t n, cap;
};
void settings_add(struct settings *s, const char *section, const char *key, const char *value, int line);
void settings_release(struct settings *s);
void settings_wipe(struct settings *s);                               /* releases, and overwrites the values */
void settings_copy(struct settings *to, const struct settings *from); /* appends deep copies */
/* The value set, NULL if it is not. The last one wins. */
const char *settings_get(const struct settings *s, const char *section, const char *key);
/* The value set, else the table's default; values were checked when the document was read, so these cannot fail (0, false, NULL when neither is
 * there). */
const char *settings_str(const struct settings *s, const struct key_row *table, const char *section, const char *key);
int64_t settings_int(
        const struct settings *s, const struct key_row *table, const char *section, const char *key); /* int, size in bytes, duration in ms */
bool settings_bool(const struct settings *s, const struct key_row *table, const char *section, const char *key);
double settings_float(const struct settings *s, const struct key_row *table, const char *section, const char *key);

#endif
