/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * reader - chunks from the source into the pipeline, by io_uring: registered buffers, bounded depth,
 * O_DIRECT.
 *
 * A read that fails is repeated in pieces of one sector-sized block; blocks that stay unreadable become
 * zeros and are noted in `bad`, or end the capture.
 */
#pragma once

#include <stdint.h>

#include "agent/capture_status.h"
#include "agent/pipeline.h"
#include "agent/plan.h"
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
	struct pipeline *pipeline;
	struct capture_status *status; /* read, done, bad are kept up to date */
	struct cancel *cancel;
};

/* -ENOSYS and words when the kernel or a policy denies io_uring. */
int reader_new(const struct reader_settings *settings, struct reader **ret, struct err *e);
void reader_free(struct reader *r);
DEFINE_CLEANUP(struct reader, reader_free);

/*
 * Read every chunk of @plan that shares a byte with @ranges and submit it. Returns when all reads are
 * complete (the pipeline may still be at work). @first: this is the first pass, count it in status->done.
 */
int reader_pass(struct reader *r, const struct plan *plan, const struct extent_set *ranges,
		bool first, struct err *e);

/* Bytes per second while reads were under way, all passes so far; 0: nothing read yet. */
uint64_t reader_rate(const struct reader *r);
/* Unreadable bytes of the source, as of the last reading of each place; owned by the reader. */
const struct extent_set *reader_bad(struct reader *r);
