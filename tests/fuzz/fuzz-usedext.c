/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Super block, group descriptors and bitmaps of an ext2/3/4, on a device as patches.h makes it. The first byte says:
 * bit 0, mend the check values; bit 1, and the groups' counts of free blocks; bit 2, it is mounted.
 *
 * Whatever libext2fs' own reader finds in use has to be in the map.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <ext2fs/ext2fs.h>

#include "lib/layout/usedblocks_ext.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/patches.h"

#define MEND_CHECKS 1u
#define MEND_COUNTS 2u
#define LIVE	    4u

/* More than that is not mended and not compared: it takes too long. */
#define GROUPS_MAX 64u
#define BLOCKS_MAX (UINT64_C(1) << 18)

static void fs_freep(ext2_filsys *fs)
{
	if (*fs)
		ext2fs_free(*fs);
}

static ext2_filsys fs_open(const struct patched *d, int flags)
{
	ext2_filsys fs = NULL;
	bool small;

	flags |= EXT2_FLAG_64BITS;
	if (ext2fs_open(d->path, flags | EXT2_FLAG_SUPER_ONLY, 0, 0, unix_io_manager, &fs))
		return NULL;
	small = fs->group_desc_count <= GROUPS_MAX && ext2fs_blocks_count(fs->super) <= BLOCKS_MAX;
	ext2fs_free(fs);
	if (!small || ext2fs_open(d->path, flags, 0, 0, unix_io_manager, &fs))
		return NULL;
	return fs;
}

static uint32_t free_clusters(ext2_filsys fs, dgrp_t g, const uint8_t *bits)
{
	uint64_t blocks = ext2fs_group_last_block2(fs, g) - ext2fs_group_first_block2(fs, g) + 1;
	uint32_t n = (uint32_t)(((blocks - 1) >> fs->cluster_ratio_bits) + 1), count = 0;

	for (uint32_t i = 0; i < n && i < fs->blocksize * 8; i++)
		count += !(bits[i / 8] & 1u << i % 8);
	return count;
}

static void mend_groups(const struct patched *d, ext2_filsys fs)
{
	static uint8_t bits[65536];

	for (dgrp_t g = 0; g < fs->group_desc_count; g++) {
		uint64_t at = ext2fs_block_bitmap_loc(fs, g);

		if (at < ext2fs_blocks_count(fs->super) &&
		    !io_channel_read_blk64(fs->io, at, 1, bits)) {
			ext2fs_block_bitmap_csum_set(
				fs, g, (char *)bits,
				(int)MIN(EXT2_CLUSTERS_PER_GROUP(fs->super) / 8, fs->blocksize));
			if (d->how & MEND_COUNTS)
				ext2fs_bg_free_blocks_count_set(fs, g, free_clusters(fs, g, bits));
		}
		ext2fs_group_desc_csum_set(fs, g);
	}
	for (unsigned long i = 0; i < fs->desc_blocks; i++) {
		uint64_t at = ext2fs_descriptor_block_loc2(fs, fs->super->s_first_data_block, i);

		/* block 0 is the boot block's, as libext2fs has it */
		if (fs->blocksize == 1024 && !fs->super->s_first_data_block && at < 2)
			at++;
		patched_write(d, (char *)fs->group_desc + i * fs->blocksize, fs->blocksize,
			      at * fs->blocksize);
	}
}

static void mend(const struct patched *d)
{
	_cleanup_(fs_freep) ext2_filsys fs = NULL;
	struct ext2_super_block s;

	if (d->length < 4096 || io_pread_all(d->fd, &s, sizeof(s), 1024) < 0)
		return;
	s.s_checksum = ext2fs_crc32c_le(UINT32_MAX, (uint8_t *)&s, offsetof(typeof(s), s_checksum));
	FUZZ_CHECK(io_pwrite_all(d->fd, &s, sizeof(s), 1024) == 0);
	fs = fs_open(d, EXT2_FLAG_IGNORE_CSUM_ERRORS);
	if (fs)
		mend_groups(d, fs);
}

/* Bitmaps and inode tables: not all of these need be in the map. */
static bool in_tables(ext2_filsys fs, uint64_t block)
{
	for (dgrp_t g = 0; g < fs->group_desc_count; g++) {
		if (block == ext2fs_block_bitmap_loc(fs, g) ||
		    block == ext2fs_inode_bitmap_loc(fs, g) ||
		    block - ext2fs_inode_table_loc(fs, g) < fs->inode_blocks_per_group)
			return true;
	}
	return false;
}

static bool behind_end(const struct patched *d)
{
	_cleanup_(fs_freep) ext2_filsys fs = fs_open(d, 0);

	return fs && d->length / fs->blocksize > ext2fs_blocks_count(fs->super);
}

/* What is left of a cluster that holds a table, or in a group that was never used a copy. */
static bool in_cluster(ext2_filsys fs, const struct extent_set *used, uint64_t block)
{
	const dgrp_t g = ext2fs_group_of_blk2(fs, block);
	const uint64_t size = UINT64_C(1) << fs->cluster_ratio_bits;
	const uint64_t first = ext2fs_group_first_block2(fs, g);
	const uint64_t start = first + ROUND_DOWN(block - first, size);
	const bool unused = ext2fs_bg_flags_test(fs, g, EXT2_BG_BLOCK_UNINIT);

	for (uint64_t b = start; b < start + size; b++) {
		if (in_tables(fs, b) ||
		    (unused && patched_used(used, b * fs->blocksize, (b + 1) * fs->blocksize)))
			return true;
	}
	return false;
}

static void compare(const struct patched *d, const struct extent_set *used)
{
	_cleanup_(fs_freep) ext2_filsys fs = fs_open(d, 0);

	if (!fs || ext2fs_read_block_bitmap(fs))
		return;
	for (uint64_t b = fs->super->s_first_data_block; b < ext2fs_blocks_count(fs->super); b++) {
		bool set = ext2fs_test_block_bitmap2(fs->block_map, b) != 0;

		if (set && !patched_used(used, b * fs->blocksize, (b + 1) * fs->blocksize))
			FUZZ_CHECK(in_cluster(fs, used, b));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(patched_done) struct patched d = { .fd = -EBADF };
	_cleanup_extents_ struct extent_set used = { 0 };
	struct err e = { 0 };
	int r;

	if (!patches_apply(data, size, &d))
		return 0;
	if (d.how & MEND_CHECKS)
		mend(&d);
	r = usedblocks_ext(d.path, d.length, d.how & LIVE, &used, &e);
	if (!patched_verdict(&d, r, &e, &used))
		return 0;
	/* boot and super block, what lies behind the end, and all that is in use */
	FUZZ_CHECK(patched_used(&used, 0, 2048));
	FUZZ_CHECK(patched_used(&used, d.length - 512, d.length) || !behind_end(&d));
	compare(&d, &used);
	return 0;
}
