/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gc_copy - what is still needed of packs that are to go, into new packs.
 *
 * Everything is decoded and compared with its id on the way, and what is damaged is not copied: a pack with new bytes must
 * not make old damage look well. Frames are not compressed again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/err.h"
#include "lib/repo/gc_view.h"

struct gc_copy_result {
	uint64_t packs, entries, bytes; /* new ones that were put */
	uint64_t damaged;		/* entries that were not copied */
	char first_damage[ERR_TEXT_MAX];
};

/*
 * Copy the live entries of those packs of @v for which @from (by place in v->packs) is true: pages into packs of their own, then
 * chunks; of each what the newest image of a disk needs (gc_order.h), then the rest, in packs of their own unless small ones; disk by disk, packs that older images use
 * first, each in its order of offsets. When 0 is returned all is in the store and in index files, but for the packs in which
 * something is damaged: their @from is made false. Memory: 72 bytes for each entry, two packs.
 */
int gc_copy(struct gc_view *v, bool *from, struct cancel *c, gc_progress_fn progress, void *ctx,
	    struct gc_copy_result *ret, struct err *e);
