/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/eras.h"

#define SHIFT 18
#define G     (1ULL << SHIFT)
#define CELLS (3UL * ERAS_PAGE)

static uint32_t cells[CELLS];

static struct eras eras_fresh(uint64_t size)
{
	memset(cells, 0, sizeof(cells));
	return (struct eras){ .cells = cells, .size = size, .granule_shift = SHIFT };
}

static void nothing_written_gives_nothing(void **state)
{
	struct eras eras = eras_fresh(CELLS * G);
	_cleanup_extents_ struct extent_set set = {};

	assert_int_equal(eras_scan(&eras, 1, &set), 0);
	assert_int_equal(set.count, 0);
	assert_false(eras_touched(&eras, 1, 0, CELLS * G));
}

static void neighbours_become_one_extent_across_pages(void **state)
{
	struct eras eras = eras_fresh(CELLS * G);
	_cleanup_extents_ struct extent_set set = {};

	for (unsigned int i = ERAS_PAGE - 2; i < ERAS_PAGE + 3; i++)
		cells[i] = 7;
	cells[0] = 6;
	cells[CELLS - 1] = 8;
	assert_int_equal(eras_scan(&eras, 7, &set), 0);
	assert_int_equal(set.count, 2);
	assert_int_equal(set.items[0].start, (ERAS_PAGE - 2UL) * G);
	assert_int_equal(set.items[0].length, 5 * G);
	assert_int_equal(set.items[1].start, (CELLS - 1) * G);
	assert_int_equal(set.items[1].length, G);
}

static void a_page_whose_latest_era_is_older_is_not_looked_at(void **state)
{
	const uint32_t pages[CELLS / ERAS_PAGE] = { 4, 9, 7 };
	struct eras eras = eras_fresh(CELLS * G);
	_cleanup_extents_ struct extent_set set = {};

	eras.pages = pages;
	/* a cell that cannot be newer than its page shows that the page was believed */
	cells[1] = 8;
	cells[ERAS_PAGE] = 9;
	cells[ERAS_PAGE + 7] = 6;
	cells[CELLS - 1] = 7;
	assert_int_equal(eras_scan(&eras, 7, &set), 0);
	assert_int_equal(set.count, 2);
	assert_int_equal(set.items[0].start, ERAS_PAGE * G);
	assert_int_equal(set.items[0].length, G);
	assert_int_equal(set.items[1].start, (CELLS - 1) * G);
}

static void a_fixed_scan_never_makes_room(void **state)
{
	struct eras eras = eras_fresh(CELLS * G);
	_cleanup_extents_ struct extent_set set = {};
	const struct extent *items;
	size_t room;

	assert_int_equal(extent_set_reserve(&set, 4), 0);
	items = set.items;
	room = set.allocated;
	for (size_t i = 0; i < room; i++)
		cells[2 * i] = 5;
	assert_int_equal(eras_scan_fixed(&eras, 5, &set), 0);
	assert_int_equal(set.count, room);
	cells[2 * room] = 5;
	set.count = 0;
	assert_int_equal(eras_scan_fixed(&eras, 5, &set), -ENOBUFS);
	assert_ptr_equal(set.items, items);
	assert_int_equal(set.allocated, room);
}

static void older_eras_whose_bits_add_up_are_not_named(void **state)
{
	struct eras eras = eras_fresh(CELLS * G);
	_cleanup_extents_ struct extent_set set = {};

	cells[1] = 4;
	cells[2] = 3; /* 4 | 3 == 7 */
	assert_int_equal(eras_scan(&eras, 6, &set), 0);
	assert_int_equal(set.count, 0);
}

static void the_last_granule_is_cut_at_the_end_of_the_disk(void **state)
{
	uint64_t size = 5 * G + 4096;
	struct eras eras = eras_fresh(size);
	_cleanup_extents_ struct extent_set set = {};

	cells[5] = 1;
	assert_int_equal(eras_scan(&eras, 1, &set), 0);
	assert_int_equal(set.count, 1);
	assert_int_equal(set.items[0].start, 5 * G);
	assert_int_equal(set.items[0].length, 4096);
}

static void touched_looks_at_every_granule_that_overlaps(void **state)
{
	struct eras eras = eras_fresh(100 * G);

	cells[10] = 3;
	assert_true(eras_touched(&eras, 3, 10 * G, 1));
	assert_true(eras_touched(&eras, 3, 11 * G - 1, 1));
	assert_true(eras_touched(&eras, 3, 9 * G, G + 1));
	assert_false(eras_touched(&eras, 3, 9 * G, G));
	assert_false(eras_touched(&eras, 3, 11 * G, G));
	assert_false(eras_touched(&eras, 4, 10 * G, G));
}

static void touched_takes_any_range(void **state)
{
	struct eras eras = eras_fresh(100 * G);

	cells[99] = 3;
	assert_false(eras_touched(&eras, 1, 99 * G, 0));
	assert_false(eras_touched(&eras, 1, 100 * G, UINT64_MAX));
	assert_true(eras_touched(&eras, 1, 0, UINT64_MAX));
	assert_true(eras_touched(&eras, 1, 99 * G, UINT64_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_written_gives_nothing),
		cmocka_unit_test(neighbours_become_one_extent_across_pages),
		cmocka_unit_test(a_page_whose_latest_era_is_older_is_not_looked_at),
		cmocka_unit_test(a_fixed_scan_never_makes_room),
		cmocka_unit_test(older_eras_whose_bits_add_up_are_not_named),
		cmocka_unit_test(the_last_granule_is_cut_at_the_end_of_the_disk),
		cmocka_unit_test(touched_looks_at_every_granule_that_overlaps),
		cmocka_unit_test(touched_takes_any_range),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
