/* SPDX-License-Identifier: GPL-2.0-or-later */
/* repo_index_writer - one index file in memory, made of entries that come in their order. Not thread-safe. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/repo/crypt.h"
#include "lib/repo/repo_format.h"
#include "lib/repo/store.h"

struct repo_index_writer;

/* @crypt is borrowed; NULL: not encrypted. */
int repo_index_writer_new(const uint8_t repo_id[REPO_ID_SIZE], const struct crypt *crypt,
			  struct repo_index_writer **ret, struct err *e);
void repo_index_writer_free(struct repo_index_writer *w);
DEFINE_CLEANUP(struct repo_index_writer, repo_index_writer_free);

/* Not before those that were added earlier (repo_entry_compare()). 48 bytes of memory. 0 or -ENOMEM. */
int repo_index_writer_add(struct repo_index_writer *w, const struct repo_entry *entry);
uint64_t repo_index_writer_entries(const struct repo_index_writer *w);
/*
 * End it and put it. @supersedes: @n_supersedes times REPO_NAME_HASH bytes. Afterwards the
 * writer is empty and can be used again.
 */
struct repo_index_tables {
	const struct repo_index_pack *packs;
	const uint8_t *supersedes;
	uint32_t n_packs, n_supersedes;
};
int repo_index_writer_put(struct repo_index_writer *w, const struct repo_index_tables *t,
			  struct store *s, uint8_t ret_hash[REPO_NAME_HASH], struct err *e);
