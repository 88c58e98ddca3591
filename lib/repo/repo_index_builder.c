/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/repo/pack.h"
#include "lib/repo/repo_index.h"
#include "lib/repo/repo_index_file.h"
#include "lib/repo/repo_index_writer.h"

struct repo_index_builder {
	struct repo_index_writer *writer;
	bool sealed;
	struct repo_entry *entries;
	size_t n, room;
	struct repo_index_pack *packs;
	uint32_t n_packs, pack_room;
	uint8_t (*supersedes)[REPO_NAME_HASH];
	uint32_t n_supersedes;
};

int repo_index_builder_new(const uint8_t repo_id[REPO_ID_SIZE], const struct crypt *crypt,
			   struct repo_index_builder **ret, struct err *e)
{
	_cleanup_(repo_index_builder_freep) struct repo_index_builder *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return err_oom(e);
	b->sealed = crypt;
	r = repo_index_writer_new(repo_id, crypt, &b->writer, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(b);
	return 0;
}

void repo_index_builder_free(struct repo_index_builder *b)
{
	if (!b)
		return;
	repo_index_writer_free(b->writer);
	free(b->entries);
	free(b->packs);
	free(b->supersedes);
	free(b);
}

static int builder_reserve(struct repo_index_builder *b, size_t n)
{
	void *more;

	if (b->room - b->n < n) {
		const size_t room = MAX(b->n + n, b->room + b->room / 2);

		more = realloc(b->entries, room * sizeof(*b->entries));
		if (!more)
			return -ENOMEM;
		b->entries = more;
		b->room = room;
	}
	if (b->n_packs == b->pack_room) {
		const uint32_t room = b->pack_room ? 2 * b->pack_room : 16;

		more = realloc(b->packs, room * sizeof(*b->packs));
		if (!more)
			return -ENOMEM;
		b->packs = more;
		b->pack_room = room;
	}
	return 0;
}

int repo_index_builder_pack(struct repo_index_builder *b, const uint8_t hash[REPO_NAME_HASH],
			    uint32_t size, const struct repo_entry *entries, size_t n,
			    struct err *e)
{
	struct repo_index_pack *pack;

	if (size > REPO_PACK_MAX)
		return err_set(e, -EINVAL, "a pack of %" PRIu32 " bytes is too large", size);
	/* an index file that readers would refuse must never be written */
	for (size_t i = 0; i < n; i++) {
		if (!pack_entry_plausible(&entries[i], b->sealed, size))
			return err_set(e, -EINVAL, "entry %zu of a pack lies where it cannot", i);
	}
	if (builder_reserve(b, n) < 0)
		return err_oom(e);
	pack = &b->packs[b->n_packs];
	*pack = (struct repo_index_pack){ .size = le32(size), .entries = le32((uint32_t)n) };
	memcpy(pack->hash, hash, sizeof(pack->hash));
	for (size_t i = 0; i < n; i++) {
		b->entries[b->n] = entries[i];
		b->entries[b->n++].pack = le32(b->n_packs);
	}
	b->n_packs++;
	return 0;
}

int repo_index_builder_supersede(struct repo_index_builder *b, const uint8_t hash[REPO_NAME_HASH])
{
	uint8_t(*more)[REPO_NAME_HASH] =
		realloc(b->supersedes, (b->n_supersedes + (size_t)1) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	b->supersedes = more;
	memcpy(more[b->n_supersedes++], hash, REPO_NAME_HASH);
	return 0;
}

static int entry_order(const void *a, const void *b)
{
	return repo_entry_compare(a, b);
}

int repo_index_builder_put(struct repo_index_builder *b, struct store *s,
			   uint8_t ret_hash[REPO_NAME_HASH], struct err *e)
{
	const struct repo_index_tables tables = {
		.packs = b->packs,
		.supersedes = b->supersedes ? b->supersedes[0] : NULL,
		.n_packs = b->n_packs,
		.n_supersedes = b->n_supersedes,
	};

	memset(ret_hash, 0, REPO_NAME_HASH);
	if (!b->n && !b->n_supersedes)
		return 0;
	if (b->n)
		qsort(b->entries, b->n, sizeof(*b->entries), entry_order);
	for (size_t i = 0; i < b->n; i++) {
		if (repo_index_writer_add(b->writer, &b->entries[i]) < 0)
			return err_oom(e);
	}
	return repo_index_writer_put(b->writer, &tables, s, ret_hash, e);
}
