/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gc_view - what gc sees of a repository at one time: notes, images, packs, and which entries the images need.
 *
 * Everything is loaded in one order, upon which the argument in gc.c stands: notes of gc, images, index, packs. An image that
 * is committed later is not seen, and need not be.
 *
 * Memory: two bits for each entry of the index, 128 bytes for each pack, up to 144 MiB for names that are looked up together,
 * and images (gc_order.h). One thread at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/repo/gc_clock.h"
#include "lib/repo/gc_object.h"
#include "lib/repo/gc_reach.h"
#include "lib/repo/hash_list.h"
#include "lib/repo/repo.h"
#include "lib/repo/repo_image.h"

/* Bytes: smaller packs are small, and few of them are left apart. */
#define GC_SMALL_PACK (UINT64_C(8) << 20)

/* A pack that is in the store, in the index, or marked. */
struct gc_pack {
	uint8_t hash[REPO_NAME_HASH];
	uint64_t size; /* as stored */
	bool stored, indexed;
	const struct gc_object *mark, *stray, *gone; /* notes on it, or NULL */
	uint32_t entries;			     /* the index says */
	/* entries that images need and that were chosen in this pack: each name is chosen in one place */
	uint32_t live;
	uint64_t live_bytes;
	/* the time of the oldest image by which something in it was chosen; the newest ones choose first */
	uint64_t first_use;
	struct gc_reach newest; /* what the newest images of all disks need in it (gc_order.h) */
	uint32_t disk; /* the first of these disks; else that of an image by which something was chosen */
};

struct gc_view {
	struct repo *repo;     /* borrowed */
	struct gc_clock clock; /* before anything was loaded */
	uint64_t now_ns;       /* CLOCK_REALTIME of that */
	uint64_t loaded_ns;    /* CLOCK_BOOTTIME, likewise: it goes on while the machine sleeps */
	uint64_t grace_ns;
	struct gc_objects notes;
	struct hash_list images; /* all that are there */
	struct gc_pack *packs;	 /* by hash */
	size_t n_packs;
	uint32_t *of_index; /* number in the index: which of packs */
	uint64_t *live;	    /* bits by ordinal: chosen entries */
	uint64_t *newest;   /* likewise: of them, those that the newest image of some disk needs */
	uint64_t chosen;    /* how many */
	uint64_t walked;    /* images */
	size_t batch;	    /* names that are looked up together; 0: as many as is best */
};

struct gc_progress {
	const char *phase;
	uint64_t done, total;
};
typedef void (*gc_progress_fn)(void *ctx, const struct gc_progress *p);

/*
 * Load it. r->index is loaded anew with nothing excluded: who then wants to write loads it again. -EBADMSG: a note or an index file is damaged; -ETIME: a note is from the future, so one of
 * two clocks is wrong.
 */
int gc_view_load(struct repo *r, const struct gc_clock *clock, uint64_t grace_ns,
		 struct gc_view *ret, struct err *e);
void gc_view_done(struct gc_view *v);

/* Has the grace period of a note passed? With a grace of 0 always. */
bool gc_view_ripe(const struct gc_view *v, const struct gc_object *note);
/* Is it still early enough to build upon what was loaded? -ESTALE when a grace period has passed since. */
int gc_view_in_time(const struct gc_view *v, struct err *e);
/* The image is forgotten, and can no more be taken back. */
bool gc_view_image_dead(const struct gc_view *v, const uint8_t hash[REPO_NAME_HASH]);
/*
 * Choose a place for everything that the images that are not dead need. -EBADMSG: an image, page or chunk cannot be had, and
 * so nothing can be said to be unneeded. @progress may be NULL.
 */
int gc_view_walk(struct gc_view *v, struct cancel *c, gc_progress_fn progress, void *ctx,
		 struct err *e);
bool gc_view_is_live(const struct gc_view *v, uint64_t ordinal);
/* Does the newest image of some disk need it, and was it chosen? */
bool gc_view_is_newest(const struct gc_view *v, uint64_t ordinal);
