/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/image_io.h"

#include <errno.h>
#include <inttypes.h>

#include "lib/base/io.h"

static int file_read(const struct image_io *io, void *buf, size_t len, uint64_t offset,
		     struct err *e)
{
	int r = io_pread_all(io->fd, buf, len, offset);

	if (r == -ENODATA)
		return err_set(e, -EBADMSG, "the image became shorter while it was read");
	return r < 0 ? err_set_errno(e, r, "cannot read the image at byte %" PRIu64, offset) : 0;
}

int image_io_file(int fd, struct image_io *ret, struct err *e)
{
	uint64_t size;
	int r = io_size(fd, &size);

	if (r == -ENOTBLK) {
		return err_set(e, -ESPIPE,
			       "an image can be read from a regular file or a block device only");
	}
	if (r < 0)
		return err_set_errno(e, r, "cannot tell the image's size");
	*ret = (struct image_io){ .read = file_read, .size = size, .fd = fd };
	return 0;
}

int image_io_read(const struct image_io *io, void *buf, size_t len, uint64_t offset, struct err *e)
{
	if (offset > io->size || len > io->size - offset) {
		return err_set(e, -EBADMSG, "the image ends too early, at byte %" PRIu64, io->size);
	}
	return io->read(io, buf, len, offset, e);
}
