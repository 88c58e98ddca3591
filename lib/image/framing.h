/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * framing - what stands between the chunks of an image: the sequence of frames that stock zstd and the seek
 * table's readers go by.
 *
 * Restoring needs none of it (the hash trees and the INDEX say where everything is), so damage here never
 * makes a wrong byte; but it would break `zstd -dc` and seeking, so a thorough check looks at it too.
 */
#pragma once

#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/err.h"
#include "lib/image/image_index.h"
#include "lib/image/image_io.h"

struct framing {
	const struct image_io *io;
	uint64_t table_offset; /* of the seek table's skippable frame; all frames end here */
	uint64_t frames;       /* entries in it */
	uint64_t require;      /* AMBRO_REQUIRE_* */
	uint64_t disk_size;
	const struct image_index *index;
	struct cancel *cancel; /* may be NULL */
};

/*
 * Walk all frames by the seek table: each length and plain length, each CHUNK and RUN record, each frame of
 * zeros byte by byte, each data frame that the INDEX does not name itself. Hostile input is safe. Returns
 * 0; -EBADMSG with the place; -ECANCELED; or a negative errno of reading.
 */
int framing_check(const struct framing *f, struct err *e);
