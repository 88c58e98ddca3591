/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/codec.h"
#include "lib/image/digest.h"
#include "lib/image/record.h"
#include "lib/image/tree.h"
#include "lib/repo/pack.h"
#include "tests/unit/both-kinds.h"

#define CHUNKS	  5u
#define PAGES	  2u
#define ENTRIES	  (CHUNKS + PAGES)
#define PLAIN_LEN 70000u

static const uint8_t repo_id[REPO_ID_SIZE] = "a repository's i";

/* A pack in a store, and what went into it. */
struct fixture {
	struct crypt *crypt; /* NULL: not encrypted */
	struct store *store;
	uint8_t hash[REPO_NAME_HASH];
	struct chunk_id id[ENTRIES];
	uint8_t *frame[ENTRIES];
	uint32_t frame_len[ENTRIES], plain_len[ENTRIES];
	struct repo_entry entry[ENTRIES];
};

static void chunk_make(struct fixture *f, size_t i)
{
	_cleanup_(codec_freep) struct codec *codec = NULL;
	uint8_t *plain = malloc(PLAIN_LEN);
	ssize_t len;

	assert_int_equal(codec_new(1, &codec), 0);
	assert_non_null(plain);
	for (size_t j = 0; j < PLAIN_LEN; j++)
		plain[j] = (uint8_t)(j % (3 + i) + j / 9000 + i);
	f->plain_len[i] = PLAIN_LEN - (uint32_t)i;
	chunk_id_of(plain, f->plain_len[i], &f->id[i]);
	f->frame[i] = malloc(codec_bound(PLAIN_LEN));
	assert_non_null(f->frame[i]);
	len = codec_compress(codec, plain, f->plain_len[i], f->frame[i], codec_bound(PLAIN_LEN));
	assert_true(len > 0);
	f->frame_len[i] = (uint32_t)len;
	free(plain);
}

static void page_make(struct fixture *f, size_t i)
{
	f->frame[i] = malloc(AMBRO_PAGE_MAX);
	assert_non_null(f->frame[i]);
	f->frame_len[i] = (uint32_t)page_make_uniform(0, (uint32_t)i, CHUNK_ZERO, f->frame[i]);
	f->plain_len[i] = f->frame_len[i];
	chunk_id_of(f->frame[i], f->frame_len[i], &f->id[i]);
}

static enum repo_kind kind_of(size_t i)
{
	return i < CHUNKS ? REPO_KIND_CHUNK : REPO_KIND_PAGE;
}

static void pack_fill(struct fixture *f)
{
	_cleanup_(pack_freep) struct pack *p = NULL;
	uint8_t hash[REPO_NAME_HASH];

	assert_int_equal(pack_new(f->store, repo_id, f->crypt, &p, NULL), 0);
	for (size_t i = 0; i < ENTRIES; i++) {
		assert_int_equal(pack_add(p, kind_of(i), &f->id[i], f->plain_len[i], f->frame[i],
					  f->frame_len[i], NULL),
				 0);
		f->entry[i] = *pack_entry(p, i);
	}
	assert_int_equal(pack_entries(p), ENTRIES);
	assert_int_equal(pack_seal(p, f->hash, NULL), 0);
	assert_int_equal(pack_put(p, NULL), 0);
	assert_int_equal(pack_seal(p, hash, NULL), 0);
	assert_memory_equal(hash, f->hash, sizeof(hash));
	/* it is there already */
	assert_int_equal(pack_put(p, NULL), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(store_memory_new(&f->store), 0);
	if (both_kinds_sealed(state))
		assert_int_equal(crypt_new(&f->crypt, NULL), 0);
	for (size_t i = 0; i < CHUNKS; i++)
		chunk_make(f, i);
	for (size_t i = CHUNKS; i < ENTRIES; i++)
		page_make(f, i);
	pack_fill(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ENTRIES; i++)
		free(f->frame[i]);
	store_free(f->store);
	crypt_free(f->crypt);
	free(f);
	return 0;
}

static uint8_t *object_get(const struct fixture *f, size_t *ret_len)
{
	char name[PACK_NAME_SIZE];
	void *bytes;

	assert_int_equal(store_get_all(f->store, pack_name(f->hash, name), REPO_PACK_MAX, &bytes,
				       ret_len, NULL),
			 0);
	return bytes;
}

static struct crypt_session *session_of(const struct fixture *f, const uint8_t *object)
{
	struct crypt_session *session = NULL;
	struct repo_pack_head head;

	assert_int_equal(pack_head_check(object, PACK_HEAD_SIZE, REPO_PURPOSE_PACK, repo_id, &head,
					 NULL),
			 0);
	if (f->crypt) {
		assert_int_equal(crypt_session_open(f->crypt, head.session, &session, NULL), 0);
	}
	return session;
}

/* The pack's own list; @walk as in pack_read_index(). */
static int list_read(const struct fixture *f, bool walk, struct repo_entry **ret, size_t *ret_n)
{
	struct err e = { 0 };
	int r = pack_read_index(f->store, f->hash, repo_id, walk, ret, ret_n, &e);

	assert_true(r == 0 || (e.code == r && *e.text));
	return r;
}

/* Put other bytes in the pack's place, under its name. */
static void object_replace(struct fixture *f, const uint8_t *bytes, size_t len)
{
	char name[PACK_NAME_SIZE];

	pack_name(f->hash, name);
	assert_int_equal(store_del(f->store, name, NULL), 0);
	assert_int_equal(store_put(f->store, name, bytes, len, NULL), 0);
}

static void a_pack_is_named_by_its_bytes(void **state)
{
	struct fixture *f = *state;
	size_t len;
	_cleanup_free_ uint8_t *object = object_get(f, &len);
	const struct iovec part = { object, len };
	uint8_t hash[DIGEST_SIZE];
	char name[PACK_NAME_SIZE];

	digest_of(&part, 1, hash);
	assert_memory_equal(hash, f->hash, sizeof(hash));
	assert_int_equal(strlen(pack_name(f->hash, name)), 9 + 64);
	assert_true(store_name_valid(name));
}

static void a_pack_lists_what_was_added(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ struct repo_entry *entries = NULL;
	struct chunk_id name;
	size_t n;

	assert_int_equal(list_read(f, false, &entries, &n), 0);
	assert_int_equal(n, ENTRIES);
	assert_memory_equal(entries, f->entry, sizeof(f->entry));
	for (size_t i = 0; i < n; i++) {
		crypt_name(f->crypt, &f->id[i], &name);
		assert_memory_equal(&entries[i].name, &name, sizeof(name));
		assert_int_equal(memcmp(&name, &f->id[i], sizeof(name)) != 0, f->crypt != NULL);
	}
}

static void every_entry_comes_out_as_it_went_in(void **state)
{
	struct fixture *f = *state;
	size_t len;
	_cleanup_free_ uint8_t *object = object_get(f, &len);
	_cleanup_(crypt_session_freep) struct crypt_session *session = session_of(f, object);

	for (size_t i = 0; i < ENTRIES; i++) {
		_cleanup_free_ uint8_t *out = malloc(le32_get(f->entry[i].frame_len));
		size_t out_len;

		assert_non_null(out);
		assert_int_equal(pack_entry_open(&f->entry[i], repo_id, session,
						 object + le32_get(f->entry[i].offset), out,
						 &out_len, NULL),
				 0);
		assert_int_equal(out_len, f->frame_len[i]);
		assert_memory_equal(out, f->frame[i], out_len);
	}
}

/* The entry's own bytes say nothing of a frame in the clear: its id does, and its reader asks that. */
static void a_flipped_bit_of_an_entry_is_refused_or_stays_in_its_check(void **state)
{
	struct fixture *f = *state;
	size_t len;
	_cleanup_free_ uint8_t *object = object_get(f, &len);
	_cleanup_(crypt_session_freep) struct crypt_session *session = session_of(f, object);
	const struct repo_entry *entry = &f->entry[ENTRIES - 1];
	uint8_t *at = object + le32_get(entry->offset), out[256];

	assert_true(le32_get(entry->frame_len) <= sizeof(out));
	for (size_t i = 0; i < le32_get(entry->frame_len); i++) {
		const bool check = i >= offsetof(struct record_head, record.check) &&
				   i < sizeof(struct record_head);
		const bool flags = i == offsetof(struct record_head, record.flags) ||
				   i == offsetof(struct record_head, record.flags) + 1;
		struct err e = { 0 };
		int r;

		at[i] ^= 0x10;
		r = pack_entry_open(entry, repo_id, session, at, out, &len, &e);
		at[i] ^= 0x10;
		if (r == 0) {
			/* a seal needs no check, and the flags do not change what was sealed */
			assert_true(session && (check || flags));
			assert_memory_equal(out, f->frame[ENTRIES - 1], len);
		} else {
			assert_true((r == -EBADMSG || r == -ENOTSUP) && *e.text);
		}
	}
}

static void a_sealed_entry_is_refused_in_anothers_place(void **state)
{
	struct fixture *f = *state;
	size_t len;
	_cleanup_free_ uint8_t *object = object_get(f, &len);
	_cleanup_(crypt_session_freep) struct crypt_session *session = session_of(f, object);
	struct repo_entry entry = f->entry[0];
	uint8_t *out = malloc(len), other_id[REPO_ID_SIZE] = "another one";
	struct err e = { 0 };
	size_t n;

	assert_non_null(out);
	entry.name = f->entry[1].name;
	assert_int_equal(pack_entry_open(&entry, repo_id, session, object + le32_get(entry.offset),
					 out, &n, &e),
			 -EBADMSG);
	assert_int_equal(pack_entry_open(&f->entry[0], other_id, session,
					 object + le32_get(entry.offset), out, &n, &e),
			 -EBADMSG);
	free(out);
}

static bool entry_known(const struct fixture *f, const struct repo_entry *entry)
{
	for (size_t i = 0; i < ENTRIES; i++) {
		if (memcmp(entry, &f->entry[i], sizeof(*entry)) == 0)
			return true;
	}
	return false;
}

/* Neither the list nor the walk ever names something that is not there as it was put. */
static void a_flipped_bit_anywhere_never_makes_a_wrong_list(void **state)
{
	struct fixture *f = *state;
	char name[PACK_NAME_SIZE];
	uint64_t size, refused = 0;

	pack_name(f->hash, name);
	assert_int_equal(store_size(f->store, name, &size, NULL), 0);
	for (uint64_t at = 0; at < size; at++) {
		_cleanup_free_ struct repo_entry *entries = NULL, *walked = NULL;
		size_t n = 0, walked_n = 0;
		int r, w;

		assert_int_equal(store_memory_flip(f->store, name, at, 0x20), 0);
		r = list_read(f, false, &entries, &n);
		w = list_read(f, true, &walked, &walked_n);
		assert_true(r == 0 || r == -EBADMSG);
		assert_true(w == 0);
		assert_true(r < 0 || n == ENTRIES);
		refused += r < 0;
		/* the list and its end are damaged, what they speak of is not; or the PACK record */
		if (r < 0)
			assert_true(walked_n == ENTRIES || (f->crypt && at < PACK_HEAD_SIZE));
		for (size_t i = 0; i < walked_n; i++)
			assert_true(entry_known(f, &walked[i]));
		assert_int_equal(store_memory_flip(f->store, name, at, 0x20), 0);
	}
	/* the PACK record, the list, the end */
	assert_int_equal(refused, PACK_HEAD_SIZE + 40 + ENTRIES * 48 + 64);
}

/* The end lost, and a byte of one entry: all others are found. */
static void the_walk_finds_all_but_what_is_damaged(void **state)
{
	struct fixture *f = *state;
	size_t len;
	_cleanup_free_ uint8_t *object = object_get(f, &len);
	const size_t whole =
		le32_get(f->entry[ENTRIES - 1].offset) + le32_get(f->entry[ENTRIES - 1].frame_len);

	for (size_t i = 0; i < ENTRIES; i++) {
		_cleanup_free_ struct repo_entry *entries = NULL;
		const size_t at =
			le32_get(f->entry[i].offset) + le32_get(f->entry[i].frame_len) - 1;
		size_t n = 0;

		object[at] ^= 1;
		object_replace(f, object, whole);
		assert_int_equal(list_read(f, false, &entries, &n), -EBADMSG);
		assert_int_equal(list_read(f, true, &entries, &n), 0);
		assert_int_equal(n, ENTRIES - 1);
		for (size_t j = 0; j < n; j++)
			assert_memory_equal(&entries[j], &f->entry[j < i ? j : j + 1], 48);
		object[at] ^= 1;
	}
}

static void a_truncated_pack_is_refused_or_walked(void **state)
{
	struct fixture *f = *state;
	size_t len;
	_cleanup_free_ uint8_t *object = object_get(f, &len);

	for (size_t cut = 0; cut < len; cut += 1 + cut / 50) {
		_cleanup_free_ struct repo_entry *entries = NULL;
		size_t n = 0;

		object_replace(f, object, cut);
		assert_int_equal(list_read(f, false, &entries, &n), -EBADMSG);
		assert_int_equal(list_read(f, true, &entries, &n), 0);
		for (size_t i = 0; i < n; i++)
			assert_memory_equal(&entries[i], &f->entry[i], sizeof(*entries));
	}
}

static void another_repositorys_pack_is_refused(void **state)
{
	struct fixture *f = *state;
	const uint8_t other_id[REPO_ID_SIZE] = "another one";
	struct repo_entry *entries = NULL;
	struct err e = { 0 };
	size_t n;

	assert_int_equal(pack_read_index(f->store, f->hash, other_id, true, &entries, &n, &e),
			 -EXDEV);
	assert_null(entries);
}

static void an_object_of_another_purpose_is_refused(void **state)
{
	struct crypt_session *session;
	struct repo_pack_head head;
	uint8_t bytes[PACK_HEAD_SIZE];
	struct err e = { 0 };

	assert_int_equal(pack_head_make(NULL, REPO_PURPOSE_INDEX, repo_id, bytes, &session, &e), 0);
	assert_null(session);
	assert_int_equal(
		pack_head_check(bytes, sizeof(bytes), REPO_PURPOSE_INDEX, repo_id, &head, &e), 0);
	assert_int_equal(pack_head_check(bytes, sizeof(bytes), REPO_PURPOSE_PACK, repo_id, &head,
					 &e),
			 -EBADMSG);
	assert_int_equal(pack_head_check(bytes, sizeof(bytes) - 1, REPO_PURPOSE_INDEX, repo_id,
					 &head, &e),
			 -EBADMSG);
}

static void a_pack_never_grows_beyond_its_most(void **state)
{
	_cleanup_(store_freep) struct store *s = NULL;
	_cleanup_(pack_freep) struct pack *p = NULL;
	const uint32_t len = 7u << 20;
	uint8_t *frame = calloc(1, len), hash[REPO_NAME_HASH];
	const struct chunk_id id = { { 1 } };
	struct err e = { 0 };
	int r = 0;

	assert_non_null(frame);
	assert_int_equal(store_memory_new(&s), 0);
	assert_int_equal(pack_new(s, repo_id, NULL, &p, NULL), 0);
	while (r == 0)
		r = pack_add(p, REPO_KIND_CHUNK, &id, 4u << 20, frame, len, &e);
	assert_int_equal(r, -EFBIG);
	assert_true(pack_bytes(p) > REPO_PACK_SIZE && pack_bytes(p) <= REPO_PACK_MAX);
	assert_int_equal(pack_add(p, REPO_KIND_CHUNK, &id, 0, frame, 10, &e), -EINVAL);
	assert_int_equal(pack_add(p, REPO_KIND_PAGE, &id, 10, frame, 11, &e), -EINVAL);
	assert_int_equal(pack_seal(p, hash, NULL), 0);
	assert_int_equal(pack_add(p, REPO_KIND_PAGE, &id, 10, frame, 10, &e), -EINVAL);
	free(frame);
}

static void an_empty_pack_can_be_stored(void **state)
{
	_cleanup_(store_freep) struct store *s = NULL;
	_cleanup_(pack_freep) struct pack *p = NULL;
	_cleanup_free_ struct repo_entry *entries = NULL;
	uint8_t hash[REPO_NAME_HASH];
	uint64_t size;
	char name[PACK_NAME_SIZE];
	size_t n = 1;

	assert_int_equal(store_memory_new(&s), 0);
	assert_int_equal(pack_new(s, repo_id, NULL, &p, NULL), 0);
	assert_int_equal(pack_put(p, NULL), -EINVAL);
	assert_int_equal(pack_seal(p, hash, NULL), 0);
	assert_int_equal(pack_put(p, NULL), 0);
	assert_int_equal(store_size(s, pack_name(hash, name), &size, NULL), 0);
	assert_int_equal(size, pack_bytes(p));
	assert_int_equal(pack_read_index(s, hash, repo_id, false, &entries, &n, NULL), 0);
	assert_int_equal(n, 0);
}

static void assert_list_of(uint32_t count)
{
	_cleanup_(store_freep) struct store *s = NULL;
	_cleanup_(pack_freep) struct pack *p = NULL;
	_cleanup_free_ struct repo_entry *entries = NULL;
	struct chunk_id id = { { 0 } };
	uint8_t hash[REPO_NAME_HASH];
	size_t n = 0;

	assert_int_equal(store_memory_new(&s), 0);
	assert_int_equal(pack_new(s, repo_id, NULL, &p, NULL), 0);
	for (uint32_t i = 0; i < count; i++) {
		memcpy(id.b, &i, sizeof(i));
		assert_int_equal(pack_add(p, REPO_KIND_CHUNK, &id, 65536, "frame", 5, NULL), 0);
	}
	assert_int_equal(pack_seal(p, hash, NULL), 0);
	assert_int_equal(pack_put(p, NULL), 0);
	assert_int_equal(pack_read_index(s, hash, repo_id, false, &entries, &n, NULL), 0);
	assert_int_equal(n, count);
	for (uint32_t i = 0; i < n; i++)
		assert_memory_equal(&entries[i], pack_entry(p, i), sizeof(*entries));
}

/* A pack with a longer list than is read with its end; one whose list has no room left. */
static void lists_of_any_length_are_read_whole(void **state)
{
	(void)state;
	assert_list_of(3000);
	for (uint32_t room = 1024; room <= 8192; room *= 2) {
		for (uint32_t n = room - 1; n <= room + 1; n++)
			assert_list_of(n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(a_pack_is_named_by_its_bytes),
		BOTH(a_pack_lists_what_was_added),
		BOTH(every_entry_comes_out_as_it_went_in),
		BOTH(a_flipped_bit_of_an_entry_is_refused_or_stays_in_its_check),
		SEALED(a_sealed_entry_is_refused_in_anothers_place),
		BOTH(a_flipped_bit_anywhere_never_makes_a_wrong_list),
		BOTH(the_walk_finds_all_but_what_is_damaged),
		BOTH(a_truncated_pack_is_refused_or_walked),
		BOTH(another_repositorys_pack_is_refused),
		cmocka_unit_test(an_object_of_another_purpose_is_refused),
		cmocka_unit_test(a_pack_never_grows_beyond_its_most),
		cmocka_unit_test(an_empty_pack_can_be_stored),
		cmocka_unit_test(lists_of_any_length_are_read_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
