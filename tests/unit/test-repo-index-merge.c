/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/repo-index-store.h"

#define PACKS	     6u
#define ENTRIES	     ((uint64_t)PACKS * FIXTURE_PACK_ENTRIES)
#define FILE_ENTRIES 1100u /* of the new files: three of them */

/* Four small files, of two packs, of one each, and of the last two. */
static void small_files_put(struct fixture *f)
{
	uint8_t hash[REPO_NAME_HASH];

	fixture_put(f->store, f->crypt, 0, 2, fixture_name, hash);
	fixture_put(f->store, f->crypt, 2, 1, fixture_name, hash);
	fixture_put(f->store, f->crypt, 3, 1, fixture_name, hash);
	fixture_put(f->store, f->crypt, 4, 2, fixture_name, hash);
}

/* Open, merge what has up to @most entries, close. */
static int merge(struct fixture *f, struct store *s, uint64_t most, uint64_t resident,
		 bool *ret_done)
{
	_cleanup_(repo_index_freep) struct repo_index *x = fixture_open(s, f->crypt, resident);
	const struct repo_index_merge how = { .most = most, .file_entries = FILE_ENTRIES };
	struct err e = { 0 };
	int r = repo_index_merge_files(x, &how, ret_done, &e);

	assert_true(r == 0 || *e.text);
	return r;
}

static size_t count_files(const struct repo_index *x, bool superseded)
{
	size_t n = 0;

	for (size_t i = 0; i < repo_index_files(x); i++) {
		bool old;

		repo_index_file(x, i, &old);
		n += old == superseded;
	}
	return n;
}

/* As gc does it: those that are superseded are deleted, the first @most of them. */
static void sweep(struct fixture *f, size_t most)
{
	_cleanup_(repo_index_freep) struct repo_index *x =
		fixture_open(f->store, f->crypt, FIXTURE_ON_DEMAND);

	for (size_t i = 0; most && i < repo_index_files(x); i++) {
		bool old;
		const uint8_t *hash = repo_index_file(x, i, &old);
		char name[80];

		if (old) {
			assert_int_equal(store_del(f->store, fixture_index_name(hash, name), NULL),
					 0);
			most--;
		}
	}
}

static void assert_all_there(struct fixture *f, size_t files, size_t superseded)
{
	_cleanup_(repo_index_freep) struct repo_index *x =
		fixture_open(f->store, f->crypt, FIXTURE_ON_DEMAND);

	assert_int_equal(count_files(x, false), files);
	assert_int_equal(count_files(x, true), superseded);
	assert_int_equal(repo_index_entries(x), ENTRIES);
	assert_int_equal(repo_index_packs(x), PACKS);
	fixture_assert_finds(x, 0, PACKS, fixture_name, f->crypt != NULL);
}

static void merged_files_say_what_the_old_ones_said(void **state)
{
	static const uint64_t limits[] = { FIXTURE_ON_DEMAND, 60000, FIXTURE_RESIDENT };
	struct fixture *f = *state;
	bool done = false;

	small_files_put(f);
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		assert_int_equal(merge(f, f->store, UINT64_MAX, limits[i], &done), 0);
		assert_true(done);
		assert_all_there(f, 3, i ? 3 : 4);
		sweep(f, SIZE_MAX);
		assert_all_there(f, 3, 0);
	}
}

static void files_that_are_large_enough_are_left_alone(void **state)
{
	struct fixture *f = *state;
	bool done = true;

	small_files_put(f);
	assert_int_equal(merge(f, f->store, FIXTURE_PACK_ENTRIES - 1, FIXTURE_RESIDENT, &done), 0);
	assert_false(done);
	assert_all_there(f, 4, 0);
	assert_int_equal(merge(f, f->store, FIXTURE_PACK_ENTRIES, FIXTURE_RESIDENT, &done), 0);
	assert_true(done);
	assert_all_there(f, 3, 2);
	/* none is small any more */
	assert_int_equal(merge(f, f->store, FIXTURE_PACK_ENTRIES, FIXTURE_RESIDENT, &done), 0);
	assert_false(done);
}

struct keep {
	const struct repo_index *x;
	uint64_t lost; /* bit for each of fixture_pack_hash() */
};

static bool keep_pack(void *ctx, uint32_t pack)
{
	const struct keep *k = ctx;
	uint8_t hash[REPO_NAME_HASH];

	for (unsigned int p = 0; p < PACKS; p++) {
		fixture_pack_hash(p, hash);
		if (memcmp(hash, repo_index_pack(k->x, pack)->hash, sizeof(hash)) == 0)
			return !(k->lost >> p & 1);
	}
	fail();
	return false;
}

static void leave_out(struct fixture *f, uint64_t most, uint64_t lost)
{
	_cleanup_(repo_index_freep) struct repo_index *x =
		fixture_open(f->store, f->crypt, FIXTURE_ON_DEMAND);
	struct keep keep = { x, lost };
	bool done = false;

	assert_int_equal(repo_index_merge(x, most, keep_pack, &keep, &done, NULL), 0);
	assert_true(done);
}

static void assert_left_out(struct fixture *f, uint64_t lost)
{
	_cleanup_(repo_index_freep) struct repo_index *x =
		fixture_open(f->store, f->crypt, FIXTURE_ON_DEMAND);

	for (unsigned int p = 0; p < PACKS; p++) {
		uint8_t hash[REPO_NAME_HASH];
		struct chunk_id id;

		fixture_pack_hash(p, hash);
		fixture_name((uint64_t)p * FIXTURE_PACK_ENTRIES + 77, &id);
		if (lost >> p & 1) {
			assert_int_equal(fixture_count(x, &id), 0);
			assert_int_equal(repo_index_exclude(x, hash), -ENOENT);
		} else {
			fixture_assert_finds(x, p, 1, fixture_name, f->crypt != NULL);
		}
	}
}

static void a_pack_that_is_not_kept_is_left_out_of_large_files_too(void **state)
{
	struct fixture *f = *state;

	small_files_put(f);
	leave_out(f, 0, 1 << 1 | 1 << 3);
	assert_left_out(f, 1 << 1 | 1 << 3);
	sweep(f, SIZE_MAX);
	assert_left_out(f, 1 << 1 | 1 << 3);
	leave_out(f, 0, (1 << PACKS) - 1);
	assert_left_out(f, (1 << PACKS) - 1);
	sweep(f, SIZE_MAX);
	assert_left_out(f, (1 << PACKS) - 1);
}

/* Old ones are deleted in any order: what they had superseded does not come back. */
static void what_was_superseded_stays_so(void **state)
{
	struct fixture *f = *state;
	_cleanup_(repo_index_freep) struct repo_index *x = NULL;
	uint8_t middle[REPO_NAME_HASH];
	char name[80];
	bool old = true;

	small_files_put(f);
	leave_out(f, UINT64_MAX, 1);
	x = fixture_open(f->store, f->crypt, FIXTURE_ON_DEMAND);
	assert_int_equal(count_files(x, false), 1);
	memcpy(middle, repo_index_file(x, 0, &old), sizeof(middle));
	assert_false(old);
	leave_out(f, UINT64_MAX, 1 << 4);
	assert_int_equal(store_del(f->store, fixture_index_name(middle, name), NULL), 0);
	assert_left_out(f, 1 | 1 << 4);
}

/* A capture stores the same things again after their pack was given up. */
static void what_is_indexed_anew_after_it_was_left_out_is_found(void **state)
{
	struct fixture *f = *state;
	uint8_t hash[REPO_NAME_HASH];

	small_files_put(f);
	leave_out(f, UINT64_MAX, 1 << 2);
	assert_left_out(f, 1 << 2);
	fixture_put(f->store, f->crypt, 2, 1, fixture_name, hash);
	assert_left_out(f, 0);
}

static void the_same_thing_in_two_packs_stays_in_both(void **state)
{
	struct fixture *f = *state;
	_cleanup_(repo_index_builder_freep) struct repo_index_builder *b = NULL;
	_cleanup_(repo_index_freep) struct repo_index *x = NULL;
	uint8_t hash[REPO_NAME_HASH];
	struct chunk_id id;
	bool done;

	fixture_put(f->store, f->crypt, 0, 2, fixture_name, hash);
	assert_int_equal(repo_index_builder_new(fixture_id, f->crypt, &b, NULL), 0);
	fixture_add_pack(b, 9, 100, 50, fixture_name, f->crypt != NULL);
	/* and once more what the first file says */
	fixture_add_pack(b, 1, FIXTURE_PACK_ENTRIES, 200, fixture_name, f->crypt != NULL);
	assert_int_equal(repo_index_builder_put(b, f->store, hash, NULL), 0);
	assert_int_equal(merge(f, f->store, UINT64_MAX, FIXTURE_ON_DEMAND, &done), 0);
	x = fixture_open(f->store, f->crypt, FIXTURE_ON_DEMAND);
	assert_int_equal(repo_index_entries(x), 2 * FIXTURE_PACK_ENTRIES + 50);
	for (uint64_t i = 0; i < 2 * FIXTURE_PACK_ENTRIES; i++) {
		fixture_name(i, &id);
		assert_int_equal(fixture_count(x, &id), i >= 100 && i < 150 ? 2 : 1);
	}
}

/* ---- what fails, and what is killed ---------------------------------------------------------------- */

/* Step @step of a merge meets @fault. Returns whether the merge had so many steps. */
static bool merge_fails_at(struct fixture *f, uint64_t step, enum store_fault fault)
{
	struct store *faulty = NULL;
	bool done = false;
	int r;

	assert_int_equal(store_fault_new(TAKE_PTR(f->store), &faulty), 0);
	store_fault_at(faulty, step, fault, -EIO);
	r = merge(f, faulty, UINT64_MAX, FIXTURE_ON_DEMAND, &done);
	f->store = store_fault_release(faulty);
	assert_int_equal(done, r == 0);
	return r < 0;
}

static void assert_each_at_least_once(struct fixture *f)
{
	_cleanup_(repo_index_freep) struct repo_index *x =
		fixture_open(f->store, f->crypt, FIXTURE_ON_DEMAND);

	fixture_assert_finds(x, 0, PACKS, fixture_name, f->crypt != NULL);
}

static void a_merge_that_fails_or_is_killed_at_any_step_loses_nothing(void **state)
{
	static const enum store_fault faults[] = { STORE_FAULT_FAIL, STORE_FAULT_LOST_REPLY,
						   STORE_FAULT_DEAD, STORE_FAULT_DEAD_AFTER };
	struct fixture *f = *state;
	uint64_t steps = 0;

	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		for (uint64_t step = 0;; step++) {
			bool done, failed;

			store_free(f->store);
			assert_int_equal(store_memory_new(&f->store), 0);
			small_files_put(f);
			failed = merge_fails_at(f, step, faults[i]);
			assert_each_at_least_once(f);
			sweep(f, SIZE_MAX);
			assert_each_at_least_once(f);
			if (!failed)
				break;
			steps++;
			/* taken up again, and killed while the old ones are deleted */
			assert_int_equal(merge(f, f->store, UINT64_MAX, FIXTURE_ON_DEMAND, &done),
					 0);
			for (size_t swept = 0; swept < 8; swept++) {
				assert_each_at_least_once(f);
				sweep(f, 1);
			}
			assert_all_there(f, 3, 0);
		}
	}
	assert_int_equal(steps, ARRAY_SIZE(faults) * 3);
}

/* ---- who looks meanwhile --------------------------------------------------------------------------- */

/* A store whose first listing began before a merge and ends after it: it shows the last new file, and none of the others. */
struct racing {
	struct store base;
	struct store *below;
	unsigned int lists;
	char last[80]; /* the new file that supersedes */
	store_list_fn fn;
	void *ctx;
	uint8_t (*before)[REPO_NAME_HASH];
	size_t n_before;
};

static int racing_get(struct store *s, const char *name, uint64_t offset, void *buf, size_t len,
		      struct err *e)
{
	return store_get(((struct racing *)s)->below, name, offset, buf, len, e);
}

static int racing_entry(void *ctx, const char *name, uint64_t size)
{
	struct racing *r = ctx;
	char known[80];

	for (size_t i = 0; i < r->n_before; i++) {
		if (strcmp(fixture_index_name(r->before[i], known), name) == 0)
			return r->fn(r->ctx, name, size);
	}
	return strcmp(name, r->last) == 0 ? r->fn(r->ctx, name, size) : 0;
}

static int racing_list(struct store *s, const char *prefix, store_list_fn fn, void *ctx,
		       struct err *e)
{
	struct racing *r = (struct racing *)s;

	if (r->lists++)
		return store_list(r->below, prefix, fn, ctx, e);
	r->fn = fn;
	r->ctx = ctx;
	return store_list(r->below, prefix, racing_entry, r, e);
}

static void a_listing_that_saw_half_of_a_merge_misses_nothing(void **state)
{
	static const struct store_ops ops = { .get = racing_get, .list = racing_list };
	struct fixture *f = *state;
	struct racing racing = { .base = { &ops }, .below = f->store };
	uint8_t before[4][REPO_NAME_HASH];
	struct repo_index *x;
	bool done, old;

	small_files_put(f);
	x = fixture_open(f->store, f->crypt, FIXTURE_ON_DEMAND);
	for (size_t i = 0; i < 4; i++)
		memcpy(before[i], repo_index_file(x, i, &old), sizeof(before[i]));
	repo_index_free(x);
	assert_int_equal(merge(f, f->store, UINT64_MAX, FIXTURE_ON_DEMAND, &done), 0);
	racing.before = before;
	racing.n_before = ARRAY_SIZE(before);
	x = fixture_open(f->store, f->crypt, FIXTURE_ON_DEMAND);
	for (size_t i = 0; i < 3; i++) {
		fixture_index_name(repo_index_file(x, i, &old), racing.last);
		racing.lists = 0;
		{
			_cleanup_(repo_index_freep) struct repo_index *seen =
				fixture_open(&racing.base, f->crypt, FIXTURE_ON_DEMAND);

			fixture_assert_finds(seen, 0, PACKS, fixture_name, f->crypt != NULL);
		}
	}
	repo_index_free(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(merged_files_say_what_the_old_ones_said),
		PLAIN(files_that_are_large_enough_are_left_alone),
		BOTH(a_pack_that_is_not_kept_is_left_out_of_large_files_too),
		BOTH(what_was_superseded_stays_so),
		BOTH(what_is_indexed_anew_after_it_was_left_out_is_found),
		BOTH(the_same_thing_in_two_packs_stays_in_both),
		BOTH(a_merge_that_fails_or_is_killed_at_any_step_loses_nothing),
		BOTH(a_listing_that_saw_half_of_a_merge_misses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
