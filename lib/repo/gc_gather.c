/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which packs are copied so that what the newest image of a disk needs comes to lie together again. (The newest images of all disks
 * together: what one of them needs is not in another's way, because copies lie disk by disk.)
 *
 * What changes every day lies in each day's pack beside what stays, and leaves holes in the first ones. Whoever restores the newest
 * image reads over the holes or jumps, and opens every pack. So a pack costs that image
 *
 *	waste: gc_reach_waste()		and	opening: GATHER_OPEN, as far as it is not full of what is needed
 *
 * more than it must. A copy moves all that lives in the pack, the newest images' part first, the rest behind it or in packs of its
 * own: nothing is stored twice for longer than the grace period, and no image is a larger one for it.
 *
 *  G1. Nothing of a disk is copied before its packs cost its newest image 1 / GATHER_WORTH of what it needs of them: then those of
 *      them that gain most have waited, and hold much waste. A pack is copied only when that takes away at least 1 / GATHER_WORTH
 *      of the bytes that are copied; each by itself, and all together, counting how many packs are opened then.
 *  G2. It comes to rest: in a copy the newest images' part lies together, its waste is 0. A copy is made only when waste and packs
 *      to be opened become less, neither grows without a new image, and all that are worth it are copied at once (but for
 *      --max-repack): a prune after it finds nothing. What it leaves partly filled is at most one pack of chunks and one of
 *      pages, and two such ones become one only when the bytes of both are less than GATHER_OPEN * GATHER_WORTH. (Packs that have
 *      both, which captures do not make, take one prune more.)
 *  G3. It is paid for: a byte comes to be waste when a capture has replaced it, and once only, because a copy puts it behind the
 *      newest images' part. Opening is at most a quarter of the bytes of a pack of GC_SMALL_PACK. So in the long run no more than
 *      10 bytes are copied for each byte that captures store, however often one prunes. (Who goes back to older images makes
 *      waste without a capture. In one run --max-repack is the limit; then those are copied that gain most.)
 *
 * Packs smaller than GC_SMALL_PACK are left to gc_plan.c, which joins them when there are many: otherwise each day's would be.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/repo/gc.h"
#include "lib/repo/gc_private.h"

/* In bytes that could be read meanwhile: to find a file, and to go to its first byte. */
#define GATHER_OPEN (UINT64_C(2) << 20)
/* Of what a restore reads, this part may be in vain. A quarter would halve what is copied, and cost a restore twice as much. */
#define GATHER_WORTH 8
/* A pack that was ended because it was full has that many bytes of entries at least. */
#define GATHER_FULL (REPO_PACK_SIZE - 4096)

struct apart {
	const struct gc_pack *pack;
	uint64_t waste, gain;
};

struct disk_sum {
	uint64_t needed, gain;
};

/* Opening @packs packs, for @bytes that could be in fewer. */
static uint64_t gather_opening(uint64_t packs, uint64_t bytes)
{
	const uint64_t least = (bytes + GATHER_FULL - 1) / GATHER_FULL;

	return packs > least ? (packs - least) * GATHER_OPEN : 0;
}

/* What the pack at @i costs the newest images; false: it is none to be gathered with others of chunks, or of pages. */
static bool gather_look(const struct gc *g, size_t i, bool chunks, struct apart *ret)
{
	const struct gc_pack *p = &g->view.packs[i];
	const uint64_t needed = p->newest.bytes;

	if (g->fates[i] != FATE_KEEP || !p->stored || !needed || p->size < gc_small_pack(g) ||
	    (p->newest.chunks > 0) != chunks)
		return false;
	*ret = (struct apart){ .pack = p, .waste = gc_reach_waste(&p->newest) };
	ret->gain = ret->waste;
	if (needed < GATHER_FULL)
		ret->gain += GATHER_OPEN * (GATHER_FULL - needed) / GATHER_FULL;
	return true;
}

/* What the packs of each disk cost its newest image, by number of the disk. */
static void gather_sum(const struct gc *g, bool chunks, struct disk_sum *sums)
{
	struct apart it;

	memset(sums, 0, (g->view.images.count + 1) * sizeof(*sums));
	for (size_t i = 0; i < g->view.n_packs; i++) {
		if (!gather_look(g, i, chunks, &it))
			continue;
		sums[it.pack->disk].needed += it.pack->newest.bytes;
		sums[it.pack->disk].gain += it.gain;
	}
}

static bool gather_is_worth(const struct apart *it, const struct disk_sum *sums)
{
	const struct disk_sum *sum = &sums[it->pack->disk];

	return sum->gain * GATHER_WORTH >= sum->needed &&
	       it->gain * GATHER_WORTH >= it->pack->live_bytes;
}

/* By what is gained for each byte that is copied. */
static int apart_compare(const void *a, const void *b)
{
	const struct apart *x = a, *y = b;
	const uint64_t p = x->gain * y->pack->live_bytes, q = y->gain * x->pack->live_bytes;

	if (p != q)
		return p > q ? -1 : 1;
	return (x->pack > y->pack) - (x->pack < y->pack);
}

/* Packs with chunks, or such that have only pages: in copies they are apart. */
static void gather_kind(struct gc *g, bool chunks, struct apart *list, struct disk_sum *sums,
			uint64_t *repack_left)
{
	uint64_t live = 0, waste = 0, needed = 0;
	size_t n = 0, taken;

	gather_sum(g, chunks, sums);
	for (size_t i = 0; i < g->view.n_packs; i++)
		n += gather_look(g, i, chunks, &list[n]) && gather_is_worth(&list[n], sums);
	if (n)
		qsort(list, n, sizeof(*list), apart_compare);
	for (taken = 0; taken < n; taken++) {
		if (live + list[taken].pack->live_bytes > *repack_left)
			break;
		live += list[taken].pack->live_bytes;
		waste += list[taken].waste;
		needed += list[taken].pack->newest.bytes;
	}
	if (!taken || (waste + gather_opening(taken, needed)) * GATHER_WORTH < live)
		return;
	*repack_left -= live;
	for (size_t i = 0; i < taken; i++)
		g->fates[list[i].pack - g->view.packs] = FATE_GATHER;
}

int gc_gather(struct gc *g, uint64_t *repack_left, struct err *e)
{
	_cleanup_free_ struct apart *list = NULL;
	_cleanup_free_ struct disk_sum *sums = NULL;

	if (g->settings->repack_dead_percent >= 100)
		return 0;
	list = calloc(g->view.n_packs + 1, sizeof(*list));
	/* there are no more disks than images */
	sums = calloc(g->view.images.count + 1, sizeof(*sums));
	if (!list || !sums)
		return err_oom(e);
	gather_kind(g, true, list, sums, repack_left);
	gather_kind(g, false, list, sums, repack_left);
	return 0;
}
