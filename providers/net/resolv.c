/* Name resolution of nodes. Pure. */
#include "providers/net/net.h"

#include "fs/base/mem.h"

#include <string.h>

/* A node cannot reach what listens on the host's loopback, nor a link-local address, whose scope names a device of the host. */
static bool reachable(const char *server)
{
	return strncmp(server, "127.", 4) && strcmp(server, "::1") && strncasecmp(server, "fe80:", 5);
}

bool resolv_for_nodes(const char *text, struct buf *out)
{
	_cleanup_free_ char *copy = xstrdup(text);
	char *save = NULL;
	bool any = false;

	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *rest = NULL, *word = strtok_r(line, " \t\r", &rest);
		if (word && !strcmp(word, "nameserver")) {
			word = strtok_r(NULL, " \t\r", &rest);
			if (!word || !reachable(word))
				continue;
			buf_addf(out, "nameserver %s\n", word);
			any = true;
		} else if (word && !strcmp(word, "search")) {
			buf_adds(out, "search");
			while ((word = strtok_r(NULL, " \t\r", &rest)))
				buf_addf(out, " %s", word);
			buf_addc(out, '\n');
		}
	}
	return any;
}
