/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * btrfs_tree - the items of a tree of a btrfs, in order. For owners_btrfs.c and what belongs to it.
 *
 * What holds, whatever the device says: a child is one level below its parent, begins with the key that the parent has for it, and
 * ends before its next; so no block is met twice in a walk, which ends. This is asked of blocks that were kept, too: else a tree
 * of eight blocks, each the child of its parent in all slots, would have more leaves than can ever be gone through. `seen` makes
 * it hold for several walks together.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/layout/btrfs_space.h"

/* Which blocks have been read: a bit for each sector of the device where there are any. */
struct btrfs_seen {
	uint64_t **pages;
	size_t count;
	uint32_t sector;
};
/* 0 or -ENOMEM; btrfs_seen_done() in any case */
int btrfs_seen_init(struct btrfs_seen *s, uint64_t size, uint32_t sector);
void btrfs_seen_done(struct btrfs_seen *s);

struct btrfs_level {
	uint8_t *block;	      /* NULL: not yet used */
	bool valid;	      /* `block` is sound, and this level's */
	uint64_t at;	      /* where on the device it is */
	uint32_t slot;	      /* what comes next */
	struct btrfs_key end; /* all in it is below */
};

/* What was read last is kept: walks of short ranges one after the other read little. */
struct btrfs_tree {
	struct btrfs_space *space;
	struct btrfs_seen *seen; /* or NULL: blocks in it are not gone into again */
	struct btrfs_level levels[BTRFS_LEVELS_MAX];
	uint64_t visits; /* blocks that were to be gone into, in all walks */
	uint64_t lost;	 /* those that could not be */
};
void btrfs_tree_done(struct btrfs_tree *t);

struct btrfs_item {
	struct btrfs_key key;
	const uint8_t *data;
	uint32_t size;
};
/* 0: go on; another number ends the walk, and is its result. */
typedef int (*btrfs_item_fn)(void *ctx, const struct btrfs_item *item, struct err *e);

/*
 * All items of the tree at @root from @first to @last, both included. A block that cannot be read is said by
 * owners_walk_lost(). 0; what @fn returned; or an error that ends it.
 */
struct btrfs_range {
	struct btrfs_key first, last;
};
#define BTRFS_RANGE_ALL ((struct btrfs_range){ .last = BTRFS_KEY_MAX })
int btrfs_tree_walk(struct btrfs_tree *t, const struct btrfs_ref *root,
		    const struct btrfs_range *range, btrfs_item_fn fn, void *ctx, struct err *e);
