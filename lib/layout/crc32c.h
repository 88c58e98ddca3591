/* SPDX-License-Identifier: GPL-2.0-or-later */
/* crc32c - the check values of file systems: CRC-32C (ext2fs_crc32c_le()) over something in which they stand themselves. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <ext2fs/ext2fs.h>

/* @crc goes on over the @len bytes at @p, of which @gap (at most 4) at @at count as zeros. */
static inline uint32_t crc32c_around(uint32_t crc, const uint8_t *p, size_t len, size_t at,
				     size_t gap)
{
	static const uint8_t zeros[4];

	crc = ext2fs_crc32c_le(crc, p, at);
	crc = ext2fs_crc32c_le(crc, zeros, gap);
	return ext2fs_crc32c_le(crc, p + at + gap, len - at - gap);
}
