/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Captures that meet: all act as one, or none does. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/together.h"

struct visitor {
	struct together *meeting;
	struct cancel cancel;
	pthread_t thread;
	unsigned int acted;
	int result;
	struct err e;
};

static atomic_int acts, act_result;

static int act(void *const *members, unsigned int count, struct err *e)
{
	atomic_fetch_add(&acts, 1);
	for (unsigned int i = 0; i < count; i++)
		((struct visitor *)members[i])->acted++;
	return act_result < 0 ? err_set(e, act_result, "the act failed") : 0;
}

static void *visit(void *arg)
{
	struct visitor *v = arg;

	v->result = together_meet(v->meeting, v, &v->cancel, act, &v->e);
	return NULL;
}

static void visitors_join(struct visitor *v, unsigned int n, unsigned int count)
{
	struct err e = { 0 };

	for (unsigned int i = 0; i < n; i++) {
		v[i] = (struct visitor){ 0 };
		assert_int_equal(cancel_init(&v[i].cancel), 0);
		assert_int_equal(together_join("m", count, &v[i].meeting, &e), 0);
	}
}

static void visitors_meet(struct visitor *v, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(pthread_create(&v[i].thread, NULL, visit, &v[i]), 0);
	for (unsigned int i = 0; i < n; i++)
		pthread_join(v[i].thread, NULL);
}

static void visitors_leave(struct visitor *v, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		together_leave(v[i].meeting, NULL);
		cancel_done(&v[i].cancel);
	}
}

static void test_one_acts_for_all(void **state)
{
	struct visitor v[3];

	(void)state;
	atomic_store(&acts, 0);
	atomic_store(&act_result, 0);
	visitors_join(v, 3, 3);
	visitors_meet(v, 3);
	assert_int_equal(atomic_load(&acts), 1);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(v[i].acted, 1);
		assert_int_equal(v[i].result, 0);
	}
	/* and again: an attempt that came to nothing is repeated by all */
	atomic_store(&act_result, -EAGAIN);
	visitors_meet(v, 3);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(v[i].acted, 2);
		assert_int_equal(v[i].result, -EAGAIN);
		assert_string_equal(v[i].e.text, "the act failed");
	}
	visitors_leave(v, 3);
}

static void test_full_is_full(void **state)
{
	struct together *more = NULL;
	struct visitor v[2];
	struct err e = { 0 };

	(void)state;
	visitors_join(v, 2, 2);
	assert_int_equal(together_join("m", 2, &more, &e), -EBUSY);
	assert_int_equal(together_join("m", 3, &more, &e), -EBUSY);
	assert_int_equal(together_join("other", 0, &more, &e), -EINVAL);
	visitors_leave(v, 2);
	/* it is forgotten: the name may be used again */
	atomic_store(&act_result, 0);
	visitors_join(v, 1, 1);
	visitors_meet(v, 1);
	assert_int_equal(v[0].result, 0);
	visitors_leave(v, 1);
}

static void test_who_fails_breaks_it(void **state)
{
	const struct err why = { .code = -ENOSPC, .text = "no room" };
	struct visitor v[2];

	(void)state;
	atomic_store(&acts, 0);
	atomic_store(&act_result, 0);
	visitors_join(v, 2, 2);
	assert_int_equal(pthread_create(&v[0].thread, NULL, visit, &v[0]), 0);
	together_leave(v[1].meeting, &why);
	pthread_join(v[0].thread, NULL);
	assert_int_equal(v[0].result, -ENOSPC);
	assert_non_null(strstr(v[0].e.text, "no room"));
	assert_int_equal(atomic_load(&acts), 0);
	together_leave(v[0].meeting, NULL);
	cancel_done(&v[0].cancel);
	cancel_done(&v[1].cancel);
}

static void test_who_waits_can_be_cancelled(void **state)
{
	struct visitor v[2];

	(void)state;
	visitors_join(v, 2, 2);
	assert_int_equal(pthread_create(&v[0].thread, NULL, visit, &v[0]), 0);
	cancel_raise(&v[0].cancel);
	pthread_join(v[0].thread, NULL);
	assert_int_equal(v[0].result, -ECANCELED);
	together_leave(v[0].meeting, &v[0].e);
	/* the other does not wait for nobody */
	visitors_meet(&v[1], 1);
	assert_int_equal(v[1].result, -ECANCELED);
	together_leave(v[1].meeting, NULL);
	cancel_done(&v[0].cancel);
	cancel_done(&v[1].cancel);
}

static void test_over_cannot_be_broken(void **state)
{
	struct visitor v[2];

	(void)state;
	atomic_store(&act_result, 0);
	visitors_join(v, 2, 2);
	visitors_meet(v, 2);
	together_over(v[0].meeting);
	together_leave(v[0].meeting, &(struct err){ .code = -EIO });
	together_leave(v[1].meeting, NULL);
	cancel_done(&v[0].cancel);
	cancel_done(&v[1].cancel);
	together_leave(NULL, NULL);
	together_over(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_acts_for_all),
		cmocka_unit_test(test_full_is_full),
		cmocka_unit_test(test_who_fails_breaks_it),
		cmocka_unit_test(test_who_waits_can_be_cancelled),
		cmocka_unit_test(test_over_cannot_be_broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
