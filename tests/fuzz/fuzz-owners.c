/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose bytes are these? Of a device as patches.h makes it. The first byte: bits 0 and 1, the kind of file system; bit 2,
 * check values are mended before; bit 3, something of what is asked for cannot be read.
 */
#include <endian.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <ext2fs/ext2fs.h>

#include "lib/base/io.h"
#include "lib/layout/owners.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/patches.h"

#define KIND	    3u
#define MEND_CHECKS 4u
#define LOSE	    8u
#define BLOCK_MAX   65536u

/* Every so many-eth read is lost. */
#define LOSE_EVERY 7u

static const char *const kinds[] = { "ext4", "xfs", "btrfs", "ext2" };
static uint8_t block[BLOCK_MAX];

/* What of an xfs has a check value (CRC-32C, where 0 stands in its place). */
static const struct mark {
	const char *magic;
	unsigned int magic_at, check_at;
	enum {
		SECTOR,
		INODE,
		BLOCK
	} length;
} marks[] = {
	{ "XFSB", 0, 224, SECTOR },   { "XAGF", 0, 216, SECTOR },   { "XAGI", 0, 312, SECTOR },
	{ "IN", 0, 100, INODE },      { "IAB3", 0, 52, BLOCK },	    { "FIB3", 0, 52, BLOCK },
	{ "BMA3", 0, 64, BLOCK },     { "XDB3", 0, 4, BLOCK },	    { "XDD3", 0, 4, BLOCK },
	{ "\x3d\xf1", 8, 12, BLOCK }, { "\x3d\xff", 8, 12, BLOCK }, { "\x3e\xbe", 8, 12, BLOCK },
	{ "\x3b\xee", 8, 12, BLOCK }, { "XSLM", 0, 12, BLOCK },
};

struct device {
	const struct patched *patched;
	unsigned int reads;
};

static int device_read(void *ctx, void *buf, size_t len, uint64_t offset, struct err *e)
{
	struct device *d = ctx;

	FUZZ_CHECK(offset <= d->patched->length && len <= d->patched->length - offset);
	if (d->patched->how & LOSE && ++d->reads % LOSE_EVERY == 0)
		return err_set(e, -EBADMSG, "lost");
	return io_pread_all(d->patched->fd, buf, len, offset);
}

static void mend_at(const struct patched *d, uint64_t at, size_t len, size_t check_at)
{
	const le32_t none = le32(0);
	le32_t crc;

	if (at >= d->length || len > d->length - at || len > BLOCK_MAX || check_at + 4 > len ||
	    io_pread_all(d->fd, block, len, at) < 0)
		return;
	memcpy(block + check_at, &none, sizeof(none));
	crc = le32(~ext2fs_crc32c_le(UINT32_MAX, block, len));
	memcpy(block + check_at, &crc, sizeof(crc));
	patched_write(d, block, len, at);
}

static void mend_xfs(const struct patched *d, uint64_t at, const uint8_t super[512])
{
	const size_t lengths[] = {
		[SECTOR] = (size_t)super[102] << 8 | super[103],
		[INODE] = (size_t)super[104] << 8 | super[105],
		[BLOCK] = (size_t)super[6] << 8 | super[7],
	};
	uint8_t head[16];

	if (at >= d->length || d->length - at < sizeof(head) ||
	    io_pread_all(d->fd, head, sizeof(head), at) < 0)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
		const struct mark *m = &marks[i];

		if (!memcmp(head + m->magic_at, m->magic, strlen(m->magic)))
			mend_at(d, at, lengths[m->length], m->check_at);
	}
}

/* A super block, or a block of a tree: their check values are of all that follows them. */
static void mend_btrfs(const struct patched *d, uint64_t at, const uint8_t super[512])
{
	le32_t node, crc;
	size_t len;

	memcpy(&node, super + 148, sizeof(node));
	len = at == 65536 ? 4096 : le32_get(node);
	if (len <= 32 || len > BLOCK_MAX || at >= d->length || len > d->length - at ||
	    io_pread_all(d->fd, block, len, at) < 0)
		return;
	crc = le32(~ext2fs_crc32c_le(UINT32_MAX, block + 32, len - 32));
	memset(block, 0, 32);
	memcpy(block, &crc, sizeof(crc));
	patched_write(d, block, len, at);
}

static void mend(const struct patched *d, const uint8_t *p, const uint8_t *end)
{
	const unsigned int kind = d->how & KIND;
	uint8_t super[512];

	if (kind != 1 && kind != 2)
		return;
	if (d->length < 131072 || io_pread_all(d->fd, super, 512, kind == 1 ? 0 : 65536) < 0)
		return;
	for (p += 5; p < end;) {
		const uint64_t at = patches_take(&p, end, 4) * PATCH_SECTOR;
		size_t n = patches_take(&p, end, 2);

		n = MIN(n, (size_t)(end - p));
		if (kind == 2)
			mend_btrfs(d, at, super);
		for (size_t i = 0; i < n && kind == 1; i += PATCH_SECTOR)
			mend_xfs(d, at + i, super);
		p += n;
	}
}

/* What was asked for is there once: owned, or another's. */
static void check(const struct owners *o, const struct extent_set *wanted)
{
	_cleanup_extents_ struct extent_set all = { 0 };

	for (size_t i = 0; i < o->count; i++) {
		const struct owner *x = &o->items[i];

		FUZZ_CHECK(x->length && (!i || x[-1].at <= x->at));
		FUZZ_CHECK(!x->path || x->path[0] == '/');
		FUZZ_CHECK(!extent_set_overlaps(&o->others, x->at, x->length));
		FUZZ_CHECK(extent_set_add(&all, x->at, x->length) == 0);
	}
	extent_for_each(e, &o->others)
		FUZZ_CHECK(extent_set_add(&all, e->start, e->length) == 0);
	extent_set_normalise(&all);
	FUZZ_CHECK(o->more || extent_set_total(&all) == extent_set_total(wanted));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(patched_done) struct patched d = { .fd = -EBADF };
	_cleanup_extents_ struct extent_set wanted = { 0 };
	_cleanup_(owners_done) struct owners o = { 0 };
	struct device device = { .patched = &d };
	struct owners_io io = { .read = device_read, .ctx = &device };
	struct err e = { 0 };
	int r;

	if (!patches_apply(data, size, &d))
		return 0;
	if (d.how & MEND_CHECKS)
		mend(&d, data, data + size);
	io.size = d.length;
	FUZZ_CHECK(extent_set_add(&wanted, 0, d.length) == 0);
	r = owners_find(kinds[d.how & KIND], &io, &wanted, NULL, &o, &e);
	if (r < 0) {
		FUZZ_CHECK(e.code == r && *e.text);
		return 0;
	}
	check(&o, &wanted);
	return 0;
}
