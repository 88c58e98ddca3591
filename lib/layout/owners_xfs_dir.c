/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names of an xfs: within the inode, or in blocks of one or several of the file system's, of which those below 32 GiB in
 * the directory hold all names (behind them is only what finds a name faster). The format's facts are those of the
 * kernel's fs/xfs/libxfs/xfs_da_format.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "lib/base/cleanup.h"
#include "lib/layout/owners_xfs.h"

#define NAMES_END UINT64_C(0x800000000)

#define BLOCK_MAGIC   UINT32_C(0x58443242) /* XD2B: version 4, the only block of its directory */
#define DATA_MAGIC    UINT32_C(0x58443244) /* XD2D */
#define BLOCK_MAGIC_5 UINT32_C(0x58444233) /* XDB3 */
#define DATA_MAGIC_5  UINT32_C(0x58444433) /* XDD3 */

#define FREE_TAG  0xffff
#define TYPE_DIR  2
#define HEAD_4	  16
#define HEAD_5	  64
#define CRC_AT	  4
#define PLACE_AT  8
#define UUID_AT	  24
#define OWNER_AT  40
#define ENTRY_MIN 9 /* an inode's number, a length; then the name */

struct dir_walk {
	struct owners_xfs *x;
	const struct xfs_inode *inode;
	/* a block in several places: as much of it is in x->names, from `first` on the disk, up to `next` in the directory */
	size_t gathered;
	uint64_t first, next;
};

static void dir_lost(const struct dir_walk *d)
{
	owners_walk_lost(d->x->w, "names in the directory that is inode %llu",
			 (unsigned long long)d->inode->number);
}

static int number_compare(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int dir_entry(const struct dir_walk *d, uint64_t child, unsigned int type,
		     const uint8_t *name, size_t len)
{
	const struct owners_xfs *x = d->x;
	const struct owner_id parent = { .inode = d->inode->number }, id = { .inode = child };
	bool directory = !type || type == TYPE_DIR;

	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
		return 0;
	/* an entry may say anything: what is kept of directories is no more than there are */
	if (directory) {
		directory = x->n_dirs &&
			    bsearch(&child, x->dirs, x->n_dirs, sizeof(child), number_compare);
	}
	return owners_walk_entry(x->w, parent, id, directory, (const char *)name, len);
}

/* Names within the inode: a count, how many of the numbers need 8 bytes (then all have them), the parent's number. */
static int dir_local(const struct dir_walk *d)
{
	const struct xfs_fork *f = &d->inode->data;
	const uint8_t *p = f->p, *end;
	const size_t ftype = d->x->ftype;
	size_t number;

	if (d->inode->size > f->bytes || d->inode->size < 6)
		return -EBADMSG;
	end = p + d->inode->size;
	number = p[1] ? 8 : 4;
	p += 2 + number;
	for (unsigned int n = f->p[0]; n; n--) {
		size_t len;
		int r;

		if (end - p < 3)
			return -EBADMSG;
		len = p[0];
		p += 3;
		if (!len || (size_t)(end - p) < len + ftype + number)
			return -EBADMSG;
		r = dir_entry(d, number == 8 ? be64_at(p + len + ftype) : be32_at(p + len + ftype),
			      ftype ? p[len] : 0, p, len);
		if (r < 0)
			return r;
		p += len + ftype + number;
	}
	return 0;
}

/* Where the names of the block @p end, which is @size long and stands at @place; 0: it is none of this directory's. */
static size_t dir_block_end(const struct dir_walk *d, const uint8_t *p, uint64_t place, size_t size)
{
	const struct xfs_super *s = &d->x->super;
	const uint32_t magic = be32_at(p), alone = s->v5 ? BLOCK_MAGIC_5 : BLOCK_MAGIC;
	const size_t head = s->v5 ? HEAD_5 : HEAD_4;
	uint32_t leaves;

	if (magic != alone && magic != (s->v5 ? DATA_MAGIC_5 : DATA_MAGIC))
		return 0;
	if (s->v5 && (!xfs_crc_right(p, size, CRC_AT) || be64_at(p + PLACE_AT) != place / 512 ||
		      memcmp(p + UUID_AT, s->uuid, sizeof(s->uuid)) != 0 ||
		      be64_at(p + OWNER_AT) != d->inode->number))
		return 0;
	if (magic != alone)
		return size;
	/* at its end, what else is in blocks of its own: 8 bytes for each name, their count, that of the unused ones */
	leaves = be32_at(p + size - 8);
	return leaves > (size - 8 - head) / 8 ? 0 : size - 8 - (size_t)leaves * 8;
}

/* The block @p that stands at @place. */
static int dir_block(const struct dir_walk *d, const uint8_t *p, uint64_t place)
{
	const size_t end = dir_block_end(d, p, place, (size_t)1 << d->x->dir_log);
	const size_t ftype = d->x->ftype;
	size_t at = d->x->super.v5 ? HEAD_5 : HEAD_4;

	if (!end)
		return -EBADMSG;
	while (at < end) {
		size_t len, bytes;
		int r;

		/* @end and @at are multiples of 8 */
		if (be16_at(p + at) == FREE_TAG) {
			bytes = be16_at(p + at + 2);
			if (!bytes || bytes % 8 || bytes > end - at)
				return -EBADMSG;
			at += bytes;
			continue;
		}
		if (end - at < ENTRY_MIN)
			return -EBADMSG;
		len = p[at + 8];
		bytes = ROUND_UP(ENTRY_MIN + len + ftype + 2, 8);
		if (!len || bytes > end - at)
			return -EBADMSG;
		r = dir_entry(d, be64_at(p + at), ftype ? p[at + ENTRY_MIN + len] : 0,
			      p + at + ENTRY_MIN, len);
		if (r < 0)
			return r;
		at += bytes;
	}
	return 0;
}

static int dir_lost_or(const struct dir_walk *d, int r)
{
	if (r != -EBADMSG)
		return r;
	dir_lost(d);
	return 0;
}

/* Whole blocks, as many as there is room for. Returns how many bytes are done, at least one block. */
static int64_t dir_blocks(struct dir_walk *d, uint64_t at, uint64_t length, size_t most,
			  struct err *e)
{
	struct owners_xfs *x = d->x;
	const size_t size = (size_t)1 << x->dir_log;
	const size_t n = ROUND_DOWN(MIN(length, (uint64_t)most), size);
	int r;

	r = owners_walk_read(x->w, x->names, n, at, e);
	if (r == -EBADMSG && n > size)
		return 0;
	if (r < 0) {
		r = dir_lost_or(d, r);
		return r < 0 ? r : (int64_t)n;
	}
	for (size_t i = 0; i < n; i += size) {
		r = dir_lost_or(d, dir_block(d, x->names + i, at + i));
		if (r < 0)
			return r;
	}
	return (int64_t)n;
}

/* @n bytes of a block that is in several places. */
static int dir_gather(struct dir_walk *d, uint64_t offset, uint64_t at, size_t n, struct err *e)
{
	struct owners_xfs *x = d->x;
	const size_t size = (size_t)1 << x->dir_log, in = offset & (size - 1);
	int r;

	if (d->gathered && (offset != d->next || !in)) {
		dir_lost(d);
		d->gathered = 0;
	}
	if (in != d->gathered)
		return -EBADMSG;
	if (!in)
		d->first = at;
	d->gathered = 0;
	r = owners_walk_read(x->w, x->names + in, n, at, e);
	if (r < 0)
		return r;
	if (in + n == size)
		return dir_block(d, x->names, d->first);
	d->gathered = in + n;
	d->next = offset + n;
	return 0;
}

static int dir_run(void *ctx, const struct xfs_run *run, struct err *e)
{
	struct dir_walk *d = ctx;
	const size_t size = (size_t)1 << d->x->dir_log;
	uint64_t offset = run->offset, at = run->at, length = run->length;
	size_t most = XFS_BUFFER_SIZE;

	if (offset >= NAMES_END)
		return 0;
	length = MIN(length, NAMES_END - offset);
	if (!owners_xfs_spend(d->x, length >> d->x->super.block_log))
		return -EBADMSG;
	while (length) {
		const size_t in = offset & (size - 1);
		int64_t n;

		if (!in && !d->gathered && length >= size) {
			n = dir_blocks(d, at, length, most, e);
			/* one by one, so that no more is lost than is */
			most = n ? most : size;
		} else {
			n = (int64_t)MIN(size - in, length);
			const int r = dir_lost_or(d, dir_gather(d, offset, at, (size_t)n, e));

			n = r < 0 ? r : n;
		}
		if (n < 0)
			return (int)n;
		offset += (uint64_t)n;
		at += (uint64_t)n;
		length -= (uint64_t)n;
	}
	return 0;
}

static int dir_walk(struct owners_xfs *x, const struct xfs_inode *inode, struct err *e)
{
	struct dir_walk d = { .x = x, .inode = inode };
	const struct xfs_map m = {
		.inode = inode,
		.fork = &inode->data,
		.run = dir_run,
		.ctx = &d,
	};
	int r;

	if (inode->data.format == XFS_LOCAL)
		return dir_lost_or(&d, dir_local(&d));
	r = owners_xfs_map(x, &m, e);
	if (d.gathered)
		dir_lost(&d);
	return r;
}

/* Inode @number again; what is in one block with the last one is not read again. */
static int dir_read_inode(struct owners_xfs *x, uint64_t number, struct xfs_inode *ret,
			  struct err *e)
{
	const uint64_t at = owners_xfs_inode_at(x, number);
	const size_t bytes = (size_t)1 << x->super.block_log;
	const uint64_t block = ROUND_DOWN(at, bytes);

	if (x->inodes_at != block) {
		int r;

		x->inodes_at = UINT64_MAX;
		r = owners_walk_read(x->w, x->inodes, bytes, block, e);
		if (r < 0)
			return r;
		x->inodes_at = block;
	}
	return owners_xfs_inode(x, number, x->inodes + (at - block), ret);
}

int owners_xfs_entries(void *fs, struct err *e)
{
	struct owners_xfs *x = fs;

	x->budget = x->super.blocks;
	x->inodes_at = UINT64_MAX;
	for (size_t i = 0; i < x->n_dirs; i++) {
		struct xfs_inode inode;
		int r;

		r = dir_read_inode(x, x->dirs[i], &inode, e);
		if (r == -EBADMSG || (r >= 0 && !S_ISDIR(inode.mode))) {
			owners_walk_lost(x->w, "the directory that is inode %llu",
					 (unsigned long long)x->dirs[i]);
			continue;
		}
		if (r >= 0)
			r = dir_walk(x, &inode, e);
		if (r < 0)
			return r;
	}
	return 0;
}
