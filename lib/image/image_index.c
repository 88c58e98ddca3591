/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/image_index.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/record.h"

/* Locations of a bucket on average; ids are hashes, so nearly all buckets are about as full. */
#define BUCKET_SHIFT 2
/* A fuller one (the same content many times over, or an image made to be slow) is sorted and searched. */
#define BUCKET_SORTED 32u

/*
 * Numbers of locations by the first bits of their ids, in buckets: two looks into memory find one, and no
 * sorting of millions is needed. In each bucket in the file's order, or in that of ids and then the file's.
 */
struct group {
	const struct ambro_location *locations; /* as in the file */
	size_t count;
	unsigned int bits;
	uint32_t *starts; /* of each bucket in `order`, and the end of the last */
	uint32_t *order;
};

struct image_index {
	void *body;
	struct group chunks, pages;
	uint32_t frame_max;
};

static size_t group_bucket(const struct group *g, const struct chunk_id *id)
{
	uint64_t v;

	memcpy(&v, id->b, sizeof(v));
	return g->bits ? be64toh(v) >> (64 - g->bits) : 0;
}

static int order_compare(const void *a, const void *b, void *arg)
{
	const struct group *g = arg;
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	int order = memcmp(g->locations[x].id.b, g->locations[y].id.b, AMBRO_ID_SIZE);

	return order ? order : (x > y) - (x < y);
}

/* What a location of a group has to be. */
struct limits {
	const char *what;
	struct image_span within;
	uint32_t plain_max;
	uint64_t frame_max;
	bool is_page;
};

static int location_check(const struct ambro_location *l, const struct limits *limits, uint64_t *at,
			  struct err *e)
{
	const uint64_t offset = le64_get(l->offset);
	const uint32_t frame_len = le32_get(l->frame_len), plain_len = le32_get(l->plain_len);
	const uint64_t end = limits->within.offset + limits->within.length;

	if (offset < *at || offset > end || frame_len > end - offset) {
		return err_set(e, -EBADMSG,
			       "the index says a %s at byte %" PRIu64 ", which cannot be",
			       limits->what, offset);
	}
	if (!plain_len || plain_len > limits->plain_max || !frame_len ||
	    frame_len > limits->frame_max ||
	    (limits->is_page && frame_len != record_frame_len(plain_len))) {
		return err_set(e, -EBADMSG,
			       "the index says a %s of %" PRIu32 " bytes in %" PRIu32
			       " at byte %" PRIu64 ", which cannot be",
			       limits->what, plain_len, frame_len, offset);
	}
	*at = offset + frame_len;
	return 0;
}

static void group_done(struct group *g)
{
	free(g->starts);
	free(g->order);
}

/* Counts, then places, then sorts what is too full to be searched as it is. */
static int group_fill(struct group *g)
{
	size_t buckets;

	while (g->count >> BUCKET_SHIFT >> g->bits)
		g->bits++;
	buckets = (size_t)1 << g->bits;
	g->starts = calloc(buckets + 1, sizeof(*g->starts));
	g->order = calloc(MAX(g->count, (size_t)1), sizeof(*g->order));
	if (!g->starts || !g->order)
		return -ENOMEM;
	for (size_t i = 0; i < g->count; i++)
		g->starts[group_bucket(g, &g->locations[i].id)]++;
	for (size_t i = 0, sum = 0; i <= buckets; i++) {
		sum += g->starts[i];
		g->starts[i] = (uint32_t)sum;
	}
	/* backwards from each bucket's end, which so becomes its start */
	for (size_t i = g->count; i-- > 0;)
		g->order[--g->starts[group_bucket(g, &g->locations[i].id)]] = (uint32_t)i;
	for (size_t i = 0; i < buckets; i++) {
		const uint32_t n = g->starts[i + 1] - g->starts[i];

		if (n > BUCKET_SORTED)
			qsort_r(g->order + g->starts[i], n, sizeof(*g->order), order_compare, g);
	}
	return 0;
}

static int group_load(struct group *g, const struct ambro_location *locations, uint64_t count,
		      const struct limits *limits, struct err *e)
{
	uint64_t at = limits->within.offset;

	if (count > UINT32_MAX) {
		return err_set(e, -EBADMSG, "the index says %" PRIu64 " %ss, which cannot be",
			       count, limits->what);
	}
	for (uint64_t i = 0; i < count; i++) {
		int r = location_check(&locations[i], limits, &at, e);

		if (r < 0)
			return r;
	}
	g->locations = locations;
	g->count = count;
	return group_fill(g) < 0 ? err_oom(e) : 0;
}

int image_index_new(void *body, size_t len, const struct image_span *within, uint64_t chunk_size,
		    struct image_index **ret, struct err *e)
{
	_cleanup_free_ void *owned = body;
	_cleanup_(image_index_freep) struct image_index *x = NULL;
	const struct ambro_location *locations;
	struct limits limits = { "chunk", *within, (uint32_t)chunk_size,
				 AMBRO_FRAME_MAX(chunk_size), false };
	uint64_t chunks, pages, room;
	struct ambro_index head;
	int r;

	if (len < sizeof(head))
		return err_set(e, -EBADMSG, "the index is too short");
	memcpy(&head, body, sizeof(head));
	chunks = le64_get(head.chunks);
	pages = le64_get(head.pages);
	room = (len - sizeof(head)) / sizeof(*locations);
	if (chunks > room || pages != room - chunks ||
	    len != sizeof(head) + room * sizeof(*locations)) {
		return err_set(e, -EBADMSG,
			       "the index says %" PRIu64 " chunks and %" PRIu64
			       " pages, but has room for %" PRIu64,
			       chunks, pages, room);
	}
	x = calloc(1, sizeof(*x));
	if (!x)
		return err_oom(e);
	x->body = TAKE_PTR(owned);
	locations = (const struct ambro_location *)((const uint8_t *)x->body + sizeof(head));
	r = group_load(&x->chunks, locations, chunks, &limits, e);
	if (r < 0)
		return r;
	for (uint64_t i = 0; i < chunks; i++)
		x->frame_max = MAX(x->frame_max, le32_get(locations[i].frame_len));
	limits = (struct limits){ "page", *within, AMBRO_PAGE_MAX, record_frame_len(AMBRO_PAGE_MAX),
				  true };
	r = group_load(&x->pages, locations + chunks, pages, &limits, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(x);
	return 0;
}

void image_index_free(struct image_index *x)
{
	if (!x)
		return;
	group_done(&x->chunks);
	group_done(&x->pages);
	free(x->body);
	free(x);
}

/* The first in the file, or NULL. */
static const struct ambro_location *group_find(const struct group *g, const struct chunk_id *id)
{
	const size_t bucket = group_bucket(g, id);
	uint32_t low = g->starts[bucket], high = g->starts[bucket + 1];

	if (high - low > BUCKET_SORTED) {
		const uint32_t end = high;

		while (low < high) {
			const uint32_t mid = low + (high - low) / 2;

			if (memcmp(g->locations[g->order[mid]].id.b, id->b, AMBRO_ID_SIZE) < 0) {
				low = mid + 1;
			} else {
				high = mid;
			}
		}
		high = MIN(low + 1, end);
	}
	for (; low < high; low++) {
		const struct ambro_location *l = &g->locations[g->order[low]];

		if (memcmp(l->id.b, id->b, AMBRO_ID_SIZE) == 0)
			return l;
	}
	return NULL;
}

static int group_place(const struct group *g, const struct chunk_id *id, struct image_place *ret)
{
	const struct ambro_location *l = group_find(g, id);

	if (!l)
		return -ENOENT;
	*ret = (struct image_place){ .offset = le64_get(l->offset),
				     .frame_len = le32_get(l->frame_len),
				     .plain_len = le32_get(l->plain_len) };
	return 0;
}

int image_index_chunk(const struct image_index *x, const struct chunk_id *id,
		      struct image_place *ret)
{
	return group_place(&x->chunks, id, ret);
}

int image_index_page(const struct image_index *x, const struct chunk_id *id,
		     struct image_place *ret)
{
	return group_place(&x->pages, id, ret);
}

int image_index_check_use(const struct image_index *x, uint64_t pages, uint64_t chunks,
			  struct err *e)
{
	if (pages > x->pages.count) {
		return err_set(e, -EBADMSG,
			       "the hash trees name more pages than the %zu of the INDEX",
			       x->pages.count);
	}
	if (chunks > x->chunks.count) {
		return err_set(e, -EBADMSG,
			       "the hash trees name more chunks than the %zu of the INDEX",
			       x->chunks.count);
	}
	return 0;
}

uint32_t image_index_frame_max(const struct image_index *x)
{
	return x->frame_max;
}
