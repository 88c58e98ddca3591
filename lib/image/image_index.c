/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/image_index.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/record.h"

/* Sorted instead of the locations, which are three times as large. */
struct key {
	uint64_t prefix; /* the id's first bytes as a number */
	const struct ambro_location *location;
};

struct group {
	struct key *keys; /* in order of id */
	size_t count;
};

struct image_index {
	void *body;
	struct group chunks, pages;
	uint32_t frame_max;
};

static uint64_t id_prefix(const struct chunk_id *id)
{
	uint64_t v;

	memcpy(&v, id->b, sizeof(v));
	return be64toh(v);
}

static int key_compare(const void *a, const void *b)
{
	const struct key *x = a, *y = b;
	int order;

	if (x->prefix != y->prefix)
		return x->prefix < y->prefix ? -1 : 1;
	order = memcmp(x->location->id.b, y->location->id.b, AMBRO_ID_SIZE);
	if (order)
		return order;
	/* of the same content the first in the file */
	return (x->location > y->location) - (x->location < y->location);
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

static int group_load(struct group *g, const struct ambro_location *locations, uint64_t count,
		      const struct limits *limits, struct err *e)
{
	uint64_t at = limits->within.offset;

	g->keys = calloc(MAX(count, UINT64_C(1)), sizeof(*g->keys));
	if (!g->keys)
		return err_oom(e);
	g->count = count;
	for (uint64_t i = 0; i < count; i++) {
		int r = location_check(&locations[i], limits, &at, e);

		if (r < 0)
			return r;
		g->keys[i] = (struct key){ id_prefix(&locations[i].id), &locations[i] };
	}
	qsort(g->keys, g->count, sizeof(*g->keys), key_compare);
	return 0;
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
	free(x->chunks.keys);
	free(x->pages.keys);
	free(x->body);
	free(x);
}

static int group_find(const struct group *g, const struct chunk_id *id, struct image_place *ret)
{
	const uint64_t prefix = id_prefix(id);
	size_t low = 0, high = g->count;
	const struct ambro_location *l;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct key *k = &g->keys[mid];

		if (k->prefix < prefix ||
		    (k->prefix == prefix && memcmp(k->location->id.b, id->b, AMBRO_ID_SIZE) < 0)) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	if (low == g->count || memcmp(g->keys[low].location->id.b, id->b, AMBRO_ID_SIZE) != 0)
		return -ENOENT;
	l = g->keys[low].location;
	*ret = (struct image_place){ le64_get(l->offset), le32_get(l->frame_len),
				     le32_get(l->plain_len) };
	return 0;
}

int image_index_chunk(const struct image_index *x, const struct chunk_id *id,
		      struct image_place *ret)
{
	return group_find(&x->chunks, id, ret);
}

int image_index_page(const struct image_index *x, const struct chunk_id *id,
		     struct image_place *ret)
{
	return group_find(&x->pages, id, ret);
}

uint32_t image_index_frame_max(const struct image_index *x)
{
	return x->frame_max;
}
