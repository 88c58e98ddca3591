/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * eras - reading an array of one u32 per granule: the era in which it was last written, 0 for
 * never.
 *
 * The array may change while it is read (it is the tracker's map, which the kernel writes); every
 * cell is then seen as it was at some moment during the call. Never writes. @granule is a power of
 * two, bytes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/extent.h"

struct eras {
	const uint32_t
		*cells; /* a multiple of ERAS_PAGE of them, those behind the disk's end are 0 */
	uint64_t size;	/* of the disk, bytes */
	unsigned int granule_shift;
	/*
	 * The latest era in each ERAS_PAGE of cells, or NULL: not known. May for a moment be behind its cells; what
	 * it then hides was not marked yet when the call began.
	 */
	const uint32_t *pages;
};

#define ERAS_PAGE 1024 /* cells looked at in one go: 4 KiB */

/* Add what was written in era @since (at least 1) or later. 0 or -ENOMEM. */
int eras_scan(const struct eras *eras, uint32_t since, struct extent_set *ret);
/* The same without allocating: -ENOBUFS when there is no room in @ret. */
int eras_scan_fixed(const struct eras *eras, uint32_t since, struct extent_set *ret);
/* Was anything of [start, start + length) written in era @since or later? */
bool eras_touched(const struct eras *eras, uint32_t since, uint64_t start, uint64_t length);
