/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/base/array.h"
#include "lib/base/cleanup.h"

static void what_is_in_it_stays_while_it_grows(void **state)
{
	_cleanup_free_ uint64_t *items = NULL;
	size_t count = 0, allocated = 0;

	for (uint64_t i = 0; i < 1000; i++) {
		assert_int_equal(ARRAY_ROOM(items, count, allocated, 3), 0);
		assert_true(allocated > count);
		assert_non_null(items);
		items[count++] = i;
	}
	/* 3, 6, 12 … */
	assert_int_equal(allocated, 1536);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(items[i], i);
}

static void with_room_nothing_is_done(void **state)
{
	uint32_t items[2] = { 1, 2 };
	uint32_t *at = items, allocated = 2;

	/* it is not from malloc(): growing would be the end */
	assert_int_equal(ARRAY_ROOM(at, 1, allocated, 64), 0);
	assert_ptr_equal(at, items);
	assert_int_equal(allocated, 2);
}

static void without_memory_it_is_as_it_was(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	skip(); /* their reallocarray() ends the program */
#endif
	struct {
		uint8_t bytes[4096];
	} *items = NULL;
	/* volatile: a compiler that knew it would warn */
	volatile size_t allocated = SIZE_MAX / 4096;
	const size_t count = allocated;

	/* twice that is more bytes than can be counted */
	assert_int_equal(ARRAY_ROOM(items, count, allocated, 64), -ENOMEM);
	assert_null(items);
	assert_int_equal(allocated, count);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_in_it_stays_while_it_grows),
		cmocka_unit_test(with_room_nothing_is_done),
		cmocka_unit_test(without_memory_it_is_as_it_was),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
