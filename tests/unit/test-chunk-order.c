/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/image/chunk_order.h"

#define KIB UINT64_C(1024)
#define MIB (KIB << 10)

static bool add(struct chunk_order *o, uint32_t container, uint64_t offset, uint32_t len,
		uint64_t index)
{
	const struct image_run run = {
		.state = CHUNK_DATA,
		.index = index,
		.count = 1,
		.id = { .b = { (uint8_t)index } },
		.container = container,
		.offset = offset,
		.frame_len = len,
		.plain_len = 2 * len,
	};

	return chunk_order_add(o, 7, &run);
}

static struct image_run next(struct chunk_order *o)
{
	struct image_run run;
	uint32_t region = 0;

	assert_true(chunk_order_next(o, &region, &run));
	assert_int_equal(region, 7);
	assert_int_equal(run.state, CHUNK_DATA);
	assert_int_equal(run.count, 1);
	assert_int_equal(run.plain_len, 2 * run.frame_len);
	assert_int_equal(run.id.b[0], (uint8_t)run.index);
	/* it lies in what is to be read with it */
	assert_true(run.offset >= run.piece.offset);
	assert_true(run.offset + run.frame_len <= run.piece.offset + run.piece.length);
	return run;
}

static void assert_piece(const struct image_run *run, uint64_t offset, uint64_t length)
{
	assert_int_equal(run->piece.offset, offset);
	assert_int_equal(run->piece.length, length);
}

static void assert_no_more(struct chunk_order *o)
{
	struct image_run run;
	uint32_t region;

	assert_false(chunk_order_next(o, &region, &run));
}

static void chunks_come_pack_after_pack_and_by_offset(void **state)
{
	_cleanup_(chunk_order_freep) struct chunk_order *o = NULL;
	static const uint64_t order[] = { 3, 1, 4, 0, 2 };

	assert_int_equal(chunk_order_new(100, &o), 0);
	assert_no_more(o);
	add(o, 2, 500, 100, 0);
	add(o, 1, 900, 100, 1);
	add(o, 2, 600, 100, 2);
	add(o, 1, 100, 100, 3);
	add(o, 2, UINT64_C(1) << 40, 100, 5);
	add(o, 2, 300, 100, 4);
	assert_no_more(o);
	assert_true(chunk_order_sort(o));
	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		assert_int_equal(next(o).index, order[i]);
	assert_int_equal(next(o).index, 5);
	assert_no_more(o);
	/* and it collects again */
	assert_false(chunk_order_sort(o));
	assert_true(add(o, 9, 1, 1, 8));
	assert_true(chunk_order_sort(o));
	assert_int_equal(next(o).index, 8);
	assert_no_more(o);
}

static void neighbours_are_read_together_over_small_gaps_only(void **state)
{
	_cleanup_(chunk_order_freep) struct chunk_order *o = NULL;
	const uint64_t far = 300 * KIB + CHUNK_ORDER_GAP + 1;
	struct image_run run;

	assert_int_equal(chunk_order_new(100, &o), 0);
	add(o, 0, 100 * KIB, 100 * KIB, 0);
	add(o, 0, 200 * KIB, 100 * KIB, 1);
	/* one byte more than what is read over, then as much */
	add(o, 0, far, 1 * KIB, 2);
	add(o, 0, far + KIB + CHUNK_ORDER_GAP, KIB, 3);
	/* the next pack is another's, wherever it is */
	add(o, 1, far + 3 * KIB, 1 * KIB, 4);
	assert_true(chunk_order_sort(o));
	for (int i = 0; i < 2; i++) {
		run = next(o);
		assert_piece(&run, 100 * KIB, 200 * KIB);
	}
	for (int i = 0; i < 2; i++) {
		run = next(o);
		assert_piece(&run, far, 2 * KIB + CHUNK_ORDER_GAP);
	}
	run = next(o);
	assert_piece(&run, far + 3 * KIB, KIB);
}

static void pieces_have_a_limit_but_hold_the_largest_frame(void **state)
{
	_cleanup_(chunk_order_freep) struct chunk_order *o = NULL;
	uint64_t at = 0, before = UINT64_MAX;
	struct image_run run;
	unsigned int pieces = 0;

	assert_int_equal(chunk_order_new(100, &o), 0);
	for (unsigned int i = 0; i < 50; i++, at += 500 * KIB)
		add(o, 0, at, 500 * KIB, i);
	add(o, 1, 0, CHUNK_ORDER_PIECE + 1, 50);
	add(o, 1, CHUNK_ORDER_PIECE + 1, 1, 51);
	assert_true(chunk_order_sort(o));
	for (unsigned int i = 0; i < 50; i++) {
		run = next(o);
		assert_true(run.piece.length <= CHUNK_ORDER_PIECE);
		pieces += run.piece.offset != before;
		before = run.piece.offset;
	}
	/* 16 of them are 8000 KiB */
	assert_int_equal(pieces, 4);
	run = next(o);
	assert_piece(&run, 0, CHUNK_ORDER_PIECE + 1);
	run = next(o);
	assert_piece(&run, CHUNK_ORDER_PIECE + 1, 1);
}

static void a_chunk_of_many_places_comes_as_often_in_a_row(void **state)
{
	_cleanup_(chunk_order_freep) struct chunk_order *o = NULL;
	struct image_run run;

	assert_int_equal(chunk_order_new(200, &o), 0);
	for (unsigned int i = 0; i < 100; i++) {
		add(o, 3, 9 * MIB * (i % 2), 1000, i);
	}
	assert_true(chunk_order_sort(o));
	for (unsigned int i = 0; i < 100; i++) {
		run = next(o);
		assert_int_equal(run.index, i < 50 ? 2 * i : 2 * (i - 50) + 1);
		assert_piece(&run, i < 50 ? 0 : 9 * MIB, 1000);
	}
	assert_no_more(o);
}

static void a_full_one_says_so_and_goes_on_when_it_is_empty(void **state)
{
	_cleanup_(chunk_order_freep) struct chunk_order *o = NULL;

	assert_int_equal(chunk_order_new(3, &o), 0);
	for (unsigned int round = 0; round < 3; round++) {
		assert_true(add(o, 0, 30, 1, 0));
		assert_true(add(o, 0, 20, 1, 1));
		assert_false(add(o, 0, 10, 1, 2));
		assert_true(chunk_order_sort(o));
		assert_int_equal(next(o).index, 2);
		if (round == 1) {
			chunk_order_clear(o);
			continue;
		}
		assert_int_equal(next(o).index, 1);
		assert_int_equal(next(o).index, 0);
		assert_no_more(o);
	}
}

static void there_is_room_for_one_at_least(void **state)
{
	_cleanup_(chunk_order_freep) struct chunk_order *none = NULL;
	_cleanup_(chunk_order_freep) struct chunk_order *all = NULL;

	assert_int_equal(chunk_order_new(0, &none), 0);
	assert_false(add(none, 0, 0, 1, 0));
	/* what a hostile manifest says is no reason to take more memory */
	assert_int_equal(chunk_order_new(UINT64_MAX, &all), 0);
	for (size_t i = 0; i + 1 < CHUNK_ORDER_MAX; i++)
		assert_true(add(all, 0, i, 1, i));
	assert_false(add(all, 0, CHUNK_ORDER_MAX, 1, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chunks_come_pack_after_pack_and_by_offset),
		cmocka_unit_test(neighbours_are_read_together_over_small_gaps_only),
		cmocka_unit_test(pieces_have_a_limit_but_hold_the_largest_frame),
		cmocka_unit_test(a_chunk_of_many_places_comes_as_often_in_a_row),
		cmocka_unit_test(a_full_one_says_so_and_goes_on_when_it_is_empty),
		cmocka_unit_test(there_is_room_for_one_at_least),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
