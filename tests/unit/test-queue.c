/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/queue.h"

static void first_in_is_first_out(void **state)
{
	struct queue q;
	char items[10];

	assert_int_equal(queue_init(&q, 4), 0);
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 3; i++)
			assert_int_equal(queue_push(&q, &items[i]), 0);
		assert_int_equal(queue_count(&q), 3);
		assert_ptr_equal(queue_pop(&q), &items[0]);
		assert_ptr_equal(queue_try_pop(&q), &items[1]);
		assert_ptr_equal(queue_pop(&q), &items[2]);
		assert_null(queue_try_pop(&q));
	}
	queue_done(&q);
}

static void a_closed_queue_drains_and_takes_nothing(void **state)
{
	struct queue q;
	char item;

	assert_int_equal(queue_init(&q, 2), 0);
	assert_int_equal(queue_push(&q, &item), 0);
	queue_close(&q);
	queue_close(&q);
	assert_int_equal(queue_push(&q, &item), -EPIPE);
	assert_ptr_equal(queue_pop(&q), &item);
	assert_null(queue_pop(&q));
	assert_null(queue_try_pop(&q));
	queue_done(&q);
}

static void a_zeroed_queue_can_be_done_with(void **state)
{
	struct queue q = { 0 };

	queue_done(&q);
	queue_done(&q);
}

static void *push_two(void *arg)
{
	struct queue *q = arg;
	static char items[2];

	for (int i = 0; i < 2; i++) {
		if (queue_push(q, &items[i]) < 0)
			return (void *)1;
	}
	return NULL;
}

static void closing_wakes_who_waits_to_push(void **state)
{
	struct queue q;
	pthread_t thread;
	void *result;

	assert_int_equal(queue_init(&q, 1), 0);
	assert_int_equal(pthread_create(&thread, NULL, push_two, &q), 0);
	while (queue_count(&q) < 1)
		usleep(100);
	usleep(10000);
	queue_close(&q);
	pthread_join(thread, &result);
	assert_non_null(result);
	queue_done(&q);
}

static void *pop_one(void *arg)
{
	return queue_pop(arg);
}

static void closing_wakes_who_waits_to_pop(void **state)
{
	struct queue q;
	pthread_t thread;
	void *result;

	assert_int_equal(queue_init(&q, 1), 0);
	assert_int_equal(pthread_create(&thread, NULL, pop_one, &q), 0);
	usleep(10000);
	queue_close(&q);
	pthread_join(thread, &result);
	assert_null(result);
	queue_done(&q);
}

#define ITEMS	20000u
#define THREADS 4u

struct crowd {
	struct queue q;
	uint32_t items[ITEMS];
	atomic_uint next;
	atomic_uint seen[ITEMS];
};

static void *crowd_push(void *arg)
{
	struct crowd *c = arg;

	for (;;) {
		unsigned int i = atomic_fetch_add(&c->next, 1);

		if (i >= ITEMS)
			return NULL;
		c->items[i] = i;
		queue_push(&c->q, &c->items[i]);
	}
}

static void *crowd_pop(void *arg)
{
	struct crowd *c = arg;
	uint32_t *item;

	while ((item = queue_pop(&c->q)))
		atomic_fetch_add(&c->seen[*item], 1);
	return NULL;
}

static void between_many_threads_nothing_is_lost_or_doubled(void **state)
{
	static struct crowd c;
	pthread_t pushers[THREADS], poppers[THREADS];

	assert_int_equal(queue_init(&c.q, 3), 0);
	for (unsigned int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_create(&pushers[i], NULL, crowd_push, &c), 0);
		assert_int_equal(pthread_create(&poppers[i], NULL, crowd_pop, &c), 0);
	}
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(pushers[i], NULL);
	queue_close(&c.q);
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(poppers[i], NULL);
	for (unsigned int i = 0; i < ITEMS; i++)
		assert_int_equal(atomic_load(&c.seen[i]), 1);
	queue_done(&c.q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_in_is_first_out),
		cmocka_unit_test(a_closed_queue_drains_and_takes_nothing),
		cmocka_unit_test(a_zeroed_queue_can_be_done_with),
		cmocka_unit_test(closing_wakes_who_waits_to_push),
		cmocka_unit_test(closing_wakes_who_waits_to_pop),
		cmocka_unit_test(between_many_threads_nothing_is_lost_or_doubled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
