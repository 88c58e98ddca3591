/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * read_queue - reads that are under way: the seam between what is to be read and how the kernel is asked.
 *
 * Two ways: io_uring (read_ring.c), and threads that each call pread() (read_threads.c) for kernels and
 * policies that deny io_uring. Both give the same bytes; the second costs more CPU time.
 *
 * One owner; not thread-safe. After read_queue_new() nothing here allocates, so that it can be used while file
 * systems stand still.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"

/* Reads under way at most. Past 32 of 256 KiB nothing gets faster (facts: read speeds). */
#define READ_QUEUE_DEPTH 64u

struct read_queue;

struct read_done {
	unsigned int number; /* as given to start() */
	int result; /* bytes, fewer only at the end or before a bad place; or a negative errno */
};

struct read_queue_ops {
	const char *name; /* "io_uring", "threads" */
	/*
	 * Begin a read of @length bytes at @offset. The buffer is the kernel's until its number is reaped. At
	 * most READ_QUEUE_DEPTH may be under way. Never blocks; may wait with it for the next reap().
	 */
	void (*start)(struct read_queue *q, unsigned int number, void *buffer, uint32_t length,
		      uint64_t offset);
	/*
	 * What has completed, in any order, into @ret[READ_QUEUE_DEPTH]; @wait: block until there is at least
	 * one, so one must be under way. Returns how many, or a negative errno, after which it may be
	 * called again.
	 */
	int (*reap)(struct read_queue *q, bool wait, struct read_done *ret);
	/* Nothing may be under way. */
	void (*free)(struct read_queue *q);
};

struct read_queue {
	const struct read_queue_ops *ops;
	/*
	 * The owner's: the I/O priority of reads that are begun from now on, as ioprio_set(2) has it; 0: the calling thread's.
	 * It goes with each read and not with the thread, who also freezes, flushes, and has a store written: with an idle
	 * priority these would wait behind everybody while a file system stands still.
	 */
	uint16_t priority;
};

struct read_queue_settings {
	int fd; /* borrowed */
	/* most reads go into these: a hint, for registration with the kernel */
	void *buffers;
	size_t buffer_bytes;
};

/* io_uring where it is allowed, otherwise threads. */
int read_queue_new(const struct read_queue_settings *settings, struct read_queue **ret,
		   struct err *e);
/* One of them. -ENOSYS or -EPERM from the first: the kernel or a policy denies io_uring. */
int read_ring_new(const struct read_queue_settings *settings, struct read_queue **ret);
int read_threads_new(const struct read_queue_settings *settings, struct read_queue **ret);
/* Accepts NULL. */
void read_queue_free(struct read_queue *q);
DEFINE_CLEANUP(struct read_queue, read_queue_free);
