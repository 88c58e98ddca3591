/* SPDX-License-Identifier: GPL-2.0-or-later */
/* disk_mounts - what is mounted on a disk, and whether anything else has it. For disk.c and usedmap.c. */
#pragma once

#include <stddef.h>

#include "agent/disk.h"
#include "agent/stack.h"
#include "lib/base/err.h"

/* One entry per file system, in mount order; to be freed by disk_mounts_free(). */
int disk_mounts_read(const struct disk *d, struct disk_mount **ret, size_t *ret_count,
		     struct err *e);
void disk_mounts_free(struct disk_mount *mounts, size_t count);

/* Mounted (d->mounts), swapped on, or held? */
bool disk_look_in_use(const struct disk *d);
/* Does someone (mount, holder) have the block device @path for himself at this moment? */
bool disk_claimed(const char *path);

/* The disk as something to look for under a stack of devices. */
static inline struct stack_target disk_target(const struct disk *d)
{
	return (struct stack_target){
		.device = d->device,
		.whole = d->whole,
		.file_dev = d->file_dev,
		.file_ino = d->file_ino,
	};
}
