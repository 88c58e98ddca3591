/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/err.h"

static void it_returns_the_code_and_keeps_the_text(void **state)
{
	struct err e = { 0 };

	assert_int_equal(err_set(&e, -EINVAL, "sector %d of %s", 7, "sda"), -EINVAL);
	assert_int_equal(e.code, -EINVAL);
	assert_string_equal(e.text, "sector 7 of sda");
	assert_int_equal(err_set(&e, -EIO, "another"), -EIO);
	assert_string_equal(e.text, "another");
}

static void nobody_has_to_listen(void **state)
{
	assert_int_equal(err_set(NULL, -EINVAL, "x"), -EINVAL);
	assert_int_equal(err_set_errno(NULL, -EIO, "x"), -EIO);
	assert_int_equal(err_oom(NULL), -ENOMEM);
	err_prefix(NULL, "x");
}

static void the_systems_words_are_added(void **state)
{
	struct err e = { 0 };

	assert_int_equal(err_set_errno(&e, -ENOENT, "open %s", "/x"), -ENOENT);
	assert_string_equal(e.text, "open /x: No such file or directory");
	assert_int_equal(err_set_errno(&e, -99999, "open"), -99999);
	assert_string_equal(e.text, "open: unknown error");
}

static void prefixes_go_before_and_keep_the_code(void **state)
{
	struct err e = { 0 };

	err_set(&e, -EIO, "deep");
	err_prefix(&e, "region %d", 2);
	err_prefix(&e, "image");
	assert_int_equal(e.code, -EIO);
	assert_string_equal(e.text, "image: region 2: deep");
}

static void long_texts_are_cut_and_terminated(void **state)
{
	char text[2 * ERR_TEXT_MAX];
	struct err e;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	memset(&e, 0x5a, sizeof(e));
	err_set(&e, -EIO, "%s", text);
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
	err_set_errno(&e, -EIO, "%s", text);
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
	err_prefix(&e, "%s", text);
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
	err_set(&e, -EIO, "short");
	err_prefix(&e, "%s", text);
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_returns_the_code_and_keeps_the_text),
		cmocka_unit_test(nobody_has_to_listen),
		cmocka_unit_test(the_systems_words_are_added),
		cmocka_unit_test(prefixes_go_before_and_keep_the_code),
		cmocka_unit_test(long_texts_are_cut_and_terminated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
