/* Where in its line a mistake is. Definitions remember the lines they came from and no more; but every sentence quotes what it is about, and that is
 * looked for when the sentence is there. */
#include "fs/base/mem.h"
#include "fs/desired/internal.h"
#include <string.h>

static bool in_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}

/* Offset of a whole word of the line, len where it does not occur. */
static size_t find_word(const char *line, size_t len, const char *word, size_t word_len)
{
	for (size_t i = 0; word_len && i + word_len <= len; i++)
		if (!memcmp(line + i, word, word_len) && !(i && in_word(line[i - 1]) && in_word(*word)) &&
		        !(i + word_len < len && in_word(line[i + word_len]) && in_word(word[word_len - 1])))
			return i;
	return len;
}

/* The last thing that sentence[0, end) quotes: its length, 0 if there is none. An apostrophe within a word quotes nothing. */
static size_t last_quoted(const char *sentence, size_t end, const char **ret)
{
	for (size_t close = end; close-- > 0;) {
		if (sentence[close] != '\'' || (close + 1 < end && in_word(sentence[close + 1])))
			continue;
		for (size_t open = close; open-- > 0;)
			if (sentence[open] == '\'' && (!open || strchr(" ([", sentence[open - 1]))) {
				*ret = sentence + open + 1;
				return close - open - 1;
			}
	}
	return 0;
}

size_t column_find(const char *line, size_t len, const char *sentence)
{
	const char *hint = strstr(sentence, " (did you mean"), *word; /* what is proposed may stand in the line too, and be right there */
	size_t end = hint ? (size_t)(hint - sentence) : strlen(sentence), n;
	for (; (n = last_quoted(sentence, end, &word)); end = (size_t)(word - 1 - sentence)) {
		size_t at = find_word(line, len, word, n);
		if (at < len)
			return at + 1;
	}
	for (n = 0; n < len && strchr(" \t\r", line[n]);)
		n++;
	return n < len ? n + 1 : 1;
}

static const struct tree_doc *document_of(const struct tree *t, const char *path)
{
	enum doc_kind kind;
	char *name;
	if (!doc_path_parse(path, &kind, &name))
		return NULL;
	const struct tree_doc *d = tree_doc_find(t, kind, name);
	free(name);
	return d;
}

void columns_fill(struct problem *problems, size_t n, const struct tree *t)
{
	const struct tree_doc *doc = NULL;
	const char *line = NULL;
	size_t pos = 0, len = 0;
	int number = 0;
	for (size_t i = 0; i < n; i++) {
		struct problem *p = &problems[i];
		if (!i || strcmp(p->file, p[-1].file)) {
			doc = document_of(t, p->file);
			pos = len = 0;
			number = 0;
		}
		while (doc && doc->text && number < p->line && ini_next_line(doc->text, doc->len, &pos, &line, &len))
			number++;
		if (p->line && !p->column)
			p->column = number == p->line ? (int)column_find(line, len, p->text) : 1;
	}
}
