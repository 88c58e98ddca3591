/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * layout - what a disk's bytes mean: partition table, regions, what file system lies on each.
 *
 * lib/ never opens a live block device. The caller gives a descriptor whose reads are true to the medium:
 * an image file, or - for a live disk - a sparse memfd of the disk's size into which the parts that
 * matter were copied by O_DIRECT reads (agent/medium.h). Pure reading; blocks; not thread-safe (libfdisk).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"

enum layout_kind {
	LAYOUT_GAP,
	LAYOUT_PARTITION,
	LAYOUT_WHOLE, /* no partition table: the disk is one file system or something unknown */
};

struct layout_region {
	enum layout_kind kind;
	unsigned int partition; /* number, 0: none */
	bool in_extended;	/* a gap inside a DOS extended partition (EBRs live there) */
	uint64_t start, length; /* bytes */
	char *type, *name, *uuid, *flags;   /* from the table; NULL: none */
	char *fs_type, *fs_uuid, *fs_label; /* by libblkid; NULL: unknown */
};

struct layout {
	uint64_t size; /* bytes */
	uint32_t sector_size;
	char *table;		       /* "gpt", "dos" or "none" */
	char *table_id;		       /* disk GUID or DOS id; NULL: none */
	char *table_script;	       /* libfdisk's sfdisk script; NULL: none */
	struct layout_region *regions; /* tile [0, size) in order, none empty */
	size_t n_regions;
};

/*
 * @name is for messages. @sector_size: the disk's logical sector in bytes. A damaged, overlapping or
 * unknown partition table gives one LAYOUT_WHOLE region and never an error; an extended partition itself
 * is not a region, its logical partitions and the gaps between them are. Returns 0 or a negative errno.
 */
int layout_probe(int fd, const char *name, uint64_t size, uint32_t sector_size, struct layout **ret,
		 struct err *e);
void layout_free(struct layout *l);
DEFINE_CLEANUP(struct layout, layout_free);
