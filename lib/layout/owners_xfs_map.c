/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The trees of an xfs: of a group's inodes (blocks named within the group) and of an inode's extents (named within the
 * file system). The format's facts are those of the kernel's fs/xfs/libxfs/xfs_format.h.
 *
 * A walk ends: the level falls by one at each step down, a block has no more pointers than fit, and each block that is read
 * costs of the budget. It holds one block for each level.
 */
#include <errno.h>

#include "lib/base/cleanup.h"
#include "lib/layout/owners_xfs.h"

#define INODES_MAGIC   UINT32_C(0x49414254) /* IABT: version 4 */
#define INODES_MAGIC_5 UINT32_C(0x49414233) /* IAB3 */
#define MAP_MAGIC      UINT32_C(0x424d4150) /* BMAP: version 4 */
#define MAP_MAGIC_5    UINT32_C(0x424d4133) /* BMA3 */

#define RECORD 16 /* bytes, of both trees */

/* What the two kinds of tree differ in. */
struct shape {
	uint32_t magic;
	size_t head, entry; /* bytes: before the first record or key; of a key, and of a pointer */
	size_t place_at, uuid_at, owner_at, crc_at; /* version 5 */
};

static const struct shape *tree_shape(const struct owners_xfs *x, const struct xfs_tree *t)
{
	static const struct shape maps[2] = { { MAP_MAGIC, 24, 8, 0, 0, 0, 0 },
					      { MAP_MAGIC_5, 72, 8, 24, 40, 56, 64 } };
	static const struct shape inodes[2] = { { INODES_MAGIC, 16, 4, 0, 0, 0, 0 },
						{ INODES_MAGIC_5, 56, 4, 16, 32, 48, 52 } };

	return t->map ? &maps[x->super.v5] : &inodes[x->super.v5];
}

static size_t block_bytes(const struct owners_xfs *x)
{
	return (size_t)1 << x->super.block_log;
}

static uint8_t *tree_buffer(const struct owners_xfs *x, const struct xfs_tree *t,
			    unsigned int level)
{
	return x->levels[t->map] + level * block_bytes(x);
}

uint64_t owners_xfs_group_blocks(const struct owners_xfs *x, uint64_t number)
{
	return MIN(x->super.blocks - number * x->super.ag_blocks, (uint64_t)x->super.ag_blocks);
}

bool owners_xfs_spend(struct owners_xfs *x, uint64_t blocks)
{
	if (x->budget < blocks)
		return false;
	x->budget -= blocks;
	return true;
}

/* Byte address of @blocks blocks from @number of the whole on, all in one group: 0, or -EBADMSG. */
static int blocks_at(const struct owners_xfs *x, uint64_t number, uint64_t blocks, uint64_t *ret)
{
	const uint64_t group = number >> x->group_log;
	const uint64_t block = number & ((UINT64_C(1) << x->group_log) - 1);
	uint64_t all;

	if (group >= x->super.ags)
		return -EBADMSG;
	all = owners_xfs_group_blocks(x, group);
	if (block >= all || blocks > all - block)
		return -EBADMSG;
	*ret = (group * x->super.ag_blocks + block) << x->super.block_log;
	return 0;
}

/* Is it a block of this tree, of @level, and of this place, with no more entries than fit? */
static bool tree_block_right(const struct owners_xfs *x, const struct xfs_tree *t, const uint8_t *p,
			     uint64_t at, unsigned int level)
{
	const struct shape *s = tree_shape(x, t);
	const size_t size = block_bytes(x), entry = level ? 2 * s->entry : RECORD;

	if (be32_at(p) != s->magic || be16_at(p + 4) != level ||
	    be16_at(p + 6) > (size - s->head) / entry)
		return false;
	if (!x->super.v5)
		return true;
	return be64_at(p + s->place_at) == at / 512 &&
	       (t->map ? be64_at(p + s->owner_at) : be32_at(p + s->owner_at)) == t->owner &&
	       memcmp(p + s->uuid_at, x->super.uuid, sizeof(x->super.uuid)) == 0 &&
	       xfs_crc_right(p, size, s->crc_at);
}

/* A block of the tree as a number of the whole file system; one that is of none where it is not in the group. */
static uint64_t tree_number(const struct owners_xfs *x, const struct xfs_tree *t, uint64_t pointer)
{
	if (t->map)
		return pointer;
	return pointer >> x->group_log ? UINT64_MAX : t->owner << x->group_log | pointer;
}

/* Pointer @i of the node of @level in its buffer. */
static uint64_t tree_pointer(const struct owners_xfs *x, const struct xfs_tree *t,
			     unsigned int level, unsigned int i)
{
	const struct shape *s = tree_shape(x, t);
	/* they stand behind as many keys as there is room for */
	const size_t room = (block_bytes(x) - s->head) / (2 * s->entry);
	const uint8_t *p = tree_buffer(x, t, level) + s->head + (room + i) * s->entry;

	return t->map ? be64_at(p) : be32_at(p);
}

/* Block @pointer into the buffer of @level. Returns how many entries are to be gone through: none of a leaf, it is done. */
static int tree_enter(struct owners_xfs *x, const struct xfs_tree *t, uint64_t pointer,
		      unsigned int level, struct err *e)
{
	uint8_t *p = tree_buffer(x, t, level);
	uint64_t at;
	int r;

	r = blocks_at(x, tree_number(x, t, pointer), 1, &at);
	if (r >= 0 && t->block)
		r = t->block(t->ctx, at);
	if (r >= 0 && !owners_xfs_spend(x, 1))
		r = -EBADMSG;
	if (r >= 0)
		r = owners_walk_read(x->w, p, block_bytes(x), at, e);
	if (r >= 0 && !tree_block_right(x, t, p, at, level))
		r = -EBADMSG;
	if (r >= 0 && !level)
		r = t->leaf(t->ctx, p + tree_shape(x, t)->head, be16_at(p + 6), e);
	if (r == -EBADMSG) {
		t->lost(t->ctx);
		return 0;
	}
	if (r < 0)
		return r;
	return level ? be16_at(p + 6) : 0;
}

int owners_xfs_tree(struct owners_xfs *x, const struct xfs_tree *t, uint64_t pointer,
		    unsigned int level, struct err *e)
{
	struct {
		int next, count;
	} at[XFS_LEVELS_MAX];
	const unsigned int top = level;

	if (top >= XFS_LEVELS_MAX) {
		t->lost(t->ctx);
		return 0;
	}
	for (;;) {
		at[level].next = 0;
		at[level].count = tree_enter(x, t, pointer, level, e);
		if (at[level].count < 0)
			return at[level].count;
		while (at[level].next == at[level].count) {
			if (level++ == top)
				return 0;
		}
		pointer = tree_pointer(x, t, level, (unsigned int)at[level].next++);
		level--;
	}
}

/* ---- where an inode's blocks are ------------------------------------------------------------------------ */

struct map_walk {
	struct owners_xfs *x;
	const struct xfs_map *m;
	uint64_t next; /* block in the file: what comes does not begin before */
};

static int map_block(void *ctx, uint64_t at)
{
	const struct map_walk *k = ctx;
	const struct owner_id id = { .inode = k->m->inode->number };

	if (!k->m->tell)
		return 0;
	return owners_walk_piece(k->x->w, id, OWNER_MAP, at, block_bytes(k->x), 0);
}

static void map_lost(void *ctx)
{
	const struct map_walk *k = ctx;

	owners_walk_lost(k->x->w, "where the blocks of inode %llu are",
			 (unsigned long long)k->m->inode->number);
}

static int map_record(struct map_walk *k, const uint8_t *p, struct err *e)
{
	const uint64_t high = be64_at(p), low = be64_at(p + 8);
	/* from the top: a bit, 54 of the offset, 52 of the block, 21 of the count */
	const uint64_t offset = high << 1 >> 10, count = low & 0x1fffff;
	const uint64_t number = (high & 0x1ff) << 43 | low >> 21;
	const unsigned int log = k->x->super.block_log;
	struct xfs_run run = { .unwritten = high >> 63 };
	int r;

	if (!count || offset < k->next || offset + count > (uint64_t)INT64_MAX >> log)
		return -EBADMSG;
	k->next = offset + count;
	if (k->m->fork->elsewhere)
		return 0;
	r = blocks_at(k->x, number, count, &run.at);
	if (r < 0)
		return r;
	run.offset = offset << log;
	run.length = count << log;
	return k->m->run(k->m->ctx, &run, e);
}

static int map_records(void *ctx, const uint8_t *records, unsigned int count, struct err *e)
{
	for (unsigned int i = 0; i < count; i++) {
		const int r = map_record(ctx, records + (size_t)i * RECORD, e);

		if (r < 0)
			return r;
	}
	return 0;
}

/* The root of the tree is in the inode: a level, a count, keys and pointers. */
static int map_tree(struct map_walk *k, const struct xfs_fork *f, struct err *e)
{
	const struct xfs_tree t = {
		.map = true,
		.owner = k->m->inode->number,
		.block = map_block,
		.leaf = map_records,
		.lost = map_lost,
		.ctx = k,
	};
	const size_t room = f->bytes < 4 ? 0 : (f->bytes - 4) / 16;
	const unsigned int level = room ? be16_at(f->p) : 0;
	const unsigned int count = room ? be16_at(f->p + 2) : 0;

	if (!level || !count || count > room)
		return -EBADMSG;
	for (unsigned int i = 0; i < count; i++) {
		const uint64_t number = be64_at(f->p + 4 + (room + i) * 8);
		const int r = owners_xfs_tree(k->x, &t, number, level - 1, e);

		if (r < 0)
			return r;
	}
	return 0;
}

int owners_xfs_map(struct owners_xfs *x, const struct xfs_map *m, struct err *e)
{
	const struct xfs_fork *f = m->fork;
	struct map_walk k = { .x = x, .m = m };
	int r;

	if (f->format == XFS_BTREE) {
		r = map_tree(&k, f, e);
	} else if (f->extents > f->bytes / RECORD) {
		r = -EBADMSG;
	} else {
		r = map_records(&k, f->p, (unsigned int)f->extents, e);
	}
	if (r != -EBADMSG)
		return r;
	map_lost(&k);
	return 0;
}
