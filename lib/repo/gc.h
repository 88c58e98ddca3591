/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gc - forgetting images, and taking back the space of what no image needs.
 *
 * Forgetting hides an image, and can be undone for a grace period. Pruning deletes what was forgotten longer ago, marks
 * packs that no image needs (or that are copied because little of them is needed), and deletes packs that were marked a
 * grace period ago and are still not needed. So a pack goes two prunes and two grace periods after its last image.
 *
 * Neither takes a lock: captures, restores and other prunes go on at the same time. They may be stopped at any point, and
 * nothing that an image needs is lost. The argument stands at the head of gc.c. Only a repair hinders a prune, and a prune
 * a repair (gc_turn.h).
 *
 * Pruning needs full rights. One thread at a time on one struct repo; all calls block.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/err.h"
#include "lib/repo/gc_clock.h"
#include "lib/repo/gc_object.h"
#include "lib/repo/gc_view.h"
#include "lib/repo/repo.h"

/*
 * Put tombstones for the images @hashes, which must be there (-ENOENT with words; then nothing was done). @now_ns: 0, or
 * the time that they say. What was forgotten before keeps its older tombstone. Full rights.
 */
int gc_forget(struct repo *r, const uint8_t (*hashes)[REPO_NAME_HASH], size_t n, uint64_t now_ns,
	      struct err *e);
/* 1: there is a tombstone for it; 0: none; -ENOENT with words: there is no such image. */
int gc_is_forgotten(struct repo *r, const uint8_t hash[REPO_NAME_HASH], struct err *e);
/*
 * Take it back. -ENOENT: the image was deleted already. 0 also when it was not forgotten. -EBUSY: it was forgotten longer ago
 * than the grace period, so that a prune may be about to delete it, and the caller is not @sure that none runs.
 */
int gc_unforget(struct repo *r, const uint8_t hash[REPO_NAME_HASH], bool sure, struct err *e);

#define GC_REPACK_DEAD_PERCENT_DEFAULT 25
#define GC_REPACK_BYTES_DEFAULT	       (UINT64_C(64) << 30)
/* Packs smaller than GC_SMALL_PACK (gc_view.h) are joined, when there are so many of them, or when all of them are so large. */
#define GC_SMALL_MANY_DEFAULT 16
#define GC_SMALL_BYTES	      (UINT64_C(64) << 20)

struct gc_settings {
	/*
	 * Longer than the longest capture of any writer. 0: nothing else writes to the repository until this returns, so
	 * that all is done at once, and notes of prunes and repairs that were killed are no hindrance. Take
	 * GC_GRACE_DEFAULT_NS.
	 */
	uint64_t grace_ns;
	bool dry_run; /* only find out */
	unsigned int
		repack_dead_percent; /* packs with more dead bytes than that are copied; 100: none is,
					nor are small ones joined, nor others gathered */
	unsigned int small_many;     /* so many small packs are joined; 0: GC_SMALL_MANY_DEFAULT */
	uint64_t small_pack; /* packs from that on are gathered, and smaller ones joined; 0: GC_SMALL_PACK */
	uint64_t max_repack_bytes;    /* about so many are copied; 0: as many as there are */
	uint64_t now_ns;	      /* the time, of no boot; 0: the machine's clocks */
	const struct gc_clock *clock; /* the same with a boot, for tests; NULL: as now_ns says */
	bool trust_clock;	      /* whatever the store's says: see gc.c */
	struct cancel *cancel;	      /* may be NULL */
	gc_progress_fn progress;      /* from the calling thread; may be NULL */
	void *progress_ctx;
};

struct gc_result {
	uint64_t images;	 /* that need what they need */
	uint64_t images_deleted; /* objects of forgotten images */
	uint64_t images_waiting; /* forgotten, can be taken back */
	uint64_t packs, bytes;	 /* that were there when it began */
	uint64_t packs_marked, bytes_marked;
	uint64_t packs_repacked,
		bytes_copied;	 /* marked because they were copied; bytes of new packs */
	uint64_t packs_joined;	 /* of them those that were only small */
	uint64_t packs_gathered; /* and those in which the newest images' needs lay apart */
	uint64_t packs_deleted, bytes_deleted;
	uint64_t packs_waiting, bytes_waiting; /* marked (also now), not yet to be deleted */
	uint64_t damaged;		       /* entries found damaged while packs were copied */
	char first_damage[ERR_TEXT_MAX];
	uint64_t next_ns; /* when there will be something to delete; 0: nothing waits */
};

/*
 * Blocks. With dry_run the result says what would be done now. -EBADMSG: an index file, a note or an image is damaged, or
 * something that an image needs is missing: nothing was deleted. -ETIME: a clock is wrong, likewise. -EBUSY: a repair is at
 * work, or was killed, likewise. -EAGAIN: an image was taken back meanwhile; run it again. -ESTALE: it took longer than the grace period; what was done is right.
 * -EACCES: write rights only.
 */
int gc_prune(struct repo *r, const struct gc_settings *s, struct gc_result *ret, struct err *e);
