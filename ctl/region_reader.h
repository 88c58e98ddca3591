/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * region_reader - a region of an image as bytes, at any place and in any pieces: for who looks at the file system in it.
 *
 * Chunks that were used last are kept, REGION_READER_MEMORY of them. One thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/base/extent.h"
#include "lib/image/image_reader.h"

/* Bytes. File systems jump between tables of inodes and directories, which are a few MiB at a time. */
#define REGION_READER_MEMORY ((size_t)32 << 20)

struct region_reader;

/*
 * @r and @lost are borrowed. @lost: bytes of the region, normalised, known to be lost; nothing is asked of the store for
 * these. 0, -ENOMEM, -EINVAL: no such region.
 */
int region_reader_new(const struct image_reader *r, uint32_t region, const struct extent_set *lost,
		      struct region_reader **ret);
void region_reader_free(struct region_reader *x);
DEFINE_CLEANUP(struct region_reader, region_reader_free);
/* Exactly @len bytes at @offset of the region. -EBADMSG: some of them are lost, or lie outside; other errors: no more can be read. */
int region_reader_read(struct region_reader *x, void *buf, size_t len, uint64_t offset,
		       struct err *e);
/* Bytes of chunks that were fetched so far. */
uint64_t region_reader_fetched(const struct region_reader *x);
