/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

#include "lib/base/text.h"

static void expect(const char *in, bool printable, size_t size, const char *out)
{
	char buf[64];

	assert_ptr_equal(text_clean(in, printable, buf, size), buf);
	assert_string_equal(buf, out);
}

static void good_text_stays(void **state)
{
	(void)state;
	expect("plain", true, 64, "plain");
	expect("größe \u20ac \U0001f600", true, 64, "größe \u20ac \U0001f600");
	expect("", true, 64, "");
	expect(NULL, true, 64, "");
}

static void broken_utf8_is_replaced_byte_by_byte(void **state)
{
	(void)state;
	expect("a\xff\xfe"
	       "b",
	       false, 64, "a??b");
	expect("cut\xe2\x82", false, 64, "cut??");
	expect("\xc0\xaf", false, 64, "??");	       /* overlong */
	expect("\xed\xa0\x80", false, 64, "???");      /* surrogate */
	expect("\xf4\x90\x80\x80", false, 64, "????"); /* beyond U+10FFFF */
	expect("\x80", false, 64, "?");
}

static void controls_are_replaced_for_a_terminal_only(void **state)
{
	(void)state;
	expect("\x1b[2J\n\x7f", true, 64, "?[2J??");
	expect("\xc2\x9b", true, 64, "?");
	expect("a\tb", false, 64, "a\tb");
}

static void a_cut_is_between_characters(void **state)
{
	(void)state;
	expect("abcdef", true, 4, "abc");
	expect("ab\u20ac", true, 5, "ab");
	expect("ab\u20ac", true, 6, "ab\u20ac");
	expect("abc", true, 1, "");
}

static void expect_unescaped(const char *escaped, const char *want)
{
	char text[64];

	snprintf(text, sizeof(text), "%s", escaped);
	text_unescape(text);
	assert_string_equal(text, want);
}

static void octal_escapes_become_bytes(void **state)
{
	(void)state;
	expect_unescaped("/swap\\040file\\134", "/swap file\\");
	expect_unescaped("\\303\\251", "\303\251");
	expect_unescaped("", "");
}

static void what_is_no_whole_escape_stays(void **state)
{
	(void)state;
	expect_unescaped("a\\", "a\\");
	expect_unescaped("a\\4", "a\\4");
	expect_unescaped("a\\04", "a\\04");
	expect_unescaped("\\ 40\\+40\\480", "\\ 40\\+40\\480");
	/* a path has no NUL, and one byte has no more than 255 */
	expect_unescaped("\\000\\400", "\\000\\400");
}

static void a_device_number_is_two_numbers_and_nothing_more(void **state)
{
	static const char *const bad[] = {
		"",	"8",	"8:",	":1",  "8:1 ",	       "8:1:2",
		" 8:1", "+8:1", "8:-1", "a:b", "8:4294967296", "99999999999999999999:1"
	};
	dev_t dev;

	(void)state;
	assert_int_equal(text_device("8:17", &dev), 0);
	assert_true(dev == makedev(8, 17));
	assert_int_equal(text_device("0:4294967295", &dev), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(text_device(bad[i], &dev), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_text_stays),
		cmocka_unit_test(broken_utf8_is_replaced_byte_by_byte),
		cmocka_unit_test(controls_are_replaced_for_a_terminal_only),
		cmocka_unit_test(a_cut_is_between_characters),
		cmocka_unit_test(octal_escapes_become_bytes),
		cmocka_unit_test(what_is_no_whole_escape_stays),
		cmocka_unit_test(a_device_number_is_two_numbers_and_nothing_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
