/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo_export - an image from wherever it is into a single file (docs/FORMAT.md).
 *
 * Frames are copied, not compressed anew, but each is decoded and checked on its way. In the disk's order, without
 * AMBRO_REQUIRE_RESENT: so stock zstd makes the disk of the file, unless there is so much of nothing that the zeros are
 * left out (IMAGE_SPARSE_BYTES).
 */
#pragma once

#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/err.h"
#include "lib/image/image_reader.h"
#include "lib/image/image_writer.h"

struct repo_export {
	struct image_reader *reader;   /* borrowed */
	const struct image_sink *sink; /* one stream, front to back */
	struct cancel *cancel;	       /* may be NULL */
	/* bytes of the disk done, and bytes written; now and then, from the calling thread; may be NULL */
	void (*progress)(void *ctx, uint64_t disk_bytes, uint64_t written);
	void *progress_ctx;
};

/* Blocks. What was written is an image only when this returns 0. -EBADMSG: the image is damaged; -ECANCELED; … */
int repo_export_run(const struct repo_export *x, struct err *e);
