/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xfs_super - what the super block of an xfs says, and how its numbers and check values are written. For lib/layout.
 */
#pragma once

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define XFS_SUPER_BYTES_MAX 32768 /* a sector's */

struct xfs_super {
	bool v5;
	unsigned int block_log;
	uint32_t sector, ag_blocks, ags;
	uint64_t blocks;  /* all of them lie within its place */
	uint8_t uuid[16]; /* as metadata has it */
};

/*
 * @sb: the first @bytes of an xfs, at least 512, on something of @length bytes. NULL, or why it cannot be used; *@ret_errno
 * is -ENOTSUP then (a feature that is not known here, so nothing else it says is to be trusted) or -EBADMSG.
 */
const char *xfs_super_take(struct xfs_super *s, const uint8_t *sb, size_t bytes, uint64_t length,
			   int *ret_errno);
/* CRC-32C over @len bytes, in which it stands itself at @at: as zeros, and in the other byte order than all else. */
bool xfs_crc_right(const uint8_t *p, size_t len, size_t at);

static inline uint16_t be16_at(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return be16toh(v);
}

static inline uint32_t be32_at(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}

static inline uint64_t be64_at(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return be64toh(v);
}
