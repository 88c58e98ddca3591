/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo_index_resident - entries of any number of index files, all in memory, found by their names.
 *
 * 54 bytes for each: the entry, 4 for its place among its like, 2 for a share of a bucket's beginning.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/repo/repo_format.h"

/* {} is an empty one; filled by its owner: entries, n; then repo_index_resident_sort(). */
struct repo_index_resident {
	struct repo_entry *entries;
	size_t n;	  /* at most UINT32_MAX */
	uint32_t *order;  /* entries, bucket by bucket */
	uint32_t *starts; /* of each bucket in `order`, and of the end */
	size_t buckets;
};

void repo_index_resident_done(struct repo_index_resident *x);
/* The entries stay where they are. 0 or -ENOMEM. */
int repo_index_resident_sort(struct repo_index_resident *x);
/*
 * The first entry of that name behind the one numbered @after (UINT64_MAX: from the beginning), in the order of numbers, or
 * UINT64_MAX. Thread-safe.
 */
uint64_t repo_index_resident_next(const struct repo_index_resident *x, const struct chunk_id *name,
				  uint64_t after);
uint64_t repo_index_resident_memory(const struct repo_index_resident *x);
