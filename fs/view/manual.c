/* README: how to use the tree, made from the tables that serve it. */
#include "fs/view/entries.h"
#include <string.h>

static const char intro[] =
        "This tree is rebarfs: desired state in, machines out.\n"
        "\n"
        "desired/ is the repo %s. Write there with git or any editor; everything else shows, live, what exists and what it runs.\n"
        "\n"
        "  cat problems                                  mistakes in desired/, as FILE:LINE: message\n"
        "  cat deployments/NAME/plan                     what would change, and because of what\n"
        "  echo apply > deployments/NAME/ctl             approve it, where it is not approved by itself ('apply ID' for lines that destroy)\n"
        "  cat deployments/NAME/wait && echo reached     progress, until nothing runs any more\n"
        "  cat deployments/NAME/status                   one page\n"
        "  cat nodes/NAME/why                            why something is not (yet) as it should be\n"
        "  cat nodes/NAME/roles/ROLE/log                 what the last run printed\n"
        "  ssh -F deployments/NAME/ssh_config NODE       log in\n"
        "  echo 5 > deployments/NAME/desired/nodes.GROUP/count\n"
        "\n"
        "A file holds one value, one table or one JSON document, as it was when it was opened. 'why' is always a sentence. What can be written takes "
        "one line\n"
        "with one write; what is refused fails in that write, and 'refused' beside it says why. Names in live directories cannot be created or "
        "removed.\n"
        "\n"
        "Below NAME/desired/SECTION/ stands every key that the document has or could have, parameters of its roles under params.ROLE. 'ls -l' tells "
        "which the\n"
        "document itself sets: the others are of 1970, and show what holds instead, inherited or by default (empty: nothing). 'echo VALUE > KEY' "
        "sets a\n"
        "key here, 'echo > KEY' takes it out again; touching or emptying the file changes nothing.\n"
        "\n"
        "secret:NAME in a document stands for a file of mode 0600 in the state directory's secrets/, or for what the command of -o secrets prints. Its "
        "value is\n"
        "nowhere in this tree: inputs show the name, logs and sentences as many asterisks as it has bytes.\n";

static void add_table(struct buf *out, enum place_kind kind, const char *title)
{
	int width = 0;
	const struct entry *table = entries_of(kind);
	for (const struct entry *e = table; e->name; e++) {
		int n = (int)strlen(e->name) + (S_ISDIR(e->mode) ? 1 : 0);
		width = n > width ? n : width;
	}
	buf_addf(out, "\n%s\n", title);
	for (const struct entry *e = table; e->name; e++) {
		bool dir = S_ISDIR(e->mode);
		buf_addf(out, "  %s%-*s  %s%s\n", e->name, width - (int)strlen(e->name), dir ? "/" : "", e->store ? "(writable) " : "", e->help);
	}
}

static void add_verbs(struct buf *out, enum object_kind kind, const char *title)
{
	const struct verb_row *row = engine_verbs(kind);
	if (!row || !row->name)
		return;
	buf_addf(out, "\n%s\n", title);
	for (; row->name; row++)
		buf_addf(out, "  %s%s%s: %s\n", row->name, *row->args ? " " : "", row->args, row->help);
}

void manual_text(const struct object *o, struct buf *out)
{
	const char *repo = o->m->repo ? o->m->repo : "behind this mount";
	const char *at = strstr(intro, "%s");
	buf_add(out, intro, (size_t)(at - intro));
	buf_adds(out, repo);
	buf_adds(out, at + 2);
	static const char *const titles[PLACE_KINDS] = {
	        [PLACE_ROOT] = "/",
	        [PLACE_PROVIDER] = "providers/NAME/",
	        [PLACE_ROLE] = "roles/NAME/",
	        [PLACE_DEPLOYMENT] = "deployments/NAME/",
	        [PLACE_NODE] = "nodes/NAME/",
	        [PLACE_NODE_ROLE] = "nodes/NAME/roles/ROLE/",
	        [PLACE_RUN] = "nodes/NAME/roles/ROLE/runs/NUMBER/",
	};
	for (int kind = 0; kind < PLACE_KINDS; kind++)
		add_table(out, (enum place_kind)kind, titles[kind]);
	add_verbs(out, OBJECT_ROOT, "Verbs of ctl");
	add_verbs(out, OBJECT_PROVIDER, "Verbs of providers/NAME/ctl");
	add_verbs(out, OBJECT_DEPLOYMENT, "Verbs of deployments/NAME/ctl");
	add_verbs(out, OBJECT_NODE, "Verbs of nodes/NAME/ctl");
	add_verbs(out, OBJECT_NODE_ROLE, "Verbs of nodes/NAME/roles/ROLE/ctl");
}
