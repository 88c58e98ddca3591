/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * livemap - which bytes are in use, asked of the kernel's own mounted file system.
 *
 * What is not known to be free counts as used. Blocks; takes no lock of ours. @path is the mount point,
 * @device the block device whose bytes are meant, @end the file system's size on it in bytes.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "lib/base/err.h"
#include "lib/base/extent.h"

/* By FS_IOC_GETFSMAP (xfs). Returns 0 or a negative errno; @ret is normalised. */
int livemap_fsmap(const char *path, dev_t device, uint64_t end, struct extent_set *ret,
		  struct err *e);
/*
 * By the device tree of a btrfs: what of @device belongs to a chunk, and the copies of the super block.
 * Whatever is written outside of these later lies in a chunk that is made later.
 */
int livemap_btrfs(const char *path, dev_t device, uint64_t end, struct extent_set *ret,
		  struct err *e);
