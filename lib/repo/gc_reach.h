/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gc_reach - how far apart in a pack lies what the newest images need of it, in as little memory as it can be.
 *
 * Who restores an image reads a pack once, from the first byte that it needs to the last, and jumps only over what takes longer to
 * read than to jump over: GC_REACH_CELL. So a pack is seen in cells of that size, and what is read is taken to be all from the
 * first to the last byte, without the cells in which nothing is needed. Too little by the jump, too much by the rest of that gap in
 * the cells on both sides of it: as much, on average.
 */
#pragma once

#include <stdint.h>

#include "lib/repo/repo_format.h"

/* CHUNK_ORDER_GAP of lib/image/chunk_order.h */
#define GC_REACH_CELL  (UINT32_C(1) << 20)
#define GC_REACH_WORDS ((REPO_PACK_MAX / GC_REACH_CELL + 31) / 32)

/* Zeros: nothing is needed. */
struct gc_reach {
	uint32_t bytes; /* needed, with the records in front of them */
	uint32_t from,
		to;	 /* the first byte that is needed, and the end of the last; to 0: none is */
	uint32_t chunks; /* so many of the entries are no pages */
	uint32_t cells[GC_REACH_WORDS];
};

/*
 * @len bytes at @offset are needed. Once for each entry. @record: so many bytes before it belong to it, and are read over when
 * one goes on to it.
 */
void gc_reach_add(struct gc_reach *r, uint32_t offset, uint32_t len, uint32_t record);
/* Bytes that are read and not needed, about; never more than lie between what is needed. 0 when it lies together. */
uint64_t gc_reach_waste(const struct gc_reach *r);
