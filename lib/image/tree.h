/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tree - the hash tree of a region while it is being made: chunk states and ids in, pages out.
 *
 * Memory follows what is used: a leaf exists once a chunk in it has a state other than FREE, so a
 * 16 TiB disk with 1 GB in use costs as little as a small one. Not thread-safe.
 */
#pragma once

#include <stdbool.h>
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
/* How many chunks have @state. Looks at every leaf that exists. */
uint64_t tree_count(const struct tree *t, enum chunk_state state);
/* Returns the state and, for CHUNK_DATA, fills @ret_id (may be NULL). */
enum chunk_state tree_get(const struct tree *t, uint64_t index, struct chunk_id *ret_id);
/* As tree_new() was told. */
uint64_t tree_chunks(const struct tree *t);
/*
 * Leaf @number, AMBRO_PAGE_FANOUT chunks: true and its states and ids in @ret, good until the tree is changed; or false: all
 * its chunks have the state *ret_all.
 */
struct page_view;
bool tree_leaf(const struct tree *t, uint64_t number, struct page_view *ret,
	       enum chunk_state *ret_all);
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
 * in level 0, SAME in none), the length exact. Hostile input is safe. Returns 0 or -EBADMSG.
 */
int page_parse(const void *body, size_t len, unsigned int level, uint64_t count,
	       struct page_view *ret);
/* The same for a page of a delta stream (AMBRO_REQUIRE_PARENT), where SAME may stand in any level. */
int page_parse_delta(const void *body, size_t len, unsigned int level, uint64_t count,
		     struct page_view *ret);
/* Entry @i's state; for CHUNK_DATA fills @ret_id (may be NULL). */
enum chunk_state page_entry(const struct page_view *v, uint32_t i, struct chunk_id *ret_id);
/*
 * Make the body of a page of @count entries (1 … AMBRO_PAGE_FANOUT) that are all @state, not CHUNK_DATA, into @ret
 * (AMBRO_PAGE_MAX bytes are enough): what stands for a page that is not stored. Returns its length.
 */
size_t page_make_uniform(unsigned int level, uint32_t count, enum chunk_state state, void *ret);
