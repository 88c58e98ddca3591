/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/image_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/image/codec.h"
#include "lib/image/record.h"

struct image_log_event {
	uint64_t offset; /* chunk: of its zstd frame in the stream; run: how many chunks */
	uint64_t index;
	uint32_t region;
	uint32_t frame_len; /* 0: a run */
};
#define EVENT_DEAD (UINT32_C(1) << 31) /* in region: a later word replaced this one */

int image_log_init(struct image_log *log, const struct manifest *m)
{
	*log = (struct image_log){ .chunk_size = m->chunk_size, .n_regions = m->n_regions };
	log->regions = calloc(m->n_regions, sizeof(*log->regions));
	if (!log->regions)
		return -ENOMEM;
	for (size_t i = 0; i < m->n_regions; i++) {
		struct image_log_region *region = &log->regions[i];
		int r;

		region->length = m->regions[i].length;
		region->chunks = region_chunks(region->length, m->chunk_size);
		r = tree_new(region->chunks, &region->tree);
		if (r < 0)
			return r;
	}
	return 0;
}

void image_log_done(struct image_log *log)
{
	for (size_t i = 0; log->regions && i < log->n_regions; i++)
		tree_free(log->regions[i].tree);
	free(log->regions);
	free(log->events);
	free(log->pages);
	*log = (struct image_log){ 0 };
}

uint64_t image_log_plain_len(const struct image_log *log, uint32_t region, uint64_t index,
			     uint64_t count)
{
	return MIN(log->regions[region].length - index * log->chunk_size, count * log->chunk_size);
}

static int log_add(struct image_log *log, const struct image_log_event *event)
{
	if (ARRAY_ROOM(log->events, log->n_events, log->events_allocated, 1024) < 0)
		return -ENOMEM;
	log->events[log->n_events++] = *event;
	return 0;
}

int image_log_chunk(struct image_log *log, uint32_t region, uint64_t index, uint64_t offset,
		    uint32_t frame_len)
{
	struct image_log_event event = { offset, index, region, frame_len };
	int r = log_add(log, &event);

	if (r >= 0)
		log->n_chunks++;
	return r;
}

int image_log_run(struct image_log *log, uint32_t region, uint64_t index, uint64_t count)
{
	struct image_log_event event = { count, index, region, 0 };

	return log_add(log, &event);
}

int image_log_page(struct image_log *log, const struct ambro_location *page)
{
	if (ARRAY_ROOM(log->pages, log->n_pages, log->pages_allocated, 16) < 0)
		return -ENOMEM;
	log->pages[log->n_pages++] = *page;
	return 0;
}

uint64_t image_log_count(const struct image_log *log, enum chunk_state state)
{
	uint64_t n = 0;

	for (size_t i = 0; i < log->n_regions; i++)
		n += tree_count(log->regions[i].tree, state);
	return n;
}

int image_log_mark_dead(struct image_log *log)
{
	_cleanup_free_ uint64_t *first_bit = calloc(log->n_regions, sizeof(*first_bit));
	_cleanup_free_ uint8_t *seen = NULL;
	uint64_t bits = 0;

	if (!first_bit)
		return -ENOMEM;
	for (size_t i = 0; i < log->n_regions; i++) {
		first_bit[i] = bits;
		bits += log->regions[i].chunks;
	}
	seen = calloc(bits / 8 + 1, 1);
	if (!seen)
		return -ENOMEM;
	/* backwards, so that the first met is the last said */
	for (size_t i = log->n_events; i-- > 0;) {
		struct image_log_event *event = &log->events[i];
		const struct tree *tree = log->regions[event->region & ~EVENT_DEAD].tree;
		uint64_t bit;
		uint8_t mask;

		if (!event->frame_len || event->region & EVENT_DEAD)
			continue;
		bit = first_bit[event->region] + event->index;
		mask = (uint8_t)(1u << (bit % 8));
		/* a chunk that is not DATA now was overruled by a run */
		if (seen[bit / 8] & mask || tree_get(tree, event->index, NULL) != CHUNK_DATA) {
			event->region |= EVENT_DEAD;
			log->n_dead++;
		}
		seen[bit / 8] |= mask;
	}
	return 0;
}

/* A buffer in front of an output. */
struct batch {
	const struct image_log_output *out;
	size_t used;
	uint8_t buf[48 * 1024];
};

static int batch_flush(struct batch *b)
{
	int r = b->used ? b->out->put(b->out->ctx, b->buf, b->used) : 0;

	b->used = 0;
	return r;
}

static int batch_add(struct batch *b, const void *data, size_t len)
{
	if (b->used + len > sizeof(b->buf)) {
		int r = batch_flush(b);

		if (r < 0)
			return r;
	}
	memcpy(b->buf + b->used, data, len);
	b->used += len;
	return 0;
}

uint64_t image_log_index_len(const struct image_log *log)
{
	return sizeof(struct ambro_index) +
	       (log->n_chunks - log->n_dead + log->n_pages) * sizeof(struct ambro_location);
}

int image_log_index(const struct image_log *log, const struct image_log_output *out)
{
	struct ambro_index head = { le64(log->n_chunks - log->n_dead), le64(log->n_pages) };
	struct batch b = { .out = out };
	int r = batch_add(&b, &head, sizeof(head));

	for (size_t i = 0; i < log->n_events && r >= 0; i++) {
		const struct image_log_event *event = &log->events[i];
		struct ambro_location l;
		uint64_t plain_len;

		if (!event->frame_len || event->region & EVENT_DEAD)
			continue;
		plain_len = image_log_plain_len(log, event->region, event->index, 1);
		tree_get(log->regions[event->region].tree, event->index, &l.id);
		l.offset = le64(event->offset);
		l.frame_len = le32(event->frame_len);
		l.plain_len = le32((uint32_t)plain_len);
		r = batch_add(&b, &l, sizeof(l));
	}
	for (size_t i = 0; i < log->n_pages && r >= 0; i++)
		r = batch_add(&b, &log->pages[i], sizeof(log->pages[i]));
	return r < 0 ? r : batch_flush(&b);
}

static int seek_add(struct batch *b, uint64_t compressed, uint64_t decompressed)
{
	struct ambro_seek_entry entry = { le32((uint32_t)compressed),
					  le32((uint32_t)decompressed) };

	return batch_add(b, &entry, sizeof(entry));
}

static int seek_add_run(struct batch *b, uint64_t plain_len, bool sparse)
{
	int r = seek_add(b, record_frame_len(sizeof(struct ambro_run)), 0);

	if (sparse)
		return r;
	while (plain_len && r >= 0) {
		uint64_t n = MIN(plain_len, CODEC_ZERO_FRAME_MAX);

		r = seek_add(b, codec_zero_frame_len(n), n);
		plain_len -= n;
	}
	return r;
}

int image_log_seek(const struct image_log *log, bool sparse, const struct image_log_output *out)
{
	struct batch b = { .out = out };
	int r = 0;

	for (size_t i = 0; i < log->n_events && r >= 0; i++) {
		const struct image_log_event *event = &log->events[i];
		const uint64_t count = event->frame_len ? 1 : event->offset;
		const uint64_t plain_len =
			image_log_plain_len(log, event->region & ~EVENT_DEAD, event->index, count);

		if (!event->frame_len) {
			r = seek_add_run(&b, plain_len, sparse);
			continue;
		}
		r = seek_add(&b, record_frame_len(sizeof(struct ambro_chunk)), 0);
		if (r >= 0)
			r = seek_add(&b, event->frame_len, plain_len);
	}
	for (size_t i = 0; i < log->n_pages && r >= 0; i++)
		r = seek_add(&b, le32_get(log->pages[i].frame_len), 0);
	return r < 0 ? r : batch_flush(&b);
}
