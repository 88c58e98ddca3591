/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>

#include <zstd.h>

#include "lib/base/hex.h"
#include "tests/unit/image-fixture.h"

static void levels_have_names_and_numbers(void **state)
{
	static const char *const wrong[] = { "",
					     " ",
					     "8x",
					     "20",
					     "-8",
					     "+1",
					     " 1",
					     "1 ",
					     "0x1",
					     "1e0",
					     "99999999999999999999",
					     "FAST",
					     "--1" };
	int level = 1234;

	assert_int_equal(codec_level_parse("fast", &level), 0);
	assert_int_equal(level, CODEC_LEVEL_FAST);
	assert_int_equal(codec_level_parse("default", &level), 0);
	assert_int_equal(level, CODEC_LEVEL_DEFAULT);
	assert_int_equal(codec_level_parse("max", &level), 0);
	assert_int_equal(level, CODEC_LEVEL_MAX);
	assert_int_equal(codec_level_parse("-7", &level), 0);
	assert_int_equal(level, -7);
	assert_int_equal(codec_level_parse("19", &level), 0);
	assert_int_equal(level, 19);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(codec_level_parse(wrong[i], &level), -EINVAL);
	assert_int_equal(level, 19);
}

static void a_level_out_of_range_makes_no_codec(void **state)
{
	struct codec *c = NULL;

	assert_int_equal(codec_new(-8, &c), -EINVAL);
	assert_int_equal(codec_new(20, &c), -EINVAL);
	assert_null(c);
	codec_free(c);
}

static void round_trip(struct codec *c, const uint8_t *plain, size_t len)
{
	const size_t size = codec_bound(len);
	_cleanup_free_ uint8_t *frame = malloc(size), *back = malloc(len + 1);
	ssize_t n = codec_compress(c, plain, len, frame, size);

	assert_true(n > 0);
	assert_true((uint64_t)n <= AMBRO_FRAME_MAX(MAX(len, (size_t)65536)));
	/* content size and checksum are there */
	assert_int_equal(ZSTD_getFrameContentSize(frame, (size_t)n), len);
	assert_true(frame[4] & 4);
	assert_int_equal(codec_decompress(c, frame, (size_t)n, back, len), 0);
	assert_memory_equal(back, plain, len);
	/* neither more nor less */
	assert_int_equal(codec_decompress(c, frame, (size_t)n, back, len + 1), -EBADMSG);
	assert_int_equal(codec_decompress(c, frame, (size_t)n, back, len - 1), -EBADMSG);
	assert_int_equal(codec_decompress(c, frame, (size_t)n - 1, back, len), -EBADMSG);
}

static void chunks_of_any_size_and_kind_come_back(void **state)
{
	static const size_t sizes[] = { 1,     2,     255,    256,     4096,	65535,
					65536, 65537, 131072, 1048575, 1048576, 4194304 };
	static const int levels[] = { -7, CODEC_LEVEL_FAST, 0, 1, 3, 12 };

	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		_cleanup_(codec_freep) struct codec *c = NULL;

		assert_int_equal(codec_new(levels[i], &c), 0);
		for (size_t j = 0; j < ARRAY_SIZE(sizes); j++) {
			_cleanup_free_ uint8_t *plain = malloc(sizes[j]);

			fill_text(plain, sizes[j], j);
			round_trip(c, plain, sizes[j]);
			fill_noise(plain, sizes[j], j);
			round_trip(c, plain, sizes[j]);
			memset(plain + sizes[j] / 2, 0, sizes[j] - sizes[j] / 2);
			round_trip(c, plain, sizes[j]);
		}
	}
}

static void noise_is_stored_and_text_is_compressed(void **state)
{
	const size_t len = 1 << 20;
	_cleanup_free_ uint8_t *plain = malloc(len), *frame = malloc(codec_bound(len));
	_cleanup_(codec_freep) struct codec *c = NULL;
	ssize_t n;

	assert_int_equal(codec_new(CODEC_LEVEL_DEFAULT, &c), 0);
	fill_noise(plain, len, 5);
	n = codec_compress(c, plain, len, frame, codec_bound(len));
	/* raw blocks: 3 bytes for each 128 KiB, head and checksum */
	assert_in_range(n, len, len + 64);
	/* the guess is not fooled by what lies between its samples: an eighth of it is text */
	fill_text(plain + len / 2, len / 8, 5);
	n = codec_compress(c, plain, len, frame, codec_bound(len));
	assert_true(n < (ssize_t)(len - len / 20));
	fill_text(plain, len, 5);
	n = codec_compress(c, plain, len, frame, codec_bound(len));
	assert_true(n < (ssize_t)(len * 2 / 3));
}

static void a_frame_without_room_is_refused(void **state)
{
	_cleanup_(codec_freep) struct codec *c = NULL;
	uint8_t plain[1000], frame[100];

	assert_int_equal(codec_new(1, &c), 0);
	fill_noise(plain, sizeof(plain), 1);
	assert_int_equal(codec_compress(c, plain, sizeof(plain), frame, sizeof(frame)), -ENOSPC);
}

static void what_is_no_single_frame_of_ours_is_refused(void **state)
{
	uint8_t plain[1000], frame[2100], back[2000];
	_cleanup_(codec_freep) struct codec *c = NULL;
	size_t n;

	assert_int_equal(codec_new(1, &c), 0);
	fill_text(plain, sizeof(plain), 1);
	/* no checksum */
	n = ZSTD_compress(frame, sizeof(frame), plain, sizeof(plain), 1);
	assert_int_equal(codec_decompress(c, frame, n, back, sizeof(plain)), -EBADMSG);
	/* two frames, a skippable frame before, nothing at all, the guard */
	n = (size_t)codec_compress(c, plain, sizeof(plain), frame, sizeof(frame));
	assert_int_equal(codec_decompress(c, frame, n, back, sizeof(plain)), 0);
	memcpy(frame + n, frame, n);
	assert_int_equal(codec_decompress(c, frame, 2 * n, back, sizeof(plain)), -EBADMSG);
	assert_int_equal(codec_decompress(c, frame, 2 * n, back, 2 * sizeof(plain)), -EBADMSG);
	memcpy(frame, "\x5a\x2a\x4d\x18\x01\x00\x00\x00\x00", 9);
	assert_int_equal(codec_decompress(c, frame, 9, back, 0), -EBADMSG);
	assert_int_equal(codec_decompress(c, frame, 0, back, 0), -EBADMSG);
	assert_int_equal(codec_decompress(c, ambro_guard, AMBRO_GUARD_SIZE, back, 0), -EBADMSG);
}

static void frames_of_zeros_decode_with_stock_zstd(void **state)
{
	static const uint64_t sizes[] = { 1,	  2,	  65536,   131071,	   131072,
					  131073, 262144, 1 << 20, (64 << 20) - 1, 64 << 20 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		const size_t n = codec_zero_frame_len(sizes[i]);
		_cleanup_free_ uint8_t *frame = malloc(n), *plain = malloc(sizes[i]);

		memset(plain, 0xff, sizes[i]);
		codec_zero_frame(sizes[i], frame);
		assert_int_equal(ZSTD_getFrameContentSize(frame, n), sizes[i]);
		assert_int_equal(ZSTD_findFrameCompressedSize(frame, n), n);
		assert_int_equal(ZSTD_decompress(plain, sizes[i], frame, n), sizes[i]);
		assert_true(chunk_is_zero(plain, sizes[i]));
	}
	assert_int_equal(codec_zero_frame_len(CODEC_ZERO_FRAME_MAX), 14 + 4 * 8192);
}

static void one_bit_anywhere_is_not_zero(void **state)
{
	uint8_t plain[300] = { 0 };

	for (size_t len = 0; len <= sizeof(plain); len++)
		assert_true(chunk_is_zero(plain, len));
	for (size_t i = 0; i < sizeof(plain); i++) {
		plain[i] = 0x10;
		for (size_t len = 0; len <= sizeof(plain); len++)
			assert_int_equal(chunk_is_zero(plain, len), i >= len);
		plain[i] = 0;
	}
}

/* The values are those of Python's hashlib, by docs/FORMAT.md. */
static void ids_are_trees_of_sha256(void **state)
{
	static uint8_t plain[100001];
	struct chunk_id id, other;
	char text[65];

	chunk_id_of("abc", 3, &id);
	assert_string_equal(hex_encode(id.b, sizeof(id.b), text),
			    "ff49369eed7fdd18ae85837a62cb562054cf5c383a99917a5645d16d4841f2dc");
	chunk_id_of("", 0, &other);
	assert_string_equal(hex_encode(other.b, sizeof(other.b), text),
			    "75485d2f8563d679c0d6f1a96097f4677192b32fea065ffb1221950de55ba285");
	assert_false(chunk_id_equal(&id, &other));
	assert_true(chunk_id_equal(&id, &id));
	for (size_t i = 0; i < sizeof(plain); i++)
		plain[i] = (uint8_t)(i * 7 + i / 251);
	chunk_id_of(plain, sizeof(plain), &id);
	assert_string_equal(hex_encode(id.b, sizeof(id.b), text),
			    "431d70b0dd418979da17b72f3e35bddf8df0d6c1fd2a7ac96428032938221ecc");
}

static void a_record_check_is_sha256_cut_short(void **state)
{
	uint8_t check[AMBRO_CHECK_SIZE];
	char text[33];

	record_check("a", 1, "bc", 2, check);
	assert_string_equal(hex_encode(check, sizeof(check), text),
			    "ba7816bf8f01cfea414140de5dae2223");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(levels_have_names_and_numbers),
		cmocka_unit_test(a_level_out_of_range_makes_no_codec),
		cmocka_unit_test(chunks_of_any_size_and_kind_come_back),
		cmocka_unit_test(noise_is_stored_and_text_is_compressed),
		cmocka_unit_test(a_frame_without_room_is_refused),
		cmocka_unit_test(what_is_no_single_frame_of_ours_is_refused),
		cmocka_unit_test(frames_of_zeros_decode_with_stock_zstd),
		cmocka_unit_test(one_bit_anywhere_is_not_zero),
		cmocka_unit_test(ids_are_trees_of_sha256),
		cmocka_unit_test(a_record_check_is_sha256_cut_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
