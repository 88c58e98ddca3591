/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * btrfs_block - tree blocks of a btrfs that can be believed. For owners_btrfs.c and what belongs to it.
 *
 * A tree block is believed when it says that it stands where it was looked for, belongs to this file system, is as old as its
 * parent says and of the level and with the first key that the parent says; its keys ascend, and its items lie within it as they
 * must; and its check value is right, where that is CRC-32C or SHA-256. For xxhash and BLAKE2b there is no library at hand:
 * the rest has to do. It tells blocks that are stale or another's; flipped bits an image's own check values have told already.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/layout/btrfs_format.h"

struct btrfs_key {
	uint64_t objectid;
	uint8_t type;
	uint64_t offset;
};
#define BTRFS_KEY_MAX \
	((struct btrfs_key){ .objectid = UINT64_MAX, .type = UINT8_MAX, .offset = UINT64_MAX })

struct btrfs_key btrfs_key_of(const struct btrfs_disk_key *k);
int btrfs_key_compare(const struct btrfs_key *a, const struct btrfs_key *b);

/* A tree block, as its parent knows it. */
struct btrfs_ref {
	uint64_t logical, generation;
	uint64_t owner; /* the tree; blocks of a subvolume may be another subvolume's as well */
	unsigned int level;
	const struct btrfs_key *first; /* NULL: it is a root */
};

struct btrfs_block_rules {
	uint8_t fsid[16];
	uint32_t node; /* bytes of a block */
	uint16_t csum_type;
};

/* Is it the one that the parent speaks of? Quickly told; of a block that is sound this may be asked for other parents. */
bool btrfs_block_fits(const struct btrfs_block_rules *rules, const struct btrfs_ref *ref,
		      const uint8_t *block);
/* It is, and all else of it is as it must be. */
bool btrfs_block_sound(const struct btrfs_block_rules *rules, const struct btrfs_ref *ref,
		       const uint8_t *block);
/* Is the check value before @len bytes in all right? Yes, if it cannot be computed here. */
bool btrfs_csum_right(uint16_t type, const uint8_t *p, size_t len);

/* Of a sound block. */
uint32_t btrfs_block_count(const uint8_t *block);
struct btrfs_key btrfs_block_key(const uint8_t *block, unsigned int level, uint32_t i);
/* The first whose key is not below @k, or the count. */
uint32_t btrfs_block_find(const uint8_t *block, unsigned int level, const struct btrfs_key *k);
const struct btrfs_disk_child *btrfs_block_child(const uint8_t *block, uint32_t i);
/* The bytes of an item of a leaf. */
const uint8_t *btrfs_block_item(const uint8_t *block, uint32_t i, uint32_t *ret_size);
