/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plan - from byte ranges of a source to chunks of its regions, and to the blocks of each chunk that are to
 * be read.
 *
 * The plan remembers what is in use. Whatever is found to have been written joins it, so a chunk
 * that is read again is read with all it ever held. No function here allocates but plan_new() and
 * plan_add_used(), so chunks can be walked while a file system is frozen. Not thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/usedmap.h"
#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/base/extent.h"
#include "lib/image/format.h"
#include "lib/layout/layout.h"

/* What is read is decided in blocks of this size, counted from the chunk's start. */
#define PLAN_BLOCK	4096u
#define PLAN_BLOCKS_MAX ((1u << AMBRO_CHUNK_SHIFT_MAX) / PLAN_BLOCK)

struct plan;

/* One chunk to read. */
struct plan_chunk {
	uint32_t region;
	uint64_t index;	 /* in the region */
	uint64_t offset; /* bytes of the source */
	uint32_t length; /* plain bytes */
	uint64_t blocks[PLAN_BLOCKS_MAX /
			64]; /* bitmap: which blocks to read; the others are zeros */
};

/* Borrows both until plan_free(). @chunk_size in bytes, a power of two. Returns 0 or -ENOMEM. */
int plan_new(const struct layout *layout, const struct usedmap *map, uint32_t chunk_size,
	     struct plan **ret);
void plan_free(struct plan *p);
DEFINE_CLEANUP(struct plan, plan_free);

/* All bytes in use, normalised; owned by the plan. */
const struct extent_set *plan_used(const struct plan *p);
/* These bytes of the source were written: from now on they are in use. 0 or -ENOMEM. */
int plan_add_used(struct plan *p, const struct extent_set *written);

/*
 * The next chunk, at or behind byte *@position of the source, that shares a byte with @ranges
 * (normalised), leaving out what is never captured (the body of a swap area). Its blocks are those of
 * @ranges and all that are in use. Moves *@position behind it. Returns false at the end.
 */
bool plan_next(const struct plan *p, const struct extent_set *ranges, uint64_t *position,
	       struct plan_chunk *ret);

struct plan_cost {
	uint64_t chunks;
	uint64_t bytes; /* to be read for them */
};
/* What reading @ranges takes. */
struct plan_cost plan_cost_of(const struct plan *p, const struct extent_set *ranges);

/* Is block @block of @c to be read? */
static inline bool plan_chunk_block(const struct plan_chunk *c, uint32_t block)
{
	return c->blocks[block / 64] >> (block % 64) & 1;
}
