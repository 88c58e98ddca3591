/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * restore_plan - what is to be done to the target, piece by piece, in which order.
 *
 * A plan speaks of the whole image or of one region. Its pieces come in four parts, so that an interrupted
 * restore never looks like a disk: the BODY; then the TAIL, all chunks that touch the last MiB (the backup
 * partition table); the HEAD, all chunks that touch the first MiB; and of these last the FIRST ones, with the partition table or
 * the superblock.
 */
#pragma once

#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/image/image_reader.h"

/* Signatures of tables, file systems, md and LVM lie within that many bytes of a region's start or end. */
#define RESTORE_EDGE (UINT64_C(1) << 20)
/* Partition tables and superblocks begin before that: the last of them, btrfs', stands at 64 KiB. */
#define RESTORE_FIRST_BYTES (UINT64_C(128) << 10)

enum restore_part {
	RESTORE_BODY,
	RESTORE_TAIL,
	RESTORE_HEAD,
	RESTORE_FIRST,
	RESTORE_PARTS,
};

enum restore_act {
	RESTORE_DATA, /* one chunk of data */
	RESTORE_ZERO, /* zeros, or free space where an old signature could stand */
	RESTORE_FREE, /* not in the image: whatever is there */
	RESTORE_BAD,  /* could not be read at the capture: zeros */
	RESTORE_ACTS,
};

struct restore_item {
	enum restore_act act;
	uint32_t region;
	uint64_t offset, length; /* bytes of the target */
	struct image_run run;	 /* DATA: the chunk */
};

/* In which order the pieces of a part come. */
enum restore_order {
	/*
	 * Chunks with data as they are stored (lib/image/chunk_order.h), by stretches of at least 128 GiB of data in chunks
	 * of 256 KiB; what has to be zeroed or given back in such a stretch comes before them, in the order of the disk.
	 */
	RESTORE_AS_STORED,
	RESTORE_AS_ON_DISK,
};

struct restore_plan;

#define RESTORE_ALL_REGIONS (-1)
/*
 * Plan for @region or RESTORE_ALL_REGIONS. Every page of the hash trees is read and checked here, so that
 * an image whose trees are damaged is found before anything is touched; and the memory is taken that is needed later. @r is
 * borrowed; @c, too: it ends the planning, and restore_plan_next(); it may be NULL.
 */
int restore_plan_new(const struct image_reader *r, int64_t region, struct cancel *c,
		     struct restore_plan **ret, struct err *e);
void restore_plan_free(struct restore_plan *p);
DEFINE_CLEANUP(struct restore_plan, restore_plan_free);

uint64_t restore_plan_size(const struct restore_plan *p); /* bytes of the target */
uint64_t
restore_plan_base(const struct restore_plan *p); /* the target's first byte on the imaged disk */
uint64_t restore_plan_total(const struct restore_plan *p, enum restore_act act); /* bytes */
/* Every piece begins at a multiple of that many bytes (a power of two). */
uint64_t restore_plan_unit(const struct restore_plan *p);

/* Start over with @part. No thread may be inside restore_plan_next(). */
void restore_plan_begin(struct restore_plan *p, enum restore_part part, enum restore_order order);
/* The next piece; thread-safe. Returns 1, 0 behind the last one, -ECANCELED, or another negative errno. */
int restore_plan_next(struct restore_plan *p, struct restore_item *ret, struct err *e);
