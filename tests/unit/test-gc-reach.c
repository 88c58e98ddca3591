// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "lib/base/cleanup.h"
#include "lib/repo/gc_reach.h"

#define MIB (UINT32_C(1) << 20)

static void nothing_is_wasted_where_nothing_is_needed(void **state)
{
	const struct gc_reach r = { 0 };

	assert_int_equal(gc_reach_waste(&r), 0);
}

/* Whatever the order, and with records between. */
static void what_lies_together_wastes_nothing(void **state)
{
	static const uint32_t order[] = { 4, 0, 2, 1, 3 };

	for (uint32_t record = 0; record <= 96; record += 96) {
		struct gc_reach r = { 0 };

		for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
			gc_reach_add(&r, 120 + record + order[i] * (300000 + record), 300000,
				     record);
		}
		assert_int_equal(gc_reach_waste(&r), 0);
		assert_int_equal(r.bytes, 5 * (300000 + record));
	}
}

static void a_small_gap_is_read_over(void **state)
{
	struct gc_reach r = { 0 };

	gc_reach_add(&r, 0, 100, 0);
	gc_reach_add(&r, 5000, 100, 0);
	gc_reach_add(&r, 9000, 100, 0);
	assert_int_equal(gc_reach_waste(&r), 9100 - 300);
}

/* As much as is jumped over in the time of a jump, more or less, and never more than the gap. */
static void a_large_gap_costs_a_jump(void **state)
{
	for (uint32_t gap = MIB / 4; gap < 40 * MIB; gap += 77777) {
		uint64_t sum = 0;

		for (uint32_t at = 0; at < 16; at++) {
			struct gc_reach r = { 0 };

			gc_reach_add(&r, at * (MIB / 16), 1000, 0);
			gc_reach_add(&r, at * (MIB / 16) + 1000 + gap, 1000, 0);
			assert_true(gc_reach_waste(&r) <= MIN(gap, 2 * MIB));
			sum += gc_reach_waste(&r);
		}
		if (gap > 2 * MIB)
			assert_in_range(sum / 16, MIB * 9 / 10, MIB * 11 / 10);
	}
}

/* An index can say what it likes. */
static void nonsense_is_no_harm(void **state)
{
	struct gc_reach r = { 0 };

	gc_reach_add(&r, UINT32_MAX, UINT32_MAX, 96);
	gc_reach_add(&r, 0, UINT32_MAX, 96);
	gc_reach_add(&r, 5, 0, 0);
	gc_reach_add(&r, 7, UINT32_MAX, 0);
	assert_int_equal(gc_reach_waste(&r), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_wasted_where_nothing_is_needed),
		cmocka_unit_test(what_lies_together_wastes_nothing),
		cmocka_unit_test(a_small_gap_is_read_over),
		cmocka_unit_test(a_large_gap_costs_a_jump),
		cmocka_unit_test(nonsense_is_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
