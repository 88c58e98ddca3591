/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * extent - sets of byte ranges.
 *
 * An extent is a half-open byte range [start, start + length). An extent set holds them in order of
 * `start`, never empty, never touching or overlapping once normalised. Sets are plain values owned by
 * whoever declared them; extent_set_done() frees what they hold and leaves an empty set. Not
 * thread-safe: the owner locks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"

struct extent {
	uint64_t start;	 /* bytes */
	uint64_t length; /* bytes, never 0 */
};

struct extent_set {
	struct extent *items;
	size_t count;
	size_t allocated;
};

/* An empty set has no array, and NULL + 0 is not C: hence the count, not an end, is what is compared. */
#define extent_for_each(e, set)                       \
	for (const struct extent *(e) = (set)->items; \
	     (set)->count && (size_t)((e) - (set)->items) < (set)->count; (e)++)

static inline uint64_t extent_end(const struct extent *e)
{
	return e->start + e->length;
}

/*
 * Add a range, in any order, overlapping or not. Ranges that continue or overlap the last one are
 * merged at once; for others call extent_set_normalise() before the set is read. A length of 0 adds
 * nothing. Returns 0, -ENOMEM, or -EOVERFLOW when start + length does not fit into 64 bits.
 */
int extent_set_add(struct extent_set *set, uint64_t start, uint64_t length);
/* Room for @count extents, so that adding them allocates nothing. 0 or -ENOMEM. */
int extent_set_reserve(struct extent_set *set, size_t count);
/* Sort and merge. Afterwards the set holds its invariant. */
void extent_set_normalise(struct extent_set *set);

/* All of the following need normalised sets and make normalised sets; @ret is empty or uninitialised. */

/* ret = a ∪ b */
int extent_set_union(const struct extent_set *a, const struct extent_set *b,
		     struct extent_set *ret);
/* ret = a ∖ b */
int extent_set_subtract(const struct extent_set *a, const struct extent_set *b,
			struct extent_set *ret);
/* ret = a ∩ b */
int extent_set_intersect(const struct extent_set *a, const struct extent_set *b,
			 struct extent_set *ret);
/* Widen every extent outwards to multiples of @unit (a power of two), but not beyond @limit. */
int extent_set_align(const struct extent_set *a, uint64_t unit, uint64_t limit,
		     struct extent_set *ret);

/* Bytes in all. */
uint64_t extent_set_total(const struct extent_set *set);
/* Index of the first extent that ends after @offset (== count if there is none). Binary search. */
size_t extent_set_find(const struct extent_set *set, uint64_t offset);
/* Does any extent share a byte with [start, start + length)? */
bool extent_set_overlaps(const struct extent_set *set, uint64_t start, uint64_t length);

void extent_set_done(struct extent_set *set);

#define _cleanup_extents_ _cleanup_(extent_set_done)
