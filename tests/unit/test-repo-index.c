/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <pthread.h>

#include "tests/unit/repo-index-store.h"

/* One thread, and many minutes where each of its memory accesses is watched. */
#ifdef __SANITIZE_THREAD__
#define skip_where_watched() skip()
#else
#define skip_where_watched() ((void)0)
#endif

/* Each of these is looked for among all that begin alike, which costs the square of their number. Where each memory access is
 * watched there are fewer: still over a dozen blocks of them. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define CROWDED_PACKS 6u
#else
#define CROWDED_PACKS 40u
#endif

/* All begin alike for as long as the table of blocks looks, and longer. */
static void name_crowded(uint64_t i, struct chunk_id *ret)
{
	const uint64_t mixed = __builtin_bswap64(i) ^ 0x5a;

	memset(ret, 7, sizeof(*ret));
	memcpy(ret->b + 24, &mixed, sizeof(mixed));
}

/* Half of all names alike in their first eight bytes, then the others. */
static void name_groups(uint64_t i, struct chunk_id *ret)
{
	fixture_name(i, ret);
	i /= CROWDED_PACKS * FIXTURE_PACK_ENTRIES / 2;
	memcpy(ret->b, &i, sizeof(i));
}

/* Of @packs packs in three files, the middle one small; nothing, less than half, and everything is resident. */
static void assert_finds_all(struct fixture *f, fixture_name_fn name, uint64_t packs)
{
	const uint64_t limits[] = { FIXTURE_ON_DEMAND, packs * 10000, FIXTURE_RESIDENT };
	const uint64_t first = packs / 3;
	uint8_t hash[REPO_NAME_HASH];

	fixture_put(f->store, f->crypt, 0, first, name, hash);
	fixture_put(f->store, f->crypt, first, 1, name, hash);
	fixture_put(f->store, f->crypt, first + 1, packs - first - 1, name, hash);
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		_cleanup_(repo_index_freep) struct repo_index *x =
			fixture_open(f->store, f->crypt, limits[i]);

		assert_int_equal(repo_index_entries(x), packs * FIXTURE_PACK_ENTRIES);
		assert_int_equal(repo_index_packs(x), packs);
		assert_int_equal(repo_index_files(x), 3);
		fixture_assert_finds(x, 0, packs, name, f->crypt != NULL);
	}
}

static void every_entry_is_found_by_its_name(void **state)
{
	assert_finds_all(*state, fixture_name, 40);
}

static void names_that_begin_alike_are_told_apart(void **state)
{
	assert_finds_all(*state, name_crowded, CROWDED_PACKS);
}

static void names_that_begin_alike_over_many_blocks_are_told_apart(void **state)
{
	assert_finds_all(*state, name_groups, CROWDED_PACKS);
}

static void an_empty_repository_knows_nothing(void **state)
{
	struct fixture *f = *state;
	_cleanup_(repo_index_freep) struct repo_index *x =
		fixture_open(f->store, f->crypt, FIXTURE_RESIDENT);
	_cleanup_(repo_index_builder_freep) struct repo_index_builder *b = NULL;
	uint8_t hash[REPO_NAME_HASH], zeros[REPO_NAME_HASH] = { 0 };
	struct repo_place place;
	struct chunk_id id;

	fixture_name(1, &id);
	assert_int_equal(repo_index_find(x, &id, NULL, &place, NULL), -ENOENT);
	assert_int_equal(repo_index_exclude(x, id.b), -ENOENT);
	assert_int_equal(repo_index_entries(x), 0);
	assert_int_equal(repo_index_builder_new(fixture_id, f->crypt, &b, NULL), 0);
	assert_int_equal(repo_index_builder_put(b, f->store, hash, NULL), 0);
	assert_memory_equal(hash, zeros, sizeof(hash));
}

/* The same two things a hundred times: more than a block of them, in several packs and files. */
static void name_pairs(uint64_t i, struct chunk_id *ret)
{
	fixture_name(i % 2, ret);
}

static void a_name_in_many_packs_is_found_in_each(void **state)
{
	static const uint64_t limits[] = { FIXTURE_ON_DEMAND, 60000, FIXTURE_RESIDENT };
	struct fixture *f = *state;
	uint8_t hash[REPO_NAME_HASH];
	struct repo_place place;
	struct chunk_id id;

	fixture_put(f->store, f->crypt, 0, 3, name_pairs, hash);
	fixture_put(f->store, f->crypt, 3, 1, name_pairs, hash);
	fixture_put(f->store, f->crypt, 50, 1, fixture_name, hash);
	fixture_name(1, &id);
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		_cleanup_(repo_index_freep) struct repo_index *x =
			fixture_open(f->store, f->crypt, limits[i]);

		assert_int_equal(fixture_count(x, &id), 4 * FIXTURE_PACK_ENTRIES / 2);
		for (uint64_t p = 0; p < 4; p++) {
			fixture_pack_hash(p, hash);
			assert_int_equal(repo_index_exclude(x, hash), 0);
			/* who visits all of them sees those, too */
			assert_int_equal(fixture_count(x, &id), 4 * FIXTURE_PACK_ENTRIES / 2);
			assert_int_equal(repo_index_find(x, &id, NULL, &place, NULL),
					 p < 3 ? 0 : -ENOENT);
		}
	}
}

struct each {
	uint8_t *seen;
	uint64_t next;
	const struct repo_index *x;
};

static int each_entry(void *ctx, uint64_t ordinal, uint32_t pack, const struct repo_entry *entry)
{
	struct each *each = ctx;
	uint64_t after = ordinal ? ordinal - 1 : UINT64_MAX;
	struct repo_place place;

	assert_int_equal(ordinal, each->next++);
	assert_int_equal(repo_index_find(each->x, &entry->name, &after, &place, NULL), 0);
	assert_int_equal(place.ordinal, ordinal);
	assert_int_equal(place.pack, pack);
	assert_memory_equal(&place.entry, entry, sizeof(*entry));
	return each->next == 1600 ? -EINTR : 0;
}

static void each_entry_is_visited_under_the_ordinal_it_is_found_with(void **state)
{
	static const uint64_t limits[] = { FIXTURE_ON_DEMAND, 60000, FIXTURE_RESIDENT };
	struct fixture *f = *state;
	uint8_t hash[REPO_NAME_HASH];

	fixture_put(f->store, f->crypt, 0, 2, fixture_name, hash);
	fixture_put(f->store, f->crypt, 2, 1, fixture_name, hash);
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		_cleanup_(repo_index_freep) struct repo_index *x =
			fixture_open(f->store, f->crypt, limits[i]);
		struct each each = { .x = x };

		assert_int_equal(repo_index_each(x, each_entry, &each, NULL), 0);
		assert_int_equal(each.next, 1500);
		each.next = 100;
	}
}

static int each_stop(void *ctx, uint64_t ordinal, uint32_t pack, const struct repo_entry *entry)
{
	(void)ordinal;
	(void)pack;
	(void)entry;
	return ++*(unsigned int *)ctx == 700 ? -EINTR : 0;
}

static void a_visit_ends_when_the_visitor_says_so(void **state)
{
	struct fixture *f = *state;
	uint8_t hash[REPO_NAME_HASH];

	fixture_put(f->store, f->crypt, 0, 2, fixture_name, hash);
	for (uint64_t limit = 0; limit <= 1000000; limit += 1000000) {
		_cleanup_(repo_index_freep) struct repo_index *x =
			fixture_open(f->store, f->crypt, limit);
		unsigned int n = 0;

		assert_int_equal(repo_index_each(x, each_stop, &n, NULL), -EINTR);
		assert_int_equal(n, 700);
	}
}

/* ---- damage ---------------------------------------------------------------------------------------- */

/* What this file says must be refused, or be as it was. */
static uint64_t assert_no_wrong_answer(struct fixture *f, uint64_t resident)
{
	_cleanup_(repo_index_freep) struct repo_index *x = NULL;
	struct err e = { 0 };
	uint64_t refused = 0;
	int r = repo_index_open_within(f->store, fixture_id, f->crypt, resident, &x, &e);

	if (r < 0) {
		assert_true((r == -EBADMSG || r == -EXDEV || r == -ENOTSUP || r == -ENOKEY) &&
			    *e.text);
		return 1;
	}
	for (uint32_t i = 0; i < FIXTURE_PACK_ENTRIES; i++) {
		struct repo_place place;
		struct chunk_id id;

		fixture_name(i, &id);
		r = repo_index_find(x, &id, NULL, &place, &e);
		if (r == 0) {
			fixture_assert_place(x, &place, 0, i, &id, f->crypt != NULL);
		} else {
			assert_int_equal(r, -EBADMSG);
			refused++;
		}
	}
	return refused;
}

static void flip_every_byte(struct fixture *f, uint64_t resident)
{
	uint8_t hash[REPO_NAME_HASH];
	char name[80];
	uint64_t size;

	skip_where_watched();
	fixture_put(f->store, f->crypt, 0, 1, fixture_name, hash);
	fixture_index_name(hash, name);
	assert_int_equal(store_size(f->store, name, &size, NULL), 0);
	assert_int_equal(assert_no_wrong_answer(f, resident), 0);
	for (uint64_t at = 0; at < size; at += at < 1200 ? 1 : 11) {
		assert_int_equal(store_memory_flip(f->store, name, at, 0x04), 0);
		assert_true(assert_no_wrong_answer(f, resident) > 0);
		assert_int_equal(store_memory_flip(f->store, name, at, 0x04), 0);
	}
}

static void a_flipped_bit_is_refused(void **state)
{
	flip_every_byte(*state, FIXTURE_RESIDENT);
}

static void a_flipped_bit_is_refused_when_its_block_is_read(void **state)
{
	flip_every_byte(*state, FIXTURE_ON_DEMAND);
}

static void a_truncated_or_longer_file_is_refused(void **state)
{
	struct fixture *f = *state;
	uint8_t hash[REPO_NAME_HASH], *bytes;
	char name[80];
	size_t len;

	skip_where_watched();
	fixture_put(f->store, f->crypt, 0, 1, fixture_name, hash);
	fixture_index_name(hash, name);
	assert_int_equal(store_get_all(f->store, name, 1 << 20, (void **)&bytes, &len, NULL), 0);
	bytes = realloc(bytes, len + 1);
	assert_non_null(bytes);
	bytes[len] = 0;
	for (size_t cut = 0; cut <= len + 1; cut += cut < 300 || cut > len - 50 ? 1 : 97) {
		if (cut == len)
			continue;
		assert_int_equal(store_del(f->store, name, NULL), 0);
		assert_int_equal(store_put(f->store, name, bytes, cut, NULL), 0);
		assert_int_equal(assert_no_wrong_answer(f, FIXTURE_ON_DEMAND), 1);
	}
	free(bytes);
}

static void a_file_in_the_clear_is_refused_where_all_is_encrypted(void **state)
{
	struct fixture *f = *state;
	struct repo_index *x = NULL;
	uint8_t hash[REPO_NAME_HASH];
	struct err e = { 0 };

	fixture_put(f->store, NULL, 0, 1, fixture_name, hash);
	assert_int_equal(repo_index_open(f->store, fixture_id, f->crypt, &x, &e), -EBADMSG);
	assert_null(x);
}

static void an_encrypted_file_needs_its_key(void **state)
{
	struct fixture *f = *state;
	_cleanup_(crypt_freep) struct crypt *other = NULL;
	struct repo_index *x = NULL;
	uint8_t hash[REPO_NAME_HASH];
	struct err e = { 0 };

	fixture_put(f->store, f->crypt, 0, 1, fixture_name, hash);
	assert_int_equal(repo_index_open(f->store, fixture_id, NULL, &x, &e), -ENOKEY);
	assert_int_equal(crypt_new(&other, NULL), 0);
	assert_int_equal(repo_index_open(f->store, fixture_id, other, &x, &e), -EBADMSG);
	assert_null(x);
}

static void another_repositorys_file_is_refused(void **state)
{
	static const uint8_t other[REPO_ID_SIZE] = "another one";
	struct fixture *f = *state;
	struct repo_index *x = NULL;
	uint8_t hash[REPO_NAME_HASH];
	struct err e = { 0 };

	fixture_put(f->store, f->crypt, 0, 1, fixture_name, hash);
	assert_int_equal(repo_index_open(f->store, other, f->crypt, &x, &e), -EXDEV);
	assert_non_null(strstr(e.text, "index/"));
}

static void what_no_reader_would_accept_is_not_written(void **state)
{
	struct fixture *f = *state;
	_cleanup_(repo_index_builder_freep) struct repo_index_builder *b = NULL;
	const struct chunk_id id = { { 1 } };
	struct repo_entry entry = fixture_entry(0, &id, f->crypt != NULL);
	const uint32_t end = le32_get(entry.offset) + le32_get(entry.frame_len);

	assert_int_equal(repo_index_builder_new(fixture_id, f->crypt, &b, NULL), 0);
	assert_int_equal(repo_index_builder_pack(b, id.b, end, &entry, 1, NULL), 0);
	assert_int_equal(repo_index_builder_pack(b, id.b, end - 1, &entry, 1, NULL), -EINVAL);
}

/* ---- files that come and go ------------------------------------------------------------------------ */

/* An index file with @pack that supersedes @old (@n of them). */
static void put_superseding(struct fixture *f, uint64_t pack, uint8_t (*old)[REPO_NAME_HASH],
			    size_t n, uint8_t ret[REPO_NAME_HASH])
{
	_cleanup_(repo_index_builder_freep) struct repo_index_builder *b = NULL;

	assert_int_equal(repo_index_builder_new(fixture_id, f->crypt, &b, NULL), 0);
	fixture_add_pack(b, pack, pack * FIXTURE_PACK_ENTRIES, FIXTURE_PACK_ENTRIES, fixture_name,
			 f->crypt != NULL);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(repo_index_builder_supersede(b, old[i]), 0);
	assert_int_equal(repo_index_builder_put(b, f->store, ret, NULL), 0);
}

static void a_superseded_file_is_left_out_and_named(void **state)
{
	struct fixture *f = *state;
	_cleanup_(repo_index_freep) struct repo_index *x = NULL;
	uint8_t hash[4][REPO_NAME_HASH];
	size_t superseded = 0;

	fixture_put(f->store, f->crypt, 0, 1, fixture_name, hash[0]);
	put_superseding(f, 1, hash, 1, hash[1]);
	put_superseding(f, 2, hash + 1, 1, hash[2]);
	fixture_put(f->store, f->crypt, 3, 1, fixture_name, hash[3]);
	x = fixture_open(f->store, f->crypt, FIXTURE_RESIDENT);
	assert_int_equal(repo_index_files(x), 4);
	for (size_t i = 0; i < 4; i++) {
		bool old;
		const uint8_t *h = repo_index_file(x, i, &old);

		superseded += old;
		assert_int_equal(old, memcmp(h, hash[0], 32) == 0 || memcmp(h, hash[1], 32) == 0);
	}
	assert_int_equal(superseded, 2);
	assert_int_equal(repo_index_entries(x), 2 * FIXTURE_PACK_ENTRIES);
	fixture_assert_finds(x, 2, 2, fixture_name, f->crypt != NULL);
}

static void a_damaged_file_matters_only_until_it_is_superseded(void **state)
{
	struct fixture *f = *state;
	_cleanup_(repo_index_freep) struct repo_index *x = NULL;
	uint8_t hash[2][REPO_NAME_HASH];
	struct err e = { 0 };
	char name[80];

	fixture_put(f->store, f->crypt, 0, 1, fixture_name, hash[0]);
	assert_int_equal(store_memory_flip(f->store, fixture_index_name(hash[0], name), 170, 1), 0);
	assert_int_equal(repo_index_open(f->store, fixture_id, f->crypt, &x, &e), -EBADMSG);
	assert_non_null(strstr(e.text, name));
	put_superseding(f, 1, hash, 1, hash[1]);
	x = fixture_open(f->store, f->crypt, FIXTURE_RESIDENT);
	assert_int_equal(repo_index_entries(x), FIXTURE_PACK_ENTRIES);
}

static void a_file_that_is_gone_is_no_missing_name(void **state)
{
	struct fixture *f = *state;
	_cleanup_(repo_index_freep) struct repo_index *x = NULL;
	uint8_t hash[REPO_NAME_HASH];
	struct repo_place place;
	struct err e = { 0 };
	struct chunk_id id;
	char name[80];

	fixture_put(f->store, f->crypt, 0, 1, fixture_name, hash);
	x = fixture_open(f->store, f->crypt, FIXTURE_ON_DEMAND);
	assert_int_equal(store_del(f->store, fixture_index_name(hash, name), NULL), 0);
	fixture_name(7, &id);
	assert_int_equal(repo_index_find(x, &id, NULL, &place, &e), -ESTALE);
}

/* ---- many ------------------------------------------------------------------------------------------ */

/* a million entries; a tenth where each memory access is watched */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define MANY_PACKS 200u
#else
#define MANY_PACKS 2000u
#endif
#define MANY_ENTRIES ((uint64_t)MANY_PACKS * FIXTURE_PACK_ENTRIES)

static void a_million_entries_cost_little_memory(void **state)
{
	struct fixture *f = *state;
	_cleanup_(repo_index_freep) struct repo_index *x = NULL;
	uint8_t hash[REPO_NAME_HASH];
	struct repo_place place;
	struct chunk_id id;

	skip_where_watched();
	fixture_put(f->store, f->crypt, 0, MANY_PACKS, fixture_name, hash);
	x = fixture_open(f->store, f->crypt, FIXTURE_ON_DEMAND);
	assert_int_equal(repo_index_entries(x), MANY_ENTRIES);
	/* blocks: 24 bytes for 85 entries; packs: 44, and 16 to find them; the cache */
	assert_true(repo_index_memory(x) < 300000 + 2 * MANY_PACKS * 64 + (5 << 20));
	for (uint64_t i = 0; i < MANY_ENTRIES; i += 97) {
		fixture_name(i, &id);
		assert_int_equal(repo_index_find(x, &id, NULL, &place, NULL), 0);
		fixture_assert_place(x, &place, i / FIXTURE_PACK_ENTRIES,
				     (uint32_t)(i % FIXTURE_PACK_ENTRIES), &id, f->crypt != NULL);
		id.b[31] ^= 1;
		assert_int_equal(repo_index_find(x, &id, NULL, &place, NULL), -ENOENT);
	}
	repo_index_free(TAKE_PTR(x));
	x = fixture_open(f->store, f->crypt, REPO_INDEX_RESIDENT);
	assert_true(repo_index_memory(x) < REPO_INDEX_RESIDENT);
	assert_true(repo_index_memory(x) > 48 * MANY_ENTRIES);
}

static void *finder(void *arg)
{
	const struct repo_index *x = arg;

	/* CMocka's assertions are not for threads */
	for (int round = 0; round < 3; round++) {
		for (uint64_t i = 0; i < 40u * FIXTURE_PACK_ENTRIES; i++) {
			struct repo_place place;
			struct chunk_id id;

			fixture_name(i, &id);
			if (repo_index_find(x, &id, NULL, &place, NULL) != 0 ||
			    memcmp(&place.entry.name, &id, sizeof(id)) != 0)
				return (void *)"a name was not found";
		}
	}
	return NULL;
}

static void many_threads_find_at_once(void **state)
{
	struct fixture *f = *state;
	_cleanup_(repo_index_freep) struct repo_index *x = NULL;
	uint8_t hash[REPO_NAME_HASH];
	pthread_t threads[4];

	fixture_put(f->store, f->crypt, 0, 40, fixture_name, hash);
	x = fixture_open(f->store, f->crypt, FIXTURE_ON_DEMAND);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, finder, x), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(every_entry_is_found_by_its_name),
		BOTH(names_that_begin_alike_are_told_apart),
		BOTH(names_that_begin_alike_over_many_blocks_are_told_apart),
		BOTH(an_empty_repository_knows_nothing),
		BOTH(a_name_in_many_packs_is_found_in_each),
		BOTH(each_entry_is_visited_under_the_ordinal_it_is_found_with),
		BOTH(a_visit_ends_when_the_visitor_says_so),
		BOTH(a_flipped_bit_is_refused),
		BOTH(a_flipped_bit_is_refused_when_its_block_is_read),
		BOTH(a_truncated_or_longer_file_is_refused),
		SEALED(a_file_in_the_clear_is_refused_where_all_is_encrypted),
		SEALED(an_encrypted_file_needs_its_key),
		BOTH(another_repositorys_file_is_refused),
		BOTH(what_no_reader_would_accept_is_not_written),
		BOTH(a_superseded_file_is_left_out_and_named),
		BOTH(a_damaged_file_matters_only_until_it_is_superseded),
		BOTH(a_file_that_is_gone_is_no_missing_name),
		BOTH(a_million_entries_cost_little_memory),
		BOTH(many_threads_find_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
