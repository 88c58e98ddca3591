/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * chunk_order - an image's chunks in the order in which they are stored, instead of that of the disk.
 *
 * The newest image of a long chain lies in many packs. Who reads it in the order of the disk jumps between them, and reads
 * what is dead beside the living over and over; in the order of (container, offset) each pack is gone through once, from
 * its beginning to its end. So runs are collected, sorted, and handed out with the piece of the container that is to be
 * read for them (run.piece): neighbours, joined over gaps that are read faster than jumped over. A chunk that is wanted at
 * several places comes as often, each time with the same piece, one behind the other.
 *
 *	collecting ── sort() ──► handing out ── next() says no more ──► collecting
 *
 * An image that has more chunks than there is room for is gone through by stretches of the disk, each with that many.
 *
 * Memory: 64 bytes for each chunk there is room for, 32 MiB at most, taken at the beginning; sorting takes a quarter of that
 * when it can have it. Not thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/image/image_reader.h"

/* Chunks: 128 GiB of the disk in chunks of 256 KiB. */
#define CHUNK_ORDER_MAX ((size_t)1 << 19)
/* Bytes. What a disk with one head reads in the time of a seek (8 ms at 150 MB/s). */
#define CHUNK_ORDER_GAP (UINT64_C(1) << 20)
/* Bytes of a piece, unless one frame has more. */
#define CHUNK_ORDER_PIECE (UINT64_C(8) << 20)

struct chunk_order;

/* Room for @chunks, but for CHUNK_ORDER_MAX at most. 0 or -ENOMEM; nothing fails later. */
int chunk_order_new(uint64_t chunks, struct chunk_order **ret);
void chunk_order_free(struct chunk_order *o);
DEFINE_CLEANUP(struct chunk_order, chunk_order_free);

/* One more run of CHUNK_DATA, while it collects. False: it is the last one that there was room for, sort() now. */
bool chunk_order_add(struct chunk_order *o, uint32_t region, const struct image_run *run);
/* Collecting ends. False: nothing was collected, and it goes on collecting. */
bool chunk_order_sort(struct chunk_order *o);
/* The next one; false: there is none, or sort() was not called yet. */
bool chunk_order_next(struct chunk_order *o, uint32_t *ret_region, struct image_run *ret);
/* Forget what was collected; it collects again. */
void chunk_order_clear(struct chunk_order *o);
