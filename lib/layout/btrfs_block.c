/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/layout/btrfs_block.h"

#include <string.h>

#include <ext2fs/ext2fs.h>
#include <openssl/evp.h>

#include "lib/base/cleanup.h"

#define HEAD_BYTES sizeof(struct btrfs_disk_head)

static const struct btrfs_disk_head *block_head(const uint8_t *block)
{
	return (const struct btrfs_disk_head *)block;
}

struct btrfs_key btrfs_key_of(const struct btrfs_disk_key *k)
{
	return (struct btrfs_key){
		.objectid = le64_get(k->objectid),
		.type = k->type,
		.offset = le64_get(k->offset),
	};
}

int btrfs_key_compare(const struct btrfs_key *a, const struct btrfs_key *b)
{
	if (a->objectid != b->objectid)
		return a->objectid < b->objectid ? -1 : 1;
	if (a->type != b->type)
		return a->type < b->type ? -1 : 1;
	return a->offset < b->offset ? -1 : a->offset > b->offset;
}

bool btrfs_csum_right(uint16_t type, const uint8_t *p, size_t len)
{
	uint8_t sum[EVP_MAX_MD_SIZE];
	unsigned int n = 0;
	le32_t crc;

	if (type == BTRFS_CSUM_CRC32C) {
		memcpy(&crc, p, sizeof(crc));
		return ~ext2fs_crc32c_le(UINT32_MAX, p + BTRFS_CSUM_BYTES,
					 len - BTRFS_CSUM_BYTES) == le32_get(crc);
	}
	if (type != BTRFS_CSUM_SHA256)
		return true;
	if (!EVP_Digest(p + BTRFS_CSUM_BYTES, len - BTRFS_CSUM_BYTES, sum, &n, EVP_sha256(), NULL))
		return false;
	return n == BTRFS_CSUM_BYTES && memcmp(sum, p, n) == 0;
}

uint32_t btrfs_block_count(const uint8_t *block)
{
	return le32_get(block_head(block)->nritems);
}

/* Items and children both begin with their key. */
struct btrfs_key btrfs_block_key(const uint8_t *block, unsigned int level, uint32_t i)
{
	const size_t each = level ? sizeof(struct btrfs_disk_child)
				  : sizeof(struct btrfs_disk_item);

	return btrfs_key_of((const struct btrfs_disk_key *)(block + HEAD_BYTES + i * each));
}

uint32_t btrfs_block_find(const uint8_t *block, unsigned int level, const struct btrfs_key *k)
{
	uint32_t low = 0, high = btrfs_block_count(block);

	while (low < high) {
		const uint32_t middle = low + (high - low) / 2;
		const struct btrfs_key there = btrfs_block_key(block, level, middle);

		if (btrfs_key_compare(&there, k) < 0) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return low;
}

const struct btrfs_disk_child *btrfs_block_child(const uint8_t *block, uint32_t i)
{
	return (const struct btrfs_disk_child *)(block + HEAD_BYTES) + i;
}

static const struct btrfs_disk_item *block_item(const uint8_t *block, uint32_t i)
{
	return (const struct btrfs_disk_item *)(block + HEAD_BYTES) + i;
}

const uint8_t *btrfs_block_item(const uint8_t *block, uint32_t i, uint32_t *ret_size)
{
	const struct btrfs_disk_item *item = block_item(block, i);

	*ret_size = le32_get(item->size);
	return block + HEAD_BYTES + le32_get(item->offset);
}

/* A block belongs to the tree that it was made for; a subvolume has blocks of those that it was once a snapshot of. */
static bool owner_fits(uint64_t tree, uint64_t owner)
{
	if (tree != BTRFS_TREE_FILES && tree < BTRFS_FIRST_ID)
		return owner == tree;
	return owner == BTRFS_TREE_FILES || (owner >= BTRFS_FIRST_ID && owner <= BTRFS_LAST_ID);
}

/* The data of the items lie from the end on towards their heads, one next to the other. */
static bool items_fit(const uint8_t *block, uint32_t count, uint32_t room)
{
	const uint32_t heads = count * (uint32_t)sizeof(struct btrfs_disk_item);
	uint32_t end = room;

	for (uint32_t i = 0; i < count; i++) {
		const struct btrfs_disk_item *item = block_item(block, i);
		const uint32_t offset = le32_get(item->offset), size = le32_get(item->size);

		if (size > end || offset != end - size || offset < heads)
			return false;
		end = offset;
	}
	return true;
}

static bool keys_ascend(const uint8_t *block, unsigned int level, uint32_t count)
{
	struct btrfs_key last = { 0 };

	for (uint32_t i = 0; i < count; i++) {
		const struct btrfs_key k = btrfs_block_key(block, level, i);

		if (i && btrfs_key_compare(&last, &k) >= 0)
			return false;
		last = k;
	}
	return true;
}

bool btrfs_block_fits(const struct btrfs_block_rules *rules, const struct btrfs_ref *ref,
		      const uint8_t *block)
{
	const struct btrfs_disk_head *h = block_head(block);
	const struct btrfs_key first = btrfs_block_key(block, ref->level, 0);

	if (le64_get(h->bytenr) != ref->logical || le64_get(h->generation) != ref->generation ||
	    h->level != ref->level || memcmp(h->fsid, rules->fsid, sizeof(h->fsid)) != 0 ||
	    !owner_fits(ref->owner, le64_get(h->owner)))
		return false;
	/* only a tree without anything has a block without anything */
	if (!btrfs_block_count(block))
		return !ref->level && !ref->first;
	return !ref->first || btrfs_key_compare(&first, ref->first) == 0;
}

bool btrfs_block_sound(const struct btrfs_block_rules *rules, const struct btrfs_ref *ref,
		       const uint8_t *block)
{
	const uint32_t count = btrfs_block_count(block), room = rules->node - (uint32_t)HEAD_BYTES;
	const size_t each = ref->level ? sizeof(struct btrfs_disk_child)
				       : sizeof(struct btrfs_disk_item);

	if (!btrfs_block_fits(rules, ref, block) || count > room / each ||
	    !btrfs_csum_right(rules->csum_type, block, rules->node))
		return false;
	return keys_ascend(block, ref->level, count) &&
	       (ref->level || items_fit(block, count, room));
}
