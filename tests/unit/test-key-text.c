/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/repo/key_text.h"

/* the secret key 00 … 1f; the checks at the ends are from Python's hashlib */
#define SECRET \
	"AMBRO-SECRET-1:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f29610ec0"
#define PUBLIC \
	"AMBRO-PUBLIC-1:8f40c5adb68f25624ae5b214ea767a6ec94d829d3d7b5e1ad1ba6f3e2138285fd733a9ba"
#define REPOSITORY "AMBRO-REPOSITORY-1:000102030405060708090a0b0c0d0e0fa26eae69"

static int parse(const char *text, struct key_pair **ret, struct err *e)
{
	return key_text_parse("file", (const uint8_t *)text, strlen(text), ret, e);
}

static void lines_are_as_documented(void **state)
{
	_cleanup_(key_pair_freep) struct key_pair *k = NULL;
	char text[KEY_TEXT_MAX];

	assert_int_equal(parse("# mine\n\n" REPOSITORY "\r\n" SECRET "  \n" PUBLIC, &k, NULL), 0);
	assert_true(k->has_secret);
	assert_true(k->has_repository);
	assert_string_equal(key_text_secret(k, text), SECRET);
	assert_string_equal(key_text_public(k->public, text), PUBLIC);
	assert_string_equal(key_text_repository(k->repository, text), REPOSITORY);
}

static void the_public_half_follows_from_the_secret_one(void **state)
{
	_cleanup_(key_pair_freep) struct key_pair *k = NULL, *p = NULL;

	assert_int_equal(parse(SECRET, &k, NULL), 0);
	assert_int_equal(parse(PUBLIC "\n", &p, NULL), 0);
	assert_false(p->has_secret);
	assert_false(p->has_repository);
	assert_memory_equal(k->public, p->public, KEY_SIZE);
}

static void a_generated_key_comes_back(void **state)
{
	_cleanup_(key_pair_freep) struct key_pair *a = NULL, *b = NULL;
	char text[KEY_TEXT_MAX];

	a = key_pair_generate(NULL);
	assert_non_null(a);
	assert_int_equal(parse(key_text_secret(a, text), &b, NULL), 0);
	assert_memory_equal(a->secret, b->secret, KEY_SIZE);
	assert_memory_equal(a->public, b->public, KEY_SIZE);
	for (char *c = text; *c; c++)
		*c = (char)toupper(*c);
	key_pair_free(TAKE_PTR(b));
	assert_int_equal(parse(text, &b, NULL), 0);
	assert_memory_equal(a->secret, b->secret, KEY_SIZE);
}

static void every_slip_of_the_pen_is_told(void **state)
{
	char text[] = SECRET;

	for (size_t i = 0; i < strlen(SECRET); i++) {
		struct key_pair *k = NULL;
		struct err e = { 0 };

		text[i] = text[i] == '7' ? '8' : '7';
		assert_int_equal(parse(text, &k, &e), -EINVAL);
		assert_non_null(strstr(e.text, "file, line 1:"));
		assert_null(strstr(e.text, "0506"));
		text[i] = SECRET[i];
	}
	for (size_t len = 0; len < strlen(SECRET); len++) {
		struct key_pair *k = NULL;

		assert_int_equal(key_text_parse("file", (const uint8_t *)text, len, &k, NULL),
				 -EINVAL);
	}
}

static void what_is_no_key_file_is_refused(void **state)
{
	static const char *const texts[] = {
		"",
		"\n\n# nothing\n",
		REPOSITORY "\n",
		SECRET "\n" SECRET "\n",
		PUBLIC "\nhello\n",
		SECRET "0\n",
		/* the public half of another key */
		SECRET "\nAMBRO-PUBLIC-1:"
		       "9f40c5adb68f25624ae5b214ea767a6ec94d829d3d7b5e1ad1ba6f3e2138285fa0627aea\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct key_pair *k = NULL;
		struct err e = { 0 };

		assert_int_equal(parse(texts[i], &k, &e), -EINVAL);
		assert_non_null(strstr(e.text, "file"));
		assert_null(k);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_are_as_documented),
		cmocka_unit_test(the_public_half_follows_from_the_secret_one),
		cmocka_unit_test(a_generated_key_comes_back),
		cmocka_unit_test(every_slip_of_the_pen_is_told),
		cmocka_unit_test(what_is_no_key_file_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
