/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/cleanup.h"
#include "lib/image/digest.h"
#include "lib/image/digest_lanes.h"

#define LEAF 8192u
#define MOST (140 * LEAF)

static uint8_t *noise(void)
{
	uint8_t *data = malloc(MOST);
	uint32_t x = 1;

	assert_non_null(data);
	for (size_t i = 0; i < MOST; i++) {
		x = x * 1664525 + 1013904223;
		data[i] = (uint8_t)(x >> 24);
	}
	return data;
}

/* The definition, leaf by leaf. */
static void tree_slowly(const uint8_t *data, size_t len, uint8_t ret[DIGEST_SIZE])
{
	_cleanup_(digest_freep) struct digest *root = digest_new();
	uint8_t leaf[DIGEST_SIZE];

	digest_add(root, "head", 4);
	for (size_t at = 0; at < len; at += LEAF) {
		digest_of(&(struct iovec){ (void *)(data + at), MIN(LEAF, len - at) }, 1, leaf);
		digest_add(root, leaf, sizeof(leaf));
	}
	digest_end(root, ret);
}

static void check_lengths(const uint8_t *data)
{
	uint8_t expected[DIGEST_SIZE], found[DIGEST_SIZE];

	for (size_t leaves = 0; leaves <= 69; leaves++) {
		for (size_t more = 0; more < 3; more++) {
			/* exactly, one byte more, one byte less than one more leaf */
			const size_t len = leaves * LEAF + (size_t[]){ 0, 1, LEAF - 1 }[more];

			tree_slowly(data, len, expected);
			digest_tree("head", 4, data, len, LEAF, found);
			if (memcmp(expected, found, sizeof(found)) != 0)
				fail_msg("%zu bytes: wrong", len);
		}
	}
}

static void a_tree_is_as_defined_at_every_number_of_leaves(void **state)
{
	_cleanup_free_ uint8_t *data = noise();

	printf("lanes: %s\n", digest_lanes_pay() ? "yes" : "no");
	check_lengths(data);
}

static void *check_in_thread(void *data)
{
	check_lengths(data);
	return NULL;
}

static void threads_do_not_disturb_each_other(void **state)
{
	_cleanup_free_ uint8_t *data = noise();
	pthread_t threads[3];

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, check_in_thread, data), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void lanes_give_each_piece_its_sha256(void **state)
{
	static const size_t pieces[] = {
		1, 55, 56, 63, 64, 65, 4096, 16384, DIGEST_LANES_MOST_BYTES
	};
	_cleanup_free_ uint8_t *data = noise();
	uint8_t found[64][DIGEST_SIZE], expected[DIGEST_SIZE];

	if (!digest_lanes_pay()) {
		print_message("this CPU gains nothing by lanes; libcrypto is used\n");
		skip();
	}
	for (size_t p = 0; p < ARRAY_SIZE(pieces); p++) {
		const size_t n = 33, len = n * pieces[p] - pieces[p] / 2;

		assert_true(digest_lanes(data, len, pieces[p], found[0]));
		for (size_t i = 0; i < n; i++) {
			const size_t at = i * pieces[p];

			digest_of(&(struct iovec){ data + at, MIN(pieces[p], len - at) }, 1,
				  expected);
			assert_memory_equal(found[i], expected, DIGEST_SIZE);
		}
	}
}

static void too_long_a_piece_is_left_to_others(void **state)
{
	uint8_t found[DIGEST_SIZE] = { 0 };

	assert_false(digest_lanes(found, sizeof(found), DIGEST_LANES_MOST_BYTES + 1, found));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_tree_is_as_defined_at_every_number_of_leaves),
		cmocka_unit_test(threads_do_not_disturb_each_other),
		cmocka_unit_test(lanes_give_each_piece_its_sha256),
		cmocka_unit_test(too_long_a_piece_is_left_to_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
