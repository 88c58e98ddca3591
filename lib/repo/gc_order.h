/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gc_order - the order in which a walk goes through the images: first the newest one of each disk, then the others, oldest first.
 *
 * The newest is the image that is restored most often, and the one that lies in the most packs. Because the newest ones come
 * first, what is chosen for them is all that they need, and is known without looking anything up twice.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/err.h"
#include "lib/repo/gc_view.h"

/* So many images are kept in memory from the first look to the walk, some KiB each; others are read again. */
#define GC_ORDER_HELD 1024

struct gc_ordered {
	uint32_t number; /* in view->images */
	uint32_t disk;	 /* 0 …: one for each host and disk */
	uint64_t time_ns;
	bool newest;		 /* of its disk */
	struct repo_image *held; /* or NULL */
};

struct gc_order {
	struct gc_ordered *items;
	size_t n;
	size_t newest; /* so many of them come first */
};

/*
 * Reads every image of @v but those with a ripe tombstone; one that was deleted since it was listed is left out. An error in
 * words, whatever it is: who does not know what an image needs deletes nothing. Memory: as said above, and 200 bytes for
 * each disk.
 */
int gc_order_load(const struct gc_view *v, struct cancel *c, struct gc_order *ret, struct err *e);
void gc_order_done(struct gc_order *o);
/* That numbered @number in view->images; 1, 0 when it is not there any more. As above. */
int gc_order_read(const struct gc_view *v, uint32_t number, struct repo_image **ret, struct err *e);
