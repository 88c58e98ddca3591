/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo_index_file - one index file: its tables, which are read and checked when it is opened, and its table of packs and its
 * blocks, which are read and checked when they are needed. Of a small file all is read at once.
 *
 * What was opened does not change but where said: repo_index_file_read() is thread-safe. All calls that read may block.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/repo/crypt.h"
#include "lib/repo/repo_format.h"
#include "lib/repo/store.h"

/* Where index files come from, all of them. */
struct repo_index_source {
	struct store *store;
	uint8_t repo_id[REPO_ID_SIZE];
	const struct crypt_session *session; /* NULL: not encrypted */
};

struct repo_index_file {
	uint8_t hash[REPO_NAME_HASH]; /* its name */
	uint64_t size;		      /* bytes */
	uint64_t entries;
	uint64_t packs_at, blocks_at; /* offsets */
	uint32_t blocks;
	struct repo_index_block *block; /* blocks + 1 */

	uint32_t n_supersedes, n_packs;
	uint8_t packs_digest
		[REPO_NAME_HASH]; /* of the table of packs: those that are alike are the same */

	/* what repo_index_file_settle() gives up */
	uint8_t *tables;
	const uint8_t *supersedes;     /* REPO_NAME_HASH bytes each; in @tables */
	struct repo_index_pack *packs; /* NULL: not read yet */

	uint8_t *whole; /* all bytes of a small file, until repo_index_file_forget(), or NULL */

	/* the owner's: */
	const uint32_t *
		numbers; /* of the packs over all files; NULL: entries are read as they are stored */
	uint64_t base;	 /* ordinal of the first entry */
};

/* "index/4f0c…" */
#define REPO_INDEX_NAME_SIZE 80
char *repo_index_file_name(const uint8_t hash[REPO_NAME_HASH], char ret[REPO_INDEX_NAME_SIZE]);
/* Its hash, or -EINVAL. */
int repo_index_file_parse_name(const char *name, uint8_t ret[REPO_NAME_HASH]);

/*
 * The tables of the object of @size bytes, but that of packs, in one or two reads. -ESTALE: it is gone; -EBADMSG: damaged, or not of this repository's
 * kind (in the clear where it should be encrypted); -ENOKEY; -ENOTSUP; or an error of the store.
 */
int repo_index_file_open(const struct repo_index_source *from, const uint8_t hash[REPO_NAME_HASH],
			 uint64_t size, struct repo_index_file **ret, struct err *e);
void repo_index_file_free(struct repo_index_file *f);
DEFINE_CLEANUP(struct repo_index_file, repo_index_file_free);
/* Have @f->packs, some 26 MiB in a repository of 40 TiB. 0, -EBADMSG, -ESTALE, or an error of the store. */
int repo_index_file_packs(const struct repo_index_source *from, struct repo_index_file *f,
			  struct err *e);
/* The table of blocks is all that is needed from now on. 0 or -ENOMEM. */
int repo_index_file_settle(struct repo_index_file *f);
/* A small file's blocks need not be kept any longer. */
void repo_index_file_forget(struct repo_index_file *f);

/* Entries of @count blocks from @first on, and the @count themselves. */
size_t repo_index_file_entries(const struct repo_index_file *f, uint32_t first, uint32_t count);
/*
 * Read them in one piece, check and decrypt them; @ret holds repo_index_file_entries(). Their `pack` is as @numbers says.
 * -EBADMSG: damaged; -ESTALE: the file is gone.
 */
int repo_index_file_read(const struct repo_index_source *from, const struct repo_index_file *f,
			 uint32_t first, uint32_t count, struct repo_entry *ret, struct err *e);
/*
 * The first block in which @name may be; others may follow, as long as their `first` is not greater. == f->blocks: in none.
 */
uint32_t repo_index_file_block_of(const struct repo_index_file *f, const struct chunk_id *name);
/* May @name be in this block, seen from its beginning? */
static inline bool repo_index_file_in_block(const struct repo_index_file *f, uint32_t block,
					    const struct chunk_id *name)
{
	return memcmp(f->block[block].first, name->b, sizeof(f->block->first)) <= 0;
}

/* What is sealed in index files is bound to. */
struct repo_index_bound {
	uint8_t repo_id[REPO_ID_SIZE];
	struct repo_sealed_head head;
};
static_assert(sizeof(struct repo_index_bound) == 64, "no padding");
void repo_index_bound_table(const uint8_t repo_id[REPO_ID_SIZE], const struct repo_index_head *head,
			    size_t len, struct repo_index_bound *ret);
void repo_index_bound_packs(const uint8_t repo_id[REPO_ID_SIZE],
			    const uint8_t digest[REPO_NAME_HASH], size_t len,
			    struct repo_index_bound *ret);
void repo_index_bound_block(const uint8_t repo_id[REPO_ID_SIZE], uint64_t block, size_t len,
			    struct repo_index_bound *ret);
/* The check of a block of @len bytes, as stored. */
void repo_index_block_check(const void *stored, size_t len, uint8_t ret[AMBRO_CHECK_SIZE]);
/* Of entries: by names, then by packs' numbers and offsets. */
int repo_entry_compare(const struct repo_entry *a, const struct repo_entry *b);
