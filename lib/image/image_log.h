/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image_log - what an image_writer has written so far: the regions' hash trees, and what stands in the stream
 * in which order. INDEX and seek table are made from it at the end.
 *
 * Takes 24 bytes per data chunk here and 33 in the tree, where the id is. Not thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/image/format.h"
#include "lib/image/manifest.h"
#include "lib/image/tree.h"

struct image_log_region {
	struct tree *tree;
	uint64_t length; /* bytes */
	uint64_t chunks;
};

struct image_log_event;

struct image_log {
	uint64_t chunk_size;
	struct image_log_region *regions;
	size_t n_regions;
	struct image_log_event *events;
	size_t n_events, events_allocated;
	uint64_t n_chunks; /* chunk events */
	uint64_t n_dead;   /* of them replaced by a later word; counted by image_log_mark_dead() */
	struct ambro_location *pages;
	size_t n_pages, pages_allocated;
};

/* Regions, lengths and chunk size are taken from @m. 0 or -ENOMEM; image_log_done() after either. */
int image_log_init(struct image_log *log, const struct manifest *m);
void image_log_done(struct image_log *log);

/* Bytes of the disk in @count chunks from @index on. */
uint64_t image_log_plain_len(const struct image_log *log, uint32_t region, uint64_t index,
			     uint64_t count);

/* A chunk's frame of @frame_len bytes begins at @offset of the stream. 0 or -ENOMEM. */
int image_log_chunk(struct image_log *log, uint32_t region, uint64_t index, uint64_t offset,
		    uint32_t frame_len);
/* 0 or -ENOMEM. */
int image_log_run(struct image_log *log, uint32_t region, uint64_t index, uint64_t count);
int image_log_page(struct image_log *log, const struct ambro_location *page);

/* How many chunks of all regions have @state now. */
uint64_t image_log_count(const struct image_log *log, enum chunk_state state);

/* Find the chunks that a later chunk or run has replaced: they are left out of the INDEX. 0 or -ENOMEM. */
int image_log_mark_dead(struct image_log *log);

/* Where made bytes go, in pieces; a negative return ends it and is returned. */
struct image_log_output {
	int (*put)(void *ctx, const void *buf, size_t len);
	void *ctx;
};

uint64_t image_log_index_len(const struct image_log *log);
/* The INDEX's body; may be made any number of times. */
int image_log_index(const struct image_log *log, const struct image_log_output *out);
/* The seek table's entries of all runs, chunks and pages. @sparse: runs have no frames. */
int image_log_seek(const struct image_log *log, bool sparse, const struct image_log_output *out);
