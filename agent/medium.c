/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/medium.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fs.h>
#include <linux/loop.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"

/* One read; large enough that the number of requests does not matter. */
#define MEDIUM_PIECE_BYTES (1u << 20)
/* Direct I/O wants memory, offset and length in logical sectors: none is larger than this. */
#define MEDIUM_ALIGN_BYTES 4096u
/* Another program may take the free loop device between our asking for it and taking it. */
#define MEDIUM_LOOP_TRIES 64

static int medium_copy_piece(int direct_fd, int fd, uint64_t at, size_t want, uint64_t end,
			     uint8_t *buf)
{
	ssize_t got = io_pread_some(direct_fd, buf, want, at);

	if (got < 0)
		return (int)got;
	if ((uint64_t)got < MIN((uint64_t)want, end - at))
		return -ENODATA;
	return io_pwrite_all(fd, buf, (size_t)MIN((uint64_t)got, end - at), at);
}

/*
 * What cannot be read stays zero: then nothing is known of what lies there, and all of it will be read, or
 * not, by who knows how to count it as lost.
 */
static int medium_copy_extent(int direct_fd, int fd, uint64_t size, const struct extent *x,
			      uint8_t *buf)
{
	uint64_t at = ROUND_DOWN(x->start, MEDIUM_ALIGN_BYTES);
	uint64_t end = MIN(extent_end(x), size), step = MEDIUM_PIECE_BYTES, careful_to = 0;

	while (at < end) {
		size_t want = (size_t)MIN(ROUND_UP(end - at, MEDIUM_ALIGN_BYTES), step);
		int r = medium_copy_piece(direct_fd, fd, at, want, end, buf);

		if (r == -EIO && want > MEDIUM_ALIGN_BYTES) {
			careful_to = at + want;
			step = MEDIUM_ALIGN_BYTES;
			continue;
		}
		if (r < 0 && r != -EIO)
			return r;
		at += (uint64_t)want;
		if (at >= careful_to)
			step = MEDIUM_PIECE_BYTES;
	}
	return 0;
}

int medium_copy(int direct_fd, uint64_t size, const struct extent_set *parts, int *ret_fd,
		struct err *e)
{
	_cleanup_close_ int fd = memfd_create("ambro-medium", MFD_CLOEXEC);
	_cleanup_free_ uint8_t *buf = aligned_alloc(MEDIUM_ALIGN_BYTES, MEDIUM_PIECE_BYTES);
	int r;

	if (!buf)
		return err_oom(e);
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		return err_set_errno(e, -errno, "memory for a copy of the partition table");
	extent_for_each(x, parts) {
		r = medium_copy_extent(direct_fd, fd, size, x, buf);
		if (r < 0) {
			return err_set_errno(e, r, "read of %llu bytes at %llu",
					     (unsigned long long)x->length,
					     (unsigned long long)x->start);
		}
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* Take the free loop device @fd for the range that @config describes. -EBUSY: someone was faster. */
static int view_configure(int fd, struct loop_config *config, bool need_direct)
{
	struct loop_info64 info;

	if (ioctl(fd, LOOP_CONFIGURE, config) < 0)
		return -errno;
	/* the kernel drops direct I/O without a word where the backing file cannot have it */
	if (ioctl(fd, LOOP_GET_STATUS64, &info) < 0 ||
	    (need_direct && !(info.lo_flags & LO_FLAGS_DIRECT_IO))) {
		ioctl(fd, LOOP_CLR_FD, 0);
		return -ENOTSUP;
	}
	return 0;
}

/* A free loop device as @config describes. */
static int view_open(struct loop_config *config, bool need_direct, struct medium_view *ret,
		     struct err *e)
{
	_cleanup_close_ int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int mode = config->info.lo_flags & LO_FLAGS_READ_ONLY ? O_RDONLY : O_RDWR;
	int r = -EBUSY;

	if (control < 0)
		return err_set_errno(e, -errno, "/dev/loop-control");
	for (int i = 0; i < MEDIUM_LOOP_TRIES && r == -EBUSY; i++) {
		_cleanup_close_ int fd = -EBADF;
		char path[sizeof(ret->path)];
		int number = ioctl(control, LOOP_CTL_GET_FREE);

		if (number < 0)
			return err_set_errno(e, -errno, "no free loop device");
		snprintf(path, sizeof(path), "/dev/loop%d", number);
		fd = open(path, mode | O_CLOEXEC);
		r = fd < 0 ? -errno : view_configure(fd, config, need_direct);
		if (r < 0)
			continue;
		memcpy(ret->path, path, sizeof(path));
		ret->fd = TAKE_FD(fd);
		return 0;
	}
	return err_set_errno(e, r, "loop device%s", need_direct ? " with direct I/O" : "");
}

int medium_view_open(int backing_fd, uint64_t offset, uint64_t length, struct medium_view *ret,
		     struct err *e)
{
	struct loop_config config = { .fd = (unsigned int)backing_fd };
	int sector = 512;
	bool block;
	struct stat st;

	if (fstat(backing_fd, &st) < 0)
		return err_set_errno(e, -errno, "the source");
	block = S_ISBLK(st.st_mode);
	if (block && ioctl(backing_fd, BLKSSZGET, &sector) < 0)
		return err_set_errno(e, -errno, "sector size of the source");
	config.block_size = (unsigned int)sector;
	config.info.lo_offset = offset;
	config.info.lo_sizelimit = length;
	config.info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
	return view_open(&config, block, ret, e);
}

int medium_store_open(int backing_fd, struct medium_view *ret, struct err *e)
{
	struct loop_config config = { .fd = (unsigned int)backing_fd };

	config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
	return view_open(&config, false, ret, e);
}

void medium_view_close(struct medium_view *v)
{
	v->fd = close_fd(v->fd);
	v->path[0] = '\0';
}
