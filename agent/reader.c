/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/reader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/ioprio.h>

#include "agent/throttle.h"
#include "lib/base/io.h"

/* One read at most: a device splits larger ones anyway, and smaller ones share its queue better. */
#define READER_MAX_BYTES (512u << 10)
/* Unused blocks between used ones are read along and then blanked, up to so many: cheaper than a seek. */
#define READER_GAP_BLOCKS 8u
/* Unreadable places that can be noted while file systems stand still, without allocating. */
#define READER_BAD_ROOM 4096u

struct read_request {
	struct pipeline_slot *slot;
	uint32_t offset, length; /* in the slot's plain bytes */
};

struct reader {
	struct reader_settings set;
	struct read_queue *queue;
	struct read_request requests[READ_QUEUE_DEPTH];
	unsigned int free[READ_QUEUE_DEPTH], n_free; /* stack of unused requests */
	bool first;
	/* without ignore_errors: the lowest place of this pass that cannot be read, and why (0: none) */
	uint64_t failed_at;
	int failed;
	bool lost;  /* settings.lost() said so in this pass */
	bool ended; /* this pass has failed: what is still under way is only waited for */
	uint64_t busy_since, busy_ns, busy_bytes;
	struct throttle limit;
	struct extent_set bad; /* in no order while a pass is under way, never overlapping */
	/* between reader_hold() and reader_release(): what was taken, in the order of the stream */
	struct pipeline_slot **held;
	size_t n_held;
	bool holding;
};

int reader_new(const struct reader_settings *settings, struct reader **ret, struct err *e)
{
	_cleanup_(reader_freep) struct reader *r = calloc(1, sizeof(*r));
	struct read_queue_settings queue = { .fd = settings->fd };
	int n;

	if (!r) {
		read_queue_free(settings->queue);
		return err_oom(e);
	}
	r->set = *settings;
	r->queue = settings->queue;
	if (!r->queue) {
		queue.buffers = pipeline_buffers(settings->pipeline, &queue.buffer_bytes);
		n = read_queue_new(&queue, &r->queue, e);
		if (n < 0)
			return n;
	}
	r->held = calloc((size_t)settings->slots + 1, sizeof(struct pipeline_slot *));
	if (!r->held)
		return err_oom(e);
	while (r->n_free < READ_QUEUE_DEPTH) {
		r->free[r->n_free] = r->n_free;
		r->n_free++;
	}
	throttle_init(&r->limit, settings->limit);
	reader_hurry(r, false);
	*ret = TAKE_PTR(r);
	return 0;
}

void reader_hurry(struct reader *r, bool hurry)
{
	throttle_lift(&r->limit, hurry);
	r->queue->priority = r->set.idle && !hurry ? IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0) : 0;
}

void reader_free(struct reader *r)
{
	if (!r)
		return;
	read_queue_free(r->queue);
	extent_set_done(&r->bad);
	free(r->held);
	free(r);
}

/* One block, alone; a source of an odd length ends inside its last sector. */
static int reader_block(struct reader *r, void *buffer, uint32_t len, uint64_t place)
{
	ssize_t n = pread(r->set.fd, buffer, ROUND_UP(len, r->set.sector_size), (off_t)place);

	if (n < 0)
		return -errno;
	return n >= (ssize_t)len ? 0 : -EIO;
}

/* Room for one more place in `bad`. */
static int reader_bad_room(struct reader *r, struct err *e)
{
	if (r->bad.count < r->bad.allocated)
		return 0;
	if (r->holding) {
		return err_set(e, -ENOBUFS,
			       "%s has more unreadable places than can be noted while its file "
			       "systems stand still",
			       r->set.name);
	}
	return extent_set_reserve(&r->bad, r->bad.count + 1) < 0 ? err_oom(e) : 0;
}

/* [offset, offset + length) of the slot is to be read again some other day. */
static int reader_note_lost(struct reader *r, const struct plan_chunk *c, uint32_t offset,
			    uint32_t length, struct err *e)
{
	int n = reader_bad_room(r, e);

	if (n < 0)
		return n;
	extent_set_add(&r->bad, c->offset + offset, length);
	atomic_fetch_add(&r->set.status->bad, length);
	return 0;
}

/*
 * Read [offset, offset + length) of the slot again in sectors; what cannot be read becomes zeros, or ends the
 * pass. Blocks that were only read along are not missed.
 */
static int reader_retry(struct reader *r, const struct read_request *q, int error, struct err *e)
{
	struct pipeline_slot *slot = q->slot;
	uint32_t sector = r->set.sector_size;

	r->lost = r->lost || (r->set.lost && r->set.lost(r->set.lost_ctx));
	if (r->lost) {
		memset(slot->plain + q->offset, 0, q->length);
		return reader_note_lost(r, &slot->chunk, q->offset, q->length, e);
	}
	if (error == -EINVAL || error == -EFAULT || error == -EBADF || error == -ENXIO)
		return err_set_errno(e, error, "cannot read %s", r->set.name);
	for (uint32_t at = q->offset; at < q->offset + q->length; at += sector) {
		uint64_t place = slot->chunk.offset + at;
		uint32_t len = MIN(sector, q->offset + q->length - at);
		int n;

		if (!plan_chunk_block(&slot->chunk, at / PLAN_BLOCK))
			continue;
		n = reader_block(r, slot->plain + at, len, place);
		if (n >= 0)
			continue;
		if (!r->set.ignore_errors) {
			r->failed = n;
			r->failed_at = place;
			return n;
		}
		memset(slot->plain + at, 0, len);
		slot->unreadable += len;
		n = reader_bad_room(r, e);
		if (n < 0)
			return n;
		extent_set_add(&r->bad, place, len);
		atomic_fetch_add(&r->set.status->bad, len);
	}
	return 0;
}

/* Blank what was read along with the blocks that are wanted, and hand the chunk over. */
static void reader_chunk_complete(struct reader *r, struct pipeline_slot *slot)
{
	const struct plan_chunk *c = &slot->chunk;
	uint32_t blocks = DIV_ROUND_UP(c->length, PLAN_BLOCK);
	uint64_t bytes = 0;

	for (uint32_t b = 0; b < blocks; b++) {
		uint32_t at = b * PLAN_BLOCK, len = MIN(PLAN_BLOCK, c->length - at);

		if (plan_chunk_block(c, b)) {
			bytes += len;
		} else {
			memset(slot->plain + at, 0, len);
		}
	}
	slot->bad = slot->unreadable >= bytes;
	atomic_fetch_add(&r->set.status->read, bytes);
	if (r->first)
		atomic_fetch_add(&r->set.status->done, bytes);
	if (!r->holding)
		pipeline_ready(r->set.pipeline, slot);
}

static void reader_busy(struct reader *r)
{
	uint64_t now = io_now_ns();

	if (r->n_free < READ_QUEUE_DEPTH)
		r->busy_ns += now - r->busy_since;
	r->busy_since = now;
}

/* A read has completed. 0, or what ends the pass. */
static int reader_take_in(struct reader *r, const struct read_done *done, struct err *e)
{
	struct read_request *q = &r->requests[done->number];
	uint64_t place = q->slot->chunk.offset + q->offset;
	bool whole = done->result >= (int)q->length;
	int n = 0;

	r->busy_bytes += q->length;
	r->free[r->n_free++] = done->number;
	/* reads complete in any order; of those that fail, the lowest is told */
	if (!whole && (!r->ended || (r->failed && place < r->failed_at)))
		n = reader_retry(r, q, done->result < 0 ? done->result : -EIO, e);
	if (--q->slot->reads == 0 && n >= 0 && !r->ended)
		reader_chunk_complete(r, q->slot);
	r->ended |= n < 0;
	return n;
}

/* Take in what has completed; @wait: at least one. */
static int reader_reap(struct reader *r, bool wait, struct err *e)
{
	struct read_done done[READ_QUEUE_DEPTH];
	int result = 0, n;

	n = r->queue->ops->reap(r->queue, wait, done);
	if (n < 0)
		return err_set_errno(e, n, "cannot submit reads");
	reader_busy(r);
	for (int i = 0; i < n; i++) {
		int one = reader_take_in(r, &done[i], e);

		result = result < 0 ? result : one;
	}
	return result;
}

/*
 * Wait until @bytes more may be read. What is under way is waited for first: it is not begun before somebody waits, and the time
 * that nothing is under way does not count for reader_rate(), which tells how fast it could go without a limit.
 */
static int reader_throttle(struct reader *r, uint32_t bytes, struct err *e)
{
	while (throttle_waits(&r->limit) && r->n_free < READ_QUEUE_DEPTH) {
		int n = reader_reap(r, true, e);

		if (n < 0)
			return n;
	}
	return throttle_take(&r->limit, bytes, r->set.cancel) < 0
		       ? err_set(e, -ECANCELED, "cancelled")
		       : 0;
}

static int reader_start(struct reader *r, struct pipeline_slot *slot, uint32_t offset,
			uint32_t length, struct err *e)
{
	uint64_t place = slot->chunk.offset + offset;
	uint32_t whole = ROUND_UP(length, r->set.sector_size); /* a file may end inside a sector */
	unsigned int number;
	int n;

	n = reader_throttle(r, length, e);
	if (n < 0)
		return n;
	while (r->n_free == 0) {
		n = reader_reap(r, true, e);
		if (n < 0)
			return n;
	}
	reader_busy(r);
	number = r->free[--r->n_free];
	r->requests[number] = (struct read_request){ slot, offset, length };
	r->queue->ops->start(r->queue, number, slot->plain + offset, whole, place);
	return 0;
}

/* The end of the run of blocks from @b on that one read takes in. */
static uint32_t reader_run_end(const struct plan_chunk *c, uint32_t b, uint32_t blocks)
{
	uint32_t end = b + 1, limit = MIN(blocks, b + READER_MAX_BYTES / PLAN_BLOCK);

	for (uint32_t i = end; i < limit && i - end <= READER_GAP_BLOCKS; i++) {
		if (plan_chunk_block(c, i))
			end = i + 1;
	}
	return end;
}

static int reader_chunk(struct reader *r, struct pipeline_slot *slot, struct err *e)
{
	const struct plan_chunk *c = &slot->chunk;
	uint32_t blocks = DIV_ROUND_UP(c->length, PLAN_BLOCK), end;
	int n;

	slot->reads = 1; /* ours, until all are started */
	for (uint32_t b = 0; b < blocks; b = end) {
		uint32_t from = b * PLAN_BLOCK;

		end = b + 1;
		if (!plan_chunk_block(c, b))
			continue;
		end = reader_run_end(c, b, blocks);
		slot->reads++;
		n = reader_start(r, slot, from, MIN(end * PLAN_BLOCK, c->length) - from, e);
		if (n < 0)
			return n;
	}
	if (--slot->reads == 0)
		reader_chunk_complete(r, slot);
	return 0;
}

/* A free slot, taking in completions while there is none. */
static int reader_take_slot(struct reader *r, struct pipeline_slot **ret, struct err *e)
{
	for (;;) {
		/* with reads in flight it is they that will free a slot, so wait for them first */
		bool idle = r->n_free == READ_QUEUE_DEPTH;
		int n = pipeline_take(r->set.pipeline, idle, ret, e);

		if (n < 0 || *ret)
			return n;
		n = reader_reap(r, true, e);
		if (n < 0)
			return n;
	}
}

/* After an error: no buffer may be given back while the kernel still reads into it. */
static void reader_settle(struct reader *r)
{
	r->ended = true;
	while (r->n_free < READ_QUEUE_DEPTH)
		reader_reap(r, true, NULL);
}

/* What was unreadable in a chunk that is now read again no longer counts. */
static int reader_forget_bad(struct reader *r, const struct plan_chunk *c, struct err *e)
{
	uint64_t from = c->offset, to = c->offset + c->length;
	size_t kept = 0;
	struct extent tail = { 0 };
	int n;

	n = reader_bad_room(r, e);
	if (n < 0)
		return n;
	for (size_t i = 0; i < r->bad.count; i++) {
		struct extent x = r->bad.items[i];
		uint64_t end = extent_end(&x);

		if (end <= from || x.start >= to) {
			r->bad.items[kept++] = x;
			continue;
		}
		/* none overlaps another, so at most one goes beyond the chunk on both sides */
		if (x.start < from)
			r->bad.items[kept++] = (struct extent){ x.start, from - x.start };
		if (end > to && x.start < from) {
			tail = (struct extent){ to, end - to };
		} else if (end > to) {
			r->bad.items[kept++] = (struct extent){ to, end - to };
		}
	}
	if (tail.length)
		r->bad.items[kept++] = tail;
	r->bad.count = kept;
	atomic_store(&r->set.status->bad, extent_set_total(&r->bad));
	return 0;
}

/* The slot's place in the stream is the next one. */
static void reader_submit(struct reader *r, struct pipeline_slot *slot)
{
	if (r->holding) {
		r->held[r->n_held++] = slot;
	} else {
		pipeline_submit(r->set.pipeline, slot);
	}
}

static int reader_chunks(struct reader *r, const struct plan *plan, const struct extent_set *ranges,
			 struct err *e)
{
	struct pipeline_slot *slot = NULL;
	struct plan_chunk chunk;
	uint64_t at = 0;
	int n;

	while (plan_next(plan, ranges, &at, &chunk)) {
		if (cancel_raised(r->set.cancel))
			return err_set(e, -ECANCELED, "cancelled");
		n = r->bad.count ? reader_forget_bad(r, &chunk, e) : 0;
		if (n >= 0 && r->lost) {
			n = reader_note_lost(r, &chunk, 0, chunk.length, e);
			if (n < 0)
				return n;
			continue;
		}
		if (n >= 0)
			n = reader_take_slot(r, &slot, e);
		if (n < 0)
			return n;
		slot->chunk = chunk;
		reader_submit(r, slot);
		n = reader_chunk(r, slot, e);
		if (n >= 0)
			n = reader_reap(r, false, e);
		if (n < 0)
			return n;
	}
	while (r->n_free < READ_QUEUE_DEPTH) {
		n = reader_reap(r, true, e);
		if (n < 0)
			return n;
	}
	return 0;
}

int reader_pass(struct reader *r, const struct plan *plan, const struct extent_set *ranges,
		bool first, struct err *e)
{
	int n;

	r->first = first;
	r->ended = r->lost = false;
	r->failed = 0;
	n = reader_chunks(r, plan, ranges, e);
	if (n < 0)
		reader_settle(r);
	if (n >= 0 || !r->failed)
		return n;
	return err_set_errno(e, r->failed,
			     "cannot read %s at byte %" PRIu64 " (sector %" PRIu64
			     "); --ignore-read-errors records such places and goes on",
			     r->set.name, r->failed_at, r->failed_at / 512);
}

int reader_reserve(struct reader *r)
{
	/* written to, so that its pages are there */
	memset(r->held, 0, r->set.slots * sizeof(struct pipeline_slot *));
	return extent_set_reserve(&r->bad, r->bad.count + READER_BAD_ROOM);
}

void reader_hold(struct reader *r)
{
	r->n_held = 0;
	r->holding = true;
}

void reader_release(struct reader *r)
{
	r->holding = false;
	for (size_t i = 0; i < r->n_held; i++) {
		pipeline_submit(r->set.pipeline, r->held[i]);
		pipeline_ready(r->set.pipeline, r->held[i]);
	}
	r->n_held = 0;
}

uint64_t reader_rate(const struct reader *r)
{
	return r->busy_ns ? (uint64_t)((double)r->busy_bytes * 1e9 / (double)r->busy_ns) : 0;
}

const struct extent_set *reader_bad(struct reader *r)
{
	extent_set_normalise(&r->bad);
	return &r->bad;
}
