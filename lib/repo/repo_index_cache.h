/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo_index_cache - blocks of index files that were read lately, checked and decrypted. Thread-safe.
 *
 * Names are spread over all blocks, so that a larger cache would not be hit more often; it serves who asks for the same
 * name again, and for the last block of a file.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/repo/repo_format.h"

struct repo_index_cache;

/* Some 4 MiB. NULL: out of memory. */
struct repo_index_cache *repo_index_cache_new(void);
void repo_index_cache_free(struct repo_index_cache *c);
/* @key: any number but UINT64_MAX. *ret_n entries into @ret; false: it is not here. */
bool repo_index_cache_get(struct repo_index_cache *c, uint64_t key,
			  struct repo_entry ret[REPO_INDEX_BLOCK], size_t *ret_n);
void repo_index_cache_put(struct repo_index_cache *c, uint64_t key,
			  const struct repo_entry *entries, size_t n);
uint64_t repo_index_cache_memory(const struct repo_index_cache *c);
