/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>

#include "lib/base/hex.h"
#include "tests/unit/image-fixture.h"

static void every_byte_comes_back(void **state)
{
	uint8_t bytes[256], back[256];
	char text[513];

	for (int i = 0; i < 256; i++)
		bytes[i] = (uint8_t)i;
	assert_ptr_equal(hex_encode(bytes, sizeof(bytes), text), text);
	assert_int_equal(strlen(text), 512);
	assert_memory_equal(text, "000102", 6);
	assert_string_equal(text + 506, "fdfeff");
	assert_int_equal(hex_decode(text, back, sizeof(back)), 0);
	assert_memory_equal(bytes, back, sizeof(bytes));
}

static void both_cases_are_read(void **state)
{
	uint8_t b[2];

	assert_int_equal(hex_decode("aBCd", b, 2), 0);
	assert_int_equal(b[0], 0xab);
	assert_int_equal(b[1], 0xcd);
}

static void other_characters_and_lengths_are_refused(void **state)
{
	static const char *const wrong[] = { "",
					     "a",
					     "abc",
					     "abcde",
					     "abcdef",
					     "ab g",
					     "0x12",
					     "12:3",
					     "\xff"
					     "123",
					     "12/4",
					     "12@4",
					     "12`4" };
	uint8_t b[2];

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(hex_decode(wrong[i], b, 2), -EINVAL);
	assert_int_equal(hex_decode("", b, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte_comes_back),
		cmocka_unit_test(both_cases_are_read),
		cmocka_unit_test(other_characters_and_lengths_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
