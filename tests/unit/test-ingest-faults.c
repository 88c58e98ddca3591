/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What fails while an image is taken in: the stream, or the store. */
#include <errno.h>

#include "lib/image/record.h"
#include "tests/unit/ingest-fixture.h"

/* ---- the stream ----------------------------------------------------------------------------------- */

/* Offsets at which a frame of the stream begins. */
static size_t frame_offsets(const struct bytes *image, size_t *ret, size_t most)
{
	size_t n = 0, at = 0;

	while (at < image->len && n < most) {
		struct record_head h;
		struct ambro_chunk chunk;
		struct ambro_run run;

		ret[n++] = at;
		memcpy(&h, image->data + at, MIN(sizeof(h), image->len - at));
		if (at && le32_get(h.skip.magic) == ZSTD_FRAME_MAGIC) {
			at += AMBRO_GUARD_SIZE;
			continue;
		}
		memcpy(&chunk, image->data + at + MIN(sizeof(h), image->len - at - sizeof(chunk)),
		       sizeof(chunk));
		memcpy(&run, &chunk, sizeof(run));
		at += sizeof(h.skip) + le32_get(h.skip.length);
		if (le32_get(h.skip.magic) == AMBRO_SKIPPABLE &&
		    h.record.type == AMBRO_RECORD_CHUNK) {
			ret[n++] = at;
			at += le32_get(chunk.frame_len);
		} else if (le32_get(h.skip.magic) == AMBRO_SKIPPABLE &&
			   h.record.type == AMBRO_RECORD_RUN) {
			ret[n++] = at;
			at += le64_get(run.frames_len);
		}
	}
	return n;
}

static void a_stream_that_is_cut_commits_nothing(void **state)
{
	for (uint64_t require = 0; require <= AMBRO_REQUIRE_WHOLE; require += 3) {
		_cleanup_fixture_ struct fixture f = server_fixture();
		_cleanup_(repo_freep) struct repo *r = NULL;
		struct ingest_result result;
		uint64_t state_of = 7;
		size_t cuts[300];
		struct store *fault;
		size_t n;

		fixture_write(&f, require);
		n = frame_offsets(&f.image, cuts, 200);
		assert_true(n > 40 && n < 200);
		while (n < 300)
			cuts[n++] = fixture_random(&state_of) % f.image.len;
		r = repo_fixture_memory(&fault);
		for (size_t i = 0; i < n; i++) {
			struct err e = { 0 };

			assert_int_equal(ingest_bytes(r, &(struct iovec){ f.image.data, cuts[i] },
						      NULL, NULL, &result, &e),
					 -ENODATA);
			assert_int_equal(e.code, -ENODATA);
		}
		assert_int_equal(repo_images_count(r), 0);
	}
}

static void what_came_before_the_cut_is_not_sent_again(void **state)
{
	_cleanup_fixture_ struct fixture f = server_fixture();
	_cleanup_(repo_image_freep) struct repo_image *image = NULL;
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct ingest_result cut, result;
	struct store *fault;
	struct err e = { 0 };

	fixture_write(&f, 0);
	r = repo_fixture_memory(&fault);
	assert_int_equal(ingest_bytes(r, &(struct iovec){ f.image.data, f.image.len / 2 }, NULL,
				      NULL, &cut, &e),
			 -ENODATA);
	assert_true(cut.new_chunks > 0);
	assert_int_equal(repo_load_index(r, &e), 0);
	assert_int_equal(fixture_ingest(&f, r, &image, &result), 0);
	assert_int_equal(result.new_chunks + cut.new_chunks, f.manifest->data_chunks);
	assert_restores(r, image, f.disk, f.manifest->disk_size);
}

static void a_stream_that_goes_on_behind_its_end_is_refused(void **state)
{
	_cleanup_fixture_ struct fixture f = server_fixture();
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct ingest_result result;
	struct store *fault;

	fixture_write(&f, 0);
	bytes_add(&f.image, "x", 1);
	r = repo_fixture_memory(&fault);
	assert_int_equal(fixture_ingest(&f, r, NULL, &result), -EBADMSG);
	assert_int_equal(repo_images_count(r), 0);
}

static void a_flipped_byte_commits_nothing_or_is_harmless(void **state)
{
	_cleanup_fixture_ struct fixture f = server_fixture();
	const struct ingest_settings s = { .check_chunks = true };
	uint64_t state_of = 99;
	unsigned int harmless = 0;

	fixture_write(&f, 0);
	for (unsigned int i = 0; i < 600; i++) {
		/* the tail, where all structures are dense, gets half of them */
		const size_t span = i % 2 ? f.image.len : MIN(f.image.len, (size_t)6000);
		const size_t at = f.image.len - 1 - fixture_random(&state_of) % span;
		const uint8_t mask = (uint8_t)(1u << fixture_random(&state_of) % 8);
		_cleanup_(repo_image_freep) struct repo_image *image = NULL;
		_cleanup_(repo_freep) struct repo *r = NULL;
		struct ingest_result result;
		struct store *fault;
		struct err e = { 0 };
		int n;

		r = repo_fixture_memory(&fault);
		f.image.data[at] ^= mask;
		n = ingest_bytes(r, &(struct iovec){ f.image.data, f.image.len }, &s, &image,
				 &result, &e);
		f.image.data[at] ^= mask;
		assert_int_equal(repo_images_count(r), n == 0);
		if (n < 0) {
			assert_int_equal(n, e.code);
			continue;
		}
		harmless++;
		assert_restores(r, image, f.disk, f.manifest->disk_size);
	}
	/* zeros of runs, the seek table */
	assert_in_range(harmless, 1, 300);
}

/* ---- the store fails ---------------------------------------------------------------------------- */

/* Three images one after the other until something fails. How many were said to be committed. */
static unsigned int fixture_captures(struct fixture *f, struct repo *r,
				     struct repo_image *images[3], uint8_t *disks[3],
				     bool *ret_failed)
{
	struct ingest_result result;
	struct err e = { 0 };
	unsigned int i;

	*ret_failed = false;
	for (i = 0; i < 3; i++) {
		if (i)
			fixture_write_delta(f, images[i - 1]->manifest, 4, i);
		memcpy(disks[i], f->disk, f->manifest->disk_size);
		*ret_failed = fixture_ingest(f, r, &images[i], &result) < 0;
		if (*ret_failed)
			break;
		assert_int_equal(repo_load_index(r, &e), 0);
	}
	return i;
}

/* After the store is well again: every image that is listed is whole, and all that were committed are listed. */
static void assert_nothing_lost(struct store *below, uint8_t *disks[3], uint64_t size,
				unsigned int committed)
{
	_cleanup_(repo_freep) struct repo *r = NULL;
	struct repo_images list = { 0 };
	struct err e = { 0 };

	assert_int_equal(repo_open(below, &r, &e), 0);
	assert_int_equal(repo_load_index(r, &e), 0);
	assert_int_equal(repo_images_load(r, false, &list, &e), 0);
	assert_int_equal(list.damaged, 0);
	/* one more when only the reply was lost */
	assert_in_range(list.count, committed, committed + 1);
	for (size_t i = 0; i < list.count; i++)
		assert_restores(r, list.items[i], disks[i], size);
	repo_images_done(&list);
}

static void a_store_that_fails_anywhere_loses_no_image(void **state)
{
	const enum store_fault faults[] = { STORE_FAULT_FAIL, STORE_FAULT_LOST_REPLY,
					    STORE_FAULT_DEAD, STORE_FAULT_DEAD_AFTER };

	for (size_t kind = 0; kind < ARRAY_SIZE(faults); kind++) {
		bool failed = true;

		for (uint64_t at = 0; failed; at++) {
			_cleanup_fixture_ struct fixture f = server_fixture();
			struct repo_image *images[3] = { 0 };
			uint8_t *disks[3] = { 0 };
			struct store *fault, *below;
			struct repo *r = repo_fixture_memory(&fault);
			unsigned int committed;

			for (unsigned int i = 0; i < 3; i++)
				disks[i] = calloc(f.manifest->disk_size, 1);
			fixture_write(&f, 0);
			store_fault_at(fault, at, faults[kind], -EIO);
			committed = fixture_captures(&f, r, images, disks, &failed);
			below = store_fault_release(TAKE_PTR(r->store));
			repo_free(r);
			assert_nothing_lost(below, disks, f.manifest->disk_size, committed);
			assert_true(failed || committed == 3);
			assert_true(at < 40);
			for (unsigned int i = 0; i < 3; i++) {
				repo_image_free(images[i]);
				free(disks[i]);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stream_that_is_cut_commits_nothing),
		cmocka_unit_test(what_came_before_the_cut_is_not_sent_again),
		cmocka_unit_test(a_stream_that_goes_on_behind_its_end_is_refused),
		cmocka_unit_test(a_flipped_byte_commits_nothing_or_is_harmless),
		cmocka_unit_test(a_store_that_fails_anywhere_loses_no_image),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
