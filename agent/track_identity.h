/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * track_identity - which disk is tracked, and is it still that one?
 *
 * Reads sysfs and procfs only. Thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ebpf/track.h"
#include "lib/base/err.h"

/*
 * Granules, log2 of bytes: 128 KiB, 32 MiB of the kernel's memory per TiB; on a disk beyond TRACK_LARGE_BYTES 256 KiB, 16 MiB. Smaller
 * ones make smaller increments (docs/REPOSITORY.md, 7).
 */
#define TRACK_GRANULE_SHIFT	  17u
#define TRACK_LARGE_BYTES	  (UINT64_C(4) << 40)
#define TRACK_LARGE_GRANULE_SHIFT 18u

struct track_identity {
	uint8_t boot_id[16];
	uint32_t disk; /* as the kernel writes it: major << 20 | minor */
	uint64_t sequence; /* a number no other disk or medium gets before the next boot; 0 before 5.15 */
	uint64_t size;	/* bytes */
	bool bio_based; /* makes no requests of its bios: device-mapper, md, zram */
};

/* -EINVAL for a partition, -ENOMEDIUM for a disk without size. */
int track_identity_read(dev_t disk, struct track_identity *ret, struct err *e);
/* Programs that this kind of disk needs: bit n is enum track_hook n. */
uint32_t track_identity_hooks(const struct track_identity *id);
/* In what granules this disk is to be tracked. */
unsigned int track_identity_granule_shift(const struct track_identity *id);
/* Was @c made for this very disk, in this boot, by this version, with these granules? */
bool track_identity_matches(const struct track_identity *id, const struct track_control *c);

/* Does the disk hand bios on as they are, so that nobody sees them complete on it? */
bool track_disk_retargets(dev_t disk);
/* Does the kernel offer to map it (DAX)? */
bool track_disk_is_dax(dev_t disk);
/* TRACK_REPLACED or TRACK_RESIZED when it is not as @c says any more, otherwise TRACK_REASONS. */
enum track_reason track_disk_changed(dev_t disk, const struct track_control *c);
