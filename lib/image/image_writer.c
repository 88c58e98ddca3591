/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/image_writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/codec.h"
#include "lib/image/digest.h"
#include "lib/image/image_log.h"
#include "lib/image/record.h"
#include "lib/image/tree.h"

/* Runs that continue each other are written as one. */
struct pending_run {
	uint32_t region;
	enum chunk_state state;
	uint64_t index;
	uint64_t count; /* 0: none */
};

struct image_writer {
	struct image_sink sink;
	struct manifest *manifest;
	uint64_t require;
	uint64_t bytes;
	uint64_t seek_frames;
	int failed; /* negative errno: the stream is torn */

	struct image_log log;
	struct pending_run run;
	/* without RESENT: the place that must come next */
	uint32_t next_region;
	uint64_t next_index;

	uint8_t *zeros; /* frame of CODEC_ZERO_FRAME_MAX zeros, and one of fewer */
};

/* More than any partition table can describe. */
#define REGIONS_MAX 65536

/* Locations that the INDEX, a skippable frame with a 32-bit length, has room for. */
#define LOCATIONS_MAX \
	((RECORD_BODY_MAX - sizeof(struct ambro_index)) / sizeof(struct ambro_location))

static int writer_put(struct image_writer *w, const void *buf, size_t len, struct err *e)
{
	int r = w->sink.write(w->sink.ctx, buf, len);

	if (r < 0) {
		w->failed = r;
		return err_set_errno(e, r, "writing the image failed after %" PRIu64 " bytes",
				     w->bytes);
	}
	w->bytes += len;
	return 0;
}

static int writer_oom(struct image_writer *w, struct err *e)
{
	w->failed = -ENOMEM;
	return err_oom(e);
}

static int writer_count_frames(struct image_writer *w, uint64_t n, struct err *e)
{
	w->seek_frames += n;
	if (w->seek_frames <= AMBRO_SEEK_MAX_FRAMES)
		return 0;
	w->failed = -EFBIG;
	return err_set(
		e, -EFBIG,
		"the image would have more than %u frames, which its seek table has no room for; "
		"take larger chunks",
		AMBRO_SEEK_MAX_FRAMES);
}

static int writer_record(struct image_writer *w, enum ambro_record_type type, const void *body,
			 size_t body_len, struct err *e)
{
	struct record_head head;
	int r;

	r = writer_count_frames(w, 1, e);
	if (r < 0)
		return r;
	record_make(type, body, body_len, &head);
	r = writer_put(w, &head, sizeof(head), e);
	if (r < 0)
		return r;
	return writer_put(w, body, body_len, e);
}

static int writer_header(struct image_writer *w, struct err *e)
{
	const struct manifest *m = w->manifest;
	struct ambro_header h = {
		.version = le32(AMBRO_FORMAT_VERSION),
		.chunk_shift = le32((uint32_t)__builtin_ctzll(m->chunk_size)),
		.require_features = le64(w->require),
		.disk_size = le64(m->disk_size),
		.sector_size = le32(m->logical_sector),
		.regions = le32((uint32_t)m->n_regions),
		.created_ns = le64(m->created_ns),
	};
	int r;

	memcpy(h.magic, AMBRO_IMAGE_MAGIC, sizeof(h.magic));
	memcpy(h.image_id, m->image_id, sizeof(h.image_id));
	r = writer_record(w, AMBRO_RECORD_HEADER, &h, sizeof(h), e);
	if (r < 0 || !w->require)
		return r;
	r = writer_count_frames(w, 1, e);
	if (r < 0)
		return r;
	return writer_put(w, ambro_guard, sizeof(ambro_guard), e);
}

static int writer_check_manifest(const struct manifest *m, uint64_t require, struct err *e)
{
	uint64_t at = 0;

	if (require & ~AMBRO_REQUIRE_KNOWN)
		return err_set(e, -EINVAL, "unknown required features %#" PRIx64, require);
	if (require & AMBRO_REQUIRE_PARENT &&
	    ~require & (AMBRO_REQUIRE_RESENT | AMBRO_REQUIRE_SPARSE)) {
		return err_set(e, -EINVAL, "an image with a parent is one with RESENT and SPARSE");
	}
	if (m->chunk_size < UINT64_C(1) << AMBRO_CHUNK_SHIFT_MIN ||
	    m->chunk_size > UINT64_C(1) << AMBRO_CHUNK_SHIFT_MAX ||
	    m->chunk_size & (m->chunk_size - 1)) {
		return err_set(e, -EINVAL, "a chunk size of %" PRIu64 " bytes is not possible",
			       m->chunk_size);
	}
	if (m->n_regions > REGIONS_MAX || m->disk_size > INT64_MAX) {
		return err_set(e, -EINVAL, "%zu regions, %" PRIu64 " bytes are too many",
			       m->n_regions, m->disk_size);
	}
	for (size_t i = 0; i < m->n_regions; i++) {
		const struct manifest_region *region = &m->regions[i];

		if (region->start != at || !region->length || region->length > m->disk_size - at) {
			return err_set(e, -EINVAL, "region %zu does not continue the one before it",
				       i);
		}
		at += region->length;
	}
	if (!m->n_regions || at != m->disk_size)
		return err_set(e, -EINVAL, "the regions do not cover the disk");
	return 0;
}

int image_writer_new(const struct image_sink *sink, struct manifest *m, uint64_t require,
		     struct image_writer **ret, struct err *e)
{
	_cleanup_(image_writer_freep) struct image_writer *w = NULL;
	int r;

	r = writer_check_manifest(m, require, e);
	if (r < 0)
		return r;
	w = calloc(1, sizeof(*w));
	if (!w)
		return err_oom(e);
	w->sink = *sink;
	w->manifest = m;
	w->require = require;
	w->zeros = malloc(2 * codec_zero_frame_len(CODEC_ZERO_FRAME_MAX));
	r = image_log_init(&w->log, m);
	if (r < 0 || !w->zeros)
		return err_oom(e);
	codec_zero_frame(CODEC_ZERO_FRAME_MAX, w->zeros);
	r = writer_header(w, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(w);
	return 0;
}

void image_writer_free(struct image_writer *w)
{
	if (!w)
		return;
	image_log_done(&w->log);
	free(w->zeros);
	free(w);
}

uint64_t image_writer_bytes(const struct image_writer *w)
{
	return w->bytes;
}

/* May chunks @index … @index + @count be spoken of now? Without RESENT the place moves on. */
static int writer_advance(struct image_writer *w, uint32_t region, uint64_t index, uint64_t count,
			  struct err *e)
{
	if (w->failed)
		return err_set(e, w->failed, "writing the image has failed before");
	if (region >= w->log.n_regions || index >= w->log.regions[region].chunks || !count ||
	    count > w->log.regions[region].chunks - index) {
		return err_set(e, -EINVAL,
			       "there are no chunks %" PRIu64 " … %" PRIu64 " in region %" PRIu32,
			       index, index + count - 1, region);
	}
	if (w->require & AMBRO_REQUIRE_RESENT)
		return 0;
	if (region != w->next_region || index != w->next_index) {
		return err_set(e, -EINVAL,
			       "chunk %" PRIu64 " of region %" PRIu32
			       " came out of order: chunk %" PRIu64 " of region %" PRIu32
			       " is the next",
			       index, region, w->next_index, w->next_region);
	}
	w->next_index += count;
	if (w->next_index == w->log.regions[region].chunks) {
		w->next_region++;
		w->next_index = 0;
	}
	return 0;
}

static int writer_zero_frames(struct image_writer *w, uint64_t plain_len, struct err *e)
{
	const size_t full = codec_zero_frame_len(CODEC_ZERO_FRAME_MAX);
	int r = writer_count_frames(w, DIV_ROUND_UP(plain_len, CODEC_ZERO_FRAME_MAX), e);

	while (plain_len && r >= 0) {
		const uint64_t n = MIN(plain_len, CODEC_ZERO_FRAME_MAX);
		uint8_t *frame = w->zeros;

		if (n < CODEC_ZERO_FRAME_MAX) {
			frame += full;
			codec_zero_frame(n, frame);
		}
		r = writer_put(w, frame, codec_zero_frame_len(n), e);
		plain_len -= n;
	}
	return r;
}

static uint64_t zero_frames_len(uint64_t plain_len)
{
	const uint64_t rest = plain_len % CODEC_ZERO_FRAME_MAX;

	return plain_len / CODEC_ZERO_FRAME_MAX * codec_zero_frame_len(CODEC_ZERO_FRAME_MAX) +
	       (rest ? codec_zero_frame_len(rest) : 0);
}

static int writer_flush_run(struct image_writer *w, struct err *e)
{
	const bool sparse = w->require & AMBRO_REQUIRE_SPARSE;
	const struct pending_run run = w->run;
	struct ambro_run body = { .region = le32(run.region), .state = (uint8_t)run.state };
	uint64_t plain_len;
	int r;

	if (!run.count)
		return 0;
	w->run.count = 0;
	plain_len = image_log_plain_len(&w->log, run.region, run.index, run.count);
	body.index = le64(run.index);
	body.count = le64(run.count);
	body.plain_len = le64(plain_len);
	body.frames_len = le64(sparse ? 0 : zero_frames_len(plain_len));
	r = image_log_run(&w->log, run.region, run.index, run.count);
	if (r < 0)
		return writer_oom(w, e);
	r = writer_record(w, AMBRO_RECORD_RUN, &body, sizeof(body), e);
	if (r < 0 || sparse)
		return r;
	return writer_zero_frames(w, plain_len, e);
}

static bool writer_run_fits(const struct image_writer *w, enum chunk_state state)
{
	return state == CHUNK_FREE || state == CHUNK_ZERO || state == CHUNK_BAD ||
	       (state == CHUNK_SAME && w->require & AMBRO_REQUIRE_PARENT);
}

int image_writer_run(struct image_writer *w, uint32_t region, uint64_t index, uint64_t count,
		     enum chunk_state state, struct err *e)
{
	struct pending_run *run = &w->run;
	int r;

	if (!writer_run_fits(w, state))
		return err_set(e, -EINVAL, "a run of chunks cannot have the state %d", (int)state);
	r = writer_advance(w, region, index, count, e);
	if (r < 0)
		return r;
	r = tree_set_run(w->log.regions[region].tree, index, count, state);
	if (r < 0)
		return writer_oom(w, e);
	if (run->count && run->region == region && run->state == state &&
	    run->index + run->count == index) {
		run->count += count;
		return 0;
	}
	r = writer_flush_run(w, e);
	if (r < 0)
		return r;
	*run = (struct pending_run){ region, state, index, count };
	return 0;
}

/* NOLINTNEXTLINE(readability-function-size): as many parameters as there are facts */
int image_writer_chunk(struct image_writer *w, uint32_t region, uint64_t index,
		       const struct chunk_id *id, const void *frame, size_t frame_len,
		       struct err *e)
{
	struct ambro_chunk body = { .region = le32(region), .index = le64(index), .id = *id };
	int r;

	if (!frame_len || frame_len > AMBRO_FRAME_MAX(w->manifest->chunk_size))
		return err_set(e, -EINVAL, "a frame of %zu bytes is not possible", frame_len);
	r = writer_advance(w, region, index, 1, e);
	if (r < 0)
		return r;
	r = writer_flush_run(w, e);
	if (r < 0)
		return r;
	if (w->log.n_chunks == LOCATIONS_MAX) {
		w->failed = -EFBIG;
		return err_set(
			e, -EFBIG,
			"the image would have more than %zu chunks, which its index has no room for; "
			"take larger chunks",
			(size_t)LOCATIONS_MAX);
	}
	r = tree_set(w->log.regions[region].tree, index, CHUNK_DATA, id);
	if (r < 0)
		return writer_oom(w, e);
	body.plain_len = le32((uint32_t)image_log_plain_len(&w->log, region, index, 1));
	body.frame_len = le32((uint32_t)frame_len);
	r = writer_record(w, AMBRO_RECORD_CHUNK, &body, sizeof(body), e);
	if (r < 0)
		return r;
	r = image_log_chunk(&w->log, region, index, w->bytes, (uint32_t)frame_len);
	if (r < 0)
		return writer_oom(w, e);
	r = writer_count_frames(w, 1, e);
	if (r < 0)
		return r;
	return writer_put(w, frame, frame_len, e);
}

/* What a callback needs of its caller. */
struct put_context {
	struct image_writer *w;
	struct err *e;
};

static int writer_emit_page(void *ctx, const void *page, size_t len, const struct chunk_id *id)
{
	const struct put_context *p = ctx;
	struct image_writer *w = p->w;
	const struct ambro_location location = {
		.id = *id,
		.offset = le64(w->bytes),
		.frame_len = le32((uint32_t)record_frame_len(len)),
		.plain_len = le32((uint32_t)len),
	};

	if (image_log_page(&w->log, &location) < 0)
		return writer_oom(w, p->e);
	return writer_record(w, AMBRO_RECORD_PAGE, page, len, p->e);
}

static int writer_pages(struct image_writer *w, struct err *e)
{
	struct put_context ctx = { w, e };

	for (size_t i = 0; i < w->log.n_regions; i++) {
		struct manifest_region *region = &w->manifest->regions[i];
		int r = tree_emit(w->log.regions[i].tree, writer_emit_page, &ctx, &region->root);

		if (r == -ENOMEM)
			return err_oom(e);
		if (r < 0)
			return r;
		region->depth = tree_depth(w->log.regions[i].chunks);
	}
	return 0;
}

struct index_digests {
	struct digest *record, *body;
};

static int index_hash(void *ctx, const void *buf, size_t len)
{
	struct index_digests *d = ctx;

	digest_add(d->record, buf, len);
	digest_add(d->body, buf, len);
	return 0;
}

static int log_put(void *ctx, const void *buf, size_t len)
{
	struct put_context *p = ctx;

	return writer_put(p->w, buf, len, p->e);
}

static int writer_index(struct image_writer *w, struct ambro_trailer *t, struct err *e)
{
	const uint64_t len = image_log_index_len(&w->log);
	_cleanup_(digest_freep) struct digest *record = digest_new(), *body = digest_new();
	struct index_digests digests = { record, body };
	struct put_context put = { w, e };
	struct image_log_output out = { index_hash, &digests };
	uint8_t check[DIGEST_SIZE];
	struct record_head head;
	int r;

	if (len > RECORD_BODY_MAX)
		return err_set(e, -EFBIG, "the image has more chunks than its index has room for");
	record_make_unchecked(AMBRO_RECORD_INDEX, len, &head);
	digest_add(record, &head.record, sizeof(head.record));
	image_log_index(&w->log, &out);
	digest_end(record, check);
	digest_end(body, t->index_sha256);
	memcpy(head.record.check, check, sizeof(head.record.check));
	t->index_offset = le64(w->bytes);
	t->index_frame_len = le64(record_frame_len(len));
	r = writer_count_frames(w, 1, e);
	if (r < 0)
		return r;
	r = writer_put(w, &head, sizeof(head), e);
	if (r < 0)
		return r;
	out = (struct image_log_output){ log_put, &put };
	return image_log_index(&w->log, &out);
}

static int writer_manifest(struct image_writer *w, struct ambro_trailer *t, struct err *e)
{
	_cleanup_free_ char *json = NULL;
	size_t len;
	int r;

	r = manifest_to_json(w->manifest, &json, &len, e);
	if (r < 0)
		return r;
	t->manifest_offset = le64(w->bytes);
	t->manifest_frame_len = le64(record_frame_len(len));
	digest_of(&(struct iovec){ json, len }, 1, t->manifest_sha256);
	return writer_record(w, AMBRO_RECORD_MANIFEST, json, len, e);
}

static int writer_seek_entry(struct image_writer *w, uint64_t compressed, struct err *e)
{
	struct ambro_seek_entry entry = { .compressed_size = le32((uint32_t)compressed) };

	return writer_put(w, &entry, sizeof(entry), e);
}

static int writer_seek_table(struct image_writer *w, const struct ambro_trailer *t, struct err *e)
{
	const uint64_t len = w->seek_frames * sizeof(struct ambro_seek_entry);
	const bool sparse = w->require & AMBRO_REQUIRE_SPARSE;
	struct put_context put = { w, e };
	struct ambro_seek_footer footer = { .frames = le32((uint32_t)w->seek_frames) };
	const le32_t magic = le32(AMBRO_SEEK_FOOTER_MAGIC);
	struct ambro_skippable skip = { le32(AMBRO_SEEK_SKIPPABLE),
					le32((uint32_t)(len + sizeof(footer))) };
	int r;

	memcpy(footer.magic, &magic, sizeof(footer.magic));
	r = writer_put(w, &skip, sizeof(skip), e);
	if (r >= 0)
		r = writer_seek_entry(w, record_frame_len(sizeof(struct ambro_header)), e);
	if (r >= 0 && w->require)
		r = writer_seek_entry(w, AMBRO_GUARD_SIZE, e);
	if (r >= 0)
		r = image_log_seek(&w->log, sparse, &(struct image_log_output){ log_put, &put });
	if (r >= 0)
		r = writer_seek_entry(w, le64_get(t->index_frame_len), e);
	if (r >= 0)
		r = writer_seek_entry(w, le64_get(t->manifest_frame_len), e);
	if (r >= 0)
		r = writer_seek_entry(w, AMBRO_TRAILER_FRAME_LEN, e);
	if (r >= 0)
		r = writer_put(w, &footer, sizeof(footer), e);
	return r;
}

static int writer_tail(struct image_writer *w, struct err *e)
{
	struct ambro_trailer t = { 0 };
	int r;

	r = writer_pages(w, e);
	if (r < 0)
		return r;
	r = writer_index(w, &t, e);
	if (r < 0)
		return r;
	w->manifest->data_chunks = w->log.n_chunks - w->log.n_dead;
	w->manifest->resent_chunks = w->log.n_dead;
	w->manifest->same_chunks = image_log_count(&w->log, CHUNK_SAME);
	w->manifest->stored_bytes = w->bytes;
	r = writer_manifest(w, &t, e);
	if (r < 0)
		return r;
	memcpy(t.image_id, w->manifest->image_id, sizeof(t.image_id));
	t.seek_frames = le64(w->seek_frames + 1);
	r = writer_record(w, AMBRO_RECORD_TRAILER, &t, sizeof(t), e);
	if (r < 0)
		return r;
	return writer_seek_table(w, &t, e);
}

int image_writer_finish(struct image_writer *w, struct err *e)
{
	int r;

	if (w->failed)
		return err_set(e, w->failed, "writing the image has failed before");
	if (!(w->require & AMBRO_REQUIRE_RESENT) && w->next_region != w->log.n_regions) {
		return err_set(e, -EINVAL,
			       "chunk %" PRIu64 " of region %" PRIu32
			       " and what follows it were not written",
			       w->next_index, w->next_region);
	}
	r = writer_flush_run(w, e);
	if (r >= 0 && w->require & AMBRO_REQUIRE_RESENT) {
		r = image_log_mark_dead(&w->log);
		if (r < 0)
			err_oom(e);
	}
	if (r >= 0)
		r = writer_tail(w, e);
	/* an image can be ended once only */
	w->failed = r < 0 ? r : -EPIPE;
	return r;
}
