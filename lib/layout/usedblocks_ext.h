/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * usedblocks_ext - what ext2, ext3 and ext4 use, from their group descriptors and block bitmaps. For
 * usedblocks.c.
 *
 * Time and memory follow what is in use, but for the descriptors, which are read and kept (8 MiB for 16 TiB):
 * groups that were never used have no bitmap to read. Left out, beside what is free, is what nobody ever reads:
 * bitmaps of such groups, and inode tables that were neither used nor zeroed.
 *
 * Why a mounted file system may be asked this way (@live). At the freeze that went before, its maps on the medium
 * were right. A block that was in use then and is so at the image's instant was never free between, so every
 * version of its bit says "used"; whatever else the instant has was written after the freeze, and that is
 * tracked. The same holds for a descriptor's word of what has never been used, which is taken back once
 * and never given again. So it does not matter which version is read, nor that two sectors are of two versions.
 * A check value that does not match only says that they are: then the group is read whole.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/extent.h"

/* As usedblocks_map(); @ret is normalised. With @live nothing else may have read @path before: its cache is empty. */
int usedblocks_ext(const char *path, uint64_t length, bool live, struct extent_set *ret,
		   struct err *e);
