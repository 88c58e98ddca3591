/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * medium - true looks at a live block device for tools that read through the page cache.
 *
 * A buffered read of a mounted disk's block device may be stale (measured: thousands of blocks). Two ways
 * round it: a sparse memfd of the same size with chosen parts copied in by O_DIRECT reads, and a read-only
 * loop device with direct I/O, whose own page cache is fresh.
 */
#pragma once

#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/extent.h"

/*
 * A memfd of @size bytes in which @parts (bytes, sector-aligned) are as on @direct_fd, and zero where that
 * cannot be read. Owned by the caller.
 */
int medium_copy(int direct_fd, uint64_t size, const struct extent_set *parts, int *ret_fd,
		struct err *e);

struct medium_view {
	int fd;	       /* of the loop device; -EBADF: none */
	char path[32]; /* /dev/loopN */
};
/*
 * A read-only loop device (LO_FLAGS_DIRECT_IO where possible, AUTOCLEAR, so that it vanishes with the
 * last descriptor even if we are killed) over [offset, offset + length) of @backing_fd.
 */
int medium_view_open(int backing_fd, uint64_t offset, uint64_t length, struct medium_view *ret,
		     struct err *e);
/* A loop device for reading and writing over the whole file @backing_fd, AUTOCLEAR too. */
int medium_store_open(int backing_fd, struct medium_view *ret, struct err *e);
void medium_view_close(struct medium_view *v);
