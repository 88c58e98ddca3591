/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extended attributes: in the inode, in one block (which several inodes may share), and with the feature ea_inode values
 * that have inodes of their own, which are shared too and which no directory names. The inodes of these are looked at first;
 * what of them is wanted is kept, and told of each inode whose attributes refer to it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/base/cleanup.h"
#include "lib/base/le.h"
#include "lib/layout/crc32c.h"
#include "lib/layout/owners_ext.h"

#define ATTRS_MAGIC 0xea020000u
#define EXTRA_AT    128u

struct attr_block {
	le32_t magic, references, blocks, hash, check, unused[3];
};
struct attr_entry {
	uint8_t name_len, space;
	le16_t place;
	le32_t inode, size, hash;
};
_Static_assert(sizeof(struct attr_block) == 32, "as on disk");
_Static_assert(sizeof(struct attr_entry) == 16, "as on disk");

bool ext_attrs_in_inode(const struct ext *x, const struct ext_inode *i, struct ext_attrs *ret)
{
	const size_t size = EXT2_INODE_SIZE(x->fs->super);
	size_t at = EXT_INODE_BYTES;
	le16_t extra;
	le32_t magic;

	if (size == EXT_INODE_BYTES)
		return false;
	memcpy(&extra, i->raw + EXTRA_AT, sizeof(extra));
	at += le16_get(extra);
	if (at % 4 || at + sizeof(magic) > size)
		return false;
	memcpy(&magic, i->raw + at, sizeof(magic));
	at += sizeof(magic);
	*ret = (struct ext_attrs){ .base = i->raw + at, .size = size - at };
	return le32_get(magic) == ATTRS_MAGIC;
}

bool ext_attrs_next(struct ext_attrs *a, struct ext_attr *ret)
{
	const uint8_t *p = a->base + a->at;
	const size_t left = a->size - a->at;
	struct attr_entry n;
	le32_t end;
	size_t length;

	if (left < sizeof(end))
		return false;
	memcpy(&end, p, sizeof(end));
	if (!le32_get(end) || left < sizeof(n))
		return false;
	memcpy(&n, p, sizeof(n));
	length = ROUND_UP(sizeof(n) + n.name_len, 4u);
	if (length > left)
		return false;
	a->at += length;
	*ret = (struct ext_attr){
		.space = n.space,
		.name = (const char *)p + sizeof(n),
		.name_len = n.name_len,
		.inode = le32_get(n.inode),
		.value_len = le32_get(n.size),
	};
	if (!ret->inode && le16_get(n.place) <= a->size &&
	    ret->value_len <= a->size - le16_get(n.place))
		ret->value = a->base + le16_get(n.place);
	return true;
}

/* ---- values in inodes of their own ---------------------------------------------------------------------- */

struct collect {
	struct ext *x;
	uint32_t inode;
};

static int collect_add(struct collect *c, uint64_t at, uint64_t length)
{
	struct ext *x = c->x;

	if (!owners_walk_wants(x->w, at, length))
		return 0;
	if (x->n_values == OWNERS_MAX) {
		owners_walk_lost(x->w, "the values of attributes, of which there are too many");
		return 0;
	}
	if (ARRAY_ROOM(x->values, x->n_values, x->values_allocated, 64) < 0)
		return -ENOMEM;
	x->values[x->n_values++] =
		(struct ext_value){ .inode = c->inode, .at = at, .length = length };
	return 0;
}

static int collect_run(void *ctx, const struct ext_run *run)
{
	struct collect *c = ctx;

	return collect_add(c, run->block * c->x->block_size, run->count * c->x->block_size);
}

static int collect_node(void *ctx, uint64_t block)
{
	struct collect *c = ctx;

	return collect_add(c, block * c->x->block_size, c->x->block_size);
}

int ext_values_collect(struct ext *x, uint32_t number, bool known, struct err *e)
{
	struct collect c = { .x = x, .inode = number };
	const struct ext_map_seen seen = {
		.run = collect_run,
		.node = collect_node,
		.ctx = &c,
	};
	struct ext_inode i;
	int r = ext_inode_load(x, number, &i, e);

	/* what is lost of them is said when they are looked at again */
	if (r <= 0 || (!known && !i.links) || !ext_inode_sound(x, &i) || !ext_inode_of_value(x, &i))
		return r < 0 ? r : 0;
	r = collect_add(&c, ext_inode_at(x, number), EXT2_INODE_SIZE(x->fs->super));
	return r < 0 ? r : ext_map_walk(x, &i, &seen, e);
}

/* The first of @inode's, or where it would be. */
static size_t values_find(const struct ext *x, uint32_t inode)
{
	size_t low = 0, high = x->n_values;

	while (low < high) {
		const size_t mid = low + (high - low) / 2;

		if (x->values[mid].inode < inode) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return low;
}

static int values_tell(struct ext *x, uint32_t owner, uint32_t inode)
{
	const struct owner_id id = { .inode = owner };

	int r = 0;

	/* hostile inodes may have many each; behind so many owners others are not kept any more */
	if (x->values_told > OWNERS_MAX)
		return 0;
	for (size_t n = values_find(x, inode);
	     r >= 0 && n < x->n_values && x->values[n].inode == inode; n++) {
		x->values[n].told = true;
		x->values_told++;
		r = owners_walk_piece(x->w, id, OWNER_ATTRIBUTES, x->values[n].at,
				      x->values[n].length, 0);
	}
	return r;
}

int ext_values_rest(struct ext *x)
{
	int r = 0;

	for (size_t n = 0; r >= 0 && n < x->n_values; n++) {
		const struct ext_value *v = &x->values[n];
		const struct owner_id id = { .inode = v->inode };

		if (!v->told)
			r = owners_walk_piece(x->w, id, OWNER_ATTRIBUTES, v->at, v->length, 0);
	}
	return r;
}

static int attrs_tell(struct ext *x, const struct ext_inode *i, struct ext_attrs *a)
{
	struct ext_attr n;
	int r = 0;

	while (r >= 0 && ext_attrs_next(a, &n)) {
		if (n.inode)
			r = values_tell(x, i->number, n.inode);
	}
	return r;
}

/* ---- the block of attributes ---------------------------------------------------------------------------- */

static bool block_valid(const struct ext *x, uint64_t block, const uint8_t *p)
{
	const le64_t number = le64(block);
	struct attr_block b;
	uint32_t crc;

	memcpy(&b, p, sizeof(b));
	if (le32_get(b.magic) != ATTRS_MAGIC || le32_get(b.blocks) != 1)
		return false;
	if (!x->checks)
		return true;
	crc = ext2fs_crc32c_le(x->fs->csum_seed, number.b, sizeof(number));
	crc = crc32c_around(crc, p, x->block_size, offsetof(struct attr_block, check),
			    sizeof(b.check));
	return crc == le32_get(b.check);
}

/* Which values it refers to. Inodes may share it, but hostile ones may be more than would have blocks: each is counted. */
static int block_values(struct ext *x, const struct ext_inode *i, struct err *e)
{
	struct ext_attrs a = {
		.base = x->block,
		.size = x->block_size,
		.at = sizeof(struct attr_block),
	};
	int r = -EBADMSG;

	if (x->visits) {
		x->visits--;
		r = ext_read_block(x, x->block, i->attributes, e);
	}
	if (r < 0 && r != -EBADMSG)
		return r;
	if (r == -EBADMSG || !block_valid(x, i->attributes, x->block)) {
		owners_walk_lost(x->w, "the attributes of inode %u", i->number);
		return 0;
	}
	return attrs_tell(x, i, &a);
}

int ext_attrs_pieces(struct ext *x, const struct ext_inode *i, struct err *e)
{
	const struct owner_id id = { .inode = i->number };
	struct ext_attrs a;
	int r = 0;

	if (x->n_values && ext_attrs_in_inode(x, i, &a))
		r = attrs_tell(x, i, &a);
	if (r < 0 || !i->attributes)
		return r;
	if (!ext_inside(x, i->attributes, 1)) {
		owners_walk_lost(x->w, "the attributes of inode %u", i->number);
		return 0;
	}
	r = owners_walk_piece(x->w, id, OWNER_ATTRIBUTES, i->attributes * x->block_size,
			      x->block_size, 0);
	return r < 0 || !x->n_values ? r : block_values(x, i, e);
}
