/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What can be known of snapshots without device-mapper: tables, names, and how much a store needs. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/cow.h"
#include "agent/interpose.h"
#include "agent/mapper.h"

static void test_table_grows_behind(void **state)
{
	_cleanup_table_ struct mapper_table t = { 0 };

	(void)state;
	assert_int_equal(mapper_table_length(&t), 0);
	for (unsigned int i = 0; i < 100; i++)
		assert_int_equal(mapper_table_add(&t, i + 1, "linear", "8:%u %u", i, 7u), 0);
	assert_int_equal(t.count, 100);
	assert_int_equal(mapper_table_length(&t), 100 * 101 / 2);
	assert_int_equal(t.targets[99].start, 99 * 100 / 2);
	assert_string_equal(t.targets[99].params, "8:99 7");
	assert_string_equal(t.targets[0].type, "linear");
}

static void test_size_follows_use(void **state)
{
	const struct disk small = { .size = UINT64_C(32) << 20 };
	const struct disk large = { .size = UINT64_C(4) << 40 };
	const uint64_t gib = UINT64_C(1) << 30, mib = UINT64_C(1) << 20;

	(void)state;
	/* never more than could ever be copied */
	assert_int_equal(cow_size(&small, 32 * mib, 100 * mib), 33 * mib);
	/* nothing is written: a little all the same */
	assert_int_equal(cow_size(&large, 0, 0), 256 * mib);
	assert_int_equal(cow_size(&large, 100 * gib, 0), 10 * gib);
	/* 1600 s at 10 MiB/s, twice */
	assert_int_equal(cow_size(&large, 100 * gib, 10 * mib), 32000 * mib);
}

static void test_resume_is_prepared(void **state)
{
	struct mapper_ready m;

	(void)state;
	mapper_resume_prepare(7, "ambro-vda-snap", &m);
	assert_int_equal(m.fd, 7);
	assert_string_equal(m.io.name, "ambro-vda-snap");
	assert_true(m.io.flags & DM_SKIP_LOCKFS_FLAG);
	/* with this flag it would be a suspend */
	assert_false(m.io.flags & DM_SUSPEND_FLAG);
	m.fd = -EBADF;
	assert_int_equal(mapper_resume_run(&m), -EBADF);
}

static void test_names_tell_ours(void **state)
{
	struct interpose i = { .name = MAPPER_NAME_PREFIX "vda" };
	char name[MAPPER_NAME_MAX];

	(void)state;
	interpose_name(&i, "snap", name);
	assert_string_equal(name, "ambro-vda-snap");
}

static void test_remove_of_nothing(void **state)
{
	struct cow c = { 0 };

	(void)state;
	cow_remove(&c);
	cow_abandon(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table_grows_behind), cmocka_unit_test(test_size_follows_use),
		cmocka_unit_test(test_resume_is_prepared), cmocka_unit_test(test_names_tell_ours),
		cmocka_unit_test(test_remove_of_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
