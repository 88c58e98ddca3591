/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/repo_index_resident.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Entries for each bucket: two in a line of the cache's size, mostly. */
#define BUCKET_SHARE 2u
/* A bucket with more is sorted: only names that were made to collide, or one name in many packs, do that. */
#define BUCKET_SORTED 16u

void repo_index_resident_done(struct repo_index_resident *x)
{
	free(x->entries);
	free(x->order);
	free(x->starts);
	*x = (struct repo_index_resident){ 0 };
}

static size_t bucket_of(const struct repo_index_resident *x, const struct chunk_id *name)
{
	le32_t head;

	/* a name is as good as random */
	memcpy(&head, name->b + 4, sizeof(head));
	return (size_t)((uint64_t)le32_get(head) * x->buckets >> 32);
}

static int order_compare(const void *a, const void *b, void *ctx)
{
	const struct repo_index_resident *x = ctx;
	const uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
	const int r = memcmp(&x->entries[i].name, &x->entries[j].name, sizeof(x->entries->name));

	return r ? r : (i > j) - (i < j);
}

int repo_index_resident_sort(struct repo_index_resident *x)
{
	x->buckets = x->n / BUCKET_SHARE + 1;
	x->order = malloc((x->n + 1) * sizeof(*x->order));
	x->starts = calloc(x->buckets + 1, sizeof(*x->starts));
	if (!x->order || !x->starts)
		return -ENOMEM;
	for (size_t i = 0; i < x->n; i++)
		x->starts[bucket_of(x, &x->entries[i].name)]++;
	/* from counts to ends, which become the beginnings as the buckets are filled from behind */
	for (size_t i = 1; i <= x->buckets; i++)
		x->starts[i] += x->starts[i - 1];
	for (size_t i = x->n; i > 0; i--)
		x->order[--x->starts[bucket_of(x, &x->entries[i - 1].name)]] = (uint32_t)(i - 1);
	for (size_t i = 0; i < x->buckets; i++) {
		const uint32_t n = x->starts[i + 1] - x->starts[i];

		if (n > BUCKET_SORTED) {
			qsort_r(x->order + x->starts[i], n, sizeof(*x->order), order_compare, x);
		}
	}
	return 0;
}

/* The first one in the sorted bucket whose name is not less. */
static uint32_t bucket_search(const struct repo_index_resident *x, uint32_t low, uint32_t high,
			      const struct chunk_id *name)
{
	while (low < high) {
		const uint32_t mid = low + (high - low) / 2;

		if (memcmp(&x->entries[x->order[mid]].name, name, sizeof(*name)) < 0) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return low;
}

uint64_t repo_index_resident_next(const struct repo_index_resident *x, const struct chunk_id *name,
				  uint64_t after)
{
	size_t bucket;
	uint32_t at, end;
	bool sorted;

	if (!x->n)
		return UINT64_MAX;
	bucket = bucket_of(x, name);
	at = x->starts[bucket];
	end = x->starts[bucket + 1];
	sorted = end - at > BUCKET_SORTED;
	if (sorted)
		at = bucket_search(x, at, end, name);
	for (; at < end; at++) {
		const uint32_t i = x->order[at];

		if (memcmp(&x->entries[i].name, name, sizeof(*name)) != 0) {
			if (sorted)
				break;
		} else if (after == UINT64_MAX || i > after) {
			return i;
		}
	}
	return UINT64_MAX;
}

uint64_t repo_index_resident_memory(const struct repo_index_resident *x)
{
	if (!x->order)
		return 0;
	return x->n * (sizeof(*x->entries) + sizeof(*x->order)) + x->buckets * sizeof(*x->starts);
}
