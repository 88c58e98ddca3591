/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * verify - read a whole image and check every page and chunk of it, with many threads.
 *
 * Chunks are read as they are stored (chunk_order.h), which takes up to 32 MiB.
 */
#pragma once

#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/err.h"
#include "lib/image/image_reader.h"

struct verify_result {
	uint64_t chunks;	 /* of all states, as the trees say */
	uint64_t data_chunks;	 /* whole ones */
	uint64_t plain_bytes;	 /* of these */
	uint64_t damaged_chunks; /* chunks that cannot be restored; all below a page that is damaged */
	/* the damage nearest to the disk's beginning, in words; "" when there is none */
	uint64_t first_offset; /* byte of the disk */
	char first_damage[ERR_TEXT_MAX];
};

/*
 * Check the whole image with @threads workers (0: one per CPU); blocks. @progress (may be NULL) is called
 * now and then from the calling thread with bytes of data checked and a total that is an estimate from the
 * manifest until both are equal at the end. Damage does not end it. Returns 0; -EBADMSG with @ret filled and
 * the first damage in @e too (without a damaged chunk it lies between them: framing.h, and restoring is
 * not harmed); -ECANCELED; or another negative errno. @c may be NULL.
 */
int image_verify(const struct image_reader *r, unsigned int threads, struct cancel *c,
		 void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
		 struct verify_result *ret, struct err *e);
