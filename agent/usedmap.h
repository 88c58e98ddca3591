/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * usedmap - which bytes of a source are to be read: the layout's regions, each with what is in use there.
 *
 * Rules (docs/STRATEGIES.md gives the reasons):
 *  gap        before the first partition, inside an extended partition, or up to 16 MiB: all; a larger
 *             one: its first and last MiB (boot code, backup GPT, md metadata)
 *  swap       its header only
 *  mounted    ext2/3/4: its bitmaps through a read-only direct-I/O loop view; xfs: FS_IOC_GETFSMAP on the mount; btrfs: its device extents (TREE_SEARCH); vfat, exfat,
 *             ntfs: partclone through such a view; others: all
 *  frozen     what was mounted, in a snapshot: ext2/3/4, vfat, exfat, ntfs as mounted; xfs: its free-space trees,
 *	       which a freeze leaves complete; btrfs: as unmounted; others: all
 *  unmounted  ext2/3/4: its bitmaps, xfs: its free-space trees, others: partclone, through such a view, when
 *             the file system was left clean; otherwise all
 *  unknown, LVM, LUKS, md: all
 */
#pragma once

#include "agent/disk.h"
#include "lib/base/err.h"
#include "lib/base/extent.h"
#include "lib/image/manifest.h"

struct usedmap_region {
	enum region_content content;
	const char *map; /* static: "all", "xfs-getfsmap", "partclone.vfat", "swap-header", … */
	struct extent_set
		used;  /* bytes of the source, within the region, normalised, sector-aligned */
	char why[160]; /* for content ALL on a known file system: why it has no map; "" else */
};

struct usedmap {
	struct usedmap_region *regions; /* as many as disk->layout has */
	size_t n_regions;
};

/* In what state what @d->fd shows is. */
enum usedmap_when {
	USEDMAP_IDLE, /* nobody uses it */
	USEDMAP_LIVE, /* written to while and after we look; tracking is on, one freeze and thaw has passed */
	USEDMAP_FROZEN, /* a snapshot, taken while all of @d's mounts stood still; they go on, elsewhere */
};

/* Blocks, runs child processes. Falling back to "all" is not an error. */
int usedmap_make(const struct disk *d, enum usedmap_when when, struct usedmap **ret, struct err *e);
void usedmap_free(struct usedmap *m);
DEFINE_CLEANUP(struct usedmap, usedmap_free);
