/* Reports over many objects: status, matrix, metrics, events. */
#include "fs/base/mem.h"
#include "fs/view/entries.h"
#include <inttypes.h>
#include <string.h>
#include <time.h>

#define BAR_WIDTH 30
#define ERRORS_SHOWN 20
#define NODE_STATES (NS_READY + 1)

void report_add_json(json_t *take, struct buf *out)
{
	char *text = json_dumps(take, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(15));
	if (text)
		add_line(out, text);
	free(text);
	json_decref(take);
}

static void count_nodes(const struct deployment *d, size_t counts[NODE_STATES])
{
	memset(counts, 0, NODE_STATES * sizeof *counts);
	for (size_t i = 0; i < d->n_nodes; i++)
		counts[node_state(d->nodes[i])]++;
}

static void add_bar(const struct deployment *d, struct buf *out)
{
	size_t full = d->n_total ? d->n_active * BAR_WIDTH / d->n_total : BAR_WIDTH;
	buf_addc(out, '[');
	for (size_t i = 0; i < BAR_WIDTH; i++)
		buf_addc(out, i < full ? '#' : '-');
	buf_addf(out, "] %3zu%%  %zu of %zu node roles active", d->n_total ? d->n_active * 100 / d->n_total : 100, d->n_active, d->n_total);
	if (d->n_running)
		buf_addf(out, ", %zu running", d->n_running);
	if (d->n_due > d->n_running)
		buf_addf(out, ", %zu due", d->n_due - d->n_running);
	if (d->n_error)
		buf_addf(out, ", %zu in error", d->n_error);
	buf_addc(out, '\n');
}

static void add_nodes(const struct deployment *d, struct buf *out)
{
	size_t counts[NODE_STATES];
	count_nodes(d, counts);
	buf_addf(out, "%zu node%s", d->n_nodes, d->n_nodes == 1 ? "" : "s");
	const char *sep = ": ";
	for (int s = NODE_STATES; s-- > 0;) {
		if (!counts[s])
			continue;
		buf_addf(out, "%s%zu %s", sep, counts[s], node_state_name((enum node_state)s));
		sep = ", ";
	}
	buf_addc(out, '\n');
}

/* The first of many lines, and where the rest is. */
static void add_first(struct buf *all, const char *where, struct buf *out)
{
	end_line(all);
	size_t shown = 0, more = 0;
	for (const char *line = buf_str(all); *line;) {
		const char *end = strchr(line, '\n');
		if (shown < ERRORS_SHOWN) {
			buf_addf(out, "  %.*s\n", (int)(end - line), line);
			shown++;
		} else {
			more++;
		}
		line = end + 1;
	}
	if (more)
		buf_addf(out, "  and %zu more: see %s\n", more, where);
}

static void add_troubles(const struct model *m, const struct deployment *d, struct buf *out)
{
	_cleanup_buf_ struct buf errors = {0}, drift = {0};
	_cleanup_free_ char *error = xasprintf("deployments/%s/error", d->row.name);
	deployment_error(m, d, &errors);
	add_first(&errors, error, out);
	size_t n = deployment_drift(d, &drift);
	if (n)
		buf_addf(out, "%zu node role%s drifted:\n", n, n == 1 ? "" : "s");
	add_first(&drift, "nodes/*/roles/*/drift", out);
}

void report_status(const struct model *m, const struct deployment *d, struct buf *out)
{
	_cleanup_buf_ struct buf why = {0};
	deployment_why(m, d, &why);
	buf_addf(out, "%s: %s\n", d->row.name, buf_str(&why));
	add_bar(d, out);
	add_nodes(d, out);
	if (d->row.commit) {
		buf_adds(out, "desired: ");
		commit_label(d->row.commit, d->row.dirty, out);
		buf_addc(out, '\n');
	}
	add_troubles(m, d, out);
}

void report_root_status(const struct model *m, struct buf *out)
{
	if (m->trouble)
		buf_addf(out, "nothing can be stored: %s\n", m->trouble);
	if (m->paused)
		buf_adds(out, "paused: nothing new is started until 'echo resume > ctl'\n");
	git_waits(m, out);
	if (m->git_doing)
		buf_addc(out, '\n');
	if (m->desired && m->desired->git_failed)
		buf_addf(out, "%s\n", m->desired->incomparable);
	size_t problems = m->desired ? m->desired->n_problems : 0;
	if (problems)
		buf_addf(out, "%zu mistake%s in desired/: see problems\n", problems, problems == 1 ? "" : "s");
	for (const struct deployment *d = m->deployments_by_name; d; d = d->hh_name.next) {
		if (out->len)
			buf_addc(out, '\n');
		report_status(m, d, out);
	}
	if (!m->deployments_by_name)
		buf_adds(out, "no deployments: write one as desired/deployments/NAME/deployment.ini\n");
}

static json_t *errors_json(const struct model *m, const struct deployment *d)
{
	_cleanup_buf_ struct buf all = {0};
	deployment_error(m, d, &all);
	end_line(&all);
	json_t *list = json_array();
	for (const char *line = buf_str(&all); *line;) {
		const char *end = strchr(line, '\n'), *colon = strstr(line, ": ");
		json_t *item = json_object();
		if (colon && colon < end) {
			json_object_set_new(item, "path", json_stringn(line, (size_t)(colon - line)));
			json_object_set_new(item, "error", json_stringn(colon + 2, (size_t)(end - colon - 2)));
		} else {
			json_object_set_new(item, "error", json_stringn(line, (size_t)(end - line)));
		}
		json_array_append_new(list, item);
		line = end + 1;
	}
	return list;
}

static json_t *count(size_t n)
{
	return json_integer((json_int_t)n);
}

json_t *report_status_json(const struct model *m, const struct deployment *d)
{
	_cleanup_buf_ struct buf why = {0}, last = {0};
	bool settled, reached;
	deployment_why(m, d, &why);
	deployment_rest(m, d, &settled, &reached, &last);
	size_t counts[NODE_STATES];
	count_nodes(d, counts);
	json_t *all = json_object(), *roles = json_object(), *nodes = json_object();
	json_object_set_new(all, "name", json_string(d->row.name));
	json_object_set_new(all, "state", json_string(deployment_state_name(deployment_state(d))));
	json_object_set_new(all, "why", json_string(buf_str(&why)));
	json_object_set_new(all, "settled", json_boolean(settled));
	json_object_set_new(all, "reached", json_boolean(reached));
	json_object_set_new(all, "commit", d->row.commit ? json_string(d->row.commit) : json_null());
	json_object_set_new(all, "dirty", d->row.commit ? json_boolean(d->row.dirty) : json_null());
	json_object_set_new(all, "uncommitted", d->uncommitted_file ? json_string(d->uncommitted_file) : json_null());
	json_object_set_new(roles, "total", count(d->n_total));
	json_object_set_new(roles, "active", count(d->n_active));
	json_object_set_new(roles, "running", count(d->n_running));
	json_object_set_new(roles, "due", count(d->n_due));
	json_object_set_new(roles, "error", count(d->n_error));
	json_object_set_new(all, "node_roles", roles);
	json_object_set_new(nodes, "total", count(d->n_nodes));
	for (int s = 0; s < NODE_STATES; s++)
		json_object_set_new(nodes, node_state_name((enum node_state)s), count(counts[s]));
	json_object_set_new(all, "nodes", nodes);
	json_object_set_new(roles, "drifted", count(deployment_drift(d, NULL)));
	json_object_set_new(all, "errors", errors_json(m, d));
	return all;
}

json_t *report_root_json(const struct model *m)
{
	json_t *all = json_object(), *list = json_array();
	json_object_set_new(all, "paused", json_boolean(m->paused));
	json_object_set_new(all, "trouble", m->trouble ? json_string(m->trouble) : json_null());
	json_object_set_new(all, "git", m->git_doing ? json_string(m->git_doing) : json_null());
	json_object_set_new(all, "problems", count(m->desired ? m->desired->n_problems : 0));
	for (const struct deployment *d = m->deployments_by_name; d; d = d->hh_name.next)
		json_array_append_new(list, report_status_json(m, d));
	json_object_set_new(all, "deployments", list);
	return all;
}

/* ---- matrix ---- */

struct column {
	const char *role;
	int width;
};

static struct column *find_column(struct column *c, size_t n, const char *role)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(c[i].role, role))
			return &c[i];
	return NULL;
}

static void widen(int *width, const char *text)
{
	int n = (int)strlen(text);
	if (n > *width)
		*width = n;
}

/* Roles in the deployment's order, and then those that only some node still has. */
static struct column *columns_of(const struct deployment *d, size_t *ret_n)
{
	struct column *c = NULL;
	size_t n = 0, cap = 0;
	for (size_t i = 0; d->def && i < d->def->n_roles; i++) {
		GROW(c, n, cap);
		c[n++] = (struct column){d->def->roles[i]->name, (int)strlen(d->def->roles[i]->name)};
	}
	for (size_t i = 0; i < d->n_nodes; i++) {
		for (size_t r = 0; r < d->nodes[i]->n_roles; r++) {
			const struct node_role *nr = d->nodes[i]->roles[r];
			struct column *col = find_column(c, n, nr->row.role);
			if (!col) {
				GROW(c, n, cap);
				c[n] = (struct column){nr->row.role, (int)strlen(nr->row.role)};
				col = &c[n++];
			}
			widen(&col->width, node_role_state_name(node_role_state(nr)));
		}
	}
	*ret_n = n;
	return c;
}

static void end_row(struct buf *out)
{
	while (out->len && out->data[out->len - 1] == ' ')
		out->data[--out->len] = 0;
	buf_addc(out, '\n');
}

void report_matrix(const struct deployment *d, struct buf *out)
{
	size_t n;
	_cleanup_free_ struct column *c = columns_of(d, &n);
	int name_width = (int)strlen("node"), state_width = (int)strlen("state");
	for (size_t i = 0; i < d->n_nodes; i++) {
		widen(&name_width, d->nodes[i]->row.name);
		widen(&state_width, node_state_name(node_state(d->nodes[i])));
	}
	buf_addf(out, "%-*s  %-*s", name_width, "node", state_width, "state");
	for (size_t i = 0; i < n; i++)
		buf_addf(out, "  %-*s", c[i].width, c[i].role);
	end_row(out);
	for (size_t i = 0; i < d->n_nodes; i++) {
		const struct node *node = d->nodes[i];
		buf_addf(out, "%-*s  %-*s", name_width, node->row.name, state_width, node_state_name(node_state(node)));
		for (size_t k = 0; k < n; k++) {
			const struct node_role *nr = node_role_find(node, c[k].role);
			buf_addf(out, "  %-*s", c[k].width, nr ? node_role_state_name(node_role_state(nr)) : "-");
		}
		end_row(out);
	}
}

/* ---- events ---- */

void report_event(const struct event *e, struct buf *out)
{
	const char *parts[] = {e->deployment, e->node, e->role};
	bool any = false;
	format_time(out, e->at);
	buf_addc(out, ' ');
	for (size_t i = 0; i < 3; i++) {
		if (!parts[i])
			continue;
		buf_addf(out, "%s%s", any ? "/" : "", parts[i]);
		any = true;
	}
	buf_addf(out, "%s%s", any ? ": " : "", e->text ? e->text : "");
	if (e->who && strcmp(e->who, "rebarfs"))
		buf_addf(out, " (%s)", e->who);
	buf_addc(out, '\n');
}

void report_progress(const struct event *e, struct buf *out)
{
	time_t at = (time_t)(e->at / 1000);
	struct tm tm;
	char stamp[16];
	strftime(stamp, sizeof stamp, "%H:%M:%S", gmtime_r(&at, &tm));
	buf_addf(out, "%s %s%s%s: %s\n", stamp,
	        e->node         ? e->node
	        : e->deployment ? e->deployment
	                        : "",
	        e->role ? " " : "", e->role ? e->role : "", e->text ? e->text : "");
}

/* ---- metrics ---- */

static void add_metric(struct buf *out, const char *name, const char *help)
{
	buf_addf(out, "# HELP rebarfs_%s %s\n# TYPE rebarfs_%s gauge\n", name, help, name);
}

void report_metrics(const struct model *m, struct buf *out)
{
	add_metric(out, "deployment_node_roles", "Node roles of a deployment by what they do.");
	for (const struct deployment *d = m->deployments_by_name; d; d = d->hh_name.next) {
		const struct {
			const char *state;
			size_t n;
		} rows[] = {{"active", d->n_active}, {"due", d->n_due}, {"running", d->n_running}, {"error", d->n_error},
		        {"drifted", deployment_drift(d, NULL)}, {"total", d->n_total}};
		for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
			buf_addf(out, "rebarfs_deployment_node_roles{deployment=\"%s\",state=\"%s\"} %zu\n", d->row.name, rows[i].state, rows[i].n);
	}
	add_metric(out, "deployment_nodes", "Nodes of a deployment by state.");
	for (const struct deployment *d = m->deployments_by_name; d; d = d->hh_name.next) {
		size_t counts[NODE_STATES];
		count_nodes(d, counts);
		for (int s = 0; s < NODE_STATES; s++)
			buf_addf(out, "rebarfs_deployment_nodes{deployment=\"%s\",state=\"%s\"} %zu\n", d->row.name,
			        node_state_name((enum node_state)s), counts[s]);
	}
	add_metric(out, "deployment_state", "1 for the state that a deployment is in.");
	for (const struct deployment *d = m->deployments_by_name; d; d = d->hh_name.next)
		buf_addf(
		        out, "rebarfs_deployment_state{deployment=\"%s\",state=\"%s\"} 1\n", d->row.name, deployment_state_name(deployment_state(d)));
	add_metric(out, "problems", "Mistakes in desired/.");
	buf_addf(out, "rebarfs_problems %zu\n", m->desired ? m->desired->n_problems : 0);
	add_metric(out, "events", "Events ever recorded.");
	buf_addf(out, "rebarfs_events %" PRId64 "\n", m->next_seq ? m->next_seq - 1 : 0);
	add_metric(out, "started_seconds", "When this daemon started, Unix time.");
	buf_addf(out, "rebarfs_started_seconds %" PRId64 "\n", m->started / 1000);
}
