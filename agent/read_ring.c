/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * read_ring - a read queue by io_uring, with registered buffers where the kernel lets us.
 */
#include <errno.h>
#include <stdlib.h>

#include <liburing.h>

#include "agent/read_queue.h"

struct read_ring {
	struct read_queue base;
	struct io_uring ring;
	int fd;
	bool fixed;
	const uint8_t *buffers;
	size_t buffer_bytes;
};

static struct read_ring *ring_of(struct read_queue *q)
{
	return (struct read_ring *)q; /* base is first */
}

static void ring_start(struct read_queue *q, unsigned int number, void *buffer, uint32_t length,
		       uint64_t offset)
{
	struct read_ring *r = ring_of(q);
	struct io_uring_sqe *sqe =
		io_uring_get_sqe(&r->ring); /* as many as may be under way: never NULL */
	const uint8_t *to = buffer;

	if (r->fixed && to >= r->buffers && to + length <= r->buffers + r->buffer_bytes) {
		io_uring_prep_read_fixed(sqe, r->fd, buffer, length, offset, 0);
	} else {
		io_uring_prep_read(sqe, r->fd, buffer, length, offset);
	}
	sqe->ioprio = q->priority;
	io_uring_sqe_set_data64(sqe, number);
}

static int ring_reap(struct read_queue *q, bool wait, struct read_done *ret)
{
	struct read_ring *r = ring_of(q);
	struct io_uring_cqe *cqe;
	unsigned int head, n = 0;
	int result;

	do {
		result = wait ? io_uring_submit_and_wait(&r->ring, 1) : io_uring_submit(&r->ring);
	} while (result == -EINTR);
	io_uring_for_each_cqe(&r->ring, head, cqe)
	{
		if (n == READ_QUEUE_DEPTH)
			break;
		ret[n++] = (struct read_done){
			.number = (unsigned int)io_uring_cqe_get_data64(cqe),
			.result = cqe->res,
		};
	}
	io_uring_cq_advance(&r->ring, n);
	/* what could not be submitted now is submitted by the next call */
	return n || result >= 0 ? (int)n : result;
}

static void ring_free(struct read_queue *q)
{
	struct read_ring *r = ring_of(q);

	io_uring_queue_exit(&r->ring);
	free(r);
}

static const struct read_queue_ops ring_ops = {
	.name = "io_uring",
	.start = ring_start,
	.reap = ring_reap,
	.free = ring_free,
};

int read_ring_new(const struct read_queue_settings *settings, struct read_queue **ret)
{
	struct iovec iov = { settings->buffers, settings->buffer_bytes };
	struct read_ring *r = calloc(1, sizeof(*r));
	int n;

	if (!r)
		return -ENOMEM;
	r->base.ops = &ring_ops;
	r->fd = settings->fd;
	r->buffers = settings->buffers;
	r->buffer_bytes = settings->buffer_bytes;
	n = io_uring_queue_init(READ_QUEUE_DEPTH, &r->ring, 0);
	if (n < 0) {
		free(r);
		return n;
	}
	/* no room under RLIMIT_MEMLOCK costs a little speed, nothing else */
	r->fixed = r->buffer_bytes && io_uring_register_buffers(&r->ring, &iov, 1) == 0;
	*ret = &r->base;
	return 0;
}
