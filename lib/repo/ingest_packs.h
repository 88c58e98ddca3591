/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ingest_packs - chunks and pages into packs, packs into the store, and now and then an index file of them.
 *
 * While one pack is filled, and written as it grows, a thread of ours puts the one before it. Each index file
 * names packs that are in the store already (N1 and N4 of ingest.h). The first error ends it for good. All calls are for one
 * thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/repo/repo.h"

struct ingest_packs;

/* Packs between two index files: half a minute at 40 MB/s, and 1 GiB that a capture which is taken up again may send again. */
#define INGEST_INDEX_PACKS 16u

/*
 * @r is borrowed, its index loaded. After @grace_ns (W2 of gc_object.h) nothing is put any more, -ESTALE: by then prune may have
 * taken a pack that no index file named for a stray, and an index file that names what is gone makes later writers leave it out.
 */
int ingest_packs_new(struct repo *r, uint64_t grace_ns, struct ingest_packs **ret, struct err *e);
/* Waits for the thread, and forgets what was not put yet. */
void ingest_packs_free(struct ingest_packs *p);
DEFINE_CLEANUP(struct ingest_packs, ingest_packs_free);

/* As pack_add(); blocks while both packs are full. Errors of earlier packs are told here. */
int ingest_packs_add(struct ingest_packs *p, enum repo_kind kind, const struct chunk_id *id,
		     uint32_t plain_len, const void *frame, uint32_t frame_len, struct err *e);
/* What comes next belongs into another pack. Blocks as above. */
int ingest_packs_turn(struct ingest_packs *p, struct err *e);
/*
 * Everything is in the store, and in index files, when this returns 0. @keep false: what has not been given to the thread
 * yet is forgotten, because it is not worth to be sent.
 */
int ingest_packs_finish(struct ingest_packs *p, bool keep, struct err *e);
/* Bytes and packs that were begun or put so far. */
uint64_t ingest_packs_bytes(const struct ingest_packs *p);
uint64_t ingest_packs_count(const struct ingest_packs *p);
