/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/layout/usedblocks_xfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/layout/xfs_super.h"

#define AGF_MAGIC   UINT32_C(0x58414746) /* XAGF */
#define BNO_MAGIC   UINT32_C(0x41425442) /* ABTB: version 4 */
#define BNO_MAGIC_5 UINT32_C(0x41423342) /* AB3B */

#define AGF_UUID_AT  64
#define AGF_CRC_AT   216
#define AGF_BYTES    224
#define BLOCK_CRC_AT 52

#define BLOCK_LOG_MAX 16
#define LEVELS_MAX    9
#define NULL_BLOCK    UINT32_MAX

struct xfs {
	int fd;
	struct xfs_super super;
	uint8_t *block;
	struct extent_set free;
};

struct xfs_ag {
	uint64_t number;
	uint32_t blocks, root, levels, free_blocks;
};

static void xfs_done(struct xfs *x)
{
	close_fd(x->fd);
	free(x->block);
	extent_set_done(&x->free);
}

static int xfs_open(struct xfs *x, const char *path, uint64_t length, struct err *e)
{
	const size_t bytes = (size_t)1 << BLOCK_LOG_MAX;
	const char *why;
	int code;

	x->block = malloc(bytes);
	if (!x->block)
		return err_oom(e);
	x->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (x->fd < 0 || io_pread_all(x->fd, x->block, bytes, 0) < 0) {
		err_set(e, 0, "its super block cannot be read");
		return 0;
	}
	why = xfs_super_take(&x->super, x->block, bytes, length, &code);
	if (!why && !be64_at(x->block + 48))
		why = "its log is on another device";
	if (why) {
		err_set(e, 0, "%s", why);
		return 0;
	}
	return 1;
}

static int ag_read_header(const struct xfs *x, struct xfs_ag *ag)
{
	const uint64_t first = ag->number * x->super.ag_blocks;
	uint8_t *p = x->block;
	int r;

	r = io_pread_all(x->fd, p, x->super.sector,
			 (first << x->super.block_log) + x->super.sector);
	if (r < 0)
		return r;
	ag->blocks = (uint32_t)MIN(x->super.blocks - first, (uint64_t)x->super.ag_blocks);
	ag->root = be32_at(p + 16);
	ag->levels = be32_at(p + 28);
	ag->free_blocks = be32_at(p + 52);
	if (be32_at(p) != AGF_MAGIC || be32_at(p + 8) != ag->number ||
	    be32_at(p + 12) != ag->blocks || !ag->levels || ag->levels > LEVELS_MAX)
		return -EBADMSG;
	if (x->super.v5 && (memcmp(p + AGF_UUID_AT, x->super.uuid, sizeof(x->super.uuid)) != 0 ||
			    !xfs_crc_right(p, x->super.sector, AGF_CRC_AT)))
		return -EBADMSG;
	return 0;
}

static size_t block_head(const struct xfs *x)
{
	return x->super.v5 ? 56 : 16;
}

/* Block @number of the tree into x->block: one of @level, with at least one entry and no more than fit. */
static int ag_read_block(const struct xfs *x, const struct xfs_ag *ag, uint32_t number,
			 uint32_t level)
{
	const size_t size = (size_t)1 << x->super.block_log;
	const uint64_t at = (ag->number * x->super.ag_blocks + number) << x->super.block_log;
	const size_t entry = level ? 12 : 8; /* a key and a pointer, or a record */
	const uint8_t *p = x->block;
	uint32_t count;
	int r;

	if (number >= ag->blocks)
		return -EBADMSG;
	r = io_pread_all(x->fd, x->block, size, at);
	if (r < 0)
		return r;
	count = be16_at(p + 6);
	if (be32_at(p) != (x->super.v5 ? BNO_MAGIC_5 : BNO_MAGIC) || be16_at(p + 4) != level ||
	    !count || count > (size - block_head(x)) / entry)
		return -EBADMSG;
	if (x->super.v5 && (be64_at(p + 16) != at / 512 || be32_at(p + 48) != ag->number ||
			    memcmp(p + 32, x->super.uuid, sizeof(x->super.uuid)) != 0 ||
			    !xfs_crc_right(p, size, BLOCK_CRC_AT)))
		return -EBADMSG;
	return 0;
}

/* The records of the leaf in x->block. They ascend through all leaves, so a circle of leaves ends here. */
static int ag_take_leaf(struct xfs *x, const struct xfs_ag *ag, uint64_t *at, uint64_t *total)
{
	const uint8_t *p = x->block + block_head(x);

	for (uint32_t n = be16_at(x->block + 6); n; n--, p += 8) {
		const uint32_t start = be32_at(p), count = be32_at(p + 4);
		int r;

		if (start < *at || !count || start >= ag->blocks || count > ag->blocks - start)
			return -EBADMSG;
		r = extent_set_add(&x->free,
				   (ag->number * x->super.ag_blocks + start) << x->super.block_log,
				   (uint64_t)count << x->super.block_log);
		if (r < 0)
			return r;
		*at = (uint64_t)start + count;
		*total += count;
	}
	return 0;
}

static int ag_read(struct xfs *x, uint64_t number)
{
	struct xfs_ag ag = { .number = number };
	/* a group begins with four sectors that are never free */
	uint64_t at =
		DIV_ROUND_UP(4 * (uint64_t)x->super.sector, UINT64_C(1) << x->super.block_log);
	uint64_t total = 0;
	uint32_t block;
	int r;

	r = ag_read_header(x, &ag);
	if (r < 0)
		return r;
	block = ag.root;
	/* a full group has an empty root */
	if (!ag.free_blocks)
		return 0;
	for (uint32_t level = ag.levels - 1; level; level--) {
		const size_t room = ((size_t)1 << x->super.block_log) - block_head(x);

		r = ag_read_block(x, &ag, block, level);
		if (r < 0)
			return r;
		/* pointers stand behind as many keys as there is room for */
		block = be32_at(x->block + block_head(x) + room / 12 * 8);
	}
	while (block != NULL_BLOCK) {
		r = ag_read_block(x, &ag, block, 0);
		if (r >= 0)
			r = ag_take_leaf(x, &ag, &at, &total);
		if (r < 0)
			return r;
		block = be32_at(x->block + 12);
	}
	return total == ag.free_blocks ? 0 : -EBADMSG;
}

int usedblocks_xfs(const char *path, uint64_t length, struct extent_set *ret, struct err *e)
{
	_cleanup_(xfs_done) struct xfs x = { .fd = -EBADF };
	struct extent all = { 0, length };
	struct extent_set whole = { .items = &all, .count = 1 };
	int r;

	r = xfs_open(&x, path, length, e);
	if (r <= 0)
		return r;
	for (uint32_t i = 0; i < x.super.ags; i++) {
		r = ag_read(&x, i);
		if (r == -ENOMEM)
			return err_oom(e);
		if (r < 0) {
			err_set(e, 0, "the free-space tree of its group %u is damaged", i);
			return 0;
		}
	}
	extent_set_normalise(&x.free);
	r = extent_set_subtract(&whole, &x.free, ret);
	return r < 0 ? err_oom(e) : 1;
}
