/* provider.ini, node.ini and role.ini, each by itself; then what they say of one another. */
#include "fs/base/io.h"
#include "fs/base/mem.h"
#include "fs/desired/internal.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char *text_of(const struct doc *doc, const char *section, const char *key)
{
	const struct setting *s = doc_setting(doc, section, key);
	return s && *s->value ? s->value : NULL;
}

/* Numbers that did not pass check_form are never asked for: the document is wrong then, and 0 will do. */
static int64_t number(const struct doc *doc, const struct key_row *table, const char *section, const char *key)
{
	return doc->wrong ? 0 : settings_int(&doc->ini.settings, table, section, key);
}

static bool flag(const struct doc *doc, const struct key_row *table, const char *section, const char *key)
{
	return !doc->wrong && settings_bool(&doc->ini.settings, table, section, key);
}

/* The part of [KIND NAME] behind KIND; NULL: another kind of section. */
static const char *section_name(const char *section, const char *kind)
{
	size_t n = strlen(kind);
	return !strncmp(section, kind, n) && section[n] == ' ' && !strchr(section + n + 1, ' ') ? section + n + 1 : NULL;
}

static bool is_first_heading(const struct doc *doc, size_t i)
{
	size_t first = i;
	index_find(doc->ini.by_heading, doc->ini.headings[i].name, &first);
	return first == i;
}

/* ---- providers ---- */

/* A script counts by its bytes. What is larger, such as a disk image, by its size and time, for reading it at every look would take seconds; and a
 * directory by its name alone. false: there is nothing that could be read. */
static bool file_digest(const char *path, struct hash *ret)
{
	struct stat st;
	_cleanup_buf_ struct buf b = {0};
	if (stat(path, &st) < 0 || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		return false;
	if (S_ISDIR(st.st_mode))
		buf_adds(&b, "directory");
	else if (st.st_size > DOCUMENT_MAX)
		buf_addf(&b, "%lld %lld.%09ld", (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	else if (file_read(AT_FDCWD, path, DOCUMENT_MAX, &b, NULL) < 0)
		return false;
	hash_bytes(buf_str(&b), b.len, ret);
	return true;
}

static void digest_files(const struct tree *t, struct def_provider *def, const struct key_row *rows)
{
	_cleanup_free_ char *dir = t->repo ? xasprintf("%s/%s/%s", t->repo, doc_places[DOC_PROVIDER].dir, def->name) : NULL;
	for (size_t i = 0; dir && i < def->settings.n; i++) {
		const struct setting *s = &def->settings.items[i];
		const struct key_row *row = key_find(rows, s->section, s->key, NULL);
		if (!row || !row->file)
			continue;
		_cleanup_free_ char *path = s->value[0] == '/' ? xstrdup(s->value) : path_join(dir, s->value);
		struct hash hash;
		char hex[HASH_HEX];
		if (!file_digest(path, &hash))
			continue;
		hash_hex(&hash, hex);
		settings_add(&def->files, s->section, s->key, hex, s->line);
	}
}

static void check_provider(struct parse *p, struct doc *doc, const struct schema_provider *type)
{
	_cleanup_err_ struct err *err = NULL;
	int line = 0;
	if (!doc->wrong && type->check && type->check(&doc->ini.settings, &line, &err) < 0)
		mistake(p, doc, doc, line, err->code, "%s", err_msg(err));
}

void define_provider(struct parse *p, struct doc *doc)
{
	struct def_provider *def = doc->def;
	char hint[160];
	def->name = xstrdup(doc->td->name);
	settings_copy(&def->settings, &doc->ini.settings);
	def->type = xstrdup(settings_str(&doc->ini.settings, provider_keys, "provider", "type"));
	const struct schema_provider *type = schema_provider_find(p->schema, def->type);
	const struct key_row *tables[] = {provider_keys, type ? type->keys : NULL, NULL};
	if (!doc->td->text)
		return;
	if (type) {
		check_form(p, doc, tables);
		check_provider(p, doc, type);
		digest_files(p->t, def, type->keys);
	} else {
		const char *names[32];
		size_t n = 0;
		for (; n < p->schema->n_providers && n < 32; n++)
			names[n] = p->schema->providers[n].type;
		mistake(p, doc, doc, doc_line(doc, "provider", "type"), EINVAL, "unknown provider type '%s'%s", def->type,
		        did_you_mean(p, hint, def->type, names, n));
	}
	def->image = xstrdup(text_of(doc, "provider", "image"));
	def->max_parallel = number(doc, provider_keys, "provider", "max-parallel");
	def->timeout_ms = number(doc, provider_keys, "provider", "timeout");
	const char *apply = text_of(doc, "provider", "apply");
	def->apply_manual = apply ? !strcmp(apply, "manual") : type && type->apply_manual;
}

/* ---- nodes ---- */

static void identify_node(struct def_node *def)
{
	static const char *const keys[] = {"provider", "address", "mac", "image"};
	struct hasher *h = hasher_new();
	hasher_add_str(h, "node identity 1");
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		hasher_add_str(h, settings_get(&def->settings, "node", keys[i]));
	hasher_end(h, &def->identity);
	hasher_free(h);
}

/* The keys a node may have: of its provider's type, or of any type while the group that names it decides. */
static void check_node_form(struct parse *p, struct doc *doc, const char *provider)
{
	struct doc *pd = provider ? parse_doc(p, DOC_PROVIDER, provider) : NULL;
	const struct schema_provider *type = pd && pd->def ? schema_provider_find(p->schema, ((struct def_provider *)pd->def)->type) : NULL;
	_cleanup_free_ const struct key_row **tables = xcalloc(p->schema->n_providers + 2, sizeof *tables);
	size_t n = 0;
	for (size_t i = 0; i < p->schema->n_providers; i++) {
		const struct schema_provider *sp = &p->schema->providers[i];
		if (sp->node_keys && (!type || sp == type))
			tables[n++] = sp->node_keys;
	}
	tables[n] = node_keys;
	check_form(p, doc, tables);
}

void define_node(struct parse *p, struct doc *doc)
{
	struct def_node *def = doc->def;
	def->name = xstrdup(doc->td->name);
	settings_copy(&def->settings, &doc->ini.settings);
	def->provider = xstrdup(text_of(doc, "node", "provider"));
	const char *labels = text_of(doc, "node", "labels");
	if (labels)
		list_names(labels, &def->labels);
	identify_node(def);
	if (doc->td->text)
		check_node_form(p, doc, def->provider);
}

static void link_node_value(struct parse *p, struct doc *doc, struct all_node *priv, const struct setting *s)
{
	char hint[160];
	struct err *err = NULL;
	_cleanup_strlist_ struct strlist words = {0};
	section_words(s->section, &words);
	if (words.n != 2)
		return; /* said at the heading */
	struct doc *rd = parse_doc(p, DOC_ROLE, words.items[1]);
	const struct def_role *role = rd ? rd->def : NULL;
	if (!role || rd->td->busy || rd->malformed)
		return;
	const struct def_param *param = def_param_find(role, s->key);
	if (!param) {
		mistake(p, doc, doc, s->line, EINVAL, "role '%s' has no parameter '%s'%s", role->name, s->key, suggest_param(p, role, s->key, hint));
		return;
	}
	if (param_check(param, s->value, &err) < 0)
		mistake(p, doc, doc, s->line, err->code, "parameter '%s' of role '%s'%s", s->key, role->name, predicate(err));
	err_free(err);
	GROW(priv->values, priv->n_values, priv->cap_values);
	priv->values[priv->n_values] =
	        (struct def_value){xstrdup(role->name), xstrdup(s->key), xstrdup(s->value), NULL, xasprintf("%s:%d", doc->td->path, s->line)};
	value_put(&priv->by_value, &priv->values[priv->n_values], priv->n_values);
	priv->n_values++;
}

static void link_node_heading(struct parse *p, struct doc *doc, const struct ini_heading *h)
{
	char hint[160];
	if (!is_params(h->name))
		return;
	const char *role = section_name(h->name, "params");
	if (!role)
		mistake(p, doc, doc, h->line, EINVAL, "[%s] is written [params ROLE] in a node's document", h->name);
	else if (!p->t->kept && !parse_doc(p, DOC_ROLE, role)) /* a kept tree holds only the roles its deployment uses */
		mistake(p, doc, doc, h->line, ENOENT, "there is no role '%s'%s", role, suggest_doc(p, DOC_ROLE, role, hint));
}

void nodes_link(struct parse *p)
{
	for (size_t i = 0; i < p->n[DOC_NODE]; i++) {
		struct doc *doc = &p->docs[p->first[DOC_NODE] + i];
		struct def_node *def = doc->def;
		char hint[160];
		if (def->provider && !parse_doc(p, DOC_PROVIDER, def->provider))
			mistake(p, doc, doc, doc_line(doc, "node", "provider"), ENOENT, "there is no provider '%s'%s", def->provider,
			        suggest_doc(p, DOC_PROVIDER, def->provider, hint));
		for (size_t j = 0; j < doc->ini.n_headings; j++)
			link_node_heading(p, doc, &doc->ini.headings[j]);
		for (size_t j = 0; j < doc->ini.settings.n; j++)
			if (!strncmp(doc->ini.settings.items[j].section, "params ", 7))
				link_node_value(p, doc, &p->all->nodes[i], &doc->ini.settings.items[j]);
	}
}

/* ---- roles ---- */

/* Names that become variables and file names elsewhere: etcd_quorum, REBAR_PARAM_QUORUM, outputs/KEY. */
static bool good_word(const char *s, const char *beside)
{
	for (const char *c = s; *c; c++)
		if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (c > s && ((*c >= '0' && *c <= '9') || strchr(beside, *c)))))
			return false;
	return *s;
}

static char *copy_of(const struct doc *doc, const char *section, const char *key)
{
	const struct setting *s = doc_setting(doc, section, key);
	return s ? xstrdup(s->value) : NULL;
}

static bool is_ordered(enum value_type t)
{
	return t == VALUE_INT || t == VALUE_SIZE || t == VALUE_DURATION || t == VALUE_FLOAT;
}

static void check_bound(
        struct parse *p, struct doc *doc, const char *section, const char *key, const struct def_param *q, char **bound, const char *min)
{
	struct err *err = NULL;
	int line = doc_line(doc, section, key);
	if (!*bound)
		return;
	if (!is_ordered(q->type))
		mistake(p, doc, doc, line, EINVAL, "'%s' does not go with type = %s", key, value_type_name(q->type));
	else if (value_check(q->type, *bound, NULL, NULL, NULL, &err) < 0)
		mistake(p, doc, doc, line, err->code, "'%s'%s", key, predicate(err));
	else if (min && value_check(q->type, *bound, min, NULL, NULL, NULL) < 0)
		mistake(p, doc, doc, line, EINVAL, "'max' is below 'min' (%s)", min);
	else
		return;
	err_free(err);
	free(*bound);
	*bound = NULL;
}

static void check_param(struct parse *p, struct doc *doc, const char *section, struct def_param *q)
{
	struct err *err = NULL;
	int line = doc_line(doc, section, "values");
	if (q->values && q->type != VALUE_ENUM)
		mistake(p, doc, doc, line, EINVAL, "'values' goes with type = enum, this is %s", value_type_name(q->type));
	if (q->type == VALUE_ENUM && (!q->values || !q->values[strspn(q->values, ", ")])) {
		mistake(p, doc, doc, line ? line : q->line, EINVAL, "parameter '%s' is an enum without 'values'", q->name);
		return;
	}
	check_bound(p, doc, section, "min", q, &q->min, NULL);
	check_bound(p, doc, section, "max", q, &q->max, q->min);
	if (q->dflt && param_check(q, q->dflt, &err) < 0)
		mistake(p, doc, doc, doc_line(doc, section, "default"), err->code, "the default of parameter '%s'%s", q->name, predicate(err));
	err_free(err);
}

static void define_param(struct parse *p, struct doc *doc, const char *section, int line, struct def_param *q)
{
	*q = (struct def_param){.name = xstrdup(section_name(section, "param")), .line = line, .type = VALUE_STRING};
	const char *type = text_of(doc, section, "type");
	bool known = !type || value_type_parse(type, &q->type) == 0;
	q->dflt = copy_of(doc, section, "default");
	q->min = copy_of(doc, section, "min");
	q->max = copy_of(doc, section, "max");
	q->values = copy_of(doc, section, "values");
	q->help = copy_of(doc, section, "help");
	parse_bool(text_of(doc, section, "secret") ? text_of(doc, section, "secret") : "no", &q->secret, NULL);
	if (!good_word(q->name, "_-"))
		mistake(p, doc, doc, line, EINVAL, "'%s' cannot be a parameter: a letter, then letters, digits, '_' and '-'", q->name);
	if (known)
		check_param(p, doc, section, q);
}

static void define_output(struct parse *p, struct doc *doc, const char *section, int line, struct def_output *o)
{
	const char *secret = text_of(doc, section, "secret"), *ttl = text_of(doc, section, "ttl");
	*o = (struct def_output){.name = xstrdup(section_name(section, "output")), .help = copy_of(doc, section, "help")};
	if (secret)
		parse_bool(secret, &o->secret, NULL);
	if (ttl)
		parse_duration(ttl, &o->ttl_ms, NULL);
	if (!good_word(o->name, "_-."))
		mistake(p, doc, doc, line, EINVAL, "'%s' cannot be an output: a letter, then letters, digits, '_', '-' and '.'", o->name);
	if (!strcmp(o->name, "reboot"))
		mistake(p, doc, doc, line, EINVAL,
		        "'reboot' cannot be declared: who leaves an output of this name asks for a reboot of its node, and nobody is given it");
	if (o->ttl_ms && flag(doc, role_keys, "role", "once"))
		mistake(p, doc, doc, doc_line(doc, section, "ttl"), EINVAL,
		        "output '%s' cannot have a 'ttl': another run renews it, and this role says once = yes", o->name);
}

/* 'max-size' and 'max_size' would be one variable to scripts and tools. */
static bool one_variable(const char *a, const char *b)
{
	while (*a && *b && (toupper((unsigned char)*a) == toupper((unsigned char)*b) || (strchr("-_", *a) && strchr("-_", *b)))) {
		a++;
		b++;
	}
	return !*a && !*b;
}

static void check_variables(struct parse *p, struct doc *doc)
{
	const struct def_role *def = doc->def;
	for (size_t i = 1; i < def->n_params; i++)
		for (size_t j = 0; j < i; j++)
			if (one_variable(def->params[i].name, def->params[j].name))
				mistake(p, doc, doc, def->params[i].line, EINVAL,
				        "parameters '%s' (line %d) and '%s' would be one variable to scripts and tools: rename one",
				        def->params[j].name, def->params[j].line, def->params[i].name);
}

static void define_declared(struct parse *p, struct doc *doc, struct all_role *priv)
{
	struct def_role *def = doc->def;
	size_t n = doc->ini.n_headings;
	def->params = xcalloc(n + 1, sizeof *def->params);
	def->outputs = xcalloc(n + 1, sizeof *def->outputs);
	priv->origins = xcalloc(n + 1, sizeof *priv->origins);
	for (size_t i = 0; i < n; i++) {
		const struct ini_heading *h = &doc->ini.headings[i];
		if (!is_first_heading(doc, i))
			continue;
		if (section_name(h->name, "param")) {
			int line = doc_line(doc, h->name, "default");
			priv->origins[def->n_params] = xasprintf("%s:%d (default)", doc->td->path, line ? line : h->line);
			define_param(p, doc, h->name, h->line, &def->params[def->n_params]);
			index_put(&def->by_param, def->params[def->n_params].name, def->n_params);
			def->n_params++;
		} else if (section_name(h->name, "output"))
			define_output(p, doc, h->name, h->line, &def->outputs[def->n_outputs++]);
	}
	check_variables(p, doc);
}

/* Facts that do not change by themselves. */
static const char *const fact_keys[] = {"os", "os-version", "kernel", "arch", "hostname", "cpus", "memory", "disks", "nics"};

static void add_want(struct parse *p, struct doc *doc, int line, const char *text)
{
	struct def_role *def = doc->def;
	struct def_want *w = &def->wants[def->n_wants];
	char hint[160];
	const char *dot = strchr(text, '.');
	*w = (struct def_want){.text = xstrdup(text)};
	if (!strcmp(text, "nodes"))
		w->kind = WANT_NODES;
	else if (!strcmp(text, "node"))
		w->kind = WANT_NODE;
	else if (!strncmp(text, "facts.", 6)) {
		w->kind = WANT_FACT;
		w->key = xstrdup(text + 6);
		size_t n = sizeof fact_keys / sizeof *fact_keys;
		for (size_t i = 0; i <= n; i++)
			if (i == n)
				mistake(p, doc, doc, line, EINVAL, "'wants' names no fact '%s'%s", w->key,
				        did_you_mean(p, hint, w->key, fact_keys, n));
			else if (!strcmp(fact_keys[i], w->key))
				break;
	} else if (dot && dot > text && dot[1]) {
		w->kind = WANT_OUTPUT;
		w->role = xstrndup(text, (size_t)(dot - text));
		w->key = xstrdup(dot + 1);
		if (!strcmp(w->role, def->name))
			mistake(p, doc, doc, line, ELOOP, "'wants' makes a cycle: %s -> %s", def->name, def->name);
	} else {
		static const char *const words[] = {"nodes", "node", "facts"};
		mistake(p, doc, doc, line, EINVAL, "'wants' takes nodes, node, facts.KEY and ROLE.KEY, not '%s'%s", text,
		        did_you_mean(p, hint, text, words, 3));
		free(w->text);
		return;
	}
	def->n_wants++;
}

static void define_wants(struct parse *p, struct doc *doc, int line)
{
	struct def_role *def = doc->def;
	_cleanup_strlist_ struct strlist items = {0};
	list_names(text_of(doc, "role", "wants"), &items);
	def->wants = xcalloc(items.n + 1, sizeof *def->wants);
	for (size_t i = 0; i < items.n; i++) {
		bool twice = false;
		for (size_t j = 0; j < i; j++)
			twice |= !strcmp(items.items[i], items.items[j]);
		if (!twice)
			add_want(p, doc, line, items.items[i]);
	}
}

/* A list of names, each once. */
static int define_list(const struct doc *doc, const char *key, struct strlist *ret)
{
	_cleanup_strlist_ struct strlist items = {0};
	list_names(text_of(doc, "role", key), &items);
	for (size_t i = 0; i < items.n; i++)
		if (!strlist_has(ret, items.items[i]))
			strlist_add(ret, items.items[i]);
	return doc_line(doc, "role", key);
}

/* The keys of role.ini that reach a run: the runner and what it takes itself. Order and layout in the document do not count. */
static void hash_runner_keys(struct def_role *def, const struct schema_runner *runner)
{
	struct hasher *h = hasher_new();
	hasher_add_str(h, "runner keys 1");
	hasher_add_str(h, def->runner);
	for (const struct key_row *r = runner ? runner->keys : NULL; r && r->section; r++) {
		const char *value = settings_get(&def->settings, r->section, r->key);
		if (!value)
			continue;
		hasher_add_str(h, r->section);
		hasher_add_str(h, r->key);
		hasher_add_str(h, value);
	}
	hasher_end(h, &def->runner_keys);
	hasher_free(h);
}

static void check_runner(struct parse *p, struct doc *doc, const struct schema_runner *runner)
{
	const char *names[32];
	char hint[160];
	size_t n = 0;
	_cleanup_buf_ struct buf all = {0};
	const struct def_role *def = doc->def;
	for (; n < p->schema->n_runners && n < 32; n++) {
		names[n] = p->schema->runners[n].name;
		buf_addf(&all, "%s%s", n == 0 ? "" : n + 1 == p->schema->n_runners ? " or " : ", ", names[n]);
	}
	if (!def->runner)
		mistake(p, doc, doc, heading_line(doc, "role"), EINVAL, "[role] has no 'runner': say %s", buf_str(&all));
	else if (!runner)
		mistake(p, doc, doc, doc_line(doc, "role", "runner"), EINVAL, "unknown runner '%s'%s", def->runner,
		        did_you_mean(p, hint, def->runner, names, n));
}

void define_role(struct parse *p, struct doc *doc, struct all_role *priv)
{
	struct def_role *def = doc->def;
	def->name = xstrdup(doc->td->name);
	settings_copy(&def->settings, &doc->ini.settings);
	def->runner = xstrdup(text_of(doc, "role", "runner"));
	const struct schema_runner *runner = def->runner ? schema_runner_find(p->schema, def->runner) : NULL;
	const struct key_row *tables[] = {role_keys, runner ? runner->keys : NULL, NULL};
	priv->runner_line = doc_line(doc, "role", "runner");
	if (!doc->td->text)
		return;
	check_runner(p, doc, runner);
	if (runner || !def->runner) /* without the runner's own keys every one of them would be unknown */
		check_form(p, doc, tables);
	priv->requires_line = define_list(doc, "requires", &def->requires);
	priv->after_line = define_list(doc, "after", &def->after);
	priv->conflicts_line = define_list(doc, "conflicts", &def->conflicts);
	define_list(doc, "provides", &def->provides);
	priv->wants_line = doc_line(doc, "role", "wants");
	define_wants(p, doc, priv->wants_line);
	define_declared(p, doc, priv);
	def->once = flag(doc, role_keys, "role", "once");
	def->serial = number(doc, role_keys, "role", "serial");
	def->check_every_ms = number(doc, role_keys, "role", "check-every");
	def->repair = flag(doc, role_keys, "role", "repair");
	def->timeout_ms = number(doc, role_keys, "role", "timeout");
	def->retries = number(doc, role_keys, "role", "retries");
	def->backoff_ms = number(doc, role_keys, "role", "backoff");
	hash_runner_keys(def, runner);
	const struct tree_content *c = tree_content_find(p->t, def->name);
	if (c && def->runner && strcmp(def->runner, "none"))
		def->content = c->hash;
}
