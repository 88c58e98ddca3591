/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * format - the bytes of an image. Change this file, change docs/FORMAT.md (and the second reader in
 * tests/golden/reader.py, which was written from that document alone).
 *
 * A pack is a sequence of zstd frames. Ours are skippable frames with the magic AMBRO_SKIPPABLE, each
 * holding one record: a head, a body, and a check over both. Chunks are ordinary zstd frames, each
 * preceded by its CHUNK record. All numbers are little-endian.
 */
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/le.h"

#define ZSTD_FRAME_MAGIC	  0xFD2FB528u
#define AMBRO_SKIPPABLE		  0x184D2A5Au /* zstd reserves 0x184D2A50 … 5F for skippable frames */
#define AMBRO_IS_SKIPPABLE(magic) (((magic) & ~15u) == 0x184D2A50u)
#define AMBRO_SEEK_SKIPPABLE	  0x184D2A5Eu /* the seek table's, of the zstd seekable format 0.1.0 */
#define AMBRO_SEEK_FOOTER_MAGIC	  0x8F92EAB1u
#define AMBRO_SEEK_MAX_FRAMES	  0x8000000u /* 0.1.0's own limit */

#define AMBRO_FORMAT_VERSION 1

/* A skippable frame's own header (zstd's). */
struct ambro_skippable {
	le32_t magic;  /* AMBRO_SKIPPABLE */
	le32_t length; /* bytes that follow: record head and body */
};
static_assert(sizeof(struct ambro_skippable) == 8, "on-disk size");

#define AMBRO_RECORD_MAGIC "AMBR"
#define AMBRO_CHECK_SIZE   16

enum ambro_record_type {
	AMBRO_RECORD_HEADER = 1,
	AMBRO_RECORD_CHUNK = 2,
	AMBRO_RECORD_RUN = 3,
	AMBRO_RECORD_PAGE = 4,
	AMBRO_RECORD_INDEX = 5,
	AMBRO_RECORD_MANIFEST = 6,
	AMBRO_RECORD_TRAILER = 7,
};

/* A reader that does not know the record's type must refuse the image; without it, skip the record. */
#define AMBRO_RECORD_CRITICAL 1u

struct ambro_record {
	uint8_t magic[4]; /* AMBRO_RECORD_MAGIC */
	uint8_t type;	  /* enum ambro_record_type */
	uint8_t version;  /* of this type's body: 1 */
	le16_t flags;	  /* AMBRO_RECORD_* */
	le64_t length;	  /* of the body; == ambro_skippable.length - sizeof(struct ambro_record) */
	/* the first 16 bytes of SHA-256 over head (with this field zero) and body */
	uint8_t check[AMBRO_CHECK_SIZE];
};
static_assert(sizeof(struct ambro_record) == 32, "on-disk size");

/*
 * The id of a chunk or a page: SHA-256 over the label, the length of the plain bytes (8 bytes, little-endian) and the
 * SHA-256 of each AMBRO_ID_LEAF bytes of them, the last leaf being what is left. Leaves can be hashed side by side: in
 * the lanes of a vector register, on any number of cores.
 */
#define AMBRO_ID_SIZE  32
#define AMBRO_ID_LEAF  ((size_t)8192)
#define AMBRO_ID_LABEL "AMBRTREE"
struct chunk_id {
	uint8_t b[AMBRO_ID_SIZE];
};

#define AMBRO_IMAGE_MAGIC "AMBROTYP"

/* Required features: a reader that does not know a bit must refuse the image. */
#define AMBRO_REQUIRE_RESENT \
	UINT64_C(1) /* a later CHUNK or RUN replaces an earlier one at its place */
#define AMBRO_REQUIRE_SPARSE UINT64_C(2) /* RUN records carry no zstd frames */
/* CHUNK_SAME occurs: an increment, complete only beside the image that its manifest names as "parent" */
#define AMBRO_REQUIRE_PARENT UINT64_C(4)
/* what an image that is complete in its own file may need */
#define AMBRO_REQUIRE_WHOLE (AMBRO_REQUIRE_RESENT | AMBRO_REQUIRE_SPARSE)
#define AMBRO_REQUIRE_KNOWN (AMBRO_REQUIRE_WHOLE | AMBRO_REQUIRE_PARENT)

/* The first record. */
struct ambro_header {
	uint8_t magic[8];	 /* AMBRO_IMAGE_MAGIC */
	le32_t version;		 /* AMBRO_FORMAT_VERSION */
	le32_t chunk_shift;	 /* log2 of the chunk size, 16 … 22 */
	le64_t require_features; /* AMBRO_REQUIRE_* */
	le64_t optional_features;
	uint8_t image_id[16]; /* random */
	le64_t disk_size;     /* bytes */
	le32_t sector_size;   /* logical, bytes */
	le32_t regions;	      /* how many the manifest has */
	le64_t created_ns;    /* since 1970-01-01 UTC */
};
static_assert(sizeof(struct ambro_header) == 72, "on-disk size");

#define AMBRO_CHUNK_SHIFT_MIN	  16
#define AMBRO_CHUNK_SHIFT_MAX	  22
#define AMBRO_CHUNK_SHIFT_DEFAULT 20

/*
 * The guard: a zstd frame that every stock decoder refuses ("Dictionary mismatch"), standing right
 * after the HEADER of an image whose plain decompression is not the disk (any required feature). So
 * `zstd -dc` fails at the first byte instead of writing a wrong disk.
 */
#define AMBRO_GUARD_SIZE 13
extern const uint8_t ambro_guard[AMBRO_GUARD_SIZE];

/* Stands right before the zstd frame it describes. */
struct ambro_chunk {
	le32_t region;
	le32_t plain_len; /* bytes; the chunk size, or less for a region's last chunk */
	le64_t index;	  /* chunk number within the region */
	le32_t frame_len; /* of the zstd frame that follows */
	le32_t reserved;  /* 0 */
	struct chunk_id id;
};
static_assert(sizeof(struct ambro_chunk) == 56, "on-disk size");

/* A chunk's frame is never longer than this: what zstd makes of noise is a few bytes more than the noise. */
#define AMBRO_FRAME_MAX(chunk_size) (UINT64_C(2) * (chunk_size))

enum chunk_state {
	CHUNK_FREE = 0, /* not captured; reads as zeros */
	CHUNK_ZERO = 1, /* was read, all zeros */
	CHUNK_DATA = 2,
	/* could not be read at all; reads as zeros, the manifest's "bad" names the bytes */
	CHUNK_BAD = 3,
	/* as in the parent image; only in images with AMBRO_REQUIRE_PARENT */
	CHUNK_SAME = 4,
};

/* A run of chunks without data, and the zstd frames of RLE blocks that give its zeros. */
struct ambro_run {
	le32_t region;
	uint8_t state; /* enum chunk_state, not DATA */
	uint8_t reserved[3];
	le64_t index;	   /* first chunk */
	le64_t count;	   /* chunks */
	le64_t plain_len;  /* bytes in all */
	le64_t frames_len; /* of the zstd frames that follow; 0 with AMBRO_REQUIRE_SPARSE */
};
static_assert(sizeof(struct ambro_run) == 40, "on-disk size");

/*
 * A page of the hash tree: this head, `count` state bytes, then one id for every state that is
 * CHUNK_DATA, in order. Level 0 speaks of chunks; level n of pages of level n - 1, where FREE and ZERO
 * say that all below is so. A page's id is the SHA-256 of its body: these bytes, nothing else.
 */
#define AMBRO_PAGE_FANOUT 4096
struct ambro_page {
	uint8_t level;
	uint8_t reserved[3];
	le32_t count; /* 1 … AMBRO_PAGE_FANOUT */
};
static_assert(sizeof(struct ambro_page) == 8, "on-disk size");
#define AMBRO_PAGE_MAX (sizeof(struct ambro_page) + (size_t)AMBRO_PAGE_FANOUT * (1 + AMBRO_ID_SIZE))

/* The index: where every chunk and every page of this pack is. Chunks first, then pages. */
struct ambro_index {
	le64_t chunks;
	le64_t pages;
};
static_assert(sizeof(struct ambro_index) == 16, "on-disk size");

struct ambro_location {
	struct chunk_id id;
	le64_t offset;	  /* chunk: of its zstd frame; page: of its skippable frame */
	le32_t frame_len; /* chunk: of the zstd frame; page: of the whole skippable frame */
	le32_t plain_len; /* chunk: of the plain bytes; page: of the record's body */
};
static_assert(sizeof(struct ambro_location) == 48, "on-disk size");

/* The last record, of fixed size, right before the seek table. */
struct ambro_trailer {
	uint8_t image_id[16];
	le64_t manifest_offset; /* of the MANIFEST's skippable frame */
	le64_t manifest_frame_len;
	le64_t index_offset; /* of the INDEX's skippable frame */
	le64_t index_frame_len;
	le64_t seek_frames;	     /* entries of the seek table */
	uint8_t manifest_sha256[32]; /* of the record's body */
	uint8_t index_sha256[32];
};
static_assert(sizeof(struct ambro_trailer) == 120, "on-disk size");
#define AMBRO_TRAILER_FRAME_LEN                                         \
	(sizeof(struct ambro_skippable) + sizeof(struct ambro_record) + \
	 sizeof(struct ambro_trailer))

/* The seek table (zstd seekable format 0.1.0, no checksums): entries, then the footer. */
struct ambro_seek_entry {
	le32_t compressed_size;
	le32_t decompressed_size;
};
static_assert(sizeof(struct ambro_seek_entry) == 8, "on-disk size");
struct ambro_seek_footer {
	le32_t frames;
	uint8_t descriptor; /* 0: no checksums */
	uint8_t magic[4];   /* AMBRO_SEEK_FOOTER_MAGIC, little-endian */
};
static_assert(sizeof(struct ambro_seek_footer) == 9, "on-disk size");
