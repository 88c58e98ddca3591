/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A byte is given only out of a chunk that image_reader_chunk() has checked, or is a zero of which the checked hash tree says
 * that it is one. A chunk that fails is not kept, and asked for again the next time: what fails does so rarely, because who
 * makes a reader knows what is lost.
 */
#include "ctl/region_reader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Whatever the chunks' size. */
#define SLOTS_MIN 4
/* A walk over the inodes and one over the directories go on in different leaves of the hash tree. */
#define CURSORS 4

struct chunk_slot {
	uint8_t *plain; /* allocated when first used; a chunk's size */
	uint64_t index;
	uint32_t len;  /* 0: nothing in it */
	uint64_t used; /* when, by `tick`; 0: never */
};

struct leaf_cursor {
	struct image_cursor *cursor; /* made when first used */
	uint64_t leaf;
	uint64_t used;
};

struct region_reader {
	const struct image_reader *reader;
	const struct extent_set *lost;
	uint32_t region;
	uint64_t length; /* bytes */
	uint64_t chunk_size;
	uint64_t tick;
	uint64_t fetched;
	struct codec *codec;
	void *frame;
	struct leaf_cursor cursors[CURSORS];
	size_t n_slots;
	struct chunk_slot slots[];
};

int region_reader_new(const struct image_reader *r, uint32_t region, const struct extent_set *lost,
		      struct region_reader **ret)
{
	_cleanup_(region_reader_freep) struct region_reader *x = NULL;
	const struct manifest *m = image_reader_manifest(r);
	const size_t n = MAX((size_t)(REGION_READER_MEMORY / m->chunk_size), (size_t)SLOTS_MIN);

	if (region >= m->n_regions)
		return -EINVAL;
	x = calloc(1, sizeof(*x) + n * sizeof(x->slots[0]));
	if (!x)
		return -ENOMEM;
	x->reader = r;
	x->lost = lost;
	x->region = region;
	x->length = m->regions[region].length;
	x->chunk_size = m->chunk_size;
	x->n_slots = n;
	x->frame = malloc(image_reader_frame_max(r));
	if (!x->frame)
		return -ENOMEM;
	/* the level is for who compresses */
	if (codec_new(CODEC_LEVEL_DEFAULT, &x->codec) < 0)
		return -ENOMEM;
	*ret = TAKE_PTR(x);
	return 0;
}

void region_reader_free(struct region_reader *x)
{
	if (!x)
		return;
	for (size_t i = 0; i < x->n_slots; i++)
		free(x->slots[i].plain);
	for (size_t i = 0; i < CURSORS; i++)
		image_cursor_free(x->cursors[i].cursor);
	codec_free(x->codec);
	free(x->frame);
	free(x);
}

/* What is at chunk @index. Any error of it is one of that place's, but these. */
static int reader_at(struct region_reader *x, uint64_t index, struct image_run *ret, struct err *e)
{
	const uint64_t leaf = index / AMBRO_PAGE_FANOUT;
	struct leaf_cursor *c = &x->cursors[0];
	int r;

	for (size_t i = 0; i < CURSORS; i++) {
		struct leaf_cursor *other = &x->cursors[i];

		if (other->used && other->leaf == leaf) {
			c = other;
			break;
		}
		if (other->used < c->used)
			c = other;
	}
	if (!c->cursor) {
		r = image_cursor_new(x->reader, x->region, &c->cursor);
		if (r < 0)
			return r;
	}
	c->leaf = leaf;
	c->used = ++x->tick;
	r = image_cursor_at(c->cursor, index, ret, e);
	/* behind the last chunk: the manifest was checked, so this cannot be */
	return r ? r : err_set(e, -EBADMSG, "chunk %" PRIu64 " is outside of the region", index);
}

/* Chunk @run->index, fetched if need be, as the most recently used slot. */
static int reader_slot(struct region_reader *x, const struct image_run *run,
		       const struct chunk_slot **ret, struct err *e)
{
	struct chunk_slot *s = &x->slots[0];
	int r;

	for (size_t i = 1; i < x->n_slots; i++) {
		if (x->slots[i].used < s->used)
			s = &x->slots[i];
	}
	if (!s->plain)
		s->plain = malloc(x->chunk_size);
	if (!s->plain)
		return err_oom(e);
	s->len = 0;
	r = image_reader_chunk(x->reader, run, x->codec, x->frame, s->plain, e);
	if (r < 0)
		return r;
	x->fetched += run->plain_len;
	s->len = run->plain_len;
	s->index = run->index;
	s->used = ++x->tick;
	*ret = s;
	return 0;
}

static const struct chunk_slot *reader_kept(struct region_reader *x, uint64_t index)
{
	for (size_t i = 0; i < x->n_slots; i++) {
		struct chunk_slot *s = &x->slots[i];

		if (s->len && s->index == index) {
			s->used = ++x->tick;
			return s;
		}
	}
	return NULL;
}

/* @len bytes at @within of chunk @index, and no further. */
static int reader_piece(struct region_reader *x, uint8_t *buf, size_t len, uint64_t index,
			size_t within, struct err *e)
{
	const struct chunk_slot *s = reader_kept(x, index);
	struct image_run run;
	int r;

	if (!s) {
		r = reader_at(x, index, &run, e);
		if (r < 0)
			return r;
		if (run.state == CHUNK_BAD)
			return err_set(e, -EBADMSG, "the disk could not be read there");
		if (run.state != CHUNK_DATA) {
			memset(buf, 0, len);
			return 0;
		}
		r = reader_slot(x, &run, &s, e);
		if (r < 0)
			return r;
	}
	/* the reader holds the run's length against the chunk's place */
	memcpy(buf, s->plain + within, len);
	return 0;
}

static bool error_is_of_place(int r)
{
	return r == -EBADMSG || r == -EIO || r == -ENODATA || r == -ENOENT;
}

int region_reader_read(struct region_reader *x, void *buf, size_t len, uint64_t offset,
		       struct err *e)
{
	uint8_t *to = buf;

	if (offset > x->length || len > x->length - offset)
		return err_set(e, -EBADMSG, "byte %" PRIu64 " is outside of the region", offset);
	if (extent_set_overlaps(x->lost, offset, len))
		return err_set(e, -EBADMSG, "byte %" PRIu64 " is lost, or one behind it", offset);
	while (len) {
		const size_t within = offset % x->chunk_size;
		const size_t n = MIN(len, (size_t)(x->chunk_size - within));
		int r = reader_piece(x, to, n, offset / x->chunk_size, within, e);

		if (r < 0)
			return error_is_of_place(r) ? -EBADMSG : r;
		to += n;
		offset += n;
		len -= n;
	}
	return 0;
}

uint64_t region_reader_fetched(const struct region_reader *x)
{
	return x->fetched;
}
