/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image_io - the bytes of an image file, wherever they come from: a file as it is (image_io_file()), or one that is
 * encrypted (lib/repo/sealed_reader.h).
 *
 * Blocks; reads are thread-safe.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"

struct image_io {
	/*
	 * Exactly @len bytes at @offset; they lie within `size`. Returns 0 or a negative errno with words: -EBADMSG when
	 * the bytes are damaged, or not there any more.
	 */
	int (*read)(const struct image_io *io, void *buf, size_t len, uint64_t offset,
		    struct err *e);
	uint64_t size; /* bytes */
	/* whichever read() wants; borrowed */
	void *ctx;
	int fd;
};

/* Of a regular file or a block device, else -ESPIPE; @fd is borrowed. */
int image_io_file(int fd, struct image_io *ret, struct err *e);
/* As ->read(), of any range: -EBADMSG when the image ends before. */
int image_io_read(const struct image_io *io, void *buf, size_t len, uint64_t offset, struct err *e);
