/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/base/extent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int extent_set_reserve(struct extent_set *set, size_t count)
{
	size_t n = MAX(MAX(set->allocated * 2, (size_t)16), count);
	struct extent *items;

	if (count <= set->allocated)
		return 0;
	items = reallocarray(set->items, n, sizeof(*items));
	if (!items)
		return -ENOMEM;
	set->items = items;
	set->allocated = n;
	return 0;
}

int extent_set_add(struct extent_set *set, uint64_t start, uint64_t length)
{
	uint64_t end;
	int r;

	if (!length)
		return 0;
	if (__builtin_add_overflow(start, length, &end))
		return -EOVERFLOW;
	if (set->count) {
		struct extent *last = &set->items[set->count - 1];

		if (start >= last->start && start <= extent_end(last)) {
			if (end > extent_end(last))
				last->length = end - last->start;
			return 0;
		}
	}
	r = extent_set_reserve(set, set->count + 1);
	if (r < 0)
		return r;
	set->items[set->count++] = (struct extent){ start, length };
	return 0;
}

static int extent_compare(const void *a, const void *b)
{
	const struct extent *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

static bool extent_set_is_normal(const struct extent_set *set)
{
	for (size_t i = 1; i < set->count; i++) {
		if (set->items[i].start <= extent_end(&set->items[i - 1]))
			return false;
	}
	return true;
}

void extent_set_normalise(struct extent_set *set)
{
	size_t kept = 0;

	/* also because qsort() may allocate, and a set made in order is normalised while frozen */
	if (extent_set_is_normal(set))
		return;
	qsort(set->items, set->count, sizeof(*set->items), extent_compare);
	for (size_t i = 1; i < set->count; i++) {
		struct extent *last = &set->items[kept];
		const struct extent *e = &set->items[i];

		if (e->start > extent_end(last)) {
			set->items[++kept] = *e;
		} else if (extent_end(e) > extent_end(last)) {
			last->length = extent_end(e) - last->start;
		}
	}
	set->count = kept + 1;
}

int extent_set_union(const struct extent_set *a, const struct extent_set *b, struct extent_set *ret)
{
	const struct extent *x = a->items, *x_end = a->items + a->count;
	const struct extent *y = b->items, *y_end = b->items + b->count;
	struct extent_set out = { 0 };
	int r;

	while (x < x_end || y < y_end) {
		const struct extent *e = y == y_end || (x < x_end && x->start <= y->start) ? x++
											   : y++;

		r = extent_set_add(&out, e->start, e->length);
		if (r < 0) {
			extent_set_done(&out);
			return r;
		}
	}
	*ret = out;
	return 0;
}

int extent_set_subtract(const struct extent_set *a, const struct extent_set *b,
			struct extent_set *ret)
{
	struct extent_set out = { 0 };
	size_t j = 0;
	int r = 0;

	for (size_t i = 0; i < a->count && r >= 0; i++) {
		uint64_t at = a->items[i].start, end = extent_end(&a->items[i]);

		while (j < b->count && extent_end(&b->items[j]) <= at)
			j++;
		for (size_t k = j; at < end && r >= 0; k++) {
			const struct extent *hole = k < b->count ? &b->items[k] : NULL;
			uint64_t stop = hole ? MIN(hole->start, end) : end;

			if (stop > at)
				r = extent_set_add(&out, at, stop - at);
			at = hole ? MAX(stop, extent_end(hole)) : end;
		}
	}
	if (r < 0) {
		extent_set_done(&out);
		return r;
	}
	*ret = out;
	return 0;
}

int extent_set_intersect(const struct extent_set *a, const struct extent_set *b,
			 struct extent_set *ret)
{
	struct extent_set out = { 0 };
	size_t i = 0, j = 0;

	while (i < a->count && j < b->count) {
		const struct extent *x = &a->items[i], *y = &b->items[j];
		uint64_t start = MAX(x->start, y->start);
		uint64_t end = MIN(extent_end(x), extent_end(y));

		if (start < end) {
			int r = extent_set_add(&out, start, end - start);

			if (r < 0) {
				extent_set_done(&out);
				return r;
			}
		}
		if (extent_end(x) < extent_end(y)) {
			i++;
		} else {
			j++;
		}
	}
	*ret = out;
	return 0;
}

int extent_set_align(const struct extent_set *a, uint64_t unit, uint64_t limit,
		     struct extent_set *ret)
{
	struct extent_set out = { 0 };

	extent_for_each(e, a) {
		uint64_t start = ROUND_DOWN(e->start, unit);
		uint64_t end = MIN(ROUND_UP(extent_end(e), unit), limit);
		int r = end > start ? extent_set_add(&out, start, end - start) : 0;

		if (r < 0) {
			extent_set_done(&out);
			return r;
		}
	}
	*ret = out;
	return 0;
}

uint64_t extent_set_total(const struct extent_set *set)
{
	uint64_t total = 0;

	extent_for_each(e, set)
		total += e->length;
	return total;
}

size_t extent_set_find(const struct extent_set *set, uint64_t offset)
{
	size_t low = 0, high = set->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (extent_end(&set->items[mid]) <= offset) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return low;
}

bool extent_set_overlaps(const struct extent_set *set, uint64_t start, uint64_t length)
{
	size_t i = extent_set_find(set, start);

	return length && i < set->count && set->items[i].start < start + length;
}

void extent_set_done(struct extent_set *set)
{
	free(set->items);
	*set = (struct extent_set){ 0 };
}
