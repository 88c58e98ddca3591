/* SPDX-License-Identifier: GPL-2.0-or-later */
/* repo-index-fixture - index files of invented packs in a store, and asking for what they should say. */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/hex.h"
#include "lib/repo/pack.h"
#include "lib/repo/repo_index.h"

#define FIXTURE_PACK_ENTRIES 500u
#define FIXTURE_FRAME	     256u /* room for each entry in its pack, bytes */
/* Nothing is resident, everything is. */
#define FIXTURE_ON_DEMAND UINT64_C(0)
#define FIXTURE_RESIDENT  UINT64_MAX

static const uint8_t fixture_id[REPO_ID_SIZE] = "a repository's i";

/* From a number to a name that looks like a hash. */
typedef void (*fixture_name_fn)(uint64_t i, struct chunk_id *ret);

static inline void fixture_name(uint64_t i, struct chunk_id *ret)
{
	for (size_t j = 0; j < sizeof(ret->b); j += sizeof(i)) {
		uint64_t v = (i + 1 + j) * UINT64_C(0x9E3779B97F4A7C15);

		v = (v ^ v >> 31) * UINT64_C(0xBF58476D1CE4E5B9);
		v ^= v >> 29;
		memcpy(ret->b + j, &v, sizeof(v));
	}
}

static inline void fixture_pack_hash(uint64_t pack, uint8_t ret[REPO_NAME_HASH])
{
	struct chunk_id id;

	fixture_name(pack | UINT64_C(1) << 63, &id);
	memcpy(ret, id.b, REPO_NAME_HASH);
}

/* Entry @i of @pack: what it is and where can be told from the two. */
static inline struct repo_entry fixture_entry(uint32_t i, const struct chunk_id *name, bool sealed)
{
	const uint32_t around = 40 + (sealed ? 48 + REPO_SEAL_EXTRA : 0);
	const bool page = i % 7 == 3;
	const uint32_t len = page ? 20 : 1 + i % 50;

	return (struct repo_entry){
		.name = *name,
		.offset = le32(PACK_HEAD_SIZE + i * FIXTURE_FRAME),
		.frame_len = le32(len + (page || sealed ? around : 0)),
		.plain_len = le32(page ? len | REPO_ENTRY_PAGE : 65536),
	};
}

#define FIXTURE_PACK_SIZE (PACK_HEAD_SIZE + FIXTURE_PACK_ENTRIES * FIXTURE_FRAME)

/* The pack numbered @pack, of the things numbered @first … @first + @n - 1. */
static inline void fixture_add_pack(struct repo_index_builder *b, uint64_t pack, uint64_t first,
				    uint32_t n, fixture_name_fn name, bool sealed)
{
	struct repo_entry *entries = calloc(n + 1, sizeof(*entries));
	uint8_t hash[REPO_NAME_HASH];
	struct chunk_id id;

	assert_non_null(entries);
	for (uint32_t i = 0; i < n; i++) {
		name(first + i, &id);
		entries[i] = fixture_entry(i, &id, sealed);
	}
	fixture_pack_hash(pack, hash);
	assert_int_equal(repo_index_builder_pack(b, hash, FIXTURE_PACK_SIZE, entries, n, NULL), 0);
	free(entries);
}

/* An index file of packs @first … @first + @n - 1, full ones; pack P has the things from P * FIXTURE_PACK_ENTRIES on. */
static inline void fixture_put(struct store *s, const struct crypt *crypt, uint64_t first,
			       uint64_t n, fixture_name_fn name, uint8_t ret_hash[REPO_NAME_HASH])
{
	_cleanup_(repo_index_builder_freep) struct repo_index_builder *b = NULL;

	assert_int_equal(repo_index_builder_new(fixture_id, crypt, &b, NULL), 0);
	for (uint64_t p = first; p < first + n; p++) {
		fixture_add_pack(b, p, p * FIXTURE_PACK_ENTRIES, FIXTURE_PACK_ENTRIES, name,
				 crypt != NULL);
	}
	assert_int_equal(repo_index_builder_put(b, s, ret_hash, NULL), 0);
}

static inline struct repo_index *fixture_open(struct store *s, const struct crypt *crypt,
					      uint64_t resident)
{
	struct repo_index *x = NULL;
	struct err e = { 0 };

	if (repo_index_open_within(s, fixture_id, crypt, resident, &x, &e) < 0)
		fail_msg("%s", e.text);
	return x;
}

/* Does @place say what fixture_entry() said of thing @i of pack @pack? */
static inline void fixture_assert_place(const struct repo_index *x, const struct repo_place *place,
					uint64_t pack, uint32_t i, const struct chunk_id *name,
					bool sealed)
{
	const struct repo_index_pack_info *info = repo_index_pack(x, place->pack);
	struct repo_entry entry = fixture_entry(i, name, sealed);
	uint8_t hash[REPO_NAME_HASH];

	fixture_pack_hash(pack, hash);
	assert_memory_equal(info->hash, hash, sizeof(hash));
	assert_int_equal(info->size, FIXTURE_PACK_SIZE);
	entry.pack = le32(place->pack);
	assert_memory_equal(&place->entry, &entry, sizeof(entry));
	assert_int_equal(place->kind, i % 7 == 3 ? REPO_KIND_PAGE : REPO_KIND_CHUNK);
	assert_true(place->ordinal < repo_index_entries(x));
}

/* Every thing of packs @first … is found in its pack, and what differs in one bit is not. */
static inline void fixture_assert_finds(const struct repo_index *x, uint64_t first, uint64_t n,
					fixture_name_fn name, bool sealed)
{
	for (uint64_t i = first * FIXTURE_PACK_ENTRIES; i < (first + n) * FIXTURE_PACK_ENTRIES;
	     i++) {
		struct repo_place place;
		struct chunk_id id;

		name(i, &id);
		assert_int_equal(repo_index_find(x, &id, NULL, &place, NULL), 0);
		fixture_assert_place(x, &place, i / FIXTURE_PACK_ENTRIES,
				     (uint32_t)(i % FIXTURE_PACK_ENTRIES), &id, sealed);
		id.b[20] ^= 0x80;
		assert_int_equal(repo_index_find(x, &id, NULL, &place, NULL), -ENOENT);
	}
}

/* In how many places is it? Each has another ordinal. */
static inline size_t fixture_count(const struct repo_index *x, const struct chunk_id *name)
{
	uint64_t after = UINT64_MAX;
	struct repo_place place;
	size_t n = 0;

	while (repo_index_find(x, name, &after, &place, NULL) == 0) {
		assert_true(after == UINT64_MAX || place.ordinal > after);
		assert_memory_equal(&place.entry.name, name, sizeof(*name));
		after = place.ordinal;
		n++;
	}
	return n;
}

static inline char *fixture_index_name(const uint8_t hash[REPO_NAME_HASH], char ret[80])
{
	memcpy(ret, "index/", 6);
	hex_encode(hash, REPO_NAME_HASH, ret + 6);
	return ret;
}
