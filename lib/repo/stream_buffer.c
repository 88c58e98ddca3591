/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/stream_buffer.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/cleanup.h"

/* With less room than this behind what is at hand, that is moved to the front: reads stay large. */
#define READ_LEAST (STREAM_BUFFER_SIZE / 4)

int stream_buffer_init(struct stream_buffer *b, int fd, struct cancel *c)
{
	*b = (struct stream_buffer){ .fd = fd, .cancel = c, .size = STREAM_BUFFER_SIZE };
	b->bytes = malloc(b->size);
	return b->bytes ? 0 : -ENOMEM;
}

void stream_buffer_done(struct stream_buffer *b)
{
	free(b->bytes);
	b->bytes = NULL;
}

int stream_buffer_grow(struct stream_buffer *b, size_t len)
{
	const size_t size = STREAM_BUFFER_SIZE + len;
	uint8_t *bytes;

	if (size <= b->size)
		return 0;
	bytes = realloc(b->bytes, size);
	if (!bytes)
		return -ENOMEM;
	b->bytes = bytes;
	b->size = size;
	return 0;
}

const void *stream_buffer_at(const struct stream_buffer *b)
{
	return b->bytes + b->start;
}

size_t stream_buffer_have(const struct stream_buffer *b)
{
	return b->end - b->start;
}

void stream_buffer_take(struct stream_buffer *b, size_t len)
{
	b->start += len;
	b->taken += len;
}

/* One read(2). Returns the count, 0 at the end. */
static ssize_t buffer_read(struct stream_buffer *b)
{
	for (;;) {
		ssize_t n;
		int r = b->cancel ? cancel_wait_fd(b->cancel, b->fd, POLLIN) : 0;

		if (r < 0)
			return r;
		n = read(b->fd, b->bytes + b->end, b->size - b->end);
		if (n >= 0)
			return n;
		if (errno == EAGAIN) {
			r = cancel_wait_fd(b->cancel, b->fd, POLLIN);
			if (r < 0)
				return r;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
}

static void buffer_make_room(struct stream_buffer *b, size_t len)
{
	if (b->start == b->end) {
		b->start = b->end = 0;
	} else if (b->size - b->start < len || b->size - b->end < READ_LEAST) {
		memmove(b->bytes, b->bytes + b->start, b->end - b->start);
		b->end -= b->start;
		b->start = 0;
	}
}

/* Read once more. 1, 0 at the end of the stream, or a negative errno with words. */
static int buffer_more(struct stream_buffer *b, size_t len, struct err *e)
{
	ssize_t n;

	buffer_make_room(b, len);
	n = buffer_read(b);
	if (n == -ECANCELED)
		return err_set(e, -ECANCELED, "cancelled");
	if (n < 0) {
		return err_set_errno(e, (int)n, "cannot read the stream after %" PRIu64 " bytes",
				     b->taken);
	}
	b->end += (size_t)n;
	return n > 0;
}

int stream_buffer_need(struct stream_buffer *b, size_t len, struct err *e)
{
	while (b->end - b->start < len) {
		int r = buffer_more(b, len, e);

		if (r < 0)
			return r;
		if (r == 0) {
			return err_set(e, -ENODATA,
				       "the stream was cut off: it ends after %" PRIu64 " bytes",
				       b->taken + b->end - b->start);
		}
	}
	return 0;
}

int stream_buffer_pass(struct stream_buffer *b, uint64_t len,
		       void (*fn)(void *ctx, const void *bytes, size_t n), void *ctx, struct err *e)
{
	while (len) {
		size_t n;
		int r = stream_buffer_need(b, 1, e);

		if (r < 0)
			return r;
		n = (size_t)MIN(len, (uint64_t)(b->end - b->start));
		if (fn)
			fn(ctx, b->bytes + b->start, n);
		stream_buffer_take(b, n);
		len -= n;
	}
	return 0;
}

int stream_buffer_check_end(struct stream_buffer *b, struct err *e)
{
	int r = b->start < b->end ? 1 : buffer_more(b, 1, e);

	return r > 0 ? err_set(e, -EBADMSG, "the stream goes on behind its end, at byte %" PRIu64,
			       b->taken)
		     : r;
}
