/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The free-space trees of an xfs, on a device as patches.h makes it. The first byte says what is mended before:
 * bit 0, the check values; bit 1, also what a block says of its place.
 */
#include <endian.h>
#include <stdint.h>
#include <string.h>

#include <ext2fs/ext2fs.h>

#include "lib/layout/usedblocks_xfs.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/patches.h"

#define MEND_CHECKS 1u
#define MEND_PLACES 2u

static uint8_t block[65536];

struct super {
	uint32_t block, sector, ag_blocks;
	uint8_t uuid[16];
};

static void mend_check(size_t len, size_t at)
{
	le32_t crc = le32(0);

	memcpy(block + at, &crc, sizeof(crc));
	crc = le32(~ext2fs_crc32c_le(UINT32_MAX, block, len));
	memcpy(block + at, &crc, sizeof(crc));
}

static void mend_block(const struct patched *d, const struct super *s, uint64_t at)
{
	const uint64_t daddr = htobe64(at / PATCH_SECTOR);
	const uint64_t ag = at / s->block / s->ag_blocks;
	const uint32_t owner = htobe32((uint32_t)ag);

	if (d->how & MEND_PLACES) {
		memcpy(block + 16, &daddr, sizeof(daddr));
		memcpy(block + 32, s->uuid, sizeof(s->uuid));
		memcpy(block + 48, &owner, sizeof(owner));
	}
	mend_check(s->block, 52);
}

/* What stands at @at, if it has a check value. */
static void mend_at(const struct patched *d, const struct super *s, uint64_t at)
{
	uint32_t len = 0;

	if (at >= d->length || d->length - at < sizeof(block) ||
	    io_pread_all(d->fd, block, sizeof(block), at) < 0)
		return;
	if (!memcmp(block, "XFSB", 4)) {
		len = s->sector;
		mend_check(len, 224);
	} else if (!memcmp(block, "XAGF", 4)) {
		len = s->sector;
		if (d->how & MEND_PLACES)
			memcpy(block + 64, s->uuid, sizeof(s->uuid));
		mend_check(len, 216);
	} else if (!memcmp(block, "AB3B", 4)) {
		len = s->block;
		mend_block(d, s, at);
	}
	FUZZ_CHECK(io_pwrite_all(d->fd, block, len, at) == 0);
}

static void mend(const struct patched *d, const uint8_t *p, const uint8_t *end)
{
	struct super s;

	if (io_pread_all(d->fd, block, 512, 0) < 0)
		return;
	s.sector = UINT32_C(1) << MIN(MAX(block[121], 9), 15);
	s.block = UINT32_C(1) << MIN(MAX(block[120], 9), 16);
	memcpy(&s.ag_blocks, block + 84, sizeof(s.ag_blocks));
	s.ag_blocks = MAX(be32toh(s.ag_blocks), 1u);
	memcpy(s.uuid, block + (block[219] & 4 ? 248 : 32), sizeof(s.uuid));
	for (p += 5; p < end;) {
		uint64_t at = patches_take(&p, end, 4) * PATCH_SECTOR;
		size_t n = patches_take(&p, end, 2);

		n = MIN(n, (size_t)(end - p));
		for (size_t i = 0; i < n; i += PATCH_SECTOR)
			mend_at(d, &s, at + i);
		p += n;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(patched_done) struct patched d = { .fd = -EBADF };
	_cleanup_extents_ struct extent_set used = { 0 };
	struct err e = { 0 };
	int r;

	if (!patches_apply(data, size, &d))
		return 0;
	if (d.how & MEND_CHECKS)
		mend(&d, data, data + size);
	r = usedblocks_xfs(d.path, d.length, &used, &e);
	if (!patched_verdict(&d, r, &e, &used))
		return 0;
	/* the super block, and the headers of the first group */
	FUZZ_CHECK(patched_used(&used, 0, 2048));
	return 0;
}
