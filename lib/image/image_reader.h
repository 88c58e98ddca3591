/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image_reader - random access to an image, wherever its pages and chunks are; every chunk is checked.
 *
 * An image is a manifest, the hash trees whose roots it names, and the chunks that these name. Where pages and chunks
 * are, a source knows (struct image_source_ops): a single file (image_source_file.c), or a repository.
 *
 * What a source gives is believed only after it was checked: the hash tree from its roots, each chunk's id. So a
 * source may be wrong or hostile and no wrong byte comes out; it has to keep to its own memory, and to bound what it
 * allocates.
 *
 * Memory: the source's and the manifest, and for each cursor one page for each level of the tree, at most 4 of
 * 145 KiB. It does not depend on the disk's size. A file's source holds the INDEX and an eighth of it: at most 54
 * bytes for each chunk with data and each page, 57 MB for 1 TiB of data in chunks of 1 MiB.
 *
 * Once there is a reader, all calls are thread-safe and may run at the same time; reads block.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/image/codec.h"
#include "lib/image/format.h"
#include "lib/image/image_index.h"
#include "lib/image/image_io.h"
#include "lib/image/manifest.h"

struct image_reader;

/* A stretch of chunks of one state; for CHUNK_DATA always one chunk. */
struct image_run {
	enum chunk_state state; /* never CHUNK_SAME: an image that is read is whole */
	uint64_t index;
	uint64_t count;
	struct chunk_id id;
	/* CHUNK_DATA: */
	uint32_t container; /* which of the source's files or packs; 0 where there is only one */
	uint64_t offset;    /* of the zstd frame in it */
	uint32_t frame_len;
	uint32_t plain_len;
	/*
	 * Bytes of the container that are going to be wanted one soon after the other, this frame among them (chunk_order.h):
	 * a source may read them in one go. Length 0: nobody knows.
	 */
	struct image_span piece;
};

/*
 * Where an image's pages and chunks come from. Calls block; any number of threads make them at the same time. They
 * return 0 or a negative errno with words in @e: -EBADMSG for what is damaged, or missing where it should be, -EIO for
 * what the medium does not give; with these a verification goes on, any other error ends it.
 */
struct image_source_ops {
	/*
	 * The body of a page, to be freed by the caller; it has at most AMBRO_PAGE_MAX bytes. It need not
	 * be the right one: the reader holds it against @id. -ENOENT: there is none, no words needed.
	 */
	int (*page)(void *ctx, const struct chunk_id *id, void **ret_body, size_t *ret_len,
		    struct err *e);
	/* Where a chunk's frame is; reads no chunk. -ENOENT as above. */
	int (*find)(void *ctx, const struct chunk_id *id, struct image_place *ret, struct err *e);
	/* The zstd frame of a run that was made of what find() told: all run->frame_len bytes of it. */
	int (*frame)(void *ctx, const struct image_run *run, void *frame, struct err *e);
	/* image_reader_check_use(), see there: the bounds must be such as no hostile tree can move. */
	int (*check_use)(void *ctx, uint64_t pages, uint64_t chunks, struct err *e);
	/* image_reader_check_framing(); NULL: there is nothing between the chunks. */
	int (*check_framing)(void *ctx, struct cancel *c, struct err *e);
	/* Words for people: where a run is ("byte 4711 of pack 5f…"). NULL: "byte 4711 of the image". */
	void (*where)(void *ctx, const struct image_run *run, char *buf, size_t size);
	/* Most bytes of a frame that find() ever tells; NULL: AMBRO_FRAME_MAX() of the chunk size. */
	size_t (*frame_max)(void *ctx);
	void (*free)(void *ctx); /* may be NULL */
};

/*
 * A reader of the image that @m describes, from any source. @ops is borrowed and must stay; @ctx and @m are taken over
 * in any case. @require: AMBRO_REQUIRE_*, @size: stored bytes, both only for image_reader_require() and _size().
 * 0 or -ENOMEM.
 */
int image_reader_new(const struct image_source_ops *ops, void *ctx, struct manifest *m,
		     uint64_t require, uint64_t size, struct image_reader **ret);
/*
 * Open an image in a file (image_source_file.c): header, trailer, index and manifest are read and checked; sizes are
 * held against the file's before anything is allocated. @fd is borrowed and must stay open. -EBADMSG: not an image,
 * or a damaged one (the text says which and where); -ENOTSUP: it needs a newer version of the tool, or it is an
 * increment, which alone is not whole; -ESPIPE: not a regular file or block device.
 */
int image_reader_open(int fd, struct image_reader **ret, struct err *e);
/* The same of bytes from elsewhere; *@io is copied, what it points to must stay. */
int image_reader_open_io(const struct image_io *io, struct image_reader **ret, struct err *e);
void image_reader_free(struct image_reader *r);
DEFINE_CLEANUP(struct image_reader, image_reader_free);

const struct manifest *image_reader_manifest(const struct image_reader *r);
uint64_t image_reader_require(const struct image_reader *r); /* AMBRO_REQUIRE_* */
uint64_t image_reader_size(const struct image_reader *r);    /* of the file, bytes */

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
 * that is more than the source can have (a file: more than its INDEX names). A page may be named by 4096 others, each
 * of them by 4096, and so on: without this limit a file of some MiB keeps a reader busy for years.
 */
int image_reader_check_use(const struct image_reader *r, uint64_t pages, uint64_t chunks,
			   struct err *e);
/* After image_cursor_at() failed: the first chunk behind those that are lost by what it could not find. */
uint64_t image_cursor_lost_end(const struct image_cursor *c);

/*
 * Read, decode and check the chunk of a CHUNK_DATA run into @plain (run->plain_len bytes). @frame is
 * scratch of at least run->frame_len bytes, and holds the chunk's zstd frame afterwards. -EBADMSG when
 * a single bit is wrong, and neither is then to be used.
 */
int image_reader_chunk(const struct image_reader *r, const struct image_run *run,
		       struct codec *codec, void *frame, void *plain, struct err *e);
/*
 * Check what reading does not need: in a file the sequence of frames, see framing.h. 0, -EBADMSG and words,
 * -ECANCELED, or another negative errno. Reads little of a large image. @c may be NULL.
 */
int image_reader_check_framing(const struct image_reader *r, struct cancel *c, struct err *e);
/* Most bytes of a frame in this image. */
size_t image_reader_frame_max(const struct image_reader *r);
