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
/* Back to what repo_index_load() found. */
void repo_index_unload(struct repo_index *x);
