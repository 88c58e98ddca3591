/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * target - the disk, partition or file that is restored to.
 *
 * Opening it proves that nobody uses it: what could be hurt is refused with -EBUSY and the words. Until
 * target_begin() nothing on it has been changed. After that, target_zero() and target_discard() may be
 * called from many threads on ranges that do not overlap.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"

struct target {
	char *path;
	bool is_file;
	bool is_partition;
	bool created;  /* the file is ours and has never been touched: target_free() removes it */
	bool fresh;    /* an empty file: whatever is not written is a hole and reads as zeros */
	dev_t device;  /* 0 for a file */
	uint64_t size; /* bytes; a file's may be smaller than what is needed until target_begin() */
	uint32_t sector; /* logical, bytes; 512 for a file */
	uint32_t align;	 /* of offset and length on direct_fd, bytes */
	char model[128]; /* "" where there is none */
	int fd;		 /* O_RDWR, O_EXCL on a device: held until target_free() */
	int direct_fd;	 /* O_DIRECT; -EBADF where the file system has none */
	atomic_bool no_discard, no_zeroout; /* learnt on the way: not to be had here */
};

/*
 * Open @path, a block device or a regular file (created when absent), for @need bytes. @image_fd: the image,
 * which must not be in the way. Refused (-EBUSY, with words): mounted, swapped on, held, open exclusively,
 * read-only, too small, zoned, the image itself or the disk it lies on.
 */
int target_open(const char *path, uint64_t need, int image_fd, struct target **ret, struct err *e);
/* Accepts NULL. */
void target_free(struct target *t);
DEFINE_CLEANUP(struct target, target_free);

/* Direct I/O is done with offsets that are multiples of @unit at best: without it when that is too little. */
void target_require_unit(struct target *t, uint64_t unit);
/*
 * The point of no return: a file grows to @need bytes, a disk's partitions leave the kernel (so that no
 * one can open what is about to change).
 */
int target_begin(struct target *t, uint64_t need, struct err *e);
/* Make a range read as zeros: the device's own way, a hole in a file, or written zeros. Blocks. */
int target_zero(struct target *t, uint64_t offset, uint64_t len, struct err *e);
/* Give a range back to the device or file system. Returns 1 when it did, 0 when that is not to be had. */
int target_discard(struct target *t, uint64_t offset, uint64_t len, struct err *e);
/* Everything written so far is on the medium, and the page cache of a device is empty. Blocks. */
int target_flush(struct target *t, struct err *e);
/* Forget cached pages, so that reads come from the medium. */
void target_drop_cache(const struct target *t);
