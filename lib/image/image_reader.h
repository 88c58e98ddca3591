/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image_reader - random access to an image in a regular file; every chunk is checked.
 *
 * What is in the file is believed only after it was checked: record checks, the trailer's hashes, the
 * hash tree from its roots, each chunk's SHA-256. Hostile input is safe: sizes are held against the
 * file's before anything is allocated.
 *
 * Memory: the INDEX and an eighth of it (at most 54 bytes for each chunk with data and each page: 57 MB for 1 TiB of
 * data in chunks of 1 MiB), the manifest, and for each cursor one page for each level of the tree, at most 4 of
 * 145 KiB. It does not depend on the disk's size.
 *
 * After image_reader_open() all calls are thread-safe and may run at the same time; reads block.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/image/codec.h"
#include "lib/image/format.h"
#include "lib/image/manifest.h"

struct image_reader;

/*
 * Open an image: header, trailer, index and manifest are read and checked. @fd is borrowed and must stay
 * open. -EBADMSG: not an image, or a damaged one (the text says which and where); -ENOTSUP: it needs a
 * newer version of the tool; -ESPIPE: not a regular file or block device.
 */
int image_reader_open(int fd, struct image_reader **ret, struct err *e);
void image_reader_free(struct image_reader *r);
DEFINE_CLEANUP(struct image_reader, image_reader_free);

const struct manifest *image_reader_manifest(const struct image_reader *r);
uint64_t image_reader_require(const struct image_reader *r); /* AMBRO_REQUIRE_* */
uint64_t image_reader_size(const struct image_reader *r);    /* of the file, bytes */

/* A stretch of chunks of one state; for CHUNK_DATA always one chunk. */
struct image_run {
	enum chunk_state state;
	uint64_t index;
	uint64_t count;
	struct chunk_id id;
	/* CHUNK_DATA: */
	uint64_t offset; /* of the zstd frame in the file */
	uint32_t frame_len;
	uint32_t plain_len;
};

/*
 * The run that begins at chunk @index of @region; walks the tree, reading and checking pages as needed
 * (the last used leaf is cached inside a cursor). Returns 1, 0 behind the last chunk, or a negative errno.
 * A cursor belongs to one thread.
 */
struct image_cursor;
int image_cursor_new(const struct image_reader *r, uint32_t region, struct image_cursor **ret);
void image_cursor_free(struct image_cursor *c);
DEFINE_CLEANUP(struct image_cursor, image_cursor_free);
int image_cursor_at(struct image_cursor *c, uint64_t index, struct image_run *ret, struct err *e);
/* Pages that it has read so far. */
uint64_t image_cursor_pages(const struct image_cursor *c);
/*
 * For who walks all trees from end to end and has met @pages and @chunks (with data) so far: -EBADMSG and words when
 * that is more than the INDEX names. A page may be named by 4096 others, each of them by 4096, and so on: without this
 * limit a file of some MiB keeps a reader busy for years.
 */
int image_reader_check_use(const struct image_reader *r, uint64_t pages, uint64_t chunks,
			   struct err *e);
/* After image_cursor_at() failed: the first chunk behind those that are lost by what it could not find. */
uint64_t image_cursor_lost_end(const struct image_cursor *c);

/*
 * Read, decode and check the chunk of a CHUNK_DATA run into @plain (run->plain_len bytes). @frame is
 * scratch of at least run->frame_len bytes. -EBADMSG when a single bit is wrong, and @plain is then not
 * to be used.
 */
int image_reader_chunk(const struct image_reader *r, const struct image_run *run,
		       struct codec *codec, void *frame, void *plain, struct err *e);
/*
 * Check what reading does not need: the sequence of frames, see framing.h. 0, -EBADMSG and words, -ECANCELED, or
 * another negative errno. Reads little of a large image. @c may be NULL.
 */
int image_reader_check_framing(const struct image_reader *r, struct cancel *c, struct err *e);
/* Most bytes of a frame in this image. */
size_t image_reader_frame_max(const struct image_reader *r);
