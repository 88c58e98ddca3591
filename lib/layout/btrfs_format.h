/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * btrfs_format - the bytes of a btrfs, as far as they tell what lies where.
 *
 * The facts are those of the btrfs documentation ("On-disk Format") and of the kernel's interface header
 * linux/btrfs_tree.h. All numbers are little-endian. Bytes of a file and tree blocks have *logical* addresses; the chunk tree
 * says where on which device these are. A tree block has a head, then keys with the addresses of blocks one level below, or
 * (level 0) items: their heads from the front, their data from the end, without gaps.
 */
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/le.h"

#define BTRFS_SUPER_BYTES  4096
#define BTRFS_MAGIC	   "_BHRfS_M"
#define BTRFS_LEVELS_MAX   8
#define BTRFS_NODE_MIN	   4096
#define BTRFS_NODE_MAX	   65536
#define BTRFS_CSUM_BYTES   32
#define BTRFS_CSUM_CRC32C  0
#define BTRFS_CSUM_XXHASH  1
#define BTRFS_CSUM_SHA256  2
#define BTRFS_CSUM_BLAKE2B 3

#define BTRFS_TREE_ROOT	 1 /* of the roots of all other trees */
#define BTRFS_TREE_CHUNK 3
#define BTRFS_TREE_FILES 5 /* the subvolume that is always there */
/* Subvolumes and inodes have numbers from here on, */
#define BTRFS_FIRST_ID UINT64_C(256)
/* up to here; those above are the file system's own. */
#define BTRFS_LAST_ID UINT64_C(0xffffffffffffff00)
/* The first directory of each subvolume. */
#define BTRFS_ROOT_INODE BTRFS_FIRST_ID

#define BTRFS_ITEM_INODE       1
#define BTRFS_ITEM_INODE_REF   12
#define BTRFS_ITEM_INODE_EXREF 13
#define BTRFS_ITEM_DIR	       84
#define BTRFS_ITEM_DIR_INDEX   96
#define BTRFS_ITEM_EXTENT_DATA 108
#define BTRFS_ITEM_ROOT	       132
#define BTRFS_ITEM_ROOT_PARENT 144 /* ROOT_BACKREF */
#define BTRFS_ITEM_ROOT_CHILD  156 /* ROOT_REF */
#define BTRFS_ITEM_CHUNK       228

/*
 * Features under which the trees looked at here are what they were: mixed back references, a default subvolume, mixed
 * block groups, LZO, zstd, large metadata blocks, extended references, RAID 5/6 (its chunks are refused), skinny
 * metadata, no holes, another UUID in metadata, RAID1 with 3 or 4 copies; simple quotas. Not: zones, the second extent
 * tree, the stripe tree. (Those that only forbid writing change nothing of them, by their meaning.)
 */
#define BTRFS_FEATURES_KNOWN UINT64_C(0x10fff)
#define BTRFS_FEATURE_UUID   UINT64_C(0x400)
/* Written, relocated, had errors, is a seed. Not: a dump of metadata, UUIDs or check values that are being changed. */
#define BTRFS_SUPER_FLAGS_KNOWN UINT64_C(0x100000007)

#define BTRFS_CHUNK_SYSTEM   UINT64_C(0x2)
#define BTRFS_CHUNK_METADATA UINT64_C(0x4)
#define BTRFS_CHUNK_RAID0    UINT64_C(0x8)
/* RAID1, DUP, RAID1C3, RAID1C4: every stripe has all of it */
#define BTRFS_CHUNK_COPIES UINT64_C(0x630)
#define BTRFS_CHUNK_KNOWN  UINT64_C(0x63f) /* and data */

#define BTRFS_EXTENT_INLINE  0
#define BTRFS_EXTENT_WRITTEN 1
#define BTRFS_EXTENT_MAX     2 /* preallocated: nothing has been written to it */

struct btrfs_disk_key {
	le64_t objectid;
	uint8_t type;
	le64_t offset;
};
static_assert(sizeof(struct btrfs_disk_key) == 17, "on-disk size");

struct btrfs_disk_super {
	uint8_t csum[BTRFS_CSUM_BYTES]; /* of all behind it */
	uint8_t fsid[16];
	le64_t bytenr; /* where on the device it is */
	le64_t flags;
	uint8_t magic[8];
	le64_t generation, root, chunk_root, log_root;
	uint8_t unused_1[32];
	le64_t num_devices;
	le32_t sectorsize, nodesize;
	uint8_t unused_2[8];
	le32_t sys_chunk_array_size;
	le64_t chunk_root_generation;
	uint8_t unused_3[16];
	le64_t incompat_flags;
	le16_t csum_type;
	uint8_t root_level, chunk_root_level, log_root_level;
	le64_t devid; /* with the rest of a dev_item */
	uint8_t unused_4[90];
	uint8_t label[256];
	uint8_t unused_5[16];
	uint8_t metadata_uuid[16];
	uint8_t unused_6[224];
	uint8_t sys_chunk_array[2048]; /* key and chunk, in turns: those of the chunk tree itself */
	uint8_t unused_7[1237];
};
static_assert(offsetof(struct btrfs_disk_super, num_devices) == 0x88, "on-disk place");
static_assert(offsetof(struct btrfs_disk_super, devid) == 0xc9, "on-disk place");
static_assert(offsetof(struct btrfs_disk_super, metadata_uuid) == 0x23b, "on-disk place");
static_assert(offsetof(struct btrfs_disk_super, sys_chunk_array) == 0x32b, "on-disk place");
static_assert(sizeof(struct btrfs_disk_super) == BTRFS_SUPER_BYTES, "on-disk size");

struct btrfs_disk_stripe {
	le64_t devid, offset;
	uint8_t dev_uuid[16];
};

/* The key's offset is its logical address. */
struct btrfs_disk_chunk {
	le64_t length, owner, stripe_len, type;
	uint8_t unused[12];
	le16_t num_stripes, sub_stripes;
	struct btrfs_disk_stripe stripes[]; /* num_stripes */
};
static_assert(sizeof(struct btrfs_disk_chunk) == 48, "on-disk size");
static_assert(sizeof(struct btrfs_disk_stripe) == 32, "on-disk size");

struct btrfs_disk_head {
	uint8_t csum[BTRFS_CSUM_BYTES]; /* of all behind it */
	uint8_t fsid[16];
	le64_t bytenr; /* its logical address */
	le64_t flags;
	uint8_t chunk_tree_uuid[16];
	le64_t generation;
	le64_t owner; /* the tree that it was made for */
	le32_t nritems;
	uint8_t level;
};
static_assert(sizeof(struct btrfs_disk_head) == 101, "on-disk size");

struct btrfs_disk_item {
	struct btrfs_disk_key key;
	le32_t offset, size; /* from the end of the block's head */
};
static_assert(sizeof(struct btrfs_disk_item) == 25, "on-disk size");

struct btrfs_disk_child {
	struct btrfs_disk_key key; /* the child's first */
	le64_t blockptr, generation;
};
static_assert(sizeof(struct btrfs_disk_child) == 33, "on-disk size");

struct btrfs_disk_inode {
	le64_t generation, transid;
	le64_t size; /* of the file */
	uint8_t unused[136];
};
static_assert(sizeof(struct btrfs_disk_inode) == 160, "on-disk size");

struct btrfs_disk_root {
	struct btrfs_disk_inode inode;
	le64_t generation, root_dirid, bytenr;
	uint8_t unused[32];
	le32_t refs; /* 0: it was deleted, and is being taken apart */
	struct btrfs_disk_key drop_progress;
	uint8_t drop_level, level;
};
static_assert(sizeof(struct btrfs_disk_root) == 239, "on-disk size");

/* ROOT_BACKREF (child, parent) and ROOT_REF (parent, child); the name follows. */
struct btrfs_disk_root_ref {
	le64_t dirid, sequence;
	le16_t name_len;
};
static_assert(sizeof(struct btrfs_disk_root_ref) == 18, "on-disk size");

/* (inode, directory); the name follows. There may be several, of one directory. */
struct btrfs_disk_inode_ref {
	le64_t index;
	le16_t name_len;
};
static_assert(sizeof(struct btrfs_disk_inode_ref) == 10, "on-disk size");

struct btrfs_disk_inode_exref {
	le64_t parent, index;
	le16_t name_len;
};
static_assert(sizeof(struct btrfs_disk_inode_exref) == 18, "on-disk size");

/* DIR_ITEM (directory, hash of the name) and DIR_INDEX (directory, index); the name follows. */
struct btrfs_disk_dir_item {
	struct btrfs_disk_key location;
	le64_t transid;
	le16_t data_len, name_len;
	uint8_t type;
};
static_assert(sizeof(struct btrfs_disk_dir_item) == 30, "on-disk size");

/* (inode, offset in the file) */
struct btrfs_disk_extent {
	le64_t generation, ram_bytes;
	uint8_t compression, encryption;
	le16_t other_encoding;
	uint8_t type;			    /* BTRFS_EXTENT_*; of one inline the bytes follow */
	le64_t disk_bytenr, disk_num_bytes; /* of the whole extent; a hole: 0 */
	le64_t offset;			    /* in what the whole extent holds */
	le64_t num_bytes;		    /* of the file */
};
static_assert(sizeof(struct btrfs_disk_extent) == 53, "on-disk size");
