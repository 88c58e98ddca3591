/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "ctl/run_metrics.h"
#include "lib/base/cleanup.h"

static char dir[] = "/tmp/ambro-run-metrics.XXXXXX";
static char path[64];

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/x.prom", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

static void slurp(char *buf, size_t size)
{
	FILE *f = fopen(path, "r");
	size_t n;

	assert_non_null(f);
	n = fread(buf, 1, size - 1, f);
	buf[n] = '\0';
	fclose(f);
}

static void a_first_failure_says_nothing_of_success(void **state)
{
	struct run_metrics m = { .name = "x", .host = "h" };
	struct err e = { 0 };
	char text[8192];
	struct stat st;

	(void)state;
	m.values[RUN_METRIC_LAST_RUN] = 1000;
	m.values[RUN_METRIC_EXIT_CODE] = 5;
	assert_int_equal(run_metrics_save(path, &m, &e), 0);
	slurp(text, sizeof(text));
	assert_string_equal(
		text,
		"# HELP ambro_capture_last_run_timestamp_seconds When the last run ended.\n"
		"# TYPE ambro_capture_last_run_timestamp_seconds gauge\n"
		"ambro_capture_last_run_timestamp_seconds{name=\"x\",host=\"h\",disk=\"\"} 1000\n"
		"# HELP ambro_capture_exit_code Exit code of the last run, 0 for success.\n"
		"# TYPE ambro_capture_exit_code gauge\n"
		"ambro_capture_exit_code{name=\"x\",host=\"h\",disk=\"\"} 5\n");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
}

static void a_failure_keeps_what_the_last_success_said(void **state)
{
	struct run_metrics m = {
		.name = "x", .host = "h\"\\,\n", .disk = "d", .increment = "tracked"
	};
	struct run_metrics later = { .name = "x" };
	struct err e = { 0 };
	char text[8192];

	(void)state;
	for (size_t i = 0; i < RUN_METRICS; i++)
		m.values[i] = 1700000000 + (double)i;
	m.values[RUN_METRIC_FREEZE] = 0.0125;
	assert_int_equal(run_metrics_save(path, &m, &e), 0);
	slurp(text, sizeof(text));
	assert_non_null(strstr(text, "\nambro_capture_increment{name=\"x\",host=\"h\\\"\\\\,\\n\","
				     "disk=\"d\",kind=\"tracked\"} 1\n"));
	assert_non_null(strstr(text, "kind=\"full\"} 0\n"));
	assert_non_null(strstr(text, "disk=\"d\"} 0.012500\n"));

	run_metrics_load(path, &later);
	assert_string_equal(later.host, m.host);
	assert_string_equal(later.disk, "d");
	assert_string_equal(later.increment, "tracked");
	for (size_t i = RUN_METRIC_LAST_SUCCESS; i < RUN_METRICS; i++)
		assert_true(later.values[i] == m.values[i]);
	assert_true(later.values[RUN_METRIC_LAST_RUN] == 0);
}

static void what_is_given_is_not_replaced(void **state)
{
	struct run_metrics m = { .name = "x", .host = "mine" };

	(void)state;
	run_metrics_load(path, &m);
	assert_string_equal(m.host, "mine");
	assert_string_equal(m.disk, "d");
}

static void a_file_of_others_changes_nothing(void **state)
{
	static const char *const others[] = {
		"",
		"nonsense\n{\n}{\n",
		"up{host=\"no\"} 1\n",
		"ambro_capture_increment{kind=\"full} 1\n",
		"ambro_capture_increment{host=\"x\\",
		"ambro_capture_exit_code{xhost=\"no\"} 1\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		struct run_metrics m = { .name = "x" };
		const struct run_metrics same = m;
		FILE *f = fopen(path, "w");

		assert_non_null(f);
		fputs(others[i], f);
		fclose(f);
		run_metrics_load(path, &m);
		assert_memory_equal(&m, &same, sizeof(m));
	}
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_first_failure_says_nothing_of_success),
		cmocka_unit_test(a_failure_keeps_what_the_last_success_said),
		cmocka_unit_test(what_is_given_is_not_replaced),
		cmocka_unit_test(a_file_of_others_changes_nothing),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
