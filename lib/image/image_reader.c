/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/image_reader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/base/hex.h"
#include "lib/image/tree.h"

/* Chunk numbers have at most 48 bits (64 bits of bytes, chunks of 2^16), 12 of them per level. */
#define DEPTH_MAX 4
/* Bytes of an id that name a page to people. */
#define ID_SHOWN 8

struct image_reader {
	const struct image_source_ops *ops;
	void *ctx;
	struct manifest *manifest;
	uint64_t require;
	uint64_t size;
	size_t frame_max;
};

int image_reader_new(const struct image_source_ops *ops, void *ctx, struct manifest *m,
		     uint64_t require, uint64_t size, struct image_reader **ret)
{
	struct image_reader *r = malloc(sizeof(*r));

	if (!r) {
		manifest_free(m);
		if (ops->free)
			ops->free(ctx);
		return -ENOMEM;
	}
	*r = (struct image_reader){
		.ops = ops, .ctx = ctx, .manifest = m, .require = require, .size = size
	};
	r->frame_max = ops->frame_max ? ops->frame_max(ctx) : AMBRO_FRAME_MAX(m->chunk_size);
	*ret = r;
	return 0;
}

void image_reader_free(struct image_reader *r)
{
	if (!r)
		return;
	manifest_free(r->manifest);
	if (r->ops->free)
		r->ops->free(r->ctx);
	free(r);
}

const struct manifest *image_reader_manifest(const struct image_reader *r)
{
	return r->manifest;
}

uint64_t image_reader_require(const struct image_reader *r)
{
	return r->require;
}

uint64_t image_reader_size(const struct image_reader *r)
{
	return r->size;
}

size_t image_reader_frame_max(const struct image_reader *r)
{
	return r->frame_max;
}

/* The page of one level that the cursor stands in. */
struct cursor_level {
	uint8_t *body;	 /* NULL while none was read */
	uint64_t number; /* of the page in its level */
	struct page_view view;
	uint16_t ranks[AMBRO_PAGE_FANOUT]; /* of each entry: data entries before it */
};

struct image_cursor {
	const struct image_reader *reader;
	uint32_t region;
	uint64_t length;
	uint64_t chunks;
	unsigned int depth;
	uint64_t lost_end; /* first chunk behind what is being looked for */
	uint64_t pages;	   /* read */
	struct cursor_level *levels[DEPTH_MAX];
};

int image_cursor_new(const struct image_reader *r, uint32_t region, struct image_cursor **ret)
{
	_cleanup_(image_cursor_freep) struct image_cursor *c = NULL;
	const struct manifest *m = r->manifest;

	if (region >= m->n_regions || m->regions[region].depth > DEPTH_MAX)
		return -EINVAL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->reader = r;
	c->region = region;
	c->length = m->regions[region].length;
	c->chunks = region_chunks(c->length, m->chunk_size);
	c->depth = m->regions[region].depth;
	for (unsigned int i = 0; i < c->depth; i++) {
		c->levels[i] = calloc(1, sizeof(*c->levels[i]));
		if (!c->levels[i])
			return -ENOMEM;
	}
	*ret = TAKE_PTR(c);
	return 0;
}

void image_cursor_free(struct image_cursor *c)
{
	if (!c)
		return;
	for (unsigned int i = 0; i < DEPTH_MAX; i++) {
		if (c->levels[i])
			free(c->levels[i]->body);
		free(c->levels[i]);
	}
	free(c);
}

/* How many chunks one entry of a page of @level speaks of. */
static uint64_t level_span(unsigned int level)
{
	uint64_t span = 1;

	while (level--)
		span *= AMBRO_PAGE_FANOUT;
	return span;
}

static int page_wrong(const struct chunk_id *id, struct err *e)
{
	char shown[2 * ID_SHOWN + 1];

	return err_set(e, -EBADMSG, "the page %s is not the right one",
		       hex_encode(id->b, ID_SHOWN, shown));
}

/* Read page @number of @level, whose id is @id, unless the cursor stands in it already. */
static int cursor_load(struct image_cursor *c, unsigned int level, uint64_t number,
		       const struct chunk_id *id, struct err *e)
{
	const struct image_reader *r = c->reader;
	struct cursor_level *l = c->levels[level];
	const uint64_t entries = (c->chunks - 1) / level_span(level) + 1;
	const uint64_t count =
		MIN(entries - number * AMBRO_PAGE_FANOUT, (uint64_t)AMBRO_PAGE_FANOUT);
	_cleanup_free_ void *body = NULL;
	struct chunk_id found;
	struct page_view view;
	uint16_t rank = 0;
	size_t len = 0;
	int n;

	if (l->body && l->number == number)
		return 0;
	n = r->ops->page(r->ctx, id, &body, &len, e);
	if (n == -ENOENT)
		return err_set(e, -EBADMSG, "the index does not know the page");
	c->pages++;
	if (n < 0)
		return n;
	chunk_id_of(body, len, &found);
	if (!chunk_id_equal(&found, id) || page_parse(body, len, level, count, &view) < 0)
		return page_wrong(id, e);
	free(l->body);
	l->body = TAKE_PTR(body);
	l->number = number;
	l->view = view;
	for (uint32_t i = 0; i < view.count; i++) {
		l->ranks[i] = rank;
		rank += view.states[i] == CHUNK_DATA;
	}
	return 0;
}

static int cursor_data_run(const struct image_cursor *c, uint64_t index, const struct chunk_id *id,
			   struct image_run *ret, struct err *e)
{
	const struct image_reader *r = c->reader;
	const uint32_t len = region_chunk_len(c->length, r->manifest->chunk_size, index);
	struct image_place place;
	int n;

	n = r->ops->find(r->ctx, id, &place, e);
	if (n == -ENOENT)
		return err_set(e, -EBADMSG, "the index does not know the chunk");
	if (n < 0)
		return n;
	if (place.plain_len != len) {
		return err_set(e, -EBADMSG,
			       "the index says that the chunk has %" PRIu32
			       " bytes, its place has %" PRIu32,
			       place.plain_len, len);
	}
	if (!place.frame_len || place.frame_len > r->frame_max) {
		return err_set(e, -EBADMSG,
			       "the index says that the chunk's frame has %" PRIu32
			       " bytes, which cannot be",
			       place.frame_len);
	}
	*ret = (struct image_run){ .state = CHUNK_DATA,
				   .index = index,
				   .count = 1,
				   .id = *id,
				   .container = place.container,
				   .offset = place.offset,
				   .frame_len = place.frame_len,
				   .plain_len = place.plain_len };
	return 0;
}

static int cursor_walk(struct image_cursor *c, uint64_t index, struct image_run *ret, struct err *e)
{
	struct chunk_id id = c->reader->manifest->regions[c->region].root;

	for (unsigned int level = c->depth; level-- > 0;) {
		const uint64_t span = level_span(level), entry = index / span;
		const struct cursor_level *l = c->levels[level];
		const uint32_t first = entry % AMBRO_PAGE_FANOUT;
		uint32_t last = first;
		uint64_t end;
		int n;

		c->lost_end = MIN((entry - first + AMBRO_PAGE_FANOUT) * span, c->chunks);
		n = cursor_load(c, level, entry / AMBRO_PAGE_FANOUT, &id, e);
		if (n < 0)
			return n;
		if (l->view.states[first] == CHUNK_DATA) {
			id = l->view.ids[l->ranks[first]];
			continue;
		}
		while (last < l->view.count && l->view.states[last] == l->view.states[first])
			last++;
		end = MIN((entry - first + last) * span, c->chunks);
		*ret = (struct image_run){ .state = l->view.states[first],
					   .index = index,
					   .count = end - index };
		return 0;
	}
	c->lost_end = index + 1;
	return cursor_data_run(c, index, &id, ret, e);
}

int image_cursor_at(struct image_cursor *c, uint64_t index, struct image_run *ret, struct err *e)
{
	int n;

	if (index >= c->chunks)
		return 0;
	n = cursor_walk(c, index, ret, e);
	if (n < 0) {
		err_prefix(e, "region %" PRIu32 ", chunk %" PRIu64, c->region, index);
		return n;
	}
	return 1;
}

uint64_t image_cursor_pages(const struct image_cursor *c)
{
	return c->pages;
}

int image_reader_check_use(const struct image_reader *r, uint64_t pages, uint64_t chunks,
			   struct err *e)
{
	return r->ops->check_use(r->ctx, pages, chunks, e);
}

uint64_t image_cursor_lost_end(const struct image_cursor *c)
{
	return c->lost_end;
}

static int chunk_damaged(const struct image_reader *r, const struct image_run *run, const char *how,
			 struct err *e)
{
	char where[ERR_TEXT_MAX / 2];

	if (r->ops->where) {
		r->ops->where(r->ctx, run, where, sizeof(where));
	} else {
		snprintf(where, sizeof(where), "byte %" PRIu64 " of the image", run->offset);
	}
	return err_set(e, -EBADMSG, "the chunk at %s is damaged (%s)", where, how);
}

int image_reader_chunk(const struct image_reader *r, const struct image_run *run,
		       struct codec *codec, void *frame, void *plain, struct err *e)
{
	struct chunk_id found;
	int n;

	n = r->ops->frame(r->ctx, run, frame, e);
	if (n < 0)
		return n;
	n = codec_decompress(codec, frame, run->frame_len, plain, run->plain_len);
	if (n == -ENOMEM)
		return err_oom(e);
	if (n < 0)
		return chunk_damaged(r, run, "it does not decode", e);
	chunk_id_of(plain, run->plain_len, &found);
	if (!chunk_id_equal(&found, &run->id))
		return chunk_damaged(r, run, "its SHA-256 does not match", e);
	return 0;
}

int image_reader_check_framing(const struct image_reader *r, struct cancel *c, struct err *e)
{
	return r->ops->check_framing ? r->ops->check_framing(r->ctx, c, e) : 0;
}
