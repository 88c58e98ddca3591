/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>

#include "lib/repo/stream_log.h"
#include "tests/unit/image-fixture.h"

#define SHIFT AMBRO_CHUNK_SHIFT_MIN

static struct chunk_id id_of(uint64_t n)
{
	struct chunk_id id;

	chunk_id_of(&n, sizeof(n), &id);
	return id;
}

static struct stream_log *log_of(uint32_t regions, bool ordered)
{
	struct stream_log *l;

	assert_int_equal(stream_log_new(regions, SHIFT, ordered, &l), 0);
	return l;
}

static int say(struct stream_log *l, uint32_t region, uint64_t index, uint64_t plain_len)
{
	const struct chunk_id id = id_of(region * UINT64_C(1000) + index);

	return stream_log_chunk(l, region, index, plain_len, &id);
}

static int say_run(struct stream_log *l, uint32_t region, uint64_t index, uint64_t count)
{
	return stream_log_run(l, region, index, count, count * FIXTURE_CHUNK, CHUNK_ZERO);
}

static int check(const struct stream_log *l, const uint64_t *lengths, size_t n)
{
	_cleanup_fixture_ struct fixture f = fixture_new(lengths, n);
	struct err e = { 0 };

	return stream_log_check(l, f.manifest, &e);
}

static void the_set_has_what_was_remembered_and_nothing_else(void **state)
{
	_cleanup_(stream_log_freep) struct stream_log *l = log_of(1, false);
	const uint64_t chunks = 100000;

	for (uint64_t i = 0; i < chunks; i++) {
		const struct chunk_id id = id_of(i);

		assert_false(stream_log_knows(l, &id));
		assert_int_equal(stream_log_chunk(l, 0, i, FIXTURE_CHUNK, &id), 0);
		if (i % 3 == 0)
			assert_int_equal(stream_log_remember(l), 0);
	}
	for (uint64_t i = 0; i < chunks; i++) {
		const struct chunk_id id = id_of(i);

		assert_int_equal(stream_log_knows(l, &id), i % 3 == 0);
	}
}

static void the_last_word_counts_in_the_trees(void **state)
{
	_cleanup_(stream_log_freep) struct stream_log *l = log_of(2, false);
	struct tree *trees[2];
	struct chunk_id id, want = id_of(1005);

	assert_int_equal(say(l, 1, 5, FIXTURE_CHUNK), 0);
	assert_int_equal(say(l, 0, 7, FIXTURE_CHUNK), 0);
	assert_int_equal(say_run(l, 1, 3, 2), 0);
	assert_int_equal(say_run(l, 0, 6, 3), 0);
	assert_int_equal(say(l, 0, 8, FIXTURE_CHUNK), 0);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(tree_new(10, &trees[i]), 0);
	assert_int_equal(stream_log_apply(l, trees), 0);
	assert_int_equal(tree_get(trees[1], 5, &id), CHUNK_DATA);
	assert_memory_equal(&id, &want, sizeof(id));
	assert_int_equal(tree_get(trees[1], 4, NULL), CHUNK_ZERO);
	assert_int_equal(tree_get(trees[0], 7, NULL), CHUNK_ZERO);
	assert_int_equal(tree_get(trees[0], 8, NULL), CHUNK_DATA);
	assert_int_equal(tree_get(trees[0], 9, NULL), CHUNK_FREE);
	tree_free(trees[0]);
	tree_free(trees[1]);
}

static void without_resent_everything_comes_once_and_in_order(void **state)
{
	const uint64_t lengths[] = { FIXTURE_CHUNK * 3, FIXTURE_CHUNK * 2 };
	_cleanup_(stream_log_freep) struct stream_log *l = log_of(2, true);

	assert_int_equal(say(l, 1, 0, FIXTURE_CHUNK), -EBADMSG);
	assert_int_equal(say(l, 0, 1, FIXTURE_CHUNK), -EBADMSG);
	assert_int_equal(say(l, 0, 0, FIXTURE_CHUNK), 0);
	assert_int_equal(say(l, 0, 0, FIXTURE_CHUNK), -EBADMSG);
	assert_int_equal(say_run(l, 0, 1, 2), 0);
	assert_int_equal(say(l, 1, 1, FIXTURE_CHUNK), -EBADMSG);
	assert_int_equal(check(l, lengths, 2), -EBADMSG);
	assert_int_equal(say_run(l, 1, 0, 2), 0);
	assert_int_equal(check(l, lengths, 2), 0);
}

static void what_was_said_must_fit_the_regions(void **state)
{
	const uint64_t whole[] = { FIXTURE_CHUNK * 4 }, shorter[] = { FIXTURE_CHUNK * 3 + 5 };
	const uint64_t two[] = { FIXTURE_CHUNK * 4, 512 };
	_cleanup_(stream_log_freep) struct stream_log *l = log_of(1, false);

	assert_int_equal(say(l, 0, 2, FIXTURE_CHUNK), 0);
	assert_int_equal(check(l, whole, 1), 0);
	assert_int_equal(check(l, shorter, 1), 0);
	assert_int_equal(check(l, two, 2), -EBADMSG);
	/* the last chunk is a short one: now only one length fits */
	assert_int_equal(say(l, 0, 3, 5), 0);
	assert_int_equal(check(l, whole, 1), -EBADMSG);
	assert_int_equal(check(l, shorter, 1), 0);
	/* another one cannot be short, nor this one shorter */
	assert_int_equal(say(l, 0, 2, 5), -EBADMSG);
	assert_int_equal(say(l, 0, 3, 4), -EBADMSG);
	/* and it cannot have been whole */
	assert_int_equal(say(l, 0, 3, FIXTURE_CHUNK), 0);
	assert_int_equal(check(l, shorter, 1), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_set_has_what_was_remembered_and_nothing_else),
		cmocka_unit_test(the_last_word_counts_in_the_trees),
		cmocka_unit_test(without_resent_everything_comes_once_and_in_order),
		cmocka_unit_test(what_was_said_must_fit_the_regions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
