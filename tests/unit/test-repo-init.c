/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The object "format": what it says comes back, whatever changes in it is seen, and it is put into no other repository. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/repo/checked_json.h"
#include "lib/repo/repo.h"

static const struct repo_format made = { .id = "test-repo-init",
					 .chunk_shift = 19,
					 .created_ns = 1795286773565438907 };

static int setup(void **state)
{
	struct store *s;

	assert_int_equal(store_memory_new(&s), 0);
	assert_int_equal(repo_init(s, &made, NULL), 0);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	store_free(*state);
	return 0;
}

/* Another text, and a check that is right. */
static void put_format(struct store *s, const char *text)
{
	char end[CHECKED_JSON_END + 1];
	const struct iovec parts[] = { { (void *)text, strlen(text) },
				       { checked_json_end("format", text, strlen(text), end),
					 CHECKED_JSON_END } };

	assert_int_equal(store_del(s, "format", NULL), 0);
	assert_int_equal(store_putv(s, "format", parts, ARRAY_SIZE(parts), NULL), 0);
}

static int get(struct store *s, struct err *e)
{
	struct repo_format f;

	return repo_format_get(s, &f, e);
}

static void what_was_put_comes_back(void **state)
{
	struct repo_format f;

	assert_int_equal(repo_format_get(*state, &f, NULL), 0);
	assert_memory_equal(f.id, made.id, sizeof(f.id));
	assert_int_equal(f.chunk_shift, 19);
	assert_int_equal(f.created_ns, made.created_ns);
	assert_false(f.encrypted);
}

static void every_flipped_bit_is_found(void **state)
{
	uint64_t size;
	struct err e;

	assert_int_equal(store_size(*state, "format", &size, NULL), 0);
	for (uint64_t bit = 0; bit < 8 * size; bit++) {
		store_memory_flip(*state, "format", bit / 8, (uint8_t)(1u << bit % 8));
		assert_int_equal(get(*state, &e), -EBADMSG);
		assert_non_null(strstr(e.text, "\"format\" is damaged"));
		store_memory_flip(*state, "format", bit / 8, (uint8_t)(1u << bit % 8));
	}
	assert_int_equal(get(*state, NULL), 0);
}

static void every_cut_is_found(void **state)
{
	_cleanup_free_ char *text = NULL;
	void *bytes = NULL;
	size_t len;

	assert_int_equal(store_get_all(*state, "format", 4096, &bytes, &len, NULL), 0);
	text = bytes;
	for (size_t n = 0; n < len; n++) {
		assert_int_equal(store_del(*state, "format", NULL), 0);
		assert_int_equal(store_put(*state, "format", text, n, NULL), 0);
		assert_int_equal(get(*state, NULL), -EBADMSG);
	}
	/* nor is there anything behind */
	text = realloc(text, len + 1);
	assert_non_null(text);
	text[len] = '\n';
	assert_int_equal(store_del(*state, "format", NULL), 0);
	assert_int_equal(store_put(*state, "format", text, len + 1, NULL), 0);
	assert_int_equal(get(*state, NULL), -EBADMSG);
}

#define FORMAT(version, id, shift, hash, encryption, require, time)                     \
	"{\"format\": " version ", \"repository\": \"" id "\", \"chunk_shift\": " shift \
	", \"chunk_hash\": \"" hash "\", \"encryption\": \"" encryption                 \
	"\", \"require\": " require ", \"created_ns\": " time
#define ID "00112233445566778899aabbccddeeff"

static void what_is_written_right_is_still_looked_at(void **state)
{
	static const struct {
		const char *text;
		int result;
	} cases[] = {
		{ FORMAT("1", ID, "18", "sha256-tree8k", "none", "[]", "1"), 0 },
		{ FORMAT("2", ID, "18", "sha256-tree8k", "none", "[]", "1"), -ENOTSUP },
		{ FORMAT("0", ID, "18", "sha256-tree8k", "none", "[]", "1"), -EBADMSG },
		{ FORMAT("1", "00", "18", "sha256-tree8k", "none", "[]", "1"), -EBADMSG },
		{ FORMAT("1", ID, "15", "sha256-tree8k", "none", "[]", "1"), -EBADMSG },
		{ FORMAT("1", ID, "23", "sha256-tree8k", "none", "[]", "1"), -EBADMSG },
		{ FORMAT("1", ID, "18", "md5", "none", "[]", "1"), -ENOTSUP },
		{ FORMAT("1", ID, "18", "sha256-tree8k", "rot13", "[]", "1"), -ENOTSUP },
		{ FORMAT("1", ID, "18", "sha256-tree8k", "none", "[\"x\"]", "1"), -ENOTSUP },
		{ FORMAT("1", ID, "18", "sha256-tree8k", "none", "[]", "-1"), -EBADMSG },
		{ FORMAT("1", ID, "18", "sha256-tree8k", "none", "[]", "1, \"format\": 1"),
		  -EBADMSG },
		{ "", -EBADMSG },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		put_format(*state, cases[i].text);
		assert_int_equal(get(*state, NULL), cases[i].result);
	}
}

static void none_is_made_where_another_one_is(void **state)
{
	static const char *const objects[] = { "packs/4f/4f0c", "index/4f0c", "images/4f0c",
					       "gc/forget-4f0c" };
	struct store *s = *state;
	struct err e = { 0 };

	assert_int_equal(repo_init(s, &made, &e), -EEXIST);
	assert_int_equal(repo_init_check(s, &e), -EEXIST);
	assert_int_equal(store_del(s, "format", NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(objects); i++) {
		assert_int_equal(store_put(s, objects[i], "x", 1, NULL), 0);
		assert_int_equal(repo_init_check(s, &e), -EBADMSG);
		assert_int_equal(repo_init(s, &made, &e), -EBADMSG);
		assert_non_null(strstr(e.text, "\"format\" is missing"));
		assert_int_equal(get(s, &e), -EBADMSG);
		assert_non_null(strstr(e.text, "\"format\" is missing"));
		assert_int_equal(store_del(s, objects[i], NULL), 0);
	}
	assert_int_equal(get(s, &e), -ENOENT);
	/* key slots come before "format" */
	assert_int_equal(store_put(s, "keys/0011223344556677", "x", 1, NULL), 0);
	assert_int_equal(get(s, &e), -ENOENT);
	assert_int_equal(repo_init_check(s, NULL), 0);
	assert_int_equal(repo_init(s, &made, NULL), 0);
	assert_int_equal(get(s, NULL), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_was_put_comes_back),
		TEST(every_flipped_bit_is_found),
		TEST(every_cut_is_found),
		TEST(what_is_written_right_is_still_looked_at),
		TEST(none_is_made_where_another_one_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
