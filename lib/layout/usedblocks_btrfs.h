/* SPDX-License-Identifier: GPL-2.0-or-later */
/* usedblocks_btrfs - what partclone does not know of a btrfs. For usedblocks.c. */
#pragma once

#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/extent.h"

/*
 * Add to @used every chunk that does not hold plain data: of what a btrfs stores twice partclone names only
 * the first copy (measured: 748 repairs in a scrub). Returns 1; 0 with words in @e; or a negative errno.
 */
int usedblocks_btrfs_add_copies(const char *path, uint64_t length, struct extent_set *used,
				struct err *e);
/* The parser of the above, for `btrfs inspect-internal dump-tree -t chunk`. Hostile input is safe. */
int usedblocks_btrfs_parse_chunks(const char *text, uint64_t length, struct extent_set *used);
