/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gc_newest - what the newest image of each disk needs, so that what is copied of it comes to lie together.
 *
 * It is the image that is restored most often, and the one that lies in the most packs: what its chain has left behind lies
 * between its chunks, and a disk with one head reads over it or jumps.
 */
#pragma once

#include "lib/base/cancel.h"
#include "lib/base/err.h"
#include "lib/repo/gc_view.h"

/*
 * Tell the name of every page and chunk that the newest image of a disk of @v needs (of those without a ripe tombstone); more
 * than once, if it stands in it more than once. An order is all that hangs on it: an image or page that cannot be had is passed
 * over. -ECANCELED, -ENOMEM. Reads every image, and the pages of the newest ones. Memory: one image for each disk.
 */
int gc_newest_walk(const struct gc_view *v, struct cancel *c,
		   void (*needs)(void *ctx, const struct chunk_id *name), void *ctx, struct err *e);
