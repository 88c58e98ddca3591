/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/restore_plan.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>

#include "lib/image/chunk_order.h"

/* A run of nothing is handed out in pieces, so that progress is seen and a Ctrl-C is felt. */
#define PIECE_MAX (UINT64_C(256) << 20)
/* Alignment beyond which nobody cares. */
#define UNIT_MAX (UINT64_C(1) << 20)

struct restore_plan {
	const struct image_reader *reader;
	const struct manifest *manifest;
	uint32_t first, end; /* regions [first, end) */
	uint64_t base, size;
	uint64_t totals[RESTORE_ACTS];
	struct cancel *cancel; /* may be NULL */

	pthread_mutex_t lock; /* guards all that follows */
	enum restore_part part;
	uint32_t region;
	struct image_cursor *cursor; /* of region; NULL: not begun */
	uint64_t next, stop;	     /* chunks of region that are left in this part */
	uint64_t piece_max;	     /* bytes */
	uint64_t pages;		     /* read in this part, in the regions before */
	struct chunk_order *chunks;  /* NULL: as on the disk */
	struct chunk_order *room;    /* what chunks is else */
};

static const struct manifest_region *plan_region(const struct restore_plan *p)
{
	return &p->manifest->regions[p->region];
}

/*
 * Cut the chunks of a region into head [0, *ret_head), body, and tail [*ret_tail, n): those that share a
 * byte with the first and with the last MiB of the target. The head has precedence.
 */
static void plan_cut(const struct restore_plan *p, uint64_t *ret_head, uint64_t *ret_tail)
{
	const struct manifest_region *g = plan_region(p);
	uint64_t chunk = p->manifest->chunk_size, n = region_chunks(g->length, chunk);
	uint64_t start = g->start - p->base, head = 0, tail = n;
	uint64_t tail_start = p->size > RESTORE_EDGE ? p->size - RESTORE_EDGE : 0;

	if (start < RESTORE_EDGE)
		head = MIN(DIV_ROUND_UP(RESTORE_EDGE - start, chunk), n);
	if (start + g->length > tail_start)
		tail = start < tail_start ? (tail_start - start) / chunk : 0;
	*ret_head = head;
	*ret_tail = MAX(tail, head);
}

/* How many of the head's chunks begin the target. */
static uint64_t plan_first(const struct restore_plan *p)
{
	const struct manifest_region *g = plan_region(p);
	uint64_t chunk = p->manifest->chunk_size, start = g->start - p->base;

	if (start >= RESTORE_FIRST_BYTES)
		return 0;
	return MIN(DIV_ROUND_UP(RESTORE_FIRST_BYTES - start, chunk),
		   region_chunks(g->length, chunk));
}

static int plan_enter(struct restore_plan *p, struct err *e)
{
	uint64_t chunk = p->manifest->chunk_size;
	uint64_t head, tail;
	int r;

	plan_cut(p, &head, &tail);
	switch (p->part) {
	case RESTORE_FIRST:
		p->next = 0;
		p->stop = plan_first(p);
		break;
	case RESTORE_HEAD:
		p->next = plan_first(p);
		p->stop = head;
		break;
	case RESTORE_TAIL:
		p->next = tail;
		p->stop = region_chunks(plan_region(p)->length, chunk);
		break;
	default:
		p->next = head;
		p->stop = tail;
		break;
	}
	r = image_cursor_new(p->reader, p->region, &p->cursor);
	return r < 0 ? err_set_errno(e, r, "opening region %" PRIu32, p->region) : 0;
}

static void plan_leave(struct restore_plan *p)
{
	p->pages += image_cursor_pages(p->cursor);
	image_cursor_free(p->cursor);
	p->cursor = NULL;
	p->region++;
}

/*
 * How much of a run of free chunks is one piece, and is it to be zeroed? An old superblock or md label must
 * not be seen where the image has nothing: neither at the beginning nor at the end of a region.
 */
static uint64_t plan_free_piece(const struct restore_plan *p, uint64_t count, enum restore_act *act)
{
	uint64_t chunk = p->manifest->chunk_size, length = plan_region(p)->length;
	uint64_t low = DIV_ROUND_UP(RESTORE_EDGE, chunk);
	uint64_t high = length > RESTORE_EDGE ? (length - RESTORE_EDGE) / chunk : 0;

	*act = RESTORE_ZERO;
	if (p->part != RESTORE_BODY || p->next >= high)
		return count;
	if (p->next < low)
		return MIN(count, low - p->next);
	*act = RESTORE_FREE;
	return MIN(count, high - p->next);
}

static void plan_piece(struct restore_plan *p, const struct image_run *run,
		       struct restore_item *ret)
{
	const struct manifest_region *g = plan_region(p);
	uint64_t chunk = p->manifest->chunk_size, count = MIN(run->count, p->stop - p->next);

	*ret = (struct restore_item){ .region = p->region, .run = *run };
	switch (run->state) {
	case CHUNK_DATA:
		ret->act = RESTORE_DATA;
		break;
	case CHUNK_FREE:
		count = plan_free_piece(p, count, &ret->act);
		break;
	case CHUNK_BAD:
		ret->act = RESTORE_BAD;
		break;
	default:
		ret->act = RESTORE_ZERO;
		break;
	}
	count = MIN(count, p->piece_max / chunk);
	ret->offset = g->start - p->base + p->next * chunk;
	ret->length = MIN((p->next + count) * chunk, g->length) - p->next * chunk;
	p->next += count;
}

/* The next piece in the order of the disk. */
static int plan_walk(struct restore_plan *p, struct restore_item *ret, struct err *e)
{
	struct image_run run;
	int r;

	while (p->region < p->end) {
		if (!p->cursor) {
			r = plan_enter(p, e);
			if (r < 0)
				return r;
		}
		if (p->next >= p->stop) {
			plan_leave(p);
			continue;
		}
		r = image_cursor_at(p->cursor, p->next, &run, e);
		if (r < 0)
			return r;
		if (r == 0) {
			return err_set(e, -EBADMSG, "region %" PRIu32 ": its tree ends too early",
				       p->region);
		}
		plan_piece(p, &run, ret);
		return 1;
	}
	return 0;
}

/* A chunk as it comes from p->chunks. */
static bool plan_stored(struct restore_plan *p, struct restore_item *ret)
{
	const struct manifest_region *g;

	*ret = (struct restore_item){ .act = RESTORE_DATA };
	if (!chunk_order_next(p->chunks, &ret->region, &ret->run))
		return false;
	g = &p->manifest->regions[ret->region];
	ret->offset = g->start - p->base + ret->run.index * p->manifest->chunk_size;
	ret->length = ret->run.plain_len;
	return true;
}

/* Chunks are put aside until there is no more room, or no more of them; all else comes at once. */
static int plan_step(struct restore_plan *p, struct restore_item *ret, struct err *e)
{
	int r;

	if (!p->chunks)
		return plan_walk(p, ret, e);
	while (!plan_stored(p, ret)) {
		if (cancel_raised(p->cancel))
			return err_set(e, -ECANCELED, "interrupted");
		r = plan_walk(p, ret, e);
		if (r < 0 || (r > 0 && ret->act != RESTORE_DATA))
			return r;
		if (r > 0 && chunk_order_add(p->chunks, ret->region, &ret->run))
			continue;
		if (!chunk_order_sort(p->chunks))
			return 0;
	}
	return 1;
}

int restore_plan_next(struct restore_plan *p, struct restore_item *ret, struct err *e)
{
	int r;

	pthread_mutex_lock(&p->lock);
	r = plan_step(p, ret, e);
	pthread_mutex_unlock(&p->lock);
	return r;
}

void restore_plan_begin(struct restore_plan *p, enum restore_part part, enum restore_order order)
{
	image_cursor_free(p->cursor);
	p->cursor = NULL;
	p->part = part;
	p->region = p->first;
	p->pages = 0;
	p->chunks = order == RESTORE_AS_STORED ? p->room : NULL;
	if (p->chunks)
		chunk_order_clear(p->chunks);
}

/* *@ret_most: as many chunks with data as the part has that has most. */
static int plan_count_part(struct restore_plan *p, uint64_t *ret_most, struct err *e)
{
	struct restore_item item = { 0 };
	uint64_t chunks = 0;
	int r;

	while ((r = restore_plan_next(p, &item, e)) > 0) {
		p->totals[item.act] += item.length;
		if (cancel_raised(p->cancel))
			return err_set(e, -ECANCELED, "interrupted");
		chunks += item.act == RESTORE_DATA;
		r = image_reader_check_use(p->reader, p->pages + image_cursor_pages(p->cursor),
					   chunks, e);
		if (r < 0)
			return r;
	}
	*ret_most = MAX(*ret_most, chunks);
	return r;
}

static int plan_count(struct restore_plan *p, uint64_t *ret_most, struct err *e)
{
	int r = 0;

	/* exabytes of nothing are one piece */
	p->piece_max = UINT64_MAX;
	for (int part = 0; part < RESTORE_PARTS && r >= 0; part++) {
		restore_plan_begin(p, (enum restore_part)part, RESTORE_AS_ON_DISK);
		r = plan_count_part(p, ret_most, e);
	}
	p->piece_max = PIECE_MAX;
	return r;
}

int restore_plan_new(const struct image_reader *r, int64_t region, struct cancel *c,
		     struct restore_plan **ret, struct err *e)
{
	_cleanup_(restore_plan_freep) struct restore_plan *p = calloc(1, sizeof(*p));
	const struct manifest *m = image_reader_manifest(r);
	uint64_t chunks = 0;
	int n;

	if (!p)
		return err_oom(e);
	pthread_mutex_init(&p->lock, NULL);
	p->reader = r;
	p->cancel = c;
	p->manifest = m;
	if (region == RESTORE_ALL_REGIONS) {
		p->end = (uint32_t)m->n_regions;
		p->size = m->disk_size;
	} else {
		p->first = (uint32_t)region;
		p->end = p->first + 1;
		p->base = m->regions[region].start;
		p->size = m->regions[region].length;
	}
	n = plan_count(p, &chunks, e);
	if (n < 0)
		return n;
	/* one more than there are: it is sorted when all of the part was walked */
	if (chunk_order_new(chunks + 1, &p->room) < 0)
		return err_oom(e);
	*ret = TAKE_PTR(p);
	return 0;
}

void restore_plan_free(struct restore_plan *p)
{
	if (!p)
		return;
	image_cursor_free(p->cursor);
	chunk_order_free(p->room);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

uint64_t restore_plan_size(const struct restore_plan *p)
{
	return p->size;
}

uint64_t restore_plan_base(const struct restore_plan *p)
{
	return p->base;
}

uint64_t restore_plan_total(const struct restore_plan *p, enum restore_act act)
{
	return p->totals[act];
}

uint64_t restore_plan_unit(const struct restore_plan *p)
{
	uint64_t unit = MIN(p->manifest->chunk_size, UNIT_MAX);

	for (uint32_t i = p->first; i < p->end; i++) {
		while ((p->manifest->regions[i].start - p->base) % unit)
			unit /= 2;
	}
	return unit;
}
