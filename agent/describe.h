/* SPDX-License-Identifier: GPL-2.0-or-later */
/* describe - the manifest of a capture: what host, disk, regions are written down before it is read. */
#pragma once

#include "agent/disk.h"
#include "agent/usedmap.h"
#include "lib/base/err.h"
#include "lib/image/manifest.h"

/*
 * A manifest with everything that is known before reading; results (instant, guarantee, passes, …) are the
 * caller's to add. Owned by the caller.
 */
int describe_capture(const struct disk *d, const struct usedmap *map, const char *strategy,
		     uint32_t chunk_size, struct manifest **ret, struct err *e);
