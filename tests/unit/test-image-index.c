/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/image/image_index.h"

#define COUNT	  20000u
#define FRAME_LEN 100u
#define CHUNK	  UINT64_C(65536)

/* COUNT chunks one behind the other; @name makes the id of each. */
static struct image_index *index_make(void (*name)(uint32_t i, struct chunk_id *ret))
{
	const size_t len = sizeof(struct ambro_index) + COUNT * sizeof(struct ambro_location);
	const struct image_span within = { 0, COUNT * FRAME_LEN };
	uint8_t *body = calloc(1, len);
	struct ambro_index head = { le64(COUNT), le64(0) };
	struct image_index *x = NULL;

	assert_non_null(body);
	memcpy(body, &head, sizeof(head));
	for (uint32_t i = 0; i < COUNT; i++) {
		struct ambro_location l = { .offset = le64((uint64_t)i * FRAME_LEN),
					    .frame_len = le32(FRAME_LEN),
					    .plain_len = le32((uint32_t)CHUNK) };

		name(i, &l.id);
		memcpy(body + sizeof(head) + i * sizeof(l), &l, sizeof(l));
	}
	assert_int_equal(image_index_new(body, len, &within, CHUNK, &x, NULL), 0);
	return x;
}

static void assert_finds_all(void (*name)(uint32_t i, struct chunk_id *ret), uint32_t same)
{
	_cleanup_(image_index_freep) struct image_index *x = index_make(name);
	struct image_place place;
	struct chunk_id id;

	for (uint32_t i = 0; i < COUNT; i++) {
		name(i, &id);
		assert_int_equal(image_index_chunk(x, &id, &place), 0);
		assert_int_equal(place.offset, (uint64_t)(i - i % same) * FRAME_LEN);
		id.b[31] ^= 0x80;
		assert_int_equal(image_index_chunk(x, &id, &place), -ENOENT);
	}
}

/* As hashes are: spread over all values. */
static void name_spread(uint32_t i, struct chunk_id *ret)
{
	uint64_t v = (i + 1) * UINT64_C(0x9E3779B97F4A7C15);

	memset(ret, 1, sizeof(*ret));
	memcpy(ret->b, &v, sizeof(v));
}

static void name_runs(uint32_t i, struct chunk_id *ret)
{
	name_spread(i / 5000, ret);
}

static void name_crowded(uint32_t i, struct chunk_id *ret)
{
	const uint32_t mixed = __builtin_bswap32(i) ^ 0x5a;

	memset(ret, 7, sizeof(*ret));
	memcpy(ret->b + 24, &mixed, sizeof(mixed));
}

static void every_chunk_is_found_by_its_id(void **state)
{
	assert_finds_all(name_spread, 1);
}

static void the_same_content_many_times_is_found_at_its_first_place(void **state)
{
	assert_finds_all(name_runs, 5000);
}

static void ids_that_begin_alike_are_told_apart(void **state)
{
	assert_finds_all(name_crowded, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_chunk_is_found_by_its_id),
		cmocka_unit_test(the_same_content_many_times_is_found_at_its_first_place),
		cmocka_unit_test(ids_that_begin_alike_are_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
