/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * patches - a large and nearly empty device out of a small input; make-fs-seeds.py writes such inputs. All numbers are
 * little-endian: one byte for the target's own use, 32 bits of sectors that the device has, then as often as there is
 * something left: 32 bits of the sector where it goes, 16 bits of how many bytes, and these.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/base/extent.h"
#include "lib/base/io.h"
#include "lib/base/le.h"
#include "tests/fuzz/fuzz.h"

#define PATCH_SECTOR UINT64_C(512)

struct patched {
	uint8_t how;
	int fd; /* a memfd */
	uint64_t length;
	char path[32];
};

static inline uint64_t patches_take(const uint8_t **p, const uint8_t *end, size_t bytes)
{
	le64_t v = le64(0);
	size_t n = MIN(bytes, (size_t)(end - *p));

	memcpy(&v, *p, n);
	*p += n;
	return le64_get(v);
}

/* But for what lies behind the device's end. */
static inline void patched_write(const struct patched *d, const void *p, size_t n, uint64_t at)
{
	if (at < d->length)
		FUZZ_CHECK(io_pwrite_all(d->fd, p, MIN(n, d->length - at), at) == 0);
}

/* Returns false when there is too little of it. */
static inline bool patches_apply(const uint8_t *p, size_t size, struct patched *ret)
{
	const uint8_t *end = p + size;

	*ret = (struct patched){ .fd = -EBADF };
	if (size < 5)
		return false;
	ret->how = (uint8_t)patches_take(&p, end, 1);
	ret->length = patches_take(&p, end, 4) * PATCH_SECTOR;
	ret->fd = memfd_create("device", MFD_CLOEXEC);
	FUZZ_CHECK(ret->fd >= 0 && ftruncate(ret->fd, (off_t)ret->length) == 0);
	snprintf(ret->path, sizeof(ret->path), "/proc/self/fd/%d", ret->fd);
	while (p < end) {
		uint64_t at = patches_take(&p, end, 4) * PATCH_SECTOR;
		size_t n = patches_take(&p, end, 2);

		n = MIN(n, (size_t)(end - p));
		patched_write(ret, p, n, at);
		p += n;
	}
	return true;
}

static inline void patched_done(struct patched *d)
{
	close_fd(d->fd);
}

/* The extents are sorted, apart, and on the device. */
static inline void patched_check(const struct patched *d, const struct extent_set *used)
{
	uint64_t end = 0;

	extent_for_each(e, used) {
		FUZZ_CHECK(e->length && (e == used->items || e->start > end));
		FUZZ_CHECK(e->start < d->length && e->length <= d->length - e->start);
		end = extent_end(e);
	}
}

/* What usedblocks_*() said of it is no contradiction. Returns whether there is a map. */
static inline bool patched_verdict(const struct patched *d, int r, const struct err *e,
				   const struct extent_set *used)
{
	if (r == 0) {
		FUZZ_CHECK(*e->text && !used->items);
		return false;
	}
	FUZZ_CHECK(r == 1);
	patched_check(d, used);
	return true;
}

/* All of [start, end) is used. */
static inline bool patched_used(const struct extent_set *used, uint64_t start, uint64_t end)
{
	size_t i = extent_set_find(used, start);

	return i < used->count && used->items[i].start <= start &&
	       extent_end(&used->items[i]) >= end;
}
