/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ingest - an image stream (a capture's pipe, or a file) into a repository.
 *
 * Invariants:
 *  N1. Packs are in the store before the index file that names them, and these before the image. Only when the image was put
 *	is anything visible.
 *  N2. A chunk is left out only when the index, loaded after the marks of gc, names it in a pack that is not marked, and the
 *	image is put within the grace period after that loading (else -ESTALE: nothing was committed).
 *  N3. The stream must end well: TRAILER, INDEX and MANIFEST agree, and the hash trees that we make of what we saw have the
 *	roots that the MANIFEST names. A stream that was cut or altered commits nothing.
 *  N4. Index files are put now and then on the way, so that a capture that is taken up again finds what was sent; none later
 *	than N2 allows, because it might name packs that prune has taken for strays.
 *
 * Frames are stored as they came. Pages are made anew (SAME is resolved by the parent's tree).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/err.h"
#include "lib/repo/page_source.h"
#include "lib/repo/repo.h"
#include "lib/repo/repo_image.h"

/*
 * Steps, each of which may be the last one that happens:
 *  1. A pack is put (repeated; the next one is filled meanwhile).
 *  2. An index file of up to INGEST_INDEX_PACKS packs is put (repeated).
 *  3. The stream has ended well; the trees are made; packs of the pages that are new are put.
 *  4. The last index file is put.
 *  5. The image is put.
 * When the stream ends too early, 1 and 2 are still done for what came whole, for the next attempt; when it is cancelled, 2 for
 * the packs that have been put. A stream that is damaged leaves only what had been put before.
 */

struct ingest_settings {
	struct repo *repo;	 /* unlocked, its index loaded; borrowed */
	int fd;			 /* read to its end; pipe, socket or file; borrowed */
	const char *host, *disk; /* NULL: from the manifest */
	const char *const *tags; /* NULL-terminated, or NULL */
	/* the parent that the capture was given; NULL: a stream with SAME is refused unless its parent is found in @repo */
	const struct repo_image *parent;
	/* where @parent's pages are read; NULL: in @repo */
	const struct page_source *parent_pages;
	/*
	 * Called for each page of the image that the parent does not have in that place (without a parent: each), before the
	 * image is put; some more than once. What it keeps is of use only if the image is committed. May be NULL.
	 */
	void (*on_page)(void *ctx, const void *page, size_t len, const struct chunk_id *id);
	void *on_page_ctx;
	/*
	 * Decode each chunk and compare its id: for files, whose bytes may have rotted. A chunk that is not what its id says
	 * would be taken for a known one ever after.
	 */
	bool check_chunks;
	uint64_t grace_ns;     /* N2 */
	struct cancel *cancel; /* may be NULL */
	/*
	 * Called when all but the image itself is in the store; may wait. A negative return: nothing is committed, and it is
	 * what ingest_run() returns. May be NULL.
	 */
	int (*before_commit)(void *ctx);
	void *before_commit_ctx;
	/* now and then, from the calling thread; may be NULL */
	void (*progress)(void *ctx, uint64_t stream_bytes, uint64_t new_bytes);
	void *progress_ctx;
};

struct ingest_result {
	uint64_t stream_bytes, new_bytes; /* new: bytes put into packs */
	uint64_t chunks, new_chunks, known_chunks, same_chunks;
	uint64_t packs;
};

/*
 * Blocks until the image is committed. On failure nothing is visible: -ENODATA, the stream was cut off; -EBADMSG, it is
 * damaged; -EINVAL, its chunks have not the repository's size, or a tag is none; -EFBIG, the disk is too large; -ENOTSUP, it needs a newer tool; -ENOENT, its parent is not in
 * the repository; -ESTALE, N2; -ECANCELED; or an error of the store. But an error of the store while the image was put may mean
 * that it is there all the same. @ret_image (which, as @ret, may be NULL) is owned by the caller.
 */
int ingest_run(const struct ingest_settings *s, struct repo_image **ret_image,
	       struct ingest_result *ret, struct err *e);
