/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/eras.h"

#include <errno.h>

/*
 * The bits of all cells together are at least the greatest of them, so a page whose union is below
 * @since holds nothing of interest: one "or" per cell, which the compiler turns into vectors.
 */
static bool page_is_older(const uint32_t *cells, uint32_t since)
{
	uint32_t all = 0;

	for (unsigned int i = 0; i < ERAS_PAGE; i++)
		all |= cells[i];
	return all < since;
}

static int page_scan(const struct eras *eras, uint64_t first, uint32_t since, bool fixed,
		     struct extent_set *ret)
{
	const uint32_t *cells = eras->cells + first;
	uint64_t start, end;
	int r;

	for (unsigned int i = 0; i < ERAS_PAGE; i++) {
		unsigned int from = i;

		while (i < ERAS_PAGE && cells[i] >= since)
			i++;
		if (i == from)
			continue;
		start = (first + from) << eras->granule_shift;
		end = MIN((first + i) << eras->granule_shift, eras->size);
		if (start >= end)
			break;
		if (fixed && ret->count == ret->allocated)
			return -ENOBUFS;
		r = extent_set_add(ret, start, end - start);
		if (r < 0)
			return r;
	}
	return 0;
}

static int eras_scan_any(const struct eras *eras, uint32_t since, bool fixed,
			 struct extent_set *ret)
{
	uint64_t n = DIV_ROUND_UP(eras->size, 1ULL << eras->granule_shift);
	int r;

	for (uint64_t first = 0; first < n; first += ERAS_PAGE) {
		if (eras->pages && eras->pages[first / ERAS_PAGE] < since)
			continue;
		if (page_is_older(eras->cells + first, since))
			continue;
		r = page_scan(eras, first, since, fixed, ret);
		if (r < 0)
			return r;
	}
	extent_set_normalise(ret);
	return 0;
}

int eras_scan(const struct eras *eras, uint32_t since, struct extent_set *ret)
{
	return eras_scan_any(eras, since, false, ret);
}

int eras_scan_fixed(const struct eras *eras, uint32_t since, struct extent_set *ret)
{
	return eras_scan_any(eras, since, true, ret);
}

bool eras_touched(const struct eras *eras, uint32_t since, uint64_t start, uint64_t length)
{
	uint64_t end;

	if (!length || start >= eras->size)
		return false;
	end = start + MIN(length, eras->size - start);
	for (uint64_t i = start >> eras->granule_shift; i <= (end - 1) >> eras->granule_shift;
	     i++) {
		if (eras->cells[i] >= since)
			return true;
	}
	return false;
}
