/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image_index - an INDEX in memory: from an id to its place in the file.
 *
 * Takes at most 54 bytes per location: its 48 in the file, 4 for its place in a bucket, 2 for the bucket. What is
 * in memory was in the file, so a count alone cannot make it large. Immutable once made, so any number of threads
 * may look things up.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/image/format.h"

/* A stretch of the file. */
struct image_span {
	uint64_t offset;
	uint64_t length;
};

/* Where the frame of a chunk or a page is. */
struct image_place {
	uint64_t offset;
	uint32_t frame_len;
	uint32_t plain_len;
	uint32_t container; /* which of many files or packs; here always 0 */
};

struct image_index;

/*
 * From an INDEX's body, which is taken over in any case. All locations must lie within @within, chunks be no
 * larger than @chunk_size, and no two of a group overlap; -EBADMSG otherwise. Hostile input is safe.
 */
int image_index_new(void *body, size_t len, const struct image_span *within, uint64_t chunk_size,
		    struct image_index **ret, struct err *e);
void image_index_free(struct image_index *x);
DEFINE_CLEANUP(struct image_index, image_index_free);

/* 0 or -ENOENT. */
int image_index_chunk(const struct image_index *x, const struct chunk_id *id,
		      struct image_place *ret);
int image_index_page(const struct image_index *x, const struct chunk_id *id,
		     struct image_place *ret);
/* -EBADMSG and words when that is more than it names. */
int image_index_check_use(const struct image_index *x, uint64_t pages, uint64_t chunks,
			  struct err *e);
/* The longest frame of a chunk. */
uint32_t image_index_frame_max(const struct image_index *x);
