/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tables of inodes of an ext2, ext3 or ext4, and which of these are in use. */
#include <errno.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/le.h"
#include "lib/layout/crc32c.h"
#include "lib/layout/owners_ext.h"

/* Where things are in an inode. */
#define MODE_AT	      0
#define SIZE_AT	      4
#define LINKS_AT      26
#define FLAGS_AT      32
#define GENERATION_AT 100
#define ATTRS_AT      104
#define SIZE_HIGH_AT  108
#define ATTRS_HIGH_AT 118
#define CHECK_AT      124
#define EXTRA_AT      128
#define CHECK_HIGH_AT 130
/* A link that is no longer than this is where other inodes have their map. */
#define LINK_INSIDE 60u

static uint32_t le16_at(const uint8_t *p)
{
	le16_t v;

	memcpy(&v, p, sizeof(v));
	return le16_get(v);
}

static uint32_t le32_at(const uint8_t *p)
{
	le32_t v;

	memcpy(&v, p, sizeof(v));
	return le32_get(v);
}

static size_t inode_size(const struct ext *x)
{
	return EXT2_INODE_SIZE(x->fs->super);
}

uint64_t ext_inode_at(const struct ext *x, uint32_t number)
{
	const uint32_t per_group = x->fs->super->s_inodes_per_group;
	const uint64_t table = ext2fs_inode_table_loc(x->fs, (number - 1) / per_group);

	return table * x->block_size + (number - 1) % per_group * (uint64_t)inode_size(x);
}

/* See to it that the piece of a table in which byte @at is is there. Pieces are counted from the table's start. */
static int table_load(struct ext *x, uint32_t number, uint64_t at, struct err *e)
{
	struct ext_piece_of_table *t = &x->table;
	const uint32_t per_group = x->fs->super->s_inodes_per_group;
	const uint64_t table = ext2fs_inode_table_loc(x->fs, (number - 1) / per_group);
	const uint64_t blocks = DIV_ROUND_UP(per_group * (uint64_t)inode_size(x), x->block_size);
	const uint64_t unit = EXT_READ_BYTES / x->block_size;
	const uint64_t from = ROUND_DOWN(at / x->block_size - table, unit);
	const uint32_t count = (uint32_t)MIN(unit, blocks - from);
	int r;

	/* where hostile tables overlap, a shorter piece may begin there as well */
	if (t->at == table + from && t->count == count)
		return 0;
	t->at = 0;
	r = ext_read_blocks(x, t->bytes, table + from, count, t->lost, e);
	if (r >= 0) {
		t->at = table + from;
		t->count = count;
	}
	return r;
}

int ext_inode_load(struct ext *x, uint32_t number, struct ext_inode *ret, struct err *e)
{
	const uint64_t at = ext_inode_at(x, number);
	const le32_t n = le32(number);
	uint64_t in;
	const uint8_t *p;
	int r = table_load(x, number, at, e);

	if (r < 0)
		return r;
	in = at - x->table.at * x->block_size;
	if (x->table.lost[in / x->block_size])
		return 0;
	p = x->table.bytes + in;
	*ret = (struct ext_inode){
		.number = number,
		.mode = le16_at(p + MODE_AT),
		.flags = le32_at(p + FLAGS_AT),
		.links = le16_at(p + LINKS_AT),
		.size = le32_at(p + SIZE_AT) | (uint64_t)le32_at(p + SIZE_HIGH_AT) << 32,
		.attributes = le32_at(p + ATTRS_AT),
		.raw = p,
	};
	if (ext2fs_has_feature_64bit(x->fs->super))
		ret->attributes |= (uint64_t)le16_at(p + ATTRS_HIGH_AT) << 32;
	ret->seed = ext2fs_crc32c_le(x->fs->csum_seed, n.b, sizeof(n));
	ret->seed = ext2fs_crc32c_le(ret->seed, p + GENERATION_AT, 4);
	return 1;
}

/* Of the whole inode, in which the two halves of it count as zeros. */
static bool inode_check(const struct ext *x, const struct ext_inode *i)
{
	const uint8_t *p = i->raw, *more = p + EXT_INODE_BYTES;
	const size_t size = inode_size(x), more_bytes = size - EXT_INODE_BYTES;
	uint32_t crc = crc32c_around(i->seed, p, EXT_INODE_BYTES, CHECK_AT, 2);

	if (size == EXT_INODE_BYTES)
		return (crc & UINT16_MAX) == le16_at(p + CHECK_AT);
	if (le16_at(p + EXTRA_AT) < CHECK_HIGH_AT + 2 - EXT_INODE_BYTES) {
		crc = ext2fs_crc32c_le(crc, more, more_bytes);
		return (crc & UINT16_MAX) == le16_at(p + CHECK_AT);
	}
	crc = crc32c_around(crc, more, more_bytes, CHECK_HIGH_AT - EXT_INODE_BYTES, 2);
	return crc == (le16_at(p + CHECK_AT) | le16_at(p + CHECK_HIGH_AT) << 16);
}

bool ext_inode_sound(const struct ext *x, const struct ext_inode *i)
{
	if (x->checks && !inode_check(x, i))
		return false;
	switch (i->mode & LINUX_S_IFMT) {
	case LINUX_S_IFREG:
	case LINUX_S_IFDIR:
	case LINUX_S_IFLNK:
	case LINUX_S_IFCHR:
	case LINUX_S_IFBLK:
	case LINUX_S_IFIFO:
	case LINUX_S_IFSOCK:
		return true;
	default:
		return false;
	}
}

bool ext_inode_inline(const struct ext *x, const struct ext_inode *i)
{
	return ext2fs_has_feature_inline_data(x->fs->super) && i->flags & EXT4_INLINE_DATA_FL;
}

bool ext_inode_of_value(const struct ext *x, const struct ext_inode *i)
{
	return ext2fs_has_feature_ea_inode(x->fs->super) && i->flags & EXT4_EA_INODE_FL;
}

bool ext_inode_mapped(const struct ext *x, const struct ext_inode *i)
{
	if (ext_inode_inline(x, i))
		return false;
	if (LINUX_S_ISLNK(i->mode))
		return i->flags & EXT4_EXTENTS_FL || i->size >= LINK_INSIDE;
	return LINUX_S_ISREG(i->mode) || LINUX_S_ISDIR(i->mode);
}

/* The root directory, and all that is not the file system's own. */
static bool inode_is_file(const struct ext *x, uint32_t number)
{
	const struct ext2_super_block *s = x->fs->super;

	if (number == EXT2_ROOT_INO)
		return true;
	if (number < EXT2_FIRST_INODE(s))
		return false;
	if (ext2fs_has_feature_journal(x->fs->super) && number == s->s_journal_inum)
		return false;
	if (ext2fs_has_feature_quota(x->fs->super) &&
	    (number == s->s_usr_quota_inum || number == s->s_grp_quota_inum ||
	     number == s->s_prj_quota_inum))
		return false;
	return !ext2fs_has_feature_orphan_file(x->fs->super) || number != s->s_orphan_file_inum;
}

/* What is known of which inodes of a group are in use. */
enum bitmap {
	BITMAP_NONE, /* what the inodes say */
	BITMAP_HINT, /* these, if the inodes say so as well */
	BITMAP_GOOD,
};

/* x->bitmap becomes that of group @g. Returns enum bitmap, or a negative errno. */
static int bitmap_load(struct ext *x, dgrp_t g, struct err *e)
{
	const uint32_t per_group = x->fs->super->s_inodes_per_group;
	uint32_t unset = 0;
	int r = ext_read_block(x, x->bitmap, ext2fs_inode_bitmap_loc(x->fs, g), e);

	if (r < 0)
		return r == -EBADMSG ? BITMAP_NONE : r;
	/*
	 * What it would be compared with is not of today, nor is it known where inodes were never used. These have wrong
	 * check values, if there are any.
	 */
	if (x->groups[g] != EXT_GROUP_GOOD)
		return x->checks ? BITMAP_NONE : BITMAP_HINT;
	if (x->checks) {
		r = ext2fs_inode_bitmap_csum_verify(x->fs, g, (char *)x->bitmap,
						    (int)(per_group / 8));
		return r ? BITMAP_GOOD : BITMAP_NONE;
	}
	for (uint32_t i = 0; i < per_group / 8; i++)
		unset += 8 - (uint32_t)__builtin_popcount(x->bitmap[i]);
	return unset == ext2fs_bg_free_inodes_count(x->fs, g) ? BITMAP_GOOD : BITMAP_NONE;
}

static int group_walk(struct ext *x, dgrp_t g,
		      int (*fn)(struct ext *x, uint32_t number, bool known, struct err *e),
		      struct err *e)
{
	const bool lazy = ext2fs_has_group_desc_csum(x->fs) && x->groups[g] == EXT_GROUP_GOOD;
	uint32_t inodes = x->fs->super->s_inodes_per_group;
	const uint32_t first = g * inodes + 1;
	int bitmap, r;

	if (x->groups[g] == EXT_GROUP_LOST) {
		owners_walk_lost(x->w, "the inodes of group %u", g);
		return 0;
	}
	if (lazy && ext2fs_bg_flags_test(x->fs, g, EXT2_BG_INODE_UNINIT))
		return 0;
	bitmap = bitmap_load(x, g, e);
	if (bitmap < 0)
		return bitmap;
	if (bitmap != BITMAP_GOOD) {
		owners_walk_lost(x->w, "which inodes of group %u are in use", g);
		/* what was never used may be anything */
		if (lazy)
			inodes -= MIN(inodes, ext2fs_bg_itable_unused(x->fs, g));
	}
	for (uint32_t i = 0; i < inodes; i++) {
		if (bitmap != BITMAP_NONE && !(x->bitmap[i / 8] & 1u << i % 8))
			continue;
		r = inode_is_file(x, first + i) ? fn(x, first + i, bitmap == BITMAP_GOOD, e) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

int ext_inodes_walk(struct ext *x,
		    int (*fn)(struct ext *x, uint32_t number, bool known, struct err *e),
		    struct err *e)
{
	for (dgrp_t g = 0; g < x->fs->group_desc_count; g++) {
		int r = group_walk(x, g, fn, e);

		if (r < 0)
			return r;
	}
	return 0;
}
