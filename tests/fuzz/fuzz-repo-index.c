/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An index file. Input: a byte whose bit 0 mends the checks of all records, bit 1 those of the table of packs and of the
 * blocks, then the file. Resident
 * or not it must be refused alike; what is accepted must find every entry that it has, in a pack that it names; merged it must
 * say the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/digest.h"
#include "lib/repo/pack.h"
#include "lib/repo/repo_index.h"
#include "lib/repo/repo_index_file.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/mend.h"

static const uint8_t repo_id[REPO_ID_SIZE] = "a repository's i";
static const uint8_t hash[REPO_NAME_HASH] = { 1 };

/* Of the table of packs, which is at @packs. */
static void mend_packs(uint8_t *object, size_t size, uint64_t digest, uint64_t packs, uint64_t len)
{
	uint8_t is[DIGEST_SIZE];

	if (packs > size || len > size - packs || digest + sizeof(is) > packs)
		return;
	digest_of(&(struct iovec){ object + packs, len }, 1, is);
	memcpy(object + digest, is, sizeof(is));
}

/* Only where all is as it should be but for the checks. */
static void mend_tables(uint8_t *object, size_t size)
{
	const size_t at = PACK_HEAD_SIZE + sizeof(struct record_head);
	uint64_t table, block, packs_len;
	struct repo_index_head head;

	if (size < at + sizeof(head))
		return;
	memcpy(&head, object + at, sizeof(head));
	table = at + sizeof(head) + (uint64_t)le32_get(head.supersedes) * REPO_NAME_HASH +
		REPO_NAME_HASH;
	block = table + ((uint64_t)le32_get(head.blocks) + 1) * sizeof(struct repo_index_block);
	packs_len = (uint64_t)le32_get(head.packs) * sizeof(struct repo_index_pack);
	mend_packs(object, size, table - REPO_NAME_HASH, block, packs_len);
	block += packs_len;
	for (uint32_t i = 0; i < le32_get(head.blocks) && block < size; i++) {
		const size_t len = MIN(REPO_INDEX_BLOCK * sizeof(struct repo_entry), size - block);
		struct repo_index_block b;

		if (table + sizeof(b) > size)
			return;
		memcpy(&b, object + table, sizeof(b));
		repo_index_block_check(object + block, len, b.check);
		memcpy(object + table, &b, sizeof(b));
		table += sizeof(b);
		block += len;
	}
}

static int check_entry(void *ctx, uint64_t ordinal, uint32_t pack, const struct repo_entry *entry)
{
	const struct repo_index *x = ctx;
	const uint64_t after = ordinal ? ordinal - 1 : UINT64_MAX;
	struct repo_place place;

	FUZZ_CHECK(pack < repo_index_packs(x) && ordinal < repo_index_entries(x));
	FUZZ_CHECK(repo_index_find(x, &entry->name, &after, &place, NULL) == 0);
	FUZZ_CHECK(place.ordinal == ordinal && place.pack == pack);
	FUZZ_CHECK(memcmp(&place.entry, entry, sizeof(*entry)) == 0);
	FUZZ_CHECK(repo_index_find(x, &entry->name, NULL, &place, NULL) == 0);
	return 0;
}

/* How many entries it has, or why it is refused. */
static int64_t check_index(struct store *s, uint64_t resident)
{
	_cleanup_(repo_index_freep) struct repo_index *x = NULL;
	struct err e = { 0 };
	int r = repo_index_open_within(s, repo_id, NULL, resident, &x, &e);

	if (r == 0)
		r = repo_index_each(x, check_entry, x, &e);
	if (r < 0) {
		FUZZ_CHECK(e.code == r && *e.text);
		return r;
	}
	return (int64_t)repo_index_entries(x);
}

static bool keep_all(void *ctx, uint32_t pack)
{
	return ctx || pack != UINT32_MAX;
}

static void check_merge(struct store *s)
{
	_cleanup_(repo_index_freep) struct repo_index *x = NULL;
	const struct repo_index_merge how = { .most = UINT64_MAX,
					      .keep = keep_all,
					      .file_entries = 100 };
	_cleanup_(repo_index_builder_freep) struct repo_index_builder *b = NULL;
	struct repo_entry other = { .name = { { 0x80 } },
				    .offset = le32(PACK_HEAD_SIZE),
				    .frame_len = le32(10),
				    .plain_len = le32(65536) };
	uint8_t made[REPO_NAME_HASH];
	struct err e = { 0 };
	bool done;

	FUZZ_CHECK(repo_index_builder_new(repo_id, NULL, &b, NULL) == 0);
	FUZZ_CHECK(repo_index_builder_pack(b, hash, 1000, &other, 1, NULL) == 0);
	FUZZ_CHECK(repo_index_builder_put(b, s, made, NULL) == 0);
	if (repo_index_open_within(s, repo_id, NULL, 0, &x, &e) < 0)
		return;
	FUZZ_CHECK(repo_index_merge_files(x, &how, &done, &e) == 0);
	FUZZ_CHECK(check_index(s, 0) >= (done ? 1 : 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(store_freep) struct store *s = NULL;
	_cleanup_free_ uint8_t *object = malloc(size + 1);
	char name[REPO_INDEX_NAME_SIZE];
	int64_t resident, on_demand;

	if (!size || !object || store_memory_new(&s) < 0)
		return 0;
	memcpy(object, data + 1, size - 1);
	if (data[0] & 2)
		mend_tables(object, size - 1);
	if (data[0] & 1)
		mend(object, size - 1, MEND_CHECKS);
	FUZZ_CHECK(store_put(s, repo_index_file_name(hash, name), object, size - 1, NULL) == 0);
	on_demand = check_index(s, 0);
	resident = check_index(s, UINT64_MAX);
	FUZZ_CHECK(on_demand == resident);
	if (resident >= 0)
		check_merge(s);
	return 0;
}
