/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ctl/render.h"
#include "lib/base/cleanup.h"

static void sizes_have_one_decimal_and_never_1024_0(void **state)
{
	char buf[RENDER_MAX];

	(void)state;
	assert_string_equal(render_size(0, buf), "0 B");
	assert_string_equal(render_size(1023, buf), "1023 B");
	assert_string_equal(render_size(1024, buf), "1.0 KiB");
	assert_string_equal(render_size((UINT64_C(1) << 30) - 1, buf), "1.0 GiB");
	assert_string_equal(render_size(UINT64_C(1) << 40, buf), "1.0 TiB");
	assert_string_equal(render_size(UINT64_MAX, buf), "16.0 EiB");
	assert_string_equal(render_rate(1536, buf), "1.5 KiB/s");
}

static void one_is_not_many(void **state)
{
	char buf[RENDER_MAX];

	(void)state;
	assert_string_equal(render_count(0, "entry", "entries", buf), "0 entries");
	assert_string_equal(render_count(1, "entry", "entries", buf), "1 entry");
	assert_string_equal(render_count(UINT64_MAX, "entry", "entries", buf),
			    "18446744073709551615 entries");
}

static void times_are_short(void **state)
{
	char buf[RENDER_MAX];

	(void)state;
	assert_string_equal(render_seconds(0, buf), "0 s");
	assert_string_equal(render_seconds(59, buf), "59 s");
	assert_string_equal(render_seconds(187, buf), "3:07");
	assert_string_equal(render_seconds(3723, buf), "1:02:03");
	assert_string_equal(render_time(0, buf), "-");
}

static void a_table_aligns_and_leaves_out_what_is_empty(void **state)
{
	static const char *const headings[] = { "NAME", ">SIZE", "LABEL", "FS", NULL };
	static const char *const first[] = { "sda", "1.0 TiB", NULL, "ext4" };
	static const char *const second[] = { "longer", "5 B", "", "" };
	_cleanup_(render_table_freep) struct render_table *t = NULL;
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	(void)state;
	assert_non_null(f);
	assert_int_equal(render_table_new(headings, &t), 0);
	assert_int_equal(render_table_add(t, first), 0);
	assert_int_equal(render_table_add(t, second), 0);
	render_table_print(t, f);
	fclose(f);
	assert_string_equal(text, "NAME       SIZE  FS\n"
				  "sda     1.0 TiB  ext4\n"
				  "longer      5 B\n");
	free(text);
}

static void a_cell_cannot_steer_the_terminal(void **state)
{
	static const char *const headings[] = { "LABEL", NULL };
	static const char *const row[] = { "\x1b[31mred\xff" };
	_cleanup_(render_table_freep) struct render_table *t = NULL;
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	(void)state;
	assert_non_null(f);
	assert_int_equal(render_table_new(headings, &t), 0);
	assert_int_equal(render_table_add(t, row), 0);
	render_table_print(t, f);
	fclose(f);
	assert_string_equal(text, "LABEL\n?[31mred?\n");
	free(text);
}

static void json_text_is_always_utf8(void **state)
{
	json_t *s = render_json_string("a\xff");

	(void)state;
	assert_string_equal(json_string_value(s), "a?");
	json_decref(s);
	s = render_json_string(NULL);
	assert_true(json_is_null(s));
	json_decref(s);
	assert_true(render_json(NULL, stdout) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_have_one_decimal_and_never_1024_0),
		cmocka_unit_test(one_is_not_many),
		cmocka_unit_test(times_are_short),
		cmocka_unit_test(a_table_aligns_and_leaves_out_what_is_empty),
		cmocka_unit_test(a_cell_cannot_steer_the_terminal),
		cmocka_unit_test(json_text_is_always_utf8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
