/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image_writer - an image, front to back, into a sink that may be a pipe.
 *
 * Invariants:
 *  1. Nothing is ever written twice or seeked back to: the sink sees one forward stream.
 *  2. Without image_writer_finish() having returned 0 the stream is not an image: INDEX, MANIFEST and
 *     TRAILER are missing.
 *  3. Without AMBRO_REQUIRE_RESENT, chunks and runs must come in disk order and each exactly once, so
 *     that the plain decompression is the disk; another order is refused with -EINVAL.
 *  4. With AMBRO_REQUIRE_RESENT, the last word on a chunk counts.
 *  5. With AMBRO_REQUIRE_PARENT, which needs RESENT and SPARSE too, a run may be SAME: a delta stream.
 *
 * Not thread-safe: one thread writes.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/image/format.h"
#include "lib/image/manifest.h"

/* Where the bytes go. Takes all of @len or fails; may block. Returns 0 or a negative errno. */
struct image_sink {
	int (*write)(void *ctx, const void *buf, size_t len);
	void *ctx;
};

struct image_writer;

/*
 * Above so much of nothing the frames of zeros (32 MiB for each TiB of it) are left out by AMBRO_REQUIRE_SPARSE, and the
 * image needs ambroctl.
 */
#define IMAGE_SPARSE_BYTES (UINT64_C(4) << 40)

/*
 * Start an image and write its header (and guard). From @m are taken: image_id, created_ns, disk_size,
 * logical_sector, chunk_size and the regions' start and length, all of which must be final. @m is
 * borrowed until image_writer_free(). @require: AMBRO_REQUIRE_* bits.
 */
int image_writer_new(const struct image_sink *sink, struct manifest *m, uint64_t require,
		     struct image_writer **ret, struct err *e);
void image_writer_free(struct image_writer *w);
DEFINE_CLEANUP(struct image_writer, image_writer_free);

/* A chunk with data: its id and its zstd frame, made by codec_compress(). */
int image_writer_chunk(struct image_writer *w, uint32_t region, uint64_t index,
		       const struct chunk_id *id, const void *frame, size_t frame_len,
		       struct err *e);
/* @count chunks from @index on are @state (FREE, ZERO, BAD, or, with PARENT, SAME). */
int image_writer_run(struct image_writer *w, uint32_t region, uint64_t index, uint64_t count,
		     enum chunk_state state, struct err *e);
/*
 * Pages, index, manifest, trailer, seek table. Fills the manifest's region roots and depths, data_chunks,
 * resent_chunks, same_chunks and stored_bytes (what had been written before the manifest); everything else in
 * it must be final. Chunks never spoken of are FREE (only possible with RESENT).
 */
int image_writer_finish(struct image_writer *w, struct err *e);

/* Bytes given to the sink so far. */
uint64_t image_writer_bytes(const struct image_writer *w);
