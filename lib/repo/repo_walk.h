/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo_walk - all pages and chunks that an image needs, from the roots of its hash trees down.
 *
 * Where pages come from is the caller's business; they are checked against their ids here. Memory: one page for each
 * level, at most 145 KiB each. Not thread-safe, blocks as the callbacks do.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/image/format.h"
#include "lib/image/manifest.h"

/* A page, or the chunks below it. */
struct repo_walk_place {
	uint32_t region;
	unsigned int level; /* of the page; 0: a leaf */
	uint64_t first;	    /* chunk of the region */
	uint64_t chunks;    /* below it */
};

struct repo_walk_ops {
	/*
	 * The body of a page, to be freed by the walk. 1: go on below it; 0: leave out what is below it (nothing is in
	 * @ret_body); negative: it cannot be had.
	 */
	int (*page)(void *ctx, const struct chunk_id *id, const struct repo_walk_place *at,
		    void **ret_body, size_t *ret_len, struct err *e);
	/* A chunk with data. A negative return ends the walk. */
	int (*chunk)(void *ctx, const struct chunk_id *id, uint32_t region, uint64_t index,
		     struct err *e);
	/*
	 * A page cannot be had, or is not the right one (@error, @why): 0 goes on behind it, a negative return ends the
	 * walk. NULL: it ends with @error.
	 */
	int (*lost)(void *ctx, const struct chunk_id *id, const struct repo_walk_place *at,
		    int error, struct err *why);
};

/* All regions of @m. 0, or what a callback returned. */
int repo_walk_image(const struct manifest *m, const struct repo_walk_ops *ops, void *ctx,
		    struct err *e);
