/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stream_reader - an image or a delta stream (docs/FORMAT.md), front to back, from a pipe, socket or file.
 *
 * Never seeks. Every record's check and lengths are held against what is possible before anything is believed or
 * allocated; the order of records, the guard, and what TRAILER says of INDEX and MANIFEST are checked too. Frames of
 * chunks are not decoded: whether they are what their ids say is the caller's business. Hostile input is safe.
 *
 * Memory: 1 MiB, one frame of the greatest length, and the manifest. Frames are not copied: an item points into the
 * buffer that read(2) filled. Not thread-safe.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/image/format.h"

struct stream_reader;

/* What the HEADER says, checked. */
struct stream_header {
	unsigned int chunk_shift;
	uint64_t require; /* AMBRO_REQUIRE_* */
	uint8_t image_id[16];
	uint64_t disk_size; /* bytes */
	uint32_t sector_size;
	uint32_t regions; /* 1 … 65536 */
	uint64_t created_ns;
};

/* One record. Pointers are good until the next call. */
struct stream_item {
	enum ambro_record_type type;
	/* CHUNK and RUN; regions' lengths are unknown here, so the place is only known to be on a disk of this size */
	uint32_t region;
	uint64_t index;
	uint64_t count; /* CHUNK: 1 */
	uint64_t plain_len;
	enum chunk_state state; /* CHUNK: CHUNK_DATA */
	/* CHUNK */
	struct chunk_id id;
	const void *frame;
	uint32_t frame_len;
	/* PAGE and MANIFEST */
	const void *body;
	size_t body_len;
};

/* @fd is borrowed, as @c, which may be NULL. 0 or -ENOMEM. */
int stream_reader_new(int fd, struct cancel *c, struct stream_reader **ret);
void stream_reader_free(struct stream_reader *s);
DEFINE_CLEANUP(struct stream_reader, stream_reader_free);
/*
 * The next record; the first is the HEADER, then come CHUNK and RUN, PAGE, INDEX, MANIFEST, TRAILER. Returns 1; 0 when
 * the stream ended as it should, with nothing behind it; -ENODATA when it was cut off; -EBADMSG when it is damaged or no
 * such stream; -ENOTSUP when it needs a newer tool; -ECANCELED; or a negative errno of reading.
 */
int stream_reader_next(struct stream_reader *s, struct stream_item *ret, struct err *e);
/* Once the HEADER was returned. */
const struct stream_header *stream_reader_header(const struct stream_reader *s);
/* Bytes of the stream that were taken so far. */
uint64_t stream_reader_bytes(const struct stream_reader *s);
