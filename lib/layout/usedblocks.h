/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * usedblocks - which bytes of a file system are in use, from a file system that nobody is writing to.
 *
 * Only sources that cannot be stale are believed. A file system that was not left cleanly (a journal or a
 * log to replay, a dirty flag) has allocation maps that may be older than its log: then there is no map
 * and it is read whole. The caller gives a path that tools can open (a read-only view of the region).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/extent.h"

enum usedblocks_state {
	USEDBLOCKS_IDLE, /* nobody uses it */
	USEDBLOCKS_LIVE, /* mounted and written to while we read; its past was flushed by a freeze, and all writes since are tracked */
	USEDBLOCKS_FROZEN, /* as it was while it was frozen */
};

/*
 * Fill @ret (bytes relative to the file system's start, normalised) and @ret_source (static string, e.g.
 * "ext-bitmaps", "partclone.ntfs") for @fs_type (libblkid's name) on @path, of @length bytes. LIVE: only maps are
 * used that are right in this sense in every version of theirs (ext2/3/4: usedblocks_ext.h; vfat, exfat, ntfs: a
 * single table). FROZEN: also xfs, whose freeze writes all metadata back and leaves nothing but a superblock in the
 * log (fs/xfs/xfs_log.c: xfs_log_quiesce()). Runs partclone and xfs_logprint as child processes; blocks.
 *
 * Returns 1 and the map; 0 when there is none to be believed, @e->text then says why, read it whole;
 * negative errno on out of memory and the like.
 */
int usedblocks_map(const char *path, const char *fs_type, uint64_t length,
		   enum usedblocks_state state, struct extent_set *ret, const char **ret_source,
		   struct err *e);

/*
 * Parse `partclone.<fs> -D` output (a ddrescue-style domain file: lines of "0xPOS 0xSIZE +|-", '#'
 * comments). Checked against @length: ranges sorted, not overlapping, inside, covering. Hostile input is
 * safe. Returns 0 or -EBADMSG.
 */
int usedblocks_parse_domain(const char *text, uint64_t length, struct extent_set *ret);

/* The used part of a swap area: its header (and bad page list) only, bytes. */
#define SWAP_HEADER_BYTES UINT64_C(65536)
