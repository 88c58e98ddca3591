/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>

#include <zstd.h>

#include "lib/image/record.h"
#include "tests/unit/image-fixture.h"

/*
 * Decode the whole stream as stock zstd does. Returns its length, or -1 when it is refused, cut off, or has
 * @size bytes or more.
 */
static ssize_t stock_decode(const struct bytes *image, void *plain, size_t size)
{
	ZSTD_DCtx *d = ZSTD_createDCtx();
	ZSTD_inBuffer in = { image->data, image->len, 0 };
	ZSTD_outBuffer out = { plain, size, 0 };
	size_t n = 1;

	assert_non_null(d);
	while (in.pos < in.size && out.pos < out.size) {
		n = ZSTD_decompressStream(d, &out, &in);
		if (ZSTD_isError(n))
			break;
	}
	ZSTD_freeDCtx(d);
	/* 0: the last frame is complete */
	return n || in.pos < in.size ? -1 : (ssize_t)out.pos;
}

static void an_image_of_odd_regions_comes_back_whole(void **state)
{
	const uint64_t lengths[] = { 512,     FIXTURE_CHUNK * 20 + 1, 1,
				     4097,    FIXTURE_CHUNK * 9,      FIXTURE_CHUNK * 13 + 65535,
				     1000000, FIXTURE_CHUNK };
	_cleanup_fixture_ struct fixture f = fixture_new(lengths, ARRAY_SIZE(lengths));
	_cleanup_free_ uint8_t *disk = NULL;
	struct err e = { 0 };

	for (uint64_t require = 0; require <= AMBRO_REQUIRE_WHOLE; require++) {
		fixture_write(&f, require);
		free(disk);
		disk = NULL;
		assert_int_equal(image_read_back(f.image.data, f.image.len, &disk, &e), 0);
		assert_memory_equal(disk, f.disk, f.manifest->disk_size);
	}
}

static void stock_zstd_decodes_a_plain_image_to_the_disk(void **state)
{
	const uint64_t lengths[] = { 12345, FIXTURE_CHUNK * 33 + 7, FIXTURE_CHUNK * 5, 3 };
	_cleanup_fixture_ struct fixture f = fixture_new(lengths, ARRAY_SIZE(lengths));
	_cleanup_free_ uint8_t *plain = NULL;

	fixture_write(&f, 0);
	plain = malloc(f.manifest->disk_size + 1);
	assert_int_equal(stock_decode(&f.image, plain, f.manifest->disk_size + 1),
			 f.manifest->disk_size);
	assert_memory_equal(plain, f.disk, f.manifest->disk_size);
}

static void stock_zstd_refuses_the_guard_before_it_writes_a_byte(void **state)
{
	const uint64_t lengths[] = { FIXTURE_CHUNK * 4 };

	for (uint64_t require = 1; require <= AMBRO_REQUIRE_WHOLE; require++) {
		_cleanup_fixture_ struct fixture f = fixture_new(lengths, 1);
		_cleanup_free_ uint8_t *plain = malloc(FIXTURE_CHUNK * 8);

		fixture_write(&f, require);
		assert_int_equal(stock_decode(&f.image, plain, FIXTURE_CHUNK * 8), -1);
	}
}

static void the_seek_table_accounts_for_every_byte(void **state)
{
	const uint64_t lengths[] = { FIXTURE_CHUNK * 30 + 9, 77 };

	for (uint64_t require = 0; require <= AMBRO_REQUIRE_WHOLE; require++) {
		_cleanup_fixture_ struct fixture f = fixture_new(lengths, ARRAY_SIZE(lengths));
		uint64_t compressed = 0, plain = 0, at = 0;
		struct ambro_seek_footer footer;
		const uint8_t *table;
		uint32_t n;

		fixture_write(&f, require);
		memcpy(&footer, f.image.data + f.image.len - sizeof(footer), sizeof(footer));
		n = le32_get(footer.frames);
		table = f.image.data + f.image.len - sizeof(footer) - 8 * (size_t)n;
		for (uint32_t i = 0; i < n; i++) {
			struct ambro_seek_entry entry;
			const void *frame = f.image.data + at;

			memcpy(&entry, table + 8 * (size_t)i, sizeof(entry));
			if (!require) {
				assert_int_equal(ZSTD_findFrameCompressedSize(frame,
									      f.image.len - at),
						 le32_get(entry.compressed_size));
			}
			at += le32_get(entry.compressed_size);
			compressed += le32_get(entry.compressed_size);
			plain += le32_get(entry.decompressed_size);
		}
		assert_int_equal(compressed + 8 + 8 * (uint64_t)n + sizeof(footer), f.image.len);
		if (!require)
			assert_int_equal(plain, f.manifest->disk_size);
	}
}

static void the_last_word_on_a_resent_chunk_counts(void **state)
{
	const uint64_t lengths[] = { FIXTURE_CHUNK * 8, FIXTURE_CHUNK * 3 };
	_cleanup_fixture_ struct fixture f = fixture_new(lengths, 2);
	_cleanup_(image_writer_freep) struct image_writer *w = NULL;
	const struct image_sink sink = bytes_sink(&f.image);
	_cleanup_free_ uint8_t *disk = NULL;
	struct err e = { 0 };

	assert_int_equal(image_writer_new(&sink, f.manifest, AMBRO_REQUIRE_RESENT, &w, &e), 0);
	/* out of order, chunk 5 three times, chunk 2 overruled by zeros, chunk 3 zeros and then data */
	for (int round = 0; round < 3; round++) {
		fill_text(fixture_chunk(&f, 0, 5), FIXTURE_CHUNK, (uint64_t)round);
		assert_int_equal(fixture_put(&f, w, 0, 5), 0);
	}
	fill_text(fixture_chunk(&f, 1, 1), FIXTURE_CHUNK, 10);
	assert_int_equal(fixture_put(&f, w, 1, 1), 0);
	fill_text(fixture_chunk(&f, 0, 2), FIXTURE_CHUNK, 11);
	assert_int_equal(fixture_put(&f, w, 0, 2), 0);
	assert_int_equal(image_writer_run(w, 0, 1, 3, CHUNK_ZERO, &e), 0);
	memset(fixture_chunk(&f, 0, 2), 0, FIXTURE_CHUNK);
	fill_text(fixture_chunk(&f, 0, 3), FIXTURE_CHUNK, 12);
	assert_int_equal(fixture_put(&f, w, 0, 3), 0);
	assert_int_equal(image_writer_finish(w, &e), 0);

	assert_int_equal(f.manifest->data_chunks, 3);
	assert_int_equal(f.manifest->resent_chunks, 3);
	assert_int_equal(image_read_back(f.image.data, f.image.len, &disk, &e), 0);
	assert_memory_equal(disk, f.disk, f.manifest->disk_size);
}

static void another_order_is_refused_in_a_plain_image(void **state)
{
	const uint64_t lengths[] = { FIXTURE_CHUNK * 4, FIXTURE_CHUNK };
	_cleanup_fixture_ struct fixture f = fixture_new(lengths, 2);
	_cleanup_(image_writer_freep) struct image_writer *w = NULL;
	const struct image_sink sink = bytes_sink(&f.image);
	struct err e = { 0 };

	assert_int_equal(image_writer_new(&sink, f.manifest, 0, &w, &e), 0);
	assert_int_equal(fixture_put(&f, w, 0, 1), -EINVAL);
	assert_int_equal(fixture_put(&f, w, 1, 0), -EINVAL);
	assert_int_equal(image_writer_run(w, 0, 2, 1, CHUNK_ZERO, &e), -EINVAL);
	assert_int_equal(fixture_put(&f, w, 0, 0), 0);
	assert_int_equal(fixture_put(&f, w, 0, 0), -EINVAL);
	assert_int_equal(image_writer_run(w, 0, 1, 4, CHUNK_ZERO, &e), -EINVAL);
	assert_int_equal(image_writer_run(w, 0, 1, UINT64_MAX, CHUNK_ZERO, &e), -EINVAL);
	assert_int_equal(image_writer_run(w, 0, 1, 0, CHUNK_ZERO, &e), -EINVAL);
	assert_int_equal(image_writer_run(w, 0, 1, 3, CHUNK_DATA, &e), -EINVAL);
	assert_int_equal(image_writer_run(w, 0, 1, 3, CHUNK_ZERO, &e), 0);
	/* region 1 is missing */
	assert_int_equal(image_writer_finish(w, &e), -EINVAL);
	assert_int_equal(image_writer_run(w, 2, 0, 1, CHUNK_ZERO, &e), -EINVAL);
	assert_int_equal(image_writer_run(w, 1, 0, 1, CHUNK_ZERO, &e), 0);
	assert_int_equal(image_writer_finish(w, &e), 0);
	/* once is enough */
	assert_int_equal(image_writer_finish(w, &e), -EPIPE);
}

/* A sink that is full after some bytes. */
struct short_sink {
	uint64_t room;
};

static int short_write(void *ctx, const void *buf, size_t len)
{
	struct short_sink *s = ctx;

	if (len > s->room)
		return -ENOSPC;
	s->room -= len;
	return 0;
}

static void a_full_sink_fails_the_image_for_good(void **state)
{
	const uint64_t lengths[] = { FIXTURE_CHUNK * 3 };
	_cleanup_fixture_ struct fixture f = fixture_new(lengths, 1);
	uint64_t total;

	fixture_write(&f, 0);
	total = f.image.len;
	for (uint64_t room = 0; room < total; room += room < 400 ? 7 : total / 50) {
		_cleanup_(image_writer_freep) struct image_writer *w = NULL;
		struct short_sink s = { room };
		const struct image_sink sink = { short_write, &s };
		struct err e = { 0 };
		int r = image_writer_new(&sink, f.manifest, 0, &w, &e);

		for (uint64_t i = 0; i < 3 && r >= 0; i++)
			r = fixture_put(&f, w, 0, i);
		if (r >= 0)
			r = image_writer_finish(w, &e);
		assert_int_equal(r, -ENOSPC);
		if (!w)
			continue;
		s.room = UINT64_MAX;
		assert_int_equal(image_writer_run(w, 0, 0, 3, CHUNK_ZERO, &e), -ENOSPC);
		assert_int_equal(image_writer_finish(w, &e), -ENOSPC);
	}
}

static void a_manifest_that_does_not_tile_the_disk_is_refused(void **state)
{
	const uint64_t lengths[] = { FIXTURE_CHUNK, FIXTURE_CHUNK };
	_cleanup_fixture_ struct fixture f = fixture_new(lengths, 2);
	const struct image_sink sink = bytes_sink(&f.image);
	struct manifest *m = f.manifest;
	struct image_writer *w = NULL;
	struct err e;

	m->disk_size++;
	assert_int_equal(image_writer_new(&sink, m, 0, &w, &e), -EINVAL);
	m->disk_size--;
	m->regions[1].start--;
	assert_int_equal(image_writer_new(&sink, m, 0, &w, &e), -EINVAL);
	m->regions[1].start++;
	m->chunk_size = 4096;
	assert_int_equal(image_writer_new(&sink, m, 0, &w, &e), -EINVAL);
	m->chunk_size = 65537;
	assert_int_equal(image_writer_new(&sink, m, 0, &w, &e), -EINVAL);
	m->chunk_size = FIXTURE_CHUNK;
	assert_int_equal(image_writer_new(&sink, m, 8, &w, &e), -EINVAL);
	assert_int_equal(f.image.len, 0);
}

static int count_write(void *ctx, const void *buf, size_t len)
{
	*(uint64_t *)ctx += len;
	return 0;
}

static void a_run_of_sixteen_tebibytes_is_cheap(void **state)
{
	_cleanup_(manifest_freep) struct manifest *m = NULL;
	_cleanup_(image_writer_freep) struct image_writer *w = NULL;
	uint64_t written = 0, before;
	const struct image_sink sink = { count_write, &written };
	struct err e = { 0 };

	assert_int_equal(manifest_new(1, &m), 0);
	m->chunk_size = UINT64_C(1) << 20;
	m->disk_size = UINT64_C(16) << 40;
	m->logical_sector = 512;
	m->regions[0].length = m->disk_size;
	before = io_now_ns();
	assert_int_equal(image_writer_new(&sink, m, AMBRO_REQUIRE_SPARSE, &w, &e), 0);
	assert_int_equal(image_writer_run(w, 0, 0, 1 << 23, CHUNK_FREE, &e), 0);
	assert_int_equal(image_writer_run(w, 0, 1 << 23, 1 << 23, CHUNK_ZERO, &e), 0);
	assert_int_equal(image_writer_finish(w, &e), 0);
	assert_int_equal(m->regions[0].depth, 2);
	assert_true(written < 10000);
	assert_true(io_now_ns() - before < UINT64_C(1000000000));
}

static void zero_frames_are_at_most_a_gibibyte(void **state)
{
	_cleanup_(manifest_freep) struct manifest *m = NULL;
	_cleanup_(image_writer_freep) struct image_writer *w = NULL;
	struct bytes image = { 0 };
	const struct image_sink sink = bytes_sink(&image);
	struct err e = { 0 };
	uint64_t plain = 0;

	assert_int_equal(manifest_new(1, &m), 0);
	m->chunk_size = UINT64_C(1) << 20;
	m->disk_size = (UINT64_C(3) << 30) + 12345;
	m->logical_sector = 512;
	m->regions[0].length = m->disk_size;
	assert_int_equal(image_writer_new(&sink, m, 0, &w, &e), 0);
	assert_int_equal(image_writer_run(w, 0, 0, 1000, CHUNK_FREE, &e), 0);
	assert_int_equal(image_writer_run(w, 0, 1000, 2073, CHUNK_ZERO, &e), 0);
	assert_int_equal(image_writer_finish(w, &e), 0);
	for (size_t at = 0; at < image.len;) {
		const uint8_t *frame = image.data + at;
		size_t n = ZSTD_findFrameCompressedSize(frame, image.len - at);

		assert_false(ZSTD_isError(n));
		if (frame[0] == 0x28) {
			assert_true(ZSTD_getFrameContentSize(frame, n) <= CODEC_ZERO_FRAME_MAX);
			plain += ZSTD_getFrameContentSize(frame, n);
		}
		at += n;
	}
	assert_int_equal(plain, m->disk_size);
	free(image.data);
}

/* What stands in the stream from @at on, without its body. */
static const struct ambro_run *run_at(const struct bytes *image, size_t at)
{
	const struct record_head *h = (const struct record_head *)(image->data + at);

	assert_int_equal(h->record.type, AMBRO_RECORD_RUN);
	return (const struct ambro_run *)(h + 1);
}

static void a_delta_stream_says_same_and_the_last_word_counts(void **state)
{
	const uint64_t lengths[] = { FIXTURE_CHUNK * 10 };
	const uint64_t delta = AMBRO_REQUIRE_RESENT | AMBRO_REQUIRE_SPARSE | AMBRO_REQUIRE_PARENT;
	_cleanup_fixture_ struct fixture f = fixture_new(lengths, 1);
	_cleanup_(image_writer_freep) struct image_writer *w = NULL;
	const struct image_sink sink = bytes_sink(&f.image);
	const size_t run = record_frame_len(sizeof(struct ambro_run));
	struct image_reader *r = NULL;
	struct err e = { 0 };
	size_t first;
	int fd;

	fill_noise(f.disk, FIXTURE_CHUNK * 10, 3);
	assert_int_equal(image_writer_new(&sink, f.manifest, delta, &w, &e), 0);
	first = f.image.len;
	assert_int_equal(image_writer_run(w, 0, 0, 9, CHUNK_SAME, &e), 0);
	assert_int_equal(image_writer_run(w, 0, 9, 1, CHUNK_FREE, &e), 0);
	assert_int_equal(fixture_put(&f, w, 0, 4), 0);
	assert_int_equal(fixture_put(&f, w, 0, 5), 0);
	assert_int_equal(image_writer_run(w, 0, 5, 1, CHUNK_SAME, &e), 0);
	assert_int_equal(image_writer_run(w, 0, 0, 1, CHUNK_ZERO, &e), 0);
	assert_int_equal(image_writer_finish(w, &e), 0);
	assert_int_equal(f.manifest->same_chunks, 7);
	assert_int_equal(f.manifest->data_chunks, 1);
	assert_int_equal(f.manifest->resent_chunks, 1);
	assert_int_equal(run_at(&f.image, first)->state, CHUNK_SAME);
	assert_int_equal(le64_get(run_at(&f.image, first)->count), 9);
	assert_int_equal(le64_get(run_at(&f.image, first)->frames_len), 0);
	assert_int_equal(run_at(&f.image, first + run)->state, CHUNK_FREE);
	/* alone it is no image */
	fd = image_memfd(f.image.data, f.image.len);
	assert_true(image_reader_open(fd, &r, &e) < 0);
	close(fd);
}

static void same_needs_a_parent_and_a_parent_its_companions(void **state)
{
	const uint64_t lengths[] = { FIXTURE_CHUNK * 10 };
	_cleanup_fixture_ struct fixture f = fixture_new(lengths, 1);
	const struct image_sink sink = bytes_sink(&f.image);
	struct err e = { 0 };

	for (uint64_t require = 0; require <= AMBRO_REQUIRE_KNOWN; require++) {
		const bool lame = require & AMBRO_REQUIRE_PARENT && require != AMBRO_REQUIRE_KNOWN;
		struct image_writer *w = NULL;

		assert_int_equal(image_writer_new(&sink, f.manifest, require, &w, &e),
				 lame ? -EINVAL : 0);
		if (lame)
			continue;
		assert_int_equal(image_writer_run(w, 0, 0, 1, CHUNK_SAME, &e),
				 require & AMBRO_REQUIRE_PARENT ? 0 : -EINVAL);
		assert_int_equal(image_writer_run(w, 0, 0, 1, CHUNK_DATA, &e), -EINVAL);
		image_writer_free(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_image_of_odd_regions_comes_back_whole),
		cmocka_unit_test(stock_zstd_decodes_a_plain_image_to_the_disk),
		cmocka_unit_test(stock_zstd_refuses_the_guard_before_it_writes_a_byte),
		cmocka_unit_test(the_seek_table_accounts_for_every_byte),
		cmocka_unit_test(the_last_word_on_a_resent_chunk_counts),
		cmocka_unit_test(another_order_is_refused_in_a_plain_image),
		cmocka_unit_test(a_full_sink_fails_the_image_for_good),
		cmocka_unit_test(a_manifest_that_does_not_tile_the_disk_is_refused),
		cmocka_unit_test(a_run_of_sixteen_tebibytes_is_cheap),
		cmocka_unit_test(zero_frames_are_at_most_a_gibibyte),
		cmocka_unit_test(a_delta_stream_says_same_and_the_last_word_counts),
		cmocka_unit_test(same_needs_a_parent_and_a_parent_its_companions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
