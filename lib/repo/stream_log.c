/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/stream_log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/image/codec.h"

/* Chunks are kept in blocks of so many: nothing is ever moved, and it can be given back as it is used up. */
#define BLOCK_CHUNKS 8192u
/* Chunk numbers have at most 47 bits (63 bits of bytes, chunks of 2^16), region numbers 16. */
#define PLACE_INDEX_BITS 48u
#define SLOTS_MIN	 1024u

struct log_chunk {
	uint64_t place; /* region and index */
	struct chunk_id id;
};
static_assert(sizeof(struct log_chunk) == 40, "as the header says");

struct log_run {
	uint64_t place;
	uint64_t count;
	uint64_t before; /* chunks that were said before it */
	enum chunk_state state;
};

struct log_region {
	uint64_t next;	   /* ordered: the chunk that has to come */
	uint64_t full_end; /* behind the last chunk that was said to have all its bytes */
	/* behind the one chunk that was said to be shorter, and by how much; 0: none was */
	uint64_t short_end, missing;
};

struct stream_log {
	unsigned int chunk_shift;
	bool ordered;
	struct log_region *regions;
	uint32_t n_regions;
	uint32_t current; /* ordered: the region that is spoken of */
	struct log_chunk **blocks;
	size_t n_blocks;
	uint64_t n_chunks;
	struct log_run *runs;
	size_t n_runs, runs_allocated;
	uint32_t *slots; /* number of a chunk, and one; 0: free */
	size_t n_slots, used;
};

int stream_log_new(uint32_t regions, unsigned int chunk_shift, bool ordered,
		   struct stream_log **ret)
{
	_cleanup_(stream_log_freep) struct stream_log *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->chunk_shift = chunk_shift;
	l->ordered = ordered;
	l->n_regions = regions;
	l->regions = calloc(regions, sizeof(*l->regions));
	if (!l->regions)
		return -ENOMEM;
	*ret = TAKE_PTR(l);
	return 0;
}

void stream_log_free(struct stream_log *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->n_blocks; i++)
		free(l->blocks[i]);
	free(l->blocks);
	free(l->regions);
	free(l->runs);
	free(l->slots);
	free(l);
}

static uint64_t place_of(uint32_t region, uint64_t index)
{
	return (uint64_t)region << PLACE_INDEX_BITS | index;
}

static uint64_t place_index(uint64_t place)
{
	return place & ((UINT64_C(1) << PLACE_INDEX_BITS) - 1);
}

static struct log_chunk *log_chunk_at(const struct stream_log *l, uint64_t n)
{
	return &l->blocks[n / BLOCK_CHUNKS][n % BLOCK_CHUNKS];
}

/* What can be said of a place before the regions' lengths are known. */
static int log_place(struct stream_log *l, uint32_t region, uint64_t index, uint64_t count,
		     uint64_t plain_len)
{
	const uint64_t missing = (count << l->chunk_shift) - plain_len, end = index + count;
	struct log_region *at = &l->regions[region];

	if (l->ordered) {
		if (region == l->current + 1 && l->regions[l->current].next)
			l->current = region;
		if (region != l->current || index != at->next)
			return -EBADMSG;
		at->next = end;
	}
	if (missing && at->missing && (missing != at->missing || end != at->short_end))
		return -EBADMSG;
	if (missing) {
		at->missing = missing;
		at->short_end = end;
	} else if (end > at->full_end) {
		at->full_end = end;
	}
	return 0;
}

static int log_make_room(struct stream_log *l)
{
	struct log_chunk **blocks;

	/* numbers are kept in 32 bits, and so many chunks of 64 KiB are 256 TiB */
	if (l->n_chunks == UINT32_MAX)
		return -ENOMEM;
	if (l->n_chunks < (uint64_t)l->n_blocks * BLOCK_CHUNKS)
		return 0;
	if (!(l->n_blocks & (l->n_blocks - 1))) {
		size_t n = l->n_blocks ? l->n_blocks * 2 : 1;

		blocks = reallocarray(l->blocks, n, sizeof(struct log_chunk *));
		if (!blocks)
			return -ENOMEM;
		l->blocks = blocks;
	}
	l->blocks[l->n_blocks] = malloc(BLOCK_CHUNKS * sizeof(struct log_chunk));
	if (!l->blocks[l->n_blocks])
		return -ENOMEM;
	l->n_blocks++;
	return 0;
}

int stream_log_chunk(struct stream_log *l, uint32_t region, uint64_t index, uint64_t plain_len,
		     const struct chunk_id *id)
{
	int r = log_place(l, region, index, 1, plain_len);

	if (r >= 0)
		r = log_make_room(l);
	if (r < 0)
		return r;
	*log_chunk_at(l, l->n_chunks++) = (struct log_chunk){ place_of(region, index), *id };
	return 0;
}

int stream_log_run(struct stream_log *l, uint32_t region, uint64_t index, uint64_t count,
		   uint64_t plain_len, enum chunk_state state)
{
	int r = log_place(l, region, index, count, plain_len);

	if (r < 0)
		return r;
	if (ARRAY_ROOM(l->runs, l->n_runs, l->runs_allocated, 256) < 0)
		return -ENOMEM;
	l->runs[l->n_runs++] =
		(struct log_run){ place_of(region, index), count, l->n_chunks, state };
	return 0;
}

/* ---- the set ------------------------------------------------------------------------------------ */

/* Where to look first: an id is a hash already. */
static size_t slot_first(const struct stream_log *l, const struct chunk_id *id)
{
	uint64_t h;

	memcpy(&h, id->b, sizeof(h));
	return h & (l->n_slots - 1);
}

/* The slot that has @id, or the free one where it would be. */
static uint32_t *slot_find(const struct stream_log *l, const struct chunk_id *id)
{
	for (size_t i = slot_first(l, id);; i = (i + 1) & (l->n_slots - 1)) {
		if (!l->slots[i] || chunk_id_equal(&log_chunk_at(l, l->slots[i] - 1)->id, id))
			return &l->slots[i];
	}
}

static int slots_grow(struct stream_log *l)
{
	uint32_t *old = l->slots;
	const size_t n_old = l->n_slots;
	uint32_t *slots;

	/* at most three in four are taken */
	if (l->used < n_old / 4 * 3)
		return 0;
	l->n_slots = n_old ? n_old * 2 : SLOTS_MIN;
	slots = calloc(l->n_slots, sizeof(*slots));
	if (!slots) {
		l->n_slots = n_old;
		return -ENOMEM;
	}
	l->slots = slots;
	for (size_t i = 0; i < n_old; i++) {
		if (old[i])
			*slot_find(l, &log_chunk_at(l, old[i] - 1)->id) = old[i];
	}
	free(old);
	return 0;
}

int stream_log_remember(struct stream_log *l)
{
	uint32_t *slot;

	if (slots_grow(l) < 0)
		return -ENOMEM;
	slot = slot_find(l, &log_chunk_at(l, l->n_chunks - 1)->id);
	if (!*slot) {
		*slot = (uint32_t)l->n_chunks;
		l->used++;
	}
	return 0;
}

bool stream_log_knows(const struct stream_log *l, const struct chunk_id *id)
{
	return l->slots && *slot_find(l, id);
}

/* ---- the end ------------------------------------------------------------------------------------ */

int stream_log_check(const struct stream_log *l, const struct manifest *m, struct err *e)
{
	if (m->n_regions != l->n_regions)
		return err_set(e, -EBADMSG, "the MANIFEST has not as many regions as the HEADER");
	for (uint32_t i = 0; i < l->n_regions; i++) {
		const struct log_region *at = &l->regions[i];
		const uint64_t length = m->regions[i].length;
		const uint64_t chunks = region_chunks(length, m->chunk_size);
		const uint64_t missing = (chunks << l->chunk_shift) - length;

		if (at->full_end > chunks - !!missing ||
		    (at->missing && (at->missing != missing || at->short_end != chunks)) ||
		    (l->ordered && at->next != chunks)) {
			return err_set(e, -EBADMSG,
				       "what the stream says of region %" PRIu32
				       " does not fit the region's length",
				       i);
		}
	}
	return 0;
}

int stream_log_apply(struct stream_log *l, struct tree *const *trees)
{
	uint64_t chunk = 0;
	int r = 0;

	free(TAKE_PTR(l->slots));
	for (size_t i = 0; i <= l->n_runs && r >= 0; i++) {
		const uint64_t until = i < l->n_runs ? l->runs[i].before : l->n_chunks;
		const struct log_run *run = i < l->n_runs ? &l->runs[i] : NULL;

		for (; chunk < until && r >= 0; chunk++) {
			const struct log_chunk *c = log_chunk_at(l, chunk);

			r = tree_set(trees[c->place >> PLACE_INDEX_BITS], place_index(c->place),
				     CHUNK_DATA, &c->id);
			if (chunk % BLOCK_CHUNKS == BLOCK_CHUNKS - 1)
				free(TAKE_PTR(l->blocks[chunk / BLOCK_CHUNKS]));
		}
		if (run && r >= 0) {
			r = tree_set_run(trees[run->place >> PLACE_INDEX_BITS],
					 place_index(run->place), run->count, run->state);
		}
	}
	l->n_chunks = l->n_runs = l->n_slots = l->used = 0;
	return r;
}
