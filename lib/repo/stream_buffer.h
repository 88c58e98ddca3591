/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stream_buffer - whole pieces of what comes from a descriptor, without copying them.
 *
 * Reads are as large as there is room. Not thread-safe.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/err.h"

struct stream_buffer {
	int fd;		       /* borrowed */
	struct cancel *cancel; /* may be NULL */
	uint8_t *bytes;
	size_t size, start, end; /* what is at hand: start … end */
	uint64_t taken;		 /* bytes of the stream before start */
};

/* Bytes of an empty buffer. */
#define STREAM_BUFFER_SIZE ((size_t)1 << 20)

/* 0 or -ENOMEM; stream_buffer_done() after either. */
int stream_buffer_init(struct stream_buffer *b, int fd, struct cancel *c);
void stream_buffer_done(struct stream_buffer *b);
/* From now on pieces of @len bytes are possible. 0 or -ENOMEM. */
int stream_buffer_grow(struct stream_buffer *b, size_t len);
/*
 * Have @len bytes at hand, at most what stream_buffer_grow() made possible; they are at stream_buffer_at(). Blocks.
 * -ENODATA when the stream ends before, -ECANCELED, or a negative errno of reading, with words.
 */
int stream_buffer_need(struct stream_buffer *b, size_t len, struct err *e);
/* Good until stream_buffer_need() is called again. */
const void *stream_buffer_at(const struct stream_buffer *b);
/* How many bytes are at hand. */
size_t stream_buffer_have(const struct stream_buffer *b);
/* @len bytes that are at hand are done with; they stay where they are until the next need(). */
void stream_buffer_take(struct stream_buffer *b, size_t len);
/* Read @len bytes, hand them to @fn (may be NULL) in pieces and forget them. As stream_buffer_need(). */
int stream_buffer_pass(struct stream_buffer *b, uint64_t len,
		       void (*fn)(void *ctx, const void *bytes, size_t n), void *ctx,
		       struct err *e);
/* 0 when the stream ends here, -EBADMSG when it goes on. */
int stream_buffer_check_end(struct stream_buffer *b, struct err *e);
