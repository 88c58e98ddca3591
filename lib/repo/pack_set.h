/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pack_set - the packs that index files name, each with a number: in the order in which they were added.
 *
 * Not thread-safe while it grows; afterwards anybody may look.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/repo/repo_format.h"

struct repo_index_pack_info {
	uint8_t hash[REPO_NAME_HASH];
	uint32_t size, entries;
	bool excluded;
};

/* {} is an empty one. */
struct pack_set {
	struct repo_index_pack_info *items;
	size_t n, room;
	uint32_t *slots; /* number + 1, or 0; at most half of them are in use */
	size_t n_slots;	 /* a power of two */
};

void pack_set_done(struct pack_set *s);
/*
 * The pack's number, a new one if it is not there yet. Of two sizes and counts that are told of the same pack the larger
 * ones are kept. 0, -ENOMEM, or -EOVERFLOW: 2^32 packs.
 */
int pack_set_add(struct pack_set *s, const uint8_t hash[REPO_NAME_HASH], uint32_t size,
		 uint32_t entries, uint32_t *ret);
/* 0 or -ENOENT. */
int pack_set_find(const struct pack_set *s, const uint8_t hash[REPO_NAME_HASH], uint32_t *ret);
/* Bytes that it takes. */
uint64_t pack_set_memory(const struct pack_set *s);
