/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * disk - the source of a capture: a whole disk, a partition or volume, or an image file, and what stands
 * on it.
 *
 * Reads sysfs, mountinfo and swaps; opens devices read-only. Blocks. Not thread-safe per object.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/disk_mounts.h"
#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/base/extent.h"
#include "lib/layout/layout.h"

struct disk {
	char *source; /* as asked for */
	char *path;   /* /dev/… or the file's absolute path */
	bool is_file;
	bool is_partition;
	dev_t device;	/* the block device itself; 0 for a file */
	dev_t whole;	/* the gendisk that holds it (== device unless a partition); 0 for a file */
	dev_t file_dev; /* of a file: where it is */
	ino_t file_ino;
	uint64_t whole_offset; /* its first byte on the whole disk */
	uint64_t size;	       /* bytes */
	uint32_t logical_sector, physical_sector;
	char *model, *serial, *wwid; /* NULL: unknown */
	bool zoned, dax, read_only;
	int fd;		       /* O_RDONLY | O_DIRECT (a file: without O_DIRECT where refused) */
	struct layout *layout; /* regions in bytes of this source, not of the whole disk */
	struct disk_mount *mounts; /* one per file system (not per bind mount), in mount order */
	size_t n_mounts;
	bool in_use; /* something is mounted, swapped on or held (LVM, md, …) on it */
};

/*
 * Find and open the source: NULL or "" is the disk that holds /, a mount point means the whole disk under
 * it, a device path that device (a symbolic link is followed), a regular file itself. Errors say what to
 * give instead. Overlay, tmpfs, NFS as source: -ENOTBLK.
 */
int disk_open(const char *source, struct disk **ret, struct err *e);
void disk_free(struct disk *d);
DEFINE_CLEANUP(struct disk, disk_free);

/* Look again at what is mounted on it (something may have been mounted since). Replaces d->mounts. */
int disk_refresh_mounts(struct disk *d, struct err *e);

/*
 * The devices on which its file systems are mounted: the partitions that the kernel knows, or, where there are none,
 * itself. At most SYSBLOCK_LINKS_MAX, at least one; returns how many.
 */
int disk_devices(const struct disk *d, dev_t *ret);
/* Has @device, one of these, been claimed, and not by a mount that we see? Opens it. */
bool disk_hides(const struct disk *d, dev_t device);

/*
 * Would a file behind @fd lie on this disk (through any stack of partitions, holders, loop devices)?
 * Pipes and sockets never do. For "the output may not lie on the disk that is imaged".
 */
bool disk_holds_fd(const struct disk *d, int fd);

/* @set speaks of the whole disk that holds @d: cut it to @d, and count from there. Never allocates. */
void disk_clip_whole(const struct disk *d, struct extent_set *set);

/* One block device for `devices`: everything in /sys/class/block that has a size. */
struct disk_row {
	char *name;   /* kernel name */
	char *parent; /* whole disk of a partition, or NULL */
	char *path;
	uint64_t size, start;			    /* bytes */
	char *fs_type, *fs_uuid, *fs_label, *model; /* NULL: none */
	char **mounts;				    /* NULL-terminated, or NULL */
	bool read_only, removable;
	bool tracked;
	bool in_use; /* mounted, swapped on, or held by a device above it (a partition's use not counted) */
	char *kind; /* "disk", "part", "loop", "dm", "md", "zram", … */
};
int disk_list(struct disk_row **ret, size_t *ret_count, struct err *e);
void disk_list_free(struct disk_row *rows, size_t count);
