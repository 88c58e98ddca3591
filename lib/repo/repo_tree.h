/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo_tree - the hash tree of one region of a new image, made of the parent's tree and of what a delta stream said.
 *
 * What is CHUNK_SAME becomes what the parent has there. Pages of the parent in which nothing was said are taken over by
 * their id and never read. Memory: some 270 KiB for each level of the tree, of which there are at most four.
 */
#pragma once

#include <stdint.h>

#include "lib/base/err.h"
#include "lib/image/format.h"
#include "lib/image/tree.h"
#include "lib/repo/page_source.h"
#include "lib/repo/repo.h"

struct repo_tree {
	struct repo *repo; /* where the parent's pages are; may be NULL when there is no parent */
	const struct tree *said; /* of the delta stream */
	/* the root page of the parent's region, which has as many chunks; NULL: CHUNK_SAME must not occur */
	const struct chunk_id *parent;
	/* each page that the parent does not have at this place, leaves before parents; a negative return ends it */
	int (*emit)(void *ctx, const void *page, size_t len, const struct chunk_id *id);
	void *ctx;
	const struct page_source *pages; /* where the parent's pages are instead; NULL: in @repo */
};

struct repo_tree_result {
	struct chunk_id root;
	int64_t data; /* chunks with data more than the parent has; negative: fewer */
	uint64_t pages_read;
};

/*
 * Blocks. -EBADMSG when a page of the parent is missing or not the right one, or CHUNK_SAME has no parent; an error of
 * repo_read(), or of @t->emit.
 */
int repo_tree_make(const struct repo_tree *t, struct repo_tree_result *ret, struct err *e);
