/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/manifest.h"

struct plan {
	const struct layout *layout;
	uint32_t chunk_size;
	struct extent_set used;
	struct extent_set skipped; /* never captured, whatever is written there */
};

static int plan_take_region(struct plan *p, const struct layout_region *region,
			    const struct usedmap_region *map)
{
	uint64_t header = extent_set_total(&map->used);
	int r;

	extent_for_each(e, &map->used) {
		r = extent_set_add(&p->used, e->start, e->length);
		if (r < 0)
			return r;
	}
	if (map->content != CONTENT_HEADER)
		return 0;
	return extent_set_add(&p->skipped, region->start + header, region->length - header);
}

int plan_new(const struct layout *layout, const struct usedmap *map, uint32_t chunk_size,
	     struct plan **ret)
{
	_cleanup_(plan_freep) struct plan *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->layout = layout;
	p->chunk_size = chunk_size;
	for (size_t i = 0; i < layout->n_regions; i++) {
		int r = plan_take_region(p, &layout->regions[i], &map->regions[i]);

		if (r < 0)
			return r;
	}
	extent_set_normalise(&p->used);
	*ret = TAKE_PTR(p);
	return 0;
}

void plan_free(struct plan *p)
{
	if (!p)
		return;
	extent_set_done(&p->used);
	extent_set_done(&p->skipped);
	free(p);
}

const struct extent_set *plan_used(const struct plan *p)
{
	return &p->used;
}

int plan_add_used(struct plan *p, const struct extent_set *written)
{
	_cleanup_extents_ struct extent_set captured = { 0 };
	struct extent_set all;
	int r;

	r = extent_set_subtract(written, &p->skipped, &captured);
	if (r < 0)
		return r;
	r = extent_set_union(&p->used, &captured, &all);
	if (r < 0)
		return r;
	extent_set_done(&p->used);
	p->used = all;
	return 0;
}

/* Set (or clear) the blocks of @c that share a byte with @set (or that lie in it). */
static bool plan_mark(const struct extent_set *set, struct plan_chunk *c, bool value)
{
	uint64_t end = c->offset + c->length;
	bool any = false;

	for (size_t i = extent_set_find(set, c->offset);
	     i < set->count && set->items[i].start < end; i++) {
		uint64_t from = MAX(set->items[i].start, c->offset) - c->offset;
		uint64_t to = MIN(extent_end(&set->items[i]), end) - c->offset;
		uint64_t first = value ? from / PLAN_BLOCK : DIV_ROUND_UP(from, PLAN_BLOCK);
		uint64_t last = value || to == c->length ? DIV_ROUND_UP(to, PLAN_BLOCK)
							 : to / PLAN_BLOCK;

		for (uint64_t b = first; b < last; b++) {
			uint64_t bit = UINT64_C(1) << (b % 64);

			c->blocks[b / 64] = value ? c->blocks[b / 64] | bit
						  : c->blocks[b / 64] & ~bit;
		}
		any |= first < last;
	}
	return any;
}

static bool plan_chunk_any(const struct plan_chunk *c)
{
	uint64_t any = 0;

	for (size_t i = 0; i < ARRAY_SIZE(c->blocks); i++)
		any |= c->blocks[i];
	return any;
}

/* The region that holds byte @at; regions tile the source. */
static uint32_t plan_region_at(const struct layout *l, uint64_t at)
{
	size_t low = 0, high = l->n_regions - 1;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (l->regions[mid].start + l->regions[mid].length <= at) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return (uint32_t)low;
}

bool plan_next(const struct plan *p, const struct extent_set *ranges, uint64_t *position,
	       struct plan_chunk *ret)
{
	for (;;) {
		size_t i = extent_set_find(ranges, *position);
		const struct layout_region *region;
		uint64_t at;

		if (i == ranges->count)
			return false;
		at = MAX(ranges->items[i].start, *position);
		if (at >= p->layout->size)
			return false;
		memset(ret, 0, sizeof(*ret));
		ret->region = plan_region_at(p->layout, at);
		region = &p->layout->regions[ret->region];
		ret->index = (at - region->start) / p->chunk_size;
		ret->offset = region->start + ret->index * p->chunk_size;
		ret->length = region_chunk_len(region->length, p->chunk_size, ret->index);
		*position = ret->offset + ret->length;
		plan_mark(ranges, ret, true);
		plan_mark(&p->skipped, ret, false);
		if (!plan_chunk_any(ret))
			continue;
		if (ranges != &p->used)
			plan_mark(&p->used, ret, true);
		return true;
	}
}

struct plan_cost plan_cost_of(const struct plan *p, const struct extent_set *ranges)
{
	struct plan_cost cost = { 0 };
	struct plan_chunk c;
	uint64_t at = 0;

	while (plan_next(p, ranges, &at, &c)) {
		cost.chunks++;
		for (size_t i = 0; i < ARRAY_SIZE(c.blocks); i++)
			cost.bytes += (uint64_t)__builtin_popcountll(c.blocks[i]) * PLAN_BLOCK;
		/* the last block may be a short one */
		if (c.length % PLAN_BLOCK && plan_chunk_block(&c, c.length / PLAN_BLOCK))
			cost.bytes -= PLAN_BLOCK - c.length % PLAN_BLOCK;
	}
	return cost;
}
