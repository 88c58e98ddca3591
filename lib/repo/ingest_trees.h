/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ingest_trees - the hash trees of what a stream said, held against the MANIFEST's roots (N3 of ingest.h), and their pages
 * into packs.
 */
#pragma once

#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/err.h"
#include "lib/image/manifest.h"
#include "lib/repo/ingest_packs.h"
#include "lib/repo/page_source.h"
#include "lib/repo/repo.h"
#include "lib/repo/stream_log.h"

struct ingest_trees {
	struct repo *repo;
	struct ingest_packs *packs;
	struct stream_log *log; /* emptied */
	struct manifest *manifest;
	const struct manifest *parent; /* of a delta stream, checked; otherwise NULL */
	/* as in struct ingest_settings */
	const struct page_source *parent_pages;
	void (*on_page)(void *ctx, const void *page, size_t len, const struct chunk_id *id);
	void *on_page_ctx;
	struct cancel *cancel; /* may be NULL */
	uint64_t same_chunks;  /* set: chunks that are as in the parent */
};

/* Can @m be an increment to @parent: same size, same regions? -EBADMSG. */
int ingest_parent_check(const struct manifest *m, const struct manifest *parent, struct err *e);
/*
 * Makes the trees, stores those pages that the repository does not have, and changes the manifest of a delta stream to that
 * of the whole image: its roots and data_chunks. -EBADMSG when the stream said something else than its MANIFEST.
 */
int ingest_trees_make(struct ingest_trees *t, struct err *e);
