/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * record - the envelope of all our structures: a zstd skippable frame with head, check and body.
 *
 * Knows nothing of where records stand: for single-file images and packs alike.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/image/format.h"

/* What stands before a body. */
struct record_head {
	struct ambro_skippable skip;
	struct ambro_record record;
};
static_assert(sizeof(struct record_head) == 40, "on-disk size");

/* The longest body that a skippable frame's 32-bit length has room for. */
#define RECORD_BODY_MAX (UINT32_MAX - sizeof(struct record_head))

/* Of the whole skippable frame, bytes. */
static inline uint64_t record_frame_len(uint64_t body_len)
{
	return sizeof(struct record_head) + body_len;
}

/* Head of a critical record of version 1 with @body (at most RECORD_BODY_MAX bytes), check included. */
void record_make(enum ambro_record_type type, const void *body, size_t body_len,
		 struct record_head *ret);
/* The same, the check left zero: for a body that comes in pieces. */
void record_make_unchecked(enum ambro_record_type type, size_t body_len, struct record_head *ret);

/*
 * Check a head that @available bytes (from the head's first on) can hold: magics, lengths, and that it is a
 * @type. @what names it in @e ("INDEX"). Returns 0 or -EBADMSG.
 */
int record_head_check(const struct record_head *h, enum ambro_record_type type, uint64_t available,
		      const char *what, struct err *e);
/* Is its version one that we know? 0 or -ENOTSUP. */
int record_version_check(const struct record_head *h, const char *what, struct err *e);
/* The body's length, as the checked head says. */
uint64_t record_body_len(const struct record_head *h);
/*
 * Does @body match the check of its head? 0; -EBADMSG; -ENOTSUP if it does but is of a newer version. (The
 * version is judged last, so that a damaged one does not send anybody looking for a newer tool.)
 */
int record_body_check(const struct record_head *h, const void *body, const char *what,
		      struct err *e);
