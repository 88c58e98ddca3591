/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sealed_writer - an encrypted file (sealed_head.h), front to back, into a sink that may be a pipe.
 *
 * Invariants:
 *  1. The sink sees one forward stream of head and segments.
 *  2. Without sealed_writer_finish() having returned 0 there is no last segment, so what was written is refused as cut off.
 *
 * Memory: two segments. Not thread-safe: one thread writes.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/image/image_writer.h"
#include "lib/repo/sealed_head.h"

struct sealed_writer;

/* Takes @head over in any case; *@sink is copied. Writes nothing yet. 0 or -ENOMEM. */
int sealed_writer_new(struct sealed_head *head, const struct image_sink *sink,
		      struct sealed_writer **ret);
void sealed_writer_free(struct sealed_writer *w);
DEFINE_CLEANUP(struct sealed_writer, sealed_writer_free);

/* More plain bytes. What the sink returns, without words. Blocks as the sink does. */
int sealed_writer_write(struct sealed_writer *w, const void *buf, size_t len);
/* What is left, as the last segment. Once. */
int sealed_writer_finish(struct sealed_writer *w);
/* Given to the sink so far. */
uint64_t sealed_writer_bytes(const struct sealed_writer *w);
