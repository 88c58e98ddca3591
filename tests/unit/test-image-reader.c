/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>

#include "lib/base/cancel.h"
#include "lib/image/record.h"
#include "lib/image/verify.h"
#include "tests/unit/image-fixture.h"

/* A few KiB of image, with all states and both ways of a chunk to be stored. */
static struct fixture small_image(uint64_t require)
{
	static const uint64_t lengths[] = { 300, 900, 1, 5, 512 };
	struct fixture f = fixture_new(lengths, ARRAY_SIZE(lengths));

	fixture_write(&f, require);
	return f;
}

static int open_bytes(const void *image, size_t len, struct err *e)
{
	_cleanup_close_ int fd = image_memfd(image, len);
	_cleanup_(image_reader_freep) struct image_reader *r = NULL;

	return image_reader_open(fd, &r, e);
}

static void what_is_no_image_is_refused(void **state)
{
	_cleanup_fixture_ struct fixture f = small_image(0);
	uint8_t noise[5000];
	struct err e = { 0 };
	int pipes[2];

	fill_noise(noise, sizeof(noise), 1);
	for (size_t len = 0; len < sizeof(noise); len += 113)
		assert_int_equal(open_bytes(noise, len, &e), -EBADMSG);
	assert_string_equal(e.text, "this is not an image (it does not begin like one)");
	assert_int_equal(pipe(pipes), 0);
	struct image_reader *r = NULL;
	assert_int_equal(image_reader_open(pipes[0], &r, &e), -ESPIPE);
	close(pipes[0]);
	close(pipes[1]);
}

static void every_shorter_file_is_refused(void **state)
{
	for (uint64_t require = 0; require <= AMBRO_REQUIRE_WHOLE; require++) {
		_cleanup_fixture_ struct fixture f = small_image(require);
		struct err e = { 0 };

		for (size_t len = 0; len < f.image.len; len++)
			assert_int_equal(open_bytes(f.image.data, len, &e), -EBADMSG);
		assert_int_equal(open_bytes(f.image.data, f.image.len, &e), 0);
	}
}

static void bytes_behind_the_end_are_refused(void **state)
{
	_cleanup_fixture_ struct fixture f = small_image(0);
	struct err e = { 0 };

	for (int i = 0; i < 300; i++) {
		uint8_t byte = (uint8_t)i;

		bytes_add(&f.image, &byte, 1);
		assert_int_equal(open_bytes(f.image.data, f.image.len, &e), -EBADMSG);
	}
}

static bool verify_finds_damage(const void *image, size_t len)
{
	_cleanup_close_ int fd = image_memfd(image, len);
	_cleanup_(image_reader_freep) struct image_reader *r = NULL;
	struct verify_result v;
	struct err e = { 0 };

	return image_reader_open(fd, &r, &e) < 0 ||
	       image_verify(r, 1, NULL, NULL, NULL, &v, &e) == -EBADMSG;
}

/* Does byte @at of the image belong to a chunk's zstd frame? */
static bool in_chunk_frame(const struct bytes *image, size_t at)
{
	_cleanup_close_ int fd = image_memfd(image->data, image->len);
	_cleanup_(image_reader_freep) struct image_reader *r = NULL;
	bool found = false;

	assert_int_equal(image_reader_open(fd, &r, NULL), 0);
	for (uint32_t i = 0; i < image_reader_manifest(r)->n_regions; i++) {
		_cleanup_(image_cursor_freep) struct image_cursor *cursor = NULL;
		struct image_run run = { 0 };

		assert_int_equal(image_cursor_new(r, i, &cursor), 0);
		while (image_cursor_at(cursor, run.index + run.count, &run, NULL) == 1) {
			if (run.state == CHUNK_DATA)
				found |= at >= run.offset && at - run.offset < run.frame_len;
		}
	}
	return found;
}

static void flip_every_bit(uint64_t require)
{
	_cleanup_fixture_ struct fixture f = small_image(require);
	size_t refused = 0, harmless = 0, unnoticed = 0;

	assert_true(f.image.len < 16384);
	for (size_t bit = 0; bit < f.image.len * 8; bit++) {
		_cleanup_free_ uint8_t *disk = NULL;
		struct err e = { 0 };
		bool seen = true;
		int r;

		f.image.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		r = image_read_back(f.image.data, f.image.len, &disk, &e);
		if (r >= 0)
			seen = verify_finds_damage(f.image.data, f.image.len);
		f.image.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		/*
		 * zstd itself has bits without meaning (one in each frame's header, the ends of bit
		 * streams); and what was sent again later is no part of the image any more
		 */
		if (!seen && !require)
			assert_true(in_chunk_frame(&f.image, bit / 8));
		unnoticed += !seen;
		if (r < 0) {
			assert_true(r == -EBADMSG || r == -ENOTSUP);
			assert_int_equal(e.code, r);
			assert_true(*e.text);
			refused++;
			continue;
		}
		assert_memory_equal(disk, f.disk, f.manifest->disk_size);
		harmless++;
	}
	print_message(
		"%zu bytes: %zu flips refused, %zu harmless, of these %zu not seen by verify\n",
		f.image.len, refused, harmless, unnoticed);
	assert_true(refused > harmless);
}

static void a_flipped_bit_gives_no_wrong_byte_and_verify_sees_it(void **state)
{
	flip_every_bit(0);
}

static void a_flipped_bit_of_a_resent_image_gives_no_wrong_byte(void **state)
{
	flip_every_bit(AMBRO_REQUIRE_WHOLE);
}

/* Change the body of the record at @offset by @change bytes given, and make its check good again. */
static void patch_record(struct bytes *image, size_t offset, size_t at, const void *change,
			 size_t len)
{
	struct record_head head;
	uint8_t *body = image->data + offset + sizeof(head);

	memcpy(&head, image->data + offset, sizeof(head));
	memcpy(body + at, change, len);
	memset(head.record.check, 0, sizeof(head.record.check));
	record_check(&head.record, sizeof(head.record), body, le64_get(head.record.length),
		     head.record.check);
	memcpy(image->data + offset, &head, sizeof(head));
}

static void an_unknown_required_feature_is_refused(void **state)
{
	for (unsigned int bit = 3; bit < 64; bit++) {
		_cleanup_fixture_ struct fixture f = small_image(0);
		le64_t features = le64(UINT64_C(1) << bit);
		struct err e = { 0 };

		patch_record(&f.image, 0, offsetof(struct ambro_header, require_features),
			     &features, sizeof(features));
		assert_int_equal(open_bytes(f.image.data, f.image.len, &e), -ENOTSUP);
	}
}

static void an_increment_is_refused_and_says_what_it_is_on(void **state)
{
	_cleanup_fixture_ struct fixture f = small_image(AMBRO_REQUIRE_WHOLE);
	struct err e = { 0 };

	fixture_write(&f, AMBRO_REQUIRE_KNOWN);
	assert_int_equal(open_bytes(f.image.data, f.image.len, &e), -EBADMSG);
	assert_string_equal(e.text, "this is an increment that does not say on what image");
	f.manifest->has_parent = true;
	memcpy(f.manifest->parent_id, "\x01\x23\x45\x67\x89\xab\xcd\xef\0\0\0\0\0\0\0\xff", 16);
	fixture_write(&f, AMBRO_REQUIRE_KNOWN);
	assert_int_equal(open_bytes(f.image.data, f.image.len, &e), -ENOTSUP);
	assert_string_equal(e.text,
			    "this is an increment on image 0123456789abcdef00000000000000ff: it is "
			    "complete only in a repository that holds that image; import it there");
	/* damage comes first: what it says of its parent may be wrong */
	for (size_t len = 0; len < f.image.len; len++)
		assert_int_equal(open_bytes(f.image.data, len, &e), -EBADMSG);
	/* an image with a parent that was made whole is like any other */
	fixture_write(&f, AMBRO_REQUIRE_WHOLE);
	assert_int_equal(open_bytes(f.image.data, f.image.len, &e), 0);
}

static void an_unknown_optional_feature_is_ignored(void **state)
{
	_cleanup_fixture_ struct fixture f = small_image(0);
	le64_t features = le64(UINT64_MAX);
	struct err e = { 0 };

	patch_record(&f.image, 0, offsetof(struct ambro_header, optional_features), &features,
		     sizeof(features));
	assert_int_equal(open_bytes(f.image.data, f.image.len, &e), 0);
}

static void a_newer_format_version_is_refused(void **state)
{
	_cleanup_fixture_ struct fixture f = small_image(0);
	le32_t version = le32(AMBRO_FORMAT_VERSION + 1);
	struct err e = { 0 };

	patch_record(&f.image, 0, offsetof(struct ambro_header, version), &version,
		     sizeof(version));
	assert_int_equal(open_bytes(f.image.data, f.image.len, &e), -ENOTSUP);
}

static void a_newer_version_of_a_record_is_refused(void **state)
{
	_cleanup_fixture_ struct fixture f = small_image(0);
	struct err e = { 0 };

	f.image.data[sizeof(struct ambro_skippable) + offsetof(struct ambro_record, version)] = 2;
	patch_record(&f.image, 0, 0, AMBRO_IMAGE_MAGIC, 8);
	assert_int_equal(open_bytes(f.image.data, f.image.len, &e), -ENOTSUP);
}

static void another_image_header_is_refused(void **state)
{
	_cleanup_fixture_ struct fixture f = small_image(0);
	le64_t size = le64(f.manifest->disk_size + 1);
	struct err e = { 0 };

	patch_record(&f.image, 0, offsetof(struct ambro_header, image_id), "another image id", 16);
	assert_int_equal(open_bytes(f.image.data, f.image.len, &e), -EBADMSG);
	patch_record(&f.image, 0, offsetof(struct ambro_header, image_id), f.manifest->image_id,
		     16);
	assert_int_equal(open_bytes(f.image.data, f.image.len, &e), 0);
	patch_record(&f.image, 0, offsetof(struct ambro_header, disk_size), &size, sizeof(size));
	assert_int_equal(open_bytes(f.image.data, f.image.len, &e), -EBADMSG);
}

/* Where the trailer of a whole image stands. */
static size_t trailer_offset(const struct bytes *image)
{
	struct ambro_seek_footer footer;

	memcpy(&footer, image->data + image->len - sizeof(footer), sizeof(footer));
	return image->len - sizeof(footer) - 8 * (size_t)le32_get(footer.frames) -
	       sizeof(struct ambro_skippable) - AMBRO_TRAILER_FRAME_LEN;
}

/* A record of an unknown type put between MANIFEST and TRAILER. */
static void insert_record(struct bytes *image, uint8_t type, uint16_t flags)
{
	const size_t at = trailer_offset(image);
	struct bytes changed = { 0 };
	struct record_head head;
	const char body[] = "from the future";

	record_make_unchecked(AMBRO_RECORD_HEADER, sizeof(body), &head);
	head.record.type = type;
	head.record.flags = le16(flags);
	record_check(&head.record, sizeof(head.record), body, sizeof(body), head.record.check);
	bytes_add(&changed, image->data, at);
	bytes_add(&changed, &head, sizeof(head));
	bytes_add(&changed, body, sizeof(body));
	bytes_add(&changed, image->data + at, image->len - at);
	free(image->data);
	*image = changed;
}

static void an_unknown_critical_record_is_refused(void **state)
{
	_cleanup_fixture_ struct fixture f = small_image(0);
	struct err e = { 0 };

	insert_record(&f.image, 8, AMBRO_RECORD_CRITICAL);
	assert_int_equal(open_bytes(f.image.data, f.image.len, &e), -ENOTSUP);
}

static void an_unknown_record_that_is_not_critical_is_skipped(void **state)
{
	_cleanup_fixture_ struct fixture f = small_image(0);
	_cleanup_free_ uint8_t *disk = NULL;
	struct err e = { 0 };

	insert_record(&f.image, 8, 0);
	assert_int_equal(image_read_back(f.image.data, f.image.len, &disk, &e), 0);
	assert_memory_equal(disk, f.disk, f.manifest->disk_size);
}

static void a_trailer_that_lies_is_refused(void **state)
{
	static const size_t fields[] = {
		offsetof(struct ambro_trailer, manifest_offset),
		offsetof(struct ambro_trailer, manifest_frame_len),
		offsetof(struct ambro_trailer, index_offset),
		offsetof(struct ambro_trailer, index_frame_len),
		offsetof(struct ambro_trailer, seek_frames),
	};
	static const uint64_t lies[] = { 0,	    1,	 8,    39,	  40,
					 41,	    112, 5000, INT64_MAX, UINT64_MAX - 40,
					 UINT64_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(lies); j++) {
			_cleanup_fixture_ struct fixture f = small_image(0);
			le64_t lie = le64(lies[j]);
			struct err e = { 0 };

			patch_record(&f.image, trailer_offset(&f.image), fields[i], &lie,
				     sizeof(lie));
			assert_int_equal(open_bytes(f.image.data, f.image.len, &e), -EBADMSG);
		}
	}
}

static void a_cursor_jumps_and_tells_runs(void **state)
{
	const uint64_t lengths[] = { FIXTURE_CHUNK * 5000 + 1 };
	_cleanup_fixture_ struct fixture f = fixture_new(lengths, 1);
	_cleanup_(image_writer_freep) struct image_writer *w = NULL;
	_cleanup_(image_reader_freep) struct image_reader *r = NULL;
	_cleanup_(image_cursor_freep) struct image_cursor *c = NULL;
	const struct image_sink sink = bytes_sink(&f.image);
	_cleanup_close_ int fd = -EBADF;
	struct image_run run;
	struct err e = { 0 };

	fill_text(fixture_chunk(&f, 0, 5000), 1, 1);
	fill_text(fixture_chunk(&f, 0, 4100), FIXTURE_CHUNK, 1);
	assert_int_equal(image_writer_new(&sink, f.manifest, 0, &w, &e), 0);
	assert_int_equal(image_writer_run(w, 0, 0, 4096, CHUNK_ZERO, &e), 0);
	assert_int_equal(image_writer_run(w, 0, 4096, 4, CHUNK_FREE, &e), 0);
	assert_int_equal(fixture_put(&f, w, 0, 4100), 0);
	assert_int_equal(image_writer_run(w, 0, 4101, 899, CHUNK_BAD, &e), 0);
	assert_int_equal(fixture_put(&f, w, 0, 5000), 0);
	assert_int_equal(image_writer_finish(w, &e), 0);
	fd = image_memfd(f.image.data, f.image.len);
	assert_int_equal(image_reader_open(fd, &r, &e), 0);
	assert_int_equal(image_reader_manifest(r)->regions[0].depth, 2);
	assert_int_equal(image_cursor_new(r, 0, &c), 0);

	assert_int_equal(image_cursor_at(c, 5000, &run, &e), 1);
	assert_int_equal(run.state, CHUNK_DATA);
	assert_int_equal(run.plain_len, 1);
	assert_int_equal(image_cursor_at(c, 10, &run, &e), 1);
	assert_int_equal(run.state, CHUNK_ZERO);
	assert_int_equal(run.index, 10);
	assert_int_equal(run.count, 4086);
	assert_int_equal(image_cursor_at(c, 4097, &run, &e), 1);
	assert_int_equal(run.state, CHUNK_FREE);
	assert_int_equal(run.count, 3);
	assert_int_equal(image_cursor_at(c, 4999, &run, &e), 1);
	assert_int_equal(run.state, CHUNK_BAD);
	assert_int_equal(run.count, 1);
	assert_int_equal(image_cursor_at(c, 5001, &run, &e), 0);
	assert_int_equal(image_cursor_at(c, UINT64_MAX, &run, &e), 0);
	struct image_cursor *none = NULL;
	assert_int_equal(image_cursor_new(r, 1, &none), -EINVAL);
}

static void count_progress(void *ctx, uint64_t done, uint64_t total)
{
	assert_true(done <= total);
	*(uint64_t *)ctx = done;
}

static void verify_counts_a_whole_image(void **state)
{
	const uint64_t lengths[] = { FIXTURE_CHUNK * 60, 512, FIXTURE_CHUNK * 33 + 5 };
	_cleanup_fixture_ struct fixture f = fixture_new(lengths, ARRAY_SIZE(lengths));
	_cleanup_(image_reader_freep) struct image_reader *r = NULL;
	_cleanup_close_ int fd = -EBADF;
	struct verify_result result;
	struct err e = { 0 };

	fixture_write(&f, 0);
	fd = image_memfd(f.image.data, f.image.len);
	assert_int_equal(image_reader_open(fd, &r, &e), 0);
	for (unsigned int threads = 0; threads < 6; threads++) {
		uint64_t done = 0;

		assert_int_equal(image_verify(r, threads, NULL, count_progress, &done, &result, &e),
				 0);
		assert_int_equal(result.chunks, 60 + 1 + 34);
		assert_int_equal(result.data_chunks, f.manifest->data_chunks);
		assert_int_equal(result.damaged_chunks, 0);
		assert_string_equal(result.first_damage, "");
		assert_true(done > 0);
	}
}

static void verify_names_the_first_damage_and_goes_on(void **state)
{
	const uint64_t lengths[] = { 512, FIXTURE_CHUNK * 60 };
	_cleanup_fixture_ struct fixture f = fixture_new(lengths, ARRAY_SIZE(lengths));
	_cleanup_(image_reader_freep) struct image_reader *r = NULL;
	_cleanup_(image_cursor_freep) struct image_cursor *c = NULL;
	_cleanup_close_ int fd = -EBADF;
	static const uint64_t hurt[] = { 53, 11, 29 };
	struct verify_result result;
	struct err e = { 0 };

	fixture_write(&f, 0);
	fd = image_memfd(f.image.data, f.image.len);
	assert_int_equal(image_reader_open(fd, &r, &e), 0);
	assert_int_equal(image_cursor_new(r, 1, &c), 0);
	for (size_t i = 0; i < ARRAY_SIZE(hurt); i++) {
		struct image_run run;

		assert_int_equal(image_cursor_at(c, hurt[i], &run, &e), 1);
		assert_int_equal(run.state, CHUNK_DATA);
		assert_int_equal(io_pwrite_all(fd, "\xff\x55", 2, run.offset + run.frame_len / 2),
				 0);
	}
	assert_int_equal(image_verify(r, 3, NULL, NULL, NULL, &result, &e), -EBADMSG);
	assert_int_equal(result.damaged_chunks, 3);
	assert_int_equal(result.data_chunks, f.manifest->data_chunks - 3);
	assert_int_equal(result.first_offset, 512 + 11 * FIXTURE_CHUNK);
	assert_non_null(
		strstr(result.first_damage, "region 1, chunk 11 (byte 721408 of the disk)"));
	assert_non_null(strstr(e.text, "region 1, chunk 11"));
}

static void verify_counts_the_chunks_below_a_damaged_page(void **state)
{
	const uint64_t lengths[] = { FIXTURE_CHUNK * 10, 512 };
	_cleanup_fixture_ struct fixture f = fixture_new(lengths, ARRAY_SIZE(lengths));
	_cleanup_(image_reader_freep) struct image_reader *r = NULL;
	_cleanup_close_ int fd = -EBADF;
	struct verify_result result;
	struct err e = { 0 };
	size_t at = 0;

	fixture_write(&f, 0);
	/* the first PAGE record is region 0's */
	for (size_t i = 0; i < f.image.len && !at; i++) {
		if (!memcmp(f.image.data + i, AMBRO_RECORD_MAGIC "\x04\x01\x01", 7))
			at = i;
	}
	assert_true(at > 0);
	fd = image_memfd(f.image.data, f.image.len);
	assert_int_equal(io_pwrite_all(fd, "\x03", 1, at + 45), 0);
	assert_int_equal(image_reader_open(fd, &r, &e), 0);
	assert_int_equal(image_verify(r, 2, NULL, NULL, NULL, &result, &e), -EBADMSG);
	assert_int_equal(result.damaged_chunks, 10);
	assert_int_equal(result.data_chunks, 0);
}

static void verify_can_be_cancelled(void **state)
{
	_cleanup_fixture_ struct fixture f = small_image(0);
	_cleanup_(image_reader_freep) struct image_reader *r = NULL;
	_cleanup_close_ int fd = image_memfd(f.image.data, f.image.len);
	struct verify_result result;
	struct cancel c;
	struct err e = { 0 };

	assert_int_equal(image_reader_open(fd, &r, &e), 0);
	assert_int_equal(cancel_init(&c), 0);
	cancel_raise(&c);
	assert_int_equal(image_verify(r, 2, &c, NULL, NULL, &result, &e), -ECANCELED);
	cancel_done(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_no_image_is_refused),
		cmocka_unit_test(every_shorter_file_is_refused),
		cmocka_unit_test(bytes_behind_the_end_are_refused),
		cmocka_unit_test(a_flipped_bit_gives_no_wrong_byte_and_verify_sees_it),
		cmocka_unit_test(a_flipped_bit_of_a_resent_image_gives_no_wrong_byte),
		cmocka_unit_test(an_unknown_required_feature_is_refused),
		cmocka_unit_test(an_increment_is_refused_and_says_what_it_is_on),
		cmocka_unit_test(an_unknown_optional_feature_is_ignored),
		cmocka_unit_test(a_newer_format_version_is_refused),
		cmocka_unit_test(a_newer_version_of_a_record_is_refused),
		cmocka_unit_test(another_image_header_is_refused),
		cmocka_unit_test(an_unknown_critical_record_is_refused),
		cmocka_unit_test(an_unknown_record_that_is_not_critical_is_skipped),
		cmocka_unit_test(a_trailer_that_lies_is_refused),
		cmocka_unit_test(a_cursor_jumps_and_tells_runs),
		cmocka_unit_test(verify_counts_a_whole_image),
		cmocka_unit_test(verify_names_the_first_damage_and_goes_on),
		cmocka_unit_test(verify_counts_the_chunks_below_a_damaged_page),
		cmocka_unit_test(verify_can_be_cancelled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
