/* One document's text -> settings and section headings, with inih doing the reading and this file refusing what inih would cut or guess. */
#ifndef REBARFS_DESIRED_INI_H
#define REBARFS_DESIRED_INI_H

#include "fs/base/buf.h"
#include "fs/base/index.h"
#include "fs/base/keys.h"
#include <stddef.h>

/* inih's own limits (INI_MAX_LINE, MAX_SECTION, MAX_NAME in Debian's build): what is longer it cuts without a word. */
#define INI_LINE_MAX 199
#define INI_NAME_MAX 49

struct ini_heading {
	char *name; /* words joined by one blank: "nodes db" */
	int line;
};
struct ini_doc {
	struct settings settings; /* in document order */
	struct ini_heading *headings;
	size_t n_headings, cap_headings;
	struct index *by_key, *by_heading; /* section and key -> of settings; name -> of headings, the first of that name */
};
/* One call for each mistake, in order of lines. Columns count bytes, from 1. */
typedef void ini_mistake_fn(void *arg, int line, int column, const char *text);

/* Appends to an empty doc; what has a mistake is left out. */
void ini_read(const char *text, size_t len, struct ini_doc *doc, ini_mistake_fn *mistake, void *arg);
void ini_doc_release(struct ini_doc *doc);

enum ini_line_kind { INI_BLANK, INI_COMMENT, INI_SECTION, INI_KEY, INI_MORE /* continues the value above */, INI_BAD };
/* Where the parts of a line stand: offsets into it, [from, to). */
struct ini_line {
	enum ini_line_kind kind;
	size_t name_from, name_to;   /* the section's or key's name */
	size_t value_from, value_to; /* INI_KEY and INI_MORE: without blanks around and comment behind */
	char why[160];               /* INI_BAD: a sentence */
	size_t why_at;               /* INI_BAD: what it is about */
};
/* text: a line without its newline (a CR before it counts as a blank). in_key: a key stands above it in the same section. */
void ini_line_parse(const char *text, size_t len, bool in_key, struct ini_line *ret);
/* "nodes  db " -> "nodes db" */
char *ini_section_name(const char *text, size_t len);
/* One line of a text at *pos without its newline; false at the end. *pos moves behind the newline. */
bool ini_next_line(const char *text, size_t len, size_t *pos, const char **ret_line, size_t *ret_len);

#endif
