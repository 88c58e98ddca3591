/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * parttable - a restored disk's partition table: fitted to the disk, and told to the kernel.
 *
 * The descriptors are of the whole disk, open for writing (BLKPG and BLKRRPART ask for that), borrowed.
 * All calls block. Not thread-safe (libfdisk).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/base/err.h"

/* Take the disk's partitions out of the kernel. -EBUSY with words when one is in use. */
int parttable_drop(int fd, dev_t device, const char *path, struct err *e);
/*
 * The disk (or file) is larger than the one its GPT was made for: put the backup table at the end, and let
 * the last usable sector be what it is here. @sector: bytes. Returns 0 once the result was read again and
 * found right.
 */
int parttable_move_backup(int fd, const char *path, uint32_t sector, struct err *e);
/*
 * Make the kernel know the disk's partitions: by BLKRRPART, and where it has no parser for them one by
 * one. Returns how many it knows now, or a negative errno.
 */
int parttable_reread(int fd, dev_t device, const char *path, struct err *e);
