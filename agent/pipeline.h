/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pipeline - from plain chunks in memory to an image stream: zero detection, SHA-256, zstd, in order.
 *
 *	reader:  slot = pipeline_take()        a buffer, bounded: this is the back-pressure
 *	         … starts reading into slot->plain …
 *	         pipeline_submit(slot)         fixes its place in the stream
 *	         … the read is complete …
 *	         pipeline_ready(slot)
 *	workers: hash and compress; give the slot back
 *	writer:  one thread; frames leave in the order of pipeline_submit()
 *
 * Invariants:
 *  P1. Memory: `slots` plain buffers and `threads + 4` frame buffers, no more.
 *  P2. Workers claim chunks in stream order and take a frame buffer as they claim; so the oldest chunk
 *      always has one, and the writer never waits for a buffer that nobody can free.
 *  P3. The first error wins, whoever meets it; from then on every call returns it and nothing is written.
 *  P4. A slot is free again once its chunk is compressed, whether or not the output takes it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/plan.h"
#include "lib/base/cancel.h"
#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/image/image_writer.h"

struct pipeline;
struct increment;

struct pipeline_slot {
	struct plan_chunk chunk;
	uint8_t *plain;	     /* chunk-sized, page-aligned */
	unsigned int number; /* 0 … slots - 1 */
	bool bad;	     /* nothing of it could be read */
	uint64_t sequence;   /* the pipeline's own: its place in the stream */
	/* the reader's own, while it reads */
	unsigned int reads;
	uint32_t unreadable; /* bytes */
};

struct pipeline_settings {
	uint32_t chunk_size;
	unsigned int slots; /* plain buffers */
	unsigned int
		base_slots; /* of these, for use at any time; the others only after pipeline_reserve() */
	unsigned int threads;
	bool full_speed; /* compress at the usual priority, not a lower one */
	int level;
	/* Without RESENT: what lies between chunks is written as free runs, so that all of the disk is. */
	bool in_disk_order;
	struct increment *increment;	 /* borrowed; NULL: nothing is compared */
	struct image_writer *writer;	 /* borrowed; used by the writer thread only until finish */
	const struct manifest *manifest; /* borrowed; the regions' lengths */
	struct cancel *cancel;
};

int pipeline_new(const struct pipeline_settings *settings, struct pipeline **ret, struct err *e);
/* Ends the threads, finished or not. Accepts NULL. */
void pipeline_free(struct pipeline *p);
DEFINE_CLEANUP(struct pipeline, pipeline_free);

/* The plain buffers: one block of slots * chunk_size bytes, the base slots first. For registration. */
void *pipeline_buffers(const struct pipeline *p, size_t *ret_base_bytes);

/*
 * A free slot. @wait: block until there is one; otherwise *ret is NULL when there is none. Returns 0, or
 * the first error.
 */
int pipeline_take(struct pipeline *p, bool wait, struct pipeline_slot **ret, struct err *e);
/* Fix the slot's place in the stream: right behind the one submitted before. Never blocks. */
void pipeline_submit(struct pipeline *p, struct pipeline_slot *slot);
/* The slot's plain bytes are complete. Never blocks. */
void pipeline_ready(struct pipeline *p, struct pipeline_slot *slot);

/* Wait until every slot is free. Returns the first error. */
int pipeline_drain(struct pipeline *p, struct err *e);
/*
 * Make @slots slots usable at once (all must be free: after pipeline_drain()), with their memory
 * present, so that reading into them allocates nothing. -E2BIG when there are not so many.
 */
int pipeline_reserve(struct pipeline *p, unsigned int slots, struct err *e);
/* Back to the base slots, the others' memory given back. After pipeline_drain(). */
void pipeline_release(struct pipeline *p);

/* All was submitted and is ready: wait until everything is written, end the threads. First error. */
int pipeline_finish(struct pipeline *p, struct err *e);
/* Report an error of the reader's: everyone stops. */
void pipeline_fail(struct pipeline *p, const struct err *e);
