/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * reader - chunks from the source into the pipeline, by a read queue of bounded depth, O_DIRECT.
 *
 * A read that fails is repeated in pieces of one sector-sized block; blocks that stay unreadable become
 * zeros and are noted in `bad`, or end the capture: the lowest of those that were met is told.
 */
#pragma once

#include <stdint.h>

#include "agent/capture_status.h"
#include "agent/pipeline.h"
#include "agent/plan.h"
#include "agent/read_queue.h"
#include "lib/base/cancel.h"
#include "lib/base/cleanup.h"
#include "lib/base/err.h"

struct reader;

struct reader_settings {
	int fd;		  /* of the source; borrowed */
	const char *name; /* of the source, for messages; borrowed */
	uint64_t size;	  /* bytes */
	uint32_t sector_size;
	bool ignore_errors;
	/*
	 * Asked when a read fails; may be NULL. True: the source is lost as a whole, but can be had in another way. The
	 * pass then ends well, and what it did not read is in reader_bad(), to be read again.
	 */
	bool (*lost)(void *ctx);
	void *lost_ctx;
	struct pipeline *pipeline;
	unsigned int slots; /* of the pipeline, all that there may be: for reader_hold() */
	struct capture_status *status; /* read, done, bad are kept up to date */
	struct cancel *cancel;
	struct read_queue *queue; /* taken over, also on failure; NULL: read_queue_new()'s */
	uint64_t limit;		  /* bytes per second; 0: none */
	bool idle;		  /* reads have the lowest I/O priority */
};

int reader_new(const struct reader_settings *settings, struct reader **ret, struct err *e);
void reader_free(struct reader *r);
DEFINE_CLEANUP(struct reader, reader_free);

/*
 * Read every chunk of @plan that shares a byte with @ranges and submit it. Returns when all reads are
 * complete (the pipeline may still be at work). @first: this is the first pass, count it in status->done.
 */
int reader_pass(struct reader *r, const struct plan *plan, const struct extent_set *ranges,
		bool first, struct err *e);

/*
 * From the next read on: as fast as it goes, without the limit and at the usual priority, because somebody waits for the end; or
 * as the settings say. Never blocks or allocates.
 */
void reader_hurry(struct reader *r, bool hurry);

/* Make ready for reader_hold(); call it before anything stands still. 0 or -ENOMEM. */
int reader_reserve(struct reader *r);
/*
 * Until reader_release() what is read stays with the reader, and the pipeline's threads sleep: they would take
 * the processor from us while file systems stand still (a chunk takes a millisecond to compress). Never
 * allocates. For passes of at most as many chunks as there are free slots.
 */
void reader_hold(struct reader *r);
/* Everything that was held goes on its way. After reader_hold() only; not after a pass that failed. */
void reader_release(struct reader *r);

/* Bytes per second while reads were under way, all passes so far; 0: nothing read yet. */
uint64_t reader_rate(const struct reader *r);
/* Unreadable bytes of the source, as of the last reading of each place; owned by the reader. */
const struct extent_set *reader_bad(struct reader *r);
