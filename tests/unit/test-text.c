/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_text_stays),
		cmocka_unit_test(broken_utf8_is_replaced_byte_by_byte),
		cmocka_unit_test(controls_are_replaced_for_a_terminal_only),
		cmocka_unit_test(a_cut_is_between_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
