/* SPDX-License-Identifier: GPL-2.0-or-later */
/* repo_index_private - what the files that make up repo_index share. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/repo/pack_set.h"
#include "lib/repo/repo_index_cache.h"
#include "lib/repo/repo_index_file.h"
#include "lib/repo/repo_index_resident.h"

/* From a pack's number in an index file to that over all files. Files that were made together share one. */
struct pack_numbers {
	uint32_t n;
	uint32_t *number;
	uint8_t digest[32]; /* of the table that it was made from */
};

struct repo_index {
	struct repo_index_source source;
	struct crypt_session *session;	/* owned; == source.session */
	const struct crypt *crypt;	/* NULL: not encrypted */
	struct repo_index_file **files; /* in use: first those that are resident */
	size_t n_files, resident_files;
	uint8_t (*superseded)[REPO_NAME_HASH]; /* still there */
	size_t n_superseded;
	struct repo_index_resident resident; /* ordinal == place; their `pack` is over all files */
	struct pack_set packs;
	struct pack_numbers *numbers;
	size_t n_numbers;
	struct repo_index_cache *cache; /* NULL: all files are resident */
	uint64_t entries;
};

/*
 * Fill @x (whose source, session and crypt are set) from the store; at most @resident bytes of index files are held in
 * memory whole. -ESTALE: a file disappeared meanwhile; @x is as it was. Otherwise as repo_index_open().
 */
int repo_index_load(struct repo_index *x, uint64_t resident, struct err *e);
/*
 * Where the blocks of large index files come from: *ret_n entries of @block of the file numbered @file, good until the next
 * call. Errors as repo_index_file_read().
 */
struct repo_index_blocks {
	void *ctx;
	int (*get)(void *ctx, size_t file, uint32_t block, const struct repo_entry **ret,
		   size_t *ret_n, struct err *e);
};
/* As repo_index_find(), with blocks from @blocks instead of the cache that threads share. */
struct repo_place;
int repo_index_find_by(const struct repo_index *x, const struct repo_index_blocks *blocks,
		       const struct chunk_id *name, const uint64_t *ordinal_after,
		       struct repo_place *ret, struct err *e);
/* Back to what repo_index_load() found. */
void repo_index_unload(struct repo_index *x);
