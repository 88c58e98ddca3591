/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * disk_writer - buffers that are borrowed, filled, and written to their place by io_uring.
 *
 * The borrow is the back-pressure: disk_writer_buffer() waits for a write to end when all buffers are on
 * their way. A writer belongs to one thread; several writers may write to the same target, as long as
 * their ranges do not overlap. Where the kernel refuses io_uring, the same calls write at once.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"

struct disk_writer;

struct disk_writer_options {
	int fd;		    /* through the page cache, for what is not aligned; borrowed */
	int direct_fd;	    /* O_DIRECT; -EBADF: everything goes through @fd; borrowed */
	uint32_t align;	    /* what O_DIRECT wants of offset and length, bytes, a power of two */
	size_t size;	    /* of a buffer, bytes */
	unsigned int depth; /* buffers */
};

/* Returns 0 or a negative errno. */
int disk_writer_new(const struct disk_writer_options *o, struct disk_writer **ret);
/* Waits for what is on its way. Accepts NULL. */
void disk_writer_free(struct disk_writer *w);
DEFINE_CLEANUP(struct disk_writer, disk_writer_free);

/*
 * Borrow a page-aligned buffer; blocks while there is none. Fails when an earlier write failed. What was
 * borrowed goes back by disk_writer_write() or disk_writer_return().
 */
int disk_writer_buffer(struct disk_writer *w, void **ret, struct err *e);
void disk_writer_return(struct disk_writer *w, void *buffer);
/*
 * Write the first @len bytes of the borrowed @buffer to @offset, and take it back, also on failure.
 * Returns before the bytes are written; they are once disk_writer_drain() has returned 0 (and durable
 * after an fsync).
 */
int disk_writer_write(struct disk_writer *w, void *buffer, size_t len, uint64_t offset,
		      struct err *e);
/* Wait for every write. Fails when any of them failed since the last drain. */
int disk_writer_drain(struct disk_writer *w, struct err *e);
