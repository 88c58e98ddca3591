/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/disk_writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <sys/mman.h>

#include <liburing.h>

#include "lib/base/io.h"

struct slot {
	uint8_t *bytes;
	size_t len;
	uint64_t offset;
};

struct disk_writer {
	struct disk_writer_options o;
	struct io_uring ring;
	bool has_ring;
	bool registered; /* slot i is the ring's fixed buffer i */
	uint8_t *memory;
	size_t memory_len;
	struct slot *slots;	/* o.depth of them */
	unsigned int *free_ids; /* a stack of slots that nobody uses */
	unsigned int n_free;
	unsigned int in_flight;
	struct err failed; /* the first write that failed */
};

static int writer_register(struct disk_writer *w)
{
	struct iovec *v = calloc(w->o.depth, sizeof(*v));

	if (!v)
		return -ENOMEM;
	for (unsigned int i = 0; i < w->o.depth; i++)
		v[i] = (struct iovec){ w->slots[i].bytes, w->o.size };
	/* refused beyond RLIMIT_MEMLOCK for who is not root: then pages are pinned at each write */
	w->registered = io_uring_register_buffers(&w->ring, v, w->o.depth) == 0;
	free(v);
	return 0;
}

int disk_writer_new(const struct disk_writer_options *o, struct disk_writer **ret)
{
	_cleanup_(disk_writer_freep) struct disk_writer *w = calloc(1, sizeof(*w));
	size_t stride = ROUND_UP(o->size, (size_t)2 << 20);

	if (!w)
		return -ENOMEM;
	w->o = *o;
	w->slots = calloc(o->depth, sizeof(*w->slots));
	w->free_ids = calloc(o->depth, sizeof(*w->free_ids));
	if (!w->slots || !w->free_ids)
		return -ENOMEM;
	if (o->size < stride / 2)
		stride = ROUND_UP(o->size, (size_t)4096);
	w->memory_len = stride * o->depth;
	w->memory = mmap(NULL, w->memory_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	if (w->memory == MAP_FAILED) {
		w->memory = NULL;
		return -ENOMEM;
	}
	/* fewer pages to fault in and to pin; no harm where it is not to be had */
	madvise(w->memory, w->memory_len, MADV_HUGEPAGE);
	for (unsigned int i = 0; i < o->depth; i++) {
		w->slots[i].bytes = w->memory + stride * i;
		w->free_ids[w->n_free++] = i;
	}
	w->has_ring = io_uring_queue_init(o->depth, &w->ring, 0) == 0;
	if (w->has_ring && writer_register(w) < 0)
		return -ENOMEM;
	*ret = TAKE_PTR(w);
	return 0;
}

static int writer_failed(struct disk_writer *w, const struct slot *s, int code)
{
	if (!w->failed.code) {
		err_set_errno(&w->failed, code, "writing %zu bytes at byte %" PRIu64, s->len,
			      s->offset);
	}
	return code;
}

/* What the ring did only in part, or did not want to do without waiting. */
static void writer_complete(struct disk_writer *w, unsigned int id, int result)
{
	struct slot *s = &w->slots[id];
	int fd = w->o.direct_fd >= 0 ? w->o.direct_fd : w->o.fd;
	size_t done = result > 0 ? (size_t)result : 0;
	int r = 0;

	if (result == -EAGAIN || result == -EINTR || (result >= 0 && done < s->len)) {
		if (done % w->o.align)
			fd = w->o.fd;
		r = io_pwrite_all(fd, s->bytes + done, s->len - done, s->offset + done);
	} else if (result < 0) {
		r = result;
	}
	if (r < 0)
		writer_failed(w, s, r);
	w->free_ids[w->n_free++] = id;
}

/* Reap one completion; blocks. */
static int writer_reap(struct disk_writer *w)
{
	struct io_uring_cqe *cqe;
	int r;

	do {
		r = io_uring_wait_cqe(&w->ring, &cqe);
	} while (r == -EINTR);
	if (r < 0)
		return r;
	writer_complete(w, (unsigned int)io_uring_cqe_get_data64(cqe), cqe->res);
	io_uring_cqe_seen(&w->ring, cqe);
	w->in_flight--;
	return 0;
}

static int writer_error(const struct disk_writer *w, struct err *e)
{
	if (!w->failed.code)
		return 0;
	return err_set(e, w->failed.code, "%s", w->failed.text);
}

int disk_writer_buffer(struct disk_writer *w, void **ret, struct err *e)
{
	int r;

	while (!w->n_free) {
		r = writer_reap(w);
		if (r < 0)
			return err_set_errno(e, r, "waiting for a write");
	}
	r = writer_error(w, e);
	if (r < 0)
		return r;
	*ret = w->slots[w->free_ids[--w->n_free]].bytes;
	return 0;
}

static unsigned int writer_slot_of(const struct disk_writer *w, const void *buffer)
{
	unsigned int i = 0;

	while (w->slots[i].bytes != buffer)
		i++;
	return i;
}

void disk_writer_return(struct disk_writer *w, void *buffer)
{
	w->free_ids[w->n_free++] = writer_slot_of(w, buffer);
}

/*
 * In order after everything before it: a buffered write and a direct write that share a page would
 * otherwise race, and the page cache could put old bytes back.
 */
static int writer_write_now(struct disk_writer *w, unsigned int id, int fd, struct err *e)
{
	struct slot *s = &w->slots[id];
	int r = disk_writer_drain(w, e);

	if (r >= 0) {
		r = io_pwrite_all(fd, s->bytes, s->len, s->offset);
		if (r < 0) {
			err_set_errno(e, r, "writing %zu bytes at byte %" PRIu64, s->len,
				      s->offset);
		}
	}
	w->free_ids[w->n_free++] = id;
	return r;
}

int disk_writer_write(struct disk_writer *w, void *buffer, size_t len, uint64_t offset,
		      struct err *e)
{
	unsigned int id = writer_slot_of(w, buffer);
	struct slot *s = &w->slots[id];
	bool aligned = (offset | len) % w->o.align == 0;
	int fd = aligned && w->o.direct_fd >= 0 ? w->o.direct_fd : w->o.fd;
	struct io_uring_sqe *sqe;
	int r;

	s->len = len;
	s->offset = offset;
	if (!w->has_ring || (!aligned && w->o.direct_fd >= 0))
		return writer_write_now(w, id, fd, e);
	/* never NULL: the queue has as many entries as there are buffers */
	sqe = io_uring_get_sqe(&w->ring);
	if (w->registered) {
		io_uring_prep_write_fixed(sqe, fd, s->bytes, (unsigned int)len, offset, (int)id);
	} else {
		io_uring_prep_write(sqe, fd, s->bytes, (unsigned int)len, offset);
	}
	io_uring_sqe_set_data64(sqe, id);
	do {
		r = io_uring_submit(&w->ring);
	} while (r == -EINTR || r == -EAGAIN);
	if (r < 0) {
		w->free_ids[w->n_free++] = id;
		return err_set_errno(e, r, "submitting a write");
	}
	w->in_flight++;
	return 0;
}

int disk_writer_drain(struct disk_writer *w, struct err *e)
{
	int r;

	while (w->in_flight) {
		r = writer_reap(w);
		if (r < 0)
			return err_set_errno(e, r, "waiting for a write");
	}
	r = writer_error(w, e);
	w->failed = (struct err){ 0 };
	return r;
}

void disk_writer_free(struct disk_writer *w)
{
	if (!w)
		return;
	if (w->has_ring) {
		disk_writer_drain(w, NULL);
		io_uring_queue_exit(&w->ring);
	}
	if (w->memory)
		munmap(w->memory, w->memory_len);
	free(w->slots);
	free(w->free_ids);
	free(w);
}
