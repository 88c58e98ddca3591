/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/layout/usedblocks_ext.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <ext2fs/ext2fs.h>

#include "lib/base/cleanup.h"
#include "lib/base/le.h"

/* Bitmaps read at once; mkfs puts those of 16 groups one behind the other. */
#define BATCH_MAX 16u
/* Direct I/O wants no more alignment than this. */
#define ALIGN_BYTES 4096u
/* Groups whose bitmaps are asked for ahead, all at once: one after the other each would cost a disk a seek. */
#define AHEAD_GROUPS 2048u
/* What descriptors may take: 512 TiB as mkfs makes them, but not what a few bytes in a super block can ask for. */
#define DESCRIPTORS_MAX UINT64_C(268435456)
/* A live file system may write between our reads of a bitmap and of its check value: look again so often. */
#define LIVE_TRIES 3u

struct ext {
	ext2_filsys fs;
	int fd;	       /* of the same, to read ahead */
	bool last_try; /* live: what does not match is read whole */
	bool live;
	bool lazy;	  /* descriptors say what was never used, and have check values */
	uint8_t *bitmaps; /* BATCH_MAX blocks */
	struct extent_set used, idle;
	struct extent_set tables; /* bitmaps and inode tables, of either kind */
	uint64_t tables_bytes;	  /* one by one */
};

static void ext_done(struct ext *x)
{
	if (x->fs)
		ext2fs_free(x->fs);
	close_fd(x->fd);
	free(x->bitmaps);
	extent_set_done(&x->used);
	extent_set_done(&x->idle);
	extent_set_done(&x->tables);
}

static int ext_damaged(struct err *e, const char *what)
{
	err_set(e, 0, "its %s are damaged", what);
	return 0;
}

/*
 * Why its maps may be older than its journal or wrong, or NULL. (Without a journal it is never marked as clean while
 * mounted, so what it was before cannot be told.)
 */
static const char *ext_doubt_state(const struct ext *x)
{
	const struct ext2_super_block *s = x->fs->super;

	if (!(s->s_state & EXT2_VALID_FS) && (!x->live || ext2fs_has_feature_journal(x->fs->super)))
		return "it was not unmounted cleanly";
	if (s->s_state & EXT2_ERROR_FS)
		return "errors are recorded in it";
	if (!x->live && ext2fs_has_feature_journal_needs_recovery(x->fs->super))
		return "its journal is not replayed";
	if (!x->live && ext2fs_has_feature_journal(x->fs->super) && !s->s_journal_inum)
		return "its journal is on another device";
	return NULL;
}

/* Why its maps cannot be read here, or NULL. */
static const char *ext_doubt_shape(const struct ext *x, uint64_t length)
{
	const struct ext2_super_block *s = x->fs->super;

	if (ext2fs_has_feature_journal_dev(x->fs->super))
		return "it is a journal device";
	/* to libext2fs these only forbid writing, but bigalloc too was one of them: what a bit means may be another */
	if (s->s_feature_ro_compat & ~(uint32_t)EXT2_LIB_FEATURE_RO_COMPAT_SUPP)
		return "it has features that are not known here";
	if (ext2fs_blocks_count(x->fs->super) > length / x->fs->blocksize)
		return "it is larger than its place";
	if (EXT2_CLUSTERS_PER_GROUP(s) > x->fs->blocksize * 8)
		return "its groups are larger than their bitmaps";
	if ((uint64_t)x->fs->desc_blocks * x->fs->blocksize > DESCRIPTORS_MAX)
		return "it has too many groups";
	return NULL;
}

static int ext_add(const struct ext *x, struct extent_set *set, uint64_t block, uint64_t count)
{
	return extent_set_add(set, block * x->fs->blocksize, count * x->fs->blocksize);
}

static bool ext_inside(const struct ext *x, uint64_t block, uint64_t count)
{
	uint64_t blocks = ext2fs_blocks_count(x->fs->super);

	return block < blocks && count <= blocks - block;
}

static int ext_add_table(struct ext *x, uint64_t block, uint64_t count)
{
	/* the first block is the super block's */
	if (block <= x->fs->super->s_first_data_block || !ext_inside(x, block, count))
		return -EBADMSG;
	x->tables_bytes += count * x->fs->blocksize;
	return ext_add(x, &x->tables, block, count);
}

static bool ext_flag(const struct ext *x, dgrp_t g, uint16_t flag)
{
	return x->lazy && ext2fs_bg_flags_test(x->fs, g, flag);
}

/* Copies of the super block and of the descriptors, which even a group that was never used may hold. */
static int ext_add_copies(struct ext *x, dgrp_t g)
{
	const struct ext2_super_block *s = x->fs->super;
	blk64_t super = 0, old = 0, new = 0;
	uint64_t count = x->fs->desc_blocks + s->s_reserved_gdt_blocks;
	int r = 0;

	if (ext2fs_has_feature_meta_bg(x->fs->super))
		count = s->s_first_meta_bg;
	ext2fs_super_and_bgd_loc2(x->fs, g, &super, &old, &new, NULL);
	if ((super && !ext_inside(x, super, 1)) || (old && !ext_inside(x, old, count)) ||
	    (new && !ext_inside(x, new, 1)))
		return -EBADMSG;
	if (super)
		r = ext_add(x, &x->used, super, 1);
	if (r >= 0 && old)
		r = ext_add(x, &x->used, old, count);
	if (r >= 0 && new)
		r = ext_add(x, &x->used, new, 1);
	return r;
}

static int ext_add_inode_table(struct ext *x, dgrp_t g)
{
	const uint64_t start = ext2fs_inode_table_loc(x->fs, g);
	const uint32_t per_block = x->fs->blocksize / EXT2_INODE_SIZE(x->fs->super);
	uint32_t inodes = x->fs->super->s_inodes_per_group, blocks = x->fs->inode_blocks_per_group;
	uint32_t unused = x->lazy ? ext2fs_bg_itable_unused(x->fs, g) : 0, used;
	int r;

	if (unused > inodes)
		return -EBADMSG;
	r = ext_add_table(x, start, blocks);
	if (r < 0)
		return r;
	if (ext_flag(x, g, EXT2_BG_INODE_UNINIT))
		unused = inodes;
	/* whoever was promised zeros must get them back */
	if (ext_flag(x, g, EXT2_BG_INODE_ZEROED))
		unused = 0;
	used = MIN(DIV_ROUND_UP(inodes - unused, per_block), blocks);
	r = ext_add(x, &x->used, start, used);
	return r < 0 ? r : ext_add(x, &x->idle, start + used, blocks - used);
}

/* What of the group's own maps and tables matters, wherever they lie. */
static int ext_add_tables(struct ext *x, dgrp_t g)
{
	struct extent_set *blocks = ext_flag(x, g, EXT2_BG_BLOCK_UNINIT) ? &x->idle : &x->used;
	struct extent_set *inodes = ext_flag(x, g, EXT2_BG_INODE_UNINIT) ? &x->idle : &x->used;
	const uint64_t blocks_at = ext2fs_block_bitmap_loc(x->fs, g);
	const uint64_t inodes_at = ext2fs_inode_bitmap_loc(x->fs, g);
	int r;

	r = ext_add_table(x, blocks_at, 1);
	if (r >= 0)
		r = ext_add_table(x, inodes_at, 1);
	if (r >= 0)
		r = ext_add_copies(x, g);
	if (r >= 0)
		r = ext_add(x, blocks, blocks_at, 1);
	if (r >= 0)
		r = ext_add(x, inodes, inodes_at, 1);
	return r < 0 ? r : ext_add_inode_table(x, g);
}

/* The first bit from @from on that is (@value) or is not set; @end when there is none. */
static uint32_t bits_find(const uint8_t *bits, uint32_t from, uint32_t end, bool value)
{
	while (from < end) {
		uint64_t v;
		le64_t w;

		memcpy(&w, bits + from / 64 * sizeof(w), sizeof(w));
		v = (value ? le64_get(w) : ~le64_get(w)) & UINT64_MAX << from % 64;
		from = ROUND_DOWN(from, 64u) + (v ? (uint32_t)__builtin_ctzll(v) : 64);
		if (v)
			break;
	}
	return MIN(from, end);
}

/* *@ret_free is how many bits are not set. */
static int ext_add_bits(struct ext *x, dgrp_t g, const uint8_t *bits, uint32_t *ret_free)
{
	const uint64_t first = ext2fs_group_first_block2(x->fs, g);
	const uint64_t blocks = ext2fs_group_last_block2(x->fs, g) - first + 1;
	const unsigned int shift = (unsigned int)x->fs->cluster_ratio_bits;
	const uint32_t n = (uint32_t)(((blocks - 1) >> shift) + 1);
	uint32_t end, unset = n;

	for (uint32_t at = bits_find(bits, 0, n, true); at < n;
	     at = bits_find(bits, end, n, true)) {
		uint64_t start = (uint64_t)at << shift;
		int r;

		end = bits_find(bits, at, n, false);
		unset -= end - at;
		r = ext_add(x, &x->used, first + start,
			    MIN((uint64_t)end << shift, blocks) - start);
		if (r < 0)
			return r;
	}
	*ret_free = unset;
	return 0;
}

/*
 * @bits are those of group @g, with the right check value and number of free clusters: the latter because not all
 * file systems have the former. Returns -EAGAIN when they are not of one version. */
static int ext_take_bits(struct ext *x, dgrp_t g, const uint8_t *bits)
{
	const uint32_t bytes = EXT2_CLUSTERS_PER_GROUP(x->fs->super) / 8;
	const uint64_t first = ext2fs_group_first_block2(x->fs, g);
	uint32_t unset;

	if (ext2fs_block_bitmap_csum_verify(x->fs, g, (char *)bits, (int)bytes)) {
		int r = ext_add_bits(x, g, bits, &unset);

		if (r < 0 || unset == ext2fs_bg_free_blocks_count(x->fs, g))
			return r;
	}
	if (!x->live)
		return -EBADMSG;
	if (!x->last_try)
		return -EAGAIN;
	return ext_add(x, &x->used, first, ext2fs_group_last_block2(x->fs, g) - first + 1);
}

/* How many groups from @g on have been used and have bitmaps that follow each other on the medium. */
static unsigned int ext_batch(const struct ext *x, dgrp_t g)
{
	const uint64_t first = ext2fs_block_bitmap_loc(x->fs, g);
	unsigned int n = 1;

	while (n < BATCH_MAX && g + n < x->fs->group_desc_count &&
	       !ext_flag(x, g + n, EXT2_BG_BLOCK_UNINIT) &&
	       ext2fs_block_bitmap_loc(x->fs, g + n) == first + n)
		n++;
	return n;
}

static void ext_read_ahead(const struct ext *x, dgrp_t from)
{
	const dgrp_t end = MIN(from + AHEAD_GROUPS, x->fs->group_desc_count);
	const off_t size = (off_t)x->fs->blocksize;
	unsigned int n;

	for (dgrp_t g = from; g < end; g += n) {
		n = 1;
		if (ext_flag(x, g, EXT2_BG_BLOCK_UNINIT))
			continue;
		n = ext_batch(x, g);
		(void)posix_fadvise(x->fd, (off_t)ext2fs_block_bitmap_loc(x->fs, g) * size,
				    n * size, POSIX_FADV_WILLNEED);
	}
}

static int ext_read_bitmaps(struct ext *x)
{
	dgrp_t ahead = 0;
	unsigned int n;
	int r;

	for (dgrp_t g = 0; g < x->fs->group_desc_count; g += n) {
		if (g >= ahead) {
			ext_read_ahead(x, g);
			ahead = g + AHEAD_GROUPS;
		}
		n = 1;
		if (ext_flag(x, g, EXT2_BG_BLOCK_UNINIT))
			continue;
		n = ext_batch(x, g);
		if (io_channel_read_blk64(x->fs->io, ext2fs_block_bitmap_loc(x->fs, g), (int)n,
					  x->bitmaps))
			return -EIO;
		for (unsigned int i = 0; i < n; i++) {
			r = ext_take_bits(x, g + i, x->bitmaps + (size_t)i * x->fs->blocksize);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int ext_read_descriptors(struct ext *x)
{
	for (dgrp_t g = 0; g < x->fs->group_desc_count; g++) {
		int r = ext2fs_group_desc_csum_verify(x->fs, g) ? ext_add_tables(x, g) : -EBADMSG;

		if (r < 0)
			return r;
	}
	/* each block has one purpose only, or something may be left out as idle that is not */
	extent_set_normalise(&x->tables);
	return extent_set_total(&x->tables) == x->tables_bytes ? 0 : -EBADMSG;
}

/* Up to the super block and behind the end: nothing is known of what may stand there. */
static int ext_add_outside(struct ext *x, uint64_t length)
{
	const uint64_t end = ext2fs_blocks_count(x->fs->super) * x->fs->blocksize;
	int r = ext_add(x, &x->used, 0, x->fs->super->s_first_data_block + 1);

	return r < 0 ? r : extent_set_add(&x->used, end, length - end);
}

static int ext_collect(struct ext *x, uint64_t length, struct extent_set *ret, struct err *e)
{
	int r;

	x->bitmaps = aligned_alloc(ALIGN_BYTES, ROUND_UP((size_t)x->fs->blocksize * BATCH_MAX,
							 (size_t)ALIGN_BYTES));
	if (!x->bitmaps)
		return err_oom(e);
	x->lazy = ext2fs_has_group_desc_csum(x->fs);
	r = ext_read_descriptors(x);
	if (r == -EBADMSG)
		return ext_damaged(e, "group descriptors");
	if (r >= 0)
		r = ext_read_bitmaps(x);
	if (r == -EBADMSG || r == -EIO)
		return ext_damaged(e, "block bitmaps");
	if (r == -EAGAIN)
		return r;
	if (r >= 0)
		r = ext_add_outside(x, length);
	extent_set_normalise(&x->used);
	extent_set_normalise(&x->idle);
	if (r >= 0)
		r = extent_set_subtract(&x->used, &x->idle, ret);
	return r < 0 ? err_oom(e) : 1;
}

/* Returns 1; 0 with words; -EAGAIN: somebody wrote meanwhile; or -ENOMEM. */
static int ext_open(struct ext *x, const char *path, uint64_t length, int flags, struct err *e)
{
	const char *why;
	errcode_t r;

	r = ext2fs_open(path, EXT2_FLAG_64BITS | flags, 0, 0, unix_io_manager, &x->fs);
	if (r == EXT2_ET_NO_MEMORY)
		return err_oom(e);
	if (r && x->live && !x->last_try)
		return -EAGAIN;
	if (r) {
		err_set(e, 0, "libext2fs does not know it (%ld)", (long)r);
		return 0;
	}
	why = ext_doubt_state(x);
	if (!why)
		why = ext_doubt_shape(x, length);
	if (why) {
		err_set(e, 0, "%s", why);
		return 0;
	}
	return 1;
}

/* As usedblocks_ext(), or -EAGAIN: somebody wrote meanwhile. */
static int ext_try(const char *path, uint64_t length, struct ext *x, struct extent_set *ret,
		   struct err *e)
{
	int r;

	x->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (x->fd < 0) {
		err_set_errno(e, -errno, "it cannot be opened");
		return 0;
	}
	/* what an earlier try has left in the cache is what it found wanting */
	(void)posix_fadvise(x->fd, 0, 0, POSIX_FADV_DONTNEED);
	/* first without its descriptors, whose number is to be believed before they are read */
	r = ext_open(x, path, length, EXT2_FLAG_SUPER_ONLY, e);
	if (r <= 0)
		return r;
	ext2fs_free(TAKE_PTR(x->fs));
	r = ext_open(x, path, length, 0, e);
	return r <= 0 ? r : ext_collect(x, length, ret, e);
}

int usedblocks_ext(const char *path, uint64_t length, bool live, struct extent_set *ret,
		   struct err *e)
{
	for (unsigned int i = 1;; i++) {
		_cleanup_(ext_done) struct ext x = { .fd = -EBADF,
						     .live = live,
						     .last_try = i >= LIVE_TRIES };
		int r = ext_try(path, length, &x, ret, e);

		if (r != -EAGAIN)
			return r;
	}
}
