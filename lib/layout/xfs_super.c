/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/layout/xfs_super.h"

#include <errno.h>

#include "lib/base/cleanup.h"
#include "lib/base/le.h"
#include "lib/layout/crc32c.h"

#define SB_MAGIC  UINT32_C(0x58465342) /* XFSB */
#define SB_CRC_AT 224

#define BLOCK_LOG_MIN  9
#define BLOCK_LOG_MAX  16
#define SECTOR_LOG_MAX 15

/*
 * Incompatible features under which the free-space trees still speak of all of the device, and inodes and directories are
 * what they were: file types, sparse inodes, another UUID in metadata, big timestamps, large extent counts, exchange-range,
 * parent pointers. Not "needs repair", nor those that put a realtime section on the same device or metadata in files.
 */
#define FEATURES_KNOWN UINT32_C(0xef)
#define FEATURE_UUID   UINT32_C(0x4)
/* Those that only forbid writing: free inodes, reverse map, shared blocks, counts of inode blocks. */
#define FEATURES_RO_KNOWN UINT32_C(0xf)

bool xfs_crc_right(const uint8_t *p, size_t len, size_t at)
{
	le32_t stored;

	memcpy(&stored, p + at, sizeof(stored));
	return ~crc32c_around(UINT32_MAX, p, len, at, sizeof(stored)) == le32_get(stored);
}

const char *xfs_super_take(struct xfs_super *s, const uint8_t *sb, size_t bytes, uint64_t length,
			   int *ret_errno)
{
	const unsigned int version = be16_at(sb + 100) & 0xf, sector_log = sb[121];
	const uint32_t features = be32_at(sb + 216);

	*ret_errno = -EBADMSG;
	s->v5 = version == 5;
	s->block_log = sb[120];
	s->blocks = be64_at(sb + 8);
	s->ag_blocks = be32_at(sb + 84);
	s->ags = be32_at(sb + 88);
	s->sector = UINT32_C(1) << MIN(sector_log, SECTOR_LOG_MAX + 1u);
	if (be32_at(sb) != SB_MAGIC || (version != 4 && version != 5))
		return "its super block is not one";
	if (s->block_log < BLOCK_LOG_MIN || s->block_log > BLOCK_LOG_MAX ||
	    sector_log < BLOCK_LOG_MIN || sector_log > SECTOR_LOG_MAX ||
	    be32_at(sb + 4) != UINT32_C(1) << s->block_log || be16_at(sb + 102) != s->sector ||
	    !s->ag_blocks || !s->ags || DIV_ROUND_UP(s->blocks, s->ag_blocks) != s->ags)
		return "its super block makes no sense";
	if (s->v5 && !xfs_crc_right(sb, MIN(s->sector, bytes), SB_CRC_AT))
		return "its super block is damaged";
	if (s->v5 && (features & ~FEATURES_KNOWN || be32_at(sb + 212) & ~FEATURES_RO_KNOWN)) {
		*ret_errno = -ENOTSUP;
		return "it has features that are not known here, or needs repair";
	}
	if (sb[126])
		return "its mkfs was not finished";
	if (s->blocks > length >> s->block_log)
		return "it is larger than its place";
	memcpy(s->uuid, sb + (s->v5 && features & FEATURE_UUID ? 248 : 32), sizeof(s->uuid));
	return NULL;
}
