/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/framing.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/codec.h"
#include "lib/image/record.h"

/* Seek table entries read at once. */
#define ENTRIES 4096u
/* Read at once where little is wanted: a record, and the beginning of the frame behind it. */
#define WINDOW_BYTES 512u

struct walk {
	const struct framing *f;
	struct ambro_seek_entry entries[ENTRIES];
	uint64_t frame, offset,
		plain; /* number and place of the frame looked at; plain bytes before it */
	/* what the record before promised */
	struct ambro_chunk chunk; /* when chunk_due */
	bool chunk_due;
	uint64_t run_frames,
		run_plain; /* bytes of a run's frames, and of its zeros, still to come */
	uint8_t *buffer, *zeros;
	size_t buffer_size;
	uint8_t window[WINDOW_BYTES];
	uint64_t window_at;
	size_t window_len;
};

static int walk_bad(const struct walk *w, struct err *e, const char *what)
{
	return err_set(e, -EBADMSG, "%s, in frame %" PRIu64 " at byte %" PRIu64 " of the image",
		       what, w->frame, w->offset);
}

static int walk_read(struct walk *w, void *buf, size_t len, uint64_t offset, struct err *e)
{
	if (len > sizeof(w->window) || offset > w->f->table_offset ||
	    len > w->f->table_offset - offset)
		return image_io_read(w->f->io, buf, len, offset, e);
	if (offset < w->window_at || offset + len > w->window_at + w->window_len) {
		size_t n = MIN(sizeof(w->window), w->f->table_offset - offset);
		int r = image_io_read(w->f->io, w->window, n, offset, e);

		w->window_len = r < 0 ? 0 : n;
		w->window_at = offset;
		if (r < 0)
			return r;
	}
	memcpy(buf, w->window + (offset - w->window_at), len);
	return 0;
}

static int walk_buffer(struct walk *w, size_t len, struct err *e)
{
	uint8_t *more;

	if (len <= w->buffer_size)
		return 0;
	more = realloc(w->buffer, len);
	if (!more)
		return err_oom(e);
	w->buffer = more;
	w->buffer_size = len;
	return 0;
}

static bool run_state_may_be(uint8_t state, uint64_t require)
{
	switch (state) {
	case CHUNK_FREE:
	case CHUNK_ZERO:
	case CHUNK_BAD:
		return true;
	case CHUNK_SAME:
		return require & AMBRO_REQUIRE_PARENT;
	default:
		return false;
	}
}

static int walk_record(struct walk *w, const struct record_head *h, const uint8_t *body,
		       struct err *e)
{
	struct ambro_run run;
	int r;

	r = record_body_check(h, body, "record", e);
	if (r < 0)
		return walk_bad(w, e, "a record is damaged");
	if (h->record.type == AMBRO_RECORD_CHUNK && record_body_len(h) == sizeof(w->chunk)) {
		memcpy(&w->chunk, body, sizeof(w->chunk));
		w->chunk_due = true;
	}
	if (h->record.type == AMBRO_RECORD_RUN && record_body_len(h) == sizeof(run)) {
		memcpy(&run, body, sizeof(run));
		if (!run_state_may_be(run.state, w->f->require))
			return walk_bad(w, e, "a RUN has a state that it cannot have");
		w->run_frames = le64_get(run.frames_len);
		w->run_plain = w->run_frames ? le64_get(run.plain_len) : 0;
	}
	return 0;
}

/* A skippable frame of @len bytes: ours, or somebody's. INDEX and what follows was checked at opening. */
static int walk_skippable(struct walk *w, const struct record_head *h, uint64_t len, struct err *e)
{
	bool ours = len >= sizeof(*h) &&
		    memcmp(h->record.magic, AMBRO_RECORD_MAGIC, sizeof(h->record.magic)) == 0;
	int r;

	if (w->chunk_due || w->run_frames)
		return walk_bad(w, e, "a chunk's frame is missing");
	if (len != sizeof(h->skip) + (uint64_t)le32_get(h->skip.length))
		return walk_bad(w, e, "the seek table is wrong about a length");
	if (ours != (le32_get(h->skip.magic) == AMBRO_SKIPPABLE))
		return walk_bad(w, e, "a record is damaged");
	if (!ours || (h->record.type != AMBRO_RECORD_CHUNK && h->record.type != AMBRO_RECORD_RUN &&
		      h->record.type != AMBRO_RECORD_PAGE))
		return 0;
	r = record_head_check(h, (enum ambro_record_type)h->record.type, len, "record", e);
	if (r < 0 || record_body_len(h) > AMBRO_PAGE_MAX)
		return walk_bad(w, e, "a record is damaged");
	r = walk_buffer(w, record_body_len(h), e);
	if (r >= 0)
		r = walk_read(w, w->buffer, record_body_len(h), w->offset + sizeof(*h), e);
	return r < 0 ? r : walk_record(w, h, w->buffer, e);
}

/* A chunk that the INDEX does not find here: the same bytes stand elsewhere too, and only there are read. */
static int walk_chunk_content(struct walk *w, uint32_t len, uint32_t plain, struct err *e)
{
	_cleanup_(codec_freep) struct codec *codec = NULL;
	_cleanup_free_ uint8_t *out = NULL;
	struct chunk_id id;
	int r;

	if (plain > 1u << AMBRO_CHUNK_SHIFT_MAX ||
	    len > AMBRO_FRAME_MAX(1u << AMBRO_CHUNK_SHIFT_MAX))
		return walk_bad(w, e, "a chunk is impossibly large");
	r = walk_buffer(w, len, e);
	if (r < 0)
		return r;
	out = malloc((size_t)plain + 1);
	if (!out || codec_new(CODEC_LEVEL_DEFAULT, &codec) < 0)
		return err_oom(e);
	r = walk_read(w, w->buffer, len, w->offset, e);
	if (r < 0)
		return r;
	if (codec_decompress(codec, w->buffer, len, out, plain) < 0)
		return walk_bad(w, e, "a chunk is damaged");
	chunk_id_of(out, plain, &id);
	return chunk_id_equal(&id, &w->chunk.id) ? 0 : walk_bad(w, e, "a chunk is damaged");
}

static int walk_chunk(struct walk *w, uint32_t len, uint32_t plain, struct err *e)
{
	struct image_place place;

	w->chunk_due = false;
	if (len != le32_get(w->chunk.frame_len) || plain != le32_get(w->chunk.plain_len))
		return walk_bad(w, e, "the seek table and a CHUNK record contradict each other");
	if (image_index_chunk(w->f->index, &w->chunk.id, &place) < 0) {
		/* what was sent again later is no part of the image any more */
		return w->f->require & AMBRO_REQUIRE_RESENT
			       ? 0
			       : walk_bad(w, e, "a chunk is not in the INDEX");
	}
	return place.offset == w->offset ? 0 : walk_chunk_content(w, len, plain, e);
}

static int walk_zeros(struct walk *w, uint32_t len, uint32_t plain, struct err *e)
{
	int r;

	if (!plain || plain > CODEC_ZERO_FRAME_MAX || plain > w->run_plain || len > w->run_frames ||
	    len != codec_zero_frame_len(plain))
		return walk_bad(w, e, "the zeros of a RUN are damaged");
	r = walk_buffer(w, len, e);
	if (r >= 0)
		r = walk_read(w, w->buffer, len, w->offset, e);
	if (r < 0)
		return r;
	codec_zero_frame(plain, w->zeros);
	w->run_frames -= len;
	w->run_plain -= plain;
	if (memcmp(w->buffer, w->zeros, len) != 0 || (!w->run_frames && w->run_plain))
		return walk_bad(w, e, "the zeros of a RUN are damaged");
	return 0;
}

static int walk_frame(struct walk *w, uint32_t len, uint32_t plain, struct err *e)
{
	struct record_head h = { 0 };
	int r;

	if (len < sizeof(h.skip) || len > w->f->table_offset - w->offset)
		return walk_bad(w, e, "the seek table is wrong about a length");
	r = walk_read(w, &h, MIN(len, sizeof(h)), w->offset, e);
	if (r < 0)
		return r;
	if (AMBRO_IS_SKIPPABLE(le32_get(h.skip.magic))) {
		return plain ? walk_bad(w, e, "the seek table gives a record plain bytes")
			     : walk_skippable(w, &h, len, e);
	}
	if (w->chunk_due)
		return walk_chunk(w, len, plain, e);
	if (w->run_frames)
		return walk_zeros(w, len, plain, e);
	/* only the guard, which the reader has compared, stands alone */
	if (w->frame == 1 && w->f->require && len == AMBRO_GUARD_SIZE && !plain)
		return 0;
	return walk_bad(w, e, "a frame has no record before it");
}

static int walk_all(struct walk *w, struct err *e)
{
	const struct framing *f = w->f;
	int r;

	for (w->frame = 0; w->frame < f->frames; w->frame++) {
		const struct ambro_seek_entry *entry = &w->entries[w->frame % ENTRIES];

		if (cancel_raised(f->cancel))
			return err_set(e, -ECANCELED, "cancelled");
		if (w->frame % ENTRIES == 0) {
			uint64_t n = MIN(f->frames - w->frame, (uint64_t)ENTRIES);

			r = walk_read(w, w->entries, n * sizeof(*entry),
				      f->table_offset + sizeof(struct ambro_skippable) +
					      w->frame * sizeof(*entry),
				      e);
			if (r < 0)
				return r;
		}
		r = walk_frame(w, le32_get(entry->compressed_size),
			       le32_get(entry->decompressed_size), e);
		if (r < 0)
			return r;
		w->offset += le32_get(entry->compressed_size);
		w->plain += le32_get(entry->decompressed_size);
	}
	if (w->offset != f->table_offset || w->chunk_due || w->run_frames)
		return walk_bad(w, e, "the seek table does not name every frame");
	if (!f->require && w->plain != f->disk_size)
		return walk_bad(w, e, "the frames do not give the whole disk");
	return 0;
}

int framing_check(const struct framing *f, struct err *e)
{
	struct walk *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return err_oom(e);
	w->f = f;
	w->zeros = malloc(codec_zero_frame_len(CODEC_ZERO_FRAME_MAX));
	r = w->zeros ? walk_all(w, e) : err_oom(e);
	free(w->zeros);
	free(w->buffer);
	free(w);
	return r;
}
