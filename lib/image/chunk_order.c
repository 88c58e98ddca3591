/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/chunk_order.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* What there is of a run, in as little as it can be. */
struct ordered {
	struct chunk_id id;
	uint64_t offset, index;
	uint32_t container, region;
	uint32_t frame_len, plain_len;
};
static_assert(sizeof(struct ordered) == 64, "as the header says");

struct chunk_order {
	size_t room, n;
	bool sorted;
	size_t next;		 /* of those that are handed out */
	size_t piece_end;	 /* the first one that is not of this piece */
	struct image_span piece; /* of all before piece_end, from next on */
	struct ordered items[];
};

int chunk_order_new(uint64_t chunks, struct chunk_order **ret)
{
	const size_t room = (size_t)MAX(MIN(chunks, (uint64_t)CHUNK_ORDER_MAX), UINT64_C(1));
	struct chunk_order *o = malloc(sizeof(*o) + room * sizeof(*o->items));

	if (!o)
		return -ENOMEM;
	*o = (struct chunk_order){ .room = room };
	*ret = o;
	return 0;
}

void chunk_order_free(struct chunk_order *o)
{
	free(o);
}

void chunk_order_clear(struct chunk_order *o)
{
	o->n = 0;
	o->next = 0;
	o->piece_end = 0;
	o->sorted = false;
}

bool chunk_order_add(struct chunk_order *o, uint32_t region, const struct image_run *run)
{
	assert(!o->sorted && o->n < o->room);
	o->items[o->n++] = (struct ordered){
		.id = run->id,
		.offset = run->offset,
		.index = run->index,
		.container = run->container,
		.region = region,
		.frame_len = run->frame_len,
		.plain_len = run->plain_len,
	};
	return o->n < o->room;
}

static int ordered_compare(const void *p, const void *q)
{
	const struct ordered *a = p, *b = q;

	if (a->container != b->container)
		return a->container < b->container ? -1 : 1;
	if (a->offset != b->offset)
		return a->offset < b->offset ? -1 : 1;
	/* one chunk at several places of the disk */
	if (a->region != b->region)
		return a->region < b->region ? -1 : 1;
	return (a->index > b->index) - (a->index < b->index);
}

bool chunk_order_sort(struct chunk_order *o)
{
	if (!o->n)
		return false;
	qsort(o->items, o->n, sizeof(*o->items), ordered_compare);
	o->sorted = true;
	return true;
}

/* What is to be read together with items[next]. */
static void order_piece(struct chunk_order *o)
{
	const struct ordered *first = &o->items[o->next];
	uint64_t end = first->offset + first->frame_len;
	size_t i = o->next + 1;

	for (; i < o->n && o->items[i].container == first->container; i++) {
		const struct ordered *it = &o->items[i];
		const uint64_t its_end = it->offset + it->frame_len;

		if (it->offset > end && it->offset - end > CHUNK_ORDER_GAP)
			break;
		if (its_end > end && its_end - first->offset > CHUNK_ORDER_PIECE)
			break;
		end = MAX(end, its_end);
	}
	o->piece = (struct image_span){ .offset = first->offset, .length = end - first->offset };
	o->piece_end = i;
}

bool chunk_order_next(struct chunk_order *o, uint32_t *ret_region, struct image_run *ret)
{
	const struct ordered *it;

	if (!o->sorted)
		return false;
	if (o->next == o->n) {
		chunk_order_clear(o);
		return false;
	}
	if (o->next == o->piece_end)
		order_piece(o);
	it = &o->items[o->next++];
	*ret_region = it->region;
	*ret = (struct image_run){ .state = CHUNK_DATA,
				   .index = it->index,
				   .count = 1,
				   .id = it->id,
				   .container = it->container,
				   .offset = it->offset,
				   .frame_len = it->frame_len,
				   .plain_len = it->plain_len,
				   .piece = o->piece };
	return true;
}
