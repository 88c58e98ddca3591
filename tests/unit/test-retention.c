/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "lib/base/cleanup.h"
#include "lib/repo/retention.h"

#define DAY_S 86400ULL
#define NS    1000000000ULL

/* "2026-11-21 13:00:00" of UTC */
static uint64_t at(const char *text)
{
	struct tm tm = { 0 };

	assert_non_null(strptime(text, "%Y-%m-%d %H:%M:%S", &tm));
	return (uint64_t)timegm(&tm) * NS;
}

/* Images of one group, called by their times. */
static void images_at(const char *const *times, size_t n, struct retention_image *images)
{
	for (size_t i = 0; i < n; i++) {
		images[i] = (struct retention_image){ .time_ns = at(times[i]),
						      .group = "host/disk",
						      .id = times[i] };
	}
}

/* '1' for what stays, '0' for what does not. */
static const char *kept(const struct retention_policy *p, const struct retention_image *images,
			size_t n)
{
	static char text[100];
	struct retention_verdict v[100];
	struct err e = { 0 };

	memset(v, 0xff, sizeof(v));
	assert_int_equal(retention_apply(p, images, n, v, &e), 0);
	for (size_t i = 0; i < n; i++)
		text[i] = v[i].rules ? '1' : '0';
	text[n] = '\0';
	return text;
}

static void expect_kept(enum retention_rule rule, uint32_t count, const char *const *times,
			size_t n, const char *expected)
{
	struct retention_policy p = { 0 };
	struct retention_image images[100];

	p.keep[rule] = count;
	images_at(times, n, images);
	assert_string_equal(kept(&p, images, n), expected);
}

static void no_rule_at_all_is_refused(void **state)
{
	struct retention_policy p = { 0 };
	struct retention_image image = { .group = "g", .id = "a" };
	struct retention_verdict v = { .rules = 77 };
	struct err e = { 0 };

	assert_int_equal(retention_apply(&p, &image, 1, &v, &e), -EINVAL);
	assert_non_null(strstr(e.text, "nothing is forgotten"));
	assert_int_equal(v.rules, 77);
	assert_int_equal(retention_apply(&p, NULL, 0, NULL, &e), -EINVAL);
}

static void of_no_images_none_is_kept(void **state)
{
	struct retention_policy p = { .keep = { [RETENTION_LAST] = 1 } };

	assert_int_equal(retention_apply(&p, NULL, 0, NULL, NULL), 0);
}

static void the_last_are_kept_in_whatever_order_they_come(void **state)
{
	static const char *const times[] = { "2026-03-02 00:00:00", "2026-03-05 00:00:00",
					     "2026-03-01 00:00:00", "2026-03-04 00:00:00",
					     "2026-03-03 00:00:00" };

	expect_kept(RETENTION_LAST, 1, times, 5, "01000");
	expect_kept(RETENTION_LAST, 2, times, 5, "01010");
	expect_kept(RETENTION_LAST, 9, times, 5, "11111");
	expect_kept(RETENTION_LAST, RETENTION_ALL, times, 5, "11111");
}

static void of_each_hour_the_newest_is_kept(void **state)
{
	static const char *const times[] = { "2026-03-01 12:00:00", "2026-03-01 11:59:59",
					     "2026-03-01 11:00:00", "2026-03-01 10:59:59",
					     "2026-02-28 11:30:00" };

	expect_kept(RETENTION_HOURLY, 1, times, 5, "10000");
	expect_kept(RETENTION_HOURLY, 3, times, 5, "11010");
	/* hours without an image do not count */
	expect_kept(RETENTION_HOURLY, 4, times, 5, "11011");
}

static void a_day_begins_at_midnight_of_utc(void **state)
{
	static const char *const times[] = { "2026-03-02 00:00:00", "2026-03-01 23:59:59",
					     "2026-03-01 00:00:00", "2026-02-28 23:59:59" };

	setenv("TZ", "Pacific/Kiritimati", 1);
	tzset();
	expect_kept(RETENTION_DAILY, 2, times, 4, "1100");
	expect_kept(RETENTION_DAILY, 3, times, 4, "1101");
	unsetenv("TZ");
	tzset();
}

static void a_leap_day_is_a_day(void **state)
{
	static const char *const leap[] = { "2024-03-01 00:00:00", "2024-02-29 12:00:00",
					    "2024-02-28 12:00:00" };
	static const char *const times[] = { "2100-03-01 00:00:00", "2100-02-28 12:00:00",
					     "2100-02-27 12:00:00" };

	expect_kept(RETENTION_DAILY, 2, leap, 3, "110");
	expect_kept(RETENTION_DAILY, 2, times, 3, "110");
	expect_kept(RETENTION_MONTHLY, 2, leap, 3, "110");
}

static void a_week_begins_on_monday_also_across_the_year(void **state)
{
	/* Mon, Sun, Fri, Thu, Mon of 2020-W53; Sun of W52 */
	static const char *const times[] = { "2021-01-04 00:00:00", "2021-01-03 23:59:59",
					     "2021-01-01 00:00:00", "2020-12-31 00:00:00",
					     "2020-12-28 00:00:00", "2020-12-27 23:00:00" };

	expect_kept(RETENTION_WEEKLY, 2, times, 6, "110000");
	expect_kept(RETENTION_WEEKLY, 3, times, 6, "110001");
}

static void months_and_years_end(void **state)
{
	static const char *const times[] = { "2026-01-01 00:00:00", "2025-12-31 23:59:59",
					     "2025-12-01 00:00:00", "2025-11-30 00:00:00",
					     "2024-12-15 00:00:00", "2024-11-15 00:00:00" };

	expect_kept(RETENTION_MONTHLY, 3, times, 6, "110100");
	/* December of another year is another month */
	expect_kept(RETENTION_MONTHLY, 4, times, 6, "110110");
	expect_kept(RETENTION_YEARLY, 2, times, 6, "110000");
	expect_kept(RETENTION_YEARLY, 9, times, 6, "110010");
}

static void one_image_may_stand_for_several_rules(void **state)
{
	static const char *const times[] = { "2026-03-03 08:00:00", "2026-03-03 07:00:00",
					     "2026-03-02 23:00:00", "2026-02-27 23:00:00" };
	struct retention_policy p = {
		.keep = { [RETENTION_LAST] = 1, [RETENTION_DAILY] = 2, [RETENTION_MONTHLY] = 2 }
	};
	struct retention_image images[4];
	struct retention_verdict v[4];

	images_at(times, 4, images);
	assert_int_equal(retention_apply(&p, images, 4, v, NULL), 0);
	assert_int_equal(v[0].rules,
			 1 << RETENTION_LAST | 1 << RETENTION_DAILY | 1 << RETENTION_MONTHLY);
	assert_int_equal(v[1].rules, 0);
	assert_int_equal(v[2].rules, 1 << RETENTION_DAILY);
	assert_int_equal(v[3].rules, 1 << RETENTION_MONTHLY);
}

static void groups_do_not_touch_each_other(void **state)
{
	static const char *const times[] = { "2026-03-03 00:00:00", "2026-03-02 00:00:00",
					     "2020-03-03 00:00:00", "2020-03-02 00:00:00",
					     "2020-03-01 00:00:00" };
	struct retention_policy p = { .keep = { [RETENTION_LAST] = 1 } };
	struct retention_image images[5];

	images_at(times, 5, images);
	images[2].group = images[4].group = "host/other";
	images[3].group = "host";
	assert_string_equal(kept(&p, images, 5), "10110");
}

static void what_is_within_counts_from_the_newest_image(void **state)
{
	static const char *const times[] = { "2020-03-10 12:00:00", "2020-03-08 12:00:00",
					     "2020-03-08 11:59:59", "2019-03-08 12:00:00" };
	struct retention_policy p = { .keep_within_s = 2 * DAY_S };
	struct retention_image images[4];

	images_at(times, 4, images);
	assert_string_equal(kept(&p, images, 4), "1100");
	images[1].time_ns--;
	assert_string_equal(kept(&p, images, 4), "1000");
	p.keep_within_s = UINT64_MAX;
	images[3].time_ns = 0;
	assert_string_equal(kept(&p, images, 4), "1111");
}

static void a_tag_keeps(void **state)
{
	static const char *const times[] = { "2026-03-03 00:00:00", "2026-03-02 00:00:00",
					     "2026-03-01 00:00:00" };
	static const char *const keep[] = { "before-upgrade", "signed" };
	static const char *const tags[] = { "x", "signed", "signe" };
	struct retention_policy p = { .keep = { [RETENTION_LAST] = 1 },
				      .keep_tags = keep,
				      .n_keep_tags = 2 };
	struct retention_image images[3];
	struct retention_verdict v[3];
	char reason[RETENTION_REASON_MAX];

	images_at(times, 3, images);
	images[1].tags = tags + 2;
	images[1].n_tags = 1;
	images[2].tags = tags;
	images[2].n_tags = 3;
	assert_int_equal(retention_apply(&p, images, 3, v, NULL), 0);
	assert_int_equal(v[0].rules, 1 << RETENTION_LAST);
	assert_int_equal(v[1].rules, 0);
	assert_int_equal(v[2].rules, 1 << RETENTION_TAG);
	assert_string_equal(retention_reason(&images[2], &v[2], RETENTION_TAG, reason),
			    "tag signed");
}

static void a_group_is_never_forgotten_altogether(void **state)
{
	static const char *const times[] = { "2026-03-03 00:00:00", "2026-03-02 00:00:00" };
	static const char *const tags[] = { "signed" };
	struct retention_policy p = { .keep_tags = tags, .n_keep_tags = 1 };
	struct retention_image images[2];
	struct retention_verdict v[2] = { { .rules = 77 }, { .rules = 77 } };
	struct err e = { 0 };

	images_at(times, 2, images);
	images[0].group = "host/other";
	images[1].tags = tags;
	images[1].n_tags = 1;
	assert_int_equal(retention_apply(&p, images, 2, v, &e), -EINVAL);
	assert_non_null(strstr(e.text, "host/other"));
	assert_int_equal(v[0].rules, 77);
	assert_int_equal(v[1].rules, 77);
	images[0].group = images[1].group;
	assert_string_equal(kept(&p, images, 2), "01");
}

static void of_equal_times_the_greater_id_is_the_newer(void **state)
{
	static const char *const times[] = { "2026-03-03 00:00:00", "2026-03-03 00:00:00",
					     "2026-03-03 00:00:00" };
	struct retention_policy last = { .keep = { [RETENTION_LAST] = 2 } };
	struct retention_policy daily = { .keep = { [RETENTION_DAILY] = 2 } };
	struct retention_image images[3];

	images_at(times, 3, images);
	images[0].id = "b";
	images[1].id = "c";
	images[2].id = "a";
	assert_string_equal(kept(&last, images, 3), "110");
	assert_string_equal(kept(&daily, images, 3), "010");
	images[0].id = "a";
	images[2].id = "b";
	assert_string_equal(kept(&last, images, 3), "011");
}

static void reasons_name_the_period(void **state)
{
	static const struct {
		const char *time;
		enum retention_rule rule;
		const char *reason;
	} cases[] = {
		{ "2026-11-21 13:59:59", RETENTION_LAST, "last" },
		{ "2026-11-21 13:59:59", RETENTION_HOURLY, "hourly 2026-11-21 13:00" },
		{ "2026-11-21 13:59:59", RETENTION_DAILY, "daily 2026-11-21" },
		{ "2026-11-21 13:59:59", RETENTION_WEEKLY, "weekly 2026-W47" },
		{ "2026-11-21 13:59:59", RETENTION_MONTHLY, "monthly 2026-11" },
		{ "2026-11-21 13:59:59", RETENTION_YEARLY, "yearly 2026" },
		{ "2026-11-21 13:59:59", RETENTION_WITHIN, "within" },
		{ "2024-02-29 00:00:00", RETENTION_DAILY, "daily 2024-02-29" },
		{ "2021-01-03 00:00:00", RETENTION_WEEKLY, "weekly 2020-W53" },
		{ "2024-12-30 00:00:00", RETENTION_WEEKLY, "weekly 2025-W01" },
		{ "2027-01-01 00:00:00", RETENTION_WEEKLY, "weekly 2026-W53" },
		{ "1970-01-01 00:00:00", RETENTION_HOURLY, "hourly 1970-01-01 00:00" },
	};
	char reason[RETENTION_REASON_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct retention_image image = { .time_ns = at(cases[i].time) };
		struct retention_verdict v = { 0 };

		assert_string_equal(retention_reason(&image, &v, cases[i].rule, reason),
				    cases[i].reason);
	}
}

static void the_latest_time_that_can_be_told_is_no_problem(void **state)
{
	static const char long_tag[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789"
				       "abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	const char *tag = long_tag;
	struct retention_image image = {
		.time_ns = UINT64_MAX, .group = "", .id = "", .tags = &tag, .n_tags = 1
	};
	struct retention_policy p = { .keep = { 1, 1, 1, 1, 1, 1 }, .keep_within_s = 1 };
	struct retention_verdict v = { 0 };
	char reason[RETENTION_REASON_MAX];

	assert_string_equal(kept(&p, &image, 1), "1");
	assert_string_equal(retention_reason(&image, &v, RETENTION_DAILY, reason),
			    "daily 2554-07-21");
	assert_int_equal(strlen(retention_reason(&image, &v, RETENTION_TAG, reason)),
			 RETENTION_REASON_MAX - 1);
}

/* A policy that is applied every day to what the day before left keeps what it would have kept of everything. */
static void a_year_of_daily_pruning_keeps_what_is_expected(void **state)
{
	struct retention_policy p = {
		.keep = { [RETENTION_DAILY] = 7, [RETENTION_WEEKLY] = 4, [RETENTION_MONTHLY] = 12 }
	};
	struct retention_image images[100];
	struct retention_verdict v[100];
	static char ids[400][16];
	size_t n = 0, by[RETENTION_RULES] = { 0 };
	uint64_t first = at("2023-06-15 03:00:00");

	for (int day = 0; day < 400; day++) {
		size_t left = 0;

		snprintf(ids[day], sizeof(ids[day]), "%03d", day);
		assert_true(n < ARRAY_SIZE(images));
		images[n++] = (struct retention_image){ .time_ns = first + day * DAY_S * NS,
							.group = "host/disk",
							.id = ids[day] };
		assert_int_equal(retention_apply(&p, images, n, v, NULL), 0);
		for (size_t i = 0; i < n; i++) {
			if (v[i].rules)
				images[left++] = images[i];
		}
		n = left;
	}
	assert_int_equal(retention_apply(&p, images, n, v, NULL), 0);
	for (size_t i = 0; i < n; i++) {
		for (int rule = 0; rule < RETENTION_RULES; rule++)
			by[rule] += v[i].rules >> rule & 1;
	}
	assert_int_equal(by[RETENTION_DAILY], 7);
	assert_int_equal(by[RETENTION_WEEKLY], 4);
	assert_int_equal(by[RETENTION_MONTHLY], 12);
	/* the last day of a month that is neither one of the days nor a Sunday: twelve months back it is still there */
	assert_int_equal(images[0].time_ns, at("2023-08-31 03:00:00"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_rule_at_all_is_refused),
		cmocka_unit_test(of_no_images_none_is_kept),
		cmocka_unit_test(the_last_are_kept_in_whatever_order_they_come),
		cmocka_unit_test(of_each_hour_the_newest_is_kept),
		cmocka_unit_test(a_day_begins_at_midnight_of_utc),
		cmocka_unit_test(a_leap_day_is_a_day),
		cmocka_unit_test(a_week_begins_on_monday_also_across_the_year),
		cmocka_unit_test(months_and_years_end),
		cmocka_unit_test(one_image_may_stand_for_several_rules),
		cmocka_unit_test(groups_do_not_touch_each_other),
		cmocka_unit_test(what_is_within_counts_from_the_newest_image),
		cmocka_unit_test(a_tag_keeps),
		cmocka_unit_test(a_group_is_never_forgotten_altogether),
		cmocka_unit_test(of_equal_times_the_greater_id_is_the_newer),
		cmocka_unit_test(reasons_name_the_period),
		cmocka_unit_test(the_latest_time_that_can_be_told_is_no_problem),
		cmocka_unit_test(a_year_of_daily_pruning_keeps_what_is_expected),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
