/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/plan.h"

#define MIB   (UINT64_C(1) << 20)
#define CHUNK (1u << 20)

/* A disk of three regions: 1 MiB gap, 9.5 MiB file system, 8 MiB swap. */
struct fixture {
	struct layout layout;
	struct layout_region regions[3];
	struct usedmap map;
	struct usedmap_region maps[3];
	struct plan *plan;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->regions[0] = (struct layout_region){ .start = 0, .length = MIB };
	f->regions[1] = (struct layout_region){ .start = MIB, .length = 9 * MIB + MIB / 2 };
	f->regions[2] = (struct layout_region){ .start = 10 * MIB + MIB / 2, .length = 8 * MIB };
	f->layout = (struct layout){ .size = 18 * MIB + MIB / 2,
				     .regions = f->regions,
				     .n_regions = 3 };
	extent_set_add(&f->maps[0].used, 0, MIB);
	extent_set_add(&f->maps[1].used, MIB, 8192);
	extent_set_add(&f->maps[1].used, 3 * MIB + 4096, 4096);
	extent_set_add(&f->maps[1].used, 10 * MIB, MIB / 2);
	f->maps[2].content = CONTENT_HEADER;
	extent_set_add(&f->maps[2].used, f->regions[2].start, 65536);
	f->map = (struct usedmap){ f->maps, 3 };
	assert_int_equal(plan_new(&f->layout, &f->map, CHUNK, &f->plan), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	plan_free(f->plan);
	for (size_t i = 0; i < 3; i++)
		extent_set_done(&f->maps[i].used);
	free(f);
	return 0;
}

static unsigned int count_blocks(const struct plan_chunk *c)
{
	unsigned int n = 0;

	for (uint32_t b = 0; b < PLAN_BLOCKS_MAX; b++)
		n += plan_chunk_block(c, b);
	return n;
}

static void only_chunks_in_use_are_planned(void **state)
{
	struct fixture *f = *state;
	static const struct {
		uint32_t region;
		uint64_t index;
		unsigned int blocks;
	} want[] = { { 0, 0, 256 }, { 1, 0, 2 }, { 1, 2, 1 }, { 1, 9, 128 }, { 2, 0, 16 } };
	struct plan_chunk c;
	uint64_t at = 0;

	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		assert_true(plan_next(f->plan, plan_used(f->plan), &at, &c));
		assert_int_equal(c.region, want[i].region);
		assert_int_equal(c.index, want[i].index);
		assert_int_equal(count_blocks(&c), want[i].blocks);
	}
	assert_false(plan_next(f->plan, plan_used(f->plan), &at, &c));
}

static void the_last_chunk_of_a_region_is_short(void **state)
{
	struct fixture *f = *state;
	struct extent_set written = { 0 };
	struct plan_chunk c;
	uint64_t at = 0;

	extent_set_add(&written, 10 * MIB, 1);
	assert_true(plan_next(f->plan, &written, &at, &c));
	assert_int_equal(c.length, MIB / 2);
	assert_int_equal(c.offset, 10 * MIB);
	assert_int_equal(at, 10 * MIB + MIB / 2);
	extent_set_done(&written);
}

static void a_written_chunk_is_read_with_all_it_holds(void **state)
{
	struct fixture *f = *state;
	struct extent_set written = { 0 };
	struct plan_chunk c;
	uint64_t at = 0;

	extent_set_add(&written, MIB + 256 * 1024, 256 * 1024);
	assert_true(plan_next(f->plan, &written, &at, &c));
	assert_int_equal(count_blocks(&c), 2 + 64);
	assert_true(plan_chunk_block(&c, 0));
	assert_true(plan_chunk_block(&c, 64));
	assert_false(plan_chunk_block(&c, 63));
	assert_false(plan_next(f->plan, &written, &at, &c));
	extent_set_done(&written);
}

static void what_was_written_stays_in_use(void **state)
{
	struct fixture *f = *state;
	struct extent_set written = { 0 };
	struct plan_chunk c;
	uint64_t at = 6 * MIB;

	extent_set_add(&written, 6 * MIB, 4096);
	assert_int_equal(plan_add_used(f->plan, &written), 0);
	assert_true(plan_next(f->plan, plan_used(f->plan), &at, &c));
	assert_int_equal(c.index, 5);
	assert_int_equal(count_blocks(&c), 1);
	extent_set_done(&written);
}

static void writes_into_swap_are_not_captured(void **state)
{
	struct fixture *f = *state;
	struct extent_set written = { 0 };
	struct plan_chunk c;
	uint64_t at = 0;

	extent_set_add(&written, f->regions[2].start + 65536, 7 * MIB);
	assert_int_equal(plan_cost_of(f->plan, &written).chunks, 0);
	assert_int_equal(plan_add_used(f->plan, &written), 0);
	at = f->regions[2].start;
	assert_true(plan_next(f->plan, plan_used(f->plan), &at, &c));
	assert_int_equal(count_blocks(&c), 16);
	assert_false(plan_next(f->plan, plan_used(f->plan), &at, &c));
	extent_set_done(&written);
}

static void a_granule_over_two_regions_names_both(void **state)
{
	struct fixture *f = *state;
	struct extent_set written = { 0 };
	struct plan_chunk c;
	uint64_t at = 0;

	extent_set_add(&written, f->regions[2].start - 4096, 8192);
	assert_true(plan_next(f->plan, &written, &at, &c));
	assert_int_equal(c.region, 1);
	assert_true(plan_next(f->plan, &written, &at, &c));
	assert_int_equal(c.region, 2);
	assert_int_equal(c.index, 0);
	assert_false(plan_next(f->plan, &written, &at, &c));
	extent_set_done(&written);
}

static void bytes_behind_the_end_are_ignored(void **state)
{
	struct fixture *f = *state;
	struct extent_set written = { 0 };
	struct plan_chunk c;
	uint64_t at = 0;

	extent_set_add(&written, f->layout.size, MIB);
	assert_false(plan_next(f->plan, &written, &at, &c));
	extent_set_done(&written);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(only_chunks_in_use_are_planned, setup, teardown),
		cmocka_unit_test_setup_teardown(the_last_chunk_of_a_region_is_short, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_written_chunk_is_read_with_all_it_holds, setup,
						teardown),
		cmocka_unit_test_setup_teardown(what_was_written_stays_in_use, setup, teardown),
		cmocka_unit_test_setup_teardown(writes_into_swap_are_not_captured, setup, teardown),
		cmocka_unit_test_setup_teardown(a_granule_over_two_regions_names_both, setup,
						teardown),
		cmocka_unit_test_setup_teardown(bytes_behind_the_end_are_ignored, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
