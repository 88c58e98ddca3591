/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * codec - chunks to zstd frames and back, and their ids.
 *
 * A codec holds the contexts of one thread: not thread-safe, make one per thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/image/format.h"

struct codec;

/* Named levels of the command line. "fast", "default", "max" or a number -7 … 19. Returns 0 or -EINVAL. */
#define CODEC_LEVEL_FAST    (-5)
#define CODEC_LEVEL_DEFAULT 1
#define CODEC_LEVEL_MAX	    19
int codec_level_parse(const char *text, int *ret);

/* @level as above; a codec that only decodes ignores it. Returns 0, -ENOMEM or -EINVAL. */
int codec_new(int level, struct codec **ret);
void codec_free(struct codec *c);
DEFINE_CLEANUP(struct codec, codec_free);

/* The most that codec_compress() can need for @plain_len bytes. */
size_t codec_bound(size_t plain_len);
/*
 * One frame with content size and checksum. What does not compress (a sample decides) is stored in raw
 * blocks, fast. Returns the frame's length, or a negative errno.
 */
ssize_t codec_compress(struct codec *c, const void *plain, size_t plain_len, void *frame,
		       size_t frame_size);
/*
 * Decode exactly one frame of @frame_len bytes that gives exactly @plain_len bytes; anything else is
 * -EBADMSG. Hostile input is safe.
 */
int codec_decompress(struct codec *c, const void *frame, size_t frame_len, void *plain,
		     size_t plain_len);

/* The id of a chunk or a page: see AMBRO_ID_LEAF. */
void chunk_id_of(const void *plain, size_t len, struct chunk_id *ret);
bool chunk_id_equal(const struct chunk_id *a, const struct chunk_id *b);
/* The first AMBRO_CHECK_SIZE bytes of SHA-256 over two pieces (a record's head and body). */
void record_check(const void *head, size_t head_len, const void *body, size_t body_len,
		  uint8_t ret[AMBRO_CHECK_SIZE]);

/* Are all @len bytes zero? Memory speed. */
bool chunk_is_zero(const void *plain, size_t len);

/* Most plain bytes in one frame of zeros: 32 KiB of frame for each GiB. */
#define CODEC_ZERO_FRAME_MAX (UINT64_C(1) << 30)
/* Length of the frame that gives @plain_len zeros (1 … CODEC_ZERO_FRAME_MAX). */
size_t codec_zero_frame_len(uint64_t plain_len);
/* Make it; @frame holds codec_zero_frame_len(@plain_len) bytes. */
void codec_zero_frame(uint64_t plain_len, uint8_t *frame);
