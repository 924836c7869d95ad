/* Fidelity: two deployments side by side, group by group and role by role.
 *
 * An item is one thing that both stages should have in common: of a role on a group its content, its runner's keys and each of its parameters, as the
 * last successful runs on today's machines had them; of a group's machines the image they were made from and facts. What differs between any two
 * places by nature (names, addresses, outputs, the provider itself) is no item. */
#include "fs/engine/fidelity.h"
#include "fs/base/secret.h"
#include "fs/engine/internal.h"
#include <string.h>

/* ---- what the nodes of one side have ---- */

struct tally {
	struct value {
		struct hash hash;
		char *text;
		size_t n;
	} * values;
	size_t n_values, cap_values;
	size_t nodes; /* those that count: wanted and not held */
	size_t idle;  /* of these, without a value: "not active", "no machine" */
};

static void tally_release(struct tally *t)
{
	for (size_t i = 0; i < t->n_values; i++)
		free(t->values[i].text);
	free(t->values);
}

static void tally_add(struct tally *t, const struct hash *h, const char *text)
{
	for (size_t i = 0; i < t->n_values; i++)
		if (hash_eq(&t->values[i].hash, h)) {
			t->values[i].n++;
			return;
		}
	GROW(t->values, t->n_values, t->cap_values);
	t->values[t->n_values++] = (struct value){*h, xstrdup(text), 1};
}

static void tally_text(struct tally *t, const char *text)
{
	struct hash h;
	hash_bytes(text, strlen(text), &h);
	tally_add(t, &h, text);
}

#define SHOWN_VALUES 3
#define SHOWN_MAX 60

static void add_value(struct buf *out, const char *text)
{
	size_t len = strcspn(text, "\n");
	if (!len)
		buf_adds(out, "\"\"");
	else
		buf_addf(out, "%.*s%s", (int)(len > SHOWN_MAX ? SHOWN_MAX : len), text, len > SHOWN_MAX || text[len] ? "..." : "");
}

static char *tally_say(const struct tally *t, const char *idle)
{
	struct buf b = {0};
	bool one = t->n_values == 1 && !t->idle;
	if (!t->nodes)
		buf_adds(&b, "no nodes");
	for (size_t i = 0; i < t->n_values && i < SHOWN_VALUES; i++) {
		buf_adds(&b, i ? ", " : "");
		add_value(&b, t->values[i].text);
		if (!one)
			buf_addf(&b, " on %zu of %zu nodes", t->values[i].n, t->nodes);
	}
	if (t->n_values > SHOWN_VALUES)
		buf_addf(&b, " and %zu other values", t->n_values - SHOWN_VALUES);
	if (t->idle && t->idle == t->nodes)
		buf_adds(&b, idle);
	else if (t->idle)
		buf_addf(&b, ", %s on %zu", idle, t->idle);
	return buf_detach(&b, NULL);
}

/* The digest that a node role's last run on today's machine succeeded with. NULL: none did, or none is. */
static const struct digest *digest_active(const struct model *m, const struct node_role *nr)
{
	return nr && nr->def && node_role_succeeded(nr) ? digest_kept(m, nr->row.last_digest) : NULL;
}

static const struct part *part_named(const struct digest *d, const char *name)
{
	for (size_t i = 0; d && i < d->n_parts; i++)
		if (!strcmp(d->parts[i].name, name))
			return &d->parts[i];
	return NULL;
}

static void part_say(const struct model *m, const struct part *p, bool secret, struct buf *out)
{
	const char *text = model_component_text(m, &p->hash);
	secret |= secret_ref(text) != NULL;
	if (!secret && text && strcmp(p->name, "content") != 0) {
		buf_adds(out, text);
		return;
	}
	char hex[HASH_HEX];
	hash_hex(&p->hash, hex);
	buf_addf(out, "%s%.8s", secret ? "secret " : "", hex);
}

static bool counts(const struct node *n, const char *group)
{
	return n->wanted && !n->row.held && n->row.group && !strcmp(n->row.group, group);
}

static void tally_part(
        const struct model *m, const struct deployment *d, const char *group, const char *role, const char *name, bool secret, struct tally *t)
{
	for (size_t i = 0; i < d->n_nodes; i++) {
		const struct node *n = d->nodes[i];
		if (!counts(n, group))
			continue;
		t->nodes++;
		const struct part *p = part_named(digest_active(m, node_role_find(n, role)), name);
		_cleanup_buf_ struct buf text = {0};
		if (!p) {
			t->idle++;
			continue;
		}
		part_say(m, p, secret, &text);
		tally_add(t, &p->hash, buf_str(&text));
	}
}

static void tally_image(const struct deployment *d, const char *group, struct tally *t)
{
	for (size_t i = 0; i < d->n_nodes; i++) {
		const struct node *n = d->nodes[i];
		if (!counts(n, group))
			continue;
		t->nodes++;
		if (n->row.phase != NODE_BOOTING && n->row.phase != NODE_READY) {
			t->idle++;
		} else if (n->row.image) {
			tally_text(t, n->row.image);
		} else {
			_cleanup_free_ char *none = xasprintf("none (%s)", n->provider && n->provider->ops ? n->provider->ops->type : "unknown");
			tally_text(t, none);
		}
	}
}

static void fact_say(const char *fact, const json_t *value, struct buf *out)
{
	if (!strcmp(fact, "memory") && json_is_integer(value)) {
		format_size(out, json_integer_value(value));
	} else if (json_is_string(value)) {
		buf_adds(out, json_string_value(value));
	} else {
		char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_SORT_KEYS | JSON_COMPACT);
		buf_adds(out, text ? text : "");
		free(text);
	}
}

/* Facts are read once for all names: they are JSON in the row, and there may be a thousand of them. */
static void tally_facts(const struct deployment *d, const char *group, const char *const *names, struct tally *t)
{
	for (size_t i = 0; i < d->n_nodes; i++) {
		const struct node *n = d->nodes[i];
		if (!counts(n, group))
			continue;
		json_t *facts = n->row.facts ? json_loads(n->row.facts, 0, NULL) : NULL;
		for (size_t k = 0; names[k]; k++) {
			const json_t *value = json_object_get(facts, names[k]);
			_cleanup_buf_ struct buf text = {0};
			t[k].nodes++;
			if (value)
				fact_say(names[k], value, &text);
			if (value)
				tally_text(&t[k], buf_str(&text));
			else
				t[k].idle++;
		}
		json_decref(facts);
	}
}

/* ---- items ---- */

static struct fidelity_item *item_add(struct fidelity *f, enum fidelity_kind kind, const char *group, const char *role, const char *name)
{
	GROW(f->items, f->n_items, f->cap_items);
	struct fidelity_item *it = &f->items[f->n_items++];
	*it = (struct fidelity_item){.kind = kind, .group = xstrdup(group), .role = role ? xstrdup(role) : NULL, .name = xstrdup(name)};
	return it;
}

static void item_compare(struct fidelity_item *it, const struct tally *here, const struct tally *there, const char *idle, enum fidelity_cure cure)
{
	it->here = tally_say(here, idle);
	it->there = tally_say(there, idle);
	bool unfinished = here->idle || there->idle || !here->nodes || !there->nodes;
	it->same = !unfinished && here->n_values == 1 && there->n_values == 1 && hash_eq(&here->values[0].hash, &there->values[0].hash);
	if (it->same)
		return;
	/* The same role at two versions within one stage is work under way there, too. */
	bool mixed = it->kind == FIDELITY_CONTENT && (here->n_values > 1 || there->n_values > 1);
	it->cure = unfinished || mixed ? CURE_FINISH : cure;
}

static void compare_part(
        const struct model *m, struct fidelity *f, enum fidelity_kind kind, const char *group, const char *role, const char *name, bool secret)
{
	struct tally here = {0}, there = {0};
	struct fidelity_item *it = item_add(f, kind, group, role, name);
	tally_part(m, f->here, group, role, name, secret, &here);
	tally_part(m, f->there, group, role, name, secret, &there);
	item_compare(it, &here, &there, "not active", kind == FIDELITY_CONTENT ? CURE_CONTENT : CURE_PARAM);
	tally_release(&here);
	tally_release(&there);
}

static void one_sided(struct fidelity *f, enum fidelity_kind kind, const char *group, const char *role, const char *name, bool is_here)
{
	struct fidelity_item *it = item_add(f, kind, group, role, name);
	it->here = xstrdup(is_here ? "described" : "not described");
	it->there = xstrdup(is_here ? "not described" : "described");
	it->cure = CURE_DESCRIBE;
}

static const struct def_role *group_role(const struct def_group *g, const char *name)
{
	for (size_t i = 0; g && i < g->n_roles; i++)
		if (!strcmp(g->roles[i]->name, name))
			return g->roles[i];
	return NULL;
}

static void compare_role(const struct model *m, struct fidelity *f, const char *group, const struct def_role *here, const struct def_role *there)
{
	if (!here || !there) {
		one_sided(f, FIDELITY_CONTENT, group, here ? here->name : there->name, "role", here);
		return;
	}
	const char *name = here->name;
	compare_part(m, f, FIDELITY_CONTENT, group, name, "content", false);
	compare_part(m, f, FIDELITY_CONTENT, group, name, "runner", false);
	for (size_t i = 0; i < here->n_params; i++)
		if (def_param_find(there, here->params[i].name))
			compare_part(m, f, FIDELITY_PARAM, group, name, here->params[i].name, here->params[i].secret);
		else
			one_sided(f, FIDELITY_PARAM, group, name, here->params[i].name, true);
	for (size_t i = 0; i < there->n_params; i++)
		if (!def_param_find(here, there->params[i].name))
			one_sided(f, FIDELITY_PARAM, group, name, there->params[i].name, false);
}

/* Processors and memory are the documents' to say where a group limits them. */
static enum fidelity_cure fact_cure(const char *fact, const struct def_group *here, const struct def_group *there)
{
	bool limited = (!strcmp(fact, "memory") && (here->memory_bytes || there->memory_bytes)) ||
	               (!strcmp(fact, "cpus") && (here->cpus > 0 || there->cpus > 0));
	return limited ? CURE_SIZE : CURE_MACHINE;
}

#define SHOWN_PACKAGES 5

/* "openssl 3.0.17, no zlib1g": what is there in another version than in other, or on one side only. */
static void packages_say(json_t *own, json_t *other, struct buf *out)
{
	const char *name;
	json_t *version;
	size_t n = 0;
	_cleanup_buf_ struct buf list = {0};
	json_object_foreach(own, name, version) if (!json_equal(version, json_object_get(other, name)) && n++ < SHOWN_PACKAGES)
	        buf_addf(&list, "%s%s %s", list.len ? ", " : "", name, json_string_value(version));
	json_object_foreach(other, name, version) if (!json_object_get(own, name) && n++ < SHOWN_PACKAGES)
	        buf_addf(&list, "%sno %s", list.len ? ", " : "", name);
	buf_adds(out, buf_str(&list));
	if (n > SHOWN_PACKAGES)
		buf_addf(out, " and %zu more", n - SHOWN_PACKAGES);
}

/* A list of packages is too long to be shown: how many, and which of two it is. */
static void packages_name(struct tally *t)
{
	for (size_t i = 0; i < t->n_values; i++) {
		json_t *all = json_loads(t->values[i].text, 0, NULL);
		char hex[HASH_HEX];
		hash_hex(&t->values[i].hash, hex);
		free(t->values[i].text);
		t->values[i].text = xasprintf("%zu packages (%.8s)", json_object_size(all), hex);
		json_decref(all);
	}
}

static void compare_packages(struct fidelity *f, const char *group, struct tally *here, struct tally *there)
{
	struct fidelity_item *it = item_add(f, FIDELITY_FACT, group, NULL, "packages");
	json_t *a = here->n_values == 1 ? json_loads(here->values[0].text, 0, NULL) : NULL;
	json_t *b = there->n_values == 1 ? json_loads(there->values[0].text, 0, NULL) : NULL;
	packages_name(here);
	packages_name(there);
	item_compare(it, here, there, "not known", CURE_PACKAGES);
	if (a && b && !it->same && it->cure == CURE_PACKAGES) {
		struct buf x = {0}, y = {0};
		packages_say(a, b, &x);
		packages_say(b, a, &y);
		free(it->here);
		free(it->there);
		it->here = buf_detach(&x, NULL);
		it->there = buf_detach(&y, NULL);
	}
	json_decref(a);
	json_decref(b);
}

static void compare_machines(struct fidelity *f, const struct def_group *g, const struct def_group *other)
{
	const char *group = g->name;
	static const char *const facts[] = {"os", "os-version", "kernel", "arch", "cpus", "memory", "packages", NULL};
	enum { N_FACTS = sizeof facts / sizeof *facts - 1, PACKAGES = N_FACTS - 1 };
	struct tally here[N_FACTS + 1] = {0}, there[N_FACTS + 1] = {0};
	tally_facts(f->here, group, facts, here);
	tally_facts(f->there, group, facts, there);
	tally_image(f->here, group, &here[N_FACTS]);
	tally_image(f->there, group, &there[N_FACTS]);
	item_compare(item_add(f, FIDELITY_IMAGE, group, NULL, "image"), &here[N_FACTS], &there[N_FACTS], "no machine", CURE_IMAGE);
	for (size_t k = 0; k < PACKAGES; k++)
		if (here[k].n_values || there[k].n_values) /* else a kind of machine that tells neither side */
			item_compare(
			        item_add(f, FIDELITY_FACT, group, NULL, facts[k]), &here[k], &there[k], "not known", fact_cure(facts[k], g, other));
	if (here[PACKAGES].n_values || there[PACKAGES].n_values)
		compare_packages(f, group, &here[PACKAGES], &there[PACKAGES]);
	for (size_t k = 0; k <= N_FACTS; k++) {
		tally_release(&here[k]);
		tally_release(&there[k]);
	}
}

static void compare_group(const struct model *m, struct fidelity *f, const struct def_group *here, const struct def_group *there)
{
	const char *name = here->name;
	compare_machines(f, here, there);
	for (size_t i = 0; i < here->n_roles; i++)
		compare_role(m, f, name, here->roles[i], group_role(there, here->roles[i]->name));
	for (size_t i = 0; i < there->n_roles; i++)
		if (!group_role(here, there->roles[i]->name))
			compare_role(m, f, name, NULL, there->roles[i]);
}

void fidelity_make(const struct model *m, const struct deployment *here, const struct deployment *there, struct fidelity *ret)
{
	*ret = (struct fidelity){.here = here, .there = there};
	const struct def_deployment *h = here->def, *t = there->def;
	for (size_t i = 0; h && t && i < h->n_groups; i++) {
		const struct def_group *other = def_group_find(t, h->groups[i].name);
		if (other)
			compare_group(m, ret, &h->groups[i], other);
		else
			one_sided(ret, FIDELITY_CONTENT, h->groups[i].name, NULL, "group", true);
	}
	for (size_t i = 0; h && t && i < t->n_groups; i++)
		if (!def_group_find(h, t->groups[i].name))
			one_sided(ret, FIDELITY_CONTENT, t->groups[i].name, NULL, "group", false);
	size_t same = 0;
	for (size_t i = 0; i < ret->n_items; i++) {
		ret->compared[ret->items[i].kind]++;
		ret->same[ret->items[i].kind] += ret->items[i].same;
		same += ret->items[i].same;
	}
	ret->percent = ret->n_items ? (int)(same * 100 / ret->n_items) : 0;
}

void fidelity_release(struct fidelity *f)
{
	for (size_t i = 0; i < f->n_items; i++) {
		struct fidelity_item *it = &f->items[i];
		free(it->group);
		free(it->role);
		free(it->name);
		free(it->here);
		free(it->there);
	}
	free(f->items);
	*f = (struct fidelity){0};
}

/* ---- shown ---- */

static const char *const kind_names[FIDELITY_KINDS] = {"content", "parameters", "image", "facts"};
static const char *const definition = "percent: of all things compared, those that are the same on all nodes of both, rounded down.\n"
                                      "Compared are, by group: of each role its content, its runner's keys and each parameter, as last run\n"
                                      "with success; of the machines their image and the facts os, os-version, kernel, arch, cpus, memory\n"
                                      "and packages with their versions.\n"
                                      "Held nodes do not count.";

static void cure_say(const struct fidelity *f, enum fidelity_cure cure, struct buf *out)
{
	const char *here = f->here->row.name, *there = f->there->row.name;
	switch (cure) {
	case CURE_FINISH:
		buf_addf(out, "finish what is not active yet: see deployments/%s/why and deployments/%s/why", here, there);
		break;
	case CURE_DESCRIBE:
		buf_addf(out, "describe it in both: 'like = %s' inherits groups and roles", there);
		break;
	case CURE_CONTENT:
		buf_addf(out, "bring the same content to both: see deployments/%s/plan and deployments/%s/plan", here, there);
		break;
	case CURE_PARAM:
		buf_addf(out, "set the parameter alike: [params ROLE] in the documents of %s and %s", here, there);
		break;
	case CURE_IMAGE:
		buf_adds(out, "use the same image: 'image' in the group or the provider, then rebuild");
		break;
	case CURE_SIZE:
		buf_addf(out, "make the machines alike: 'cpus' and 'memory' in the group of %s and of %s", here, there);
		break;
	case CURE_PACKAGES:
		buf_adds(out, "install the same versions: in the image's recipe, or by a role that names them");
		break;
	case CURE_MACHINE:
		buf_adds(out, "other machines: nothing in the repo closes these");
		break;
	case CURE_NONE:
		break;
	}
}

static void subject(const struct fidelity_item *it, struct buf *out)
{
	buf_addf(out, "%s%s%s %s", it->group, it->role ? " " : "", it->role ? it->role : "", it->name);
}

static void gaps_text(const struct fidelity *f, enum fidelity_cure cure, struct buf *out)
{
	size_t width = 0, n = 0;
	_cleanup_buf_ struct buf s = {0};
	for (size_t i = 0; i < f->n_items; i++) {
		if (f->items[i].same || f->items[i].cure != cure)
			continue;
		buf_reset(&s);
		subject(&f->items[i], &s);
		width = s.len > width ? s.len : width;
		n++;
	}
	if (!n)
		return;
	buf_addc(out, '\n');
	cure_say(f, cure, out);
	buf_addc(out, '\n');
	for (size_t i = 0; i < f->n_items; i++) {
		const struct fidelity_item *it = &f->items[i];
		if (it->same || it->cure != cure)
			continue;
		buf_reset(&s);
		subject(it, &s);
		buf_addf(out, "  %-*s  %s here, %s in %s\n", (int)width, buf_str(&s), it->here, it->there, f->there->row.name);
	}
}

void fidelity_text(const struct fidelity *f, struct buf *out)
{
	size_t same = 0;
	for (size_t k = 0; k < FIDELITY_KINDS; k++)
		same += f->same[k];
	if (!f->n_items) {
		buf_addf(out, "%s against %s: nothing to compare: %s was never without mistakes\n", f->here->row.name, f->there->row.name,
		        f->here->def ? f->there->row.name : f->here->row.name);
		return;
	}
	buf_addf(out, "%s against %s: %d %% (%zu of %zu the same)\n\n", f->here->row.name, f->there->row.name, f->percent, same, f->n_items);
	for (size_t k = 0; k < FIDELITY_KINDS; k++)
		if (f->compared[k])
			buf_addf(out, "%-10s  %3zu %%  %zu of %zu\n", kind_names[k], f->same[k] * 100 / f->compared[k], f->same[k], f->compared[k]);
	for (enum fidelity_cure c = CURE_FINISH; c <= CURE_MACHINE; c++)
		gaps_text(f, c, out);
	buf_addf(out, "\n%s\n", definition);
}

void fidelity_json(const struct fidelity *f, struct buf *out)
{
	json_t *kinds = json_object(), *items = json_array();
	for (size_t k = 0; k < FIDELITY_KINDS; k++)
		json_object_set_new(
		        kinds, kind_names[k], json_pack("{s:I, s:I}", "same", (json_int_t)f->same[k], "compared", (json_int_t)f->compared[k]));
	for (size_t i = 0; i < f->n_items; i++) {
		const struct fidelity_item *it = &f->items[i];
		_cleanup_buf_ struct buf cure = {0};
		cure_say(f, it->cure, &cure);
		json_array_append_new(items, json_pack("{s:s, s:s, s:s?, s:s, s:b, s:s?, s:s?, s:s?}", "kind", kind_names[it->kind], "group",
		                                     it->group, "role", it->role, "name", it->name, "same", it->same, "here", it->here, "there",
		                                     it->there, "closed-by", it->same ? NULL : buf_str(&cure)));
	}
	json_t *all = json_pack("{s:s, s:s, s:i, s:s, s:o, s:o}", "deployment", f->here->row.name, "against", f->there->row.name, "percent",
	        f->percent, "definition", definition, "kinds", kinds, "items", items);
	char *text = json_dumps(all, JSON_INDENT(2));
	buf_adds(out, text ? text : "{}");
	buf_addc(out, '\n');
	free(text);
	json_decref(all);
}
