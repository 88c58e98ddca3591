/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * usedblocks_xfs - what an xfs with a clean log uses: everything but what its free-space trees name. For
 * usedblocks.c.
 *
 * Reads the tree by block number of each allocation group, in place, so time and memory follow the number of
 * free extents. (A bitmap of 16 TiB, as partclone makes it, is 512 MiB, and took a minute of CPU.) The caller has seen
 * that the log is clean.
 */
#pragma once

#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/extent.h"

/*
 * As usedblocks_map() of an unmounted file system. Every block's check value, and the sum of each tree against
 * its group's counter, must be right, or there is no map. Hostile input is safe.
 */
int usedblocks_xfs(const char *path, uint64_t length, struct extent_set *ret, struct err *e);
