/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/reader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <liburing.h>

#include "lib/base/io.h"

/* Reads in flight. Past 32 of 256 KiB nothing gets faster (facts: read speeds), more costs memory only. */
#define READER_DEPTH 64u
/* One read at most: a device splits larger ones anyway, and smaller ones share its queue better. */
#define READER_MAX_BYTES (512u << 10)
/* Unused blocks between used ones are read along and then blanked, up to so many: cheaper than a seek. */
#define READER_GAP_BLOCKS 8u

struct read_request {
	struct pipeline_slot *slot;
	uint32_t offset, length; /* in the slot's plain bytes */
};

struct reader {
	struct reader_settings set;
	struct io_uring ring;
	bool ring_up, fixed;
	size_t fixed_bytes;
	uint8_t *buffers;
	struct read_request requests[READER_DEPTH];
	unsigned int free[READER_DEPTH], n_free; /* stack of unused requests */
	bool first;
	uint64_t busy_since, busy_ns, busy_bytes;
	struct extent_set bad;
};

int reader_new(const struct reader_settings *settings, struct reader **ret, struct err *e)
{
	_cleanup_(reader_freep) struct reader *r = calloc(1, sizeof(*r));
	struct iovec iov;
	int n;

	if (!r)
		return err_oom(e);
	r->set = *settings;
	n = io_uring_queue_init(READER_DEPTH, &r->ring, 0);
	if (n == -ENOSYS || n == -EPERM) {
		return err_set(
			e, -ENOSYS,
			"this kernel does not let us use io_uring (is kernel.io_uring_disabled set?)");
	}
	if (n < 0)
		return err_set_errno(e, n, "cannot set up io_uring");
	r->ring_up = true;
	r->buffers = pipeline_buffers(settings->pipeline, &r->fixed_bytes);
	iov = (struct iovec){ r->buffers, r->fixed_bytes };
	/* no room under RLIMIT_MEMLOCK costs a little speed, nothing else */
	r->fixed = io_uring_register_buffers(&r->ring, &iov, 1) == 0;
	while (r->n_free < READER_DEPTH) {
		r->free[r->n_free] = r->n_free;
		r->n_free++;
	}
	*ret = TAKE_PTR(r);
	return 0;
}

void reader_free(struct reader *r)
{
	if (!r)
		return;
	if (r->ring_up)
		io_uring_queue_exit(&r->ring);
	extent_set_done(&r->bad);
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

/*
 * Read [offset, offset + length) of the slot again in sectors; what cannot be read becomes zeros. Blocks that
 * were only read along are not missed.
 */
static int reader_retry(struct reader *r, const struct read_request *q, int error, struct err *e)
{
	struct pipeline_slot *slot = q->slot;
	uint32_t sector = r->set.sector_size;

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
			return err_set_errno(
				e, n,
				"cannot read %s at byte %" PRIu64 " (sector %" PRIu64
				"); --ignore-read-errors records such places and goes on",
				r->set.name, place, place / 512);
		}
		memset(slot->plain + at, 0, len);
		slot->unreadable += len;
		if (extent_set_add(&r->bad, place, len) < 0)
			return err_oom(e);
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
	pipeline_ready(r->set.pipeline, slot);
}

static void reader_busy(struct reader *r)
{
	uint64_t now = io_now_ns();

	if (r->n_free < READER_DEPTH)
		r->busy_ns += now - r->busy_since;
	r->busy_since = now;
}

/* Take in what has completed; @wait: at least one. */
static int reader_reap(struct reader *r, bool wait, struct err *e)
{
	struct io_uring_cqe *cqe;
	unsigned int head, n = 0;
	int result;

	do {
		result = wait ? io_uring_submit_and_wait(&r->ring, 1) : io_uring_submit(&r->ring);
	} while (result == -EINTR);
	if (result < 0)
		return err_set_errno(e, result, "cannot submit reads");
	reader_busy(r);
	result = 0;
	io_uring_for_each_cqe(&r->ring, head, cqe)
	{
		unsigned int number = (unsigned int)io_uring_cqe_get_data64(cqe);
		struct read_request *q = &r->requests[number];

		n++;
		if (cqe->res < (int)q->length && result >= 0)
			result = reader_retry(r, q, cqe->res < 0 ? cqe->res : -EIO, e);
		r->busy_bytes += q->length;
		r->free[r->n_free++] = number;
		if (--q->slot->reads == 0 && result >= 0)
			reader_chunk_complete(r, q->slot);
	}
	io_uring_cq_advance(&r->ring, n);
	return result;
}

static int reader_start(struct reader *r, struct pipeline_slot *slot, uint32_t offset,
			uint32_t length, struct err *e)
{
	uint64_t place = slot->chunk.offset + offset;
	uint8_t *buffer = slot->plain + offset;
	uint32_t whole = ROUND_UP(length, r->set.sector_size); /* a file may end inside a sector */
	struct io_uring_sqe *sqe;
	unsigned int number;
	int n;

	while (r->n_free == 0) {
		n = reader_reap(r, true, e);
		if (n < 0)
			return n;
	}
	reader_busy(r);
	number = r->free[--r->n_free];
	r->requests[number] = (struct read_request){ slot, offset, length };
	sqe = io_uring_get_sqe(&r->ring); /* as many as requests: never NULL */
	if (r->fixed && buffer + whole <= r->buffers + r->fixed_bytes) {
		io_uring_prep_read_fixed(sqe, r->set.fd, buffer, whole, place, 0);
	} else {
		io_uring_prep_read(sqe, r->set.fd, buffer, whole, place);
	}
	io_uring_sqe_set_data64(sqe, number);
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
		bool idle = r->n_free == READER_DEPTH;
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
	while (r->n_free < READER_DEPTH) {
		struct io_uring_cqe *cqe;

		io_uring_submit(&r->ring);
		if (io_uring_wait_cqe(&r->ring, &cqe) < 0)
			continue;
		r->free[r->n_free++] = (unsigned int)io_uring_cqe_get_data64(cqe);
		io_uring_cqe_seen(&r->ring, cqe);
	}
}

/* What was unreadable in a chunk that is now read again no longer counts. */
static int reader_forget_bad(struct reader *r, const struct plan_chunk *c)
{
	struct extent here = { c->offset, c->length };
	struct extent_set again = { .items = &here, .count = 1 }, rest;
	int n;

	extent_set_normalise(&r->bad);
	if (!extent_set_overlaps(&r->bad, c->offset, c->length))
		return 0;
	n = extent_set_subtract(&r->bad, &again, &rest);
	if (n < 0)
		return n;
	extent_set_done(&r->bad);
	r->bad = rest;
	atomic_store(&r->set.status->bad, extent_set_total(&r->bad));
	return 0;
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
		if (r->bad.count && reader_forget_bad(r, &chunk) < 0)
			return err_oom(e);
		n = reader_take_slot(r, &slot, e);
		if (n < 0)
			return n;
		slot->chunk = chunk;
		pipeline_submit(r->set.pipeline, slot);
		n = reader_chunk(r, slot, e);
		if (n >= 0)
			n = reader_reap(r, false, e);
		if (n < 0)
			return n;
	}
	while (r->n_free < READER_DEPTH) {
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
	n = reader_chunks(r, plan, ranges, e);
	if (n < 0)
		reader_settle(r);
	return n;
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
