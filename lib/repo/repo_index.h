/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo_index - from the name of a chunk or page to its place in a pack, over all index files of a repository.
 *
 * Small index files are held in memory whole, up to a limit; of larger ones only the table of blocks (24 bytes for 85
 * entries) is, and a lookup reads one block of 4 KiB, checks it and keeps it for a while. So 100 million entries take
 * some 30 MB. An index file that is damaged is an error when it is opened (its table) or used (its block), never a wrong
 * answer: an answer "it is there" that was not true would lose data.
 *
 * repo_index_find() may be called by many threads at once; everything else by one, with nobody inside.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/repo/crypt.h"
#include "lib/repo/pack_set.h"
#include "lib/repo/repo_format.h"
#include "lib/repo/store.h"

struct repo_index;

/* Bytes of index files that are held in memory whole. */
#define REPO_INDEX_RESIDENT (UINT64_C(96) << 20)

/*
 * All index files that are there; those that others supersede are left out. @crypt may be NULL; both are borrowed. -EBADMSG:
 * one is damaged, or in the clear where @crypt says that nothing may be; -ENOKEY: encrypted, and no @crypt; -ENOTSUP: a newer
 * tool's; -ESTALE: they are deleted faster than they can be read.
 */
int repo_index_open(struct store *s, const uint8_t repo_id[REPO_ID_SIZE], const struct crypt *crypt,
		    struct repo_index **ret, struct err *e);
/* With another limit than REPO_INDEX_RESIDENT. */
int repo_index_open_within(struct store *s, const uint8_t repo_id[REPO_ID_SIZE],
			   const struct crypt *crypt, uint64_t resident, struct repo_index **ret,
			   struct err *e);
/* Bytes of memory that it holds. */
uint64_t repo_index_memory(const struct repo_index *x);
void repo_index_free(struct repo_index *x);
DEFINE_CLEANUP(struct repo_index, repo_index_free);

struct repo_place {
	uint32_t pack; /* repo_index_pack() */
	enum repo_kind kind;
	struct repo_entry entry; /* as stored, but that its `pack` is as above */
	uint64_t ordinal;	 /* 0 … repo_index_entries() - 1: for sets of entries */
};
/*
 * Where @name is. The same name may be in several packs: with @ordinal_after NULL any one that is not excluded; otherwise the
 * next one behind *@ordinal_after (start with UINT64_MAX), so that all can be visited, also in excluded packs. 0, -ENOENT,
 * -EBADMSG (a damaged block), -ESTALE (an index file was merged and deleted since repo_index_open()), or an error of the
 * store.
 */
int repo_index_find(const struct repo_index *x, const struct chunk_id *name,
		    const uint64_t *ordinal_after, struct repo_place *ret, struct err *e);

uint64_t repo_index_entries(const struct repo_index *x);
size_t repo_index_packs(const struct repo_index *x);
const struct repo_index_pack_info *repo_index_pack(const struct repo_index *x, uint32_t pack);
/* Never answer with this pack from now on: it is marked for deletion (gc.h). -ENOENT when no index file names it. */
int repo_index_exclude(struct repo_index *x, const uint8_t hash[REPO_NAME_HASH]);

/*
 * Every entry, also of packs that are excluded, in the order of ordinals: each index file by names. A negative return of @fn
 * ends it and is returned. @entry is as in struct repo_place.
 */
typedef int (*repo_index_fn)(void *ctx, uint64_t ordinal, uint32_t pack,
			     const struct repo_entry *entry);
int repo_index_each(const struct repo_index *x, repo_index_fn fn, void *ctx, struct err *e);
/* The names (hashes) of the index files in use, and of those superseded ones that are still there. */
size_t repo_index_files(const struct repo_index *x);
const uint8_t *repo_index_file(const struct repo_index *x, size_t i, bool *ret_superseded);

/* ---- making index files ---------------------------------------------------------------------------- */

struct repo_index_builder;
int repo_index_builder_new(const uint8_t repo_id[REPO_ID_SIZE], const struct crypt *crypt,
			   struct repo_index_builder **ret, struct err *e);
void repo_index_builder_free(struct repo_index_builder *b);
DEFINE_CLEANUP(struct repo_index_builder, repo_index_builder_free);
/* A pack and all its entries (pack_entry()). 48 bytes of memory each, twice that while they are put. */
int repo_index_builder_pack(struct repo_index_builder *b, const uint8_t hash[REPO_NAME_HASH],
			    uint32_t size, const struct repo_entry *entries, size_t n,
			    struct err *e);
/* This index file is replaced by the one that is made. */
int repo_index_builder_supersede(struct repo_index_builder *b, const uint8_t hash[REPO_NAME_HASH]);
/*
 * Sort, write "index/<hash>". Nothing is written, and @ret_hash is zeros, when there are no
 * entries and nothing is superseded. Once only.
 */
int repo_index_builder_put(struct repo_index_builder *b, struct store *s,
			   uint8_t ret_hash[REPO_NAME_HASH], struct err *e);

struct repo_index_merge {
	/* files of at most so many entries are merged, and larger ones that name a pack that is not kept */
	uint64_t most;
	bool (*keep)(void *ctx, uint32_t pack); /* NULL: all packs are kept */
	void *ctx;
	uint64_t file_entries; /* one file has no more; 0: REPO_INDEX_FILE_ENTRIES */
};
/*
 * Each is held in memory while it is made, 48 bytes an entry; smaller ones would be more, and each of them has the table of
 * all packs (40 bytes for some hundred entries).
 */
#define REPO_INDEX_FILE_ENTRIES (UINT64_C(4) << 20)
/*
 * New index files in the place of old ones, each a range of names. Merges with bounded memory: one new file's, and 64 KiB
 * for each old one that is not resident. The old ones are not deleted; the last of the new ones supersedes them, and those
 * that they superseded and that are still there. *ret_done false: there was nothing to merge and nothing to leave out. On
 * failure nothing is lost: new files that were put already say what the old ones say. @x does not know the new files.
 */
int repo_index_merge_files(const struct repo_index *x, const struct repo_index_merge *how,
			   bool *ret_done, struct err *e);
/* The same, with files as large as usual. */
int repo_index_merge(const struct repo_index *x, uint64_t most,
		     bool (*keep)(void *ctx, uint32_t pack), void *ctx, bool *ret_done,
		     struct err *e);
