/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A region of an image as bytes (ctl/region_reader). */
#include <errno.h>
#include <stdbool.h>

#include "ctl/region_reader.h"
#include "tests/unit/image-fixture.h"

/* More chunks with data than are kept, and a last one that is short. Every sixth could not be read of the disk. */
#define CHUNKS	UINT64_C(960)
#define LENGTH	(CHUNKS * FIXTURE_CHUNK - 5000)
#define REGION	1
#define BAD_NTH 2 /* of six, in region 1: see fixture_write() */

struct scene {
	struct fixture fixture;
	int fd;
	struct image_reader *reader;
	const uint8_t *bytes; /* of the region */
};

static void scene_done(struct scene *s)
{
	image_reader_free(s->reader);
	close_fd(s->fd);
	fixture_done(&s->fixture);
}

/* @damage: a byte of the stored image is another, where some chunk's frame is. */
static struct scene scene_new(bool damage)
{
	const uint64_t lengths[] = { FIXTURE_CHUNK, LENGTH };
	struct scene s = { .fixture = fixture_new(lengths, 2) };
	struct err e = { 0 };

	fixture_write(&s.fixture, 0);
	if (damage)
		s.fixture.image.data[s.fixture.image.len / 2] ^= 4;
	s.fd = image_memfd(s.fixture.image.data, s.fixture.image.len);
	if (image_reader_open(s.fd, &s.reader, &e) < 0)
		fail_msg("%s", e.text);
	s.bytes = s.fixture.disk + FIXTURE_CHUNK;
	return s;
}

/* Is any of it in a chunk that the disk did not give? */
static bool holds_bad(uint64_t at, size_t len)
{
	for (uint64_t i = at / FIXTURE_CHUNK; len && i <= (at + len - 1) / FIXTURE_CHUNK; i++) {
		if (i % 6 == BAD_NTH)
			return true;
	}
	return false;
}

/* Read all places in pieces of all sizes; returns how many failed that should have been good. */
static unsigned int read_about(const struct scene *s, struct region_reader *x,
			       const struct extent_set *lost)
{
	_cleanup_free_ uint8_t *buf = malloc(3 * FIXTURE_CHUNK);
	uint64_t state = 4711;
	unsigned int failed = 0;

	assert_non_null(buf);
	for (unsigned int i = 0; i < 6000; i++) {
		const uint64_t at = fixture_random(&state) % LENGTH;
		const size_t most = (size_t[]){ 1, 4096, 3 * FIXTURE_CHUNK }[i % 3];
		const uint64_t wish = fixture_random(&state) % most + 1;
		const size_t len = (size_t)MIN(wish, LENGTH - at);
		const bool bad = holds_bad(at, len) || extent_set_overlaps(lost, at, len);
		struct err e = { 0 };
		int r = region_reader_read(x, buf, len, at, &e);

		if (r < 0) {
			assert_int_equal(r, -EBADMSG);
		} else {
			assert_memory_equal(buf, s->bytes + at, len);
		}
		assert_false(bad && r >= 0);
		failed += !bad && r < 0;
	}
	return failed;
}

static void bytes_are_those_of_the_region(void **state)
{
	_cleanup_(scene_done) struct scene s = scene_new(false);
	_cleanup_(region_reader_freep) struct region_reader *x = NULL;
	const struct extent_set none = { 0 };
	struct err e = { 0 };
	uint8_t byte;

	assert_int_equal(region_reader_new(s.reader, 2, &none, &x), -EINVAL);
	assert_int_equal(region_reader_new(s.reader, REGION, &none, &x), 0);
	assert_int_equal(read_about(&s, x, &none), 0);
	/* nothing, and what is outside */
	assert_int_equal(region_reader_read(x, &byte, 0, LENGTH, &e), 0);
	assert_int_equal(region_reader_read(x, &byte, 1, LENGTH, &e), -EBADMSG);
	assert_int_equal(region_reader_read(x, &byte, 1, UINT64_MAX, &e), -EBADMSG);
	assert_int_equal(region_reader_read(x, &byte, SIZE_MAX, 1, &e), -EBADMSG);
}

static void what_is_known_to_be_lost_is_not_asked_for(void **state)
{
	_cleanup_(scene_done) struct scene s = scene_new(false);
	_cleanup_(region_reader_freep) struct region_reader *x = NULL;
	_cleanup_extents_ struct extent_set lost = { 0 };
	struct err e = { 0 };
	uint8_t buf[100];

	assert_int_equal(extent_set_add(&lost, 3 * FIXTURE_CHUNK, FIXTURE_CHUNK), 0);
	assert_int_equal(extent_set_add(&lost, 400 * FIXTURE_CHUNK + 70, 7), 0);
	assert_int_equal(region_reader_new(s.reader, REGION, &lost, &x), 0);
	assert_int_equal(region_reader_read(x, buf, 100, 4 * FIXTURE_CHUNK - 1, &e), -EBADMSG);
	assert_int_equal(region_reader_fetched(x), 0);
	assert_int_equal(read_about(&s, x, &lost), 0);
	assert_true(region_reader_fetched(x) > 0);
}

static void a_chunk_that_is_used_again_is_fetched_once(void **state)
{
	_cleanup_(scene_done) struct scene s = scene_new(false);
	_cleanup_(region_reader_freep) struct region_reader *x = NULL;
	const struct extent_set none = { 0 };
	struct err e = { 0 };
	uint8_t byte;

	assert_int_equal(region_reader_new(s.reader, REGION, &none, &x), 0);
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(region_reader_read(x, &byte, 1, 3 * FIXTURE_CHUNK + i, &e), 0);
	assert_int_equal(region_reader_fetched(x), FIXTURE_CHUNK);
}

static void a_damaged_chunk_is_refused_and_no_other(void **state)
{
	_cleanup_(scene_done) struct scene s = scene_new(true);
	_cleanup_(region_reader_freep) struct region_reader *x = NULL;
	const struct extent_set none = { 0 };
	unsigned int failed;

	assert_int_equal(region_reader_new(s.reader, REGION, &none, &x), 0);
	failed = read_about(&s, x, &none);
	assert_true(failed > 0 && failed < 60);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_are_those_of_the_region),
		cmocka_unit_test(what_is_known_to_be_lost_is_not_asked_for),
		cmocka_unit_test(a_chunk_that_is_used_again_is_fetched_once),
		cmocka_unit_test(a_damaged_chunk_is_refused_and_no_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
