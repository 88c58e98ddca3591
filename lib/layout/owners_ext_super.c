/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The super block and the groups' descriptors of an ext2, ext3 or ext4, or copies of them.
 *
 * The kernel writes copies of descriptors when it resizes only: they are right about where tables are, but their flags
 * and counts may be of mkfs. Copies of the super block say nothing of the journal's state.
 */
#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/layout/owners_ext.h"

/* What descriptors may take: 512 TiB as mkfs makes them, but not what a few bytes in a super block can ask for. */
#define DESCRIPTORS_MAX UINT64_C(268435456)
/* Blocks of 1 KiB to 64 KiB, clusters of up to so many blocks (2^n). */
#define BLOCK_LOGS   7u
#define CLUSTER_LOGS 9u
/* Copies that are tried. */
#define COPIES_MAX 4u

#define INCOMPATIBLE_KNOWN                                                                         \
	(EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_RECOVER |                          \
	 EXT2_FEATURE_INCOMPAT_META_BG | EXT3_FEATURE_INCOMPAT_EXTENTS |                           \
	 EXT4_FEATURE_INCOMPAT_64BIT | EXT4_FEATURE_INCOMPAT_MMP | EXT4_FEATURE_INCOMPAT_FLEX_BG | \
	 EXT4_FEATURE_INCOMPAT_EA_INODE | EXT4_FEATURE_INCOMPAT_CSUM_SEED |                        \
	 EXT4_FEATURE_INCOMPAT_LARGEDIR | EXT4_FEATURE_INCOMPAT_INLINE_DATA |                      \
	 EXT4_FEATURE_INCOMPAT_ENCRYPT | EXT4_FEATURE_INCOMPAT_CASEFOLD)
/* Others only forbid writing, but bigalloc too was one of them: what a number means may be another. */
#define READ_ONLY_KNOWN                                                            \
	(EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT2_FEATURE_RO_COMPAT_LARGE_FILE | \
	 EXT4_FEATURE_RO_COMPAT_HUGE_FILE | EXT4_FEATURE_RO_COMPAT_GDT_CSUM |      \
	 EXT4_FEATURE_RO_COMPAT_DIR_NLINK | EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE |   \
	 EXT4_FEATURE_RO_COMPAT_QUOTA | EXT4_FEATURE_RO_COMPAT_BIGALLOC |          \
	 EXT4_FEATURE_RO_COMPAT_METADATA_CSUM | EXT4_FEATURE_RO_COMPAT_READONLY |  \
	 EXT4_FEATURE_RO_COMPAT_PROJECT | EXT4_FEATURE_RO_COMPAT_SHARED_BLOCKS |   \
	 EXT4_FEATURE_RO_COMPAT_VERITY | EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT)

bool ext_inside(const struct ext *x, uint64_t block, uint64_t count)
{
	return block > x->fs->super->s_first_data_block && block < x->blocks &&
	       count <= x->blocks - block;
}

int ext_read_block(struct ext *x, uint8_t *buf, uint64_t block, struct err *e)
{
	return owners_walk_read(x->w, buf, x->block_size, block * x->block_size, e);
}

int ext_read_blocks(struct ext *x, uint8_t *buf, uint64_t block, uint32_t count, bool *lost,
		    struct err *e)
{
	int r = owners_walk_read(x->w, buf, (size_t)count * x->block_size, block * x->block_size,
				 e);

	memset(lost, 0, count * sizeof(*lost));
	if (r != -EBADMSG)
		return r;
	for (uint32_t i = 0; i < count; i++) {
		r = ext_read_block(x, buf + (size_t)i * x->block_size, block + i, e);
		if (r < 0 && r != -EBADMSG)
			return r;
		lost[i] = r < 0;
	}
	return 0;
}

/* ---- what libext2fs reads through --------------------------------------------------------------------- */

/* A manager is told a name only. */
static _Thread_local struct ext *manager_for;
static struct struct_io_manager manager;

static errcode_t manager_open(const char *name, int flags, io_channel *ret)
{
	io_channel c = NULL;
	errcode_t r = ext2fs_get_memzero(sizeof(*c), &c);

	(void)flags;
	if (r)
		return r;
	r = ext2fs_get_mem(strlen(name) + 1, &c->name);
	if (r) {
		ext2fs_free_mem(&c);
		return r;
	}
	memcpy(c->name, name, strlen(name) + 1);
	c->magic = EXT2_ET_MAGIC_IO_CHANNEL;
	c->manager = &manager;
	c->block_size = EXT2_MIN_BLOCK_SIZE;
	c->refcount = 1;
	c->private_data = manager_for;
	*ret = c;
	return 0;
}

static errcode_t manager_close(io_channel c)
{
	if (--c->refcount > 0)
		return 0;
	ext2fs_free_mem(&c->name);
	ext2fs_free_mem(&c);
	return 0;
}

static errcode_t manager_set_block_size(io_channel c, int size)
{
	c->block_size = size;
	return 0;
}

static errcode_t manager_read64(io_channel c, unsigned long long block, int count, void *buf)
{
	struct ext *x = c->private_data;
	const uint64_t unit = (uint64_t)c->block_size;
	const uint64_t len = count < 0 ? (uint64_t) - (int64_t)count : (uint64_t)count * unit;
	int r;

	if (block > UINT64_MAX / unit)
		return EXT2_ET_SHORT_READ;
	r = owners_walk_read(x->w, buf, len, block * unit, x->e);
	if (r < 0 && r != -EBADMSG)
		x->error = r;
	return r < 0 ? EXT2_ET_SHORT_READ : 0;
}

static errcode_t manager_read(io_channel c, unsigned long block, int count, void *buf)
{
	return manager_read64(c, block, count, buf);
}

static errcode_t manager_write(io_channel c, unsigned long block, int count, const void *buf)
{
	(void)c;
	(void)block;
	(void)count;
	(void)buf;
	return EXT2_ET_RO_FILSYS;
}

static errcode_t manager_write64(io_channel c, unsigned long long block, int count, const void *buf)
{
	(void)c;
	(void)block;
	(void)count;
	(void)buf;
	return EXT2_ET_RO_FILSYS;
}

static errcode_t manager_flush(io_channel c)
{
	(void)c;
	return 0;
}

static struct struct_io_manager manager = {
	.magic = EXT2_ET_MAGIC_IO_MANAGER,
	.name = "owners",
	.open = manager_open,
	.close = manager_close,
	.set_blksize = manager_set_block_size,
	.read_blk = manager_read,
	.read_blk64 = manager_read64,
	.write_blk = manager_write,
	.write_blk64 = manager_write64,
	.flush = manager_flush,
};

/* ---- the super block ------------------------------------------------------------------------------------ */

static int super_features(const struct ext *x, struct err *e)
{
	const struct ext2_super_block *s = x->fs->super;
	const uint32_t incompatible = s->s_feature_incompat & ~(uint32_t)INCOMPATIBLE_KNOWN;
	const uint32_t read_only = s->s_feature_ro_compat & ~(uint32_t)READ_ONLY_KNOWN;

	if (incompatible || read_only) {
		return err_set(e, -ENOTSUP,
			       "it has features that are not known here: incompatible %#x, "
			       "read-only %#x",
			       incompatible, read_only);
	}
	if (s->s_creator_os == EXT2_OS_HURD)
		return err_set(e, -ENOTSUP, "it is one of the Hurd's");
	return 0;
}

/* Why its tables cannot be as it says, or NULL. libext2fs looked at the rest. */
static const char *super_shape(const struct ext *x)
{
	struct ext2_super_block *s = x->fs->super;
	const uint64_t groups = x->fs->group_desc_count;
	const uint64_t table = (uint64_t)s->s_inodes_per_group * EXT2_INODE_SIZE(s);

	if (x->fs->blocksize > EXT_READ_BYTES)
		return "its blocks are too large";
	if (ext2fs_blocks_count(s) > owners_walk_size(x->w) / x->fs->blocksize)
		return "it is larger than its place";
	if (s->s_inodes_per_group % 8 || s->s_inodes_per_group > x->fs->blocksize * 8)
		return "its groups have too many inodes";
	if (DIV_ROUND_UP(table, x->fs->blocksize) > ext2fs_blocks_count(s) / groups)
		return "it has more inodes than room";
	if ((uint64_t)x->fs->desc_blocks * x->fs->blocksize > DESCRIPTORS_MAX)
		return "it has too many groups";
	return NULL;
}

/* The one at block @at, or the first where that is 0. */
static int super_try(struct ext *x, uint64_t at, uint32_t block_size, struct err *e)
{
	const int flags = EXT2_FLAG_64BITS | EXT2_FLAG_SUPER_ONLY | EXT2_FLAG_FORCE;
	const char *why;
	errcode_t r;
	int known;

	x->error = 0;
	x->e = e;
	manager_for = x;
	r = ext2fs_open("ext", flags, (int)at, block_size, &manager, &x->fs);
	manager_for = NULL;
	x->e = NULL;
	if (x->error)
		return x->error;
	if (r == EXT2_ET_NO_MEMORY)
		return err_oom(e);
	if (r == EXT2_ET_REV_TOO_HIGH || r == EXT2_ET_UNKNOWN_CSUM)
		return err_set(e, -ENOTSUP, "it is of a version that is not known here");
	if (r)
		return err_set(e, -EBADMSG, "its super block is lost or damaged (%ld)", (long)r);
	known = super_features(x, e);
	if (known < 0)
		return known;
	why = super_shape(x);
	return why ? err_set(e, -EBADMSG, "its super block is damaged: %s", why) : 0;
}

/* That in group @group if blocks and clusters have these sizes. 0: taken; -EBADMSG: none, go on. */
static int super_try_copy(struct ext *x, unsigned int block_log, unsigned int cluster_log,
			  uint32_t group, struct err *e)
{
	const uint32_t size = UINT32_C(1024) << block_log;
	const uint32_t first = !block_log && !cluster_log;
	const uint64_t per_group = (uint64_t)size * 8 << cluster_log;
	const uint64_t at = first + group * per_group;
	int r;

	if (at >= owners_walk_size(x->w) / size || at > INT_MAX)
		return -EBADMSG;
	r = super_try(x, at, size, e);
	/* one of an image that is in a file here speaks of other places */
	if (r >= 0 && x->fs->super->s_first_data_block == first &&
	    EXT2_BLOCKS_PER_GROUP(x->fs->super) == per_group)
		return 0;
	if (x->fs)
		ext2fs_free(TAKE_PTR(x->fs));
	return r >= 0 || r == -ENOTSUP ? -EBADMSG : r;
}

static int super_try_copies(struct ext *x, struct err *e)
{
	static const uint32_t groups[COPIES_MAX] = { 1, 3, 5, 7 };
	int r;

	for (unsigned int c = 0; c < CLUSTER_LOGS; c++) {
		for (unsigned int b = 0; b < BLOCK_LOGS; b++) {
			for (unsigned int i = 0; i < COPIES_MAX; i++) {
				r = super_try_copy(x, b, c, groups[i], e);
				if (r != -EBADMSG)
					return r;
			}
		}
	}
	return -EBADMSG;
}

/* What was not written back when the image was made. */
static void super_doubts(const struct ext *x)
{
	const struct ext2_super_block *s = x->fs->super;

	if (ext2fs_has_feature_journal_needs_recovery(x->fs->super))
		owners_walk_lost(x->w, "what its journal was still to write");
	/* without a journal it is never marked as clean while mounted, frozen or not */
	if (!(s->s_state & EXT2_VALID_FS) && ext2fs_has_feature_journal(x->fs->super))
		owners_walk_lost(x->w, "what was not written when it was last unmounted");
	if (s->s_state & EXT2_ERROR_FS)
		owners_walk_lost(x->w, "what the errors that are recorded in it are about");
}

int ext_super_open(struct ext *x, struct err *e)
{
	struct err copies = { 0 };
	int r = super_try(x, 0, 0, e);

	if (r == -EBADMSG) {
		if (x->fs)
			ext2fs_free(TAKE_PTR(x->fs));
		r = super_try_copies(x, &copies);
		if (r >= 0)
			owners_walk_lost(x->w, "the super block (a copy of it is used)");
		if (r < 0 && r != -EBADMSG && copies.code)
			err_set(e, r, "%s", copies.text);
	} else if (r >= 0) {
		super_doubts(x);
	}
	if (r < 0)
		return r;
	x->block_size = x->fs->blocksize;
	x->blocks = ext2fs_blocks_count(x->fs->super);
	x->checks = ext2fs_has_feature_metadata_csum(x->fs->super);
	return 0;
}

/* ---- descriptors of groups ------------------------------------------------------------------------------ */

/* Those of block @i of descriptors, as a range. */
static dgrp_t groups_end(const struct ext *x, unsigned long i)
{
	const uint64_t per_block = EXT2_DESC_PER_BLOCK(x->fs->super);

	return (dgrp_t)MIN((i + 1) * per_block, (uint64_t)x->fs->group_desc_count);
}

static void group_take(struct ext *x, dgrp_t g, const uint8_t *raw)
{
	struct ext2_group_desc *d = ext2fs_group_desc(x->fs, x->fs->group_desc, g);

	memcpy(d, raw, EXT2_DESC_SIZE(x->fs->super));
	if (htobe16(1) == 1)
		ext2fs_swap_group_desc2(x->fs, d);
}

static bool group_valid(const struct ext *x, dgrp_t g)
{
	const uint64_t table =
		(uint64_t)x->fs->super->s_inodes_per_group * EXT2_INODE_SIZE(x->fs->super);

	/* libext2fs takes what it cannot see as right */
	if (ext2fs_has_group_desc_csum(x->fs) && !ext2fs_group_desc_csum_verify(x->fs, g))
		return false;
	return ext_inside(x, ext2fs_inode_bitmap_loc(x->fs, g), 1) &&
	       ext_inside(x, ext2fs_inode_table_loc(x->fs, g), DIV_ROUND_UP(table, x->block_size));
}

/* Those groups of block @i that are still lost, from x->block: where it is right. Returns how many are lost then. */
static uint32_t groups_take(struct ext *x, unsigned long i, enum ext_group as)
{
	const dgrp_t first = (dgrp_t)(i * EXT2_DESC_PER_BLOCK(x->fs->super));
	const size_t size = EXT2_DESC_SIZE(x->fs->super);
	uint32_t lost = 0;

	for (dgrp_t g = first; g < groups_end(x, i); g++) {
		if (x->groups[g] != EXT_GROUP_LOST)
			continue;
		group_take(x, g, x->block + (g - first) * size);
		if (group_valid(x, g)) {
			x->groups[g] = (uint8_t)as;
		} else {
			lost++;
		}
	}
	return lost;
}

/* Groups that have copies. */
struct copies {
	dgrp_t groups[COPIES_MAX];
	unsigned int count;
};

/* Of all descriptors, but those that are in the groups that they are of. */
static struct copies copies_find(const struct ext *x)
{
	struct copies c = { 0 };

	for (dgrp_t g = 1; g < x->fs->group_desc_count && c.count < COPIES_MAX; g++) {
		if (ext2fs_bg_has_super(x->fs, g))
			c.groups[c.count++] = g;
	}
	return c;
}

/* Is block @i of descriptors (meta_bg) in the first group of those that it is of, and copies in the second and the last? */
static bool groups_meta(const struct ext *x, unsigned long i)
{
	return ext2fs_has_feature_meta_bg(x->fs->super) && i >= x->fs->super->s_first_meta_bg;
}

/*
 * Where group @g has block @i of descriptors, or 0. As libext2fs writes them: its ext2fs_descriptor_block_loc2() is wrong with
 * blocks of 1 KiB in clusters, where those of group 0 are one block further on.
 */
static uint64_t descriptors_at(const struct ext *x, unsigned long i, dgrp_t g)
{
	blk64_t all = 0, own = 0;

	if (g >= x->fs->group_desc_count ||
	    ext2fs_super_and_bgd_loc2(x->fs, g, NULL, &all, &own, NULL))
		return 0;
	if (groups_meta(x, i))
		return own;
	return all ? all + i : 0;
}

static int groups_try(struct ext *x, unsigned long i, dgrp_t g, enum ext_group as, struct err *e)
{
	const uint64_t at = descriptors_at(x, i, g);
	int r = at && at < x->blocks ? ext_read_block(x, x->block, at, e) : -EBADMSG;

	if (r == -EBADMSG)
		return 1;
	return r < 0 ? r : groups_take(x, i, as) != 0;
}

static int groups_read(struct ext *x, unsigned long i, const struct copies *all, struct err *e)
{
	const uint32_t per_block = EXT2_DESC_PER_BLOCK(x->fs->super);
	const dgrp_t first = (dgrp_t)(i * per_block);
	const bool meta = groups_meta(x, i);
	const struct copies own = { { first + 1, first + per_block - 1 }, per_block > 1 ? 2 : 0 };
	const struct copies *c = meta ? &own : all;
	int r = groups_try(x, i, meta ? first : 0, EXT_GROUP_GOOD, e);

	if (r <= 0)
		return r;
	owners_walk_lost(x->w, "descriptors of groups from %u on", first);
	for (unsigned int n = 0; r > 0 && n < c->count; n++)
		r = groups_try(x, i, c->groups[n], EXT_GROUP_COPY, e);
	return r < 0 ? r : 0;
}

int ext_groups_open(struct ext *x, struct err *e)
{
	const struct copies all = copies_find(x);

	x->groups = calloc(x->fs->group_desc_count, 1);
	x->fs->group_desc = calloc(x->fs->desc_blocks, x->block_size);
	if (!x->groups || !x->fs->group_desc)
		return -ENOMEM;
	for (unsigned long i = 0; i < x->fs->desc_blocks; i++) {
		int r = groups_read(x, i, &all, e);

		if (r < 0)
			return r;
	}
	return 0;
}
