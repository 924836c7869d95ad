/* Where in the live tree: a directory or file as a number, both ways, without a table of inodes. A place is (kind of object, its id, row of that
 * kind's table, name within that row), and all of it fits into the 63 bits under FUSE's node id: so LOOKUP only computes, FORGET has nothing to do,
 * and a place is the same one after a restart. The top bit keeps live places apart from those of the repo, which are addresses of user space. */
#ifndef REBARFS_VIEW_PLACE_H
#define REBARFS_VIEW_PLACE_H

#include <stdbool.h>
#include <stdint.h>

enum place_kind {
	PLACE_ROOT,
	PLACE_PROVIDER,
	PLACE_ROLE,
	PLACE_DEPLOYMENT,
	PLACE_NODE,
	PLACE_NODE_ROLE,
	PLACE_RUN,
	PLACE_KINDS
}; /* as enum object_kind */
struct place {
	enum place_kind kind;
	unsigned row;  /* 0: the object's own directory; n: row n - 1 of its table; PLACE_LINK_*: a symbolic link to the object */
	uint32_t name; /* 0, or what the row's directory holds: an interned name. Of a run: its number's low bits */
	uint32_t id;   /* the object's; of providers and roles, which are known by their names alone: the interned name. Of a run: its node role's */
};
#define PLACE_LINK_DEPLOYMENT 126 /* stands in deployments/X/nodes or /roles */
#define PLACE_LINK_PROVIDER 125   /* stands in providers/X/nodes */
#define PLACE_NAME_BITS 20
#define PLACE_NAME_MASK ((1u << PLACE_NAME_BITS) - 1)

/* FUSE's root id is 1. */
uint64_t place_ino(const struct place *p);
bool ino_is_live(uint64_t ino);
struct place ino_place(uint64_t ino);

/* Names are interned for the life of the mount: they come from documents and outputs, so there are few. Any thread. */
struct names;
struct names *names_new(void);
void names_free(struct names *n);
/* second may be NULL. 0: there are too many (a million). */
uint32_t names_intern(struct names *n, const char *first, const char *second);
const char *names_first(struct names *n, uint32_t id);  /* NULL: no such id. Good until names_free */
const char *names_second(struct names *n, uint32_t id); /* NULL: none */

/* What stat() shows: the place itself, or where interned names are in it, which another mount numbers otherwise, a hash of their text. */
uint64_t place_stat_ino(struct names *n, const struct place *p);

#endif
