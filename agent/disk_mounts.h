/* SPDX-License-Identifier: GPL-2.0-or-later */
/* disk_mounts - what is mounted on a disk, and whether anything else has it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/stack.h"
#include "lib/base/err.h"

/* One mount of a file system that lies (directly or through holders such as LVM, LUKS, md, loop) on it. */
struct disk_mount {
	char *path; /* in the agent's mount namespace */
	char *fs_type;
	dev_t device;	 /* the block device that is mounted (btrfs: the one named as source) */
	bool direct;	 /* on a partition of this disk itself, not through a holder */
	uint64_t start;	 /* direct: the file system's first byte on the disk */
	bool read_only;	 /* the file system, not only this mount of it */
	bool unreplayed; /* mounted without replaying its log: its maps may be older than that */
	int mount_id;	 /* mountinfo's */
};

/*
 * Everything that lies on @t, one entry per file system, what lies on another one behind that; for
 * disk_mounts_free().
 */
int disk_mounts_read(const struct stack_target *t, struct disk_mount **ret, size_t *ret_count,
		     struct err *e);
void disk_mounts_free(struct disk_mount *mounts, size_t count);

/* Is it swapped on, or held by a device above it? Opens nothing exclusively, so it disturbs nobody. */
bool disk_mounts_used(const struct stack_target *t);
/* Is it swapped on, held by a device above it, or claimed? @path is the block device's. */
bool disk_mounts_held(const struct stack_target *t, const char *path);
/* Does someone (mount, holder) have the block device @path for himself at this moment? */
bool disk_mounts_claimed(const char *path);
