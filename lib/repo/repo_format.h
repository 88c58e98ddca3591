/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo_format - the bytes of a repository's objects. Change this file, change docs/REPOSITORY.md.
 *
 * Packs, index files and images are named by the SHA-256 of their bytes and begin with a PACK record (lib/image/format.h
 * has the envelope of all records). All numbers are little-endian.
 *
 *	pack	PACK, then for each entry CHUNK + zstd frame | PAGE | SEALED, then PACK_INDEX, PACK_END
 *	index	PACK, REPO_INDEX, blocks
 *	image	PACK, MANIFEST | SEALED
 */
#pragma once

#include "lib/image/format.h"

enum repo_record_type {
	REPO_RECORD_PACK = 16,
	REPO_RECORD_SEALED = 17,
	REPO_RECORD_PACK_INDEX = 18,
	REPO_RECORD_PACK_END = 19,
	REPO_RECORD_INDEX = 20,
};

#define REPO_ID_SIZE   16
#define REPO_NAME_HASH 32 /* SHA-256 */

/* The first record of packs, index files and images. */
#define REPO_PACK_MAGIC	       "AMBROPCK"
#define REPO_PACK_VERSION      1
#define REPO_REQUIRE_SEALED    UINT64_C(1) /* encrypted: `session` counts, entries are SEALED */
#define REPO_REQUIRE_KNOWN     REPO_REQUIRE_SEALED
#define REPO_SESSION_SEAL_SIZE 80 /* crypto_box_seal() of 32 bytes */

enum repo_purpose {
	REPO_PURPOSE_PACK = 1,
	REPO_PURPOSE_INDEX = 2,
	REPO_PURPOSE_IMAGE = 3,
};

struct repo_pack_head {
	uint8_t magic[8];
	le32_t version;
	uint8_t purpose; /* enum repo_purpose */
	uint8_t reserved[3];
	le64_t require_features; /* REPO_REQUIRE_* */
	uint8_t repo_id[REPO_ID_SIZE];
	/*
	 * The sealed session key; random bytes when not SEALED and in index files: no two objects are ever the same, so that
	 * the name of one that was marked, superseded or deleted never comes back.
	 */
	uint8_t session[REPO_SESSION_SEAL_SIZE];
};
static_assert(sizeof(struct repo_pack_head) == 120, "on-disk size");

/* What an entry is. */
enum repo_kind {
	REPO_KIND_CHUNK = 0,
	REPO_KIND_PAGE = 1,
	/* sealed things that are no entries of packs */
	REPO_KIND_BLOCK = 2, /* of an index file */
	REPO_KIND_IMAGE = 3,
	REPO_KIND_TABLE = 4, /* of an index file: what stands in its record */
	REPO_KIND_PACKS = 5, /* of an index file: its table of packs */
};

/*
 * An encrypted entry: this head and the sealed bytes (of the zstd frame, of the page's body, of the manifest): nonce,
 * ciphertext, tag. Bound to the sealed bytes: repo_id, then these 48 bytes.
 */
struct repo_sealed_head {
	uint8_t kind; /* enum repo_kind */
	uint8_t reserved[3];
	le32_t plain_len; /* chunk: of the disk; else == frame_len */
	le32_t frame_len; /* before sealing */
	le32_t reserved2;
	struct chunk_id name; /* crypt_name() of the id; an image's: its image_id and zeros */
};
static_assert(sizeof(struct repo_sealed_head) == 48, "on-disk size");
#define REPO_SEAL_NONCE 24
#define REPO_SEAL_TAG	16
#define REPO_SEAL_EXTRA (REPO_SEAL_NONCE + REPO_SEAL_TAG)

/*
 * Where a named thing is: in index files, and in a pack's own PACK_INDEX (there `pack` is 0). offset and frame_len cover
 * what has to be read: a chunk's zstd frame; otherwise the whole skippable frame of the PAGE or SEALED record.
 */
struct repo_entry {
	struct chunk_id name; /* the id itself when nothing is encrypted */
	le32_t pack;	      /* number in the index file's table of packs */
	le32_t offset;	      /* in the pack, bytes: packs are far smaller than 4 GiB */
	le32_t frame_len;
	le32_t plain_len; /* of the chunk or of the page's body; top bit: it is a page */
};
static_assert(sizeof(struct repo_entry) == 48, "on-disk size");
#define REPO_ENTRY_PAGE 0x80000000u

/* Body of PACK_INDEX: repo_entry, in order of offset. */
struct repo_pack_end {
	le64_t index_offset; /* of the PACK_INDEX's skippable frame */
	le64_t index_frame_len;
	le64_t entries;
};
static_assert(sizeof(struct repo_pack_end) == 24, "on-disk size");

/*
 * An index file: PACK; the REPO_INDEX record, whose body is this head, the names of the index files that it takes the place
 * of, the SHA-256 of the table of packs, the table of blocks; then, outside of any frame, the table of packs and the blocks:
 * each REPO_INDEX_BLOCK entries in order of their names, then of their packs' numbers and offsets (the last one fewer). So one
 * lookup reads one block, and believes it because its check is in the table, which has been checked when the file was opened.
 *
 * Files that were merged together have one and the same table of packs: who has read that of one need not read the others',
 * because their records, which are checked, say that it is the same.
 *
 * The table of blocks has one more than there are blocks: its `first` is the beginning of the last name of all, its check
 * zeros. So a name outside of a file's range costs no read.
 *
 * In encrypted repositories all behind the head is sealed, the table of packs is, and each block is. What they are bound to is
 * no part of the file: repo_id, then a struct repo_sealed_head with plain_len == frame_len and, for what is in the record
 * (REPO_KIND_TABLE), the 32 bytes of this head as its name; for the table of packs (REPO_KIND_PACKS) the SHA-256 of what is
 * sealed, which the record has; for a block (REPO_KIND_BLOCK) its number (le64) and zeros.
 */
#define REPO_INDEX_MAGIC "AMBROIDX"
struct repo_index_head {
	uint8_t magic[8];
	le32_t version;	   /* 1 */
	le32_t supersedes; /* names of index files, 32 bytes each */
	le32_t packs;	   /* struct repo_index_pack each */
	le32_t blocks;	   /* struct repo_index_block each */
	le64_t entries;
};
static_assert(sizeof(struct repo_index_head) == 32, "on-disk size");

#define REPO_INDEX_BLOCK 85u /* entries: 4080 bytes */
struct repo_index_pack {
	uint8_t hash[REPO_NAME_HASH]; /* its name */
	le32_t size;		      /* bytes */
	le32_t entries;
};
static_assert(sizeof(struct repo_index_pack) == 40, "on-disk size");
struct repo_index_block {
	uint8_t first[8];		 /* the first bytes of its first name */
	uint8_t check[AMBRO_CHECK_SIZE]; /* the first 16 bytes of SHA-256 over the block, as stored */
};
static_assert(sizeof(struct repo_index_block) == 24, "on-disk size");

/* A pack is ended once it has so many bytes. */
#define REPO_PACK_SIZE (UINT64_C(64) << 20)
/* and never has more than: the last entry may be a large one */
#define REPO_PACK_MAX (REPO_PACK_SIZE + (UINT64_C(32) << 20))
