/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tree - the hash tree of a region while it is being made: chunk states and ids in, pages out.
 *
 * Memory follows what is used: a leaf exists once a chunk in it has a state other than FREE, so a
 * 16 TiB disk with 1 GB in use costs as little as a small one. Not thread-safe.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/image/format.h"

struct tree;

/* All @chunks (at least 1) start as CHUNK_FREE. Returns 0, -EINVAL or -ENOMEM. */
int tree_new(uint64_t chunks, struct tree **ret);
void tree_free(struct tree *t);
DEFINE_CLEANUP(struct tree, tree_free);

/* A later call for the same chunk replaces the earlier. @id is read for CHUNK_DATA only. 0 or -ENOMEM. */
int tree_set(struct tree *t, uint64_t index, enum chunk_state state, const struct chunk_id *id);
/* @count chunks from @index on get @state, which is not CHUNK_DATA. Whole leaves cost no memory. 0 or -ENOMEM. */
int tree_set_run(struct tree *t, uint64_t index, uint64_t count, enum chunk_state state);
/* Returns the state and, for CHUNK_DATA, fills @ret_id (may be NULL). */
enum chunk_state tree_get(const struct tree *t, uint64_t index, struct chunk_id *ret_id);
/* Depth for @chunks chunks: 1 for up to 4096. */
unsigned int tree_depth(uint64_t chunks);
/*
 * Make all pages, leaves before parents, the root last, and hand each to @emit (body, length, id). A
 * negative return of @emit ends it and is returned. @ret_root gets the root's id.
 */
int tree_emit(const struct tree *t,
	      int (*emit)(void *ctx, const void *page, size_t len, const struct chunk_id *id),
	      void *ctx, struct chunk_id *ret_root);

/* One entry of a page, as page_parse() gives it: points into the page. */
struct page_view {
	unsigned int level;
	uint32_t count;
	const uint8_t *states;
	const struct chunk_id *ids; /* of the entries with CHUNK_DATA, in order */
	uint32_t n_ids;
};
/*
 * Check a page's body and make a view of it: the level and the count expected, states in range (BAD only
 * in level 0), the length exact. Hostile input is safe. Returns 0 or -EBADMSG.
 */
int page_parse(const void *body, size_t len, unsigned int level, uint64_t count,
	       struct page_view *ret);
