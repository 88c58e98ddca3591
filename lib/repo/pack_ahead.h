/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pack_ahead - entries of stored packs, read in larger pieces than was asked for where that pays.
 *
 * Chunks that lie beside each other on a disk mostly lie beside each other in a pack, and a store may take milliseconds for
 * each answer. So whoever reads on where an earlier piece ended gets twice as much as that piece was, up to
 * PACK_AHEAD_MOST; whoever jumps about reads PACK_AHEAD_FIRST at a time. What was read stays at hand, PACK_AHEAD_MEMORY
 * of it, the least recently used going first.
 *
 * Who knows what it will read says so (chunk_order.h): then a piece is that, and nothing is guessed. A piece that cannot be
 * read whole, because a sector in it is bad, or because there is no memory, is no reason to lose an entry that can: what
 * was asked for is then read alone.
 *
 * Thread-safe; two threads that want the same piece read it once.
 */
#pragma once

#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/image/image_index.h"
#include "lib/repo/repo.h"

struct pack_ahead;

/*
 * Bytes. FIRST: what a disk reads while it could seek once. MEMORY: the newest image of a long chain lies in many packs, all
 * of which are read at the same time (tests/bench/locality.sh).
 */
#define PACK_AHEAD_FIRST  (1u << 20)
#define PACK_AHEAD_MOST	  (8u << 20)
#define PACK_AHEAD_MEMORY ((size_t)128 << 20)

/* @r is borrowed, and its index must not be loaded anew meanwhile. 0 or -ENOMEM. */
int pack_ahead_new(struct repo *r, struct pack_ahead **ret);
/* All threads must have left. Accepts NULL. */
void pack_ahead_free(struct pack_ahead *a);
DEFINE_CLEANUP(struct pack_ahead, pack_ahead_free);
/*
 * As repo_read_stored(). Blocks. @want: bytes of the pack that will be read soon, @p among them; one that has not, is longer
 * than PACK_AHEAD_WANT_MAX or ends behind the pack is not believed. NULL, or length 0: nobody knows.
 */
#define PACK_AHEAD_WANT_MAX (PACK_AHEAD_MOST + (1u << 20))
int pack_ahead_read(struct pack_ahead *a, const struct repo_place *p, const struct image_span *want,
		    void *ret, struct err *e);
