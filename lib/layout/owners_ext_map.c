/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where an inode's blocks are: trees of extents, and block maps with their indirect blocks. */
#include <errno.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/le.h"
#include "lib/layout/owners_ext.h"

#define ROOT_AT	   40u /* of either, in the inode */
#define ROOT_BYTES 60u

#define EXTENTS_MAGIC 0xf30au
/* An extent that is longer is so much shorter, and has not been written to. */
#define WRITTEN_MAX 32768u

#define DIRECT_BLOCKS 12u
#define MAP_POINTERS  15u
#define MAP_LEVELS    3u /* one pointer for each is behind the direct ones */

struct extents_head {
	le16_t magic, entries, room, level;
	le32_t generation;
};
/* Of level 0, and of those above. */
struct extents_leaf {
	le32_t logical;
	le16_t count, block_high;
	le32_t block;
};
struct extents_index {
	le32_t logical, block;
	le16_t block_high, unused;
};
#define ENTRY_BYTES sizeof(struct extents_leaf)
_Static_assert(sizeof(struct extents_head) == 12, "as on disk");
_Static_assert(sizeof(struct extents_leaf) == 12, "as on disk");
_Static_assert(sizeof(struct extents_index) == 12, "as on disk");

static void map_lost(struct ext *x, const struct ext_inode *i)
{
	owners_walk_lost(x->w, "where blocks of inode %u are", i->number);
}

/*
 * The block of a map at @block into level @level's buffer. 1; 0: it is lost, or hostile: what trees have in all is no more
 * than the file system has.
 */
static int node_read(struct ext *x, uint64_t block, uint32_t level, struct err *e)
{
	int r;

	if (!x->visits)
		return 0;
	x->visits--;
	r = ext_read_block(x, x->levels + (size_t)level * x->block_size, block, e);
	if (r == -EBADMSG)
		return 0;
	return r < 0 ? r : 1;
}

/* ---- extents -------------------------------------------------------------------------------------------- */

static struct extents_head extents_head(const uint8_t *node)
{
	struct extents_head h;

	memcpy(&h, node, sizeof(h));
	return h;
}

static struct extents_index extents_index(const uint8_t *node, uint32_t n)
{
	struct extents_index i;

	memcpy(&i, node + sizeof(struct extents_head) + n * sizeof(i), sizeof(i));
	return i;
}

static struct ext_run leaf_run(const uint8_t *node, uint32_t n)
{
	struct extents_leaf l;
	uint32_t count;

	memcpy(&l, node + sizeof(struct extents_head) + n * sizeof(l), sizeof(l));
	count = le16_get(l.count);
	return (struct ext_run){
		.logical = le32_get(l.logical),
		.block = le32_get(l.block) | (uint64_t)le16_get(l.block_high) << 32,
		.count = count > WRITTEN_MAX ? count - WRITTEN_MAX : count,
		.unwritten = count > WRITTEN_MAX,
	};
}

static uint64_t index_block(const struct extents_index *i)
{
	return le32_get(i->block) | (uint64_t)le16_get(i->block_high) << 32;
}

static bool entries_valid(const struct ext *x, const uint8_t *node, uint32_t entries, bool leaf)
{
	uint64_t next = 0;

	for (uint32_t n = 0; n < entries; n++) {
		const struct extents_index i = extents_index(node, n);
		const struct ext_run run = leaf_run(node, n);
		const uint64_t block = leaf ? run.block : index_block(&i);
		const uint64_t count = leaf ? run.count : 1;

		/* where it begins stands at the same place in both */
		if (!count || run.logical < next || !ext_inside(x, block, count))
			return false;
		next = run.logical + count;
	}
	return true;
}

/* One of @level, of @bytes. */
static bool extents_valid(const struct ext *x, const struct ext_inode *i, const uint8_t *node,
			  size_t bytes, uint32_t level)
{
	const struct extents_head h = extents_head(node);
	const size_t used = sizeof(h) + le16_get(h.room) * ENTRY_BYTES;
	le32_t check;

	if (le16_get(h.magic) != EXTENTS_MAGIC || le16_get(h.level) != level ||
	    le16_get(h.entries) > le16_get(h.room) || used > bytes)
		return false;
	/* a tree that has got empty has one level: here something was lost */
	if (level && !le16_get(h.entries))
		return false;
	/* the root's is the inode's */
	if (x->checks && bytes == x->block_size) {
		if (used > bytes - sizeof(check))
			return false;
		memcpy(&check, node + used, sizeof(check));
		if (ext2fs_crc32c_le(i->seed, node, used) != le32_get(check))
			return false;
	}
	return entries_valid(x, node, le16_get(h.entries), !level);
}

/* A node that is being gone through. */
struct place {
	const uint8_t *node;
	uint32_t next, entries;
};

static void place_begin(struct place *p, const uint8_t *node)
{
	const struct extents_head h = extents_head(node);

	*p = (struct place){ .node = node, .entries = le16_get(h.entries) };
}

/* Down to the next node below @at[@level], if it is there. */
static int extents_descend(struct ext *x, const struct ext_inode *i, struct place *at,
			   uint32_t *level, const struct ext_map_seen *seen, struct err *e)
{
	const uint32_t below = *level - 1;
	const struct extents_index entry = extents_index(at[*level].node, at[*level].next++);
	const uint8_t *node = x->levels + (size_t)below * x->block_size;
	int r = seen->node(seen->ctx, index_block(&entry));

	if (r < 0)
		return r;
	r = node_read(x, index_block(&entry), below, e);
	if (r < 0)
		return r;
	if (!r || !extents_valid(x, i, node, x->block_size, below)) {
		map_lost(x, i);
		return 0;
	}
	place_begin(&at[below], node);
	*level = below;
	return 0;
}

static int extents_walk(struct ext *x, const struct ext_inode *i, const struct ext_map_seen *seen,
			struct err *e)
{
	const uint8_t *root = i->raw + ROOT_AT;
	const struct extents_head h = extents_head(root);
	const uint32_t top = le16_get(h.level);
	struct place at[EXT_LEVELS_MAX + 1];
	uint32_t level = top;
	int r = 0;

	if (top > EXT_LEVELS_MAX || !extents_valid(x, i, root, ROOT_BYTES, top)) {
		map_lost(x, i);
		return 0;
	}
	place_begin(&at[top], root);
	while (r >= 0) {
		struct place *p = &at[level];

		if (p->next == p->entries) {
			if (level++ == top)
				return 0;
		} else if (level) {
			r = extents_descend(x, i, at, &level, seen, e);
		} else {
			const struct ext_run run = leaf_run(p->node, p->next++);

			r = seen->run(seen->ctx, &run);
		}
	}
	return r;
}

/* ---- block maps ----------------------------------------------------------------------------------------- */

struct blocks {
	struct ext *x;
	const struct ext_inode *i;
	const struct ext_map_seen *seen;
	struct ext_run run;
	uint64_t logical; /* of the next pointer */
};

static int run_end(struct blocks *b)
{
	const struct ext_run n = b->run;

	b->run.count = 0;
	return n.count ? b->seen->run(b->seen->ctx, &n) : 0;
}

static int run_add(struct blocks *b, uint64_t block)
{
	int r;

	if (b->run.count && b->run.logical + b->run.count == b->logical &&
	    b->run.block + b->run.count == block) {
		b->run.count++;
		return 0;
	}
	r = run_end(b);
	b->run = (struct ext_run){ .logical = b->logical, .block = block, .count = 1 };
	return r;
}

static uint64_t pointer_at(const uint8_t *p, uint32_t n)
{
	le32_t v;

	memcpy(&v, p + (size_t)n * sizeof(v), sizeof(v));
	return le32_get(v);
}

static bool pointers_valid(const struct ext *x, const uint8_t *p, uint32_t count)
{
	for (uint32_t n = 0; n < count; n++) {
		const uint64_t block = pointer_at(p, n);

		if (block && !ext_inside(x, block, 1))
			return false;
	}
	return true;
}

/* How many blocks a pointer of @level is for. */
static uint64_t pointer_covers(const struct ext *x, uint32_t level)
{
	uint64_t n = 1;

	while (level--)
		n *= x->block_size / sizeof(le32_t);
	return n;
}

/* The block of pointers at @block into level @level's buffer. 1; 0: it is lost, that is said. */
static int pointers_read(struct blocks *b, uint64_t block, uint32_t level, struct err *e)
{
	const uint32_t count = b->x->block_size / sizeof(le32_t);
	int r = b->seen->node(b->seen->ctx, block);

	if (r >= 0)
		r = node_read(b->x, block, level, e);
	if (r < 0)
		return r;
	if (r && pointers_valid(b->x, b->x->levels + (size_t)level * b->x->block_size, count))
		return 1;
	map_lost(b->x, b->i);
	return 0;
}

/*
 * A pointer of @level; of level 0 it is to a block of the file. 1: its block was read, and it is to be gone through; 0: there is
 * nothing more of it, and b->logical was moved behind.
 */
static int pointer_follow(struct blocks *b, uint64_t block, uint32_t level, struct err *e)
{
	int r = 0;

	if (block)
		r = level ? pointers_read(b, block, level - 1, e) : run_add(b, block);
	if (!r)
		b->logical += pointer_covers(b->x, level);
	return r;
}

/* What a pointer of level @top leads to. */
static int pointers_walk(struct blocks *b, uint64_t block, uint32_t top, struct err *e)
{
	const struct ext *x = b->x;
	const uint32_t count = x->block_size / sizeof(le32_t);
	uint32_t next[MAP_LEVELS + 1] = { 0 }; /* in the block that one of this level led to */
	uint32_t level = top;
	int r = pointer_follow(b, block, top, e);

	if (r <= 0)
		return r;
	while (level <= top) {
		const uint8_t *node = x->levels + (size_t)(level - 1) * x->block_size;

		if (next[level] == count) {
			level++;
			continue;
		}
		r = pointer_follow(b, pointer_at(node, next[level]++), level - 1, e);
		if (r < 0)
			return r;
		if (r)
			next[--level] = 0;
	}
	return 0;
}

static int blocks_walk(struct ext *x, const struct ext_inode *i, const struct ext_map_seen *seen,
		       struct err *e)
{
	struct blocks b = { .x = x, .i = i, .seen = seen };
	uint8_t root[ROOT_BYTES];
	int r = 0;

	memcpy(root, i->raw + ROOT_AT, sizeof(root));
	if (!pointers_valid(x, root, MAP_POINTERS)) {
		map_lost(x, i);
		return 0;
	}
	for (uint32_t n = 0; r >= 0 && n < MAP_POINTERS; n++) {
		r = pointers_walk(&b, pointer_at(root, n),
				  n < DIRECT_BLOCKS ? 0 : n - DIRECT_BLOCKS + 1, e);
	}
	return r < 0 ? r : run_end(&b);
}

int ext_map_walk(struct ext *x, const struct ext_inode *i, const struct ext_map_seen *seen,
		 struct err *e)
{
	if (i->flags & EXT4_EXTENTS_FL)
		return extents_walk(x, i, seen, e);
	return blocks_walk(x, i, seen, e);
}
