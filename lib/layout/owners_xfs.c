/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose bytes these are in an xfs: all inodes in use, which each group has a tree of. The format's facts are those of the
 * kernel's fs/xfs/libxfs/xfs_format.h. Versions 4 and 5; what is known here of features is in xfs_super.c.
 *
 * The log is not looked at: what stands in the log only is not known.
 *
 * An inode's own bytes are its file's: where the blocks are ("map"), or what it holds (a short link, few names, small
 * attributes). An inode that cannot be read is told as well, since the group's tree says that it is in use and a directory
 * may name it: so it is known which file was lost with it.
 */
#include "lib/layout/owners_xfs.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "lib/base/array.h"
#include "lib/base/cleanup.h"

#define AGI_MAGIC   UINT32_C(0x58414749) /* XAGI */
#define AGI_UUID_AT 296
#define AGI_CRC_AT  312

#define INODE_MAGIC	0x494e /* IN */
#define INODE_LOG_MIN_4 8
#define INODE_LOG_MIN_5 9
#define INODE_LOG_MAX	11
#define INODE_HEAD_5	176
#define INODE_HEAD_4	100
#define INODE_CRC_AT	100
#define INODE_REALTIME	0x1	       /* of its flags */
#define INODE_LARGE	UINT64_C(0x10) /* of its later flags: counts of extents stand elsewhere */

#define GROUP_LOG_MAX  31
#define FEATURE_FTYPE  UINT32_C(0x1) /* of version 5 */
#define FEATURE_SPARSE UINT32_C(0x2)
#define VERSION_DIRS   0x2000	       /* version 4: directories as they have been since 2001 */
#define MORE_FTYPE     UINT32_C(0x200) /* version 4 */
#define MORE_KNOWN \
	UINT32_C(  \
		0x28a) /* lazy counters, attributes from the inode's end, wide project numbers, file types */

/* ---- inodes --------------------------------------------------------------------------------------------- */

uint64_t owners_xfs_inode_at(const struct owners_xfs *x, uint64_t number)
{
	const unsigned int group_bits = x->group_log + x->inodes_log;
	const uint64_t in_group = number & ((UINT64_C(1) << group_bits) - 1);
	const uint64_t first = (number >> group_bits) * x->super.ag_blocks;

	return (first << x->super.block_log) + (in_group << x->inode_log);
}

static int inode_take_forks(const struct owners_xfs *x, const uint8_t *raw, struct xfs_inode *i)
{
	const bool large = x->super.v5 && be64_at(raw + 120) & INODE_LARGE;
	const size_t room = ((size_t)1 << x->inode_log) - i->head, begins = raw[82] * (size_t)8;

	if (begins > room || raw[5] > XFS_BTREE || (begins && raw[83] > XFS_BTREE))
		return -EBADMSG;
	i->data = (struct xfs_fork){
		.p = raw + i->head,
		.bytes = begins ? begins : room,
		.format = raw[5],
		.extents = large ? be64_at(raw + 24) : be32_at(raw + 76),
		.kind = S_ISDIR(i->mode)   ? OWNER_DIRECTORY
			: S_ISLNK(i->mode) ? OWNER_LINK
					   : OWNER_DATA,
		.elsewhere = be16_at(raw + 90) & INODE_REALTIME,
	};
	i->at = (struct xfs_fork){
		.p = raw + i->head + i->data.bytes,
		.bytes = room - i->data.bytes,
		.format = begins ? raw[83] : XFS_EXTENTS,
		.extents = !begins ? 0
			   : large ? be32_at(raw + 76)
				   : be16_at(raw + 80),
		.kind = OWNER_ATTRIBUTES,
	};
	return 0;
}

int owners_xfs_inode(const struct owners_xfs *x, uint64_t number, const uint8_t *raw,
		     struct xfs_inode *ret)
{
	const bool v5 = x->super.v5;
	int r;

	*ret = (struct xfs_inode){
		.number = number,
		.mode = be16_at(raw + 2),
		.size = be64_at(raw + 56),
		.head = v5 ? INODE_HEAD_5 : INODE_HEAD_4,
	};
	if (be16_at(raw) != INODE_MAGIC || (v5 ? raw[4] != 3 : raw[4] < 1 || raw[4] > 2))
		return -EBADMSG;
	if (v5 && (!xfs_crc_right(raw, (size_t)1 << x->inode_log, INODE_CRC_AT) ||
		   be64_at(raw + 152) != number ||
		   memcmp(raw + 160, x->super.uuid, sizeof(x->super.uuid)) != 0))
		return -EBADMSG;
	r = inode_take_forks(x, raw, ret);
	if (r < 0)
		return r;
	if (S_ISREG(ret->mode)) {
		return ret->data.format == XFS_EXTENTS || ret->data.format == XFS_BTREE ? 0
											: -EBADMSG;
	}
	if (S_ISDIR(ret->mode) || S_ISLNK(ret->mode))
		return ret->data.format == XFS_DEVICE ? -EBADMSG : 0;
	return ret->mode & S_IFMT ? 0 : -EBADMSG;
}

struct piece_walk {
	struct owners_xfs *x;
	const struct xfs_inode *inode;
	const struct xfs_fork *fork;
};

static int piece_run(void *ctx, const struct xfs_run *run, struct err *e)
{
	const struct piece_walk *k = ctx;
	const struct owner_id id = { .inode = k->inode->number };
	uint64_t length = run->length;

	(void)e;
	if (k->fork->kind == OWNER_DATA) {
		if (run->unwritten || run->offset >= k->inode->size)
			return 0;
		length = MIN(length, k->inode->size - run->offset);
	}
	return owners_walk_piece(k->x->w, id, k->fork->kind, run->at, length, run->offset);
}

/* What the fork holds or maps, and the inode's bytes from @at on, where it stands itself. */
static int inode_tell_fork(struct owners_xfs *x, const struct xfs_inode *i,
			   const struct xfs_fork *f, uint64_t at, struct err *e)
{
	const struct owner_id id = { .inode = i->number };
	struct piece_walk k = { .x = x, .inode = i, .fork = f };
	const struct xfs_map m = { i, f, true, piece_run, &k };
	int r;

	if (!f->bytes)
		return 0;
	r = owners_walk_piece(x->w, id, f->format == XFS_LOCAL ? f->kind : OWNER_MAP, at, f->bytes,
			      0);
	if (r < 0 || f->format == XFS_LOCAL || f->format == XFS_DEVICE)
		return r;
	return owners_xfs_map(x, &m, e);
}

static int inode_tell(struct owners_xfs *x, const struct xfs_inode *i, struct err *e)
{
	const struct owner_id id = { .inode = i->number };
	const uint64_t at = owners_xfs_inode_at(x, i->number);
	int r;

	if (S_ISDIR(i->mode)) {
		if (ARRAY_ROOM(x->dirs, x->n_dirs, x->dirs_allocated, 256) < 0)
			return -ENOMEM;
		x->dirs[x->n_dirs++] = i->number;
	}
	r = owners_walk_piece(x->w, id, OWNER_MAP, at, i->head, 0);
	if (r >= 0)
		r = inode_tell_fork(x, i, &i->data, at + i->head, e);
	if (r >= 0)
		r = inode_tell_fork(x, i, &i->at, at + i->head + i->data.bytes, e);
	return r;
}

/* ---- groups --------------------------------------------------------------------------------------------- */

struct group_walk {
	struct owners_xfs *x;
	uint64_t number;
	uint64_t next; /* inode in the group: what comes is not before */
};

static void group_lost(void *ctx)
{
	const struct group_walk *g = ctx;

	owners_walk_lost(g->x->w, "inodes of group %llu", (unsigned long long)g->number);
}

static uint64_t bits(unsigned int from, unsigned int count)
{
	return (count < 64 ? (UINT64_C(1) << count) - 1 : UINT64_MAX) << from;
}

/* Those of @used of the chunk that begins at @at into x->inodes, each in its place. Returns which of them are lost. */
static int chunk_read(struct owners_xfs *x, uint64_t at, uint64_t used, uint64_t *ret_lost,
		      struct err *e)
{
	const unsigned int first = (unsigned int)__builtin_ctzll(used);
	const unsigned int last = 63 - (unsigned int)__builtin_clzll(used);
	const unsigned int step = MIN(1u << x->inodes_log, 64u), log = x->inode_log;
	int r;

	*ret_lost = 0;
	r = owners_walk_read(x->w, x->inodes + ((size_t)first << log),
			     (size_t)(last - first + 1) << log, at + ((uint64_t)first << log), e);
	if (r != -EBADMSG)
		return r;
	for (unsigned int i = 0; i < XFS_CHUNK; i += step) {
		const uint64_t here = used & bits(i, step);

		if (!here)
			continue;
		r = owners_walk_read(x->w, x->inodes + ((size_t)i << log), (size_t)step << log,
				     at + ((uint64_t)i << log), e);
		if (r < 0 && r != -EBADMSG)
			return r;
		if (r < 0)
			*ret_lost |= here;
	}
	return 0;
}

static bool is_table(const struct owners_xfs *x, uint64_t number)
{
	for (size_t i = 0; i < ARRAY_SIZE(x->tables); i++) {
		if (x->tables[i] == number)
			return true;
	}
	return false;
}

/* Inodes from @first of the group on, which of them are in use. */
static int group_chunk(const struct group_walk *g, uint64_t first, uint64_t used, struct err *e)
{
	struct owners_xfs *x = g->x;
	const uint64_t begin = g->number << (x->group_log + x->inodes_log) | first;
	uint64_t lost;
	int r;

	if (!used)
		return 0;
	r = chunk_read(x, owners_xfs_inode_at(x, begin), used, &lost, e);
	for (unsigned int i = 0; r >= 0 && i < XFS_CHUNK; i++) {
		const struct owner_id id = { .inode = begin + i };
		struct xfs_inode inode;

		if (!(used & bits(i, 1)) || is_table(x, id.inode))
			continue;
		if (!(lost & bits(i, 1)) &&
		    owners_xfs_inode(x, id.inode, x->inodes + ((size_t)i << x->inode_log),
				     &inode) >= 0) {
			r = inode_tell(x, &inode, e);
			continue;
		}
		owners_walk_lost(x->w, "inode %llu", (unsigned long long)id.inode);
		r = owners_walk_piece(x->w, id, OWNER_MAP, owners_xfs_inode_at(x, id.inode),
				      UINT64_C(1) << x->inode_log, 0);
	}
	return r;
}

static int group_leaf(void *ctx, const uint8_t *records, unsigned int count, struct err *e)
{
	struct group_walk *g = ctx;
	const struct owners_xfs *x = g->x;
	const uint64_t end = owners_xfs_group_blocks(x, g->number) << x->inodes_log;
	const unsigned int step = MIN(1u << x->inodes_log, (unsigned int)XFS_CHUNK);

	for (const uint8_t *p = records; count; count--, p += 16) {
		const uint64_t first = be32_at(p);
		const unsigned int holes = x->sparse ? be16_at(p + 4) : 0;
		uint64_t used = ~be64_at(p + 8);
		int r;

		if (first < g->next || first % step || first >= end)
			return -EBADMSG;
		/* in the last group such a chunk may end behind its end, with holes there */
		for (unsigned int i = 0; i < 16; i++) {
			if (holes & 1u << i || first + 4 * (uint64_t)i >= end)
				used &= ~bits(4 * i, 4);
		}
		g->next = first + XFS_CHUNK;
		r = group_chunk(g, first, used, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int group_walk(struct owners_xfs *x, uint64_t number, struct err *e)
{
	struct group_walk g = { .x = x, .number = number };
	const struct xfs_tree t = {
		.owner = number,
		.leaf = group_leaf,
		.lost = group_lost,
		.ctx = &g,
	};
	uint8_t *p = x->names;
	uint32_t levels;
	int r;

	r = owners_walk_read(x->w, p, x->super.sector,
			     (number * x->super.ag_blocks << x->super.block_log) +
				     2 * (uint64_t)x->super.sector,
			     e);
	if (r < 0 && r != -EBADMSG)
		return r;
	levels = be32_at(p + 24);
	if (r < 0 || be32_at(p) != AGI_MAGIC || be32_at(p + 8) != number || !levels ||
	    (x->super.v5 && (memcmp(p + AGI_UUID_AT, x->super.uuid, sizeof(x->super.uuid)) != 0 ||
			     !xfs_crc_right(p, x->super.sector, AGI_CRC_AT)))) {
		group_lost(&g);
		return 0;
	}
	return owners_xfs_tree(x, &t, be32_at(p + 20), levels - 1, e);
}

static int xfs_pieces(void *fs, struct err *e)
{
	struct owners_xfs *x = fs;

	x->n_dirs = 0;
	x->budget = x->super.blocks;
	for (uint32_t i = 0; i < x->super.ags; i++) {
		const int r = group_walk(x, i, e);

		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- the file system ------------------------------------------------------------------------------------- */

static struct owner_id xfs_root(void *fs)
{
	const struct owners_xfs *x = fs;

	return (struct owner_id){ .inode = x->root };
}

static void xfs_close(void *fs)
{
	struct owners_xfs *x = fs;

	if (!x)
		return;
	free(x->dirs);
	free(x->levels[0]);
	free(x->levels[1]);
	free(x->inodes);
	free(x->names);
	free(x);
}

DEFINE_CLEANUP(struct owners_xfs, xfs_close);

/* Returns why it cannot be used, or NULL. */
static const char *xfs_take(struct owners_xfs *x, const uint8_t *sb, int *ret_errno)
{
	const uint32_t features = be32_at(sb + 216), more = be32_at(sb + 200);
	unsigned int block_log;
	const char *why;

	why = xfs_super_take(&x->super, sb, XFS_SUPER_BYTES_MAX, owners_walk_size(x->w), ret_errno);
	if (why)
		return why;
	block_log = x->super.block_log;
	x->root = be64_at(sb + 56);
	x->inode_log = sb[122];
	x->inodes_log = sb[123];
	x->group_log = sb[124];
	x->dir_log = block_log + sb[192];
	x->ftype = x->super.v5 ? features & FEATURE_FTYPE : more & MORE_FTYPE;
	x->sparse = x->super.v5 && features & FEATURE_SPARSE;
	*ret_errno = -ENOTSUP;
	if (!x->super.v5 && (!(be16_at(sb + 100) & VERSION_DIRS) || more & ~MORE_KNOWN))
		return "it has features that are not known here";
	*ret_errno = -EBADMSG;
	if (x->inode_log < (x->super.v5 ? INODE_LOG_MIN_5 : INODE_LOG_MIN_4) ||
	    x->inode_log > INODE_LOG_MAX || be16_at(sb + 104) != 1u << x->inode_log ||
	    x->inode_log > block_log || x->inodes_log != block_log - x->inode_log ||
	    x->group_log > GROUP_LOG_MAX || x->super.ag_blocks > UINT32_C(1) << x->group_log ||
	    x->dir_log > 16)
		return "its super block makes no sense";
	/* realtime bitmap and summary; users', groups' and projects' quota: 0 or all ones where there is none */
	memcpy(x->tables,
	       (uint64_t[]){ be64_at(sb + 64), be64_at(sb + 72), be64_at(sb + 160),
			     be64_at(sb + 168), x->super.v5 ? be64_at(sb + 232) : 0 },
	       sizeof(x->tables));
	return NULL;
}

/* The first sector, whose size stands in it. */
static int xfs_read_super(struct owners_xfs *x, uint8_t *sb, struct err *e)
{
	const char *why = "its super block cannot be read";
	int r;

	r = owners_walk_read(x->w, sb, 512, 0, e);
	if (r >= 0 && sb[121] > 9 && sb[121] <= 15)
		r = owners_walk_read(x->w, sb, (size_t)1 << sb[121], 0, e);
	if (r < 0 && r != -EBADMSG)
		return r;
	if (r >= 0)
		why = xfs_take(x, sb, &r);
	return why ? err_set(e, r, "%s", why) : 0;
}

static int xfs_open(struct owners_walk *w, void **ret, struct err *e)
{
	_cleanup_(xfs_closep) struct owners_xfs *x = calloc(1, sizeof(*x));
	size_t block;
	int r;

	if (!x)
		return -ENOMEM;
	x->w = w;
	x->names = calloc(1, XFS_BUFFER_SIZE);
	if (!x->names)
		return -ENOMEM;
	r = xfs_read_super(x, x->names, e);
	if (r < 0)
		return r;
	block = (size_t)1 << x->super.block_log;
	x->levels[0] = calloc(XFS_LEVELS_MAX, block);
	x->levels[1] = calloc(XFS_LEVELS_MAX, block);
	x->inodes = calloc(1, MAX(block, (size_t)XFS_CHUNK << x->inode_log));
	if (!x->levels[0] || !x->levels[1] || !x->inodes)
		return -ENOMEM;
	*ret = TAKE_PTR(x);
	return 0;
}

const struct owners_fs owners_xfs = {
	.open = xfs_open,
	.pieces = xfs_pieces,
	.entries = owners_xfs_entries,
	.root = xfs_root,
	.close = xfs_close,
};
