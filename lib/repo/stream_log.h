/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stream_log - what a stream said of the disk, in its order, until the MANIFEST at its end says how long the regions are.
 *
 * Besides it is the set of those chunks that were put into packs on the way: its entries are numbers of chunks that are
 * logged anyway. Memory: 40 bytes for each chunk with data, 5 to 11 for each that is remembered, 32 for each run.
 * Not thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/image/format.h"
#include "lib/image/manifest.h"
#include "lib/image/tree.h"

struct stream_log;

/* @ordered: without AMBRO_REQUIRE_RESENT, everything must come once and in the disk's order. 0 or -ENOMEM. */
int stream_log_new(uint32_t regions, unsigned int chunk_shift, bool ordered,
		   struct stream_log **ret);
void stream_log_free(struct stream_log *l);
DEFINE_CLEANUP(struct stream_log, stream_log_free);

/*
 * Chunk @index of @region (less than the regions there are) has data. -ENOMEM; -EBADMSG when it is out of order, or
 * @plain_len contradicts what was said before.
 */
int stream_log_chunk(struct stream_log *l, uint32_t region, uint64_t index, uint64_t plain_len,
		     const struct chunk_id *id);
/* @count chunks from @index on have @state. As above. */
int stream_log_run(struct stream_log *l, uint32_t region, uint64_t index, uint64_t count,
		   uint64_t plain_len, enum chunk_state state);

/* The chunk that was logged last is in the set from now on. 0 or -ENOMEM. */
int stream_log_remember(struct stream_log *l);
bool stream_log_knows(const struct stream_log *l, const struct chunk_id *id);

/* Does all that was said fit regions of these lengths? -EBADMSG and words when not. */
int stream_log_check(const struct stream_log *l, const struct manifest *m, struct err *e);
/*
 * Do what was said, in order, to the trees of all regions, which have the lengths that stream_log_check() agreed to. The log
 * is empty afterwards: its memory goes as the trees' comes. 0 or -ENOMEM.
 */
int stream_log_apply(struct stream_log *l, struct tree *const *trees);
