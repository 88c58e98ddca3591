/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pack. Input: a byte whose bit 0 mends the checks of all records, then the pack. What its own list, or the walk, names must
 * lie inside of it; what the walk names in the clear must come out as its name says.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/codec.h"
#include "lib/repo/pack.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/mend.h"

static const uint8_t repo_id[REPO_ID_SIZE] = "a repository's i";
static const uint8_t hash[REPO_NAME_HASH] = { 1 };

static void check_entry(const struct repo_entry *entry, const uint8_t *object, size_t size,
			bool walked)
{
	static uint8_t out[AMBRO_FRAME_MAX(UINT64_C(1) << AMBRO_CHUNK_SHIFT_MAX)];
	static uint8_t plain[1u << AMBRO_CHUNK_SHIFT_MAX];
	const uint64_t end = (uint64_t)le32_get(entry->offset) + le32_get(entry->frame_len);
	const uint32_t plain_len = le32_get(entry->plain_len);
	_cleanup_(codec_freep) struct codec *codec = NULL;
	struct chunk_id id;
	struct err e = { 0 };
	size_t len;

	FUZZ_CHECK(end <= size && !le32_get(entry->pack));
	if (le32_get(entry->frame_len) > sizeof(out))
		return;
	if (pack_entry_open(entry, repo_id, NULL, object + le32_get(entry->offset), out, &len,
			    &e)) {
		FUZZ_CHECK(!walked && *e.text);
		return;
	}
	FUZZ_CHECK(len <= le32_get(entry->frame_len));
	if (!walked)
		return;
	if (plain_len & REPO_ENTRY_PAGE) {
		chunk_id_of(out, len, &id);
	} else {
		FUZZ_CHECK(codec_new(0, &codec) == 0);
		FUZZ_CHECK(codec_decompress(codec, out, len, plain, plain_len) == 0);
		chunk_id_of(plain, plain_len, &id);
	}
	FUZZ_CHECK(chunk_id_equal(&id, &entry->name));
}

static bool is_sealed(const uint8_t *object, size_t size)
{
	struct repo_pack_head head;

	return pack_head_check(object, size, REPO_PURPOSE_PACK, repo_id, &head, NULL) == 0 &&
	       le64_get(head.require_features) & REPO_REQUIRE_SEALED;
}

static int read_all(struct store *s, const uint8_t *object, size_t size, bool walk)
{
	_cleanup_free_ struct repo_entry *entries = NULL;
	struct err e = { 0 };
	size_t n = 0;
	int r = pack_read_index(s, hash, repo_id, walk, &entries, &n, &e);

	if (r < 0) {
		FUZZ_CHECK(e.code == r && *e.text && !entries);
		return r;
	}
	for (size_t i = 0; i < n && !is_sealed(object, size); i++)
		check_entry(&entries[i], object, size, walk);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(store_freep) struct store *s = NULL;
	_cleanup_free_ uint8_t *object = malloc(size + 1);
	char name[PACK_NAME_SIZE];

	if (!size || !object || store_memory_new(&s) < 0)
		return 0;
	memcpy(object, data + 1, size - 1);
	if (data[0] & 1)
		mend(object, size - 1, MEND_CHECKS);
	FUZZ_CHECK(store_put(s, pack_name(hash, name), object, size - 1, NULL) == 0);
	/* the walk trusts a list that is whole */
	if (read_all(s, object, size - 1, false) < 0)
		read_all(s, object, size - 1, true);
	return 0;
}
