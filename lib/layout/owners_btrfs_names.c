/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The names of a few inodes of many. An inode says itself in which directory it is and by which name (INODE_REF), beside
 * its other items, so nothing is walked: those that are wanted are looked up in the order in which they are stored, then the
 * directories that they are in, then those of these, up to the roots. Each once, whatever hostile directories lead to.
 *
 * A name is in its directory as well, twice (DIR_ITEM, DIR_INDEX). Where an inode's own word is lost, its subvolume is walked for
 * those.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/base/cleanup.h"
#include "lib/layout/owners_btrfs.h"

/* A path has no more parts than a name of its system call has bytes. */
#define ROUNDS_MAX 4096
/*
 * Inodes looked up, tree blocks gone into for that, and names told. A hundred thousand files (there are no more: OWNERS_MAX) in as
 * many directories are far below; a few 100 MiB of memory, and minutes at worst.
 */
#define WORK_MAX (UINT64_C(8) << 20)
/* Each may read all tree blocks of the device. */
#define SCANS_MAX 64

struct ids {
	struct owner_id *items;
	size_t count, allocated;
};

struct naming {
	struct btrfs *b;
	struct ids now, next; /* looked up in this round, and in the one to come */
	struct ids done;      /* directories that were, or are in `next` */
	struct ids orphans;   /* of this round: the tree block that would tell of them is lost */
	bool directories;     /* what is looked up now */
	uint64_t work;
	unsigned int scans;
};

static void naming_done(struct naming *n)
{
	free(n->now.items);
	free(n->next.items);
	free(n->done.items);
	free(n->orphans.items);
}

static int ids_add(struct ids *s, struct owner_id id)
{
	if (ARRAY_ROOM(s->items, s->count, s->allocated, 64) < 0)
		return -ENOMEM;
	s->items[s->count++] = id;
	return 0;
}

static void ids_sort(struct ids *s)
{
	size_t kept = 0;

	if (s->count)
		qsort(s->items, s->count, sizeof(*s->items), owner_id_compare);
	for (size_t i = 0; i < s->count; i++) {
		if (!kept || owner_id_compare(&s->items[kept - 1], &s->items[i]) != 0)
			s->items[kept++] = s->items[i];
	}
	s->count = kept;
}

static bool ids_have(const struct owner_id *items, size_t count, const struct owner_id *id)
{
	return count && bsearch(id, items, count, sizeof(*items), owner_id_compare);
}

/* Take those out of @s that are in @done, and add the others to it: what @s has left is new. */
static int ids_keep_new(struct ids *s, struct ids *done)
{
	struct ids both = { 0 };
	size_t kept = 0, j = 0;

	for (size_t i = 0; i < s->count; i++) {
		if (!ids_have(done->items, done->count, &s->items[i]))
			s->items[kept++] = s->items[i];
	}
	s->count = kept;
	if (!kept)
		return 0;
	both.allocated = done->count + kept;
	both.items = reallocarray(NULL, both.allocated, sizeof(*both.items));
	if (!both.items)
		return -ENOMEM;
	for (size_t i = 0; i < kept; i++) {
		while (j < done->count && owner_id_compare(&done->items[j], &s->items[i]) < 0)
			both.items[both.count++] = done->items[j++];
		both.items[both.count++] = s->items[i];
	}
	while (j < done->count)
		both.items[both.count++] = done->items[j++];
	free(done->items);
	*done = both;
	return 0;
}

static bool too_much(const struct naming *n)
{
	if (n->work <= WORK_MAX)
		return false;
	owners_walk_lost(n->b->w, "names: they are in too many directories");
	return true;
}

/* ---- one inode ------------------------------------------------------------------------------------------------------ */

static int tell_entry(struct naming *n, struct owner_id parent, struct owner_id child,
		      const char *name, size_t len)
{
	int r = owners_walk_entry(n->b->w, parent, child, n->directories, name, len);

	n->work++;
	return r < 0 ? r : ids_add(&n->next, parent);
}

struct lookup {
	struct naming *n;
	struct owner_id id;
};

/* Its first name will do. */
static int take_ref(void *ctx, const struct btrfs_item *item, struct err *e)
{
	const struct lookup *l = ctx;
	struct owner_id parent = { .tree = l->id.tree, .inode = item->key.offset };
	size_t head, len;
	int r;

	(void)e;
	if (item->key.type == BTRFS_ITEM_INODE_REF &&
	    item->size > sizeof(struct btrfs_disk_inode_ref)) {
		const struct btrfs_disk_inode_ref *d = (const void *)item->data;

		head = sizeof(*d);
		len = le16_get(d->name_len);
	} else if (item->key.type == BTRFS_ITEM_INODE_EXREF &&
		   item->size > sizeof(struct btrfs_disk_inode_exref)) {
		const struct btrfs_disk_inode_exref *d = (const void *)item->data;

		head = sizeof(*d);
		len = le16_get(d->name_len);
		parent.inode = le64_get(d->parent);
	} else {
		return 0;
	}
	if (!len || len > item->size - head)
		return 0;
	r = tell_entry(l->n, parent, l->id, (const char *)item->data + head, len);
	return r < 0 ? r : 1;
}

static int name_inode(struct naming *n, struct owner_id id, struct err *e)
{
	const struct btrfs_subvolume *v = btrfs_subvolume(n->b, id.tree);
	const struct btrfs_range range = {
		.first = { .objectid = id.inode, .type = BTRFS_ITEM_INODE_REF },
		.last = { .objectid = id.inode,
			  .type = BTRFS_ITEM_INODE_EXREF,
			  .offset = UINT64_MAX },
	};
	struct lookup l = { .n = n, .id = id };
	const uint64_t lost = n->b->tree.lost;
	int r;

	if (!v)
		return 0;
	r = btrfs_tree_walk(&n->b->tree, &v->root, &range, take_ref, &l, e);
	if (r)
		return r < 0 ? r : 0;
	return n->b->tree.lost != lost ? ids_add(&n->orphans, id) : 0;
}

static int name_one(struct naming *n, struct owner_id id, struct err *e)
{
	const struct btrfs_subvolume_name *name;
	struct owner_id parent;

	if (id.inode != BTRFS_ROOT_INODE)
		return name_inode(n, id, e);
	if (id.tree == BTRFS_TREE_FILES)
		return 0;
	name = btrfs_subvolume_name(n->b, id.tree);
	if (!name)
		return 0;
	parent = (struct owner_id){ .tree = name->parent, .inode = name->directory };
	return tell_entry(n, parent, id, name->name, strlen(name->name));
}

/* ---- those whose own word is lost -------------------------------------------------------------------------------- */

struct scan {
	struct naming *n;
	const struct owner_id *orphans; /* of one subvolume */
	size_t count;
};

static int take_index(void *ctx, const struct btrfs_item *item, struct err *e)
{
	const struct scan *s = ctx;
	const struct btrfs_disk_dir_item *d = (const void *)item->data;
	struct owner_id parent = { .tree = s->orphans->tree, .inode = item->key.objectid };
	struct owner_id child = { .tree = s->orphans->tree };

	(void)e;
	/* of several DIR_ITEMs with one hash the first: the others have their DIR_INDEX */
	if ((item->key.type != BTRFS_ITEM_DIR && item->key.type != BTRFS_ITEM_DIR_INDEX) ||
	    item->size < sizeof(*d) || d->location.type != BTRFS_ITEM_INODE ||
	    le16_get(d->name_len) > item->size - sizeof(*d))
		return 0;
	child.inode = le64_get(d->location.objectid);
	if (!ids_have(s->orphans, s->count, &child))
		return 0;
	if (too_much(s->n))
		return 1;
	return tell_entry(s->n, parent, child, (const char *)(d + 1), le16_get(d->name_len));
}

static int scan_subvolume(struct scan *s, struct err *e)
{
	struct btrfs *b = s->n->b;
	const struct btrfs_subvolume *v = btrfs_subvolume(b, s->orphans->tree);

	if (!v || s->n->scans == SCANS_MAX)
		return 0;
	s->n->scans++;
	return btrfs_tree_walk(&b->tree, &v->root, &BTRFS_RANGE_ALL, take_index, s, e);
}

/* 0, or 1: it has become too much. */
static int scan_orphans(struct naming *n, struct err *e)
{
	int r = 0;

	for (size_t i = 0, end; !r && i < n->orphans.count; i = end) {
		struct scan s = { .n = n, .orphans = &n->orphans.items[i] };

		for (end = i;
		     end < n->orphans.count && n->orphans.items[end].tree == s.orphans->tree;)
			end++;
		s.count = end - i;
		r = scan_subvolume(&s, e);
	}
	return r;
}

/* ---- all of them --------------------------------------------------------------------------------------------------- */

/* 0, or 1: it has become too much. */
static int naming_round(struct naming *n, struct err *e)
{
	n->next.count = 0;
	n->orphans.count = 0;
	/* putting together what was done is work, too */
	n->work += n->done.count / 1024;
	for (size_t i = 0; i < n->now.count; i++) {
		const uint64_t visits = n->b->tree.visits;
		int r;

		if (too_much(n))
			return 1;
		r = name_one(n, n->now.items[i], e);
		if (r < 0)
			return r;
		n->work += 1 + n->b->tree.visits - visits;
	}
	return scan_orphans(n, e);
}

int btrfs_tell_names(struct btrfs *b, struct err *e)
{
	_cleanup_(naming_done) struct naming n = { .b = b };
	size_t n_holders;
	const struct owner_id *holders = owners_walk_holders(b->w, &n_holders);

	for (size_t i = 0; i < n_holders; i++) {
		if (ids_add(&n.now, holders[i]) < 0)
			return -ENOMEM;
	}
	for (unsigned int round = 0; n.now.count && round < ROUNDS_MAX; round++) {
		struct ids swap;
		int r = naming_round(&n, e);

		if (r)
			return r < 0 ? r : 0;
		ids_sort(&n.next);
		r = ids_keep_new(&n.next, &n.done);
		if (r < 0)
			return r;
		swap = n.now;
		n.now = n.next;
		n.next = swap;
		n.directories = true;
	}
	return 0;
}
