/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/gc_reach.h"

#include <stdbool.h>

#include "lib/base/cleanup.h"

static uint32_t reach_cell(uint32_t byte)
{
	/* an index can say anything */
	return MIN(byte / GC_REACH_CELL, (uint32_t)(GC_REACH_WORDS * 32 - 1));
}

static bool reach_has(const struct gc_reach *r, uint32_t cell)
{
	return r->cells[cell / 32] >> cell % 32 & 1;
}

void gc_reach_add(struct gc_reach *r, uint32_t offset, uint32_t len, uint32_t record)
{
	const uint32_t room = UINT32_MAX - r->bytes;
	const uint32_t before = MIN(offset, record);
	const uint32_t from = offset - before;
	uint32_t end = UINT32_MAX;

	if (!len)
		return;
	if (len < UINT32_MAX - offset)
		end = offset + len;
	r->from = r->to ? MIN(r->from, from) : from;
	r->to = MAX(r->to, end);
	r->bytes += MIN(end - from, room);
	for (uint32_t cell = reach_cell(from); cell <= reach_cell(end - 1); cell++)
		r->cells[cell / 32] |= UINT32_C(1) << cell % 32;
}

uint64_t gc_reach_waste(const struct gc_reach *r)
{
	uint64_t jumped = 0, read;

	if (!r->to)
		return 0;
	for (uint32_t cell = reach_cell(r->from); cell <= reach_cell(r->to - 1); cell++)
		jumped += reach_has(r, cell) ? 0 : GC_REACH_CELL;
	/* more is needed than there is: the same bytes twice, or what no pack says */
	read = r->to - r->from - MIN(jumped, (uint64_t)(r->to - r->from));
	return read > r->bytes ? read - r->bytes : 0;
}
