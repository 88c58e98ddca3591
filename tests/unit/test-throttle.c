/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

#include "agent/throttle.h"
#include "lib/base/io.h"

/* So much takes so long, and never less; how much longer is the machine's matter. */
static void what_is_taken_takes_its_time(void **state)
{
	struct throttle t;
	uint64_t began = io_now_ns();

	(void)state;
	throttle_init(&t, 1u << 20);
	for (int i = 0; i < 8; i++)
		assert_int_equal(throttle_take(&t, 64u << 10, NULL), 0);
	/* the last one needs not be paid for any more, and 0.1 s may be ahead */
	assert_true(io_now_ns() - began >= UINT64_C(437000000) - THROTTLE_BURST_NS);
}

static void a_pause_is_not_saved_up(void **state)
{
	struct throttle t;
	uint64_t began;

	(void)state;
	throttle_init(&t, 1u << 20);
	assert_int_equal(throttle_take(&t, 1024, NULL), 0);
	nanosleep(&(struct timespec){ .tv_nsec = 400000000 }, NULL);
	began = io_now_ns();
	for (int i = 0; i < 5; i++)
		assert_int_equal(throttle_take(&t, 64u << 10, NULL), 0);
	assert_true(io_now_ns() - began >= UINT64_C(250000000) - THROTTLE_BURST_NS);
}

static void without_a_limit_nothing_waits(void **state)
{
	struct throttle t;

	(void)state;
	throttle_init(&t, 0);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(throttle_take(&t, UINT64_MAX, NULL), 0);
	assert_false(throttle_waits(&t));
}

static void *lift_soon(void *arg)
{
	nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	throttle_lift(arg, true);
	return NULL;
}

static void lifting_ends_a_wait(void **state)
{
	struct throttle t;
	pthread_t thread;

	(void)state;
	throttle_init(&t, 1);
	assert_int_equal(throttle_take(&t, 1000000, NULL), 0);
	assert_true(throttle_waits(&t));
	assert_int_equal(pthread_create(&thread, NULL, lift_soon, &t), 0);
	assert_int_equal(throttle_take(&t, 1, NULL), 0);
	assert_false(throttle_waits(&t));
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static void a_cancellation_ends_a_wait(void **state)
{
	struct cancel c;
	struct throttle t;

	(void)state;
	assert_int_equal(cancel_init(&c), 0);
	throttle_init(&t, 1);
	assert_int_equal(throttle_take(&t, 1000000, &c), 0);
	cancel_raise(&c);
	assert_int_equal(throttle_take(&t, 1, &c), -ECANCELED);
	cancel_done(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_taken_takes_its_time),
		cmocka_unit_test(a_pause_is_not_saved_up),
		cmocka_unit_test(without_a_limit_nothing_waits),
		cmocka_unit_test(lifting_ends_a_wait),
		cmocka_unit_test(a_cancellation_ends_a_wait),
	};

	return cmocka_run_group_tests_name("throttle", tests, NULL, NULL);
}
