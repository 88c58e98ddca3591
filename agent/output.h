/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * output - the descriptor that a client gave for the image, as an image_sink.
 *
 * A pipe or socket is written without ever blocking for good: while the other side does not read, the
 * writer waits for it or for the cancel, whichever comes first. The client's own descriptor flags are not
 * touched (O_NONBLOCK belongs to the open file, which we share with the client).
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/throttle.h"
#include "lib/base/cancel.h"
#include "lib/base/err.h"
#include "lib/image/image_writer.h"

struct output {
	int fd; /* ours, or the client's where that cannot block */
	bool owned;
	bool waits; /* a pipe or socket */
	struct cancel *cancel;
	atomic_uint_fast64_t *written; /* bytes, kept up to date for whoever watches; borrowed */
	struct throttle limit;	       /* none, until the owner says otherwise */
};

/* @fd is borrowed and must outlive the output. -EBADF when it is not open for writing. */
int output_open(struct output *o, int fd, struct cancel *cancel, atomic_uint_fast64_t *written,
		struct err *e);
void output_close(struct output *o);
struct image_sink output_sink(struct output *o);
